package clients_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/porttest"
)

// An inspector is a person's MCP Inspector command line, which stores its state in a home folder.
type inspector struct {
	d    *demo
	at   *desk
	home string
}

// inspected is the output of the Inspector.
type inspected struct {
	Result struct {
		IsError bool
		Tools   []struct{ Name string }
		Content []struct{ Text string }
	}
}

// run runs the Inspector on the demo's MCP server, or on the server of the configuration in args. Its callback has
// another port each time.
func (i *inspector) run(t *testing.T, args ...string) (printed inspected) {
	t.Helper()
	if !slices.Contains(args, "--config") {
		args = append([]string{"--server-url", i.d.MCP}, args...)
	}
	args = append([]string{"--cli", "--format", "json", "--callback-url",
		"http://" + porttest.Address(t) + "/oauth/callback"}, args...)
	cmd := node(i.at.waits, t, "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js", args...)
	// It opens a browser only from a terminal, unless told otherwise.
	cmd.Env = append(environ(i.at.env()...), "HOME="+i.home, "MCP_INSPECTOR_SECRET_STORE=file",
		"MCP_AUTO_OPEN_ENABLED=true")
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("inspector %q: %v\n%s\n%s", args, err, out, complaint.Bytes())
	}
	if err := json.Unmarshal(out, &printed); err != nil {
		t.Fatalf("inspector %q: %v in\n%s", args, err, out)
	}
	return printed
}

// The Inspector's command line signs in, reuses its stored tokens, refreshes if the stored access token no longer
// works, and signs in again on request.
func TestInspector(t *testing.T) {
	d := startDemo(t)
	ada := newPerson(t, d.Email, d.Password)
	i := &inspector{d, newDesk(t, ada), t.TempDir()}
	forecast := func(args ...string) {
		t.Helper()
		printed := i.run(t,
			append([]string{"--method", "tools/call", "--tool-name", "get_forecast", "--tool-arg", "city=Lisbon"},
				args...)...)
		c := printed.Result.Content
		if printed.Result.IsError || len(c) != 1 || !strings.Contains(c[0].Text, "Lisbon") {
			t.Errorf("get_forecast answers %+v", printed)
		}
	}

	var tools []string
	for _, tool := range i.run(t, "--method", "tools/list").Result.Tools {
		tools = append(tools, tool.Name)
	}
	slices.Sort(tools)
	if diff := cmp.Diff([]string{"create_event", "get_forecast", "list_events", "send_email"}, tools); diff != "" {
		t.Errorf("tools (-want +got):\n%s", diff)
	}
	opened := i.at.requests()
	if len(opened) != 1 {
		t.Fatalf("the browser was opened %d times, want once", len(opened))
	}
	// It requests all scopes in the resource's metadata, whatever the challenge says, so the metadata has only a few.
	scopes := "mcp:tools:weather mcp:tools:calendar:read offline_access"
	if got := opened[0].Get("scope"); got != scopes {
		t.Errorf("it asks for %q, want %q", got, scopes)
	}
	if c := d.client(t, opened[0]); c.Origin != "registration" || c.Method != "none" {
		t.Errorf("the client is %+v, want one that registered, without a secret", c)
	}

	forecast("--stored-auth-only")
	if n := d.refreshed(t, opened[0]); n != 0 {
		t.Errorf("it refreshed %d times with a good access token", n)
	}
	i.spoilToken(t)
	forecast("--use-stored-auth")
	if n := d.refreshed(t, opened[0]); n != 1 {
		t.Errorf("it refreshed %d times with a bad access token, want once", n)
	}
	forecast("--relogin")
	if opened := i.at.requests(); len(opened) != 2 || ada.signedIn != 1 || ada.asked != 2 {
		t.Errorf("the browser was opened %d times, the person signed in %d times and was asked %d times; want 2, "+
			"1 and 2", len(opened), ada.signedIn, ada.asked)
	}
}

// The Inspector's command line does not step up; its configuration has the scopes to request.
func TestInspectorAsksForMore(t *testing.T) {
	d := startDemo(t)
	i := &inspector{d, newDesk(t, newPerson(t, d.Email, d.Password)), t.TempDir()}
	config := filepath.Join(i.home, "servers.json")
	servers := fmt.Sprintf(`{"mcpServers":{"demo":{"type":"streamable-http","url":%q,`+
		`"oauth":{"scopes":"mcp:tools:weather mcp:tools:email:send"}}}}`, d.MCP)
	if err := os.WriteFile(config, []byte(servers), 0o600); err != nil {
		t.Fatal(err)
	}
	printed := i.run(t, "--config", config, "--server", "demo", "--method", "tools/call", "--tool-name", "send_email",
		"--tool-arg", "to=bob@example.com", "--tool-arg", "subject=Hello", "--tool-arg", "body=Sunny")
	if c := printed.Result.Content; printed.Result.IsError || len(c) != 1 || !strings.Contains(c[0].Text, "sent") {
		t.Errorf("send_email answers %+v", printed)
	}
	opened := i.at.requests()
	if len(opened) != 1 || opened[0].Get("scope") != "mcp:tools:weather mcp:tools:email:send offline_access" {
		t.Errorf("it asks for %v, want once what its configuration names", opened)
	}
}

// spoilToken replaces the access token in the Inspector's store with an invalid one.
func (i *inspector) spoilToken(t *testing.T) {
	t.Helper()
	file := filepath.Join(i.home, ".mcp-inspector", "secrets.json")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	spoiled := regexp.MustCompile(`(access_token\\":\\")[^\\]+`).ReplaceAll(raw, []byte("${1}no.longer.good"))
	if bytes.Equal(spoiled, raw) {
		t.Fatal("the Inspector's store holds no access token")
	}
	if err := os.WriteFile(file, spoiled, 0o600); err != nil {
		t.Fatal(err)
	}
}
