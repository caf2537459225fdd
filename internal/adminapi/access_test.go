package adminapi_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/adminapi"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/scope"
)

// rights says which right each operation needs. An operation without a line here fails the test.
var rights = map[string]string{
	"resource_list": "resources:read", "resource_show": "resources:read",
	"resource_create": "resources:write", "resource_update": "resources:write", "resource_delete": "resources:write",
	"resource_add": "resources:write", "resource_tools": "resources:read", "resource_review": "resources:write",
	"client_list": "clients:read", "client_show": "clients:read",
	"client_create": "clients:write", "client_update": "clients:write", "client_delete": "clients:write",
	"client_approve": "clients:write", "client_unapprove": "clients:write",
	"client_disable": "clients:write", "client_enable": "clients:write",
	"client_rotate_secret": "clients:write", "client_waiting": "clients:read", "client_blocks": "clients:read",
	"client_dismiss": "clients:write", "client_block": "clients:write", "client_unblock": "clients:write",
	"initial_access_token_list": "clients:read", "initial_access_token_show": "clients:read",
	"initial_access_token_create": "clients:write", "initial_access_token_revoke": "clients:write",
	"user_list": "users:read", "user_show": "users:read",
	"user_create": "users:write", "user_update": "users:write", "user_delete": "users:write",
	"user_disable": "users:write", "user_enable": "users:write", "user_reset_password": "users:write",
	"user_invite": "users:write", "invitation_list": "users:read", "invitation_show": "users:read",
	"invitation_resend": "users:write", "invitation_withdraw": "users:write",
	"group_list": "groups:read", "group_show": "groups:read",
	"group_create": "groups:write", "group_update": "groups:write", "group_delete": "groups:write",
	"group_add": "groups:write", "group_remove": "groups:write",
	"grant_list": "grants:read", "grant_show": "grants:read", "grant_revoke": "grants:write",
	"session_list": "sessions:read", "session_show": "sessions:read", "session_revoke": "sessions:write",
	"key_list": "keys:read", "key_show": "keys:read", "key_rotate": "keys:write", "key_retire": "keys:write",
	"user_reset_second_factor": "users:write", "user_remove_passkey": "users:write", "client_profiles": "clients:read",
	"token_inspect": "keys:read", "audit_list": "events:read", "audit_flow": "events:read", "audit_show": "events:read",
	"config_print":  "settings:read",
	"provider_list": "providers:read", "provider_show": "providers:read", "provider_test": "providers:read",
	"export":        "resources:read & clients:read & groups:read",
	"apply_dry_run": "resources:read | clients:read | groups:read",
	"apply":         "resources:write | clients:write | groups:write",
}

// roles says what each role may do. Writing includes reading.
var roles = map[identity.Role]string{
	identity.Owner: "resources:write clients:write users:write groups:write grants:write sessions:write " +
		"keys:write events:write settings:write providers:write",
	identity.Operator: "resources:write clients:write grants:write sessions:write users:read groups:read keys:read " +
		"events:read",
	identity.Auditor: "resources:read clients:read users:read groups:read grants:read sessions:read keys:read " +
		"events:read settings:read providers:read",
	"": "",
}

// has reports whether what somebody holds includes the right to do what is needed: one of several, or all of them.
func has(held, needed string) bool {
	if one, others, ok := strings.Cut(needed, " | "); ok {
		return has(held, one) || has(held, others)
	}
	if one, others, ok := strings.Cut(needed, " & "); ok {
		return has(held, one) && has(held, others)
	}
	all := strings.Fields(held)
	return slices.Contains(all, needed) || slices.Contains(all, strings.TrimSuffix(needed, ":read")+":write")
}

// personal returns a program that acts for a person with that role, who allowed it these scopes.
func personal(t testing.TB, s *servertest.Server, role identity.Role, scopes string) api {
	t.Helper()
	p := s.User("p" + strings.ToLower(string(role)) + oauth.NewID("") + "@example.com")
	s.Update(func(tx *store.Tx) error {
		u, err := tx.UserByEmail(p.Email)
		if err != nil {
			return err
		}
		u.Role = role
		return tx.UpdateUser(u)
	})
	agent := s.Agent(t, s.Client())
	agent.Resource = s.URL + "/admin/api"
	tokens := agent.Connect(s.Browser(t), p, servertest.With("scope", scopes))
	return api{agent, tokens.Access}
}

// AD-01: every operation is done for whom it should be, and for nobody else.
func TestAccess(t *testing.T) {
	s := servertest.StartMCP(t)
	stranger := api{Agent: s.Agent(t, nil)}
	elsewhere := func() api { // with a token for another resource of this server
		c := s.Client(servertest.Confidential, func(c *oauth.Client) {
			c.GrantTypes, c.RedirectURIs = []oauth.GrantType{oauth.ClientCredentials}, nil
		})
		agent := s.Agent(t, c)
		return api{agent,
			agent.ClientCredentials(servertest.With("resource", servertest.MCP),
				servertest.With("scope", "mcp:tools:weather")).Tokens().Access}
	}()
	type caller struct {
		api
		name, held string
		status     int // of all that is not held
	}
	callers := []caller{
		{stranger, "nobody", "", http.StatusUnauthorized},
		{elsewhere, "a token for another resource", "", http.StatusUnauthorized},
	}
	for role, held := range roles {
		callers = append(callers,
			caller{personal(t, s, role, "cardea:*"), "a person whose role is " + string(role), held,
				http.StatusForbidden})
	}
	callers = append(callers,
		caller{personal(t, s, identity.Owner, "cardea:grants:read cardea:keys:write"), "an owner who allowed little",
			"grants:read keys:write", http.StatusForbidden})
	for _, name := range admin.Scopes() {
		if held := strings.TrimPrefix(name, "cardea:"); held != "*" {
			callers = append(callers,
				caller{program(t, s, name), "a program with " + name, held, http.StatusForbidden})
		}
	}
	for _, spec := range adminapi.Specs() {
		needed, listed := rights[spec.Name()]
		if !listed {
			t.Errorf("%s: say in rights which right it needs", spec.Name())
			continue
		}
		path := strings.NewReplacer("{id}", "nothing", "{kid}", "nothing", "{name}", "nothing", "{user}", "nobody",
			"{passkey}", "nothing").
			Replace(spec.Path)
		body := ""
		if spec.Required != "" {
			body = "{}"
		}
		t.Run("AD-01 "+spec.Name(), func(t *testing.T) {
			for _, c := range callers {
				reply := c.call(spec.Method, path, body)
				may := has(c.held, needed)
				switch {
				case may && (reply.Status == http.StatusUnauthorized || reply.Status == http.StatusForbidden):
					t.Errorf("%s is refused: %d %s", c.name, reply.Status, reply.Body)
				case !may && reply.Status != c.status:
					t.Errorf("%s gets %d %s, want %d", c.name, reply.Status, reply.Body, c.status)
				}
				if reply.Status >= 400 && reply.Header.Get("Content-Type") != "application/problem+json" {
					t.Errorf("a refusal is %s", reply.Header.Get("Content-Type"))
				}
			}
		})
		t.Run("AD-02 "+spec.Name(), func(t *testing.T) { // another spelling of the path is the same, or nothing
			for _, spelling := range []string{
				path + "/", "/" + path, strings.ToUpper(path), strings.Replace(path, "/", "%2f", 1),
			} {
				for _, header := range []string{"", "GET"} {
					reply := stranger.call(spec.Method, spelling, body,
						servertest.Header("X-HTTP-Method-Override", header))
					if reply.Status != http.StatusUnauthorized && reply.Status != http.StatusNotFound {
						t.Errorf("%s: %d", spelling, reply.Status)
					}
				}
			}
		})
	}
}

// What ends a client, a person or a token ends it here at once.
func TestStanding(t *testing.T) {
	s := servertest.Start(t)
	ops := program(t, s, "cardea:clients:write")
	for name, end := range map[string]func(a api){
		"disabled": func(a api) { ops.call("POST", "/clients/"+a.ClientID+"/disable", "") },
		"deleted":  func(a api) { ops.call("DELETE", "/clients/"+a.ClientID, "") },
		"revoked":  func(a api) { a.Revoke(a.token) },
	} {
		t.Run(name, func(t *testing.T) {
			a := program(t, s, "cardea:clients:read")
			if reply := a.call("GET", "/clients", ""); reply.Status != http.StatusOK {
				t.Fatalf("before: %d %s", reply.Status, reply.Body)
			}
			end(a)
			reply := a.call("GET", "/clients", "")
			if reply.Status != http.StatusUnauthorized ||
				!strings.Contains(reply.Header.Get("WWW-Authenticate"), "invalid_token") {
				t.Errorf("after: %d %v %s", reply.Status, reply.Header, reply.Body)
			}
		})
	}
	t.Run("a person loses the role", func(t *testing.T) {
		owner := personal(t, s, identity.Owner, "cardea:*")
		if reply := owner.call("GET", "/users", ""); reply.Status != http.StatusOK {
			t.Fatalf("before: %d %s", reply.Status, reply.Body)
		}
		s.Update(func(tx *store.Tx) error {
			u, err := tx.User(servertest.Claims(t, owner.token).Subject)
			if err != nil {
				return err
			}
			u.Role = ""
			return tx.UpdateUser(u)
		})
		if reply := owner.call("GET", "/users", ""); reply.Status != http.StatusForbidden {
			t.Errorf("after: %d %s", reply.Status, reply.Body)
		}
	})
}

// The resource is built in: nobody changes it, and it changes nothing for others.
func TestBuiltIn(t *testing.T) {
	s := servertest.StartMCP(t)
	ops := program(t, s, "cardea:*")
	if list := ops.call("GET", "/resources", ""); strings.Contains(string(list.Body), "/admin/api") {
		t.Errorf("the list has what is built in: %s", list.Body)
	}
	for _, request := range [][3]string{
		{"PATCH", "/resources/res_admin_api", `{"name":"Mine"}`}, {"DELETE", "/resources/res_admin_api", ""},
		{"POST", "/resources", `{"identifier":"` + s.URL + `/admin/api"}`},
	} {
		reply := ops.call(request[0], request[1], request[2])
		if reply.Status != http.StatusUnprocessableEntity && reply.Status != http.StatusConflict {
			t.Errorf("%v: %d %s", request, reply.Status, reply.Body)
		}
	}
	reply := s.Agent(t, nil).Get("/.well-known/oauth-authorization-server")
	if strings.Contains(string(reply.Body), "cardea:") {
		t.Errorf("the metadata has its scopes: %s", reply.Body)
	}
	any := s.Client(servertest.Confidential, func(c *oauth.Client) {
		c.GrantTypes, c.RedirectURIs = []oauth.GrantType{oauth.ClientCredentials}, nil
	})
	agent := s.Agent(t, any)
	agent.ClientCredentials(servertest.With("resource", s.URL+"/admin/api"), servertest.With("scope", "cardea:*")).
		Refused(http.StatusBadRequest, "invalid_target")
	if tokens := agent.ClientCredentials().Tokens(); servertest.Claims(t, tokens.Access).Audience != servertest.MCP {
		t.Errorf("without resource: %v", servertest.Claims(t, tokens.Access))
	}
	bound := s.Client(servertest.Confidential, func(c *oauth.Client) {
		c.GrantTypes, c.RedirectURIs = []oauth.GrantType{oauth.ClientCredentials}, nil
		c.Resources, c.Allowed = []string{s.URL + "/admin/api"}, scope.Of("cardea:clients:read")
	})
	s.Agent(t, bound).ClientCredentials().Refused(http.StatusBadRequest, "invalid_scope") // it has no default
}
