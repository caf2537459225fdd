// Package identity defines people, the form of their e-mail addresses by which accounts are looked up, and their
// browser sessions.
package identity

import "time"

// User is a person who signs in.
type User struct {
	ID           string // "usr_…"; the sub of their tokens
	Email        string // as entered
	Name         string
	PasswordHash string // argon2id in PHC format; "" if the user has no password
	CreatedAt    time.Time
	DisabledAt   time.Time // zero if enabled
}

// Disabled reports whether an operator has disabled the account.
func (u *User) Disabled() bool { return !u.DisabledAt.IsZero() }

// Session is a browser in which a person is signed in.
type Session struct {
	Hash       string // hash of the cookie's value
	UserID     string
	SignedInAt time.Time
	AMR        []string
	SeenAt     time.Time
	ExpiresAt  time.Time // end if unused; moves with SeenAt
	EndsAt     time.Time // end in any case
}
