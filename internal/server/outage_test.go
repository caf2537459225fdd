package server_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// impatient returns a DSN without the time that tests allow for a connection.
func impatient(t *testing.T, dsn string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Del("connect_timeout")
	u.RawQuery = query.Encode()
	return u.String()
}

// FL-09, FL-10: while the database is down or hangs, what needs no database is answered, tokens are refused for now
// with the time to wait, and all is well when it is back, without a restart.
func TestDatabaseOutage(t *testing.T) {
	for name, outage := range map[string]struct{ begin, end func(*storetest.Proxy) }{
		"down":  {(*storetest.Proxy).Cut, (*storetest.Proxy).Mend},
		"hangs": {(*storetest.Proxy).Stop, (*storetest.Proxy).Resume},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := storetest.NewProxy(t, impatient(t, storetest.New(t, storetest.Postgres)))
			clock := storetest.NewClock()
			s := servertest.New(t, storetest.Connect(t, proxy.DSN, clock), clock)
			s.MayFault = true
			s.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts")
			ada := s.User("ada@example.com")
			agent := s.Agent(t, s.Client(servertest.Confidential))
			tokens := agent.Connect(s.Browser(t), ada)
			list := servertest.Claims(t, tokens.Access).Status.List
			status := strings.TrimPrefix(list.URI, s.URL)
			public := []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration",
				"/.well-known/jwks", "/healthz", status}
			for _, path := range append(public, "/readyz") {
				if reply := agent.Get(path); reply.Status != http.StatusOK {
					t.Fatalf("before, %s: %d", path, reply.Status)
				}
			}

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
			outage.end(proxy)

			eventually(t, func() bool { return agent.Get("/readyz").Status == http.StatusOK })
			eventually(t, func() bool {
				reply := agent.Refresh(tokens.Refresh)
				return reply.Status == http.StatusOK
			})
		})
	}
}

// eventually waits until so returns true.
func eventually(t *testing.T, so func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(30 * time.Second); !so(); <-ticker.C {
		if time.Now().After(deadline) {
			t.Fatal("it did not come to be so")
		}
	}
}
