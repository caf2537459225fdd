package server_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/server/servertest"
)

// Failure 03: issuer string mismatch.
func issuerMismatch(t *testing.T) {
	s := servertest.Start(t)
	c := newClient(t, s, s.User("ada@example.com"), newMCP(t, s, everything), "2026-07-28")
	resource := c.find(c.challenged(c.call(""), http.StatusUnauthorized)["resource_metadata"])
	m := c.find(s.URL + metadataPath)
	c.register(text(m, "registration_endpoint"), nil)
	back := c.authorize(text(m, "authorization_endpoint"), nil)
	got := c.redeem(text(m, "token_endpoint"), back.Get("code"), nil)
	for place, issuer := range map[string]string{
		"protected resource metadata": c.issuer(resource), "metadata": text(m, "issuer"),
		"authorization response": back.Get("iss"), "token": got.Claims.Issuer,
	} {
		if issuer != s.URL {
			t.Errorf("%s: the issuer is %q, want %q", place, issuer, s.URL)
		}
	}
	if _, err := config.Load(config.Sources{Flags: map[string]string{"issuer": "https://auth.example.com/",
		"data_dir": t.TempDir()}}); err == nil {
		t.Error("an issuer with a slash at its end is accepted")
	}
	slashed, err := guard.New(guard.Config{Issuer: s.URL + "/", Resource: c.MCP, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPost, c.MCP, nil)
	r.Header.Set("Authorization", "Bearer "+got.Access)
	slashed.Protect(http.NotFoundHandler()).ServeHTTP(w, r)
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("a guard of another issuer answers %d", w.Code)
	}
}

// Failure 05: metadata of an internal host behind a proxy.
func internalHost(t *testing.T) {
	s := servertest.StartMCP(t)
	stranger := s.Agent(t, nil)
	want := stranger.Get(metadataPath).JSON()
	for _, header := range [][2]string{
		{"Host", "cardea.internal:8080"},
		{"X-Forwarded-Host", "evil.example"},
		{"X-Forwarded-Proto", "http"},
		{"Forwarded", "host=evil.example;proto=http"},
	} {
		diff := cmp.Diff(want, stranger.Get(metadataPath, servertest.Header(header[0], header[1])).JSON())
		if diff != "" {
			t.Errorf("%s: %s", header[0], diff)
		}
	}
	for _, name := range []string{"authorization_endpoint", "token_endpoint", "registration_endpoint", "jwks_uri"} {
		if !strings.HasPrefix(text(want, name), s.URL+"/") {
			t.Errorf("%s is %v", name, want[name])
		}
	}
}

// Failure 06: well-known path wrong.
func wellKnownPaths(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	mcpURL := newMCP(t, s, everything)
	c := newClient(t, s, ada, mcpURL, "2026-07-28")
	origin := originOf(t, mcpURL)
	for _, found := range []string{
		s.URL + metadataPath, s.URL + "/.well-known/openid-configuration", s.URL + "/.well-known/jwks",
		s.URL + "/.well-known/jwks.json", origin + "/.well-known/oauth-protected-resource/mcp",
		origin + "/.well-known/oauth-protected-resource", origin + metadataPath,
	} {
		if c.find(found) == nil {
			t.Errorf("nothing at %s", found)
		}
	}
	for _, other := range []string{
		s.URL + metadataPath + "/mcp", s.URL + "/.well-known/oauth-protected-resource",
		s.URL + "/mcp/.well-known/openid-configuration", s.URL + "/.well-known/webfinger",
		origin + "/.well-known/openid-configuration/mcp", origin + metadataPath + "/mcp",
		origin + "/.well-known/anything",
	} {
		resp, body := c.send(http.MethodGet, other, "", nil)
		if resp.StatusCode != http.StatusNotFound || text(body, "error") == "" ||
			resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s %v", other, resp.StatusCode, resp.Header.Get("Content-Type"), body)
		}
	}
}

// Failure 16: neither registration nor metadata documents.
func noWayToRegister(t *testing.T) {
	s := servertest.StartMCP(t)
	for _, path := range []string{metadataPath, "/.well-known/openid-configuration"} {
		m := s.Agent(t, nil).Get(path).JSON()
		if text(m, "registration_endpoint") != s.URL+"/oauth2/register" ||
			m["client_id_metadata_document_supported"] != true {
			t.Errorf("%s: %v %v", path, m["registration_endpoint"], m["client_id_metadata_document_supported"])
		}
	}
}

// Failure 19: CORS missing, or preflight answered 401.
func missingCORS(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	mcpURL := newMCP(t, s, everything)
	c := newClient(t, s, ada, mcpURL, "2026-07-28")
	c.Header.Set("Origin", "https://app.example.com")
	asked := "authorization, content-type, mcp-protocol-version, mcp-param-x"
	for _, target := range []string{
		mcpURL, originOf(t, mcpURL) + "/.well-known/oauth-protected-resource/mcp",
		originOf(t, mcpURL) + "/.well-known/nothing", originOf(t, mcpURL) + "/token",
		s.URL + metadataPath, s.URL + "/.well-known/jwks", s.URL + "/oauth2/register", s.URL + "/oauth2/token",
		s.URL + "/oauth2/revoke",
	} {
		resp, _ := c.send(http.MethodOptions, target, "", nil, "Access-Control-Request-Method", http.MethodPost,
			"Access-Control-Request-Headers", asked)
		if resp.StatusCode != http.StatusNoContent || resp.Header.Get("Access-Control-Allow-Origin") != "*" ||
			resp.Header.Get("Access-Control-Allow-Headers") != asked {
			t.Errorf("preflight of %s: %d %v", target, resp.StatusCode, resp.Header)
		}
		for _, method := range []string{http.MethodGet, http.MethodPost} { // of which one is an error at most of them
			resp, _ = c.send(method, target, "", nil)
			if resp.Header.Get("Access-Control-Allow-Origin") != "*" ||
				!strings.Contains(resp.Header.Get("Access-Control-Expose-Headers"), "WWW-Authenticate") {
				t.Errorf("%s %s: %d %v", method, target, resp.StatusCode, resp.Header)
			}
		}
	}
}

// Failure 21: no usable challenge.
func noChallenge(t *testing.T) {
	s := servertest.Start(t)
	c := newClient(t, s, s.User("ada@example.com"), newMCP(t, s, everything), "2026-07-28")
	at := originOf(t, c.MCP) + "/.well-known/oauth-protected-resource/mcp"
	first := c.challenged(c.call(""), http.StatusUnauthorized)
	if diff := cmp.Diff(map[string]string{"resource_metadata": at, "scope": weather}, first); diff != "" {
		t.Errorf("without a token: %s", diff)
	}
	bad := c.challenged(c.call("no.good.token"), http.StatusUnauthorized)
	if bad["error"] != "invalid_token" || bad["resource_metadata"] != at || bad["error_description"] == "" {
		t.Errorf("with a bad token: %v", bad)
	}
	c.register(s.URL+"/oauth2/register", nil)
	got := c.redeem(s.URL+"/oauth2/token", c.authorize(s.URL+"/oauth2/authorize", nil).Get("code"), nil)
	more := c.challenged(c.call(got.Access, "Tool", "email"), http.StatusForbidden)
	if more["error"] != "insufficient_scope" || more["scope"] != weather+" "+email || more["resource_metadata"] != at {
		t.Errorf("without the scope: %v", more)
	}
}

// Failure 22: PKCE support not advertised.
func pkceNotAdvertised(t *testing.T) {
	s := servertest.StartMCP(t)
	for _, path := range []string{metadataPath, "/.well-known/openid-configuration"} {
		m := s.Agent(t, nil).Get(path).JSON()
		if !slices.Equal(list(m, "code_challenge_methods_supported"), []string{"S256"}) {
			t.Errorf("%s: %v", path, m["code_challenge_methods_supported"])
		}
	}
}

// Failure 24: redirected or non-JSON endpoints.
func redirectedEndpoints(t *testing.T) {
	s := servertest.StartMCP(t)
	stranger := s.Agent(t, nil)
	for _, path := range []string{
		"/oauth2/token", "/oauth2/token/", "/oauth2//token", "/oauth2/register", "/oauth2/register/", "/oauth2/revoke",
		"/oauth2/introspect", "/token", "/register", "/.well-known/nothing", "/oauth2/nothing",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut} {
			reply := stranger.Get(path, servertest.Method(method))
			if reply.Status < 400 || reply.Status > 499 || reply.Header.Get("Location") != "" ||
				reply.Header.Get("Content-Type") != "application/json" ||
				reply.Header.Get("Cache-Control") != "no-store" || reply.Text("error") == "" {
				t.Errorf("%s %s: %d %v %s", method, path, reply.Status, reply.Header, reply.Body)
			}
		}
	}
	stranger.ClientID = "mcp_unknown"
	stranger.Exchange("x").Refused(http.StatusUnauthorized, "invalid_client")
}
