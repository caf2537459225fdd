// Package audit names every decision Cardea takes. An Event says who asked for
// what, from where, and how it was answered; one constructor per decision says
// which facts it carries. The package does no I/O: internal/store writes an
// event in the transaction of the decision it records.
package audit

import (
	"context"
	"encoding/json"
	"time"
)

// Outcome is how a decision ended.
type Outcome string

// The outcomes of a decision. A fault (a broken disk, a bug) is no decision and
// leaves no event; it is in the log instead.
const (
	Allowed Outcome = "allowed"
	Refused Outcome = "refused"
)

// Event is one decision. Only ID, At, Action and Outcome are always set.
// Nothing in it is a secret: no token, no code, no password, no hash of one.
type Event struct {
	ID      string    `json:"id"`     // "evt_" and 128 random bits; the store sets it
	At      time.Time `json:"at"`     // the store's clock; the store sets it
	Action  string    `json:"action"` // what was decided, "token.request"
	Outcome Outcome   `json:"outcome"`

	Reason      string `json:"reason,omitempty"`      // of a refusal: its OAuth error code
	Description string `json:"description,omitempty"` // of a refusal: what the client was told

	ClientID string            `json:"client_id,omitempty"`
	UserID   string            `json:"user_id,omitempty"`
	GrantID  string            `json:"grant_id,omitempty"`
	Resource string            `json:"resource,omitempty"` // the identifier of the resource
	Scope    string            `json:"scope,omitempty"`
	Detail   map[string]string `json:"detail,omitempty"` // what only this action has to say

	RequestID string `json:"request_id,omitempty"`
	Address   string `json:"address,omitempty"` // the client's network address
	UserAgent string `json:"user_agent,omitempty"`
}

// With returns the event with one more detail. A zero value adds nothing; a
// long one is cut at 512 bytes, for most details come from strangers.
func (e Event) With(name, value string) Event {
	if value == "" {
		return e
	}
	detail := make(map[string]string, len(e.Detail)+1)
	for k, v := range e.Detail {
		detail[k] = v
	}
	detail[name] = cut(value)
	e.Detail = detail
	return e
}

// Request is what is known of the HTTP request (or the command) behind a
// decision.
type Request struct {
	ID        string // X-Request-Id of the response
	Address   string // network address of the peer, trusted proxies taken off
	UserAgent string
}

type requestKey struct{}

// WithRequest returns a context that carries r to every event recorded under it.
func WithRequest(ctx context.Context, r Request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

// RequestFrom returns the request that WithRequest put into ctx, or the zero
// Request.
func RequestFrom(ctx context.Context) Request {
	r, _ := ctx.Value(requestKey{}).(Request)
	return r
}

// Stamp returns e with the request of ctx in it.
func (e Event) Stamp(ctx context.Context) Event {
	r := RequestFrom(ctx)
	e.RequestID, e.Address, e.UserAgent = r.ID, r.Address, cut(r.UserAgent)
	e.ClientID, e.Scope = cut(e.ClientID), cut(e.Scope)
	return e
}

// DetailJSON returns the details as one JSON object, "" when there are none.
func (e Event) DetailJSON() string {
	if len(e.Detail) == 0 {
		return ""
	}
	b, err := json.Marshal(e.Detail)
	if err != nil {
		return "" // a map of strings always marshals
	}
	return string(b)
}

func cut(s string) string {
	const limit = 512
	if len(s) > limit {
		return s[:limit]
	}
	return s
}
