package servertest

import (
	"net/http"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// StartWeather starts a server with the resource MCP, whose only and default scope
// is mcp:tools:weather.
func StartWeather(t testing.TB, edits ...func(*config.Config)) *Server {
	t.Helper()
	s := Start(t, edits...)
	s.Resource(MCP, "*mcp:tools:weather=Weather forecasts")
	return s
}

// Metadata is a registration of a public client, changed by members.
func Metadata(members map[string]any) map[string]any {
	m := map[string]any{
		"client_name":                "Example agent",
		"redirect_uris":              []string{Callback},
		"token_endpoint_auth_method": "none",
	}
	for name, value := range members {
		m[name] = value
	}
	return m
}

// RegisterRaw sends a registration to the byte.
func (a *Agent) RegisterRaw(contentType, body string) *Reply {
	return a.Post("/oauth2/register", nil, Raw(body), Header("Content-Type", contentType))
}

// Registered checks the form of the client information response (RFC 7591
// §3.2.1).
func Registered(t testing.TB, reply *Reply) map[string]any {
	t.Helper()
	if reply.Status != http.StatusCreated {
		t.Fatalf("status %d, want 201: %s", reply.Status, reply.Body)
	}
	if got := reply.Header.Get("Cache-Control"); !strings.Contains(got, "no-store") {
		t.Errorf("Cache-Control is %q, want no-store", got)
	}
	info := reply.JSON()
	id, _ := info["client_id"].(string)
	if !strings.HasPrefix(id, "mcp_") || len(id) < 20 {
		t.Errorf("client_id is %q", id)
	}
	if issued, _ := info["client_id_issued_at"].(float64); issued != float64(storetest.Start.Unix()) {
		t.Errorf("client_id_issued_at is %v", info["client_id_issued_at"])
	}
	for name, value := range info {
		if value == nil || value == "" {
			t.Errorf("%s is %v: it should be left out", name, value)
		}
	}
	token, _ := info["registration_access_token"].(string)
	uri, _ := info["registration_client_uri"].(string)
	switch public := info["token_endpoint_auth_method"] == "none"; {
	case public && token+uri != "":
		t.Errorf("DC-26 a public client, which anybody may register again, manages its registration: %s", reply.Body)
	case !public && (!strings.HasPrefix(token, oauth.RegistrationTokenPrefix) || len(token) < len(oauth.RegistrationTokenPrefix)+43 || !strings.HasSuffix(uri, "/oauth2/register/"+id)):
		t.Errorf("DC-26 registration_access_token %q, registration_client_uri %q", token, uri)
	}
	return info
}

// ClientOf reads a client from the database.
func (s *Server) ClientOf(id string) *oauth.Client {
	var c *oauth.Client
	s.Update(func(tx *store.Tx) (err error) {
		c, err = tx.Client(id)
		return err
	})
	return c
}
