package adminapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

const declared = `
groups: [{name: staff}]
resources: [{identifier: https://mcp.example.com/mcp, name: Weather, scopes: [{name: mcp:tools:weather}]}]
clients:
  - client_id: mcp_bot
    client_name: Bot
    grant_types: [client_credentials]
    resources: [https://mcp.example.com/mcp]
`

// sent returns the body that applies a file, with other members.
func sent(t testing.TB, file string, members ...string) string {
	t.Helper()
	body := map[string]any{"file": file}
	for _, name := range members {
		body[name] = true
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A program applies a file as far as it has the right to each change alone, and gets no more by it.
func TestApply(t *testing.T) {
	s := servertest.StartMCP(t)
	ops := program(t, s, "cardea:resources:write", "cardea:clients:write", "cardea:groups:write", "cardea:events:read")
	plan := func(a api, file string, members ...string) *servertest.Reply {
		return a.call("POST", "/apply/dry-run", sent(t, file, members...))
	}
	apply := func(a api, file string, members ...string) *servertest.Reply {
		return a.call("POST", "/apply", sent(t, file, members...))
	}
	changes := func(reply *servertest.Reply) int {
		t.Helper()
		if reply.Status != http.StatusOK {
			t.Fatalf("%d %s", reply.Status, reply.Body)
		}
		return len(reply.JSON()["changes"].([]any))
	}
	reader := program(t, s, "cardea:resources:read", "cardea:clients:read", "cardea:groups:read")
	if n := changes(plan(reader, declared)); n != 3 {
		t.Errorf("a dry run tells %d changes", n)
	}
	for name, a := range map[string]api{
		"a reader": reader, "one without groups": program(t, s, "cardea:resources:write", "cardea:clients:write"),
		"an operator": personal(t, s, identity.Operator, "cardea:*"),
	} {
		if reply := apply(a, declared); reply.Status != http.StatusForbidden {
			t.Errorf("%s: %d %s", name, reply.Status, reply.Body)
		}
		if n := changes(plan(ops, declared)); n != 3 {
			t.Errorf("%s changed something: %d changes are left", name, n)
		}
	}
	refused := ops.call("GET", "/events?action=apply&outcome=refused", "").JSON()["items"].([]any)
	if len(refused) != 3 {
		t.Errorf("%d refusals are recorded", len(refused))
	}
	reply := apply(ops, declared, "secrets")
	if n := changes(reply); n != 3 {
		t.Errorf("%d changes", n)
	}
	if secrets := reply.JSON()["secrets"].([]any); len(secrets) != 1 {
		t.Errorf("%d secrets", len(secrets))
	}
	made := ops.call("GET", "/events?action=client.create&client=mcp_bot", "").JSON()["items"].([]any)
	if actor := made[0].(map[string]any)["actor"].(map[string]any); actor["id"] != ops.ClientID {
		t.Errorf("the actor is %v", actor)
	}
	if n := changes(apply(ops, declared)); n != 0 {
		t.Errorf("applied again, %d changes", n)
	}
	file := ops.call("GET", "/export", "").Text("file")
	if n := changes(apply(ops, file, "prune")); n != 0 || !strings.Contains(file, "mcp_bot") {
		t.Errorf("%d changes by what was exported\n%s", n, file)
	}
	t.Run("AD-13 no new keys", func(t *testing.T) {
		for name, file := range map[string]string{
			"new": "clients: [{client_id: mcp_own, client_name: Own, grant_types: [client_credentials], resources: [" +
				s.URL + "/admin/api]}]",
			"bound": "clients: [{client_id: mcp_bot, client_name: Bot, grant_types: [client_credentials], " +
				"resources: [" +
				s.URL + "/admin/mcp]}]",
			"its own": "clients: [{client_id: " + ops.ClientID + ", client_name: Ops, grant_types: " +
				"[client_credentials], any_resource: true}]",
			"of an MCP server": "clients: [{client_id: mcp_rs, client_name: RS, resource_servers: [" + s.URL +
				"/admin/api]}]",
		} {
			for _, a := range []api{ops, personal(t, s, identity.Owner, "cardea:*")} {
				reply := apply(a, file)
				if reply.Status != http.StatusUnprocessableEntity ||
					!strings.Contains(string(reply.Body), "body.file:1") {
					t.Errorf("%s: %d %s", name, reply.Status, reply.Body)
				}
			}
		}
	})
	t.Run("AD-05", func(t *testing.T) {
		for _, file := range []string{
			"users: [{email: eve@example.com, role: owner}]",
			"clients: [{client_id: mcp_bot, client_name: Bot, approved_at: 2026-01-01, secret_hash: x}]",
			"resources: [{identifier: " + s.URL + "/admin/api, name: Mine}]", "groups: [{name: staff, role: owner}]",
		} {
			if reply := apply(ops, file); reply.Status != http.StatusUnprocessableEntity {
				t.Errorf("%s: %d %s", file, reply.Status, reply.Body)
			}
		}
	})
	t.Run("too large", func(t *testing.T) {
		if reply := apply(ops, "#"+strings.Repeat("x", 1<<20)); reply.Status != http.StatusRequestEntityTooLarge {
			t.Errorf("%d %s", reply.Status, reply.Body)
		}
	})
	t.Run("too many", func(t *testing.T) {
		var file strings.Builder
		file.WriteString("groups:\n")
		for i := range 5001 {
			fmt.Fprintf(&file, "  - name: g%d\n", i)
		}
		reply := plan(reader, file.String())
		if reply.Status != http.StatusUnprocessableEntity ||
			!strings.Contains(string(reply.Body), "at most 5000 at once") {
			t.Errorf("%d %s", reply.Status, reply.Body)
		}
	})
	t.Run("prune", func(t *testing.T) {
		planned := changes(plan(reader, "clients: []", "prune"))
		if n := changes(apply(ops, "clients: []", "prune")); n != planned || n == 0 {
			t.Errorf("%d changes, where the dry run tells %d", n, planned)
		}
		if reply := ops.call("GET", "/clients/mcp_bot", ""); reply.Status != http.StatusNotFound {
			t.Errorf("a client that is not in the file: %d", reply.Status)
		}
		if reply := ops.call("GET", "/clients/"+ops.ClientID, ""); reply.Status != http.StatusOK {
			t.Errorf("its own credentials: %d", reply.Status)
		}
	})
}

// A file is applied once for each Idempotency-Key, also by several at once, and the answer is kept without secrets.
func TestApplyOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock)
		ops := program(t, s, "cardea:*")
		key := servertest.Header("Idempotency-Key", "one")
		body := sent(t, declared, "secrets")
		replies := make([]*servertest.Reply, 4)
		var all sync.WaitGroup
		for i := range replies {
			all.Go(func() { replies[i] = ops.call("POST", "/apply", body, key) })
		}
		all.Wait()
		shown := 0
		for _, reply := range replies {
			if reply.Status != http.StatusOK || len(reply.JSON()["changes"].([]any)) != 3 {
				t.Errorf("%d %s", reply.Status, reply.Body)
			}
			if strings.Contains(string(reply.Body), "cardea_cs_") {
				shown++
			}
		}
		if shown != 1 {
			t.Errorf("the secret is in %d answers", shown)
		}
		if reply := ops.call("POST", "/apply", sent(t, "groups: []", "prune"), key); reply.Status !=
			http.StatusUnprocessableEntity {
			t.Errorf("the key of another request: %d %s", reply.Status, reply.Body)
		}
		if reply := ops.call("POST", "/apply", sent(t, "group: []"),
			servertest.Header("Idempotency-Key", "two")); reply.
			Status != http.StatusUnprocessableEntity {
			t.Errorf("a faulty file: %d", reply.Status)
		}
		if reply := ops.call("POST", "/apply", sent(t, "groups: [{name: other}]"),
			servertest.Header("Idempotency-Key", "two")); reply.Status != http.StatusOK {
			t.Errorf("a refused request used its key up: %d %s", reply.Status, reply.Body)
		}
		// One that applies the same file without a key at the same time finds it done.
		var counts []int
		for i := range replies {
			all.Go(func() { replies[i] = ops.call("POST", "/apply", sent(t, "groups: [{name: third}]")) })
		}
		all.Wait()
		for _, reply := range replies {
			counts = append(counts, len(reply.JSON()["changes"].([]any)))
		}
		slices.Sort(counts)
		if !slices.Equal(counts, []int{0, 0, 0, 1}) {
			t.Errorf("changes: %v", counts)
		}
	})
}
