package limit

import (
	"context"
	"sync"
	"time"
)

// Delays is how failures are answered: Free of them cost nothing, the next makes
// the key wait First, and each one after it twice as long, up to Longest. A key
// that was not tried for Forget starts anew; Forget should be well above Longest,
// because a key that waits that long is given Free attempts again. All durations are
// positive.
type Delays struct {
	Free    int
	First   time.Duration
	Longest time.Duration
	Forget  time.Duration
}

// Backoff delays attempts by key after failures: for sign-ins, by account or by
// network address. Attempts at once are no better than one after the other: no more
// are under way than may fail, and others wait until it is known how those end. A nil
// *Backoff delays nothing.
type Backoff struct {
	delays Delays
	now    func() time.Time

	mu   sync.Mutex
	keys *table[*failures]
}

type failures struct {
	count   int
	triedAt time.Time // when the last one failed
	until   time.Time // no attempt before

	underway, waiting int
	ended             chan struct{} // closed when the next attempt ends; nil: nobody waits
}

// maxWaiting bounds the attempts on one key that wait for others to end.
const maxWaiting = 64

// NewBackoff returns a Backoff that tells at most keys keys apart; when there
// are more, newcomers share their failures.
func NewBackoff(d Delays, keys int, now func() time.Time) *Backoff {
	return &Backoff{delays: d, now: now, keys: newTable(keys, d.Forget, func() *failures { return &failures{} })}
}

// Attempt is one attempt on a key. It must be ended by one call of one of its methods.
// A nil *Attempt, as a nil *Backoff begins it, counts nowhere.
type Attempt struct {
	of  *Backoff
	key string
	f   *failures
}

// Begin begins an attempt on key. While so many others are under way that the key would
// have to wait if they all failed, Begin waits for them. If the key has to wait, or too
// many wait with this one, ok is false, and retryAfter is how long. The error is that of
// ctx.
func (b *Backoff) Begin(ctx context.Context, key string) (attempt *Attempt, ok bool, retryAfter time.Duration, err error) {
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
		// The bound holds even when the clock was set back.
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

// wait returns when an attempt that f counts has ended. It lets go of the lock meanwhile.
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

// Succeed forgets the failures of the key: its owner has proven who they are.
func (a *Attempt) Succeed() { a.end(func(*failures) { a.of.keys.drop(a.key) }) }

// Return counts the attempt nowhere, because it failed through no fault of its sender,
// or its success must not excuse the failures of others under the same key.
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
