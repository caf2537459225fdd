package login

import (
	"cmp"
	"context"
	"errors"
	"net/http"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/upstream"
	"github.com/cardea-auth/cardea/internal/web"
)

// Invitations has the functions with which people make invited accounts at a provider. Both must be set if there are
// providers.
type Invitations struct {
	// Accept returns the account of the invitation with that Hash, and a function that makes it in a transaction. email
	// is the address of the person that a provider has verified, or "". Accept refuses as
	// admin.Operations.AcceptInvitationOf does.
	Accept func(ctx context.Context, hash, email, name string) (*identity.User, func(*store.Tx) error, error)
	// Refused answers a person who comes back from the provider with that name and whose account was refused with err.
	Refused func(r *http.Request, v interaction.Visitor, provider string, err error) (web.Answer, error)
}

// invitedPath is where a person comes whose account was just made.
const invitedPath = "/account"

// Accept sends the browser of v to the provider with that id. When the person comes back, the account of the invitation
// is made and connected with the account there. It is called name, or as there if name is "". It returns
// store.ErrNotFound if there is no such provider, and refuses if the provider does not answer.
func (e *Endpoint) Accept(r *http.Request, v interaction.Visitor, providerID string, i *identity.Invitation,
	name string) (web.Answer, error) {
	for _, p := range e.providers {
		if p.ID != providerID {
			continue
		}
		m := provider{e, p}
		t := m.trip(v, destination{back: invitedPath})
		t.Invitation, t.Name = i.Hash, name
		answer, err := m.leave(r, v, t,
			upstream.Trip{Nonce: t.Nonce, Verifier: t.Verifier, LoginHint: i.Email, Again: v.SignedIn()})
		return answer, m.refusal(err)
	}
	return nil, store.ErrNotFound
}

// ServedBy returns the id of the provider at which people with such an address sign in, or "" if they may sign in in
// any way.
func (e *Endpoint) ServedBy(email string) string {
	if p := e.providerOf(identity.EmailKey(email)); p != nil {
		return p.ID
	}
	return ""
}

// accept makes the account of the invitation of t for who, signs them in, and spends t. It refuses an address that the
// provider has not verified or that is not that of the invitation, and an account there that is connected with another
// one here.
func (m provider) accept(r *http.Request, v interaction.Visitor, t trip, who *upstream.Person) (web.Answer, error) {
	email := ""
	if who.Verified {
		email = who.Email
	}
	for range 3 {
		person, make, err := m.Invitations.Accept(r.Context(), t.Invitation, email, cmp.Or(t.Name, who.DisplayName()))
		if err != nil {
			return nil, err
		}
		answer, err := m.arrive(r, t.to, Proof{Person: person, Method: m.at.ID, AMR: []string{"fed"}, New: true,
			Event: audit.SignIn(person.ID).With("provider", m.at.ID),
			Confirm: func(tx *store.Tx) error {
				entry, err := m.at.Invited(tx, who, person) // before anything is written, because it may refuse
				if err == nil {
					err = make(tx)
				}
				if err == nil {
					err = entry.Add(tx, m.vault)
				}
				if err != nil {
					return err
				}
				return tx.SpendSignIn(t.hash, person.ID, t.expiresAt)
			}})
		switch {
		case errors.Is(err, store.ErrConflict): // the page was loaded twice at once
			return m.over(r, v, t)
		case !errors.Is(err, upstream.ErrChanged):
			return answer, err
		}
	}
	return nil, errMoved
}
