package token_test

import (
	"net/http"
	"testing"

	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// FL-29: many agents refresh at the same moment, at two nodes. One that is told to come back later keeps its grant: the
// same refresh token is good then. No grant is lost.
func TestRefreshTogether_FL29(t *testing.T) {
	for _, engine := range []storetest.Engine{storetest.SQLite, storetest.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			w := start(t, engine, 0)
			w.s.MayFault = true // a node that has too much to do says so with 503
			families := make([]servertest.Tokens, 40)
			for i := range families {
				families[i] = w.connect()
			}
			for range 2 {
				replies := servertest.AtOnce(len(families), func(i int) *servertest.Reply {
					return w.nodes[i%2].Refresh(families[i].Refresh)
				})
				for i, reply := range replies {
					for again := 0; reply.Status == http.StatusServiceUnavailable && again < 10; again++ {
						if reply.Header.Get("Retry-After") == "" {
							t.Errorf("503 without Retry-After: %s", reply.Body)
						}
						reply = w.nodes[i%2].Refresh(families[i].Refresh)
					}
					if reply.Status != http.StatusOK {
						t.Fatalf("family %d is lost: %d %s", i, reply.Status, reply.Body)
					}
					families[i] = reply.Tokens()
				}
			}
			for i, tokens := range families {
				if !w.nodes[i%2].Active(tokens.Access) {
					t.Errorf("the newest access token of family %d is not active", i)
				}
			}
		})
	}
}
