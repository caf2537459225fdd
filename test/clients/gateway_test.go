package clients_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Behind cardea gateway, in front of a server that knows nothing of authorization, real clients have the same way: they
// register, sign in, see the tools that their scopes open, call one, and ask for more where they can. What they called
// is in Cardea's log.
func TestGateway(t *testing.T) {
	d := runDemo(t, nil, "--listen", "127.0.0.1:0", "--gateway")
	const weather, read, write = "mcp:tools:weather", "mcp:tools:calendar:read", "mcp:tools:calendar:write"
	t.Run("mcp-remote", func(t *testing.T) {
		at := newDesk(t, newPerson(t, d.Email, d.Password))
		session, err := startRemote(t, d, at, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		list, err := session.ListTools(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var tools []string
		for _, tool := range list.Tools {
			tools = append(tools, tool.Name)
		}
		if diff := cmp.Diff([]string{"get_forecast", "list_events"}, tools); diff != "" {
			t.Errorf("tools (-want +got):\n%s", diff)
		}
		callTool(t, session, "get_forecast", map[string]any{"city": "Lisbon"})
		callTool(t, session, "create_event", map[string]any{"title": "Tea", "start": "2031-05-04T15:00"})
		opened := at.requests()
		if len(opened) != 2 {
			t.Fatalf("the browser was opened %d times, want twice", len(opened))
		}
		for i, want := range [][]string{{weather, read, "offline_access"}, {weather, read, "offline_access", write}} {
			if got := strings.Fields(opened[i].Get("scope")); !slices.Equal(got, want) {
				t.Errorf("request %d asks for %v, want %v", i, got, want)
			}
		}
		d.calls(t, opened[0].Get("client_id"), "create_event allowed", "create_event refused", "get_forecast allowed")
	})
	t.Run("the Inspector", func(t *testing.T) {
		i := &inspector{d, newDesk(t, newPerson(t, d.Email, d.Password)), t.TempDir()}
		config := filepath.Join(i.home, "servers.json")
		servers := fmt.Sprintf(`{"mcpServers":{"demo":{"type":"streamable-http","url":%q,`+
			`"oauth":{"scopes":"mcp:tools:weather mcp:tools:email:send"}}}}`, d.MCP)
		if err := os.WriteFile(config, []byte(servers), 0o600); err != nil {
			t.Fatal(err)
		}
		printed := i.run(t, "--config", config, "--server", "demo", "--method", "tools/call", "--tool-name",
			"send_email", "--tool-arg", "to=bob@example.com", "--tool-arg", "subject=Hello", "--tool-arg", "body=Sunny")
		if c := printed.Result.Content; printed.Result.IsError || len(c) != 1 || !strings.Contains(c[0].Text, "sent") {
			t.Errorf("send_email answers %+v", printed)
		}
		opened := i.at.requests()
		if len(opened) != 1 {
			t.Fatalf("the browser was opened %d times, want once", len(opened))
		}
		d.calls(t, opened[0].Get("client_id"), "send_email allowed")
	})
}

// calls waits until Cardea's log has as many tool calls of a client as want, and compares them without regard to order.
func (d *demo) calls(t *testing.T, client string, want ...string) {
	t.Helper()
	tick, late := time.NewTicker(100*time.Millisecond), time.After(time.Minute)
	defer tick.Stop()
	for {
		var events []struct {
			Outcome string
			Detail  map[string]string
		}
		command(t, d.env, &events, "audit", "list", "--action", "tool.call", "--client", client, "-o", "json")
		var got []string
		for _, e := range events {
			got = append(got, e.Detail["tool"]+" "+e.Outcome)
		}
		slices.Sort(got)
		if slices.Equal(want, got) {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Errorf("calls in the log (-want +got):\n%s", cmp.Diff(want, got))
			return
		}
	}
}
