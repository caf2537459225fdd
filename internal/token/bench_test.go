package token_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// processor returns the processor time that this process has used.
func processor(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkEndpoint measures the most frequent requests of agents and resources over HTTP, including the processor time
// of the client.
func BenchmarkEndpoint(b *testing.B) {
	for _, engine := range []storetest.Engine{storetest.SQLite, storetest.Postgres} {
		db, clock := storetest.Open(b, engine)
		s := servertest.New(b, db, clock)
		s.Resource(servertest.MCP, "*weather", "mail")
		machine := func(c *oauth.Client) {
			c.Method, c.GrantTypes = oauth.MethodBasic, append(c.GrantTypes, oauth.ClientCredentials)
		}
		agent, ada, browser := s.Agent(b, s.Client(machine)), s.User("ada@example.com"), s.Browser(b)
		asker := s.Agent(b, s.Client(servertest.Confidential, servertest.ResourceServer(servertest.MCP)))
		tokens, own := agent.Connect(browser, ada), agent.ClientCredentials().Tokens()
		for name, request := range map[string]func(){
			"refresh":            func() { tokens = agent.Refresh(tokens.Refresh).Tokens() },
			"client credentials": func() { agent.ClientCredentials().Tokens() },
			"introspection":      func() { asker.Introspect(tokens.Access).JSON() },
			"of an own token":    func() { asker.Introspect(own.Access).JSON() },
		} {
			b.Run(string(engine)+"/"+name, func(b *testing.B) {
				before := processor(b)
				for b.Loop() {
					request()
				}
				b.ReportMetric(float64((processor(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
			})
		}
	}
}
