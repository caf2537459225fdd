// Package limit refuses a sender that asks too often: token buckets by key for
// requests, and a growing delay by key for sign-ins that fail. Memory is bounded,
// whatever keys strangers bring. Everything in it may be used from many
// goroutines at once.
package limit

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Rate is how often something may happen: Burst times at once, and again every
// Every. Both must be positive; a Burst below 1 allows nothing.
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

// New returns a Limiter that tells at most keys keys apart. When there are more,
// newcomers share buckets until others have been idle for as long as an empty
// bucket takes to fill; no bucket is ever emptied or filled by other keys.
func New(r Rate, keys int, now func() time.Time) *Limiter {
	bucket := func() *rate.Limiter { return rate.NewLimiter(rate.Every(r.Every), r.Burst) }
	return &Limiter{rate: r, now: now, buckets: newTable(keys, r.Every*time.Duration(max(r.Burst, 1)), bucket)}
}

// Allow takes one token from the bucket of key. When there is none it takes
// nothing, and retryAfter is how long it takes until there will be one.
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

// Address returns the key under which a network address is counted: the address
// itself for IPv4, the /64 for IPv6, for that is what one customer gets. An
// IPv4-mapped address is the IPv4 address; a zone counts for nothing.
func Address(addr netip.Addr) string {
	addr = addr.Unmap().WithZone("")
	if !addr.Is6() {
		return addr.String()
	}
	network, err := addr.Prefix(64)
	if err != nil {
		return addr.String() // 64 is within every IPv6 address
	}
	return network.String()
}
