// Package store keeps everything that must outlive the process, in SQLite or in
// PostgreSQL: clients, resources, people and their sessions, grants, codes,
// revoked tokens, signing keys and the audit log. One SQL text serves both.
//
// All work is done in functions that get a Tx: Update runs those that write, View
// those that only read. What Update and Append have answered for is on disk. How
// each database runs them is in package engine; here are the records.
package store

import (
	"context"
	"embed"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store/engine"
)

// Options are what Open may be told. The zero Options are good.
type Options struct {
	Clock  func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: slog.Default()
}

// DB is an open database. Make it with Open; it is safe for concurrent use.
type DB struct {
	engine   *engine.Engine
	clock    func() time.Time
	log      *slog.Logger
	versions *versions
	clients  *clientCache
	catalog  *Cached[[]*oauth.Resource]

	probe probe

	mu        sync.Mutex
	lastEvent time.Time
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
	var err error
	if db.engine, err = engine.Open(ctx, dsn, engine.Config{Now: db.Now, Insert: db.insertEvents, AtOnce: eventsAtOnce, Trace: trace}); err != nil {
		return nil, err
	}
	db.versions = newVersions(db)
	db.clients = newClientCache()
	db.catalog = NewCached(db, Resources, (*Tx).Resources)
	return db, nil
}

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migrations returns the files of the schema.
func migrations() fs.FS {
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		panic(err) // the name is a valid path
	}
	return files
}

// Migrate brings the schema up to date and returns the names of the migrations it
// applied, none if there was nothing to do. Each is a transaction: all or
// nothing. Processes that migrate at once wait for each other. A schema newer
// than this program is an error.
func (db *DB) Migrate(ctx context.Context) (applied []string, err error) {
	return db.engine.Migrate(ctx, migrations())
}

// Pending returns the names of the migrations that Migrate would apply. It
// changes nothing. A schema newer than this program is an error.
func (db *DB) Pending(ctx context.Context) ([]string, error) {
	return db.engine.Pending(ctx, migrations())
}

// trace is told every statement, for tests.
var trace func(query string, args []any)

// Close lets everything that was asked for before finish and be answered, and
// closes the database. What is asked later gets oauth.ErrUnavailable.
func (db *DB) Close() error {
	db.versions.stop()
	return db.engine.Close()
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
	return db.engine.Update(ctx, func(on *engine.Tx) error {
		tx := &Tx{db: db, on: on, ctx: ctx, now: on.Now}
		err := fn(tx)
		if !engine.Decided(err) {
			return err
		}
		if err := tx.settle(); err != nil {
			return err
		}
		on.Committed = tx.committed
		return err
	})
}

// View runs fn with a Tx that only reads and returns its error. On SQLite it sees
// one state of the database, on PostgreSQL each statement sees the newest.
func (db *DB) View(ctx context.Context, fn func(*Tx) error) error {
	return db.engine.View(ctx, func(on *engine.Tx) error {
		return fn(&Tx{db: db, on: on, ctx: ctx, now: on.Now, readOnly: true})
	})
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
	return db.engine.Append(ctx, stamped)
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
		event = event.Allow()
	case refused:
		event = event.Refuse(string(refusal.Code), refusal.Description)
		if refusal.Cause != nil {
			event = event.With("cause", refusal.Cause.Error())
		}
	default:
		return event, false
	}
	return event, true
}
