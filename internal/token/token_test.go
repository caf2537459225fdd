package token_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

const other = "https://other.example.com/mcp"

// site is a server with two resources and one signed-in person.
type site struct {
	*servertest.Server
	ada     *servertest.Person
	browser *servertest.Browser
}

func open(t *testing.T, edits ...func(*config.Config)) *site {
	s := servertest.Start(t, edits...)
	s.Resource(servertest.MCP, "*weather", "mail")
	s.Resource(other, "*files")
	return &site{Server: s, ada: s.User("ada@example.com"), browser: s.Browser(t)}
}

// code runs the authorization flow of agent and returns a code.
func (s *site) code(agent *servertest.Agent, tweaks ...servertest.Tweak) string {
	return s.browser.Authorize(agent.Authorization(tweaks...)).Through(s.ada).Code()
}

func basic(id, secret string) servertest.Tweak {
	return servertest.Header("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(id+":"+secret)))
}

func status(t *testing.T, reply *servertest.Reply, want int) {
	t.Helper()
	if reply.Status != want {
		t.Errorf("status %d, want %d: %.300s", reply.Status, want, reply.Body)
	}
}

func TestCode(t *testing.T) {
	s := open(t)
	client, stranger := s.Client(servertest.Confidential), s.Client()
	const grant = "invalid_grant"

	t.Run("TK-01 TK-54 success", func(t *testing.T) {
		agent := s.Agent(t, client)
		reply := agent.Exchange(s.code(agent, servertest.With("scope", "weather mail")))
		tokens, claims := reply.Tokens(), servertest.Claims(t, reply.Tokens().Access)
		if tokens.Scope != "weather mail" || claims.Scope != tokens.Scope || tokens.Refresh == "" ||
			tokens.ExpiresIn <= 0 {
			t.Errorf("the answer is %s, want the scope weather mail, a refresh token and expires_in", reply.Body)
		}
		if claims.Audience != servertest.MCP || claims.Issuer != s.URL || claims.ClientID != client.ID ||
			claims.Subject != s.ada.ID {
			t.Errorf("claims are %+v, want those of this client, person, server and MCP server", claims)
		}
		if reply.Header.Get("Pragma") != "no-cache" || reply.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("the header is %v, want Pragma no-cache and X-Content-Type-Options nosniff", reply.Header)
		}
	})
	t.Run("TK-02 second redemption a second later", func(t *testing.T) {
		agent := s.Agent(t, client)
		code := s.code(agent)
		tokens := agent.Exchange(code).Tokens()
		s.Clock.Advance(time.Second)
		agent.Exchange(code).Refused(http.StatusBadRequest, grant)
		ended(t, agent, tokens)
	})
	t.Run("a second redemption by another client ends nothing", func(t *testing.T) {
		agent := s.Agent(t, client)
		code := s.code(agent)
		tokens := agent.Exchange(code).Tokens()
		thief := s.Agent(t, stranger)
		thief.Verifier = agent.Verifier
		thief.Exchange(code).Refused(http.StatusBadRequest, grant)
		if !agent.Active(tokens.Access) {
			t.Error("a stranger ended the grant")
		}
	})
	t.Run("a code that is too old", func(t *testing.T) {
		agent := s.Agent(t, client)
		code := s.code(agent)
		s.Clock.Advance(time.Minute)
		agent.Exchange(code).Refused(http.StatusBadRequest, grant)
	})

	// None of these spends the code: it can still be redeemed afterwards.
	agent := s.Agent(t, client)
	for _, test := range []struct {
		name  string
		tweak servertest.Tweak
		code  int
		error string
	}{
		{"TK-09 another redirect URI", servertest.With("redirect_uri", servertest.Callback+"/"), 400, grant},
		{"wrong secret", basic(client.ID, "wrong"), 401, "invalid_client"},
		{"no secret", servertest.Header("Authorization"), 401, "invalid_client"},
		{"TK-37 another resource", servertest.With("resource", other), 400, "invalid_target"},
		{"TK-37 an unknown resource", servertest.With("resource", "https://nobody.example.com/"), 400,
			"invalid_target"},
		{"TK-38 two resources", servertest.With("resource", servertest.MCP, other), 400, "invalid_target"},
		{"TK-12 no verifier", servertest.Without("code_verifier"), 400, grant},
		{"no code", servertest.Without("code"), 400, "invalid_request"},
		{"TK-17 grant_type missing", servertest.Without("grant_type"), 400, "invalid_request"},
		{"TK-17 grant_type unknown", servertest.With("grant_type", "password"), 400, "unsupported_grant_type"},
		{"TK-17 grant_type of another case", servertest.With("grant_type", "Authorization_Code"), 400,
			"unsupported_grant_type"},
		{"TK-17 TK-50 grant_type twice", servertest.With("grant_type", "authorization_code", "authorization_code"), 400,
			"invalid_request"},
		{"TK-18 a grant type that is not registered", servertest.With("grant_type", "client_credentials"), 400,
			"unauthorized_client"},
		{"TK-46 another client_id in the body", servertest.With("client_id", stranger.ID), 401, "invalid_client"},
	} {
		t.Run("TK-10 after "+test.name, func(t *testing.T) {
			agent := s.Agent(t, client)
			code := s.code(agent)
			agent.Exchange(code, test.tweak).Refused(test.code, test.error)
			agent.Exchange(code).Tokens()
		})
	}
	for _, name := range []string{"code", "code_verifier", "redirect_uri", "client_id", "scope", "unknown"} {
		t.Run("TK-50 "+name+" twice", func(t *testing.T) {
			agent := s.Agent(t, client)
			code := s.code(agent)
			agent.Exchange(code, servertest.With(name, code, code)).Refused(http.StatusBadRequest, "invalid_request")
			agent.Exchange(code).Tokens()
		})
	}
	t.Run("TK-09 no redirect URI", func(t *testing.T) { // OAuth 2.1 §10.2
		agent := s.Agent(t, client)
		agent.Exchange(s.code(agent), servertest.Without("redirect_uri")).Tokens()
	})
	t.Run("TK-37 no resource", func(t *testing.T) {
		agent := s.Agent(t, client)
		tokens := agent.Exchange(s.code(agent), servertest.Without("resource")).Tokens()
		if got := servertest.Claims(t, tokens.Access).Audience; got != servertest.MCP {
			t.Errorf("aud is %s, want %s", got, servertest.MCP)
		}
	})
	for name, verifier := range map[string]func() string{
		"TK-12 wrong":            func() string { return strings.Repeat("w", 43) },
		"TK-12 the challenge":    func() string { return servertest.Challenge(agent.Verifier) },
		"TK-13 too short":        func() string { return strings.Repeat("w", 42) },
		"TK-13 too long":         func() string { return strings.Repeat("w", 129) },
		"TK-13 of other letters": func() string { return strings.Repeat("ä ", 30) },
	} {
		t.Run(name, func(t *testing.T) {
			agent = s.Agent(t, client)
			code := s.code(agent)
			agent.Exchange(code, servertest.With("code_verifier", verifier())).Refused(http.StatusBadRequest, grant)
			agent.Exchange(code).Refused(http.StatusBadRequest, grant) // only one guess is possible
		})
	}
	for name, verifier := range map[string]string{
		"too short":        strings.Repeat("w", 42),
		"too long":         strings.Repeat("w", 129),
		"of other letters": strings.Repeat("w ", 30),
	} {
		t.Run("TK-13 a verifier "+name+" that fits its challenge", func(t *testing.T) {
			agent := s.Agent(t, client)
			code := s.code(agent, servertest.With("code_challenge", servertest.Challenge(verifier)))
			agent.Exchange(code, servertest.With("code_verifier", verifier)).Refused(http.StatusBadRequest, grant)
		})
	}
	t.Run("TK-13 TK-52 a megabyte", func(t *testing.T) {
		agent := s.Agent(t, client)
		code := s.code(agent)
		status(t, agent.Exchange(code, servertest.With("code_verifier", strings.Repeat("w", 1<<20))),
			http.StatusBadRequest)
		agent.Exchange(code).Tokens()
	})
	t.Run("TK-04 TK-08 codes that are almost right", func(t *testing.T) {
		agent := s.Agent(t, client)
		code := s.code(agent)
		for _, forged := range mutations(code) {
			agent.Exchange(forged).Refused(http.StatusBadRequest, grant)
		}
		agent.Exchange(code).Tokens()
	})
}

// mutations returns texts that differ slightly from the credential.
func mutations(text string) []string {
	last := "A"
	if strings.HasSuffix(text, last) {
		last = "B"
	}
	half := len(text) / 2
	return []string{
		text[:len(text)-1], text[1:], text + "A", text + "=", text + " ", " " + text, text + "\n",
		text[:len(text)-1] + last, strings.ToUpper(text), strings.ToLower(text[:half]) + strings.ToUpper(text[half:]),
		text[half:] + text[:half],
	}
}

func TestRefresh(t *testing.T) {
	s := open(t)
	client, stranger := s.Client(servertest.Confidential), s.Client(servertest.Confidential)
	const grant = "invalid_grant"

	t.Run("TK-20 TK-54 normal", func(t *testing.T) {
		agent := s.Agent(t, client)
		old := agent.Connect(s.browser, s.ada, servertest.With("scope", "weather mail"))
		fresh := agent.Refresh(old.Refresh).Tokens()
		if fresh.Refresh == old.Refresh || fresh.Refresh == "" || fresh.Scope != old.Scope {
			t.Errorf("tokens are %+v, want another refresh token and the scope %q", fresh, old.Scope)
		}
		if got := servertest.Claims(t, fresh.Access); got.Audience != servertest.MCP || got.Subject != s.ada.ID {
			t.Errorf("claims are %+v, want the same aud and sub", got)
		}
	})
	t.Run("TK-08 tokens that are almost right", func(t *testing.T) {
		agent := s.Agent(t, client)
		tokens := agent.Connect(s.browser, s.ada)
		for _, forged := range append(mutations(tokens.Refresh), strings.Replace(tokens.Refresh, "_1_", "_2_", 1),
			strings.Replace(tokens.Refresh, "_1_", "_01_", 1), strings.Replace(tokens.Refresh, "_1_", "_+1_", 1)) {
			agent.Refresh(forged).Refused(http.StatusBadRequest, grant)
			if agent.Active(forged) {
				t.Errorf("the forged token %s is active, want it inactive", forged)
			}
		}
		agent.Refresh(tokens.Refresh).Tokens()
	})

	// None of these rotates the token or revokes its family.
	for _, test := range []struct {
		name  string
		tweak servertest.Tweak
		code  int
		error string
	}{
		{"TK-33 another client", basic(stranger.ID, stranger.Secret), 400, grant},
		{"TK-36 a resource not of the grant", servertest.With("resource", other), 400, "invalid_target"},
		{"TK-34 nothing of the grant", servertest.With("scope", "files"), 400, "invalid_scope"},
		{"TK-42 no credentials", servertest.Header("Authorization"), 401, "invalid_client"},
		{"TK-50 twice", servertest.With("refresh_token", "a", "a"), 400, "invalid_request"},
		{"none", servertest.Without("refresh_token"), 400, "invalid_request"},
	} {
		t.Run(test.name, func(t *testing.T) {
			agent := s.Agent(t, client)
			tokens := agent.Connect(s.browser, s.ada)
			agent.Refresh(tokens.Refresh, test.tweak).Refused(test.code, test.error)
			if !agent.Active(tokens.Refresh) || !agent.Active(tokens.Access) {
				t.Error("the family did not survive the refusal")
			}
			agent.Refresh(tokens.Refresh).Tokens()
		})
	}
	t.Run("TK-34 wider, then narrower", func(t *testing.T) {
		agent := s.Agent(t, client)
		tokens := agent.Connect(s.browser, s.ada, servertest.With("scope", "weather"))
		tokens = agent.Refresh(tokens.Refresh, servertest.With("scope", "weather mail files")).Tokens()
		if tokens.Scope != "weather" {
			t.Errorf("scope is %q, want %q", tokens.Scope, "weather")
		}
	})
	t.Run("TK-34 what clients ask for out of habit", func(t *testing.T) {
		agent := s.Agent(t, client)
		tokens := agent.Connect(s.browser, s.ada, servertest.With("scope", "weather mail openid offline_access"))
		if tokens.Scope != "weather mail offline_access" {
			t.Fatalf("scope is %q, want %q", tokens.Scope, "weather mail offline_access")
		}
		for _, test := range []struct{ ask, want string }{
			{"openid profile email offline_access", "weather mail offline_access"},
			{"openid", "weather mail offline_access"},
			{"mail openid", "mail"},
			{"mail offline_access", "mail offline_access"},
			{"mail files unknown", "mail"},
		} {
			tokens = agent.Refresh(tokens.Refresh, servertest.With("scope", test.ask)).Tokens()
			if tokens.Scope != test.want {
				t.Errorf("asked for %q, got %q, want %q", test.ask, tokens.Scope, test.want)
			}
		}
		refused := agent.Refresh(tokens.Refresh, servertest.With("scope", "files openid offline_access"))
		refused.Refused(http.StatusBadRequest, "invalid_scope")
		if !strings.Contains(refused.Text("error_description"), "weather mail") {
			t.Errorf("it does not say what there is: %s", refused.Body)
		}
		// narrowing affects only one token
		if tokens = agent.Refresh(tokens.Refresh).Tokens(); tokens.Scope != "weather mail offline_access" {
			t.Errorf("the scope is then %q, want that of the grant", tokens.Scope)
		}
	})
	t.Run("TK-34 a wildcard that covers the grant", func(t *testing.T) {
		s.Resource("https://wide.example.com/mcp", "*tools:a", "*tools:b", "*c")
		agent := s.Agent(t, client)
		agent.Resource = "https://wide.example.com/mcp"
		tokens := agent.Connect(s.browser, s.ada)
		tokens = agent.Refresh(tokens.Refresh, servertest.With("scope", "tools:*")).Tokens()
		if tokens.Scope != "tools:a tools:b" {
			t.Errorf("scope is %q, want %q", tokens.Scope, "tools:a tools:b")
		}
	})
	t.Run("a wildcard that became narrower", func(t *testing.T) {
		wide := s.Resource("https://narrowed.example.com/mcp", "*files:*")
		agent := s.Agent(t, s.Client(servertest.Confidential))
		agent.Resource = wide.Identifier
		tokens := agent.Connect(s.browser, s.ada)
		s.Update(func(tx *store.Tx) error {
			wide.Scopes = []oauth.ResourceScope{{Name: "files:read"}, {Name: "mail"}}
			return tx.UpdateResource(wide)
		})
		if tokens = agent.Refresh(tokens.Refresh).Tokens(); tokens.Scope != "files:read" {
			t.Errorf("scope is %q, want %q", tokens.Scope, "files:read")
		}
	})
	t.Run("the grace is in the audit log, with where it was asked from", func(t *testing.T) {
		s := open(t, func(c *config.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
		from := func(address string) servertest.Tweak { return servertest.Header("X-Forwarded-For", address) }
		agent := s.Agent(t, s.Client(servertest.Confidential))
		tokens := agent.Connect(s.browser, s.ada)
		agent.Refresh(tokens.Refresh, from("192.0.2.1")).Tokens()
		if events := s.Events("token.refresh_grace"); len(events) > 0 {
			t.Errorf("the first refresh is none: %+v", events)
		}
		for i, want := range []string{"same", "other"} {
			agent.Refresh(tokens.Refresh, from(fmt.Sprintf("192.0.2.%d", i+1))).Tokens()
			events := s.Events("token.refresh_grace")
			if len(events) != i+1 {
				t.Fatalf("%d events, want %d", len(events), i+1)
			}
			newest := events[0]
			for _, e := range events {
				if e.At.After(newest.At) {
					newest = e
				}
			}
			if newest.Detail["address"] != want || newest.ClientID != agent.ClientID || newest.UserID != s.ada.ID ||
				newest.GrantID == "" {
				t.Errorf("event %+v, want address %q", newest, want)
			}
		}
	})
	t.Run("TK-34 below a wildcard that an operator took away", func(t *testing.T) {
		s.Resource("https://deep.example.com/mcp", "files:*", "files:read", "files:write")
		c := s.Client(servertest.Confidential)
		agent := s.Agent(t, c)
		agent.Resource = "https://deep.example.com/mcp"
		tokens := agent.Connect(s.browser, s.ada, servertest.With("scope", "files:*"))
		tokens = agent.Refresh(tokens.Refresh, servertest.With("scope", "files:read files:write")).Tokens()
		if tokens.Scope != "files:read files:write" {
			t.Errorf("scope is %q, want %q", tokens.Scope, "files:read files:write")
		}
		s.Update(func(tx *store.Tx) error {
			narrowed, err := tx.Client(c.ID)
			if err != nil {
				return err
			}
			narrowed.Allowed = []string{"files:read"}
			return tx.UpdateClient(narrowed)
		})
		tokens = agent.Refresh(tokens.Refresh, servertest.With("scope", "files:read files:write")).Tokens()
		if tokens.Scope != "files:read" {
			t.Errorf("scope %q after the client was limited to files:read", tokens.Scope)
		}
	})
	t.Run("TK-40 used daily to its end", func(t *testing.T) {
		s := open(t,
			func(c *config.Config) { c.Tokens.RefreshIdleTTL, c.Tokens.RefreshMaxTTL = 48*time.Hour, 5*24*time.Hour })
		agent := s.Agent(t, s.Client(servertest.Confidential))
		tokens := agent.Connect(s.browser, s.ada)
		for range 4 {
			s.Clock.Advance(24 * time.Hour)
			tokens = agent.Refresh(tokens.Refresh).Tokens()
		}
		s.Clock.Advance(24*time.Hour - time.Second)
		tokens = agent.Refresh(tokens.Refresh).Tokens() // TK-64: in the last second
		if tokens.ExpiresIn <= 0 {
			t.Errorf("TK-64 expires_in is %d, want more than 0", tokens.ExpiresIn)
		}
		s.Clock.Advance(time.Second)
		agent.Refresh(tokens.Refresh).Refused(http.StatusBadRequest, grant)
	})
	t.Run("idle too long", func(t *testing.T) {
		s := open(t, func(c *config.Config) { c.Tokens.RefreshIdleTTL = time.Hour })
		agent := s.Agent(t, s.Client(servertest.Confidential))
		tokens := agent.Connect(s.browser, s.ada)
		s.Clock.Advance(time.Hour)
		agent.Refresh(tokens.Refresh).Refused(http.StatusBadRequest, grant)
	})
	t.Run("TK-65 a client without refresh", func(t *testing.T) {
		agent := s.Agent(t,
			s.Client(func(c *oauth.Client) { c.GrantTypes = []oauth.GrantType{oauth.AuthorizationCode} }))
		for _, scope := range []string{"weather", "weather offline_access"} {
			if tokens := agent.Connect(s.browser, s.ada, servertest.With("scope", scope)); tokens.Refresh != "" {
				t.Errorf("asked for %q, a refresh token", scope)
			}
		}
	})
}

// TK-16, TK-32: a client, resource, person or grant ends while an agent is connected, through this process or through
// another one, before this one's cache is updated.
func TestEnds(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(tx *store.Tx, client, user, grant, resource string) error
		code   int
		error  string
	}{
		{"consent revoked", func(tx *store.Tx, _, _, grant, _ string) error {
			_, err := tx.RevokeGrant(grant, "user")
			return err
		}, 400, "invalid_grant"},
		{"account disabled", func(tx *store.Tx, _, user, _, _ string) error { return tx.DisableUser(user) }, 400,
			"invalid_grant"},
		{"account deleted", func(tx *store.Tx, _, user, _, _ string) error { return tx.DeleteUser(user) }, 400,
			"invalid_grant"},
		{"resource deleted", func(tx *store.Tx, _, _, _, resource string) error { return tx.DeleteResource(resource) },
			400, "invalid_grant"},
		{"TK-16 client disabled", func(tx *store.Tx, client, _, _, _ string) error { return tx.DisableClient(client) },
			401, "invalid_client"},
		{"TK-16 client deleted", func(tx *store.Tx, client, _, _, _ string) error { return tx.DeleteClient(client) },
			401, "invalid_client"},
	} {
		ends := func(t *testing.T, elsewhere bool) {
			clock, dsn := storetest.NewClock(), storetest.New(t, storetest.SQLite)
			s := servertest.New(t, storetest.Connect(t, dsn, clock), clock)
			resource := s.Resource(servertest.MCP, "*weather")
			asker := s.Agent(t, s.Client(servertest.Confidential, servertest.ResourceServer(servertest.MCP)))
			ada, agent, browser := s.User("ada@example.com"), s.Agent(t, s.Client()), s.Browser(t)
			tokens := agent.Connect(browser, ada)
			if !asker.Active(tokens.Access) {
				t.Fatal("a token is not active before the change, want it active")
			}
			claims := servertest.Claims(t, tokens.Access)
			code := browser.Authorize(agent.Authorization()).Through(ada).Code()
			db := s.DB
			if elsewhere {
				db = storetest.Connect(t, dsn, clock)
			}
			err := db.Update(t.Context(), func(tx *store.Tx) error {
				return test.change(tx, agent.ClientID, ada.ID, claims.GrantID(), resource.ID)
			})
			if err != nil {
				t.Fatal(err)
			}
			agent.Refresh(tokens.Refresh).Refused(test.code, test.error)
			if test.name != "consent revoked" { // the code has a different grant
				agent.Exchange(code).Refused(test.code, test.error)
			}
			if asker.Active(tokens.Access) {
				t.Error("the access token is still active")
			}
			if alarms := s.Events("token.reuse"); len(alarms) > 0 {
				t.Errorf("nothing was used twice: %+v", alarms)
			}
		}
		t.Run("TK-32 "+test.name, func(t *testing.T) { ends(t, false) })
		t.Run("TK-32 by another process, "+test.name, func(t *testing.T) { ends(t, true) })
	}
}

func TestConfusion(t *testing.T) {
	s := open(t)
	agent := s.Agent(t, s.Client(servertest.Confidential))
	tokens := agent.Connect(s.browser, s.ada)
	code := s.code(agent)
	const grant = "invalid_grant"
	t.Run("TK-41 access token as refresh token",
		func(t *testing.T) { agent.Refresh(tokens.Access).Refused(400, grant) })
	t.Run("TK-41 code as refresh token", func(t *testing.T) { agent.Refresh(code).Refused(400, grant) })
	t.Run("TK-41 refresh token as code", func(t *testing.T) { agent.Exchange(tokens.Refresh).Refused(400, grant) })
	t.Run("TK-41 access token as code", func(t *testing.T) { agent.Exchange(tokens.Access).Refused(400, grant) })
	t.Run("TK-41 cookies as code and token", func(t *testing.T) {
		for _, cookie := range s.browser.Cookies() {
			agent.Exchange(cookie).Refused(400, grant)
			agent.Refresh(cookie).Refused(400, grant)
			if agent.Active(cookie) {
				t.Error("a cookie is an active token")
			}
		}
	})
	t.Run("TK-41 code at introspection", func(t *testing.T) {
		if agent.Active(code) {
			t.Error("a code is an active token")
		}
	})
	agent.Exchange(code).Tokens()
	agent.Refresh(tokens.Refresh).Tokens()
}

func TestClientAuthentication(t *testing.T) {
	s := open(t)
	machine := func(c *oauth.Client) {
		c.Method, c.GrantTypes, c.Allowed =
			oauth.MethodBasic, []oauth.GrantType{oauth.ClientCredentials}, []string{"weather"}
	}
	client, public := s.Client(machine), s.Client()
	ask := url.Values{"grant_type": {"client_credentials"}, "resource": {servertest.MCP}}
	header := func(value string) servertest.Tweak { return servertest.Header("Authorization", value) }
	encoded := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	pair := client.ID + ":" + client.Secret

	for _, test := range []struct {
		name   string
		tweak  servertest.Tweak
		status int
	}{
		{"TK-45 plain", header("Basic " + encoded(pair)), 200},
		{"TK-45 lower case", header("basic " + encoded(pair)), 200},
		{"TK-45 percent-encoded",
			header("Basic " +
				encoded(strings.ReplaceAll(client.ID, "_", "%5F")+":"+strings.ReplaceAll(client.Secret, "_", "%5f"))),
			200},
		{"TK-45 colon percent-encoded", header("Basic " + encoded(client.ID+"%3A"+client.Secret)), 401},
		{"TK-45 no colon", header("Basic " + encoded(client.ID)), 401},
		{"TK-45 no secret", header("Basic " + encoded(client.ID+":")), 401},
		{"TK-45 no id", header("Basic " + encoded(":"+client.Secret)), 401},
		{"TK-45 plus", header("Basic " + encoded(pair+"+")), 401},
		{"TK-45 a colon more", header("Basic " + encoded(pair+":")), 401},
		{"TK-45 not UTF-8", header("Basic " + encoded(pair+"\xff")), 401},
		{"TK-45 NUL", header("Basic " + encoded(pair+"\x00")), 401},
		{"TK-45 base64url", header("Basic " + base64.RawURLEncoding.EncodeToString([]byte(pair+"\xff\xfe>>>???"))),
			401},
		{"TK-45 not base64", header("Basic %%%"), 401},
		{"TK-45 nothing", header("Basic"), 401},
		{"TK-45 two headers", servertest.Header("Authorization", "Basic "+encoded(pair), "Basic "+encoded(pair)), 401},
		{"TK-45 long", header("Basic " + encoded(pair+strings.Repeat("A", 12000))), 401},
		{"TK-42 Bearer", header("Bearer " + client.Secret), 401},
		{"TK-42 none", header(""), 401},
		{"TK-42 only the id", servertest.With("client_id", client.ID), 401},
		{"TK-42 a public client with a secret", header("Basic " + encoded(public.ID+":"+client.Secret)), 401},
		{"TK-42 a secret, wrong", header("Basic " + encoded(client.ID+":wrong")), 401},
		{"TK-42 unknown client", header("Basic " + encoded("mcp_nobody:"+client.Secret)), 401},
	} {
		t.Run(test.name, func(t *testing.T) {
			reply := s.Agent(t, nil).Post("/oauth2/token", ask, test.tweak)
			if test.status == http.StatusOK {
				reply.Tokens()
				return
			}
			reply.Refused(test.status, "invalid_client")
		})
	}
	for _, test := range []struct {
		name, id string
	}{{"the same", client.ID}, {"another", public.ID}} {
		t.Run("TK-46 client_id in the body: "+test.name, func(t *testing.T) {
			reply := s.Agent(t, client).
				ClientCredentials(servertest.With("client_id", test.id), servertest.With("resource", servertest.MCP))
			if test.id == client.ID {
				reply.Tokens()
			} else {
				reply.Refused(http.StatusUnauthorized, "invalid_client")
			}
		})
	}
	t.Run("TK-57 an old secret beside the new one, then no more", func(t *testing.T) {
		rotated := s.Client(machine)
		old, next := s.Agent(t, rotated), s.Agent(t, rotated)
		next.Secret = oauth.NewSecret(oauth.SecretPrefix)
		s.Update(func(tx *store.Tx) error {
			return tx.ReplaceSecret(rotated.ID, oauth.Hash(next.Secret), tx.Now().Add(time.Hour))
		})
		mcp := servertest.With("resource", servertest.MCP)
		all := func(a *servertest.Agent) []*servertest.Reply {
			return []*servertest.Reply{a.ClientCredentials(mcp), a.Introspect("nothing"), a.Revoke("nothing")}
		}
		for _, agent := range []*servertest.Agent{old, next} {
			for _, reply := range all(agent) {
				status(t, reply, http.StatusOK)
			}
		}
		s.Clock.Advance(time.Hour)
		for _, reply := range all(old) {
			reply.Refused(http.StatusUnauthorized, "invalid_client")
		}
		for _, reply := range all(next) {
			status(t, reply, http.StatusOK)
		}
	})
	t.Run("TK-58 scopes that were not assigned", func(t *testing.T) {
		agent := s.Agent(t, client)
		tokens := agent.ClientCredentials(servertest.With("resource", servertest.MCP),
			servertest.With("scope", "weather mail unknown offline_access")).Tokens()
		if tokens.Scope != "weather" || tokens.Refresh != "" {
			t.Errorf("tokens are %+v, want the scope weather without a refresh token", tokens)
		}
		refused := agent.ClientCredentials(servertest.With("resource", servertest.MCP),
			servertest.With("scope", "mail unknown"))
		refused.Refused(http.StatusBadRequest, "invalid_scope")
		if !strings.Contains(refused.Text("error_description"), "weather mail") {
			t.Errorf("it does not say what there is: %s", refused.Body)
		}
		tokens = agent.ClientCredentials(servertest.With("resource", servertest.MCP),
			servertest.With("scope", "openid profile email offline_access")).Tokens()
		if tokens.Scope != "weather" {
			t.Errorf("a request for only common scopes got %q", tokens.Scope)
		}
	})
	t.Run("TK-18 client credentials of a public client", func(t *testing.T) {
		c := s.Client(func(c *oauth.Client) { c.GrantTypes = []oauth.GrantType{oauth.ClientCredentials} })
		s.Agent(t, c).ClientCredentials(servertest.With("resource", servertest.MCP)).
			Refused(http.StatusBadRequest, "unauthorized_client")
	})
}

func TestForms(t *testing.T) {
	s := open(t)
	client := s.Client()
	good := "grant_type=refresh_token&refresh_token=x&client_id=" + client.ID
	kind := func(value ...string) servertest.Tweak { return servertest.Header("Content-Type", value...) }
	for _, test := range []struct {
		name  string
		tweak []servertest.Tweak
		want  []int
	}{
		{"TK-49 JSON", []servertest.Tweak{kind("application/json"), servertest.Raw(`{"grant_type":"refresh_token"}`)},
			[]int{400, 415}},
		{"TK-49 multipart", []servertest.Tweak{kind("multipart/form-data; boundary=x")}, []int{400, 415}},
		{"TK-49 text", []servertest.Tweak{kind("text/plain")}, []int{400, 415}},
		{"TK-49 malformed", []servertest.Tweak{kind("application/x-www-form-urlencoded;;=")}, []int{400, 415}},
		{"TK-49 absent", []servertest.Tweak{kind("")}, []int{400, 415}},
		{"TK-49 UTF-16", []servertest.Tweak{kind("application/x-www-form-urlencoded; charset=utf-16")},
			[]int{400, 415}},
		{"TK-52 10,000 parameters", []servertest.Tweak{servertest.Raw(good + strings.Repeat("&a=", 10000))},
			[]int{400}},
		{"TK-52 semicolons", []servertest.Tweak{servertest.Raw(strings.ReplaceAll(good, "&", ";"))}, []int{400}},
		{"TK-52 broken escape", []servertest.Tweak{servertest.Raw(good + "&a=%zz")}, []int{400}},
		{"TK-52 not UTF-8", []servertest.Tweak{servertest.Raw(good + "&a=%ff")}, []int{400}},
		{"TK-52 NUL", []servertest.Tweak{servertest.Raw(good + "&a=%00")}, []int{400}},
		{"TK-53 gzip", []servertest.Tweak{servertest.Header("Content-Encoding", "gzip")}, []int{415}},
		{"TK-48 GET", []servertest.Tweak{servertest.Method(http.MethodGet)}, []int{405}},
		{"TK-48 PUT", []servertest.Tweak{servertest.Method(http.MethodPut)}, []int{405}},
		{"credentials in the query", []servertest.Tweak{func(r *servertest.Request) {
			r.URL += "?" + good
		}, servertest.Raw("a=b")}, []int{400, 401}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, path := range []string{"/oauth2/token", "/oauth2/revoke"} {
				values, _ := url.ParseQuery(good)
				reply := s.Agent(t, nil).Post(path, values, test.tweak...)
				found := false
				for _, want := range test.want {
					found = found || reply.Status == want
				}
				if !found || !strings.Contains(reply.Header.Get("Cache-Control"), "no-store") {
					t.Errorf("%s: status %d, want %v; Cache-Control %q", path, reply.Status, test.want,
						reply.Header.Get("Cache-Control"))
				}
			}
		})
	}
}

func TestLimit(t *testing.T) {
	s := open(t, func(c *config.Config) { c.Limits.Enabled = true })
	agent := s.Agent(t, s.Client())
	t.Run("TK-61 too many refusals", func(t *testing.T) {
		for range 1000 {
			reply := agent.Refresh("wrong")
			if reply.Status == http.StatusTooManyRequests {
				if reply.Header.Get("Retry-After") == "" || reply.Text("error") == "" {
					t.Errorf("the answer is %v %s, want Retry-After and an error", reply.Header, reply.Body)
				}
				return
			}
			reply.Refused(http.StatusBadRequest, "invalid_grant")
		}
		t.Error("never refused with 429")
	})
}
