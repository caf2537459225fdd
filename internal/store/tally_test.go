package store_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// What is tallied by several nodes, and what is not tallied yet, add up to what there is.
func TestTally(t *testing.T) {
	for _, engine := range engines {
		t.Run(string(engine), func(t *testing.T) {
			dsn, clock := storetest.New(t, engine), storetest.NewClock()
			db, another := storetest.Connect(t, dsn, clock), storetest.Connect(t, dsn, clock)
			issued := func(client string) audit.Event {
				return audit.TokenRequest(client, "client_credentials").Allow()
			}
			begin := storetest.Start.Truncate(24 * time.Hour)
			record := func(at time.Time, events ...audit.Event) {
				t.Helper()
				clock.Set(at)
				if err := db.Append(t.Context(), events...); err != nil {
					t.Fatal(err)
				}
			}
			tally := func() {
				var wg sync.WaitGroup
				for _, node := range []*store.DB{db, another, db, another} {
					wg.Go(func() {
						if _, err := node.Tally(t.Context()); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
			}
			check := func(step time.Duration, want []string, agents map[int]int64) {
				t.Helper()
				view(t, db, func(tx *store.Tx) error {
					counts, complete, err := tx.Tallies(begin, begin.Add(48*time.Hour), step)
					sum := map[string]int64{}
					for _, c := range counts {
						sum[fmt.Sprintf("%d %s %s %s", c.Part, c.Action, c.Outcome, c.Reason)] += c.N
					}
					var got []string
					for kind, n := range sum {
						got = append(got, fmt.Sprint(kind, " ", n))
					}
					slices.Sort(got)
					if diff := cmp.Diff(want, got); diff != "" {
						t.Error(diff)
					}
					if !complete.Equal(clock.Now()) {
						t.Errorf("complete until %v, want now", complete)
					}
					if err != nil {
						return err
					}
					active, err := tx.ActiveClients(begin, begin.Add(48*time.Hour), step)
					if diff := cmp.Diff(agents, active); diff != "" {
						t.Error(diff)
					}
					return err
				})
			}
			refused := audit.TokenRequest("mcp_1", "refresh_token").Refuse("invalid_grant", "over")
			first := slices.Repeat([]audit.Event{issued("mcp_1"), issued("mcp_2"), refused}, 1500)
			record(begin.Add(90*time.Minute), first...)
			record(begin.Add(150*time.Minute), issued("mcp_2"), issued("mcp_3"))
			hours := []string{"1 token.request allowed  3000", "1 token.request refused invalid_grant 1500",
				"2 token.request allowed  2"}
			check(time.Hour, hours, map[int]int64{1: 2, 2: 2}) // before anything is tallied
			tally()
			check(time.Hour, hours, map[int]int64{1: 2, 2: 2})
			clock.Advance(time.Hour)
			tally()
			check(time.Hour, hours, map[int]int64{1: 2, 2: 2})
			days := []string{"0 token.request allowed  3002", "0 token.request refused invalid_grant 1500"}
			check(24*time.Hour, days, map[int]int64{0: 3})
			record(begin.Add(30*time.Hour), issued("mcp_1"), audit.SignIn("usr_1").Allow())
			days = append(days, "1 login.sign_in allowed  1", "1 token.request allowed  1")
			check(24*time.Hour, days, map[int]int64{0: 3, 1: 1})
			clock.Advance(time.Hour)
			tally()
			check(24*time.Hour, days, map[int]int64{0: 3, 1: 1})
			if n, err := db.Tally(t.Context()); n != 0 || err != nil {
				t.Errorf("Tally = %d, %v when all is counted", n, err)
			}
		})
	}
}
