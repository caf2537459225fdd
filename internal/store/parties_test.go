package store_test

import (
	"errors"
	"testing"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

func TestParties(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		user, client, resource := people(t, db)
		g := redeemed(t, db, user, client, resource)
		claims := &oauth.Claims{ID: g.ID + ".x", ClientID: client.ID, Audience: resource.Identifier}
		own := &oauth.Claims{ID: "tok_x.y", ClientID: client.ID, Audience: resource.Identifier}
		people := func() *store.Parties {
			return &store.Parties{Client: client, Resource: resource,
				User: &identity.User{ID: user.ID, Email: user.Email, DisabledAt: user.DisabledAt}}
		}
		// all looks for want in every way, in what only reads and in what writes.
		all := func(t *testing.T, want *store.Parties) {
			t.Helper()
			look := func(tx *store.Tx) error {
				for _, name := range []string{resource.ID, resource.Identifier} {
					got, err := tx.Parties(client.ID, name, user.ID)
					if err != nil {
						return err
					}
					same(t, want, got)
				}
				grant, got, err := tx.GrantParties(g.ID)
				if err != nil {
					return err
				}
				same(t, g.ID, grant.ID)
				same(t, want, got)
				if grant, got, _, err = tx.TokenParties(claims); err != nil {
					return err
				}
				same(t, g.ID, grant.ID)
				same(t, want, got)
				nobody := *want
				nobody.User = nil
				if grant, got, _, err = tx.TokenParties(own); err != nil {
					return err
				}
				if grant != nil {
					t.Error("a client's own token has a grant")
				}
				same(t, &nobody, got)
				return nil
			}
			update(t, db, look)
			view(t, db, look)
			update(t, db, look) // from memory
		}
		all(t, people())
		view(t, db, func(tx *store.Tx) error {
			got, err := tx.Parties("none", "none", "none")
			if err != nil {
				return err
			}
			same(t, new(store.Parties), got)
			if _, _, err := tx.GrantParties("none"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("no grant: %v", err)
			}
			if _, _, _, err := tx.TokenParties(&oauth.Claims{ID: "grt_none.x"}); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("a token without a grant: %v", err)
			}
			return nil
		})
		t.Run("what the transaction itself changed", func(t *testing.T) {
			update(t, db, func(tx *store.Tx) error {
				changed, narrowed := *client, *resource
				changed.Allowed, narrowed.Name = []string{"mail"}, "Mail"
				if err := errors.Join(tx.UpdateClient(&changed), tx.UpdateResource(&narrowed),
					tx.DisableUser(user.ID)); err != nil {
					return err
				}
				client, resource, user.DisabledAt = &changed, &narrowed, clock.Now()
				_, got, err := tx.GrantParties(g.ID)
				same(t, people(), got)
				return err
			})
			all(t, people())
		})
		t.Run("what was undone", func(t *testing.T) {
			undo := errors.New("undo")
			err := db.Update(t.Context(), func(tx *store.Tx) error {
				changed := *client
				changed.Allowed = nil
				if err := tx.UpdateClient(&changed); err != nil {
					return err
				}
				if _, _, err := tx.GrantParties(g.ID); err != nil {
					return err
				}
				return undo
			})
			if !errors.Is(err, undo) {
				t.Fatal(err)
			}
			all(t, people())
		})
		t.Run("a token that was revoked", func(t *testing.T) {
			for _, c := range []*oauth.Claims{claims, own} {
				update(t, db, func(tx *store.Tx) error {
					return errOf(tx.RevokeToken(&oauth.Claims{ID: c.ID, Expiry: clock.Now().Unix()}))
				})
				for _, jti := range []string{c.ID, c.ID + "z"} {
					view(t, db, func(tx *store.Tx) error {
						_, _, revoked, err := tx.TokenParties(&oauth.Claims{ID: jti, ClientID: c.ClientID,
							Audience: c.Audience})
						if revoked != (jti == c.ID) {
							t.Errorf("%s: revoked is %v", jti, revoked)
						}
						return err
					})
				}
			}
		})
		t.Run("deleted parties", func(t *testing.T) {
			update(t, db, func(tx *store.Tx) error {
				return errors.Join(tx.DeleteClient(client.ID), tx.DeleteResource(resource.ID), tx.DeleteUser(user.ID))
			})
			all(t, new(store.Parties))
		})
	})
}

// What another process changed counts in the next transaction, before the memory of this
// one has heard of it.
func TestPartiesElsewhere(t *testing.T) {
	for _, engine := range engines {
		t.Run(string(engine), func(t *testing.T) {
			dsn, clock := storetest.New(t, engine), storetest.NewClock()
			here, there := storetest.Connect(t, dsn, clock), storetest.Connect(t, dsn, clock)
			user, client, resource := people(t, here)
			g := redeemed(t, here, user, client, resource)
			look := func(tx *store.Tx) error {
				_, got, err := tx.GrantParties(g.ID)
				if err == nil {
					same(t, client, got.Client)
					same(t, resource, got.Resource)
				}
				return err
			}
			for _, name := range []string{"a", "b", "c"} {
				view(t, here, look)
				update(t, here, look)
				changed, renamed := *client, *resource
				changed.Name, renamed.Name = name, name
				update(t, there, func(tx *store.Tx) error {
					return errors.Join(tx.UpdateClient(&changed), tx.UpdateResource(&renamed))
				})
				client, resource = &changed, &renamed
				update(t, here, look)
				view(t, here, look)
			}
		})
	}
}

func TestIncarnation(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, _ *storetest.Clock) {
		user, client, resource := people(t, db)
		first := client.Incarnation
		g := redeemed(t, db, user, client, resource)
		if first == "" || g.ClientIncarnation != first || !g.IsOf(client) {
			t.Fatalf("the client is %q, its grant is of %q", first, g.ClientIncarnation)
		}
		update(t, db, func(tx *store.Tx) error {
			if err := tx.DeleteClient(client.ID); err != nil {
				return err
			}
			client.Incarnation = ""
			return tx.CreateClient(client, "")
		})
		if client.Incarnation == first || g.IsOf(client) {
			t.Error("the grant is of the client that was made anew")
		}
		nobodys := &oauth.Grant{ID: oauth.NewID("grt_"), ClientID: "nobody", CreatedAt: db.Now(), EndsAt: db.Now()}
		update(t, db, func(tx *store.Tx) error { return tx.CreateGrant(nobodys) })
		if nobodys.IsOf(&oauth.Client{ID: "nobody"}) {
			t.Error("the grant of a deleted client counts as one from before incarnations")
		}
	})
}
