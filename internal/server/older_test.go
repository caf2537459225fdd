package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/scope"
)

// The scopes of the MCP server below, the first of them a default one.
const (
	weather = "mcp:tools:weather"
	email   = "mcp:tools:email:send"
)

// newMCP runs an MCP server at an origin of its own, protected by a guard of s, where it is registered; a call with the
// header Tool: email needs the scope of that name. mount adds what else its origin serves.
func newMCP(t *testing.T, s *servertest.Server, mount func(*http.ServeMux, *guard.Guard)) (mcpURL string) {
	t.Helper()
	mux := http.NewServeMux()
	web := httptest.NewUnstartedServer(mux)
	origin := "http://" + web.Listener.Addr().String()
	s.Resource(origin+"/mcp", "*"+weather+"=Weather forecasts", email+"=Send e-mail")
	g, err := guard.New(guard.Config{
		Issuer: s.URL, Resource: origin + "/mcp", Scopes: scope.Of(weather, email), DefaultScopes: scope.Of(weather),
		Now: s.Clock.Now, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0"}`)
	})
	mux.Handle("/mcp", g.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		needed := weather
		if r.Header.Get("Tool") == "email" {
			needed = email
		}
		g.RequireScope(needed)(hello).ServeHTTP(w, r)
	})))
	mount(mux, g)
	web.Start()
	t.Cleanup(web.Close)
	return origin + "/mcp"
}

// client is an MCP client of some revision: what it sends is up to the test. It follows no redirect, as older ones
// follow none to another origin.
type client struct {
	*testing.T
	Header   http.Header // of every request
	MCP      string      // the URL that its user entered
	ID       string
	Callback string
	Person   *servertest.Person
	Browser  *servertest.Browser
}

// newClient returns a client of an MCP revision, which ada uses.
func newClient(t *testing.T, s *servertest.Server, ada *servertest.Person, mcpURL, revision string) *client {
	return &client{
		T: t, MCP: mcpURL, Callback: "http://127.0.0.1:33418/callback",
		Header: http.Header{"Mcp-Protocol-Version": {revision}, "Accept": {"application/json"}},
		Person: ada, Browser: s.Browser(t),
	}
}

// send sends a request and returns the answer; document is its JSON object, nil if it is none.
func (c *client) send(method, target, contentType string, body []byte, header ...string) (resp *http.Response,
	document map[string]any) {
	c.Helper()
	r, err := http.NewRequestWithContext(c.Context(), method, target, bytes.NewReader(body))
	if err != nil {
		c.Fatal(err)
	}
	r.Header = c.Header.Clone()
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	browserless := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	resp, err = browserless.Do(r)
	if err != nil {
		c.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(&document); err != nil {
		document = nil
	}
	return resp, document
}

// find gets a document of discovery, nil if there is none there: any status but 200 sends a client on.
func (c *client) find(target string) map[string]any {
	c.Helper()
	resp, document := c.send(http.MethodGet, target, "", nil)
	if resp.StatusCode != http.StatusOK {
		return nil
	}
	if document == nil || resp.Header.Get("Content-Type") != "application/json" {
		c.Fatalf("%s is no JSON", target)
	}
	return document
}

// issuer returns the first authorization server of protected resource metadata.
func (c *client) issuer(resource map[string]any) string {
	c.Helper()
	issuers := list(resource, "authorization_servers")
	if len(issuers) == 0 {
		c.Fatalf("no authorization server in %v", resource)
	}
	return issuers[0]
}

// call calls the MCP server.
func (c *client) call(token string, header ...string) *http.Response {
	c.Helper()
	if token != "" {
		header = append(header, "Authorization", "Bearer "+token)
	}
	resp, _ := c.send(http.MethodPost, c.MCP, "application/json",
		[]byte(`{"jsonrpc":"2.0","method":"tools/call","id":1}`), header...)
	return resp
}

// challenged returns the parameters of the Bearer challenge of a refused call.
func (c *client) challenged(resp *http.Response, status int) map[string]string {
	c.Helper()
	params := map[string]string{}
	header := resp.Header.Get("WWW-Authenticate")
	for _, m := range regexp.MustCompile(`(\w+)="([^"]*)"`).FindAllStringSubmatch(header, -1) {
		params[m[1]] = m[2]
	}
	if resp.StatusCode != status || !strings.HasPrefix(header, "Bearer ") {
		c.Fatalf("status %d, WWW-Authenticate %q", resp.StatusCode, header)
	}
	return params
}

// works calls the MCP server and fails the test unless it answers.
func (c *client) works(token string, header ...string) {
	c.Helper()
	if resp := c.call(token, header...); resp.StatusCode != http.StatusOK {
		c.Fatalf("the MCP server answers %d, %s", resp.StatusCode, resp.Header.Get("WWW-Authenticate"))
	}
}

// register registers at endpoint (RFC 7591 §3.1) and remembers its client_id.
func (c *client) register(endpoint string, extra map[string]any) {
	c.Helper()
	metadata := map[string]any{
		"client_name": "MCP client", "redirect_uris": []string{c.Callback}, "token_endpoint_auth_method": "none",
		"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
	}
	for name, value := range extra {
		metadata[name] = value
	}
	body, err := json.Marshal(metadata)
	if err != nil {
		c.Fatal(err)
	}
	resp, info := c.send(http.MethodPost, endpoint, "application/json", body)
	c.ID, _ = info["client_id"].(string)
	if resp.StatusCode != http.StatusCreated || c.ID == "" {
		c.Fatalf("registration: %d %v", resp.StatusCode, info)
	}
}

const verifier = "a-verifier-of-an-mcp-client-which-is-long-enough-0123456789"

// authorize has the person sign in and consent, and returns what comes back to the client.
func (c *client) authorize(endpoint string, extra url.Values) url.Values {
	c.Helper()
	params := url.Values{
		"response_type": {"code"}, "client_id": {c.ID}, "redirect_uri": {c.Callback}, "state": {"any-state"},
		"code_challenge": {servertest.Challenge(verifier)}, "code_challenge_method": {"S256"},
	}
	for name, values := range extra {
		params[name] = values
	}
	page := c.Browser.Authorize(params, func(r *servertest.Request) { r.URL = endpoint }).Through(c.Person)
	page.Code()
	u, err := url.Parse(page.Location)
	if err != nil {
		c.Fatal(err)
	}
	return u.Query()
}

// redeem redeems a code; params of extra are sent too.
func (c *client) redeem(endpoint, code string, extra url.Values) tokens {
	c.Helper()
	return c.token(endpoint, extra,
		url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {c.Callback},
			"code_verifier": {verifier}})
}

// refresh redeems a refresh token; params of extra are sent too.
func (c *client) refresh(endpoint, token string, extra url.Values) tokens {
	c.Helper()
	return c.token(endpoint, extra, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

type tokens struct {
	Access, Refresh, Scope string
	Claims                 oauth.Claims
}

func (c *client) token(endpoint string, extra, params url.Values) tokens {
	c.Helper()
	params.Set("client_id", c.ID)
	for name, values := range extra {
		params[name] = values
	}
	resp, answer := c.send(http.MethodPost, endpoint, "application/x-www-form-urlencoded", []byte(params.Encode()))
	access, _ := answer["access_token"].(string)
	refresh, _ := answer["refresh_token"].(string)
	granted, _ := answer["scope"].(string)
	if resp.StatusCode != http.StatusOK || access == "" || refresh == "" || answer["token_type"] != "Bearer" ||
		resp.Header.Get("Cache-Control") != "no-store" {
		c.Fatalf("token: %d %v %v", resp.StatusCode, resp.Header, answer)
	}
	return tokens{access, refresh, granted, servertest.Claims(c, access)}
}

// text returns a member that is a string, else "".
func text(document map[string]any, name string) string {
	value, _ := document[name].(string)
	return value
}

// list returns a member that is a list of strings.
func list(document map[string]any, name string) []string {
	var values []string
	all, _ := document[name].([]any)
	for _, value := range all {
		values = append(values, fmt.Sprint(value))
	}
	return values
}

func originOf(t *testing.T, s string) string {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u.Scheme + "://" + u.Host
}

// What an origin serves besides the MCP server.
var (
	wellKnown = func(mux *http.ServeMux, g *guard.Guard) { mux.Handle("/.well-known/", guard.WellKnown(g)) }
	// everything is what guard has for every revision.
	everything = func(mux *http.ServeMux, g *guard.Guard) {
		wellKnown(mux, g)
		mux.Handle("/.well-known/oauth-authorization-server", g.OlderClients())
		defaultEndpoints(mux, g)
	}
	defaultEndpoints = func(mux *http.ServeMux, g *guard.Guard) {
		for _, path := range []string{"/authorize", "/token", "/register"} {
			mux.Handle(path, g.OlderClients())
		}
	}
)

// Clients of every revision of MCP connect to one and the same server, each in the way of its time.
func TestRevisions(t *testing.T) {
	s := servertest.Start(t, func(c *config.Config) { c.Registration.AllowLoopback = true })
	ada := s.User("ada@example.com")
	mcpURL := newMCP(t, s, everything)
	s.Resource(servertest.MCP, "other") // so that no client gets by without saying for whom its token is

	// MCP 2025-03-26, Authorization, 2.3: the path of the MCP server's URL is dropped; there is the metadata, or else
	// the default endpoints. No protected resource metadata, no resource.
	older := func(c *client, base string) {
		if resp := c.call(""); resp.StatusCode != http.StatusUnauthorized {
			c.Fatalf("status %d", resp.StatusCode)
		}
		authorize, token, register := base+"/authorize", base+"/token", base+"/register"
		if m := c.find(base + "/.well-known/oauth-authorization-server"); m != nil {
			authorize, token, register = text(m, "authorization_endpoint"), text(m, "token_endpoint"), text(m,
				"registration_endpoint")
		}
		c.register(register, nil)
		got := c.redeem(token, c.authorize(authorize, nil).Get("code"), nil)
		c.works(got.Access)
		if got.Claims.Audience != c.MCP {
			c.Errorf("aud is %s", got.Claims.Audience)
		}
		c.works(c.refresh(token, got.Refresh, nil).Access)
	}
	t.Run("2025-03-26 with metadata at the origin of the MCP server", func(t *testing.T) {
		c := newClient(t, s, ada, mcpURL, "2025-03-26")
		older(c, originOf(t, c.MCP))
	})
	t.Run("2025-03-26 without metadata, at the default endpoints", func(t *testing.T) {
		c := newClient(t, s, ada, newMCP(t, s, defaultEndpoints), "2025-03-26")
		older(c, originOf(t, c.MCP))
	})
	t.Run("2025-03-26 with the issuer's metadata as it is, for the only resource", func(t *testing.T) {
		s := servertest.Start(t)
		c := newClient(t, s, s.User("ada@example.com"), newMCP(t, s, wellKnown), "2025-03-26")
		older(c, originOf(t, c.MCP))
	})
	t.Run("2025-03-26 without metadata, at the default endpoints of the issuer", func(t *testing.T) {
		s := servertest.Start(t)
		c := newClient(t, s, s.User("ada@example.com"), newMCP(t, s, wellKnown), "2025-03-26")
		c.register(s.URL+"/register", nil)
		got := c.redeem(s.URL+"/token", c.authorize(s.URL+"/authorize", nil).Get("code"), nil)
		c.works(got.Access)
		c.works(c.refresh(s.URL+"/token", got.Refresh, nil).Access)
	})

	// MCP 2025-06-18, Authorization: the challenge of a 401 must lead to the protected resource metadata, that to the
	// metadata of RFC 8414 and to no other form; resource must be in both requests.
	t.Run("2025-06-18", func(t *testing.T) {
		c := newClient(t, s, ada, mcpURL, "2025-06-18")
		resource := c.find(c.challenged(c.call(""), http.StatusUnauthorized)["resource_metadata"])
		issuer := c.issuer(resource)
		m := c.find(issuer + "/.well-known/oauth-authorization-server")
		c.register(text(m, "registration_endpoint"), nil)
		target := url.Values{"resource": {c.MCP}}
		back := c.authorize(text(m, "authorization_endpoint"), target)
		got := c.redeem(text(m, "token_endpoint"), back.Get("code"), target)
		c.works(got.Access)
		if got.Claims.Audience != c.MCP || got.Scope != weather {
			t.Errorf("aud is %s, scope %s", got.Claims.Audience, got.Scope)
		}
		c.works(c.refresh(text(m, "token_endpoint"), got.Refresh, target).Access)
	})

	// MCP 2025-11-25, Authorization: the challenge or else the well-known URLs lead to the protected resource metadata;
	// RFC 8414 or OpenID Connect Discovery, with PKCE in it; the scope of the challenge; step-up on 403.
	for _, found := range []string{
		"by the challenge", "at the well-known URL of its path", "at the well-known URL of its origin",
	} {
		t.Run("2025-11-25 protected resource metadata "+found, func(t *testing.T) {
			c := newClient(t, s, ada, mcpURL, "2025-11-25")
			challenge := c.challenged(c.call(""), http.StatusUnauthorized)
			at := map[string]string{
				"by the challenge":                    challenge["resource_metadata"],
				"at the well-known URL of its path":   originOf(t, c.MCP) + "/.well-known/oauth-protected-resource/mcp",
				"at the well-known URL of its origin": originOf(t, c.MCP) + "/.well-known/oauth-protected-resource",
			}
			resource := c.find(at[found])
			if text(resource, "resource") != c.MCP {
				t.Errorf("resource is %v", resource["resource"])
			}
			issuer := c.issuer(resource)
			for _, form := range []string{
				"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration",
			} {
				m := c.find(issuer + form)
				if !slices.Contains(list(m, "code_challenge_methods_supported"), "S256") {
					t.Fatalf("%s: a client must refuse to go on without PKCE", form)
				}
			}
			m := c.find(issuer + "/.well-known/oauth-authorization-server")
			c.register(text(m, "registration_endpoint"), nil)
			first := url.Values{"resource": {text(resource, "resource")}, "scope": {challenge["scope"]}}
			got := c.redeem(text(m, "token_endpoint"),
				c.authorize(text(m, "authorization_endpoint"), first).Get("code"),
				url.Values{"resource": first["resource"]})
			c.works(got.Access)

			more := c.challenged(c.call(got.Access, "Tool", "email"), http.StatusForbidden)
			if more["error"] != "insufficient_scope" || !strings.Contains(more["scope"], email) {
				t.Fatalf("challenge %v", more)
			}
			again := url.Values{"resource": first["resource"], "scope": {more["scope"]}}
			got = c.redeem(text(m, "token_endpoint"), c.authorize(text(m, "authorization_endpoint"), again).Get("code"),
				url.Values{"resource": first["resource"]})
			c.works(got.Access)
			c.works(got.Access, "Tool", "email")
		})
	}

	// Client ID metadata documents came with 2025-11-25: where the metadata says so, a client names its own.
	t.Run("2025-11-25 by a metadata document", func(t *testing.T) {
		c := newClient(t, s, ada, mcpURL, "2025-11-25")
		challenge := c.challenged(c.call(""), http.StatusUnauthorized)
		m := c.find(c.issuer(c.find(challenge["resource_metadata"])) + "/.well-known/oauth-authorization-server")
		if m["client_id_metadata_document_supported"] != true {
			t.Fatal("a client would register")
		}
		document := newSite(t)
		c.ID = document.URL
		document.document = map[string]any{
			"client_id": c.ID, "client_name": "MCP client", "redirect_uris": []string{"http://127.0.0.1/callback"},
			"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
			"token_endpoint_auth_method": "none",
		}
		target := url.Values{"resource": {c.MCP}}
		back := c.authorize(text(m, "authorization_endpoint"),
			url.Values{"resource": {c.MCP}, "scope": {challenge["scope"]}})
		got := c.redeem(text(m, "token_endpoint"), back.Get("code"), target)
		c.works(got.Access)
		c.works(c.refresh(text(m, "token_endpoint"), got.Refresh, target).Access)
	})

	// MCP 2026-07-28, Authorization: the issuer of the metadata is compared before anything is sent there, iss of the
	// response after (RFC 9207); application_type must be sent; offline_access is asked for where it is listed.
	t.Run("2026-07-28", func(t *testing.T) {
		c := newClient(t, s, ada, mcpURL, "2026-07-28")
		challenge := c.challenged(c.call(""), http.StatusUnauthorized)
		resource := c.find(challenge["resource_metadata"])
		issuer := c.issuer(resource)
		m := c.find(issuer + "/.well-known/oauth-authorization-server")
		if text(m, "issuer") != issuer || m["authorization_response_iss_parameter_supported"] != true {
			t.Fatalf("metadata of %v", m["issuer"])
		}
		if slices.Contains(list(resource, "scopes_supported"), "offline_access") ||
			strings.Contains(challenge["scope"], "offline_access") {
			t.Error("offline_access concerns the issuer alone")
		}
		asked := challenge["scope"]
		if slices.Contains(list(m, "scopes_supported"), "offline_access") {
			asked += " offline_access"
		}
		c.register(text(m, "registration_endpoint"), map[string]any{"application_type": "native", "scope": asked})
		back := c.authorize(text(m, "authorization_endpoint"),
			url.Values{"resource": {c.MCP}, "scope": {asked}, "prompt": {"consent"}})
		if back.Get("iss") != issuer {
			t.Fatalf("iss is %q", back.Get("iss"))
		}
		got := c.redeem(text(m, "token_endpoint"), back.Get("code"), url.Values{"resource": {c.MCP}})
		c.works(got.Access)
		if got.Claims.Issuer != issuer || got.Claims.Audience != c.MCP || got.Scope != weather+" offline_access" {
			t.Errorf("claims %+v, scope %s", got.Claims, got.Scope)
		}
		c.works(c.refresh(text(m, "token_endpoint"), got.Refresh, url.Values{"resource": {c.MCP}}).Access)
	})
}
