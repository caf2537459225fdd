package clients_test

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/auth"
)

// Clients that support metadata documents use the URL of one as client_id and do not register.
func TestClientIDMetadataDocument(t *testing.T) {
	documents, authority := publishDocuments(t)
	d := startDemo(t, "SSL_CERT_FILE="+authority)
	tests := []struct {
		name string
		play func(t *testing.T, clientID string)
	}{
		{"TypeScript SDK v1", func(t *testing.T, clientID string) { playSession(t, d, "v1", "--document", clientID) }},
		{"TypeScript SDK v2", func(t *testing.T, clientID string) { playSession(t, d, "v2", "--document", clientID) }},
		{"Go SDK", func(t *testing.T, clientID string) {
			playGoSession(t, d, func(c *auth.AuthorizationCodeHandlerConfig) {
				c.ClientIDMetadataDocumentConfig = &auth.ClientIDMetadataDocumentConfig{URL: clientID}
			})
		}},
		{"mcp-remote", func(t *testing.T, clientID string) {
			at := newDesk(t, newPerson(t, d.Email, d.Password))
			session, err := startRemote(t, d, at, t.TempDir(), "--client-metadata-url", clientID)
			if err != nil {
				t.Fatal(err)
			}
			callTool(t, session, "get_forecast", map[string]any{"city": "Lisbon"})
		}},
		{"Inspector", func(t *testing.T, clientID string) {
			i := &inspector{d, newDesk(t, newPerson(t, d.Email, d.Password)), t.TempDir()}
			tools := i.run(t, "--method", "tools/list", "--client-metadata-url", clientID).Result.Tools
			if len(tools) != 4 {
				t.Errorf("it lists the tools %v, want 4", tools)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			clientID := documents + "/" + url.PathEscape(tt.name) + ".json"
			tt.play(t, clientID)
			if c := d.client(t, url.Values{"client_id": {clientID}}); c.Origin != "document" || c.Method != "none" {
				t.Errorf("the client is %+v, want one with a metadata document, without a secret", c)
			}
			if d.liveGrants(t, clientID) == 0 {
				t.Errorf("%s has no grant", clientID)
			}
		})
	}
	var registered []json.RawMessage
	command(t, d.env, &registered, "audit", "list", "--action", "client.register", "-o", "json")
	if len(registered) != 0 {
		t.Errorf("clients registered: %s", registered)
	}
}

// publishDocuments serves a metadata document at every path of an https origin of this machine. It returns the origin
// and the file with the certificate to trust.
func publishDocuments(t *testing.T) (origin, authority string) {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(map[string]any{
			"client_id":   "https://" + r.Host + r.URL.EscapedPath(),
			"client_name": "Cardea test agent",
			"redirect_uris": []string{
				"http://127.0.0.1/callback", "http://127.0.0.1/oauth/callback", "http://localhost/oauth/callback",
			},
			"grant_types":                []string{"authorization_code", "refresh_token"},
			"response_types":             []string{"code"},
			"token_endpoint_auth_method": "none",
		}); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	authority = filepath.Join(t.TempDir(), "authority.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(authority, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	return server.URL, authority
}
