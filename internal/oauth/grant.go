package oauth

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/scope"
)

// Grant is what a person allowed one client at one resource by one consent. It lasts from the consent until it is
// revoked. Its codes, access tokens and refresh tokens belong to it and end with it, so that it is the family of RFC
// 9700 §4.14.2.
type Grant struct {
	ID       string // "grt_…"; the jti of its access tokens begins with it
	ClientID string
	// ClientIncarnation is the client's Incarnation when the grant was made.
	ClientIncarnation string

	UserID      string
	ResourceID  string
	RedirectURI string
	Scope       scope.Set
	Refreshable bool   // whether refresh tokens are issued from it
	Secret      string // random part of its refresh tokens; useless without the server's key
	Method      Method // with which the client redeemed its code; it may not use a weaker one later

	Generation int64     // of its newest refresh token; 0: none yet
	RotatedAt  time.Time // when Generation last rose
	// RotatedFrom is the network address of the request that raised it last, or that redeemed the code.
	RotatedFrom string

	SignedInAt time.Time // auth_time: when the person last signed in
	AMR        []string  // with which methods (RFC 8176)

	// Duration is how long the person let the client act. If it is ThisSession, the grant ends with the session
	// SessionID.
	Duration  Duration
	SessionID string
	// SessionEndsAt is when that session ends unless it is used first; zero if it has ended.
	SessionEndsAt time.Time

	CreatedAt     time.Time
	LastUsedAt    time.Time
	ExpiresAt     time.Time // when it ends unless it is refreshed first
	EndsAt        time.Time // when it ends at the latest
	RevokedAt     time.Time // zero: not revoked
	RevokedReason string

	StatusIndex int64 // of its tokens in the status lists of grants
}

// SignedOut reports whether the session with which the grant ends has ended at now.
func (g *Grant) SignedOut(now time.Time) bool {
	return g.SessionID != "" && !now.Before(g.SessionEndsAt)
}

// Live reports whether the grant is neither revoked nor expired at now, nor over with its session.
func (g *Grant) Live(now time.Time) bool {
	return !g.SignedOut(now) && g.RevokedAt.IsZero() && now.Before(g.ExpiresAt) && now.Before(g.EndsAt)
}

// IsOf reports whether the grant belongs to the client. A grant of an earlier client with the same id does not.
func (g *Grant) IsOf(c *Client) bool {
	return g.ClientID == c.ID && g.ClientIncarnation == c.Incarnation
}

// Code is an authorization code as it is stored (OAuth 2.1 §4.1.2): its hash, and the values that the token request has
// to match.
type Code struct {
	Hash        string
	GrantID     string
	RedirectURI string
	Challenge   Challenge
	ExpiresAt   time.Time
	SpentAt     time.Time // zero: not yet
}

// CodeOf returns the n-th code for an authorization request, counted from 0. It returns the same code each time, so
// that the same decision sent again gets the same answer:
//
//	cardea_ac_ ‖ HMAC-SHA256(key, request id ‖ n)
//
// It is computed and never stored, so that the database alone is not enough to make one.
func CodeOf(key []byte, requestID string, n int64) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("code\x00" + requestID + "\x00" + strconv.FormatInt(n, 10)))
	return CodePrefix + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// RefreshTokenOf returns the refresh token of g's generation (RFC 6749 §1.5):
//
//	cardea_rt_ ‖ grant id ‖ _ ‖ generation ‖ _ ‖ HMAC-SHA256(key, grant id ‖ generation ‖ grant secret)
//
// It is computed and never stored, so that neither the database alone nor the key alone is enough to make one.
func RefreshTokenOf(key []byte, g *Grant, generation int64) string {
	id := strings.TrimPrefix(g.ID, "grt_")
	n := strconv.FormatInt(generation, 10)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("refresh\x00" + id + "\x00" + n + "\x00" + g.Secret))
	return RefreshPrefix + id + "_" + n + "_" + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// ParseRefreshToken returns the grant id and generation that a refresh token claims. It does not authenticate the
// token; IsRefreshTokenOf does.
func ParseRefreshToken(token string) (grantID string, generation int64, ok bool) {
	if len(token) > 256 {
		return "", 0, false
	}
	rest, ok := strings.CutPrefix(token, RefreshPrefix)
	if !ok {
		return "", 0, false
	}
	parts := strings.SplitN(rest, "_", 3)
	if len(parts) != 3 || parts[0] == "" {
		return "", 0, false
	}
	n, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || n < 1 {
		return "", 0, false
	}
	return "grt_" + parts[0], n, true
}

// IsRefreshTokenOf reports whether token is exactly the refresh token of the given generation of g. It compares in
// constant time.
func IsRefreshTokenOf(key []byte, g *Grant, generation int64, token string) bool {
	return subtle.ConstantTimeCompare([]byte(RefreshTokenOf(key, g, generation)), []byte(token)) == 1
}

// Claims are the claims of an access token (RFC 9068 §2.2).
type Claims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience string   `json:"aud"` // one string, or a list of it in a token of the shape ShapeLists
	Expiry   int64    `json:"exp"`
	IssuedAt int64    `json:"iat"`
	ID       string   `json:"jti"`
	ClientID string   `json:"client_id"`
	Scope    string   `json:"scope"`
	AuthTime int64    `json:"auth_time,omitempty"`
	ACR      string   `json:"acr,omitempty"`
	AMR      []string `json:"amr,omitempty"`
	// Groups are the names of the groups of the person, if the resource asks for them (RFC 9068 §2.2.3.1).
	Groups []string `json:"groups,omitempty"`
	// Status says where it is published whether the token was revoked. It is nil in tokens of earlier versions.
	Status *Status `json:"status,omitempty"`
}

// GrantID returns the id of the grant that an access token belongs to, or "" for a client's own token.
func (c *Claims) GrantID() string {
	id, _, ok := strings.Cut(c.ID, ".")
	if !ok || !strings.HasPrefix(id, "grt_") {
		return ""
	}
	return id
}

// OwnTokenPrefix returns the prefix of the jti of a client's own tokens for a resource. It changes if either is deleted
// and created again under the same name.
func OwnTokenPrefix(c *Client, r *Resource) string {
	sum := sha256.Sum256([]byte("own\x00" + c.ID + "\x00" + c.Incarnation + "\x00" + r.ID))
	return "tok_" + base64.RawURLEncoding.EncodeToString(sum[:16]) + "."
}

// IsOwnToken reports whether an access token without a grant was issued to this client for this resource, and not to
// earlier ones of the same name.
func (c *Claims) IsOwnToken(of *Client, r *Resource) bool {
	if !strings.Contains(c.ID, ".") { // from before there were incarnations
		return of.Incarnation == "" && of.CreatedAt.Unix() <= c.IssuedAt && r.CreatedAt.Unix() <= c.IssuedAt
	}
	return strings.HasPrefix(c.ID, OwnTokenPrefix(of, r))
}
