package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

func TestInitialTokens(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		now := clock.Now()
		twice := &oauth.InitialAccessToken{ID: "iat_1", Hash: "twice", Name: "Team ☀", MaxUses: 2, CreatedAt: now,
			ExpiresAt: now.Add(time.Hour)}
		always := &oauth.InitialAccessToken{ID: "iat_2", Hash: "always", CreatedAt: now.Add(time.Second)}
		revoked := &oauth.InitialAccessToken{ID: "iat_3", Hash: "revoked", CreatedAt: now.Add(2 * time.Second)}
		update(t, db, func(tx *store.Tx) error {
			return errors.Join(tx.CreateInitialToken(twice), tx.CreateInitialToken(always),
				tx.CreateInitialToken(revoked))
		})
		revoke := func(id string, want bool) {
			t.Helper()
			update(t, db, func(tx *store.Tx) error {
				got, err := tx.RevokeInitialToken(id)
				same(t, want, got)
				return err
			})
		}
		revoke("iat_3", true)
		clock.Advance(time.Minute)
		revoke("iat_3", false)
		revoke("iat_4", false)
		revoked.RevokedAt = now
		view(t, db, func(tx *store.Tx) error {
			got, next, err := tx.InitialTokens(store.Page{})
			same(t, []*oauth.InitialAccessToken{twice, always, revoked}, got)
			same(t, "", next)
			one, err2 := tx.InitialToken("iat_1")
			same(t, twice, one)
			return errors.Join(err, err2)
		})
		expect(t, db, store.ErrConflict, func(tx *store.Tx) error { return tx.CreateInitialToken(twice) })
		expect(t, db, store.ErrNotFound, func(tx *store.Tx) error { _, err := tx.InitialToken("twice"); return err })

		// spend wants that the token can be spent, or cannot.
		spend := func(t *testing.T, hash, id string) {
			t.Helper()
			var want error
			if id == "" {
				want = store.ErrNotFound
			}
			for _, use := range []func(*store.Tx, string) (string, error){
				(*store.Tx).LiveInitialToken, (*store.Tx).SpendInitialToken,
			} {
				var got string
				err := db.Update(t.Context(), func(tx *store.Tx) (err error) { got, err = use(tx, hash); return err })
				if got != id || !errors.Is(err, want) {
					t.Errorf("%s: %q, %v; want %q, %v", hash, got, err, id, want)
				}
			}
		}
		spend(t, "twice", "iat_1")
		spend(t, "twice", "iat_1")
		t.Run("used up", func(t *testing.T) { spend(t, "twice", "") })
		t.Run("revoked", func(t *testing.T) { spend(t, "revoked", "") })
		t.Run("unknown", func(t *testing.T) { spend(t, "iat_2", "") })
		t.Run("any number", func(t *testing.T) {
			for range 5 {
				spend(t, "always", "iat_2")
			}
		})
		t.Run("expired", func(t *testing.T) {
			update(t, db, func(tx *store.Tx) error {
				return tx.CreateInitialToken(&oauth.InitialAccessToken{ID: "iat_5", Hash: "short", CreatedAt: tx.Now(),
					ExpiresAt: tx.Now().Add(time.Minute)})
			})
			clock.Advance(time.Minute - time.Microsecond)
			spend(t, "short", "iat_5")
			clock.Advance(time.Microsecond)
			spend(t, "short", "")
		})
		view(t, db, func(tx *store.Tx) error {
			for id, want := range map[string]string{
				"iat_1": "used up", "iat_2": "live", "iat_3": "revoked", "iat_5": "expired",
			} {
				got, err := tx.InitialToken(id)
				if err != nil || got.State(tx.Now()) != want {
					t.Errorf("%s is %s, %v; want %s", id, got.State(tx.Now()), err, want)
				}
			}
			return nil
		})
	})
	for _, engine := range storetest.Engines() {
		t.Run("DC-17 the last use is raced "+string(engine), func(t *testing.T) {
			nodes := nodesOf(t, engine)
			for range rounds {
				hash := oauth.NewID("")
				update(t, nodes[0], func(tx *store.Tx) error {
					return tx.CreateInitialToken(&oauth.InitialAccessToken{ID: hash, Hash: hash, Uses: 6, MaxUses: 7,
						CreatedAt: tx.Now()})
				})
				n := race(t, nodes, func(tx *store.Tx) (bool, error) {
					_, err := tx.SpendInitialToken(hash)
					if errors.Is(err, store.ErrNotFound) {
						return false, nil
					}
					return err == nil, err
				})
				if n != 1 {
					t.Fatalf("spent %d times", n)
				}
			}
		})
	}
}

func TestReplaceMetadata(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		now := clock.Now()
		c := &oauth.Client{
			ID: "mcp_1", Origin: oauth.ByRegistration, Allowed: []string{"a"}, Resources: []string{"https://x"},
			AccessTTL: time.Minute, CreatedAt: now, ApprovedAt: now, DisabledAt: now, UsedAt: now,
			RegistrationToken: "hash",
			Metadata: oauth.Metadata{Name: "Agent", URI: "https://a.example/",
				RedirectURIs: []string{"https://a.example/cb"}, Method: oauth.MethodBasic},
			Secrets: []oauth.Secret{{Hash: "secret", CreatedAt: now}},
		}
		update(t, db, func(tx *store.Tx) error { return tx.CreateClient(c, "") })
		clock.Advance(time.Hour)
		check := func(t *testing.T) {
			t.Helper()
			got, err := db.Client(t.Context(), c.ID) // from memory
			if err != nil {
				t.Fatal(err)
			}
			same(t, c, got)
		}
		check(t)
		replace := func(keepApproval bool) {
			t.Helper()
			// and nothing of what an operator says
			said := &oauth.Client{ID: c.ID, Metadata: c.Metadata, FetchedAt: c.FetchedAt}
			c.Version++
			update(t, db, func(tx *store.Tx) error { return tx.ReplaceMetadata(said, keepApproval) })
		}
		c.Metadata = oauth.Metadata{Name: "Agent 2", RedirectURIs: []string{"https://a.example/cb"},
			Method: oauth.MethodPost}
		replace(true)
		check(t)
		c.RedirectURIs = []string{"https://a.example/cb", "https://b.example/cb"}
		c.ApprovedAt, c.ChangedAt, c.FetchedAt = time.Time{}, clock.Now(), clock.Now()
		replace(false)
		check(t)
		expect(t, db, store.ErrNotFound,
			func(tx *store.Tx) error { return tx.ReplaceMetadata(&oauth.Client{ID: "mcp_2"}, false) })
	})
}
