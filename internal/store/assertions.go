package store

import "time"

// SpendAssertion records that a client assertion was used, so that it cannot be used again (RFC 7523 §3). hash
// identifies the assertion; the record is kept until expiresAt. It returns ErrConflict if the assertion was used
// before.
func (tx *Tx) SpendAssertion(hash string, expiresAt time.Time) error {
	return tx.create("INSERT INTO assertions (hash, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING",
		args{hash, expiresAt.UnixMicro()})
}
