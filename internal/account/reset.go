package account

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/login"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// Reset implements /reset: people who have forgotten their password ask for a link there, and set a new password with
// it. The link of an operator leads there too. The token is in the fragment of the link, as for /setup.
type Reset struct {
	*Endpoint
	Operations *admin.Operations
	// Addresses slows down guessing by network address; nil means no limit.
	Addresses *limit.Backoff
}

// Routes returns the route of the page.
func (e *Reset) Routes() []web.Route {
	if !slices.Contains(e.Login.Methods, "password") {
		return nil
	}
	return []web.Route{{
		Path:    login.ResetPath,
		Methods: web.Methods{"GET": e.Pages.HTML(e.Show), "POST": e.Pages.HTML(e.Post)}, Caller: web.People,
	}}
}

// resetForm is the page with both forms. A script shows the one that the address is for.
type resetForm struct {
	Mail  bool   // people can ask for a link
	Sent  bool   // somebody just did
	Done  bool   // the password is set
	Away  bool   // the form may lead to a provider
	Email string // filled in
	Token string // a good one, to send again
	Error string // a sentence on why the last form did nothing; "": none
	CSRF  string // token of the forms, handed back as csrf
}

// Page returns the page, with status 200.
func (v resetForm) Page() web.Page {
	page := templates.Page("reset.html", v).Scripted()
	if v.Away {
		return page.AnswersClient()
	}
	return page
}

// resetPassword is the purpose of the token of the forms.
const resetPassword = "reset the password"

func (e *Reset) form(browser web.Browser) resetForm {
	return resetForm{Mail: e.Login.Mail != nil, Away: e.Login.LeadsAway(), CSRF: e.Pages.Token(browser, resetPassword)}
}

// Show answers GET /reset with the forms. It spends nothing.
func (e *Reset) Show(r *http.Request) (web.Answer, error) {
	query, err := web.Query(r)
	if err != nil {
		return nil, e.Pages.Refuse(r, audit.User("reset_password", ""), err)
	}
	browser := e.Pages.Browser(r)
	page := e.form(browser)
	page.Sent = page.Mail && query.Get("sent") != ""
	return web.WithCookie(page, browser.Cookie()), nil
}

// Post answers POST /reset: an address to which a link is sent, or with the input token a new password.
func (e *Reset) Post(r *http.Request) (web.Answer, error) {
	form, err := web.Form(r)
	if err != nil {
		return nil, e.Pages.Refuse(r, audit.User("reset_password", ""), err)
	}
	browser := e.Pages.Browser(r)
	var answer web.Answer
	switch {
	case !e.Pages.Check(browser, form.Get("csrf"), resetPassword):
		err = errResetForm
	case form.Has("token") || e.Login.Mail == nil:
		answer, err = e.set(r, form)
	default:
		answer, err = e.send(r, strings.TrimSpace(form.Get("email")))
	}
	if err == nil {
		return web.WithCookie(answer, browser.Cookie()), nil
	}
	page := e.form(browser)
	page.Email = form.Get("email")
	if undone := (*admin.Error)(nil); errors.As(err, &undone) { // the password is not good, and the link is
		page.Token, page.Error = strings.TrimSpace(form.Get("token")), web.Sentence(undone.Error())
		err = oauth.Refuse(oauth.InvalidRequest, "%s", undone.Error())
	}
	refusal, err := e.Pages.Refused(r, audit.User("reset_password", ""), err)
	if err != nil {
		return nil, err
	}
	if page.Error == "" {
		page.Error = e.whyReset(refusal)
	}
	return web.WithCookie(web.WithRefusal(page, refusal), browser.Cookie()), nil
}

var (
	errResetForm    = oauth.Refuse(oauth.AccessDenied, "the form is not from this browser, or too old")
	errResetAddress = oauth.Refuse(oauth.InvalidRequest, "that is not an e-mail address; write it like ada@example.com")
)

// send sends a link to the account with an address. What it does and how it answers does not depend on whether there is
// such an account, and whether it has a password.
func (e *Reset) send(r *http.Request, typed string) (web.Answer, error) {
	if !strings.Contains(typed, "@") || len(typed) > identity.MaxEmail {
		return nil, errResetAddress
	}
	if path := e.Login.ProviderOf(typed); path != "" {
		return web.SeeOther(path), nil
	}
	user := &identity.User{}
	err := e.DB.View(r.Context(), func(tx *store.Tx) error {
		found, err := tx.UserByEmail(identity.EmailKey(typed))
		if err == nil {
			user = found
		}
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	letter := login.Letter{To: user.Email, Kind: "reset"}
	if user.PasswordHash == "" || user.Disabled() || user.Email == "" {
		user, letter.To, letter.Nobody = &identity.User{}, typed, true
	}
	name := e.Login.Name
	letter.Subject = "Set a new password for " + name
	letter.Lines = []string{"Somebody asked for a link to set a new password for your account at " + name + "."}
	letter.Button = "Set a new password"
	letter.Notes = []string{"It works once, within an hour. You will be signed out everywhere, and agents that you " +
		"connected have to be connected again.", "If it was not you, do nothing: your password stays as it is."}
	return web.SeeOther(login.ResetPath + "?sent=1"),
		e.Login.SendMailWith(r, letter, func(l *login.Letter) (err error) {
			l.Link, err = e.Operations.MailedPasswordLink(r.Context(), user.ID, l.To)
			return err
		})
}

// set sets a password with a link. A token that is not good counts as a guess.
func (e *Reset) set(r *http.Request, form url.Values) (web.Answer, error) {
	return guess(r, e.Addresses, "reset", admin.ErrPasswordLink, func() (web.Answer, error) {
		token := strings.TrimSpace(form.Get("token"))
		if err := e.Operations.UsePasswordLink(r.Context(), token, form.Get("password")); err != nil {
			return nil, err
		}
		return resetForm{Done: true}, nil
	})
}

// whyReset returns the sentence that tells a person why a form did nothing.
func (e *Reset) whyReset(refusal *oauth.Refusal) string {
	switch {
	case errors.Is(refusal, admin.ErrPasswordLink) && e.Login.Mail != nil:
		return "This link was used before, has expired, or was cut. Ask for another one below."
	case errors.Is(refusal, admin.ErrPasswordLink):
		return "This link was used before, has expired, or was cut. " +
			"Ask the administrator of this server for another one."
	case errors.Is(refusal, errResetForm):
		return login.LostForm + "try again."
	case refusal.Code == oauth.TooManyRequests:
		return tooMany(refusal)
	}
	return web.Sentence(refusal.Description)
}
