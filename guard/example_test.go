package guard_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/guard/guardtest"
	"github.com/cardea-auth/cardea/scope"
)

// The examples use an issuer of guardtest. In a program, Issuer is the URL of your Cardea server.
const server = "https://mcp.example.com/mcp"

func mustNew(config guard.Config) *guard.Guard {
	g, err := guard.New(config)
	if err != nil {
		panic(err)
	}
	return g
}

// send sends a request to handler.
func send(handler http.Handler, method, target, token, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

var hello = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "hello, %s", guard.FromContext(r.Context()).Subject)
})

// Token validation middleware: only requests with a valid token reach the MCP server, which gets the identity of the
// caller.
func ExampleGuard_Protect() {
	issuer := guardtest.NewIssuer()
	defer issuer.Close()
	g := mustNew(guard.Config{Issuer: issuer.URL, Resource: server, Scopes: scope.Of("mcp:tools:weather")})

	mux := http.NewServeMux()
	mux.Handle("/mcp", g.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := guard.FromContext(r.Context())
		fmt.Fprintf(w, "user %s, client %s, scopes %s", token.Subject, token.ClientID, token.Scopes)
	})))

	stranger := send(mux, "POST", "/mcp", "", "{}")
	fmt.Println(stranger.Code, stranger.Header().Get("WWW-Authenticate"))
	token := issuer.Token(guardtest.Claims{Audience: server, Scope: "mcp:tools:weather"})
	friend := send(mux, "POST", "/mcp", token, "{}")
	fmt.Println(friend.Code, friend.Body)
	// Output:
	// 401 Bearer resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/mcp", scope="mcp:tools:weather"
	// 200 user user-1, client test-client, scopes mcp:tools:weather
}

// Scope-based authorization: each path needs a different scope.
func ExampleGuard_RequireScope() {
	issuer := guardtest.NewIssuer()
	defer issuer.Close()
	g := mustNew(guard.Config{Issuer: issuer.URL, Resource: server})

	tools := http.NewServeMux()
	tools.Handle("POST /mcp/tools/weather", g.RequireScope("mcp:tools:weather")(hello))
	tools.Handle("POST /mcp/tools/calendar", g.RequireScope("mcp:tools:calendar:read")(hello))
	tools.Handle("POST /mcp/tools/send-email", g.RequireScope("mcp:tools:email:send")(hello))
	handler := g.Protect(tools)

	token := issuer.Token(guardtest.Claims{Audience: server, Scope: "mcp:tools:weather"})
	fmt.Println(send(handler, "POST", "/mcp/tools/weather", token, "").Body)
	refused := send(handler, "POST", "/mcp/tools/send-email", token, "")
	fmt.Println(refused.Code, refused.Body)
	// Output:
	// hello, user-1
	// 403 {"error":"insufficient_scope","error_description":"This needs the scope mcp:tools:email:send.","scope":"mcp:tools:weather mcp:tools:email:send"}
}

// Scopes for each tool of an MCP server whose tools share one URL. After a call without the scope, the client asks the
// person for it and calls again.
func ExampleGuard_RequireToolScopes() {
	issuer := guardtest.NewIssuer()
	defer issuer.Close()
	g := mustNew(guard.Config{Issuer: issuer.URL, Resource: server})

	handler := g.Protect(g.RequireToolScopes(guard.ToolScopes{
		"get_forecast": {"mcp:tools:weather"},
		"send_email":   {"mcp:tools:email:send"},
	})(hello))

	token := issuer.Token(guardtest.Claims{Audience: server, Scope: "mcp:tools:weather"})
	for _, tool := range []string{"get_forecast", "send_email", "delete_all"} {
		call := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%q}}`, tool)
		fmt.Println(tool, send(handler, "POST", "/mcp", token, call).Code)
	}
	// Output:
	// get_forecast 200
	// send_email 403
	// delete_all 403
}

// Protected resource metadata, with which MCP clients find the authorization server. It has the scopes to request
// first.
func ExampleWellKnown() {
	g := mustNew(guard.Config{
		Issuer:        "https://id.example.com",
		Resource:      "https://mcp.example.com/mcp",
		Scopes:        scope.Of("mcp:tools:weather", "mcp:tools:calendar:read", "mcp:resources:*"),
		DefaultScopes: scope.Of("mcp:tools:weather"),
		Documentation: "https://mcp.example.com/docs",
	})
	mux := http.NewServeMux()
	mux.Handle("/mcp", g.Protect(hello))
	mux.Handle("/.well-known/", guard.WellKnown(g))

	metadata := send(mux, "GET", "/.well-known/oauth-protected-resource/mcp", "", "").Body.Bytes()
	var pretty map[string]any
	if err := json.Unmarshal(metadata, &pretty); err != nil {
		fmt.Println(err)
	}
	text, _ := json.MarshalIndent(pretty, "", "  ")
	fmt.Println(string(text))
	// Output:
	// {
	//   "authorization_servers": [
	//     "https://id.example.com"
	//   ],
	//   "bearer_methods_supported": [
	//     "header"
	//   ],
	//   "resource": "https://mcp.example.com/mcp",
	//   "resource_documentation": "https://mcp.example.com/docs",
	//   "scopes_supported": [
	//     "mcp:tools:weather"
	//   ]
	// }
}

// Clients of MCP 2025-03-26 request the authorization server's metadata from the MCP server. WellKnown serves it there.
func ExampleWellKnown_legacyClients() {
	issuer := guardtest.NewIssuer()
	defer issuer.Close()
	g := mustNew(guard.Config{Issuer: issuer.URL, Resource: server})

	response := send(guard.WellKnown(g), "GET", "/.well-known/oauth-authorization-server", "", "")
	var metadata struct {
		Issuer string `json:"issuer"`
		Token  string `json:"token_endpoint"`
	}
	if err := json.Unmarshal(response.Body.Bytes(), &metadata); err != nil {
		fmt.Println(err)
	}
	fmt.Println(metadata.Issuer == issuer.URL, metadata.Token == issuer.URL+"/oauth2/token")
	// Output: true true
}

// Clients of MCP 2025-03-26 that find no metadata call /authorize, /token and /register at the MCP server's origin.
func ExampleGuard_OlderClients() {
	issuer := guardtest.NewIssuer()
	defer issuer.Close()
	g := mustNew(guard.Config{Issuer: issuer.URL, Resource: server})

	mux := http.NewServeMux()
	mux.Handle("/mcp", g.Protect(hello))
	mux.Handle("/.well-known/", guard.WellKnown(g))
	older := g.OlderClients()
	for _, path := range []string{"/.well-known/oauth-authorization-server", "/authorize", "/token", "/register"} {
		mux.Handle(path, older)
	}

	response := send(mux, "GET", "/authorize?response_type=code&client_id=old", "", "")
	fmt.Println(response.Code, strings.TrimPrefix(response.Header().Get("Location"), issuer.URL))
	// Output: 302 /oauth2/authorize?response_type=code&client_id=old&resource=https%3A%2F%2Fmcp.example.com%2Fmcp
}

// Hierarchical scopes: a wildcard covers everything below it.
func ExampleGuard_RequireScope_wildcards() {
	issuer := guardtest.NewIssuer()
	defer issuer.Close()
	g := mustNew(guard.Config{Issuer: issuer.URL, Resource: server})
	handler := g.Protect(g.RequireScope("mcp:resources:customer-data:read")(hello))

	for _, granted := range []string{
		"mcp:resources:customer-data:read",
		"mcp:resources:customer-data:*",
		"mcp:resources:*",
		"mcp:resources:customer-data:write",
		"mcp:tools:*",
	} {
		token := issuer.Token(guardtest.Claims{Audience: server, Scope: granted})
		fmt.Println(send(handler, "POST", "/mcp", token, "").Code, granted)
	}
	// Output:
	// 200 mcp:resources:customer-data:read
	// 200 mcp:resources:customer-data:*
	// 200 mcp:resources:*
	// 403 mcp:resources:customer-data:write
	// 403 mcp:tools:*
}

// Scope validation inside a handler, if the needed scope depends on the request.
func ExampleGuard_CheckScope() {
	issuer := guardtest.NewIssuer()
	defer issuer.Close()
	g := mustNew(guard.Config{Issuer: issuer.URL, Resource: server})

	mux := http.NewServeMux()
	mux.Handle("POST /mcp/tools/{tool}", g.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := g.CheckScope(r.Context(), "mcp:tools:"+r.PathValue("tool")); err != nil {
			g.WriteError(w, r, err)
			return
		}
		fmt.Fprint(w, "done")
	})))

	for _, granted := range []string{"mcp:tools:weather", "mcp:tools:*", "mcp:tools:calendar:read"} {
		token := issuer.Token(guardtest.Claims{Audience: server, Scope: granted})
		fmt.Println(send(mux, "POST", "/mcp/tools/weather", token, "").Code, granted)
	}
	// Output:
	// 200 mcp:tools:weather
	// 200 mcp:tools:*
	// 403 mcp:tools:calendar:read
}

// Strict validation: in addition to verifying the token, the guard asks the issuer for each request whether it is still
// active.
func ExampleConfig_introspection() {
	issuer := guardtest.NewIssuer()
	defer issuer.Close()
	passed := time.Duration(0)
	g := mustNew(guard.Config{
		Issuer:        issuer.URL,
		Resource:      server,
		Introspection: &guard.Credentials{ClientID: issuer.ClientID, ClientSecret: issuer.ClientSecret},
		Now:           func() time.Time { return time.Now().Add(passed) },
	})
	handler := g.Protect(hello)
	token := issuer.Token(guardtest.Claims{Audience: server})

	fmt.Println(send(handler, "POST", "/mcp", token, "").Code)
	issuer.Revoke(token)
	passed += time.Second // for which an answer is remembered
	fmt.Println(send(handler, "POST", "/mcp", token, "").Code)
	issuer.SetDown(true)
	passed += time.Second
	fmt.Println(send(handler, "POST", "/mcp", token, "").Code)
	// Output:
	// 200
	// 401
	// 503
}

// Rate limits by client, with tiers by scope.
func ExampleGuard_LimitRate() {
	issuer := guardtest.NewIssuer()
	defer issuer.Close()
	g := mustNew(guard.Config{Issuer: issuer.URL, Resource: server})

	limit := g.LimitRate(guard.RateLimits{
		Tiers: []guard.Tier{
			{Scope: "mcp:tools:premium", Rate: guard.Rate{Requests: 1000, Per: 15 * time.Minute}},
			{Scope: "mcp:tools:basic", Rate: guard.Rate{Requests: 100, Per: 15 * time.Minute}},
		},
		Default: guard.Rate{Requests: 2, Per: 15 * time.Minute},
	})
	handler := g.Protect(limit(hello))

	token := issuer.Token(guardtest.Claims{Audience: server})
	for range 3 {
		w := send(handler, "POST", "/mcp", token, "")
		fmt.Println(w.Code, w.Header().Get("Retry-After") != "")
	}
	// Output:
	// 200 false
	// 200 false
	// 429 true
}

// An audit log of tool calls.
func ExampleGuard_LogToolCall() {
	issuer := guardtest.NewIssuer()
	defer issuer.Close()
	repeatable := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "issuer" { // they differ between runs
			return slog.Attr{}
		}
		return a
	}
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: repeatable}))
	g := mustNew(guard.Config{Issuer: issuer.URL, Resource: server, Logger: log})

	mux := http.NewServeMux()
	mux.Handle("POST /mcp/tools/{tool}", g.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := run(r.PathValue("tool"))
		g.LogToolCall(r.Context(), r.PathValue("tool"), err)
		if err != nil {
			g.WriteError(w, r, &guard.Error{Status: 500, Code: "server_error", Description: "The tool failed."})
		}
	})))

	token := issuer.Token(guardtest.Claims{Audience: server, Scope: "mcp:tools:*", ID: "grt_1.a"})
	send(mux, "POST", "/mcp/tools/weather", token, "")
	send(mux, "POST", "/mcp/tools/fax", token, "")
	// Output:
	// level=INFO msg=mcp_tool_access user_id=user-1 client_id=test-client token_id=grt_1.a tool_name=weather scopes=mcp:tools:* success=true ip_address=192.0.2.1 user_agent=""
	// level=WARN msg=mcp_tool_access user_id=user-1 client_id=test-client token_id=grt_1.a tool_name=fax scopes=mcp:tools:* success=false ip_address=192.0.2.1 user_agent="" error="no paper"
}

func run(tool string) error {
	if tool == "fax" {
		return errors.New("no paper")
	}
	return nil
}

// A health check that reports whether the authorization server can be reached.
func ExampleGuard_Health() {
	issuer := guardtest.NewIssuer()
	defer issuer.Close()
	now := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	g := mustNew(guard.Config{Issuer: issuer.URL, Resource: server, Now: func() time.Time { return now },
		Logger: slog.New(slog.DiscardHandler)})
	mux := http.NewServeMux()
	mux.Handle("GET /health", g.Health())

	up := send(mux, "GET", "/health", "", "")
	fmt.Println(up.Code, up.Body)
	issuer.SetDown(true)
	now = now.Add(time.Minute)
	down := send(mux, "GET", "/health", "", "")
	fmt.Println(down.Code, down.Body)
	// Output:
	// 200 {"status":"healthy","timestamp":"2026-09-01T12:00:00Z","services":{"mcp_server":"healthy","oauth_server":"healthy"}}
	// 503 {"status":"unhealthy","timestamp":"2026-09-01T12:01:00Z","services":{"mcp_server":"healthy","oauth_server":"unhealthy"}}
}

// Why a token is refused.
func ExampleGuard_Explain() {
	issuer := guardtest.NewIssuer()
	defer issuer.Close()
	g := mustNew(guard.Config{Issuer: issuer.URL, Resource: server})

	token := issuer.Token(guardtest.Claims{Audience: "https://other.example.com/mcp", TTL: -time.Hour})
	explanation := g.Explain(context.Background(), token)
	fmt.Println("accepted:", explanation.Accepted, "aud:", explanation.Claims["aud"])
	for _, check := range explanation.Checks {
		if check.Fault != "" {
			fmt.Printf("%s: %s\n", check.Name, check.Fault)
		}
	}
	// Output:
	// accepted: false aud: https://other.example.com/mcp
	// aud: The token's audience is not https://mcp.example.com/mcp alone.
	// exp: The token has expired; refresh it.
}

// Which granted scope covers each required one.
func ExampleExplainScopes() {
	granted := scope.Of("mcp:tools:calendar:*", "mcp:tools:weather")
	fmt.Print(guard.ExplainScopes(granted, "mcp:tools:weather", "mcp:tools:calendar:write", "mcp:tools:email:send"))
	// Output:
	// mcp:tools:weather: covered by mcp:tools:weather
	// mcp:tools:calendar:write: covered by mcp:tools:calendar:*
	// mcp:tools:email:send: missing
}

// CORS for other endpoints of the server. Protect and WellKnown include it.
func ExampleCORS() {
	handler := guard.CORS(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "tools")
	}))

	r := httptest.NewRequest(http.MethodOptions, "/catalogue", nil)
	r.Header.Set("Origin", "https://inspector.example.com")
	r.Header.Set("Access-Control-Request-Method", "GET")
	r.Header.Set("Access-Control-Request-Headers", "authorization, mcp-protocol-version")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Header().Get("Access-Control-Allow-Origin"), w.Header().Get("Access-Control-Allow-Headers"))
	// Output: 204 * authorization, mcp-protocol-version
}

// Error responses in the form of OAuth, for a handler's own errors and for all others.
func ExampleGuard_WriteError() {
	g := mustNew(guard.Config{Issuer: "https://id.example.com", Resource: server,
		Logger: slog.New(slog.DiscardHandler)})

	for _, err := range []error{
		&guard.Error{Status: 400, Code: "invalid_request", Description: "location is missing.",
			URI: "https://mcp.example.com/docs/errors"},
		&guard.Error{Status: 401, Code: "invalid_token", Description: "The session was ended."},
		errors.New("disk full"),
	} {
		w := httptest.NewRecorder()
		g.WriteError(w, httptest.NewRequest(http.MethodPost, "/mcp", nil), err)
		fmt.Println(w.Code, w.Body)
	}
	// Output:
	// 400 {"error":"invalid_request","error_description":"location is missing.","error_uri":"https://mcp.example.com/docs/errors"}
	// 401 {"error":"invalid_token","error_description":"The session was ended."}
	// 500 {"error":"server_error","error_description":"The server failed."}
}

// Scopes mapped to the server's own permissions.
func ExamplePermissions() {
	permissions := guard.Permissions{
		"mcp:tools:weather":           {"weather:read"},
		"mcp:tools:calendar:read":     {"calendar:events:read"},
		"mcp:tools:calendar:write":    {"calendar:events:read", "calendar:events:write"},
		"mcp:tools:email:send":        {"email:send", "contacts:read"},
		"mcp:resources:customer-data": {"customers:read", "customers:write"},
	}
	granted := scope.Of("mcp:tools:calendar:*", "mcp:tools:weather")
	fmt.Println(permissions.Of(granted))
	fmt.Println(permissions.Allows(granted, "email:send"))
	// Output:
	// [calendar:events:read calendar:events:write weather:read]
	// false
}

// A server in another language behind a reverse proxy. It gets exactly the messages that the guard checked, and not the
// token.
func ExampleGuard_RequireToolScopes_proxy() {
	issuer := guardtest.NewIssuer()
	defer issuer.Close()
	weather := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		message, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "got %d bytes, token %q", len(message), r.Header.Get("Authorization"))
	}))
	defer weather.Close()
	upstream, err := url.Parse(weather.URL) // http://127.0.0.1:3000
	if err != nil {
		fmt.Println(err)
	}
	g := mustNew(guard.Config{Issuer: issuer.URL, Resource: server})

	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(upstream)
		r.Out.Header.Del("Authorization")
	}}
	handler := g.Protect(g.RequireToolScopes(guard.ToolScopes{"get_forecast": {"mcp:tools:weather"}})(proxy))

	token := issuer.Token(guardtest.Claims{Audience: server, Scope: "mcp:tools:weather"})
	for _, method := range []string{"tools/call", `tools/call\u0000`, "weather/delete"} {
		call := `{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":{"name":"get_forecast"}}`
		fmt.Println(send(handler, "POST", "/mcp", token, call).Body)
	}
	// Output:
	// got 79 bytes, token ""
	// {"error":"invalid_request","error_description":"The method is almost one of MCP; write it as MCP does."}
	// {"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"There is no such method, or no client may call it."}}
}
