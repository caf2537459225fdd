package adminapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/scope"
)

// api is a program that calls the Admin API.
type api struct {
	*servertest.Agent
	token string
}

// program returns a program with an access token of its own that has these scopes.
func program(t testing.TB, s *servertest.Server, scopes ...string) api {
	t.Helper()
	c := s.Client(servertest.Confidential, func(c *oauth.Client) {
		c.GrantTypes, c.RedirectURIs, c.ResponseTypes = []oauth.GrantType{oauth.ClientCredentials}, nil, nil
		c.Resources, c.Allowed = []string{s.URL + "/admin/api"}, scope.Of(scopes...)
	})
	agent := s.Agent(t, c)
	agent.Resource = s.URL + "/admin/api"
	reply := agent.ClientCredentials(servertest.With("resource", agent.Resource),
		servertest.With("scope", strings.Join(scopes, " ")))
	if reply.Status != http.StatusOK {
		t.Fatalf("token: %d %s", reply.Status, reply.Body)
	}
	return api{agent, reply.Text("access_token")}
}

// call sends a request to the API; body is JSON, "" for none.
func (a api) call(method, path, body string, tweaks ...servertest.Tweak) *servertest.Reply {
	own := []servertest.Tweak{servertest.Method(method), servertest.Bearer(a.token)}
	if body != "" {
		own = append(own, servertest.Raw(body), servertest.Header("Content-Type", "application/json"))
	}
	return a.Get("/admin/api/v1"+path, append(own, tweaks...)...)
}

func TestSkeleton(t *testing.T) {
	s := servertest.Start(t)
	ops := program(t, s, "cardea:resources:write", "cardea:clients:write")
	made := ops.call("POST", "/resources",
		`{"identifier":"https://mcp.example.com/mcp","name":"Weather","scopes":[{"name":"mcp:tools:weather"}]}`)
	if made.Status != http.StatusCreated || made.Text("id") == "" {
		t.Fatalf("create: %d %s", made.Status, made.Body)
	}
	shown := ops.call("GET", "/resources/"+made.Text("id"), "")
	if shown.Status != http.StatusOK || shown.Text("name") != "Weather" {
		t.Errorf("show: %d %s", shown.Status, shown.Body)
	}
	changed := ops.call("PATCH", "/resources/"+made.Text("id"), `{"name":null,"access_token_ttl":300}`)
	if changed.Status != http.StatusOK || changed.Text("name") != "mcp.example.com" {
		t.Errorf("patch: %d %s", changed.Status, changed.Body)
	}
	client := ops.call("POST", "/clients",
		`{"client_name":"Bot","grant_types":["client_credentials"],"resources":["https://mcp.example.com/mcp"],`+
			`"scope":"mcp:tools:weather"}`)
	if client.Status != http.StatusCreated || client.Text("client_secret") == "" {
		t.Fatalf("create a client: %d %s", client.Status, client.Body)
	}
	if list := ops.call("GET", "/clients?limit=1", ""); list.Status != http.StatusOK || list.Text("next") == "" {
		t.Errorf("list: %d %s", list.Status, list.Body)
	}
	users := ops.call("GET", "/users", "")
	if users.Status != http.StatusForbidden ||
		!strings.Contains(users.Header.Get("WWW-Authenticate"), `error="insufficient_scope"`) {
		t.Errorf("users: %d %v %s", users.Status, users.Header, users.Body)
	}
	none := ops.call("GET", "/clients", "", servertest.Bearer(""))
	metadata := s.URL + "/.well-known/oauth-protected-resource/admin/api"
	if none.Status != http.StatusUnauthorized ||
		none.Header.Get("WWW-Authenticate") !=
			`Bearer realm="cardea", scope="cardea:clients:read", resource_metadata="`+metadata+`"` {
		t.Errorf("no token: %d %v %s", none.Status, none.Header, none.Body)
	}
}
