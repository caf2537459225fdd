package authorize_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// CN-20 with everybody at once: one answer to a request counts, on both
// databases.
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
			answers := make([]*servertest.Page, racers)
			begin := make(chan struct{})
			var wg sync.WaitGroup
			for i := range racers {
				decision := servertest.With("decision", "allow")
				if i%2 == 1 {
					decision = servertest.With("decision", "deny")
				}
				wg.Go(func() {
					<-begin
					answers[i] = page.Submit(form, decision)
				})
			}
			close(begin)
			wg.Wait()

			counted := 0
			for _, answer := range answers {
				if answer.Location == "" {
					answer.ErrorPage(http.StatusBadRequest)
					continue
				}
				counted++
				if strings.Contains(answer.Location, "code=") {
					answer.Code()
				} else {
					answer.Refused("access_denied")
				}
			}
			if counted != 1 {
				t.Errorf("CN-20 %d of %d answers counted", counted, racers)
			}
		}
	})
}
