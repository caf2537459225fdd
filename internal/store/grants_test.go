package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
	"github.com/cardea-auth/cardea/scope"
)

const day = 24 * time.Hour

func TestGrantIsStoredWhole(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		now := clock.Now()
		at := func(n int) time.Time { return now.Add(time.Duration(n) * time.Microsecond) }
		want := &oauth.Grant{
			ID: "grt_1", ClientID: "mcp_1", UserID: "usr_1", ResourceID: "res_1", RedirectURI: "http://127.0.0.1/cb",
			Scope: scope.Of("a", "b:*"), Refreshable: true, Secret: "s", Generation: 7, RotatedAt: at(1),
			SignedInAt: at(2), AMR: []string{"pwd", "otp"}, CreatedAt: at(3),
			LastUsedAt: at(4), ExpiresAt: at(5), EndsAt: at(6), RevokedAt: at(7), RevokedReason: "operator",
		}
		bare := &oauth.Grant{ID: "grt_2", CreatedAt: at(0), ExpiresAt: at(9), EndsAt: at(8)}
		code := &oauth.Code{Hash: "h", GrantID: "grt_1", RedirectURI: "http://127.0.0.1/cb", Challenge: "c",
			ExpiresAt: at(1), SpentAt: at(2)}
		update(t, db, func(tx *store.Tx) error {
			return errors.Join(tx.CreateGrant(want), tx.CreateGrant(bare), tx.CreateCode(code))
		})
		bare.ExpiresAt = bare.EndsAt // it never lasts longer
		view(t, db, func(tx *store.Tx) error {
			got, err := tx.Grant("grt_1")
			same(t, want, got)
			got2, err2 := tx.Grant("grt_2")
			same(t, bare, got2)
			gotCode, err3 := tx.Code("h")
			same(t, code, gotCode)
			return errors.Join(err, err2, err3)
		})
		expect(t, db, store.ErrConflict, func(tx *store.Tx) error { return tx.CreateGrant(want) })
		expect(t, db, store.ErrConflict, func(tx *store.Tx) error { return tx.CreateCode(code) })
		expect(t, db, store.ErrNotFound, func(tx *store.Tx) error { _, err := tx.Grant("none"); return err })
		expect(t, db, store.ErrNotFound, func(tx *store.Tx) error { _, err := tx.Code("none"); return err })
		if err := db.Update(t.Context(), func(tx *store.Tx) error {
			return tx.CreateCode(&oauth.Code{Hash: "orphan", GrantID: "none", ExpiresAt: now})
		}); err == nil {
			t.Error("a code without a grant was stored")
		}
	})
}

// deaths are what ends a grant, by hand or by time.
var deaths = map[string]func(tx *store.Tx, clock *storetest.Clock, g *oauth.Grant) error{
	"revoked": func(tx *store.Tx, _ *storetest.Clock, g *oauth.Grant) error {
		_, err := tx.RevokeGrant(g.ID, "operator")
		return err
	},
	"user deleted": func(tx *store.Tx, _ *storetest.Clock, g *oauth.Grant) error { return tx.DeleteUser(g.UserID) },
	"client deleted": func(tx *store.Tx, _ *storetest.Clock,
		g *oauth.Grant) error {
		return tx.DeleteClient(g.ClientID)
	},
	"expired": func(_ *store.Tx, clock *storetest.Clock, g *oauth.Grant) error { clock.Set(g.ExpiresAt); return nil },
}

func TestSpendCode(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		spend := func(hash string) (spent bool) {
			update(t, db, func(tx *store.Tx) (err error) {
				spent, err = tx.SpendCode(hash)
				return err
			})
			return spent
		}
		user, client, resource := people(t, db)
		_, code := consented(t, db, user, client, resource)
		clock.Set(code.ExpiresAt.Add(-time.Microsecond))
		t.Run("TK-02 once", func(t *testing.T) {
			for i := range 3 {
				if spent := spend(code.Hash); spent != (i == 0) {
					t.Errorf("time %d: %v", i, spent)
				}
			}
			view(t, db, func(tx *store.Tx) error {
				c, err := tx.Code(code.Hash)
				if !c.SpentAt.Equal(clock.Now()) {
					t.Errorf("spent at %v", c.SpentAt)
				}
				return err
			})
		})
		t.Run("not when its grant is over before it", func(t *testing.T) {
			g, code := consented(t, db, user, client, resource)
			late := &oauth.Code{Hash: "late", GrantID: g.ID, ExpiresAt: code.ExpiresAt.Add(time.Hour)}
			update(t, db, func(tx *store.Tx) error { return tx.CreateCode(late) })
			clock.Set(g.ExpiresAt)
			if spend(late.Hash) {
				t.Error("spent")
			}
		})
		if spend("none") {
			t.Error("an unknown code was spent")
		}
		for name, kill := range deaths {
			t.Run(name, func(t *testing.T) {
				user, client, resource := people(t, db)
				g, code := consented(t, db, user, client, resource)
				update(t, db, func(tx *store.Tx) error { return kill(tx, clock, g) })
				if spend(code.Hash) {
					t.Error("spent")
				}
			})
		}
	})
}

func TestRedeemGrant(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		user, client, resource := people(t, db)
		g, _ := consented(t, db, user, client, resource)
		if live := g.Live(clock.Now()); !live {
			t.Fatal("not live")
		}
		clock.Advance(time.Second)
		update(t, db,
			func(tx *store.Tx) error { return tx.RedeemGrant(g.ID, 1, g.EndsAt.Add(time.Hour), oauth.MethodNone) })
		g.Generation, g.LastUsedAt, g.ExpiresAt, g.Method = 1, clock.Now(), g.EndsAt, oauth.MethodNone
		view(t, db, func(tx *store.Tx) error {
			got, err := tx.Grant(g.ID)
			same(t, g, got)
			return err
		})
		expect(t, db, store.ErrNotFound,
			func(tx *store.Tx) error { return tx.RedeemGrant(g.ID, 1, g.EndsAt, oauth.MethodNone) })
		for _, name := range []string{"revoked", "expired"} {
			t.Run(name, func(t *testing.T) {
				g, _ := consented(t, db, user, client, resource)
				update(t, db, func(tx *store.Tx) error { return deaths[name](tx, clock, g) })
				expect(t, db, store.ErrNotFound,
					func(tx *store.Tx) error { return tx.RedeemGrant(g.ID, 1, g.EndsAt, oauth.MethodNone) })
			})
		}
	})
}

func TestRotateGrant(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		rotate := func(id string, from int64, expiresAt time.Time) (got *oauth.Grant, err error) {
			err = db.Update(t.Context(), func(tx *store.Tx) error {
				if _, err = tx.RotateGrant(id, from, expiresAt); err == nil {
					got, err = tx.Grant(id)
				}
				return err
			})
			return got, err
		}
		t.Run("TK-28 three generations within one second", func(t *testing.T) {
			user, client, resource := people(t, db)
			g := redeemed(t, db, user, client, resource)
			for from := int64(1); from <= 3; from++ {
				expiresAt := clock.Now().Add(time.Hour)
				got, err := rotate(g.ID, from, expiresAt)
				if err != nil {
					t.Fatal(err)
				}
				g.Generation, g.RotatedAt, g.LastUsedAt, g.ExpiresAt = from+1, clock.Now(), clock.Now(), expiresAt
				same(t, g, got)
				for old := range from + 1 {
					if _, err := rotate(g.ID, old, expiresAt); !errors.Is(err, store.ErrNotFound) {
						t.Errorf("generation %d after %d: %v", old, from, err)
					}
				}
			}
			if _, err := rotate(g.ID, 5, clock.Now()); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("a generation to come: %v", err)
			}
			t.Run("TK-40 never past its end", func(t *testing.T) {
				got, err := rotate(g.ID, 4, g.EndsAt.Add(time.Hour))
				if err != nil || !got.ExpiresAt.Equal(g.EndsAt) {
					t.Errorf("%v, %v", got, err)
				}
			})
		})
		t.Run("not before its code is redeemed", func(t *testing.T) {
			user, client, resource := people(t, db)
			g, _ := consented(t, db, user, client, resource)
			if _, err := rotate(g.ID, 0, g.EndsAt); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("err = %v", err)
			}
		})
		for name, kill := range deaths {
			t.Run("TK-32 "+name, func(t *testing.T) {
				user, client, resource := people(t, db)
				g := redeemed(t, db, user, client, resource)
				update(t, db, func(tx *store.Tx) error { return kill(tx, clock, g) })
				if _, err := rotate(g.ID, 1, g.EndsAt); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("err = %v", err)
				}
			})
		}
	})
}

func TestRevokeGrant(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		user, client, resource := people(t, db)
		g := redeemed(t, db, user, client, resource)
		first := clock.Now()
		for i, want := range []bool{true, false} {
			update(t, db, func(tx *store.Tx) error {
				revoked, err := tx.RevokeGrant(g.ID, fmt.Sprint("reason ", i))
				if revoked != want {
					t.Errorf("time %d: %v", i, revoked)
				}
				return err
			})
			clock.Advance(time.Minute)
		}
		view(t, db, func(tx *store.Tx) error {
			got, err := tx.Grant(g.ID)
			if !got.RevokedAt.Equal(first) || got.RevokedReason != "reason 0" {
				t.Errorf("revoked at %v: %s", got.RevokedAt, got.RevokedReason)
			}
			return err
		})
		update(t, db, func(tx *store.Tx) error {
			revoked, err := tx.RevokeGrant("none", "x")
			if revoked {
				t.Error("none was revoked")
			}
			return err
		})
	})
}

func TestConsents(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		user, client, resource := people(t, db)
		other, otherClient, otherResource := people(t, db)
		first := redeemed(t, db, user, client, resource)
		clock.Advance(time.Second)
		second := redeemed(t, db, user, client, resource)
		consented(t, db, user, client, resource) // never redeemed
		revoked := redeemed(t, db, user, client, resource)
		update(t, db, func(tx *store.Tx) error { _, err := tx.RevokeGrant(revoked.ID, "operator"); return err })
		redeemed(t, db, other, client, resource)
		redeemed(t, db, user, otherClient, resource)
		redeemed(t, db, user, client, otherResource)
		scopes := func(redirectURI string) (sets []scope.Set) {
			view(t, db, func(tx *store.Tx) error {
				consents, err := tx.Consents(user.ID, client.ID, resource.ID, redirectURI)
				for _, c := range consents {
					sets = append(sets, c.Scope)
				}
				return err
			})
			return sets
		}
		same(t, []scope.Set{second.Scope, first.Scope}, scopes(first.RedirectURI))
		if got := scopes("http://127.0.0.1/elsewhere"); len(got) != 0 {
			t.Errorf("for another redirect URI: %v", got)
		}
		clock.Set(second.ExpiresAt)
		if got := scopes(first.RedirectURI); len(got) != 0 {
			t.Errorf("when they are over: %v", got)
		}
	})
}

func TestGrants(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		ada, client, resource := people(t, db)
		bob, otherClient, otherResource := people(t, db)
		names := map[string]string{}
		add := func(name string, g *oauth.Grant) *oauth.Grant {
			names[g.ID] = name
			clock.Advance(time.Second)
			return g
		}
		add("live", redeemed(t, db, ada, client, resource))
		add("bob", redeemed(t, db, bob, client, resource))
		add("client", redeemed(t, db, ada, otherClient, resource))
		add("resource", redeemed(t, db, ada, client, otherResource))
		unredeemed, _ := consented(t, db, ada, client, resource)
		add("unredeemed", unredeemed)
		revoked := add("revoked", redeemed(t, db, ada, client, resource))
		update(t, db, func(tx *store.Tx) error { _, err := tx.RevokeGrant(revoked.ID, "operator"); return err })
		for name, c := range map[string]struct {
			filter store.GrantFilter
			want   string
		}{
			"all":         {store.GrantFilter{}, "live bob client resource unredeemed revoked"},
			"by user":     {store.GrantFilter{UserID: bob.ID}, "bob"},
			"by client":   {store.GrantFilter{ClientID: otherClient.ID}, "client"},
			"by resource": {store.GrantFilter{ResourceID: otherResource.ID}, "resource"},
			"live":        {store.GrantFilter{Live: true}, "live bob client resource"},
			"together": {
				store.GrantFilter{UserID: ada.ID, ClientID: client.ID, ResourceID: resource.ID, Live: true}, "live",
			},
		} {
			t.Run(name, func(t *testing.T) {
				view(t, db, func(tx *store.Tx) error {
					found, _, err := tx.Grants(c.filter, store.Page{})
					var got []string
					for _, g := range found {
						got = append(got, names[g.ID])
						if g.UserEmail == "" || g.ClientName != "Agent" || !strings.HasPrefix(g.Resource, "https://") {
							t.Errorf("names: %q %q %q", g.UserEmail, g.ClientName, g.Resource)
						}
					}
					if strings.Join(got, " ") != c.want {
						t.Errorf("got %v, want %s", got, c.want)
					}
					return err
				})
			})
		}
		update(t, db, func(tx *store.Tx) error {
			return errors.Join(tx.DeleteUser(bob.ID), tx.DeleteClient(client.ID), tx.DeleteResource(resource.ID))
		})
		view(t, db, func(tx *store.Tx) error {
			found, _, err := tx.Grants(store.GrantFilter{UserID: bob.ID}, store.Page{})
			if len(found) != 1 || found[0].UserEmail+found[0].ClientName+found[0].Resource != "" ||
				found[0].RevokedReason != "user_deleted" {
				t.Errorf("a grant whose people are gone: %+v", found)
			}
			return err
		})
	})
}

func TestDecide(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		allowed, denied := store.Decision{UserID: "usr_a", GrantID: "grt_1"}, store.Decision{UserID: "usr_b"}
		for _, c := range []struct {
			id        string
			d, counts store.Decision
			first     bool
		}{
			{"a", allowed, allowed, true},
			{"a", denied, allowed, false},
			{"a", allowed, allowed, false},
			{"b", denied, denied, true},
			{"b", allowed, denied, false},
		} {
			update(t, db, func(tx *store.Tx) error {
				counts, first, err := tx.Decide(c.id, c.d, clock.Now())
				if first != c.first || counts != c.counts {
					t.Errorf("%s: %+v, %v", c.id, counts, first)
				}
				return err
			})
		}
	})
}

func TestAnotherCode(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		user, client, resource := people(t, db)
		g, _ := consented(t, db, user, client, resource)
		begun := store.Decision{UserID: user.ID, GrantID: g.ID}
		another := func(id string, d store.Decision, until time.Time) (got store.Decision, err error) {
			_ = db.Update(t.Context(), func(tx *store.Tx) error {
				got, err = tx.AnotherCode(id, d, until)
				return err
			})
			return got, err
		}
		update(t, db, func(tx *store.Tx) error {
			_, _, err := tx.Decide("req_1", begun, clock.Now().Add(day))
			return err
		})
		clock.Set(g.ExpiresAt)
		until := clock.Now().Add(time.Minute)
		for range 2 { // the second finds that the first has raised it
			if got, err := another("req_1", begun, until); err != nil || got.Codes != 1 {
				t.Errorf("%+v, %v", got, err)
			}
		}
		view(t, db, func(tx *store.Tx) error {
			renewed, err := tx.Grant(g.ID)
			if err == nil && !renewed.ExpiresAt.Equal(until) {
				t.Errorf("the grant ends at %v, want %v", renewed.ExpiresAt, until)
			}
			return err
		})
		update(t, db, func(tx *store.Tx) error { return tx.RedeemGrant(g.ID, 1, until.Add(day), oauth.MethodNone) })
		_, err := another("req_1", store.Decision{GrantID: g.ID, Codes: 1}, until)
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a redeemed grant: %v", err)
		}
	})
}

// CS-18: what is over goes, and nothing else.
func TestSweep(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		user, client, resource := people(t, db)
		start := clock.Now()
		unredeemed, unusedCode := consented(t, db, user, client, resource)
		revoked, revokedCode := consented(t, db, user, client, resource)
		live, liveCode := consented(t, db, user, client, resource)
		const many = 450 // more than a lot
		update(t, db, func(tx *store.Tx) error {
			errs := []error{
				tx.RedeemGrant(revoked.ID, 1, start.Add(day), oauth.MethodNone),
				tx.RedeemGrant(live.ID, 1, start.Add(80*day), oauth.MethodNone),
				tx.ClientUsed(client.ID),
				tx.CreateClient(&oauth.Client{ID: "mcp_new", Origin: oauth.ByRegistration, CreatedAt: start}, ""),
				tx.CreateClient(&oauth.Client{ID: "mcp_operator", Origin: oauth.ByOperator, CreatedAt: start}, ""),
				tx.CreateSession(&identity.Session{Hash: "short", UserID: user.ID, ExpiresAt: start.Add(time.Hour),
					EndsAt: start.Add(time.Hour)}),
				tx.CreateSession(&identity.Session{Hash: "long", UserID: user.ID, ExpiresAt: start.Add(60 * day),
					EndsAt: start.Add(60 * day)}),
				tx.CreateKey(store.Key{KID: "gone", CreatedAt: start, ExpiresAt: start.Add(time.Hour)}),
				tx.CreateKey(store.Key{KID: "signing", CreatedAt: start}),
			}
			_, err := tx.RevokeGrant(revoked.ID, "operator")
			errs = append(errs, err)
			for i := range many {
				errs = append(errs, errOf(tx.RevokeToken(&oauth.Claims{ID: fmt.Sprint("jti_", i),
					Expiry: start.Add(time.Hour).Unix()})))
				errs = append(errs, tx.SpendAssertion(fmt.Sprint("hash_", i), start.Add(2*time.Hour)))
				_, _, err := tx.Decide(fmt.Sprint("req_", i), store.Decision{}, start.Add(time.Duration(i)*time.Second))
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		})
		sweepAt := func(at time.Time) store.Swept {
			t.Helper()
			clock.Set(at)
			swept, err := db.Sweep(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if again, err := db.Sweep(t.Context()); err != nil || again != (store.Swept{}) {
				t.Errorf("a second sweep: %+v, %v", again, err)
			}
			return swept
		}
		same(t, store.Swept{Decisions: 1}, sweepAt(start))
		same(t, store.Swept{Decisions: 60}, sweepAt(unredeemed.ExpiresAt))
		same(t, store.Swept{Decisions: many - 61, Grants: 1}, sweepAt(unredeemed.ExpiresAt.Add(30*time.Minute)))
		same(t, store.Swept{RevokedTokens: many, Keys: 1}, sweepAt(start.Add(time.Hour)))
		same(t, store.Swept{Sessions: 1}, sweepAt(start.Add(time.Hour+10*time.Minute)))
		same(t, store.Swept{}, sweepAt(start.Add(2*time.Hour-time.Microsecond)))
		same(t, store.Swept{Assertions: many}, sweepAt(start.Add(2*time.Hour)))
		same(t, store.Swept{Clients: 1}, sweepAt(start.Add(day)))
		same(t, store.Swept{Statuses: 1}, sweepAt(start.Add(2*day)))
		same(t, store.Swept{}, sweepAt(start.Add(30*day-time.Microsecond)))
		same(t, store.Swept{Grants: 1}, sweepAt(start.Add(30*day)))
		view(t, db, func(tx *store.Tx) error {
			for _, hash := range []string{unusedCode.Hash, revokedCode.Hash} {
				if _, err := tx.Code(hash); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("a code whose grant is over: %v", err)
				}
			}
			_, err := tx.Code(liveCode.Hash)
			_, err2 := tx.Grant(live.ID)
			_, _, err3 := tx.Session("long")
			_, err4 := tx.Client("mcp_operator")
			_, err5 := tx.Client(client.ID)
			return errors.Join(err, err2, err3, err4, err5)
		})
		if _, err := db.Client(t.Context(), "mcp_new"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a forgotten client: %v", err)
		}
	})
}
