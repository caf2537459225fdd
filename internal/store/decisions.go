package store

import "time"

// Decision is the answer that counts to an authorization request.
type Decision struct {
	UserID  string // who answered
	GrantID string // what came of it; "": they denied it
	Codes   int64  // how many codes of the grant were sent after the first
}

// Decide records d as the answer to a request and returns the one that counts: of any
// number, at any node, the first, and whether that is d. It is kept until expiresAt,
// after which the request must be refused for its age.
func (tx *Tx) Decide(requestID string, d Decision, expiresAt time.Time) (counts Decision, first bool, err error) {
	n, err := tx.exec("INSERT INTO decisions (interaction_id, expires_at, user_id, grant_id) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
		args{requestID, expiresAt.UnixMicro(), d.UserID, d.GrantID})
	if err != nil || n > 0 {
		return d, n > 0, err
	}
	counts, err = tx.decision(requestID)
	return counts, false, err
}

func (tx *Tx) decision(requestID string) (d Decision, err error) {
	err = tx.row("SELECT user_id, grant_id, codes FROM decisions WHERE interaction_id = $1", args{requestID}, &d.UserID, &d.GrantID, &d.Codes)
	return d, err
}

// AnotherCode prepares a grant whose code expired before it was redeemed for another:
// it raises Codes of the decision by one if it is that of d, moves the end of the grant
// to expiresAt, and returns the decision as it is then. Of any number of callers one
// raises it. ErrNotFound if the grant was redeemed, is revoked, or is gone.
func (tx *Tx) AnotherCode(requestID string, d Decision, expiresAt time.Time) (Decision, error) {
	_, err := tx.exec("UPDATE decisions SET codes = codes + 1 WHERE interaction_id = $1 AND codes = $2", args{requestID, d.Codes})
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
