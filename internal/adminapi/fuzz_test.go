package adminapi_test

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/cardea-auth/cardea/internal/adminapi"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// Whatever is sent by the schema, or nearly so, is not a fault of the server. CARDEA_API_FUZZ is the number of requests
// for each operation.
func TestNoFault(t *testing.T) {
	n := 40
	if text := os.Getenv("CARDEA_API_FUZZ"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock)
		s.Resource(servertest.MCP, "mcp:tools:weather")
		ada := s.User("ada@example.com")
		agent := s.Agent(t, nil)
		servertest.Registered(t, agent.Register(nil))
		agent.Connect(s.Browser(t), ada)
		ops := program(t, s, "cardea:*")
		ops.call("POST", "/groups", `{"name":"staff"}`)
		g := &generator{Rand: rand.New(rand.NewPCG(1, 2)), client: ops.ClientID, known: map[string][]string{}}
		done := map[string]int{}
		for round := range n { // each operation in turn, so that each meets what the others have made and ended
			if round%20 == 19 {
				clock.Advance(24 * time.Hour)
				if _, err := db.Sweep(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			for _, spec := range adminapi.Specs() {
				path, query, body := g.request(spec)
				var own []servertest.Tweak
				if g.IntN(4) == 0 {
					own = append(own,
						servertest.Header("Idempotency-Key",
							g.pick("a", "b", "💥", strings.Repeat("x", 300), oauth.NewID("k"))))
				}
				if g.IntN(8) == 0 {
					own = append(own,
						servertest.Header("If-Match", g.pick(`"a"`, "*", ",", "\\", strings.Repeat("x", 3000))))
				}
				if strings.HasPrefix(spec.Path, "/clients/{id}") { // not itself
					path = strings.ReplaceAll(path, ops.ClientID, "mcp_1")
				}
				if query != "" {
					path += "?" + query
				}
				reply := ops.call(spec.Method, path, body, own...) // which fails the test on a 5xx
				if reply.Status == http.StatusUnauthorized {       // the key has been retired
					ops.token = ops.ClientCredentials(servertest.With("resource", ops.Resource),
						servertest.With("scope", "cardea:*")).Text("access_token")
				}
				if reply.Status < 300 {
					done[spec.Name()]++
					g.harvest(spec, reply.Body)
				}
			}
		}
		var never []string
		for _, spec := range adminapi.Specs() {
			t.Logf("%s: %d of %d were done", spec.Name(), done[spec.Name()], n)
			if done[spec.Name()] == 0 {
				never = append(never, spec.Name())
			}
		}
		t.Log("never done:", never)
	})
}

// generator makes requests.
type generator struct {
	*rand.Rand
	client string
	known  map[string][]string // ids and names that were in answers, the last ones, by the collection
	sane   bool                // the request is to be one that a program would send
}

func (g *generator) pick(from ...string) string { return from[g.IntN(len(from))] }

// collection is the first segment of the path of an operation.
func collection(spec *adminapi.Spec) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(spec.Path, "/"), "/")
	return first
}

// harvest keeps what an answer calls its objects.
func (g *generator) harvest(spec *adminapi.Spec, body []byte) {
	const most = 30
	for _, found := range named.FindAllSubmatch(body, -1) {
		of := g.known[collection(spec)]
		if name := string(found[2]); !slices.Contains(of, name) {
			of = append(of, name)
		}
		g.known[collection(spec)] = of[max(0, len(of)-most):]
	}
}

// named are the members that name an object in paths.
var named = regexp.MustCompile(`"(id|client_id|kid|name|user_id)":"([^"\\]+)"`)

// meant returns a value that suits a member of that name, or nil if any text does.
func (g *generator) meant(name string) any {
	switch name {
	case "email":
		return oauth.NewID("p") + "@example.com"
	case "identifier":
		return "https://" + oauth.NewID("h") + ".example/mcp"
	case "name", "client_name":
		return oauth.NewID("n")
	case "redirect_uris":
		return []string{"https://app.example/" + oauth.NewID("cb")}
	case "grant_types":
		return []string{g.pick("authorization_code", "client_credentials")}
	case "groups":
		return g.known["groups"][:min(1, len(g.known["groups"]))]
	case "scope":
		return ""
	case "expires_in":
		return 3600
	}
	return nil
}

// parameter returns a value for a parameter in a path: mostly something that is there.
func (g *generator) parameter(spec *adminapi.Spec, name string) string {
	of := collection(spec)
	switch name {
	case "user":
		of = "users"
	case "passkey":
		of = "passkeys"
	}
	if known := g.known[of]; len(known) > 0 && g.IntN(4) > 0 {
		return g.pick(known...)
	}
	return g.word() + "x"
}

// word returns a text that somebody could send, or that is meant to break something.
func (g *generator) word() string {
	if g.IntN(4) == 0 {
		if of := g.known[g.pick("clients", "users", "groups", "resources", "grants", "events")]; len(of) > 0 {
			return g.pick(of...)
		}
	}
	return g.pick("https://app.example/cb", "https://"+oauth.NewID("h")+".example/mcp", oauth.NewID("p")+"@example.com",
		oauth.NewID("g"),
		"", "a", "staff", "ada@example.com", g.client, "res_1", "Weather", "https://a.example/mcp",
		servertest.MCP, "mcp:tools:weather", "cardea:*", "a b", "'; DROP TABLE clients; --", "%", "_", "\\", `"*"`, "*",
		"null", "0", "-1", "9223372036854775808", "1e400",
		"\u0000", "\ufeff", "\u202e", "💥", strings.Repeat("x", 300), strings.Repeat("é", 3000), "../..", "//",
		"http://[::1", "javascript:alert(1)", "2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "10000-01-01T00:00:00Z",
		"0001-01-01T00:00:00Z", "ES256", "none", "owner", "client_credentials",
		"authorization_code", "private_key_jwt", "\r\n", "\xff")
}

// request returns a request for an operation: its path, query and body.
func (g *generator) request(spec *adminapi.Spec) (path, query, body string) {
	g.sane = g.IntN(2) == 0
	path = spec.Path
	for name := range adminapi.InputSchema(spec).Properties {
		if strings.Contains(path, "{"+name+"}") {
			path = strings.ReplaceAll(path, "{"+name+"}",
				strings.ReplaceAll(url.PathEscape(g.parameter(spec, name)), "\xff", "%ff"))
		}
	}
	members := map[string]any{}
	values := url.Values{}
	if !g.sane {
		query = g.pick("", "", "limit=1&limit=2", "cursor="+strings.Repeat("A", 3000), "cursor=%ff", "%zz", "unknown=1")
	}
	hasBody := false
	if _, ok := spec.In.FieldByName("Body"); ok {
		hasBody = true
	}
	for name, property := range adminapi.InputSchema(spec).Properties {
		switch {
		case strings.Contains(spec.Path, "{"+name+"}"):
		case spec.Method == http.MethodGet:
			if query == "" && g.IntN(6) == 0 {
				values.Set(name, g.word())
			}
		case g.sane && !slices.Contains(adminapi.InputSchema(spec).Required, name) && g.IntN(4) > 0:
		case g.sane && g.meant(name) != nil:
			members[name] = g.meant(name)
		case g.IntN(3) > 0:
			members[name] = g.value(property, 0)
		}
	}
	if len(values) > 0 {
		query = values.Encode()
	}
	if !hasBody {
		return path, query, ""
	}
	if !g.sane && g.IntN(10) == 0 {
		return path, query, g.pick("{", "[]", "null", `{"a":1,"a":2}`, "\xff", strings.Repeat("[", 20000), "0", `""`)
	}
	text, err := json.Marshal(members)
	if err != nil {
		return path, query, "{}"
	}
	return path, query, string(text)
}

// value returns a value of a schema, or now and then of another.
func (g *generator) value(of *jsonschema.Schema, depth int) any {
	if of == nil || depth > 4 || !g.sane && g.IntN(12) == 0 {
		return []any{nil, true, -1, 1.5, 1e300, "x", []any{}, map[string]any{"a": map[string]any{"b": nil}}}[g.IntN(8)]
	}
	if len(of.Enum) > 0 && g.IntN(4) > 0 {
		return of.Enum[g.IntN(len(of.Enum))]
	}
	types := of.Types
	if of.Type != "" {
		types = []string{of.Type}
	}
	if len(types) == 0 {
		return g.word()
	}
	switch types[g.IntN(len(types))] {
	case "null":
		return nil
	case "string":
		return g.word()
	case "integer":
		return []any{0, 1, -1, 3600, 86400, int64(1) << 62, 1e18}[g.IntN(7)]
	case "number":
		return g.Float64()
	case "boolean":
		return g.IntN(2) == 0
	case "array":
		items := []any{}
		for range g.IntN(4) {
			items = append(items, g.value(of.Items, depth+1))
		}
		return items
	}
	object := map[string]any{}
	for name, property := range of.Properties {
		if g.IntN(3) > 0 {
			object[name] = g.value(property, depth+1)
		}
	}
	if len(of.Properties) == 0 {
		object["keys"] = []any{map[string]any{"kty": g.word(), "crv": g.word(), "x": g.word()}}
	}
	return object
}
