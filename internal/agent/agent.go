// Package agent is an MCP client written only with net/http, as a readable description of the protocol. It starts with
// only the address of an MCP server, calls tools, and gives up its access at the end.
package agent

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Agent plays one session. Its methods are in the order of the steps.
type Agent struct {
	mcpServer   string      // the only thing that a person gives to the agent
	person      *Person     // who uses the browser
	introspects Credentials // of the MCP server; a real agent does not have them

	http *http.Client
	says *Transcript

	metadata  string // URL of the MCP server's metadata
	resource  resourceMetadata
	server    serverMetadata
	client    registration
	scope     []string // to request next
	pending   authorizationRequest
	page      *Page // what the person's browser shows
	tokens    tokens
	earlier   []string // refresh tokens that newer ones have replaced
	requestID int
}

// The documents that an agent reads, with only the members that this agent needs.
type (
	// resourceMetadata is the metadata of an MCP server (RFC 9728 §2).
	resourceMetadata struct {
		Resource             string   `json:"resource"`
		AuthorizationServers []string `json:"authorization_servers"`
		ScopesSupported      []string `json:"scopes_supported"`
	}
	// serverMetadata is the metadata of an authorization server (RFC 8414 §2).
	serverMetadata struct {
		Issuer                        string   `json:"issuer"`
		AuthorizationEndpoint         string   `json:"authorization_endpoint"`
		TokenEndpoint                 string   `json:"token_endpoint"`
		RegistrationEndpoint          string   `json:"registration_endpoint"`
		RevocationEndpoint            string   `json:"revocation_endpoint"`
		IntrospectionEndpoint         string   `json:"introspection_endpoint"`
		CodeChallengeMethodsSupported []string `json:"code_challenge_methods_supported"`
	}
	// registration is the response to a client's registration (RFC 7591 §3.2.1).
	registration struct {
		ClientID string `json:"client_id"`
	}
	// tokens is the response of the token endpoint (OAuth 2.1 §3.2.3).
	tokens struct {
		AccessToken  string `json:"access_token"`
		RefreshToken string `json:"refresh_token"`
		ExpiresIn    int    `json:"expires_in"`
		Scope        string `json:"scope"`
	}
	// authorizationRequest is what the agent must keep between the request and its response, which arrives through the
	// person's browser.
	authorizationRequest struct {
		state, verifier string
	}
	// Credentials are the credentials with which an MCP server introspects tokens (RFC 7662 §2.1).
	Credentials struct{ ID, Secret string }
)

// RedirectURI is where the browser is sent with the response. A real agent listens there. It is registered without the
// port, because the port may be different each time (RFC 8252 §7.3).
const (
	registeredRedirectURI = "http://127.0.0.1/callback"
	RedirectURI           = "http://127.0.0.1:41337/callback"
)

// session has the steps of the session.
var session = []struct {
	title, source string
	play          func(*Agent, context.Context) error
}{
	{"The agent calls the MCP server, without a token", "RFC 6750 §3", (*Agent).knock},
	{"It asks the MCP server which server issues its tokens", "RFC 9728 §3", (*Agent).discoverResource},
	{"It asks the authorization server what it supports", "RFC 8414 §3", (*Agent).discoverServer},
	{"It registers itself: no administrator has to do it", "RFC 7591 §3", (*Agent).register},
	{"It opens the authorization page in the person's browser, with PKCE", "OAuth 2.1 §4.1.1, RFC 7636, RFC 8707",
		(*Agent).authorize},
	{"The person signs in", "", (*Agent).signIn},
	{"The person consents, and the browser returns with a code", "OAuth 2.1 §4.1.2, RFC 9207", (*Agent).consent},
	{"The agent redeems the code for tokens", "OAuth 2.1 §4.1.3", (*Agent).redeem},
	{"It calls a tool", "RFC 6750 §2.1", (*Agent).callForecast},
	{"It calls a tool that its token does not allow", "RFC 6750 §3.1", (*Agent).callEmailTooEarly},
	{"It asks the person for more scopes: step-up", "MCP authorization, RFC 6750 §3.1", (*Agent).authorize},
	{"The person, who is still signed in, consents to that too", "", (*Agent).consent},
	{"The agent redeems the new code", "OAuth 2.1 §4.1.3", (*Agent).redeem},
	{"It calls that tool again", "", (*Agent).callEmail},
	{"Time passes; it refreshes its tokens", "OAuth 2.1 §4.3", (*Agent).refresh},
	{"It calls another tool with the fresh token", "", (*Agent).callEvents},
	{"It is finished and revokes its tokens", "RFC 7009 §2", (*Agent).revoke},
	{"The revoked refresh token is refused", "OAuth 2.1 §4.3", (*Agent).refreshRevoked},
	{"The MCP server asks about the access token, and it is no longer active", "RFC 7662 §2", (*Agent).introspect},
	{"So the MCP server refuses the agent", "RFC 6750 §3.1", (*Agent).callRevoked},
}

// Steps is the number of steps of a session.
var Steps = len(session)

// New returns an agent that connects to the MCP server at mcpServer. introspects are the credentials of the MCP server,
// for the step in which it introspects a token.
func New(mcpServer string, who *Person, introspects Credentials, says *Transcript) *Agent {
	return &Agent{
		mcpServer: mcpServer, person: who, introspects: introspects, says: says,
		http: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}},
	}
}

// Play plays the session and returns the error of the first step that failed.
func (a *Agent) Play(ctx context.Context) error {
	for i, step := range session {
		a.says.step(i+1, step.title, step.source)
		if err := step.play(a, ctx); err != nil {
			a.says.failed(err)
			return fmt.Errorf("step %d of %d failed: %s: %w", i+1, len(session), step.title, err)
		}
	}
	return nil
}

func (a *Agent) knock(ctx context.Context) error {
	answer, err := a.call(ctx, "initialize", map[string]any{
		"protocolVersion": mcpVersion,
		"capabilities":    map[string]any{},
		"clientInfo":      map[string]any{"name": "Demo agent", "version": "1.0.0"},
	})
	switch challenge := answer.header.Get("WWW-Authenticate"); {
	case err != nil:
		return err
	case answer.status != http.StatusUnauthorized:
		return fmt.Errorf("the status is %d, not 401", answer.status)
	case parameter(challenge, "resource_metadata") == "":
		return fmt.Errorf("the challenge %q does not have the address of the metadata", challenge)
	default:
		a.metadata = parameter(challenge, "resource_metadata")
		a.scope = strings.Fields(parameter(challenge, "scope"))
	}
	a.says.done("The challenge has the address of the metadata and the first scopes to request.")
	return nil
}

func (a *Agent) discoverResource(ctx context.Context) error {
	if err := a.read(ctx, a.metadata, &a.resource); err != nil {
		return err
	}
	switch {
	case a.resource.Resource != a.mcpServer: // RFC 9728 §3.3: it would be the metadata of another server
		return fmt.Errorf("the metadata is for %s", a.resource.Resource)
	case len(a.resource.AuthorizationServers) == 0:
		return fmt.Errorf("the metadata does not name an authorization server")
	case len(a.scope) == 0:
		a.scope = a.resource.ScopesSupported
	}
	a.says.done("Tokens for %s come from %s.", a.resource.Resource, a.resource.AuthorizationServers[0])
	return nil
}

func (a *Agent) discoverServer(ctx context.Context) error {
	issuer := a.resource.AuthorizationServers[0]
	if err := a.read(ctx, issuer+"/.well-known/oauth-authorization-server", &a.server); err != nil {
		return err
	}
	switch {
	case a.server.Issuer != issuer: // RFC 8414 §3.3
		return fmt.Errorf("the metadata is for %s", a.server.Issuer)
	case !slices.Contains(a.server.CodeChallengeMethodsSupported, "S256"):
		return fmt.Errorf("the server does not support PKCE with S256")
	case a.server.RegistrationEndpoint == "":
		return fmt.Errorf("agents cannot register themselves here")
	}
	a.says.done("It supports PKCE, and agents may register themselves.")
	return nil
}

func (a *Agent) register(ctx context.Context) error {
	answer, err := a.postJSON(ctx, a.server.RegistrationEndpoint, map[string]any{
		"client_name":                "Demo agent",
		"redirect_uris":              []string{registeredRedirectURI},
		"grant_types":                []string{"authorization_code", "refresh_token"},
		"response_types":             []string{"code"},
		"token_endpoint_auth_method": "none", // it runs on the person's computer and cannot keep a secret
	})
	if err != nil {
		return err
	}
	if err := answer.decode(http.StatusCreated, &a.client); err != nil {
		return err
	}
	a.says.done("Its client_id is %s. It is a public client: PKCE protects it instead of a secret.", a.client.ClientID)
	return nil
}

func (a *Agent) authorize(ctx context.Context) error {
	a.pending = authorizationRequest{state: rand.Text(), verifier: rand.Text() + rand.Text()}
	hash := sha256.Sum256([]byte(a.pending.verifier)) // RFC 7636 §4.2
	query := url.Values{
		"response_type":         {"code"},
		"client_id":             {a.client.ClientID},
		"redirect_uri":          {RedirectURI},
		"scope":                 {strings.Join(a.scope, " ")},
		"state":                 {a.pending.state},
		"code_challenge":        {base64.RawURLEncoding.EncodeToString(hash[:])},
		"code_challenge_method": {"S256"},
		"resource":              {a.resource.Resource}, // the token will be valid at this server only
	}
	var err error
	a.page, err = a.person.Open(ctx, a.server.AuthorizationEndpoint+"?"+query.Encode())
	if err != nil {
		return err
	}
	a.says.done("The browser shows the page %q at %s.", a.page.Title, a.page.URL.Path)
	return nil
}

func (a *Agent) signIn(ctx context.Context) (err error) {
	if a.page, err = a.person.SignIn(ctx, a.page); err != nil {
		return err
	}
	if _, err := a.page.Form("decision"); err != nil {
		return err
	}
	a.says.done("The agent sees nothing of this. The browser shows the page %q.", a.page.Title)
	return nil
}

// consent allows everything: every box is ticked at first, and a person may untick some.
func (a *Agent) consent(ctx context.Context) (err error) {
	var allowed []string
	if a.page, allowed, err = a.person.Allow(ctx, a.page); err != nil {
		return err
	}
	switch answer := a.page.URL.Query(); {
	case !strings.HasPrefix(a.page.URL.String(), RedirectURI+"?"):
		return fmt.Errorf("the browser is at %s, not at the redirect URI", a.page.URL.Path)
	case answer.Has("error"):
		return fmt.Errorf("%s: %s", answer.Get("error"), answer.Get("error_description"))
	case answer.Get("state") != a.pending.state: // an attacker may have sent the response to another request
		return fmt.Errorf("the response belongs to another request: its state differs")
	case answer.Get("iss") != a.server.Issuer: // RFC 9207 §2.4: an attacker may have sent another server's response
		return fmt.Errorf("the response is from %s", answer.Get("iss"))
	}
	a.says.done("Allowed: %s. The agent checks state and iss, so the code is the answer to its own request.",
		strings.Join(allowed, ", "))
	return nil
}

func (a *Agent) redeem(ctx context.Context) error {
	if a.tokens.RefreshToken != "" { // of an earlier consent, which remains beside the new one
		a.earlier = append(a.earlier, a.tokens.RefreshToken)
	}
	answer, err := a.postForm(ctx, a.server.TokenEndpoint, url.Values{
		"grant_type":    {"authorization_code"},
		"code":          {a.page.URL.Query().Get("code")},
		"redirect_uri":  {RedirectURI},
		"client_id":     {a.client.ClientID},
		"code_verifier": {a.pending.verifier}, // proves that this agent began the flow
		"resource":      {a.resource.Resource},
	})
	if err != nil {
		return err
	}
	return a.keep(answer)
}

func (a *Agent) refresh(ctx context.Context) error {
	old := a.tokens
	answer, err := a.postForm(ctx, a.server.TokenEndpoint, url.Values{
		"grant_type":    {"refresh_token"},
		"refresh_token": {a.tokens.RefreshToken},
		"client_id":     {a.client.ClientID},
		"resource":      {a.resource.Resource},
	})
	if err != nil {
		return err
	}
	if err := a.keep(answer); err != nil {
		return err
	}
	if a.tokens.AccessToken == old.AccessToken || a.tokens.RefreshToken == old.RefreshToken {
		return fmt.Errorf("the tokens are the old ones")
	}
	return nil
}

// keep stores the tokens of a response of the token endpoint.
func (a *Agent) keep(answer *answer) error {
	a.tokens = tokens{}
	switch err := answer.decode(http.StatusOK, &a.tokens); {
	case err != nil:
		return err
	case a.tokens.AccessToken == "" || a.tokens.RefreshToken == "":
		return fmt.Errorf("the response has no access token or no refresh token")
	}
	a.scope = strings.Fields(a.tokens.Scope)
	a.says.claims(a.tokens.AccessToken)
	a.says.done("An access token for %d seconds, and a refresh token to get the next one.", a.tokens.ExpiresIn)
	return nil
}

func (a *Agent) callForecast(ctx context.Context) error {
	return a.callTool(ctx, "get_forecast", map[string]any{"city": "Rome", "days": 2})
}

func (a *Agent) callEvents(ctx context.Context) error {
	return a.callTool(ctx, "list_events", map[string]any{})
}

func (a *Agent) callEmail(ctx context.Context) error {
	return a.callTool(ctx, "send_email", theEmail)
}

var theEmail = map[string]any{"to": "ada@example.com", "subject": "Rome", "body": "Bring an umbrella."}

func (a *Agent) callEmailTooEarly(ctx context.Context) error {
	answer, err := a.call(ctx, "tools/call", map[string]any{"name": "send_email", "arguments": theEmail})
	switch challenge := answer.header.Get("WWW-Authenticate"); {
	case err != nil:
		return err
	case answer.status != http.StatusForbidden:
		return fmt.Errorf("the status is %d, not 403", answer.status)
	case parameter(challenge, "error") != "insufficient_scope":
		return fmt.Errorf("the challenge is %q, not insufficient_scope", challenge)
	default:
		// Request the scopes that the agent has too, because a challenge may name only the missing ones.
		for _, name := range strings.Fields(parameter(challenge, "scope")) {
			if !slices.Contains(a.scope, name) {
				a.scope = append(a.scope, name)
			}
		}
	}
	a.says.done("The challenge names the scopes that the tool needs. The tool did not run.")
	return nil
}

func (a *Agent) revoke(ctx context.Context) error {
	for _, token := range append(a.earlier, a.tokens.RefreshToken) {
		answer, err := a.postForm(ctx, a.server.RevocationEndpoint, url.Values{
			"token":           {token},
			"token_type_hint": {"refresh_token"},
			"client_id":       {a.client.ClientID},
		})
		switch {
		case err != nil:
			return err
		case answer.status != http.StatusOK:
			return answer.unexpected(http.StatusOK)
		}
	}
	a.says.done("There is one refresh token for each consent. Revoking it also ends all access tokens of that consent.")
	return nil
}

func (a *Agent) refreshRevoked(ctx context.Context) error {
	answer, err := a.postForm(ctx, a.server.TokenEndpoint, url.Values{
		"grant_type":    {"refresh_token"},
		"refresh_token": {a.tokens.RefreshToken},
		"client_id":     {a.client.ClientID},
	})
	if err != nil {
		return err
	}
	var refusal struct {
		Error string `json:"error"`
	}
	switch err := answer.decode(http.StatusBadRequest, &refusal); {
	case err != nil:
		return err
	case refusal.Error != "invalid_grant":
		return fmt.Errorf("the error is %q, not invalid_grant", refusal.Error)
	}
	a.says.done("Refused.")
	return nil
}

func (a *Agent) introspect(ctx context.Context) error {
	form := url.Values{"token": {a.tokens.AccessToken}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.server.IntrospectionEndpoint,
		strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(a.introspects.ID), url.QueryEscape(a.introspects.Secret))
	answer, err := a.send(req)
	if err != nil {
		return err
	}
	var state struct {
		Active *bool `json:"active"`
	}
	switch err := answer.decode(http.StatusOK, &state); {
	case err != nil:
		return err
	case state.Active == nil || *state.Active:
		return fmt.Errorf("the token is still active")
	}
	a.says.done("Not active, immediately. The demo's MCP server asks, and remembers the answer for a\n      second; " +
		"a server that follows the status list refuses the token within five.")
	return nil
}

// remembered is longer than an MCP server remembers that a token was active.
const remembered = 1100 * time.Millisecond

func (a *Agent) callRevoked(ctx context.Context) error {
	select {
	case <-time.After(remembered):
	case <-ctx.Done():
		return ctx.Err()
	}
	answer, err := a.call(ctx, "tools/call", map[string]any{"name": "list_events", "arguments": map[string]any{}})
	switch challenge := answer.header.Get("WWW-Authenticate"); {
	case err != nil:
		return err
	case answer.status != http.StatusUnauthorized:
		return fmt.Errorf("the status is %d, not 401", answer.status)
	case parameter(challenge, "error") != "invalid_token":
		return fmt.Errorf("the challenge is %q, not invalid_token", challenge)
	}
	a.says.done("Refused. To get access again, it would have to ask the person.")
	return nil
}

// mcpVersion is the version of the Model Context Protocol that the agent uses.
const mcpVersion = "2025-11-25"

// callTool calls a tool and shows its result.
func (a *Agent) callTool(ctx context.Context, name string, arguments map[string]any) error {
	answer, err := a.call(ctx, "tools/call", map[string]any{"name": name, "arguments": arguments})
	if err != nil {
		return err
	}
	var reply struct {
		Error  *struct{ Message string }
		Result struct {
			IsError           bool
			StructuredContent json.RawMessage
		}
	}
	switch err := answer.decode(http.StatusOK, &reply); {
	case err != nil:
		return err
	case reply.Error != nil:
		return fmt.Errorf("the MCP server returned an error: %s", reply.Error.Message)
	case reply.Result.IsError, len(reply.Result.StructuredContent) == 0:
		return fmt.Errorf("the tool failed")
	}
	a.says.done("%s returns %s", name, cutAt(160, string(reply.Result.StructuredContent)))
	return nil
}

// call sends one JSON-RPC request to the MCP server, with the access token if there is one. The returned answer is
// never nil.
func (a *Agent) call(ctx context.Context, method string, params map[string]any) (*answer, error) {
	a.requestID++
	body, err := json.Marshal(struct {
		Version string         `json:"jsonrpc"`
		ID      int            `json:"id"`
		Method  string         `json:"method"`
		Params  map[string]any `json:"params"`
	}{"2.0", a.requestID, method, params})
	if err != nil {
		return &answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.mcpServer, strings.NewReader(string(body)))
	if err != nil {
		return &answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set("MCP-Protocol-Version", mcpVersion)
	if a.tokens.AccessToken != "" {
		req.Header.Set("Authorization", "Bearer "+a.tokens.AccessToken)
	}
	return a.send(req)
}

// read fetches a metadata document and decodes it into v.
func (a *Agent) read(ctx context.Context, address string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	answer, err := a.send(req)
	if err != nil {
		return err
	}
	return answer.decode(http.StatusOK, v)
}

func (a *Agent) postJSON(ctx context.Context, address string, v any) (*answer, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return a.post(ctx, address, "application/json", string(body))
}

func (a *Agent) postForm(ctx context.Context, address string, form url.Values) (*answer, error) {
	return a.post(ctx, address, "application/x-www-form-urlencoded", form.Encode())
}

func (a *Agent) post(ctx context.Context, address, kind, body string) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", kind)
	return a.send(req)
}

// send sends a request and shows it and the response. The returned answer is never nil.
func (a *Agent) send(req *http.Request) (*answer, error) {
	a.says.request(req)
	resp, err := a.http.Do(req)
	if err != nil {
		return &answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return &answer{}, err
	}
	a.says.response(resp, body)
	return &answer{resp.StatusCode, resp.Header, body}, nil
}

// answer is a complete HTTP response.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// decode decodes the JSON body into v. It returns an error if the status is not the given one.
func (r *answer) decode(status int, v any) error {
	if r.status != status {
		return r.unexpected(status)
	}
	if err := json.Unmarshal(r.body, v); err != nil {
		return fmt.Errorf("the response is not the expected JSON: %w", err)
	}
	return nil
}

func (r *answer) unexpected(status int) error {
	return fmt.Errorf("the status is %d, not %d: %.200s", r.status, status, r.body)
}

// parameter returns a parameter of a Bearer challenge (RFC 6750 §3), or "" if there is none with that name.
func parameter(challenge, name string) string {
	match := regexp.MustCompile(`[ ,]` + name + `="((?:[^"\\]|\\.)*)"`).FindStringSubmatch(challenge)
	if match == nil {
		return ""
	}
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(match[1])
}
