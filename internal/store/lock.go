package store

import (
	"errors"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// A lock keeps other transactions from changing a row between reading and writing it. It is taken by setting a column
// to its own value, because that works on both databases.

// LockDeclared makes other transactions that call it, or LockOwners, wait until this one ends. So of two transactions
// that change many records the second sees all that the first has done, and they cannot deadlock.
func (tx *Tx) LockDeclared() error { return tx.one("UPDATE setup SET id = id WHERE id = 1", nil) }

// LockClient is like Client, and keeps other transactions from changing the client until this one ends.
func (tx *Tx) LockClient(id string) (*oauth.Client, error) {
	found, err := all(tx, "UPDATE clients SET id = id WHERE id = $1 RETURNING "+clientColumns, args{id}, scanClient)
	return only(found, err)
}

// LockKeys is like Keys, and makes other transactions that call it wait until this one ends, so that only one at a time
// decides which keys there are.
func (tx *Tx) LockKeys() ([]Key, error) {
	if err := tx.one("UPDATE versions SET version = version WHERE kind = $1", args{string(Keys)}); err != nil {
		return nil, err
	}
	return tx.Keys()
}

// LockResource is like Resource, and keeps other transactions from changing the resource until this one ends.
func (tx *Tx) LockResource(idOrIdentifier string) (*oauth.Resource, error) {
	found, err := all(tx, "UPDATE resources SET id = id WHERE id = $1 OR identifier = $1 RETURNING "+resourceColumns,
		args{idOrIdentifier}, scanResource)
	return only(found, err)
}

// LockUser is like User or UserByEmail, and keeps other transactions from changing the account until this one ends.
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
