package login

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/credential"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

const (
	addPasskey   = "add a passkey" // the purpose of a challenge
	mostPasskeys = 20              // of an account
)

var (
	errMany    = oauth.Refuse(oauth.InvalidRequest, "the account has %d passkeys already", mostPasskeys)
	errLastWay = oauth.Refuse(oauth.InvalidRequest, "the passkey is the only way in which the person can sign in")
)

// NewPasskey returns what the browser of v needs to make another passkey for the person who is signed in there.
func (e *Endpoint) NewPasskey(ctx context.Context, v interaction.Visitor) (options string, err error) {
	var keys []*identity.Passkey
	err = e.DB.View(ctx, func(tx *store.Tx) (err error) {
		keys, err = tx.Passkeys(v.Person.ID)
		return err
	})
	if err != nil {
		return "", err
	}
	return e.ceremonies.Creation(v.Person, keys, e.newChallenge(v.Browser.Hash(), addPasskey, v.Session.Hash))
}

// AddPasskey stores the passkey that the browser of v has made for the person who is signed in there, which made
// describes, with the name of its passkey provider, or with name if that is not known. The session counts as one with
// two factors from then on. It returns the answer that leads to the page back. It refuses what does not answer
// NewPasskey, or answers it a second time, and returns interaction.ErrSignedOut if the session of v has ended. It
// records the new passkey, but no refusal.
func (e *Endpoint) AddPasskey(r *http.Request, v interaction.Visitor, made, name, back string) (web.Answer, error) {
	c, err := credential.ParseCreated(made)
	if err != nil {
		return nil, errPasskey
	}
	if err := e.checkChallenge(v.Browser, c.Challenge(), addPasskey, v.Session.Hash); err != nil {
		return nil, err
	}
	key, err := e.ceremonies.Create(v.Person, c.Challenge(), c)
	if err != nil {
		return nil, errPasskey
	}
	key.ID, key.Name = oauth.NewID("psk_"), cmp.Or(credential.PasskeyProvider(key.AAGUID), name)
	return e.begin(r, destination{back: back}, Proof{
		Person: v.Person, AMR: withFactors(v.Session.AMR, methodsOf(key)...),
		Event: audit.Passkey("add", v.Person.ID, key.ID, key.Name), Confirm: func(tx *store.Tx) error {
			if _, err := e.confirmOwner(tx, v); err != nil {
				return err
			}
			if err := e.spendChallenge(tx, c.Challenge(), v.Person.ID); err != nil {
				return err
			}
			keys, err := tx.Passkeys(v.Person.ID)
			if err != nil {
				return err
			}
			if len(keys) >= mostPasskeys {
				return errMany
			}
			key.CreatedAt = tx.Now()
			err = tx.CreatePasskey(key)
			if errors.Is(err, store.ErrConflict) {
				return errPasskey
			}
			return err
		},
	})
}

// RenamePasskey gives a passkey of the person of v another name. It returns store.ErrNotFound if they have none with
// that id, and interaction.ErrSignedOut if the session of v has ended.
func (e *Endpoint) RenamePasskey(ctx context.Context, v interaction.Visitor, id, name string) error {
	return e.changePasskeys(ctx, v, func(tx *store.Tx, _ *identity.User) (audit.Event, error) {
		return audit.Passkey("rename", v.Person.ID, id, name), tx.RenamePasskey(id, v.Person.ID, name)
	})
}

// RemovePasskey removes a passkey of the person of v, which ends nothing that they began with it. It refuses to remove
// the only way in which they can sign in, and returns store.ErrNotFound if they have none with that id, and
// interaction.ErrSignedOut if the session of v has ended.
func (e *Endpoint) RemovePasskey(ctx context.Context, v interaction.Visitor, id string) error {
	return e.changePasskeys(ctx, v, func(tx *store.Tx, person *identity.User) (audit.Event, error) {
		event := audit.Passkey("remove", v.Person.ID, id, "")
		keys, err := tx.Passkeys(v.Person.ID)
		if err != nil {
			return event, err
		}
		at := slices.IndexFunc(keys, func(k *identity.Passkey) bool { return k.ID == id })
		if at < 0 {
			return event, store.ErrNotFound
		}
		event = audit.Passkey("remove", v.Person.ID, id, keys[at].Name)
		switch others, err := e.CanSignInWithout(tx, person, id); {
		case err != nil:
			return event, err
		case !others:
			return event, errLastWay
		}
		return event, tx.DeletePasskey(id, v.Person.ID)
	})
}

// changePasskeys records what change does to the passkeys of the person of v.
func (e *Endpoint) changePasskeys(ctx context.Context, v interaction.Visitor,
	change func(*store.Tx, *identity.User) (audit.Event, error)) error {
	return e.DB.Update(ctx, func(tx *store.Tx) error {
		person, err := e.confirmOwner(tx, v)
		if err != nil {
			return err
		}
		event, err := change(tx, person)
		if err != nil {
			return err
		}
		return tx.Conclude(event, nil)
	})
}

// confirmOwner returns the person of v, whom no other transaction changes until tx ends. It returns
// interaction.ErrSignedOut if the session of v has ended.
func (e *Endpoint) confirmOwner(tx *store.Tx, v interaction.Visitor) (person *identity.User, err error) {
	if err = e.Desk.Sessions.Confirm(tx, v); err == nil {
		person, err = tx.LockUser(v.Person.ID)
	}
	return person, notNow(err, interaction.ErrSignedOut)
}

// ExplainPasskey returns the sentence that tells a person why AddPasskey or RemovePasskey refused.
func ExplainPasskey(err error) string {
	switch {
	case errors.Is(err, errLastWay):
		return "This passkey stays, because without it you could not sign in. Add another one first."
	case errors.Is(err, errMany):
		return "You have " + strconv.Itoa(mostPasskeys) +
			" passkeys, which is as many as there may be. Remove one first."
	case errors.Is(err, errPasskey):
		return "That passkey could not be added. Try again, or use another device."
	}
	return whyPasskey(err)
}
