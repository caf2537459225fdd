package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// When an account is disabled or deleted at one node, nothing of it works at another from then on: sessions, refresh
// tokens, access tokens, codes that were not redeemed, the Admin API, the console.
func TestEndOfAPersonAtAnotherNode(t *testing.T) {
	for _, engine := range []storetest.Engine{storetest.SQLite, storetest.Postgres} {
		for what, end := range map[string]func(*testing.T, *admin.Operations, string) error{
			"disabled": func(t *testing.T, o *admin.Operations, id string) error {
				_, err := o.DisableUser(t.Context(), root, id)
				return err
			},
			"deleted": func(t *testing.T, o *admin.Operations, id string) error {
				_, err := o.DeleteUser(t.Context(), root, id)
				return err
			},
		} {
			t.Run(what+"/"+string(engine), func(t *testing.T) {
				dsn, clock := storetest.New(t, engine), storetest.NewClock()
				one := servertest.New(t, storetest.Connect(t, dsn, clock), clock)
				two := servertest.New(t, storetest.Connect(t, dsn, clock), clock,
					func(c *config.Config) { c.Issuer = one.URL })
				one.Resource(servertest.MCP, "*mcp:tools:weather")
				o := &admin.Operations{DB: one.DB, Issuer: one.URL}
				ada, role := one.User("ada@example.com"), identity.Owner
				one.User("other@example.com")
				for _, email := range []string{ada.Email, "other@example.com"} {
					if _, err := o.UpdateUser(t.Context(), root, email, admin.UserTerms{Role: &role}); err != nil {
						t.Fatal(err)
					}
				}
				client := one.Client(servertest.Confidential)
				first, agent := one.Agent(t, client), two.Agent(t, client)
				b := one.Browser(t)
				tokens := first.Connect(b, ada)
				code := b.Authorize(first.Authorization()).Through(ada).Code()
				operator, far := one.Agent(t, one.Client()), two.Agent(t, nil)
				operator.Resource = one.URL + admin.APIPath
				api := operator.Connect(b, ada, servertest.With("scope", "cardea:users:read"))
				b2 := two.Browser(t)
				for name, value := range b.Cookies() {
					b2.SetCookie(name, value)
				}
				list := func() *servertest.Reply {
					return far.Get("/admin/api/v1/users", servertest.Bearer(api.Access))
				}
				for _, path := range []string{"/account", "/admin/people"} {
					if page := b2.Get(path); page.Status != http.StatusOK || page.IsSignIn() {
						t.Fatalf("before: %s: %d %s", path, page.Status, page.URL)
					}
				}
				if !agent.Active(tokens.Access) || !agent.Active(tokens.Refresh) || list().Status != http.StatusOK {
					t.Fatal("before: something does not work")
				}

				if err := end(t, o, ada.ID); err != nil {
					t.Fatal(err)
				}
				for _, path := range []string{"/account", "/admin/people", "/account/security"} {
					if page := b2.Get(path); !page.IsSignIn() {
						t.Errorf("LG-09 %s: %d %s", path, page.Status, page.URL)
					}
				}
				if agent.Active(tokens.Access) || agent.Active(tokens.Refresh) {
					t.Error("LG-09 a token is active")
				}
				agent.Refresh(tokens.Refresh).Refused(http.StatusBadRequest, "invalid_grant")
				agent.Exchange(code, servertest.With("code_verifier", first.Verifier)).
					Refused(http.StatusBadRequest, "invalid_grant")
				if reply := list(); reply.Status != http.StatusUnauthorized && reply.Status != http.StatusForbidden {
					t.Errorf("LG-09 the Admin API: %d %s", reply.Status, reply.Body)
				}
				if page := two.Browser(t).Get("/login").SignIn(ada); !strings.Contains(page.Body, "That did not work") {
					t.Errorf("LG-09 a sign-in: %d %s", page.Status, page.Body)
				}
				if what != "disabled" {
					return
				}
				// What was ended stays ended; the grants go on.
				if _, err := o.EnableUser(t.Context(), root, ada.ID); err != nil {
					t.Fatal(err)
				}
				if page := b2.Get("/account"); !page.IsSignIn() {
					t.Error("LG-09 the session is back")
				}
				if !agent.Active(tokens.Access) {
					t.Error("the grant does not go on")
				}
			})
		}
	}
}
