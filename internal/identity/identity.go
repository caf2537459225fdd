// Package identity holds the words for people: who they are, by which addresses
// they are found, and where they are signed in.
package identity

import "time"

// User is a person who signs in.
type User struct {
	ID           string // "usr_…"; the sub of their tokens
	Email        string // as they write it
	Name         string
	PasswordHash string // argon2id in PHC form; "" has no password
	CreatedAt    time.Time
	DisabledAt   time.Time // zero: enabled
}

// Disabled tells whether an operator has shut the account.
func (u *User) Disabled() bool { return !u.DisabledAt.IsZero() }

// Session is a person's signed-in browser.
type Session struct {
	Hash       string // Hash of the cookie
	UserID     string
	SignedInAt time.Time
	AMR        []string
	SeenAt     time.Time
	ExpiresAt  time.Time // idle deadline; it moves with SeenAt
	EndsAt     time.Time // the latest end
}
