package servertest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// Agent is an OAuth client, or an attacker that poses as one. Its fields may be changed between requests.
type Agent struct {
	ClientID    string
	Secret      string // "" if none is sent
	Key         *Key   // signs an assertion for each request; nil if none is sent
	RedirectURI string
	Resource    string // sent when authorizing and redeeming; "" if none is
	Verifier    string // of the latest Authorization (RFC 7636 §4.1)
	// RegistrationToken is the registration access token (RFC 7592 §3), or "" if the client has none.
	RegistrationToken string

	s *Server
	t testing.TB
}

// Agent returns an agent for the registered client c. If c is nil, the agent has to register itself. Its Resource is
// MCP.
func (s *Server) Agent(t testing.TB, c *Client) *Agent {
	a := &Agent{RedirectURI: Callback, Resource: MCP, s: s, t: t}
	if c != nil {
		a.ClientID, a.Secret = c.ID, c.Secret
		if len(c.RedirectURIs) > 0 {
			a.RedirectURI = c.RedirectURIs[0]
		}
	}
	return a
}

// At returns the same client, which asks s, another server of the issuer.
func (a *Agent) At(s *Server) *Agent {
	there := *a
	there.s = s
	return &there
}

// Register sends metadata, any value that marshals to a JSON object, and takes on the identity of the registered client
// (RFC 7591 §3). If metadata is nil, it sends the minimum: a name and RedirectURI.
func (a *Agent) Register(metadata any, tweaks ...Tweak) *Reply {
	a.t.Helper()
	if metadata == nil {
		metadata = map[string]any{"client_name": "Example agent", "redirect_uris": []string{a.RedirectURI},
			"token_endpoint_auth_method": "none"}
	}
	reply := a.Post("/oauth2/register", nil,
		append([]Tweak{a.object(metadata), Header("Content-Type", "application/json")}, tweaks...)...)
	if reply.Status == http.StatusCreated {
		a.ClientID, a.Secret = reply.Text("client_id"), reply.Text("client_secret")
		a.RegistrationToken = reply.Text("registration_access_token")
		a.s.secret("client secret", a.Secret)
		a.s.secret("registration access token", a.RegistrationToken)
	}
	return reply
}

// Registration sends a request about the agent's own registration, with its registration access token (RFC 7592 §2):
// GET reads it, PUT replaces it with metadata, DELETE deletes it.
func (a *Agent) Registration(method string, metadata any, tweaks ...Tweak) *Reply {
	a.t.Helper()
	own := []Tweak{Method(method), Bearer(a.RegistrationToken)}
	if metadata != nil {
		own = append(own, a.object(metadata), Header("Content-Type", "application/json"))
	}
	return a.Get("/oauth2/register/"+a.ClientID, append(own, tweaks...)...)
}

// object sends metadata as a JSON object.
func (a *Agent) object(metadata any) Tweak {
	a.t.Helper()
	body, err := json.Marshal(metadata)
	if err != nil {
		a.t.Fatalf("servertest: %v", err)
	}
	return Raw(string(body))
}

// Bearer sends a token in the Authorization header (RFC 6750 §2.1); "" sends none.
func Bearer(token string) Tweak {
	if token == "" {
		return Header("Authorization")
	}
	return Header("Authorization", "Bearer "+token)
}

// Authorization returns the parameters of a new authorization request, with a new verifier, challenge and state (OAuth
// 2.1 §4.1.1).
func (a *Agent) Authorization(tweaks ...Tweak) url.Values {
	a.Verifier = rand.Text() + rand.Text()
	a.s.secret("code verifier", a.Verifier)
	params := url.Values{
		"response_type":         {"code"},
		"client_id":             {a.ClientID},
		"redirect_uri":          {a.RedirectURI},
		"state":                 {rand.Text()},
		"code_challenge":        {Challenge(a.Verifier)},
		"code_challenge_method": {"S256"},
	}
	if a.Resource != "" {
		params.Set("resource", a.Resource)
	}
	return newRequest(http.MethodGet, "", params, tweaks).Params
}

// Challenge returns the S256 code challenge of a verifier (RFC 7636 §4.2).
func Challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Exchange redeems a code with the verifier of the latest Authorization (OAuth 2.1 §4.1.3).
func (a *Agent) Exchange(code string, tweaks ...Tweak) *Reply {
	a.t.Helper()
	params := url.Values{
		"grant_type":    {"authorization_code"},
		"code":          {code},
		"redirect_uri":  {a.RedirectURI},
		"code_verifier": {a.Verifier},
	}
	if a.Resource != "" {
		params.Set("resource", a.Resource)
	}
	return a.Token(params, tweaks...)
}

// Refresh redeems a refresh token (OAuth 2.1 §4.3).
func (a *Agent) Refresh(token string, tweaks ...Tweak) *Reply {
	a.t.Helper()
	return a.Token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}, tweaks...)
}

// ClientCredentials requests a token for the client itself (OAuth 2.1 §4.2).
func (a *Agent) ClientCredentials(tweaks ...Tweak) *Reply {
	a.t.Helper()
	return a.Token(url.Values{"grant_type": {"client_credentials"}}, tweaks...)
}

// Token sends any token request, with the client's credentials.
func (a *Agent) Token(params url.Values, tweaks ...Tweak) *Reply {
	a.t.Helper()
	return a.authenticated("/oauth2/token", params, tweaks)
}

// Introspect asks about a token (RFC 7662 §2.1).
func (a *Agent) Introspect(token string, tweaks ...Tweak) *Reply {
	a.t.Helper()
	return a.authenticated("/oauth2/introspect", url.Values{"token": {token}}, tweaks)
}

// Active reports whether introspection says that a token is active.
func (a *Agent) Active(token string) bool {
	a.t.Helper()
	reply := a.Introspect(token)
	active, ok := reply.JSON()["active"].(bool)
	if reply.Status != http.StatusOK || !ok {
		a.t.Errorf("not an introspection response: %d %s", reply.Status, reply.Body)
	}
	return active
}

// Revoke revokes a token (RFC 7009 §2.1).
func (a *Agent) Revoke(token string, tweaks ...Tweak) *Reply {
	a.t.Helper()
	return a.authenticated("/oauth2/revoke", url.Values{"token": {token}}, tweaks)
}

// authenticated posts params with the client's credentials: an assertion if it has a key, Basic if it has a secret,
// otherwise client_id in the body (RFC 6749 §2.3).
func (a *Agent) authenticated(path string, params url.Values, tweaks []Tweak) *Reply {
	a.t.Helper()
	credentials := With("client_id", a.ClientID)
	switch {
	case a.Key != nil:
		credentials = Assert(a.Assertion())
	case a.Secret != "":
		plain := url.QueryEscape(a.ClientID) + ":" + url.QueryEscape(a.Secret)
		credentials = Header("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(plain)))
	}
	return a.Post(path, params, append([]Tweak{credentials}, tweaks...)...)
}

// Post posts params to a path of the server, without credentials.
func (a *Agent) Post(path string, params url.Values, tweaks ...Tweak) *Reply {
	a.t.Helper()
	return a.s.send(a.t, a.s.client(nil), newRequest(http.MethodPost, a.s.URL+path, params, tweaks))
}

// Get gets a path of the server, without credentials.
func (a *Agent) Get(path string, tweaks ...Tweak) *Reply {
	a.t.Helper()
	return a.s.send(a.t, a.s.client(nil), newRequest(http.MethodGet, a.s.URL+path, nil, tweaks))
}

// Connect runs the whole code flow in b as the person p: it authorizes, signs in and allows everything if a page asks
// for it, and redeems the code. The tweaks change the authorization request.
func (a *Agent) Connect(b *Browser, p *Person, tweaks ...Tweak) Tokens {
	a.t.Helper()
	return a.Exchange(b.Authorize(a.Authorization(tweaks...)).Through(p).Code()).Tokens()
}

// Claims returns the claims of an access token without checking its signature.
func Claims(t testing.TB, token string) oauth.Claims {
	t.Helper()
	var claims oauth.Claims
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("not a JWT: %q", token)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(payload, &claims)
	}
	if err != nil {
		t.Fatalf("not a JWT: %v", err)
	}
	return claims
}
