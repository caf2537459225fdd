package server_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
)

// A client that sets Content-Type in two layers names two types. A body is read as what its endpoint takes, if the
// header names that.
func TestTwoContentTypes(t *testing.T) {
	s := servertest.Start(t)
	s.Resource(servertest.MCP, "*"+weather)
	ada := s.User("ada@example.com")
	agent := s.Agent(t, s.Client(servertest.Confidential))
	both := servertest.Header("Content-Type", "application/json, application/x-www-form-urlencoded")
	apart := servertest.Header("Content-Type", "application/json", "application/x-www-form-urlencoded; charset=UTF-8")

	browser := s.Browser(t)
	for _, types := range []servertest.Tweak{both, apart} {
		page := browser.Authorize(agent.Authorization(), servertest.Method(http.MethodPost), types)
		tokens := agent.Exchange(page.Through(ada).Code(), types).Tokens()
		tokens = agent.Refresh(tokens.Refresh, types).Tokens()
		if reply := agent.Introspect(tokens.Access, types); reply.JSON()["active"] != true {
			t.Errorf("introspection: %d %s", reply.Status, reply.Body)
		}
		if reply := agent.Revoke(tokens.Refresh, types); reply.Status != http.StatusOK {
			t.Errorf("revocation: %d %s", reply.Status, reply.Body)
		}
		if agent.Active(tokens.Access) {
			t.Error("the revocation was not read")
		}
	}
	agent.Exchange("x", servertest.Header("Content-Type", "application/json, text/plain")).
		Refused(http.StatusBadRequest, "invalid_request")
}

// What a redirect says is read by every decoder: a space is %20.
func TestDescriptionsInRedirects(t *testing.T) {
	s := servertest.StartMCP(t)
	agent := s.Agent(t, s.Client())
	page := s.Browser(t).
		Authorize(agent.Authorization(servertest.With("scope", "nothing"), servertest.With("state", "a b+c")))
	if !strings.Contains(page.Location, "error_description=") || strings.Contains(page.Location, "+") ||
		!strings.Contains(page.Location, "state=a%20b%2Bc") {
		t.Errorf("the redirect is %s", page.Location)
	}
}

// A request of unknown scopes alone hears which are known, at both ends of a flow.
func TestUnknownScopes(t *testing.T) {
	s := servertest.StartMCP(t)
	agent := s.Agent(t, s.Client())
	page := s.Browser(t).Authorize(agent.Authorization(servertest.With("scope", "mcp:everything")))
	page.Refused("invalid_scope")
	said := map[string]string{"authorize": ""}
	if u, err := url.Parse(page.Location); err == nil {
		said["authorize"] = u.Query().Get("error_description")
	}
	bot := s.Agent(t, s.Client(servertest.Confidential, machine))
	reply := bot.ClientCredentials(servertest.With("scope", "mcp:everything"))
	reply.Refused(http.StatusBadRequest, "invalid_scope")
	said["token"] = reply.Text("error_description")
	for where, text := range said {
		for _, name := range []string{weather, email} {
			if !strings.Contains(text, name) {
				t.Errorf("%s: %q does not name %s", where, text, name)
			}
		}
	}
}

// machine is an edit for servertest.Client: it acts in its own name.
func machine(c *oauth.Client) {
	c.GrantTypes, c.ResponseTypes, c.RedirectURIs = []oauth.GrantType{oauth.ClientCredentials}, nil, nil
}
