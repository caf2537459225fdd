package login

import (
	"cmp"
	"crypto/rand"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/credential"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// half is a sign-in that lacks its second factor. It travels sealed in the address and the form of the page that asks
// for the factor, so that it takes no memory of the server.
type half struct {
	UserID  string   `json:"user"`
	Version int64    `json:"version"` // of the account: another password, for example, ends the sign-in
	AMR     []string `json:"amr"`     // what was proved
	Method  string   `json:"method"`  // Proof.Method
	At      int64    `json:"at"`      // Unix seconds
	Browser string   `json:"browser"` // web.Browser.Hash
	SetUp   bool     `json:"set_up"`  // a person who has no second factor has to set one up

	// Whose it is. They are not sealed: whose reads them.
	person  *identity.User
	app     *identity.TOTP // nil: there is none
	passkey bool           // the person has one
}

const (
	secondFactor = "second factor"  // the purpose of a sealed half
	setUpTOTP    = "set up TOTP"    // the purpose of a sealed secret that no account has yet
	halfLife     = 10 * time.Minute // how long a half waits for the second factor
	recoveries   = 10               // recovery codes of an account
)

var (
	errCode = oauth.Refuse(oauth.AccessDenied, "the code is wrong, was used before, or has expired")
	errHalf = oauth.Refuse(oauth.AccessDenied, "the sign-in took too long, or began in another browser")
	// ErrHasTOTP refuses a second authenticator app.
	ErrHasTOTP = oauth.Refuse(oauth.InvalidRequest, "the account has an authenticator app already")
)

// demanded reports whether the request that a sign-in is for demands two factors.
func (e *Endpoint) demanded(r *http.Request, to destination) (bool, error) {
	if to.request == "" {
		return false, nil
	}
	a, err := e.Desk.Resume(r, to.request)
	var answerable *interaction.Answerable
	switch {
	case errors.As(err, &answerable), oauth.IsRefusal(err):
		return false, nil // the page that follows says so
	case err != nil:
		return false, err
	}
	return a.NeedsTwoFactors(), nil
}

// missing returns the half that p is if a second factor is still to come, and otherwise nil. A person who has a second
// factor is always asked for it, unless login.second_factor is off and nothing else demands two factors.
func (e *Endpoint) missing(tx *store.Tx, r *http.Request, p Proof, demanded bool) (*half, error) {
	if slices.Contains(p.AMR, "mfa") {
		return nil, nil
	}
	strict := demanded || e.SecondFactor == "required"
	if !strict {
		var err error
		if strict, err = tx.InStrictGroup(p.Person.ID); err != nil {
			return nil, err
		}
	}
	if !strict && e.SecondFactor == "off" {
		return nil, nil
	}
	_, err := tx.TOTP(p.Person.ID)
	switch {
	case errors.Is(err, store.ErrNotFound) && !strict:
		return nil, nil
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return nil, err
	}
	lacks := e.halfOf(r, p.Person, p.AMR, strict)
	lacks.Method = p.Method
	return lacks, nil
}

// halfOf returns the half of a person who has proved amr. If strict is true, one who has no second factor sets it up.
func (e *Endpoint) halfOf(r *http.Request, person *identity.User, amr []string, strict bool) *half {
	return &half{UserID: person.ID, Version: person.Version, AMR: amr, At: e.DB.Now().Unix(), SetUp: strict,
		Browser: e.Pages.Browser(r).Hash()}
}

// stepUp leads a person who is signed in to the second factor if that is all that the request demands beyond the
// session (RFC 9470). Otherwise it returns nil.
func (e *Endpoint) stepUp(r *http.Request, v interaction.Visitor, query url.Values) (web.Answer, error) {
	a, err := e.Desk.Resume(r, query.Get("request"))
	if err != nil || !a.SignedIn() || !a.Satisfied(a.Session.SignedInAt, e.DB.Now()) || a.Ready(e.DB.Now()) {
		return nil, nil //nolint:nilerr,nilnil // the form says what is wrong
	}
	return e.ask(e.halfOf(r, v.Person, v.Session.AMR, true), destinationOf(query))
}

// ask leads to the page that asks for what h lacks.
func (e *Endpoint) ask(h *half, to destination) (web.Answer, error) {
	sealed, err := e.Desk.Sealer.SealJSON(secondFactor, h)
	if err != nil {
		return nil, err
	}
	return web.SeeOther("/login/second?" + to.values(url.Values{"half": {sealed}}).Encode()), nil
}

// whose returns the half that was sealed, and whose it is. A person who has a passkey sets no app up, because a stolen
// password would be enough for that. It returns errHalf if the half is too old or of another browser, or if the account
// has changed since.
func (e *Endpoint) whose(r *http.Request, sealed string) (*half, error) {
	h := new(half)
	if err := e.Desk.Sealer.OpenJSON(secondFactor, sealed, h); err != nil {
		return nil, errHalf
	}
	age := e.DB.Now().Sub(time.Unix(h.At, 0))
	if age < -time.Second || age > halfLife || !e.Pages.Browser(r).Is(h.Browser) {
		return nil, errHalf
	}
	err := e.DB.View(r.Context(), func(tx *store.Tx) (err error) {
		if h.person, err = tx.User(h.UserID); err != nil {
			return err
		}
		if h.passkey, err = e.hasPasskey(tx, h.UserID); err != nil {
			return err
		}
		h.app, err = tx.TOTP(h.UserID)
		if errors.Is(err, store.ErrNotFound) {
			h.app, err = nil, nil
		}
		return err
	})
	h.SetUp = h.SetUp && h.app == nil && !h.passkey
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && (h.person.Version != h.Version || h.person.Disabled()):
		return nil, errHalf
	case err == nil && h.app == nil && !h.SetUp && !h.passkey:
		return nil, errHalf // it was removed meanwhile
	}
	return h, err
}

// Second answers GET /login/second with the page that asks for a code, or, if the person has to set a second factor up,
// with the page for that.
func (e *Endpoint) Second(r *http.Request) (web.Answer, error) {
	query, err := web.Query(r)
	if err != nil {
		return nil, e.Pages.Refuse(r, audit.SignIn(""), err)
	}
	h, err := e.whose(r, query.Get("half"))
	if err != nil {
		return e.beginAgain(r, query, err)
	}
	return e.factorPage(r, query, h, "")
}

// beginAgain answers with the sign-in form if err says that the half no longer counts.
func (e *Endpoint) beginAgain(r *http.Request, values url.Values, err error) (web.Answer, error) {
	if !errors.Is(err, errHalf) {
		return nil, err
	}
	return e.again(r, interaction.Visitor{Browser: e.Pages.Browser(r)}, values, audit.SignIn(""),
		err, "Signing in took too long, or your account has changed. Please sign in again.")
}

// factorPage returns the page for h. values have the sealed half, and, if the page was shown before, the sealed secret
// that is being set up.
func (e *Endpoint) factorPage(r *http.Request, values url.Values, h *half, failure string) (web.Answer, error) {
	browser, to := e.Pages.Browser(r), destinationOf(values)
	page := Second{Email: h.person.Label(), Error: failure, Half: values.Get("half"), Request: to.request,
		Return: to.back, CSRF: e.Pages.Token(browser, secondFactor, h.UserID)}
	if h.passkey {
		page.Passkey = Passkey{Options: e.request(browser.Hash()), Request: to.request, Return: to.back,
			CSRF: e.Pages.Token(browser, signIn)}
	}
	page.App = h.app != nil
	if h.SetUp {
		if err := e.OfferTOTP(&page.SetUp, h.person, values.Get("set_up")); err != nil {
			return nil, err
		}
	}
	return web.WithCookie(page, browser.Cookie()), nil
}

// OfferTOTP fills in what a person needs to set an authenticator app up: with the secret that was sealed before, if it
// is theirs, and otherwise with a new one.
func (e *Endpoint) OfferTOTP(offer *SetUp, person *identity.User, sealed string) error {
	secret, ok := e.offered(person, sealed)
	if !ok {
		secret = credential.NewTOTPSecret()
		var err error
		if sealed, err = e.Desk.Sealer.Seal(setUpTOTP, append([]byte(person.ID+" "), secret...)); err != nil {
			return err
		}
	}
	address := credential.TOTPURL(secret, e.Name, person.Label())
	picture, err := credential.QRCode(address)
	*offer = SetUp{
		QR:     template.HTML(picture), //nolint:gosec // made of numbers
		Link:   template.URL(address),  //nolint:gosec // made by url.URL
		Secret: credential.Readable(secret), Sealed: sealed,
	}
	return err
}

// offered returns the secret that was offered to the person to set up.
func (e *Endpoint) offered(person *identity.User, sealed string) (secret []byte, ok bool) {
	plain, err := e.Desk.Sealer.Open(setUpTOTP, sealed)
	if err != nil {
		return nil, false
	}
	id, rest, ok := strings.Cut(string(plain), " ")
	return []byte(rest), ok && id == person.ID && len(rest) == credential.TOTPSecret
}

// PostSecond answers POST /login/second: a code of the person's authenticator app, or a recovery code. It ends the
// sign-in that half began. Wrong codes are counted as wrong passwords are, but separately.
func (e *Endpoint) PostSecond(r *http.Request) (web.Answer, error) {
	form, err := web.Form(r)
	if err != nil {
		return nil, e.Pages.Refuse(r, audit.SignIn(""), err)
	}
	h, err := e.whose(r, form.Get("half"))
	if err != nil {
		return e.beginAgain(r, form, err)
	}
	to := destinationOf(form)
	again := func(err error, sentence string) (web.Answer, error) {
		refusal, err := e.Pages.Refused(r, audit.SignIn(h.UserID), err)
		if err != nil {
			return nil, err
		}
		answer, err := e.factorPage(r, form, h, sentence)
		if err != nil {
			return nil, err
		}
		return web.WithRefusal(answer, refusal), nil
	}
	switch {
	case !e.Pages.Check(e.Pages.Browser(r), form.Get("csrf"), secondFactor, h.UserID):
		return again(errForm, oldForm)
	case h.app == nil && !h.SetUp:
		return e.beginAgain(r, form, errHalf)
	}
	var codes []string
	answer, err := e.try(r, e.factorKey(r, h.person), func() (web.Answer, error) {
		confirm, how, err := e.checkFactor(h.person, h.app, form, &codes)
		if err != nil {
			return nil, err
		}
		p := Proof{Person: h.person, Method: h.Method, AMR: withFactor(h.AMR, how)}
		p.Confirm = func(tx *store.Tx) error {
			if err := tx.ConfirmUser(h.UserID, h.Version); err != nil {
				return notNow(err, errHalf)
			}
			if has, err := e.hasPasskey(tx, h.UserID); err != nil || has && h.app == nil {
				return cmp.Or(err, error(errHalf))
			}
			return confirm(tx)
		}
		return e.begin(r, to, p)
	})
	switch {
	case errors.Is(err, errHalf):
		return e.beginAgain(r, form, err)
	case err != nil:
		return again(err, ExplainCode(err))
	case codes != nil:
		return web.WithCookiesOf(codesPage(codes, e.after(to)), answer), nil
	}
	return answer, nil
}

// factorKey returns the key under which attempts at the second factor of a person are counted.
func (e *Endpoint) factorKey(r *http.Request, person *identity.User) string {
	return secondFactor + " " + e.accountKey(r, counted(person))
}

// withFactor returns amr with the second factor how, and with mfa, because there are two.
func withFactor(amr []string, how string) []string { return withFactors(amr, how, "mfa") }

// withFactors returns amr with more methods, each once.
func withFactors(amr []string, more ...string) []string {
	all := append([]string{}, amr...)
	for _, method := range more {
		if !slices.Contains(all, method) {
			all = append(all, method)
		}
	}
	return all
}

// notNow returns instead if err says that a record is not as it was.
func notNow(err, instead error) error {
	if errors.Is(err, store.ErrNotFound) {
		return instead
	}
	return err
}

// checkFactor returns what spends the code in the form, and the method of RFC 8176 that it is. It returns errCode if
// the code is wrong. If app is nil, the code is the first of the app that the form sets up, and codes will have the
// recovery codes of the account.
func (e *Endpoint) checkFactor(
	person *identity.User, app *identity.TOTP, form url.Values, codes *[]string,
) (spend func(*store.Tx) error, how string, err error) {
	code := plainCode(form.Get("code"))
	if app == nil {
		spend, err = e.createTOTP(person, form.Get("set_up"), code, codes)
		return spend, "otp", err
	}
	if len(code) != credential.TOTPDigits {
		hash := oauth.Hash(recoveryPrefix + code)
		return func(tx *store.Tx) error { return notNow(tx.SpendRecoveryCode(person.ID, hash), errCode) }, "otp", nil
	}
	secret, err := e.Master.Open(totpPlace(person.ID), app.Sealed)
	if err != nil {
		return nil, "", err
	}
	step, ok := credential.TOTPStep(secret, code, e.DB.Now())
	if !ok {
		return nil, "", errCode
	}
	return func(tx *store.Tx) error { return notNow(tx.SpendTOTP(person.ID, step), errCode) }, "otp", nil
}

// createTOTP returns what stores the app whose secret is sealed, if code is its code, and with it new recovery codes.
func (e *Endpoint) createTOTP(
	person *identity.User, sealed, code string, codes *[]string,
) (func(*store.Tx) error, error) {
	secret, ok := e.offered(person, sealed)
	if !ok {
		return nil, errCode
	}
	step, ok := credential.TOTPStep(secret, code, e.DB.Now())
	if !ok {
		return nil, errCode
	}
	kept, err := e.Master.Seal(totpPlace(person.ID), secret)
	if err != nil {
		return nil, err
	}
	return func(tx *store.Tx) error {
		err := tx.CreateTOTP(&identity.TOTP{UserID: person.ID, Sealed: kept, LastStep: step, CreatedAt: tx.Now()})
		if errors.Is(err, store.ErrConflict) {
			return ErrHasTOTP
		}
		if err != nil {
			return err
		}
		var hashes []string
		*codes, hashes = newRecoveryCodes()
		if err := tx.SetRecoveryCodes(person.ID, hashes); err != nil {
			return err
		}
		return tx.Conclude(audit.SecondFactor("set_up", person.ID), nil)
	}, nil
}

func totpPlace(userID string) string { return "users/" + userID + "/totp" }

// recoveryPrefix keeps the hash of a recovery code apart from those of other secrets.
const recoveryPrefix = "recovery code "

// newRecoveryCodes returns new recovery codes of 80 random bits, as they are shown, and their hashes.
func newRecoveryCodes() (codes, hashes []string) {
	for range recoveries {
		text := strings.ToLower(rand.Text()[:16])
		codes = append(codes, text[:4]+"-"+text[4:8]+"-"+text[8:12]+"-"+text[12:])
		hashes = append(hashes, oauth.Hash(recoveryPrefix+text))
	}
	return codes, hashes
}

// plainCode returns a code without what people add when they type it.
func plainCode(typed string) string {
	if len(typed) > 100 {
		return ""
	}
	return strings.ToLower(strings.NewReplacer(" ", "", "-", "", "\u00a0", "").Replace(typed))
}

// ExplainCode returns the sentence that tells a person why a code was not accepted.
func ExplainCode(err error) string {
	switch refusal, ok := oauth.AsRefusal(err); {
	case ok && errors.Is(err, errCode):
		return "That code did not work. Type the one that your app shows now; each works once. " +
			"Check that the clock of your device is right."
	case ok && refusal.Code == oauth.TooManyRequests && !errors.Is(err, credential.ErrBusy):
		return "Too many codes were wrong. Wait " + inWords(refusal.RetryAfter) + ", then try again."
	}
	return why(err)
}
