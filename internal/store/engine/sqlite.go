package engine

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/pressly/goose/v3"
	modernc "modernc.org/sqlite"

	"github.com/cardea-auth/cardea/internal/audit"
)

const (
	maxBatch = 128 // functions in one commit
	readers  = 8   // connections that read
)

// sqlite is the driver of one file. One goroutine, write, owns the only connection that writes.
type sqlite struct {
	config  Config
	path    string
	noLog   bool        // there was no write-ahead log before
	keep    atomic.Bool // leaves the write-ahead log at the end
	writing *sql.DB
	reading *sql.DB
	writer  *conn
	idle    chan *conn // the connections that read; nil is one not opened yet

	*queue
	closing chan struct{} // closed when no view may begin any more
}

func openSQLite(ctx context.Context, config Config, path string) (*sqlite, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, Fault("create the folder of the database", &fileError{path, err})
	}
	// SQLite gives its -wal and -shm files the mode of the database, so it is enough to create the database with access
	// for its owner only, with any umask.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // #nosec G304 -- the operator's path
	if err == nil {
		err = errors.Join(file.Chmod(0o600), file.Close())
	}
	if err != nil {
		return nil, Fault("open", &fileError{path, err})
	}
	s := &sqlite{config: config, path: path, noLog: !hasLog(path), queue: newQueue(), closing: make(chan struct{}),
		idle: make(chan *conn, readers)}
	for range readers {
		s.idle <- nil
	}
	// What a savepoint may have to undo is a page or so of each index, and stays in memory. The log grows to 16 MB
	// before it is copied into the file, because most transactions change the same pages, the last ones of each index.
	if s.writing, err = s.handle("synchronous(FULL)", "temp_store(MEMORY)", "wal_autocheckpoint(4000)"); err != nil {
		return nil, Fault("open", err)
	}
	if s.reading, err = s.handle("query_only(1)"); err != nil {
		return nil, errors.Join(Fault("open", err), s.writing.Close())
	}
	if s.writer, err = newConn(ctx, s.writing); err != nil {
		return nil, errors.Join(Fault("open", &fileError{path, err}), s.writing.Close(), s.reading.Close())
	}
	go s.write()
	return s, nil
}

// handle opens a handle whose connections wait for other processes (a command that runs beside the server), enforce
// foreign keys, and have pragmas set.
func (s *sqlite) handle(pragmas ...string) (*sql.DB, error) {
	busy := fmt.Sprintf("busy_timeout(%d)", cmp.Or(s.config.Begin, 10*time.Second).Milliseconds())
	parameters := []string{"_txlock", "immediate"}
	for _, p := range append([]string{busy, "foreign_keys(1)", "journal_mode(WAL)"}, pragmas...) {
		parameters = append(parameters, "_pragma", p)
	}
	return openFile(s.path, parameters...)
}

// openFile opens a handle of the file at path with the given parameters, names and values in turn.
func openFile(path string, parameters ...string) (*sql.DB, error) {
	return sql.Open("sqlite", fileURI(path, parameters...))
}

// fileURI returns the URI of the file at path with the given parameters, names and values in turn.
func fileURI(path string, parameters ...string) string {
	query := url.Values{}
	for i := 0; i+1 < len(parameters); i += 2 {
		query.Add(parameters[i], parameters[i+1])
	}
	uri := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: query.Encode()}
	if !filepath.IsAbs(path) {
		uri.Path, uri.Opaque = "", (&url.URL{Path: path}).EscapedPath()
	}
	return uri.String()
}

// sqliteExists is the SELECT that has a row if versionTable is there.
const sqliteExists = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '" + versionTable + "'"

func (s *sqlite) migrations() migrations {
	return migrations{
		dialect: goose.DialectSQLite3,
		open:    func() (*sql.DB, error) { return s.handle("synchronous(FULL)", "busy_timeout(60000)") },
		exists:  sqliteExists,
	}
}

func (s *sqlite) update(ctx context.Context, fn func(*Tx) error) error {
	j := &job{fn: fn, done: make(chan struct{})}
	if err := s.put(ctx, j); err != nil {
		return err
	}
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
		if j.taken.CompareAndSwap(false, true) {
			return Fault("wait", ctx.Err())
		}
		<-j.done // fn is running, and may use variables of the caller
		return j.err
	}
}

// write commits the waiting jobs, up to maxBatch at a time, until the queue is closed and empty.
func (s *sqlite) write() {
	var batch []*job
	finished := false
	defer func() {
		if finished {
			close(s.drained)
			return
		}
		// A function ended the goroutine (runtime.Goexit, as a failing test does). A new goroutine takes over, so that
		// only this batch is lost.
		s.rollBack()
		go s.write()
		s.abandon(batch)
	}()
	for first := range s.jobs {
		runtime.Gosched() // lets more callers join the batch: fewer commits, each for more of them
		batch = gather(s.jobs, first, batch[:0])
		s.commit(batch)
		for _, j := range batch {
			close(j.done)
		}
	}
	finished = true
}

// commit runs the functions of a batch one after another in one transaction and commits it: one fsync for all of them.
// Each has a savepoint, to which a fault rolls back, so that the others are not affected. A single function needs no
// savepoint. If the transaction itself fails, every job of the batch fails.
func (s *sqlite) commit(batch []*job) {
	began := time.Now()
	s.waiting.Add(-int64(len(batch)))
	if err := s.writer.run("BEGIN IMMEDIATE"); err != nil {
		s.fail(batch, Fault("begin", &fileError{s.path, err}))
		s.done(0, began, err)
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
			if j.run(s); !Decided(j.err) {
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
	var err error
	if len(events) > 0 {
		err = s.config.Insert(s.begun(), events)
	}
	if err == nil {
		failpoint("before-commit")
		err = Fault("commit", s.writer.run("COMMIT"))
	}
	if err != nil {
		s.rollBack()
		s.fail(batch, err)
		s.done(0, began, err)
		return
	}
	s.done(len(batch), began, nil)
	if s.config.Recorded != nil && len(events) > 0 {
		s.config.Recorded(events)
	}
	failpoint("after-commit-before-answer")
	for _, tx := range kept {
		if tx.Committed != nil {
			tx.Committed()
		}
	}
}

// begun returns a Tx in the transaction that the writer has begun.
func (s *sqlite) begun() *Tx {
	return &Tx{Now: s.config.Now(), trace: s.config.Trace, on: s.writer, io: context.Background()}
}

// run runs the job's function.
func (j *job) run(s *sqlite) {
	j.tx = s.begun()
	j.err = call(j.fn, j.tx)
}

// savepoint runs a job so that only this job is undone if it fails. keep reports whether to commit it. An
// error ends the whole transaction.
func (s *sqlite) savepoint(j *job) (keep bool, err error) {
	if err := s.writer.run("SAVEPOINT job"); err != nil {
		return false, Fault("savepoint", err)
	}
	j.run(s)
	keep = Decided(j.err)
	if !keep {
		if err := s.writer.run("ROLLBACK TO job"); err != nil {
			return false, Fault("roll back", err)
		}
	}
	return keep, Fault("release", s.writer.run("RELEASE job"))
}

// fail gives err to all jobs of a batch except those that had a fault of their own.
func (s *sqlite) fail(batch []*job, err error) {
	for _, j := range batch {
		if Decided(j.err) {
			j.err = err
		}
	}
}

// rollBack ends a transaction that is not to be committed. It ignores the error, because SQLite may have ended the
// transaction already, for example if the disk is full.
func (s *sqlite) rollBack() { _ = s.writer.run("ROLLBACK") }

// abandon fails a batch that was cut short.
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
		return Fault("wait", ctx.Err())
	}
	defer func() { s.idle <- c }()
	if c == nil {
		if c, err = newConn(ctx, s.reading); err != nil {
			c = nil
			return Fault("open", &fileError{s.path, err})
		}
	}
	if err := c.run("BEGIN"); err != nil {
		return Fault("begin", &fileError{s.path, err})
	}
	defer func() { _ = c.run("ROLLBACK") }() // nothing was written
	return call(fn, &Tx{Now: s.config.Now(), trace: s.config.Trace, on: c, io: context.Background(), readOnly: true})
}

// hasLog reports whether the SQLite file at path has a write-ahead log beside it. That of a link is beside its target.
func hasLog(path string) bool {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	_, err := os.Lstat(path + "-wal")
	return err == nil
}

// keepLog makes the connection leave the write-ahead log where it is, empty, if it is closed last.
func keepLog(c *sql.Conn) error {
	return c.Raw(func(raw any) error {
		file, ok := raw.(modernc.FileControl)
		if !ok {
			return fmt.Errorf("store: %T does not keep logs", raw)
		}
		_, err := file.FileControlPersistWAL("main", 1)
		return err
	})
}

func (s *sqlite) unlogged() bool { return s.noLog }

func (s *sqlite) keepLog() { s.keep.Store(!s.noLog) }

func (s *sqlite) checkpoint(ctx context.Context) (err error) {
	handle, err := s.handle()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, handle.Close()) }()
	_, err = handle.ExecContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)")
	return Fault("checkpoint", err)
}

func (s *sqlite) patience() time.Duration { return 0 }

func (s *sqlite) room() (free uint64, known bool) { return room(s.path) }

func (s *sqlite) skew(context.Context) (time.Duration, error) { return 0, nil }

func (s *sqlite) close() error {
	if s.shut() {
		return nil
	}
	close(s.closing)
	var errs []error
	if s.keep.Load() {
		errs = append(errs, keepLog(s.writer.conn))
	}
	for range readers { // waits for those in use
		if c := <-s.idle; c != nil {
			errs = append(errs, c.close())
		}
	}
	return errors.Join(append(errs, s.writer.close(), s.reading.Close(), s.writing.Close())...)
}

// conn is a connection with the statements that it has prepared. One goroutine uses it at a time. The SQL of package
// store is a fixed set of texts, so there are few statements.
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

// QueryContext runs a statement that returns rows.
func (c *conn) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	stmt, err := c.prepare(query)
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(ctx, args...)
}

// run runs a statement without parameters.
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
