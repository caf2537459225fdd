package store

import (
	"context"
	"strconv"
	"strings"
	"time"
)

const (
	keepGrants     = 30 * 24 * time.Hour // after their end, so that lists can show them
	keepUnredeemed = 30 * time.Minute    // grants whose code expired, until their request can no longer renew them
	keepUnused     = 24 * time.Hour      // clients that registered and never completed a flow
	keepWaiting    = 30 * 24 * time.Hour // entries of the inbox for which nobody asked again
	keepInvited    = 30 * 24 * time.Hour // invitations that have expired, so that they can be sent again
	sweepBatch     = 200                 // rows deleted in one transaction
)

// Swept is the number of rows that Sweep deleted.
type Swept struct {
	Sessions, Decisions, RevokedTokens, Assertions, Grants, Clients, Keys, Waiting, Approvals, Answers int
	SignIns, Invitations, Statuses, Received, Notices                                                  int
}

// Sweep deletes what is no longer needed: sessions ten minutes after they have expired; expired decisions, and records
// of revoked tokens, used assertions and sign-ins that are over; grants that were never redeemed half an hour after
// their code has expired, and others thirty days after their end, with their codes; clients that registered more than a
// day ago, never completed a flow and do not wait for an operator; entries of the inbox for which nobody asked in
// thirty days; approvals for one time that have expired; answers to requests with an Idempotency-Key, and notices,
// after a day; invitations thirty days after they have expired; keys that have left the JWKS. It finds the rows by an
// index and deletes a few at a time, each batch in its own Update, so that it does not delay others. On an error it
// also returns what it had deleted by then. It also completes the records of clients that a program of the previous
// release has made or changed, so that this program finds them.
func (db *DB) Sweep(ctx context.Context) (Swept, error) {
	var swept Swept
	now := db.Now()
	for _, s := range []struct {
		count            *int
		table, key, over string // condition for the rows of table to delete at the time $1, which an index finds
		at               time.Time
		touch            Kind
	}{
		{&swept.Sessions, "sessions", "hash", "expires_at <= $1", now.Add(-keepEnded), ""},
		{&swept.Decisions, "decisions", "interaction_id", "expires_at <= $1", now, ""},
		{&swept.RevokedTokens, "revoked_tokens", "jti", "expires_at <= $1", now, ""},
		{&swept.Assertions, "assertions", "hash", "expires_at <= $1", now, ""},
		{&swept.SignIns, "spent_sign_ins", "hash", "expires_at <= $1", now, ""},
		{&swept.SignIns, "one_time", "id", "expires_at <= $1", now, ""},
		{&swept.Notices, "notices", "id", "expires_at <= $1", now, ""},
		{&swept.SignIns, "external_logins", "hash", "expires_at <= $1", now, ""},
		{&swept.Grants, "grants", "id", "last_used_at IS NULL AND expires_at <= $1", now.Add(-keepUnredeemed), ""},
		{&swept.Grants, "grants", "id", "COALESCE(revoked_at, expires_at) <= $1", now.Add(-keepGrants), ""},
		{&swept.Waiting, "waiting_clients", "client_id", "last_at <= $1", now.Add(-keepWaiting), ""},
		{&swept.Approvals, "client_approvals", "id", "expires_at <= $1", now, ""},
		{&swept.Clients, "clients", "id", forgettable + " AND " + cameAt + " <= $1", now.Add(-keepUnused), Clients},
		{&swept.Answers, "idempotency_keys", "caller || ' ' || route || ' ' || key", "expires_at <= $1", now, ""},
		{&swept.Invitations, "invitations", "user_id", "expires_at <= $1", now.Add(-keepInvited), ""},
		{&swept.Statuses, "status_blocks", "CAST(first AS TEXT)", "expires_at <= $1", now, ""},
		{&swept.Statuses, "status_changes", "CAST(version AS TEXT) || ' ' || kind || ' ' || subject", "at <= $1",
			now.Add(-keepChanges), ""},
		{&swept.Received, "received_events", "source || ' ' || id", "at <= $1", now.Add(-keepReceived), ""},
		{&swept.Keys, "signing_keys", "kid", "expires_at <= $1", now, Keys},
	} {
		for {
			n, err := db.sweep(ctx, s.table, s.key, s.over, s.at, s.touch)
			*s.count += n
			if err != nil {
				return swept, err
			}
			if n == 0 {
				break
			}
		}
	}
	return swept, db.find(ctx)
}

// sweep deletes one batch and returns the number of rows. It finds them in a View, which does not make others wait.
func (db *DB) sweep(ctx context.Context, table, key, over string, at time.Time, touch Kind) (n int, err error) {
	var found []any
	err = db.View(ctx, func(tx *Tx) error {
		return tx.rows("SELECT "+key+" FROM "+table+" WHERE "+over+" LIMIT "+strconv.Itoa(sweepBatch),
			args{at.UnixMicro()}, func(scan func(...any) error) error {
				var id string
				err := scan(&id)
				found = append(found, id)
				return err
			})
	})
	if err != nil || len(found) == 0 {
		return 0, err
	}
	err = db.Update(ctx, func(tx *Tx) error {
		places := make([]string, len(found))
		for i := range found {
			places[i] = "$" + strconv.Itoa(i+2)
		}
		// A client may have been used since it was found.
		deleted, err := tx.exec("DELETE FROM "+table+" WHERE "+key+" IN ("+strings.Join(places, ", ")+") AND "+over,
			append(args{at.UnixMicro()}, found...))
		if n = int(deleted); n > 0 && touch != "" {
			tx.Touch(touch)
		}
		return err
	})
	return n, err
}
