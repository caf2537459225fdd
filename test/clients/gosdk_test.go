package clients_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

// The session of TestTypeScriptSDK with the official Go SDK. The SDK treats a token as expired ten seconds early, so
// tokens of five seconds make it refresh before each request.
func TestGoSDK(t *testing.T) {
	tests := []struct {
		name      string
		env       []string
		refreshes bool
	}{
		{"tokens of the usual life", nil, false},
		{"a refresh before every request", []string{"CARDEA_TOKENS_ACCESS_TTL=5s"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := startDemo(t, tt.env...)
			wire := playGoSession(t, d, func(c *auth.AuthorizationCodeHandlerConfig) {
				metadata := &oauthex.ClientRegistrationMetadata{
					ClientName:              "Cardea test agent",
					RedirectURIs:            []string{c.RedirectURL},
					GrantTypes:              []string{"authorization_code", "refresh_token"},
					ResponseTypes:           []string{"code"},
					TokenEndpointAuthMethod: "none",
				}
				c.DynamicClientRegistrationConfig = &auth.DynamicClientRegistrationConfig{Metadata: metadata}
			})
			refused, refreshed := wire.counts()
			if refused != 1 {
				t.Errorf("403 came %d times, want once", refused)
			}
			if tt.refreshes != (refreshed > 0) {
				t.Errorf("%d refreshes, want some: %t", refreshed, tt.refreshes)
			}
		})
	}
}

// playGoSession plays the session of an agent whose way of identification identify sets.
func playGoSession(t *testing.T, d *demo, identify func(*auth.AuthorizationCodeHandlerConfig)) (wire *tap) {
	t.Helper()
	ada := newPerson(t, d.Email, d.Password)
	wire = &tap{}
	config := &auth.AuthorizationCodeHandlerConfig{
		RedirectURL:         "http://127.0.0.1:43118/callback",
		RequestRefreshToken: true,
		Client:              &http.Client{Transport: wire},
		AuthorizationCodeFetcher: func(
			_ context.Context, args *auth.AuthorizationArgs,
		) (*auth.AuthorizationResult, error) {
			back, err := ada.Visit(args.URL)
			if err != nil {
				return nil, err
			}
			u, err := url.Parse(back)
			if err != nil {
				return nil, err
			}
			q := u.Query()
			return &auth.AuthorizationResult{Code: q.Get("code"), State: q.Get("state"), Iss: q.Get("iss")}, nil
		},
	}
	identify(config)
	handler, err := auth.NewAuthorizationCodeHandler(config)
	if err != nil {
		t.Fatal(err)
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "cardea-test", Version: "1.0.0"}, nil)
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint:     d.MCP,
		OAuthHandler: handler,
		HTTPClient:   &http.Client{Transport: wire},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	callTool(t, session, "get_forecast", map[string]any{"city": "Lisbon"})
	if ada.signedIn != 1 || ada.asked != 1 {
		t.Errorf("after one tool the person signed in %d times and was asked %d times, want once each",
			ada.signedIn, ada.asked)
	}
	// refused with 403; the SDK steps up and repeats it
	callTool(t, session, "create_event", map[string]any{"title": "Tea", "start": "2031-05-04T15:00"})
	if ada.signedIn != 1 || ada.asked != 2 {
		t.Errorf("after step-up the person signed in %d times and was asked %d times, want 1 and 2",
			ada.signedIn, ada.asked)
	}
	callTool(t, session, "get_forecast", map[string]any{"city": "Lisbon"})
	return wire
}

// A tap observes requests and responses without changing them.
type tap struct {
	mu                 sync.Mutex
	refused, refreshed int
}

func (w *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	refresh := false
	if r.GetBody != nil && strings.HasSuffix(r.URL.Path, "/token") {
		if body, err := r.GetBody(); err == nil {
			defer body.Close()
			copied := r.Clone(r.Context())
			copied.Body = body
			refresh = copied.PostFormValue("grant_type") == "refresh_token"
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil && resp.StatusCode == http.StatusForbidden {
		w.refused++
	}
	if err == nil && refresh && resp.StatusCode == http.StatusOK {
		w.refreshed++
	}
	return resp, err
}

func (w *tap) counts() (refused, refreshed int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.refused, w.refreshed
}
