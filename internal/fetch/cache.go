package fetch

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"
)

// restAfterFailure is how long a host that failed is left alone while there is an
// older value to use.
const restAfterFailure = 30 * time.Second

// Cache keeps what was made of the documents that were used last. Make it with
// NewCache; it is safe for concurrent use.
type Cache[T any] struct {
	client *Client
	kind   Kind
	most   int
	check  func(url string, d *Document) (T, error)

	mu       sync.Mutex
	entries  map[string]*list.Element
	recent   *list.List           // of *entry[T], the last used in front
	underWay map[string]*fetch[T] // at most one for each URL
}

// An entry is a value that check let pass.
type entry[T any] struct {
	url        string
	value      T
	fetchedAt  time.Time
	freshUntil time.Time
	goodUntil  time.Time // unless a newer one is had
	restUntil  time.Time // after a failure to have a newer one
}

// A fetch is what all wait for that want the same document.
type fetch[T any] struct {
	done  chan struct{} // closed when the rest is set
	entry *entry[T]     // nil: err says why
	err   error
}

// NewCache returns a Cache of at most maxEntries documents of kind, fetched by
// client. check makes a value of a document or refuses it with an error, which
// unlike a failed fetch is told at once, so that whoever wrote the document can
// mend it; it may run for several URLs at once.
func NewCache[T any](client *Client, kind Kind, maxEntries int, check func(url string, d *Document) (T, error)) *Cache[T] {
	return &Cache[T]{
		client: client, kind: kind, most: maxEntries, check: check,
		entries: make(map[string]*list.Element), recent: list.New(), underWay: make(map[string]*fetch[T]),
	}
}

// Seed remembers a value that was kept elsewhere, made of the document at url
// fetched at fetchedAt: not fresh, but good until goodUntil when a newer one
// cannot be had. A value in memory that is no older stays.
func (c *Cache[T]) Seed(url string, value T, fetchedAt, goodUntil time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.good(url, c.client.now()); known == nil || known.fetchedAt.Before(fetchedAt) {
		c.keep(&entry[T]{url: url, value: value, fetchedAt: fetchedAt, freshUntil: fetchedAt, goodUntil: goodUntil})
	}
}

// Load returns the value of the document at url and when the document was
// fetched: from memory if it is fresh and not fetched before newerThan (zero asks
// for nothing newer), else by a fetch, which all share that ask meanwhile and
// which goes on without them.
//
// allow, unless nil, is asked just before a fetch begins, by the one Load that
// begins it; an error from it comes back as it is, and there is no fetch. It must
// be quick and must not use the Cache. done is called once the fetch has ended and
// its document was checked.
//
// When there is no new value, a value that is not fresh any more or fetched before
// newerThan is still good for Kind.MaxStale after its freshness; then the server
// is asked again after 30 seconds at the earliest. Otherwise the error is allow's,
// check's, one of Client.Get, or that of ctx. No error is remembered. The value is
// shared.
func (c *Cache[T]) Load(ctx context.Context, url string, newerThan time.Time, allow func() (done func(), err error)) (value T, fetchedAt time.Time, err error) {
	known, f, err := c.find(ctx, url, newerThan, allow)
	switch {
	case err != nil:
		return value, fetchedAt, err
	case known != nil:
		return known.value, known.fetchedAt, nil
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return value, fetchedAt, fmt.Errorf("fetch: wait: %w", ctx.Err())
	}
	if f.err != nil {
		return value, fetchedAt, f.err
	}
	return f.entry.value, f.entry.fetchedAt, nil
}

// find returns the entry of url if it will do, or else the fetch to wait for.
func (c *Cache[T]) find(ctx context.Context, url string, newerThan time.Time, allow func() (done func(), err error)) (*entry[T], *fetch[T], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.client.now()
	known := c.good(url, now)
	if known != nil {
		fresh := now.Before(known.freshUntil) && !known.fetchedAt.Before(newerThan)
		if fresh || now.Before(known.restUntil) {
			return known, nil, nil
		}
	}
	if f := c.underWay[url]; f != nil {
		return nil, f, nil
	}
	done := func() {}
	if allow != nil {
		allowed, err := allow()
		switch {
		case err != nil && known != nil:
			return known, nil, nil
		case err != nil:
			return nil, nil, err
		}
		done = allowed
	}
	f := &fetch[T]{done: make(chan struct{})}
	c.underWay[url] = f
	go func() {
		defer done()
		c.fetch(context.WithoutCancel(ctx), url, f)
	}()
	return nil, f, nil
}

// fetch fetches url for all that wait for f.
func (c *Cache[T]) fetch(ctx context.Context, url string, f *fetch[T]) {
	fresh, err := c.load(ctx, url)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(f.done)
	delete(c.underWay, url)
	now := c.client.now()
	known := c.good(url, now)
	switch {
	case err == nil:
		c.keep(fresh)
		f.entry = fresh
	case known != nil:
		// Replaced, not changed: others may be reading it.
		rested := *known
		rested.restUntil = now.Add(restAfterFailure)
		c.keep(&rested)
		f.entry = &rested
	default:
		f.err = err
	}
}

// load gets the document and checks it.
func (c *Cache[T]) load(ctx context.Context, url string) (e *entry[T], err error) {
	// In this goroutine a panic over a stranger's bytes would end the whole server.
	defer func() {
		if p := recover(); p != nil {
			err = unavailable(fmt.Sprintf("its check panicked: %v", p), nil)
		}
	}()
	d, err := c.client.Get(ctx, url, c.kind)
	if err != nil {
		return nil, err
	}
	value, err := c.check(url, d)
	if err != nil {
		return nil, err
	}
	return &entry[T]{
		url: url, value: value,
		fetchedAt: d.FetchedAt, freshUntil: d.FreshUntil, goodUntil: d.FreshUntil.Add(c.kind.MaxStale),
	}, nil
}

// good returns the entry of url, fresh or stale; nil if there is none.
func (c *Cache[T]) good(url string, now time.Time) *entry[T] {
	element, ok := c.entries[url]
	if !ok {
		return nil
	}
	e := element.Value.(*entry[T])
	if !now.Before(e.goodUntil) {
		c.recent.Remove(element)
		delete(c.entries, url)
		return nil
	}
	c.recent.MoveToFront(element)
	return e
}

// keep puts e in the place of the entry of its URL, or of the one that was not
// used for longest.
func (c *Cache[T]) keep(e *entry[T]) {
	if element, ok := c.entries[e.url]; ok {
		element.Value = e
		return
	}
	c.entries[e.url] = c.recent.PushFront(e)
	for c.recent.Len() > c.most {
		last := c.recent.Remove(c.recent.Back()).(*entry[T])
		delete(c.entries, last.url)
	}
}
