package login

import (
	"cmp"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/credential"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

// try runs sign, which checks something that can be guessed, and counts the attempt by network address and account. It
// refuses the attempt if either has to wait. key is an accountKey, or begins with what else of the account is guessed,
// or is "" if nothing is that the account must be kept from.
func (e *Endpoint) try(r *http.Request, key string, sign func() (web.Answer, error)) (answer web.Answer, err error) {
	address, err := attempt(r, e.Addresses, limit.Address(audit.RequestFrom(r.Context()).Address))
	if err != nil {
		return nil, err
	}
	accounts := e.Accounts
	if key == "" {
		accounts = nil
	}
	account, err := attempt(r, accounts, key)
	if err != nil {
		address.Return()
		return nil, err
	}
	err = errUnfinished
	defer func() { count(address, account, err) }()
	return sign()
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
	case errors.Is(err, errWrong), errors.Is(err, errCode), errors.Is(err, errMailed), errors.Is(err, errPasskey):
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

// counted returns the account of a person as accountKey takes it: the address, which is what others type, or the id of
// an account that has none, because such accounts must not count together.
func counted(person *identity.User) string {
	return cmp.Or(identity.EmailKey(person.Email), person.ID)
}

// accountKey returns the key under which attempts at an account are counted: the account, or the account on a device
// that has signed in to it before.
func (e *Endpoint) accountKey(r *http.Request, key string) string {
	return key + " " + e.Pages.KnownDevice(r, key)
}

// why returns the sentence that tells a person why err was returned.
func why(err error) string {
	refusal, ok := oauth.AsRefusal(err)
	switch {
	case !ok || errors.Is(err, errWrong):
		return failed
	case errors.Is(err, credential.ErrBusy):
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
