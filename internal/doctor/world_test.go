package doctor_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/doctor"
)

// world is an MCP server and an authorization server without a fault, into which a test plants one.
type world struct {
	t       *testing.T
	mcp, as *httptest.Server
	url     string // what the person types

	challenge func(token string) string // of a 401; "" for none
	open      bool                      // tools answer without a token
	accepts   func(claims map[string]any) bool
	sessions  bool
	streams   bool // responses are streams of events
	tools     []map[string]any
	callTool  func(http.ResponseWriter) // nil: it works
	prm       map[string]any
	prmRoot   bool
	prmPath   bool
	atMCP     func(http.ResponseWriter, *http.Request) bool // answers in place of the MCP server, if it returns true
	cors      func(http.Header)

	metadata map[string]any
	atAS     func(http.ResponseWriter, *http.Request) bool
	page     func(http.ResponseWriter, *http.Request) bool // the page of the authorization endpoint
	claims   func(map[string]any)
	answer   func(map[string]any) // of the token endpoint
	enrolled func(map[string]any) // of the registration endpoint
	knows    func(client string) bool
	redirect func(registered, asked string) bool

	mu      sync.Mutex
	clients map[string]string // by id, the redirect URI
	codes   map[string]url.Values
	deleted int
	revoked int
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, prmPath: true, prmRoot: true, clients: map[string]string{}, codes: map[string]url.Values{}}
	w.as = httptest.NewServer(http.HandlerFunc(w.serveAS))
	w.mcp = httptest.NewServer(http.HandlerFunc(w.serveMCP))
	t.Cleanup(w.as.Close)
	t.Cleanup(func() { w.mcp.Close() })
	w.url = w.mcp.URL + "/mcp"
	w.tools = []map[string]any{
		{"name": "send", "inputSchema": map[string]any{"type": "object"}},
		{"name": "look", "inputSchema": map[string]any{"type": "object"},
			"annotations": map[string]any{"readOnlyHint": true}},
	}
	w.cors = func(h http.Header) {
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Allow-Headers",
			"authorization, content-type, mcp-protocol-version, mcp-session-id, mcp-method, mcp-name")
		h.Set("Access-Control-Expose-Headers", "WWW-Authenticate, Mcp-Session-Id")
	}
	w.challenge = func(token string) string {
		c := fmt.Sprintf(`Bearer resource_metadata="%s/.well-known/oauth-protected-resource/mcp", scope="read"`,
			w.mcp.URL)
		if token != "" {
			c += `, error="invalid_token"`
		}
		return c
	}
	w.prm = map[string]any{"resource": w.url, "authorization_servers": []string{w.as.URL},
		"scopes_supported": []string{"read"}}
	w.accepts = func(claims map[string]any) bool { return claims["aud"] == w.url }
	w.metadata = map[string]any{
		"issuer": w.as.URL, "authorization_endpoint": w.as.URL + "/authorize", "token_endpoint": w.as.URL + "/token",
		"registration_endpoint": w.as.URL + "/register", "revocation_endpoint": w.as.URL + "/revoke",
		"jwks_uri":         w.as.URL + "/jwks",
		"scopes_supported": []string{"read", "write", "offline_access"}, "response_types_supported": []string{"code"},
		"grant_types_supported":                          []string{"authorization_code", "refresh_token"},
		"token_endpoint_auth_methods_supported":          []string{"none"},
		"code_challenge_methods_supported":               []string{"S256"},
		"client_id_metadata_document_supported":          true,
		"authorization_response_iss_parameter_supported": true,
	}
	w.claims, w.answer, w.enrolled = func(map[string]any) {}, func(map[string]any) {}, func(map[string]any) {}
	w.knows = func(id string) bool { return w.clients[id] != "" || strings.HasPrefix(id, "https://") }
	w.redirect = func(registered, asked string) bool {
		a, err1 := url.Parse(registered)
		b, err2 := url.Parse(asked)
		return err1 == nil && err2 == nil && a.Hostname() == b.Hostname() && a.Path == b.Path
	}
	return w
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

func writePage(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprint(w, "<!doctype html><title>Page</title>"+text)
}

func (w *world) serveMCP(rw http.ResponseWriter, r *http.Request) {
	w.cors(rw.Header())
	if w.atMCP != nil && w.atMCP(rw, r) {
		return
	}
	const known = "/.well-known/oauth-protected-resource"
	switch {
	case r.Method == http.MethodOptions:
		rw.WriteHeader(http.StatusNoContent)
	case r.URL.Path == known && w.prmRoot, r.URL.Path == known+"/mcp" && w.prmPath:
		writeJSON(rw, 200, w.prm)
	case r.URL.Path != "/mcp":
		writeJSON(rw, 404, map[string]any{"error": "not_found"})
	default:
		w.serveEndpoint(rw, r)
	}
}

func (w *world) serveEndpoint(rw http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if claims := claimsOf(token); !w.open && (claims == nil || !w.accepts(claims)) {
		if c := w.challenge(token); c != "" {
			rw.Header().Set("WWW-Authenticate", c)
		}
		writeJSON(rw, 401, map[string]any{"error": "unauthorized"})
		return
	}
	if r.Method != http.MethodPost {
		rw.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	var m struct {
		ID     any            `json:"id"`
		Method string         `json:"method"`
		Params map[string]any `json:"params"`
	}
	_ = json.NewDecoder(r.Body).Decode(&m)
	reply := func(result any) {
		if w.streams { // and the stream stays open
			rw.Header().Set("Content-Type", "text/event-stream")
			text, _ := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": m.ID, "result": result})
			fmt.Fprintf(rw, ": hello\n\nid: 1\ndata:\n\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n\nevent: "+
				"message\ndata: %s\n\n", text)
			rw.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		writeJSON(rw, 200, map[string]any{"jsonrpc": "2.0", "id": m.ID, "result": result})
	}
	if s := r.Header.Get("Mcp-Session-Id"); w.sessions && s != "" && s != "s1" {
		writeJSON(rw, 404, map[string]any{"error": "no such session"})
		return
	}
	switch m.Method {
	case "initialize":
		if w.sessions {
			rw.Header().Set("Mcp-Session-Id", "s1")
		}
		reply(map[string]any{"protocolVersion": "2025-11-25",
			"serverInfo":   map[string]any{"name": "planted", "version": "1"},
			"capabilities": map[string]any{"tools": map[string]any{}}})
	case "server/discover":
		if r.Header.Get("Mcp-Method") != "server/discover" {
			writeJSON(rw, 400, map[string]any{"jsonrpc": "2.0", "id": m.ID, "error": map[string]any{"code": -32020,
				"message": "Mcp-Method is missing"}})
			return
		}
		reply(map[string]any{"supportedVersions": []string{"2026-07-28"},
			"serverInfo": map[string]any{"name": "planted"}})
	case "tools/list":
		reply(map[string]any{"tools": w.tools})
	case "tools/call":
		if w.callTool != nil {
			w.callTool(rw)
			return
		}
		reply(map[string]any{"content": []any{}})
	default:
		rw.WriteHeader(http.StatusAccepted)
	}
}

// tokens are not signed here: an MCP server of the test knows one by its third part.
func newToken(claims map[string]any) string {
	part := func(v any) string {
		text, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	return part(map[string]any{"alg": "ES256", "typ": "at+jwt"}) + "." + part(claims) + ".planted"
}

func claimsOf(token string) (claims map[string]any) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || parts[2] != "planted" {
		return nil
	}
	raw, _ := base64.RawURLEncoding.DecodeString(parts[1])
	_ = json.Unmarshal(raw, &claims)
	return claims
}

func (w *world) serveAS(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("Access-Control-Allow-Origin", "*")
	if w.atAS != nil && w.atAS(rw, r) {
		return
	}
	_ = r.ParseForm()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch path := r.URL.Path; {
	case r.Method == http.MethodOptions:
		rw.WriteHeader(http.StatusNoContent)
	case path == "/.well-known/oauth-authorization-server", path == "/.well-known/openid-configuration":
		writeJSON(rw, 200, w.metadata)
	case path == "/jwks":
		writeJSON(rw, 200, map[string]any{"keys": []any{map[string]any{"kty": "EC", "alg": "ES256", "kid": "1"}}})
	case path == "/register":
		var m map[string]any
		_ = json.NewDecoder(r.Body).Decode(&m)
		id := fmt.Sprintf("c%d", len(w.clients)+1)
		w.clients[id] = m["redirect_uris"].([]any)[0].(string)
		m["client_id"], m["registration_client_uri"], m["registration_access_token"] = id, w.as.URL+"/register/"+id,
			"secret"
		w.enrolled(m)
		writeJSON(rw, 201, m)
	case strings.HasPrefix(path, "/register/") && r.Method == http.MethodDelete:
		w.deleted++
		delete(w.clients, strings.TrimPrefix(path, "/register/"))
		rw.WriteHeader(http.StatusNoContent)
	case path == "/authorize":
		w.authorize(rw, r)
	case path == "/token":
		w.token(rw, r)
	case path == "/revoke":
		w.revoked++
	default:
		writeJSON(rw, 404, map[string]any{"error": "not_found"})
	}
}

func (w *world) authorize(rw http.ResponseWriter, r *http.Request) {
	q := r.Form
	if w.page != nil && w.page(rw, r) {
		return
	}
	id, to := q.Get("client_id"), q.Get("redirect_uri")
	if !w.knows(id) || w.clients[id] != "" && !w.redirect(w.clients[id], to) {
		writePage(rw, 400, "unknown")
		return
	}
	code := fmt.Sprintf("code%d", len(w.codes))
	w.codes[code] = q
	back := url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {w.as.URL}}
	http.Redirect(rw, r, to+"?"+back.Encode(), http.StatusFound)
}

func (w *world) token(rw http.ResponseWriter, r *http.Request) {
	resource := r.Form.Get("resource")
	switch {
	case r.Form.Get("grant_type") == "authorization_code" && w.codes[r.Form.Get("code")] != nil:
	case r.Form.Get("refresh_token") == "refresh" && (resource == "" || resource == w.url):
	case r.Form.Get("refresh_token") == "refresh":
		writeJSON(rw, 400, map[string]any{"error": "invalid_target"})
		return
	default:
		writeJSON(rw, 400, map[string]any{"error": "invalid_grant"})
		return
	}
	claims := map[string]any{"iss": w.as.URL, "aud": w.url, "exp": time.Now().Add(time.Hour).Unix()}
	if resource != "" {
		claims["aud"] = resource
	}
	w.claims(claims)
	answer := map[string]any{"access_token": newToken(claims), "token_type": "Bearer", "expires_in": 300,
		"refresh_token": "refresh"}
	w.answer(answer)
	writeJSON(rw, 200, answer)
}

// asked returns o for the world. The browser of the test goes where it is sent.
func (w *world) asked(o doctor.Options) doctor.Options {
	if o.URL == "" {
		o.URL = w.url
	}
	o.Now, o.Version = time.Now, "test"
	o.Open = func(_ context.Context, address string) error {
		go func() {
			resp, err := http.Get(address)
			if err == nil {
				resp.Body.Close()
			}
		}()
		return nil
	}
	if o.Patience == 0 {
		o.Patience = 10 * time.Second
	}
	return o
}

// run runs the doctor on the world.
func (w *world) run(o doctor.Options) *doctor.Report {
	w.t.Helper()
	report, err := doctor.Run(context.Background(), w.asked(o))
	if err != nil {
		w.t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, c := range report.Checks {
		ids[c.ID] = true
	}
	for _, id := range allIDs {
		if !ids[id] {
			w.t.Errorf("the report says nothing about %s", id)
		}
	}
	if len(ids) != len(allIDs) {
		w.t.Errorf("the report has other ids: %v", slices.Sorted(maps.Keys(ids)))
	}
	return report
}

var allIDs = []string{"reachable", "tls", "redirects", "clock", "challenge", "challenge.scope", "bogus_token",
	"user_agents",
	"get", "session", "cors", "prm.path", "prm.root", "prm.resource", "prm.authorization_servers", "prm.scopes",
	"as.oauth",
	"as.openid", "as.issuer", "as.pkce", "as.iss", "as.registration", "as.none", "as.grants", "as.jwks", "register",
	"login",
	"login.audience", "login.refresh", "login.tools"}

func explain(r *doctor.Report) string {
	var b strings.Builder
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "%-4s %s (%s): %s → %s %v\n", c.Status, c.ID, c.Party, c.Found, c.Fix, c.Clients)
	}
	return b.String()
}
