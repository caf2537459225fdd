package adminapi_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/adminapi"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/scope"
)

// person returns a person with a role.
func person(t testing.TB, s *servertest.Server, email string, role identity.Role) *servertest.Person {
	t.Helper()
	p := s.User(email)
	o := &admin.Operations{DB: s.DB, Issuer: s.URL}
	_, err := o.UpdateUser(t.Context(), admin.Command("test", "test"), p.ID, admin.UserTerms{Role: &role})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// agent is an MCP client that signs a person in when it is asked for a token.
type agent struct {
	*mcp.ClientSession
	t     testing.TB
	asked []string // the scope of each authorization request
	tools map[string]*mcp.Tool
}

// connect returns an agent of a person, who ticks the given scopes on the first consent page, or leaves it as it is.
func connect(t testing.TB, s *servertest.Server, who *servertest.Person, ticked ...string) *agent {
	t.Helper()
	a, browser := &agent{t: t}, s.Browser(t)
	metadata := &oauthex.ClientRegistrationMetadata{
		ClientName: "Agent", RedirectURIs: []string{"http://127.0.0.1/callback"},
		GrantTypes: []string{"authorization_code", "refresh_token"}, TokenEndpointAuthMethod: "none",
	}
	handler, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
		DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{Metadata: metadata},
		AuthorizationCodeFetcher: func(
			_ context.Context, args *auth.AuthorizationArgs,
		) (*auth.AuthorizationResult, error) {
			u, err := url.Parse(args.URL)
			if err != nil {
				return nil, err
			}
			a.asked = append(a.asked, u.Query().Get("scope"))
			page := browser.Authorize(u.Query())
			if page.IsSignIn() {
				page = page.SignIn(who)
			}
			if page.IsConsent() {
				if len(a.asked) > 1 {
					ticked = nil
				}
				page = page.Allow(ticked...)
			}
			return &auth.AuthorizationResult{Code: page.Code(), State: u.Query().Get("state"), Iss: s.URL}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "agent", Version: "1"}, nil)
	a.ClientSession, err = client.Connect(t.Context(),
		&mcp.StreamableClientTransport{Endpoint: s.URL + "/admin/mcp", OAuthHandler: handler, MaxRetries: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	a.list()
	return a
}

// list reads the list of tools again and returns their names.
func (a *agent) list() []string {
	a.t.Helper()
	a.tools = map[string]*mcp.Tool{}
	for tool, err := range a.Tools(a.t.Context(), nil) {
		if err != nil {
			a.t.Fatal(err)
		}
		a.tools[tool.Name] = tool
	}
	return slices.Sorted(maps.Keys(a.tools))
}

type args = map[string]any

// use calls a tool. It returns the structured answer, which must be as the tool's schema says, and the text of a
// refusal.
func (a *agent) use(tool string, arguments args) (answer args, refused string) {
	a.t.Helper()
	result, err := a.CallTool(a.t.Context(), &mcp.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		a.t.Fatalf("%s: %v", tool, err)
	}
	text, ok := result.Content[0].(*mcp.TextContent)
	if !ok {
		a.t.Fatalf("%s: %v", tool, result.Content)
	}
	if result.IsError {
		return nil, text.Text
	}
	if err := json.Unmarshal([]byte(text.Text), &answer); err != nil {
		a.t.Fatal(err)
	}
	if diff := cmp.Diff(result.StructuredContent, any(answer)); diff != "" {
		a.t.Errorf("%s: the text differs from the structured content:\n%s", tool, diff)
	}
	schema := new(jsonschema.Schema)
	raw, err := json.Marshal(a.tools[tool].OutputSchema)
	if err == nil {
		err = json.Unmarshal(raw, schema)
	}
	if err != nil {
		a.t.Fatal(err)
	}
	resolved, err := schema.Resolve(nil)
	if err == nil {
		err = resolved.Validate(result.StructuredContent)
	}
	if err != nil {
		a.t.Errorf("%s: the answer is not what the schema says: %v", tool, err)
	}
	return answer, ""
}

func TestAnAgentOperates(t *testing.T) {
	s := servertest.Start(t)
	a := connect(t, s, person(t, s, "ada@example.com", identity.Owner))
	if strings.Contains(a.asked[0], "*") || !strings.Contains(a.asked[0], "cardea:resources:write") {
		t.Errorf("the agent asked for %q", a.asked[0])
	}
	var all []string
	for _, spec := range adminapi.Specs() {
		all = append(all, spec.Name())
	}
	slices.Sort(all)
	if diff := cmp.Diff(all, a.list()); diff != "" {
		t.Errorf("tools of an owner (-want +got):\n%s", diff)
	}

	made, refused := a.use("resource_create", args{"identifier": "https://mcp.example.com/mcp", "name": "Weather",
		"scopes": []args{{"name": "mcp:tools:weather", "description": "Weather forecasts", "default": true}}})
	if refused != "" || made["name"] != "Weather" {
		t.Fatalf("resource_create: %v %s", made, refused)
	}
	_, refused = a.use("resource_create", args{"identifier": "https://mcp.example.com/mcp"})
	if !strings.Contains(refused, "exists") {
		t.Errorf("created twice: %q", refused)
	}
	_, refused = a.use("resource_show", args{"id": "https://mcp.example.com/mcp", "nme": "x"})
	if refused != `the argument "nme" is unknown; the nearest is "id"` {
		t.Errorf("misspelled: %q", refused)
	}
	_, refused = a.use("resource_create", args{"identifer": "https://a.example.com/mcp"})
	if !strings.Contains(refused, `the nearest is "identifier"`) {
		t.Errorf("misspelled: %q", refused)
	}

	// Another agent asks for a scope that the MCP server does not have. Why was it refused?
	other := s.Agent(t, s.Client())
	other.Resource = "https://mcp.example.com/mcp"
	s.Browser(t).Authorize(other.Authorization(servertest.With("scope", "mcp:tools:wether")))
	events, refused := a.use("audit_list", args{"outcome": "refused", "client": other.ClientID, "limit": 1})
	items, _ := events["items"].([]any)
	if refused != "" || len(items) != 1 || items[0].(args)["reason"] != "invalid_scope" {
		t.Errorf("audit_list: %v %s", events, refused)
	}
	created := s.Events("resource.create")
	if len(created) == 0 || created[0].Actor.Name != "ada@example.com" || created[0].RequestID == "" {
		t.Errorf("events: %+v", created)
	}

	// The pages of a list.
	first, _ := a.use("audit_list", args{"limit": 2})
	cursor, _ := first["next"].(string)
	if second, refused := a.use("audit_list", args{"limit": 2, "cursor": cursor}); refused != "" ||
		cmp.Equal(first["items"], second["items"]) {
		t.Errorf("second page: %v %s", second, refused)
	}
	_, refused = a.use("audit_list", args{"limit": 2, "cursor": cursor, "outcome": "refused"})
	if !strings.Contains(refused, "cursor") {
		t.Errorf("a cursor of another list: %q", refused)
	}
}

// Tools that read say so, and those that end or replace something too.
func TestToolsAreAnnotated(t *testing.T) {
	s := servertest.Start(t)
	a := connect(t, s, person(t, s, "ada@example.com", identity.Owner))
	for _, spec := range adminapi.Specs() {
		of := a.tools[spec.Name()].Annotations
		destructive := of.DestructiveHint != nil && *of.DestructiveHint
		if of.ReadOnlyHint == spec.Writes || spec.Destroys && !destructive || !spec.Writes && destructive {
			t.Errorf("%s: %+v", spec.Name(), of)
		}
	}
	for name, idempotent := range map[string]bool{
		"resource_delete": true, "grant_revoke": true, "client_disable": true, "resource_update": true,
		"client_create": false, "client_rotate_secret": false, "key_rotate": false, "user_reset_password": false,
	} {
		if got := a.tools[name].Annotations.IdempotentHint; got != idempotent {
			t.Errorf("%s: idempotent is %v", name, got)
		}
	}
}

func TestAnAgentIsBoundByTheRole(t *testing.T) {
	s := servertest.Start(t)
	a := connect(t, s, person(t, s, "ada@example.com", identity.Auditor))
	for name, tool := range a.tools {
		if !tool.Annotations.ReadOnlyHint {
			t.Errorf("an auditor is offered %s", name)
		}
	}
	if a.tools["audit_list"] == nil {
		t.Errorf("an auditor is not offered audit_list: %v", a.list())
	}
	const sentence = "your role does not let you change MCP servers; ask an owner of this installation"
	if _, refused := a.use("resource_create", args{"identifier": "https://mcp.example.com/mcp"}); refused != sentence {
		t.Errorf("resource_create: %q", refused)
	}
	events := s.Events("resource.create")
	if len(events) != 3 || events[0].Outcome != audit.Refused || events[0].Actor.Name != "ada@example.com" {
		t.Errorf("events: %+v", events)
	}
	if len(a.asked) != 1 {
		t.Errorf("the agent asked for more, though no scope helps: %q", a.asked)
	}
}

func TestAnAgentStepsUp(t *testing.T) {
	s := servertest.Start(t)
	a := connect(t, s, person(t, s, "ada@example.com", identity.Owner), "cardea:resources:read", "cardea:events:read")
	if a.tools["audit_list"] == nil || a.tools["resource_create"] != nil || a.tools["client_list"] != nil {
		t.Errorf("the agent is offered %v", a.list())
	}
	if _, refused := a.use("resource_list", nil); refused != "" {
		t.Errorf("resource_list: %s", refused)
	}
	result, err := a.CallTool(t.Context(),
		&mcp.CallToolParams{Name: "resource_create", Arguments: args{"identifier": "https://mcp.example.com/mcp"}})
	if err != nil || result.IsError {
		t.Fatalf("resource_create: %v %+v", err, result)
	}
	if len(a.asked) != 2 || !strings.Contains(a.asked[1], "cardea:resources:write") {
		t.Errorf("the agent asked for %q", a.asked)
	}
}

// message posts a JSON-RPC message to the MCP server.
func (a api) message(body string, tweaks ...servertest.Tweak) *servertest.Reply {
	own := []servertest.Tweak{servertest.Method("POST"), servertest.Raw(body),
		servertest.Header("Content-Type", "application/json"),
		servertest.Header("Accept", "application/json, text/event-stream")}
	if a.token != "" {
		own = append(own, servertest.Bearer(a.token))
	}
	return a.Get("/admin/mcp", append(own, tweaks...)...)
}

// machine returns a program with a token for the MCP server.
func machine(t testing.TB, s *servertest.Server, scopes ...string) api {
	t.Helper()
	c := s.Client(servertest.Confidential, func(c *oauth.Client) {
		c.GrantTypes, c.RedirectURIs, c.ResponseTypes = []oauth.GrantType{oauth.ClientCredentials}, nil, nil
		c.Resources, c.Allowed = []string{s.URL + "/admin/mcp"}, scope.Of(scopes...)
	})
	agent := s.Agent(t, c)
	agent.Resource = s.URL + "/admin/mcp"
	reply := agent.ClientCredentials(servertest.With("resource", agent.Resource),
		servertest.With("scope", strings.Join(scopes, " ")))
	return api{agent, reply.Text("access_token")}
}

func TestMessages(t *testing.T) {
	s := servertest.Start(t)
	ops := machine(t, s, "cardea:resources:read")
	const list = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"resource_list","arguments":{}}}`
	const create = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"resource_create",` +
		`"arguments":{"identifier":"https://mcp.example.com/mcp"}}}`
	const export = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"export","arguments":{}}}`
	metadata := s.URL + "/.well-known/oauth-protected-resource/admin/mcp"
	var each []string
	for _, name := range admin.Scopes() {
		if name != "cardea:*" {
			each = append(each, name)
		}
	}

	if reply := ops.message(list); reply.Status != http.StatusOK ||
		!strings.Contains(string(reply.Body), `"items":[]`) {
		t.Errorf("list: %d %s", reply.Status, reply.Body)
	}
	for _, test := range []struct {
		name, body string
		with       api
		status     int
		want       string // in the body or the challenge
	}{
		{"AD-01 no token", list, api{ops.Agent, ""}, http.StatusUnauthorized, `resource_metadata="` + metadata + `"`},
		{"without a token, what to ask for is all that single scopes allow", list, api{ops.Agent, ""},
			http.StatusUnauthorized, `Bearer realm="cardea", scope="` + strings.Join(each, " ") + `", resource_metadata=`},
		{"AD-01 a token for the API", list, program(t, s, "cardea:*"), http.StatusUnauthorized,
			`error="invalid_token"`},
		{"a scope that is missing", create, ops, http.StatusForbidden,
			`error="insufficient_scope", scope="cardea:resources:write", resource_metadata="` + metadata + `"`},
		{"scopes of which some are missing", export, ops, http.StatusForbidden, `error="insufficient_scope", ` +
			`scope="cardea:resources:read cardea:clients:read cardea:groups:read"`},
		{"a member twice",
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"resource_list",` +
				`"name":"resource_create","arguments":{}}}`,
			ops, http.StatusBadRequest, "member"},
		{"a member that is almost one that decides",
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"resource_list","Name":"resource_create"}}`,
			ops, http.StatusBadRequest, "almost"},
		{"a batch", "[" + list + "]", ops, http.StatusBadRequest, "batch"},
		{"no such tool", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"format_disk"}}`, ops,
			http.StatusForbidden, "There is no such tool"},
		{"no such method", `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{}}`, ops,
			http.StatusOK, `-32601`},
		{"an argument twice",
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"resource_list",` +
				`"arguments":{"limit":1,"limit":2}}}`,
			ops, http.StatusBadRequest, "member"},
		{"an argument of another kind",
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"resource_list","arguments":{"limit":{}}}}`,
			ops, http.StatusOK, "limit must not be an object or an array"},
	} {
		t.Run(test.name, func(t *testing.T) {
			reply := test.with.message(test.body)
			got := reply.Header.Get("WWW-Authenticate") + " " + string(reply.Body)
			if reply.Status != test.status || !strings.Contains(got, test.want) {
				t.Errorf("%d %s, want %d with %s", reply.Status, got, test.status, test.want)
			}
		})
	}
	reply := program(t, s, "cardea:*").call("GET", "/resources", "", servertest.Bearer(ops.token))
	if reply.Status != http.StatusUnauthorized {
		t.Errorf("AD-01: a token for the MCP server at the API: %d %s", reply.Status, reply.Body)
	}
	events := s.Events("resource.create")
	if len(events) != 3 || events[0].Outcome != audit.Refused || events[0].Actor.ID != ops.ClientID {
		t.Errorf("the refusal is not recorded: %+v", events)
	}
	found := ops.Get("/.well-known/oauth-protected-resource/admin/mcp")
	if found.Text("resource") != s.URL+"/admin/mcp" || !strings.Contains(string(found.Body), `"cardea:events:read"`) {
		t.Errorf("metadata: %d %s", found.Status, found.Body)
	}
}

func TestNoAdministration(t *testing.T) {
	s := servertest.Start(t, func(c *config.Config) { c.Admin.Enabled = false })
	for _, path := range []string{"/admin/mcp", "/.well-known/oauth-protected-resource/admin/mcp"} {
		reply := s.Agent(t, nil).Get(path, servertest.Method("POST"))
		if reply.Status != http.StatusNotFound || reply.Text("error") != "not_found" {
			t.Errorf("%s: %d %s", path, reply.Status, reply.Body)
		}
	}
}
