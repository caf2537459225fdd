package clients_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/cardea-auth/cardea/internal/porttest"
)

const pythonExample = "../../examples/python"

// pythonWith returns a Python that can import packages, or "".
func pythonWith(t *testing.T, packages string) string {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(t.Context(), name, "-c", "import "+packages).Run() == nil {
			return name
		}
	}
	t.Logf("no Python with the packages %s is at hand: what needs them did not run", packages)
	return ""
}

// The guide for Python shows the programs of the example as they are, and they are Python.
func TestPythonGuide(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guides/python.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fastmcp_server.py", "sdk_server.py"} {
		program, err := os.ReadFile(filepath.Join(pythonExample, name))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(guide), "```python\n"+string(program)+"```\n") {
			t.Errorf("the guide does not show %s as it is", name)
		}
	}
	if python := pythonWith(t, "ast"); python != "" {
		const parse = "import ast, sys\nfor name in sys.argv[1:]: ast.parse(open(name).read(), name)"
		files, _ := filepath.Glob(pythonExample + "/*.py")
		out, err := exec.CommandContext(t.Context(), python,
			append([]string{"-c", parse}, files...)...).CombinedOutput()
		if err != nil || len(files) != 3 {
			t.Errorf("%v: %v\n%s", files, err, out)
		}
	}
}

// cardea.py of the Python example, with tokens of Cardea: it refuses what Cardea has not allowed, tells the client what
// it needs, and writes a line for each call. Where the libraries are at hand, this is so for their servers too.
func TestPythonExample(t *testing.T) {
	for _, tt := range []struct{ name, packages, program string }{
		{"cardea.py", "jwt, cryptography", "asgi.py"},
		{"FastMCP", "fastmcp, uvicorn, jwt, cryptography", pythonExample + "/fastmcp_server.py"},
		{"official SDK", "mcp, uvicorn, jwt, cryptography", pythonExample + "/sdk_server.py"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if python := pythonWith(t, tt.packages); python != "" {
				playPython(t, python, tt.program)
			}
		})
	}
}

// playPython runs a server and sends it what clients and attackers send.
func playPython(t *testing.T, python, program string) {
	d := startServer(t)
	d.MCP = "http://" + porttest.Address(t) + "/mcp"
	other := "http://" + porttest.Address(t) + "/mcp"
	for _, identifier := range []string{d.MCP, other} {
		var made struct{ Identifier string }
		command(t, d.env, &made, "resource", "create", "--identifier", identifier, "--name", "Python example",
			"--scope", "mcp:tools:weather=Weather forecasts", "--scope", "mcp:tools:email:send=Send e-mail",
			"--default-scope", "mcp:tools:weather", "-o", "json")
	}
	running, stop := context.WithCancel(t.Context())
	cmd := exec.CommandContext(running, python, program)
	end := runUntilEnd(t, cmd, stop, []string{"ISSUER=" + d.Issuer, "RESOURCE=" + d.MCP, "EXAMPLE=" + pythonExample,
		"PYTHONDONTWRITEBYTECODE=1"})
	metadata := strings.TrimSuffix(d.MCP, "/mcp") + "/.well-known/oauth-protected-resource/mcp"
	await(t, metadata)
	d.diagnose(t)

	bot := d.createClient(t, "--name", "Bot", "--grant", "client_credentials", "--scope", "mcp:tools:weather",
		"--resource", d.MCP)
	token := machineToken(t, d.Issuer, bot.ID, bot.Secret)
	stranger := d.createClient(t, "--name", "Stranger", "--grant", "client_credentials", "--scope", "mcp:tools:weather",
		"--resource", other)
	foreign := machineToken(t, d.Issuer, stranger.ID, stranger.Secret)

	forecast := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_forecast","arguments":{"city":"x"}}}`
	email := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"send_email","arguments":{"to":"b"}}}`
	twice := strings.Replace(forecast, `"params"`, `"params":{"name":"send_email"},"params"`, 1)
	utf16 := "\xff\xfe" + strings.Join(strings.Split(email, ""), "\x00") + "\x00"
	mine := []string{"Bearer " + token}
	link := `resource_metadata="` + metadata + `"`
	for _, tt := range []struct {
		name          string
		authorization []string
		body          string
		status        int
		challenge     []string
	}{
		{"no token", nil, forecast, 401, []string{link, `scope="mcp:tools:weather"`}},
		{"a token of nobody", []string{"Bearer a.b.c"}, forecast, 401, []string{link, `error="invalid_token"`}},
		{"another kind", []string{"Basic " + token}, forecast, 401, []string{link}},
		{"two tokens", []string{mine[0], mine[0]}, forecast, 401, []string{`error="invalid_token"`}},
		{"a token for another server", []string{"Bearer " + foreign}, forecast, 401, []string{`error="invalid_token"`}},
		{"a changed token", []string{mine[0][:len(mine[0])-4] + "AAAA"}, forecast, 401, []string{link}},
		{"a scope that is missing", mine, email, 403,
			[]string{`error="insufficient_scope"`, `scope="mcp:tools:weather mcp:tools:email:send"`, link}},
		{"a tool that nobody listed", mine, strings.Replace(forecast, "get_forecast", "__init__", 1), 403, nil},
		{"a batch", mine, "[" + email + "]", 400, nil},
		{"a member twice", mine, twice, 400, nil},
		{"an escaped member twice", mine, strings.Replace(twice, `"params"`, `"par\u0061ms"`, 1), 400, nil},
		{"a byte order mark", mine, "\ufeff" + email, 400, nil},
		{"UTF-16", mine, utf16, 400, nil},
		{"deep nesting", mine, `{"a":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}", 400, nil},
		{"a number that is none", mine, `{"id":NaN}`, 400, nil},
		{"a long body", mine, `{"a":"` + strings.Repeat("a", 1<<20) + `"}`, 413, nil},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.MCP, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Content-Type": {"application/json"},
			"Accept":        {"application/json, text/event-stream"},
			"Authorization": tt.authorization}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		challenge := resp.Header.Get("WWW-Authenticate")
		if resp.StatusCode != tt.status || slices.ContainsFunc(tt.challenge, func(part string) bool {
			return !strings.Contains(challenge, part)
		}) {
			t.Errorf("%s: %d, challenge %q, want %d and %q\n%s", tt.name, resp.StatusCode, challenge, tt.status,
				tt.challenge, text)
		}
	}
	if program == "asgi.py" { // which is no MCP server, and answers what it was sent
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.MCP, strings.NewReader(forecast))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": mine}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var got struct{ Sub, Body string }
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.Body != forecast || got.Sub != bot.ID {
			t.Errorf("the application got %+v (%v)", got, err)
		}
	} else {
		client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
		session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: d.MCP,
			HTTPClient: &http.Client{Transport: bearer(token)}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer session.Close()
		callTool(t, session, "get_forecast", map[string]any{"city": "Rome"})
	}
	var lines []string
	for line := range strings.Lines(end()) {
		var call struct {
			Event, Tool, Outcome, User string
		}
		if json.Unmarshal([]byte(line), &call) == nil && call.Event == "tool.call" {
			lines = append(lines, call.Tool+" "+call.Outcome+" "+call.User)
		}
	}
	if diff := cmp.Diff([]string{"send_email refused " + bot.ID, "__init__ refused " + bot.ID,
		"get_forecast allowed " + bot.ID}, lines); diff != "" {
		t.Errorf("lines for the audit (-want +got):\n%s", diff)
	}
}

// bearer sends a token with each request.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}
