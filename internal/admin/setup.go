package admin

import (
	"context"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// setupTTL is how long the one-time link for the setup lives.
const setupTTL = time.Hour

// SetupLink is the one-time link with which the first owner is made.
type SetupLink struct {
	Link      string `json:"link"`
	ExpiresAt Moment `json:"expires_at"`
}

// SetupLink makes a link with which the first owner of the installation is made, once, and ends the one made before.
// The token of 256 bits is in the fragment, which browsers send to nobody; only its hash is stored. It returns a
// Conflict if the installation is set up. Only a command may make one.
func (o *Operations) SetupLink(ctx context.Context, by Caller) (link SetupLink, err error) {
	token := oauth.NewSecret("")
	err = o.change(ctx, by, Users, "setup.link", nil, func(tx *store.Tx) (event audit.Event, err error) {
		if by.Actor.Type != audit.ByCommand {
			return event, forbidden("only a command on the machine of the installation makes a setup link")
		}
		link = SetupLink{Link: o.Issuer + "/setup#" + token, ExpiresAt: Moment{tx.Now().Add(setupTTL)}}
		offered, err := tx.OfferSetup(oauth.Hash(token), link.ExpiresAt.Time)
		if err == nil && !offered {
			err = &Error{Kind: Conflict,
				format: "this instance is set up; make an owner with cardea user create --role owner"}
		}
		return audit.Setup("link", ""), err
	})
	return link, err
}

// The refusals of SetUp and CheckSetup.
var (
	ErrSetupDone    = oauth.Refuse(oauth.AccessDenied, "this instance is set up")
	ErrSetupExpired = oauth.Refuse(oauth.AccessDenied, "the setup link has expired")
	ErrSetupUnknown = oauth.Refuse(oauth.AccessDenied, "the setup link is not the newest one, or was cut")
)

// CheckSetup returns nil if the token is that of a setup link that SetUp takes at this moment. It spends nothing.
func (o *Operations) CheckSetup(ctx context.Context, token string) error {
	return o.DB.View(ctx, func(tx *store.Tx) error { return checkSetup(tx, token) })
}

func checkSetup(tx *store.Tx, token string) error {
	s, err := tx.Setup()
	switch {
	case err != nil:
		return err
	case s.Done():
		return ErrSetupDone
	case s.Hash == "" || s.Hash != oauth.Hash(token): // hashes of a random token: their comparison tells nothing of it
		return ErrSetupUnknown
	case !tx.Now().Before(s.ExpiresAt):
		return ErrSetupExpired
	}
	return nil
}

// SetUp makes the first owner, whom it returns, if the token is that of the setup link, and marks the installation as
// set up, for ever, in the same transaction. It refuses with ErrSetupDone, ErrSetupExpired or ErrSetupUnknown, and with
// an *Error if the account cannot be made, after which the link still works. It hashes the password only if the token
// is good.
func (o *Operations) SetUp(ctx context.Context, token string, n NewUser) (*identity.User, error) {
	if err := o.CheckSetup(ctx, token); err != nil {
		return nil, err
	}
	n.Role, n.Groups = identity.Owner, nil
	u, err := n.account(ctx)
	if err != nil {
		return nil, err
	}
	return u, o.DB.Update(ctx, func(tx *store.Tx) error {
		done, err := tx.CompleteSetup(oauth.Hash(token))
		switch {
		case err != nil:
			return err
		case !done:
			return checkSetup(tx, token) // which knows why
		}
		if err := insertUser(tx, u, nil); err != nil {
			return err
		}
		view, err := viewUser(tx, u)
		if err != nil {
			return err
		}
		return tx.Conclude(audit.Setup("complete", u.ID).Changed(nil, view), nil)
	})
}
