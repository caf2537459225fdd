package login

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"slices"
	"strconv"
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

// passkeys is the method of a passkey (WebAuthn). It is two factors by itself: the device, and what unlocks it.
type passkeys struct{ *Endpoint }

// Name is the method's name in login.methods.
func (passkeys) Name() string { return "passkey" }

// UsePasskeys lets people sign in with passkeys at a server with that issuer, if its host is a name and not an IP
// address.
func (e *Endpoint) UsePasskeys(issuer string) (err error) {
	e.ceremonies, err = credential.NewPasskeys(issuer)
	return err
}

// UsesPasskeys reports whether people may sign in with passkeys.
func (e *Endpoint) UsesPasskeys() bool {
	return e.ceremonies != nil && slices.Contains(e.Methods, passkeys{e}.Name())
}

// Offer shows the button, and has browsers offer passkeys where the e-mail address is typed.
func (m passkeys) Offer(page *SignIn) {
	if m.UsesPasskeys() {
		page.Passkey = Passkey{Options: m.request(page.browser), Request: page.Request, Return: page.Return,
			CSRF: page.CSRF}
	}
}

// request returns what a browser needs to sign somebody in with a passkey.
func (e *Endpoint) request(browser string) string {
	options, err := e.ceremonies.Request(e.newChallenge(browser, signIn))
	if err != nil {
		return "" // cannot happen: the server itself made the challenge
	}
	return options
}

// Routes returns the route of the button's form.
func (m passkeys) Routes() []web.Route {
	return []web.Route{{Path: "/login/passkey", Methods: web.Methods{"POST": m.Pages.HTML(m.Post)}, Caller: web.People}}
}

// Opens reports whether the person has another passkey than without.
func (m passkeys) Opens(tx *store.Tx, person *identity.User, without string) (bool, error) {
	if !m.UsesPasskeys() {
		return false, nil
	}
	keys, err := tx.Passkeys(person.ID)
	return slices.ContainsFunc(keys, func(k *identity.Passkey) bool { return k.ID != without }), err
}

// passkeyTime is how long a challenge counts.
const passkeyTime = 10 * time.Minute

// newChallenge returns a challenge for a passkey, for a purpose. It proves that this server made it for the browser,
// and when, so that it takes no memory of the server.
func (e *Endpoint) newChallenge(browser string, purpose ...string) []byte {
	made := strconv.FormatInt(e.DB.Now().Unix(), 10) + "." + rand.Text()
	return []byte(made + "." + e.Pages.TokenFor(browser, slices.Concat([]string{"passkey", made}, purpose)...))
}

// checkChallenge refuses a challenge that newChallenge did not make for the purpose and one of the browser's ids within
// passkeyTime.
func (e *Endpoint) checkChallenge(b web.Browser, challenge []byte, purpose ...string) error {
	at := strings.LastIndexByte(string(challenge), '.')
	if at < 0 {
		return errChallenge
	}
	made, token := string(challenge[:at]), string(challenge[at+1:])
	text, _, _ := strings.Cut(made, ".")
	seconds, err := strconv.ParseInt(text, 10, 64)
	age := e.DB.Now().Sub(time.Unix(seconds, 0))
	if err != nil || age < -time.Second || age >= passkeyTime ||
		!e.Pages.Check(b, token, slices.Concat([]string{"passkey", made}, purpose)...) {
		return errChallenge
	}
	return nil
}

// spendChallenge refuses a challenge that was answered before.
func (e *Endpoint) spendChallenge(tx *store.Tx, challenge []byte, userID string) error {
	err := tx.SpendSignIn(oauth.Hash("passkey "+string(challenge)), userID, tx.Now().Add(passkeyTime))
	if errors.Is(err, store.ErrConflict) {
		return errChallenge
	}
	return err
}

var (
	errChallenge = oauth.Refuse(oauth.AccessDenied,
		"the page was open for too long, was meant for another browser, or was answered before")
	errPasskey = oauth.Refuse(oauth.AccessDenied, "the passkey is unknown, or was not used as it must be")
	errCopied  = oauth.Refuse(oauth.AccessDenied,
		"the counter of the passkey went back, so somebody may have copied it")
)

// Post answers POST /login/passkey: a sign-in with the passkey that the browser of r used. Failures are counted by
// network address alone, because a signature of a passkey cannot be guessed, so no account needs to be protected from
// guesses.
func (m passkeys) Post(r *http.Request) (web.Answer, error) {
	form, err := web.Form(r)
	if err != nil {
		return nil, m.Pages.Refuse(r, audit.SignIn(""), err)
	}
	v := interaction.Visitor{Browser: m.Pages.Browser(r)}
	event := audit.SignIn("").With("method", m.Name())
	switch {
	case !v.Browser.Known():
		return m.again(r, v, form, event, errForm, noCookie)
	case !m.Pages.Check(v.Browser, form.Get("csrf"), signIn):
		return m.again(r, v, form, event, errForm, oldForm)
	}
	answer, err := m.try(r, "", func() (web.Answer, error) {
		proof, err := m.prove(r, v.Browser, form.Get("passkey"), &event)
		if err != nil {
			return nil, err
		}
		return m.arrive(r, destinationOf(form), proof)
	})
	if err != nil {
		return m.again(r, v, form, event, err, whyPasskey(err))
	}
	return answer, nil
}

// prove returns the proof that a person has used their passkey, by which it finds out who they are. It completes event,
// by which a refusal is recorded.
func (m passkeys) prove(r *http.Request, b web.Browser, answer string, event *audit.Event) (Proof, error) {
	a, err := credential.ParseAssertion(answer)
	if err != nil {
		*event = event.With("cause", err.Error())
		return Proof{}, errPasskey
	}
	if err := m.checkChallenge(b, a.Challenge(), signIn); err != nil {
		return Proof{}, err
	}
	key, person, err := m.keyAndPerson(r.Context(), a.CredentialID())
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && person.Disabled():
		return Proof{}, errPasskey
	case err != nil:
		return Proof{}, err
	}
	*event = audit.SignIn(person.ID).With("method", m.Name()).With("passkey", key.ID)
	used, err := m.ceremonies.Check(person, key, a.Challenge(), a)
	switch {
	case errors.Is(err, credential.ErrCopied):
		return Proof{}, errCopied
	case err != nil:
		*event = event.With("cause", err.Error())
		return Proof{}, errPasskey
	}
	p := Proof{Person: person, Method: m.Name(), AMR: methodsOf(used), Event: *event}
	p.Confirm = func(tx *store.Tx) error {
		if err := m.spendChallenge(tx, a.Challenge(), person.ID); err != nil {
			return err
		}
		if err := tx.ConfirmUser(person.ID, person.Version); err != nil {
			return notNow(err, errPasskey)
		}
		err := tx.UsePasskey(used)
		if errors.Is(err, store.ErrNotFound) {
			if _, err = tx.Passkey(used.CredentialID); err == nil {
				return errCopied
			}
		}
		return notNow(err, errPasskey) // it was removed meanwhile
	}
	return p, nil
}

// methodsOf returns the methods of RFC 8176 that the use of a passkey is. Whether the key is in hardware is what the
// passkey says of itself: one that may be copied is not.
func methodsOf(key *identity.Passkey) []string {
	if key.BackupEligible {
		return []string{"swk", "user", "mfa"}
	}
	return []string{"hwk", "user", "mfa"}
}

// keyAndPerson returns the passkey with that credential id, and whose it is, or store.ErrNotFound.
func (e *Endpoint) keyAndPerson(ctx context.Context, credentialID []byte) (key *identity.Passkey, person *identity.User,
	err error) {
	err = e.DB.View(ctx, func(tx *store.Tx) (err error) {
		if key, err = tx.Passkey(credentialID); err != nil {
			return err
		}
		person, err = tx.User(key.UserID)
		return err
	})
	return key, person, err
}

// hasPasskey reports whether a person has a passkey that counts here as a second factor.
func (e *Endpoint) hasPasskey(tx *store.Tx, userID string) (bool, error) {
	if !e.UsesPasskeys() {
		return false, nil
	}
	return tx.HasPasskey(userID)
}

// whyPasskey returns the sentence that tells a person why their passkey was not accepted.
func whyPasskey(err error) string {
	switch {
	case errors.Is(err, errPasskey):
		return "That passkey did not work here. Use another one, or sign in another way."
	case errors.Is(err, errChallenge):
		return "This page was open for too long, or was used before. Please try again."
	case errors.Is(err, errCopied):
		return "That passkey was not accepted, because somebody may have a copy of it. Sign in another way, then " +
			"remove it from your account."
	}
	return why(err)
}
