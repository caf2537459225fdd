package admin

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/store"
)

// Request has what a request for a change carries beside its input. The zero Request is valid.
type Request struct {
	// Match are entity tags (ETag) of which the record that is changed must have one, or "*"; none is any (RFC 9110
	// §13.1.1). The change is refused as Stale otherwise.
	Match []string
	// Caller, Route and Key name a request that is done only once: if it was done before, the operation returns a
	// *Replay. BodyHash is a keyed hash of its input, which may have a password. A refused request does not use up the
	// key. A request without a key has the Key "".
	Caller, Route, Key, BodyHash string
	// Status is that of the answer if the change is made.
	Status int
}

// For returns the operations for one request.
func (o *Operations) For(r Request) *Operations {
	operations := *o
	operations.request = r
	return &operations
}

// Replay is the error of an operation that was done before. It has the answer of that time, without secrets.
type Replay struct {
	Status int
	Body   json.RawMessage
}

// Error says that the operation was done before.
func (r *Replay) Error() string { return "the same request was answered before" }

// answered returns a *Replay if the request was answered before, and a refusal if its key was used for another.
func (o *Operations) answered(tx *store.Tx) error {
	r := &o.request
	if r.Key == "" {
		return nil
	}
	a, err := tx.Answer(r.Caller, r.Route, r.Key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	case a.BodyHash != r.BodyHash:
		return invalid("", "the Idempotency-Key was used for another request; use a new one for each")
	}
	return &Replay{Status: a.Status, Body: json.RawMessage(a.Body)}
}

// keep keeps view, which has no secret, as the answer to the request.
func (o *Operations) keep(tx *store.Tx, view any) error {
	r := &o.request
	if r.Key == "" {
		return nil
	}
	body, err := json.Marshal(view)
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	err = tx.KeepAnswer(r.Caller, r.Route, r.Key,
		&store.Answer{BodyHash: r.BodyHash, Status: r.Status, Body: string(body)})
	if errors.Is(err, store.ErrConflict) {
		return conflict("", "", r.Key, "another request with the Idempotency-Key %s is being answered; ask again")
	}
	return err
}

// matches returns nil if the request may change the record that view shows, which no other transaction changes now.
func (o *Operations) matches(view any) error {
	tag, _ := ETag(view)
	if len(o.request.Match) == 0 || slices.Contains(o.request.Match, "*") || slices.Contains(o.request.Match, tag) {
		return nil
	}
	return &Error{Kind: Stale, format: "it was changed since you read it; read it again, and change what is there now"}
}

// ETag returns the entity tag of a view, which is another after each change of the record. ok is false if the view is
// not that of a record.
func ETag(view any) (tag string, ok bool) {
	version := int64(0)
	switch v := view.(type) {
	case Resource:
		version = v.version
	case Client:
		version = v.version
		v.Secret, v.LastUsedAt = "", Moment{} // which change without anybody changing the client
		v.State, v.ApprovedFor, v.Login, v.client = "", nil, false, nil
		view = v
	case User:
		version = v.version
	case Unapproval:
		return ETag(v.Client)
	case UserDetail:
		return ETag(v.User)
	case PasswordReset:
		return ETag(v.User)
	case GroupMembers:
		return ETag(v.Group)
	case Grant:
		v.LastUsedAt, v.ExpiresAt = Moment{}, Moment{}
		view = v
	case Session:
		v.LastUsedAt, v.ExpiresAt = Moment{}, Moment{}
		view = v
	case InitialAccessToken:
		v.Token = ""
		view = v
	case Invitation:
		v.Link, v.Mailed = "", false
		view = v
	case Group, keys.Info, Event:
	default:
		return "", false
	}
	text, err := json.Marshal(view)
	if err != nil {
		return "", false
	}
	sum := sha256.Sum256(append(strconv.AppendInt(nil, version, 10), text...))
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`, true
}
