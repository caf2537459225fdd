package server_test

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/upstream"
	"github.com/cardea-auth/cardea/internal/web"
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

// axe-core finds nothing on the pages of the console, also where a script has changed a part of one, where a form was
// refused, and where somebody is turned away. No page is wider than the screen.
func TestConsoleAccessibility(t *testing.T) {
	s := full(t)
	nobody := s.User("nobody@example.com")
	for _, screen := range screens {
		t.Run(screen.name, func(t *testing.T) {
			ctx, look, visit := lens(t, screen.width, screen.height, screen.scheme)
			do := func(what string, steps ...chromedp.Action[chromedp.Void]) {
				t.Helper()
				if err := chromedp.Do(ctx, steps...); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
			}
			at := func(selector string) chromedp.CSS { return chromedp.CSS(selector) }
			is := func(script string) bool {
				t.Helper()
				yes := true
				got, err := chromedp.Call(ctx, runtime.Evaluate,
					runtime.EvaluateParams{Expression: script, AwaitPromise: &yes, ReturnByValue: &yes})
				if err != nil || got.ExceptionDetails != nil {
					t.Fatalf("%s: %v %+v", script, err, got.ExceptionDetails)
				}
				return string(got.Result.Value) == "true"
			}
			signIn := func(who *servertest.Person, wait string) {
				t.Helper()
				do("sign in", chromedp.WaitVisible(at(`input[name="password"]`)),
					chromedp.SetValue(at(`input[name="email"]`), who.Email),
					chromedp.SendKeys(at(`input[name="password"]`), who.Password+"\r"), chromedp.WaitVisible(at(wait)))
			}
			open := func(path string) chromedp.Action[chromedp.Void] { return chromedp.Navigate(s.URL + path) }
			fits := func(page string) {
				t.Helper()
				if is(`document.documentElement.scrollWidth > innerWidth`) {
					t.Errorf("%s is wider than the screen", page)
				}
			}
			visit("sign-in", s.URL+"/admin", `input[name="password"]`)
			signIn(nobody, `a[href="/logout"]`)
			look("without a role")
			do("another account", open("/login?return=/admin"))
			signIn(s.owner, "body.console")
			for _, route := range consoleRoutes(s.Server, "GET") {
				if route == "/admin/audit/export" || writesAlone(s.Server, route) {
					continue
				}
				visit(route, s.URL+s.path(route), `body.console main h1`)
				fits(route)
			}
			visit("a filter that means nothing", s.URL+"/admin/audit?since=nonsense&address=192.0.2.1", "h1")
			visit("nothing there", s.URL+"/admin/servers/res_none", "h1")
			visit("what was done", s.URL+"/admin/clients/"+s.ids["clients"]+"?done=client.disabled",
				`.alert.good button`)

			do("a refused form", open("/admin/servers/new"), chromedp.WaitVisible(at(`#identifier`)),
				chromedp.SendKeys(at(`#identifier`), "http://mcp.example.com/mcp\r"),
				chromedp.WaitVisible(at(`.alert`)))
			look("a form that was refused")
			do("a search", open("/admin/people"), chromedp.SendKeys(at(`#q`), "ada"),
				chromedp.WaitVisible(at(`#list[data-says="1 people"]`)))
			look("a list that a script has changed")
			if !is(`document.activeElement.id === "q" && document.getElementById("news").textContent === "1 people"`) {
				t.Error("a search takes the focus, or says nothing")
			}
			do("follow", open("/admin/audit"), chromedp.Click(at(`#follow`)),
				chromedp.WaitVisible(at(`#follow[aria-pressed="true"]`)))
			s.Browser(t).Get("/login").SignIn(&servertest.Person{Email: "nobody@example.com", Password: "wrong"})
			if !is(`new Promise(done => { const all = () => document.querySelectorAll("#list #events > li").length, before = all();
				const look = () => all() > before ? done(true) : setTimeout(look, 50); look(); })`) {
				t.Error("new events do not appear")
			}
			look("the log that is followed")
			do("a table", open("/admin"), chromedp.Click(at(`.chart details summary`)),
				chromedp.WaitVisible(at(`.chart details table`)))
			look("a chart as a table")
			do("a provider that nobody reaches", open("/admin/settings/providers/corp"),
				chromedp.Click(at(`main button.primary`)), chromedp.WaitVisible(at(`main ul.things`)))
			look("a provider that nobody reaches")
			fits("a provider that nobody reaches")
			do("a secret", open("/admin/credentials/new"), chromedp.SendKeys(at(`#name`), "Reporting "+screen.name),
				chromedp.Click(at(`input[name="scope"]`)), chromedp.Click(at(`form.form button.primary`)),
				chromedp.WaitVisible(at(`.secret`)))
			look("a new secret")
			fits("a new secret")

			do("a form whose session ends", open("/admin/groups"), chromedp.WaitVisible(at(`input[name="name"]`)))
			s.Update(func(tx *store.Tx) error { return tx.EndSessions(s.owner.ID) })
			do("a form whose session ended", chromedp.SendKeys(at(`input[name="name"]`), "late\r"),
				chromedp.WaitVisible(at(`ol.steps`)))
			look("a form whose session ended")
			fits("a form whose session ended")
		})
	}
}

// writesAlone reports whether the route has no page, so that a GET leads to another.
func writesAlone(s *servertest.Server, route string) bool {
	verbs := []string{"/approve", "/decide", "/enable", "/unblock", "/remove"}
	return slices.ContainsFunc(verbs, func(verb string) bool { return strings.HasSuffix(route, verb) })
}

// axe-core finds nothing on the page that sets an installation up, before, after a mistake, and when it is done.
func TestSetupAccessibility(t *testing.T) {
	for _, screen := range screens {
		t.Run(screen.name, func(t *testing.T) {
			s := servertest.Start(t)
			token := setupToken(t, s)
			ctx, look, visit := lens(t, screen.width, screen.height, screen.scheme)
			visit("new", s.URL+"/setup#"+token, `input[name="password"]`)
			fill := func(email, password, wait string) {
				t.Helper()
				err := chromedp.Do(ctx, chromedp.SetValue(chromedp.CSS(`#email`), email),
					chromedp.SetValue(chromedp.CSS(`#password`), password),
					chromedp.Click(chromedp.CSS(`form button`)), chromedp.WaitVisible(chromedp.CSS(wait)))
				if err != nil {
					t.Fatal(err)
				}
			}
			fill("ada", "correct horse battery", "#error")
			look("a mistake")
			fill("ada@example.com", "correct horse battery", `a[href="/admin"]`)
			look("done")
		})
	}
}

// writers says which roles besides owner may send each form of the console.
var writers = map[string][]identity.Role{
	"/admin/servers":             {identity.Operator},
	"/admin/servers/{id}/edit":   {identity.Operator},
	"/admin/servers/{id}/delete": {identity.Operator},

	"/admin/servers/add":           {identity.Operator},
	"/admin/servers/{id}/diagnose": {identity.Operator},
	"/admin/servers/{id}/look":     {identity.Operator},
	"/admin/servers/{id}/review":   {identity.Operator},

	"/admin/clients":                    {identity.Operator},
	"/admin/clients/{id}/edit":          {identity.Operator},
	"/admin/clients/{id}/approve":       {identity.Operator},
	"/admin/clients/{id}/decide":        {identity.Operator},
	"/admin/clients/{id}/unapprove":     {identity.Operator},
	"/admin/clients/{id}/enable":        {identity.Operator},
	"/admin/clients/{id}/disable":       {identity.Operator},
	"/admin/clients/{id}/rotate-secret": {identity.Operator},
	"/admin/clients/{id}/block":         {identity.Operator},
	"/admin/clients/{id}/unblock":       {identity.Operator},
	"/admin/clients/{id}/delete":        {identity.Operator},

	"/admin/credentials":             {identity.Operator},
	"/admin/credentials/{id}/roll":   {identity.Operator},
	"/admin/credentials/{id}/delete": {identity.Operator},

	"/admin/people":               nil,
	"/admin/people/{id}/edit":     nil,
	"/admin/people/{id}/enable":   nil,
	"/admin/people/{id}/disable":  nil,
	"/admin/people/{id}/password": nil,
	"/admin/people/{id}/delete":   nil,

	"/admin/people/{id}/second-factor":             nil,
	"/admin/people/{id}/passkeys/{passkey}/remove": nil,

	"/admin/people/invite":                    nil,
	"/admin/people/invitations/{id}/resend":   nil,
	"/admin/people/invitations/{id}/withdraw": nil,
	"/admin/groups":                           nil,
	"/admin/groups/{id}":                      nil,
	"/admin/groups/{id}/remove":               nil,
	"/admin/groups/{id}/edit":                 nil,
	"/admin/groups/{id}/delete":               nil,

	"/admin/grants/{id}/revoke":   {identity.Operator},
	"/admin/sessions/{id}/revoke": {identity.Operator},

	"/admin/keys/rotate":      nil,
	"/admin/keys/{id}/retire": nil,

	"/admin/settings/providers/{id}": {identity.Auditor},
}

// maySend reports whether a role may send a form to the path.
func maySend(r identity.Role, path string) bool {
	return r == identity.Owner || slices.Contains(writers[path], r)
}

// consoleRoutes returns the routes of the console with a method.
func consoleRoutes(s *servertest.Server, method string) (paths []string) {
	for _, route := range s.Server.Routes() {
		if route.Caller == web.Staff && route.Methods[method] != nil {
			paths = append(paths, route.Path)
		}
	}
	return paths
}

// routeOf returns the route of the console that has the path, "" if there is none.
func routeOf(routes []string, path string) string {
	path, _, _ = strings.Cut(path, "?")
	best := ""
	for _, route := range routes {
		pattern, at := strings.Split(route, "/"), strings.Split(path, "/")
		fits := len(pattern) == len(at)
		for i := range at {
			fits = fits && (pattern[i] == at[i] || strings.HasPrefix(pattern[i], "{"))
		}
		if fits && (best == "" || !strings.Contains(route, "{")) {
			best = route
		}
	}
	return best
}

// installation is a server with one of everything that the console shows, by the first part of its path.
type installation struct {
	*servertest.Server
	owner *servertest.Person
	ids   map[string]string
}

// full returns an installation with one of everything. Clients wait there.
func full(t *testing.T) *installation {
	t.Helper()
	corp := upstream.Config{ID: "corp", Preset: "oidc", Name: "Corp", Issuer: "http://127.0.0.1:1", ClientID: "cardea",
		ClientSecret: "the secret of cardea there"}
	s, owner, ada, agent := startInbox(t, func(c *config.Config) { c.Login.Providers = []upstream.Config{corp} })
	o := &admin.Operations{DB: s.DB, Issuer: s.URL}
	root := admin.Command("root", "root@host")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s.Browser(t).Authorize(agent.Authorization()).SignIn(ada)
	r, err := o.Resource(t.Context(), root, servertest.MCP)
	must(err)
	app := s.Client(servertest.Confidential)
	s.Agent(t, app).Connect(s.Browser(t), ada)
	about := "People who work here"
	_, err = o.CreateGroup(t.Context(), root, "staff", admin.GroupTerms{Description: &about})
	must(err)
	_, err = o.AddMember(t.Context(), root, "staff", ada.Email)
	must(err)
	name, read, everything := "Reporting", "cardea:clients:read", "cardea:*"
	credentials := func(scope *string) admin.NewClient {
		return admin.NewClient{ClientTerms: admin.ClientTerms{Name: &name, Scope: scope,
			GrantTypes: []oauth.GrantType{oauth.ClientCredentials}, Resources: []string{s.URL + admin.APIPath}}}
	}
	bot, err := o.CreateClient(t.Context(), root, credentials(&read))
	must(err)
	_, err = o.CreateClient(t.Context(), root, credentials(&everything))
	must(err)
	blocked := s.Client(servertest.Unapproved, servertest.RedirectURIs("https://blocked.example.org/cb"))
	_, err = o.BlockClient(t.Context(), root, blocked.ID, admin.BlockTerms{})
	must(err)
	grants, _, err := o.Grants(t.Context(), root, admin.GrantQuery{Live: true}, store.Page{Limit: 1})
	must(err)
	sessions, _, err := o.Sessions(t.Context(), root, ada.ID, store.Page{Limit: 1})
	must(err)
	var kid string
	s.Update(func(tx *store.Tx) error {
		keys, err := tx.Keys()
		if err == nil {
			kid = keys[0].KID
		}
		return err
	})
	return &installation{s, owner, map[string]string{
		"servers": r.ID, "clients": agent.ClientID, "people": ada.ID, "groups": "staff", "credentials": bot.ID,
		"grants": grants[0].ID, "sessions": sessions[0].ID, "keys": kid,
		"settings": "corp", "audit": s.Events("authorize.code")[0].ID,
	}}
}

// path returns the path of a route for the thing that the installation has.
func (i *installation) path(route string) string {
	return strings.NewReplacer("{id}", url.PathEscape(i.ids[strings.Split(route+"/", "/")[2]]), "{passkey}",
		"psk_none").
		Replace(route)
}

// signedIn returns a browser in which the person is signed in, and the token of the forms that were shown there.
func (i *installation) signedIn(t *testing.T, p *servertest.Person) (b *servertest.Browser, csrf string) {
	t.Helper()
	b = i.Browser(t)
	b.Get("/login").SignIn(p)
	return b, b.Get("/admin/servers/new").Form("csrf").Values().Get("csrf")
}

// Each role is shown what it may do and nothing else, and a form that was not shown to it is refused and recorded.
func TestConsoleRoles(t *testing.T) {
	s := full(t)
	routes, forms := consoleRoutes(s.Server, "GET"), consoleRoutes(s.Server, "POST")
	for path := range writers {
		if !slices.Contains(forms, path) {
			t.Errorf("%s takes no form", path)
		}
	}
	for _, r := range []identity.Role{identity.Auditor, identity.Operator, identity.Owner} {
		person := s.User("p" + string(r) + "@example.com")
		role(t, s.Server, person, identity.Owner)
		b, csrf := s.signedIn(t, person)
		role(t, s.Server, person, r) // a form that is open from before has a good token
		t.Run("AD-01 "+string(r)+" is offered what it may do", func(t *testing.T) {
			seen := map[string]int{}
			for queue := []string{"/admin"}; len(queue) > 0; queue = queue[1:] {
				page := b.Get(queue[0])
				if page.Status != http.StatusOK {
					t.Errorf("%s is linked and answers with %d", queue[0], page.Status)
				}
				for _, form := range page.Forms() {
					action := cmp.Or(form.Action, queue[0])
					if form.Method == http.MethodPost && !maySend(r, routeOf(forms, action)) {
						t.Errorf("%s has a form for %s", queue[0], action)
					}
				}
				for _, link := range page.Links() {
					route := routeOf(routes, link)
					if route == "" || strings.HasPrefix(link, "/admin/audit") && strings.Contains(link, "?") {
						continue
					}
					path, _, _ := strings.Cut(link, "?")
					if seen[path]++; seen[path] > 1 {
						continue
					}
					if seen[route]++; seen[route] < 8 || !strings.Contains(route, "{") {
						queue = append(queue, link)
					}
				}
			}
		})
		t.Run("AD-01 what "+string(r)+" sends", func(t *testing.T) {
			for _, route := range forms {
				if _, known := writers[route]; !known {
					t.Errorf("who may send the form of %s?", route)
				}
				if r == identity.Owner {
					continue
				}
				before := len(s.refusedTo(person.ID))
				page := b.Post(s.path(route), url.Values{"csrf": {csrf}, "scope": {"cardea:clients:read"},
					"kind":     {"public"},
					"resource": {servertest.MCP}})
				switch refused := len(s.refusedTo(person.ID)) - before; {
				case maySend(r, route) && page.Status == http.StatusForbidden:
					t.Errorf("%s: %d\n%s", route, page.Status, page.Body)
				case maySend(r, route):
				case page.Status != http.StatusForbidden || !strings.Contains(page.Body, "ask an owner"):
					t.Errorf("%s: %d\n%s", route, page.Status, page.Body)
				case refused != 1:
					t.Errorf("%s: %d refusals are recorded", route, refused)
				}
			}
		})
	}
	t.Run("AD-01 a person without a role", func(t *testing.T) {
		nobody := s.User("nobody@example.com")
		b := s.Browser(t)
		b.Get("/login").SignIn(nobody)
		for _, route := range routes {
			page := b.Get(s.path(route))
			if page.Status != http.StatusForbidden || !strings.Contains(page.Body, "has no role here") ||
				!slices.Contains(page.Links(), "/logout") {
				t.Errorf("%s: %d\n%s", route, page.Status, page.Body)
			}
		}
		if n := len(s.refusedTo(nobody.ID)); n != len(routes) {
			t.Errorf("%d of %d refusals are recorded", n, len(routes))
		}
		for _, route := range forms {
			if page := b.Post(s.path(route), nil); page.Status != http.StatusForbidden {
				t.Errorf("%s: %d", route, page.Status)
			}
		}
	})
	t.Run("a role that was taken away counts no more, not even for a form that is open", func(t *testing.T) {
		person := s.User("late@example.com")
		role(t, s.Server, person, identity.Operator)
		b := s.Browser(t)
		b.Get("/login").SignIn(person)
		page := b.Get("/admin/servers/new")
		role(t, s.Server, person, "")
		page = page.Submit(page.Form("identifier"), servertest.With("identifier", "https://late.example.com/mcp"))
		if page.Status != http.StatusForbidden {
			t.Errorf("status %d", page.Status)
		}
	})
	t.Run("a sign-in that is too old is asked for again before keys are rotated", func(t *testing.T) {
		b, _ := s.signedIn(t, s.owner)
		page := b.Get("/admin/keys/rotate")
		s.Clock.Advance(16 * time.Minute)
		page = page.Submit(page.Form("alg"))
		at, err := url.Parse(page.URL)
		if err != nil || at.Path != "/login" || at.Query().Get("return") != "/admin/keys/rotate" ||
			!strings.Contains(page.Body, "Sign in again") {
			t.Errorf("it leads to %s", page.URL)
		}
	})
}

// refusedTo returns the refusals whose actor is the person.
func (i *installation) refusedTo(id string) (found []audit.Event) {
	for _, e := range i.Events("") {
		if e.Actor.ID == id && e.Outcome == audit.Refused {
			found = append(found, e)
		}
	}
	return found
}
