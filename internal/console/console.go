// Package console serves the pages of operators under /admin: a section for each kind of record that internal/admin
// operates on, and a page for each record. A page is a thin layer over an operation of admin, which judges the person's
// role and records the change. Every page and every action works without JavaScript; htmx only spares loading whole
// pages.
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
	"sync/atomic"
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
	"machine":  func(m admin.Moment) string { return m.UTC().Format(time.RFC3339) },
	"human":    human,
	"exact":    func(m admin.Moment) string { return m.UTC().Format("2 Jan 2006, 15:04:05 UTC") },
	"person":   personName,
	"plain":    audit.Plain,
	"join":     func(words []string) string { return strings.Join(words, ", ") },
	"path":     url.PathEscape,
	"fields":   strings.Fields,
	"proof":    proof,
	"sentence": web.Sentence,
})

// human returns a time for people to read.
func human(m admin.Moment) string { return m.UTC().Format("2 Jan 2006, 15:04 UTC") }

// Endpoint implements the console. All fields must be set.
type Endpoint struct {
	DB         *store.DB
	Pages      *web.Pages
	Sessions   *interaction.Sessions
	Operations *admin.Operations

	// Transport sends the requests of diagnoses. It must not reach what only this server reaches
	// (fetch.Client.Transport).
	Transport *http.Transport

	exporting  atomic.Int32 // how many exports are running
	diagnosing diagnoses
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

// visit is a request of a signed-in person with a role.
type visit struct {
	*http.Request
	interaction.Visitor
	caller admin.Caller
	may    rights
	path   string // below the path of the issuer, with its escapes
	query  url.Values
	// version is the entity tag of the record that a form on the page changes, "" if there is none. A form sends the
	// one of the record that was shown, so that it does not undo what somebody else has changed since.
	version string
}

// save makes the change that a form asks for, unless the record was changed since the form was shown, to something else
// than what it asks for: a form that is sent twice is saved once.
func (e *Endpoint) save(v *visit, read, update func(*admin.Operations) (any, error)) error {
	operations := e.Operations
	if v.version != "" {
		operations = operations.For(admin.Request{Match: []string{v.version}})
	}
	_, err := update(operations)
	if refused := (*admin.Error)(nil); !errors.As(err, &refused) || refused.Kind != admin.Stale {
		return err
	}
	same := false
	if fault := e.Operations.Rehearse(v.Context(), v.caller, func(o *admin.Operations) error {
		there, err := read(o)
		if err != nil {
			return err
		}
		asked, err := update(o)
		if err != nil {
			return err
		}
		before, _ := admin.ETag(there)
		after, _ := admin.ETag(asked)
		same = before == after
		return nil
	}); fault != nil {
		return fault
	}
	if same {
		return nil
	}
	return err
}

// wrong returns the field and the sentence of an error for what a person typed, and reports whether it is one, so that
// the form is shown again. If the record was changed since the form was shown, it replaces that when it is sent again.
func (v *visit) wrong(err error) (field, problem string, ok bool) {
	refused := (*admin.Error)(nil)
	switch {
	case !errors.As(err, &refused) || refused.Kind == admin.Forbidden || refused.Kind == admin.NotFound:
		return "", "", false
	case refused.Kind == admin.Stale:
		v.version = "*"
		return "", "Somebody has changed this since the form was opened. What you typed is still here and is not " +
			"saved. Look at what is there now in another tab, or save again to replace it.", true
	}
	return refused.Field, web.Sentence(refused.Text(label)), true
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

// perPage is the number of entries on one page of a list.
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
	May     rights
	Who     string
	Role    string
	CSRF    string
	Version string // of the record that the form changes
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
		Title: s.title, May: v.may, Who: v.Person.Label(), Role: string(v.Person.Role), CSRF: e.token(v),
		Version: v.version, Problem: s.problem,
		Done: doneOf(v), Body: s.body,
	}
	for _, m := range menu {
		if m.path == "/admin/settings" && !v.may.Read(admin.Settings) {
			continue
		}
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
func (e *Endpoint) show(page pager) http.Handler {
	return e.Pages.Reading(func(r *http.Request) (web.Answer, error) {
		v, answer, err := e.enter(r)
		switch {
		case err != nil:
			return nil, err
		case v == nil && answer == nil:
			return e.signIn(r), nil
		case v == nil:
			return answer, nil
		}
		return e.finish(v, page)
	})
}

// finish returns the answer of page, in which a refusal of an operation becomes a page of the console that says so.
func (e *Endpoint) finish(v *visit, page pager) (web.Answer, error) {
	out, err := page(v)
	if refused := (*admin.Error)(nil); errors.As(err, &refused) {
		out, err = refusal(refused), nil
	}
	if refused, ok := oauth.AsRefusal(err); ok && refused.Status() < http.StatusInternalServerError {
		out, err = e.refused(v, refused), nil
	}
	if err != nil {
		return nil, err
	}
	return out.answer(e, v), nil
}

// refusal is the page that tells a person why an operation was refused. The menu beside it is the way on.
func refusal(err *admin.Error) screen {
	var status int
	switch err.Kind {
	case admin.Forbidden:
		status = http.StatusForbidden
	case admin.NotFound:
		status = http.StatusNotFound
	case admin.Conflict, admin.Stale:
		status = http.StatusConflict
	case admin.Invalid:
		status = http.StatusBadRequest
	}
	return notDone(status, web.Sentence(err.Text(label)), "")
}

// refused is refusal for a refusal of the console itself, which leads back to the page that has the form.
func (e *Endpoint) refused(v *visit, err *oauth.Refusal) screen {
	back := ""
	if v.Method == http.MethodPost {
		back = v.path
	}
	return notDone(err.Status(), web.Sentence(err.Description), back)
}

// notDone is the page that says why something was not done. back is the path of the page to try it from again, or "".
func notDone(status int, problem, back string) screen {
	title := "This cannot be done"
	switch status {
	case http.StatusForbidden:
		title = "This is not allowed"
	case http.StatusNotFound:
		title = "Nothing here"
	}
	return screen{template: "refusal.html", title: title, status: status, problem: problem, body: back}
}

// unknown returns s with the sentence of err instead of an error if err says that what a filter names is not there.
func (s screen) unknown(err error) (outcome, error) {
	if refused := (*admin.Error)(nil); errors.As(err, &refused) && refused.Kind == admin.NotFound {
		s.problem, s.status = web.Sentence(refused.Text(label)), http.StatusUnprocessableEntity
		return s, nil
	}
	return s, err
}

// do adapts what a form asks for: it is from a page of the console that this person was shown in this browser, and the
// person may change the noun. Otherwise the refusal is recorded, as action in the second case.
func (e *Endpoint) do(noun admin.Noun, action string, change changer) http.Handler {
	return e.posted(func(v *visit, form url.Values) (outcome, error) {
		return e.offer(noun, action, func(v *visit) (outcome, error) { return change(v, form) })(v)
	})
}

// posted is do for what asks for the person's rights itself.
func (e *Endpoint) posted(change changer) http.Handler {
	return e.Pages.HTML(func(r *http.Request) (web.Answer, error) {
		form, err := web.Form(r, "resource", "group", "scope")
		if err != nil {
			return nil, err
		}
		v, answer, err := e.enter(r)
		switch {
		case err != nil:
			return nil, err
		case v == nil && answer == nil:
			return e.later(r, e.Pages.Browser(r), form, false), nil
		case v == nil:
			return answer, nil
		}
		return e.finish(v, func(v *visit) (outcome, error) {
			if !e.Pages.Check(v.Browser, form.Get("csrf"), purpose(v)...) {
				return nil, e.Pages.Refuse(r, audit.ForeignForm(r.URL.Path, r.Header.Get("Origin")), errForm)
			}
			v.version = form.Get("version")
			return change(v, form)
		})
	})
}

var errForm = oauth.RefuseStatus(http.StatusForbidden, oauth.AccessDenied,
	"the form is from another browser or account, or its page was open for too long: open the page again, and send it "+
		"from there")

// token returns the token of the forms that v is shown.
func (e *Endpoint) token(v *visit) string { return e.Pages.Token(v.Browser, purpose(v)...) }

// purpose binds a form to the person, not to the session, so that a form that was open when the session ended can be
// sent after the same person has signed in again in the same browser.
func purpose(v *visit) []string { return []string{"console", v.Person.ID} }

// enter returns the visit that r is, or what a visitor without a role is answered. It returns nothing if nobody is
// signed in.
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
		return nil, nil, nil
	case visitor.Person.Role == "":
		answer, err := e.turnAway(r, visitor.Person)
		return nil, answer, err
	}
	caller := admin.Person(visitor.Person, nil).While(func(tx *store.Tx) error {
		_, _, err := tx.Session(visitor.Session.Hash)
		return err
	})
	may, err := e.Operations.Allows(r.Context(), caller)
	if err != nil {
		return nil, nil, err
	}
	return &visit{Request: r, Visitor: visitor, caller: caller, may: may, path: e.path(r), query: query}, nil, nil
}

// path returns the path of r below the path of the issuer, with its escapes.
func (e *Endpoint) path(r *http.Request) string {
	return strings.TrimPrefix(r.URL.EscapedPath(), e.Pages.Base)
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
		e.overviewRoutes(), e.serverRoutes(), e.toolRoutes(), e.diagnosisRoutes(), e.clientRoutes(), e.waitingRoutes(),
		e.accessRoutes(), e.peopleRoutes(),
		e.invitationRoutes(), e.auditRoutes(), e.keyRoutes(), e.credentialRoutes(), e.settingRoutes(),
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
