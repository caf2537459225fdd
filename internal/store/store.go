// Package store stores everything that must outlive the process, in SQLite or PostgreSQL: clients, resources, people
// and their sessions, grants, codes, revoked tokens, signing keys and the audit log. Both databases run the same SQL.
//
// All work is done in functions that are passed a Tx: Update runs those that write, and View those that only read. What
// Update and Append wrote is on disk when they return nil. Package engine implements how each database runs the
// functions; this package defines the records.
package store

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store/engine"
)

// Options are the options of Open. The zero Options are valid.
type Options struct {
	Clock  func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: slog.Default()
	// Begin is the longest time until an Update on SQLite begins, and an Append ends; 0 for as long as it takes, and
	// for 10 seconds if another process has locked the file. PostgreSQL has times of its own.
	Begin time.Duration
}

// DB is an open database. Make it with Open; it is safe for concurrent use.
type DB struct {
	engine   *engine.Engine
	dialect  string // as dialectOf returns it
	clock    func() time.Time
	log      *slog.Logger
	versions *versions
	clients  *clientCache
	catalog  *Cached[[]*oauth.Resource]
	blocks   *Cached[[]*oauth.Block] // a transaction that changes them touches Clients

	probe  probe
	recent recent
	gap    gap
	begin  time.Duration         // see Options
	named  trace.SpanStartOption // which database it is

	worth func(audit.Event) bool // Announce sets both
	tell  func(Notice)

	observe func(action, outcome, reason string, detail map[string]string) // Observe sets it
	using   bool                                                           // Use has marked the database

	mu        sync.Mutex
	lastEvent time.Time
}

// Open opens the database that dsn names:
//
//	sqlite:PATH       a file; it and its directory are created if needed, for their owner only (0600, 0700)
//	postgres://…      PostgreSQL 14 or later; the parameters are those of libpq
//
// Open does not change the schema; Migrate does. It returns an error if a SQLite file cannot be opened. It does not
// connect to PostgreSQL until a connection is needed, so that a server may start before its database does.
func Open(ctx context.Context, dsn string, options Options) (*DB, error) {
	return open(ctx, dsn, options, engine.Open)
}

// Inspect opens a database that exists, only to read it: it creates, changes and migrates nothing, and Update and
// Append return an error. Unlike Open it connects to PostgreSQL at once, and it returns an error within seconds if the
// database cannot be read, or would not accept a write. It returns ErrNoFile if there is no SQLite file yet, and Open
// can create it.
func Inspect(ctx context.Context, dsn string, options Options) (*DB, error) {
	return open(ctx, dsn, options, engine.Inspect)
}

// Cause returns one sentence for the operator about an error of this package: why the database cannot be used, and
// what to do. It begins with "database", the key of the configuration, and contains no password. Cause returns "" if
// the error does not say why, or is not about the database as a whole.
func Cause(err error) string { return engine.Cause(err) }

// Away reports whether err, of Open, Migrate or Pending, goes away by itself: PostgreSQL does not answer, or starts, or
// another program has locked the SQLite file.
func Away(err error) bool { return engine.Away(err) }

func open(ctx context.Context, dsn string, options Options,
	with func(context.Context, string, engine.Config) (*engine.Engine, error)) (*DB, error) {
	db := &DB{dialect: dialectOf(dsn), clock: options.Clock, log: options.Logger, begin: options.Begin,
		named: trace.WithAttributes(attribute.String("db.system.name", System(dsn)))}
	if db.clock == nil {
		db.clock = time.Now
	}
	if db.log == nil {
		db.log = slog.Default()
	}
	var err error
	if db.engine, err = with(ctx, dsn,
		engine.Config{Now: db.Now, Begin: options.Begin, Insert: db.insertEvents, AtOnce: atOnce,
			Trace: onStatement, Recorded: db.recorded}); err != nil {
		return nil, err
	}
	db.versions = newVersions(db)
	db.clients = newClientCache()
	db.catalog = NewCached(db, Resources, (*Tx).Resources)
	db.blocks = NewCached(db, Clients, (*Tx).allBlocks)
	return db, nil
}

// System returns which database dsn names: "sqlite" or "postgresql".
func System(dsn string) string {
	if dialectOf(dsn) == "postgres" {
		return "postgresql"
	}
	return "sqlite"
}

// onStatement, which tests set, is called with every statement.
var onStatement func(query string, args []any)

// Close waits until all calls under way have returned, and closes the database. Later calls return
// oauth.ErrUnavailable.
func (db *DB) Close() error {
	if db.using {
		db.leave()
	} else {
		db.engine.KeepLog() // it shows the next server that the file is not a copy; see Use
	}
	db.versions.stop()
	return db.engine.Close()
}

// Ping returns nil if the database answers, and otherwise an error that wraps oauth.ErrUnavailable.
func (db *DB) Ping(ctx context.Context) error {
	return db.View(ctx, func(tx *Tx) error {
		var one int
		return tx.row("SELECT 1", nil, &one)
	})
}

// Observe makes the DB call fn for each event that this process records, once the event is on disk. fn must not block
// or use the DB. Call Observe before the DB is used by several goroutines.
func (db *DB) Observe(fn func(action, outcome, reason string, detail map[string]string)) {
	db.observe = fn
}

func (db *DB) recorded(events []audit.Event) {
	if db.observe == nil {
		return
	}
	for _, event := range events {
		db.observe(event.Action, string(event.Outcome), event.Reason, event.Detail)
	}
}

// Stats is what a DB has done since it was opened, and what it has to do.
type Stats = engine.Stats

// Stats returns what the DB has done, and what it has to do.
func (db *DB) Stats() Stats { return db.engine.Stats() }

// Room returns the free space in bytes where the database is. It is not known of PostgreSQL, and on some systems.
func (db *DB) Room() (free uint64, known bool) { return db.engine.Room() }

// Skew returns by how much the clock of the database is ahead of this machine's. It is 0 for SQLite.
func (db *DB) Skew(ctx context.Context) (time.Duration, error) {
	ctx, cancel := db.versions.quickly(ctx)
	defer cancel()
	return db.engine.Skew(ctx)
}

// Now returns the time of the database's clock, in UTC and whole microseconds.
func (db *DB) Now() time.Time { return db.clock().UTC().Truncate(time.Microsecond) }

// Update runs fn in a transaction and commits it if fn returns nil or a refusal, because a refusal is a decision that
// has to be recorded. If fn returns any other error or panics, Update rolls back what fn wrote. It returns fn's error
// unchanged, once the commit is on disk; it returns a panic as an error.
//
// If the database cannot be reached or cannot write, the error wraps oauth.ErrUnavailable, and the caller must not
// answer as if the transaction were committed. If ctx ends before fn begins, Update returns its error; if it ends
// later, SQLite ignores it and PostgreSQL rolls back.
//
// fn runs once. On SQLite no other fn runs at the same time, so fn must be quick: sign, hash and fetch outside it. It
// must call methods of its Tx only, not of the DB, and must not keep the Tx.
func (db *DB) Update(ctx context.Context, fn func(*Tx) error) (err error) {
	ctx, span := db.span(ctx, "store.update")
	defer func() { ended(span, err) }()
	ctx, cancel := db.versions.quickly(ctx)
	defer cancel()
	err = db.engine.Update(ctx, func(on *engine.Tx) error {
		span.AddEvent("begun")
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
	db.versions.heard(err)
	return err
}

// View runs fn with a Tx that can only read, and returns its error. On SQLite fn sees one state of the database; on
// PostgreSQL each statement sees the newest.
func (db *DB) View(ctx context.Context, fn func(*Tx) error) (err error) {
	ctx, span := db.span(ctx, "store.view")
	defer func() { ended(span, err) }()
	ctx, cancel := db.versions.quickly(ctx)
	defer cancel()
	return db.versions.attend(ctx, func(ctx context.Context) error { return db.look(ctx, fn) })
}

// span begins a span if ctx is of a request that is traced. It costs next to nothing if it is not.
func (db *DB) span(ctx context.Context, name string) (context.Context, trace.Span) {
	return trace.SpanFromContext(ctx).TracerProvider().Tracer("cardea").Start(ctx, name, db.named)
}

// ended ends a span, which has failed if err is a fault.
func ended(span trace.Span, err error) {
	if !engine.Decided(err) {
		span.SetStatus(codes.Error, "")
	}
	span.End()
}

// look is View, and waits as long as the database and ctx allow.
func (db *DB) look(ctx context.Context, fn func(*Tx) error) error {
	err := db.engine.View(ctx, func(on *engine.Tx) error {
		return fn(&Tx{db: db, on: on, ctx: ctx, now: on.Now, readOnly: true})
	})
	db.versions.heard(err)
	return err
}

// Append records events that belong to no transaction, and returns when they are on disk. It writes them together with
// others that wait. Each event gets an id, the time and the request of ctx. If ctx ends first, Append returns its
// error, and the events are still written.
func (db *DB) Append(ctx context.Context, events ...audit.Event) (err error) {
	ctx, span := db.span(ctx, "store.append")
	defer func() { ended(span, err) }()
	ctx, cancel := db.versions.quickly(ctx)
	defer cancel()
	stamped := make([]audit.Event, len(events))
	for i, event := range events {
		stamped[i] = event.Stamp(ctx)
	}
	err = db.engine.Append(ctx, stamped)
	db.versions.heard(err)
	return err
}

// Conclude is like Tx.Conclude, for a decision that writes nothing else: it appends event with the outcome of err and
// returns err. It returns a fault without recording it. If the event cannot be recorded, it returns that error instead
// of err, because a decision must not be answered without its event.
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

// Client returns the client with the given id from memory, or from the database when it is not there. A change is
// visible at once if this process made it, and otherwise within a second. While the database does not answer, the
// client in memory is used. The client is shared: do not change it. Client returns ErrNotFound if there is none.
func (db *DB) Client(ctx context.Context, id string) (*oauth.Client, error) {
	return db.clients.load(ctx, db, id)
}

// Resources returns all resources, oldest first, from memory as Client does. The slice and its elements are shared: do
// not change them.
func (db *DB) Resources(ctx context.Context) ([]*oauth.Resource, error) {
	return db.catalog.Load(ctx)
}

// Blocks returns all blocks of clients, oldest first, from memory as Client does. The slice and its elements are
// shared: do not change them.
func (db *DB) Blocks(ctx context.Context) ([]*oauth.Block, error) {
	return db.blocks.Load(ctx)
}

// eventPrefix begins the ids of events.
const eventPrefix = "evt_"

// date sets the times of the events to that of the clock, but each at least a microsecond after the one before, so that
// their order within a process is exact. It sets their ids, which tell the time, so that an event is found by its id.
func (db *DB) date(events []audit.Event) {
	db.mu.Lock()
	defer db.mu.Unlock()
	for i := range events {
		at := db.Now()
		if !at.After(db.lastEvent) {
			at = db.lastEvent.Add(time.Microsecond)
		}
		events[i].At, db.lastEvent = at, at
		events[i].ID = oauth.NewTimedID(eventPrefix, at)
	}
}

// conclude returns an event with the outcome of err. It returns false for a fault, which is not a decision.
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
