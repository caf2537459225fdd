package store_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// A list of grants that are rare among many has short pages and loses none, and none is looked for among all grants.
func TestRareGrants(t *testing.T) {
	var mu sync.Mutex
	var statements []string
	store.Trace(func(query string, args []any) {
		mu.Lock()
		defer mu.Unlock()
		if strings.Contains(query, "FROM grants") {
			statements = append(statements, spelledOut(query, args))
		}
	})
	defer store.Trace(nil)
	for _, engine := range engines {
		t.Run(string(engine), func(t *testing.T) {
			dsn := storetest.New(t, engine)
			db := storetest.Connect(t, dsn, storetest.NewClock())
			handle := raw(t, dsn)
			const many = 24000
			now := db.Now().UnixMicro()
			// Half are of one person and another half of one client; every thousandth is not revoked.
			for _, statement := range []string{fmt.Sprintf(`
				WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
				INSERT INTO grants (id, client_id, user_id, resource_id, redirect_uri, scope, refreshable, secret,
					generation, amr, created_at, last_used_at, expires_at, ends_at, revoked_at, revoked_reason, method)
				SELECT 'grt_' || (100000 + i), CASE WHEN i < 12000 OR i %% 5000 = 0 THEN 'mcp_1' ELSE 'mcp_2' END,
					CASE WHEN i %% 2 = 0 THEN 'usr_1' ELSE 'usr_2' END, 'res_' || (i %% 3), '', '', 1, '', 1, '',
					%d + i / 3, %d, %d, %d,
					CASE WHEN i %% 1000 = 0 THEN NULL ELSE %d END, '', ''
					FROM n`, many, now, now, now+1e9, now+1e9, now), "ANALYZE"} {
				if _, err := handle.ExecContext(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
			for _, filter := range []store.GrantFilter{
				{}, {UserID: "usr_1"}, {ClientID: "mcp_1"}, {Live: true}, {Live: true, UserID: "usr_1"},
				{Live: true, UserID: "usr_2"}, {Live: true, ClientID: "mcp_2"}, {UserID: "usr_1", ClientID: "mcp_1"},
				{UserID: "usr_2", ClientID: "mcp_1", ResourceID: "res_1", Live: true},
				{ResourceID: "res_0", ClientID: "mcp_2"},
			} {
				var want []string
				for i := 1; i <= many; i++ {
					client, user := "mcp_2", "usr_2"
					if i < 12000 || i%5000 == 0 {
						client = "mcp_1"
					}
					if i%2 == 0 {
						user = "usr_1"
					}
					if (filter.ClientID == "" || filter.ClientID == client) &&
						(filter.UserID == "" || filter.UserID == user) &&
						(filter.ResourceID == "" || filter.ResourceID == fmt.Sprint("res_", i%3)) &&
						(!filter.Live || i%1000 == 0) {
						want = append(want, fmt.Sprint("grt_", 100000+i))
					}
				}
				for _, newest := range []bool{true, false} {
					mu.Lock()
					statements = nil
					mu.Unlock()
					var got []string
					pages := 0
					for page := (store.Page{Limit: 900, Newest: newest}); pages == 0 || page.After != ""; pages++ {
						var found []*store.GrantListing
						view(t, db, func(tx *store.Tx) (err error) {
							found, page.After, err = tx.Grants(filter, page)
							return err
						})
						for _, g := range found {
							got = append(got, g.ID)
						}
					}
					if newest {
						slices.Reverse(got)
					}
					if !slices.Equal(got, want) {
						t.Errorf("%+v, newest %v: %d grants on %d pages, want %d", filter, newest, len(got), pages,
							len(want))
					}
					mu.Lock()
					asked := slices.Clone(statements)
					mu.Unlock()
					if filter == (store.GrantFilter{}) || filter == (store.GrantFilter{Live: true}) {
						continue
					}
					explain := "EXPLAIN "
					if engine == storetest.SQLite {
						explain = "EXPLAIN QUERY PLAN "
					}
					plan := planOf(t, handle, explain+asked[0])
					if strings.Contains(plan, "grants_created") || strings.Contains(plan, "SCAN grants") {
						t.Errorf("%+v is looked for in all grants: %s\n%s", filter, asked[0], plan)
					}
				}
			}
		})
	}
}
