// Package limit provides per-key token buckets for requests and per-key exponential backoff for failed sign-ins. Memory
// use is bounded, however many keys callers pass. All types are safe for concurrent use.
package limit

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Rate is how often something may happen: Burst times at once, then once per Every. Every must be positive; a Burst
// below 1 allows nothing.
type Rate struct {
	Every time.Duration
	Burst int
}

// Limiter allows each key its own Rate. A nil *Limiter allows everything.
type Limiter struct {
	rate Rate
	now  func() time.Time

	mu      sync.Mutex
	buckets *table[*rate.Limiter]
}

// New returns a Limiter with separate buckets for at most keys keys. Further keys share a fixed number of buckets until
// there is room again: a bucket is dropped once it has been idle for as long as an empty bucket takes to fill, never
// because of other keys.
func New(r Rate, keys int, now func() time.Time) *Limiter {
	bucket := func() *rate.Limiter { return rate.NewLimiter(rate.Every(r.Every), r.Burst) }
	return &Limiter{rate: r, now: now, buckets: newTable(keys, r.Every*time.Duration(max(r.Burst, 1)), bucket)}
}

// Allow takes one token from the bucket of key and reports whether there was one. If not, retryAfter is the time until
// the next token.
func (l *Limiter) Allow(key string) (ok bool, retryAfter time.Duration) {
	if l == nil {
		return true, 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	taken := l.buckets.at(key, now).ReserveN(now, 1)
	if !taken.OK() {
		return false, l.rate.Every
	}
	if wait := taken.DelayFrom(now); wait > 0 {
		taken.CancelAt(now)
		return false, wait
	}
	return true, 0
}

// Address returns the key under which requests from a network address are counted: the address itself for IPv4, the /64
// for IPv6, because one customer usually gets a whole /64. An IPv4-mapped address counts as the IPv4 address; a zone is
// ignored. A text that is not an address is its own key.
func Address(text string) string {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return text
	}
	addr = addr.Unmap().WithZone("")
	if !addr.Is6() {
		return addr.String()
	}
	network, err := addr.Prefix(64)
	if err != nil {
		return addr.String() // cannot happen: every IPv6 address has a /64
	}
	return network.String()
}
