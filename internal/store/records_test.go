package store_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
	"github.com/cardea-auth/cardea/scope"
)

// expect runs fn in a transaction and wants its error to be want.
func expect(t testing.TB, db *store.DB, want error, fn func(*store.Tx) error) {
	t.Helper()
	if err := db.Update(t.Context(), fn); !errors.Is(err, want) {
		t.Errorf("err = %v, want %v", err, want)
	}
}

func same(t testing.TB, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// What people read may have been stored before it had to be a line.
func TestStoredLines(t *testing.T) {
	const stored, line = "\tWeather\r\n\u202efor\x1b[2J\u2066all\u2069", "Weather  for[2Jall"
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		at := clock.Now()
		update(t, db, func(tx *store.Tx) error {
			return errors.Join(
				tx.CreateUser(&identity.User{ID: "usr_1", Email: "ada@example.com", Name: stored, CreatedAt: at}),
				tx.CreateGroup(&identity.Group{ID: "grp_1", Name: "staff", Description: stored, CreatedAt: at}),
				tx.CreateResource(&oauth.Resource{ID: "res_1", Identifier: "https://mcp.example.com/mcp", Name: stored,
					Scopes:    []oauth.ResourceScope{{Name: "mcp:*", Description: stored}},
					CreatedAt: at, UpdatedAt: at}),
				tx.CreateClient(&oauth.Client{ID: "app", Origin: oauth.ByOperator, CreatedAt: at}, ""),
				tx.CreateGrant(&oauth.Grant{ID: "grt_1", ClientID: "app", UserID: "usr_1", ResourceID: "res_1",
					CreatedAt: at}))
		})
		view(t, db, func(tx *store.Tx) error {
			u, err := tx.User("usr_1")
			if err != nil {
				return err
			}
			g, err := tx.Group("staff")
			if err != nil {
				return err
			}
			r, err := tx.Resource("res_1")
			if err != nil {
				return err
			}
			names, err := tx.Names(nil, []string{u.ID}, []string{r.Identifier})
			if err != nil {
				return err
			}
			grants, _, err := tx.Grants(store.GrantFilter{}, store.Page{Limit: 1})
			if err != nil {
				return err
			}
			for what, got := range map[string]string{
				"a user": u.Name, "a group": g.Description, "a resource": r.Name, "a scope": r.Scopes[0].Description,
				"a user's name": names.People[u.ID], "a resource's name": names.Resources[r.Identifier],
				"a grant's user": grants[0].UserName, "a grant's resource": grants[0].ResourceName,
			} {
				if got != line {
					t.Errorf("%s is %q, want %q", what, got, line)
				}
			}
			return nil
		})
	})
}

func TestResources(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		full := &oauth.Resource{
			ID: "res_1", Identifier: "https://mcp.example.com/mcp", Name: "Wetter ☀", SigningAlg: "EdDSA",
			Scopes: []oauth.ResourceScope{{Name: "mcp:tools:weather", Description: "Weather \"forecasts\"",
				Default: true}, {Name: "mcp:*"}},
			AccessTTL: 5 * time.Minute, RefreshIdleTTL: time.Hour, RefreshMaxTTL: 36500 * 24 * time.Hour,
			CreatedAt: clock.Now(), UpdatedAt: clock.Now(),
		}
		bare := &oauth.Resource{ID: "res_2", Identifier: "https://two.example.com",
			CreatedAt: clock.Now().Add(time.Second), UpdatedAt: clock.Now()}
		update(t, db, func(tx *store.Tx) error { return errors.Join(tx.CreateResource(full), tx.CreateResource(bare)) })
		view(t, db, func(tx *store.Tx) error {
			for _, name := range []string{full.ID, full.Identifier} {
				got, err := tx.Resource(name)
				if err != nil {
					return err
				}
				same(t, full, got)
			}
			got, err := tx.Resources()
			same(t, []*oauth.Resource{full, bare}, got)
			return err
		})
		expect(t, db, store.ErrConflict, func(tx *store.Tx) error { return tx.CreateResource(full) })
		twin := *full
		twin.ID = "res_3"
		expect(t, db, store.ErrConflict, func(tx *store.Tx) error { return tx.CreateResource(&twin) })

		changed := *full
		changed.Name, changed.Scopes, changed.AccessTTL, changed.UpdatedAt = "Rain", nil, 0, clock.Now().Add(time.Hour)
		changed.Identifier, changed.CreatedAt = "https://elsewhere.example.com", clock.Now().Add(time.Hour)
		update(t, db, func(tx *store.Tx) error { return tx.UpdateResource(&changed) })
		changed.Identifier, changed.CreatedAt, changed.Version = full.Identifier, full.CreatedAt, 2
		view(t, db, func(tx *store.Tx) error {
			got, err := tx.Resource(full.ID)
			same(t, &changed, got)
			return err
		})

		user, client, _ := people(t, db)
		g := redeemed(t, db, user, client, full)
		other := redeemed(t, db, user, client, bare)
		update(t, db, func(tx *store.Tx) error { return tx.DeleteResource(full.ID) })
		view(t, db, func(tx *store.Tx) error {
			dead, err := tx.Grant(g.ID)
			if err != nil || dead.RevokedReason != "resource_deleted" || !dead.RevokedAt.Equal(tx.Now()) {
				t.Errorf("grant of a deleted resource: %v, %v", dead, err)
			}
			alive, err := tx.Grant(other.ID)
			same(t, other, alive)
			return err
		})
		for name, fn := range map[string]func(*store.Tx) error{
			"Resource":       func(tx *store.Tx) error { _, err := tx.Resource(full.ID); return err },
			"UpdateResource": func(tx *store.Tx) error { return tx.UpdateResource(full) },
			"DeleteResource": func(tx *store.Tx) error { return tx.DeleteResource(full.ID) },
		} {
			t.Run(name+" of none", func(t *testing.T) { expect(t, db, store.ErrNotFound, fn) })
		}
	})
}

func TestClients(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		now := clock.Now()
		full := &oauth.Client{
			ID: "mcp_1", Origin: oauth.ByRegistration, Allowed: scope.Of("a", "b:*"),
			Resources:       []string{"https://x", "https://y"},
			ResourceServers: []string{"https://rs", "https://rs2"}, AccessTTL: time.Minute, CreatedAt: now,
			ApprovedAt: now.Add(1 * time.Microsecond), UsedAt: now.Add(2 * time.Microsecond),
			Metadata: oauth.Metadata{
				Name: "Agent \x00 ☀", RedirectURIs: []string{"http://127.0.0.1/cb"},
				GrantTypes: []oauth.GrantType{oauth.AuthorizationCode},
				Method:     oauth.MethodBasic, Contacts: []string{"a@example.com"}, Scope: "x y",
			},
			Secrets: []oauth.Secret{{Hash: "new", CreatedAt: now},
				{Hash: "old", CreatedAt: now.Add(-time.Hour), ExpiresAt: now.Add(time.Hour)}},
		}
		bare := &oauth.Client{ID: "mcp_2", Origin: oauth.ByOperator, CreatedAt: now}
		update(t, db, func(tx *store.Tx) error {
			return errors.Join(tx.CreateClient(full, "print"), tx.CreateClient(bare, ""))
		})
		view(t, db, func(tx *store.Tx) error {
			got, err := tx.Client("mcp_1")
			same(t, full, got)
			byPrint, err2 := tx.ClientByFingerprint("print")
			same(t, full, byPrint)
			got2, err3 := tx.Client("mcp_2")
			same(t, bare, got2)
			return errors.Join(err, err2, err3)
		})
		for name, c := range map[string]struct{ id, print string }{
			"id": {"mcp_1", ""}, "fingerprint": {"mcp_3", "print"},
		} {
			t.Run("conflict of "+name, func(t *testing.T) {
				expect(t, db, store.ErrConflict, func(tx *store.Tx) error {
					return tx.CreateClient(&oauth.Client{ID: c.id, CreatedAt: now}, c.print)
				})
			})
		}
		if err := db.Update(t.Context(), func(tx *store.Tx) error {
			return tx.CreateClient(&oauth.Client{ID: "mcp_3", CreatedAt: now, Secrets: make([]oauth.Secret, 3)}, "")
		}); err == nil {
			t.Error("a client with three secrets was made")
		}

		t.Run("UpdateClient changes what an operator may", func(t *testing.T) {
			changed := *full
			changed.Name, changed.Allowed, changed.Resources, changed.AccessTTL, changed.ApprovedAt =
				"New", nil, nil, 0, time.Time{}
			loud := changed
			loud.Origin, loud.Secrets, loud.DisabledAt, loud.UsedAt = oauth.ByOperator, nil, now, now
			update(t, db, func(tx *store.Tx) error { return tx.UpdateClient(&loud) })
			changed.Version = 2
			view(t, db, func(tx *store.Tx) error {
				got, err := tx.Client("mcp_1")
				same(t, &changed, got)
				return err
			})
		})
		t.Run("UpdateClient keeps the fingerprint of the same metadata alone", func(t *testing.T) {
			printed := &oauth.Client{ID: "mcp_4", CreatedAt: now,
				Metadata: oauth.Metadata{Name: "A", RedirectURIs: []string{"https://a.example/cb"}}}
			update(t, db, func(tx *store.Tx) error { return tx.CreateClient(printed, "another") })
			find := func(tx *store.Tx) error {
				_, err := tx.ClientByFingerprint("another")
				return err
			}
			printed.ApprovedAt = now
			update(t, db, func(tx *store.Tx) error { return tx.UpdateClient(printed) })
			update(t, db, find)
			printed.RedirectURIs = []string{"https://b.example/cb"}
			update(t, db, func(tx *store.Tx) error { return tx.UpdateClient(printed) })
			expect(t, db, store.ErrNotFound, find)
		})
		t.Run("TK-57 two secrets at most", func(t *testing.T) {
			overlap := clock.Now().Add(24 * time.Hour)
			secrets := func() (hashes string) {
				view(t, db, func(tx *store.Tx) error {
					c, err := tx.Client("mcp_2")
					for _, s := range c.Secrets {
						hashes += fmt.Sprintf("%s(%v) ", s.Hash, !s.ExpiresAt.IsZero())
					}
					return err
				})
				return strings.TrimSpace(hashes)
			}
			for _, c := range []struct{ hash, want string }{
				{"h1", "h1(false)"}, {"h2", "h2(false) h1(true)"}, {"h3", "h3(false) h2(true)"},
			} {
				update(t, db, func(tx *store.Tx) error { return tx.ReplaceSecret("mcp_2", c.hash, overlap) })
				if got := secrets(); got != c.want {
					t.Errorf("after %s: %s, want %s", c.hash, got, c.want)
				}
			}
		})
		t.Run("TK-16 disable and enable", func(t *testing.T) {
			since := clock.Now()
			for range 2 {
				update(t, db, func(tx *store.Tx) error { return tx.DisableClient("mcp_2") })
				c, err := db.Client(t.Context(), "mcp_2")
				if err != nil || !c.DisabledAt.Equal(since) {
					t.Fatalf("disabled at %v, %v", c.DisabledAt, err)
				}
				clock.Advance(time.Minute)
			}
			update(t, db, func(tx *store.Tx) error { return tx.EnableClient("mcp_2") })
			if c, err := db.Client(t.Context(), "mcp_2"); err != nil || c.Disabled() {
				t.Errorf("enabled: %v, %v", c, err)
			}
		})
		t.Run("delete", func(t *testing.T) {
			user, client, resource := people(t, db)
			g := redeemed(t, db, user, client, resource)
			update(t, db, func(tx *store.Tx) error { return tx.DeleteClient(client.ID) })
			if _, err := db.Client(t.Context(), client.ID); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("a deleted client: %v", err)
			}
			view(t, db, func(tx *store.Tx) error {
				g, err := tx.Grant(g.ID)
				if g.RevokedReason != "client_deleted" {
					t.Errorf("its grant: %q", g.RevokedReason)
				}
				return err
			})
		})
		for name, fn := range map[string]func(*store.Tx) error{
			"Client":              func(tx *store.Tx) error { _, err := tx.Client("none"); return err },
			"ClientByFingerprint": func(tx *store.Tx) error { _, err := tx.ClientByFingerprint(""); return err },
			"UpdateClient":        func(tx *store.Tx) error { return tx.UpdateClient(&oauth.Client{ID: "none"}) },
			"DisableClient":       func(tx *store.Tx) error { return tx.DisableClient("none") },
			"EnableClient":        func(tx *store.Tx) error { return tx.EnableClient("none") },
			"DeleteClient":        func(tx *store.Tx) error { return tx.DeleteClient("none") },
			"ReplaceSecret":       func(tx *store.Tx) error { return tx.ReplaceSecret("none", "h", now) },
		} {
			t.Run(name+" of none", func(t *testing.T) { expect(t, db, store.ErrNotFound, fn) })
		}
	})
}

// A change that changes nothing does not stand in the way of another change at the same time.
func TestVersion(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		user, client, resource := people(t, db)
		clock.Advance(time.Hour)
		metadata := func(keepApproval bool, set func(*oauth.Client)) func(*store.Tx) error {
			return func(tx *store.Tx) error {
				c, err := tx.Client(client.ID)
				if err != nil {
					return err
				}
				set(c)
				return tx.ReplaceMetadata(c, keepApproval)
			}
		}
		steps := []struct {
			name string
			do   func(tx *store.Tx) error
			want string // the versions of the client, the resource and the account afterwards
		}{
			{"nothing", func(tx *store.Tx) error {
				resource.UpdatedAt = clock.Now()
				return errors.Join(tx.UpdateClient(client), tx.UpdateResource(resource), tx.UpdateUser(user))
			}, "1 1 1"},
			{"a client is approved", func(tx *store.Tx) error {
				client.ApprovedAt = clock.Now()
				return tx.UpdateClient(client)
			}, "2 1 1"},
			{"its document is read again",
				metadata(true, func(c *oauth.Client) { c.FetchedAt = clock.Now() }), "2 1 1"},
			{"its document differs", metadata(true, func(c *oauth.Client) { c.Name = "Changed" }), "3 1 1"},
			{"its approval ends", metadata(false, func(*oauth.Client) {}), "4 1 1"},
			{"its approval has ended", metadata(false, func(*oauth.Client) {}), "4 1 1"},
			{"a client is enabled that is", func(tx *store.Tx) error { return tx.EnableClient(client.ID) }, "4 1 1"},
			{"a client is disabled", func(tx *store.Tx) error { return tx.DisableClient(client.ID) }, "5 1 1"},
			{"a client is disabled that is", func(tx *store.Tx) error { return tx.DisableClient(client.ID) }, "5 1 1"},
			{"a client is enabled", func(tx *store.Tx) error { return tx.EnableClient(client.ID) }, "6 1 1"},
			{"a resource is renamed", func(tx *store.Tx) error {
				resource.Name = "Rain"
				return tx.UpdateResource(resource)
			}, "6 2 1"},
			{"an account is renamed", func(tx *store.Tx) error {
				user.Name = "Bea"
				return tx.UpdateUser(user)
			}, "6 2 2"},
			{"an account is disabled", func(tx *store.Tx) error { return tx.DisableUser(user.ID) }, "6 2 3"},
			{"an account is disabled that is", func(tx *store.Tx) error { return tx.DisableUser(user.ID) }, "6 2 3"},
			{"an account is enabled", func(tx *store.Tx) error { return tx.EnableUser(user.ID) }, "6 2 4"},
			{"an account is enabled that is", func(tx *store.Tx) error { return tx.EnableUser(user.ID) }, "6 2 4"},
		}
		for _, step := range steps {
			update(t, db, step.do)
			view(t, db, func(tx *store.Tx) error {
				c, err1 := tx.Client(client.ID)
				r, err2 := tx.Resource(resource.ID)
				u, err3 := tx.User(user.ID)
				if err := errors.Join(err1, err2, err3); err != nil {
					return err
				}
				if got := fmt.Sprint(c.Version, r.Version, u.Version); got != step.want {
					t.Errorf("after %s: versions are %s, want %s", step.name, got, step.want)
				}
				return nil
			})
		}
	})
}

func TestUnusedClients(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		update(t, db, func(tx *store.Tx) error {
			for i := range 6 {
				c := &oauth.Client{ID: fmt.Sprint("mcp_", i), Origin: oauth.ByRegistration,
					CreatedAt: clock.Now().Add(time.Duration(-i) * time.Hour)}
				if i == 5 {
					c.Origin = oauth.ByOperator
				}
				if err := tx.CreateClient(c, ""); err != nil {
					return err
				}
			}
			return tx.ClientUsed("mcp_4")
		})
		first := clock.Now()
		clock.Advance(time.Minute)
		update(t, db, func(tx *store.Tx) error { return errors.Join(tx.ClientUsed("mcp_4"), tx.ClientUsed("none")) })
		if c, err := db.Client(t.Context(), "mcp_4"); err != nil || !c.UsedAt.Equal(first) {
			t.Errorf("first used at %v, %v", c.UsedAt, err)
		}
		for _, step := range []struct{ unused, limit, want int }{{4, 1, 1}, {3, 5, 1}, {2, 5, 0}} {
			update(t, db, func(tx *store.Tx) error {
				unused, err := tx.UnusedClients()
				if err != nil {
					return err
				}
				n, err := tx.ForgetUnusedClients(first.Add(-time.Hour), step.limit)
				if unused != step.unused || n != step.want {
					t.Errorf("%d unused, %d forgotten; want %+v", unused, n, step)
				}
				return err
			})
		}
		for i, there := range []bool{true, true, false, false, true, true} {
			_, err := db.Client(t.Context(), fmt.Sprint("mcp_", i))
			if there != (err == nil) {
				t.Errorf("mcp_%d: %v", i, err)
			}
		}
	})
}

func TestUsers(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		ada := &identity.User{ID: "usr_1", Email: "Ada@Example.com", Name: "Ada ☀", PasswordHash: "$argon2id$1",
			CreatedAt: clock.Now()}
		update(t, db, func(tx *store.Tx) error { return tx.CreateUser(ada) })
		t.Run("LG-06 an address is one however it is spelled", func(t *testing.T) {
			for _, spelling := range []string{"ada@example.com", " ADA@EXAMPLE.COM ", "ａda@example.com"} {
				view(t, db, func(tx *store.Tx) error {
					got, err := tx.UserByEmail(spelling)
					same(t, ada, got)
					return err
				})
				expect(t, db, store.ErrConflict, func(tx *store.Tx) error {
					return tx.CreateUser(&identity.User{ID: "usr_2", Email: spelling, CreatedAt: tx.Now()})
				})
			}
		})
		update(t, db, func(tx *store.Tx) error { return tx.SetPassword("usr_1", "$argon2id$2") })
		_, client, resource := people(t, db)
		g := redeemed(t, db, ada, client, resource)
		session := &identity.Session{Hash: "h1", UserID: "usr_1", SignedInAt: clock.Now(), AMR: []string{"pwd", "otp"},
			SeenAt: clock.Now(), ExpiresAt: clock.Now().Add(time.Hour), EndsAt: clock.Now().Add(2 * time.Hour)}
		second := *session
		second.Hash = "h2"
		update(t, db,
			func(tx *store.Tx) error { return errors.Join(tx.CreateSession(session), tx.CreateSession(&second)) })
		expect(t, db, store.ErrConflict, func(tx *store.Tx) error { return tx.CreateSession(session) })

		update(t, db, func(tx *store.Tx) error { return tx.DisableUser("usr_1") })
		view(t, db, func(tx *store.Tx) error {
			u, err := tx.User("usr_1")
			if err != nil || !u.DisabledAt.Equal(clock.Now()) || u.PasswordHash != "$argon2id$2" {
				t.Errorf("disabled: %+v, %v", u, err)
			}
			if _, _, err := tx.Session("h1"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("session of a disabled user: %v", err)
			}
			if _, parties, err := tx.GrantParties(g.ID); err != nil || !parties.User.Disabled() {
				t.Errorf("grant of a disabled user: %+v, %v", parties, err)
			}
			return nil
		})
		update(t, db, func(tx *store.Tx) error { return tx.EnableUser("usr_1") })
		view(t, db, func(tx *store.Tx) error {
			if _, _, err := tx.Session("h1"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("a session came back: %v", err)
			}
			if _, parties, err := tx.GrantParties(g.ID); err != nil || parties.User.Disabled() {
				t.Errorf("grant of a user enabled again: %+v, %v", parties, err)
			}
			return nil
		})
		update(t, db,
			func(tx *store.Tx) error { return errors.Join(tx.CreateSession(session), tx.DeleteUser("usr_1")) })
		view(t, db, func(tx *store.Tx) error {
			if _, _, err := tx.Session("h1"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("session of a deleted user: %v", err)
			}
			g, err := tx.Grant(g.ID)
			if g.RevokedReason != "user_deleted" {
				t.Errorf("grant of a deleted user: %q", g.RevokedReason)
			}
			return err
		})
		for name, fn := range map[string]func(*store.Tx) error{
			"User":        func(tx *store.Tx) error { _, err := tx.User("none"); return err },
			"UserByEmail": func(tx *store.Tx) error { _, err := tx.UserByEmail("ada@example.com"); return err },
			"SetPassword": func(tx *store.Tx) error { return tx.SetPassword("none", "x") },
			"DisableUser": func(tx *store.Tx) error { return tx.DisableUser("none") },
			"EnableUser":  func(tx *store.Tx) error { return tx.EnableUser("none") },
			"DeleteUser":  func(tx *store.Tx) error { return tx.DeleteUser("none") },
			"SeenSession": func(tx *store.Tx) error { return tx.SeenSession("none", tx.Now()) },
		} {
			t.Run(name+" of none", func(t *testing.T) { expect(t, db, store.ErrNotFound, fn) })
		}
	})
}

func TestSessions(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		user, _, _ := people(t, db)
		begin := clock.Now()
		s := &identity.Session{Hash: "h", UserID: user.ID, SignedInAt: begin, AMR: []string{"pwd"}, SeenAt: begin,
			ExpiresAt: begin.Add(time.Hour), EndsAt: begin.Add(90 * time.Minute)}
		update(t, db, func(tx *store.Tx) error { return tx.CreateSession(s) })
		find := func() (*identity.Session, error) {
			var got *identity.Session
			err := db.View(t.Context(), func(tx *store.Tx) (err error) {
				var u *identity.User
				if got, u, err = tx.Session("h"); err == nil {
					same(t, user, u)
				}
				return err
			})
			return got, err
		}
		got, err := find()
		if err != nil {
			t.Fatal(err)
		}
		same(t, s, got)

		t.Run("LG-20 idle and absolute expiry", func(t *testing.T) {
			clock.Set(begin.Add(time.Hour - time.Microsecond))
			update(t, db, func(tx *store.Tx) error { return tx.SeenSession("h", tx.Now().Add(time.Hour)) })
			got, err := find()
			if err != nil || !got.ExpiresAt.Equal(s.EndsAt) || !got.SeenAt.Equal(clock.Now()) {
				t.Fatalf("seen: %+v, %v; want it to end at %v", got, err, s.EndsAt)
			}
			clock.Set(s.EndsAt)
			if _, err := find(); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("at its end: %v", err)
			}
			expect(t, db, store.ErrNotFound,
				func(tx *store.Tx) error { return tx.SeenSession("h", tx.Now().Add(time.Hour)) })
		})
		t.Run("LG-18 an ended session is not found", func(t *testing.T) {
			clock.Set(begin)
			update(t, db, func(tx *store.Tx) error { return tx.EndSession("h") })
			if _, err := find(); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("err = %v", err)
			}
			update(t, db, func(tx *store.Tx) error { return errors.Join(tx.EndSession("h"), tx.EndSessions(user.ID)) })
		})
	})
}

func TestPages(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		user, client, resource := people(t, db)
		const n = 7 // and the one that people made
		update(t, db, func(tx *store.Tx) error {
			for i := range n {
				at := clock.Now().Add(time.Duration(i/3) * time.Second) // three at a time are made at once
				err := errors.Join(
					tx.CreateUser(&identity.User{ID: fmt.Sprint("usr_", i), Email: fmt.Sprint(i), CreatedAt: at}),
					tx.CreateClient(&oauth.Client{ID: fmt.Sprint("mcp_", i), CreatedAt: at,
						Origin: []oauth.Origin{oauth.ByOperator, oauth.ByRegistration, oauth.ByDocument}[i%3]}, ""),
					tx.CreateGrant(&oauth.Grant{ID: fmt.Sprint("grt_", i), UserID: user.ID, ClientID: client.ID,
						ResourceID: resource.ID, CreatedAt: at, ExpiresAt: at, EndsAt: at}))
				if err != nil {
					return err
				}
			}
			return nil
		})
		for name, list := range map[string]func(*store.Tx, store.Page) (int, []string, string, error){
			"users": func(tx *store.Tx, p store.Page) (int, []string, string, error) {
				users, next, err := tx.Users(p)
				var ids []string
				for _, u := range users {
					ids = append(ids, u.CreatedAt.String()+u.ID)
				}
				return n + 1, ids, next, err
			},
			"clients": func(tx *store.Tx, p store.Page) (int, []string, string, error) {
				clients, next, err := tx.Clients(store.ClientFilter{}, p)
				var ids []string
				for _, c := range clients {
					ids = append(ids, c.CreatedAt.String()+c.ID)
				}
				return n + 1, ids, next, err
			},
			"grants": func(tx *store.Tx, p store.Page) (int, []string, string, error) {
				grants, next, err := tx.Grants(store.GrantFilter{UserID: user.ID}, p)
				var ids []string
				for _, g := range grants {
					ids = append(ids, g.CreatedAt.String()+g.ID)
				}
				return n, ids, next, err
			},
		} {
			t.Run(name, func(t *testing.T) {
				for limit := 1; limit <= 9; limit++ {
					seen := map[string]bool{}
					last := ""
					for page := (store.Page{Limit: limit}); ; {
						want := 0
						view(t, db, func(tx *store.Tx) (err error) {
							var ids []string
							want, ids, page.After, err = list(tx, page)
							for _, id := range ids {
								if seen[id] || id[:19] < last {
									t.Errorf("limit %d: %s after %s, seen before: %v", limit, id, last, seen[id])
								}
								seen[id], last = true, id[:19]
							}
							if len(ids) > limit {
								t.Errorf("limit %d: a page of %d", limit, len(ids))
							}
							return err
						})
						if page.After == "" {
							if len(seen) != want {
								t.Errorf("limit %d: %d, want %d", limit, len(seen), want)
							}
							break
						}
					}
				}
			})
		}
	})
}

func TestKeys(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		now := clock.Now()
		k := store.Key{KID: "k1", Alg: "ES256", Sealed: "sealed", Public: `{"kty":"EC"}`, CreatedAt: now,
			ActiveAt: now.Add(time.Minute)}
		k2 := store.Key{KID: "k2", Alg: "RS256", CreatedAt: now.Add(time.Second), ActiveAt: now, RetiredAt: now,
			ExpiresAt: now.Add(time.Hour)}
		update(t, db, func(tx *store.Tx) error { return errors.Join(tx.CreateKey(k2), tx.CreateKey(k)) })
		expect(t, db, store.ErrConflict, func(tx *store.Tx) error { return tx.CreateKey(k) })
		changed := k
		changed.Sealed, changed.ActiveAt, changed.RetiredAt, changed.ExpiresAt =
			"again", now, now.Add(time.Hour), now.Add(2*time.Hour)
		update(t, db, func(tx *store.Tx) error { return tx.UpdateKey(changed) })
		expect(t, db, store.ErrNotFound, func(tx *store.Tx) error { return tx.UpdateKey(store.Key{KID: "none"}) })
		view(t, db, func(tx *store.Tx) error {
			got, err := tx.Keys()
			same(t, []store.Key{changed, k2}, got)
			return err
		})
	})
}

func TestSettings(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, _ *storetest.Clock) {
		expect(t, db, store.ErrNotFound, func(tx *store.Tx) error { _, err := tx.Setting("check"); return err })
		for _, value := range []string{"first", "second"} {
			update(t, db, func(tx *store.Tx) error {
				got, err := tx.SetSettingOnce("check", value)
				if got != "first" {
					t.Errorf("got %q", got)
				}
				return err
			})
		}
	})
}

func TestAssertions(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		spend := func(hash string) func(*store.Tx) error {
			return func(tx *store.Tx) error { return tx.SpendAssertion(hash, clock.Now().Add(time.Hour)) }
		}
		update(t, db, spend("one"))
		update(t, db, spend("two"))
		expect(t, db, store.ErrConflict, spend("one"))
		clock.Advance(2 * time.Hour) // not before it is swept
		expect(t, db, store.ErrConflict, spend("one"))
	})
}

// modernc binds $2, $1 by number; another driver would bind by first appearance,
// and this package relies on numbers all over.
func TestParametersAreBoundByNumber(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		user, client, resource := people(t, db)
		g := redeemed(t, db, user, client, resource)
		update(t, db, func(tx *store.Tx) error { // its statement names $2 before $1
			revoked, err := tx.RevokeGrant(g.ID, "why")
			if !revoked {
				t.Error("not revoked")
			}
			return err
		})
		view(t, db, func(tx *store.Tx) error {
			got, err := tx.Grant(g.ID)
			if err == nil && (got.RevokedReason != "why" || !got.RevokedAt.Equal(clock.Now())) {
				t.Errorf("revoked at %v for %q", got.RevokedAt, got.RevokedReason)
			}
			return err
		})
	})
}

// A passkey is kept with all that a sign-in needs, and its counter only rises.
func TestPasskeys(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		ada, _, _ := people(t, db)
		phone := &identity.Passkey{ID: "psk_1", UserID: ada.ID, CredentialID: []byte{0, 1, 255},
			PublicKey: []byte("cose"), BackupEligible: true, Transports: []string{"hybrid", "internal"},
			AAGUID: "ea9b8d66-4d01-1d21-3ce4-b6b48cb575d4", Name: "Phone ☀", CreatedAt: clock.Now()}
		usb := &identity.Passkey{ID: "psk_2", UserID: ada.ID, CredentialID: []byte("usb"), PublicKey: []byte("cose 2"),
			SignCount: math.MaxUint32 - 1, Name: "USB", Transports: []string{}, CreatedAt: clock.Now().Add(time.Second)}
		update(t, db, func(tx *store.Tx) error { return errors.Join(tx.CreatePasskey(phone), tx.CreatePasskey(usb)) })
		twin := *phone
		twin.ID = "psk_3"
		expect(t, db, store.ErrConflict, func(tx *store.Tx) error { return tx.CreatePasskey(&twin) })
		wants := func(want ...*identity.Passkey) {
			t.Helper()
			view(t, db, func(tx *store.Tx) error {
				got, err := tx.Passkeys(ada.ID)
				same(t, want, got)
				for _, p := range want {
					one, err := tx.Passkey(p.CredentialID)
					if err != nil {
						return err
					}
					same(t, p, one)
				}
				if has, err := tx.HasPasskey(ada.ID); err != nil || has != (len(want) > 0) {
					t.Errorf("HasPasskey is %v, %v", has, err)
				}
				return err
			})
		}
		wants(phone, usb)

		clock.Advance(time.Hour)
		phone.BackedUp, phone.BackupEligible, phone.UsedAt = true, false, clock.Now()
		usb.SignCount, usb.UsedAt = math.MaxUint32, clock.Now()
		update(t, db, func(tx *store.Tx) error { return errors.Join(tx.UsePasskey(phone), tx.UsePasskey(usb)) })
		for _, count := range []uint32{0, 1, math.MaxUint32} {
			back := *usb
			back.SignCount = count
			expect(t, db, store.ErrNotFound, func(tx *store.Tx) error { return tx.UsePasskey(&back) })
		}
		foreign := *phone
		foreign.UserID = "usr_other"
		expect(t, db, store.ErrNotFound, func(tx *store.Tx) error { return tx.UsePasskey(&foreign) })
		expect(t, db, store.ErrNotFound,
			func(tx *store.Tx) error { return tx.RenamePasskey("psk_1", "usr_other", "x") })
		expect(t, db, store.ErrNotFound, func(tx *store.Tx) error { return tx.DeletePasskey("psk_1", "usr_other") })
		phone.Name = "Old phone"
		update(t, db, func(tx *store.Tx) error { return tx.RenamePasskey("psk_1", ada.ID, phone.Name) })
		wants(phone, usb)
		update(t, db, func(tx *store.Tx) error { return tx.DeletePasskey("psk_1", ada.ID) })
		wants(usb)
		expect(t, db, store.ErrNotFound, func(tx *store.Tx) error { return tx.DeletePasskey("psk_1", ada.ID) })
		update(t, db, func(tx *store.Tx) error {
			if n, err := tx.DeletePasskeys(ada.ID); n != 1 || err != nil {
				t.Errorf("%d were deleted, %v", n, err)
			}
			return tx.CreatePasskey(usb)
		})
		update(t, db, func(tx *store.Tx) error { return tx.DeleteUser(ada.ID) })
		expect(t, db, store.ErrNotFound, func(tx *store.Tx) error {
			_, err := tx.Passkey(usb.CredentialID)
			return err
		})
	})
}
