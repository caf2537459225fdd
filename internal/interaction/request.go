package interaction

import (
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/scope"
)

// Request is a checked request of the authorize endpoint (OAuth 2.1 §4.1.1) on its way through sign-in and consent.
type Request struct {
	ID        string // "req_…"
	Scope     scope.Set
	Challenge oauth.Challenge

	PromptNone    bool   // answer at once, without a page
	PromptLogin   bool   // the person must sign in again
	PromptConsent bool   // ask even if asked before
	CrossSite     bool   // another site sent the browser here
	Waited        bool   // its client had to wait for an operator
	Named         bool   // it names its scopes; else Scope is the resource's default
	MaxAge        *int64 // seconds since the last sign-in
	TwoFactors    bool   // the client demands two factors of the person
	LoginHint     string // the person whom the client expects to sign in; "" if it does not say

	BoundTo string // web.Browser.Hash of the browser that began it
	BegunAt time.Time
}

// Lifetime is the time a person has for sign-in and consent, and WaitingLifetime the time if the client has to wait for
// an operator. Both are counted from the arrival of the request.
const (
	Lifetime        = 30 * time.Minute
	WaitingLifetime = 24 * time.Hour
)

// Satisfied reports whether a sign-in at signedInAt is recent enough for prompt and max_age at now (OpenID Connect Core
// §3.1.2.1). One that followed the request always is.
func (q *Request) Satisfied(signedInAt, now time.Time) bool {
	switch {
	case !signedInAt.Before(q.BegunAt):
		return true
	case q.PromptLogin:
		return false
	case q.MaxAge != nil:
		return now.Sub(signedInAt) <= time.Duration(*q.MaxAge)*time.Second
	}
	return true
}

// Wanted returns the scopes of the request that belong to its resource: all but offline_access.
func (q *Request) Wanted() scope.Set { return q.Scope.Minus(scope.Of(oauth.OfflineAccess)) }
