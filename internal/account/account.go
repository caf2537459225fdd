// Package account serves the pages on which people make and keep their accounts: /setup, where the one-time link of the
// first start makes the first owner, /invite, where an invited person makes theirs, and /account, where a person sees
// and changes their account. All of them work without scripts.
package account

import (
	"embed"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/login"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

//go:embed templates/*.html
var files embed.FS

var templates = web.ParseTemplates(files, template.FuncMap{
	"machine": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"exact":   func(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:04 UTC") },
	"browser": browserName,
})

// Endpoint implements the pages under /account, on which people see and change their own account only. All fields must
// be set.
type Endpoint struct {
	DB       *store.DB
	Pages    *web.Pages
	Sessions *interaction.Sessions
	Login    *login.Endpoint
}

// Routes returns the routes of the pages.
func (e *Endpoint) Routes() []web.Route {
	routes := slices.Concat(e.agentRoutes(), e.sessionRoutes(), e.activityRoutes(), e.dataRoutes(), e.undoRoutes(),
		[]web.Route{route("/account/security", e.show(e.security), nil)})
	for _, s := range e.sections() {
		routes = append(routes, s.routes()...)
	}
	return routes
}

// route returns the route of a page; show or change may be nil.
func route(path string, show, change http.Handler) web.Route {
	methods := web.Methods{}
	if show != nil {
		methods[http.MethodGet] = show
	}
	if change != nil {
		methods[http.MethodPost] = change
	}
	return web.Route{Path: path, Methods: methods, Caller: web.Members}
}

// menu is the pages, in their order.
var menu = []struct{ Path, Name string }{
	{"/account", "Agents"},
	{"/account/sessions", "Browsers"},
	{"/account/security", "Sign-in"},
	{"/account/activity", "Activity"},
	{"/account/data", "Your data"},
}

// visit is a request from the browser of a signed-in person.
type visit struct {
	*http.Request
	interaction.Visitor
	e     *Endpoint
	query url.Values
}

// id returns the segment {id} of the path.
func (v *visit) id() string { return v.PathValue("id") }

// CSRF returns the token of a form of this person's pages, in this session. form is the name of the form.
func (v *visit) CSRF(form string) string { return v.e.Pages.Token(v.Browser, v.purpose(form)...) }

func (v *visit) purpose(form string) []string { return []string{"account", form, v.Session.Hash} }

// page returns the part of a list that the query asks for, newest first.
func (v *visit) page() store.Page {
	return store.Page{After: v.query.Get("after"), Limit: perPage, Newest: true}
}

// perPage is the number of entries on one page of a list.
const perPage = 25

// screen is a page of the account.
type screen struct {
	template string // the name of its file
	title    string
	here     string // the path of the page in the menu
	body     any    // what the template sees as .View.Body
	next     string // the cursor of the next page of a list, or ""
	problem  string // a sentence on why what was asked for was not done; "": none
	status   int    // 0: 200
	leaves   bool   // a form leads to another site
}

// frame is what every template of the account sees as .View.
type frame struct {
	*visit
	Title   string
	Menu    []entry
	Done    string // what was just done; "": nothing
	Problem string
	Path    string // of this page
	First   bool   // this page is not the first of a list
	Next    string // the query of the next page, or ""
	Body    any
}

type entry struct {
	Path, Name string
	Here       bool
}

// answer returns the page.
func (v *visit) answer(s screen) (web.Answer, error) {
	f := frame{visit: v, Title: s.title, Done: deeds[v.query.Get("done")], Problem: s.problem, Path: s.here,
		Body: s.body, First: v.query.Has("after")}
	if s.problem != "" {
		f.Done = ""
	}
	for _, m := range menu {
		f.Menu = append(f.Menu, entry{m.Path, m.Name, m.Path == s.here})
	}
	if s.next != "" {
		f.Next = "?after=" + url.QueryEscape(s.next)
	}
	page := templates.Page(s.template, f)
	if s.leaves {
		page = page.AnswersClient()
	}
	if s.status != 0 {
		page = page.WithStatus(s.status)
	}
	return web.WithCookie(page, v.Browser.Cookie()), nil
}

// deeds are the sentences for what was done, by the key that a redirect carries.
var deeds = map[string]string{
	"disconnected":     "Disconnected. What it could do here has ended.",
	"disconnected-all": "All agents are disconnected. What they could do here has ended.",
	"restored":         "Connected again, as it was.",
	"session-ended":    "You are signed out there.",
	"connected":        "Connected. You can sign in with it from now on.",
	"connection-ended": "Disconnected. It does not sign you in any more, and you are signed out in all other browsers.",
	"passkey-added":    "Your passkey is added. You can sign in with it from now on.",
	"passkey-renamed":  "The passkey has its new name.",
	"passkey-removed": "The passkey is removed. Nobody can sign in with it any more; " +
		"where you are signed in, you stay signed in.",
	"password": "Your password is changed, and you are signed out in all other browsers.",
}

// done leads to a page of the account on which the sentence of deed is shown.
func done(path, deed string) (web.Answer, error) { return web.SeeOther(path + "?done=" + deed), nil }

// show adapts a function that shows a page.
func (e *Endpoint) show(page func(*visit) (web.Answer, error)) http.Handler {
	return e.Pages.Reading(func(r *http.Request) (web.Answer, error) {
		v, answer, err := e.enter(r)
		if err != nil || answer != nil {
			return answer, err
		}
		return v.finish(page(v))
	})
}

// change adapts a function that changes something. The form with the given name is from a page that this session was
// shown.
func (e *Endpoint) change(name string, do func(*visit, url.Values) (web.Answer, error)) http.Handler {
	return e.Pages.HTML(func(r *http.Request) (web.Answer, error) {
		v, answer, err := e.enter(r)
		if err != nil || answer != nil {
			return answer, err
		}
		form, err := web.Form(r)
		if err != nil {
			return nil, err
		}
		if !e.Pages.Check(v.Browser, form.Get("csrf"), v.purpose(name)...) {
			return nil, e.Pages.Refuse(r, audit.ForeignForm(r.URL.Path, r.Header.Get("Origin")), errForm)
		}
		return v.finish(do(v, form))
	})
}

var (
	errForm = oauth.RefuseStatus(http.StatusForbidden, oauth.AccessDenied,
		"this page was open for too long, or you have signed in again since: go back, reload the page and try again")
	errNotFound = oauth.RefuseStatus(http.StatusNotFound, "not_found", "there is nothing of yours at this address")
)

// sentence returns the description of a refusal as a sentence.
func sentence(err error) string {
	refusal, _ := oauth.AsRefusal(err)
	return web.Sentence(refusal.Description)
}

// finish returns an answer, in which a session that has ended leads to the sign-in, and a refusal of something of the
// person's becomes a page with the menu beside it.
func (v *visit) finish(answer web.Answer, err error) (web.Answer, error) {
	switch {
	case errors.Is(err, interaction.ErrSignedOut):
		return v.e.signIn(v.Request), nil
	case errors.Is(err, errNotFound):
		return v.answer(screen{template: "refused.html", title: "Nothing here", status: http.StatusNotFound,
			problem: sentence(errNotFound)})
	}
	return answer, err
}

// enter returns the visit that r is, or where to sign in first.
func (e *Endpoint) enter(r *http.Request) (*visit, web.Answer, error) {
	query, err := web.Query(r)
	if err != nil {
		return nil, nil, err
	}
	visitor, err := e.Sessions.Visitor(r)
	switch {
	case err != nil:
		return nil, nil, err
	case !visitor.SignedIn():
		return nil, e.signIn(r), nil
	}
	return &visit{Request: r, Visitor: visitor, e: e, query: query}, nil, nil
}

// signIn sends the browser to the sign-in page, and from there back to the page where r is; where r posted something,
// to that of the menu which has the form.
func (e *Endpoint) signIn(r *http.Request) web.Answer {
	back := strings.TrimPrefix(r.URL.EscapedPath(), e.Pages.Base)
	if r.Method == http.MethodPost && back != "/account/delete" {
		posted := back
		back = "/account"
		if strings.HasPrefix(posted, factorPath) {
			back = factorPath
		}
		for _, m := range menu {
			if strings.HasPrefix(posted, m.Path+"/") {
				back = m.Path
			}
		}
	}
	return web.SeeOther("/login?return=" + url.QueryEscape(back))
}

// update runs fn in a transaction in which the session of v is still there. It returns interaction.ErrSignedOut if it
// is not.
func (v *visit) update(fn func(*store.Tx) error) error {
	return v.e.DB.Update(v.Context(), func(tx *store.Tx) error {
		err := v.e.Sessions.Confirm(tx, v.Visitor)
		if errors.Is(err, store.ErrNotFound) {
			return interaction.ErrSignedOut
		}
		if err != nil {
			return err
		}
		return fn(tx)
	})
}

// view runs fn in a transaction that only reads.
func (v *visit) view(fn func(*store.Tx) error) error {
	return v.e.DB.View(v.Context(), fn)
}

// ago returns how long ago something was, in words.
func (v *visit) ago(at time.Time) string {
	if text := audit.Lasting(v.e.DB.Now().Sub(at)); text != "" {
		return text + " ago"
	}
	return "just now"
}

// moment is a time for people to read.
type moment struct {
	At  time.Time
	Ago string
}

func (v *visit) moment(at time.Time) moment { return moment{at, v.ago(at)} }

// browserName returns what a browser calls itself, in words that people use, or what it says if that is not known.
func browserName(agent string) string {
	first := func(names ...[2]string) string {
		for _, name := range names {
			if strings.Contains(agent, name[0]) {
				return name[1]
			}
		}
		return ""
	}
	browser := first([2]string{"Edg", "Edge"}, [2]string{"OPR/", "Opera"}, [2]string{"Firefox/", "Firefox"},
		[2]string{"FxiOS/", "Firefox"}, [2]string{"Chrome/", "Chrome"}, [2]string{"CriOS/", "Chrome"},
		[2]string{"Safari/", "Safari"})
	system := first([2]string{"Windows", "Windows"}, [2]string{"iPhone", "iPhone"}, [2]string{"iPad", "iPad"},
		[2]string{"Android", "Android"}, [2]string{"Mac OS X", "Mac"}, [2]string{"CrOS", "ChromeOS"},
		[2]string{"Linux", "Linux"})
	switch {
	case browser != "" && system != "":
		return browser + " on " + system
	case browser != "":
		return browser
	case agent == "":
		return "Unknown browser"
	}
	return web.DisplayName(agent)
}
