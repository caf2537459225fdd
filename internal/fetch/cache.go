package fetch

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"
)

// restAfterFailure is how long a document is not fetched again after a failure while an older value can be used.
const restAfterFailure = 30 * time.Second

// Cache keeps the values of the most recently used documents. Use NewCache to make one. It is safe for concurrent use.
type Cache[T any] struct {
	client *Client
	kind   Kind
	most   int
	check  func(url string, d *Document) (T, error)

	mu       sync.Mutex
	entries  map[string]*list.Element
	recent   *list.List           // of *entry[T], most recently used first
	underWay map[string]*fetch[T] // at most one for each URL
}

// An entry is a value that check has accepted.
type entry[T any] struct {
	url        string
	value      T
	fetchedAt  time.Time
	freshUntil time.Time
	goodUntil  time.Time // the end of its use, fresh or stale
	restUntil  time.Time // no new fetch before, after a failure
}

// A fetch is a fetch under way. All callers that load the same document wait for the same one.
type fetch[T any] struct {
	done  chan struct{} // closed when entry and err are set
	entry *entry[T]     // nil if err is set
	err   error
}

// NewCache returns a Cache of at most maxEntries documents of kind, fetched by client. check converts a document to a
// value, or returns an error if the document is invalid. Unlike the error of a failed fetch, that error is returned
// without delay, so that the author of the document can correct it. check may run for several URLs at the same time.
func NewCache[T any](client *Client, kind Kind, maxEntries int,
	check func(url string, d *Document) (T, error)) *Cache[T] {
	return &Cache[T]{
		client: client, kind: kind, most: maxEntries, check: check,
		entries: make(map[string]*list.Element), recent: list.New(), underWay: make(map[string]*fetch[T]),
	}
}

// Seed adds the value of the document at url, fetched at fetchedAt, that was stored elsewhere. The value counts as
// stale, and is used until goodUntil if a newer one cannot be fetched. Seed keeps a value in memory that is not older.
func (c *Cache[T]) Seed(url string, value T, fetchedAt, goodUntil time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.good(url, c.client.now()); known == nil || known.fetchedAt.Before(fetchedAt) {
		c.keep(&entry[T]{url: url, value: value, fetchedAt: fetchedAt, freshUntil: fetchedAt, goodUntil: goodUntil})
	}
}

// Load returns the value of the document at url and the time when the document was fetched. It uses the value in memory
// if it is fresh and was not fetched before newerThan; the zero time accepts every value. Otherwise it fetches the
// document. Concurrent calls share one fetch, which continues if their contexts end.
//
// allow, if not nil, is called just before a fetch begins, by the call of Load that begins it. If it returns an error,
// there is no fetch. It must return quickly and must not use the Cache. done is called when the fetch has ended and
// check has returned.
//
// If a fetch fails or is not allowed, Load returns the value in memory, even if it is stale or was fetched before
// newerThan, for up to Kind.MaxStale after it became stale; after a failure, the next fetch begins after 30 seconds at
// the earliest. If there is no such value, the error is that of allow, of check, of Client.Get or of ctx. Errors are
// not cached. All callers get the same value and must not change it.
func (c *Cache[T]) Load(ctx context.Context, url string, newerThan time.Time,
	allow func() (done func(), err error)) (value T, fetchedAt time.Time, err error) {
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

// Fresh returns the value of the document at url if it is in memory and fresh. It fetches nothing.
func (c *Cache[T]) Fresh(url string) (value T, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.client.now()
	if known := c.good(url, now); known != nil && now.Before(known.freshUntil) {
		return known.value, true
	}
	return value, false
}

// find returns the entry of url if it can be used, and otherwise the fetch to wait for.
func (c *Cache[T]) find(ctx context.Context, url string, newerThan time.Time,
	allow func() (done func(), err error)) (*entry[T], *fetch[T], error) {
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

// fetch fetches url and sets the result of f.
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
		// Replace the entry instead of changing it, because others may be reading it.
		rested := *known
		rested.restUntil = now.Add(restAfterFailure)
		c.keep(&rested)
		f.entry = &rested
	default:
		f.err = err
	}
}

// load fetches the document and checks it.
func (c *Cache[T]) load(ctx context.Context, url string) (e *entry[T], err error) {
	// A panic in this goroutine, caused by a stranger's document, would end the whole server.
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

// keep stores e, replacing the entry of its URL, and removes the least recently used entries if there are too many.
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
