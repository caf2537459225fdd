package clients_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/guard/gosdk"
	"github.com/cardea-auth/cardea/scope"
)

// Agents with SDKs that do not support step-up sign in, call a tool, get the reason for which another tool is refused,
// and refresh.
func TestAgentsWithoutStepUp(t *testing.T) {
	d := startDemo(t)
	type told = map[string]any
	// demoServer means the MCP server of the demo, which is the only resource until a test adds another one.
	demoServer := func(*testing.T, *demo) string { return d.MCP }
	tests := []struct {
		name, script string
		args         []string
		server       func(*testing.T, *demo) string
		asks         told // parameters of the authorization request
		careful      []told
	}{
		{"TypeScript SDK 1.12.3", "typescript-older.mjs", []string{"1.12"}, demoServer,
			told{"resource": false, "scope": nil, "state": true}, nil},
		{"TypeScript SDK 1.20.2", "typescript-older.mjs", []string{"1.20"}, demoServer,
			told{"resource": true, "scope": nil, "state": true}, nil},
		{"AI SDK 2", "ai-sdk.mjs", nil, demoServer,
			told{"resource": true, "scope": "mcp:tools:weather mcp:tools:calendar:read", "state": true},
			[]told{{"step": "another issuer", "told": true}}},
		{"TypeScript SDK 1.8.0", "typescript-older.mjs", []string{"1.8"}, startOlderServer,
			told{"resource": false, "scope": nil, "state": false}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ada := newPerson(t, d.Email, d.Password)
			got := play(t, ada, nil, tt.script, append(tt.args, tt.server(t, d))...)
			for _, s := range got {
				delete(s, "client_id") // differs from run to run
			}
			tokens := told{"step": "tokens", "scope": "mcp:tools:weather mcp:tools:calendar:read", "refresh": true,
				"type": "Bearer"}
			called := told{"step": "called", "tool": "get_forecast", "failed": false}
			tt.asks["step"] = "asked"
			want := append([]told{{"step": "registered", "secret": false}, tt.asks}, tt.careful...)
			want = append(want, tokens, called, told{"step": "refused", "told": true}, tokens, called)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the session (-want +got):\n%s", diff)
			}
		})
	}
}

// startOlderServer runs an MCP server of 2024-11-05, with server-sent events, as another resource of the demo's
// authorization server, and returns its URL. Clients of that time know neither the parameter resource nor the resource
// metadata.
func startOlderServer(t *testing.T, d *demo) string {
	t.Helper()
	mux := http.NewServeMux()
	front := httptest.NewServer(mux)
	t.Cleanup(front.Close)
	resource := front.URL + "/sse"
	first := scope.Of("mcp:tools:weather", "mcp:tools:calendar:read")
	var created any
	command(t, d.env, &created, "resource", "create", "--identifier", resource, "--name", "Older", "-o", "json",
		"--scope", "mcp:tools:weather=Weather", "--scope", "mcp:tools:calendar:read=Read", "--scope",
		"mcp:tools:calendar:write=Write", "--default-scope", "mcp:tools:weather", "--default-scope",
		"mcp:tools:calendar:read")
	g, err := guard.New(guard.Config{
		Issuer:        d.Issuer,
		Resource:      resource,
		Scopes:        first.Union(scope.Of("mcp:tools:calendar:write")),
		DefaultScopes: first,
		Logger:        slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	server := mcp.NewServer(&mcp.Implementation{Name: "older", Version: "1.0.0"}, nil)
	for _, tool := range []string{"get_forecast", "create_event"} {
		mcp.AddTool(server, &mcp.Tool{Name: tool},
			func(context.Context, *mcp.CallToolRequest, map[string]any) (*mcp.CallToolResult, any, error) {
				return &mcp.CallToolResult{}, nil, nil
			})
	}
	events := mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return server }, nil)
	mux.Handle("/sse", gosdk.Protect(g, events, g.RequireToolScopes(guard.ToolScopes{
		"get_forecast": {"mcp:tools:weather"},
		"create_event": {"mcp:tools:calendar:write"},
	})))
	for _, path := range []string{"/.well-known/oauth-authorization-server", "/authorize", "/token", "/register"} {
		mux.Handle(path, g.OlderClients())
	}
	return resource
}
