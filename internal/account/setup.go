package account

import (
	"errors"
	"net/http"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/login"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// Setup implements /setup, where the one-time link of the first start leads. Its token is in the fragment, which a
// script copies into the form; without scripts, the person pastes it.
type Setup struct {
	DB         *store.DB
	Pages      *web.Pages
	Sessions   *interaction.Sessions
	Login      *login.Endpoint
	Operations *admin.Operations
	// Addresses slows down guessing by network address; nil means no limit.
	Addresses *limit.Backoff
}

// Routes returns the route of the page.
func (e *Setup) Routes() []web.Route {
	return []web.Route{{
		Path:    "/setup",
		Methods: web.Methods{"GET": e.Pages.HTML(e.Show), "POST": e.Pages.HTML(e.Post)}, Caller: web.People,
	}}
}

// setupForm is the form that makes the first owner.
type setupForm struct {
	Done  bool   // the installation is set up, and there is no form
	Email string // filled in; or of who is signed in, if Done
	Name  string // filled in
	Token string // a good one, to send again
	Error string // a sentence on why the last attempt failed; "": none
	CSRF  string // token of the form, handed back as csrf
}

// Page returns the page, with status 200.
func (v setupForm) Page() web.Page { return templates.Page("setup.html", v).Scripted() }

// setUp is the purpose of the token of the form.
const setUp = "set up"

// Show answers GET /setup: the form, or what comes next if the installation is set up. It spends nothing.
func (e *Setup) Show(r *http.Request) (web.Answer, error) {
	var s store.Setup
	err := e.DB.View(r.Context(), func(tx *store.Tx) (err error) {
		s, err = tx.Setup()
		return err
	})
	if err != nil {
		return nil, err
	}
	v, err := e.Sessions.Visitor(r)
	if err != nil {
		return nil, err
	}
	page := setupForm{Done: s.Done(), CSRF: e.Pages.Token(v.Browser, setUp)}
	if page.Done && v.SignedIn() {
		page.Email = v.Person.Label()
	}
	return web.WithCookie(page, v.Browser.Cookie()), nil
}

var errSetupForm = oauth.Refuse(oauth.AccessDenied, "the form is not from this browser, or too old")

// Post answers POST /setup: it makes the first owner and signs that person in, as a sign-in with the password does.
// After many failures, a network address has to wait.
func (e *Setup) Post(r *http.Request) (web.Answer, error) {
	form, err := web.Form(r)
	if err != nil {
		return nil, e.Pages.Refuse(r, audit.Setup("complete", ""), err)
	}
	browser := e.Pages.Browser(r)
	page := setupForm{Email: form.Get("email"), Name: form.Get("name"), CSRF: e.Pages.Token(browser, setUp)}
	var answer web.Answer
	if !e.Pages.Check(browser, form.Get("csrf"), setUp) {
		err = errSetupForm
	} else {
		n := admin.NewUser{Email: page.Email, Name: page.Name, Password: form.Get("password")}
		answer, err = e.try(r, form.Get("token"), n)
	}
	if err == nil {
		return answer, nil
	}
	var undone *admin.Error
	if errors.As(err, &undone) {
		page.Token, page.Error = form.Get("token"), web.Sentence(undone.Error())
		err = oauth.Refuse(oauth.InvalidRequest, "%s", undone.Error())
		if undone.Kind == admin.Conflict { // its text names the address
			page.Error = "There is an account with this e-mail address already. Use another address, or make that " +
				"account an owner with: cardea user update " + page.Email + " --role owner"
			err = oauth.Refuse(oauth.InvalidRequest, "there is an account with this e-mail address already")
		}
	}
	refusal, err := e.Pages.Refused(r, audit.Setup("complete", ""), err)
	if err != nil {
		return nil, err
	}
	page.Done = errors.Is(refusal, admin.ErrSetupDone)
	if page.Error == "" {
		page.Error = whySetup(refusal)
	}
	return web.WithCookie(web.WithRefusal(page, refusal), browser.Cookie()), nil
}

// try makes the first owner and returns where a sign-in of that person leads. A token that is not good counts as a
// guess.
func (e *Setup) try(r *http.Request, token string, n admin.NewUser) (web.Answer, error) {
	return guess(r, e.Addresses, "setup", admin.ErrSetupUnknown, func() (web.Answer, error) {
		owner, err := e.Operations.SetUp(r.Context(), token, n)
		if err != nil {
			return nil, err
		}
		return e.Login.ArriveWithPassword(r, "/setup", owner)
	})
}

// guess runs use, which spends a token that can be guessed, and counts the attempt at what by network address. It
// refuses the attempt if the network has to wait. The error wrong of use makes it a failed one.
func guess(
	r *http.Request, of *limit.Backoff, what string, wrong error, use func() (web.Answer, error),
) (answer web.Answer, err error) {
	key := what + " " + limit.Address(audit.RequestFrom(r.Context()).Address)
	attempt, ok, wait, err := of.Begin(r.Context(), key)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, oauth.RefuseForNow(wait, "too many attempts")
	}
	defer func() {
		if errors.Is(err, wrong) {
			attempt.Fail()
		} else {
			attempt.Return()
		}
	}()
	return use()
}

// whySetup returns the sentence that tells a person why the setup was refused.
func whySetup(refusal *oauth.Refusal) string {
	const again = " Print a fresh link with: cardea setup-link"
	switch {
	case errors.Is(refusal, admin.ErrSetupDone):
		return "This link was used, or the installation was set up in another way. Another owner is made with: " +
			"cardea user create --role owner"
	case errors.Is(refusal, admin.ErrSetupExpired):
		return "This link has expired: it is good for an hour." + again
	case errors.Is(refusal, admin.ErrSetupUnknown):
		return "This is not the newest link, or it was cut." + again
	case errors.Is(refusal, errSetupForm):
		return login.LostForm + "open the link again."
	case refusal.Code == oauth.TooManyRequests:
		return tooMany(refusal)
	}
	return web.Sentence(refusal.Description)
}

// tooMany returns the sentence that tells a person how long to wait.
func tooMany(refusal *oauth.Refusal) string {
	return "There were too many attempts from this network. Wait " + refusal.RetryAfter.Round(time.Second).String() +
		", then try again."
}
