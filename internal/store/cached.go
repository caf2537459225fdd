package store

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store/engine"
)

// Kind is a kind of records that processes keep in memory. Its version in the database rises if one of them changes.
type Kind string

// The kinds. Creating a client does not raise the version of Clients, because processes do not remember that a client
// does not exist.
const (
	Clients   Kind = "clients"
	Keys      Kind = "keys"
	Resources Kind = "resources"
	Statuses  Kind = "status"
)

const (
	askEvery    = 100 * time.Millisecond // how long the versions are valid
	believeUpTo = 500 * time.Millisecond // after which all callers wait for the answer, and not only one
	waitAtMost  = time.Second            // for the answer, unless the DSN gives a connection longer
	giveUpAfter = 5 * time.Second        // asking, unless the answer is waited for longer
	heardAfter  = askEvery + askEvery/2  // every process that the database answers, including an answer under way
)

// versions holds what this process knows of the versions in the database.
type versions struct {
	db *DB

	mu      sync.Mutex
	known   map[Kind]int64
	raised  time.Time     // when this process last changed something
	askedAt time.Time     // when the last answered query was sent
	triedAt time.Time     // when the last query was sent
	asking  chan struct{} // closed with the answer; nil: no query is under way
	silent  bool          // the last query was not answered
	stopped bool
	asked   sync.WaitGroup
	heardAt atomic.Int64 // when the database last answered anything, in Unix nanoseconds
}

func newVersions(db *DB) *versions {
	return &versions{db: db, known: make(map[Kind]int64)}
}

// current returns the newest known version of kind and whether the database answers. It queries the database if it last
// did so more than askEvery ago. It uses the machine's clock, because a test's clock that stands still must not hide
// the changes of other processes.
func (v *versions) current(ctx context.Context, kind Kind) (version int64, answers bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	if now.Sub(v.askedAt) < askEvery || v.stopped {
		return v.known[kind], true
	}
	first := v.asking == nil && now.Sub(v.triedAt) >= askEvery
	idle := first && now.Sub(v.triedAt) >= believeUpTo // no recent query: what is known of the database is old, too
	if first {
		v.triedAt, v.asking = now, make(chan struct{})
		v.asked.Add(1)
		go v.ask(now, v.asking)
	}
	old := first || now.Sub(v.askedAt) >= believeUpTo
	if wait := v.asking; wait != nil && (idle || old && !v.silent) {
		v.mu.Unlock()
		patience := time.NewTimer(v.patience())
		select {
		case <-wait:
		case <-ctx.Done():
		case <-patience.C:
		}
		patience.Stop()
		v.mu.Lock()
		// A database that answers others meanwhile is slow, not silent. If it is silent, no other caller should wait in
		// vain.
		if v.asking == wait && ctx.Err() == nil && time.Since(time.Unix(0, v.heardAt.Load())) >= v.patience() {
			v.setSilent(true, context.DeadlineExceeded)
		}
	}
	return v.known[kind], !v.silent
}

// patience is how long the database may take to answer. After that it counts as silent, and what is in memory is used.
func (v *versions) patience() time.Duration { return max(waitAtMost, v.db.engine.Patience()) }

// ask queries the versions.
func (v *versions) ask(began time.Time, answered chan struct{}) {
	defer v.asked.Done()
	ctx, cancel := context.WithTimeout(context.Background(), max(giveUpAfter, v.patience()))
	defer cancel()
	found := make(map[Kind]int64)
	err := v.db.look(ctx, func(tx *Tx) error {
		return tx.rows("SELECT kind, version FROM versions", nil, func(scan func(...any) error) error {
			var kind Kind
			var version int64
			err := scan(&kind, &version)
			found[kind] = version
			return err
		})
	})
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.setSilent(err != nil, err); err == nil {
		v.askedAt = began
		for kind, version := range found {
			v.known[kind] = max(v.known[kind], version)
		}
	}
	v.asking = nil
	close(answered)
}

// heard records that the database answered, unless err, of asking it something, is a fault.
func (v *versions) heard(err error) {
	if engine.Decided(err) {
		v.heardAt.Store(time.Now().UnixNano())
	}
}

// setSilent records whether the database answers, and logs a change.
func (v *versions) setSilent(silent bool, err error) {
	switch {
	case v.stopped:
	case silent && !v.silent:
		v.db.log.Warn("the database does not answer: continuing with what is in memory", "error", err)
	case !silent && v.silent:
		v.db.log.Info("the database answers again")
	}
	v.silent = silent
}

// quickly returns a context for work that others wait for. If the database did not answer lately, it ends soon. On
// SQLite it ends when the work must have begun, because what has begun ignores it.
func (v *versions) quickly(ctx context.Context) (context.Context, context.CancelFunc) {
	patience := v.db.engine.Patience()
	if patience == 0 {
		if v.db.begin == 0 {
			return ctx, func() {}
		}
		return context.WithTimeout(ctx, v.db.begin)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.silent {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, patience)
}

// attend runs a read. It gives the read up if it takes long and the database turns out not to answer, because a frozen
// PostgreSQL takes questions and answers none.
func (v *versions) attend(ctx context.Context, read func(context.Context) error) error {
	if v.db.engine.Patience() == 0 {
		return read(ctx)
	}
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	var look func()
	look = func() {
		if _, answers := v.current(ctx, Clients); !answers {
			giveUp(context.DeadlineExceeded)
		} else if ctx.Err() == nil {
			time.AfterFunc(waitAtMost, look)
		}
	}
	late := time.AfterFunc(waitAtMost, look)
	defer late.Stop()
	err := read(ctx)
	if errors.Is(err, context.Canceled) && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return engine.Fault("wait", context.DeadlineExceeded)
	}
	return err
}

// Answers reports whether the database answered when it was last asked.
func (db *DB) Answers() bool {
	db.versions.mu.Lock()
	defer db.versions.mu.Unlock()
	return !db.versions.silent
}

// Version returns the newest version of kind, at most a tenth of a second old while the database answers, and whether
// it does. It may wait up to a second for the answer.
func (db *DB) Version(ctx context.Context, kind Kind) (version int64, answers bool) {
	return db.versions.current(ctx, kind)
}

// raise records a version that this process has committed.
func (v *versions) raise(kind Kind, version int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.known[kind] = max(v.known[kind], version)
	v.raised = time.Now()
}

// AwaitOthers returns when other processes on the same database have seen the changes of this one: after at most 150
// ms, and at once if it changed nothing that they keep in memory.
func (db *DB) AwaitOthers() {
	db.versions.mu.Lock()
	raised := db.versions.raised
	db.versions.mu.Unlock()
	time.Sleep(heardAfter - time.Since(raised))
}

// stop prevents further queries and waits for one under way.
func (v *versions) stop() {
	v.mu.Lock()
	v.stopped = true
	v.mu.Unlock()
	v.asked.Wait()
}

// readVersion returns the version of kind in the database.
func (tx *Tx) readVersion(kind Kind) (version int64, err error) {
	err = tx.row("SELECT version FROM versions WHERE kind = $1", args{string(kind)}, &version)
	return version, err
}

// Cached is a value made from the records of one kind and kept in memory until one of them changes. Make it with
// NewCached. It is safe for concurrent use.
type Cached[T any] struct {
	db      *DB
	kind    Kind
	read    func(*Tx) (T, error)
	loading chan struct{} // holds one token: one caller loads
	value   atomic.Pointer[versioned[T]]
}

type versioned[T any] struct {
	value   T
	version int64
}

// NewCached returns a Cached whose value load makes, when it is first needed and after each change of kind. load runs
// in a View.
func NewCached[T any](db *DB, kind Kind, load func(*Tx) (T, error)) *Cached[T] {
	return &Cached[T]{db: db, kind: kind, read: load, loading: make(chan struct{}, 1)}
}

// Load returns the value from memory, or makes it again if a record of its kind has changed. A change is visible at
// once if this process made it, and otherwise within a second. While the database does not answer, Load returns the
// value in memory, after a second if that is known to be out of date. The error is that of the first load, of a load
// function that fails, or of ctx. The value is shared: do not change it.
func (c *Cached[T]) Load(ctx context.Context) (T, error) {
	version, answers := c.db.versions.current(ctx, c.kind)
	old := c.value.Load()
	if old != nil && old.version >= version {
		return old.value, nil
	}
	var none T
	silent := old != nil && !answers
	ctx, cancel := c.db.versions.loadWithin(ctx, silent)
	defer cancel()
	select {
	case c.loading <- struct{}{}:
		defer func() { <-c.loading }()
	case <-ctx.Done():
		if silent {
			return old.value, nil
		}
		return none, engine.Fault("wait", ctx.Err())
	}
	if old = c.value.Load(); old != nil && old.version >= version {
		return old.value, nil
	}
	fresh := new(versioned[T])
	err := c.db.View(ctx, func(tx *Tx) (err error) {
		// The version is read first, so that a change after that is loaded again.
		if fresh.version, err = tx.readVersion(c.kind); err == nil {
			fresh.value, err = c.read(tx)
		}
		return err
	})
	switch {
	case err == nil:
		c.value.Store(fresh)
		return fresh.value, nil
	case silent, old != nil && errors.Is(err, oauth.ErrUnavailable):
		return old.value, nil
	}
	return none, err
}

// loadWithin returns the context in which a value that is out of date is loaded. From a database that is silent it is
// tried for a second, because a client should rather wait than be refused by what has changed.
func (v *versions) loadWithin(ctx context.Context, silent bool) (context.Context, context.CancelFunc) {
	if !silent {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, v.patience())
}

// maxClients is the largest number of clients in memory.
const maxClients = 10_000

// clientCache holds the most recently used clients.
type clientCache struct {
	mu     sync.Mutex
	byID   map[string]*list.Element
	recent *list.List // of versioned[*oauth.Client], the last used in front
}

func newClientCache() *clientCache {
	return &clientCache{byID: make(map[string]*list.Element), recent: list.New()}
}

func (c *clientCache) load(ctx context.Context, db *DB, id string) (*oauth.Client, error) {
	version, answers := db.versions.current(ctx, Clients)
	old := c.find(id)
	if old != nil && old.version >= version {
		return old.value, nil
	}
	silent := old != nil && !answers
	ctx, cancel := db.versions.loadWithin(ctx, silent)
	defer cancel()
	fresh := new(versioned[*oauth.Client])
	err := db.View(ctx, func(tx *Tx) (err error) {
		if fresh.version, err = tx.readVersion(Clients); err == nil {
			fresh.value, err = tx.Client(id)
		}
		return err
	})
	switch {
	case err == nil:
		c.keep(fresh)
		return fresh.value, nil
	case errors.Is(err, ErrNotFound):
		c.forget(id)
	case silent, old != nil && errors.Is(err, oauth.ErrUnavailable):
		return old.value, nil
	}
	return nil, err
}

func (c *clientCache) find(id string) *versioned[*oauth.Client] {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.byID[id]
	if !ok {
		return nil
	}
	c.recent.MoveToFront(element)
	return element.Value.(*versioned[*oauth.Client])
}

func (c *clientCache) keep(fresh *versioned[*oauth.Client]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := fresh.value.ID
	if element, ok := c.byID[id]; ok {
		if element.Value.(*versioned[*oauth.Client]).version <= fresh.version {
			element.Value = fresh
		}
		return
	}
	c.byID[id] = c.recent.PushFront(fresh)
	for c.recent.Len() > maxClients {
		last := c.recent.Remove(c.recent.Back()).(*versioned[*oauth.Client])
		delete(c.byID, last.value.ID)
	}
}

func (c *clientCache) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, ok := c.byID[id]; ok {
		c.recent.Remove(element)
		delete(c.byID, id)
	}
}
