package store_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// beginning returns the ids of all that list has under a beginning, on pages of two.
func beginning[T any](
	t *testing.T, db *store.DB, begins string, list func(*store.Tx, store.Page) ([]T, string, error), id func(T) string,
) (ids []string) {
	t.Helper()
	for page := (store.Page{Limit: 2, Begins: begins}); ; {
		var found []T
		view(t, db, func(tx *store.Tx) (err error) {
			found, page.After, err = list(tx, page)
			return err
		})
		for _, one := range found {
			ids = append(ids, id(one))
		}
		if page.After == "" {
			return ids
		}
	}
}

// What has a name that begins with a text is found, in whatever case and on pages, once each, and in the order of the
// names.
func TestBegins(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, _ *storetest.Clock) {
		clientsOf := func(origin oauth.Origin) func(*store.Tx, store.Page) ([]*oauth.Client, string, error) {
			return func(tx *store.Tx, p store.Page) ([]*oauth.Client, string, error) {
				return tx.Clients(store.ClientFilter{Origin: origin}, p)
			}
		}
		update(t, db, func(tx *store.Tx) error {
			for _, u := range []identity.User{
				{ID: "usr_1", Email: "ada@example.com", Name: "Ada Lovelace"}, {ID: "usr_2", Email: "ADAM@example.com"},
				{ID: "usr_3", Email: "z@bücher.example", Name: "Çelik_%"},
				{ID: "usr_4", Email: "aa@example.com", Name: "ab"},
				{ID: "usr_5", Email: "b@example.com", Name: "ADA"},
			} {
				u.CreatedAt = tx.Now()
				if err := tx.CreateUser(&u); err != nil {
					return err
				}
			}
			for i, origin := range []oauth.Origin{
				oauth.ByRegistration, oauth.ByOperator, oauth.ByRegistration, oauth.ByDocument,
			} {
				c := &oauth.Client{ID: "mcp_" + string(rune('a'+i)), Origin: origin, CreatedAt: tx.Now()}
				if c.Name = "Claude"; origin == oauth.ByDocument {
					c.ID, c.Name = "https://claude.example/client", "claude code"
				}
				if origin == oauth.ByOperator {
					c.Resources = []string{"https://mcp.example.com"}
				}
				if err := tx.CreateClient(c, ""); err != nil {
					return err
				}
			}
			return nil
		})
		ids := func(u *identity.User) string { return u.ID }
		for begins, want := range map[string][]string{
			"ada": {"usr_5", "usr_1", "usr_2"}, "ADA ": {"usr_5", "usr_1", "usr_2"}, "ada l": {"usr_1"},
			"usr_":     {"usr_1", "usr_2", "usr_3", "usr_4", "usr_5"},
			"z@BÜCHER": {"usr_3"}, "z@xn--": {"usr_3"}, "çelik_%": {"usr_3"}, "%": nil, "_": nil,
			"a": {"usr_4", "usr_5", "usr_1", "usr_2"}, strings.Repeat("a", store.MaxBegins+1): nil, "da": nil,
		} {
			if got := beginning(t, db, begins, (*store.Tx).Users, ids); !cmp.Equal(got, want) {
				t.Errorf("people %q: %v, want %v", begins, got, want)
			}
		}
		name := func(c *oauth.Client) string { return c.ID }
		for origin, want := range map[oauth.Origin][]string{
			"":                   {"mcp_a", "mcp_b", "mcp_c", "https://claude.example/client"},
			oauth.ByRegistration: {"mcp_a", "mcp_c"}, oauth.ByOperator: {"mcp_b"}, "another": nil,
		} {
			if got := beginning(t, db, "cLAude", clientsOf(origin), name); !cmp.Equal(got, want) {
				t.Errorf("clients of %q: %v, want %v", origin, got, want)
			}
		}
		if got := beginning(t, db, "https://claude.", clientsOf(""), name); len(got) != 1 {
			t.Errorf("by the address of a document: %v", got)
		}
		bound := func(tx *store.Tx, p store.Page) ([]*oauth.Client, string, error) {
			return tx.Clients(store.ClientFilter{Resource: "https://mcp.example.com"}, p)
		}
		if got := beginning(t, db, "cl", bound, name); !cmp.Equal(got, []string{"mcp_b"}) {
			t.Errorf("bound to a resource: %v", got)
		}

		// A new name is found, and the old one is not; what is deleted is not.
		update(t, db, func(tx *store.Tx) error {
			for _, do := range []func() error{
				func() error { return tx.UpdateUser(&identity.User{ID: "usr_1", Name: "Grace"}) },
				func() error { return tx.DeleteUser("usr_2") },
				func() error {
					return tx.UpdateClient(&oauth.Client{ID: "mcp_a", Origin: oauth.ByRegistration,
						Metadata: oauth.Metadata{Name: "Cursor"}})
				},
				func() error {
					return tx.ReplaceMetadata(&oauth.Client{ID: "mcp_c", Metadata: oauth.Metadata{Name: "Windsurf"}},
						false)
				},
				func() error { return tx.DeleteClient("mcp_b") },
				func() error {
					return tx.CreateResource(&oauth.Resource{ID: "res_1", Identifier: "https://mcp.example.com",
						Name: "Weather", CreatedAt: tx.Now(), UpdatedAt: tx.Now()})
				},
				func() error {
					return tx.UpdateResource(&oauth.Resource{ID: "res_1", Identifier: "https://mcp.example.com",
						Name: "Wind", UpdatedAt: tx.Now()})
				},
				func() error {
					return tx.CreateGroup(&identity.Group{ID: "grp_1", Name: "Staff", CreatedAt: tx.Now()})
				},
			} {
				if err := do(); err != nil {
					return err
				}
			}
			return nil
		})
		for begins, want := range map[string][]string{
			"ada": {"usr_5", "usr_1"}, "ada l": nil, "grace": {"usr_1"}, "adam": nil,
		} {
			if got := beginning(t, db, begins, (*store.Tx).Users, ids); !cmp.Equal(got, want) {
				t.Errorf("people %q after the changes: %v, want %v", begins, got, want)
			}
		}
		for begins, want := range map[string][]string{
			"claude": {"https://claude.example/client"},
			"cursor": {"mcp_a"},
			"wind":   {"mcp_c"},
			"mcp_a":  {"mcp_a"},
		} {
			if got := beginning(t, db, begins, clientsOf(""), name); !cmp.Equal(got, want) {
				t.Errorf("clients %q after the changes: %v, want %v", begins, got, want)
			}
		}
		if got := beginning(t, db, "CURSOR", clientsOf(oauth.ByRegistration), name); len(got) != 1 {
			t.Errorf("by origin after the changes: %v", got)
		}
		for begins, want := range map[string]int{"wea": 0, "wi": 1, "https://mcp.": 1, "res_1": 1} {
			if got := beginning(t, db, begins, (*store.Tx).ResourcePage, func(r *oauth.Resource) string {
				return r.ID
			}); len(got) != want {
				t.Errorf("resources %q: %v, want %d", begins, got, want)
			}
		}
		if got := beginning(t, db, "st", (*store.Tx).Groups, func(g *identity.Group) string {
			return g.ID
		}); len(got) != 1 {
			t.Errorf("groups: %v", got)
		}
	})
}

// What an earlier version stored is found after an update.
func TestNamesOfBefore(t *testing.T) {
	for _, engine := range engines {
		t.Run(string(engine), func(t *testing.T) {
			dsn := storetest.New(t, engine)
			db := storetest.Connect(t, dsn, storetest.NewClock())
			update(t, db, func(tx *store.Tx) error {
				for _, id := range []string{"mcp_1", "mcp_2"} {
					c := &oauth.Client{ID: id, Origin: oauth.ByRegistration, Metadata: oauth.Metadata{Name: "Claude"},
						CreatedAt: tx.Now()}
					if err := tx.CreateClient(c, ""); err != nil {
						return err
					}
				}
				return tx.CreateUser(&identity.User{ID: "usr_1", Email: "ada@example.com", CreatedAt: tx.Now()})
			})
			handle := raw(t, dsn)
			for _, statement := range []string{
				"DELETE FROM client_names WHERE client_id = 'mcp_1'", "DELETE FROM user_names",
				"DELETE FROM settings WHERE name = 'names_filled'",
			} {
				if _, err := handle.ExecContext(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := db.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			list := func(tx *store.Tx, p store.Page) ([]*oauth.Client, string, error) {
				return tx.Clients(store.ClientFilter{Origin: oauth.ByRegistration}, p)
			}
			got := beginning(t, db, "claude", list, func(c *oauth.Client) string { return c.ID })
			got = append(got,
				beginning(t, db, "ada", (*store.Tx).Users, func(u *identity.User) string { return u.ID })...)
			if want := []string{"mcp_1", "mcp_2", "usr_1"}; !slices.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}
