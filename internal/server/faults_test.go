package server_test

import (
	"math/rand/v2"
	"net/http"
	"runtime"
	"testing"

	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// FL-36: the database goes away at random moments, again and again. No agent loses its grant, whatever was under way,
// no code is redeemed twice, and nothing of it stays in the server.
func TestRandomFaults_FL36(t *testing.T) {
	proxy := storetest.NewProxy(t, storetest.New(t, storetest.Postgres))
	clock := storetest.NewClock()
	s := servertest.New(t, storetest.Connect(t, proxy.DSN, clock), clock)
	s.MayFault = true
	s.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts")
	agent, browser, ada := s.Agent(t, s.Client(servertest.Confidential)), s.Browser(t), s.User("ada@example.com")
	refresh := make([]string, 4)
	for i := range refresh {
		refresh[i] = agent.Connect(browser, ada).Refresh
	}
	ready := func() { eventually(t, func() bool { return agent.Get("/readyz").Status == http.StatusOK }) }
	ready()
	before := runtime.NumGoroutine()

	chance := rand.New(rand.NewPCG(36, 36)) //nolint:gosec // it has to be the same each time
	for range 12 {
		code := browser.Authorize(agent.Authorization()).Through(ada).Code()
		verifier := servertest.With("code_verifier", agent.Verifier)
		cut := chance.IntN(8) // after so many requests have begun
		replies := servertest.AtOnce(8, func(i int) *servertest.Reply {
			if i == cut {
				proxy.Cut()
			}
			if i < len(refresh) {
				return agent.Refresh(refresh[i])
			}
			return agent.Exchange(code, verifier)
		})
		proxy.Mend()
		redeemed := 0
		for i, reply := range replies {
			switch {
			case reply.Status == http.StatusOK && i < len(refresh):
				refresh[i] = reply.Tokens().Refresh
			case reply.Status == http.StatusOK:
				redeemed++
			case reply.Status == http.StatusServiceUnavailable && reply.Header.Get("Retry-After") != "":
			case reply.Status == http.StatusBadRequest && i >= len(refresh): // another was faster
			default:
				t.Errorf("request %d: %d %s", i, reply.Status, reply.Body)
			}
		}
		if redeemed > 1 {
			t.Errorf("a code was redeemed %d times", redeemed)
		}
		ready()
		for i := range refresh {
			refresh[i] = agent.Refresh(refresh[i]).Tokens().Refresh
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	eventually(t, func() bool { return runtime.NumGoroutine() <= before+20 })
}
