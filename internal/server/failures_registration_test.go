package server_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// Failure 02: client forgotten.
func forgottenClient(t *testing.T) {
	db, clock := storetest.Open(t, storetest.SQLite)
	s := servertest.New(t, db, clock)
	s.Resource(servertest.MCP, weather)
	ada := s.User("ada@example.com")
	agent := s.Agent(t, nil)
	agent.Register(nil)
	agent.Connect(s.Browser(t), ada)
	never := s.Agent(t, nil)
	never.Register(map[string]any{"client_name": "Never used", "redirect_uris": []string{servertest.Callback},
		"token_endpoint_auth_method": "none"})
	clock.Advance(400 * 24 * time.Hour)
	if _, err := db.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	restarted := servertest.New(t, db, clock)
	again := restarted.Agent(t, nil)
	again.ClientID = agent.ClientID
	again.Connect(restarted.Browser(t), ada)

	// Who is gone hears how to come back, at the place where it can be heard.
	gone := restarted.Agent(t, nil)
	gone.ClientID = never.ClientID
	gone.Exchange("any code").Refused(http.StatusUnauthorized, "invalid_client")
	gone.Refresh("any token").Refused(http.StatusUnauthorized, "invalid_client")
	page := restarted.Browser(t).Authorize(gone.Authorization())
	page.ErrorPage(http.StatusBadRequest)
	if !strings.Contains(page.Body, "remove this MCP server and add it again") {
		t.Errorf("the page does not tell a person how to mend it:\n%s", page.Body)
	}
}

// Failure 13: registration rejected for one redirect.
func oneBadRedirect(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	uris := []string{"cursor://anysphere.cursor-mcp/oauth/callback", "https://www.cursor.com/agents/mcp/oauth/callback",
		"http://localhost:8787/callback", "https://any.example.net:8443/oauth/clients/mcp:1/callback"}
	agent := s.Agent(t, nil)
	agent.Register(map[string]any{"redirect_uris": uris, "token_endpoint_auth_method": "none"})
	for _, agent.RedirectURI = range uris {
		agent.Connect(s.Browser(t), ada)
	}
	for _, uri := range []string{
		"javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "vbscript:x",
		"http://agent.example.com/callback",
	} {
		bad := s.Agent(t, nil)
		bad.Register(map[string]any{"redirect_uris": append([]string{uri}, uris...)}).
			Refused(http.StatusBadRequest, "invalid_redirect_uri")
		agent.RedirectURI = uri
		s.Browser(t).Authorize(agent.Authorization()).ErrorPage(http.StatusBadRequest)
	}
}

// Failure 14: registration response with null, empty or missing members.
func emptyMembers(t *testing.T) {
	s := servertest.StartMCP(t)
	for name, metadata := range map[string]map[string]any{
		"the least": {"redirect_uris": []string{"http://127.0.0.1/callback"}},
		"empty members": {
			"redirect_uris": []string{servertest.Callback}, "client_name": "", "client_uri": "", "logo_uri": "",
			"scope": "", "contacts": []string{}, "token_endpoint_auth_method": "none",
		},
		"null members": {"redirect_uris": []string{servertest.Callback}, "client_name": nil, "scope": nil, "jwks": nil,
			"grant_types": nil, "token_endpoint_auth_method": "none"},
		"a secret": {"redirect_uris": []string{servertest.Callback},
			"token_endpoint_auth_method": "client_secret_post"},
	} {
		reply := s.Agent(t, nil).Register(metadata)
		registration(t, reply, metadata)
		if secret := reply.Text("client_secret"); (name == "a secret") != (secret != "") {
			t.Errorf("%s: %s", name, reply.Body)
		}
	}
}

// Failure 15: registration blocked for a shared address.
func sharedAddress(t *testing.T) {
	s := servertest.StartMCP(t, func(c *config.Config) {
		c.Limits.Enabled = true
		c.Limits.Registrations = limit.Rate{Every: time.Minute, Burst: 3}
	})
	same := map[string]any{"client_name": "Connector", "redirect_uris": []string{servertest.Callback},
		"token_endpoint_auth_method": "none"}
	first := s.Agent(t, nil)
	first.Register(same)
	for range 50 { // of whom all but the first are the same client, and cost nothing
		next := s.Agent(t, nil)
		if next.Register(same); next.ClientID != first.ClientID {
			t.Fatal("the same registration makes another client")
		}
	}
	var reply *servertest.Reply
	for i := range 4 {
		reply = s.Agent(t, nil).
			Register(map[string]any{"client_name": fmt.Sprint("Connector ", i),
				"redirect_uris": []string{servertest.Callback}, "token_endpoint_auth_method": "none"})
	}
	if reply.Status != http.StatusTooManyRequests || reply.Header.Get("Retry-After") == "" ||
		reply.Text("error") == "" {
		t.Errorf("the answer is %d %v %s", reply.Status, reply.Header, reply.Body)
	}
	first.Exchange("no code").Refused(http.StatusBadRequest, "invalid_grant") // the token endpoint stays open
	if reply := s.Agent(t, nil).Register(same); reply.Status != http.StatusCreated {
		t.Errorf("a known client is turned away: %d", reply.Status)
	}
}

// registration checks the form of a client information response (RFC 7591 §3.2.1): what was sent is echoed, arrays
// are there, and nothing is null or empty.
func registration(t *testing.T, reply *servertest.Reply, sent map[string]any) {
	t.Helper()
	info := reply.JSON()
	if reply.Status != http.StatusCreated || reply.Header.Get("Cache-Control") != "no-store" ||
		reply.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("registration: %d %v %s", reply.Status, reply.Header, reply.Body)
	}
	for name, value := range info {
		if value == nil || value == "" {
			t.Errorf("%s is %v: it should be left out", name, value)
		}
		values, ok := value.([]any)
		if ok && (len(values) == 0 || slices.Contains(values, any(nil)) || slices.Contains(values, any(""))) {
			t.Errorf("%s is %v", name, values)
		}
	}
	for _, name := range []string{"redirect_uris", "grant_types", "response_types"} {
		if _, ok := info[name].([]any); !ok {
			t.Errorf("%s is %v", name, info[name])
		}
	}
	for _, name := range []string{"client_id", "token_endpoint_auth_method"} {
		if text(info, name) == "" {
			t.Errorf("%s is missing", name)
		}
	}
	if issued, _ := info["client_id_issued_at"].(float64); issued <= 0 {
		t.Errorf("client_id_issued_at is %v", info["client_id_issued_at"])
	}
	_, secret := info["client_secret"]
	_, expires := info["client_secret_expires_at"]
	if public := text(info, "token_endpoint_auth_method") == "none"; secret == public || expires == public {
		t.Errorf("%s: %s", info["token_endpoint_auth_method"], reply.Body)
	}
	if diff := cmp.Diff(sent["redirect_uris"], any(list(info, "redirect_uris"))); diff != "" {
		t.Errorf("redirect_uris: %s", diff)
	}
}
