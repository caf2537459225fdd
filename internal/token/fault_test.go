package token_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// A node without a database connection responds with 503 only; another node accepts the same code and tokens as if
// nothing had happened.
func TestFaults(t *testing.T) {
	for _, engine := range []storetest.Engine{storetest.SQLite, storetest.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			dsn, clock := storetest.New(t, engine), storetest.NewClock()
			s := servertest.New(t, storetest.Connect(t, dsn, clock), clock)
			s.Resource(servertest.MCP, "*weather")
			client := s.Client(servertest.Confidential)
			cut := servertest.New(t, storetest.Connect(t, dsn, clock), clock,
				func(c *config.Config) { c.Issuer = s.URL })
			cut.MayFault = true
			ada, agent, away, browser := s.User("ada@example.com"), s.Agent(t, client), cut.Agent(t,
				client), s.Browser(t)
			tokens := agent.Connect(browser, ada)
			code := browser.Authorize(agent.Authorization()).Through(ada).Code()
			away.Verifier = agent.Verifier
			if !away.Active(tokens.Access) { // the second node knows client, resource and keys
				t.Fatal("not active at the second node")
			}
			if err := cut.DB.Close(); err != nil {
				t.Fatal(err)
			}

			for name, ask := range map[string]func() *servertest.Reply{
				"TK-62 code":          func() *servertest.Reply { return away.Exchange(code) },
				"TK-62 refresh":       func() *servertest.Reply { return away.Refresh(tokens.Refresh) },
				"IR-13 access token":  func() *servertest.Reply { return away.Introspect(tokens.Access) },
				"IR-13 refresh token": func() *servertest.Reply { return away.Introspect(tokens.Refresh) },
				"RV-06 access token":  func() *servertest.Reply { return away.Revoke(tokens.Access) },
				"RV-06 refresh token": func() *servertest.Reply { return away.Revoke(tokens.Refresh) },
				"TK-62 wrong client secret too": func() *servertest.Reply {
					return away.Refresh("x", basic(client.ID, "wrong"))
				},
			} {
				t.Run(name, func(t *testing.T) {
					reply := ask()
					status(t, reply, http.StatusServiceUnavailable)
					got := reply.Text("error")
					if got != "temporarily_unavailable" || strings.Contains(string(reply.Body), "active") {
						t.Errorf("the answer is %s, want temporarily_unavailable", reply.Body)
					}
				})
			}
			if !agent.Active(tokens.Access) || !agent.Active(tokens.Refresh) {
				t.Error("a fault ended the grant")
			}
			agent.Refresh(tokens.Refresh).Tokens()
			agent.Exchange(code).Tokens()
		})
	}
}

// TK-29, TK-30: all state of a token family is in the database.
func TestRestart(t *testing.T) {
	dsn, clock := storetest.New(t, storetest.SQLite), storetest.NewClock()
	s := servertest.New(t, storetest.Connect(t, dsn, clock), clock)
	s.Resource(servertest.MCP, "*weather")
	client, ada := s.Client(servertest.Confidential), s.User("ada@example.com")
	agent := s.Agent(t, client)
	first := agent.Connect(s.Browser(t), ada)
	second := agent.Refresh(first.Refresh).Tokens()
	if err := s.DB.Close(); err != nil {
		t.Fatal(err)
	}
	restarted := servertest.New(t, storetest.Connect(t, dsn, clock), clock, func(c *config.Config) {
		c.Issuer, c.Tokens.RefreshGrace = s.URL, 30*time.Second
	})
	agent = restarted.Agent(t, client)

	t.Run("TK-29 the lost response again", func(t *testing.T) {
		if again := agent.Refresh(first.Refresh).Tokens(); again.Refresh != second.Refresh {
			t.Error("the refresh token differs, want the same successor")
		}
	})
	t.Run("TK-30 the old token after the grace", func(t *testing.T) {
		clock.Advance(30 * time.Second)
		agent.Refresh(first.Refresh).Refused(http.StatusBadRequest, "invalid_grant")
		ended(t, agent, first, second)
	})
}

// Such a code is never issued; if one is in the database nevertheless, it is refused.
func TestCodeWithoutChallenge(t *testing.T) {
	s := open(t)
	for _, verifier := range []string{"", strings.Repeat("v", 43)} {
		t.Run("TK-14 verifier "+verifier, func(t *testing.T) {
			agent := s.Agent(t, s.Client(servertest.Confidential))
			grant := servertest.Claims(t, agent.Connect(s.browser, s.ada).Access)
			code := oauth.NewSecret(oauth.CodePrefix)
			s.Update(func(tx *store.Tx) error {
				return tx.CreateCode(&oauth.Code{Hash: oauth.Hash(code), GrantID: grant.GrantID(),
					RedirectURI: servertest.Callback, ExpiresAt: tx.Now().Add(time.Minute)})
			})
			agent.Exchange(code, servertest.With("code_verifier", verifier)).
				Refused(http.StatusBadRequest, "invalid_grant")
		})
	}
}
