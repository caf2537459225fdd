package store_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// The clients that are bound to a resource are those whose Resources have it, however they came to be and changed.
func TestClientsOfResource(t *testing.T) {
	const weather, mail = "https://mcp.example.com/mcp", "https://mail.example.com/mcp"
	for _, engine := range engines {
		t.Run(string(engine), func(t *testing.T) {
			dsn := storetest.New(t, engine)
			db := storetest.Connect(t, dsn, storetest.NewClock())
			clients := make([]*oauth.Client, 6)
			update(t, db, func(tx *store.Tx) error {
				for i := range clients {
					c := &oauth.Client{ID: fmt.Sprint("mcp_", i), Origin: oauth.ByOperator,
						CreatedAt: tx.Now().Add(time.Duration(i/2) * time.Second), Resources: []string{mail, weather}}
					if i == 1 {
						c.Origin = oauth.ByDocument
					}
					if i == 2 {
						c.Resources = nil
					}
					clients[i] = c
					if err := tx.CreateClient(c, ""); err != nil {
						return err
					}
				}
				return nil
			})
			check := func(what string, filter store.ClientFilter, want ...string) {
				t.Helper()
				var got []string
				for page := (store.Page{Limit: 2, Newest: true}); ; {
					var found []*oauth.Client
					view(t, db, func(tx *store.Tx) (err error) {
						found, page.After, err = tx.Clients(filter, page)
						return err
					})
					for _, c := range found {
						got = append(got, strings.TrimPrefix(c.ID, "mcp_"))
					}
					if page.After == "" {
						break
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s: %v, want %v", what, got, want)
				}
			}
			check("new", store.ClientFilter{Resource: weather}, "5", "4", "3", "1", "0")
			check("of operators", store.ClientFilter{Resource: weather, Origin: oauth.ByOperator}, "5", "4", "3", "0")
			update(t, db, func(tx *store.Tx) error {
				clients[2].Resources, clients[3].Resources = []string{weather}, []string{mail}
				for _, c := range clients[2:4] {
					if err := tx.UpdateClient(c); err != nil {
						return err
					}
				}
				return tx.DeleteClient("mcp_4")
			})
			check("changed", store.ClientFilter{Resource: weather}, "5", "2", "1", "0")
			check("changed", store.ClientFilter{Resource: mail}, "5", "3", "1", "0")

			// The migration finds the same in what an earlier version stored.
			text, err := os.ReadFile("migrations/0065_filters.sql")
			if err != nil {
				t.Fatal(err)
			}
			_, fill, _ := strings.Cut(string(text), "INSERT INTO client_resources")
			fill, _, _ = strings.Cut(fill, ";")
			for _, statement := range []string{"DELETE FROM client_resources", "INSERT INTO client_resources" + fill} {
				if _, err := raw(t, dsn).ExecContext(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
			check("filled", store.ClientFilter{Resource: weather}, "5", "2", "1", "0")
			check("filled", store.ClientFilter{Resource: mail}, "5", "3", "1", "0")
		})
	}
}

// A program of the previous release, beside this one, makes and changes clients without what they are found by. Sweep
// adds it, also for a client that this program has changed since, and changes nothing after that.
func TestFoundAfterPreviousRelease(t *testing.T) {
	const weather, mail = "https://mcp.example.com/mcp", "https://mail.example.com/mcp"
	for _, engine := range engines {
		t.Run(string(engine), func(t *testing.T) {
			dsn := storetest.New(t, engine)
			db := storetest.Connect(t, dsn, storetest.NewClock())
			update(t, db, func(tx *store.Tx) error {
				for _, id := range []string{"mcp_made", "mcp_changed", "mcp_here"} {
					if err := tx.CreateClient(&oauth.Client{ID: id, Origin: oauth.ByOperator, CreatedAt: tx.Now(),
						Metadata: oauth.Metadata{Name: "Ada"}, Resources: []string{weather}}, ""); err != nil {
						return err
					}
				}
				return nil
			})
			const changed = `UPDATE clients SET metadata = '{"client_name":"Bob"}', resources = '` + mail +
				`', version = version + 1 WHERE id = 'mcp_changed'`
			for _, statement := range []string{
				"DELETE FROM client_names WHERE client_id = 'mcp_made'",
				"DELETE FROM client_resources WHERE client_id = 'mcp_made'",
				"UPDATE clients SET found_version = 0 WHERE id = 'mcp_made'", // as it is if nobody sets it
				changed,
			} {
				if _, err := raw(t, dsn).ExecContext(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
			update(t, db, func(tx *store.Tx) error { return tx.DisableClient("mcp_changed") })
			found := func(filter store.ClientFilter, begins string) (ids []string) {
				view(t, db, func(tx *store.Tx) error {
					clients, _, err := tx.Clients(filter, store.Page{Begins: begins})
					for _, c := range clients {
						ids = append(ids, strings.TrimPrefix(c.ID, "mcp_"))
					}
					return err
				})
				slices.Sort(ids)
				return ids
			}
			for range 2 {
				if _, err := db.Sweep(t.Context()); err != nil {
					t.Fatal(err)
				}
				same(t, []string{"here", "made"}, found(store.ClientFilter{Resource: weather}, ""))
				same(t, []string{"changed"}, found(store.ClientFilter{Resource: mail}, ""))
				same(t, []string{"here", "made"}, found(store.ClientFilter{}, "ada"))
				same(t, []string{"changed"}, found(store.ClientFilter{}, "bob"))
				same(t, []string{"made"}, found(store.ClientFilter{}, "mcp_m"))
			}
			var behind int
			if err := raw(t, dsn).QueryRowContext(t.Context(),
				"SELECT COUNT(*) FROM clients WHERE found_version <> version").Scan(&behind); err != nil || behind > 0 {
				t.Errorf("%d clients are looked at again, %v", behind, err)
			}
		})
	}
}
