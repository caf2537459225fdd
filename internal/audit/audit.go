// Package audit defines the events of the audit log. An Event records one decision: who asked for what, from where, and
// what the answer was. There is one constructor per kind of decision. The package does no I/O; internal/store writes an
// event in the same transaction as the decision.
package audit

import (
	"context"
	"encoding/json"
	"time"
)

// Outcome is the result of a decision.
type Outcome string

// The outcomes of a decision. A fault, such as a disk error or a bug, is not a decision: it is logged and has no event.
const (
	Allowed Outcome = "allowed"
	Refused Outcome = "refused"
	// Failed is what was not refused and went wrong: a tool failed, or is not what an operator reviewed.
	Failed Outcome = "failed"
	// Wrong stands for Refused and Failed where events are selected. No event has it.
	Wrong Outcome = "wrong"
)

// Event is one decision. Only ID, At, Action and Outcome are always set. It never holds a secret: neither a token, a
// code or a password, nor the hash of one.
type Event struct {
	ID      string    `json:"id"`     // "evt_", the time and 75 random bits; set by the store
	At      time.Time `json:"at"`     // by the store's clock; set by the store
	Action  string    `json:"action"` // what was decided, such as "token.request"
	Outcome Outcome   `json:"outcome"`

	// Actor is the authenticated party that asked for it. The zero Actor means that the party is unknown, or that it is
	// the server itself.
	Actor Actor `json:"actor,omitzero"`

	Reason      string `json:"reason,omitempty"`      // of a refusal: its OAuth error code
	Description string `json:"description,omitempty"` // of a refusal: what the client was told

	ClientID string            `json:"client_id,omitempty"`
	UserID   string            `json:"user_id,omitempty"`
	GrantID  string            `json:"grant_id,omitempty"`
	Resource string            `json:"resource,omitempty"` // the identifier of the resource
	Scope    string            `json:"scope,omitempty"`
	Detail   map[string]string `json:"detail,omitempty"` // facts that only this action has

	// Before and After are JSON objects with the members that an operator's change made different; Changed sets them.
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`

	RequestID string `json:"request_id,omitempty"`
	Address   string `json:"address,omitempty"` // the client's network address
	UserAgent string `json:"user_agent,omitempty"`
}

// Actor is the party that asked for a decision.
type Actor struct {
	Type ActorType `json:"type"`
	ID   string    `json:"id"`             // "usr_…", a client_id, or of a command the account of the operating system
	Name string    `json:"name,omitempty"` // for display, as it was at the time
}

// String returns the actor for people to read, such as "command:ada@host"; "" for the zero Actor.
func (a Actor) String() string {
	switch {
	case a.Type == "":
		return ""
	case a.Name == "":
		return string(a.Type) + ":" + a.ID
	}
	return string(a.Type) + ":" + a.Name
}

// ActorType says what kind of party the ID of an Actor names.
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

// With returns a copy of e with one more detail. If value is empty, it returns e. A value is cut at 512 bytes, because
// most details come from unauthenticated senders.
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

// Request describes the HTTP request, or the command, that led to a decision.
type Request struct {
	ID        string // X-Request-Id of the response
	Address   string // network address of the client, found through the trusted proxies
	UserAgent string
}

// Allow returns e with the outcome Allowed.
func (e Event) Allow() Event {
	e.Outcome = Allowed
	return e
}

// Fail returns e with the outcome Failed.
func (e Event) Fail() Event {
	e.Outcome = Failed
	return e
}

// Refuse returns e with the outcome Refused, its OAuth error code, and the description that the client was sent. It
// removes the actor if authentication failed, because the identity is then only a claim.
func (e Event) Refuse(code, description string) Event {
	e.Outcome, e.Reason, e.Description = Refused, code, description
	if code == "invalid_client" || code == "invalid_token" || e.Action == SignedIn {
		e.Actor = Actor{}
	}
	return e
}

type (
	requestKey struct{}
	actorKey   struct{}
)

// WithActor returns a context under which a is the actor of every recorded event.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// WithRequest returns a context under which every recorded event carries r.
func WithRequest(ctx context.Context, r Request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

// RequestFrom returns the Request that WithRequest stored in ctx, or the zero Request.
func RequestFrom(ctx context.Context) Request {
	r, _ := ctx.Value(requestKey{}).(Request)
	return r
}

// Stamp returns e with the Request stored in ctx, and with its Actor if there is one. It cuts strings that senders
// choose at 512 bytes.
func (e Event) Stamp(ctx context.Context) Event {
	if a, ok := ctx.Value(actorKey{}).(Actor); ok {
		e.Actor = Actor{Type: a.Type, ID: cut(a.ID), Name: cut(a.Name)}
	}
	r := RequestFrom(ctx)
	e.RequestID, e.Address, e.UserAgent = r.ID, r.Address, cut(r.UserAgent)
	e.ClientID, e.Scope = cut(e.ClientID), cut(e.Scope)
	return e
}

// DetailJSON returns the details as a JSON object, or "" if there are none.
func (e Event) DetailJSON() string {
	if len(e.Detail) == 0 {
		return ""
	}
	b, err := json.Marshal(e.Detail)
	if err != nil {
		return "" // cannot happen: a map of strings always marshals
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
