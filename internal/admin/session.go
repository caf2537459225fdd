package admin

import (
	"context"
	"errors"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/store"
)

// Session is a person's signed-in browser, as operators see it.
type Session struct {
	ID         string   `json:"id"`
	User       string   `json:"user"` // e-mail address
	AMR        []string `json:"amr"`  // the methods with which the person signed in (RFC 8176)
	CreatedAt  Moment   `json:"created_at"`
	LastUsedAt Moment   `json:"last_used_at"`
	ExpiresAt  Moment   `json:"expires_at"` // unless it is used before
	Address    string   `json:"address"`    // the address from which the person signed in
	UserAgent  string   `json:"user_agent"`
}

func viewSession(s *store.SessionListing) Session {
	return Session{
		ID: s.ID, User: s.UserEmail, AMR: append([]string{}, s.AMR...), Address: s.Address, UserAgent: s.UserAgent,
		CreatedAt: Moment{s.SignedInAt}, LastUsedAt: Moment{s.SeenAt}, ExpiresAt: Moment{s.ExpiresAt},
	}
}

// Sessions returns a page of the live sessions, and the cursor of the next page, "" if there
// is none. user is an id or an e-mail address; "" selects everybody's sessions.
func (o *Operations) Sessions(ctx context.Context, by Caller, user string, page store.Page) (views []Session, next string, err error) {
	err = o.look(ctx, by, Sessions, func(tx *store.Tx) error {
		var filter store.SessionFilter
		if user != "" {
			u, err := findUser(tx, user)
			if err != nil {
				return err
			}
			filter.UserID = u.ID
		}
		sessions, cursor, err := tx.Sessions(filter, page)
		views, next, err = viewed(viewSession, sessions, cursor, err)
		return err
	})
	return views, next, err
}

// EndedSession is a session that was ended.
type EndedSession struct {
	ID      string `json:"id"`
	Revoked bool   `json:"revoked"`
}

// RevokeSession ends the session with the given id, which signs the person out of that
// browser. The person's agents stay connected.
func (o *Operations) RevokeSession(ctx context.Context, by Caller, id string) (done EndedSession, err error) {
	err = o.change(ctx, by, Sessions, "session.revoke", func(tx *store.Tx) (audit.Event, error) {
		userID, err := tx.RevokeSession(id)
		if errors.Is(err, store.ErrNotFound) {
			err = notFound(Sessions, id, "there is no session %s")
		}
		done = EndedSession{ID: id, Revoked: err == nil}
		return audit.Session("revoke", id, userID).Changed(EndedSession{ID: id}, done), err
	})
	return done, err
}
