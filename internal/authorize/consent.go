package authorize

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
	"github.com/cardea-auth/cardea/scope"
)

// Consent answers GET /consent with the page that asks the person whether to allow the client. If the person is not
// signed in recently enough, it redirects to the sign-in page first.
func (e *Endpoint) Consent(r *http.Request) (web.Answer, error) {
	query, err := web.Query(r, "scope")
	if err == nil && (query.Has("decision") || query.Has("csrf")) {
		err = oauth.RefuseStatus(http.StatusMethodNotAllowed, oauth.InvalidRequest,
			"the query must not contain decision or csrf: consent is given with the form on this page")
	}
	if err != nil {
		return nil, e.Strangers.Refuse(r, audit.Consent("", "", "", ""), err)
	}
	return e.resume(r, query.Get("request"), func(a *interaction.Authorization) (web.Answer, error) {
		switch {
		case !a.SignedIn() && e.Desk.JustSignedIn(query):
			return web.SeeOther("/login?request=" + url.QueryEscape(a.Sealed) + "&" + e.Desk.SignedInNow()), nil
		case !a.Ready(e.DB.Now()):
			return page("/login", a), nil
		}
		switch err := e.Desk.Entitle(r, a); {
		case errors.Is(err, interaction.ErrNotEntitled):
			return e.outside(r, a, true)
		case err != nil:
			return nil, err
		}
		waits, err := e.Desk.MustWait(r, a)
		switch {
		case err != nil:
			return nil, err
		case waits:
			return e.wait(r, a)
		}
		before, remembered, err := e.remembered(r, a)
		switch {
		case err != nil:
			return nil, err
		case remembered: // after a sign-in
			return e.grant(r, a, a.Scope, before)
		}
		return e.ask(r, a, choice{}, "")
	})
}

// resume opens a sealed authorization and returns the result of calling answer with it. If the authorization is no
// longer valid, resume returns a page with the refusal instead.
func (e *Endpoint) resume(r *http.Request, sealed string,
	answer func(*interaction.Authorization) (web.Answer, error)) (web.Answer, error) {
	a, err := e.Desk.Resume(r, sealed)
	if answerable := (*interaction.Answerable)(nil); errors.As(err, &answerable) {
		return e.refuse(r, interaction.Visitor{Browser: e.Pages.Browser(r)},
			audit.AuthorizationRequest(answerable.Reply.ClientID), answerable.Reply, answerable.Err)
	}
	if err != nil {
		return nil, e.Strangers.Refuse(r, audit.AuthorizationRequest(""), err)
	}
	return answer(a)
}

// choice is what the person has chosen on the page so far.
type choice struct {
	ticked   []string // the scopes whose boxes are ticked; nil: all
	duration oauth.Duration
}

// ask returns the page, with what is chosen. failure is a sentence that says why the page is shown again, or "".
func (e *Endpoint) ask(r *http.Request, a *interaction.Authorization, chosen choice, failure string) (web.Answer,
	error) {
	consents, err := e.consented(r, a)
	if err != nil {
		return nil, err
	}
	var before scope.Set
	for _, c := range consents {
		before = before.Union(c.Scope)
	}
	if chosen.duration == "" {
		chosen.duration = oauth.Always
	}
	page := Consent{
		Client:    a.Card(),
		Email:     a.Person.Label(),
		Hinted:    a.Hinted(),
		Resource:  a.ResourceCard(),
		Error:     failure,
		Durations: durationChoices(chosen.duration, e.longest(a)),
		Request:   a.Sealed,
		Shown:     a.Scope.String(),
		CSRF:      e.Pages.TokenFor(a.BoundTo, showing(a, a.Scope.String())...),
	}
	if e.Logos.Has(a.Client) { // the browser asks for it while the person reads
		page.Client.Logo = "/consent/logo?request=" + url.QueryEscape(a.Sealed)
	}
	opened, err := e.opened(r, a.Resource, a.Scope)
	if err != nil {
		return nil, err
	}
	for _, name := range a.Scope {
		page.Scopes = append(page.Scopes, ScopeLine{
			Name:        name,
			Description: a.Resource.Describe(name),
			New:         len(before) > 0 && !before.Covers(name),
			Ticked:      chosen.ticked == nil || slices.Contains(chosen.ticked, name),
			Named:       a.Named && name != oauth.OfflineAccess,
			Risk:        a.Resource.Risk(name),
			Opens:       opened[name],
		})
	}
	return page, nil
}

// showing is the purpose of the token of a form that shows the scopes in shown. What the person may allow can become
// more while they read, and they must not allow what they did not see.
func showing(a *interaction.Authorization, shown string) []string { return append(a.Purpose(), shown) }

// askOnceMore is like ask, for a form that cannot be accepted as a decision. It records err.
func (e *Endpoint) askOnceMore(r *http.Request, a *interaction.Authorization, chosen choice, err error,
	failure string) (web.Answer, error) {
	event := audit.Consent(a.Client.ID, a.Person.ID, a.Resource.Identifier, "")
	refusal, _ := oauth.AsRefusal(err)
	if err := e.Strangers.Refuse(r, event, err); !errors.Is(err, refusal) {
		return nil, err
	}
	answer, err := e.ask(r, a, chosen, failure)
	if err != nil {
		return nil, err
	}
	return web.WithRefusal(answer, refusal), nil
}

// Logo answers GET /consent/logo with the client's logo for the consent page.
func (e *Endpoint) Logo(r *http.Request) (web.Answer, error) {
	query, err := web.Query(r)
	if err != nil {
		return nil, e.Strangers.Refuse(r, audit.Consent("", "", "", ""), err)
	}
	return e.resume(r, query.Get("request"), func(a *interaction.Authorization) (web.Answer, error) {
		if a.SignedIn() {
			if picture := e.Logos.PNG(r, a.Client, a.Person.ID); picture != nil {
				return web.Picture(picture), nil
			}
		}
		return nil, oauth.RefuseStatus(http.StatusNotFound, "not_found", "%s has no logo", a.Client.ID)
	})
}

// The reasons why a form cannot be accepted as a decision.
var (
	errForeignForm = oauth.Refuse(oauth.AccessDenied, "this form belongs to another page, browser or account")
	errNothing     = oauth.Refuse(oauth.InvalidRequest, "offline_access cannot be granted alone")
	errUndecided   = oauth.Refuse(oauth.InvalidRequest, "decision must be allow or deny")
	errChanged     = oauth.Refuse(oauth.InvalidRequest, "what was allowed can no longer be granted")
	errDuration    = oauth.Refuse(oauth.InvalidRequest, "duration must be session, 8h, 30d or always")
)

// Decide answers POST /consent: the person's decision. The first decision counts, and sending the same one again gets
// the same answer. Allowing none of the scopes denies the request.
func (e *Endpoint) Decide(r *http.Request) (web.Answer, error) {
	form, err := web.Form(r, "scope")
	if err != nil {
		return nil, e.Strangers.Refuse(r, audit.Consent("", "", "", ""), err)
	}
	return e.resume(r, form.Get("request"), func(a *interaction.Authorization) (web.Answer, error) {
		if a.Ready(e.DB.Now()) {
			switch err := e.Desk.Entitle(r, a); {
			case errors.Is(err, interaction.ErrNotEntitled):
				return e.outside(r, a, true)
			case err != nil:
				return nil, err
			}
		}
		shown := scope.Of(strings.Fields(form.Get("shown"))...)
		ticks := only(shown, form["scope"])
		allowed, decision := only(a.Scope, ticks), form.Get("decision")
		duration, known := oauth.ParseDuration(form.Get("duration"))
		chosen := choice{append([]string{}, form["scope"]...), duration}
		switch {
		case !a.Ready(e.DB.Now()): // the page comes again after the sign-in
			return page("/login", a), nil
		case !e.Pages.Check(a.Browser, form.Get("csrf"), showing(a, form.Get("shown"))...):
			return e.askOnceMore(r, a, choice{}, errForeignForm,
				"The previous page was for another request or account. Check who is signed in and what the "+
					"application asks for, then decide.")
		case form.Has("select"):
			chosen.ticked = selected(a, form.Get("select"), allowed)
			return e.ask(r, a, chosen, "")
		case decision == "deny", decision == "allow" && len(shown) > 0 && len(ticks) == 0:
			return e.deny(r, a)
		case decision == "allow" && len(a.Scope) > 0 && len(allowed) == 0:
			return e.askOnceMore(r, a, choice{}, errChanged, "What you may allow has changed since the page was "+
				"shown. Check what the application asks for now, then decide.")
		case decision != "allow":
			return e.askOnceMore(r, a, chosen, errUndecided, "Choose Allow or Deny.")
		case !known:
			return e.askOnceMore(r, a, choice{ticked: chosen.ticked}, errDuration, "Choose how long it may do this.")
		case len(a.Wanted()) > 0 && len(allowed.Minus(scope.Of(oauth.OfflineAccess))) == 0:
			return e.askOnceMore(r, a, chosen, errNothing,
				"Staying connected is not useful without another permission. Tick at least one more permission, or "+
					"choose Deny.")
		}
		return e.grant(r, a, allowed, lease{duration: duration})
	})
}

// selected returns the scopes that one of the buttons beside the boxes ticks: "read" those with which the client can
// only read, and any other all. Staying connected is not about what the client can do, so "read" leaves it as it is.
func selected(a *interaction.Authorization, which string, before scope.Set) []string {
	names := []string{}
	for _, name := range a.Scope {
		switch {
		case which != "read", a.Resource.Risk(name) == oauth.RiskRead, name == oauth.OfflineAccess && before.Has(name):
			names = append(names, name)
		}
	}
	return names
}

// only returns the scopes of s that are among names.
func only(s scope.Set, names []string) (some scope.Set) {
	for _, name := range s {
		if slices.Contains(names, name) {
			some = append(some, name)
		}
	}
	return some
}

// remembered reports whether the page can be left out, which takes all of the following. The person has allowed this
// client, at this resource and redirect URI, everything that it requests, and those consents are still valid. An
// operator vouches for the client. The answer is sent to a web server, because a program on the person's own device
// could pose as the client. The browser was not sent here by another site, which may act for somebody else. The client
// neither asks for the page nor expects another person.
//
// If it can, remembered returns how long the new grant lasts.
func (e *Endpoint) remembered(r *http.Request, a *interaction.Authorization) (lease, bool, error) {
	if !a.Client.Approved() || interaction.DestinationOf(a.Reply.RedirectURI).OnDevice() || a.PromptConsent ||
		a.CrossSite || a.Hinted() != "" {
		return lease{}, false, nil
	}
	before, err := e.consented(r, a)
	if err != nil {
		return lease{}, false, err
	}
	l, covered := renewed(before, a.Scope)
	return l, covered, nil
}

// consented returns the valid consents to the same request. Consents from before the client's redirect URIs or keys
// changed do not count, and neither do those for another session.
func (e *Endpoint) consented(r *http.Request, a *interaction.Authorization) (all []store.Consent, err error) {
	err = e.DB.View(r.Context(), func(tx *store.Tx) error {
		stored, err := tx.Client(a.Client.ID)
		if errors.Is(err, store.ErrNotFound) || err == nil && !stored.SameTrust(&a.Client.Metadata) {
			return nil
		}
		if err != nil {
			return err
		}
		all, err = tx.Consents(a.Person.ID, a.Client.ID, a.Resource.ID, a.Reply.RedirectURI)
		all = slices.DeleteFunc(all, func(c store.Consent) bool {
			return c.SessionID != "" && c.SessionID != a.Session.ID
		})
		return err
	})
	return all, err
}
