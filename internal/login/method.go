package login

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// Method is a way in which people prove who they are. Each has a file of its own, and methods lists them.
type Method interface {
	// Name is the method's name in login.methods, or in its own list.
	Name() string
	// Offer adds to the sign-in page what begins the method.
	Offer(page *SignIn)
	// Routes returns the routes by which the method begins and ends.
	Routes() []web.Route
	// Opens reports whether the person can sign in with the method. The identity or passkey with the id without does
	// not count; "" excludes none.
	Opens(tx *store.Tx, person *identity.User, without string) (bool, error)
}

// methods returns the methods that people may use, in the order in which the sign-in page shows them.
func (e *Endpoint) methods() []Method {
	all := []Method{passwords{e}, passkeys{e}, emails{e}}
	all = slices.DeleteFunc(all, func(m Method) bool { return !slices.Contains(e.Methods, m.Name()) })
	for _, p := range e.providers {
		all = append(all, provider{e, p})
	}
	if e.External.URL != "" {
		all = append(all, external{e})
	}
	return all
}

// Proof is what a method has shown about a person.
type Proof struct {
	Person *identity.User // as it was read
	Method string         // Method.Name of the method that has shown it; "": none is remembered
	AMR    []string       // by what: the values of RFC 8176
	At     time.Time      // when; zero: now
	Event  audit.Event    // that records it; zero: audit.SignIn
	New    bool           // the account was just made, so that no device of its owner is known
	// Confirm repeats in tx what was read before tx, and spends what may be used once. It refuses if that no longer
	// holds. Afterwards no other transaction can disable or delete the account until tx ends.
	Confirm func(tx *store.Tx) error
}

// Arrive ends a sign-in on a page of another package with p. It leads to back, the path of a page of ours, and to the
// second factor before that if one is needed. It returns the error of p.Confirm.
func (e *Endpoint) Arrive(r *http.Request, back string, p Proof) (web.Answer, error) {
	return e.arrive(r, destination{back: ours(back)}, p)
}

// arrive ends a sign-in with p, or asks for a second factor if one is needed. It returns the error of p.Confirm.
func (e *Endpoint) arrive(r *http.Request, to destination, p Proof) (web.Answer, error) {
	demanded, err := e.demanded(r, to)
	if err != nil {
		return nil, err
	}
	var lacks *half
	confirm := p.Confirm
	p.Confirm = func(tx *store.Tx) (err error) {
		if err = confirm(tx); err != nil {
			return err
		}
		if lacks, err = e.missing(tx, r, p, demanded); err == nil && lacks != nil {
			err = errLacking
		}
		return err
	}
	answer, err := e.begin(r, to, p)
	if errors.Is(err, errLacking) {
		return e.ask(lacks, to)
	}
	return answer, err
}

// visit returns the query of r, and who sent r. A query that is refused is recorded as event.
func (e *Endpoint) visit(r *http.Request, event audit.Event) (query url.Values, v interaction.Visitor, err error) {
	if query, err = web.Query(r); err != nil {
		return nil, v, e.Pages.Refuse(r, event, err)
	}
	v, err = e.Desk.Visitor(r)
	return query, v, err
}

// errLacking ends a transaction in which a proof was confirmed that is not enough for a session. It is a refusal, so
// that what the proof has spent stays spent.
var errLacking = oauth.Refuse(oauth.AccessDenied, "a second factor is needed")

// begin begins a session for the person of p, which replaces the one that the browser had, and leads to where they
// wanted to go. It returns the error of p.Confirm.
func (e *Endpoint) begin(r *http.Request, to destination, p Proof) (web.Answer, error) {
	var cookie *http.Cookie
	err := e.DB.Update(r.Context(), func(tx *store.Tx) error {
		if err := p.Confirm(tx); err != nil {
			return err
		}
		var err error
		if p.At.IsZero() {
			p.At = tx.Now()
		}
		if cookie, err = e.Desk.BeginSince(tx, r, p.Person, p.At, p.AMR...); err != nil {
			return err
		}
		if p.Event.Action == "" {
			p.Event = audit.SignIn(p.Person.ID)
		}
		if p.Person.Email != "" && !p.New && e.Pages.KnownDevice(r, identity.EmailKey(p.Person.Email)) == "" {
			p.Event = p.Event.With("device", "new")
		}
		return tx.Conclude(p.Event, nil)
	})
	if err != nil {
		return nil, err
	}
	answer := web.WithCookie(web.SeeOther(e.after(to)), cookie)
	if p.Method != "" {
		answer = web.WithCookie(answer, e.Pages.UsedMethod(p.Method))
	}
	if p.Person.Email != "" {
		answer = web.WithCookie(answer, e.Pages.NewDevice(identity.EmailKey(p.Person.Email)))
	}
	return answer, nil
}

// destination is where a sign-in leads: on with a request, or back to a page of ours, or nowhere in particular.
type destination struct {
	request string // the sealed authorization request; "": none
	back    string // the path of the page; "": none
}

// destinationOf returns the destination that the parameters request and return name. It ignores a path that is not
// ours.
func destinationOf(values url.Values) destination {
	return destination{request: values.Get("request"), back: ours(values.Get("return"))}
}

// values returns more with the parameters that destinationOf reads.
func (to destination) values(more url.Values) url.Values {
	if to.request != "" {
		more.Set("request", to.request)
	}
	if to.back != "" {
		more.Set("return", to.back)
	}
	return more
}

// after returns the address to which a browser is sent that has just signed in. It is that of a page that notices if
// the browser did not keep the cookie.
func (e *Endpoint) after(to destination) string {
	switch {
	case to.request != "":
		return e.next(to.request) + "&" + e.Desk.SignedInNow()
	case to.back != "":
		return "/login?" + e.Desk.SignedInNow() + "&return=" + url.QueryEscape(to.back)
	}
	return "/login?" + e.Desk.SignedInNow()
}
