package fetch

import "time"

// Seed remembers a value that was kept elsewhere, made of the document at url
// fetched at fetchedAt: not fresh, but good until goodUntil when a newer one
// cannot be had. A value that is in memory stays.
func (c *Cache[T]) Seed(url string, value T, fetchedAt, goodUntil time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.good(url, c.client.now()) == nil {
		c.keep(&entry[T]{url: url, value: value, fetchedAt: fetchedAt, freshUntil: fetchedAt, goodUntil: goodUntil})
	}
}
