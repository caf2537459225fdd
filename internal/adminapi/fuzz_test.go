package adminapi_test

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/cardea-auth/cardea/internal/adminapi"
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
		s.User("ada@example.com")
		ops := program(t, s, "cardea:*")
		ops.call("POST", "/groups", `{"name":"staff"}`)
		g := generator{rand.New(rand.NewPCG(1, 2)), ops.ClientID}
		for _, spec := range adminapi.Specs() {
			t.Run(spec.Name(), func(t *testing.T) {
				done := 0
				for range n {
					path, query, body := g.request(spec)
					var own []servertest.Tweak
					if g.IntN(4) == 0 {
						own = append(own,
							servertest.Header("Idempotency-Key", g.pick("a", "b", "💥", strings.Repeat("x", 300))))
					}
					if g.IntN(4) == 0 {
						own = append(own,
							servertest.Header("If-Match", g.pick(`"a"`, "*", ",", "\\", strings.Repeat("x", 3000))))
					}
					if spec.Path == "/clients/{id}" || strings.HasPrefix(spec.Path, "/clients/{id}/") { // not itself
						path = strings.ReplaceAll(path, ops.ClientID, "mcp_1")
					}
					if query != "" {
						path += "?" + query
					}
					reply := ops.call(spec.Method, path, body, own...) // which fails the test on a 5xx
					if reply.Status < 300 {
						done++
					}
				}
				t.Logf("%d of %d were done", done, n)
			})
		}
	})
}

// generator makes requests.
type generator struct {
	*rand.Rand
	client string
}

func (g generator) pick(from ...string) string { return from[g.IntN(len(from))] }

// word returns a text that somebody could send, or that is meant to break something.
func (g generator) word() string {
	return g.pick("", "a", "staff", "ada@example.com", g.client, "res_1", "Weather", "https://a.example/mcp",
		servertest.MCP, "mcp:tools:weather", "cardea:*", "a b", "'; DROP TABLE clients; --", "%", "_", "\\", `"*"`, "*",
		"null", "0", "-1", "9223372036854775808", "1e400",
		"\u0000", "\ufeff", "\u202e", "💥", strings.Repeat("x", 300), strings.Repeat("é", 3000), "../..", "//",
		"http://[::1", "javascript:alert(1)", "2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "10000-01-01T00:00:00Z",
		"0001-01-01T00:00:00Z", "ES256", "none", "owner", "client_credentials",
		"authorization_code", "private_key_jwt", "\r\n", "\xff")
}

// request returns a request for an operation: its path, query and body.
func (g generator) request(spec *adminapi.Spec) (path, query, body string) {
	path = spec.Path
	for name := range adminapi.InputSchema(spec).Properties {
		path = strings.ReplaceAll(path, "{"+name+"}", strings.ReplaceAll(url.PathEscape(g.word()+"x"), "\xff", "%ff"))
	}
	members := map[string]any{}
	values := url.Values{}
	query = g.pick("", "", "limit=1&limit=2", "cursor="+strings.Repeat("A", 3000), "cursor=%ff", "%zz", "unknown=1")
	hasBody := false
	if _, ok := spec.In.FieldByName("Body"); ok {
		hasBody = true
	}
	for name, property := range adminapi.InputSchema(spec).Properties {
		switch {
		case strings.Contains(spec.Path, "{"+name+"}"):
		case spec.Method == http.MethodGet:
			if query == "" && g.IntN(3) == 0 {
				values.Set(name, g.word())
			}
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
	if g.IntN(20) == 0 {
		return path, query, g.pick("{", "[]", "null", `{"a":1,"a":2}`, "\xff", strings.Repeat("[", 20000), "0", `""`)
	}
	text, err := json.Marshal(members)
	if err != nil {
		return path, query, "{}"
	}
	return path, query, string(text)
}

// value returns a value of a schema, or now and then of another.
func (g generator) value(of *jsonschema.Schema, depth int) any {
	if of == nil || depth > 4 || g.IntN(12) == 0 {
		return []any{nil, true, -1, 1.5, 1e300, "x", []any{}, map[string]any{"a": map[string]any{"b": nil}}}[g.IntN(8)]
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
