package store

import "time"

const (
	keepAnswers   = 24 * time.Hour
	answersAtMost = 1000 // of one caller
)

// Answer is the answer to a request with an Idempotency-Key.
type Answer struct {
	BodyHash string // of the request
	Status   int
	Body     string // without secrets
}

// Answer returns the answer to the request that a caller sent to a route with the key in the last day, or ErrNotFound.
func (tx *Tx) Answer(caller, route, key string) (*Answer, error) {
	a := new(Answer)
	err := tx.row("SELECT body_hash, status, body FROM idempotency_keys WHERE caller = $1 AND route = $2 "+
		"AND key = $3 AND expires_at > $4", args{caller, route, key, micros(tx.now)}, &a.BodyHash, &a.Status, &a.Body)
	if err != nil {
		return nil, err
	}
	return a, nil
}

// KeepAnswer keeps an answer for a day, or until the caller has a thousand newer ones. It returns ErrConflict if
// another request with the same key has been answered meanwhile.
func (tx *Tx) KeepAnswer(caller, route, key string, a *Answer) error {
	if _, err := tx.exec("DELETE FROM idempotency_keys WHERE caller = $1 AND (at <= $2 OR at < (SELECT at "+
		"FROM idempotency_keys WHERE caller = $1 ORDER BY at DESC LIMIT 1 OFFSET $3))",
		args{caller, micros(tx.now.Add(-keepAnswers)), answersAtMost - 1}); err != nil {
		return err
	}
	return tx.create("INSERT INTO idempotency_keys (caller, route, key, body_hash, status, body, at, expires_at) "+
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
		args{caller, route, key, a.BodyHash, a.Status, a.Body, micros(tx.now), micros(tx.now.Add(keepAnswers))})
}
