// Package store keeps everything that must outlive the process, in SQLite or in
// PostgreSQL: clients, resources, people and their sessions, grants, codes,
// revoked tokens, signing keys and the audit log. One SQL text serves both.
//
// All work is done in functions that get a Tx: Update for what writes, View for
// what reads. Durable means durable: Update and Append answer after the database
// has answered for the disk. On SQLite one writer runs the functions that wait,
// one after another, and commits them together, so that a hundred of them cost
// one fsync; on PostgreSQL they run side by side.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// Options are what Open may be told. The zero Options are good.
type Options struct {
	Clock  func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: slog.Default()
}

// DB is an open database. Make it with Open; it is safe for concurrent use.
type DB struct {
	engine   engine
	clock    func() time.Time
	log      *slog.Logger
	versions *versions
	clients  *clientCache
	catalog  *Cached[[]*oauth.Resource]

	mu        sync.Mutex
	lastEvent time.Time
}

// engine is what SQLite and PostgreSQL do differently.
type engine interface {
	update(ctx context.Context, fn func(*Tx) error) error
	view(ctx context.Context, fn func(*Tx) error) error
	// append queues events and waits for them. It writes them even when ctx ends.
	append(ctx context.Context, events []audit.Event) error
	migrations() migrations
	close() error
}

// Open opens the database that dsn names:
//
//	sqlite:PATH       a file; it and its directory are made if need be, for their owner alone (0600, 0700)
//	postgres://…      PostgreSQL 14 or later; the parameters are those of libpq
//
// It does not touch the schema: Migrate does. A database that does not answer is
// an error for SQLite; PostgreSQL is first asked when it is needed, so that a
// server may start before its database does.
func Open(ctx context.Context, dsn string, options Options) (*DB, error) {
	db := &DB{clock: options.Clock, log: options.Logger}
	if db.clock == nil {
		db.clock = time.Now
	}
	if db.log == nil {
		db.log = slog.Default()
	}
	scheme, rest, _ := strings.Cut(dsn, ":")
	var err error
	switch {
	case scheme == "sqlite" && rest != "":
		db.engine, err = openSQLite(ctx, db, rest)
	case scheme == "postgres" || scheme == "postgresql":
		db.engine, err = openPostgres(db, dsn)
	default: // the value may hold a password, so it is not repeated
		err = errors.New("store: the database must be sqlite:PATH or postgres://USER@HOST/NAME")
	}
	if err != nil {
		return nil, err
	}
	db.versions = newVersions(db)
	db.clients = newClientCache()
	db.catalog = NewCached(db, Resources, (*Tx).Resources)
	return db, nil
}

// Close lets everything that was asked for before finish and be answered, and
// closes the database. What is asked later gets oauth.ErrUnavailable.
func (db *DB) Close() error {
	db.versions.stop()
	return fault("close", db.engine.close())
}

// Ping tells whether the database answers; its error wraps oauth.ErrUnavailable
// if not.
func (db *DB) Ping(ctx context.Context) error {
	return db.View(ctx, func(tx *Tx) error {
		var one int
		return tx.row("SELECT 1", nil, &one)
	})
}

// Now returns the time on the database's clock: UTC, in whole microseconds.
func (db *DB) Now() time.Time { return db.clock().UTC().Truncate(time.Microsecond) }

// Update runs fn in a transaction and commits it if fn returns nil or a refusal:
// a refusal is a decision, and what was recorded of it must stand. Any other
// error, or a panic, rolls back what fn wrote. Update returns fn's error as it
// is, after the commit is on disk; a panic becomes an error.
//
// If the database cannot be reached, or cannot write, the error wraps
// oauth.ErrUnavailable, and nothing is to be promised to anybody. A ctx that ends
// before fn has begun is the error; later it is not heeded on SQLite and rolls
// back on PostgreSQL.
//
// fn runs once. On SQLite it runs alone, so it must be quick: sign, hash and fetch
// outside. It must not call a method of the DB, only of its Tx, and not keep the
// Tx.
func (db *DB) Update(ctx context.Context, fn func(*Tx) error) error {
	return db.engine.update(ctx, fn)
}

// View runs fn with a Tx that only reads and returns its error. On SQLite it sees
// one state of the database, on PostgreSQL each statement sees the newest.
func (db *DB) View(ctx context.Context, fn func(*Tx) error) error {
	return db.engine.view(ctx, fn)
}

// Append records events that belong to no transaction and returns when they are
// on disk. Those that wait are written together. Each gets its id, its time and
// the request of ctx. When ctx ends first, Append returns its error, and the
// events are written none the less.
func (db *DB) Append(ctx context.Context, events ...audit.Event) error {
	stamped := make([]audit.Event, len(events))
	for i, event := range events {
		stamped[i] = stamp(ctx, event)
	}
	return db.engine.append(ctx, stamped)
}

// Conclude is Tx.Conclude for a decision that writes nothing else: it appends
// event with the outcome that err says and returns err. A fault is returned
// unrecorded; so is, in the place of err, a failure to record: nothing may be
// answered without its event.
func (db *DB) Conclude(ctx context.Context, event audit.Event, err error) error {
	event, decided := conclude(event, err)
	if !decided {
		return err
	}
	if fault := db.Append(ctx, event); fault != nil {
		return fault
	}
	return err
}

// Client returns the client with the given id from memory, or from the database
// when it is not there. A change is seen at once if this process made it, else
// within a second; while the database does not answer, what is in memory is good.
// The client is shared: do not change it. ErrNotFound if there is none.
func (db *DB) Client(ctx context.Context, id string) (*oauth.Client, error) {
	return db.clients.load(ctx, db, id)
}

// Resources returns all resources, oldest first, from memory, as Client does. The
// slice and what it holds are shared: do not change them.
func (db *DB) Resources(ctx context.Context) ([]*oauth.Resource, error) {
	return db.catalog.Load(ctx)
}

// stamp gives an event its id and its request. Its time is given when it is
// written.
func stamp(ctx context.Context, event audit.Event) audit.Event {
	event = event.Stamp(ctx)
	event.ID = oauth.NewID("evt_")
	return event
}

// date gives the events their times: the clock's, but each at least a microsecond
// after the one before, so that their order within a process is exact.
func (db *DB) date(events []audit.Event) {
	db.mu.Lock()
	defer db.mu.Unlock()
	for i := range events {
		at := db.Now()
		if !at.After(db.lastEvent) {
			at = db.lastEvent.Add(time.Microsecond)
		}
		events[i].At, db.lastEvent = at, at
	}
}

// conclude gives an event the outcome that err says. It tells false for a fault,
// which is no decision.
func conclude(event audit.Event, err error) (audit.Event, bool) {
	refusal, refused := oauth.AsRefusal(err)
	switch {
	case err == nil:
		event.Outcome = audit.Allowed
	case refused:
		event.Outcome, event.Reason, event.Description = audit.Refused, string(refusal.Code), refusal.Description
		if refusal.Cause != nil {
			event = event.With("cause", refusal.Cause.Error())
		}
	default:
		return event, false
	}
	return event, true
}

// call runs fn and makes a panic an error: a request must not take the process,
// and with it everybody else's, down.
func call(fn func(*Tx) error, tx *Tx) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("store: panic in a transaction: %v\n%s", r, debug.Stack())
		}
	}()
	return fn(tx)
}

// decided tells whether err lets a transaction be committed.
func decided(err error) bool {
	_, refused := oauth.AsRefusal(err)
	return err == nil || refused
}
