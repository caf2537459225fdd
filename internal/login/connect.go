package login

import (
	"errors"
	"net/http"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/upstream"
	"github.com/cardea-auth/cardea/internal/web"
)

// Elsewhere is where people have accounts with which they sign in here: a provider, or the application with its own
// sign-in page.
type Elsewhere struct {
	ID, Name string
	Connects bool // Connect connects an account there
}

// Elsewhere returns where people have accounts with which they sign in here, in the order of the sign-in page.
func (e *Endpoint) Elsewhere() []Elsewhere {
	var all []Elsewhere
	for _, p := range e.providers {
		all = append(all, Elsewhere{p.ID, p.Label(), true})
	}
	if e.External.URL != "" {
		all = append(all, Elsewhere{externalID, external{e}.host(), false})
	}
	return all
}

// CanSignInWithout reports whether the person can still sign in if their identity or passkey with that id is gone.
func (e *Endpoint) CanSignInWithout(tx *store.Tx, person *identity.User, id string) (bool, error) {
	for _, m := range e.methods() {
		if opens, err := m.Opens(tx, person, id); opens || err != nil {
			return opens, err
		}
	}
	return false, nil
}

// ErrLastAccount refuses to disconnect the account that is the only way in which a person can sign in.
var ErrLastAccount = oauth.RefuseStatus(http.StatusConflict, oauth.InvalidRequest,
	"you could not sign in any more without it: set up another way to sign in first")

// Disconnect deletes the identity with that id of the person, whose account tx has locked, and records that. It returns
// store.ErrNotFound if the person has no such identity, and ErrLastAccount if the person could not sign in without it.
func (e *Endpoint) Disconnect(tx *store.Tx, person *identity.User, id string) error {
	i, err := tx.IdentityByID(id)
	if err == nil && i.UserID != person.ID {
		err = store.ErrNotFound
	}
	if err != nil {
		return err
	}
	others, err := e.CanSignInWithout(tx, person, id)
	if err != nil {
		return err
	}
	if !others {
		return tx.Conclude(audit.Identity("disconnect", person.ID).With("provider", i.Provider), ErrLastAccount)
	}
	return upstream.Disconnect(tx, i)
}

// Connect sends the person of v, who is signed in, to a provider, to connect an account there with theirs here. When
// they come back, e.Connected answers. Connect returns store.ErrNotFound if there is no provider with that id. It
// refuses if the provider does not answer.
func (e *Endpoint) Connect(r *http.Request, v interaction.Visitor, providerID string) (web.Answer, error) {
	for _, p := range e.providers {
		if p.ID != providerID {
			continue
		}
		m := provider{e, p}
		t := m.trip(v, destination{back: "/account/security"})
		t.Connect = v.Person.ID
		answer, err := m.leave(r, v, t,
			upstream.Trip{Nonce: t.Nonce, Verifier: t.Verifier, Again: true})
		return answer, m.refusal(err)
	}
	return nil, store.ErrNotFound
}

// connect connects the account of who at the provider with the person who began the trip, and is still signed in. It
// spends t.
func (m provider) connect(r *http.Request, v interaction.Visitor, t trip, who *upstream.Person) error {
	if v.PersonID() != t.Connect {
		return errOtherPerson
	}
	var entry *upstream.Entry
	err := m.DB.View(r.Context(), func(tx *store.Tx) (err error) {
		entry, err = m.at.Connect(tx, who, t.Connect)
		return err
	})
	if err != nil {
		return err
	}
	err = m.DB.Update(r.Context(), func(tx *store.Tx) error {
		if err := m.Desk.Sessions.Confirm(tx, v); err != nil {
			return err
		}
		if err := entry.Enter(tx, m.vault); err != nil {
			return err
		}
		return tx.SpendSignIn(t.hash, t.Connect, t.expiresAt)
	})
	switch {
	case errors.Is(err, store.ErrNotFound): // the session ended
		return errOtherPerson
	case errors.Is(err, upstream.ErrChanged), errors.Is(err, store.ErrConflict):
		return errMoved
	}
	return err
}

var errOtherPerson = oauth.Refuse(oauth.AccessDenied, "you are not signed in any more as the person who began this: "+
	"nothing was connected")
