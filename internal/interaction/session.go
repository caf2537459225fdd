package interaction

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// Sessions manages the sessions of signed-in browsers. All fields must be set.
type Sessions struct {
	DB    *store.DB
	Pages *web.Pages
	// Idle is how long a session lasts without being used, and Max how long it lasts at most.
	Idle, Max time.Duration
}

// Visitor is a browser and the person who is signed in there.
type Visitor struct {
	Browser web.Browser
	Session *identity.Session // nil: nobody is signed in
	Person  *identity.User    // whose Session it is
}

// SignedIn reports whether a person is signed in.
func (v Visitor) SignedIn() bool { return v.Session != nil }

// PersonID returns the id of the person who is signed in, or "" if nobody is.
func (v Visitor) PersonID() string {
	if v.Person == nil {
		return ""
	}
	return v.Person.ID
}

// seenEvery is the shortest time after which the use of a session is written to the database again.
const seenEvery = 5 * time.Minute

// Visitor returns the browser that sent r and the person who is signed in there.
func (s *Sessions) Visitor(r *http.Request) (Visitor, error) {
	v := Visitor{Browser: s.Pages.Browser(r)}
	cookie := s.Pages.SessionCookie(r)
	if cookie == "" {
		return v, nil
	}
	err := s.DB.View(r.Context(), func(tx *store.Tx) (err error) {
		v.Session, v.Person, err = tx.Session(oauth.Hash(cookie))
		return err
	})
	if err == nil && s.DB.Now().Sub(v.Session.SeenAt) >= seenEvery {
		err = s.DB.Update(r.Context(), func(tx *store.Tx) error { return s.seen(tx, v.Session) })
	}
	if errors.Is(err, store.ErrNotFound) { // or it ended just now
		return Visitor{Browser: v.Browser}, nil
	}
	return v, err
}

func (s *Sessions) seen(tx *store.Tx, session *identity.Session) error {
	return tx.SeenSession(session.Hash, earlier(tx.Now().Add(s.Idle), session.EndsAt))
}

// Confirm returns store.ErrNotFound if the session of v has ended since it was looked up, or its account is disabled or
// deleted. Otherwise the session cannot end before tx does.
func (s *Sessions) Confirm(tx *store.Tx, v Visitor) error {
	if err := s.seen(tx, v.Session); err != nil {
		return err
	}
	_, _, err := tx.Session(v.Session.Hash)
	return err
}

// RecentSignIn is how long a sign-in counts as recent.
const RecentSignIn = 15 * time.Minute

// Recent reports whether the person of v signed in within RecentSignIn. A change of the access of others, or one that
// cannot be undone, needs that, because another person may sit at a computer that was left unlocked.
func (s *Sessions) Recent(v Visitor) bool {
	return s.DB.Now().Sub(v.Session.SignedInAt) <= RecentSignIn
}

// Begin ends the session that the browser of r has, and begins one for the person, who has just signed in with the
// methods amr (RFC 8176). It returns the session cookie for the browser. If the person was signed in there already, the
// new session has the id of the old one, so that what lasts as long as the session does not end. Its cookie is another.
func (s *Sessions) Begin(tx *store.Tx, r *http.Request, person *identity.User, amr ...string) (*http.Cookie, error) {
	return s.BeginSince(tx, r, person, tx.Now(), amr...)
}

// BeginSince is like Begin, for a person who signed in at an earlier time: elsewhere, and is still signed in there.
func (s *Sessions) BeginSince(tx *store.Tx, r *http.Request, person *identity.User, signedInAt time.Time,
	amr ...string) (*http.Cookie, error) {
	var id string
	if old := s.Pages.SessionCookie(r); old != "" {
		var err error
		if id, err = tx.TakeSession(oauth.Hash(old), person.ID); err != nil {
			return nil, err
		}
	}
	secret := oauth.NewSecret("")
	session := &identity.Session{
		ID:         id,
		Hash:       oauth.Hash(secret),
		UserID:     person.ID,
		SignedInAt: signedInAt,
		SeenAt:     tx.Now(),
		AMR:        amr,
		EndsAt:     tx.Now().Add(s.Max),
	}
	session.ExpiresAt = earlier(tx.Now().Add(s.Idle), session.EndsAt)
	return s.Pages.NewSession(secret), tx.CreateSession(session)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// soon is the time after a sign-in within which the browser should have sent its new cookie.
const soon = time.Minute

// SignedInNow returns a query parameter for the page that follows a sign-in. JustSignedIn reads it.
func (s *Sessions) SignedInNow() string {
	return "signed_in=" + strconv.FormatInt(s.DB.Now().Unix(), 10)
}

// JustSignedIn reports whether the query is that of a page that follows a sign-in of a moment ago. If nobody is signed
// in there, the browser did not keep the cookie.
func (s *Sessions) JustSignedIn(query url.Values) bool {
	at, err := strconv.ParseInt(query.Get("signed_in"), 10, 64)
	since := s.DB.Now().Sub(time.Unix(at, 0))
	return err == nil && since >= 0 && since <= soon
}
