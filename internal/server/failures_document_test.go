package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/server/servertest"
)

// Failure 10: metadata documents advertised without the method none.
func documentsWithoutNone(t *testing.T) {
	s := servertest.StartMCP(t)
	for _, path := range []string{metadataPath, "/.well-known/openid-configuration"} {
		m := s.Agent(t, nil).Get(path).JSON()
		if m["client_id_metadata_document_supported"] != true ||
			!slices.Contains(list(m, "token_endpoint_auth_methods_supported"), "none") {
			t.Errorf("%s: %v %v", path, m["client_id_metadata_document_supported"],
				m["token_endpoint_auth_methods_supported"])
		}
	}
}

// Failure 11: metadata document validated too strictly.
func strictDocuments(t *testing.T) {
	s := servertest.StartMCP(t, func(c *config.Config) { c.Registration.AllowLoopback = true })
	ada := s.User("ada@example.com")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public := jose.JSONWebKey{Key: key.Public(), KeyID: "one", Algorithm: "ES256", Use: "sig"}
	site := newSite(t)
	site.document = map[string]any{
		"client_id": site.URL, "client_name": "Strange agent", "redirect_uris": []string{servertest.Callback},
		"token_endpoint_auth_method":            "private_key_jwt",
		"token_endpoint_auth_methods_supported": []string{"none", "private_key_jwt", "tls_client_auth"},
		"jwks":                                  jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public}},
		"token_endpoint_auth_signing_alg":       "ES256",
		"grant_types": []string{"authorization_code", "refresh_token",
			"urn:ietf:params:oauth:grant-type:jwt-bearer", "urn:example:grant"},
		"response_types": []string{"code"}, "require_pushed_authorization_requests": false,
		"x_vendor": map[string]any{"anything": []int{1}},
	}
	agent := s.Agent(t, nil)
	agent.ClientID = site.URL
	tokens := agent.Connect(s.Browser(t), ada) // as it can by the method none
	agent.Refresh(tokens.Refresh).Tokens()

	code := s.Browser(t).Authorize(agent.Authorization()).Through(ada).Code()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "one"}},
		nil)
	if err != nil {
		t.Fatal(err)
	}
	now := s.Clock.Now().Unix()
	claims, err := json.Marshal(map[string]any{"iss": site.URL, "sub": site.URL, "aud": s.URL, "iat": now,
		"exp": now + 60, "jti": rand.Text()})
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	assertion, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	agent.Exchange(code, servertest.Without("client_id"), servertest.With("client_assertion", assertion),
		servertest.With("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")).Tokens()
}

// Failure 12: metadata document cannot be fetched.
func unreachableDocument(t *testing.T) {
	s := servertest.StartMCP(t, func(c *config.Config) { c.Registration.AllowLoopback = true })
	ada := s.User("ada@example.com")
	known, unknown := newSite(t), newSite(t)
	for _, site := range []*site{known, unknown} {
		site.document = map[string]any{"client_id": site.URL, "client_name": "Agent",
			"redirect_uris": []string{servertest.Callback}, "token_endpoint_auth_method": "none"}
	}
	agent := s.Agent(t, nil)
	agent.ClientID = known.URL
	tokens := agent.Connect(s.Browser(t), ada)
	asked := known.asked
	if !strings.Contains(asked.Get("Accept"), "application/json") || asked.Get("User-Agent") == "" {
		t.Errorf("the request says %v", asked)
	}
	known.blocked, unknown.blocked = true, true
	s.Clock.Advance(25 * time.Hour) // which is longer than a document stays fresh
	agent.Refresh(tokens.Refresh).Tokens()
	agent.Connect(s.Browser(t), ada)

	agent.ClientID = unknown.URL
	page := s.Browser(t).Authorize(agent.Authorization())
	page.ErrorPage(http.StatusBadRequest)
	if !strings.Contains(page.Body, "metadata document") {
		t.Errorf("the page does not say what is wrong:\n%s", page.Body)
	}
	unknown.blocked = false // an error is not remembered
	agent.Connect(s.Browser(t), ada)
}

// site is where a client has its metadata document.
type site struct {
	URL      string         // of the document
	document map[string]any // what it says
	blocked  bool           // strangers get a page of 403
	asked    http.Header    // of the last request
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked = r.Header
		if s.blocked {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, "<title>Are you human?</title>")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(s.document); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(web.Close)
	s.URL = web.URL + "/oauth/client.json"
	return s
}
