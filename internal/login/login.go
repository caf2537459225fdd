// Package login signs people in and out: the methods by which people prove who they are, and the pages for them.
package login

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/credential"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/mail"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/upstream"
	"github.com/cardea-auth/cardea/internal/web"
)

// Endpoint implements /login and /logout.
type Endpoint struct {
	DB    *store.DB
	Pages *web.Pages
	Desk  *interaction.Desk
	// Methods has the names of the methods that people may use.
	Methods []string
	// SecondFactor is login.second_factor: "off", "optional" or "required".
	SecondFactor string
	// Issuer is the address of this server, and Name what people call it: its host.
	Issuer, Name string
	// Master seals the secrets of authenticator apps.
	Master keys.Master
	// Next is where a sign-in within an authorization request leads.
	Next string
	// SignUp is whether people make their own accounts, which needs Mail. SignUpDomains are the domains of the
	// addresses with which they may, as in identity.EmailKey; none: all.
	SignUp        bool
	SignUpDomains []string
	// Setup reports whether /setup makes the first owner.
	Setup bool
	// Accounts and Addresses slow down the guessing of passwords, by account and by network address; nil means no
	// limit.
	Accounts, Addresses *limit.Backoff
	// Mail sends letters. It is nil if the server sends none. MayAsk reports whether a stranger may ask for a letter
	// now, and otherwise how long to wait (strangers.Shares.Admit).
	Mail   *mail.Mailer
	MayAsk func(*http.Request) (ok bool, retryAfter time.Duration)

	// External is an application's own sign-in page.
	External External
	// Connected answers a person who comes back from Connect. err is what refused it, or nil.
	Connected func(r *http.Request, v interaction.Visitor, err error) (web.Answer, error)
	// Invitations are for people who come back from Accept.
	Invitations Invitations

	providers  []*upstream.Provider // UseProviders sets them
	ceremonies *credential.Passkeys // UsePasskeys sets it; nil: there can be none
	vault      upstream.Vault       // seals what is kept of people there
}

// SignIn answers GET /login: the form, or who is signed in already.
func (e *Endpoint) SignIn(r *http.Request) (web.Answer, error) {
	query, err := web.Query(r)
	if err != nil {
		return nil, e.Pages.Refuse(r, audit.SignIn(""), err)
	}
	v, err := e.Desk.Visitor(r)
	back := ours(query.Get("return"))
	switch {
	case err != nil:
		return nil, err
	case v.SignedIn() && !query.Has("request") && back == "":
		return e.signedIn(v, ""), nil
	case !v.SignedIn() && e.Desk.JustSignedIn(query):
		return e.form(r, v, query, "", cookieLost)
	case v.SignedIn() && back != "" && e.Desk.JustSignedIn(query):
		return web.SeeOther(back), nil
	case v.SignedIn() && query.Has("request") && !query.Has("switch"):
		if answer, err := e.stepUp(r, v, query); answer != nil || err != nil {
			return answer, err
		}
	}
	if methods := e.methods(); len(methods) == 1 { // there is nothing to choose
		switch only := methods[0].(type) {
		case external:
			return web.SeeOther(only.start(destinationOf(query))), nil
		case emails:
			return web.SeeOther(only.start(destinationOf(query))), nil
		}
	}
	return e.form(r, v, query, "", "")
}

// ours returns path if it is that of a page of ours to which a sign-in may lead back, and otherwise "".
func ours(path string) string {
	page, _, _ := strings.Cut(path, "?")
	if len(path) > maxReturn || strings.ContainsAny(path, "\\#") || strings.Contains(page, "//") ||
		!web.Printable(path) {
		return ""
	}
	for segment := range strings.SplitSeq(page, "/") { // browsers also resolve dot segments with escapes
		if name, err := url.PathUnescape(segment); err != nil || name == "." || name == ".." {
			return ""
		}
	}
	for _, start := range []string{"/admin", "/account", "/setup"} {
		if rest, ok := strings.CutPrefix(page, start); ok && (rest == "" || rest[0] == '/') {
			return path
		}
	}
	return ""
}

// maxReturn bounds the path that a sign-in leads back to, in bytes.
const maxReturn = 2048

// signIn is the purpose of the token of the sign-in form.
const signIn = "sign in"

// LostForm begins the sentences that tell a person why a form counts as one that this server did not show to their
// browser; what to do then follows.
const LostForm = "This page was open for too long, or your browser did not keep its cookie. Allow cookies for this " +
	"site, and "

// The sentences above the form after a failed sign-in. None of them reveals whether the account exists.
const (
	failed     = "That did not work. Check the e-mail address and the password."
	cookieLost = "You signed in, but your browser did not keep the cookie for it. Allow cookies for this site, then " +
		"sign in again."
	noCookie = "Your browser did not send the cookie of this page. Allow cookies for this site, then sign in again."
	oldForm  = "This page was open for too long, or was meant for another browser. Please sign in again."
)

// form returns the sign-in form. values may have a sealed authorization request: then the form names the client, and
// takes the e-mail address from login_hint. Or they have the path of the page of ours that the sign-in leads back to;
// somebody who is signed in already is asked to do it again.
func (e *Endpoint) form(r *http.Request, v interaction.Visitor, values url.Values, email, failure string) (web.Answer,
	error) {
	to := destinationOf(values)
	page := SignIn{Email: email, Error: failure, Wrong: failure == failed, Request: to.request, Return: to.back,
		CSRF: e.Pages.Token(v.Browser, signIn), browser: v.Browser.Hash()}
	for _, method := range e.methods() {
		before := len(page.Ways)
		method.Offer(&page)
		switch last := e.Pages.UsedLast(r, method.Name()); {
		case last && len(page.Ways) > before:
			page.Last = &page.Ways[before]
		case last:
			page.Passkey.Last = method.Name() == passkeys{}.Name() // the form of passwords is at the top anyway
		}
	}
	if page.Last != nil {
		last := *page.Last
		page.Last = &last
		page.Ways = slices.DeleteFunc(page.Ways, func(w Way) bool { return w == last })
	}
	if e.SignUp {
		page.SignUp = toward(signUpPath, values)
	}
	if to.back != "" && v.SignedIn() && email == "" {
		page.Email, page.Again = v.Person.Email, true
	}
	if to.request != "" {
		a, elsewhere, err := e.resume(r, to.request, audit.SignIn(""))
		if err != nil || elsewhere != nil {
			return elsewhere, err
		}
		page.Client, page.Resource = a.Card(), new(a.ResourceCard())
		if email == "" {
			page.Email = a.LoginHint
		}
	}
	return web.WithCookie(page, v.Browser.Cookie()), nil
}

// again records a refusal as event and returns the sign-in form with a sentence that says why it is shown again.
func (e *Endpoint) again(r *http.Request, v interaction.Visitor, form url.Values, event audit.Event, err error,
	why string) (web.Answer, error) {
	refusal, err := e.Pages.Refused(r, event, err)
	if err != nil {
		return nil, err
	}
	answer, err := e.form(r, v, form, form.Get("email"), why)
	if err != nil {
		return nil, err
	}
	return web.WithRefusal(answer, refusal), nil
}

// resume returns the authorization of a request or, if its refusal is for the client, the page on which it is answered.
// It records another refusal as event.
func (e *Endpoint) resume(
	r *http.Request, request string, event audit.Event,
) (a *interaction.Authorization, elsewhere web.Answer, err error) {
	a, err = e.Desk.Resume(r, request)
	var answerable *interaction.Answerable
	switch {
	case errors.As(err, &answerable):
		return nil, web.SeeOther(e.next(request)), nil
	case err != nil:
		return nil, nil, e.Pages.Refuse(r, event, err)
	}
	return a, nil, nil
}

// next returns the address of the page that follows the sign-in for a request.
func (e *Endpoint) next(sealed string) string { return e.Next + "?request=" + url.QueryEscape(sealed) }

var (
	errForm  = oauth.Refuse(oauth.AccessDenied, "the form is not from this browser, or too old")
	errWrong = oauth.Refuse(oauth.AccessDenied, "the e-mail address or the password is wrong")
)

// Home answers GET / with a page that says what this server is, and whether it still has to be set up.
func (e *Endpoint) Home(r *http.Request) (web.Answer, error) {
	if !e.Setup {
		return Home{}, nil
	}
	var s store.Setup
	err := e.DB.View(r.Context(), func(tx *store.Tx) (err error) {
		s, err = tx.Setup()
		return err
	})
	return Home{New: !s.Done(), Admin: true}, err
}

// signedIn returns the page that says who is signed in and offers to sign out.
func (e *Endpoint) signedIn(v interaction.Visitor, failure string) web.Answer {
	page := SignedIn{Email: v.Person.Label(), Error: failure, CSRF: e.Pages.Token(v.Browser, signOut(v)...)}
	return web.WithCookie(page, v.Browser.Cookie())
}

// signOut is the purpose of the token of the form that ends the session of v.
func signOut(v interaction.Visitor) []string { return []string{"sign out", v.Session.Hash} }

// SignOut answers POST /logout: it ends the session of this browser.
func (e *Endpoint) SignOut(r *http.Request) (web.Answer, error) {
	form, err := web.Form(r)
	if err != nil {
		return nil, e.Pages.Refuse(r, audit.SignOut(""), err)
	}
	v, err := e.Desk.Visitor(r)
	switch {
	case err != nil:
		return nil, err
	case !v.SignedIn():
		return SignedOut{}, nil
	case !e.Pages.Check(v.Browser, form.Get("csrf"), signOut(v)...):
		refusal, err := e.Pages.Refused(r, audit.SignOut(v.Person.ID), errForm)
		if err != nil {
			return nil, err
		}
		return web.WithRefusal(e.signedIn(v, "You have signed in again since this page was opened. Sign out here if "+
			"you want to."), refusal), nil
	}
	err = e.DB.Update(r.Context(), func(tx *store.Tx) error {
		if err := tx.EndSession(v.Session.Hash); err != nil {
			return err
		}
		return tx.Conclude(audit.SignOut(v.Person.ID), nil)
	})
	if err != nil {
		return nil, err
	}
	return web.WithCookie(SignedOut{}, e.Pages.NoSession()), nil
}

// ConfirmSignOut answers GET /logout with a page that asks for confirmation, because following a link must not sign a
// person out.
func (e *Endpoint) ConfirmSignOut(r *http.Request) (web.Answer, error) {
	v, err := e.Desk.Visitor(r)
	switch {
	case err != nil:
		return nil, err
	case !v.SignedIn():
		return SignedOut{}, nil
	}
	return e.signedIn(v, ""), nil
}
