package clients_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cardea-auth/cardea/internal/porttest"
)

// The JavaScript of an introduction to OAuth for MCP servers, an Express server and its agents, runs against `cardea
// serve` with only the addresses changed.
func TestSeed(t *testing.T) {
	d := startServer(t)
	env, server, app := d.env, "http://"+porttest.Address(t), "http://"+porttest.Address(t)

	var resource struct{ Identifier string }
	command(t, env, &resource, "resource", "create", "--identifier", server, "--name", "Seed",
		"--scope", "mcp:tools:weather=Weather forecasts", "--scope", "mcp:tools:calendar:read=Read your calendar",
		"--scope", "mcp:tools:calendar:write=Change your calendar", "--scope",
		"mcp:tools:email:send=Send e-mail in your name", "--scope", "mcp:tools:inventory:check=Look up stock",
		"--scope", "mcp:resources:store-data=Read the store's data", "-o", "json")
	if resource.Identifier != server {
		t.Fatalf("the resource's identifier is %q, want %q", resource.Identifier, server)
	}
	ada := newPerson(t, d.Email, d.Password)
	for name, flags := range map[string][]string{
		"TEST": {"--grant", "client_credentials", "--scope", "mcp:tools:weather", "--resource", server},
		"SERVICE": {"--grant", "client_credentials", "--scope", "mcp:tools:inventory:check", "--scope",
			"mcp:resources:store-data", "--resource", server},
		"APP": {"--grant", "authorization_code", "--grant", "refresh_token", "--redirect-uri",
			app + "/callback", "--public"},
		"RS": {"--resource-server", server},
	} {
		client := d.createClient(t, append(flags, "--name", name)...)
		env = append(env, name+"_CLIENT_ID="+client.ID, name+"_CLIENT_SECRET="+client.Secret)
	}
	env = append(env, "ISSUER="+d.Issuer, "MCP_SERVER="+server, "APP="+app)

	startNode(t, env, "seed/server.mjs")
	await(t, server+"/.well-known/oauth-protected-resource")

	client := node(t.Context(), t, "seed/client.mjs")
	client.Env = environ(env...)
	var complaint strings.Builder
	client.Stderr = &complaint
	out, err := client.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	var said []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said = append(said, lines.Text())
		if text, ok := strings.CutPrefix(lines.Text(), "MCP Response: "); ok {
			got = append(got, map[string]any{"step": "MCP Response", "text": text})
			continue
		}
		var s map[string]any
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			t.Errorf("client.mjs printed %q", lines.Text())
			continue
		}
		if s["step"] == "authorize" {
			authorize(t, ada, s["url"].(string))
			continue
		}
		got = append(got, s)
	}
	if err := client.Wait(); err != nil {
		t.Fatalf("client.mjs: %v\n%s\n%s", err, strings.Join(said, "\n"), complaint.String())
	}

	events := []any{"Stand-up", "Lunch with Ada"}
	want := []map[string]any{
		{"step": "MCP Response", "text": "{ location: 'San Francisco', forecast: 'sunny' }"},
		{"step": "without a token", "status": 401.0, "error": "unauthorized",
			"error_description": "Bearer token required"},
		{"step": "without the scope", "status": 403.0, "error": "insufficient_scope",
			"error_description": "Required scope: mcp:tools:email:send", "scope": "mcp:tools:email:send"},
		{"step": "machine token", "token_type": "Bearer", "expires_in": 600.0,
			"scope": "mcp:tools:inventory:check mcp:resources:store-data"},
		{"step": "code flow", "token_type": "Bearer", "expires_in": 600.0,
			"scope": "mcp:tools:calendar:read mcp:tools:email:send"},
		{"step": "calendar", "status": 200.0, "events": events},
		{"step": "e-mail", "status": 200.0, "sent": true},
		{"step": "strict", "status": 200.0, "events": events},
		{"step": "revoked", "status": 200.0},
		{"step": "strict after revocation", "status": 401.0, "error": "Token is not active"},
		{"step": "registered", "id": true, "secret": true, "manages": true, "client_name": "AI Sales Assistant",
			"client_uri":    "https://sales-ai.company.com",
			"redirect_uris": []any{"https://sales-ai.company.com/oauth/callback"}, "response_types": []any{"code"},
			"grant_types":                []any{"authorization_code", "refresh_token"},
			"token_endpoint_auth_method": "client_secret_basic",
			"scope":                      "mcp:tools:crm:read mcp:tools:email:send"},
		{"step": "code flow of the registered client", "scope": "mcp:tools:calendar:read"},
		{"step": "refreshed", "rotated": true, "status": 200.0, "events": events},
		{"step": "rate limit", "calls": 51.0, "status": 429.0, "error": "rate_limit_exceeded",
			"error_description": "Too many requests from this client"},
	}
	// Remove members that differ between runs, and additional members of a registration.
	incidental := cmpopts.IgnoreMapEntries(func(key string, _ any) bool {
		switch key {
		case "user", "client_id_issued_at", "client_secret_expires_at", "application_type", "registration_client_uri":
			return true
		}
		return false
	})
	if diff := cmp.Diff(want, got, incidental); diff != "" {
		t.Errorf("what client.mjs saw (-want +got):\n%s", diff)
	}
}

// authorize lets the person visit url and returns to the app with the response.
func authorize(t *testing.T, ada *person, url string) {
	t.Helper()
	back, err := ada.Visit(url)
	if err != nil {
		t.Error(err)
		return
	}
	resp, err := http.Get(back)
	if err != nil {
		t.Error(err)
		return
	}
	resp.Body.Close()
}
