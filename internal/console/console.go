// Package console is the pages of operators under /admin, with a section for each kind of thing that internal/admin
// operates on and a page for each thing. A page is a thin layer over an
// operation of admin, which judges the person's role and records the change. Every page and every action works without
// JavaScript; htmx only spares loading whole pages.
package console

import (
	"context"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

//go:embed templates/*.html
var files embed.FS

var templates = web.ParseTemplates(files, template.FuncMap{
	"machine": func(m admin.Moment) string { return m.UTC().Format(time.RFC3339) },
	"human":   human,
	"exact":   func(m admin.Moment) string { return m.UTC().Format("2 Jan 2006, 15:04:05 UTC") },
	"plain":   audit.Plain,
	"join":    func(words []string) string { return strings.Join(words, ", ") },
	"path":    url.PathEscape,
})

// human returns a time for people to read.
func human(m admin.Moment) string { return m.UTC().Format("2 Jan 2006, 15:04 UTC") }

// Endpoint implements the console. All fields must be set.
type Endpoint struct {
	DB         *store.DB
	Pages      *web.Pages
	Sessions   *interaction.Sessions
	Operations *admin.Operations
	// Refuse records a refusal and returns it, or turns away a sender that has been refused too often
	// (strangers.Recorder.Refuse).
	Refuse func(r *http.Request, event audit.Event, err error) error
}

// section is an entry of the menu.
type section struct{ path, name string }

// menu is the sections, in the order of an operator's day.
var menu = []section{
	{"/admin", "Overview"},
	{"/admin/servers", "MCP servers"},
	{"/admin/clients", "Clients"},
	{"/admin/people", "People"},
	{"/admin/groups", "Groups"},
	{"/admin/grants", "Grants"},
	{"/admin/sessions", "Sessions"},
	{"/admin/audit", "Audit"},
	{"/admin/keys", "Keys"},
	{"/admin/credentials", "API credentials"},
	{"/admin/settings", "Settings"},
}

// visit is a request of a person who is signed in and has a role.
type visit struct {
	*http.Request
	interaction.Visitor
	caller admin.Caller
	path   string // below the path of the issuer, with its escapes
	query  url.Values
}

// id returns the segment {id} of the path.
func (v *visit) id() string { return v.PathValue("id") }

// onClient adapts an operation on the client that the path names.
func (e *Endpoint) onClient(deed string,
	operate func(context.Context, admin.Caller, string) (admin.Client, error),
) func(*visit, url.Values) (outcome, error) {
	return func(v *visit, _ url.Values) (outcome, error) {
		_, err := operate(v.Context(), v.caller, v.id())
		return redirect{clientPath(v.id()), deed}, err
	}
}

// page returns the part of a list that the query asks for, newest first.
func (v *visit) page() store.Page {
	return store.Page{After: v.query.Get("after"), Limit: perPage, Newest: true}
}

// searched is page of what has a name that begins with begins, or of all if that is "".
func (v *visit) searched(begins string) store.Page {
	page := v.page()
	page.Begins = begins
	return page
}

// perPage is the number of things on one page of a list.
const perPage = 50

// outcome is what a page function returns: a screen, or a redirect.
type outcome interface {
	answer(e *Endpoint, v *visit) web.Answer
}

// screen is a page of the console.
type screen struct {
	template string // the name of its file
	title    string
	body     any    // what the template sees as .View.Body
	problem  string // a sentence on why what was asked for was not done; "": none
	status   int    // 0: 200
}

// shell is what every template of the console sees as .View.
type shell struct {
	Title   string
	Menu    []entry
	Who     string
	Role    string
	CSRF    string
	Done    *done  // what was just done; nil: nothing
	Problem string // why it was not done; "": it was
	Pages   *pages // of a list that has more than one page, else nil
	Body    any
}

// entry is a line of the menu.
type entry struct {
	Path, Name string
	Here       bool
	Count      int // of what waits there for a decision
}

// pages are the links below a list.
type pages struct{ First, Next string }

// paged is implemented by the body of a screen that shows a part of a list.
type paged interface{ next() string }

func (s screen) answer(e *Endpoint, v *visit) web.Answer {
	view := shell{
		Title: s.title, Who: v.Person.Email, Role: string(v.Person.Role), CSRF: e.token(v), Problem: s.problem,
		Done: doneOf(v), Body: s.body,
	}
	for _, m := range menu {
		here := v.path == m.path || m.path != "/admin" && strings.HasPrefix(v.path, m.path+"/")
		line := entry{Path: m.path, Name: m.name, Here: here}
		if m.path == "/admin/clients" {
			line.Count = e.waitingCount(v)
		}
		view.Menu = append(view.Menu, line)
	}
	if list, ok := s.body.(paged); ok && (list.next() != "" || v.query.Has("after")) {
		view.Pages = &pages{}
		if v.query.Has("after") {
			view.Pages.First = e.Pages.Base + v.with("after", "")
		}
		if list.next() != "" {
			view.Pages.Next = e.Pages.Base + v.with("after", list.next())
		}
	}
	page := templates.Page(s.template, view).Scripted()
	if s.status != 0 {
		page = page.WithStatus(s.status)
	}
	return web.WithCookie(page, v.Browser.Cookie())
}

// with returns the path and query of the page with one parameter of its query changed, or removed if value is "".
func (v *visit) with(name, value string) string {
	query := url.Values{}
	for n, values := range v.query {
		if n != "done" {
			query[n] = values
		}
	}
	query.Del(name)
	if value != "" {
		query.Set(name, value)
	}
	if len(query) == 0 {
		return v.path
	}
	return v.path + "?" + query.Encode()
}

// redirect sends the browser to a page of the console after a change.
type redirect struct {
	path string
	done string // key of what was done, "" for nothing
}

func (to redirect) answer(*Endpoint, *visit) web.Answer {
	if to.done != "" {
		to.path += "?done=" + url.QueryEscape(to.done)
	}
	return web.SeeOther(to.path)
}

// show adapts a function that shows a page.
func (e *Endpoint) show(page func(*visit) (outcome, error)) http.Handler {
	return e.Pages.Reading(func(r *http.Request) (web.Answer, error) {
		v, answer, err := e.enter(r)
		if err != nil || answer != nil {
			return answer, err
		}
		return e.finish(v, page)
	})
}

// finish returns the answer of page, in which a refusal of an operation becomes a page of the console that says so.
func (e *Endpoint) finish(v *visit, page func(*visit) (outcome, error)) (web.Answer, error) {
	out, err := page(v)
	if refused := (*admin.Error)(nil); errors.As(err, &refused) {
		out, err = refusal(refused), nil
	}
	if err != nil {
		return nil, err
	}
	return out.answer(e, v), nil
}

// refusal is the page that tells a person why an operation was refused. The menu beside it is the way on.
func refusal(err *admin.Error) screen {
	s := screen{template: "refusal.html", title: "This cannot be done", status: http.StatusBadRequest,
		problem: web.Sentence(err.Text(label))}
	switch err.Kind {
	case admin.Forbidden:
		s.title, s.status = "This is not allowed", http.StatusForbidden
	case admin.NotFound:
		s.title, s.status = "Nothing here", http.StatusNotFound
	case admin.Conflict, admin.Stale:
		s.status = http.StatusConflict
	}
	return s
}

// unknown returns s with the sentence of err instead of an error if err says that what a filter names is not there.
func (s screen) unknown(err error) (outcome, error) {
	if refused := (*admin.Error)(nil); errors.As(err, &refused) && refused.Kind == admin.NotFound {
		s.problem, s.status = web.Sentence(refused.Text(label)), http.StatusUnprocessableEntity
		return s, nil
	}
	return s, err
}

// do adapts a function that changes something: the form is from a page of the console that this session was shown.
func (e *Endpoint) do(change func(*visit, url.Values) (outcome, error)) http.Handler {
	return e.Pages.HTML(func(r *http.Request) (web.Answer, error) {
		v, answer, err := e.enter(r)
		if err != nil || answer != nil {
			return answer, err
		}
		form, err := web.Form(r, "resource", "group", "scope")
		if err != nil {
			return nil, err
		}
		if !e.Pages.Check(v.Browser, form.Get("csrf"), e.purpose(v)...) {
			return nil, e.Refuse(r, audit.ForeignForm(r.URL.Path, r.Header.Get("Origin")), errForm)
		}
		return e.finish(v, func(v *visit) (outcome, error) { return change(v, form) })
	})
}

var errForm = oauth.RefuseStatus(http.StatusForbidden, oauth.AccessDenied,
	"this page was open for too long, or you have signed in again since: go back, reload the page and try again")

// token returns the token of the forms that the session of v is shown.
func (e *Endpoint) token(v *visit) string { return e.Pages.Token(v.Browser, e.purpose(v)...) }

func (e *Endpoint) purpose(v *visit) []string { return []string{"console", v.Session.Hash} }

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
	case visitor.Person.Role == "":
		return nil, nil, oauth.RefuseStatus(http.StatusForbidden, oauth.AccessDenied,
			"%s has no role in this installation: ask an owner for one, or sign out and sign in with another account",
			visitor.Person.Email)
	}
	return &visit{Request: r, Visitor: visitor, caller: admin.Person(visitor.Person, nil), path: e.path(r),
		query: query}, nil, nil
}

// path returns the path of r below the path of the issuer, with its escapes.
func (e *Endpoint) path(r *http.Request) string {
	return strings.TrimPrefix(r.URL.EscapedPath(), e.Pages.Base)
}

// fresh adapts a page function that needs a recent sign-in, because it changes what decides about others: keys, roles,
// API credentials.
func (e *Endpoint) fresh(page func(*visit) (outcome, error)) func(*visit) (outcome, error) {
	return func(v *visit) (outcome, error) {
		if !e.Sessions.Recent(v.Visitor) {
			return away{e.signIn(v.Request)}, nil
		}
		return page(v)
	}
}

// freshly is fresh for a change.
func (e *Endpoint) freshly(change func(*visit, url.Values) (outcome, error)) func(*visit, url.Values) (outcome, error) {
	return func(v *visit, form url.Values) (outcome, error) {
		return e.fresh(func(v *visit) (outcome, error) { return change(v, form) })(v)
	}
}

// away is an outcome that leads out of the console.
type away struct{ web.Answer }

func (a away) answer(*Endpoint, *visit) web.Answer { return a.Answer }

// signIn sends the browser to the sign-in page, and from there back to where r is; where r posted something, to the
// page that has the form. A script that fetches a part of a page is told to load the whole page there, because a
// sign-in form must not appear in the middle of a list.
func (e *Endpoint) signIn(r *http.Request) web.Answer {
	back := e.path(r)
	if r.Method == http.MethodGet && r.URL.RawQuery != "" {
		back += "?" + r.URL.RawQuery
	}
	return web.Away(r, "/login?return="+url.QueryEscape(back))
}

// Routes returns the routes of the console.
func (e *Endpoint) Routes() []web.Route {
	return slices.Concat(
		e.overviewRoutes(), e.serverRoutes(), e.clientRoutes(), e.waitingRoutes(), e.accessRoutes(), e.peopleRoutes(),
		e.auditRoutes(), e.keyRoutes(), e.credentialRoutes(),
	)
}

// route returns the route of a page; show or do may be nil. If show is nil, a sign-in that comes back leads to above.
func (e *Endpoint) route(path string, show, do http.Handler) web.Route {
	if show == nil {
		show = e.show(above)
	}
	methods := web.Methods{"GET": show}
	if do != nil {
		methods["POST"] = do
	}
	return web.Route{Path: path, Methods: methods, Caller: web.Staff, Escapes: strings.Contains(path, "{")}
}

// above leads to the page whose path is one segment shorter.
func above(v *visit) (outcome, error) {
	return redirect{path: v.path[:strings.LastIndexByte(v.path, '/')]}, nil
}
