package admin

import (
	"context"
	"errors"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/credential"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// PasswordReset is an account with a new password and the number of grants that ended, or with a link at which the
// person sets a password.
type PasswordReset struct {
	User
	Grants    int    `json:"grants_ended"`   // those that were in force
	Link      string `json:"link,omitempty"` // only if it was just made
	ExpiresAt Moment `json:"expires_at,omitzero"`
}

// OldGrants says what becomes of a person's grants when the password is reset.
type OldGrants bool

// What becomes of the grants.
const (
	EndGrants  OldGrants = false // they end, because a person who knew the old password may have connected agents
	KeepGrants OldGrants = true
)

// How long a link to set a password works: one that an operator passes on, and one that is mailed.
const (
	passwordLinkTTL = 24 * time.Hour
	mailedLinkTTL   = time.Hour
)

// ResetPassword sets a new password and ends the person's sessions, and, unless they are kept, the person's grants with
// all their tokens.
func (o *Operations) ResetPassword(ctx context.Context, by Caller, name, password string,
	grants OldGrants) (done PasswordReset, err error) {
	hash, err := credential.HashPassword(ctx, password)
	if err != nil {
		return done, refused("password", err)
	}
	err = o.alterUser(ctx, by, "reset_password", name, &done.User, &done,
		func(tx *store.Tx, u *identity.User) (event audit.Event, err error) {
			event, done.Grants, err = setPassword(tx, u, hash, grants)
			return event, err
		})
	return done, err
}

// setPassword replaces a password that the person no longer knows, or that somebody else may know. It returns the
// event, and how many grants ended.
func setPassword(tx *store.Tx, u *identity.User, hash string, grants OldGrants) (event audit.Event, ended int,
	err error) {
	event = audit.User("reset_password", u.ID)
	if err := errors.Join(tx.SetPassword(u.ID, hash), tx.EndSessions(u.ID)); err != nil {
		return event, 0, err
	}
	if grants == KeepGrants {
		return event.With("grants", "kept"), 0, nil
	}
	if ended, err = tx.LiveGrants(store.GrantFilter{UserID: u.ID}); err != nil {
		return event, 0, err
	}
	return endedGrants(event, ended), ended, tx.RevokeUserGrants(u.ID, "password_reset")
}

// PasswordLink makes a link with which the person sets a new password, once, within a day. Nothing else changes until
// then. The token of 256 bits is in the fragment of the link; only its hash is stored. PasswordLink returns a conflict
// if passwords are off, because the server then has no page for the link.
func (o *Operations) PasswordLink(ctx context.Context, by Caller, name string,
	grants OldGrants) (done PasswordReset, err error) {
	if o.NoPasswords {
		return done, conflict("", "", name,
			"%s cannot set a password, because people do not sign in with one here; add password to login.methods")
	}
	token := oauth.NewSecret("")
	err = o.alterUser(ctx, by, "reset_link", name, &done.User, &done,
		func(tx *store.Tx, u *identity.User) (audit.Event, error) {
			link := passwordLink(token, u.ID, tx.Now().Add(passwordLinkTTL))
			link.KeepGrants = bool(grants)
			done.ExpiresAt = Moment{link.ExpiresAt}
			return audit.User("reset_link", u.ID), tx.CreateOneTime(link)
		})
	if err == nil {
		done.Link = o.linkOf(token)
	}
	return done, err
}

// MailedPasswordLink is PasswordLink for a person who asked for it, and to whose address email it is sent. If userID is
// "", no account has the address: the same work is done, and the link does not work.
func (o *Operations) MailedPasswordLink(ctx context.Context, userID, email string) (link string, err error) {
	token := oauth.NewSecret("")
	made := passwordLink(token, userID, o.DB.Now().Add(mailedLinkTTL))
	made.Email = email
	return o.linkOf(token), o.DB.Update(ctx, func(tx *store.Tx) error { return tx.CreateOneTime(made) })
}

func (o *Operations) linkOf(token string) string { return o.Issuer + "/reset#" + token }

func passwordLink(token, userID string, expiresAt time.Time) *store.OneTime {
	return &store.OneTime{ID: oauth.NewID("one_"), Purpose: store.ToReset, UserID: userID, TokenHash: oauth.Hash(token),
		ExpiresAt: expiresAt}
}

// ErrPasswordLink refuses a link with which no password can be set, or no longer.
var ErrPasswordLink = oauth.Refuse(oauth.AccessDenied, "the link was used before, has expired, or was cut")

// UsePasswordLink sets the password of the person to whom a link was given, as ResetPassword does. An address to which
// the link was sent counts as verified. It returns ErrPasswordLink if the link does not work, and an *Error if the
// password is refused; then the link still works. It hashes the password only if the link is good.
func (o *Operations) UsePasswordLink(ctx context.Context, token, password string) error {
	var link *store.OneTime
	find := func(tx *store.Tx) (u *identity.User, err error) {
		link, err = tx.OneTimeByToken(oauth.Hash(token))
		if err == nil && link.Purpose != store.ToReset {
			err = store.ErrNotFound
		}
		if err == nil {
			u, err = tx.User(link.UserID)
		}
		if errors.Is(err, store.ErrNotFound) ||
			err == nil && (u.Disabled() || link.Email != "" && u.Email != link.Email) {
			err = ErrPasswordLink
		}
		return u, err
	}
	err := o.DB.View(ctx, func(tx *store.Tx) error {
		_, err := find(tx)
		return err
	})
	if err != nil {
		return err
	}
	hash, err := credential.HashPassword(ctx, password)
	if err != nil {
		return refused("password", err)
	}
	return o.DB.Update(ctx, func(tx *store.Tx) error {
		if _, err := tx.LockUser(link.UserID); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		u, err := find(tx)
		if err != nil {
			return err
		}
		if err := tx.SpendOneTime(link.ID); errors.Is(err, store.ErrNotFound) {
			return ErrPasswordLink
		} else if err != nil {
			return err
		}
		if link.Email != "" {
			if err := tx.VerifyEmail(u.ID, u.Email); err != nil {
				return err
			}
		}
		event, _, err := setPassword(tx, u, hash, OldGrants(link.KeepGrants))
		if err != nil {
			return err
		}
		event.Actor = audit.Actor{Type: audit.ByUser, ID: u.ID}
		return tx.Conclude(event, nil)
	})
}
