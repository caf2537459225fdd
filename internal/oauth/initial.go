package oauth

import "time"

// InitialAccessToken lets its holder register clients on a server where registration is not open to everyone (RFC 7591
// §3).
type InitialAccessToken struct {
	ID        string // "iat_…"
	Hash      string // Hash of the token
	Name      string // what it is for
	Uses      int    // registrations so far
	MaxUses   int    // 0: no limit
	CreatedAt time.Time
	ExpiresAt time.Time // zero: never
	RevokedAt time.Time // zero: not revoked
}

// State returns "live" if the token may register a client at now, and otherwise the reason why not: "revoked",
// "expired" or "used up".
func (t *InitialAccessToken) State(now time.Time) string {
	switch {
	case !t.RevokedAt.IsZero():
		return "revoked"
	case !t.ExpiresAt.IsZero() && !now.Before(t.ExpiresAt):
		return "expired"
	case t.MaxUses > 0 && t.Uses >= t.MaxUses:
		return "used up"
	}
	return "live"
}
