// Package login signs people in and out: accounts with e-mail address and password, and the pages for them.
package login

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// Endpoint implements /login and /logout.
type Endpoint struct {
	DB    *store.DB
	Pages *web.Pages
	Desk  *interaction.Desk
	// Next is where a sign-in within an authorization request leads.
	Next string
	// Setup reports whether the first owner is made at /setup.
	Setup bool
	// Accounts and Addresses slow down the guessing of passwords, by account and by network address; nil means no
	// limit.
	Accounts, Addresses *limit.Backoff
	// Refuse records a refusal and returns it, or turns away a sender that has been refused too often
	// (strangers.Recorder.Refuse).
	Refuse func(r *http.Request, event audit.Event, err error) error
}

// SignIn answers GET /login: the form, or who is signed in already.
func (e *Endpoint) SignIn(r *http.Request) (web.Answer, error) {
	query, err := web.Query(r)
	if err != nil {
		return nil, e.Refuse(r, audit.SignIn(""), err)
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
	}
	return e.form(r, v, query, "", "")
}

// ours returns path if it is that of a page of ours to which a sign-in may lead back, and otherwise "".
func ours(path string) string {
	page, _, _ := strings.Cut(path, "?")
	if len(path) > maxReturn || strings.ContainsAny(path, "\\#") || strings.Contains(page, "//") || !web.Printable(path) {
		return ""
	}
	for segment := range strings.SplitSeq(page, "/") { // browsers also resolve dot segments with escapes
		if name, err := url.PathUnescape(segment); err != nil || name == "." || name == ".." {
			return ""
		}
	}
	for _, start := range []string{"/admin", "/account"} {
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
	sealed, back := values.Get("request"), ours(values.Get("return"))
	page := SignIn{Email: email, Error: failure, Request: sealed, Return: back, CSRF: e.Pages.Token(v.Browser, signIn)}
	if back != "" && v.SignedIn() && email == "" {
		page.Email, page.Again = v.Person.Email, true
	}
	if sealed != "" {
		a, err := e.Desk.Resume(r, sealed)
		if answerable := (*interaction.Answerable)(nil); errors.As(err, &answerable) {
			return web.SeeOther(e.next(sealed)), nil // where it is answered
		}
		if err != nil {
			return nil, e.Refuse(r, audit.SignIn(""), err)
		}
		page.Client = a.Card()
		page.Resource = &interaction.ResourceCard{Name: a.Resource.Name, Identifier: a.Resource.Identifier}
		if email == "" {
			page.Email = a.LoginHint
		}
	}
	return web.WithCookie(page, v.Browser.Cookie()), nil
}

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

// again records a refusal and returns the sign-in form with a sentence that says why it is shown again.
func (e *Endpoint) again(r *http.Request, v interaction.Visitor, form url.Values, userID string, err error,
	why string) (web.Answer, error) {
	refusal, ok := oauth.AsRefusal(err)
	if !ok {
		return nil, err
	}
	if err := e.Refuse(r, audit.SignIn(userID), err); !errors.Is(err, refusal) {
		return nil, err
	}
	answer, err := e.form(r, v, form, form.Get("email"), why)
	if err != nil {
		return nil, err
	}
	return web.WithRefusal(answer, refusal), nil
}

// Post answers POST /login. A sign-in begins a new session and ends the one that the browser had. After many failures,
// attempts at the account or from the network address have to wait, before the password is checked. Attempts from a
// browser that signed in to the account before are counted separately, so that a stranger cannot lock the owner out.
func (e *Endpoint) Post(r *http.Request) (web.Answer, error) {
	form, err := web.Form(r)
	if err != nil {
		return nil, e.Refuse(r, audit.SignIn(""), err)
	}
	v := interaction.Visitor{Browser: e.Pages.Browser(r)}
	email, password := form.Get("email"), form.Get("password")
	switch {
	case !v.Browser.Known():
		return e.again(r, v, form, "", errForm, noCookie)
	case !e.Pages.Check(v.Browser, form.Get("csrf"), signIn):
		return e.again(r, v, form, "", errForm, oldForm)
	case len(email) > maxEmail:
		err = oauth.Refuse(oauth.InvalidRequest, "the e-mail address is longer than %d bytes", maxEmail)
		return nil, e.Refuse(r, audit.SignIn(""), err)
	}
	key := identity.EmailKey(email)
	user, err := e.account(r, key)
	if err != nil {
		return nil, err
	}
	cookie, err := e.try(r, key, user, password)
	if err != nil {
		return e.again(r, v, form, user.ID, err, why(err))
	}
	next := "/login?" + e.Desk.SignedInNow()
	if sealed, back := form.Get("request"), ours(form.Get("return")); sealed != "" {
		next = e.next(sealed) + "&" + e.Desk.SignedInNow()
	} else if back != "" {
		next += "&return=" + url.QueryEscape(back) // by way of the page that notices a lost cookie
	}
	answer := web.WithCookie(web.SeeOther(next), cookie)
	return web.WithCookie(answer, e.Pages.NewDevice(key)), nil
}

// next returns the address of the page that follows the sign-in for a request.
func (e *Endpoint) next(sealed string) string { return e.Next + "?request=" + url.QueryEscape(sealed) }

// maxEmail is the longest e-mail address that is accepted, in bytes.
const maxEmail = 320

var (
	errForm  = oauth.Refuse(oauth.AccessDenied, "the form is not from this browser, or too old")
	errWrong = oauth.Refuse(oauth.AccessDenied, "wrong e-mail address or password")
)

// why returns the sentence that tells a person why err was returned.
func why(err error) string {
	refusal, ok := oauth.AsRefusal(err)
	switch {
	case !ok || errors.Is(err, errWrong):
		return failed
	case errors.Is(err, errBusy):
		return "Too many people are signing in at this moment. Try again in a few seconds."
	case refusal.Code == oauth.TooManyRequests:
		return "Too many sign-ins with this e-mail address, or from this network, have failed. Wait " +
			inWords(refusal.RetryAfter) + ", then try again."
	}
	return web.Sentence(refusal.Description)
}

// inWords returns a duration in words, rounded up.
func inWords(d time.Duration) string {
	count, unit := (d+time.Second-1)/time.Second, "second"
	if count > 90 {
		count, unit = (d+time.Minute-1)/time.Minute, "minute"
	}
	if count == 1 {
		return "a " + unit
	}
	return strconv.Itoa(int(count)) + " " + unit + "s"
}

// try calls prove and counts the attempt by network address and account. It refuses the attempt if either has to wait.
func (e *Endpoint) try(r *http.Request, key string, user *identity.User, password string) (cookie *http.Cookie,
	err error) {
	address, err := attempt(r, e.Addresses, addressKey(r))
	if err != nil {
		return nil, err
	}
	account, err := attempt(r, e.Accounts, e.accountKey(r, key))
	if err != nil {
		address.Return()
		return nil, err
	}
	err = errUnfinished
	defer func() { count(address, account, err) }()
	return e.prove(r, user, password)
}

// errUnfinished is the outcome of an attempt that panicked.
var errUnfinished = errors.New("login: the sign-in was not finished")

func attempt(r *http.Request, of *limit.Backoff, key string) (*limit.Attempt, error) {
	a, ok, wait, err := of.Begin(r.Context(), key)
	if err == nil && !ok {
		err = oauth.RefuseForNow(wait, "too many failed sign-ins")
	}
	return a, err
}

// count ends the two attempts of a sign-in with the outcome err.
func count(address, account *limit.Attempt, err error) {
	switch {
	case errors.Is(err, errWrong):
		address.Fail()
		account.Fail()
	case err == nil:
		address.Return() // not a success, because the owner of one account may guess at others
		account.Succeed()
	default: // the attempt was not a guess
		address.Return()
		account.Return()
	}
}

// addressKey returns the key under which attempts from a network are counted.
func addressKey(r *http.Request) string {
	text := audit.RequestFrom(r.Context()).Address
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return text
	}
	return limit.Address(addr)
}

// accountKey returns the key under which attempts at an account are counted: the account, or the account on a device
// that has signed in to it before.
func (e *Endpoint) accountKey(r *http.Request, key string) string {
	return key + " " + e.Pages.KnownDevice(r, key)
}

// account returns the user with this e-mail address, or a user without a password if there is none.
func (e *Endpoint) account(r *http.Request, key string) (*identity.User, error) {
	var user *identity.User
	err := e.DB.View(r.Context(), func(tx *store.Tx) (err error) {
		user, err = tx.UserByEmail(key)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return &identity.User{}, nil
	}
	return user, err
}

// prove begins a session of user and returns its cookie if the password is theirs, and errWrong if it is not. It takes
// as long for a user who does not exist as for any other. It confirms the password hash when the session begins,
// because an operator may have changed it or disabled the account in the meantime.
func (e *Endpoint) prove(r *http.Request, user *identity.User, password string) (cookie *http.Cookie, err error) {
	ok, outdated, err := verifyPassword(r.Context(), user.PasswordHash, password)
	switch {
	case err != nil:
		return nil, err
	case !ok, user.Disabled():
		return nil, errWrong
	}
	hash := user.PasswordHash
	if outdated {
		if better, err := HashPassword(r.Context(), password); err == nil { // otherwise the old hash stays in use
			hash = better
		}
	}
	err = e.DB.Update(r.Context(), func(tx *store.Tx) error {
		err := tx.ConfirmPassword(user.ID, user.PasswordHash, hash)
		if errors.Is(err, store.ErrNotFound) {
			return errWrong
		}
		if err != nil {
			return err
		}
		if cookie, err = e.Desk.Begin(tx, r, user, "pwd"); err != nil {
			return err
		}
		return tx.Conclude(audit.SignIn(user.ID), nil)
	})
	return cookie, err
}

// signedIn returns the page that says who is signed in and offers to sign out.
func (e *Endpoint) signedIn(v interaction.Visitor, failure string) web.Answer {
	page := SignedIn{Email: v.Person.Email, Error: failure, CSRF: e.Pages.Token(v.Browser, signOut(v)...)}
	return web.WithCookie(page, v.Browser.Cookie())
}

// signOut is the purpose of the token of the form that ends the session of v.
func signOut(v interaction.Visitor) []string { return []string{"sign out", v.Session.Hash} }

// SignOut answers POST /logout: it ends the session of this browser.
func (e *Endpoint) SignOut(r *http.Request) (web.Answer, error) {
	form, err := web.Form(r)
	if err != nil {
		return nil, e.Refuse(r, audit.SignOut(""), err)
	}
	v, err := e.Desk.Visitor(r)
	switch {
	case err != nil:
		return nil, err
	case !v.SignedIn():
		return SignedOut{}, nil
	case !e.Pages.Check(v.Browser, form.Get("csrf"), signOut(v)...):
		if err := e.Refuse(r, audit.SignOut(v.Person.ID), errForm); !errors.Is(err, errForm) {
			return nil, err
		}
		refusal, _ := oauth.AsRefusal(errForm)
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
