package console_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
)

// owner returns a person with the role owner.
func owner(t *testing.T, s *servertest.Server) *servertest.Person {
	t.Helper()
	person := s.User("owner@example.com")
	s.Update(func(tx *store.Tx) error {
		u, err := tx.UserByEmail(identity.EmailKey(person.Email))
		if err != nil {
			return err
		}
		u.Role = identity.Owner
		return tx.UpdateUser(u)
	})
	return person
}

// document returns a client whose id is a URL, as that of a metadata document.
func document(c *oauth.Client) { c.ID = "https://agent.example.com/client" }

// A sign-in in the middle of an action comes back to the page that has it, below an issuer with a path as well.
func TestSignInAgain(t *testing.T) {
	for _, base := range []string{"", "/auth"} {
		t.Run("base "+base, func(t *testing.T) {
			s := servertest.Start(t, func(c *config.Config) { c.Issuer += base })
			s.URL += base
			person := owner(t, s)
			client := "/admin/clients/" + url.PathEscape(s.Client(document).ID)
			for _, tt := range []struct{ posted, leads string }{
				{"/admin/clients", "/admin/clients"},
				{client + "/disable", client + "/disable"},
				{client + "/approve", client}, // which has no page of its own
			} {
				b := s.Browser(t)
				page := b.Post(tt.posted, nil).SignIn(person)
				at := strings.TrimPrefix(page.URL, s.URL)
				if page.Status != http.StatusOK || at != tt.leads {
					t.Errorf("a form for %s leads to %s (%d), want %s", tt.posted, at, page.Status, tt.leads)
				}
				if !strings.Contains(page.Body, `href="`+base+`/admin/clients" aria-current="page"`) {
					t.Errorf("the menu does not say that %s is one of the clients", tt.leads)
				}
			}
			b := s.Browser(t)
			page := b.Post(client+"/disable", nil).SignIn(person)
			page = page.Submit(page.Form("csrf"))
			if !strings.Contains(page.Body, `action="`+base+client+`/enable"`) || strings.Contains(page.Body, base+base+"/admin") && base != "" {
				t.Errorf("what was done cannot be undone:\n%s", page.Body)
			}
		})
	}
}

// What gives somebody new rights needs a sign-in that is not older than 15 minutes: a new account with a role, and the
// secret of a client.
func TestOldSignIn(t *testing.T) {
	s := servertest.Start(t)
	person := owner(t, s)
	client := s.Client(func(c *oauth.Client) { c.GrantTypes, c.RedirectURIs = []oauth.GrantType{oauth.ClientCredentials}, nil })
	b := s.Browser(t)
	b.Get("/login").SignIn(person)
	csrf := b.Get("/admin/clients/new").Form("csrf").Values().Get("csrf")
	s.Clock.Advance(16 * time.Minute)
	for path, form := range map[string]url.Values{
		"/admin/people": {"email": {"new@example.com"}, "password": {"correct horse battery staple"},
			"role": {"owner"}},
		"/admin/clients": {"name": {"Bot"}, "kind": {"machine"}, "scopes": {"cardea:*"},
			"resource": {s.URL + "/admin/api"}},
		"/admin/clients/" + client.ID + "/edit":          {"name": {"Bot"}, "resource": {s.URL + "/admin/api"}},
		"/admin/clients/" + client.ID + "/rotate-secret": {},
	} {
		form.Set("csrf", csrf)
		page := b.Post(path, form)
		if at := strings.TrimPrefix(page.URL, s.URL); !strings.HasPrefix(at, "/login?") || !strings.Contains(page.Body, "Sign in again") {
			t.Errorf("a form for %s leads to %s (%d)", path, at, page.Status)
		}
	}
}

// A client chooses its name itself, and must not rewrite the question that an operator answers.
func TestNameInQuestion(t *testing.T) {
	s := servertest.Start(t)
	person := owner(t, s)
	client := s.Client(func(c *oauth.Client) { c.Name = "Agent\u202e?\u2066" })
	b := s.Browser(t)
	b.Get("/login").SignIn(person)
	for _, path := range []string{"", "/disable", "/delete", "/rotate-secret"} {
		page := b.Get("/admin/clients/" + client.ID + path)
		if page.Status != http.StatusOK || !strings.Contains(page.Body, "Agent?") || strings.ContainsAny(page.Body, "\u202e\u2066") {
			t.Errorf("%q: %d\n%s", path, page.Status, page.Body)
		}
	}
}
