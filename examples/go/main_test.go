package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/cardea-auth/cardea/guard/guardtest"
)

// bearer is a transport that adds an access token to every request, as an agent does.
type bearer string

func (token bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(token))
	return http.DefaultTransport.RoundTrip(r)
}

func TestServer(t *testing.T) {
	issuer := guardtest.NewIssuer()
	defer issuer.Close()
	mux := http.NewServeMux()
	front := httptest.NewServer(mux)
	defer front.Close()
	resource := front.URL + "/mcp"
	handler, err := protected(issuer.URL, resource)
	if err != nil {
		t.Fatal(err)
	}
	mux.Handle("/", handler)

	arguments := map[string]any{
		"get_forecast": map[string]any{"city": "Rome"},
		"send_email":   map[string]any{"to": "bob@example.com", "text": "Sunny!"},
	}
	call := func(tool, scope string) (string, error) {
		token := issuer.Token(guardtest.Claims{Subject: "ada", Audience: resource, Scope: scope})
		session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(t.Context(),
			&mcp.StreamableClientTransport{Endpoint: resource, HTTPClient: &http.Client{Transport: bearer(token)}}, nil)
		if err != nil {
			return "", err
		}
		defer session.Close()
		result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: arguments[tool]})
		if err != nil {
			return "", err
		}
		text, _ := result.StructuredContent.(map[string]any)["text"].(string)
		return text, nil
	}
	if got, err := call("get_forecast", "mcp:tools:weather"); got != "Tomorrow in Rome: sunny." {
		t.Errorf("get_forecast with its scope answers %q, %v", got, err)
	}
	if got, err := call("send_email", "mcp:tools:email:send"); got != "Sent to bob@example.com for ada." {
		t.Errorf("send_email with its scope answers %q, %v", got, err)
	}
	if got, err := call("send_email", "mcp:tools:weather"); err == nil {
		t.Errorf("send_email without its scope answers %q, want a refusal", got)
	}

	resp, err := http.Post(resource, "application/json", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	want := `Bearer resource_metadata="` + front.URL +
		`/.well-known/oauth-protected-resource/mcp", scope="mcp:tools:weather"`
	if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != http.StatusUnauthorized || got != want {
		t.Errorf("without a token the answer is %d, %s\nwant 401, %s", resp.StatusCode, got, want)
	}
}
