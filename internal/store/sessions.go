package store

import (
	"context"
	"time"

	"github.com/cardea-auth/cardea/internal/identity"
)

// SessionFilter says which sessions a list shows. The zero SessionFilter shows all that have not ended.
type SessionFilter struct {
	ID, UserID string // "": any
}

// SessionListing is a session with its user.
type SessionListing struct {
	identity.Session
	UserEmail string
	Address   string // the network address from which the person signed in
	UserAgent string
}

// Sessions returns a page of the sessions that filter shows, in the order in which they expire, and the cursor of the
// next page, or "". It does not return their hashes. A session that is used while the list is read may appear twice.
func (tx *Tx) Sessions(filter SessionFilter, page Page) (sessions []*SessionListing, next string, err error) {
	w := new(where)
	w.add("sessions.expires_at > ?", micros(tx.now))
	if filter.ID != "" {
		w.add("sessions.id = ?", filter.ID)
	}
	if filter.UserID != "" {
		w.add("sessions.user_id = ?", filter.UserID)
	}
	query := `SELECT sessions.id, sessions.user_id, sessions.signed_in_at, sessions.amr, sessions.seen_at,
		sessions.expires_at, sessions.ends_at, sessions.address, sessions.user_agent, users.email
		FROM sessions JOIN users ON users.id = sessions.user_id`
	return listing[*SessionListing]{query: query, at: "sessions.expires_at", id: "sessions.id", scan: scanSession,
		key: func(s *SessionListing) (time.Time, string) { return s.ExpiresAt, s.ID }}.page(tx, w, page)
}

// LiveSessions returns the number of sessions that are not over. It takes longer the more there are.
func (db *DB) LiveSessions(ctx context.Context) (n int64, err error) {
	err = db.View(ctx, func(tx *Tx) error {
		return tx.row("SELECT COUNT(*) FROM sessions WHERE expires_at > $1", args{micros(tx.now)}, &n)
	})
	return n, err
}

// RevokeSession deletes the session with the given id and returns its user. It returns ErrNotFound if there is none, or
// if it has ended.
func (tx *Tx) RevokeSession(id string) (userID string, err error) {
	err = tx.row("DELETE FROM sessions WHERE id = $1 AND expires_at > $2 RETURNING user_id", args{id, micros(tx.now)},
		&userID)
	if err == nil {
		tx.ended(OfUser, userID)
	}
	return userID, err
}

func scanSession(scan func(...any) error) (*SessionListing, error) {
	s := new(SessionListing)
	err := scan(&s.ID, &s.UserID, instant{&s.SignedInAt}, words[[]string]{&s.AMR}, instant{&s.SeenAt},
		instant{&s.ExpiresAt}, instant{&s.EndsAt},
		&s.Address, &s.UserAgent, &s.UserEmail)
	return s, err
}
