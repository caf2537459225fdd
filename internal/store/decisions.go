package store

import "time"

// Decision is the answer to an authorization request that counts.
type Decision struct {
	UserID  string // the person who answered
	GrantID string // the grant that was made; "": the request was denied
	Codes   int64  // the number of codes that were sent after the first
}

// Decide records d as the answer to a request and returns the answer that counts, which is the first at any node; first
// reports whether that is d. It is kept until expiresAt, after which the caller must refuse the request as too old.
func (tx *Tx) Decide(requestID string, d Decision, expiresAt time.Time) (counts Decision, first bool, err error) {
	n, err := tx.exec("INSERT INTO decisions (interaction_id, expires_at, user_id, grant_id) VALUES ($1, $2, $3, "+
		"$4) ON CONFLICT DO NOTHING",
		args{requestID, expiresAt.UnixMicro(), d.UserID, d.GrantID})
	if err != nil || n > 0 {
		return d, n > 0, err
	}
	counts, err = tx.decision(requestID)
	return counts, false, err
}

func (tx *Tx) decision(requestID string) (d Decision, err error) {
	err = tx.row("SELECT user_id, grant_id, codes FROM decisions WHERE interaction_id = $1", args{requestID}, &d.UserID,
		&d.GrantID, &d.Codes)
	return d, err
}

// AnotherCode prepares a grant whose code expired before it was redeemed for another code. It raises Codes of the
// decision by one if it equals d.Codes, moves the end of the grant to expiresAt, and returns the decision as it is
// then. Only one of several callers raises it. AnotherCode returns ErrNotFound if the grant was redeemed, revoked or
// deleted.
func (tx *Tx) AnotherCode(requestID string, d Decision, expiresAt time.Time) (Decision, error) {
	_, err := tx.exec("UPDATE decisions SET codes = codes + 1 WHERE interaction_id = $1 AND codes = $2",
		args{requestID, d.Codes})
	if err != nil {
		return d, err
	}
	err = tx.one(`UPDATE grants SET expires_at = CASE WHEN ends_at < $2 THEN ends_at ELSE $2 END
		WHERE id = $1 AND last_used_at IS NULL AND revoked_at IS NULL`, args{d.GrantID, expiresAt.UnixMicro()})
	if err != nil {
		return d, err
	}
	return tx.decision(requestID)
}
