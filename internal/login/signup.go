package login

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/credential"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/mail"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// signUps is /signup, where people make their own accounts. A person first shows that they read the mail of an address,
// and chooses the password only then, so that nobody prepares an account for somebody else.
type signUps struct{ *Endpoint }

// The paths of the pages, and how long a link and a code work.
const (
	signUpPath     = "/signup"
	finishPath     = "/signup/finish"
	signUpLifetime = 30 * time.Minute
)

// routes returns the routes of the pages.
func (e signUps) routes() []web.Route {
	return []web.Route{
		{Path: signUpPath, Methods: web.Methods{"GET": e.Pages.HTML(e.Show), "POST": e.Pages.HTML(e.Post)},
			Caller: web.People},
		{Path: finishPath, Methods: web.Methods{"GET": e.Pages.HTML(e.ShowFinish), "POST": e.Pages.HTML(e.Finish)},
			Caller: web.People},
	}
}

// signUpForm is the form that asks for an address.
type signUpForm struct {
	Email   string     // filled in
	Domains string     // those that are let in, as people write them; "": all
	Away    bool       // the form may lead to a provider
	Fields  url.Values // where the person wants to go, handed back
	SignIn  string     // the path of the sign-in page
	Error   string     // a sentence on why the last attempt failed; "": none
	CSRF    string     // token of the form, handed back as csrf
}

// Page returns the page, with status 200.
func (v signUpForm) Page() web.Page {
	return within(templates.Page("sign-up.html", v), v.Away)
}

// finishForm is the form that takes the code of a mail, or the token of its link, and makes the account.
type finishForm struct {
	Password bool       // the account gets one
	Email    string     // to which the mail was sent; "": this browser did not ask for it
	Sent     string     // what this browser keeps of that, sealed, handed back as sent
	Code     string     // the token of a link, to send again
	Name     string     // filled in
	Fields   url.Values // where the person wants to go, handed back
	Again    string     // the path at which another mail is asked for
	SignIn   string     // the path of the sign-in page
	Account  string     // of who is signed in, perhaps in another tab; "": nobody
	Error    string     // a sentence on why the last attempt failed; "": none
	CSRF     string     // token of the form, handed back as csrf
}

// Page returns the page, with status 200.
func (v finishForm) Page() web.Page {
	page := templates.Page("sign-up-finish.html", v).Scripted()
	if v.Fields.Has("request") {
		return page.AnswersClient()
	}
	return page
}

// signUp is the purpose of the tokens of both forms, and of what a browser keeps of a mail.
const signUp = "sign up"

// onward returns the parameters that say where the person wants to go.
func onward(values url.Values) url.Values { return destinationOf(values).values(url.Values{}) }

// toward returns a path with where the person wants to go.
func toward(path string, values url.Values) string {
	if query := onward(values); len(query) > 0 {
		return path + "?" + query.Encode()
	}
	return path
}

// Show answers GET /signup with the form that asks for an address.
func (e signUps) Show(r *http.Request) (web.Answer, error) {
	query, err := web.Query(r)
	if err != nil {
		return nil, e.Pages.Refuse(r, audit.SignUp(""), err)
	}
	return e.askPage(r, query, ""), nil
}

func (e signUps) askPage(r *http.Request, values url.Values, failure string) web.Answer {
	browser := e.Pages.Browser(r)
	page := signUpForm{Email: values.Get("email"), Domains: identity.DomainsOf(e.SignUpDomains), Away: e.LeadsAway(),
		Fields: onward(values), SignIn: toward("/login", values), Error: failure, CSRF: e.Pages.Token(browser, signUp)}
	return web.WithCookie(page, browser.Cookie())
}

var (
	errNoAddress  = oauth.Refuse(oauth.InvalidRequest, "email is not an e-mail address")
	errDomain     = oauth.Refuse(oauth.AccessDenied, "people with an address of this domain may not sign up")
	errSignUpCode = oauth.Refuse(oauth.AccessDenied, "the code or the link is wrong, was used before, or has expired")
	errName       = oauth.Refuse(oauth.InvalidRequest, "name must be one line of at most %d bytes",
		identity.MaxName)
	errExists = oauth.Refuse(oauth.InvalidRequest, "there is an account with this e-mail address already")
)

// Post answers POST /signup: it sends a link and a code to the address, and leads to the form that takes the code. What
// it does and how it answers does not depend on whether there is an account with the address; the owner of one is told
// in the mail.
func (e signUps) Post(r *http.Request) (web.Answer, error) {
	form, err := web.Form(r)
	if err != nil {
		return nil, e.Pages.Refuse(r, audit.SignUp(""), err)
	}
	v := interaction.Visitor{Browser: e.Pages.Browser(r)}
	if !e.Pages.Check(v.Browser, form.Get("csrf"), signUp) {
		return e.refused(r, form, errForm)
	}
	email, ok := identity.Email(form.Get("email"))
	if !ok {
		return e.refused(r, form, errNoAddress)
	}
	if p := e.providerOf(identity.EmailKey(email)); p != nil { // where its people also make their accounts
		return web.SeeOther(provider{e.Endpoint, p}.start(destinationOf(form), email)), nil
	}
	if !e.lets(email) {
		return e.refused(r, form, errDomain)
	}
	var known *identity.User
	err = e.DB.View(r.Context(), func(tx *store.Tx) (err error) {
		known, err = tx.UserByEmail(email)
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	fields, token := onward(form), oauth.NewSecret("")
	o := &store.OneTime{ID: oauth.NewID("one_"), Purpose: store.ToSignUp, Email: email, TokenHash: oauth.Hash(token),
		Browser: v.Browser.Hash(), Request: fields.Get("request"), Back: fields.Get("return"),
		ExpiresAt: e.DB.Now().Add(signUpLifetime)}
	o.CodeHash = emails(e).codeHash(o.ID, emails(e).code(token))
	if err := e.SendMail(r, e.letter(email, token, known)); err != nil {
		return e.refused(r, form, err)
	}
	if err := e.DB.Update(r.Context(), func(tx *store.Tx) error { return tx.CreateOneTime(o) }); err != nil {
		return nil, err
	}
	sealed, err := e.Desk.Sealer.SealJSON(signUp, sent{o.ID, email, o.Browser, e.DB.Now()})
	if err != nil {
		return nil, err
	}
	fields.Set("sent", sealed)
	return web.WithCookie(web.SeeOther(finishPath+"?"+fields.Encode()), v.Browser.Cookie()), nil
}

// lets reports whether people with such an address may sign up.
func (e signUps) lets(email string) bool {
	key := identity.EmailKey(email)
	return len(e.SignUpDomains) == 0 || slices.Contains(e.SignUpDomains, key[strings.LastIndexByte(key, '@')+1:])
}

// letter returns the mail to an address: with the link and the code or, if known is the account that it has, with what
// to do instead.
func (e signUps) letter(email, token string, known *identity.User) mail.Letter {
	if known != nil {
		return mail.Letter{ // to the address of the account, not to one that was typed and looks the same
			To: known.Email, Kind: "sign_up", Subject: "You have an account at " + e.Name,
			Lines: []string{"Somebody asked to make an account at " + e.Name + " with this e-mail address. There is " +
				"one already. If it was you, sign in with it."},
			Link: e.Issuer + "/login", Button: "Sign in",
			Notes: []string{"If it was not you, do nothing. Nobody has got into your account."},
		}
	}
	return mail.Letter{
		To: email, Kind: "sign_up", Subject: "Make your account at " + e.Name,
		Lines: []string{"Somebody asked to make an account at " + e.Name + " with this e-mail address. If it was " +
			"you, type the code where you asked, or open this link."},
		Link: e.Issuer + finishPath + "#" + token, Button: "Make my account", Code: emails(e).code(token),
		Notes: []string{"Both work once, for 30 minutes.",
			"If it was not you, do nothing: there is no account. Never tell the code to anybody."},
	}
}

// refused records a refusal and returns the form that asks for an address.
func (e signUps) refused(r *http.Request, form url.Values, err error) (web.Answer, error) {
	refusal, err := e.Pages.Refused(r, audit.SignUp(""), err)
	if err != nil {
		return nil, err
	}
	return web.WithRefusal(e.askPage(r, form, e.explain(refusal)), refusal), nil
}

// explain returns the sentence that tells a person why an account was not made. None of them reveals whether there is
// an account with an address, except to a person who reads its mail.
func (e signUps) explain(refusal *oauth.Refusal) string {
	switch {
	case errors.Is(refusal, errForm):
		return LostForm + "try again."
	case errors.Is(refusal, errNoAddress):
		return "That is not an e-mail address. Write it like ada@example.com."
	case errors.Is(refusal, errDomain):
		return "Only people with an address at " + identity.DomainsOf(e.SignUpDomains) + " can make an account here."
	case errors.Is(refusal, errSignUpCode):
		return "That did not work. The code and the link work once, for 30 minutes, and the code for five tries, in " +
			"the browser in which you asked for it."
	case errors.Is(refusal, errExists):
		return "There is an account with this e-mail address already. Sign in with it."
	case errors.Is(refusal, errName):
		return fmt.Sprintf("The name must be one line of at most %d bytes.", identity.MaxName)
	case refusal.Code == oauth.TooManyRequests:
		return "Too many mails were asked for. Try again in " +
			audit.Lasting(refusal.RetryAfter.Round(time.Second)+time.Second) + "."
	}
	return web.Sentence(refusal.Description)
}

// ShowFinish answers GET /signup/finish with the form that makes the account. It spends nothing.
func (e signUps) ShowFinish(r *http.Request) (web.Answer, error) {
	query, err := web.Query(r)
	if err != nil {
		return nil, e.Pages.Refuse(r, audit.SignUp(""), err)
	}
	return e.finish(r, query, "")
}

func (e signUps) finish(r *http.Request, values url.Values, failure string) (web.Answer, error) {
	v, err := e.Desk.Visitor(r)
	if err != nil {
		return nil, err
	}
	page := finishForm{Password: slices.Contains(e.Methods, "password"), Name: values.Get("name"),
		Fields: onward(values), Again: toward(signUpPath, values), SignIn: toward("/login", values), Error: failure,
		CSRF: e.Pages.Token(v.Browser, signUp)}
	if s, ok := e.openSent(v, signUp, values.Get("sent"), signUpLifetime); ok {
		page.Email, page.Sent = s.Email, values.Get("sent")
	}
	if isToken(values.Get("code")) {
		page.Code = values.Get("code")
	}
	if v.SignedIn() {
		page.Account = v.Person.Label()
	}
	return web.WithCookie(page, v.Browser.Cookie()), nil
}

// isToken reports whether what was typed is the token of a link, not a code.
func isToken(typed string) bool { return len(strings.TrimSpace(typed)) >= 40 }

// Finish answers POST /signup/finish: it makes the account and signs the person in, who may have to set a second factor
// up first.
func (e signUps) Finish(r *http.Request) (web.Answer, error) {
	form, err := web.Form(r)
	if err != nil {
		return nil, e.Pages.Refuse(r, audit.SignUp(""), err)
	}
	var answer web.Answer
	v := interaction.Visitor{Browser: e.Pages.Browser(r)}
	if e.Pages.Check(v.Browser, form.Get("csrf"), signUp) {
		answer, err = e.make(r, v, form)
	} else {
		err = errForm
	}
	if err == nil {
		return answer, nil
	}
	refusal, err := e.Pages.Refused(r, audit.SignUp(""), err)
	if err != nil {
		return nil, err
	}
	if answer, err = e.finish(r, form, e.explain(refusal)); err != nil {
		return nil, err
	}
	return web.WithRefusal(answer, refusal), nil
}

// make makes the account. It hashes the password only if the code or the token is good.
func (e signUps) make(r *http.Request, v interaction.Visitor, form url.Values) (web.Answer, error) {
	name := strings.TrimSpace(form.Get("name"))
	if !identity.IsName(name) {
		return nil, errName
	}
	o, spend, err := e.proven(r, v, form)
	if err != nil {
		return nil, err
	}
	if !e.lets(o.Email) {
		return nil, errDomain
	}
	person := &identity.User{ID: oauth.NewID("usr_"), Email: o.Email, Name: name}
	back := "/account"
	if slices.Contains(e.Methods, "password") {
		if person.PasswordHash, err = credential.HashPassword(r.Context(), form.Get("password")); err != nil {
			return nil, err
		}
	} else {
		back = "/account/security" // what the person signs in with from now on is yet to be added
	}
	to := destinationOf(form)
	if isToken(form.Get("code")) && v.Browser.Is(o.Browser) {
		to = destination{o.Request, o.Back}
	}
	if to == (destination{}) {
		to.back = back
	}
	return e.arrive(r, to, Proof{Person: person, AMR: []string{"email"}, New: true, Confirm: func(tx *store.Tx) error {
		if err := spend(tx); err != nil {
			return err
		}
		person.CreatedAt, person.EmailVerifiedAt = tx.Now(), tx.Now()
		if err := tx.CreateUser(person); err != nil {
			if errors.Is(err, store.ErrConflict) {
				err = errExists
			}
			return err
		}
		return tx.Record(audit.SignUp(person.ID).Allow())
	}})
}

// proven returns the mail whose code or token is in the form, and what spends it.
func (e signUps) proven(
	r *http.Request, v interaction.Visitor, form url.Values,
) (*store.OneTime, func(*store.Tx) error, error) {
	typed := strings.TrimSpace(form.Get("code"))
	var o *store.OneTime
	var err error
	if isToken(typed) {
		err = e.DB.View(r.Context(), func(tx *store.Tx) (err error) {
			o, err = tx.OneTimeByToken(oauth.Hash(typed))
			return err
		})
		if errors.Is(err, store.ErrNotFound) ||
			err == nil && (o.Purpose != store.ToSignUp || o.Tries >= store.CodeTries) {
			err = errSignUpCode
		}
		return o, func(tx *store.Tx) error {
			err := tx.SpendOneTime(o.ID)
			if errors.Is(err, store.ErrNotFound) {
				err = errSignUpCode
			}
			return err
		}, err
	}
	s, ok := e.openSent(v, signUp, form.Get("sent"), signUpLifetime)
	if !ok {
		return nil, nil, errSignUpCode
	}
	hash := emails(e).codeHash(s.ID, plainCode(typed))
	try := func(tx *store.Tx) error {
		if spent, err := tx.TryCode(s.ID, hash); err != nil {
			return err
		} else if !spent {
			return errSignUpCode
		}
		return nil
	}
	err = e.DB.View(r.Context(), func(tx *store.Tx) (err error) {
		o, err = tx.OneTime(s.ID)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil, errSignUpCode
	case err == nil && (o.Purpose != store.ToSignUp || o.CodeHash != hash):
		// How long the comparison takes tells nothing, because the hashes are made with a key.
		if err = e.DB.Update(r.Context(), try); err == nil {
			err = errSignUpCode
		}
	}
	return o, try, err
}
