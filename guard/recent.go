package guard

import "sync"

const defaultRecent = 10_000

// recent is a cache that keeps the values used last: at most size of them, and at least the last size/2. It has two
// generations. When the young one is full it becomes the old one, and a value found in the old one moves to the young
// one. So finding a value costs a read lock and a lookup, and nothing is counted or linked.
type recent[K comparable, V any] struct {
	half int

	mu         sync.RWMutex
	young, old map[K]V
}

// newRecent returns an empty cache; size zero means 10,000.
func newRecent[K comparable, V any](size int) *recent[K, V] {
	if size <= 0 {
		size = defaultRecent
	}
	return &recent[K, V]{half: max(1, size/2), young: map[K]V{}}
}

func (c *recent[K, V]) find(key K) (V, bool) {
	c.mu.RLock()
	value, ok := c.young[key]
	if ok {
		c.mu.RUnlock()
		return value, true
	}
	value, ok = c.old[key]
	c.mu.RUnlock()
	if ok {
		c.keep(key, value)
	}
	return value, ok
}

func (c *recent[K, V]) keep(key K, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(key, value)
}

// findOrMake returns the value of key; if there is none, it keeps and returns a fresh one. Concurrent callers get the
// same value.
func (c *recent[K, V]) findOrMake(key K, fresh func() V) V {
	if value, ok := c.find(key); ok {
		return value
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if value, ok := c.young[key]; ok {
		return value
	}
	value := fresh()
	c.put(key, value)
	return value
}

func (c *recent[K, V]) put(key K, value V) {
	if len(c.young) >= c.half {
		c.young, c.old = make(map[K]V, c.half), c.young
	}
	delete(c.old, key)
	c.young[key] = value
}
