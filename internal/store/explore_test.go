package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// A filter whose events are rare among those of each of its conditions has short pages, and loses none.
func TestRareEvents(t *testing.T) {
	for _, engine := range engines {
		t.Run(string(engine), func(t *testing.T) {
			dsn := storetest.New(t, engine)
			db := storetest.Connect(t, dsn, storetest.NewClock())
			handle := raw(t, dsn)
			const log = 24000
			for _, statement := range []string{
				fmt.Sprintf(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
					INSERT INTO events (at, id, action, outcome, reason, description, client_id, user_id, grant_id, resource, scope, detail, request_id, address, user_agent)
					SELECT %d + i / 3, 'evt_' || (100000 + i), CASE WHEN i %% 5 = 0 THEN 'token.introspect' ELSE 'token.request' END,
						CASE WHEN i %% 2 = 0 THEN 'refused' ELSE 'allowed' END, '', '', CASE WHEN i %% 2000 IN (0, 1, 2) THEN 'mcp_rare' ELSE 'mcp_2' END, '', '',
						'https://mcp.example.com', '', '', '', '192.0.2.1', '' FROM n`, log, db.Now().UnixMicro()),
				"ANALYZE",
			} {
				if _, err := handle.ExecContext(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
			for _, filter := range []store.EventFilter{
				{Address: "192.0.2.1", Outcome: audit.Allowed, Action: "token.introspect"},
				{Resource: "https://mcp.example.com", Outcome: audit.Refused, Address: "192.0.2.1"},
				{Outcome: audit.Allowed},
				{ClientID: "mcp_rare", Outcome: audit.Allowed, Resource: "https://mcp.example.com"},
				{ClientID: "mcp_rare", Action: "token.", Since: db.Now().Add(4 * time.Millisecond)},
			} {
				want := 0
				for i := 1; i <= log; i++ {
					at := db.Now().Add(time.Duration(i/3) * time.Microsecond)
					rare := i%2000 <= 2
					if (filter.Outcome == "" || (filter.Outcome == audit.Refused) == (i%2 == 0)) && (filter.ClientID == "" || rare) &&
						(!strings.HasSuffix(filter.Action, "introspect") || i%5 == 0) && !at.Before(filter.Since) {
						want++
					}
				}
				for _, newest := range []bool{true, false} {
					seen, pages := map[string]bool{}, 0
					for page := (store.Page{Limit: 700, Newest: newest}); pages == 0 || page.After != ""; pages++ {
						var found []audit.Event
						view(t, db, func(tx *store.Tx) (err error) {
							found, page.After, err = tx.Events(filter, page)
							return err
						})
						if !slices.IsSortedFunc(found, func(a, b audit.Event) int {
							if newest {
								a, b = b, a
							}
							return a.At.Compare(b.At)
						}) {
							t.Error("a page is not in order")
						}
						for _, e := range found {
							if seen[e.ID] {
								t.Fatalf("%+v: %s comes twice", filter, e.ID)
							}
							seen[e.ID] = true
						}
					}
					if len(seen) != want {
						t.Errorf("%+v, newest %v: %d events on %d pages, want %d", filter, newest, len(seen), pages, want)
					}
				}
			}
		})
	}
}

// The flow of an event is its grant and the requests that made and used it.
func TestFlow(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		record := func(request string, events ...audit.Event) {
			t.Helper()
			clock.Advance(time.Minute)
			if err := db.Append(audit.WithRequest(t.Context(), audit.Request{ID: request}), events...); err != nil {
				t.Fatal(err)
			}
		}
		of := func(grant, n string) audit.Event {
			e := audit.TokenRequest("mcp_1", "refresh_token").With("n", n).Allow()
			e.GrantID = grant
			return e
		}
		record("r1", of("", "sign"), of("grt_1", "code"))
		for i := range 30 {
			record(fmt.Sprint("u", i), of("grt_1", fmt.Sprint(i)), of("grt_2", "other"))
		}
		record("r2", of("grt_1", "reuse"), of("", "refused"))
		record("r3", of("", "alone"))
		record("", of("", "without request"))

		find := func(n string) (found audit.Event) {
			for _, e := range events(t, db, store.EventFilter{}) {
				if e.Detail["n"] == n {
					found = e
				}
			}
			return found
		}
		flow := func(n string, page store.Page) (told string, next string) {
			view(t, db, func(tx *store.Tx) error {
				e, err := tx.Event(find(n).ID)
				if err != nil {
					return err
				}
				f, err := tx.Flow(e, page)
				var words []string
				for i, e := range f.Events {
					if f.Gap > 0 && i == f.Gap {
						words = append(words, "…")
					}
					if e.Detail["n"] != "other" {
						words = append(words, e.Detail["n"])
					}
				}
				told, next = strings.Join(words, " "), f.Next
				return err
			})
			return told, next
		}
		for n, want := range map[string]string{
			"without request": "without request", "alone": "alone", "refused": "sign code 0 1 … 29 reuse refused",
			"reuse": "sign code 0 1 … 28 29 reuse refused", "code": "sign code 0 1 2 3 4", "20": "sign code 0 1 … 18 19 20 21 22 23",
		} {
			if got, _ := flow(n, store.Page{Limit: 6}); got != want {
				t.Errorf("%s: %q, want %q", n, got, want)
			}
		}
		_, next := flow("20", store.Page{Limit: 6})
		if got, _ := flow("20", store.Page{Limit: 6, After: next}); got != "24 25 26 27 28 29" {
			t.Errorf("the next page: %q", got)
		}
		for _, id := range []string{"evt_another", "", "evt_", oauth.NewID("evt_"), "evt_' OR 1=1"} {
			err := db.View(t.Context(), func(tx *store.Tx) error {
				_, err := tx.Event(id)
				return err
			})
			if err != store.ErrNotFound {
				t.Errorf("event %q: %v", id, err)
			}
		}
	})
}
