package console_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
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
			if !strings.Contains(page.Body, `action="`+base+client+`/enable"`) ||
				strings.Contains(page.Body, base+base+"/admin") && base != "" {
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
	client := s.Client(func(c *oauth.Client) {
		c.GrantTypes, c.RedirectURIs = []oauth.GrantType{oauth.ClientCredentials}, nil
	})
	b := s.Browser(t)
	b.Get("/login").SignIn(person)
	csrf := b.Get("/admin/clients/new").Form("csrf").Values().Get("csrf")
	s.Clock.Advance(16 * time.Minute)
	const typed = "Ein getippter Name"
	for path, form := range map[string]url.Values{
		"/admin/people": {"email": {"new@example.com"}, "password": {servertest.Password}, "role": {"owner"},
			"name": {typed}},
		"/admin/clients": {"name": {typed}, "kind": {"machine"}, "scopes": {"cardea:*"},
			"resource": {s.URL + "/admin/api", servertest.MCP}},
		"/admin/clients/" + client.ID + "/edit":          {"name": {typed}, "resource": {s.URL + "/admin/api"}},
		"/admin/clients/" + client.ID + "/rotate-secret": {},
	} {
		form.Set("csrf", csrf)
		page := b.Post(path, form)
		at := strings.TrimPrefix(page.URL, s.URL)
		asks := strings.HasPrefix(at, "/login?") && strings.Contains(page.Body, "Sign in again")
		if len(form) == 1 && !asks {
			t.Errorf("a form for %s leads to %s (%d)", path, at, page.Status)
		}
		if len(form) > 1 {
			kept(t, page, form)
		}
	}
}

// Credentials for the administration API, and those of a sign-in page, are enabled and deleted among the clients too.
// That needs a recent sign-in as well, and nothing happens before it; another client does not need one.
func TestOldSignInAmongClients(t *testing.T) {
	s := servertest.Start(t)
	person := owner(t, s)
	o := &admin.Operations{DB: s.DB, Issuer: s.URL}
	made := func(n admin.NewClient, name string) admin.Client {
		t.Helper()
		n.Name = &name
		c, err := o.CreateClient(t.Context(), root, n)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	scope, machine := "cardea:clients:read", []oauth.GrantType{oauth.ClientCredentials}
	credentials := made(admin.NewClient{ClientTerms: admin.ClientTerms{GrantTypes: machine, Scope: &scope,
		Resources: []string{s.URL + admin.APIPath}}}, "Ops")
	signIn := made(admin.NewClient{Login: true}, "Sign-in page")
	plain := s.Client(func(c *oauth.Client) { c.Name = "Plain" })
	b := s.Browser(t)
	b.Get("/login").SignIn(person)
	csrf := url.Values{"csrf": b.Get("/admin/clients/new").Form("csrf").Values()["csrf"]}
	s.Clock.Advance(16 * time.Minute)
	for _, tt := range []struct {
		id    string
		fresh bool
	}{{credentials.ID, true}, {signIn.ID, true}, {plain.ID, false}} {
		if _, err := o.DisableClient(t.Context(), root, tt.id); err != nil {
			t.Fatal(err)
		}
		page := b.Post("/admin/clients/"+tt.id+"/enable", csrf)
		c, err := o.Client(t.Context(), root, tt.id)
		if page.IsSignIn() != tt.fresh || err != nil || c.DisabledAt.IsZero() == tt.fresh {
			t.Errorf("enable %s: %s (%d), state %s, %v", tt.id, page.URL, page.Status, c.State, err)
		}
		page = b.Post("/admin/clients/"+tt.id+"/delete", csrf)
		_, err = o.Client(t.Context(), root, tt.id)
		if page.IsSignIn() != tt.fresh || (err == nil) != tt.fresh {
			t.Errorf("delete %s: %s (%d), %v", tt.id, page.URL, page.Status, err)
		}
	}
}

// kept checks that the page keeps what was typed, and says that it was not sent.
func kept(t *testing.T, page *servertest.Page, form url.Values) {
	t.Helper()
	values := page.Form("csrf").Values()
	for name, want := range form {
		if name == "password" {
			want = []string{""}
		}
		if !slices.Equal(values[name], want) {
			t.Errorf("%s of %s is %q, want %q", name, page.URL, values[name], want)
		}
	}
	if page.Status != http.StatusForbidden || !strings.Contains(page.Body, "what you typed is kept") ||
		strings.Contains(page.Body, servertest.Password) {
		t.Errorf("%s: %d\n%s", page.URL, page.Status, page.Body)
	}
}

// A form whose session has ended meanwhile can be sent after the same person has signed in beside it, and by nobody
// else.
func TestSessionEndsBeforeAForm(t *testing.T) {
	s := servertest.StartMCP(t)
	person := owner(t, s)
	other := staff(t, s, identity.Owner)
	b := s.Browser(t)
	b.Get("/login").SignIn(person)
	page := b.Get("/admin/groups")
	s.Clock.Advance(8 * 24 * time.Hour)
	page = page.Submit(page.Form("name"), servertest.With("name", "staff"),
		servertest.With("description", "Grüße <b>&amp;"))
	kept(t, page, url.Values{"name": {"staff"}, "description": {"Grüße <b>&amp;"}})
	forged := other.Post("/admin/groups", page.Form("csrf").Values())
	if forged.Status == http.StatusOK || strings.Contains(other.Get("/admin/groups").Body, "staff") {
		t.Errorf("another person sent it: %d\n%s", forged.Status, forged.Body)
	}
	b.Get("/login?return=/admin").SignIn(person)
	page = page.Submit(page.Form("csrf"))
	if page.Status != http.StatusOK || !strings.Contains(page.Body, "The group is created") ||
		!strings.Contains(page.Body, "Grüße &lt;b&gt;&amp;amp;") {
		t.Errorf("%s: %d\n%s", page.URL, page.Status, page.Body)
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
		if page.Status != http.StatusOK || !strings.Contains(page.Body, "Agent?") ||
			strings.ContainsAny(page.Body, "\u202e\u2066") {
			t.Errorf("%q: %d\n%s", path, page.Status, page.Body)
		}
	}
}
