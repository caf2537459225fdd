package identity

import (
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
)

// Invitation lets the person who gets its link make an account, once.
type Invitation struct {
	ID     string   // "usr_…"; the account that it makes has the same
	Email  string   // of the account
	Role   Role     // of the account; "": none
	Groups []string // names of groups that the account is put into
	Hash   string   // of the token of the newest link
	// Inviter invited the person. Whether it still may is judged again when the invitation is used.
	Inviter   audit.Actor
	CreatedAt time.Time
	ExpiresAt time.Time
}

// Expired reports whether the link of i no longer works at the given time.
func (i *Invitation) Expired(now time.Time) bool { return !now.Before(i.ExpiresAt) }
