package clients_test

import (
	"net/url"
	"strings"
	"testing"

	mcpgo "github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"
)

// mcp-go registers, requests the scopes that its application names, and refreshes an expired token. A call without the
// needed scope returns an error that says so.
func TestMCPGo(t *testing.T) {
	d := startDemo(t, "CARDEA_TOKENS_ACCESS_TTL=10m")
	ada := newPerson(t, d.Email, d.Password)
	store := mcpgo.NewMemoryTokenStore()
	agent, err := mcpgo.NewOAuthStreamableHttpClient(d.MCP, mcpgo.OAuthConfig{
		RedirectURI: "http://localhost:43119/oauth/callback", // no program listens there
		TokenStore:  store,
		PKCEEnabled: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	hello := mcp.InitializeRequest{Params: mcp.InitializeParams{
		ProtocolVersion: mcp.LATEST_PROTOCOL_VERSION,
		ClientInfo:      mcp.Implementation{Name: "cardea-test", Version: "1.0.0"},
	}}
	if err := agent.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = agent.Initialize(t.Context(), hello)
	if !mcpgo.IsOAuthAuthorizationRequiredError(err) {
		t.Fatalf("without a token: %v, want the error that asks for authorization", err)
	}
	authorizeMCPGo(t, ada, mcpgo.GetOAuthHandler(err))
	if _, err := agent.Initialize(t.Context(), hello); err != nil {
		t.Fatal(err)
	}
	call := func(tool string, args map[string]any) error {
		_, err := agent.CallTool(t.Context(),
			mcp.CallToolRequest{Params: mcp.CallToolParams{Name: tool, Arguments: args}})
		return err
	}
	forecast := map[string]any{"city": "Lisbon"}
	if err := call("get_forecast", forecast); err != nil {
		t.Error(err)
	}
	err = call("create_event", map[string]any{"title": "Tea", "start": "2031-05-04T15:00"})
	if err == nil || !strings.Contains(err.Error(), "insufficient_scope") {
		t.Errorf("a tool of another scope: %v, want insufficient_scope", err)
	}

	before, err := store.GetToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	expired := *before
	expired.ExpiresAt = expired.ExpiresAt.AddDate(-1, 0, 0)
	if err := store.SaveToken(t.Context(), &expired); err != nil {
		t.Fatal(err)
	}
	if err := call("get_forecast", forecast); err != nil {
		t.Error(err)
	}
	after, err := store.GetToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if after.RefreshToken == before.RefreshToken || after.AccessToken == before.AccessToken {
		t.Error("it did not refresh")
	}
	if ada.asked != 1 {
		t.Errorf("the person was asked %d times, want once", ada.asked)
	}
}

// authorizeMCPGo does the part of authorization that mcp-go leaves to the application.
func authorizeMCPGo(t *testing.T, ada *person, h *transport.OAuthHandler) {
	t.Helper()
	if err := h.RegisterClient(t.Context(), "Cardea test agent"); err != nil {
		t.Fatal(err)
	}
	verifier, err := mcpgo.GenerateCodeVerifier()
	if err != nil {
		t.Fatal(err)
	}
	state, err := mcpgo.GenerateState()
	if err != nil {
		t.Fatal(err)
	}
	ask, err := h.GetAuthorizationURL(t.Context(), state, mcpgo.GenerateCodeChallenge(verifier))
	if err != nil {
		t.Fatal(err)
	}
	back, err := ada.Visit(ask)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := url.Parse(back)
	if err != nil {
		t.Fatal(err)
	}
	q := answer.Query()
	if err := h.ProcessAuthorizationResponse(t.Context(), q.Get("code"), q.Get("state"), verifier); err != nil {
		t.Fatal(err)
	}
}
