package guard_test

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/guard/guardtest"
)

// The agent's side of the protocol, with net/http alone.

// tokens is a token response (RFC 6749 §5.1) or error response (§5.2).
type tokens struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	Scope        string `json:"scope"`
	ExpiresIn    int    `json:"expires_in"`
	Error        string `json:"error"`
}

// post sends a form and decodes the response.
func post(endpoint string, form url.Values, answer any) error {
	resp, err := http.PostForm(endpoint, form)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(answer)
}

// newServer starts an MCP server that is protected by a guard of issuer.
func newServer(issuer *guardtest.Issuer) (url string, stop func()) {
	mux := http.NewServeMux()
	s := httptest.NewServer(mux)
	g := mustNew(guard.Config{Issuer: issuer.URL, Resource: s.URL + "/mcp"})
	mux.Handle("POST /mcp", g.Protect(g.RequireScope("mcp:tools:weather")(hello)))
	mux.Handle("/.well-known/", guard.WellKnown(g))
	return s.URL + "/mcp", s.Close
}

var errUnauthorized = errors.New("the server wants another token")

// callServer sends a message with the token to the server.
func callServer(server, token string) (string, error) {
	r, err := http.NewRequest(http.MethodPost, server,
		strings.NewReader(`{"method":"weather/get_forecast","params":{"location":"San Francisco"}}`))
	if err != nil {
		return "", err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized {
		return "", errUnauthorized
	}
	body, err := io.ReadAll(resp.Body)
	return resp.Status + " " + string(body), err
}

// An integration test: get a token and call the server.
func Example_integrationTest() {
	issuer := guardtest.NewIssuer()
	defer issuer.Close()
	server, stop := newServer(issuer)
	defer stop()

	var got tokens
	err := post(issuer.URL+"/oauth2/token", url.Values{
		"grant_type":    {"client_credentials"},
		"client_id":     {issuer.ClientID},
		"client_secret": {issuer.ClientSecret},
		"scope":         {"mcp:tools:weather"},
		"resource":      {server},
	}, &got)
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(callServer(server, got.AccessToken))
	// Output: 200 OK hello, test-client <nil>
}

// Client credentials, for agents that act on their own behalf.
func Example_clientCredentials() {
	issuer := guardtest.NewIssuer()
	defer issuer.Close()

	machineToken := func(scope string) (tokens, error) {
		var got tokens
		err := post(issuer.URL+"/oauth2/token", url.Values{
			"grant_type":    {"client_credentials"},
			"client_id":     {issuer.ClientID},
			"client_secret": {issuer.ClientSecret},
			"scope":         {scope},
			"resource":      {"https://mcp.example.com/mcp"},
		}, &got)
		return got, err
	}
	got, err := machineToken("mcp:tools:inventory:check mcp:resources:store-data")
	fmt.Println(got.Scope, got.ExpiresIn, err)
	// Output: mcp:tools:inventory:check mcp:resources:store-data 600 <nil>
}

// The authorization code flow with PKCE, for agents that act on behalf of a person.
func Example_authorizationCode() {
	issuer := guardtest.NewIssuer()
	defer issuer.Close()
	server, stop := newServer(issuer)
	defer stop()

	// What the agent keeps in the person's session until the callback.
	state, verifier := rand.Text(), rand.Text()+rand.Text()

	// Step 2, the callback: check state and issuer, exchange the code.
	mux := http.NewServeMux()
	app := httptest.NewServer(mux)
	defer app.Close()
	var got tokens
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.FormValue("state")), []byte(state)) != 1 ||
			r.FormValue("iss") != issuer.URL {
			http.Error(w, "this answer is not for us", http.StatusBadRequest)
			return
		}
		err := post(issuer.URL+"/oauth2/token", url.Values{
			"grant_type":    {"authorization_code"},
			"code":          {r.FormValue("code")},
			"client_id":     {issuer.ClientID},
			"redirect_uri":  {app.URL + "/callback"},
			"code_verifier": {verifier},
			"resource":      {server},
		}, &got)
		if err != nil || got.Error != "" {
			http.Error(w, "no token", http.StatusBadGateway)
		}
	})

	// Step 1: send the person to the authorization server. Here http.Get is the browser.
	challenge := sha256.Sum256([]byte(verifier))
	browser, err := http.Get(issuer.URL + "/oauth2/authorize?" + url.Values{
		"response_type":         {"code"},
		"client_id":             {issuer.ClientID},
		"redirect_uri":          {app.URL + "/callback"},
		"scope":                 {"mcp:tools:weather mcp:tools:email:send"},
		"state":                 {state},
		"code_challenge":        {base64.RawURLEncoding.EncodeToString(challenge[:])},
		"code_challenge_method": {"S256"},
		"resource":              {server},
	}.Encode())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer browser.Body.Close()

	fmt.Println(browser.StatusCode, got.Scope, got.RefreshToken != "")
	fmt.Println(callServer(server, got.AccessToken))
	// Output:
	// 200 mcp:tools:weather mcp:tools:email:send true
	// 200 OK hello, user-1 <nil>
}

// Dynamic client registration.
func Example_dynamicClientRegistration() {
	issuer := guardtest.NewIssuer()
	defer issuer.Close()

	metadata, err := json.Marshal(map[string]any{
		"client_name":                "AI Sales Assistant",
		"client_uri":                 "https://sales-ai.company.com",
		"redirect_uris":              []string{"https://sales-ai.company.com/oauth/callback"},
		"grant_types":                []string{"authorization_code", "refresh_token"},
		"response_types":             []string{"code"},
		"scope":                      "mcp:tools:crm:read mcp:tools:email:send",
		"token_endpoint_auth_method": "client_secret_basic",
	})
	if err != nil {
		fmt.Println(err)
	}
	resp, err := http.Post(issuer.URL+"/oauth2/register", "application/json", strings.NewReader(string(metadata)))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	var client struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
		Name   string `json:"client_name"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&client); err != nil {
		fmt.Println(err)
	}
	fmt.Println(resp.StatusCode, client.Name, client.ID != "", client.Secret != "")
	// Output: 201 AI Sales Assistant true true
}

// Token introspection by hand. A guard with Config.Introspection does it for every request.
func Example_introspection() {
	issuer := guardtest.NewIssuer()
	defer issuer.Close()

	introspect := func(token string) (active bool, scope string) {
		form := url.Values{"token": {token}}
		r, err := http.NewRequest(http.MethodPost, issuer.URL+"/oauth2/introspect", strings.NewReader(form.Encode()))
		if err != nil {
			return false, ""
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth(url.QueryEscape(issuer.ClientID), url.QueryEscape(issuer.ClientSecret))
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return false, ""
		}
		defer resp.Body.Close()
		var answer struct {
			Active bool   `json:"active"`
			Scope  string `json:"scope"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			return false, ""
		}
		return answer.Active, answer.Scope
	}
	token := issuer.Token(guardtest.Claims{Audience: "https://mcp.example.com/mcp", Scope: "mcp:tools:weather"})
	fmt.Println(introspect(token))
	issuer.Revoke(token)
	fmt.Println(introspect(token))
	// Output:
	// true mcp:tools:weather
	// false
}

// Refresh token management: use the token until the server refuses it, then refresh and try again. Store the new
// refresh token, because the old one is spent.
func Example_refresh() {
	issuer := guardtest.NewIssuer()
	defer issuer.Close()
	server, stop := newServer(issuer)
	defer stop()

	stored := authorize(issuer, server)
	expired := guardtest.Claims{Audience: server, Scope: "mcp:tools:weather", TTL: -1}
	stored.AccessToken = issuer.Token(expired)

	call := func() (string, error) {
		answer, err := callServer(server, stored.AccessToken)
		if !errors.Is(err, errUnauthorized) {
			return answer, err
		}
		var fresh tokens
		err = post(issuer.URL+"/oauth2/token", url.Values{
			"grant_type":    {"refresh_token"},
			"refresh_token": {stored.RefreshToken},
			"client_id":     {issuer.ClientID},
			"client_secret": {issuer.ClientSecret},
		}, &fresh)
		switch {
		case err != nil:
			return "", err
		case fresh.Error != "": // invalid_grant: the person must consent again
			return "", errors.New(fresh.Error)
		}
		stored = fresh
		return callServer(server, stored.AccessToken)
	}
	before := stored.RefreshToken
	fmt.Println(call())
	fmt.Println("rotated:", stored.RefreshToken != before)
	// Output:
	// 200 OK hello, user-1 <nil>
	// rotated: true
}

// authorize does the steps of Example_authorizationCode.
func authorize(issuer *guardtest.Issuer, resource string) (got tokens) {
	verifier := rand.Text() + rand.Text()
	challenge := sha256.Sum256([]byte(verifier))
	browser := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := browser.Get(issuer.URL + "/oauth2/authorize?" + url.Values{
		"response_type": {"code"}, "client_id": {issuer.ClientID}, "redirect_uri": {"http://127.0.0.1/callback"},
		"scope": {"mcp:tools:weather"}, "resource": {resource}, "code_challenge_method": {"S256"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])},
	}.Encode())
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	back, err := resp.Location()
	if err != nil {
		panic(err)
	}
	err = post(issuer.URL+"/oauth2/token", url.Values{
		"grant_type": {"authorization_code"}, "code": {back.Query().Get("code")}, "client_id": {issuer.ClientID},
		"redirect_uri": {"http://127.0.0.1/callback"}, "code_verifier": {verifier},
	}, &got)
	if err != nil {
		panic(err)
	}
	return got
}
