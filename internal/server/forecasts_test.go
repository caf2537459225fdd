package server_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/guard/gosdk"
	"github.com/cardea-auth/cardea/scope"
)

// forecasts is an MCP server with a tool, and an agent that wants to call it.
type forecasts struct {
	Resource string // its identifier

	tools    *http.ServeMux
	callback string // of the agent
}

// newForecasts starts the MCP server, which answers nothing before protect.
func newForecasts(t *testing.T) *forecasts {
	t.Helper()
	w := &forecasts{tools: http.NewServeMux()}
	server := httptest.NewServer(w.tools)
	t.Cleanup(server.Close)
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`<h1 id="connected">connected</h1>`))
	}))
	t.Cleanup(back.Close)
	w.Resource, w.callback = server.URL+"/mcp", back.URL+"/callback"
	return w
}

// protect puts the MCP server behind the issuer, at which it is registered, by the lines that its page in the console
// shows, unless edits change them.
func (w *forecasts) protect(t *testing.T, issuer string, edits ...func(*guard.Config)) {
	t.Helper()
	config := guard.Config{
		Issuer: issuer, Resource: w.Resource, Scopes: scope.Of("mcp:tools:weather"),
		DefaultScopes: scope.Of("mcp:tools:weather"),
	}
	for _, edit := range edits {
		edit(&config)
	}
	g, err := guard.New(config)
	if err != nil {
		t.Fatal(err)
	}
	server := mcp.NewServer(&mcp.Implementation{Name: "weather", Version: "1.0.0"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "get_forecast"},
		func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "sunny"}}}, nil, nil
		})
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil)
	w.tools.Handle("/mcp",
		gosdk.Protect(g, handler, g.RequireToolScopes(guard.ToolScopes{"get_forecast": {"mcp:tools:weather"}})))
	w.tools.Handle("/.well-known/", guard.WellKnown(g))
}

// call connects a real MCP client, the agent Forecaster, and calls the tool. The client's browser is that of ctx, in
// which the steps lead from the authorization request back to the client.
//
//nolint:revive // t first
func (w *forecasts) call(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := w.connect(t, ctx, steps...)(); err != nil {
		t.Fatal(err)
	}
}

// errAskedAgain is what a client gets that needs the person a second time.
var errAskedAgain = errors.New("the client asks the person again")

// connect is call without the call, which it returns. When the client asks the person again, the call returns
// errAskedAgain.
//
//nolint:revive // t first
func (w *forecasts) connect(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) func() error {
	t.Helper()
	asked := false
	oauth, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
		RedirectURL: w.callback,
		DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{
			Metadata: &oauthex.ClientRegistrationMetadata{ClientName: "Forecaster",
				RedirectURIs: []string{w.callback}, TokenEndpointAuthMethod: "none"}},
		AuthorizationCodeFetcher: func(_ context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
			if asked {
				return nil, errAskedAgain
			}
			asked = true
			steps = append(append([]chromedp.Action[chromedp.Void]{chromedp.Navigate(args.URL)}, steps...),
				chromedp.WaitVisible(chromedp.CSS(`#connected`)))
			for i, step := range steps {
				soon, cancel := context.WithTimeout(ctx, time.Minute)
				err := chromedp.Do(soon, step)
				cancel()
				if err != nil {
					html, _ := chromedp.Run(ctx, chromedp.OuterHTML(chromedp.CSS("body")))
					t.Logf("after %d steps the browser shows:\n%s", i, html)
					return nil, err
				}
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
		&mcp.StreamableClientTransport{Endpoint: w.Resource, OAuthHandler: oauth}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return func() error {
		got, err := session.CallTool(t.Context(),
			&mcp.CallToolParams{Name: "get_forecast", Arguments: map[string]any{}})
		if err == nil && got.IsError {
			err = fmt.Errorf("the tool answers %+v", got)
		}
		return err
	}
}
