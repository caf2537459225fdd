package authorize_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// CN-20 with concurrent decisions on both databases: one decision counts, and the same decision again gets the same
// response.
func TestOneAnswerCounts(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock)
		s.Resource(servertest.MCP, "*mcp:tools:weather")
		ada := s.User("ada@example.com")
		agent, browser := s.Agent(t, s.Client()), s.Browser(t)
		browser.Get("/login").SignIn(ada)

		const rounds, racers = 20, 16
		for range rounds {
			page := browser.Authorize(agent.Authorization(servertest.With("prompt", "consent")))
			form := page.Form("decision")
			answers := atOnce(racers, func(i int) *servertest.Page {
				return page.Submit(form, servertest.With("decision", []string{"allow", "deny"}[i%2]))
			})
			heard := map[string]int{}
			for _, answer := range answers {
				if answer.Location == "" {
					answer.ErrorPage(http.StatusBadRequest)
				}
				heard[answer.Location]++
			}
			if len(heard) != 2 || heard[""] != racers/2 {
				t.Errorf("CN-20 answers by where they lead: %v", heard)
			}
		}
		codes, events := len(s.Events("authorize.code")), len(s.Events("authorize.consent"))
		if codes > rounds || events < rounds {
			t.Errorf("%d codes and %d decisions were recorded for %d requests", codes, events, rounds)
		}
	})
}

// D18: an expired code is replaced by exactly one other code, however many concurrent requests there are.
func TestAnotherCodeAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock)
		s.Resource(servertest.MCP, "*mcp:tools:weather")
		ada := s.User("ada@example.com")
		agent, browser := s.Agent(t, s.Client()), s.Browser(t)
		browser.Get("/login").SignIn(ada)
		for range 10 {
			page := browser.Authorize(agent.Authorization(servertest.With("prompt", "consent")))
			form := page.Form("decision")
			allow := func(int) *servertest.Page { return page.Submit(form, servertest.With("decision", "allow")) }
			first := allow(0).Code()
			s.Clock.Advance(61 * time.Second)
			codes := map[string]int{}
			for _, answer := range atOnce(16, allow) {
				codes[answer.Code()]++
			}
			if len(codes) != 1 || codes[first] > 0 {
				t.Fatalf("codes by how often they were sent: %v", codes)
			}
			for code := range codes {
				agent.Exchange(code).Tokens()
			}
		}
	})
}

// atOnce runs n calls concurrently and returns their results.
func atOnce(n int, do func(i int) *servertest.Page) []*servertest.Page {
	pages := make([]*servertest.Page, n)
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for i := range pages {
		wg.Go(func() {
			<-begin
			pages[i] = do(i)
		})
	}
	close(begin)
	wg.Wait()
	return pages
}
