package valkey_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/guard/guardtest"
	"github.com/cardea-auth/cardea/guard/valkey"
	"github.com/cardea-auth/cardea/internal/porttest"
)

// server is a real Valkey or Redis.
type server struct {
	address string
	stop    func()
}

// start starts a server at an address that is free, or at the given one.
func start(t *testing.T, address string) *server {
	t.Helper()
	program, err := exec.LookPath("valkey-server")
	if err != nil {
		if program, err = exec.LookPath("redis-server"); err != nil {
			t.Fatal("this test needs valkey-server or redis-server: run test/install, " +
				"or install the Debian package redis-server")
		}
	}
	if address == "" {
		address = porttest.Address(t)
	}
	_, port, _ := net.SplitHostPort(address)
	ctx, cancel := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", //nolint:gosec // found above
		"--dir", t.TempDir(), "--logfile", filepath.Join(t.TempDir(), "log"), "--requirepass", "hunter2")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	s := &server{address: address, stop: func() { once.Do(func() { cancel(); _ = c.Wait() }) }}
	t.Cleanup(s.stop)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err == nil {
			conn.Close()
			return s
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func (s *server) limits(t *testing.T, prefix string) *valkey.Limits {
	t.Helper()
	l, err := valkey.New(valkey.Config{URL: "redis://:hunter2@" + s.address, Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// Processes share the budget of a client, to the request, and clients and prefixes have budgets of their own.
func TestShared(t *testing.T) {
	s := start(t, "")
	processes := []*valkey.Limits{s.limits(t, "a"), s.limits(t, "a"), s.limits(t, "a")}
	rate := guard.Rate{Requests: 50, Per: time.Hour}
	for _, l := range processes { // connected
		if _, ok, err := l.Spend(t.Context(), "warm", rate); err != nil || !ok {
			t.Fatalf("%v %v", ok, err)
		}
	}
	var allowed, refused atomic.Int64
	var all sync.WaitGroup
	for _, l := range processes {
		for range 4 {
			all.Go(func() {
				for range 25 {
					wait, ok, err := l.Spend(t.Context(), "ada|app", rate)
					switch {
					case err != nil:
						t.Error(err)
					case ok && wait == 0:
						allowed.Add(1)
					case !ok && wait > 0 && wait <= rate.Per/50+time.Second:
						refused.Add(1)
					default:
						t.Errorf("%v %v", wait, ok)
					}
				}
			})
		}
	}
	all.Wait()
	if allowed.Load() != 50 || refused.Load() != 250 {
		t.Errorf("%d are allowed and %d refused", allowed.Load(), refused.Load())
	}
	for name, l := range map[string]*valkey.Limits{"bob|app": processes[0], "ada|app": s.limits(t, "b")} {
		if _, ok, err := l.Spend(t.Context(), name, rate); err != nil || !ok {
			t.Errorf("%s: %v %v", name, ok, err)
		}
	}
	if _, ok, err := processes[0].Spend(t.Context(), "ada|app", guard.Rate{}); err != nil || ok {
		t.Errorf("a rate of none: %v %v", ok, err)
	}
	// The budget fills again with time.
	fast := guard.Rate{Requests: 2, Per: 200 * time.Millisecond}
	for deadline, n := time.Now().Add(time.Minute), 0; n < 6; {
		if _, ok, _ := processes[0].Spend(t.Context(), "fast", fast); ok {
			n++
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d requests in a minute", n)
		}
	}
}

// While the server is away, each process limits by itself, and no request waits long; afterwards they share again.
func TestServerIsAway(t *testing.T) {
	issuer := guardtest.NewIssuer()
	t.Cleanup(issuer.Close)
	const resource = "https://mcp.example.com/mcp"
	s := start(t, "")
	newLimit := func() http.Handler {
		g, err := guard.New(guard.Config{Issuer: issuer.URL, Resource: resource, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return g.Protect(g.LimitRate(guard.RateLimits{Default: guard.Rate{Requests: 3, Per: time.Hour},
			Shared: s.limits(t, "").Spend})(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	}
	one, two := newLimit(), newLimit()
	ask := func(h http.Handler, subject string) int {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, resource, nil)
		r.Header.Set("Authorization", "Bearer "+issuer.Token(guardtest.Claims{Audience: resource, Subject: subject}))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	together := func(subject string) (n int) {
		for range 5 {
			for _, h := range []http.Handler{one, two} {
				if ask(h, subject) == http.StatusOK {
					n++
				}
			}
		}
		return n
	}
	if n := together("ada"); n != 3 {
		t.Errorf("%d requests got through two processes, want 3", n)
	}
	s.stop()
	if n := together("bob"); n != 6 {
		t.Errorf("%d requests got through while the server is away, want 3 in each process", n)
	}
	s = start(t, s.address)
	for deadline, n := time.Now().Add(time.Minute), 0; ; n++ {
		if got := together(string(rune('a'+n%26)) + time.Now().String()); got == 3 {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("%d requests get through after it is back, want 3", got)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// Requests at the same time, and requests whose client has gone, do not make the server look away.
func TestServerStays(t *testing.T) {
	s := start(t, "")
	one, two := s.limits(t, ""), s.limits(t, "")
	rate := guard.Rate{Requests: 1, Per: time.Hour}
	if _, ok, err := one.Spend(t.Context(), "ada", rate); err != nil || !ok {
		t.Fatalf("%v %v", ok, err)
	}
	if _, _, err := two.Spend(t.Context(), "warm", rate); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	var all sync.WaitGroup
	for range 64 {
		for _, ctx := range []context.Context{gone, t.Context()} {
			all.Go(func() {
				for range 20 {
					if _, ok, err := two.Spend(ctx, "ada", rate); err != nil || ok {
						t.Errorf("%v %v", ok, err)
					}
				}
			})
		}
	}
	all.Wait()
}

// A password, and one of a user, open the server; a wrong one does not, and is not in the error.
func TestUsers(t *testing.T) {
	s := start(t, "")
	rate := guard.Rate{Requests: 5, Per: time.Hour}
	for user, good := range map[string]bool{
		":hunter2": true, "default:hunter2": true, ":hunter3": false, "eve:hunter2": false,
	} {
		l, err := valkey.New(valkey.Config{URL: "valkey://" + user + "@" + s.address + "/1"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.Close)
		_, ok, err := l.Spend(t.Context(), "ada", rate)
		if ok != good || good != (err == nil) || err != nil && strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: %v %v", user, ok, err)
		}
	}
}

// With rediss and valkeys, TLS comes before the password.
func TestTLS(t *testing.T) {
	for scheme, first := range map[string]byte{"redis": '*', "valkey": '*', "rediss": 0x16, "valkeys": 0x16} {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		limits, err := valkey.New(valkey.Config{URL: scheme + "://:hunter2@" + l.Addr().String()})
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan byte, 1)
		go func() {
			defer l.Close()
			var b [1]byte
			if conn, err := l.Accept(); err == nil {
				_, _ = conn.Read(b[:])
				conn.Close()
			}
			got <- b[0]
		}()
		if _, ok, err := limits.Spend(t.Context(), "ada", guard.Rate{Requests: 1, Per: time.Hour}); err == nil || ok {
			t.Errorf("%s: %v %v", scheme, ok, err)
		}
		if b := <-got; b != first {
			t.Errorf("%s begins with %#x", scheme, b)
		}
	}
}

func TestURL(t *testing.T) {
	for _, url := range []string{"redis://127.0.0.1:6379", "rediss://u:p@limits.example.com/0", "valkey://127.0.0.1",
		"valkeys://h:1"} {
		if _, err := valkey.New(valkey.Config{URL: url}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, url := range []string{"", "127.0.0.1:6379", "http://:hunter2@x", "redis://x:hunter2@[::1", "redis:///0",
		"redis://h/hunter2", "redis://h?db=1"} {
		if _, err := valkey.New(valkey.Config{URL: url}); err == nil || len(err.Error()) > 60 {
			t.Errorf("%q: %v", url, err)
		}
	}
}
