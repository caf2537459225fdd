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

// Sessions returns a page of the live sessions, and the cursor of the next page, "" if there is none. user is an id or
// an e-mail address; "" selects everybody's sessions.
func (o *Operations) Sessions(ctx context.Context, by Caller, user string,
	page store.Page) (views []Session, next string, err error) {
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

// Session returns the session with the given id, if it is not over.
func (o *Operations) Session(ctx context.Context, by Caller, id string) (view Session, err error) {
	err = o.look(ctx, by, Sessions, func(tx *store.Tx) (err error) {
		view, err = findSession(tx, id)
		return err
	})
	return view, err
}

func findSession(tx *store.Tx, id string) (Session, error) {
	sessions, _, err := tx.Sessions(store.SessionFilter{ID: id}, store.Page{Limit: 1})
	switch {
	case err != nil:
		return Session{}, err
	case len(sessions) == 0 || id == "":
		return Session{}, notFound(Sessions, id, "there is no session %s")
	}
	return viewSession(sessions[0]), nil
}

// EndedSession is a session that was ended.
type EndedSession struct {
	ID      string `json:"id"`
	Revoked bool   `json:"revoked"`
}

// RevokeSession ends the session with the given id, which signs the person out of that browser. The person's agents
// stay connected.
func (o *Operations) RevokeSession(ctx context.Context, by Caller, id string) (done EndedSession, err error) {
	err = o.change(ctx, by, Sessions, "session.revoke", &done, func(tx *store.Tx) (audit.Event, error) {
		before, err := findSession(tx, id)
		if err == nil {
			err = o.matches(before)
		}
		if err != nil {
			return audit.Event{}, err
		}
		userID, err := tx.RevokeSession(id)
		if errors.Is(err, store.ErrNotFound) {
			err = notFound(Sessions, id, "there is no session %s")
		}
		done = EndedSession{ID: id, Revoked: err == nil}
		return audit.Session("revoke", id, userID).Changed(EndedSession{ID: id}, done), err
	})
	return done, err
}
