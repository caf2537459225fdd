package oauth

import (
	"time"

	"github.com/cardea-auth/cardea/scope"
)

// AuthorizationRequest is a checked request of the authorize endpoint (OAuth 2.1
// §4.1.1) on its way through sign-in and consent. It travels sealed in the URL of
// those pages, so a stranger's request costs the server no memory; it is bound to
// the browser that began it, and one answer is given to it.
type AuthorizationRequest struct {
	ID          string    `json:"id"` // "req_…"
	ClientID    string    `json:"client_id"`
	RedirectURI string    `json:"redirect_uri"`
	State       []byte    `json:"state,omitempty"` // byte for byte; JSON would make some bytes six
	Resource    string    `json:"resource"`        // registered identifier
	Scope       scope.Set `json:"scope,omitempty"` // what may be granted at most
	Challenge   Challenge `json:"code_challenge"`

	PromptNone    bool   `json:"none,omitempty"`       // answer at once, without a page
	PromptLogin   bool   `json:"login,omitempty"`      // sign in anew
	PromptConsent bool   `json:"consent,omitempty"`    // ask even if asked before
	CrossSite     bool   `json:"cross_site,omitempty"` // another site sent the browser here
	MaxAge        *int64 `json:"max_age,omitempty"`    // seconds since the last sign-in
	LoginHint     string `json:"login_hint,omitempty"` // fills in the form, no more

	Browser string    `json:"browser"` // Hash of the browser cookie
	BegunAt time.Time `json:"begun_at"`
}

// RequestLifetime is how long a person has for sign-in and consent.
const RequestLifetime = 30 * time.Minute

// Expired tells whether the request is too old to be answered at now.
func (q *AuthorizationRequest) Expired(now time.Time) bool {
	return !now.Before(q.BegunAt.Add(RequestLifetime))
}

// Satisfied tells whether a sign-in at signedInAt is fresh enough for prompt and
// max_age (OpenID Connect Core §3.1.2.1): one that followed the request always is.
func (q *AuthorizationRequest) Satisfied(signedInAt, now time.Time) bool {
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
