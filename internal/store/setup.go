package store

import (
	"errors"
	"time"
)

// Setup says how far the installation is set up.
type Setup struct {
	Hash      string    // of the token of the one-time link; "" if none was made
	ExpiresAt time.Time // when the link expires
	DoneAt    time.Time // when the first owner was made; zero: not yet
}

// Done reports whether the first owner was made.
func (s Setup) Done() bool { return !s.DoneAt.IsZero() }

// Setup returns how far the installation is set up.
func (tx *Tx) Setup() (s Setup, err error) {
	err = tx.row("SELECT hash, expires_at, done_at FROM setup WHERE id = 1", nil, maybe{&s.Hash}, instant{&s.ExpiresAt},
		instant{&s.DoneAt})
	return s, err
}

// OfferSetup makes the token with the given hash the only one that CompleteSetup takes, until expiresAt. It returns
// false if the installation is set up.
func (tx *Tx) OfferSetup(hash string, expiresAt time.Time) (bool, error) {
	n, err := tx.exec("UPDATE setup SET hash = $1, expires_at = $2 WHERE id = 1 AND done_at IS NULL",
		args{hash, expiresAt.UnixMicro()})
	return n > 0, err
}

// CompleteSetup marks the installation as set up, for ever, if the hash is that of the token of the last OfferSetup and
// has not expired. It returns false otherwise, or if the installation is set up. Only one of several callers gets true.
func (tx *Tx) CompleteSetup(hash string) (bool, error) {
	n, err := tx.exec("UPDATE setup SET done_at = $2 "+
		"WHERE id = 1 AND hash = $1 AND expires_at > $2 AND done_at IS NULL",
		args{hash, micros(tx.now)})
	return n > 0, err
}

// EndSetup marks the installation as set up, for ever, because it gets an owner in another way.
func (tx *Tx) EndSetup() error {
	return tx.one("UPDATE setup SET done_at = COALESCE(done_at, $1) WHERE id = 1", args{micros(tx.now)})
}

// LockOwners returns whether there are at least two owners whose accounts are enabled. Other transactions that call it
// wait until this one ends, so that only one at a time decides about the owners.
func (tx *Tx) LockOwners() (several bool, err error) {
	if err := tx.one("UPDATE setup SET id = id WHERE id = 1", nil); err != nil {
		return false, err
	}
	var second string
	err = tx.row("SELECT id FROM users WHERE role <> '' AND role = 'owner' AND disabled_at IS NULL ORDER BY id "+
		"LIMIT 1 OFFSET 1", nil,
		&second)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
