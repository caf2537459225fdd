package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3"

	"github.com/cardea-auth/cardea/internal/audit"
)

const (
	maxConns       = 20
	connectTimeout = 2 * time.Second        // unless the DSN says otherwise
	answerWithin   = 10 * time.Second       // longest time of a transaction; a slower database counts as unavailable
	beginWithin    = 2 * time.Second        // longest time until it begins, unless the DSN gives a connection longer
	silentAfter    = 800 * time.Millisecond // the same while the database is silent, so that 503 comes within 2 s
)

// postgres is the driver of PostgreSQL. Transactions run side by side at READ COMMITTED; one goroutine, write, writes
// the events that belong to no transaction.
type postgres struct {
	config  Config
	through *connector
	pool    *sql.DB

	*queue
	begin   time.Duration // longest time until a transaction begins, or until an event is written
	silence time.Duration // what patience returns
	running sync.WaitGroup
}

func openPostgres(config Config, dsn string) (*postgres, error) {
	connect, err := pgx.ParseConfig(dsn)
	if file := (*fs.PathError)(nil); errors.As(err, &file) {
		return nil, fmt.Errorf("database: a file that the URL names cannot be read; correct its path: %w", file)
	}
	if err != nil { // the error contains the DSN, which may hold a password
		return nil, errors.New("database: PostgreSQL does not understand the URL; write it like " +
			"postgres://USER:PASSWORD@HOST:PORT/NAME?sslmode=verify-full, and escape special characters of the " +
			"password with %")
	}
	begin, silence := max(beginWithin, connect.ConnectTimeout), max(silentAfter, connect.ConnectTimeout)
	if connect.ConnectTimeout == 0 {
		connect.ConnectTimeout = connectTimeout
	}
	if connect.RuntimeParams["application_name"] == "" {
		connect.RuntimeParams["application_name"] = "cardea"
	}
	through := newConnector(*connect)
	p := &postgres{config: config, through: through, pool: sql.OpenDB(through), queue: newQueue(),
		begin: begin, silence: silence}
	p.pool.SetMaxOpenConns(maxConns)
	p.pool.SetMaxIdleConns(maxConns)
	p.pool.SetConnMaxIdleTime(5 * time.Minute)
	go p.write()
	return p, nil
}

func (p *postgres) migrations() migrations {
	return migrations{
		dialect:   goose.DialectPostgres,
		open:      func() (*sql.DB, error) { return sql.OpenDB(p.through), nil },
		exists:    "SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = '" + versionTable + "'",
		supported: supportedVersion,
		lock:      lockMigrations,
	}
}

const oldest = 14 // major version of PostgreSQL

// released matches the version of PostgreSQL itself. Databases compatible with it count their versions differently.
var released = regexp.MustCompile(`^PostgreSQL (\d+)[.\d]*[ ,]`)

// supportedVersion returns an error if PostgreSQL is older than oldest.
func supportedVersion(tx *Tx) error {
	version := ""
	if err := tx.Query("SELECT version()", nil,
		func(scan func(...any) error) error { return scan(&version) }); err != nil {
		return err
	}
	found := released.FindStringSubmatch(version)
	if found == nil {
		return nil
	}
	if major, err := strconv.Atoi(found[1]); err == nil && major < oldest {
		return fmt.Errorf("database: PostgreSQL there is version %d, and Cardea needs %d or newer; upgrade it", major,
			oldest)
	}
	return nil
}

const (
	migrationLock = 0x63617264656100 // the advisory lock of the process that migrates
	askAgain      = 100 * time.Millisecond
	askUpTo       = 2 * time.Minute
)

// lockMigrations waits until no other process migrates, and keeps others from migrating until release is called. The
// lock belongs to a transaction, because behind a pooler each transaction may run in another session. A process that
// waits holds no connection meanwhile, because the one that migrates needs two of the pooler's.
func lockMigrations(ctx context.Context, handle *sql.DB) (release func(), err error) {
	for began := time.Now(); ; {
		tx, err := handle.BeginTx(ctx, nil)
		if err != nil {
			return nil, err
		}
		var locked bool
		err = tx.QueryRowContext(ctx, "SELECT pg_try_advisory_xact_lock($1)", int64(migrationLock)).Scan(&locked)
		if err == nil && locked {
			return func() { _ = tx.Rollback() }, nil // it holds the lock and nothing else
		}
		if err = errors.Join(err, tx.Rollback()); err != nil {
			return nil, err
		}
		if time.Since(began) > askUpTo {
			return nil, fmt.Errorf("another process has been migrating for %s: check whether it is still running",
				askUpTo)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(askAgain):
		}
	}
}

func (p *postgres) update(ctx context.Context, fn func(*Tx) error) error {
	if err := p.enter(); err != nil {
		return err
	}
	defer p.running.Done()
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	began := time.Now()
	p.waiting.Add(1)
	late := time.AfterFunc(p.begin, cancel)
	on, err := p.pool.BeginTx(ctx, nil)
	if err == nil {
		defer func() { _ = on.Rollback() }() // does nothing after the commit
	}
	p.waiting.Add(-1)
	if !late.Stop() {
		err = context.DeadlineExceeded
	}
	if err != nil {
		p.done(0, began, err)
		return Fault("begin", err)
	}
	tx := &Tx{Now: p.config.Now(), trace: p.config.Trace, on: on, io: ctx}
	err = call(fn, tx)
	if !Decided(err) {
		return err
	}
	if len(tx.events) > 0 {
		if err := p.config.Insert(tx, tx.events); err != nil {
			return err
		}
	}
	failpoint("before-commit")
	if err := on.Commit(); err != nil {
		p.done(0, began, err)
		return Fault("commit", err)
	}
	p.recorded(began, 1, tx.events)
	failpoint("after-commit-before-answer")
	if tx.Committed != nil {
		tx.Committed()
	}
	return err
}

// view does not begin a transaction, because at READ COMMITTED that would make no difference to fn and cost two more
// round trips.
func (p *postgres) view(ctx context.Context, fn func(*Tx) error) error {
	if err := p.enter(); err != nil {
		return err
	}
	defer p.running.Done()
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	return call(fn, &Tx{Now: p.config.Now(), trace: p.config.Trace, on: p.pool, io: ctx, readOnly: true})
}

// append waits no longer than until a transaction has to begin for events to be written.
func (p *postgres) append(ctx context.Context, events []audit.Event) error {
	ctx, cancel := context.WithTimeout(ctx, p.begin)
	defer cancel()
	return p.queue.append(ctx, events)
}

func (p *postgres) unlogged() bool { return false }

func (p *postgres) keepLog() {}

func (p *postgres) checkpoint(context.Context) error { return nil }

func (p *postgres) patience() time.Duration { return p.silence }

func (p *postgres) room() (free uint64, known bool) { return 0, false }

func (p *postgres) skew(ctx context.Context) (skew time.Duration, err error) {
	began := time.Now()
	var there int64
	err = p.view(ctx, func(tx *Tx) error {
		return tx.Query("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)", nil,
			func(scan func(...any) error) error { return scan(&there) })
	})
	ended := time.Now()
	return time.UnixMicro(there).Sub(began.Add(ended.Sub(began) / 2)), err
}

// enter counts one more running function, or returns an error if the database is closed.
func (p *postgres) enter() error {
	p.gate.RLock()
	defer p.gate.RUnlock()
	if p.closed {
		return errClosed
	}
	p.running.Add(1)
	return nil
}

// write writes the waiting events, up to maxBatch jobs at once, until the queue is closed and empty.
func (p *postgres) write() {
	defer close(p.drained)
	for first := range p.jobs {
		batch := gather(p.jobs, first, nil)
		var events []audit.Event
		for _, j := range batch {
			events = append(events, j.events...)
		}
		began := time.Now()
		p.waiting.Add(-int64(len(batch)))
		err := p.insert(events)
		if err != nil {
			p.done(0, began, err)
		} else {
			p.recorded(began, len(batch), events)
		}
		for _, j := range batch {
			j.err = err
			close(j.done)
		}
	}
}

// recorded counts a transaction that was committed, and tells of its events.
func (p *postgres) recorded(began time.Time, functions int, events []audit.Event) {
	p.done(functions, began, nil)
	if p.config.Recorded != nil && len(events) > 0 {
		p.config.Recorded(events)
	}
}

// insert writes events that belong to no transaction: all or none.
func (p *postgres) insert(events []audit.Event) error {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	if len(events) <= p.config.AtOnce { // one statement is a transaction
		return p.config.Insert(&Tx{Now: p.config.Now(), trace: p.config.Trace, on: p.pool, io: ctx}, events)
	}
	on, err := p.pool.BeginTx(ctx, nil)
	if err != nil {
		return Fault("begin", err)
	}
	defer func() { _ = on.Rollback() }() // does nothing after the commit
	if err := p.config.Insert(&Tx{Now: p.config.Now(), trace: p.config.Trace, on: on, io: ctx}, events); err != nil {
		return err
	}
	return Fault("commit", on.Commit())
}

func (p *postgres) close() error {
	p.shut()
	p.running.Wait()
	if err := p.pool.Close(); err != nil {
		return fmt.Errorf("pool: %w", err)
	}
	return nil
}
