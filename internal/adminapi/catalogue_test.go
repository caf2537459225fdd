package adminapi_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/adminapi"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// API credentials are kept as a hash, do what their scopes say until they end, and make no others.
func TestCredentials(t *testing.T) {
	s := servertest.StartMCP(t)
	o := &admin.Operations{DB: s.DB, Issuer: s.URL}
	root := admin.Command("root", "root")
	credentials := func(scopes string, in time.Duration) (api, admin.Client) {
		t.Helper()
		span := admin.Span(in)
		made, err := o.CreateClient(t.Context(), root, admin.NewClient{ClientTerms: admin.ClientTerms{
			Name: new("Ops"), GrantTypes: []oauth.GrantType{oauth.ClientCredentials}, Scope: &scopes,
			Resources: []string{s.URL + "/admin/api"}, ExpiresIn: &span,
		}})
		if err != nil {
			t.Fatal(err)
		}
		agent := s.Agent(t, nil)
		agent.ClientID, agent.Secret, agent.Resource = made.ID, made.Secret, s.URL+"/admin/api"
		return api{agent, ""}, made
	}
	ask := func(a api) *servertest.Reply {
		return a.ClientCredentials(servertest.With("resource", a.Resource),
			servertest.With("scope", "cardea:clients:read"))
	}
	reader, made := credentials("cardea:clients:read", time.Hour)
	t.Run("AD-13 last use", func(t *testing.T) {
		before, err := o.Client(t.Context(), root, made.ID)
		if err != nil || !before.LastUsedAt.IsZero() {
			t.Errorf("before: %v %v", before.LastUsedAt, err)
		}
		reader.token = ask(reader).Tokens().Access
		after, err := o.Client(t.Context(), root, made.ID)
		if err != nil || after.LastUsedAt.IsZero() {
			t.Errorf("after: %v %v", after.LastUsedAt, err)
		}
	})
	t.Run("AD-13 hashed", func(t *testing.T) {
		s.Update(func(tx *store.Tx) error {
			c, err := tx.Client(made.ID)
			if err == nil && (len(c.Secrets) != 1 || c.Secrets[0].Hash != oauth.Hash(made.Secret)) {
				t.Errorf("%d secrets, or one that is no hash", len(c.Secrets))
			}
			return err
		})
	})
	t.Run("AD-13 scoped", func(t *testing.T) {
		reply := reader.call("GET", "/clients/"+made.ID, "")
		if reply.Status != http.StatusOK || reply.Text("expires_at") == "" {
			t.Errorf("what it may: %d %s", reply.Status, reply.Body)
		}
		for _, path := range []string{
			"/clients/" + made.ID + "/rotate-secret", "/clients/" + made.ID + "/disable", "/keys/rotate",
		} {
			if reply := reader.call("POST", path, ""); reply.Status != http.StatusForbidden {
				t.Errorf("%s: %d %s", path, reply.Status, reply.Body)
			}
		}
		reader.ClientCredentials(servertest.With("resource", reader.Resource),
			servertest.With("scope", "cardea:clients:write")).
			Refused(http.StatusBadRequest, "invalid_scope")
	})
	t.Run("AD-13 no new keys", func(t *testing.T) {
		for name, a := range map[string]api{
			"a program": program(t, s, "cardea:*"), "an owner's agent": personal(t, s, identity.Owner, "cardea:*"),
		} {
			for _, request := range [][3]string{
				{"POST", "/clients", `{"client_name":"B","grant_types":["client_credentials"],` +
					`"scope":"cardea:clients:read","resources":["` + s.URL + `/admin/api"]}`},
				{"POST", "/clients", `{"client_name":"B","grant_types":["client_credentials"],"resources":["` +
					s.URL + `/admin/mcp"]}`},
				{"POST", "/clients/" + made.ID + "/rotate-secret", ""},
				{"POST", "/clients/" + made.ID + "/enable", ""},
				{"PATCH", "/clients/" + made.ID, `{"expires_in":0}`},
				{"PATCH", "/clients/" + made.ID, `{"scope":"cardea:*"}`},
				{"POST", "/clients", `{"client_name":"B","resource_servers":["` + s.URL + `/admin/api"]}`},
			} {
				if reply := a.call(request[0], request[1], request[2]); reply.Status != http.StatusForbidden &&
					reply.Status != http.StatusUnprocessableEntity {
					t.Errorf("%s: %v: %d %s", name, request, reply.Status, reply.Body)
				}
			}
			bot := a.call("POST", "/clients",
				`{"client_name":"Bot","grant_types":["client_credentials"],"resources":["`+servertest.MCP+`"]}`)
			if bot.Status != http.StatusCreated {
				t.Fatalf("%s: a client of an MCP server: %d %s", name, bot.Status, bot.Body)
			}
			reply := a.call("PATCH", "/clients/"+bot.Text("client_id"), `{"resources":["`+s.URL+`/admin/api"]}`)
			if reply.Status != http.StatusForbidden {
				t.Errorf("%s: bound anew: %d %s", name, reply.Status, reply.Body)
			}
		}
	})
	t.Run("AD-13 expiring", func(t *testing.T) {
		past := admin.Span(-time.Hour)
		_, err := o.UpdateClient(t.Context(), root, made.ID, admin.ClientTerms{ExpiresIn: &past})
		if err == nil || !strings.Contains(err.Error(), "expires_in must be from 1s to ten years") {
			t.Errorf("an end in the past: %v", err)
		}
		s.Clock.Advance(time.Hour + time.Second)
		ask(reader).Refused(http.StatusUnauthorized, "invalid_client")
		fresh, kept := credentials("cardea:clients:read", time.Minute)
		fresh.token = ask(fresh).Tokens().Access
		s.Clock.Advance(2 * time.Minute) // its token would live on
		reply := fresh.call("GET", "/clients", "")
		if reply.Status != http.StatusUnauthorized || !strings.Contains(string(reply.Body), "expired") {
			t.Errorf("the token of what has ended: %d %s", reply.Status, reply.Body)
		}
		if view, err := o.Client(t.Context(), root, kept.ID); err != nil || view.State != admin.StateExpired {
			t.Errorf("state %q %v", view.State, err)
		}
	})
}

// AD-14, AD-18, AD-22: what is not there.
func TestNotServed(t *testing.T) {
	t.Run("AD-14", func(t *testing.T) {
		off := servertest.Start(t, func(c *config.Config) { c.Admin.Enabled = false })
		stranger := api{Agent: off.Agent(t, nil)}
		for _, spec := range adminapi.Specs() {
			if reply := stranger.call(spec.Method, spec.Path, ""); reply.Status != http.StatusNotFound {
				t.Errorf("%s %s: %d", spec.Method, spec.Path, reply.Status)
			}
		}
		for _, path := range []string{"/admin", "/admin/mcp", "/admin/api/openapi.json", "/setup"} {
			if reply := stranger.Get(path); reply.Status != http.StatusNotFound {
				t.Errorf("%s: %d", path, reply.Status)
			}
		}
	})
	s := servertest.StartMCP(t)
	ops := program(t, s, "cardea:*")
	t.Run("AD-18 no operation changes the audit log", func(t *testing.T) {
		event := ops.call("GET", "/events?limit=1", "").JSON()["items"].([]any)[0].(map[string]any)["id"].(string)
		for _, path := range []string{"/events", "/events/" + event} {
			for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
				if reply := ops.call(method, path, "{}"); reply.Status != http.StatusMethodNotAllowed {
					t.Errorf("%s %s: %d %s", method, path, reply.Status, reply.Body)
				}
			}
		}
		for _, spec := range adminapi.Specs() {
			if spec.Noun == admin.Events && spec.Writes {
				t.Errorf("%s writes events", spec.Name())
			}
		}
	})
	t.Run("AD-22", func(t *testing.T) {
		for _, path := range []string{
			"/debug/pprof/", "/debug/pprof/heap", "/debug/vars", "/metrics", "/admin/api/v1/debug",
		} {
			if reply := ops.Get(path, servertest.Bearer(ops.token)); reply.Status != http.StatusNotFound {
				t.Errorf("%s: %d", path, reply.Status)
			}
		}
		reply := ops.Get("/readyz")
		if strings.Contains(string(reply.Body), "sqlite") || strings.Contains(string(reply.Body), "/tmp") {
			t.Errorf("readyz: %s", reply.Body)
		}
	})
}

// AD-17: what an operator disables is dead at once: signing in, refreshing, introspection, and the API itself.
func TestDisabled(t *testing.T) {
	s := servertest.StartMCP(t)
	ops := program(t, s, "cardea:*")
	guard := s.Agent(t, s.Client(servertest.Confidential, servertest.ResourceServer(servertest.MCP)))
	for what, disable := range map[string]func(client string, p *servertest.Person) (method, path string){
		"client": func(client string, _ *servertest.Person) (string, string) {
			return "POST", "/clients/" + client + "/disable"
		},
		"user": func(_ string, p *servertest.Person) (string, string) { return "POST", "/users/" + p.ID + "/disable" },
		"block": func(client string, _ *servertest.Person) (string, string) {
			return "POST", "/clients/" + client + "/block"
		},
		"deleted user": func(_ string, p *servertest.Person) (string, string) { return "DELETE", "/users/" + p.ID },
	} {
		t.Run("AD-17 "+what, func(t *testing.T) {
			p := s.User(strings.ReplaceAll(what, " ", "") + "@example.com")
			agent := s.Agent(t, nil)
			// a block is of the site
			agent.RedirectURI = "https://" + strings.ReplaceAll(what, " ", "-") + "-agent.example/cb"
			agent.Register(map[string]any{"client_name": what, "redirect_uris": []string{agent.RedirectURI},
				"token_endpoint_auth_method": "none"})
			tokens := agent.Connect(s.Browser(t), p)
			if !guard.Active(tokens.Access) {
				t.Fatal("the token is not active")
			}
			method, path := disable(agent.ClientID, p)
			if reply := ops.call(method, path, ""); reply.Status != http.StatusOK {
				t.Fatalf("%d %s", reply.Status, reply.Body)
			}
			if guard.Active(tokens.Access) {
				t.Error("introspection still says that it is active")
			}
			if reply := agent.Refresh(tokens.Refresh); reply.Status == http.StatusOK {
				t.Errorf("it refreshes: %s", reply.Body)
			}
		})
	}
}

// An operator, or an agent of one, does not come by more than the role gives, and of two owners who take the role from
// each other at the same time, one stays.
func TestNoMoreThanTheRole(t *testing.T) {
	s := servertest.StartMCP(t)
	owner := person(t, s, "owner@example.com", identity.Owner)
	operator := personal(t, s, identity.Operator, "cardea:*")
	own := servertest.Claims(t, operator.token).Subject
	for _, request := range [][3]string{
		{"PATCH", "/users/" + own, `{"role":"owner"}`},
		{"POST", "/users", `{"email":"eve@example.com","password":"correct horse battery","role":"owner"}`},
		{"POST", "/users", `{"email":"eve@example.com","password":"correct horse battery"}`},
		{"POST", "/users/" + owner.ID + "/reset-password", `{"password":"correct horse battery"}`},
		{"POST", "/users/" + owner.ID + "/disable", ""}, {"DELETE", "/users/" + owner.ID, ""},
		{"PUT", "/groups/staff/members/" + own, ""}, {"POST", "/groups", `{"name":"staff"}`},
		{"POST", "/keys/rotate", ""}, {"GET", "/settings", ""},
		{"POST", "/clients", `{"client_name":"B","grant_types":["client_credentials"],"resources":["` +
			s.URL + `/admin/api"]}`},
	} {
		if reply := operator.call(request[0], request[1], request[2]); reply.Status != http.StatusForbidden {
			t.Errorf("an operator: %v: %d %s", request, reply.Status, reply.Body)
		}
	}
	// A program in its own name touches no account with a role, whatever its scopes.
	robot := program(t, s, "cardea:*")
	for _, request := range [][3]string{
		{"PATCH", "/users/" + owner.ID, `{"name":"Eve"}`},
		{"POST", "/users/" + owner.ID + "/reset-password", `{"password":"correct horse battery"}`},
		{"POST", "/users/" + own + "/disable", ""}, {"DELETE", "/users/" + own, ""},
		{"POST", "/users", `{"email":"eve@example.com","password":"correct horse battery","role":"auditor"}`},
	} {
		if reply := robot.call(request[0], request[1], request[2]); reply.Status != http.StatusForbidden {
			t.Errorf("a program: %v: %d %s", request, reply.Status, reply.Body)
		}
	}
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock)
		s.Resource(servertest.MCP, "mcp:tools:weather")
		for range 3 {
			both := []api{personal(t, s, identity.Owner, "cardea:users:write"),
				personal(t, s, identity.Owner, "cardea:users:write")}
			ids := []string{servertest.Claims(t, both[0].token).Subject, servertest.Claims(t, both[1].token).Subject}
			statuses := make([]int, 2)
			var all sync.WaitGroup
			for i, a := range both {
				all.Go(func() {
					if i == 0 {
						statuses[i] = a.call("PATCH", "/users/"+ids[1-i], `{"role":null}`).Status
					} else {
						statuses[i] = a.call("DELETE", "/users/"+ids[1-i], "").Status
					}
				})
			}
			all.Wait()
			slices.Sort(statuses)
			if statuses[0] != http.StatusOK || statuses[1] == http.StatusOK || statuses[1] >= 500 {
				t.Errorf("AD-12 %v", statuses)
			}
			left := 0
			for _, id := range ids {
				if err := db.View(t.Context(), func(tx *store.Tx) error {
					u, err := tx.User(id)
					if err == nil && u.Role == identity.Owner {
						left++
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
			}
			if left != 1 {
				t.Errorf("AD-12: %d owners are left", left)
			}
			for _, id := range ids { // the next pair is the only one again
				if err := db.Update(t.Context(), func(tx *store.Tx) error {
					u, err := tx.User(id)
					if err != nil {
						return nil
					}
					u.Role = ""
					return tx.UpdateUser(u)
				}); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// The consent page says what an agent could do that is asked for by an agent: to act in the person's name if it could
// give roles. An owner's agent with that scope gives them, and nobody else's does.
func TestRolesByAgents(t *testing.T) {
	s := servertest.StartMCP(t)
	agent := s.Agent(t, nil)
	agent.Resource = s.URL + "/admin/mcp"
	agent.Register(map[string]any{"client_name": "Agent", "redirect_uris": []string{agent.RedirectURI},
		"token_endpoint_auth_method": "none"})
	owner := person(t, s, "owner@example.com", identity.Owner)
	page := s.Browser(t).Authorize(agent.Authorization(servertest.With("scope",
		"cardea:users:write cardea:users:read cardea:keys:write"))).SignIn(owner)
	if !page.IsConsent() {
		t.Fatalf("%d %s", page.Status, page.Body)
	}
	act, look := strings.Index(page.Body, "It will be able to act in your name"),
		strings.Index(page.Body, "It will be able to look at")
	roles := strings.Index(page.Body, "and give roles if you are an owner")
	if act < 0 || roles < act || look >= 0 && look > act && roles > look {
		t.Errorf("the page does not name the risk: act %d, look %d, roles %d\n%s", act, look, roles, page.Body)
	}
	for _, role := range []identity.Role{identity.Owner, identity.Operator, identity.Auditor} {
		t.Run(fmt.Sprint(role), func(t *testing.T) {
			s.User("for" + string(role) + "@example.com")
			a := connect(t, s, person(t, s, string(role)+"2@example.com", role), "cardea:users:write",
				"cardea:users:read")
			defer a.Close()
			answer, refused := a.use("user_update", args{"id": "for" + string(role) + "@example.com",
				"role": "auditor"})
			if role == identity.Owner && (refused != "" || answer["role"] != "auditor") {
				t.Errorf("refused: %s %v", refused, answer)
			}
			if role != identity.Owner && !strings.Contains(refused, "role") {
				t.Errorf("done: %v, %q", answer, refused)
			}
		})
	}
}
