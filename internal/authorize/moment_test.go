package authorize_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// A decision is refused if its session ends while it is being processed, whenever that happens.
func TestSessionThatEndsMeanwhile(t *testing.T) {
	for _, engine := range []storetest.Engine{storetest.SQLite, storetest.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			const idle = 10 * time.Minute
			clock, looks := storetest.NewClock(), new(atomic.Int64)
			db, err := store.Open(t.Context(), storetest.New(t, engine), store.Options{Clock: func() time.Time {
				if looks.Add(-1) == 0 {
					clock.Advance(idle)
				}
				return clock.Now()
			}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			s := servertest.New(t, db, clock, func(c *config.Config) { c.Login.IdleTTL = idle })
			s.Resource(servertest.MCP, "*mcp:tools:weather")
			ada := s.User("ada@example.com")
			agent := s.Agent(t, s.Client())
			codes, signIns := 0, 0
			for look := range int64(12) { // the session ends after this reading of the clock
				page := s.Browser(t).Authorize(agent.Authorization(consentAnew)).SignIn(ada)
				over := clock.Now().Add(idle)
				form := page.Form("decision")
				looks.Store(look + 1)
				answer := page.Submit(form, servertest.With("decision", "allow"))
				looks.Store(0)
				if answer.Location == "" {
					signIns++
					continue
				}
				codes++
				answer.Code()
				err := db.View(t.Context(), func(tx *store.Tx) error {
					grants, _, err := tx.Grants(store.GrantFilter{UserID: ada.ID}, store.Page{Limit: 1, Newest: true})
					if err == nil && !grants[0].CreatedAt.Before(over) {
						t.Errorf("look %d: a grant of %v by a session that ended at %v", look,
							grants[0].CreatedAt, over)
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			if codes == 0 || signIns < 3 {
				t.Errorf("%d codes and %d sign-in pages: the test proves nothing", codes, signIns)
			}
		})
	}
}
