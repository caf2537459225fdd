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

// Kind is a kind of things that processes remember, with a version in the
// database that rises when one of them changes.
type Kind string

// The kinds. Creating a client is no change of Clients: nobody remembers that
// there was none.
const (
	Clients   Kind = "clients"
	Keys      Kind = "keys"
	Resources Kind = "resources"
)

const (
	askEvery    = 100 * time.Millisecond // how long the versions are believed
	believeUpTo = 500 * time.Millisecond // after so long everybody waits for the answer, not one caller alone
	waitAtMost  = time.Second            // for the answer; then what is in memory is good
	giveUpAfter = 5 * time.Second        // asking
	heardAfter  = askEvery + askEvery/2  // everybody whom the database answers, an answer under way included
)

// versions are what this process knows of the versions in the database.
type versions struct {
	db *DB

	mu      sync.Mutex
	known   map[Kind]int64
	raised  time.Time     // when this process last changed something
	askedAt time.Time     // when the last answer was asked for
	triedAt time.Time     // when the last question was
	asking  chan struct{} // closed with the answer; nil: nobody asks
	silent  bool          // the last question was not answered
	stopped bool
	asked   sync.WaitGroup
}

func newVersions(db *DB) *versions {
	return &versions{db: db, known: make(map[Kind]int64)}
}

// current returns the newest known version of kind and whether the database
// answers. It asks the database when it was last asked more than askEvery ago, on
// the machine's own clock: a test's clock that stands still must not keep others
// from being heard.
func (v *versions) current(ctx context.Context, kind Kind) (version int64, answers bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	if now.Sub(v.askedAt) < askEvery || v.stopped {
		return v.known[kind], true
	}
	first := v.asking == nil && now.Sub(v.triedAt) >= askEvery
	idle := first && now.Sub(v.triedAt) >= believeUpTo // nobody has tried for long: silence is old news too
	if first {
		v.triedAt, v.asking = now, make(chan struct{})
		v.asked.Add(1)
		go v.ask(now, v.asking)
	}
	old := first || now.Sub(v.askedAt) >= believeUpTo
	if wait := v.asking; wait != nil && (idle || old && !v.silent) {
		v.mu.Unlock()
		patience := time.NewTimer(waitAtMost)
		select {
		case <-wait:
		case <-ctx.Done():
		case <-patience.C:
		}
		patience.Stop()
		v.mu.Lock()
		if v.asking == wait && ctx.Err() == nil { // nobody else shall wait in vain
			v.setSilent(true, context.DeadlineExceeded)
		}
	}
	return v.known[kind], !v.silent
}

// ask reads the versions.
func (v *versions) ask(began time.Time, answered chan struct{}) {
	defer v.asked.Done()
	ctx, cancel := context.WithTimeout(context.Background(), giveUpAfter)
	defer cancel()
	found := make(map[Kind]int64)
	err := v.db.View(ctx, func(tx *Tx) error {
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

// setSilent notes whether the database answers, and logs it when that changed.
func (v *versions) setSilent(silent bool, err error) {
	switch {
	case v.stopped:
	case silent && !v.silent:
		v.db.log.Warn("the database does not answer: what is in memory is used on", "error", err)
	case !silent && v.silent:
		v.db.log.Info("the database answers again")
	}
	v.silent = silent
}

// raise notes a version that this process has committed.
func (v *versions) raise(kind Kind, version int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.known[kind] = max(v.known[kind], version)
	v.raised = time.Now()
}

// AwaitOthers returns when other processes on the same database have heard of what
// this one changed: after 150 ms at most, and at once if it changed nothing that
// is remembered.
func (db *DB) AwaitOthers() {
	db.versions.mu.Lock()
	raised := db.versions.raised
	db.versions.mu.Unlock()
	time.Sleep(heardAfter - time.Since(raised))
}

// stop ends asking and waits for a question under way.
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

// Cached is a value made of the things of one kind, kept in memory until one of
// them changes. Make it with NewCached; it is safe for concurrent use.
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

// NewCached returns a Cached that load makes the value of, when it is first asked
// for and after each change of kind. load reads in a View.
func NewCached[T any](db *DB, kind Kind, load func(*Tx) (T, error)) *Cached[T] {
	return &Cached[T]{db: db, kind: kind, read: load, loading: make(chan struct{}, 1)}
}

// Load returns the value from memory, or makes it anew when something of its kind
// changed. A change is seen at once if this process made it, else within a
// second. While the database does not answer, the value in memory is good; the
// error is that of the first loading, of a load function that fails, or of ctx.
// The value is shared.
func (c *Cached[T]) Load(ctx context.Context) (T, error) {
	version, answers := c.db.versions.current(ctx, c.kind)
	old := c.value.Load()
	if old != nil && (old.version >= version || !answers) {
		return old.value, nil
	}
	var none T
	select {
	case c.loading <- struct{}{}:
		defer func() { <-c.loading }()
	case <-ctx.Done():
		return none, engine.Fault("wait", ctx.Err())
	}
	if old = c.value.Load(); old != nil && old.version >= version {
		return old.value, nil
	}
	fresh := new(versioned[T])
	err := c.db.View(ctx, func(tx *Tx) (err error) {
		// The version first: what changes after it was read is loaded once more.
		if fresh.version, err = tx.readVersion(c.kind); err == nil {
			fresh.value, err = c.read(tx)
		}
		return err
	})
	switch {
	case err == nil:
		c.value.Store(fresh)
		return fresh.value, nil
	case old != nil && errors.Is(err, oauth.ErrUnavailable):
		return old.value, nil
	}
	return none, err
}

// maxClients bounds the clients in memory.
const maxClients = 10_000

// clientCache holds the clients that were used last.
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
	if old != nil && (old.version >= version || !answers) {
		return old.value, nil
	}
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
	case old != nil && errors.Is(err, oauth.ErrUnavailable):
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
