package gosdk_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/guard/gosdk"
	"github.com/cardea-auth/cardea/guard/guardtest"
	"github.com/cardea-auth/cardea/scope"
	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

// world is an MCP server with the official SDK behind a guard, and its issuer.
type world struct {
	*guardtest.Issuer
	guard *guard.Guard
	url   string // of the MCP endpoint; URL is the issuer's

	mu  sync.Mutex
	log strings.Builder
}

func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *world) records() (records []map[string]any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for line := range strings.Lines(w.log.String()) {
		var record map[string]any
		if json.Unmarshal([]byte(line), &record) == nil && record["msg"] == "mcp_tool_access" {
			records = append(records, record)
		}
	}
	return records
}

type nothing struct{}

type identity struct {
	User, TokenUser, Client string
	Scopes                  []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Issuer: guardtest.NewIssuer()}
	t.Cleanup(w.Close)
	mux := http.NewServeMux()
	front := httptest.NewServer(mux)
	t.Cleanup(front.Close)
	w.url = front.URL + "/mcp"
	var err error
	w.guard, err = guard.New(guard.Config{
		Issuer:        w.URL,
		Resource:      w.url,
		Scopes:        scope.Of("mcp:tools:weather", "mcp:tools:email:send"),
		DefaultScopes: scope.Of("mcp:tools:weather"),
		Logger:        slog.New(slog.NewJSONHandler(w, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	server := mcp.NewServer(&mcp.Implementation{Name: "weather", Version: "1"}, nil)
	server.AddReceivingMiddleware(gosdk.Identify, gosdk.LogToolCalls(w.guard))
	who := func(ctx context.Context, req *mcp.CallToolRequest, _ nothing) (*mcp.CallToolResult, identity, error) {
		token, info := guard.FromContext(ctx), req.Extra.TokenInfo
		return nil, identity{User: info.UserID, TokenUser: token.Principal(), Client: token.ClientID,
			Scopes: token.Scopes}, nil
	}
	mcp.AddTool(server, &mcp.Tool{Name: "get_forecast"}, who)
	mcp.AddTool(server, &mcp.Tool{Name: "send_email"}, who)
	mcp.AddTool(server, &mcp.Tool{Name: "fail"},
		func(context.Context, *mcp.CallToolRequest, nothing) (*mcp.CallToolResult, any, error) {
			return nil, nil, errors.New("secret detail")
		})
	mcp.AddTool(server, &mcp.Tool{Name: "delete_all"}, who)
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil)
	mux.Handle("/mcp", gosdk.Protect(w.guard, handler, w.guard.RequireToolScopes(guard.ToolScopes{
		"get_forecast": {"mcp:tools:weather"},
		"send_email":   {"mcp:tools:email:send"},
		"fail":         nil,
	})))
	mux.Handle("/.well-known/", guard.WellKnown(w.guard))
	return w
}

// agent connects the SDK's client for a person who consents to everything. asked collects the requested scopes.
func (w *world) agent(t *testing.T, asked *[]string) *mcp.ClientSession {
	t.Helper()
	metadata := &oauthex.ClientRegistrationMetadata{
		ClientName: "agent", RedirectURIs: []string{"http://127.0.0.1/callback"},
		GrantTypes: []string{"authorization_code", "refresh_token"}, TokenEndpointAuthMethod: "none",
	}
	browser := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	handler, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
		DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{Metadata: metadata},
		AuthorizationCodeFetcher: func(
			ctx context.Context, args *auth.AuthorizationArgs,
		) (*auth.AuthorizationResult, error) {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, args.URL, nil)
			if err != nil {
				return nil, err
			}
			scopes := strings.Fields(r.URL.Query().Get("scope")) // in any order
			slices.Sort(scopes)
			*asked = append(*asked, strings.Join(scopes, " "))
			resp, err := browser.Do(r)
			if err != nil {
				return nil, err
			}
			defer resp.Body.Close()
			back, err := url.Parse(resp.Header.Get("Location"))
			if err != nil {
				return nil, err
			}
			q := back.Query()
			return &auth.AuthorizationResult{Code: q.Get("code"), State: q.Get("state"), Iss: q.Get("iss")}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "agent", Version: "1"}, nil)
	session, err := client.Connect(t.Context(),
		&mcp.StreamableClientTransport{Endpoint: w.url, OAuthHandler: handler, MaxRetries: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

func use(t *testing.T, session *mcp.ClientSession, tool string) (identity, error) {
	t.Helper()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: nothing{}})
	if err != nil {
		return identity{}, err
	}
	raw, err := json.Marshal(result.StructuredContent)
	if err != nil {
		t.Fatal(err)
	}
	var got identity
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got.Scopes)
	return got, nil
}

func TestTheOfficialClientConnectsAndStepsUp(t *testing.T) {
	w := newWorld(t)
	var asked []string
	session := w.agent(t, &asked)

	got, err := use(t, session, "get_forecast")
	if err != nil {
		t.Fatal(err)
	}
	want := w.URL + "|user-1"
	if got.User != want || got.TokenUser != want || !strings.HasPrefix(got.Client, "client-") {
		t.Errorf("MW-04 %+v", got)
	}
	if diff := cmp.Diff([]string{"mcp:tools:weather"}, got.Scopes); diff != "" {
		t.Error(diff)
	}

	got, err = use(t, session, "send_email")
	if err != nil {
		t.Fatalf("GW-24 step-up: %v", err)
	}
	// The session began with the first token, but the tool sees the token of its own request.
	if diff := cmp.Diff([]string{"mcp:tools:email:send", "mcp:tools:weather"}, got.Scopes); diff != "" {
		t.Error(diff)
	}
	if _, err := use(t, session, "get_forecast"); err != nil {
		t.Errorf("after stepping up: %v", err)
	}
	if diff := cmp.Diff([]string{"mcp:tools:weather", "mcp:tools:email:send mcp:tools:weather"}, asked); diff != "" {
		t.Errorf("consents (-want +got):\n%s", diff)
	}
	if _, err := use(t, session, "fail"); err == nil {
		records := w.records()
		last := records[len(records)-1]
		if last["tool_name"] != "fail" || last["success"] != false ||
			last["error"] != "the tool answered with an error" ||
			last["user_id"] != "user-1" || last["ip_address"] != "127.0.0.1" ||
			!strings.HasPrefix(last["user_agent"].(string), "Go-http-client") {
			t.Errorf("GW-40 %v", last)
		}
	} else {
		t.Error(err)
	}
	names := []any{} // the first call of send_email was refused
	for _, record := range w.records() {
		names = append(names, record["tool_name"])
	}
	if diff := cmp.Diff([]any{"get_forecast", "send_email", "send_email", "get_forecast", "fail"}, names); diff != "" {
		t.Error(diff)
	}
	if _, err := use(t, session, "delete_all"); err == nil {
		t.Error("GW-18 a tool that no scope opens was called")
	}
}

func (w *world) send(t *testing.T, method, token, session, message string) (status int, header http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, w.url, strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if session != "" {
		r.Header.Set("Mcp-Session-Id", session)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header
}

const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25",` +
	`"capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`

func TestASessionBelongsToItsUser(t *testing.T) {
	w := newWorld(t)
	token := func(subject string) string {
		return w.Token(guardtest.Claims{Audience: w.url, Subject: subject, Scope: "mcp:tools:weather"})
	}
	status, header := w.send(t, http.MethodPost, token("ada"), "", initialize)
	session := header.Get("Mcp-Session-Id")
	if status != 200 || session == "" {
		t.Fatalf("%d, session %q", status, session)
	}
	const call = `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"get_forecast","arguments":{}}}`
	for name, c := range map[string]struct {
		token  string
		status int
	}{
		"GW-29 another user":           {token("eve"), 403},
		"MW-05 another user's delete":  {token("eve"), 403},
		"a new token of the same user": {token("ada"), 200},
		"no token":                     {"", 401},
		"GW-02 a token for another server": {
			w.Token(guardtest.Claims{Audience: "https://other", Subject: "ada"}), 401,
		},
		"GW-24 a token without the scope: 403": {w.Token(guardtest.Claims{Audience: w.url, Subject: "ada"}), 403},
		"the same subject, another client's id": {w.Token(guardtest.Claims{Audience: w.url, Subject: "ada",
			ClientID: "c2", Scope: "mcp:tools:weather"}), 200},
	} {
		t.Run(name, func(t *testing.T) {
			method, message := http.MethodPost, call
			if strings.Contains(name, "delete") {
				method, message = http.MethodDelete, ""
			}
			if status, _ := w.send(t, method, c.token, session, message); status != c.status {
				t.Error(status)
			}
		})
	}
}

func TestPreflightAndErrors(t *testing.T) {
	w := newWorld(t)
	if status, header := w.send(t, http.MethodOptions, "", "", ""); status != 204 ||
		header.Get("Access-Control-Allow-Origin") != "*" {
		t.Error(status)
	}
	status, header := w.send(t, http.MethodPost, "x.y.z", "", initialize)
	if status != 401 || !strings.HasPrefix(header.Get("WWW-Authenticate"), `Bearer error="invalid_token"`) ||
		len(header.Values("WWW-Authenticate")) != 1 || header.Get("Content-Type") != "application/json" {
		t.Errorf("%d %v", status, header)
	}
}

// Without Identify a tool must not see the token that its session began with.
func TestNobodyIsFoundInASession(t *testing.T) {
	w := newWorld(t)
	var seen []*guard.Token
	handler := gosdk.Protect(w.guard, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen = append(seen, guard.FromContext(r.Context()))
		info := auth.TokenInfoFromContext(r.Context())
		if info == nil || info.Extra["client_id"] != "c9" || info.Expiration.IsZero() ||
			!slices.Contains(info.Scopes, "a") {
			t.Errorf("%+v", info)
		}
	}))
	r := httptest.NewRequest(http.MethodPost, w.url, nil)
	r.Header.Set("Authorization", "Bearer "+w.Token(guardtest.Claims{Audience: w.url, ClientID: "c9", Scope: "a"}))
	handler.ServeHTTP(httptest.NewRecorder(), r)
	if len(seen) != 1 || seen[0] != nil {
		t.Errorf("%v", seen)
	}
}

func TestVerifier(t *testing.T) {
	w := newWorld(t)
	verify := gosdk.Verifier(w.guard)
	r := httptest.NewRequest(http.MethodPost, w.url, nil)
	info, err := verify(t.Context(), w.Token(guardtest.Claims{Audience: w.url, Subject: "ada", Scope: "a b"}), r)
	if err != nil {
		t.Fatal(err)
	}
	if info.UserID != w.URL+"|ada" || !cmp.Equal(info.Scopes, []string{"a", "b"}) || info.Expiration.IsZero() ||
		info.Extra["aud"] != w.url {
		t.Errorf("%+v", info)
	}
	_, err = verify(t.Context(), w.Token(guardtest.Claims{Audience: "https://other"}), r)
	if !errors.Is(err, auth.ErrInvalidToken) {
		t.Errorf("GW-02 %v", err)
	}
	w.SetDown(true)
	w.Rotate()
	_, err = verify(t.Context(), w.Token(guardtest.Claims{Audience: w.url}), r)
	if err == nil || errors.Is(err, auth.ErrInvalidToken) {
		t.Errorf("an unreachable issuer is not the token's fault: %v", err)
	}
}

// A call that did not pass a guard may be incomplete.
func TestLogToolCallsOfBrokenCalls(t *testing.T) {
	w := newWorld(t)
	server := mcp.NewServer(&mcp.Implementation{Name: "weather", Version: "1"}, nil)
	server.AddReceivingMiddleware(gosdk.Identify, gosdk.LogToolCalls(w.guard))
	mcp.AddTool(server, &mcp.Tool{Name: "get_forecast"},
		func(context.Context, *mcp.CallToolRequest, nothing) (*mcp.CallToolResult, any, error) {
			return nil, nil, nil
		})
	handler := gosdk.Protect(w.guard, mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server },
		&mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true}))
	for _, params := range []string{
		"", `,"params":null`, `,"params":{}`, `,"params":[]`, `,"params":{"name":7}`,
		`,"params":{"name":"get_forecast","arguments":[]}`,
	} {
		r := httptest.NewRequest(http.MethodPost, w.url,
			strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call"`+params+`}`))
		r.Header.Set("Authorization", "Bearer "+w.Token(guardtest.Claims{Audience: w.url}))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json, text/event-stream")
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, r)
		if rec.Code >= 500 {
			t.Errorf("%s: %d %s", params, rec.Code, rec.Body)
		}
	}
}
