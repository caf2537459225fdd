// Package admin has the operations of an operator: one function per verb, which checks the right of the caller,
// validates the input, writes it, and records an audit event, in one transaction. Commands and other interfaces for
// operators are thin layers over it. The views that it returns are JSON with the field names of `cardea … -o json`.
//
// A function that refuses returns an *Error, whose text is for the person who asked; any other error is a fault.
package admin

import (
	"cmp"
	"context"
	"errors"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/upstream"
)

// Operations are the operations on one installation. They are safe for concurrent use.
type Operations struct {
	DB     *store.DB
	Issuer string
	// AllowLoopback lets a client publish its keys on a loopback host.
	AllowLoopback bool
	// SigningAlg is the algorithm of a key that is rotated without naming one.
	SigningAlg string
	// MailInvitation sends an invited person the link. inviter is the name of the person who invites them, or "". If
	// MailInvitation is nil, no mail is sent.
	MailInvitation func(i Invitation, inviter string) error
	// NoPasswords reports whether people sign in without passwords, so that nobody can set one.
	NoPasswords bool
	// Configuration is what Settings returns.
	Configuration []Setting
	// SignIn has the identity providers with which people sign in.
	SignIn []upstream.Config
	// Ring is needed only by the operations on keys and tokens; it may be nil for the others.
	Ring *keys.Ring
	// RefreshKey is the key that refresh tokens are made with. Only InspectToken needs it.
	RefreshKey []byte
	// Directory decides which clients may still act. Only InspectToken and invitations that a client made need it.
	Directory *client.Directory

	shared  *shared // with the other operations of a Together
	request Request // see For
}

// shared is what the operations of a Together have in common.
type shared struct {
	tx        *store.Tx
	rehearsal bool        // all of it is undone
	refused   audit.Event // the first that the caller had no right to, with
	err       error
}

// Together runs fn with operations that share one transaction of by. It commits if fn returns nil. Otherwise nothing is
// changed, and Together returns the error of fn; if an operation was refused, it records the refusal. fn must not
// change the database in another way, and must not block (store.DB.Update). One Together runs at a time. The operations
// create no signing keys; call EnsureKeys first.
//
// The Request of o applies to all of them: if its key was used before, fn is not called, and the error is a *Replay.
// view points to the answer, which fn fills in, without secrets.
func (o *Operations) Together(ctx context.Context, by Caller, view any, fn func(*Operations) error) error {
	return o.together(ctx, by, new(shared), func(tx *store.Tx, bound *Operations) error {
		if err := o.answered(tx); err != nil {
			return err
		}
		if err := fn(bound); err != nil {
			return err
		}
		return o.keep(tx, view)
	})
}

// Rehearse is like Together, but rolls everything back, and the right to read a record is enough to rehearse a change
// of it.
func (o *Operations) Rehearse(ctx context.Context, by Caller, fn func(*Operations) error) error {
	err := o.together(ctx, by, &shared{rehearsal: true}, func(_ *store.Tx, bound *Operations) error {
		if err := fn(bound); err != nil {
			return err
		}
		return errRehearsed
	})
	if errors.Is(err, errRehearsed) {
		return nil
	}
	return err
}

// together runs fn in a transaction that is committed if fn returns nil, with operations that belong to it.
func (o *Operations) together(ctx context.Context, by Caller, all *shared,
	fn func(*store.Tx, *Operations) error) error {
	bound := *o
	bound.Ring, bound.shared, bound.request = nil, all, Request{}
	ctx = audit.WithActor(ctx, by.Actor)
	var undone error
	err := o.DB.Update(ctx, func(tx *store.Tx) error {
		all.tx = tx
		if undone = tx.LockDeclared(); undone == nil {
			undone = fn(tx, &bound)
		}
		if undone != nil {
			return errUndone
		}
		return nil
	})
	if !errors.Is(err, errUndone) {
		return err
	}
	if all.err != nil {
		if err := o.DB.Conclude(ctx, all.refused, all.err); !isForbidden(err) {
			return err
		}
	}
	return undone
}

// errUndone rolls a transaction back; a refusal would commit it. errRehearsed says that nothing else did.
var (
	errUndone    = errors.New("admin: not all of it can be done")
	errRehearsed = errors.New("admin: this was a rehearsal")
)

// rehearses reports whether what o does is undone.
func (o *Operations) rehearses() bool { return o.shared != nil && o.shared.rehearsal }

// update runs fn in the transaction of o, or in one of its own.
func (o *Operations) update(ctx context.Context, by Caller, fn func(*store.Tx) error) error {
	if o.shared != nil {
		return fn(o.shared.tx)
	}
	return o.DB.Update(audit.WithActor(ctx, by.Actor), fn)
}

// view is update for a function that only reads.
func (o *Operations) view(ctx context.Context, fn func(*store.Tx) error) error {
	if o.shared != nil {
		return fn(o.shared.tx)
	}
	return o.DB.View(ctx, fn)
}

// refuse records in tx that by may not do what event says, and returns err.
func (o *Operations) refuse(tx *store.Tx, event audit.Event, err error) error {
	if o.shared == nil {
		return tx.Conclude(event, err)
	}
	if o.shared.err == nil { // Together records it, because tx will be rolled back
		o.shared.refused, o.shared.err = event, err
	}
	return err
}

// change runs fn in a transaction if by may write noun, or in a Rehearse read it, and records the event that fn
// returns. It records nothing if that is the zero Event, which means that nothing was changed. If by may not, or fn
// says so, change refuses and records the refusal as action; fn asks for rights before it writes, because a refusal is
// committed. view points to what the operation returns, without secrets, as fn leaves it: it is kept if the Request has
// a key.
func (o *Operations) change(ctx context.Context, by Caller, noun Noun, action string, view any,
	fn func(*store.Tx) (audit.Event, error)) error {
	to := Write
	if o.rehearses() {
		to = Read
	}
	return o.update(ctx, by, func(tx *store.Tx) error {
		if err := by.check(tx, noun, to); err != nil {
			return o.refuse(tx, audit.Event{Action: action}, err)
		}
		if err := o.answered(tx); err != nil {
			return err
		}
		event, err := fn(tx)
		if isForbidden(err) {
			return o.refuse(tx, audit.Event{Action: action}, err)
		}
		if err == nil {
			err = o.keep(tx, view)
		}
		if err != nil || event.Action == "" {
			return err
		}
		return tx.Conclude(event, nil)
	})
}

// look runs fn if by may read noun, and refuses otherwise.
func (o *Operations) look(ctx context.Context, by Caller, noun Noun, fn func(*store.Tx) error) error {
	err := o.view(ctx, func(tx *store.Tx) error {
		if err := by.check(tx, noun, Read); err != nil {
			return err
		}
		return fn(tx)
	})
	return o.refusal(ctx, by, noun.one()+".read", err)
}

// Permit returns nil if by may access one of nouns as to says. Otherwise it records the refusal for the first as action
// and returns it. The operations check the right themselves; an endpoint calls Permit to refuse before it reads the
// input.
func (o *Operations) Permit(ctx context.Context, by Caller, to Access, action string, nouns ...Noun) error {
	err := o.view(ctx, func(tx *store.Tx) (first error) {
		for _, noun := range nouns {
			err := by.check(tx, noun, to)
			if err == nil || !isForbidden(err) {
				return err
			}
			first = cmp.Or(first, err)
		}
		return first
	})
	return o.refusal(ctx, by, action, err)
}

// Allows returns a function that reports whether by may access a noun at this moment. It records nothing: it tells a
// page what to offer, and the operations check the right themselves.
func (o *Operations) Allows(ctx context.Context, by Caller) (func(noun Noun, to Access) bool, error) {
	err := o.DB.View(ctx, func(tx *store.Tx) (err error) {
		by, err = by.now(tx)
		return err
	})
	return func(noun Noun, to Access) bool {
		return err == nil && by.may(noun, to) == nil
	}, err
}

// permit returns nil if by may access noun as to says. Otherwise it records the refusal as action and returns it.
func (o *Operations) permit(ctx context.Context, by Caller, noun Noun, to Access, action string) error {
	err := o.view(ctx, func(tx *store.Tx) error { return by.check(tx, noun, to) })
	return o.refusal(ctx, by, action, err)
}

// refusal returns err, and records it as action if it says that by may not.
func (o *Operations) refusal(ctx context.Context, by Caller, action string, err error) error {
	if !isForbidden(err) {
		return err
	}
	if o.shared != nil {
		return o.refuse(o.shared.tx, audit.Event{Action: action}, err)
	}
	return o.DB.Conclude(audit.WithActor(ctx, by.Actor), audit.Event{Action: action}, err)
}

// checkBegins returns nil if a list can be searched for page.Begins.
func checkBegins(page store.Page) error {
	if len(page.Begins) > store.MaxBegins {
		return invalid("q", "{q} is longer than %d bytes; search for less of the name", store.MaxBegins)
	}
	return nil
}

// viewed returns the views of a page of items, with the cursor and the error of that page.
func viewed[T, V any](view func(T) V, items []T, next string, err error) ([]V, string, error) {
	views := make([]V, len(items))
	for i, item := range items {
		views[i] = view(item)
	}
	return views, next, err
}
