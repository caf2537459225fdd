package console

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

// rights say what the role of a visitor allows. A page offers only that; each operation asks for itself.
type rights func(noun admin.Noun, to admin.Access) bool

// Read reports whether the visitor may look at a noun.
func (may rights) Read(noun admin.Noun) bool { return may(noun, admin.Read) }

// Change reports whether the visitor may change a noun.
func (may rights) Change(noun admin.Noun) bool { return may(noun, admin.Write) }

// A pager shows a page, and a changer does what a form of one asks for.
type (
	pager   = func(*visit) (outcome, error)
	changer = func(*visit, url.Values) (outcome, error)
)

// offer adapts the page of a form that changes a noun: a person who may not do that learns it before filling the form
// in. action is what the refusal is recorded as.
func (e *Endpoint) offer(noun admin.Noun, action string, page pager) pager {
	return func(v *visit) (outcome, error) {
		if err := e.Operations.Permit(v.Context(), v.caller, admin.Write, action, noun); err != nil {
			return nil, err
		}
		return page(v)
	}
}

// form returns the route of a form that changes a noun, and of its page; if page is nil, a GET leads to the page above.
func (e *Endpoint) form(path string, noun admin.Noun, action string, page pager, change changer) web.Route {
	if page == nil {
		return e.route(path, nil, e.do(noun, action, change))
	}
	return e.route(path, e.show(e.offer(noun, action, page)), e.do(noun, action, change))
}

// fresh adapts a page that needs a recent sign-in, because it changes what decides about others: keys, accounts, API
// credentials.
func (e *Endpoint) fresh(page pager) pager {
	return func(v *visit) (outcome, error) {
		if e.stale(v) {
			return away{e.signIn(v.Request)}, nil
		}
		return page(v)
	}
}

// freshly is fresh for what the form of such a page asks for.
func (e *Endpoint) freshly(change changer) changer {
	return func(v *visit, form url.Values) (outcome, error) {
		if e.stale(v) {
			return away{e.later(v.Request, v.Browser, form, true)}, nil
		}
		return change(v, form)
	}
}

// stale reports whether the sign-in of v is too old for what needs a recent one.
func (e *Endpoint) stale(v *visit) bool { return !e.Sessions.Recent(v.Visitor) }

// unsent is the page for a form that came without a sign-in, or with one that is too old. It keeps what was typed,
// other than passwords, so that the person can sign in beside it and send the form again.
type unsent struct {
	Again     bool // the person is signed in, but for too long
	Fields    []field
	Passwords []string // names of inputs that have to be filled in again
}

type field struct{ Name, Value string }

// Page returns the page, with status 403.
func (p unsent) Page() web.Page {
	return templates.Page("unsent.html", p).WithStatus(http.StatusForbidden)
}

// later answers a form that came without a sign-in, or with one that is too old. If nothing was typed into it, it leads
// to the sign-in and back to the page of the form.
func (e *Endpoint) later(r *http.Request, browser web.Browser, form url.Values, again bool) web.Answer {
	page, typed := unsent{Again: again}, false
	for name, values := range form {
		if name == "password" {
			page.Passwords, typed = append(page.Passwords, name), true
			continue
		}
		typed = typed || name != "csrf"
		for _, value := range values {
			page.Fields = append(page.Fields, field{name, value})
		}
	}
	if !typed {
		return e.signIn(r)
	}
	slices.SortStableFunc(page.Fields, func(a, b field) int { return strings.Compare(a.Name, b.Name) })
	return web.WithCookie(page, browser.Cookie())
}

// outsider is the page for a signed-in person without a role. Email is the person's address.
type outsider struct{ Email string }

// Page returns the page, with status 403.
func (p outsider) Page() web.Page {
	return templates.Page("outsider.html", p).WithStatus(http.StatusForbidden)
}

var errOutsider = oauth.RefuseStatus(http.StatusForbidden, oauth.AccessDenied,
	"the account has no role in this installation")

// turnAway answers a visitor without a role.
func (e *Endpoint) turnAway(r *http.Request, person *identity.User) (web.Answer, error) {
	if _, err := e.Pages.Refused(r, audit.Console(person.ID, e.path(r)), errOutsider); err != nil {
		return nil, err
	}
	return outsider{Email: person.Email}, nil
}
