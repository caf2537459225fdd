package login

import (
	"errors"
	"net/http"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/credential"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// passwords is the method of an e-mail address and a password.
type passwords struct{ *Endpoint }

// Name is the method's name in login.methods.
func (passwords) Name() string { return "password" }

// Offer shows the form.
func (m passwords) Offer(page *SignIn) { page.Password, page.Forgot = true, m.Mail != nil }

// Routes returns none of its own, because the sign-in page is at the address of its form.
func (passwords) Routes() []web.Route { return nil }

// Opens reports whether the person has a password.
func (passwords) Opens(_ *store.Tx, person *identity.User, _ string) (bool, error) {
	return person.PasswordHash != "", nil
}

// Post answers POST /login. A sign-in begins a new session and ends the one that the browser had. After many failures,
// attempts at the account or from the network address have to wait, before the password is checked. Attempts from a
// browser that signed in to the account before are counted separately, so that a stranger cannot lock the owner out.
func (m passwords) Post(r *http.Request) (web.Answer, error) {
	form, err := web.Form(r)
	if err != nil {
		return nil, m.Pages.Refuse(r, audit.SignIn(""), err)
	}
	v := interaction.Visitor{Browser: m.Pages.Browser(r)}
	email, password := form.Get("email"), form.Get("password")
	switch {
	case !v.Browser.Known():
		return m.again(r, v, form, audit.SignIn(""), errForm, noCookie)
	case !m.Pages.Check(v.Browser, form.Get("csrf"), signIn):
		return m.again(r, v, form, audit.SignIn(""), errForm, oldForm)
	case len(email) > identity.MaxEmail:
		err = oauth.Refuse(oauth.InvalidRequest, "the e-mail address is longer than %d bytes", identity.MaxEmail)
		return nil, m.Pages.Refuse(r, audit.SignIn(""), err)
	}
	key := identity.EmailKey(email)
	if p := m.providerOf(key); p != nil {
		return web.SeeOther(provider{m.Endpoint, p}.start(destinationOf(form), email)), nil
	}
	user, err := m.account(r, key)
	if err != nil {
		return nil, err
	}
	answer, err := m.try(r, m.accountKey(r, key), func() (web.Answer, error) {
		proof, err := m.prove(r, user, password)
		if err != nil {
			return nil, err
		}
		return m.arrive(r, destinationOf(form), proof)
	})
	if err != nil {
		return m.again(r, v, form, audit.SignIn(user.ID), err, why(err))
	}
	return answer, nil
}

// account returns the user with this e-mail address, or a user without a password if there is none.
func (m passwords) account(r *http.Request, key string) (*identity.User, error) {
	var user *identity.User
	err := m.DB.View(r.Context(), func(tx *store.Tx) (err error) {
		user, err = tx.UserByEmail(key)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return &identity.User{}, nil
	}
	return user, err
}

// prove returns the proof that the password is the user's, and errWrong if it is not. It takes as long for a user who
// does not exist as for any other. The proof confirms the password hash, because an operator may have changed it or
// disabled the account in the meantime, and replaces one of an outdated cost.
func (m passwords) prove(r *http.Request, user *identity.User, password string) (Proof, error) {
	ok, outdated, err := credential.VerifyPassword(r.Context(), user.PasswordHash, password)
	switch {
	case err != nil:
		return Proof{}, err
	case !ok, user.Disabled():
		return Proof{}, errWrong
	}
	hash := user.PasswordHash
	if outdated {
		// On an error, the old hash stays in use.
		if better, err := credential.HashPassword(r.Context(), password); err == nil {
			hash = better
		}
	}
	return byPassword(user, hash), nil
}

// byPassword returns the proof of a user whose password was right, and whose hash becomes hash.
func byPassword(user *identity.User, hash string) Proof {
	return Proof{Person: user, Method: passwords{}.Name(), AMR: []string{"pwd"}, Confirm: func(tx *store.Tx) error {
		err := tx.ConfirmPassword(user.ID, user.PasswordHash, hash)
		if errors.Is(err, store.ErrNotFound) {
			return errWrong
		}
		return err
	}}
}

// ArriveWithPassword ends the sign-in of a user who has just chosen the password that the account has, and leads to
// back, the path of a page of ours. It asks for a second factor first if one is needed, as after every other sign-in.
func (e *Endpoint) ArriveWithPassword(r *http.Request, back string, user *identity.User) (web.Answer, error) {
	return e.Arrive(r, back, byPassword(user, user.PasswordHash))
}
