package store

import "time"

// SpendAssertion notes that a client assertion was used, by a hash that tells it
// from every other, so that it is not used again; the note is kept until
// expiresAt (RFC 7523 §3). ErrConflict if it was used before.
func (tx *Tx) SpendAssertion(hash string, expiresAt time.Time) error {
	return tx.create("INSERT INTO assertions (hash, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING", args{hash, expiresAt.UnixMicro()})
}
