package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cardea-auth/cardea/internal/fetch"
)

// origin is the server of a document that a test can change. It counts requests.
type origin struct {
	web      *internet
	client   *fetch.Client
	requests atomic.Int64

	mu     sync.Mutex
	status int
	body   string
	header http.Header
	hold   chan struct{} // if set, answers wait for it to be closed
}

func newOrigin(t *testing.T) *origin {
	o := &origin{web: newInternet(t), status: 200, body: "one", header: http.Header{}}
	o.web.site("client.example", func(w http.ResponseWriter, r *http.Request) {
		o.requests.Add(1)
		o.mu.Lock()
		hold := o.hold
		o.mu.Unlock()
		if hold != nil {
			<-hold
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		for name, values := range o.header {
			w.Header()[name] = values
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(o.status)
		fmt.Fprint(w, o.body)
	})
	o.client = o.web.client(false)
	return o
}

func (o *origin) set(status int, body string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.status, o.body = status, body
}

var errNonsense = errors.New("nonsense")

// words is a check that refuses documents that begin with "nonsense".
func words(_ string, d *fetch.Document) (string, error) {
	if strings.HasPrefix(string(d.Body), "nonsense") {
		return "", errNonsense
	}
	return string(d.Body), nil
}

var quick = fetch.Kind{
	MaxBytes: 100, Accept: "application/json", Types: fetch.Metadata.Types,
	MinFresh: time.Minute, MaxFresh: time.Hour, MaxStale: time.Hour,
}

// load checks that the result is value, after the given number of requests in total.
func load(t *testing.T, c *fetch.Cache[string], o *origin, newerThan time.Time, value string,
	requests int64) (fetchedAt time.Time) {
	t.Helper()
	got, fetchedAt, err := c.Load(t.Context(), there, newerThan, nil)
	if err != nil || got != value || o.requests.Load() != requests {
		t.Errorf("got %q, %v after %d requests; want %q after %d", got, err, o.requests.Load(), value, requests)
	}
	return fetchedAt
}

func loadFails(t *testing.T, c *fetch.Cache[string], o *origin, want error, requests int64) {
	t.Helper()
	got, _, err := c.Load(t.Context(), there, time.Time{}, nil)
	if !errors.Is(err, want) || got != "" || o.requests.Load() != requests {
		t.Errorf("got %q, %v after %d requests; want %v after %d", got, err, o.requests.Load(), want, requests)
	}
}

func TestFreshness(t *testing.T) {
	date := func(d time.Duration) string { // relative to the start of a bubble's time
		return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(d).Format(http.TimeFormat)
	}
	tests := []struct {
		name   string
		header http.Header
		want   time.Duration
	}{
		{"CM-24 nothing", nil, time.Minute},
		{"CM-24 max-age", http.Header{"Cache-Control": {"public, max-age=1800"}}, 30 * time.Minute},
		{"CM-24 max-age 0", http.Header{"Cache-Control": {"max-age=0"}}, time.Minute},
		{"CM-24 max-age of 10 years", http.Header{"Cache-Control": {"max-age=315360000, immutable"}}, time.Hour},
		{"CM-24 max-age too large for any integer",
			http.Header{"Cache-Control": {"max-age=99999999999999999999999"}}, time.Hour},
		{"CM-24 max-age of nonsense", http.Header{"Cache-Control": {"max-age=-5"}}, time.Minute},
		{"CM-24 max-age in quotes", http.Header{"Cache-Control": {`Max-Age="1800"`}}, 30 * time.Minute},
		{"CM-24 max-age in the second header", http.Header{"Cache-Control": {"public", "max-age=1800"}},
			30 * time.Minute},
		{"CM-24 s-maxage", http.Header{"Cache-Control": {"s-maxage=1800"}}, time.Minute},
		{"CM-24 no-store", http.Header{"Cache-Control": {"max-age=1800, no-store"}}, time.Minute},
		{"CM-24 no-cache", http.Header{"Cache-Control": {"no-cache, max-age=1800"}}, time.Minute},
		{"CM-24 Age", http.Header{"Cache-Control": {"max-age=1800"}, "Age": {"600"}}, 20 * time.Minute},
		{"CM-24 Age beyond max-age", http.Header{"Cache-Control": {"max-age=1800"}, "Age": {"99999999999999999999999"}},
			time.Minute},
		{"CM-24 Expires", http.Header{"Expires": {date(20 * time.Minute)}}, 20 * time.Minute},
		{"CM-24 Expires by another clock",
			http.Header{"Expires": {date(25 * time.Hour)}, "Date": {date(24*time.Hour + 40*time.Minute)}},
			20 * time.Minute},
		{"CM-24 Expires of nonsense", http.Header{"Expires": {"0"}}, time.Minute},
		{"CM-24 max-age before Expires",
			http.Header{"Cache-Control": {"max-age=1800"}, "Expires": {date(20 * time.Minute)}}, 30 * time.Minute},
		{"CM-24 Vary", http.Header{"Cache-Control": {"max-age=1800"}, "Vary": {"*"}}, 30 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(t)
				o.header = tt.header
				c := fetch.NewCache(o.client, quick, 10, words)
				load(t, c, o, time.Time{}, "one", 1)
				time.Sleep(tt.want - 1)
				load(t, c, o, time.Time{}, "one", 1)
				o.set(200, "two")
				time.Sleep(time.Nanosecond)
				load(t, c, o, time.Time{}, "two", 2)
			})
		})
	}
	t.Run("CM-24 no kind is fresh for more than 7 days", func(t *testing.T) {
		for name, kind := range map[string]fetch.Kind{
			"Metadata": fetch.Metadata, "KeySet": fetch.KeySet, "Logo": fetch.Logo,
		} {
			if kind.MinFresh <= 0 || kind.MaxFresh < kind.MinFresh || kind.MaxFresh > 7*24*time.Hour {
				t.Errorf("%s: from %v to %v", name, kind.MinFresh, kind.MaxFresh)
			}
		}
	})
}

func TestCache(t *testing.T) {
	run := func(name string, f func(t *testing.T, o *origin, c *fetch.Cache[string])) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(t)
				f(t, o, fetch.NewCache(o.client, quick, 2, words))
			})
		})
	}
	run("CM-25 errors are not remembered", func(t *testing.T, o *origin, c *fetch.Cache[string]) {
		o.set(500, "oops")
		loadFails(t, c, o, fetch.ErrUnavailable, 1)
		loadFails(t, c, o, fetch.ErrUnavailable, 2)
		o.set(200, "nonsense")
		loadFails(t, c, o, errNonsense, 3)
		loadFails(t, c, o, errNonsense, 4)
		o.set(200, "one")
		load(t, c, o, time.Time{}, "one", 5)
	})
	run("CM-25 errors and invalid documents replace nothing", func(t *testing.T, o *origin, c *fetch.Cache[string]) {
		began := time.Now()
		load(t, c, o, time.Time{}, "one", 1)
		time.Sleep(time.Minute)
		o.set(500, "oops")
		if at := load(t, c, o, time.Time{}, "one", 2); !at.Equal(began) {
			t.Errorf("fetched at %v, want %v", at, began)
		}
		time.Sleep(time.Minute)
		o.set(200, "nonsense")
		load(t, c, o, time.Time{}, "one", 3)
		time.Sleep(time.Minute)
		o.set(200, "two")
		load(t, c, o, time.Time{}, "two", 4)
	})
	run("CM-25 a stale value ends", func(t *testing.T, o *origin, c *fetch.Cache[string]) {
		began := time.Now()
		load(t, c, o, time.Time{}, "one", 1)
		o.set(500, "oops")
		time.Sleep(time.Until(began.Add(quick.MinFresh + quick.MaxStale - time.Minute)))
		load(t, c, o, time.Time{}, "one", 2)
		time.Sleep(time.Until(began.Add(quick.MinFresh + quick.MaxStale)))
		loadFails(t, c, o, fetch.ErrUnavailable, 3)
	})
	run("a server that failed is left alone for 30 seconds", func(t *testing.T, o *origin, c *fetch.Cache[string]) {
		load(t, c, o, time.Time{}, "one", 1)
		time.Sleep(time.Minute)
		o.set(500, "oops")
		load(t, c, o, time.Time{}, "one", 2)
		o.set(200, "two")
		time.Sleep(30*time.Second - 1)
		load(t, c, o, time.Now(), "one", 2)
		time.Sleep(time.Nanosecond)
		load(t, c, o, time.Time{}, "two", 3)
	})
	run("CM-26 newer than what is remembered", func(t *testing.T, o *origin, c *fetch.Cache[string]) {
		at := load(t, c, o, time.Time{}, "one", 1)
		load(t, c, o, at, "one", 1)
		o.set(200, "two")
		time.Sleep(time.Nanosecond)
		if newer := load(t, c, o, at.Add(1), "two", 2); !newer.After(at) {
			t.Errorf("fetched at %v, which is not after %v", newer, at)
		}
		load(t, c, o, time.Time{}, "two", 2)
	})
	run("CM-28 1,000 at once are one fetch", func(t *testing.T, o *origin, c *fetch.Cache[string]) {
		var wait sync.WaitGroup
		var allowed atomic.Int64
		o.hold = make(chan struct{})
		for range 1000 {
			wait.Go(func() {
				got, _, err := c.Load(t.Context(), there, time.Time{},
					func() (func(), error) { allowed.Add(1); return func() {}, nil })
				if got != "one" || err != nil {
					t.Errorf("got %q, %v", got, err)
				}
			})
		}
		synctest.Wait()
		close(o.hold)
		wait.Wait()
		if o.requests.Load() != 1 || allowed.Load() != 1 {
			t.Errorf("%d requests, allowed %d times; want one", o.requests.Load(), allowed.Load())
		}
	})
	run("CM-28 the first caller may leave", func(t *testing.T, o *origin, c *fetch.Cache[string]) {
		o.hold = make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() {
			_, _, err := c.Load(ctx, there, time.Time{}, nil)
			first <- err
		}()
		synctest.Wait()
		second := make(chan string, 1)
		go func() {
			got, _, _ := c.Load(t.Context(), there, time.Time{}, nil)
			second <- got
		}()
		synctest.Wait()
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("the first: got %v, want context.Canceled", err)
		}
		close(o.hold)
		if got := <-second; got != "one" || o.requests.Load() != 1 {
			t.Errorf("the second: got %q after %d requests", got, o.requests.Load())
		}
	})
	run("CM-29 a fetch that is not allowed", func(t *testing.T, o *origin, c *fetch.Cache[string]) {
		errBudget := errors.New("budget")
		asked := 0
		no := func() (func(), error) { asked++; return nil, errBudget }
		if _, _, err := c.Load(t.Context(), there, time.Time{}, no); err != errBudget || o.requests.Load() != 0 {
			t.Errorf("got %v after %d requests, want the error of allow and none", err, o.requests.Load())
		}
		load(t, c, o, time.Time{}, "one", 1)
		if got, _, err := c.Load(t.Context(), there, time.Time{}, no); got != "one" || err != nil || asked != 1 {
			t.Errorf("from memory: got %q, %v, asked %d times", got, err, asked)
		}
		time.Sleep(quick.MinFresh)
		if got, _, err := c.Load(t.Context(), there, time.Time{}, no); got != "one" || err != nil ||
			o.requests.Load() != 1 {
			t.Errorf("stale: got %q, %v after %d requests", got, err, o.requests.Load())
		}
	})
	run("CM-29 no more than fit", func(t *testing.T, o *origin, c *fetch.Cache[string]) {
		get := func(n int) {
			t.Helper()
			if _, _, err := c.Load(t.Context(), fmt.Sprintf("%s/%d", there, n), time.Time{}, nil); err != nil {
				t.Error(err)
			}
		}
		expect := func(requests int64) {
			t.Helper()
			if got := o.requests.Load(); got != requests {
				t.Errorf("%d requests, want %d", got, requests)
			}
		}
		get(1)
		get(2)
		get(1) // 2 is now the least recently used
		expect(2)
		get(3)
		get(1)
		expect(3)
		get(2)
		expect(4)
	})
	run("a value kept elsewhere is stale, and ends", func(t *testing.T, o *origin, c *fetch.Cache[string]) {
		began := time.Now()
		c.Seed(there, "kept", began, began.Add(time.Hour))
		o.set(500, "oops")
		load(t, c, o, time.Time{}, "kept", 1)
		c.Seed(there, "another", began, began.Add(2*time.Hour))
		time.Sleep(time.Minute)
		o.set(200, "one")
		load(t, c, o, time.Time{}, "one", 2)
		c.Seed(there, "kept", time.Now(), began.Add(48*time.Hour))
		load(t, c, o, time.Time{}, "one", 2)
		o.set(500, "oops")
		time.Sleep(quick.MinFresh + quick.MaxStale)
		loadFails(t, c, o, fetch.ErrUnavailable, 3)
		c.Seed(there, "kept", began, began.Add(time.Minute))
		loadFails(t, c, o, fetch.ErrUnavailable, 4)
	})
	run("a URL that may not be fetched", func(t *testing.T, _ *origin, c *fetch.Cache[string]) {
		_, _, err := c.Load(t.Context(), "https://127.0.0.1/c", time.Time{}, nil)
		if !errors.Is(err, fetch.ErrNotAllowed) {
			t.Errorf("got %v, want ErrNotAllowed", err)
		}
	})
	t.Run("CM-10 a host that moves inside keeps its stale value only", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(t)
			o.web.names["client.example"] = append(o.web.names["client.example"],
				[]netip.Addr{netip.MustParseAddr("10.0.0.1")})
			c := fetch.NewCache(o.client, quick, 2, words)
			load(t, c, o, time.Time{}, "one", 1)
			time.Sleep(time.Minute)
			load(t, c, o, time.Time{}, "one", 1)
			time.Sleep(quick.MaxStale)
			loadFails(t, c, o, fetch.ErrNotAllowed, 1)
		})
	})
	t.Run("a check that panics does not end the program", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(t)
			c := fetch.NewCache(o.client, quick, 2, func(string, *fetch.Document) (string, error) { panic("bug") })
			loadFails(t, c, o, fetch.ErrUnavailable, 1)
		})
	})
}
