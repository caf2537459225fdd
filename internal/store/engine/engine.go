// Package engine runs functions in transactions, on a SQLite file or on PostgreSQL, and returns once what they wrote is
// on disk. It does not know what is stored; package store, above it, does.
//
// On SQLite one goroutine writes. It runs the waiting functions one after another, each in a savepoint, and commits
// them together, so that a hundred of them take one fsync. On PostgreSQL functions run side by side at READ COMMITTED,
// and only audit events that belong to no function are written together.
package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// Config is the configuration of an Engine. All fields but Begin, Recorded and Trace must be set.
type Config struct {
	Now   func() time.Time
	Begin time.Duration // how long SQLite waits for another process that has locked the file; 0: 10 seconds
	// Insert writes audit events. The engine calls it as the last act of a transaction, with the events of every
	// function in it.
	Insert func(tx *Tx, events []audit.Event) error
	// AtOnce is the number of events that Insert writes in one statement.
	AtOnce int
	// Recorded, if it is set, is called with the events of each transaction once they are on disk. It must not block.
	Recorded func(events []audit.Event)
	// Trace, for tests, is called with every statement before it runs.
	Trace func(query string, args []any)
}

// Stats is what an Engine has done since it was opened, and what it has to do.
type Stats struct {
	Waiting   int           // functions and events that wait for the goroutine that writes, or for a connection
	Functions uint64        // that were committed, and batches of events
	Commits   uint64        // in how many transactions
	Failures  uint64        // transactions that could not be begun or committed
	Busy      time.Duration // all transactions together
}

// tally counts what Stats returns.
type tally struct {
	waiting                      atomic.Int64
	functions, commits, failures atomic.Uint64
	busy                         atomic.Int64
}

// done counts a transaction of n functions that began at a time and ended with err.
func (t *tally) done(n int, began time.Time, err error) {
	t.busy.Add(int64(time.Since(began)))
	if err != nil {
		t.failures.Add(1)
		return
	}
	t.commits.Add(1)
	t.functions.Add(uint64(n)) // #nosec G115 -- not negative
}

func (t *tally) stats() Stats {
	return Stats{Waiting: int(t.waiting.Load()), Functions: t.functions.Load(), Commits: t.commits.Load(),
		Failures: t.failures.Load(), Busy: time.Duration(t.busy.Load())}
}

// Engine is an open database. Make it with Open; it is safe for concurrent use.
type Engine struct{ driver }

// driver has the methods in which SQLite and PostgreSQL differ.
type driver interface {
	update(ctx context.Context, fn func(*Tx) error) error
	view(ctx context.Context, fn func(*Tx) error) error
	append(ctx context.Context, events []audit.Event) error
	migrations() migrations
	stats() Stats
	patience() time.Duration
	unlogged() bool
	keepLog()
	checkpoint(ctx context.Context) error
	// room returns the free space where the database is, in bytes, if it is on this machine.
	room() (free uint64, known bool)
	// skew returns by how much the clock of the database is ahead of this machine's.
	skew(ctx context.Context) (time.Duration, error)
	close() error
}

// Open opens the database that dsn names, sqlite:PATH or postgres://…, as store.Open describes.
func Open(ctx context.Context, dsn string, config Config) (*Engine, error) {
	var e Engine
	var err error
	path, isSQLite := sqlitePath(dsn)
	switch scheme, _, _ := strings.Cut(dsn, ":"); {
	case isSQLite:
		e.driver, err = openSQLite(ctx, config, path)
	case scheme == "postgres" || scheme == "postgresql":
		e.driver, err = openPostgres(config, dsn)
	default: // the value may hold a password, so it is not repeated
		err = errors.New("store: the database must be sqlite:PATH or postgres://USER@HOST/NAME")
	}
	if err != nil {
		return nil, err
	}
	return &e, nil
}

// sqlitePath returns the path of the file that dsn names, if it names one.
func sqlitePath(dsn string) (string, bool) {
	path, found := strings.CutPrefix(dsn, "sqlite:")
	return path, found && path != ""
}

// Update runs fn in a transaction and commits it if Decided reports true of fn's error; otherwise, and if fn panics, it
// rolls back. It returns fn's error once the commit is on disk. If the database cannot be reached or cannot write, the
// error wraps oauth.ErrUnavailable.
//
// fn runs once. If ctx ends before fn has begun, Update returns its error; later SQLite ignores ctx, and PostgreSQL
// rolls back.
func (e *Engine) Update(ctx context.Context, fn func(*Tx) error) error { return e.update(ctx, fn) }

// View runs fn with a Tx that can only read, and returns its error. On SQLite fn sees one state of the database, on
// PostgreSQL each statement sees the newest.
func (e *Engine) View(ctx context.Context, fn func(*Tx) error) error { return e.view(ctx, fn) }

// Append writes events that belong to no transaction, together with others that wait, and returns when they are on
// disk. If ctx ends first, Append returns its error, and the events are still written.
func (e *Engine) Append(ctx context.Context, events []audit.Event) error {
	return e.append(ctx, events)
}

// Stats returns what the engine has done, and what it has to do.
func (e *Engine) Stats() Stats { return e.stats() }

// Patience is how long a caller should wait for a database that did not answer lately; 0 for as long as it takes.
func (e *Engine) Patience() time.Duration { return e.patience() }

// Unlogged reports whether the engine opened a SQLite file that had no write-ahead log. A file that is in use has one,
// and so has one whose last process was killed.
func (e *Engine) Unlogged() bool { return e.unlogged() }

// KeepLog makes Close leave the write-ahead log of a SQLite file, if the engine found one when it opened the file, so
// that Unlogged says the same of the next.
func (e *Engine) KeepLog() { e.keepLog() }

// Checkpoint copies the write-ahead log of a SQLite file into the file, as far as others do not need it.
func (e *Engine) Checkpoint(ctx context.Context) error { return e.checkpoint(ctx) }

// Room returns the free space in bytes where the database is. It is not known of PostgreSQL, and on some systems.
func (e *Engine) Room() (free uint64, known bool) { return e.room() }

// Skew returns by how much the clock of the database is ahead of this machine's. It is 0 for SQLite.
func (e *Engine) Skew(ctx context.Context) (time.Duration, error) { return e.skew(ctx) }

// Close waits until all calls under way have returned, and closes the database. Later calls return
// oauth.ErrUnavailable.
func (e *Engine) Close() error { return Fault("close", e.close()) }

// Decided reports whether a function that returned err has decided something, so that what it wrote must be committed:
// err is nil or a refusal.
func Decided(err error) bool {
	_, refused := oauth.AsRefusal(err)
	return err == nil || refused
}

// call runs fn and turns a panic into an error, because one request must not end those of everybody else.
func call(fn func(*Tx) error, tx *Tx) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("store: panic in a transaction: %v\n%s", r, debug.Stack())
		}
	}()
	return fn(tx)
}

// job is a function, or events, waiting for the goroutine that writes.
type job struct {
	fn     func(*Tx) error // nil: only events
	events []audit.Event
	taken  atomic.Bool // by the writer, or by a caller that gave up
	tx     *Tx
	err    error
	done   chan struct{}
}

// A queue has the jobs for the goroutine that writes.
type queue struct {
	gate    sync.RWMutex // held for reading while a job is put in
	closed  bool
	jobs    chan *job
	drained chan struct{} // closed when the last job is done
	tally
}

func newQueue() *queue { return &queue{jobs: make(chan *job, maxBatch), drained: make(chan struct{})} }

var errClosed = fmt.Errorf("store: the database is closed: %w", oauth.ErrUnavailable)

// put puts a job in, and waits while the queue is full. It returns an error if ctx ends before, or the queue is closed.
func (q *queue) put(ctx context.Context, j *job) error {
	q.gate.RLock()
	defer q.gate.RUnlock()
	if q.closed {
		return errClosed
	}
	q.waiting.Add(1)
	select {
	case q.jobs <- j:
		return nil
	case <-ctx.Done():
		q.waiting.Add(-1)
		return Fault("wait", ctx.Err())
	}
}

// append puts events in, even if ctx has ended, and waits until they are written or ctx ends.
func (q *queue) append(ctx context.Context, events []audit.Event) error {
	j := &job{events: events, done: make(chan struct{})}
	if err := q.put(context.WithoutCancel(ctx), j); err != nil {
		return err
	}
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
		return Fault("wait", ctx.Err())
	}
}

// shut lets no more jobs in and waits until the last one is done. It reports whether the queue was closed before.
func (q *queue) shut() (already bool) {
	q.gate.Lock()
	already = q.closed
	q.closed = true
	if !already {
		close(q.jobs)
	}
	q.gate.Unlock()
	<-q.drained
	return already
}

// gather appends first and the jobs that wait behind it to batch, at most maxBatch in all.
func gather(jobs <-chan *job, first *job, batch []*job) []*job {
	batch = append(batch, first)
	for len(batch) < maxBatch {
		select {
		case j, ok := <-jobs:
			if !ok {
				return batch
			}
			batch = append(batch, j)
		default:
			return batch
		}
	}
	return batch
}
