package store

import (
	"errors"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// A lock keeps other transactions from changing a thing between the moment it is
// read and the moment it is written again. Writing a column to itself is what both
// databases understand.

// LockClient is Client, and no other transaction changes the client until this one
// ends.
func (tx *Tx) LockClient(id string) (*oauth.Client, error) {
	found, err := all(tx, "UPDATE clients SET id = id WHERE id = $1 RETURNING "+clientColumns, args{id}, scanClient)
	return only(found, err)
}

// LockKeys is Keys, and no other transaction that locks the keys goes on until this one
// ends: what keys there are is decided by one at a time.
func (tx *Tx) LockKeys() ([]Key, error) {
	if err := tx.one("UPDATE versions SET version = version WHERE kind = $1", args{string(Keys)}); err != nil {
		return nil, err
	}
	return tx.Keys()
}

// LockResource is Resource, and no other transaction changes the resource until
// this one ends.
func (tx *Tx) LockResource(idOrIdentifier string) (*oauth.Resource, error) {
	found, err := all(tx, "UPDATE resources SET id = id WHERE id = $1 OR identifier = $1 RETURNING "+resourceColumns, args{idOrIdentifier}, scanResource)
	return only(found, err)
}

// LockUser is User, or UserByEmail, and no other transaction changes the account
// until this one ends.
func (tx *Tx) LockUser(idOrEmail string) (*identity.User, error) {
	u, err := tx.User(idOrEmail)
	if errors.Is(err, ErrNotFound) {
		u, err = tx.UserByEmail(idOrEmail)
	}
	if err != nil {
		return nil, err
	}
	found, err := all(tx, "UPDATE users SET id = id WHERE id = $1 RETURNING "+userColumns, args{u.ID}, scanUser)
	return only(found, err)
}
