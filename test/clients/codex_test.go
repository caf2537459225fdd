//go:build nightly

package clients_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A codex is a running `codex app-server`, with which editors exchange JSON-RPC messages, one per line.
type codex struct {
	t    *testing.T
	in   *json.Encoder
	out  *json.Decoder
	sent int
}

// A codexMessage is a response if it has an ID, and otherwise a notification.
type codexMessage struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

// startCodex starts Codex with the demo's MCP server in its configuration, and without access to a model.
func startCodex(t *testing.T, d *demo) *codex {
	t.Helper()
	programs, err := filepath.Glob(filepath.Join(needed(t, "CARDEA_CLIENTS"),
		"nightly/node_modules/@openai/codex-linux-*/vendor/*/bin/codex"))
	if err != nil || len(programs) != 1 {
		t.Fatalf("Codex's binaries are %q (%v), want one; `make nightly` installs it", programs, err)
	}
	home := t.TempDir()
	config := fmt.Sprintf("mcp_oauth_credentials_store = \"file\"\n[mcp_servers.demo]\nurl = %q\n", d.MCP)
	if err := os.WriteFile(filepath.Join(home, "config.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), programs[0], "app-server")
	cmd.Dir = home
	cmd.Env = environ("HOME="+home, "CODEX_HOME="+home)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Wait() // the end of the test's context has killed it
		if t.Failed() {
			t.Logf("codex said:\n%s", complaint.String())
		}
	})
	c := &codex{t: t, in: json.NewEncoder(in), out: json.NewDecoder(out)}
	c.ask("initialize",
		map[string]any{"clientInfo": map[string]any{"name": "cardea-test", "title": "Cardea test", "version": "1.0.0"}},
		nil)
	if err := c.in.Encode(map[string]any{"method": "initialized"}); err != nil {
		t.Fatal(err)
	}
	return c
}

// ask sends a request and decodes the response into result.
func (c *codex) ask(method string, params, result any) {
	c.t.Helper()
	c.sent++
	if err := c.in.Encode(map[string]any{"id": c.sent, "method": method, "params": params}); err != nil {
		c.t.Fatal(err)
	}
	m := c.await(func(m codexMessage) bool { return m.Method == "" && m.ID == c.sent })
	if m.Error != nil {
		c.t.Fatalf("%s: %s", method, m.Error)
	}
	if result == nil {
		return
	}
	if err := json.Unmarshal(m.Result, result); err != nil {
		c.t.Fatalf("%s: %v in %s", method, err, m.Result)
	}
}

// await reads messages until wanted accepts one.
func (c *codex) await(wanted func(codexMessage) bool) (m codexMessage) {
	c.t.Helper()
	for {
		m = codexMessage{}
		if err := c.out.Decode(&m); err != nil {
			c.t.Fatal(err)
		}
		if wanted(m) {
			return m
		}
	}
}

// login signs in for scopes; nil means the scopes that Codex finds by itself.
func (c *codex) login(ada *person, scopes []string) {
	c.t.Helper()
	var began struct{ AuthorizationURL string }
	// because its metadata document is on the internet
	params := map[string]any{"name": "demo", "clientRegistration": "dcr"}
	if scopes != nil {
		params["scopes"] = scopes
	}
	c.ask("mcpServer/oauth/login", params, &began)
	back, err := ada.Visit(began.AuthorizationURL)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := reach(c.t.Context(), back); err != nil {
		c.t.Fatal(err)
	}
	done := c.await(func(m codexMessage) bool { return m.Method == "mcpServer/oauthLogin/completed" })
	var completed struct {
		Success bool
		Error   string
	}
	if err := json.Unmarshal(done.Params, &completed); err != nil || !completed.Success {
		c.t.Fatalf("the sign-in ended with %s (%v)", done.Params, err)
	}
}

// tools returns the tools of the demo's MCP server, as Codex lists them.
func (c *codex) tools() (names []string) {
	c.t.Helper()
	var status struct {
		Data []struct {
			Name  string
			Tools map[string]json.RawMessage
		}
	}
	c.ask("mcpServerStatus/list", map[string]any{}, &status)
	for _, server := range status.Data {
		if server.Name == "demo" {
			for name := range server.Tools {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// Codex signs in through its app server, which does not need a model, and lists the tools. It signs in again for the
// scopes that the person names.
func TestCodex(t *testing.T) {
	d := startDemo(t)
	c := startCodex(t, d)
	ada := newPerson(t, d.Email, d.Password)
	if got := c.tools(); len(got) != 0 {
		t.Errorf("before it signed in, it lists the tools %q", got)
	}
	c.login(ada, nil)
	if diff := cmp.Diff([]string{"create_event", "get_forecast", "list_events", "send_email"}, c.tools()); diff != "" {
		t.Errorf("tools (-want +got):\n%s", diff)
	}
	c.login(ada, []string{"mcp:tools:weather", "mcp:tools:email:send"})

	var grants []grant
	command(t, d.env, &grants, "grant", "list", "-o", "json")
	var scopes []string
	for _, g := range grants {
		scopes = append(scopes, g.Scope)
	}
	slices.Sort(scopes)
	want := []string{
		"mcp:tools:weather mcp:tools:calendar:read offline_access", // what the server's challenge names
		"mcp:tools:weather mcp:tools:email:send offline_access",
	}
	if diff := cmp.Diff(want, scopes); diff != "" {
		t.Errorf("granted (-want +got):\n%s", diff)
	}
}
