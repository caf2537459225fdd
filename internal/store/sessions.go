package store

import (
	"time"

	"github.com/cardea-auth/cardea/internal/identity"
)

// SessionFilter says which sessions a list shows. The zero SessionFilter shows all that
// are not over.
type SessionFilter struct {
	UserID string // "": any
}

// SessionListing is a session with what names it and whose it is.
type SessionListing struct {
	identity.Session
	ID        string // "ses_…"; it opens nothing
	UserEmail string
	Address   string // from where the person signed in
	UserAgent string
}

// Sessions returns a page of the sessions that filter shows, in the order in which they
// expire, and the cursor of the next, "" for none. Their hashes are not among what it
// returns. One that is used while the list is read may be in it twice.
func (tx *Tx) Sessions(filter SessionFilter, page Page) (sessions []*SessionListing, next string, err error) {
	w := new(where)
	w.add("sessions.expires_at > ?", micros(tx.now))
	if filter.UserID != "" {
		w.add("sessions.user_id = ?", filter.UserID)
	}
	query := `SELECT sessions.id, sessions.user_id, sessions.signed_in_at, sessions.amr, sessions.seen_at, sessions.expires_at, sessions.ends_at,
		sessions.address, sessions.user_agent, users.email FROM sessions JOIN users ON users.id = sessions.user_id`
	return paged(tx, query, w, page, "sessions.expires_at", "sessions.id", scanSession,
		func(s *SessionListing) (time.Time, string) { return s.ExpiresAt, s.ID })
}

// RevokeSession deletes the session with the given id and returns whose it was.
// ErrNotFound if there is none, or if it was over.
func (tx *Tx) RevokeSession(id string) (userID string, err error) {
	err = tx.row("DELETE FROM sessions WHERE id = $1 AND expires_at > $2 RETURNING user_id", args{id, micros(tx.now)}, &userID)
	return userID, err
}

func scanSession(scan func(...any) error) (*SessionListing, error) {
	s := new(SessionListing)
	err := scan(&s.ID, &s.UserID, instant{&s.SignedInAt}, words[[]string]{&s.AMR}, instant{&s.SeenAt}, instant{&s.ExpiresAt}, instant{&s.EndsAt},
		&s.Address, &s.UserAgent, &s.UserEmail)
	return s, err
}
