// Package identity defines people, the form of their e-mail addresses by which accounts are looked up, their roles and
// groups, and their browser sessions.
package identity

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// User is a person who signs in.
type User struct {
	ID           string // "usr_…"; the sub of their tokens
	Email        string // as entered; "": the account has no address of its own
	Name         string
	Role         Role   // what they may do to this installation; "": nothing
	PasswordHash string // argon2id in PHC format; "" if the user has no password
	CreatedAt    time.Time
	DisabledAt   time.Time // zero if enabled
	Version      int64     // rises with each change that operators see
	// EmailVerifiedAt is when the owner of Email last used something that was sent there; zero: never.
	EmailVerifiedAt time.Time
}

// MaxName is the length of the longest name of a person, in bytes.
const MaxName = 200

// IsName reports whether a person may have the name: a line of at most MaxName bytes, or "".
func IsName(name string) bool { return IsLine(name, MaxName) }

// IsLine reports whether text, which people read, is UTF-8 of at most most bytes without control characters and without
// those that reorder what is around them (UAX #9, "Explicit Directional Embeddings", "Overrides" and "Isolates").
func IsLine(text string, most int) bool {
	return len(text) <= most && utf8.ValidString(text) && !strings.ContainsFunc(text, unruly)
}

// Line returns text without what IsLine refuses at any length. What separates words becomes a space.
func Line(text string) string {
	if IsLine(text, len(text)) {
		return text
	}
	return strings.TrimSpace(strings.ToValidUTF8(strings.Map(func(r rune) rune {
		switch {
		case !unruly(r):
			return r
		case unicode.IsSpace(r):
			return ' '
		}
		return -1
	}, text), ""))
}

// unruly reports whether r is a control character or reorders what is around it.
func unruly(r rune) bool {
	return unicode.IsControl(r) || '\u202a' <= r && r <= '\u202e' || '\u2066' <= r && r <= '\u2069'
}

// Label returns what people call the account: its address, or if it has none its name, or its id.
func (u *User) Label() string { return cmp.Or(u.Email, u.Name, u.ID) }

// Disabled reports whether an operator has disabled the account.
func (u *User) Disabled() bool { return !u.DisabledAt.IsZero() }

// Role is what a person may do to the installation, beyond signing in. "" is nothing.
type Role string

// The roles. package admin says what each may do.
const (
	Owner    Role = "owner"
	Operator Role = "operator"
	Auditor  Role = "auditor"
)

// Roles are all roles, the one that may do most first.
var Roles = []Role{Owner, Operator, Auditor}

// Valid reports whether r is a role, or "".
func (r Role) Valid() bool { return r == "" || slices.Contains(Roles, r) }

// Group is a set of people with a name, which scopes and resources can be limited to.
type Group struct {
	ID          string // "grp_…"; another group that is given the name later has another
	Name        string
	Description string // for operators; may be empty
	// SecondFactor is whether its members need a second factor to sign in.
	SecondFactor bool
	CreatedAt    time.Time
}

// TOTP is an authenticator app that makes codes for an account (RFC 6238).
type TOTP struct {
	UserID    string
	Sealed    string // its secret
	LastStep  int64  // time step of the last code that was accepted
	CreatedAt time.Time
}

// Session is a browser in which a person is signed in.
type Session struct {
	ID         string // "ses_…"; not a credential
	Hash       string // hash of the cookie's value
	UserID     string
	SignedInAt time.Time
	AMR        []string // the methods (RFC 8176)
	SeenAt     time.Time
	ExpiresAt  time.Time // end if unused; moves with SeenAt
	EndsAt     time.Time // end in any case
}

// TwoFactors reports whether the person proved who they are with two factors.
func (s *Session) TwoFactors() bool { return slices.Contains(s.AMR, "mfa") }
