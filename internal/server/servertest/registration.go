package servertest

import (
	"net/http"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// Metadata returns the metadata of a public client, changed by members.
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

// Useless lists optional members of client metadata that are dropped, by what is wrong with them, and what is
// registered in their place. A registration, an update or a metadata document with such a member is accepted.
var Useless = map[string]struct{ Said, Kept map[string]any }{
	"a logo in the URL":       {Said: map[string]any{"logo_uri": "data:image/png;base64,iVBORw0KGgo="}},
	"a logo that is a script": {Said: map[string]any{"logo_uri": "javascript:alert(1)"}},
	"relative links": {Said: map[string]any{"client_uri": "/about", "tos_uri": "terms",
		"policy_uri": "//a.example/privacy"}},
	"links of other schemes": {Said: map[string]any{"client_uri": "file:///etc/passwd",
		"tos_uri": "mailto:a@a.example", "policy_uri": "\x01javascript:x"}},
	"links that are too long": {Said: map[string]any{"client_uri": "https://a.example/" + strings.Repeat("a", 600),
		"tos_uri": "https://a.example/" + strings.Repeat("a", 600)}},
	"links of another type": {Said: map[string]any{"client_uri": 1, "logo_uri": []string{"https://a.example/"},
		"tos_uri": map[string]any{}, "policy_uri": nil}},
	"empty links": {Said: map[string]any{"client_uri": "", "logo_uri": "", "tos_uri": "",
		"policy_uri": ""}},
	"contacts as text": {Said: map[string]any{"contacts": "a@a.example"}},
	"contacts of several types": {Said: map[string]any{"contacts": []any{1, "a@a.example", nil,
		strings.Repeat("a", 600)}}, Kept: map[string]any{"contacts": []any{"a@a.example"}}},
	"software of another type": {Said: map[string]any{"software_id": 7, "software_version": 1.5}},
	"software that is too long": {Said: map[string]any{"software_id": strings.Repeat("a", 600),
		"software_version": strings.Repeat("a", 600)}},
	"scope that is a list":         {Said: map[string]any{"scope": []string{"a", "b"}}},
	"scope that cannot be":         {Said: map[string]any{"scope": "a\"b"}},
	"an odd application_type":      {Said: map[string]any{"application_type": "browser"}},
	"application_type as a number": {Said: map[string]any{"application_type": 3}},
	"response_types beside code": {Said: map[string]any{"response_types": []string{"code", "code id_token",
		"token"}}},
	"response_types as text": {Said: map[string]any{"response_types": "code"}},
	"grant_types as text":    {Said: map[string]any{"grant_types": "authorization_code"}},
	"grant_types of several types": {Said: map[string]any{"grant_types": []any{nil, 5, "authorization_code",
		"refresh_token", map[string]any{}}}},
	"grant_types of others": {Said: map[string]any{"grant_types": []string{"authorization_code", "refresh_token",
		"implicit", "password", "client_credentials",
		"urn:ietf:params:oauth:grant-type:jwt-bearer", "urn:ietf:params:oauth:grant-type:token-exchange",
		"urn:ietf:params:oauth:grant-type:device_code"}}},
	"a signing algorithm without keys": {Said: map[string]any{"token_endpoint_auth_signing_alg": 256}},
	"members of other standards": {Said: map[string]any{"default_max_age": "never", "require_auth_time": 1,
		"subject_type": "pairwise", "sector_identifier_uri": "x", "id_token_signed_response_alg": nil,
		"request_uris": "x", "initiate_login_uri": "javascript:x",
		"post_logout_redirect_uris": []string{"javascript:x"}, "client_name#fr": 5, "dpop_bound_access_tokens": "no"}},
}

// RegisterRaw sends body unchanged as a registration.
func (a *Agent) RegisterRaw(contentType, body string) *Reply {
	return a.Post("/oauth2/register", nil, Raw(body), Header("Content-Type", contentType))
}

// Registered checks the client information response and returns its members (RFC 7591 §3.2.1).
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
			t.Errorf("%s is %v; it must be left out", name, value)
		}
	}
	token, _ := info["registration_access_token"].(string)
	uri, _ := info["registration_client_uri"].(string)
	switch public := info["token_endpoint_auth_method"] == "none"; {
	case public && token+uri != "":
		t.Errorf("DC-26 a public client, which anybody may register again, got a registration access token: %s",
			reply.Body)
	case !public && (!strings.HasPrefix(token, oauth.RegistrationTokenPrefix) ||
		len(token) < len(oauth.RegistrationTokenPrefix)+43 || !strings.HasSuffix(uri, "/oauth2/register/"+id)):
		t.Errorf("DC-26 registration_access_token %q, registration_client_uri %q", token, uri)
	}
	return info
}

// ClientOf returns a client from the database.
func (s *Server) ClientOf(id string) *oauth.Client {
	var c *oauth.Client
	s.Update(func(tx *store.Tx) (err error) {
		c, err = tx.Client(id)
		return err
	})
	return c
}
