package limit

import (
	"context"
	"sync"
	"time"
)

// Delays configures a Backoff. The first Free failures of a key cause no delay, the next one delays the key by First,
// and each further one by twice the previous delay, up to Longest. The failures of a key are forgotten after Forget
// without another one; Forget should be well above Longest, because Free attempts are then available again. All
// durations must be positive.
type Delays struct {
	Free    int
	First   time.Duration
	Longest time.Duration
	Forget  time.Duration
}

// Backoff delays attempts on a key after failures: sign-ins, by account or by network address. Concurrent attempts gain
// nothing over sequential ones, because at most as many run at once as may still fail; the others wait for their
// outcome. A nil *Backoff delays nothing.
type Backoff struct {
	delays Delays
	now    func() time.Time

	mu   sync.Mutex
	keys *table[*failures]
}

type failures struct {
	count   int
	triedAt time.Time // when the last one failed
	until   time.Time // no attempt is allowed before

	underway, waiting int
	ended             chan struct{} // closed when the next attempt ends; nil if none waits
}

// maxWaiting is the maximum number of attempts on one key that wait for others to end.
const maxWaiting = 64

// NewBackoff returns a Backoff that counts separately for at most keys keys; further keys share counters until there is
// room again.
func NewBackoff(d Delays, keys int, now func() time.Time) *Backoff {
	return &Backoff{delays: d, now: now, keys: newTable(keys, d.Forget, func() *failures { return &failures{} })}
}

// Attempt is one attempt on a key. The caller must end it by calling exactly one of its methods, once. A nil *Attempt,
// which a nil *Backoff returns, is valid and is not counted.
type Attempt struct {
	of  *Backoff
	key string
	f   *failures
}

// Begin starts an attempt on key. It blocks while the attempts under way would exceed the free failures if they all
// failed. If the key is delayed, or too many attempts are already blocked, ok is false and retryAfter is the time to
// wait. The error is not nil only if ctx ended.
func (b *Backoff) Begin(ctx context.Context, key string) (attempt *Attempt, ok bool, retryAfter time.Duration,
	err error) {
	if b == nil {
		return nil, true, 0, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		now := b.now()
		f := b.keys.at(key, now)
		if now.Sub(f.triedAt) >= b.delays.Forget {
			f.count, f.until = 0, time.Time{}
		}
		// min keeps the delay within its bound even if the clock was set back.
		if wait := min(f.until.Sub(now), b.delays.Longest); wait > 0 {
			return nil, false, wait, nil
		}
		if f.underway == 0 || f.count+f.underway <= b.delays.Free {
			f.underway++
			return &Attempt{b, key, f}, true, 0, nil
		}
		if f.waiting >= maxWaiting {
			return nil, false, b.delays.First, nil
		}
		if err := b.wait(ctx, f); err != nil {
			return nil, false, 0, err
		}
	}
}

// wait blocks until an attempt on the key of f ends. It releases the lock in the meantime.
func (b *Backoff) wait(ctx context.Context, f *failures) error {
	if f.ended == nil {
		f.ended = make(chan struct{})
	}
	ended := f.ended
	f.waiting++
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		f.waiting--
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Fail counts the attempt as a failure.
func (a *Attempt) Fail() {
	a.end(func(f *failures) {
		f.count++
		f.triedAt = a.of.now()
		f.until = f.triedAt.Add(a.of.delays.after(f.count))
	})
}

// Succeed forgets the failures of the key, because its owner has authenticated. It does not forget those that the key
// shares with others.
func (a *Attempt) Succeed() {
	a.end(func(f *failures) {
		if own, ok := a.of.keys.own(a.key); ok && own == f {
			f.count, f.until = 0, time.Time{}
		}
	})
}

// Return ends the attempt without counting it: because it failed through no fault of its sender, or because its success
// must not clear the failures of others under the same key.
func (a *Attempt) Return() { a.end(func(*failures) {}) }

func (a *Attempt) end(outcome func(*failures)) {
	if a == nil {
		return
	}
	a.of.mu.Lock()
	defer a.of.mu.Unlock()
	outcome(a.f)
	a.f.underway--
	if a.f.ended != nil {
		close(a.f.ended)
		a.f.ended = nil
	}
}

// after returns the delay of a key after count failures.
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
