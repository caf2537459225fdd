// Package login knows who the person at the browser is: accounts with e-mail and
// password, sessions, the sign-in page.
package login

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// Endpoint answers /login and /logout, and tells others who is signed in.
type Endpoint struct {
	DB    *store.DB
	Pages *web.Pages
	// Client finds the client on whose behalf a person signs in
	// (client.Directory.Find).
	Client func(r *http.Request, id, person string) (*oauth.Client, error)
	// Next is where a sign-in within an authorization request leads.
	Next string
	// Idle and Max are how long a session lives unused, and at all.
	Idle, Max time.Duration
	// Accounts and Addresses slow down who guesses passwords, by account and
	// by network address; nil: without limit.
	Accounts, Addresses *limit.Backoff
	// Refuse records a refusal and returns it, or turns away who is refused too
	// often (strangers.Recorder.Refuse).
	Refuse func(r *http.Request, event audit.Event, err error) error
}

// seenEvery is how often at most a session in use is written down as such.
const seenEvery = 5 * time.Minute

// Session returns the live session of r's browser and its person; nil, nil if
// nobody is signed in.
func (e *Endpoint) Session(r *http.Request) (*identity.Session, *identity.User, error) {
	cookie := e.Pages.SessionCookie(r)
	if cookie == "" {
		return nil, nil, nil
	}
	var session *identity.Session
	var user *identity.User
	err := e.DB.View(r.Context(), func(tx *store.Tx) (err error) {
		session, user, err = tx.Session(oauth.Hash(cookie))
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil, nil
	case err != nil:
		return nil, nil, err
	}
	if now := e.DB.Now(); now.Sub(session.SeenAt) >= seenEvery {
		err = e.DB.Update(r.Context(), func(tx *store.Tx) error {
			return tx.SeenSession(session.Hash, earlier(tx.Now().Add(e.Idle), session.EndsAt))
		})
		if errors.Is(err, store.ErrNotFound) { // it ended just now
			return nil, nil, nil
		}
	}
	return session, user, err
}

// SignIn answers GET /login: the form, or who is signed in already.
func (e *Endpoint) SignIn(r *http.Request) (web.Answer, error) {
	query, err := web.Query(r)
	if err != nil {
		return nil, e.Refuse(r, audit.SignIn(""), err)
	}
	session, user, err := e.Session(r)
	if err != nil {
		return nil, err
	}
	if !query.Has("request") && session != nil {
		return web.SignedIn{Email: user.Email, CSRF: e.Pages.Token(r, signOut)}, nil
	}
	return e.form(r, query.Get("request"), "", "")
}

// The purposes of this package's form tokens.
const (
	signIn  = "sign in"
	signOut = "sign out"
)

// form shows the sign-in form. With a sealed request it says which agent it is
// for, and takes the e-mail address from login_hint.
func (e *Endpoint) form(r *http.Request, sealed, email, failure string) (web.Answer, error) {
	page := web.SignIn{Email: email, Error: failure, Request: sealed}
	if sealed != "" {
		q, err := e.Pages.OpenRequest(r, sealed, e.DB.Now())
		if err != nil {
			return nil, e.Refuse(r, audit.SignIn(""), err)
		}
		c, err := e.Client(r, q.ClientID, "")
		switch {
		case errors.Is(err, store.ErrNotFound):
			return nil, oauth.Refuse(oauth.InvalidRequest, "the application that asked is no longer registered")
		case err != nil:
			return nil, err
		}
		page.Client = web.CardOf(c, q.RedirectURI)
		if email == "" {
			page.Email = q.LoginHint
		}
	}
	browser, cookie := e.Pages.Browser(r)
	page.CSRF = e.Pages.TokenFor(browser, "", signIn)
	return web.WithCookie(page, cookie), nil
}

// failed is what a person reads after any sign-in that did not work: it tells
// neither whether the account exists nor whether it is being slowed down.
const failed = "That did not work. Check the e-mail address and the password; after several tries, wait a minute."

// Post answers POST /login. A sign-in makes a new session and ends the one that
// the browser had. An account and an address that fail often are slowed down,
// before their password is looked at; a browser that signed in to the account
// before is counted apart, so that a stranger cannot lock its owner out.
func (e *Endpoint) Post(r *http.Request) (web.Answer, error) {
	form, err := web.Form(r)
	if err != nil {
		return nil, e.Refuse(r, audit.SignIn(""), err)
	}
	browser, cookie := e.Pages.Browser(r)
	email, password := form.Get("email"), form.Get("password")
	switch {
	case cookie != nil, !e.Pages.CheckFor(browser, "", signIn, form.Get("csrf")):
		err = oauth.Refuse(oauth.AccessDenied, "this form is not from this browser, or too old: go back and load the page again (cookies must be allowed)")
	case len(email) > maxEmail, len(password) > maxPassword:
		err = oauth.Refuse(oauth.InvalidRequest, "the e-mail address or the password is too long")
	}
	if err != nil {
		return nil, e.Refuse(r, audit.SignIn(""), err)
	}
	key := identity.EmailKey(email)
	user, err := e.account(r, key)
	if err != nil {
		return nil, err
	}
	if wait, ok := e.begin(r, key, browser); !ok {
		return e.refuse(r, form, user, oauth.RefuseForNow(wait, "too many failed sign-ins"))
	}
	err = e.verify(r, user, password)
	if !errors.Is(err, errWrong) { // nothing was guessed
		e.Addresses.Return(addressKey(r))
	}
	_, refused := oauth.AsRefusal(err)
	switch {
	case errors.Is(err, errWrong):
		return e.refuse(r, form, user, err)
	case err != nil:
		e.Accounts.Return(e.accountKey(r, key, browser))
		if refused {
			return e.refuse(r, form, user, err)
		}
		return nil, err
	}
	e.Accounts.Succeed(e.accountKey(r, key, browser))
	return e.welcome(r, user, key, browser, form.Get("request"))
}

// maxEmail bounds an e-mail address, in bytes.
const maxEmail = 320

// begin reserves one try, or says how long to wait.
func (e *Endpoint) begin(r *http.Request, key, browser string) (time.Duration, bool) {
	if ok, wait := e.Addresses.Begin(addressKey(r)); !ok {
		return wait, false
	}
	ok, wait := e.Accounts.Begin(e.accountKey(r, key, browser))
	if !ok {
		e.Addresses.Return(addressKey(r))
	}
	return wait, ok
}

// addressKey is what tries from a network are counted under.
func addressKey(r *http.Request) string {
	text := audit.RequestFrom(r.Context()).Address
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return text
	}
	return limit.Address(addr)
}

// accountKey is what tries at an account are counted under: the account, or the
// account on a browser that signed in to it before.
func (e *Endpoint) accountKey(r *http.Request, key, browser string) string {
	if e.Pages.KnownDevice(r, key) {
		return key + " " + oauth.Hash(browser)
	}
	return key
}

var errWrong = oauth.Refuse(oauth.AccessDenied, "wrong e-mail address or password")

// account returns the person with this e-mail address; nobody, who has no
// password, if there is none.
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

// verify returns nil if the password is the user's. That of nobody takes as long
// as any other.
func (e *Endpoint) verify(r *http.Request, user *identity.User, password string) error {
	ok, outdated, err := verifyPassword(r.Context(), user.PasswordHash, password)
	switch {
	case err != nil:
		return err
	case !ok, user.Disabled():
		return errWrong
	case outdated:
		hash, err := HashPassword(r.Context(), password)
		if err != nil {
			return nil // the old hash still serves
		}
		return e.DB.Update(r.Context(), func(tx *store.Tx) error { return tx.SetPassword(user.ID, hash) })
	}
	return nil
}

// refuse records a failed sign-in and shows the form again.
func (e *Endpoint) refuse(r *http.Request, form url.Values, user *identity.User, err error) (web.Answer, error) {
	refusal, _ := oauth.AsRefusal(err)
	if err := e.Refuse(r, audit.SignIn(user.ID), err); !errors.Is(err, refusal) {
		return nil, err
	}
	answer, err := e.form(r, form.Get("request"), form.Get("email"), failed)
	if err != nil {
		return nil, err
	}
	return web.WithRefusal(answer, refusal), nil
}

// welcome begins the session of a person who has proven who they are.
func (e *Endpoint) welcome(r *http.Request, user *identity.User, key, browser, sealed string) (web.Answer, error) {
	secret := oauth.NewSecret("")
	err := e.DB.Update(r.Context(), func(tx *store.Tx) error {
		if old := e.Pages.SessionCookie(r); old != "" {
			if err := tx.EndSession(oauth.Hash(old)); err != nil {
				return err
			}
		}
		session := &identity.Session{
			Hash:       oauth.Hash(secret),
			UserID:     user.ID,
			SignedInAt: tx.Now(),
			SeenAt:     tx.Now(),
			AMR:        []string{"pwd"},
			EndsAt:     tx.Now().Add(e.Max),
		}
		session.ExpiresAt = earlier(tx.Now().Add(e.Idle), session.EndsAt)
		if err := tx.CreateSession(session); err != nil {
			return err
		}
		return tx.Conclude(audit.SignIn(user.ID), nil)
	})
	if err != nil {
		return nil, err
	}
	next := "/login"
	if sealed != "" {
		next = e.Next + "?request=" + url.QueryEscape(sealed)
	}
	answer := web.WithCookie(web.SeeOther(next), e.Pages.NewSession(secret))
	return web.WithCookie(answer, e.Pages.RememberDevice(key, browser)), nil
}

// SignOut answers POST /logout: it ends the session of this browser.
func (e *Endpoint) SignOut(r *http.Request) (web.Answer, error) {
	form, err := web.Form(r)
	if err != nil {
		return nil, e.Refuse(r, audit.SignOut(""), err)
	}
	session, user, err := e.Session(r)
	switch {
	case err != nil:
		return nil, err
	case session == nil:
		return web.SignedOut{}, nil
	case !e.Pages.Check(r, signOut, form.Get("csrf")):
		err = oauth.Refuse(oauth.AccessDenied, "this form is not from this browser, or too old: go back and load the page again")
		return nil, e.Refuse(r, audit.SignOut(user.ID), err)
	}
	err = e.DB.Update(r.Context(), func(tx *store.Tx) error {
		if err := tx.EndSession(session.Hash); err != nil {
			return err
		}
		return tx.Conclude(audit.SignOut(user.ID), nil)
	})
	if err != nil {
		return nil, err
	}
	return web.WithCookie(web.SignedOut{}, e.Pages.NoSession()), nil
}

// ConfirmSignOut answers GET /logout: a page that asks, for a link alone must not
// sign anybody out.
func (e *Endpoint) ConfirmSignOut(r *http.Request) (web.Answer, error) {
	session, user, err := e.Session(r)
	switch {
	case err != nil:
		return nil, err
	case session == nil:
		return web.SignedOut{}, nil
	}
	return web.SignedIn{Email: user.Email, CSRF: e.Pages.Token(r, signOut)}, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
