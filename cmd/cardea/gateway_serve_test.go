//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/cardea-auth/cardea/internal/porttest"
)

// fronted is a server with a gateway in the same process.
type fronted struct {
	*process
	public, file, token string
}

// newFronted starts it with variables of the environment. The gateway has a server and a program.
func newFronted(t *testing.T, env ...string) *fronted {
	t.Helper()
	w := &fronted{process: newProcess(t), public: "http://" + porttest.Address(t)}
	tools := mcp.NewServer(&mcp.Implementation{Name: "files", Version: "1"}, nil)
	for _, name := range []string{"read_file", "write_file"} {
		mcp.AddTool(tools, &mcp.Tool{Name: name},
			func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
				return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "done"}}}, nil, nil
			})
	}
	upstream := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return tools },
		&mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true}))
	t.Cleanup(upstream.Close)

	w.command(t, "", "resource", "create", "--identifier", w.public+"/files", "--name", "Files",
		"--scope", "files:read=Read")
	reporter := w.made(t, "--resource-server", w.public+"/files")
	secret := filepath.Join(t.TempDir(), "secret")
	w.file = filepath.Join(t.TempDir(), "gateway.yaml")
	for path, text := range map[string]string{secret: reporter.ClientSecret, w.file: fmt.Sprintf(`issuer: %s
public: %s
listen: %s
client: {id: %s, secret_file: %s}
servers:
  - name: files
    path: /files
    upstream: %s
    rules: [{tools: [read_file], scopes: [files:read]}]
  - name: program
    path: /program
    command: ["true"]
    rules: [{tools: [read_file], scopes: [files:read]}]
`, w.issuer, w.public, strings.TrimPrefix(w.public, "http://"), reporter.ClientID, secret, upstream.URL)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.env = append([]string{"CARDEA_GATEWAY_CONFIG=" + w.file}, env...)
	w.start(t)
	bot := w.made(t, "--grant", "client_credentials", "--scope", "files:read", "--resource", w.public+"/files")
	resp, err := http.PostForm(w.issuer+"/oauth2/token", url.Values{"grant_type": {"client_credentials"},
		"client_id": {bot.ClientID}, "client_secret": {bot.ClientSecret}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var tokens struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&tokens); err != nil {
		t.Fatal(err)
	}
	w.token = tokens.AccessToken
	return w
}

type credentials struct {
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
}

// made creates a client.
func (w *fronted) made(t *testing.T, args ...string) (c credentials) {
	t.Helper()
	text := w.command(t, "", append([]string{"client", "create", "--name", "Bot", "-o", "json"}, args...)...)
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// call calls a tool through the gateway.
func (w *fronted) call(t *testing.T, tool string) (body string, err error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.public+"/files", strings.NewReader(
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+tool+`","arguments":{}}}`))
	if err != nil {
		return "", err
	}
	r.Header.Set("Authorization", "Bearer "+w.token)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("MCP-Protocol-Version", "2025-11-25")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return string(answer), err
}

// recorded returns the number of tool calls in the audit log with an outcome.
func (w *fronted) recorded(t *testing.T, outcome string) int {
	t.Helper()
	var events []struct {
		Detail struct{ Tool string }
	}
	text := w.command(t, "", "audit", "list", "--action", "tool.call", "--outcome", outcome, "--limit", "0", "-o",
		"json")
	if err := json.Unmarshal([]byte(text), &events); err != nil {
		t.Fatal(err)
	}
	return len(events)
}

// The gateway begins and ends with the server, reads its file again on SIGHUP, and loses no call that it answered when
// both are killed.
func TestGatewayInServe(t *testing.T) {
	w := newFronted(t)
	await(t, "a call is answered", func() bool {
		body, err := w.call(t, "read_file")
		return err == nil && strings.Contains(body, "done")
	})
	await(t, "the call is recorded", func() bool { return w.recorded(t, "allowed") == 1 })

	var mu sync.Mutex
	answered := 1
	var all sync.WaitGroup
	killed := make(chan struct{})
	for range 8 {
		all.Go(func() {
			for range 500 {
				body, err := w.call(t, "read_file")
				if err != nil {
					return
				}
				if strings.Contains(body, "done") {
					mu.Lock()
					if answered++; answered == 200 {
						close(killed)
					}
					mu.Unlock()
				}
			}
		})
	}
	<-killed
	w.kill(t)
	all.Wait()
	w.start(t)
	// A call may be on disk whose answer did not arrive, one for each that was under way.
	n := 0
	await(t, "the calls from before are recorded", func() bool { n = w.recorded(t, "allowed"); return n >= answered })
	if n > answered+8 {
		t.Errorf("%d calls are recorded, and %d were answered", n, answered)
	}

	text, err := os.ReadFile(w.file)
	if err == nil {
		err = os.WriteFile(w.file, []byte(strings.ReplaceAll(string(text), "read_file", "write_file")), 0o600)
	}
	if err == nil {
		err = w.server.Process.Signal(syscall.SIGHUP)
	}
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the new rules apply", func() bool {
		body, err := w.call(t, "read_file")
		return err == nil && strings.Contains(body, "-32601")
	})
	await(t, "the refusal is recorded", func() bool { return w.recorded(t, "refused") >= 1 })
	if err := w.server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := w.server.Wait(); err != nil {
		t.Errorf("cardea serve: %v", err)
	}
	if _, err := w.call(t, "read_file"); err == nil {
		t.Error("the gateway still answers")
	}
}
