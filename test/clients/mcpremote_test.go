package clients_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// startRemote runs mcp-remote with its files in folder and connects to it, as an MCP host does that supports only
// stdio.
func startRemote(t *testing.T, d *demo, at *desk, folder string, args ...string) (*mcp.ClientSession, error) {
	t.Helper()
	cmd := node(at.waits, t, "node_modules/mcp-remote/dist/proxy.js", append([]string{d.MCP}, args...)...)
	cmd.Env = append(environ(at.env()...), "MCP_REMOTE_CONFIG_DIR="+folder)
	var said bytes.Buffer
	cmd.Stderr = &said
	client := mcp.NewClient(&mcp.Implementation{Name: "cardea-test", Version: "1.0.0"}, nil)
	session, err := client.Connect(at.waits, &mcp.CommandTransport{Command: cmd}, nil)
	if err != nil {
		return nil, fmt.Errorf("mcp-remote: %w; it said:\n%s", err, said.String())
	}
	t.Cleanup(func() {
		_ = session.Close() // ends the process too
		if t.Failed() {
			t.Logf("mcp-remote said:\n%s", said.String())
		}
	})
	return session, nil
}

// callTool calls a tool and fails the test unless it returns a result.
func callTool(t *testing.T, session *mcp.ClientSession, tool string, args map[string]any) {
	t.Helper()
	switch result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: args}); {
	case err != nil:
		t.Errorf("%s: %v", tool, err)
	case result.IsError:
		t.Errorf("%s failed: %v", tool, result.Content)
	}
}

// mcp-remote registers, opens the browser, calls a tool, and opens the browser again if a tool needs another scope.
func TestMCPRemote(t *testing.T) {
	d := startDemo(t)
	const weather, read, write = "mcp:tools:weather", "mcp:tools:calendar:read", "mcp:tools:calendar:write"
	tests := []struct {
		name          string
		args          []string
		first, stepUp []string // the scopes that it requests
	}{
		{"the scopes of the challenge", nil,
			[]string{weather, read, "offline_access"}, []string{weather, read, "offline_access", write}},
		{"its scopes where nobody names any",
			[]string{"--static-oauth-client-metadata", `{"scope":"openid email profile"}`},
			[]string{"openid", "email", "profile"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			at := newDesk(t, newPerson(t, d.Email, d.Password))
			session, err := startRemote(t, d, at, t.TempDir(), tt.args...)
			if err != nil {
				t.Fatal(err)
			}
			callTool(t, session, "get_forecast", map[string]any{"city": "Lisbon"})
			want := [][]string{tt.first}
			if tt.stepUp != nil {
				callTool(t, session, "create_event", map[string]any{"title": "Tea", "start": "2031-05-04T15:00"})
				want = append(want, tt.stepUp)
			}
			opened := at.requests()
			if len(opened) != len(want) {
				t.Fatalf("the browser was opened %d times, want %d", len(opened), len(want))
			}
			for i, request := range opened {
				if got := strings.Fields(request.Get("scope")); !slices.Equal(got, want[i]) {
					t.Errorf("request %d asks for %v, want %v", i, got, want[i])
				}
				callback, err := url.Parse(request.Get("redirect_uri"))
				if err != nil || callback.Hostname() != "localhost" || callback.Path != "/oauth/callback" {
					t.Errorf("the redirect URI is %q, want one on localhost with the path /oauth/callback",
						request.Get("redirect_uri"))
				}
			}
			if c := d.client(t, opened[0]); c.Origin != "registration" || c.Method != "none" {
				t.Errorf("the client is %+v, want one that registered, without a secret", c)
			}
		})
	}
}

// If its registration was deleted, mcp-remote gets an error from the token endpoint, registers again and asks the
// person to sign in again.
func TestMCPRemoteRegistrationVanished(t *testing.T) {
	d := startDemo(t)
	at := newDesk(t, newPerson(t, d.Email, d.Password))
	folder := t.TempDir()
	session, err := startRemote(t, d, at, folder)
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Close(); err != nil {
		t.Fatal(err)
	}
	var deleted any
	command(t, d.env, &deleted, "client", "delete", at.requests()[0].Get("client_id"), "-o", "json")
	spoilTokens(t, folder, time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)) // the server may remember it for a second

	if session, err = startRemote(t, d, at, folder); err != nil {
		t.Fatal(err)
	}
	callTool(t, session, "get_forecast", map[string]any{"city": "Lisbon"})
	opened := at.requests()
	if len(opened) != 2 {
		t.Fatalf("the browser was opened %d times, want twice", len(opened))
	}
	if opened[0].Get("client_id") == opened[1].Get("client_id") {
		t.Error("it comes back with the client_id that is no more")
	}
	d.client(t, opened[1])
}

// Five processes of mcp-remote start with the tokens of one file, whose access token no longer works.
func TestMCPRemoteProcessesShareTokenFile(t *testing.T) {
	const processes = 5
	tests := []struct {
		name    string
		expires time.Time // according to the file
		meet    int       // number of refreshes that wait for each other
	}{
		{"it has expired: the first process refreshes for all", time.Unix(1, 0), 1},
		{"it is refused: all refresh at once", time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), processes},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			refreshes := &refreshes{meet: tt.meet, together: make(chan struct{})}
			d := startDemoBehind(t, refreshes.through)
			at := newDesk(t, newPerson(t, d.Email, d.Password))
			folder := t.TempDir()
			session, err := startRemote(t, d, at, folder)
			if err != nil {
				t.Fatal(err)
			}
			if err := session.Close(); err != nil {
				t.Fatal(err)
			}
			kept := spoilTokens(t, folder, tt.expires)

			var wg sync.WaitGroup
			for range processes {
				wg.Go(func() {
					session, err := startRemote(t, d, at, folder)
					if err != nil {
						t.Error(err)
						return
					}
					callTool(t, session, "get_forecast", map[string]any{"city": "Lisbon"})
				})
			}
			wg.Wait()
			sent := refreshes.tokens()
			if len(sent) < tt.meet {
				t.Errorf("%d refreshes came, want %d", len(sent), tt.meet)
			}
			for _, token := range sent[:min(len(sent), tt.meet)] {
				if token != kept {
					t.Error("a refresh came with another refresh token than that of the file")
				}
			}
			opened := at.requests()
			if len(opened) != 1 {
				t.Fatalf("the browser was opened %d times, want once, at the beginning", len(opened))
			}
			if live := d.liveGrants(t, opened[0].Get("client_id")); live != 1 {
				t.Errorf("the client has %d live grants, want the one it began with", live)
			}
		})
	}
}

// spoilTokens replaces the access token in mcp-remote's file with an invalid one, and returns the refresh token in the
// file.
func spoilTokens(t *testing.T, folder string, expires time.Time) (refreshToken string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*", "*_tokens.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("mcp-remote's token files are %v (%v), want one", files, err)
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var tokens map[string]any
	if err := json.Unmarshal(raw, &tokens); err != nil {
		t.Fatal(err)
	}
	tokens["access_token"], tokens["expires_at"] = "no.longer.good", expires.UnixMilli()
	if raw, err = json.Marshal(tokens); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[0], raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return tokens["refresh_token"].(string)
}

// refreshes collects the refresh requests that pass a proxy. The first ones wait until there are enough.
type refreshes struct {
	meet     int
	together chan struct{} // closed when enough have arrived

	mu   sync.Mutex
	seen []string // their refresh tokens
}

func (m *refreshes) through(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if form, err := url.ParseQuery(string(body)); err == nil && form.Get("grant_type") == "refresh_token" {
			m.mu.Lock()
			if m.seen = append(m.seen, form.Get("refresh_token")); len(m.seen) == m.meet {
				close(m.together)
			}
			m.mu.Unlock()
			select {
			case <-m.together:
			case <-r.Context().Done():
			}
		}
		next.ServeHTTP(w, r)
	})
}

func (m *refreshes) tokens() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seen
}
