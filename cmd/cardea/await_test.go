package main

import (
	"bufio"
	"database/sql"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	_ "modernc.org/sqlite"

	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// FL-08: serve waits for a database that cannot be used when it starts, and says so. Meanwhile /healthz is answered and
// everything else is refused for now. It serves when the database is there, without a restart, and ends well if it is
// told to while it waits.
func TestServeAwaitsDatabase(t *testing.T) {
	for name, outage := range map[string]func(*testing.T, *process) (begin, end func()){
		"PostgreSQL is down": func(t *testing.T, _ *process) (begin, end func()) {
			proxy := storetest.NewProxy(t, storetest.New(t, storetest.Postgres))
			t.Setenv("CARDEA_DATABASE", proxy.DSN)
			t.Setenv("CARDEA_MASTER_KEY", "bm90IGEga2V5LCBidXQgMzIgYnl0ZXMgb2YgdGV4dCE=")
			return proxy.Cut, proxy.Mend
		},
		"SQLite is locked": func(t *testing.T, w *process) (begin, end func()) {
			handle, err := sql.Open("sqlite", filepath.Join(w.folder, "cardea.db"))
			if err != nil {
				t.Fatal(err)
			}
			handle.SetMaxOpenConns(1)
			t.Cleanup(func() { handle.Close() })
			run := func(statements ...string) func() {
				return func() {
					for _, statement := range statements {
						if _, err := handle.ExecContext(t.Context(), statement); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			return run("PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE"), func() {
				run("ROLLBACK")()
				handle.Close()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newProcess(t)
			begin, end := outage(t, w)
			launch := func() (*exec.Cmd, func(string) string) {
				server := exec.CommandContext(t.Context(), "cardea", "serve", "--data-dir", w.folder, "--issuer",
					w.issuer, "--listen", w.listen)
				log, err := server.StderrPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := server.Start(); err != nil {
					t.Fatal(err)
				}
				lines := bufio.NewScanner(log)
				return server, func(text string) string {
					t.Helper()
					for lines.Scan() {
						if strings.Contains(lines.Text(), text) {
							return lines.Text()
						}
					}
					t.Fatalf("the server ended before it logged %s", text)
					return ""
				}
			}
			begin()
			server, until := launch()
			if line := until("the database cannot be used yet"); !strings.Contains(line, `"level":"WARN"`) ||
				!strings.Contains(line, "database: ") {
				t.Errorf("the log does not say why: %s", line)
			}
			for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/.well-known/jwks": 503,
				"/.well-known/oauth-authorization-server": 503, "/oauth2/authorize": 503} {
				resp := answer(t, w.issuer+path)
				if resp.StatusCode != want || (resp.Header.Get("Retry-After") != "") != (want == 503) {
					t.Errorf("%s: %d, Retry-After %q, want %d", path, resp.StatusCode, resp.Header.Get("Retry-After"),
						want)
				}
			}
			if err := server.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			if err := server.Wait(); err != nil {
				t.Errorf("told to end while it waits: %v", err)
			}

			_, until = launch()
			until("the database cannot be used yet")
			end()
			until(`"msg":"serving"`)
			for _, path := range []string{"/healthz", "/readyz", "/.well-known/jwks"} {
				if resp := answer(t, w.issuer+path); resp.StatusCode != http.StatusOK {
					t.Errorf("%s: %d, want 200 once the database is there", path, resp.StatusCode)
				}
			}
		})
	}
}

func answer(t *testing.T, url string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}
