// Package admin is what operators do: one function per verb, which checks that the
// caller may, validates what is asked for, writes it, and records it, in one
// transaction. Commands, and whatever else lets somebody operate an installation,
// are thin layers over it. The views it returns are JSON with the field names of
// `cardea … -o json`.
//
// A function returns an *Error if it refuses, in words for the person who asked; any
// other error is a fault.
package admin

import (
	"context"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/store"
)

// Operations are what can be done to one installation. Safe for concurrent use.
type Operations struct {
	DB     *store.DB
	Issuer string
	// AllowLoopback lets a client publish its keys on a loopback host.
	AllowLoopback bool
	// SigningAlg is the algorithm of a key that is rotated without naming one.
	SigningAlg string
	// Ring is needed by the operations on keys and tokens, and may be nil without them.
	Ring *keys.Ring
	// RefreshKey is what refresh tokens are made with, and Directory says which clients
	// count. Only InspectToken needs them.
	RefreshKey []byte
	Directory  *client.Directory
}

// change runs fn in a transaction if by may write noun, and records the event that
// fn returns, unless that is the zero Event, because there was nothing to do. If by may
// not, it is refused, and the refusal is recorded as action.
func (o *Operations) change(ctx context.Context, by Caller, noun Noun, action string, fn func(*store.Tx) (audit.Event, error)) error {
	return o.DB.Update(audit.WithActor(ctx, by.Actor), func(tx *store.Tx) error {
		if err := by.may(noun, write); err != nil {
			return tx.Conclude(audit.Event{Action: action}, err)
		}
		event, err := fn(tx)
		if err != nil || event.Action == "" {
			return err
		}
		return tx.Conclude(event, nil)
	})
}

// look runs fn if by may read noun, and refuses otherwise.
func (o *Operations) look(ctx context.Context, by Caller, noun Noun, fn func(*store.Tx) error) error {
	if err := o.permit(ctx, by, noun, read, noun.one()+".read"); err != nil {
		return err
	}
	return o.DB.View(ctx, fn)
}

// permit returns nil if by may do to noun what to says. Otherwise it records the refusal
// as action and returns it.
func (o *Operations) permit(ctx context.Context, by Caller, noun Noun, to access, action string) error {
	err := by.may(noun, to)
	if err == nil {
		return nil
	}
	return o.DB.Conclude(audit.WithActor(ctx, by.Actor), audit.Event{Action: action}, err)
}

// viewed returns a page of views of what list gives.
func viewed[T, V any](view func(T) V, items []T, next string, err error) ([]V, string, error) {
	views := make([]V, len(items))
	for i, item := range items {
		views[i] = view(item)
	}
	return views, next, err
}
