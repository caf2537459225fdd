package console_test

import (
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
)

// AD-16: a form that was open while somebody else changed its record does not undo that. It keeps what was typed, and
// replaces what is there if it is sent again.
func TestChangedMeanwhile_AD16(t *testing.T) {
	s := servertest.StartMCP(t)
	o := &admin.Operations{DB: s.DB, Issuer: s.URL}
	server, err := o.Resource(t.Context(), root, servertest.MCP)
	if err != nil {
		t.Fatal(err)
	}
	client := s.Client(servertest.Confidential, func(c *oauth.Client) { c.Name = "App" })
	ada := s.User("ada@example.com")
	if _, err := o.CreateGroup(t.Context(), root, "staff", admin.GroupTerms{}); err != nil {
		t.Fatal(err)
	}
	for path, tt := range map[string]struct {
		field string
		kept  string // what the form shows of the record and does not change
		now   func() (string, error)
	}{
		"/admin/servers/" + server.ID: {"name", "<code>" + servertest.MCP + "</code>", func() (string, error) {
			r, err := o.Resource(t.Context(), root, server.ID)
			return r.Name, err
		}},
		"/admin/clients/" + client.ID: {"name", "Change First", func() (string, error) {
			c, err := o.Client(t.Context(), root, client.ID)
			return c.Name, err
		}},
		"/admin/people/" + ada.ID: {"name", "E-mail: <bdi>" + ada.Email + "</bdi>", func() (string, error) {
			u, err := o.User(t.Context(), root, ada.ID)
			return u.Name, err
		}},
		"/admin/groups/staff": {"description", "Name: ", func() (string, error) {
			g, _, err := o.Group(t.Context(), root, "staff", store.Page{})
			return g.Description, err
		}},
	} {
		t.Run(path, func(t *testing.T) {
			is := func(want string) {
				t.Helper()
				if got, err := tt.now(); err != nil || got != want {
					t.Errorf("it is %q, want %q: %v", got, want, err)
				}
			}
			save := func(page *servertest.Page, text string) *servertest.Page {
				t.Helper()
				tweaks := []servertest.Tweak{servertest.With(tt.field, text)}
				if strings.HasPrefix(path, "/admin/people/") {
					tweaks = append(tweaks, servertest.With("role", "")) // the one that is chosen
				}
				return page.Submit(page.Form(tt.field), tweaks...)
			}
			b := staff(t, s, identity.Owner)
			first, second := b.Get(path+"/edit"), b.Get(path+"/edit")
			says(t, save(first, "First"), 200, "Saved")
			is("First")
			refused := save(second, "Second")
			says(t, refused, 422, "Somebody has changed this since the form was opened", `value="Second"`, tt.kept)
			is("First")
			says(t, save(refused, "Second"), 200, "Saved")
			is("Second")
			says(t, save(second, "Second"), 200, "Saved") // a second click
		})
	}
}
