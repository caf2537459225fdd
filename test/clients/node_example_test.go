package clients_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/porttest"
)

// nodeExample is the MCP server of examples/node behind `cardea serve`, provisioned with the commands of its README.
func nodeExample(t *testing.T) *demo {
	t.Helper()
	d := startServer(t)
	d.serveTools(t)
	return d
}

// serveTools runs the MCP server of examples/node behind the server until the test ends, or end is called, which returns
// what it has written.
func (d *demo) serveTools(t *testing.T) (end func() string) {
	t.Helper()
	d.MCP = "http://" + porttest.Address(t) + "/mcp"
	var resource struct{ Identifier string }
	command(t, d.env, &resource, "resource", "create", "--identifier", d.MCP, "--name", "Node example",
		"--scope", "mcp:tools:weather=Weather forecasts", "--scope", "mcp:tools:calendar:write=Change your calendar",
		"--default-scope", "mcp:tools:weather", "-o", "json")
	end = startNode(t, []string{"ISSUER=" + d.Issuer, "RESOURCE=" + d.MCP}, "../../examples/node/server.mjs")
	await(t, strings.TrimSuffix(d.MCP, "/mcp")+"/.well-known/oauth-protected-resource/mcp")
	return end
}

// The example server for the official TypeScript SDK: the SDK's clients sign in, call a tool, step up for another and
// refresh; the Inspector signs in and steps up.
func TestNodeExample(t *testing.T) {
	d := nodeExample(t)
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) { playSession(t, d, version) })
	}
	t.Run("Inspector", func(t *testing.T) {
		ada := newPerson(t, d.Email, d.Password)
		i := &inspector{d, newDesk(t, ada), t.TempDir()}
		var tools []string
		for _, tool := range i.run(t, "--method", "tools/list").Result.Tools {
			tools = append(tools, tool.Name)
		}
		slices.Sort(tools)
		if diff := cmp.Diff([]string{"create_event", "get_forecast"}, tools); diff != "" {
			t.Errorf("tools (-want +got):\n%s", diff)
		}
		if got, want := i.at.requests()[0].Get("scope"), "mcp:tools:weather offline_access"; got != want {
			t.Errorf("it asks for %q, want the least, %q", got, want)
		}
		printed := i.run(t, "--method", "tools/call", "--tool-name", "get_forecast", "--tool-arg", "city=Lisbon",
			"--use-stored-auth")
		c := printed.Result.Content
		if printed.Result.IsError || len(c) != 1 || !strings.Contains(c[0].Text, "Lisbon") {
			t.Errorf("get_forecast answers %+v", printed)
		}
	})
}

// Requests that only an attacker sends.
func TestNodeExampleRefuses(t *testing.T) {
	d := startServer(t)
	end := d.serveTools(t)
	machine := d.createClient(t, "--name", "Bot", "--grant", "client_credentials", "--scope", "mcp:tools:weather",
		"--resource", d.MCP)
	token := machineToken(t, d.Issuer, machine.ID, machine.Secret)
	call := func(authorization, contentType, body string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.MCP, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", contentType)
		req.Header.Set("Accept", "application/json, text/event-stream")
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	forecast := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_forecast","arguments":{"city":"Lisbon"}}}`
	event := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"create_event","arguments":{"title":"Tea","start":"17:00"}}}`
	tests := []struct {
		name, authorization, contentType, body string
		status                                 int
		challenge                              string
	}{
		{"no token", "", "application/json", forecast, 401, `scope="mcp:tools:weather"`},
		{"a token of nobody", "Bearer a.b.c", "application/json", forecast, 401, `error="invalid_token"`},
		{"a good call", "Bearer " + token, "application/json", forecast, 200, ""},
		{"a scope that is missing", "Bearer " + token, "application/json", event, 403,
			`scope="mcp:tools:weather mcp:tools:calendar:write"`},
		{"a batch", "Bearer " + token, "application/json", "[" + event + "]", 400, ""},
		{"another character set", "Bearer " + token, "application/json; charset=utf-7",
			strings.ReplaceAll(event, "/", "+AC8-"), 403, `error="insufficient_scope"`},
		{"a tool that nobody listed", "Bearer " + token, "application/json",
			strings.ReplaceAll(forecast, "get_forecast", "toString"), 403, ""},
		// a method that the SDK does not know
		{"a method with a NUL", "Bearer " + token, "application/json",
			strings.ReplaceAll(event, "tools/call", `tools/call\u0000`), 200, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp := call(tt.authorization, tt.contentType, tt.body)
			got := resp.Header.Get("WWW-Authenticate")
			if resp.StatusCode != tt.status || !strings.Contains(got, tt.challenge) {
				t.Errorf("status %d, challenge %q; want %d and %q", resp.StatusCode, got, tt.status, tt.challenge)
			}
		})
	}
	var lines []string
	for line := range strings.Lines(end()) {
		var call struct{ Event, Tool, Outcome, User string }
		if json.Unmarshal([]byte(line), &call) == nil && call.Event == "tool.call" && call.User == machine.ID {
			lines = append(lines, call.Tool+" "+call.Outcome)
		}
	}
	if diff := cmp.Diff([]string{"get_forecast allowed", "create_event refused", "create_event refused",
		"toString refused"}, lines); diff != "" {
		t.Errorf("lines for the audit (-want +got):\n%s", diff)
	}
}

// machineToken returns an access token that a client gets with its secret.
func machineToken(t *testing.T, issuer, id, secret string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, issuer+"/oauth2/token",
		strings.NewReader("grant_type=client_credentials"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(id, secret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.AccessToken == "" {
		t.Fatalf("status %d, no access token: %v", resp.StatusCode, err)
	}
	return answer.AccessToken
}

// startNode runs a script until the test ends.
func startNode(t *testing.T, env []string, script string) (end func() string) {
	t.Helper()
	running, stop := context.WithCancel(t.Context())
	return runUntilEnd(t, node(running, t, script), stop, env)
}

// runUntilEnd runs a command in a context that stop ends, until the test ends or end is called, which returns what the
// command has written.
func runUntilEnd(t *testing.T, cmd *exec.Cmd, stop func(), env []string) (end func() string) {
	t.Helper()
	cmd.Env = environ(env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	var logged strings.Builder
	cmd.Stdout, cmd.Stderr = &logged, &logged
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = sync.OnceValue(func() string {
		stop()
		_ = cmd.Wait() // it was killed
		return logged.String()
	})
	t.Cleanup(func() {
		if written := end(); t.Failed() {
			t.Logf("%s:\n%s", strings.Join(cmd.Args, " "), written)
		}
	})
	return end
}
