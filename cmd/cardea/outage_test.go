//go:build linux

package main

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/cardea-auth/cardea/internal/porttest"
)

// cluster is a PostgreSQL of its own, as a process that a test may end or stop.
type cluster struct {
	folder string
	port   int
	as     *syscall.SysProcAttr // its account, because it does not run as root
	server *exec.Cmd
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	folder, err := os.MkdirTemp("", "cardea-cluster")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{folder: folder, as: &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}}
	if os.Getuid() == 0 {
		account, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.ParseUint(account.Uid, 10, 32)
		gid, _ := strconv.ParseUint(account.Gid, 10, 32)
		c.as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(folder, int(uid), int(gid)); err != nil {
			t.Fatal(err)
		}
	}
	c.port = porttest.Port(t)
	t.Cleanup(func() {
		c.end()
		os.RemoveAll(folder)
	})
	init := c.program("initdb", "-D", folder+"/data", "-U", "cardea", "-A", "trust", "--no-sync", "--locale=C.UTF-8",
		"--encoding=UTF8")
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	c.start(t)
	return c
}

// program returns a program of PostgreSQL, as the account of the cluster.
func (c *cluster) program(name string, args ...string) *exec.Cmd {
	//nolint:noctx // it is ended, not cancelled
	cmd := exec.Command(filepath.Join(os.Getenv("CARDEA_POSTGRES_BIN"), name), args...)
	cmd.SysProcAttr, cmd.Dir = c.as, c.folder
	return cmd
}

func (c *cluster) start(t *testing.T) {
	t.Helper()
	c.server = c.program("postgres", "-D", c.folder+"/data", "-p", strconv.Itoa(c.port), "-c",
		"listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off")
	if err := c.server.Start(); err != nil {
		t.Fatal(err)
	}
	handle, err := sql.Open("pgx", c.dsn())
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	// It listens before it lets anybody in.
	await(t, "PostgreSQL takes connections", func() bool { return handle.PingContext(t.Context()) == nil })
}

func (c *cluster) dsn() string {
	return fmt.Sprintf("postgres://cardea@127.0.0.1:%d/postgres?sslmode=disable", c.port)
}

// end ends the server at once, as a crash does.
func (c *cluster) end() {
	if c.server == nil {
		return
	}
	c.signal(syscall.SIGCONT)
	_ = c.server.Process.Signal(syscall.SIGQUIT)
	_ = c.server.Wait() // it was told to end
	c.server = nil
}

// signal sends a signal to the server and all processes that it has started.
func (c *cluster) signal(signal syscall.Signal) {
	pid := c.server.Process.Pid
	_ = syscall.Kill(pid, signal)
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for child := range strings.FieldsSeq(string(children)) {
		if n, err := strconv.Atoi(child); err == nil {
			_ = syscall.Kill(n, signal)
		}
	}
}

// statusList returns the path of the status list of an access token.
func statusList(t *testing.T, access string) string {
	t.Helper()
	var claims struct {
		Status struct {
			List struct{ URI string } `json:"status_list"`
		}
	}
	_, rest, _ := strings.Cut(access, ".")
	payload, _, _ := strings.Cut(rest, ".")
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err == nil {
		err = json.Unmarshal(text, &claims)
	}
	u, parsing := url.Parse(claims.Status.List.URI)
	if err != nil || parsing != nil || u.Path == "" {
		t.Fatalf("an access token without a status list: %v, %s", err, text)
	}
	return u.Path
}

// FL-09, FL-10: while the database is away, the program answers what needs none, refuses tokens for now with the time
// to wait, and is as before when the database is back, without a restart.
func TestOutage(t *testing.T) {
	alone := func(t *testing.T) *cluster {
		c := newCluster(t)
		t.Setenv("CARDEA_DATABASE", c.dsn()+"&connect_timeout=60")
		t.Setenv("CARDEA_MASTER_KEY", "bm90IGEga2V5LCBidXQgMzIgYnl0ZXMgb2YgdGV4dCE=")
		return c
	}
	for name, prepare := range map[string]func(*testing.T) (dsn string, begin, end func(*process)){
		"PostgreSQL ends": func(t *testing.T) (dsn string, begin, end func(*process)) {
			c := alone(t)
			return c.dsn(), func(*process) { c.end() }, func(*process) { c.start(t) }
		},
		"PostgreSQL is frozen": func(t *testing.T) (dsn string, begin, end func(*process)) {
			c := alone(t)
			return c.dsn(), func(*process) { c.signal(syscall.SIGSTOP) }, func(*process) { c.signal(syscall.SIGCONT) }
		},
		"SQLite is locked": func(t *testing.T) (dsn string, begin, end func(*process)) {
			var handle *sql.DB
			run := func(statement string) {
				if _, err := handle.ExecContext(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
			return "", func(w *process) {
					var err error
					handle, err = sql.Open("sqlite", "file:"+filepath.Join(w.folder, "cardea.db")+
						"?_pragma=busy_timeout(10000)")
					if err != nil {
						t.Fatal(err)
					}
					handle.SetMaxOpenConns(1)
					t.Cleanup(func() { handle.Close() })
					run("BEGIN EXCLUSIVE")
				}, func(*process) {
					run("ROLLBACK")
				}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dsn, begin, end := prepare(t)
			w := newProcess(t)
			w.start(t)
			ask := func(form url.Values) (status int, retry string, tokens map[string]any) {
				t.Helper()
				form.Set("client_id", w.client)
				// Without a time of its own, the server would wait for SQLite as long as a command does, which is
				// 10 seconds.
				ctx, cancel := within(t, 8*time.Second)
				defer cancel()
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.issuer+"/oauth2/token",
					strings.NewReader(form.Encode()))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if err := json.NewDecoder(resp.Body).Decode(&tokens); err != nil {
					t.Fatal(err)
				}
				return resp.StatusCode, resp.Header.Get("Retry-After"), tokens
			}
			status, _, tokens := ask(url.Values{"grant_type": {"authorization_code"}, "code": {w.codes(t, 1)[0]},
				"code_verifier": {verifier}})
			if status != http.StatusOK {
				t.Fatalf("before: %d %v", status, tokens)
			}
			refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens["refresh_token"].(string)}}
			public := []string{"/.well-known/oauth-authorization-server", "/.well-known/jwks", "/healthz",
				statusList(t, tokens["access_token"].(string))}
			if dsn != "" { // without the patience that a busy machine needs until here
				w.kill(t)
				w.env = append(w.env, "CARDEA_DATABASE="+dsn)
				w.start(t)
			}
			for _, path := range append(public, "/readyz") {
				await(t, "before, "+path, func() bool { return answer(t, w.issuer+path).StatusCode == http.StatusOK })
			}

			begin(w)
			if status, retry, body := ask(refresh); status != http.StatusServiceUnavailable || retry == "" {
				t.Errorf("a token: %d, Retry-After %q, %v", status, retry, body)
			}
			for _, path := range public {
				if resp := answer(t, w.issuer+path); resp.StatusCode != http.StatusOK {
					t.Errorf("%s: %d", path, resp.StatusCode)
				}
			}
			if resp := answer(t, w.issuer+"/readyz"); resp.StatusCode != http.StatusServiceUnavailable ||
				resp.Header.Get("Retry-After") == "" {
				t.Errorf("readyz: %d", resp.StatusCode)
			}
			out, err := exec.CommandContext(t.Context(), "cardea", "--data-dir", w.folder, "--issuer", w.issuer,
				"health",
				"--address", w.listen).Output()
			if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != exitFailed ||
				!strings.Contains(string(out), "the database") {
				t.Errorf("cardea health: %v, %s", err, out)
			}

			end(w)
			await(t, "ready again", func() bool { return answer(t, w.issuer+"/readyz").StatusCode == http.StatusOK })
			await(t, "tokens again", func() bool { status, _, _ := ask(refresh); return status == http.StatusOK })
		})
	}
}

// within returns a context that ends after d. What the machine stands still meanwhile does not count.
func within(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	const step = 50 * time.Millisecond
	go func() {
		tick := time.NewTicker(step) // it drops what nobody could take
		defer tick.Stop()
		for range d / step {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
		cancel()
	}()
	return ctx, cancel
}
