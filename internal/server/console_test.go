package server_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
)

// role gives a person a role.
func role(t *testing.T, s *servertest.Server, p *servertest.Person, r identity.Role) {
	t.Helper()
	s.Update(func(tx *store.Tx) error {
		u, err := tx.UserByEmail(identity.EmailKey(p.Email))
		if err != nil {
			return err
		}
		u.Role = r
		return tx.UpdateUser(u)
	})
}

// axe-core finds nothing on the pages of the console, also where a script has changed a part of one.
func TestConsoleAccessibility(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	role(t, s, ada, identity.Owner)
	agent := s.Agent(t, nil)
	agent.RedirectURI = "http://127.0.0.1/callback"
	agent.Register(nil)
	agent.Connect(s.Browser(t), ada)
	var server string
	s.Update(func(tx *store.Tx) error {
		r, err := tx.Resource(servertest.MCP)
		if err == nil {
			server = "/" + r.ID
		}
		return err
	})
	client := "/" + agent.ClientID
	paths := map[string][]string{
		"/admin":          {""},
		"/admin/servers":  {"", server, server + "/edit", server + "/delete"},
		"/admin/clients":  {"", "/new", client, client + "/edit"},
		"/admin/people":   {"", "/new", "/ada@example.com", "/ada@example.com/edit", "/ada@example.com/password"},
		"/admin/groups":   {""},
		"/admin/grants":   {""},
		"/admin/sessions": {""},
		"/admin/keys":     {"", "/rotate"},
		"/admin/settings": {""},

		"/admin/audit": {"", "?first=refused&since=nonsense&address=192.0.2.1",
			"/" + s.Events("authorize.code")[0].ID},
		"/admin/credentials": {"", "/new"},
	}
	for _, screen := range screens {
		t.Run(screen.name, func(t *testing.T) {
			ctx, look, visit := lens(t, screen.width, screen.height, screen.scheme)
			visit("sign-in", s.URL+"/admin", `input[name="password"]`)
			err := chromedp.Do(ctx, chromedp.SendKeys(chromedp.CSS(`input[name="email"]`), ada.Email),
				chromedp.SendKeys(chromedp.CSS(`input[name="password"]`), ada.Password+"\r"),
				chromedp.WaitVisible(chromedp.CSS(`body.console`)))
			if err != nil {
				t.Fatal(err)
			}
			for section, pages := range paths {
				for _, page := range pages {
					visit(section+page, s.URL+section+page, `body.console main h1`)
					wide, err := chromedp.Call(ctx, runtime.Evaluate,
						runtime.EvaluateParams{Expression: `document.documentElement.scrollWidth > innerWidth`})
					if err != nil || string(wide.Result.Value) != "false" {
						t.Errorf("%s%s is wider than the screen: %s, %v", section, page, wide.Result.Value, err)
					}
				}
			}
			visit("nothing there", s.URL+"/admin/servers/res_none", "h1")
			err = chromedp.Do(ctx, chromedp.Navigate(s.URL+"/admin/servers/new"),
				chromedp.WaitVisible(chromedp.CSS(`#identifier`)),
				chromedp.SendKeys(chromedp.CSS(`#identifier`), "http://mcp.example.com/mcp\r"),
				chromedp.WaitVisible(chromedp.CSS(`.alert`)))
			if err != nil {
				t.Fatal(err)
			}
			look("a form that was refused")
		})
	}
}

// Who may see a page of the console, and who may change something there.
func TestConsoleRoles(t *testing.T) {
	s := servertest.StartMCP(t)
	browsers := map[identity.Role]*servertest.Browser{}
	for _, r := range []identity.Role{"", identity.Auditor, identity.Operator, identity.Owner} {
		person := s.User("p" + string(r) + "@example.com")
		role(t, s, person, r)
		browsers[r] = s.Browser(t)
		browsers[r].Get("/login").SignIn(person)
	}
	for _, tt := range []struct {
		path string
		sees []identity.Role
	}{
		{"/admin", []identity.Role{identity.Auditor, identity.Operator, identity.Owner}},
		{"/admin/servers", []identity.Role{identity.Auditor, identity.Operator, identity.Owner}},
		{"/admin/clients", []identity.Role{identity.Auditor, identity.Operator, identity.Owner}},
		{"/admin/people", []identity.Role{identity.Auditor, identity.Operator, identity.Owner}},
		{"/admin/keys", []identity.Role{identity.Auditor, identity.Operator, identity.Owner}},
		{"/admin/audit", []identity.Role{identity.Auditor, identity.Operator, identity.Owner}},
		{"/admin/credentials", []identity.Role{identity.Auditor, identity.Operator, identity.Owner}},
		{"/admin/settings", []identity.Role{identity.Auditor, identity.Owner}},
	} {
		for r, b := range browsers {
			want := http.StatusForbidden
			for _, sees := range tt.sees {
				if r == sees {
					want = http.StatusOK
				}
			}
			if page := b.Get(tt.path); page.Status != want {
				t.Errorf("AD-01 a person with the role %q gets %d at %s, want %d", r, page.Status, tt.path, want)
			}
		}
	}
	for r, b := range browsers {
		if r == "" {
			continue
		}
		page := b.Get("/admin/servers/new")
		page = page.Submit(page.Form("identifier"),
			servertest.With("identifier", "https://"+string(r)+".example.com/mcp"))
		want := map[identity.Role]int{identity.Auditor: http.StatusForbidden, identity.Operator: http.StatusOK,
			identity.Owner: http.StatusOK}[r]
		if page.Status != want {
			t.Errorf("AD-01 a person with the role %q gets %d for adding an MCP server, want %d", r, page.Status, want)
		}
		page = b.Get("/admin/groups")
		page = page.Submit(page.Form("name"), servertest.With("name", "of-"+string(r)))
		if want := map[bool]int{true: http.StatusOK, false: http.StatusForbidden}[r == identity.Owner]; page.Status != want {
			t.Errorf("AD-01 a person with the role %q gets %d for creating a group, want %d", r, page.Status, want)
		}
	}
	t.Run("a role that was taken away counts no more, not even for a form that is open", func(t *testing.T) {
		b := browsers[identity.Operator]
		page := b.Get("/admin/servers/new")
		role(t, s, &servertest.Person{Email: "poperator@example.com"}, "")
		page = page.Submit(page.Form("identifier"), servertest.With("identifier", "https://late.example.com/mcp"))
		if page.Status != http.StatusForbidden {
			t.Errorf("status %d", page.Status)
		}
	})
	t.Run("a form without its token, or with that of another session", func(t *testing.T) {
		owner := browsers[identity.Owner]
		page := owner.Get("/admin/servers/new")
		for _, token := range []string{"", "x", browsers[identity.Auditor].Get("/admin/servers/new").Form("csrf").Values().Get("csrf")} {
			answer := page.Submit(page.Form("identifier"), servertest.With("csrf", token),
				servertest.With("identifier", "https://forged.example.com/mcp"))
			if answer.Status != http.StatusForbidden {
				t.Errorf("status %d with the token %q", answer.Status, token)
			}
		}
	})
	t.Run("a sign-in that is too old is asked for again before keys are rotated", func(t *testing.T) {
		owner := browsers[identity.Owner]
		page := owner.Get("/admin/keys/rotate")
		s.Clock.Advance(16 * 60 * 1e9)
		page = page.Submit(page.Form("alg"))
		at, err := url.Parse(page.URL)
		if err != nil || at.Path != "/login" || at.Query().Get("return") != "/admin/keys/rotate" || !strings.Contains(page.Body, "Sign in again") {
			t.Errorf("it leads to %s", page.URL)
		}
	})
}

// What a stranger chose is shown as text.
func TestConsoleShowsText(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	role(t, s, ada, identity.Owner)
	agent := s.Agent(t, nil)
	agent.RedirectURI = "http://127.0.0.1/callback"
	agent.Register(map[string]any{"client_name": "<script>alert(1)</script>\u202e\"'`{{",
		"redirect_uris": []string{agent.RedirectURI}, "token_endpoint_auth_method": "none"})
	b := s.Browser(t)
	b.Get("/login").SignIn(ada)
	for _, path := range []string{"/admin/clients", "/admin/clients/" + agent.ClientID, "/admin/clients/" + agent.ClientID + "/edit", "/admin/clients/" + agent.ClientID + "/delete"} {
		page := b.Get(path)
		if page.Status != http.StatusOK || strings.Contains(page.Body, "<script>alert") || !strings.Contains(page.Body, "&lt;script&gt;") {
			t.Errorf("AD-08 %s: %d\n%s", path, page.Status, page.Body)
		}
	}
}
