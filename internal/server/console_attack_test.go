package server_test

import (
	"database/sql"
	"encoding/json"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/adminapi"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
	"github.com/cardea-auth/cardea/scope"
)

// evil is a text that becomes a script, an attribute or a link where it is not escaped.
const evil = `"'><script>alert(1)</script><img src=x onerror=alert(1) hx-get="/evil" hx-trigger="load">` +
	`javascript:alert(1) {{.}}`

// What anybody chose is shown as text, on every page: names of clients, MCP servers, people, scopes and groups, what
// browsers say of themselves, and what is typed into filters.
func TestConsoleShowsText_AD08(t *testing.T) {
	s := full(t)
	s.Update(func(tx *store.Tx) error {
		for _, id := range []string{s.ids["clients"], s.ids["credentials"]} {
			c, err := tx.Client(id)
			if err != nil {
				return err
			}
			c.Name = evil + "\u202e"
			if err := tx.UpdateClient(c); err != nil {
				return err
			}
		}
		r, err := tx.Resource(servertest.MCP)
		if err != nil {
			return err
		}
		r.Name = evil
		for i := range r.Scopes {
			r.Scopes[i].Description = evil
		}
		if err := tx.UpdateResource(r); err != nil {
			return err
		}
		u, err := tx.User(s.ids["people"])
		if err != nil {
			return err
		}
		u.Name = evil
		return tx.UpdateUser(u)
	})
	b := s.Browser(t)
	b.Header.Set("User-Agent", evil)
	b.Get("/login").SignIn(s.owner)
	s.Agent(t, nil).Post("/oauth2/register", nil, servertest.Header("User-Agent", evil))
	seen := 0
	look := func(page *servertest.Page) {
		t.Helper()
		for _, forbidden := range []string{"<script>", "<img src=x", `hx-get="/evil`, `href="javascript:`, "\u202e"} {
			if strings.Contains(page.Body, forbidden) && (forbidden != "\u202e" || !page.Has("redirect_uris")) {
				t.Errorf("AD-08 %s has %q:\n%s", page.URL, forbidden, page.Body)
			}
		}
		if strings.Contains(page.Body, "&lt;script&gt;") {
			seen++
		}
		for _, link := range page.Links() {
			if link != "#main" && !strings.HasPrefix(link, "/") || strings.HasPrefix(link, "//") {
				t.Errorf("AD-08 %s links to %q", page.URL, link)
			}
		}
	}
	for _, route := range consoleRoutes(s.Server, "GET") {
		if route != "/admin/audit/export" {
			look(b.Get(s.path(route)))
		}
	}
	for _, e := range s.Events("") {
		look(b.Get("/admin/audit/" + e.ID))
	}
	if seen < 15 {
		t.Errorf("only %d pages show it", seen)
	}
	q := url.QueryEscape(evil)
	for _, path := range []string{"/admin/audit?action=" + q + "&user=" + q + "&address=" + q + "&since=" + q,
		"/admin/clients?q=" + q + "&origin=" + q, "/admin/people?q=" + q, "/admin/sessions?user=" + q,
		"/admin?range=" + q,
		"/admin/grants?user=" + q + "&client=" + q + "&resource=" + q, "/admin/clients?done=" + q,
		"/admin/servers/" + url.PathEscape(evil), "/admin/audit?after=" + q} {
		look(b.Get(path))
	}
	form := b.Get("/admin/groups")
	look(form.Submit(form.Form("name"), servertest.With("name", evil), servertest.With("description", evil)))
	form = b.Get("/admin/servers/new")
	look(form.Submit(form.Form("identifier"), servertest.With("identifier", evil), servertest.With("name", evil),
		servertest.With("scope-name-0", evil)))
	look(s.Browser(t).Post("/admin/groups", url.Values{evil: {evil}, "name": {evil}})) // keeps what was typed
}

// A form that another site, another browser or nobody made changes nothing, and every page says to browsers that it is
// shown in no frame and kept by no cache.
func TestConsoleForged_AD02(t *testing.T) {
	s := full(t)
	b, csrf := s.signedIn(t, s.owner)
	other := s.User("other@example.com")
	role(t, s.Server, other, identity.Owner)
	_, foreign := s.signedIn(t, other)
	forged := func() int {
		n := 0
		for _, e := range s.Events("page.foreign_form") {
			if e.Outcome == audit.Refused {
				n++
			}
		}
		return n
	}
	filled := url.Values{"name": {"x"}, "identifier": {"https://x.example.com/mcp"}, "kind": {"public"},
		"decision": {"everybody"}}
	changes := len(s.Events(""))
	attempts := 0
	for _, route := range consoleRoutes(s.Server, http.MethodPost) {
		for name, attempt := range map[string]func() *servertest.Page{
			"without a token": func() *servertest.Page { return b.Post(s.path(route), filled) },
			"with another's token": func() *servertest.Page {
				return b.Post(s.path(route), changed(filled, "csrf", foreign))
			},
			"from another site": func() *servertest.Page {
				return b.Post(s.path(route), changed(filled, "csrf", csrf), crossSite)
			},
			"from an older browser": func() *servertest.Page { return b.Post(s.path(route), filled, unknownSite) },
		} {
			attempts++
			page := attempt()
			if page.Status != http.StatusForbidden {
				t.Errorf("AD-02 %s %s: %d\n%s", route, name, page.Status, page.Body)
			}
		}
		stranger := s.Browser(t).Post(s.path(route), filled)
		if stranger.Status != http.StatusForbidden || !strings.Contains(stranger.Body, "what you typed is kept") {
			t.Errorf("AD-02 %s without a sign-in: %d\n%s", route, stranger.Status, stranger.Body)
		}
		if stranger = s.Browser(t).Post(s.path(route), nil); !stranger.IsSignIn() {
			t.Errorf("AD-02 %s without a sign-in leads to %s", route, stranger.URL)
		}
	}
	if n := forged(); n != attempts || len(s.Events("")) != changes+n {
		t.Errorf("AD-02 %d of %d attempts are recorded, and %d other events", n, attempts, len(s.Events(""))-changes-n)
	}
	for _, route := range consoleRoutes(s.Server, http.MethodGet) {
		page := b.Get(s.path(route))
		h, policy := page.Header, page.Header.Get("Content-Security-Policy")
		if h.Get("Cache-Control") != "no-store" || h.Get("X-Frame-Options") != "DENY" ||
			!strings.Contains(policy, "frame-ancestors 'none'") || !strings.Contains(policy, "default-src 'none'") ||
			strings.Contains(policy, "unsafe") ||
			h.Get("Referrer-Policy") != "no-referrer" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("AD-02 the headers of %s are %v", route, h)
		}
	}
}

// crossSite and unknownSite say where a form comes from, as browsers do.
var crossSite = servertest.Header("Sec-Fetch-Site", "cross-site")

func unknownSite(r *servertest.Request) {
	r.Header["Sec-Fetch-Site"], r.Header["Origin"] = []string{""}, []string{"null"}
}

// changed returns a copy of values in which name has one value.
func changed(values url.Values, name, value string) url.Values {
	all := url.Values{name: {value}}
	for n, given := range values {
		if n != name {
			all[n] = given
		}
	}
	return all
}

// A sign-in leads back to a page of the console and to nothing else, no matter who is signed in.
func TestConsoleReturn_AD02(t *testing.T) {
	s := servertest.StartMCP(t)
	owner := s.User("owner@example.com")
	role(t, s, owner, identity.Owner)
	for _, target := range []string{"https://evil.example/admin", "//evil.example/admin", "/\\evil.example",
		"/admin/..//evil.example", "/admin/../login", "/admin/%2e%2e/evil", "/oauth2/authorize?client_id=x",
		"/admin\r\nX-Evil: 1", "javascript:alert(1)", "/admin#@evil.example", "/adminx", "/admin/%5cevil.example",
		strings.Repeat("/admin", 1000)} {
		b := s.Browser(t)
		page := b.Get("/login?return=" + url.QueryEscape(target)).SignIn(owner)
		u, err := url.Parse(page.URL)
		if err != nil || page.Location != "" || !strings.HasPrefix(page.URL, s.URL+"/") ||
			u.Path != "/login" && !strings.HasPrefix(u.Path, "/admin") ||
			strings.Contains(u.Path, "evil") && u.Path != "/admin/\\evil.example" {
			t.Errorf("AD-02 %q leads to %s %s", target, page.URL, page.Location)
		}
	}
	b := s.Browser(t)
	if page := b.Get("/admin/audit?outcome=refused").SignIn(owner); page.URL != s.URL+"/admin/audit?outcome=refused" {
		t.Errorf("it leads to %s", page.URL)
	}
}

// Back and reload after a form, and a second tab, do no harm.
func TestConsoleAgain(t *testing.T) {
	s := full(t)
	b, _ := s.signedIn(t, s.owner)
	path := "/admin/clients/" + s.ids["clients"] + "/delete"
	first, second := b.Get(path), b.Get(path)
	done := first.Submit(first.Form("csrf"))
	if done.Status != http.StatusOK || !strings.Contains(done.URL, "/admin/clients?done=") {
		t.Errorf("%s: %d\n%s", done.URL, done.Status, done.Body)
	}
	if again := b.Get(done.URL); again.Status != http.StatusOK {
		t.Errorf("a reload: %d", again.Status)
	}
	other := second.Submit(second.Form("csrf"))
	if other.Status != http.StatusNotFound || !strings.Contains(other.Body, `class="menu"`) {
		t.Errorf("the second tab: %d\n%s", other.Status, other.Body)
	}
	page := b.Get("/admin/servers/new")
	fields := []servertest.Tweak{servertest.With("identifier", "https://twice.example.com/mcp"),
		servertest.With("name", "Twice")}
	if made := page.Submit(page.Form("identifier"), fields...); !strings.Contains(made.URL, "/admin/servers/res_") {
		t.Errorf("%s: %d", made.URL, made.Status)
	}
	// Back, and sent again: the form says that it exists, with what was typed.
	twice := page.Submit(page.Form("identifier"), fields...)
	if twice.Status != http.StatusUnprocessableEntity || twice.Form("identifier").Values().Get("name") != "Twice" {
		t.Errorf("sent twice: %d\n%s", twice.Status, twice.Body)
	}
	edit := b.Get("/admin/servers/" + s.ids["servers"] + "/edit")
	s.Update(func(tx *store.Tx) error { return tx.DeleteResource(s.ids["servers"]) })
	gone := edit.Submit(edit.Form("name"))
	if gone.Status != http.StatusNotFound || !strings.Contains(gone.Body, `class="menu"`) {
		t.Errorf("gone meanwhile: %d\n%s", gone.Status, gone.Body)
	}
}

// How a path and a method are spelled does not change what somebody may do: a form is refused to a role without the
// right, and what only looks like a form changes nothing for anybody.
func TestConsoleSpelling_AD02(t *testing.T) {
	s := full(t)
	auditor := s.User("auditor@example.com")
	role(t, s.Server, auditor, identity.Owner)
	b, csrf := s.signedIn(t, auditor)
	role(t, s.Server, auditor, identity.Auditor) // a form that is open from before has a good token
	o, own := s.signedIn(t, s.owner)
	changes := func() (n int) {
		for _, e := range s.Events("") {
			if e.Outcome == audit.Allowed && e.Actor.Type != audit.ByCommand && e.Action != audit.SignedIn &&
				e.Action != "console.open" && e.Action != "provider.test" {
				n++
			}
		}
		return n
	}
	before := changes()
	filled := url.Values{"name": {"x"}, "identifier": {"https://x.example.com/mcp"}, "kind": {"public"},
		"decision": {"everybody"}, "csrf": {csrf}}
	for _, route := range consoleRoutes(s.Server, http.MethodPost) {
		path := s.path(route)
		plain := b.Post(path, filled).Status
		if plain != http.StatusForbidden && route != "/admin/settings/providers/{id}" {
			t.Errorf("%s: %d, though an auditor changes nothing", route, plain)
		}
		for _, spelling := range []string{
			path + "/", path + "//", "/" + path, strings.Replace(path, "/admin/", "/admin//", 1), path + "?x=1",
			"/admin%2f" + strings.TrimPrefix(path, "/admin/"), strings.ToUpper(path), path + "/.", path + "%00",
			path + ";a=b",
		} {
			if status := b.Post(spelling, filled).Status; status != plain &&
				status != http.StatusNotFound && status != http.StatusMethodNotAllowed {
				t.Errorf("%s: %d, and %d as %s", route, plain, status, spelling)
			}
		}
		disguised := "?_method=POST&" + changed(filled, "csrf", own).Encode()
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			for _, name := range []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"} {
				o.Get(path+disguised, servertest.Method(method), servertest.Header(name, http.MethodPost))
			}
		}
	}
	if n := changes(); n != before {
		t.Errorf("%d changes were made", n-before)
	}
}

// A fault of the server tells nobody what is inside: no statement, no path, no name of a file.
func TestFaultsTellNothing_AD21(t *testing.T) {
	for _, tables := range [][]string{{"events"}, {"clients", "resources", "groups", "grants"}} {
		t.Run(strings.Join(tables, " "), func(t *testing.T) {
			dsn := storetest.New(t, storetest.SQLite)
			clock := storetest.NewClock()
			s := servertest.New(t, storetest.Connect(t, dsn, clock), clock)
			s.Resource(servertest.MCP, "mcp:tools:weather")
			owner := s.User("owner@example.com")
			role(t, s, owner, identity.Owner)
			b := s.Browser(t)
			b.Get("/login").SignIn(owner)
			csrf := b.Get("/admin/servers/new").Form("csrf").Values().Get("csrf")
			c := s.Client(servertest.Confidential, func(c *oauth.Client) {
				c.GrantTypes, c.RedirectURIs, c.ResponseTypes = []oauth.GrantType{oauth.ClientCredentials}, nil, nil
				c.Resources, c.Allowed = []string{s.URL + admin.APIPath}, scope.Of("cardea:*")
			})
			agent := s.Agent(t, c)
			agent.Resource = s.URL + admin.APIPath
			token := agent.ClientCredentials(servertest.With("resource", agent.Resource),
				servertest.With("scope", "cardea:*")).Tokens().Access
			file := strings.TrimPrefix(dsn, "sqlite:")
			db, err := sql.Open("sqlite", file)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			for _, table := range tables {
				if _, err := db.ExecContext(t.Context(), "ALTER TABLE "+table+" RENAME TO gone_"+table); err != nil {
					t.Fatal(err)
				}
			}
			s.MayFault = true
			faults := 0
			look := func(what string, status int, body string) {
				t.Helper()
				switch {
				case status >= 500:
					faults++
				case status < 400: // the settings name the database to a person who may see them
					return
				}
				for _, leak := range []string{"SQL", "sqlite", "no such table", "SELECT", "INSERT", "goroutine", ".go:",
					"internal/", "store:", filepath.Dir(file)} {
					if strings.Contains(body, leak) {
						t.Errorf("%s: %d tells %q: %s", what, status, leak, body)
					}
				}
			}
			names := strings.NewReplacer("{id}", "mcp_1", "{kid}", "1", "{name}", "staff", "{user}", "ada@example.com")
			for _, spec := range adminapi.Specs() {
				body := map[string]any{}
				for _, name := range strings.Fields(spec.Required) {
					body[name] = "groups: [{name: staff}]"
				}
				text, err := json.Marshal(body)
				if err != nil {
					t.Fatal(err)
				}
				tweaks := []servertest.Tweak{servertest.Method(spec.Method), servertest.Bearer(token)}
				if spec.Required != "" {
					tweaks = append(tweaks, servertest.Raw(string(text)),
						servertest.Header("Content-Type", "application/json"))
				}
				reply := agent.Get(adminapi.Prefix+names.Replace(spec.Path), tweaks...)
				look(spec.Name(), reply.Status, string(reply.Body))
			}
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				for _, route := range consoleRoutes(s, method) {
					path := names.Replace(route)
					page := b.Get(path)
					if method == http.MethodPost {
						page = b.Post(path, url.Values{"csrf": {csrf}, "name": {"staff"}, "kind": {"public"}})
					}
					look(method+" "+route, page.Status, page.Body)
				}
			}
			if faults < 10 {
				t.Errorf("only %d requests met a fault", faults)
			}
		})
	}
}
