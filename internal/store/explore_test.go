package store_test

import (
	"database/sql"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
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
					INSERT INTO events (at, id, action, outcome, reason, description, client_id, user_id, grant_id,
							resource, scope, detail, request_id, address, user_agent)
					SELECT %d + i / 3, 'evt_' || (100000 + i),
						CASE WHEN i %% 5 = 0 THEN 'token.introspect' ELSE 'token.request' END,
						CASE WHEN i %% 2 = 0 THEN 'refused' ELSE 'allowed' END, '', '',
						CASE WHEN i %% 2000 IN (0, 1, 2) THEN 'mcp_rare' ELSE 'mcp_2' END, '', '',
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
				{Address: "192.0.2.1", Outcome: audit.Refused},
				{Address: "192.0.2.1", Outcome: audit.Refused, Action: "token.introspect"},
				{ClientID: "mcp_rare", Outcome: audit.Refused, Resource: "https://mcp.example.com"},
				{Outcome: audit.Allowed},
				{ClientID: "mcp_rare", Outcome: audit.Allowed, Resource: "https://mcp.example.com"},
				{ClientID: "mcp_rare", Action: "token.", Since: db.Now().Add(4 * time.Millisecond)},
			} {
				want := 0
				for i := 1; i <= log; i++ {
					at := db.Now().Add(time.Duration(i/3) * time.Microsecond)
					rare := i%2000 <= 2
					if (filter.Outcome == "" || (filter.Outcome == audit.Refused) == (i%2 == 0)) &&
						(filter.ClientID == "" || rare) &&
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
						t.Errorf("%+v, newest %v: %d events on %d pages, want %d", filter, newest,
							len(seen), pages, want)
					}
				}
			}
		})
	}
}

// manyEvents writes n events of the thirty days before now, of ten thousandth as many people and a thousandth as many
// clients, or more if there are many. $N is their number, and i counts up to it.
const manyEvents = `INSERT INTO events (at, id, action, outcome, reason, description, client_id, user_id, grant_id,
		resource, scope, detail,
		request_id, address, user_agent, actor_type, actor_id, actor_name)
	SELECT $T - ($N - i) * (2592000000000 / $N), 'evt_' || (1000000000 + i),
		CASE i % 100 WHEN 0 THEN 'login.sign_in' WHEN 1 THEN 'authorize.code'
			WHEN 2 THEN CASE WHEN i % 10000 = 2 THEN 'client.update' ELSE 'token.introspect' END
			ELSE 'token.request' END,
		CASE WHEN i % 50 = 7 THEN 'refused' WHEN i % 10000 = 9 THEN 'failed' ELSE 'allowed' END,
		CASE WHEN i % 50 = 7 THEN 'invalid_grant' ELSE '' END, '',
		'mcp_' || (i * 7919 % ($N / 10)), CASE WHEN i % 10 < 7 THEN 'usr_' || (i * 7919 % ($N / 100)) ELSE '' END,
		CASE WHEN i % 10 < 7 THEN 'grt_' || (i * 7919 % ($N / 10)) ELSE '' END,
		'https://r' || (i % 10) || '.example/mcp', 'mcp:tools:weather', '',
		'r' || (1000000000 + i), '192.0.' || (i * 31 % 251) || '.' || (i * 17 % 253), 'agent/1.0',
		CASE WHEN i % 10000 = 2 THEN 'command' ELSE 'client' END,
		CASE WHEN i % 10000 = 2 THEN 'ada' ELSE 'mcp_' || (i * 7919 % ($N / 10)) END, '' FROM n`

// large fills the log with n events and returns filters that each find some, by name, with the index that finds them.
func large(t testing.TB, dsn string, now time.Time, n int) map[string]store.EventFilter {
	t.Helper()
	handle := raw(t, dsn)
	insert := strings.NewReplacer("$T", strconv.FormatInt(now.UnixMicro(), 10), "$N", strconv.Itoa(n)).
		Replace(manyEvents)
	into, _, _ := strings.Cut(insert, " FROM n")
	for begin := 1; begin <= n; begin += 500000 { // each a transaction
		_, err := handle.ExecContext(t.Context(), fmt.Sprintf("WITH RECURSIVE n (i) AS (SELECT CAST(%d AS BIGINT) "+
			"UNION ALL SELECT i + 1 FROM n WHERE i < %d) %s FROM n",
			begin, min(begin+499999, n), into))
		if err != nil {
			t.Fatal(err)
		}
	}
	if !strings.HasPrefix(dsn, "sqlite:") { // a server of SQLite has no statistics
		if _, err := handle.ExecContext(t.Context(), "ANALYZE"); err != nil {
			t.Fatal(err)
		}
	}
	client := fmt.Sprint("mcp_", 7919*13%(n/10))
	return map[string]store.EventFilter{
		"events_client":                 {ClientID: client},
		"events_user":                   {UserID: fmt.Sprint("usr_", 7919*13%(n/100))},
		"events_grant":                  {GrantID: fmt.Sprint("grt_", 7919*13%(n/10))},
		"events_request":                {RequestID: fmt.Sprint("r", 1000000000+n/2)},
		"events_resource":               {Resource: "https://r3.example/mcp"},
		"events_address":                {Address: fmt.Sprint("192.0.", 31*13%251, ".", 17*13%253)},
		"events_actor":                  {Actor: "command:ada"},
		"events_refused":                {Outcome: audit.Refused},
		"events_failed":                 {Outcome: audit.Failed},
		"events_failed, and refused":    {Outcome: audit.Wrong},
		"events_failed, at a resource":  {Outcome: audit.Failed, Resource: "https://r9.example/mcp"},
		"events_action":                 {Action: "client."},
		"events_refused_client":         {ClientID: fmt.Sprint("mcp_", 7919*7%(n/10)), Outcome: audit.Refused},
		"events_refused_resource":       {Resource: "https://r7.example/mcp", Outcome: audit.Refused},
		"events_refused_address":        {Address: "192.0.217.119", Outcome: audit.Refused},
		"events_refused_user, nobody":   {UserID: "usr_1", Outcome: audit.Refused},
		"events_refused_grant, of none": {GrantID: "grt_1", Outcome: audit.Refused},
		"events_refused_, of a client at a resource": {ClientID: client, Outcome: audit.Refused,
			Resource: "https://r3.example/mcp"},
		"events_re, for what is rare": {Resource: "https://r2.example/mcp", Outcome: audit.Refused, Action: "token."},
		"events_action, and allowed":  {Action: "client.", Outcome: audit.Allowed},
		"events_actor, long ago": {Actor: "command:ada", Since: now.Add(-20 * 24 * time.Hour),
			Until: now.Add(-19 * 24 * time.Hour)},
	}
}

// Every filter is served by its index, and neither reads nor sorts more than a page may.
func TestEventIndexes(t *testing.T) {
	var mu sync.Mutex
	var statements []string
	store.Trace(func(query string, args []any) {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasPrefix(query, "SELECT at, id") || strings.HasPrefix(query, "SELECT COUNT(*), COALESCE(MIN(at)") {
			statements = append(statements, spelledOut(query, args))
		}
	})
	defer store.Trace(nil)
	for _, engine := range engines {
		t.Run(string(engine), func(t *testing.T) {
			dsn := storetest.New(t, engine)
			db := storetest.Connect(t, dsn, storetest.NewClock())
			handle := raw(t, dsn)
			for name, filter := range large(t, dsn, db.Now(), 100000) {
				mu.Lock()
				statements = nil
				mu.Unlock()
				view(t, db, func(tx *store.Tx) error {
					found, _, err := tx.Events(filter, store.Page{Limit: 50, Newest: true})
					if len(found) == 0 && strings.HasPrefix(name, "events_") && !strings.Contains(name, ",") {
						t.Errorf("%s: no event", name)
					}
					return err
				})
				mu.Lock()
				asked := slices.Clone(statements)
				mu.Unlock()
				index, _, _ := strings.Cut(name, ",")
				found := false
				for _, statement := range asked {
					explain := "EXPLAIN "
					if engine == storetest.SQLite {
						explain = "EXPLAIN QUERY PLAN "
					}
					plan := planOf(t, handle, explain+statement)
					// Where a page lies is found by the index; in that time there may be nothing else to skip.
					found = found || strings.Contains(plan, index)
					if strings.Contains(plan, "Seq Scan") || strings.Contains(plan, "SCAN events") {
						t.Errorf("%s: %s\n%s", name, statement, plan)
					}
				}
				if !found {
					t.Errorf("%s: the index is not used: %s", name, strings.Join(asked, "\n"))
				}
			}
		})
	}
}

func planOf(t testing.TB, handle *sql.DB, statement string) string {
	t.Helper()
	rows, err := handle.QueryContext(t.Context(), statement)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var plan strings.Builder
	for rows.Next() {
		cells := make([]any, len(columns))
		for i := range cells {
			cells[i] = new(any)
		}
		if err := rows.Scan(cells...); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&plan, *cells[len(cells)-1].(*any))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return plan.String()
}

// BenchmarkEvents measures a page of each filter and an overview, with as many events as CARDEA_EVENTS says.
func BenchmarkEvents(b *testing.B) {
	n, err := strconv.Atoi(os.Getenv("CARDEA_EVENTS"))
	if err != nil {
		n = 100000
	}
	for _, engine := range engines {
		dsn := storetest.New(b, engine)
		db := storetest.Connect(b, dsn, storetest.NewClock())
		began := time.Now()
		filters := large(b, dsn, db.Now(), n)
		filled := time.Now()
		if _, err := db.Tally(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.Logf("%s: %d events written in %s, tallied in %s", engine, n, filled.Sub(began).Round(time.Second),
			time.Since(filled).Round(time.Second))
		filters["all"] = store.EventFilter{}
		for _, name := range slices.Sorted(maps.Keys(filters)) {
			b.Run(string(engine)+"/"+name, func(b *testing.B) {
				for b.Loop() {
					if err := db.View(b.Context(), func(tx *store.Tx) error {
						_, _, err := tx.Events(filters[name], store.Page{Limit: 50, Newest: true})
						return err
					}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		b.Run(string(engine)+"/overview", func(b *testing.B) {
			for b.Loop() {
				if err := db.View(b.Context(), func(tx *store.Tx) error {
					since := db.Now().Add(-30 * 24 * time.Hour).Truncate(24 * time.Hour)
					if _, _, err := tx.Tallies(since, db.Now(), 12*time.Hour); err != nil {
						return err
					}
					_, err := tx.ActiveClients(since, db.Now(), 12*time.Hour)
					return err
				}); err != nil {
					b.Fatal(err)
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
			e := audit.TokenRequest("mcp_1", "refresh_token")
			if grant == "" {
				e = audit.SignIn("usr_1")
			} else if n == "reuse" {
				e = audit.Reuse("mcp_1", "usr_1", grant, "refresh_token")
			}
			e.GrantID = grant
			return e.With("n", n).Allow()
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
			"reuse": "sign code 0 1 … 28 29 reuse refused", "code": "sign code 0 1 2 3 4",
			"20": "sign code 0 1 … 18 19 20 21 22 23",
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
