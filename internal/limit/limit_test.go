package limit_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cardea-auth/cardea/internal/limit"
)

// clock is a clock that stands still until it is moved.
type clock struct{ nanos atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.nanos.Store(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time       { return time.Unix(0, c.nanos.Load()).UTC() }
func (c *clock) move(d time.Duration) { c.nanos.Add(int64(d)) }

func TestLimiter(t *testing.T) {
	t.Run("a burst, then one at a time", func(t *testing.T) {
		c := newClock()
		l := limit.New(limit.Rate{Every: time.Second, Burst: 3}, 10, c.now)
		for i := range 3 {
			if ok, _ := l.Allow("a"); !ok {
				t.Fatalf("request %d of the burst was refused", i+1)
			}
		}
		ok, after := l.Allow("a")
		if ok || after != time.Second {
			t.Fatalf("after the burst: %v, retry after %v; want refused for 1s", ok, after)
		}
		if ok, _ := l.Allow("b"); !ok {
			t.Error("another key was refused")
		}
		c.move(400 * time.Millisecond)
		if ok, after := l.Allow("a"); ok || after != 600*time.Millisecond {
			t.Errorf("a refusal must take nothing: %v, %v; want refused for 600ms", ok, after)
		}
		c.move(600 * time.Millisecond)
		if ok, _ := l.Allow("a"); !ok {
			t.Error("refused after the time it was told to wait")
		}
	})
	t.Run("nil allows all", func(t *testing.T) {
		var l *limit.Limiter
		if ok, after := l.Allow("a"); !ok || after != 0 {
			t.Errorf("got %v, %v", ok, after)
		}
	})
	t.Run("a burst of none allows nothing", func(t *testing.T) {
		l := limit.New(limit.Rate{Every: time.Second}, 10, newClock().now)
		if ok, after := l.Allow("a"); ok || after <= 0 {
			t.Errorf("got %v, %v", ok, after)
		}
	})
	t.Run("a clock set back refuses nobody for ever", func(t *testing.T) {
		c := newClock()
		l := limit.New(limit.Rate{Every: time.Second, Burst: 1}, 10, c.now)
		l.Allow("a")
		c.move(-time.Hour)
		if ok, after := l.Allow("a"); ok || after > time.Second {
			t.Fatalf("after the step: %v, retry after %v", ok, after)
		}
		c.move(time.Second)
		if ok, _ := l.Allow("a"); !ok {
			t.Error("refused a second after the step")
		}
	})
}

func TestLimiterUnderFlood(t *testing.T) {
	rate := limit.Rate{Every: time.Minute, Burst: 2}

	t.Run("FL-37 a flood of keys does not refill a hot one", func(t *testing.T) {
		c := newClock()
		l := limit.New(rate, 1000, c.now)
		l.Allow("hot")
		l.Allow("hot")
		for i := range 50_000 {
			l.Allow(fmt.Sprint("flood ", i))
			if i%1000 == 0 {
				c.move(time.Millisecond)
				if ok, _ := l.Allow("hot"); ok {
					t.Fatalf("the hot key was allowed again after %d other keys", i)
				}
			}
		}
	})
	t.Run("nor one that waits quietly", func(t *testing.T) {
		c := newClock()
		l := limit.New(rate, 1000, c.now)
		c.move(119 * time.Second)
		l.Allow("hot")
		l.Allow("hot")
		c.move(59 * time.Second)
		for i := range 50_000 {
			l.Allow(fmt.Sprint("flood ", i))
		}
		if ok, _ := l.Allow("hot"); ok {
			t.Error("a bucket that was not full yet was dropped")
		}
	})
	t.Run("newcomers in a full table are limited too", func(t *testing.T) {
		c := newClock()
		l := limit.New(rate, 10, c.now)
		allowed := 0
		for i := range 50_000 {
			if ok, _ := l.Allow(fmt.Sprint("flood ", i)); ok {
				allowed++
			}
		}
		if most := 10 + 2*256; allowed > most {
			t.Errorf("%d requests of a flood of new keys were allowed, want at most %d", allowed, most)
		}
		c.move(5 * time.Minute)
		if ok, _ := l.Allow("honest"); !ok {
			t.Error("no room again after all buckets were idle")
		}
	})
	t.Run("memory is bounded, however many and long the keys", func(t *testing.T) {
		c := newClock()
		l := limit.New(rate, 1000, c.now)
		long := strings.Repeat("x", 1000)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range 60_000 {
			l.Allow(long + fmt.Sprint(i))
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
			t.Errorf("the heap grew by %d bytes", grown)
		}
		runtime.KeepAlive(l)
	})
	t.Run("many at once get no more than the burst", func(t *testing.T) {
		l := limit.New(limit.Rate{Every: time.Minute, Burst: 7}, 10, newClock().now)
		if got := race(500, func() bool { ok, _ := l.Allow("a"); return ok }); got != 7 {
			t.Errorf("%d were allowed, want 7", got)
		}
	})
}

var delays = limit.Delays{Free: 3, First: time.Second, Longest: time.Minute, Forget: time.Hour}

// try begins an attempt and fails it at once.
func try(b *limit.Backoff, key string) (ok bool, after time.Duration) {
	attempt, ok, after, err := b.Begin(context.Background(), key)
	if err != nil {
		panic(err) // the context never ends
	}
	if ok {
		attempt.Fail()
	}
	return ok, after
}

func TestBackoff(t *testing.T) {
	t.Run("LG-04 the right password during the delay is not evaluated", func(t *testing.T) {
		c := newClock()
		b := limit.NewBackoff(delays, 10, c.now)
		for range 4 {
			if ok, _ := try(b, "ada"); !ok {
				t.Fatal("refused too early")
			}
		}
		if ok, after := try(b, "ada"); ok || after != time.Second {
			t.Fatalf("got %v, %v; want refused for 1s", ok, after)
		}
		c.move(time.Second)
		if ok, _ := try(b, "ada"); !ok {
			t.Fatal("refused after the delay")
		}
		if ok, after := try(b, "ada"); ok || after != 2*time.Second {
			t.Fatalf("got %v, %v; want a delay twice as long", ok, after)
		}
	})
	t.Run("LG-08 of 500 parallel guesses only the free ones and one more are evaluated", func(t *testing.T) {
		b := limit.NewBackoff(delays, 10, newClock().now)
		if got := race(500, func() bool { ok, _ := try(b, "ada"); return ok }); got != 4 {
			t.Errorf("%d were evaluated, want 4", got)
		}
	})
	t.Run("LG-08 after a delay one guess, not a new burst", func(t *testing.T) {
		c := newClock()
		b := limit.NewBackoff(delays, 10, c.now)
		for range 4 {
			try(b, "ada")
		}
		c.move(time.Second)
		if got := race(500, func() bool { ok, _ := try(b, "ada"); return ok }); got != 1 {
			t.Errorf("%d were evaluated, want 1", got)
		}
	})
	t.Run("D12 attempts at once that all succeed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := limit.NewBackoff(delays, 10, time.Now)
			most, underway, succeeded := 0, 0, 0
			var mu sync.Mutex
			for range 60 {
				go func() {
					attempt, ok, _, err := b.Begin(t.Context(), "ada")
					if !ok || err != nil {
						t.Errorf("refused: %v", err)
						return
					}
					mu.Lock()
					underway++
					most = max(most, underway)
					mu.Unlock()
					time.Sleep(100 * time.Millisecond) // of the owned clock
					mu.Lock()
					underway--
					succeeded++
					mu.Unlock()
					attempt.Succeed()
				}()
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			if most > 4 || succeeded != 60 {
				t.Errorf("%d succeeded, %d at once", succeeded, most)
			}
		})
	})
	t.Run("D12 one that waits while the others fail is refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := limit.NewBackoff(delays, 10, time.Now)
			var begun []*limit.Attempt
			for range 4 {
				attempt, _, _, _ := b.Begin(t.Context(), "ada")
				begun = append(begun, attempt)
			}
			var answered, ok bool
			var after time.Duration
			go func() {
				_, ok, after, _ = b.Begin(t.Context(), "ada")
				answered = true
			}()
			for _, attempt := range begun {
				synctest.Wait()
				if answered {
					t.Fatal("it did not wait")
				}
				attempt.Fail()
			}
			synctest.Wait()
			if !answered || ok || after != time.Second {
				t.Errorf("answered %v: %v, %v", answered, ok, after)
			}
		})
	})
	t.Run("one that waits and gives up", func(t *testing.T) {
		b := limit.NewBackoff(delays, 10, newClock().now)
		for range 4 {
			if _, ok, _, err := b.Begin(t.Context(), "ada"); !ok || err != nil {
				t.Fatal("refused too early")
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, ok, _, err := b.Begin(ctx, "ada"); ok || !errors.Is(err, context.Canceled) {
			t.Errorf("%v, %v", ok, err)
		}
	})
	t.Run("LG-10 the delay is bounded", func(t *testing.T) {
		c := newClock()
		b := limit.NewBackoff(delays, 10, c.now)
		for range 200 {
			if ok, after := try(b, "ada"); !ok {
				if after > time.Minute {
					t.Fatalf("told to wait %v, longer than the longest delay", after)
				}
				c.move(after)
			}
		}
		if _, after := try(b, "ada"); after != time.Minute {
			t.Errorf("after many failures the delay is %v, want 1m", after)
		}
		c.move(-24 * time.Hour)
		if _, after := try(b, "ada"); after > time.Minute {
			t.Errorf("after the clock was set back the delay is %v", after)
		}
	})
	t.Run("success forgets", func(t *testing.T) {
		b := limit.NewBackoff(delays, 10, newClock().now)
		for range 3 {
			try(b, "ada")
		}
		attempt, _, _, _ := b.Begin(t.Context(), "ada")
		attempt.Succeed()
		for range 4 {
			if ok, _ := try(b, "ada"); !ok {
				t.Error("refused after a success")
			}
		}
	})
	t.Run("a returned attempt costs nothing, and excuses no other", func(t *testing.T) {
		b := limit.NewBackoff(delays, 10, newClock().now)
		for i := range 53 {
			attempt, ok, _, _ := b.Begin(t.Context(), "192.0.2.1")
			if !ok {
				t.Fatal("returned attempts were counted")
			}
			if i < 50 {
				attempt.Return()
			} else {
				attempt.Fail()
			}
		}
		attempt, _, _, _ := b.Begin(t.Context(), "192.0.2.1")
		attempt.Return()
		if ok, _ := try(b, "192.0.2.1"); !ok {
			t.Error("the returned attempt was counted")
		}
		if ok, _ := try(b, "192.0.2.1"); ok {
			t.Error("one returned attempt excused the other three")
		}
	})
	t.Run("failures are forgotten in time", func(t *testing.T) {
		c := newClock()
		b := limit.NewBackoff(delays, 10, c.now)
		for range 4 {
			try(b, "ada")
		}
		c.move(time.Hour)
		if got := race(50, func() bool { ok, _ := try(b, "ada"); return ok }); got != 4 {
			t.Errorf("%d were evaluated, want 4", got)
		}
	})
	t.Run("a flood of keys does not reset a failing one", func(t *testing.T) {
		c := newClock()
		b := limit.NewBackoff(delays, 100, c.now)
		for range 4 {
			try(b, "ada")
		}
		for i := range 10_000 {
			try(b, fmt.Sprint("flood ", i))
		}
		if ok, _ := try(b, "ada"); ok {
			t.Error("the flood reset the delay")
		}
	})
	t.Run("nil delays nothing", func(t *testing.T) {
		var b *limit.Backoff
		for range 100 {
			if ok, _ := try(b, "ada"); !ok {
				t.Fatal("refused")
			}
		}
		attempt, _, _, _ := b.Begin(t.Context(), "ada")
		attempt.Succeed()
		attempt.Return()
	})
}

func TestAddress(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7":            "192.0.2.7",
		"::ffff:192.0.2.7":     "192.0.2.7",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
		"2001:db8:1:2::1":      "2001:db8:1:2::/64",
		"fe80::1%eth0":         "fe80::/64",
		"::1":                  "::/64",
		"":                     "",
		"a socket":             "a socket",
	} {
		if got := limit.Address(addr); got != want {
			t.Errorf("Address(%s) = %s, want %s", addr, got, want)
		}
	}
}

// race calls f n times at once and returns how often it was true.
func race(n int, f func() bool) int {
	var start, done sync.WaitGroup
	var count atomic.Int64
	start.Add(1)
	for range n {
		done.Go(func() {
			start.Wait()
			if f() {
				count.Add(1)
			}
		})
	}
	start.Done()
	done.Wait()
	return int(count.Load())
}
