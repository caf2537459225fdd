package token_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
	"github.com/cardea-auth/cardea/scope"
)

var clientAs = servertest.ChangeClient

// resourceAs changes the resource MCP as a command would.
func resourceAs(edit func(*oauth.Resource)) func(*store.Tx, string) error {
	return func(tx *store.Tx, _ string) error {
		r, err := tx.Resource(servertest.MCP)
		if err != nil {
			return err
		}
		edit(r)
		return tx.UpdateResource(r)
	}
}

// An operator's change also applies to earlier grants: to issued codes, to the next refresh and to tokens in use. This
// also holds if another process made the change and this one's cache is not updated yet.
func TestStanding(t *testing.T) {
	const nothing = "-"
	for _, test := range []struct {
		name   string
		change func(tx *store.Tx, client string) error
		left   string // what is left of "weather mail"; "": code and refresh are refused
		code   string // the error of both
	}{
		{"nothing changes", func(*store.Tx, string) error { return nil }, "weather mail", ""},
		{"the client is bound to another resource", clientAs(func(c *oauth.Client) { c.Resources = []string{other} }),
			nothing, "invalid_grant"},
		{"the client is bound to this resource too",
			clientAs(func(c *oauth.Client) { c.Resources = []string{other, servertest.MCP} }), "weather mail", ""},
		{"the client loses a scope", clientAs(func(c *oauth.Client) { c.Allowed = scope.Of("mail", "files") }), "mail",
			""},
		{"the client loses every scope", clientAs(func(c *oauth.Client) { c.Allowed = scope.Of("files") }), nothing,
			"invalid_grant"},
		{"the resource loses a scope", resourceAs(func(r *oauth.Resource) { r.Scopes = r.Scopes[:1] }), "weather", ""},
		{"the resource has other scopes", resourceAs(func(r *oauth.Resource) {
			r.Scopes = []oauth.ResourceScope{{Name: "files"}}
		}), nothing, "invalid_grant"},
		{"the resource loses all scopes", resourceAs(func(r *oauth.Resource) { r.Scopes = nil }), nothing,
			"invalid_grant"},
		{"the resource is deleted and created again", func(tx *store.Tx, _ string) error {
			r, err := tx.Resource(servertest.MCP)
			if err != nil {
				return err
			}
			if err := tx.DeleteResource(r.ID); err != nil {
				return err
			}
			r.ID = oauth.NewID("res_")
			return tx.CreateResource(r)
		}, nothing, "invalid_grant"},
	} {
		follows := func(t *testing.T, elsewhere bool) {
			clock, dsn := storetest.NewClock(), storetest.New(t, storetest.SQLite)
			s := servertest.New(t, storetest.Connect(t, dsn, clock), clock)
			s.Resource(servertest.MCP, "*weather", "*mail")
			s.Resource(other, "*files")
			asker := s.Agent(t, s.Client(servertest.Confidential, servertest.ResourceServer(servertest.MCP)))
			ada, agent, browser := s.User("ada@example.com"), s.Agent(t,
				s.Client(servertest.Confidential)), s.Browser(t)
			tokens := agent.Connect(browser, ada)
			if tokens.Scope != "weather mail" {
				t.Fatalf("scope is %q, want %q", tokens.Scope, "weather mail")
			}
			code := browser.Authorize(agent.Authorization()).Through(ada).Code()
			db := s.DB
			if elsewhere {
				db = storetest.Connect(t, dsn, clock)
			}
			err := db.Update(t.Context(), func(tx *store.Tx) error { return test.change(tx, agent.ClientID) })
			if err != nil {
				t.Fatal(err)
			}
			active := test.left != nothing
			answer := asker.Introspect(tokens.Access)
			if answer.JSON()["active"] != active || active && answer.Text("scope") != test.left {
				t.Errorf("the access token is %s, want active %v with the scope %q", answer.Body, active, test.left)
			}
			if answer = agent.Introspect(tokens.Refresh); answer.JSON()["active"] != active ||
				active && answer.Text("scope") != test.left {
				t.Errorf("the refresh token is %s, want active %v with the scope %q", answer.Body, active, test.left)
			}
			if !active {
				agent.Refresh(tokens.Refresh).Refused(http.StatusBadRequest, test.code)
				agent.Exchange(code).Refused(http.StatusBadRequest, test.code)
				return
			}
			if got := agent.Refresh(tokens.Refresh).Tokens().Scope; got != test.left {
				t.Errorf("refreshed to %q, want %q", got, test.left)
			}
			if got := agent.Exchange(code).Tokens().Scope; got != test.left {
				t.Errorf("redeemed to %q, want %q", got, test.left)
			}
		}
		t.Run(test.name, func(t *testing.T) { follows(t, false) })
		t.Run("by another process, "+test.name, func(t *testing.T) { follows(t, true) })
	}
}

// Changes of the client itself.
func TestClientChanges(t *testing.T) {
	for _, test := range []struct {
		name          string
		edit          func(*oauth.Client)
		status        int
		code, refresh string // the errors; "": none
		active        bool   // whether the earlier access token is active
	}{
		{"the grant type refresh_token", func(c *oauth.Client) {
			c.GrantTypes = []oauth.GrantType{oauth.AuthorizationCode}
		}, 400, "", "unauthorized_client", true},
		{"the grant type authorization_code", func(c *oauth.Client) {
			c.GrantTypes = []oauth.GrantType{oauth.RefreshToken}
		}, 400, "unauthorized_client", "", false},
		{"the redirect URI", func(c *oauth.Client) { c.RedirectURIs = []string{"https://agent.example.com/new"} }, 400,
			"invalid_grant", "", true},
		{"its freedom from a secret", func(c *oauth.Client) { c.Method = oauth.MethodBasic }, 401, "invalid_client",
			"invalid_client", true},
	} {
		follows := func(t *testing.T, elsewhere bool) {
			clock, dsn := storetest.NewClock(), storetest.New(t, storetest.SQLite)
			s := servertest.New(t, storetest.Connect(t, dsn, clock), clock)
			s.Resource(servertest.MCP, "*weather")
			asker := s.Agent(t, s.Client(servertest.Confidential, servertest.ResourceServer(servertest.MCP)))
			ada, agent, browser := s.User("ada@example.com"), s.Agent(t, s.Client()), s.Browser(t)
			tokens := agent.Connect(browser, ada)
			code := browser.Authorize(agent.Authorization()).Through(ada).Code()
			db := s.DB
			if elsewhere {
				db = storetest.Connect(t, dsn, clock)
			}
			change := clientAs(test.edit)
			err := db.Update(t.Context(), func(tx *store.Tx) error { return change(tx, agent.ClientID) })
			if err != nil {
				t.Fatal(err)
			}
			if got := asker.Active(tokens.Access); got != test.active {
				t.Errorf("the access token: active is %v", got)
			}
			for what, attempt := range map[string]struct {
				reply *servertest.Reply
				want  string
			}{"code": {agent.Exchange(code), test.code}, "refresh": {agent.Refresh(tokens.Refresh), test.refresh}} {
				if attempt.want != "" {
					t.Log(what)
					attempt.reply.Refused(test.status, attempt.want)
					continue
				}
				if fresh := attempt.reply.Tokens(); test.refresh == "unauthorized_client" && fresh.Refresh != "" {
					t.Error("a refresh token that cannot be used")
				}
			}
		}
		t.Run(test.name, func(t *testing.T) { follows(t, false) })
		t.Run("by another process, "+test.name, func(t *testing.T) { follows(t, true) })
	}
}

// A client with a metadata document is refused if the server no longer accepts its document.
func TestDocumentsCountNoLonger(t *testing.T) {
	const id = "https://agent.example.com/client.json"
	dir := t.TempDir()
	document := `{"client_id":"` + id + `","client_name":"Agent","redirect_uris":["` + servertest.Callback + `"]}`
	if err := os.WriteFile(filepath.Join(dir, "agent.json"), []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	pinned := func(c *config.Config) { c.Registration.PinnedDir = dir }
	for name, edit := range map[string]func(*config.Config){
		"documents are off":  func(c *config.Config) { c.Registration.CIMD = "off" },
		"its host is denied": func(c *config.Config) { c.Registration.Deny = []string{"agent.example.com"} },
		"only other hosts are left": func(c *config.Config) {
			c.Registration.CIMD,
				c.Registration.PinnedDir = "allowlist", ""
		},
	} {
		t.Run(name, func(t *testing.T) {
			db, clock := storetest.Open(t, storetest.SQLite)
			s := servertest.New(t, db, clock, pinned)
			s.Resource(servertest.MCP, "*weather")
			resource := s.Client(servertest.Confidential, servertest.ResourceServer(servertest.MCP))
			ada, agent, browser := s.User("ada@example.com"), s.Agent(t, nil), s.Browser(t)
			agent.ClientID = id
			tokens := agent.Connect(browser, ada)
			code := browser.Authorize(agent.Authorization()).Through(ada).Code()
			if !s.Agent(t, resource).Active(tokens.Access) {
				t.Fatal("a token is not active before the change, want it active")
			}
			changed := servertest.New(t, db, clock, pinned, edit, func(c *config.Config) { c.Issuer = s.URL })
			again := changed.Agent(t, nil)
			again.ClientID, again.Verifier = id, agent.Verifier
			if changed.Agent(t, resource).Active(tokens.Access) {
				t.Error("the access token is active")
			}
			again.Exchange(code).Refused(http.StatusUnauthorized, "invalid_client")
			again.Refresh(tokens.Refresh).Refused(http.StatusUnauthorized, "invalid_client")
		})
	}
}

// A client or resource with a reused name gets none of the grants of its predecessor.
func TestIncarnation(t *testing.T) {
	machine := func(c *oauth.Client) {
		c.Method, c.GrantTypes = oauth.MethodBasic, []oauth.GrantType{oauth.AuthorizationCode, oauth.RefreshToken,
			oauth.ClientCredentials}
	}
	anew := map[string]func(tx *store.Tx, c *oauth.Client) error{
		"client": func(tx *store.Tx, c *oauth.Client) error {
			if err := tx.DeleteClient(c.ID); err != nil {
				return err
			}
			again := *c
			again.Incarnation = ""
			return tx.CreateClient(&again, "")
		},
		"resource": func(tx *store.Tx, _ *oauth.Client) error {
			r, err := tx.Resource(servertest.MCP)
			if err != nil {
				return err
			}
			if err := tx.DeleteResource(r.ID); err != nil {
				return err
			}
			r.ID = oauth.NewID("res_")
			return tx.CreateResource(r)
		},
	}
	for name, remake := range anew {
		for _, elsewhere := range []bool{false, true} {
			t.Run(fmt.Sprintf("a %s made anew, elsewhere %v", name, elsewhere), func(t *testing.T) {
				clock, dsn := storetest.NewClock(), storetest.New(t, storetest.SQLite)
				s := servertest.New(t, storetest.Connect(t, dsn, clock), clock)
				s.Resource(servertest.MCP, "*weather")
				asker, client := s.Agent(t,
					s.Client(servertest.Confidential, servertest.ResourceServer(servertest.MCP))), s.Client(machine)
				ada, agent, browser := s.User("ada@example.com"), s.Agent(t, client), s.Browser(t)
				own := agent.ClientCredentials().Tokens()
				tokens := agent.Connect(browser, ada)
				code := browser.Authorize(agent.Authorization()).Through(ada).Code()
				if !asker.Active(own.Access) || !agent.Active(own.Access) || !asker.Active(tokens.Access) {
					t.Fatal("a token is not active before the change, want it active")
				}
				db := s.DB
				if elsewhere {
					db = storetest.Connect(t, dsn, clock)
				}
				if err := db.Update(t.Context(), func(tx *store.Tx) error {
					return remake(tx, client.Client)
				}); err != nil {
					t.Fatal(err)
				}
				for what, token := range map[string]string{
					"own token": own.Access, "access token": tokens.Access, "refresh token": tokens.Refresh,
				} {
					if agent.Active(token) || asker.Active(token) {
						t.Errorf("the %s is active, want it inactive", what)
					}
					status(t, agent.Revoke(token), http.StatusOK)
				}
				if elsewhere { // the cache of this process may have the earlier client
					if reply := agent.Refresh(tokens.Refresh); reply.Status == http.StatusOK {
						t.Error("the refresh token was redeemed, want a refusal")
					}
					if reply := agent.Exchange(code); reply.Status == http.StatusOK {
						t.Error("the code was redeemed, want a refusal")
					}
					return
				}
				agent.Refresh(tokens.Refresh).Refused(http.StatusBadRequest, "invalid_grant")
				agent.Exchange(code).Refused(http.StatusBadRequest, "invalid_grant")
				if fresh := agent.ClientCredentials().Tokens(); !agent.Active(fresh.Access) {
					t.Error("a new token is not active")
				}
			})
		}
	}
	t.Run("an account with the same e-mail address", func(t *testing.T) {
		s := open(t)
		agent := s.Agent(t, s.Client(machine))
		tokens, code := agent.Connect(s.browser, s.ada), s.code(agent)
		s.Update(func(tx *store.Tx) error { return tx.DeleteUser(s.ada.ID) })
		s.User("ada@example.com")
		if agent.Active(tokens.Access) || agent.Active(tokens.Refresh) {
			t.Error("a token is active, want both inactive")
		}
		agent.Refresh(tokens.Refresh).Refused(http.StatusBadRequest, "invalid_grant")
		agent.Exchange(code).Refused(http.StatusBadRequest, "invalid_grant")
	})
}

// client_credentials reads the cache, so a client that another process has just disabled may still get a token, but the
// token is not active.
func TestOwnTokenOfOneThatEnded(t *testing.T) {
	for name, end := range map[string]func(*store.Tx, string) error{
		"client disabled": func(tx *store.Tx, client string) error { return tx.DisableClient(client) },
		"client deleted":  func(tx *store.Tx, client string) error { return tx.DeleteClient(client) },
		"client moved":    clientAs(func(c *oauth.Client) { c.Resources = []string{other} }),
		"its grant type":  clientAs(func(c *oauth.Client) { c.GrantTypes = nil }),
		"resource deleted": func(tx *store.Tx, _ string) error {
			r, err := tx.Resource(servertest.MCP)
			if err != nil {
				return err
			}
			return tx.DeleteResource(r.ID)
		},
	} {
		t.Run(name, func(t *testing.T) {
			clock, dsn := storetest.NewClock(), storetest.New(t, storetest.SQLite)
			s := servertest.New(t, storetest.Connect(t, dsn, clock), clock)
			s.Resource(servertest.MCP, "*weather")
			s.Resource(other, "*files")
			asker := s.Agent(t, s.Client(servertest.Confidential, servertest.ResourceServer(servertest.MCP)))
			agent := s.Agent(t, s.Client(servertest.Confidential, func(c *oauth.Client) {
				c.GrantTypes, c.Resources = []oauth.GrantType{oauth.ClientCredentials}, []string{servertest.MCP}
			}))
			tokens := []servertest.Tokens{agent.ClientCredentials().Tokens()}
			if !asker.Active(tokens[0].Access) {
				t.Fatal("a token is not active before the change, want it active")
			}
			err := storetest.Connect(t, dsn, clock).
				Update(t.Context(), func(tx *store.Tx) error { return end(tx, agent.ClientID) })
			if err != nil {
				t.Fatal(err)
			}
			if reply := agent.ClientCredentials(); reply.Status == http.StatusOK {
				tokens = append(tokens, reply.Tokens())
			}
			for _, each := range tokens {
				if asker.Active(each.Access) {
					t.Error("the token is active")
				}
			}
		})
	}
}

// The response to another client's code or refresh token is the same as to an unknown one, byte for byte.
func TestAnotherClients(t *testing.T) {
	s := open(t)
	owner, stranger := s.Client(servertest.Confidential), s.Client(servertest.Confidential)
	agent, thief := s.Agent(t, owner), s.Agent(t, stranger)
	tokens := agent.Connect(s.browser, s.ada)
	code := s.code(agent)
	thief.Verifier = agent.Verifier
	unknown := oauth.NewSecret(oauth.CodePrefix)
	for name, tweaks := range map[string][]servertest.Tweak{
		"plain":                {},
		"another redirect URI": {servertest.With("redirect_uri", servertest.Callback+"/x")},
		"another resource":     {servertest.With("resource", other)},
		"another verifier":     {servertest.With("code_verifier", "wrong")},
		"no verifier":          {servertest.Without("code_verifier")},
		"other scopes":         {servertest.With("scope", "files")},
	} {
		t.Run(name, func(t *testing.T) {
			for _, pair := range [][2]*servertest.Reply{
				{thief.Exchange(code, tweaks...), thief.Exchange(unknown, tweaks...)},
				{thief.Refresh(tokens.Refresh, tweaks...), thief.Refresh(oauth.RefreshPrefix+"x_1_y", tweaks...)},
			} {
				pair[0].Refused(http.StatusBadRequest, "invalid_grant")
				if got, want := string(pair[0].Body), string(pair[1].Body); got != want {
					t.Errorf("%s\nbut of an unknown one %s", got, want)
				}
			}
		})
	}
	agent.Exchange(code).Tokens()
	thief.Exchange(code).Refused(http.StatusBadRequest, "invalid_grant")
	if alarms := s.Events("token.reuse"); len(alarms) > 0 {
		t.Errorf("events of reuse are %+v, want none", alarms)
	}
	agent.Refresh(tokens.Refresh).Tokens()
}
