package clients_test

import (
	"context"
	"html"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/cardea-auth/cardea/internal/porttest"
)

// What the console shows to copy for Go, Node and Python is a program that asks for a token (401), asks for the scope
// of the tool that is called (403), keeps a tool without a line closed, and writes a line for each call.
func TestSnippets(t *testing.T) {
	d := startServer(t)
	var resource struct{ ID, Identifier string }
	d.MCP = "http://" + porttest.Address(t) + "/mcp"
	command(t, d.env, &resource, "resource", "create", "--identifier", d.MCP, "--name", `A "quoted" server`,
		"--scope", "mcp:tools:weather=Weather forecasts", "--scope", "mcp:tools:calendar:write=Change your calendar",
		"--default-scope", "mcp:tools:weather", "-o", "json")
	var promoted struct{ ID string }
	command(t, d.env, &promoted, "user", "update", d.Email, "--role", "owner", "-o", "json")
	programs := copied(t, d, "/admin/servers/"+resource.ID)
	bot := d.createClient(t, "--name", "Bot", "--grant", "client_credentials", "--scope", "mcp:tools:weather",
		"--resource", d.MCP)
	token := machineToken(t, d.Issuer, bot.ID, bot.Secret)

	example, err := os.ReadFile(pythonExample + "/cardea.py")
	if err != nil {
		t.Fatal(err)
	}
	if programs["cardea.py"] != string(example) {
		t.Error("cardea.py in the console is not that of the example")
	}
	t.Run("Go", func(t *testing.T) {
		const head = `package main

import (
	"context"
	"log"
	"log/slog"
	"net/http"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/guard/gosdk"
	"github.com/cardea-auth/cardea/scope"
)

func main() {
	server := mcp.NewServer(&mcp.Implementation{Name: "copied", Version: "1"}, nil)
	for _, name := range []string{"tool_0", "tool_1", "tool_2"} {
		mcp.AddTool(server, &mcp.Tool{Name: name}, done)
	}
`
		const tail = `}

func done(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
	return &mcp.CallToolResult{}, nil, nil
}
`
		folder := t.TempDir()
		write(t, folder, "main.go", head+programs["Go"]+tail)
		program := filepath.Join(folder, "copied")
		build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-w", "-o", program,
			filepath.Join(folder, "main.go"))
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		running, stop := context.WithCancel(t.Context())
		judgeSnippet(t, d, token, runUntilEnd(t, exec.CommandContext(running, program), stop, nil))
	})
	t.Run("Node", func(t *testing.T) {
		folder := t.TempDir()
		write(t, folder, "server.mjs", programs["Node"])
		write(t, folder, "tools.mjs", `import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
export function newServer() {
  const server = new McpServer({ name: 'copied', version: '1' });
  for (const name of ['tool_0', 'tool_1', 'tool_2']) server.registerTool(name, {}, () => ({ content: [] }));
  return server;
}`)
		modules, err := filepath.Abs("../../examples/node/node_modules")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(modules, filepath.Join(folder, "node_modules")); err != nil {
			t.Fatal(err)
		}
		running, stop := context.WithCancel(t.Context())
		judgeSnippet(t, d, token, runUntilEnd(t,
			exec.CommandContext(running, needed(t, "CARDEA_NODE"), filepath.Join(folder, "server.mjs")), stop, nil))
	})
	t.Run("Python", func(t *testing.T) {
		folder := t.TempDir()
		write(t, folder, "server.py", programs["Python"])
		write(t, folder, "cardea.py", programs["cardea.py"])
		if python := pythonWith(t, "ast"); python != "" {
			const parse = "import ast, sys; ast.parse(open(sys.argv[1]).read())"
			out, err := exec.CommandContext(t.Context(), python, "-c", parse,
				filepath.Join(folder, "server.py")).CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s\n%s", err, out, programs["Python"])
			}
		}
		if python := pythonWith(t, "fastmcp, uvicorn, jwt, cryptography"); python != "" {
			running, stop := context.WithCancel(t.Context())
			judgeSnippet(t, d, token, runUntilEnd(t,
				exec.CommandContext(running, python, filepath.Join(folder, "server.py")), stop, nil))
		}
		for _, want := range []string{`"tool_1": "mcp:tools:calendar:write"`, `algorithm="ES256"`,
			`FastMCP("A \"quoted\" server")`} {
			if !strings.Contains(programs["Python"], want) {
				t.Errorf("no %s in\n%s", want, programs["Python"])
			}
		}
	})
}

func write(t *testing.T, folder, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// copied returns what an owner copies from a page of the console, by the language.
func copied(t *testing.T, d *demo, path string) map[string]string {
	t.Helper()
	ada := newPerson(t, d.Email, d.Password)
	at := d.Issuer + path
	page, err := load(ada.browser.Get(at))
	for range 10 {
		if err != nil {
			t.Fatal(err)
		}
		if page.next != nil {
			page, err = load(ada.browser.Get(page.next.String()))
			continue
		}
		if page.url.Path == path {
			break
		}
		f, err2 := ada.fill(page.body)
		if err2 != nil {
			t.Fatalf("%v\n%s", err2, page.body)
		}
		to, err2 := page.url.Parse(f.action)
		if err2 != nil {
			t.Fatal(err2)
		}
		page, err = load(ada.browser.PostForm(to.String(), f.values))
	}
	all := map[string]string{}
	part := regexp.MustCompile(`(?s)<summary>(Go|Node|Python)</summary>.*?<pre[^>]*><code>(.*?)</code></pre>`)
	for _, m := range part.FindAllStringSubmatch(page.body, -1) {
		all[m[1]] = html.UnescapeString(m[2])
	}
	if _, after, found := strings.Cut(page.body, "<code>cardea.py</code>"); found {
		_, after, _ = strings.Cut(after, "<pre tabindex=\"0\"><code>")
		text, _, _ := strings.Cut(after, "</code></pre>")
		all["cardea.py"] = html.UnescapeString(text)
	}
	if len(all) != 4 {
		t.Fatalf("%s has %d programs:\n%s", path, len(all), page.body)
	}
	return all
}

// judgeSnippet asks the server that runs at d.MCP what every way to protect one must answer.
func judgeSnippet(t *testing.T, d *demo, token string, end func() string) {
	t.Helper()
	metadata := strings.TrimSuffix(d.MCP, "/mcp") + "/.well-known/oauth-protected-resource/mcp"
	await(t, metadata)
	for _, tt := range []struct {
		authorization, tool string
		status              int
		challenge           []string
	}{
		{"", "tool_0", 401, []string{`resource_metadata="` + metadata + `"`, `scope="mcp:tools:weather"`}},
		{"Bearer a.b.c", "tool_0", 401, []string{`error="invalid_token"`}},
		{"Bearer " + token, "tool_1", 403, []string{`error="insufficient_scope"`,
			`scope="mcp:tools:weather mcp:tools:calendar:write"`, `resource_metadata="` + metadata + `"`}},
		{"Bearer " + token, "tool_2", 403, nil},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.MCP, strings.NewReader(
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+tt.tool+`","arguments":{}}}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Content-Type": {"application/json"},
			"Accept": {"application/json, text/event-stream"}}
		if tt.authorization != "" {
			req.Header.Set("Authorization", tt.authorization)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		challenge := resp.Header.Get("WWW-Authenticate")
		if resp.StatusCode != tt.status || slices.ContainsFunc(tt.challenge, func(part string) bool {
			return !strings.Contains(challenge, part)
		}) {
			t.Errorf("%s with %.12q: %d and %q, want %d and %q", tt.tool, tt.authorization, resp.StatusCode, challenge,
				tt.status, tt.challenge)
		}
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: d.MCP,
		HTTPClient: &http.Client{Transport: bearer(token)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "tool_0"})
	if err != nil || result.IsError {
		t.Errorf("tool_0: %v %+v", err, result)
	}
	_ = session.Close() // a server without sessions refuses it
	await(t, metadata)
	written := end()
	for tool, times := range map[string]int{"tool_0": 1, "tool_1": 1, "tool_2": 1} {
		if strings.Count(written, tool) != times {
			t.Errorf("of %s it writes\n%s", tool, written)
		}
	}
}
