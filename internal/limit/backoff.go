package limit

import (
	"sync"
	"time"
)

// Delays is how failures are answered: Free of them cost nothing, the next makes
// the key wait First, and each one after it twice as long, up to Longest. A key
// that was not tried for Forget starts anew; Forget should be well above Longest,
// for who waits that long is given Free attempts again. All durations are
// positive.
type Delays struct {
	Free    int
	First   time.Duration
	Longest time.Duration
	Forget  time.Duration
}

// Backoff delays attempts by key after failures: for sign-ins, by account or by
// network address. An attempt counts as failed from the moment it begins, so
// that a thousand at once are no better than one after the other. A nil *Backoff
// delays nothing.
type Backoff struct {
	delays Delays
	now    func() time.Time

	mu   sync.Mutex
	keys *table[*failures]
}

type failures struct {
	count   int
	triedAt time.Time // last
	until   time.Time // no attempt before
}

// NewBackoff returns a Backoff that tells at most keys keys apart; when there
// are more, newcomers share their failures.
func NewBackoff(d Delays, keys int, now func() time.Time) *Backoff {
	return &Backoff{delays: d, now: now, keys: newTable(keys, d.Forget, func() *failures { return &failures{} })}
}

// Begin asks whether an attempt on key may be evaluated, and counts it as failed
// until Succeed or Return says otherwise. When it is refused it is not counted,
// and retryAfter is how long the key must wait.
func (b *Backoff) Begin(key string) (ok bool, retryAfter time.Duration) {
	if b == nil {
		return true, 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	f := b.keys.at(key, now)
	if now.Sub(f.triedAt) >= b.delays.Forget {
		*f = failures{}
	}
	// The bound holds even when the clock was set back.
	if wait := min(f.until.Sub(now), b.delays.Longest); wait > 0 {
		return false, wait
	}
	f.count++
	f.triedAt = now
	f.until = now.Add(b.delays.after(f.count))
	return true, 0
}

// Succeed forgets the failures of key: its owner has proven who they are.
func (b *Backoff) Succeed(key string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keys.drop(key)
}

// Return takes back one attempt that Begin counted, for it failed through no
// fault of its sender, or its success must not excuse the failures of others
// under the same key.
func (b *Backoff) Return(key string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.keys.at(key, b.now())
	f.count = max(0, f.count-1)
	f.until = f.triedAt.Add(b.delays.after(f.count))
}

// after is how long a key waits after so many failures.
func (d Delays) after(count int) time.Duration {
	if count <= d.Free {
		return 0
	}
	wait := d.First
	for range count - d.Free - 1 {
		if wait >= d.Longest {
			break
		}
		wait *= 2
	}
	return min(wait, d.Longest)
}
