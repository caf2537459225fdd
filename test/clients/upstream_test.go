package clients_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/cardea-auth/cardea/internal/porttest"
)

// People sign in with an OpenID provider that others wrote (oidc-provider): an agent calls tools, and its access ends
// when the provider no longer knows the person.
func TestUpstream(t *testing.T) {
	at, secret := porttest.Address(t), "the secret of a test"
	providers, err := json.Marshal([]map[string]any{{"id": "corp", "preset": "oidc", "issuer": "http://" + at,
		"client_id": "cardea", "client_secret": secret, "domains": []string{"corp.example"}, "check_at_refresh": true,
		"groups_claim": "groups", "group_map": map[string]string{"Engineering": "staff"}}})
	if err != nil {
		t.Fatal(err)
	}
	d := newServer(t)
	var group struct{ Name string }
	command(t, d.env, &group, "group", "create", "staff", "-o", "json")
	startNode(t,
		[]string{"ISSUER=http://" + at, "REDIRECT_URI=" + d.Issuer + "/login/corp/callback", "CLIENT_SECRET=" + secret},
		"oidc-provider.mjs")
	await(t, "http://"+at+"/.well-known/openid-configuration")
	d.env = append(d.env, "CARDEA_LOGIN_PROVIDERS="+string(providers))
	d.run(t)
	d.Email = "ada@corp.example"
	d.serveTools(t)

	test := exec.CommandContext(t.Context(), cardea, "provider", "test", "corp")
	test.Env = environ(d.env...)
	if out, err := test.CombinedOutput(); err != nil {
		t.Errorf("cardea provider test corp: %v\n%s", err, out)
	}
	playGoSession(t, d, func(c *auth.AuthorizationCodeHandlerConfig) {
		metadata := &oauthex.ClientRegistrationMetadata{
			ClientName: "Cardea test agent", RedirectURIs: []string{c.RedirectURL},
			GrantTypes:    []string{"authorization_code", "refresh_token"},
			ResponseTypes: []string{"code"}, TokenEndpointAuthMethod: "none",
		}
		c.DynamicClientRegistrationConfig = &auth.DynamicClientRegistrationConfig{Metadata: metadata}
	})

	const callback, verifier = "http://127.0.0.1:43118/callback", "a-verifier-of-a-test-that-is-long-enough-for-pkce"
	agent := d.createClient(t, "--name", "Agent", "--public", "--grant", "authorization_code", "--grant",
		"refresh_token", "--redirect-uri", callback)
	challenge := sha256.Sum256([]byte(verifier))
	back, err := newPerson(t, d.Email,
		d.Password).Visit(d.Issuer + "/oauth2/authorize?" + url.Values{"response_type": {"code"},
		"client_id": {agent.ID}, "redirect_uri": {callback}, "resource": {d.MCP}, "code_challenge_method": {"S256"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	answer, err := url.Parse(back)
	if err != nil {
		t.Fatal(err)
	}
	token := func(params url.Values) (status int, said struct {
		RefreshToken string `json:"refresh_token"`
		Error        string `json:"error"`
	}) {
		t.Helper()
		params.Set("client_id", agent.ID)
		resp, err := http.PostForm(d.Issuer+"/oauth2/token", params)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&said); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, said
	}
	_, got := token(url.Values{"grant_type": {"authorization_code"}, "code": {answer.Query().Get("code")},
		"redirect_uri": {callback}, "code_verifier": {verifier}})
	status, got := token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {got.RefreshToken}})
	if status != http.StatusOK {
		t.Fatalf("a refresh while the provider knows the person: %d %s", status, got.Error)
	}
	resp, err := http.Post("http://"+at+"/leave", "text/plain", strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if status, got := token(url.Values{"grant_type": {"refresh_token"},
		"refresh_token": {got.RefreshToken}}); got.Error != "invalid_grant" {
		t.Errorf("a refresh after the person has left: %d %q, want invalid_grant", status, got.Error)
	}
	if n := d.liveGrants(t, agent.ID); n != 0 {
		t.Errorf("%d grants live, want none", n)
	}
}
