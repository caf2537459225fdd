package server_test

import (
	"sync"
	"testing"

	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// A whole server works behind PgBouncer with transaction pooling, without being told.
func TestBehindPgBouncer(t *testing.T) {
	db, clock := storetest.Open(t, storetest.PgBouncer)
	s := servertest.New(t, db, clock)
	s.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts")
	ada := s.User("ada@example.com")
	public, confidential := s.Client(), s.Client(servertest.Confidential, servertest.ResourceServer(servertest.MCP))
	var wg sync.WaitGroup
	for range 8 { // more than PgBouncer has sessions
		wg.Go(func() {
			agent, machine := s.Agent(t, public), s.Agent(t, confidential)
			tokens := agent.Connect(s.Browser(t), ada)
			tokens = agent.Refresh(tokens.Refresh).Tokens()
			if !machine.Active(tokens.Access) {
				t.Error("the token is not active")
			}
			agent.Revoke(tokens.Refresh)
			if machine.Active(tokens.Access) {
				t.Error("the token is active after its revocation")
			}
		})
	}
	wg.Wait()
}
