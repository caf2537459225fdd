package adminapi_test

import (
	"crypto/sha256"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

const resource = `{"identifier":"https://mcp.example.com/mcp","name":"Weather","scopes":[{"name":"mcp:tools:weather"}]}`

// AD-05: what is not what the document says is refused, and the place is named.
func TestInput(t *testing.T) {
	s := servertest.Start(t)
	ops := program(t, s, "cardea:*")
	id := ops.call("POST", "/resources", resource).Text("id")
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		location, message        string
	}{
		{"AD-05 unknown", "POST", "/clients", `{"client_name":"A","secret_hash":"x"}`, 422,
			"body.secret_hash", "unknown"},
		{"AD-05 mistyped", "POST", "/clients", `{"client_nam":"A","client_name":"B"}`, 422, "body.client_nam",
			`the nearest is "client_name"`},
		{"AD-05 deeper", "POST", "/resources", `{"identifier":"https://a.example","scopes":[{"nam":"x"}]}`, 422,
			"body.scopes[0].nam", `the nearest is "name"`},
		{"AD-05 another case", "POST", "/clients", `{"client_name":"A","Scope":"x"}`, 422, "body.Scope",
			`the nearest is "scope"`},
		{"AD-05 twice", "POST", "/clients", `{"client_name":"A","client_name":"B"}`, 400, "body.client_name",
			"more than once"},
		{"AD-05 twice, escaped", "POST", "/clients", `{"client_name":"A","client\u005fname":"B"}`, 400,
			"body.client_name", "more than once"},
		{"bad UTF-8", "POST", "/clients", "{\"client_name\":\"\xff\"}", 400, "body.client_name",
			"not valid JSON in UTF-8"},
		{"NUL", "POST", "/clients", `{"client_name":"a\u0000b"}`, 400, "body.client_name", "NUL"},
		{"deep", "POST", "/clients",
			`{"jwks":` + strings.Repeat(`{"a":`, 10000) + "1" + strings.Repeat("}", 10000) + "}", 400, "body", "deep"},
		{"long", "POST", "/clients", `{"client_name":"` + strings.Repeat("a", 1<<20) + `"}`, 413, "body", "longer"},
		{"another type", "POST", "/clients", `{"client_name":1}`, 422, "body.client_name", "must be a string"},
		{"an array", "POST", "/clients", `[]`, 400, "body", "object"},
		{"two values", "POST", "/clients", `{"client_name":"A"}{}`, 400, "body", ""},
		{"nothing", "POST", "/clients", "", 400, "body", "missing"},
		{"a member is missing", "POST", "/clients", "{}", 422, "body.client_name", "missing"},
		{"a rule", "POST", "/clients", `{"client_name":"A","grant_types":["password"]}`, 422,
			"body.grant_types", "unknown"},
		{"a word of a member", "POST", "/clients", `{"name":"A"}`, 422, "body.name", `the nearest is "client_name"`},
		{"the member that a rule names", "POST", "/clients", `{"client_name":"` + strings.Repeat("a", 600) +
			`","grant_types":["client_credentials"],"any_resource":true}`, 422, "body.client_name", "at most 512 bytes"},
		{"one of two members for keys", "POST", "/clients", `{"client_name":"A","grant_types":["client_credentials"],` +
			`"any_resource":true,"jwks_uri":"http://a.example/"}`, 422, "body.jwks_uri", "https URL"},
		{"a length of time", "PATCH", "/resources/" + id, `{"access_token_ttl":9223372036854775807}`, 422,
			"body.access_token_ttl", ""},
		{"AD-08 a name that turns around", "PATCH", "/resources/" + id, "{\"name\":\"\u202egro.live\"}", 422,
			"body.name", "one line"},
		{"AD-08 words of two lines", "PATCH", "/resources/" + id,
			`{"scopes":[{"name":"a","description":"Read.\n\u001b[2J"}]}`, 422, "body.scopes", "one line"},
		{"unknown parameter", "GET", "/clients?limt=3", "", 400, "query.limt", `the nearest is "limit"`},
		{"a parameter twice", "GET", "/clients?limit=3&limit=4", "", 400, "query.limit", "more than once"},
		{"no number", "GET", "/clients?limit=x", "", 400, "query.limit", "number"},
		{"negative", "GET", "/clients?limit=-1", "", 400, "query.limit", "number"},
		{"no cursor of ours", "GET", "/clients?cursor=" + strings.Repeat("A", 1000), "", 400, "query.cursor", "cursor"},
		{"NUL in a parameter", "GET", "/events?client=%00", "", 400, "query.client", "NUL"},
		{"year 10000", "GET", "/events?since=10000-01-01T00:00:00Z", "", 400, "query.since", "RFC 3339"},
		{"none of the outcomes", "GET", "/events?outcome=maybe", "", 400, "query.outcome", "allowed, refused"},
		{"a body where none is", "POST", "/clients/x/enable", `{"a":1}`, 400, "body", "no body"},
		{"a body that says nothing", "POST", "/clients/x/enable", " { }", 404, "", ""},
		{"not there", "GET", "/resources/res_nothing", "", 404, "", ""},
		{"there already", "POST", "/resources", resource, 409, "body.identifier", "already"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reply := ops.call(tt.method, tt.path, tt.body)
			if reply.Status != tt.status || reply.Header.Get("Content-Type") != "application/problem+json" {
				t.Fatalf("%d %s %.300s, want %d", reply.Status, reply.Header.Get("Content-Type"), reply.Body, tt.status)
			}
			location, message := "", ""
			if faults, ok := reply.JSON()["errors"].([]any); ok && len(faults) > 0 {
				location = faults[0].(map[string]any)["location"].(string)
				message = faults[0].(map[string]any)["message"].(string)
			}
			if location != tt.location || !strings.Contains(message, tt.message) {
				t.Errorf("%s: %s; want %s: … %s", location, message, tt.location, tt.message)
			}
			for _, leak := range []string{"SQL", "goroutine", ".go:", "sqlite", "internal/"} { // AD-21
				if strings.Contains(string(reply.Body), leak) {
					t.Errorf("AD-21: %s", reply.Body)
				}
			}
		})
	}
	reply := ops.call("POST", "/clients", "a=b", servertest.Header("Content-Type", "application/x-www-form-urlencoded"))
	if reply.Status != http.StatusUnsupportedMediaType {
		t.Errorf("a form: %d %s", reply.Status, reply.Body)
	}
}

// Every list is searched by q, by the beginning of a name or by an id.
func TestSearchEveryList(t *testing.T) {
	s := servertest.StartMCP(t)
	ops := program(t, s, "cardea:*")
	s.Agent(t, s.Client()).Connect(s.Browser(t), s.User("ada@example.com"))
	ops.call("POST", "/groups", `{"name":"staff"}`)
	first := func(noun, member string) string {
		return ops.call("GET", "/"+noun, "").JSON()["items"].([]any)[0].(map[string]any)[member].(string)
	}
	for noun, q := range map[string]string{
		"resources": first("resources", "name")[:3], "clients": first("clients", "client_id"), "users": "ADA",
		"groups": "st", "grants": first("grants", "id"), "sessions": first("sessions", "id"),
		"keys": first("keys", "kid")[:10], "events": first("events", "id"), "settings": "Issuer", "providers": "",
	} {
		found := ops.call("GET", "/"+noun+"?limit=5&q="+url.QueryEscape(q), "")
		if items, ok := found.JSON()["items"].([]any); !ok || q != "" && len(items) != 1 {
			t.Errorf("%s that begin with %q: %d %s", noun, q, found.Status, found.Body)
		}
		none := ops.call("GET", "/"+noun+"?q=nothing-of-the-kind", "")
		if items, ok := none.JSON()["items"].([]any); !ok || len(items) != 0 {
			t.Errorf("%s that are not there: %d %s", noun, none.Status, none.Body)
		}
	}
	for _, both := range []string{"/grants?q=x&live=true", "/sessions?q=x&user=y", "/events?q=x&action=y"} {
		if reply := ops.call("GET", both, ""); reply.Status != 422 || !strings.Contains(string(reply.Body), "query.q") {
			t.Errorf("%s: %d %s", both, reply.Status, reply.Body)
		}
	}
}

// The verbs in addresses are those of the commands; those of tools and events are understood too.
func TestVerbsOfTheCommands(t *testing.T) {
	s := servertest.Start(t)
	ops := program(t, s, "cardea:*")
	client := ops.call("POST", "/clients",
		`{"client_name":"A","grant_types":["client_credentials"],"any_resource":true}`).Text("client_id")
	for _, path := range []string{"/rotate-secret", "/rotate_secret"} {
		if reply := ops.call("POST", "/clients/"+client+path, ""); reply.Text("client_secret") == "" {
			t.Errorf("%s: %d %s", path, reply.Status, reply.Body)
		}
	}
	ada := s.User("ada@example.com")
	for _, body := range []string{"", "{}"} {
		reply := ops.call("POST", "/users/"+ada.ID+"/reset-password", body)
		if !strings.Contains(reply.Text("link"), "/reset#") {
			t.Errorf("%q: %d %s", body, reply.Status, reply.Body)
		}
	}
}

// AD-06: a patch changes what it names, null is the default, and the rules judge the result.
func TestPatch(t *testing.T) {
	s := servertest.Start(t)
	ops := program(t, s, "cardea:*")
	id := ops.call("POST", "/resources", resource).Text("id")
	made := ops.call("POST", "/clients",
		`{"client_name":"App","grant_types":["authorization_code"],"redirect_uris":["https://a.example/cb"],`+
			`"scope":"mcp:tools:weather","access_token_ttl":60}`)
	client := made.Text("client_id")
	patch := func(path, body string, status int) *servertest.Reply {
		t.Helper()
		reply := ops.call("PATCH", path, body, servertest.Header("Content-Type", "application/merge-patch+json"))
		if reply.Status != status {
			t.Errorf("%s: %d %s, want %d", body, reply.Status, reply.Body, status)
		}
		return reply
	}
	if reply := patch("/clients/"+client, `{"client_name":"New"}`, 200); reply.Text("client_name") != "New" ||
		reply.Text("scope") != "mcp:tools:weather" || reply.JSON()["access_token_ttl"] != 60.0 {
		t.Errorf("%s", reply.Body)
	}
	if reply := patch("/clients/"+client, `{"scope":null,"access_token_ttl":null}`, 200); reply.Text("scope") != "" ||
		reply.JSON()["access_token_ttl"] != 0.0 {
		t.Errorf("%s", reply.Body)
	}
	patch("/clients/"+client, `{"redirect_uris":null}`, 422) // what is left could do nothing
	// AD-06: a machine is bound to resources
	patch("/clients/"+client, `{"grant_types":["client_credentials"]}`, 422)
	patch("/clients/"+client, `{"token_endpoint_auth_method":"none"}`, 422)        // AD-06: it does not become public
	patch("/clients/"+client, `{"origin":"registration","approved_at":null}`, 422) // AD-05
	if reply := patch("/resources/"+id, `{"name":null}`, 200); reply.Text("name") != "mcp.example.com" {
		t.Errorf("%s", reply.Body)
	}
	// A client whose id is a URL is found by it.
	made = ops.call("POST", "/clients",
		`{"client_id":"https://app.example.com/client.json","client_name":"By URL",`+
			`"redirect_uris":["https://app.example.com/cb"]}`)
	if reply := ops.call("GET", "/clients/https%3A%2F%2Fapp.example.com%2Fclient.json", ""); made.Status != 201 ||
		reply.Status != 200 {
		t.Errorf("%d %s, %d %s", made.Status, made.Body, reply.Status, reply.Body)
	}
}

// AD-16: of two who change the same thing at once, the second is told.
func TestIfMatch(t *testing.T) {
	s := servertest.Start(t)
	ops := program(t, s, "cardea:*")
	s.User("ada@example.com")
	ops.call("POST", "/groups", `{"name":"staff"}`)
	for path, Change := range map[string]string{
		"/resources/" + ops.call("POST", "/resources", resource).
			Text("id"): `{"name":"B"}`,
		"/clients/" + ops.call("POST", "/clients", `{"client_name":"A","redirect_uris":["https://a.example/cb"]}`).
			Text("client_id"): `{"client_name":"B"}`,
		"/users/ada@example.com": `{"name":"B"}`,
		"/groups/staff":          `{"description":"B"}`,
	} {
		t.Run("AD-16 "+strings.Split(path, "/")[1], func(t *testing.T) {
			tag := ops.call("GET", path, "").Header.Get("ETag")
			first := ops.call("PATCH", path, Change, servertest.Header("If-Match", tag))
			if tag == "" || first.Status != 200 || first.Header.Get("ETag") == tag ||
				first.Header.Get("ETag") != ops.call("GET", path, "").Header.Get("ETag") {
				t.Fatalf("%s: %d %s %s", tag, first.Status, first.Header.Get("ETag"), first.Body)
			}
			for _, method := range []string{"PATCH", "DELETE"} {
				body := Change
				if method == "DELETE" {
					body = ""
				}
				reply := ops.call(method, path, body, servertest.Header("If-Match", tag))
				if reply.Status != http.StatusPreconditionFailed || reply.Text("error") != "stale" {
					t.Errorf("%s: %d %s", method, reply.Status, reply.Body)
				}
			}
			reply := ops.call("PATCH", path, Change, servertest.Header("If-Match",
				`"other", `+first.Header.Get("ETag")))
			if reply.Status != 200 {
				t.Errorf("one of two: %d %s", reply.Status, reply.Body)
			}
			if reply := ops.call("PATCH", path, Change, servertest.Header("If-Match", " ")); reply.Status != 400 ||
				!strings.Contains(string(reply.Body), "header.If-Match") {
				t.Errorf("none: %d %s", reply.Status, reply.Body)
			}
			if reply := ops.call("DELETE", path, "", servertest.Header("If-Match", "*")); reply.Status != 200 {
				t.Errorf("any: %d %s", reply.Status, reply.Body)
			}
		})
	}
}

// AD-16: an action on what somebody has changed since is not done either.
func TestIfMatchOfActions(t *testing.T) {
	s := servertest.Start(t, func(c *config.Config) { c.Registration.Approval = "required" })
	ops := program(t, s, "cardea:*")
	server := "/resources/" + ops.call("POST", "/resources", resource).Text("id")
	agent := s.Agent(t, nil)
	agent.RedirectURI = "http://127.0.0.1:33418/callback"
	agent.Register(map[string]any{"client_name": "Agent", "redirect_uris": []string{agent.RedirectURI},
		"token_endpoint_auth_method": "none"})
	client := "/clients/" + agent.ClientID
	stale := servertest.Header("If-Match", `"stale"`)
	for _, verb := range []string{server + "/review", client + "/block", client + "/approve", client + "/disable",
		client + "/dismiss"} {
		body := ""
		if strings.HasSuffix(verb, "/review") {
			body = `{"seen":[]}`
		}
		if reply := ops.call("POST", verb, body, stale); reply.Status != http.StatusPreconditionFailed {
			t.Errorf("AD-16 %s: %d %s", verb, reply.Status, reply.Body)
		}
	}
	tag := ops.call("GET", client, "").Header.Get("ETag")
	if reply := ops.call("POST", client+"/block", "", servertest.Header("If-Match", tag)); reply.Status != 200 {
		t.Errorf("%d %s", reply.Status, reply.Body)
	}
}

// A name that people read on a page has a bound, and no MCP server is where the administration of Cardea is.
func TestBoundsOfNames(t *testing.T) {
	s := servertest.Start(t)
	ops := program(t, s, "cardea:*")
	long, fits := strings.Repeat("é", 257), strings.Repeat("é", 256)
	for _, c := range []struct {
		path, body string
		status     int
	}{
		{"/resources", `{"identifier":"https://a.example/mcp","name":"` + long + `"}`, 422},
		{"/resources", `{"identifier":"https://a.example/mcp","name":"` + fits + `"}`, 201},
		{"/resources", `{"identifier":"https://b.example/mcp","scopes":[{"name":"b","description":"` + long + long + long +
			`"}]}`, 422},
		{"/clients", `{"client_name":"` + long + `","redirect_uris":["https://a.example/cb"]}`, 422},
		{"/clients", `{"client_name":"` + fits + `","redirect_uris":["https://a.example/cb"]}`, 201},
		{"/resources", `{"identifier":"` + s.URL + `/admin"}`, 422},
		{"/resources", `{"identifier":"` + s.URL + `/admin/api/v1","scopes":[{"name":"cardea:*"}]}`, 422},
		{"/resources/add", `{"identifier":"` + s.URL + `/admin/mcp/x","tools":[]}`, 422},
		{"/resources", `{"identifier":"` + s.URL + `/administrator"}`, 201},
	} {
		if reply := ops.call("POST", c.path, c.body); reply.Status != c.status {
			t.Errorf("AD-06 %.60s: %d %s", c.body, reply.Status, reply.Body)
		}
	}
}

// A request that is sent again with its key is done once.
func TestIdempotency(t *testing.T) {
	s := servertest.Start(t)
	ops := program(t, s, "cardea:*")
	other := program(t, s, "cardea:clients:write")
	key := servertest.Header("Idempotency-Key", "k-1")
	const body = `{"client_name":"A","redirect_uris":["https://a.example/cb"]}`
	refused := ops.call("POST", "/clients", `{"client_name":""}`, key)
	first := ops.call("POST", "/clients", body, key) // what was refused used up no key
	again := ops.call("POST", "/clients", body, key)
	if refused.Status != 422 || first.Status != 201 || first.Text("client_secret") == "" {
		t.Fatalf("%d %s, %d %s", refused.Status, refused.Body, first.Status, first.Body)
	}
	if again.Status != 201 || again.Text("client_id") != first.Text("client_id") ||
		strings.Contains(string(again.Body), "client_secret\"") {
		t.Errorf("again: %d %s", again.Status, again.Body)
	}
	reply := ops.call("POST", "/clients", `{"client_name":"B","redirect_uris":["https://a.example/cb"]}`, key)
	if reply.Status != 422 {
		t.Errorf("another body: %d %s", reply.Status, reply.Body)
	}
	if reply := other.call("POST", "/clients", body, key); reply.Status != 201 ||
		reply.Text("client_id") == first.Text("client_id") {
		t.Errorf("another caller: %d %s", reply.Status, reply.Body)
	}
	if reply := ops.call("POST", "/clients/"+first.Text("client_id")+"/rotate-secret", "", key); reply.Status != 200 ||
		reply.Text("client_secret") == "" {
		t.Errorf("another route: %d %s", reply.Status, reply.Body)
	}
	// A body may have a password, which nobody can guess from what is kept of it.
	const person = `{"email":"ada@example.com","password":"correct horse battery"}`
	for range 2 {
		if reply := ops.call("POST", "/users", person, key); reply.Status != 201 {
			t.Errorf("a person: %d %s", reply.Status, reply.Body)
		}
	}
	sum := sha256.Sum256([]byte(person))
	storetest.SecretsAtRest(t, s.DB, map[string]string{"the plain hash of a body": string(sum[:])})
	rotated := ops.call("POST", "/keys/rotate", "", key)
	if reply := ops.call("POST", "/keys/rotate", "", key); rotated.Status != 201 || reply.Status != 201 ||
		reply.Text("kid") != rotated.Text("kid") {
		t.Errorf("a key: %d %s, %d %s", rotated.Status, rotated.Body, reply.Status, reply.Body)
	}
}

// AD-10: no answer has a secret but the one that was made by it.
func TestSecrets(t *testing.T) {
	s := servertest.Start(t)
	ops := program(t, s, "cardea:*")
	s.User("ada@example.com")
	made := ops.call("POST", "/clients", `{"client_name":"A","redirect_uris":["https://a.example/cb"]}`)
	token := ops.call("POST", "/initial_access_tokens", `{"name":"Team"}`)
	for _, path := range []string{"/clients", "/clients/" + made.Text("client_id"), "/initial_access_tokens",
		"/initial_access_tokens/" + token.Text("id"), "/users",
		"/users/ada@example.com", "/keys", "/events", "/sessions", "/grants"} {
		reply := ops.call("GET", path, "")
		if reply.Status != 200 {
			t.Errorf("%s: %d %s", path, reply.Status, reply.Body)
		}
		for _, secret := range []string{
			made.Text("client_secret"), token.Text("token"), ops.Secret, "argon2", "secret_hash", "password", `"d":`,
			"sealed",
		} {
			if strings.Contains(string(reply.Body), secret) {
				t.Errorf("AD-10 %s has %q: %s", path, secret, reply.Body)
			}
		}
	}
}

// Pages: nothing is missed or shown twice, and a cursor is for its own list.
func TestPages(t *testing.T) {
	s := servertest.Start(t)
	ops := program(t, s, "cardea:*")
	for range 5 {
		s.Client()
	}
	seen := map[string]bool{}
	cursor, next := "", ""
	for pages := 0; pages < 10; pages++ {
		reply := ops.call("GET", "/clients?limit=2"+cursor, "")
		for _, item := range reply.JSON()["items"].([]any) {
			id := item.(map[string]any)["client_id"].(string)
			if seen[id] {
				t.Errorf("%s is shown twice", id)
			}
			seen[id] = true
		}
		if next = reply.Text("next"); next == "" {
			break
		}
		cursor = "&cursor=" + next
	}
	if len(seen) != 6 {
		t.Errorf("%d clients, want 6", len(seen))
	}
	first := ops.call("GET", "/events?limit=1", "").Text("next")
	for path, status := range map[string]int{
		"/events?limit=2&cursor=" + first: 200, "/events?limit=1&action=token&cursor=" + first: 400,
		"/clients?cursor=" + first: 400,
	} {
		if reply := ops.call("GET", path, ""); reply.Status != status {
			t.Errorf("%s: %d %s, want %d", path, reply.Status, reply.Body, status)
		}
	}
	if reply := ops.call("GET", "/clients?limit=100000", ""); reply.Status != 200 {
		t.Errorf("a long page: %d %s", reply.Status, reply.Body)
	}
}

// A list whose entries have names is searched by their beginning; no other list takes q.
func TestSearch(t *testing.T) {
	s := servertest.Start(t)
	ops := program(t, s, "cardea:*")
	s.User("ada@example.com")
	s.User("adam@example.com")
	ops.call("POST", "/resources", resource)
	ops.call("POST", "/groups", `{"name":"staff"}`)
	ops.call("POST", "/clients", `{"client_name":"App of Ada","redirect_uris":["https://a.example/cb"]}`)
	found := func(path string) (names []string) {
		t.Helper()
		for next := ""; ; {
			reply := ops.call("GET", path+"&limit=1"+next, "")
			if reply.Status != http.StatusOK {
				t.Fatalf("%s: %d %s", path, reply.Status, reply.Body)
			}
			for _, item := range reply.JSON()["items"].([]any) {
				of := item.(map[string]any)
				for _, key := range []string{"email", "client_name", "name"} {
					if name, ok := of[key].(string); ok && name != "" {
						names = append(names, name)
						break
					}
				}
			}
			if next = reply.Text("next"); next == "" {
				return names
			}
			next = "&cursor=" + next
		}
	}
	for path, want := range map[string]string{
		"/users?q=ADA": "ada@example.com adam@example.com", "/users?q=ada%40": "ada@example.com", "/users?q=da": "",
		"/resources?q=weath": "Weather", "/resources?q=https://mcp.example.": "Weather", "/resources?q=rain": "",
		"/groups?q=St": "staff", "/groups?q=t": "",
		"/clients?q=app%20of": "App of Ada", "/clients?q=app&origin=operator": "App of Ada",
		"/clients?q=app&origin=document": "", "/clients?q=of": "",
	} {
		if got := strings.Join(found(path), " "); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	for _, path := range []string{"/initial_access_tokens", "/clients/waiting", "/clients/blocks"} {
		reply := ops.call("GET", path+"?q=a", "")
		if reply.Status != http.StatusBadRequest || !strings.Contains(string(reply.Body), `"query.q"`) {
			t.Errorf("%s: %d %s", path, reply.Status, reply.Body)
		}
	}
	reply := ops.call("GET", "/users?q="+strings.Repeat("a", 201), "")
	if reply.Status != http.StatusUnprocessableEntity || !strings.Contains(string(reply.Body), `"query.q"`) {
		t.Errorf("a long text: %d %s", reply.Status, reply.Body)
	}
	cursor := ops.call("GET", "/users?q=ada&limit=1", "").Text("next")
	if reply := ops.call("GET", "/users?q=adam&limit=1&cursor="+cursor, ""); reply.Status != http.StatusBadRequest {
		t.Errorf("the cursor of another search: %d %s", reply.Status, reply.Body)
	}
}

// Events are filtered by everything that surface and commands know, alone and all together.
func TestEventFilters(t *testing.T) {
	s := servertest.Start(t)
	ops := program(t, s, "cardea:*")
	made := ops.call("POST", "/resources", resource)
	ops.call("GET", "/users/nobody", "")
	program(t, s, "cardea:clients:read").call("GET", "/users", "") // which is refused
	list := func(query string) []any {
		t.Helper()
		reply := ops.call("GET", "/events?"+query, "")
		if reply.Status != http.StatusOK {
			t.Fatalf("%s: %d %s", query, reply.Status, reply.Body)
		}
		return reply.JSON()["items"].([]any)
	}
	event := list("action=resource.create")[0].(map[string]any)
	if event["resource"] != "https://mcp.example.com/mcp" || event["request_id"] != made.Header.Get("X-Request-Id") {
		t.Fatalf("%v", event)
	}
	at, err := time.Parse(time.RFC3339Nano, event["at"].(string))
	if err != nil {
		t.Fatal(err)
	}
	since := "since=" + url.QueryEscape(at.Format(time.RFC3339Nano))
	until := "until=" + url.QueryEscape(at.Add(time.Microsecond).Format(time.RFC3339Nano))
	address := "address=" + url.QueryEscape(event["address"].(string))
	request := "request_id=" + url.QueryEscape(event["request_id"].(string))
	all := []string{"action=resource.create", "actor=client:" + ops.ClientID, "resource=" + made.Text("id"),
		"outcome=allowed", address, request, since, until}
	for _, filter := range append(all, strings.Join(all, "&"),
		"actor="+ops.ClientID+"&outcome=allowed&action=resource.") {
		found := false
		for _, one := range list(filter) {
			found = found || one.(map[string]any)["id"] == event["id"]
		}
		if !found {
			t.Errorf("%s does not find the event", filter)
		}
	}
	if got := list(strings.Join(all, "&")); len(got) != 1 {
		t.Errorf("all filters together: %v", got)
	}
	for _, filter := range []string{"action=resource.delete", "actor=client:nobody", "user=usr_nobody", "client=nobody",
		"resource=https://none.example", "grant=grt_none",
		"address=192.0.2.77", "request_id=none", "until=" + url.QueryEscape(at.Add(-time.Hour).Format(time.RFC3339)),
		"action=resource.create&outcome=refused"} {
		if got := list(filter); len(got) != 0 {
			t.Errorf("%s: %v", filter, got)
		}
	}
	if got := list("outcome=refused&action=users."); len(got) != 0 {
		t.Errorf("%v", got)
	}
	if got := list("outcome=refused"); len(got) == 0 || got[0].(map[string]any)["reason"] != "access_denied" {
		t.Errorf("refused: %v", got)
	}
}

// A path without an operation is also refused with problem+json.
func TestNoOperation(t *testing.T) {
	s := servertest.Start(t)
	ops := program(t, s, "cardea:*")
	for _, tt := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/admin/api/v1/things", http.StatusNotFound, ""},
		{"GET", "/admin/api/v1", http.StatusNotFound, ""},
		{"GET", "/admin/api", http.StatusNotFound, ""},
		{"POST", "/admin/api/v1/clients/x/explode", http.StatusNotFound, ""},
		{"GET", "/admin/mcp/more", http.StatusNotFound, ""},
		{"PUT", "/admin/api/v1/clients", http.StatusMethodNotAllowed, "GET, HEAD, POST"},
		{"POST", "/admin/api/v1/settings", http.StatusMethodNotAllowed, "GET, HEAD"},
		{"POST", "/admin/api/openapi.json", http.StatusMethodNotAllowed, "GET, HEAD"},
		{"GET", "/admin/mcp", http.StatusMethodNotAllowed, "POST"},
	} {
		reply := ops.Get(tt.path, servertest.Method(tt.method), servertest.Bearer(ops.token))
		if reply.Status != tt.status || reply.Header.Get("Content-Type") != "application/problem+json" ||
			reply.Text("detail") == "" || reply.Header.Get("Allow") != tt.allow {
			t.Errorf("%s %s: %d %v %s", tt.method, tt.path, reply.Status, reply.Header, reply.Body)
		}
	}
}
