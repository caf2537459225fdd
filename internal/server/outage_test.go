package server_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// FL-09, FL-10: while the database is down or hangs, what needs no database is answered, tokens are refused for now
// with the time to wait, and all is well when it is back, without a restart.
func TestDatabaseOutage(t *testing.T) {
	for name, outage := range map[string]struct{ begin, end func(*storetest.Proxy) }{
		"down":  {(*storetest.Proxy).Cut, (*storetest.Proxy).Mend},
		"hangs": {(*storetest.Proxy).Stop, (*storetest.Proxy).Resume},
	} {
		t.Run(name, func(t *testing.T) {
			// All is prepared at a server that waits for its database as long as a busy machine makes it wait.
			dsn, clock := storetest.New(t, storetest.Postgres), storetest.NewClock()
			patient := servertest.New(t, storetest.Connect(t, dsn, clock), clock)
			patient.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts")
			ada := patient.User("ada@example.com")
			agent := patient.Agent(t, patient.Client(servertest.Confidential))
			tokens := agent.Connect(patient.Browser(t), ada)
			proxy := storetest.NewProxy(t, storetest.Impatient(t, dsn))
			s := servertest.New(t, storetest.Connect(t, proxy.DSN, clock), clock,
				func(c *config.Config) { c.Issuer = patient.URL })
			s.MayFault = true
			asked := kinds(t, patient, s, ada)
			agent = agent.At(s)
			list := servertest.Claims(t, tokens.Access).Status.List
			status := strings.TrimPrefix(list.URI, patient.URL)
			public := []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration",
				"/.well-known/jwks", "/healthz", status}
			for _, path := range append(public, "/readyz") {
				eventually(t, func() bool { return agent.Get(path).Status == http.StatusOK })
			}
			// The client and the resource are in memory.
			eventually(t, func() bool { return agent.Introspect(tokens.Access).Status == http.StatusOK })
			authorization := "/oauth2/authorize?" + agent.Authorization().Encode()
			eventually(t, func() bool { return agent.Get(authorization).Status < http.StatusInternalServerError })

			outage.begin(proxy)
			if reply := agent.Refresh(tokens.Refresh); reply.Status != http.StatusServiceUnavailable ||
				reply.Header.Get("Retry-After") == "" ||
				!strings.Contains(string(reply.Body), "temporarily_unavailable") {
				t.Errorf("a token: %d %q %s", reply.Status, reply.Header.Get("Retry-After"), reply.Body)
			}
			for _, path := range public {
				if reply := agent.Get(path); reply.Status != http.StatusOK {
					t.Errorf("%s: %d %s", path, reply.Status, reply.Body)
				}
			}
			if reply := agent.Get("/readyz"); reply.Status != http.StatusServiceUnavailable ||
				!strings.Contains(string(reply.Body), "the database does not answer") ||
				reply.Header.Get("Retry-After") == "" {
				t.Errorf("readyz: %d %s", reply.Status, reply.Body)
			}
			names := slices.Sorted(maps.Keys(asked))
			replies := servertest.AtOnce(len(names), func(i int) *servertest.Reply { return asked[names[i]]() })
			for i, reply := range replies {
				if reply.Status != http.StatusServiceUnavailable || reply.Header.Get("Retry-After") == "" {
					t.Errorf("%s: %d, Retry-After %q, Location %q: %.200s", names[i], reply.Status,
						reply.Header.Get("Retry-After"), reply.Header.Get("Location"), reply.Body)
				}
			}
			outage.end(proxy)

			eventually(t, func() bool { return agent.Get("/readyz").Status == http.StatusOK })
			eventually(t, func() bool {
				reply := agent.Refresh(tokens.Refresh)
				return reply.Status == http.StatusOK
			})
		})
	}
}

// kinds returns a request to the server at of each kind that needs the database, from one that may: an agent, a person,
// an operator. None of them was sent. They are prepared at s, a server of the same issuer.
func kinds(t *testing.T, s, at *servertest.Server, p *servertest.Person) map[string]func() *servertest.Reply {
	t.Helper()
	type reply = *servertest.Reply
	role(t, s, p, identity.Owner)
	agent, stranger := s.Agent(t, s.Client(servertest.Confidential)), at.Agent(t, nil)
	browser, other := s.Browser(t), s.Browser(t)
	tokens := agent.Connect(browser, p)
	code := browser.Authorize(agent.Authorization()).Through(p).Code()
	verifier, there := agent.Verifier, agent.At(at)
	consent := browser.Authorize(agent.Authorization(servertest.With("prompt", "consent")))
	signIn := other.Get("/login")
	operator := s.Agent(t, s.Client())
	operator.Resource = s.URL + admin.APIPath
	api := operator.Connect(browser, p, servertest.With("scope", "cardea:users:read"))
	registered := s.Agent(t, nil)
	registered.Register(servertest.Metadata(nil))
	cookies := func(b *servertest.Browser) servertest.Tweak {
		var all []string
		for name, value := range b.Cookies() {
			all = append(all, name+"="+value)
		}
		return servertest.Header("Cookie", strings.Join(all, "; "))
	}
	form := func(path string, f *servertest.Form, b *servertest.Browser, tweaks ...servertest.Tweak) func() reply {
		values := f.Values()
		return func() reply { return stranger.Post(path, values, append(tweaks, cookies(b))...) }
	}
	page := func(path string) func() reply {
		return func() reply { return stranger.Get(path, cookies(browser)) }
	}
	return map[string]func() reply{
		"an authorization": page("/oauth2/authorize?" + agent.Authorization().Encode()),
		"the consent page": page(strings.TrimPrefix(consent.URL, s.URL)),
		"a consent":        form("/consent", consent.Form("decision"), browser, servertest.With("decision", "allow")),
		"a code":           func() reply { return there.Exchange(code, servertest.With("code_verifier", verifier)) },
		"a refresh":        func() reply { return there.Refresh(tokens.Refresh) },
		"an introspection": func() reply { return there.Introspect(tokens.Access) },
		"a revocation":     func() reply { return there.Revoke(tokens.Refresh) },
		"a registration":   func() reply { return stranger.Register(servertest.Metadata(nil)) },
		"a registered one": func() reply { return registered.At(at).Registration(http.MethodGet, nil) },
		"the sign-in page": func() reply { return stranger.Get("/login", cookies(browser)) },
		"a sign-in": form("/login", signIn.Form("password"), other, servertest.With("email", p.Email),
			servertest.With("password", p.Password)),
		"the account":   page("/account"),
		"the console":   page("/admin/people"),
		"the Admin API": func() reply { return stranger.Get("/admin/api/v1/users", servertest.Bearer(api.Access)) },
		"administration by an agent": func() reply {
			return stranger.Post("/admin/mcp", nil, servertest.Bearer(api.Access),
				servertest.Raw(`{"jsonrpc":"2.0","id":1,"method":"ping"}`),
				servertest.Header("Content-Type", "application/json"))
		},
	}
}

// eventually waits until so returns true. What fails at a certificate authority is tried again after a minute.
func eventually(t *testing.T, so func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(3 * time.Minute); !so(); <-ticker.C {
		if time.Now().After(deadline) {
			t.Fatal("it did not come to be so")
		}
	}
}
