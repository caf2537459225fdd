package server_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/guard/gosdk"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store/storetest"
	"github.com/cardea-auth/cardea/scope"
)

// From the first start to a revoked agent in a browser alone, without scripts: an operator makes the first owner, adds
// an MCP server, approves the agent that connects to it, reads what it did, and ends what it was allowed.
func TestConsoleFromFirstStart(t *testing.T) {
	db, clock := storetest.Open(t, storetest.SQLite)
	clock.Set(time.Now()) // the MCP server has a clock of its own
	s := servertest.New(t, db, clock)
	tools := http.NewServeMux()
	mcpServer := httptest.NewServer(tools)
	t.Cleanup(mcpServer.Close)
	resource := mcpServer.URL + "/mcp"
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("<h1>connected</h1>"))
	}))
	t.Cleanup(back.Close)

	ctx := chromium(t)
	do := func(what string, steps ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, steps...); err != nil {
			html, _ := chromedp.Run(ctx, chromedp.OuterHTML(chromedp.CSS("body")))
			t.Fatalf("%s: %v\n%s", what, err, html)
		}
	}
	opened := func(path string) chromedp.Action[chromedp.Void] { return chromedp.Navigate(s.URL + path) }
	click := func(selector string) chromedp.Action[chromedp.Void] { return chromedp.Click(chromedp.CSS(selector)) }
	seen := func(selector string) chromedp.Action[chromedp.Void] {
		return chromedp.WaitVisible(chromedp.CSS(selector))
	}
	typed := func(selector, text string) chromedp.Action[chromedp.Void] {
		return chromedp.SendKeys(chromedp.CSS(selector), text)
	}

	const email, password = "ada@example.com", "correct horse battery staple"
	do("set up", opened("/setup#"), seen(`#token`), typed(`#token`, setupToken(t, s)), typed(`#email`, email),
		typed(`#name`, "Ada"), typed(`#password`, password+"\r"), seen(`a[href="/admin"]`), click(`a[href="/admin"]`),
		seen(`body.console a[href="/admin/servers/new"]`))
	do("add the MCP server", click(`a[href="/admin/servers/new"]`), seen(`#identifier`), typed(`#identifier`, resource),
		typed(`#name`, "Weather"), typed(`input[name="scope-name-0"]`, "mcp:tools:weather"),
		typed(`input[name="scope-description-0"]`, "Weather forecasts"),
		click(`input[name="scope-default-0"]`), click(`form.form button.primary`), seen(`a[href$="/edit"]`))

	// The MCP server, protected by the lines that its page shows.
	g, err := guard.New(guard.Config{
		Issuer: s.URL, Resource: resource, Scopes: scope.Of("mcp:tools:weather"),
		DefaultScopes: scope.Of("mcp:tools:weather"),
	})
	if err != nil {
		t.Fatal(err)
	}
	weather := mcp.NewServer(&mcp.Implementation{Name: "weather", Version: "1.0.0"}, nil)
	mcp.AddTool(weather, &mcp.Tool{Name: "get_forecast"},
		func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "sunny"}}}, nil, nil
		})
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return weather }, nil)
	tools.Handle("/mcp",
		gosdk.Protect(g, handler, g.RequireToolScopes(guard.ToolScopes{"get_forecast": {"mcp:tools:weather"}})))
	tools.Handle("/.well-known/", guard.WellKnown(g))

	// A real MCP client, whose browser is the one in which the owner is signed in.
	metadata := &oauthex.ClientRegistrationMetadata{
		ClientName: "Forecaster", RedirectURIs: []string{back.URL + "/callback"}, TokenEndpointAuthMethod: "none",
	}
	oauth, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
		RedirectURL:                     back.URL + "/callback",
		DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{Metadata: metadata},
		AuthorizationCodeFetcher: func(
			_ context.Context, args *auth.AuthorizationArgs,
		) (*auth.AuthorizationResult, error) {
			if err := chromedp.Do(ctx, chromedp.Navigate(args.URL), seen(`button[value="allow"]`),
				click(`button[value="allow"]`)); err != nil {
				return nil, err
			}
			if err := chromedp.Do(ctx, chromedp.WaitVisible(chromedp.CSS(`h1`))); err != nil {
				return nil, err
			}
			at, err := chromedp.Run(ctx, chromedp.Location())
			if err != nil {
				return nil, err
			}
			u, err := url.Parse(at)
			if err != nil {
				return nil, err
			}
			return &auth.AuthorizationResult{Code: u.Query().Get("code"), State: u.Query().Get("state"),
				Iss: u.Query().Get("iss")}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "forecaster", Version: "1.0.0"}, nil).Connect(t.Context(),
		&mcp.StreamableClientTransport{Endpoint: resource, OAuthHandler: oauth}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	got, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "get_forecast", Arguments: map[string]any{}})
	if err != nil || got.IsError {
		t.Fatalf("the tool answers %+v, %v", got, err)
	}

	do("approve the agent", opened("/admin/clients"), seen(`.things .name a`), click(`.things .name a`),
		seen(`form[action$="/approve"] button`), click(`form[action$="/approve"] button`), seen(`.badge.good`))
	read := func(path string) string {
		t.Helper()
		do(path, opened(path), seen("main"))
		text, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("main")))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if story := read("/admin/audit"); !strings.Contains(story, "Forecaster") || !strings.Contains(story, "Weather") {
		t.Errorf("the audit trail does not tell it:\n%s", story)
	}
	do("revoke", opened("/admin/grants"), seen(`.things a.button`), click(`.things a.button`), seen(`button.danger`),
		click(`button.danger`), seen(`[role="status"]`))
	if grants := s.Events("grant.revoke"); len(grants) != 1 || grants[0].Actor.Name != "Ada" {
		t.Errorf("the events are %+v", grants)
	}
}
