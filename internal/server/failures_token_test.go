package server_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/server/servertest"
)

// Failure 04: resource mismatch.
func resourceMismatch(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	s.Resource("https://other.example.com/a/mcp", "a")
	s.Resource("https://other.example.com/b/mcp", "b")
	agent := s.Agent(t, s.Client())
	browser := s.Browser(t)
	for asked, audience := range map[string]string{
		"https://mcp.example.com/mcp":       servertest.MCP,
		"https://mcp.example.com/mcp/":      servertest.MCP,
		"HTTPS://MCP.Example.com:443/mcp":   servertest.MCP,
		"https://mcp.example.com":           servertest.MCP,
		"https://mcp.example.com/":          servertest.MCP,
		"https://mcp.example.com/mcp/tools": servertest.MCP,
		"https://other.example.com/b/mcp/":  "https://other.example.com/b/mcp",
	} {
		agent.Resource = asked
		tokens := agent.Connect(browser, ada)
		if got := servertest.Claims(t, tokens.Access).Audience; got != audience {
			t.Errorf("%s: aud is %s, want %s", asked, got, audience)
		}
	}
	mcpURL := newMCP(t, s, everything)
	c := newClient(t, s, ada, mcpURL, "2026-07-28")
	got := text(c.find(c.challenged(c.call(""), http.StatusUnauthorized)["resource_metadata"]), "resource")
	if got != mcpURL {
		t.Errorf("resource is %s, want the URL that people enter: %s", got, mcpURL)
	}
}

// Failure 07: refresh rotation race.
func rotationRace(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	agent := s.Agent(t, s.Client())
	first := agent.Connect(s.Browser(t), ada)
	replies := make([]*servertest.Reply, 5) // of five processes that share one token
	var all sync.WaitGroup
	for i := range replies {
		all.Go(func() { replies[i] = agent.Refresh(first.Refresh) })
	}
	all.Wait()
	successor := replies[0].Tokens().Refresh
	for _, reply := range replies {
		if got := reply.Tokens().Refresh; got != successor {
			t.Error("two processes have two successors")
		}
	}
	s.Clock.Advance(59 * time.Second) // whose answer was lost asks again
	if agent.Refresh(first.Refresh).Tokens().Refresh != successor {
		t.Error("a late process has another successor")
	}
	last := agent.Refresh(successor).Tokens()
	agent.Refresh(first.Refresh).Refused(http.StatusBadRequest, "invalid_grant") // now it can only be a thief
	agent.Refresh(last.Refresh).Refused(http.StatusBadRequest, "invalid_grant")
}

// Failure 08: no refresh token.
func noRefreshToken(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	if m := s.Agent(t, nil).Get(metadataPath).JSON(); !slices.Contains(list(m, "scopes_supported"), "offline_access") {
		t.Errorf("scopes_supported is %v", m["scopes_supported"])
	}
	agent := s.Agent(t, nil)
	agent.Register(map[string]any{"redirect_uris": []string{servertest.Callback}, "token_endpoint_auth_method": "none"})
	for _, asked := range []string{"", weather, weather + " offline_access"} {
		tokens := agent.Connect(s.Browser(t), ada, servertest.With("scope", asked))
		s.Clock.Advance(29 * 24 * time.Hour)
		if agent.Refresh(tokens.Refresh).Tokens().Refresh == "" {
			t.Errorf("scope %q: no refresh token", asked)
		}
	}
}

// Failure 09: invalid_scope.
func scopesRefused(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	for _, registered := range []string{"", "something else", weather} {
		agent := s.Agent(t, nil)
		agent.Register(map[string]any{"redirect_uris": []string{servertest.Callback},
			"token_endpoint_auth_method": "none", "scope": registered})
		for asked, granted := range map[string]string{
			"":                              weather,
			"openid profile email":          weather,
			email:                           email,
			email + " unknown openid":       email,
			weather + " " + email:           weather + " " + email,
			email + " offline_access admin": email + " offline_access",
		} {
			tokens := agent.Connect(s.Browser(t), ada, servertest.With("scope", asked))
			if tokens.Scope != granted {
				t.Errorf("registered %q, asked %q: granted %q, want %q", registered, asked, tokens.Scope, granted)
			}
			got := agent.Refresh(tokens.Refresh, servertest.With("scope",
				granted+" offline_access unknown")).Tokens().Scope
			if got != granted {
				t.Errorf("asked %q: refreshed to %q, want %q", asked, got, granted)
			}
		}
	}
}

// Failure 17: Basic authentication handled wrongly.
func basicAuthentication(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	browser := s.Browser(t)
	basic := func(id, secret string) servertest.Tweak {
		return servertest.Header("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(id+":"+secret)))
	}
	confidential := s.Client(servertest.Confidential)
	agent := s.Agent(t, confidential)
	code := browser.Authorize(agent.Authorization()).Through(ada).Code()
	wrong := basic(agent.ClientID, "wrong")
	agent.Exchange(code, wrong).Refused(http.StatusUnauthorized, "invalid_client")
	agent.Exchange(code, servertest.With("client_id", "mcp_another")).Refused(http.StatusUnauthorized, "invalid_client")
	agent.Exchange(code, servertest.Header("Authorization"), servertest.With("client_id", agent.ClientID)).
		Refused(http.StatusUnauthorized, "invalid_client")
	// the code is still good
	agent.Exchange(code, basic(agent.ClientID, agent.Secret), servertest.With("client_id", agent.ClientID)).Tokens()

	public := s.Agent(t, s.Client())
	code = browser.Authorize(public.Authorization()).Through(ada).Code()
	public.Exchange(code, basic(strings.Replace(public.ClientID, "_", "%5F", 1), ""),
		servertest.Without("client_id")).Tokens()
}

// Failure 18: resource rejected or ignored.
func resourceIgnored(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	agent := s.Agent(t, s.Client())
	for _, resource := range []string{"", servertest.MCP} {
		agent.Resource = resource
		tokens := agent.Connect(s.Browser(t), ada)
		for _, again := range []servertest.Tweak{
			servertest.Without("resource"), servertest.With("resource", servertest.MCP),
			servertest.With("resource", servertest.MCP, servertest.MCP+"/"),
		} {
			tokens = agent.Refresh(tokens.Refresh, again).Tokens()
			// a signed JWT with one audience, or Claims fails
			if claims := servertest.Claims(t, tokens.Access); claims.Audience != servertest.MCP {
				t.Errorf("aud is %q", claims.Audience)
			}
		}
	}
	agent.Refresh(agent.Connect(s.Browser(t), ada).Refresh,
		servertest.With("resource", "https://unknown.example.com/")).Refused(http.StatusBadRequest, "invalid_target")
}

// Failure 25: token issued but never used.
func unusedToken(t *testing.T) {
	s := servertest.Start(t)
	mcpURL := newMCP(t, s, everything)
	c := newClient(t, s, s.User("ada@example.com"), mcpURL, "2026-07-28")
	resource := c.find(c.challenged(c.call(""), http.StatusUnauthorized)["resource_metadata"])
	m := c.find(c.issuer(resource) + metadataPath)
	c.register(text(m, "registration_endpoint"), nil)
	target := url.Values{"resource": {text(resource, "resource")}}
	got := c.redeem(text(m, "token_endpoint"), c.authorize(text(m, "authorization_endpoint"), target).Get("code"),
		target)
	if got.Claims.Audience != mcpURL || got.Claims.Issuer != text(m, "issuer") || text(resource, "resource") != mcpURL {
		t.Errorf("entered %s, described as %v, aud %s, iss %s", mcpURL, resource["resource"], got.Claims.Audience,
			got.Claims.Issuer)
	}
	c.works(got.Access)
	// What happened to a client is found under its id.
	var done []string
	for _, event := range s.Events("") {
		if event.ClientID == c.ID && event.Outcome == "allowed" {
			done = append(done, event.Action)
		}
	}
	slices.Reverse(done)
	if diff := cmp.Diff([]string{"client.register", "authorize.code", "token.request"}, done); diff != "" {
		t.Error(diff)
	}
}
