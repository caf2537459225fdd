package gateway_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func call(id, tool, arguments string) string {
	return `{"jsonrpc":"2.0","id":` + id +
		`,"method":"tools/call","params":{"name":"` + tool + `","arguments":` + arguments + `}}`
}

// A server may repeat the id of the session in each answer, as the official ones for Node and Python do. The official
// client for Go takes another id for another session.
func TestItem11RepeatedIDs(t *testing.T) {
	server := official(nil)
	w := start(t, files, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id := r.Header.Get("Mcp-Session-Id"); id != "" {
			w.Header().Set("Mcp-Session-Id", id)
		}
		server.ServeHTTP(w, r)
	}))
	works(t, w.connect("/files", w.token("/files", "files:read"), nil), "ask open read_file read_other slow")
}

// The official client works through the gateway, in both eras, and sees only what its person may use.
func TestOfficialClient(t *testing.T) {
	for name, options := range map[string]*mcp.StreamableHTTPOptions{
		"sessions": nil, "stateless": {Stateless: true}, "json": {JSONResponse: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, files, official(options))
			session := w.connect("/files", w.token("/files", "files:read"), nil)
			t.Log("revision:", session.InitializeResult().ProtocolVersion)
			works(t, session, "ask open read_file read_other slow")
			if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "delete_file"}); err == nil {
				t.Error("a tool that no rule names could be called")
			}
		})
	}
}

func TestItem01SameBytes(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	token := w.token("/files", "files:read")
	body := ` {"jsonrpc" : "2.0", "id":"\u0061","method":"tools\/call",` +
		`"params":{"_meta":{"x":[1.0e1]},"name":"read_file",` +
		`"arguments":{"path":"\ud83d\ude00"},"unknown":{"b":1,"a":2}}}` + "\n"
	if r := w.post("/files", token, body); r.status != http.StatusOK {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if got := w.server.last().body; got != body {
		t.Errorf("the server got %q", got)
	}
	hits := w.server.hits()
	for name, body := range map[string]string{
		"member twice":         `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_file","name":"delete_file"}}`,
		"escaped member twice": `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_file","n\u0061me":"delete_file"}}`,
		"case":                 `{"jsonrpc":"2.0","id":1,"Method":"tools/call","method":"ping"}`,
		"long s":               `{"jsonrpc":"2.0","id":1,"method":"ping","param\u017f":{}}`,
		"NUL":                  `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_file","name\u0000":"x"}}`,
		"not UTF-8":            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"p\xffing\"}",
		"BOM":                  "\ufeff" + `{"jsonrpc":"2.0","id":1,"method":"ping"}`,
		"trailing data":        `{"jsonrpc":"2.0","id":1,"method":"ping"}{}`,
		"deep": `{"jsonrpc":"2.0","id":1,"method":"ping","params":` +
			strings.Repeat(`{"a":`, 200) + `1` + strings.Repeat(`}`, 200) + `}`,
	} {
		if r := w.post("/files", token, body); r.status != http.StatusBadRequest || r.code() == 0 {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	if w.server.hits() != hits {
		t.Error("the server was touched")
	}
	long := `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"` + strings.Repeat("x", 4<<20) + `"}}`
	if r := w.post("/files", token, long); r.status != http.StatusRequestEntityTooLarge {
		t.Errorf("a long body: %d", r.status)
	}
}

func TestItem02GW22BodyDecides(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	token := w.token("/files", "files:read")
	for _, version := range []string{"", "2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"} {
		headers := []string{"MCP-Protocol-Version", version}
		if version == "" {
			headers = nil
		}
		r := w.post("/files", token, call("1", "delete_file", "{}"), headers...)
		if r.status != http.StatusOK || r.code() != -32601 {
			t.Errorf("closed tool at %s: %d %s", version, r.status, r.body)
		}
		r = w.post("/files", token, call("1", "write_file", `{"path":"/data/x"}`), headers...)
		if r.status != http.StatusForbidden {
			t.Errorf("scope missing at %s: %d %s", version, r.status, r.body)
		}
	}
	modern := []string{"MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name"}
	r := w.post("/files", token, call("1", "delete_file", "{}"), append(modern, "delete_file")...)
	if r.status != http.StatusNotFound || r.code() != -32601 {
		t.Errorf("closed tool at 2026-07-28: %d %s", r.status, r.body)
	}
	r = w.post("/files", token, call("1", "delete_file", "{}"), append(modern, "read_file")...)
	if r.status != http.StatusBadRequest || r.code() != -32020 {
		t.Errorf("lying Mcp-Name: %d %s", r.status, r.body)
	}
	if w.server.hits() > 0 {
		t.Error("the server was touched")
	}
	for _, name := range []string{"Read_file", "read_file ", "delete_file\u200b", "ｒead_file", "re\u0301ad_file"} {
		if r := w.post("/files", token, call("1", name, "{}")); name != "read_file " && r.code() != -32601 {
			t.Errorf("%q: %d %s", name, r.status, r.body)
		}
	}
}

func TestItem03Batches(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	token := w.token("/files", "files:read")
	ok := call("1", "read_file", "{}")
	for name, tt := range map[string]struct {
		body, version string
		status        int
	}{
		"all allowed": {"[" + ok + "," + call("2", "read_other", "{}") + "]", "2025-03-26", http.StatusOK},
		"one closed": {"[" + ok + "," + call("2", "delete_file", "{}") + "]",
			"2025-03-26", http.StatusBadRequest},
		"one lacks a scope": {"[" + ok + "," + call("2", "write_file", "{}") + "]", "", http.StatusForbidden},
		"initialize":        {`[{"jsonrpc":"2.0","id":1,"method":"initialize"}]`, "2025-03-26", http.StatusBadRequest},
		"later revision":    {"[" + ok + "]", "2025-06-18", http.StatusBadRequest},
		"empty":             {"[]", "", http.StatusBadRequest},
	} {
		hits := w.server.hits()
		headers := []string{"MCP-Protocol-Version", tt.version}
		if tt.version == "" {
			headers = nil
		}
		r := w.post("/files", token, tt.body, headers...)
		if r.status != tt.status {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
		if touched := w.server.hits() > hits; touched != (tt.status == http.StatusOK) {
			t.Errorf("%s: touched: %t", name, touched)
		}
	}
}

func TestItem04Versions(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	token := w.token("/files", "")
	for _, version := range []string{"x", "2099-01-01", "2025-11-25 "} {
		r := w.post("/files", token, `{"jsonrpc":"2.0","id":7,"method":"ping"}`, "MCP-Protocol-Version", version)
		if version != "2025-11-25 " &&
			(r.status != http.StatusBadRequest || r.code() != -32022 || !strings.Contains(r.body, `"id":7`)) {
			t.Errorf("%q: %d %s", version, r.status, r.body)
		}
	}
	r := w.post("/files", token, `{"jsonrpc":"2.0","id":7,"method":"server/discover","params":{`+
		`"_meta":{"io.modelcontextprotocol/protocolVersion":"2025-11-25"}}}`,
		"MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "server/discover")
	if r.status != http.StatusBadRequest || r.code() != -32020 {
		t.Errorf("header and body differ: %d %s", r.status, r.body)
	}
}

func TestItem05GW14HostAndOrigin(t *testing.T) {
	w := start(t, files, official(nil))
	token := w.token("/files", "")
	ping := `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	port := w.public[strings.LastIndex(w.public, ":"):]
	for name, tt := range map[string]struct {
		header, value string
		refused       bool
	}{
		"Host": {"Host", "evil.example.com", true}, "Host with the port": {"Host", "evil.example.com" + port, true},
		"Origin": {"Origin", "https://evil.example.com", true}, "null": {"Origin", "null", true},
		"Host localhost": {"Host", "localhost" + port, false}, "own Origin": {"Origin", w.public, false},
	} {
		r := w.post("/files", token, ping, tt.header, tt.value)
		if (r.status == http.StatusForbidden) != tt.refused {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	w.initialize("/files", token)
	if got, want := w.server.last().host, w.server.Listener.Addr().String(); got != want {
		t.Errorf("the server's Host is %s, want %s", got, want)
	}
}

func TestItem06GW08GW09GW10Headers(t *testing.T) {
	w := start(t, strings.Replace(files, "    rules", `    upstream_headers: {Authorization: "Bearer of-the-gateway", X-User: gateway}
    rules`, 1), official(&mcp.StreamableHTTPOptions{Stateless: true}))
	token := w.token("/files", "files:read")
	r := w.post("/files", token, call("1", "read_file", "{}"), "Cookie", "a=b", "X-Forwarded-User", "root",
		"X_User", "root", "X-User", "root", "X-Forwarded-For", "1.2.3.4", "X-Forwarded-Uri", "/public",
		"Connection", "X-User", "Forwarded", "for=1.2.3.4",
		"Cardea-Identity", "root", "Proxy-Authorization", "Basic x", "X-Auth-Subject", "root")
	if r.status != http.StatusOK {
		t.Fatalf("%d %s", r.status, r.body)
	}
	got := w.server.last().header
	for name := range got {
		if !slices.Contains([]string{
			"Accept", "Authorization", "Content-Length", "Content-Type", "User-Agent", "X-User"}, name) {
			t.Errorf("the server got %s: %s", name, got[name])
		}
	}
	if got.Get("Authorization") != "Bearer of-the-gateway" || got.Get("X-User") != "gateway" {
		t.Errorf("the server got %v", got)
	}
	if strings.Contains(w.log.String(), token) {
		t.Error("the token is in the log")
	}
}

func TestItem07GW33GW34Challenges(t *testing.T) {
	w := start(t, files, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer resource_metadata="https://upstream.example.com/prm"`)
		w.Header().Set("Set-Cookie", "a=b")
		w.Header().Set("Server", "x")
		w.WriteHeader(http.StatusUnauthorized)
	}))
	metadata := w.public + "/.well-known/oauth-protected-resource/files"
	r := w.post("/files", "", call("1", "read_file", "{}"))
	want := `Bearer resource_metadata="` + metadata + `", scope="files:read files:write"`
	if got := r.header.Get("WWW-Authenticate"); r.status != 401 || got != want {
		t.Errorf("without a token: %d %s, want %s", r.status, got, want)
	}
	if r := w.send("GET", "/.well-known/oauth-protected-resource/files", "", ""); r.status != 200 ||
		!strings.Contains(r.body, `"resource":"`+w.public+`/files"`) {
		t.Errorf("metadata: %d %s", r.status, r.body)
	}
	r = w.post("/files", w.token("/files", "other"), call("1", "write_file", `{"path":"/data/x"}`))
	if got := r.header.Get("WWW-Authenticate"); r.status != 403 ||
		!strings.Contains(got, `error="insufficient_scope"`) ||
		!strings.Contains(got, `scope="other files:read files:write"`) {
		t.Errorf("scope missing: %d %s", r.status, got)
	}
	if w.server.hits() > 0 {
		t.Error("the server was touched")
	}
	r = w.post("/files", w.token("/files", "files:read"), call("1", "read_file", "{}"))
	if r.status != http.StatusBadGateway ||
		r.header.Get("WWW-Authenticate")+r.header.Get("Set-Cookie")+r.header.Get("Server") != "" {
		t.Errorf("the server's challenge: %d %v", r.status, r.header)
	}
}

func TestItem08ErrorCodes(t *testing.T) {
	w := start(t, files,
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusFound) }))
	token := w.token("/files", "files:read")
	if r := w.post("/files", token, call("1", "read_file", "{}")); r.code() != http.StatusBadGateway {
		t.Errorf("a redirect: %d %s", r.status, r.body)
	}
	if r := w.post("/files", token, call("1", "delete_file", "{}")); r.status >= 500 {
		t.Errorf("a decision: %d", r.status)
	}
	if r := w.post("/nowhere", token, "{}"); r.status != http.StatusNotFound || r.code() != http.StatusNotFound {
		t.Errorf("no server: %d %s", r.status, r.body)
	}
}
