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

	// Actor is whoever asked for it, as far as that is proven. The zero Actor is
	// somebody unknown, or the server itself.
	Actor Actor `json:"actor,omitzero"`

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

// Actor is whoever asked for what an event records.
type Actor struct {
	Type ActorType `json:"type"`
	ID   string    `json:"id"`             // "usr_…", a client_id, or for a command the account of the operating system
	Name string    `json:"name,omitempty"` // for people to read, as it was then
}

// ActorType says what the id of an actor names.
type ActorType string

// The types of an actor.
const (
	ByUser    ActorType = "user"
	ByClient  ActorType = "client"
	ByCommand ActorType = "command"
)

// user returns the person with that id as an actor, or the zero Actor for "".
func user(id string) Actor { return actor(ByUser, id) }

// client returns the client with that id as an actor, or the zero Actor for "".
func client(id string) Actor { return actor(ByClient, id) }

func actor(t ActorType, id string) Actor {
	if id == "" {
		return Actor{}
	}
	return Actor{Type: t, ID: cut(id)}
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

// Allow returns e as a decision for what was asked.
func (e Event) Allow() Event {
	e.Outcome = Allowed
	return e
}

// Refuse returns e as a refusal with its OAuth error code and what the client was
// told. If the proof itself is refused, the event loses its actor, which was only
// claimed.
func (e Event) Refuse(code, description string) Event {
	e.Outcome, e.Reason, e.Description = Refused, code, description
	if code == "invalid_client" || code == "invalid_token" || e.Action == signIn {
		e.Actor = Actor{}
	}
	return e
}

type (
	requestKey struct{}
	actorKey   struct{}
)

// WithActor returns a context that makes a the actor of every event recorded
// under it.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

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

// Stamp returns e with the request of ctx in it, and the actor of ctx if there is
// one.
func (e Event) Stamp(ctx context.Context) Event {
	if a, ok := ctx.Value(actorKey{}).(Actor); ok {
		e.Actor = Actor{Type: a.Type, ID: cut(a.ID), Name: cut(a.Name)}
	}
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
