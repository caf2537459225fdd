package login

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/mail"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// emails is the method of a link and a code that are sent by mail. Both work once, and only in the browser that asked
// for them: a link that is opened elsewhere shows the code to type there. Opening the link spends nothing, because
// programs that look for malware open links too.
type emails struct{ *Endpoint }

// emailPath is the page of the method.
const emailPath = "/login/email"

// emailLifetime is how long the link and the code work.
const emailLifetime = 10 * time.Minute

// Name is the method's name in login.methods.
func (emails) Name() string { return "email" }

// Offer shows the way to the method's page.
func (emails) Offer(page *SignIn) {
	page.Ways = append(page.Ways, Way{Name: "e-mail", Path: emails{}.start(destination{page.Request, page.Return})})
}

// start returns the path at which the method begins.
func (emails) start(to destination) string {
	if query := to.values(url.Values{}).Encode(); query != "" {
		return emailPath + "?" + query
	}
	return emailPath
}

// Routes returns the route of the page.
func (m emails) Routes() []web.Route {
	return []web.Route{{
		Path:    emailPath,
		Methods: web.Methods{"GET": m.Pages.HTML(m.Show), "POST": m.Pages.HTML(m.Post)}, Caller: web.People,
	}}
}

// Opens reports whether the person has an address that is not one of a provider's.
func (m emails) Opens(_ *store.Tx, person *identity.User, _ string) (bool, error) {
	return person.Email != "" && m.providerOf(identity.EmailKey(person.Email)) == nil, nil
}

// errMailed refuses a link or a code.
var errMailed = oauth.Refuse(oauth.AccessDenied, "the link or the code is wrong, was used before, or has expired")

// The sentences above the form after a refusal. None of them reveals whether the account exists.
const (
	badLink = "This link was used before, is older than ten minutes, or was cut. You can ask for another one here."
	badCode = "That code did not work. Each code works for ten minutes and for five tries, and only the newest one " +
		"counts here."
	noAddress = "That is not an e-mail address. Write it like ada@example.com."
)

// Show answers GET /login/email: the form for the address, the form for the code, or what the link in the mail leads
// to.
func (m emails) Show(r *http.Request) (web.Answer, error) {
	query, err := web.Query(r)
	if err != nil {
		return nil, m.Pages.Refuse(r, audit.SignIn(""), err)
	}
	v := interaction.Visitor{Browser: m.Pages.Browser(r)}
	switch {
	case query.Has("token"):
		return m.link(r, v, query)
	case query.Has("sent"):
		return m.codePage(r, v, query, "")
	}
	return m.emailPage(r, v, query, "")
}

// emailPage returns the page that asks for the address. failure is a sentence on why it is shown again, or "".
func (m emails) emailPage(r *http.Request, v interaction.Visitor, values url.Values,
	failure string) (web.Answer, error) {
	to := destinationOf(values)
	page := ByEmail{Email: values.Get("email"), Error: failure, Away: m.LeadsAway(), Request: to.request,
		Return: to.back, CSRF: m.Pages.Token(v.Browser, signIn)}
	if len(m.methods()) > 1 {
		page.Others = "/login?" + to.values(url.Values{}).Encode()
	}
	if to.request != "" {
		a, elsewhere, err := m.resume(r, to.request, audit.SignIn(""))
		if err != nil || elsewhere != nil {
			return elsewhere, err
		}
		page.Client, page.Resource = a.Card(), new(a.ResourceCard())
		if page.Email == "" {
			page.Email = a.LoginHint
		}
	}
	return web.WithCookie(page, v.Browser.Cookie()), nil
}

// sent is what a browser keeps of a mail that it asked for, sealed.
type sent struct {
	ID      string    `json:"id"` // of the store.OneTime
	Email   string    `json:"email"`
	Browser string    `json:"browser"` // web.Browser.Hash
	At      time.Time `json:"at"`
}

// sentMail is the purpose for which it is sealed.
const sentMail = "mail to sign in"

// openSent returns what was sealed for a purpose, if it is of the browser of v and younger than lifetime.
func (e *Endpoint) openSent(v interaction.Visitor, purpose, sealed string, lifetime time.Duration) (s sent, ok bool) {
	err := e.Desk.Sealer.OpenJSON(purpose, sealed, &s)
	return s, err == nil && v.Browser.Is(s.Browser) && e.DB.Now().Sub(s.At) < lifetime
}

// codePage returns the page that asks for the code. failure is a sentence on why it is shown again, or "".
func (m emails) codePage(r *http.Request, v interaction.Visitor, values url.Values,
	failure string) (web.Answer, error) {
	s, ok := m.openSent(v, sentMail, values.Get("sent"), emailLifetime)
	if !ok {
		return m.emailPage(r, v, values, "That took too long, or began in another browser. Ask for another mail here.")
	}
	to := destinationOf(values)
	page := ByCode{Email: s.Email, Error: failure, Sent: values.Get("sent"), Request: to.request, Return: to.back,
		CSRF: m.Pages.Token(v.Browser, signIn)}
	return web.WithCookie(page, v.Browser.Cookie()), nil
}

// link answers GET of the link in a mail: in the browser that asked for it with a button that signs in, and elsewhere
// with the code to type there. It spends nothing.
func (m emails) link(r *http.Request, v interaction.Visitor, query url.Values) (web.Answer, error) {
	var o *store.OneTime
	err := m.DB.View(r.Context(), func(tx *store.Tx) (err error) {
		o, err = m.byToken(tx, query.Get("token"))
		return err
	})
	if err != nil {
		return m.refused(r, v, url.Values{}, "", err)
	}
	page := ByLink{Email: o.Email, Within: o.Request != ""}
	if !v.Browser.Is(o.Browser) {
		page.Code = m.code(query.Get("token"))
		return page, nil
	}
	page.Token, page.CSRF = query.Get("token"), m.Pages.Token(v.Browser, signIn)
	return web.WithCookie(page, v.Browser.Cookie()), nil
}

// byToken returns what a token in a link stands for, or errMailed.
func (m emails) byToken(tx *store.Tx, token string) (*store.OneTime, error) {
	o, err := tx.OneTimeByToken(oauth.Hash(token))
	if err == nil && (o.Purpose != store.ToSignIn || o.Tries >= store.CodeTries) {
		err = errMailed
	}
	return o, notNow(err, errMailed)
}

// Post answers POST /login/email: an address to which a mail is sent, the code in it, or the button that its link leads
// to.
func (m emails) Post(r *http.Request) (web.Answer, error) {
	form, err := web.Form(r)
	if err != nil {
		return nil, m.Pages.Refuse(r, audit.SignIn(""), err)
	}
	v := interaction.Visitor{Browser: m.Pages.Browser(r)}
	switch {
	case !v.Browser.Known():
		return m.refused(r, v, form, noCookie, errForm)
	case !m.Pages.Check(v.Browser, form.Get("csrf"), signIn):
		return m.refused(r, v, form, oldForm, errForm)
	case form.Has("token"):
		return m.enterByLink(r, v, form)
	case form.Has("sent"):
		return m.enterByCode(r, v, form)
	}
	return m.send(r, v, form)
}

// refused records a refusal and returns the page that the form is from, with a sentence that says why; "": as the
// refusal says.
func (m emails) refused(r *http.Request, v interaction.Visitor, form url.Values, sentence string,
	err error) (web.Answer, error) {
	return m.refusedOf(r, v, form, sentence, "", err)
}

// refusedOf is refused for a form that is about the account userID.
func (m emails) refusedOf(r *http.Request, v interaction.Visitor, form url.Values, sentence, userID string,
	err error) (web.Answer, error) {
	refusal, err := m.Pages.Refused(r, audit.SignIn(userID), err)
	if err != nil {
		return nil, err
	}
	switch {
	case sentence != "":
	case refusal.Code == oauth.TooManyRequests && form.Has("sent"):
		sentence = "Too many codes were wrong. Wait " + inWords(refusal.RetryAfter) + ", then try again."
	case refusal.Code == oauth.TooManyRequests:
		sentence = "Too many mails were asked for. Wait " + inWords(refusal.RetryAfter) + ", then try again."
	case errors.Is(refusal, errMailed) && form.Has("sent"):
		sentence = badCode
	case errors.Is(refusal, errMailed):
		sentence = badLink
	default:
		sentence = web.Sentence(refusal.Description)
	}
	show := m.emailPage
	if form.Has("sent") {
		show = m.codePage
	}
	answer, err := show(r, v, form, sentence)
	if err != nil {
		return nil, err
	}
	return web.WithRefusal(answer, refusal), nil
}

// send sends a mail to the account with the address in the form, and leads to the form for the code. What it does and
// how it answers does not depend on whether there is such an account.
func (m emails) send(r *http.Request, v interaction.Visitor, form url.Values) (web.Answer, error) {
	typed := strings.TrimSpace(form.Get("email"))
	if !strings.Contains(typed, "@") || len(typed) > identity.MaxEmail {
		return m.refused(r, v, form, noAddress, oauth.Refuse(oauth.InvalidRequest, "email is not an e-mail address"))
	}
	key, to := identity.EmailKey(typed), destinationOf(form)
	if p := m.providerOf(key); p != nil {
		return web.SeeOther(provider{m.Endpoint, p}.start(to, typed)), nil
	}
	user, err := passwords(m).account(r, key)
	if err != nil {
		return nil, err
	}
	token := oauth.NewSecret("")
	o := &store.OneTime{ID: oauth.NewID("one_"), Purpose: store.ToSignIn, UserID: user.ID, Email: user.Email,
		TokenHash: oauth.Hash(token), Browser: v.Browser.Hash(), Request: to.request, Back: to.back,
		ExpiresAt: m.DB.Now().Add(emailLifetime)}
	o.CodeHash = m.codeHash(o.ID, m.code(token))
	letter := m.letter(r, to, token)
	// The mail goes to the address of the account, not to one that was typed and looks the same.
	if letter.To = user.Email; user.Email == "" || user.Disabled() {
		letter.To, letter.Nobody, o.UserID, o.Email = typed, true, "", typed
	}
	err = m.SendMailWith(r, letter, func(*Letter) error {
		return m.DB.Update(r.Context(), func(tx *store.Tx) error { return tx.CreateOneTime(o) })
	})
	if err != nil {
		return m.refused(r, v, form, "", err)
	}
	sealed, err := m.Desk.Sealer.SealJSON(sentMail, sent{o.ID, typed, o.Browser, m.DB.Now()})
	if err != nil {
		return nil, err
	}
	return web.WithCookie(web.SeeOther(emailPath+"?"+to.values(url.Values{"sent": {sealed}}).Encode()),
		v.Browser.Cookie()), nil
}

// letter returns the mail with a link and a code, without its address. It names the client of the request only if an
// operator vouches for it, because anybody can register a client and ask for a mail: its name would carry their words,
// or the address of their site, to any mailbox.
func (m emails) letter(r *http.Request, to destination, token string) mail.Letter {
	what := "sign in to " + m.Endpoint.Name
	if to.request != "" {
		if a, err := m.Desk.Resume(r, to.request); err == nil && a.Client.Approved() {
			if name := web.DisplayName(a.Card().Name); name != "" {
				what += ", to connect " + name
			}
		}
	}
	return mail.Letter{
		Kind: "sign_in", Subject: "Sign in to " + m.Endpoint.Name,
		Lines: []string{"Somebody asked to " + what + ", with this e-mail address. If it was you, open this link in " +
			"the same browser, or type the code there."},
		Link: m.Issuer + emailPath + "?token=" + token, Button: "Sign in", Code: m.code(token),
		Notes: []string{"Both work once, for 10 minutes, and only in the browser in which you asked.",
			"If it was not you, do nothing. Never tell the code to anybody: " +
				"a person who asks you for it wants to sign in as you."},
	}
}

// codeDigits is the length of a code, so that 5 tries of each of 5 mails in an hour find one in 450 years.
const codeDigits = 8

// code returns the code that belongs to the token of a link. Only the server can make it.
func (m emails) code(token string) string {
	mac := hmac.New(sha256.New, m.Master.Derive("mailed codes"))
	mac.Write([]byte(token))
	return fmt.Sprintf("%0*d", codeDigits, binary.BigEndian.Uint64(mac.Sum(nil))%100_000_000)
}

// codeHash returns the hash of a code that is stored. It needs the server's key, because all codes can be tried.
func (m emails) codeHash(id, code string) string {
	mac := hmac.New(sha256.New, m.Master.Derive("hashes of mailed codes"))
	mac.Write([]byte(id + " " + code))
	return oauth.Hash(string(mac.Sum(nil)))
}

// enterByLink signs in the person to whom a link was sent, in the browser that asked for it.
func (m emails) enterByLink(r *http.Request, v interaction.Visitor, form url.Values) (web.Answer, error) {
	var o *store.OneTime
	var person *identity.User
	err := m.DB.View(r.Context(), func(tx *store.Tx) (err error) {
		if o, err = m.byToken(tx, form.Get("token")); err != nil {
			return err
		}
		person, err = tx.User(o.UserID)
		return notNow(err, errMailed)
	})
	if err == nil && !v.Browser.Is(o.Browser) {
		err = errMailed
	}
	form.Del("token") // which is not to be shown again
	if err != nil {
		return m.refused(r, v, form, "", err)
	}
	answer, err := m.arrive(r, destination{o.Request, o.Back}, m.proof(o, person, func(tx *store.Tx) error {
		return notNow(tx.SpendOneTime(o.ID), errMailed)
	}))
	if err != nil {
		return m.refusedOf(r, v, form, "", person.ID, err)
	}
	return answer, nil
}

// enterByCode signs in the person to whom a code was sent. Wrong codes are counted as wrong passwords are, but
// separately.
func (m emails) enterByCode(r *http.Request, v interaction.Visitor, form url.Values) (web.Answer, error) {
	s, ok := m.openSent(v, sentMail, form.Get("sent"), emailLifetime)
	if !ok {
		return m.refused(r, v, form, "", errMailed)
	}
	o, person := &store.OneTime{ID: s.ID}, &identity.User{}
	err := m.DB.View(r.Context(), func(tx *store.Tx) error {
		found, err := tx.OneTime(s.ID)
		if err != nil {
			return err
		}
		o = found
		user, err := tx.User(o.UserID)
		if err == nil {
			person = user
		}
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) { // the code is wrong in any case, and tried as any other
		return nil, err
	}
	hash := m.codeHash(o.ID, plainCode(form.Get("code")))
	answer, err := m.try(r, sentMail+" "+m.accountKey(r, identity.EmailKey(s.Email)), func() (web.Answer, error) {
		return m.arrive(r, destinationOf(form), m.proof(o, person, func(tx *store.Tx) error {
			if spent, err := tx.TryCode(o.ID, hash); err != nil {
				return err
			} else if !spent {
				return errMailed
			}
			return nil
		}))
	})
	if err != nil {
		return m.refusedOf(r, v, form, "", person.ID, err)
	}
	return answer, nil
}

// proof returns the proof that somebody reads the mail of person. spend spends o.
func (m emails) proof(o *store.OneTime, person *identity.User, spend func(*store.Tx) error) Proof {
	return Proof{Person: person, Method: m.Name(), AMR: []string{"email"}, Confirm: func(tx *store.Tx) error {
		if err := spend(tx); err != nil {
			return err
		}
		now, err := tx.LockUser(person.ID)
		if err != nil {
			return notNow(err, errMailed)
		}
		if now.Disabled() || now.Email != o.Email {
			return errMailed
		}
		if err := tx.VerifyEmail(now.ID, now.Email); err != nil {
			return err
		}
		if now, err = tx.User(now.ID); err != nil {
			return err
		}
		*person = *now
		return nil
	}}
}
