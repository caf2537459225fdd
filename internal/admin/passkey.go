package admin

import (
	"context"
	"errors"
	"slices"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/store"
)

// Passkey is a passkey with which a person signs in, as operators see it.
type Passkey struct {
	ID         string `json:"id"`
	Name       string `json:"name"`   // that the person gave it
	Synced     bool   `json:"synced"` // it is copied to other devices
	CreatedAt  Moment `json:"created_at"`
	LastUsedAt Moment `json:"last_used_at"`
}

// UserDetail is an account with the passkeys and the authenticator app of its person.
type UserDetail struct {
	User
	Passkeys         []Passkey `json:"passkeys"`
	AuthenticatorApp bool      `json:"authenticator_app"` // that makes codes for the second step
}

// fill sets what the person of d has to sign in.
func (d *UserDetail) fill(tx *store.Tx) error {
	keys, err := tx.Passkeys(d.ID)
	if err != nil {
		return err
	}
	d.Passkeys = make([]Passkey, len(keys))
	for i, k := range keys {
		d.Passkeys[i] = Passkey{k.ID, k.Name, k.BackedUp, Moment{k.CreatedAt}, Moment{k.UsedAt}}
	}
	_, err = tx.TOTP(d.ID)
	if d.AuthenticatorApp = err == nil; errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// RemovePasskey deletes a passkey of an account, because the person has lost the device that keeps it, and ends the
// sessions of the account, which may have begun with it. It deletes the last one, too. It returns a NotFound if the
// account has none with that id.
func (o *Operations) RemovePasskey(ctx context.Context, by Caller, name, id string) (done UserDetail, err error) {
	err = o.alterUser(ctx, by, "remove_passkey", name, &done.User, &done,
		func(tx *store.Tx, u *identity.User) (event audit.Event, err error) {
			keys, err := tx.Passkeys(u.ID)
			if err != nil {
				return event, err
			}
			at := slices.IndexFunc(keys, func(k *identity.Passkey) bool { return k.ID == id })
			if at < 0 {
				return event, notFound(Passkeys, id, "the account has no passkey %s")
			}
			if err := errors.Join(tx.DeletePasskey(id, u.ID), tx.EndSessions(u.ID)); err != nil {
				return event, err
			}
			done.ID = u.ID
			return audit.User("remove_passkey", u.ID).With("passkey", id).With("name", keys[at].Name), done.fill(tx)
		})
	return done, err
}
