package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/pressly/goose/v3"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
)

const (
	maxBatch = 128 // functions in one commit
	readers  = 8   // connections that read
)

// sqlite is the engine on one file. One goroutine owns the only connection that
// writes; see commit.
type sqlite struct {
	db      *DB
	path    string
	writing *sql.DB
	reading *sql.DB
	writer  *conn
	idle    chan *conn // the connections that read; nil is one not opened yet

	gate    sync.RWMutex // held for reading while a job is put in the queue
	closed  bool
	closing chan struct{}
	jobs    chan *job
	drained chan struct{}
}

// job is a function, or events, that wait for the writer.
type job struct {
	ctx    context.Context
	fn     func(*Tx) error // nil: events alone
	events []audit.Event
	taken  atomic.Bool // by the writer, or by a caller who left
	tx     *Tx
	err    error
	done   chan struct{}
}

func openSQLite(ctx context.Context, db *DB, path string) (*sqlite, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("store: the directory of the database cannot be made: %w", err)
	}
	// SQLite gives its -wal and -shm the mode of the database, so making that for
	// the owner alone is enough whatever the umask is.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // #nosec G304 -- the operator's path
	if err == nil {
		err = errors.Join(file.Chmod(0o600), file.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("store: the database file cannot be opened for writing: %w", err)
	}
	s := &sqlite{db: db, path: path, jobs: make(chan *job, maxBatch), closing: make(chan struct{}), drained: make(chan struct{}), idle: make(chan *conn, readers)}
	for range readers {
		s.idle <- nil
	}
	if s.writing, err = s.handle("synchronous(FULL)"); err != nil {
		return nil, fault("open", err)
	}
	if s.reading, err = s.handle("query_only(1)"); err != nil {
		return nil, errors.Join(fault("open", err), s.writing.Close())
	}
	if s.writer, err = newConn(ctx, s.writing); err != nil {
		return nil, errors.Join(fmt.Errorf("store: %s is no database that can be used: %w", path, err), s.writing.Close(), s.reading.Close())
	}
	go s.write()
	return s, nil
}

// handle opens a handle whose connections wait for other processes (a command
// beside the server), look after foreign keys, and obey pragma.
func (s *sqlite) handle(pragma string) (*sql.DB, error) {
	parameters := url.Values{"_txlock": {"immediate"}, "_pragma": {"busy_timeout(10000)", "foreign_keys(1)", "journal_mode(WAL)", pragma}}
	uri := url.URL{Scheme: "file", OmitHost: true, Path: s.path, RawQuery: parameters.Encode()}
	if !filepath.IsAbs(s.path) {
		uri.Path, uri.Opaque = "", (&url.URL{Path: s.path}).EscapedPath()
	}
	return sql.Open("sqlite", uri.String())
}

func (s *sqlite) migrations() migrations {
	return migrations{
		dialect: goose.DialectSQLite3,
		open:    func() (*sql.DB, error) { return s.handle("synchronous(FULL)") },
		exists:  "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '" + versionTable + "'",
	}
}

func (s *sqlite) update(ctx context.Context, fn func(*Tx) error) error {
	j := &job{ctx: ctx, fn: fn, done: make(chan struct{})}
	if err := s.queue(ctx, j); err != nil {
		return err
	}
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
		if j.taken.CompareAndSwap(false, true) {
			return fault("wait", ctx.Err())
		}
		<-j.done // fn runs, and uses what belongs to the caller
		return j.err
	}
}

func (s *sqlite) append(ctx context.Context, events []audit.Event) error {
	j := &job{ctx: ctx, events: events, done: make(chan struct{})}
	if err := s.queue(context.WithoutCancel(ctx), j); err != nil {
		return err
	}
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
		return fault("wait", ctx.Err())
	}
}

func (s *sqlite) queue(ctx context.Context, j *job) error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.closed {
		return errClosed
	}
	select {
	case s.jobs <- j:
		return nil
	case <-ctx.Done():
		return fault("wait", ctx.Err())
	}
}

var errClosed = fmt.Errorf("store: the database is closed: %w", oauth.ErrUnavailable)

// write is the writer: it takes what waits, up to maxBatch, and commits it
// together, until the queue is closed and empty.
func (s *sqlite) write() {
	var batch []*job
	finished := false
	defer func() {
		if finished {
			close(s.drained)
			return
		}
		// A function ended the goroutine (runtime.Goexit, as a failing test does).
		// Another takes over, so that only this batch is lost.
		s.rollBack()
		go s.write()
		s.abandon(batch)
	}()
	for first := range s.jobs {
		batch = append(batch[:0], first)
		runtime.Gosched() // those who are just about to ask come along: fewer commits, each for more
		for more := true; more && len(batch) < maxBatch; {
			select {
			case j, ok := <-s.jobs:
				if more = ok; ok {
					batch = append(batch, j)
				}
			default:
				more = false
			}
		}
		s.commit(batch)
		for _, j := range batch {
			close(j.done)
		}
	}
	finished = true
}

// commit runs the functions of a batch one after another in one transaction and
// commits it: one fsync for all. Each has a savepoint, to which a fault rolls
// back, so the others do not notice; one alone needs none, and events alone
// cannot fail alone. If the transaction itself fails, everybody hears of it.
func (s *sqlite) commit(batch []*job) {
	if err := s.writer.run("BEGIN IMMEDIATE"); err != nil {
		s.fail(batch, fault("begin", err))
		return
	}
	var events []audit.Event
	var kept []*Tx
	for _, j := range batch {
		switch {
		case j.fn == nil:
			events = append(events, j.events...)
		case !j.taken.CompareAndSwap(false, true): // the caller has left
		case len(batch) == 1:
			if j.run(s); !decided(j.err) {
				s.rollBack()
				return
			}
			kept, events = append(kept, j.tx), append(events, j.tx.events...)
		default:
			keep, err := s.savepoint(j)
			if err != nil {
				s.rollBack()
				s.fail(batch, err)
				return
			}
			if keep {
				kept, events = append(kept, j.tx), append(events, j.tx.events...)
			}
		}
	}
	last := &Tx{db: s.db, on: s.writer, io: context.Background()}
	err := last.insertEvents(events)
	if err == nil {
		failpoint("before-commit")
		err = fault("commit", s.writer.run("COMMIT"))
	}
	if err != nil {
		s.rollBack()
		s.fail(batch, err)
		return
	}
	failpoint("after-commit-before-answer")
	for _, tx := range kept {
		tx.committed()
	}
}

// run runs the job's function and what it leaves for its end.
func (j *job) run(s *sqlite) {
	j.tx = &Tx{db: s.db, on: s.writer, ctx: j.ctx, io: context.Background(), now: s.db.Now()}
	if j.err = call(j.fn, j.tx); decided(j.err) {
		if err := j.tx.settle(); err != nil {
			j.err = err
		}
	}
}

// savepoint runs a job so that only it is undone if it fails. keep tells that it
// is to be committed; an error ends the whole transaction.
func (s *sqlite) savepoint(j *job) (keep bool, err error) {
	if err := s.writer.run("SAVEPOINT job"); err != nil {
		return false, fault("savepoint", err)
	}
	j.run(s)
	keep = decided(j.err)
	if !keep {
		if err := s.writer.run("ROLLBACK TO job"); err != nil {
			return false, fault("roll back", err)
		}
	}
	return keep, fault("release", s.writer.run("RELEASE job"))
}

// fail gives err to all of a batch, but for those that had a fault of their own.
func (s *sqlite) fail(batch []*job, err error) {
	for _, j := range batch {
		if decided(j.err) {
			j.err = err
		}
	}
}

// rollBack ends a transaction that is not to be committed. SQLite may have ended
// it already, when the disk was full; then the error says nothing new.
func (s *sqlite) rollBack() { _ = s.writer.run("ROLLBACK") }

// abandon answers a batch that was cut short.
func (s *sqlite) abandon(batch []*job) {
	s.fail(batch, errors.New("store: the transaction was cut short: a function in it ended its goroutine"))
	for _, j := range batch {
		close(j.done)
	}
}

func (s *sqlite) view(ctx context.Context, fn func(*Tx) error) (err error) {
	var c *conn
	select {
	case c = <-s.idle:
	case <-s.closing:
		return errClosed
	case <-ctx.Done():
		return fault("wait", ctx.Err())
	}
	defer func() { s.idle <- c }()
	if c == nil {
		if c, err = newConn(ctx, s.reading); err != nil {
			c = nil
			return fault("open", err)
		}
	}
	if err := c.run("BEGIN"); err != nil {
		return fault("begin", err)
	}
	defer func() { _ = c.run("ROLLBACK") }() // nothing was written
	return call(fn, &Tx{db: s.db, on: c, ctx: ctx, io: context.Background(), now: s.db.Now(), readOnly: true})
}

func (s *sqlite) close() error {
	s.gate.Lock()
	already := s.closed
	s.closed = true
	if !already {
		close(s.closing)
		close(s.jobs)
	}
	s.gate.Unlock()
	<-s.drained
	if already {
		return nil
	}
	var errs []error
	for range readers { // each that is lent comes back first
		if c := <-s.idle; c != nil {
			errs = append(errs, c.close())
		}
	}
	return errors.Join(append(errs, s.writer.close(), s.reading.Close(), s.writing.Close())...)
}

// conn is a connection with the statements it has prepared. It is used by one
// goroutine at a time. The SQL of this package is a fixed set of texts, so the
// statements are few.
type conn struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

func newConn(ctx context.Context, handle *sql.DB) (*conn, error) {
	c, err := handle.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{conn: c, stmts: make(map[string]*sql.Stmt)}, nil
}

func (c *conn) prepare(query string) (*sql.Stmt, error) {
	if stmt, ok := c.stmts[query]; ok {
		return stmt, nil
	}
	stmt, err := c.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	c.stmts[query] = stmt
	return stmt, nil
}

// ExecContext runs a statement.
func (c *conn) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	stmt, err := c.prepare(query)
	if err != nil {
		return nil, err
	}
	return stmt.ExecContext(ctx, args...)
}

// QueryContext runs a statement that answers with rows.
func (c *conn) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	stmt, err := c.prepare(query)
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(ctx, args...)
}

// run runs a statement that has no parameters.
func (c *conn) run(query string) error {
	_, err := c.ExecContext(context.Background(), query)
	return err
}

func (c *conn) close() error {
	errs := make([]error, 0, len(c.stmts)+1)
	for _, stmt := range c.stmts {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(append(errs, c.conn.Close())...)
}
