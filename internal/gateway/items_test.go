package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/cardea-auth/cardea/guard/guardtest"
	"github.com/cardea-auth/cardea/internal/gateway"
)

const ping = `{"jsonrpc":"2.0","id":1,"method":"ping"}`

// meta is the _meta of a request of MCP 2026-07-28.
const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
	`"io.modelcontextprotocol/clientCapabilities":{},` +
	`"io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"}}`

// modern returns the headers of a request of MCP 2026-07-28.
func modern(method, name string) []string {
	headers := []string{"MCP-Protocol-Version", "2026-07-28", "Mcp-Method", method}
	if name != "" {
		headers = append(headers, "Mcp-Name", name)
	}
	return headers
}

// two is files, and the same server once more at /other.
var two = files + strings.NewReplacer("name: files", "name: other", "path: /files", "path: /other").Replace(files)

// data reads a stream up to the next event with data, and returns the data.
func data(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("the stream ended: %v", err)
		}
		if value, found := strings.CutPrefix(line, "data: "); found && strings.TrimSpace(value) != "" {
			return value
		}
	}
}

func TestItem11SessionsAreBound(t *testing.T) {
	w := start(t, two, official(nil))
	ada := w.token("/files", "files:read")
	session := w.initialize("/files", ada)
	if got := w.server.last().header.Get("Mcp-Session-Id"); got == session || got == "" {
		t.Errorf("the client knows the server's session %q", got)
	}
	for name, tt := range map[string]struct{ path, token string }{
		"another person": {"/files", w.as("eve", "/files", "files:read")},
		"another route":  {"/other", w.token("/other", "files:read")},
		"another client": {"/files",
			w.issuer.Token(guardtest.Claims{ClientID: "other", Audience: w.public + "/files", Scope: "files:read"})},
	} {
		hits := w.server.hits()
		for method, want := range map[string]int{"POST": 404, "GET": 405, "DELETE": 404} {
			body := ""
			if method == "POST" {
				body = ping
			}
			if r := w.send(method, tt.path, tt.token, body, "Mcp-Session-Id", session); r.status != want {
				t.Errorf("%s, %s: %d %s", name, method, r.status, r.body)
			}
		}
		if w.server.hits() != hits {
			t.Errorf("%s: the server was touched", name)
		}
	}
	if r := w.post("/files", ada, ping, "Mcp-Session-Id", session); r.status != http.StatusOK {
		t.Errorf("its own client: %d %s", r.status, r.body)
	}
}

func TestItem12LostSessions(t *testing.T) {
	w := start(t, files, official(nil))
	token := w.token("/files", "")
	session := w.initialize("/files", token)
	if r := w.send("DELETE", "/files", token, "", "Mcp-Session-Id", session); r.status != http.StatusNoContent {
		t.Errorf("DELETE: %d %s", r.status, r.body)
	}
	for _, id := range []string{session, "unknown", w.initialize("/files", token) + "x"} {
		if r := w.post("/files", token, ping, "Mcp-Session-Id", id); r.status != http.StatusNotFound {
			t.Errorf("POST: %d %s", r.status, r.body)
		}
		if r := w.send("GET", "/files", token, "", "Mcp-Session-Id", id); r.status != http.StatusMethodNotAllowed {
			t.Errorf("GET: %d %s", r.status, r.body)
		}
	}
	if r := w.send("GET", "/files", token, ""); r.status != http.StatusBadRequest {
		t.Errorf("GET without a session: %d %s", r.status, r.body)
	}
}

func TestItem13Streams(t *testing.T) {
	w := start(t, files, official(nil))
	token := w.token("/files", "")
	session := w.initialize("/files", token)
	response := w.open(t.Context(), "GET", "/files", token, "", "Mcp-Session-Id", session)
	defer response.Body.Close()
	if h := response.Header; h.Get("X-Accel-Buffering") != "no" ||
		!strings.Contains(h.Get("Cache-Control"), "no-cache") {
		t.Errorf("headers: %v", h)
	}
	if line, err := bufio.NewReader(response.Body).ReadString('\n'); err != nil || !strings.HasPrefix(line, ":") {
		t.Errorf("heartbeat: %q %v", line, err)
	}
	for name, handler := range map[string]http.HandlerFunc{
		"page": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html>")
		},
		"not found": http.NotFound,
	} {
		w := start(t, files, handler)
		if r := w.send("GET", "/files", w.token("/files", ""), ""); r.status != http.StatusMethodNotAllowed ||
			strings.Contains(r.body, "html") {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
}

func TestItem14Delete(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	if r := w.send("DELETE", "/files", w.token("/files", ""), "",
		"MCP-Protocol-Version", "2025-11-25"); r.status != http.StatusMethodNotAllowed {
		t.Errorf("a server without sessions: %d %s", r.status, r.body)
	}
}

func TestItem15GW28Resumption(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{EventStore: mcp.NewMemoryEventStore(nil)}))
	token, eve := w.token("/files", "files:read"), w.as("eve", "/files", "files:read")
	session := w.initialize("/files", token)
	r := w.post("/files", token, call("1", "read_file", `{"path":"/x"}`), "Mcp-Session-Id", session,
		"MCP-Protocol-Version", "2025-11-25")
	_, rest, found := strings.Cut(r.body, "id: ")
	if !found {
		t.Fatalf("no event id in %s", r.body)
	}
	id, _, _ := strings.Cut(rest, "\n")
	response := w.open(t.Context(), "GET", "/files", token, "", "Mcp-Session-Id", session, "Last-Event-ID", id,
		"MCP-Protocol-Version", "2025-11-25")
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("resumed: %d", response.StatusCode)
	}
	if got := data(t, bufio.NewReader(response.Body)); !strings.Contains(got, "read_file /x") {
		t.Errorf("resumed: %s", got)
	}
	if got := w.server.last().header.Get("Last-Event-Id"); got == id || got == "" {
		t.Errorf("the server got Last-Event-ID %q", got)
	}
	hers := w.initialize("/files", eve)
	if r := w.send("GET", "/files", eve, "", "Mcp-Session-Id", hers,
		"Last-Event-ID", id); r.status != http.StatusForbidden {
		t.Errorf("another person: %d %s", r.status, r.body)
	}
}

func TestItem16OneStream(t *testing.T) {
	s := officialServer()
	w := start(t, files, mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, nil))
	token := w.token("/files", "files:read")
	session := w.initialize("/files", token)
	response := w.open(t.Context(), "GET", "/files", token, "", "Mcp-Session-Id", session)
	defer response.Body.Close()
	if r := w.post("/files", token, call("1", "read_file", `{}`),
		"Mcp-Session-Id", session); !strings.Contains(r.body, "read_file") {
		t.Errorf("answer: %d %s", r.status, r.body)
	}
	s.RemoveTools("admin_x")
	if got := data(t, bufio.NewReader(response.Body)); !strings.Contains(got, "notifications/tools/list_changed") {
		t.Errorf("the other stream got %s", got)
	}
}

func TestItem17ServerRequests(t *testing.T) {
	for _, stateless := range []bool{false, true} {
		w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: stateless}))
		var all sync.WaitGroup
		for _, person := range []string{"ada", "bob"} {
			session := w.connect("/files", w.as(person, "/files", ""), &mcp.ClientOptions{
				ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
					return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": person}}, nil
				},
			})
			if stateless {
				continue
			}
			all.Go(func() {
				for range 10 {
					result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "ask"})
					if err != nil {
						t.Error(err)
						return
					}
					if got := result.Content[0].(*mcp.TextContent).Text; got != person {
						t.Errorf("%s was answered for %s", person, got)
					}
				}
			})
		}
		all.Wait()
	}
	w := start(t, files, official(nil))
	token := w.token("/files", "")
	session := w.initialize("/files", token)
	for name, body := range map[string]string{
		"notification": `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`,
		"response":     `{"jsonrpc":"2.0","id":99,"result":{}}`,
	} {
		if r := w.post("/files", token, body, "Mcp-Session-Id", session); r.status != http.StatusAccepted ||
			r.body != "" {
			t.Errorf("%s: %d %q", name, r.status, r.body)
		}
	}
}

func TestItem19Cancellation(t *testing.T) {
	w := start(t, files, official(nil))
	token := w.token("/files", "")
	session := w.initialize("/files", token)
	response := w.open(t.Context(), "POST", "/files", token,
		`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"slow","arguments":{},`+
			`"_meta":{"progressToken":"p"}}}`,
		"Mcp-Session-Id", session)
	defer response.Body.Close()
	r := bufio.NewReader(response.Body)
	if got := data(t, r); !strings.Contains(got, "notifications/progress") {
		t.Fatalf("first: %s", got)
	}
	if r := w.post("/files", token, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}`,
		"Mcp-Session-Id", session); r.status != http.StatusAccepted {
		t.Fatalf("cancelled: %d %s", r.status, r.body)
	}
	if _, err := io.ReadAll(r); err != nil { // ends, because the tool does
		t.Error(err)
	}
}

func TestItem20Ping(t *testing.T) {
	w := start(t, files, official(nil))
	token := w.token("/files", "")
	session := w.initialize("/files", token)
	hits := w.server.hits()
	if r := w.post("/files", token, ping, "Mcp-Session-Id", session); r.status != http.StatusOK ||
		w.server.hits() != hits+1 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := w.send("GET", "/healthz", "", "", "Host", "127.0.0.1"); r.status != http.StatusOK ||
		w.server.hits() != hits+1 {
		t.Errorf("health: %d %s", r.status, r.body)
	}
	if r := w.send("GET", "/readyz", "", ""); r.status != http.StatusOK {
		t.Errorf("readiness: %d %s", r.status, r.body)
	}
}

func TestItem21Stateless(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	token := w.token("/files", "files:read")
	for _, method := range []string{"GET", "DELETE"} {
		if r := w.send(method, "/files", token, "",
			"MCP-Protocol-Version", "2026-07-28"); r.status != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d %s", method, r.status, r.body)
		}
	}
	r := w.post("/files", token,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{`+meta+`,"name":"read_file","arguments":{}}}`,
		append(modern("tools/call", "read_file"), "Mcp-Session-Id", "x", "Last-Event-ID", "y")...)
	got := w.server.last().header
	if r.status != http.StatusOK ||
		got.Get("Mcp-Session-Id")+got.Get("Last-Event-Id")+r.header.Get("Mcp-Session-Id") != "" {
		t.Errorf("%d %s; the server got %v", r.status, r.body, got)
	}
	for _, method := range []string{
		"initialize", "ping", "logging/setLevel", "resources/subscribe", "invented/method", "tasks/list"} {
		r := w.post("/files", token,
			`{"jsonrpc":"2.0","id":"z","method":"`+method+`","params":{`+meta+`,"taskId":"x"}}`, modern(method, "")...)
		if r.status != http.StatusNotFound || r.code() != -32601 || !strings.Contains(r.body, `"id":"z"`) {
			t.Errorf("%s: %d %s", method, r.status, r.body)
		}
	}
}

func TestItem22RoutingHeaders(t *testing.T) {
	w := start(t, files, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
	}))
	token := w.token("/files", "files:read")
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{` + meta + `,"name":"read_file","arguments":{}}}`
	for name, tt := range map[string]struct {
		headers []string
		status  int
	}{
		"right":             {modern("tools/call", "read_file"), 200},
		"base64":            {modern("tools/call", "=?base64?cmVhZF9maWxl?="), 200},
		"no name":           {modern("tools/call", ""), 400},
		"no method":         {[]string{"MCP-Protocol-Version", "2026-07-28", "Mcp-Name", "read_file"}, 400},
		"another name":      {modern("tools/call", "read_other"), 400},
		"another in base64": {modern("tools/call", "=?base64?cmVhZF9vdGhlcg==?="), 400},
		"bad base64":        {modern("tools/call", "=?base64?!?="), 400},
		"another method":    {modern("tools/list", "read_file"), 400},
		"twice":             {append(modern("tools/call", "read_file"), "Mcp-Name", "read_file"), 400},
	} {
		hits := w.server.hits()
		r := w.post("/files", token, body, tt.headers...)
		if r.status != tt.status || tt.status == 400 && (r.code() != -32020 || w.server.hits() != hits) {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
}

func TestItem23Params(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{` + meta + `,"name":"read_file","arguments":{}}}`
	w.post("/files", w.token("/files", "files:read"), body,
		append(modern("tools/call", "read_file"), "Mcp-Param-Region", "eu")...)
	if got := w.server.last().header.Get("Mcp-Param-Region"); got != "eu" {
		t.Errorf("the server got %q", got)
	}
}

// Arguments are judged by the body, whatever headers say of them.
func TestItem23GW21LyingParams(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{` + meta +
		`,"name":"write_file","arguments":{"path":"/etc/x"}}}`
	r := w.post("/files", w.token("/files", "files:read files:write"), body,
		append(modern("tools/call", "write_file"), "Mcp-Param-Path", "/data/x")...)
	if r.code() != -32602 || w.server.hits() > 0 {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// What the server says of metadata and capabilities passes as it is.
func TestItem24Metadata(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{` +
		`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"},"name":"read_file"}}`
	r := w.post("/files", w.token("/files", "files:read"), body, modern("tools/call", "read_file")...)
	if r.status != http.StatusBadRequest || r.code() != -32602 {
		t.Errorf("without clientCapabilities: %d %s", r.status, r.body)
	}
}

func TestItem25GW46ServerErrors(t *testing.T) {
	const sent = `{"jsonrpc":"2.0","id":1,"error":{"code":-32021,"message":"m",` +
		`"data":{"requiredCapabilities":{"sampling":{}}}}}`
	w := start(t, files, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, sent)
	}))
	if r := w.post("/files", w.token("/files", "files:read"),
		call("1", "read_file", "{}")); r.status != http.StatusBadRequest || r.body != sent {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestItem26Discover(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	r := w.post("/files", w.token("/files", ""),
		`{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{`+meta+`}}`, modern("server/discover", "")...)
	if r.status != http.StatusOK || !strings.Contains(r.body, "supportedVersions") {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestItem27ResultTypes(t *testing.T) {
	const sent = `{"id":1,"jsonrpc":"2.0","result":{"resultType":"input_required","inputRequests":` +
		`{"a":{"method":"elicitation/create"}},"requestState":"s","tools":[{"name":"delete_file"}]}} `
	w := start(t, files, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, sent)
	}))
	if r := w.post("/files", w.token("/files", "files:read"), call("1", "read_file", "{}")); r.body != sent {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestItem28Retries(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	for tool, code := range map[string]int{"write_file": -32602, "delete_file": -32601} {
		body := `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{` + meta + `,"name":"` + tool +
			`","arguments":{"path":"/etc/x"},"requestState":"s","inputResponses":{"a":{"action":"accept"}}}}`
		r := w.post("/files", w.token("/files", "files:*"), body, modern("tools/call", tool)...)
		if r.code() != code || w.server.hits() > 0 {
			t.Errorf("%s: %d %s", tool, r.status, r.body)
		}
	}
}

// A retry that is allowed reaches the server byte by byte, and is judged by the token of the one who sends it.
func TestItem28RetriesPass(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	body := `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{` + meta + `,"name":"read_file",` +
		`"arguments":{"path":"/x"}, "requestState":"opaque \u00e9=","inputResponses":{"a":{"action":"accept"}}}}`
	headers := modern("tools/call", "read_file")
	if r := w.post("/files", w.as("eve", "/files", ""), body, headers...); r.status != http.StatusForbidden ||
		w.server.hits() > 0 {
		t.Errorf("without the scope: %d %s", r.status, r.body)
	}
	w.post("/files", w.as("ada", "/files", "files:read"), body, headers...)
	if w.server.hits() != 1 || w.server.last().body != body {
		t.Errorf("the server got %s", w.server.last().body)
	}
}

func TestItem29Listen(t *testing.T) {
	gone := make(chan struct{})
	w := start(t, files, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w,
			"event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\"}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(gone)
	}))
	token := w.token("/files", "files:read")
	listen := func(uris string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{` + meta +
			`,"notifications":{"toolsListChanged":true,"resourceSubscriptions":` + uris + `}}}`
	}
	headers := modern("subscriptions/listen", "")
	for _, uris := range []string{`["file:///data/a.txt","file:///etc/passwd"]`, `["file:///data/../etc/passwd"]`} {
		if r := w.post("/files", token, listen(uris), headers...); r.code() != -32601 || w.server.hits() > 0 {
			t.Errorf("%s: %d %s", uris, r.status, r.body)
		}
	}
	if r := w.post("/files", w.token("/files", ""), listen(`["file:///data/a.txt"]`),
		headers...); r.status != http.StatusForbidden {
		t.Errorf("scope missing: %d %s", r.status, r.body)
	}
	response := w.open(t.Context(), "POST", "/files", token, listen(`["file:///data/a.txt"]`), headers...)
	if got := data(t, bufio.NewReader(response.Body)); !strings.Contains(got, "acknowledged") {
		t.Errorf("first: %s", got)
	}
	response.Body.Close()
	<-gone // at once, because disconnecting cancels
}

func TestItem30ServerRequestsAreDropped(t *testing.T) {
	w := start(t, files, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"sampling/createMessage\"}\n\n"+
			"data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n")
	}))
	r := w.post("/files", w.token("/files", "files:read"),
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{`+meta+`,"name":"read_file"}}`,
		modern("tools/call", "read_file")...)
	if strings.Contains(r.body, "sampling") || !strings.Contains(r.body, "result") ||
		!strings.Contains(w.log.String(), "it was dropped") {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestItem31Caches(t *testing.T) {
	for _, kind := range []string{"application/json", "text/event-stream"} {
		w := start(t, files, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			body := `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"delete_file"},{"x":1.0,"name":"read_file"}],` +
				`"nextCursor":"","cacheScope":"public","ttlMs":3600000}}`
			if kind != "application/json" {
				body = "event: message\ndata: " + body + "\n\n"
			}
			_, _ = io.WriteString(w, body)
		}))
		r := w.post("/files", w.token("/files", "files:read"),
			`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{`+meta+`}}`, modern("tools/list", "")...)
		want := `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"x":1.0,"name":"read_file"}],` +
			`"nextCursor":"","cacheScope":"private","ttlMs":60000}}`
		if !strings.Contains(r.body, want) {
			t.Errorf("%s: %s", kind, r.body)
		}
	}
}

// A list on several lines of an event stays one list.
func TestItem32ListOnLines(t *testing.T) {
	w := start(t, files, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "event: message\r\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,"+
			"\"result\":{\"tools\":[{\"name\":\"delete_file\"},{\r\n"+
			"data: \"name\":\r\ndata:\"read_file\"}]}}\r\n\r\n")
	}))
	r := w.post("/files", w.token("/files", "files:read"), `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
	want := "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"tools\":[{\ndata: \"name\":\ndata: " +
		"\"read_file\"}]}}\n\n"
	if !strings.HasSuffix(r.body, want) {
		t.Errorf("%q", r.body)
	}
}

// names returns the names in a list of the gateway's answer, and the cursor after it.
func (r reply) names(list, member string) (names []string, cursor string) {
	var m struct{ Result map[string]json.RawMessage }
	_ = json.Unmarshal(r.message(), &m)
	var items []map[string]any
	_ = json.Unmarshal(m.Result[list], &items)
	for _, item := range items {
		names = append(names, fmt.Sprint(item[member]))
	}
	_ = json.Unmarshal(m.Result["nextCursor"], &cursor)
	return names, cursor
}

func TestItem32Lists(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	token := w.token("/files", "files:read")
	for method, tt := range map[string]struct {
		list, member string
		want         []string
	}{
		"prompts/list":             {"prompts", "name", []string{"greet"}},
		"resources/list":           {"resources", "uri", []string{"file:///data/a.txt"}},
		"resources/templates/list": {"resourceTemplates", "uriTemplate", []string{"file:///data/{name}"}},
	} {
		got, _ := w.post("/files", token, `{"jsonrpc":"2.0","id":1,"method":"`+method+`"}`).names(tt.list, tt.member)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", method, diff)
		}
	}
	if got, _ := w.post("/files", w.token("/files", ""),
		`{"jsonrpc":"2.0","id":1,"method":"resources/list"}`).names("resources", "uri"); got != nil {
		t.Errorf("without the scope: %v", got)
	}
}

func TestItem33OtherMethods(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	token := w.token("/files", "files:read")
	for name, tt := range map[string]struct {
		method, params string
		code           int
	}{
		"prompt": {"completion/complete",
			`{"ref":{"type":"ref/prompt","name":"greet"},"argument":{"name":"a","value":"b"}}`, 0},
		"closed prompt": {"completion/complete",
			`{"ref":{"type":"ref/prompt","name":"secret"},"argument":{"name":"a","value":"b"}}`, -32601},
		"template": {"completion/complete",
			`{"ref":{"type":"ref/resource","uri":"file:///data/{name}"},"argument":{"name":"name","value":"b"}}`, 0},
		"closed template": {"completion/complete",
			`{"ref":{"type":"ref/resource","uri":"file:///etc/{name}"},"argument":{"name":"name","value":"b"}}`, -32601},
		"unknown reference": {"completion/complete", `{"ref":{"type":"ref/tool","name":"x"}}`, -32602},
		"almost a reference": {"completion/complete",
			`{"ref":{"type":"ref/prompt","name":"greet","Name":"secret"}}`, -32602},
		"get":                 {"prompts/get", `{"name":"greet"}`, 0},
		"closed get":          {"prompts/get", `{"name":"secret"}`, -32601},
		"read":                {"resources/read", `{"uri":"file:///data/a.txt"}`, 0},
		"closed read":         {"resources/read", `{"uri":"file:///etc/passwd"}`, -32601},
		"dots":                {"resources/read", `{"uri":"file:///data/../etc/passwd"}`, -32601},
		"dots and a space":    {"resources/read", `{"uri":"file:///data/.. /etc/passwd"}`, -32601},
		"encoded dots":        {"resources/read", `{"uri":"file:///data/%2e%2e/etc/passwd"}`, -32601},
		"encoded slash":       {"resources/read", `{"uri":"file:///data/..%2fetc%2fpasswd"}`, -32601},
		"encoded twice":       {"resources/read", `{"uri":"file:///data/%252e%252e/etc/passwd"}`, -32601},
		"backslash":           {"resources/read", `{"uri":"file:///data/..\\etc"}`, -32601},
		"capital scheme":      {"resources/read", `{"uri":"FILE:///data/a.txt"}`, -32601},
		"subscribe":           {"resources/subscribe", `{"uri":"file:///etc/passwd"}`, -32601},
		"invented":            {"tools/execute", `{"name":"delete_file"}`, -32601},
		"almost a method":     {"Tools/Call", `{"name":"delete_file"}`, -32601},
		"tasks":               {"tasks/get", `{"taskId":"x"}`, -32602},
		"listen before 2026":  {"subscriptions/listen", `{}`, -32601},
		"log level":           {"logging/setLevel", `{"level":"info"}`, 0},
		"a directory further": {"resources/read", `{"uri":"file:///data/x/y"}`, -32601},
	} {
		hits := w.server.hits()
		r := w.post("/files", token, `{"jsonrpc":"2.0","id":1,"method":"`+tt.method+`","params":`+tt.params+`}`)
		if r.status != http.StatusOK || r.code() != tt.code || (w.server.hits() > hits) != (tt.code == 0) {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	read := `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///data/a.txt"}}`
	if r := w.post("/files", w.token("/files", ""), read); r.status != http.StatusForbidden {
		t.Errorf("scope missing: %d %s", r.status, r.body)
	}
}

func TestItem34Pages(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	token := w.token("/files", "files:read")
	var pages [][]string
	cursor := ""
	for {
		params := "{}"
		if cursor != "" {
			params = `{"cursor":"` + cursor + `"}`
		}
		var names []string
		names, cursor = w.post("/files", token,
			`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":`+params+`}`).names("tools", "name")
		pages = append(pages, names)
		if cursor == "" {
			break
		}
	}
	want := [][]string{nil, {"ask"}, {"open", "read_file"}, {"read_other", "slow"}, nil}
	if diff := cmp.Diff(want, pages); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
}

func TestItem36Names(t *testing.T) {
	w := start(t, two, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	for _, path := range []string{"/files", "/other"} {
		if r := w.post(path, w.token(path, "files:read"),
			call("1", "read_file", "{}")); !strings.Contains(r.body, "read_file") {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
		if r := w.post(path, w.token(path, "files:read"), call("1", "READ_FILE", "{}")); r.code() != -32601 {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	if r := w.post("/other", w.token("/files", "files:read"),
		call("1", "read_file", "{}")); r.status != http.StatusUnauthorized {
		t.Errorf("a token of another server: %d %s", r.status, r.body)
	}
}

func TestItem38Arguments(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	token := w.token("/files", "files:*")
	for arguments, allowed := range map[string]bool{
		`{"path":"/data/x"}`: true, `{"path":"/data/x/y.txt","other":1}`: true,
		`{"path":"/data"}`: true, `{"path":"/data/"}`: true,
		`{"path":"/data/../etc/x"}`: false, `{"path":"/data/.. /etc/x"}`: false, `{"path":"/data/. "}`: false,
		`{"path":"/data//x"}`: false, `{"path":"/database/x"}`: false,
		`{"path":"/etc/x"}`: false, `{"path":["/data/x"]}`: false, `{"path":null}`: false, `{}`: false,
		`{"Path":"/data/x"}`: false, `{"path":"/data/x","PATH":"/etc/x"}`: false, `{"path":"/data/./x"}`: false,
		`{"path":"/data/..\\x"}`: false, `{"path":"/data/x\u0000"}`: false, `null`: false, `{"path":"data/x"}`: false,
	} {
		r := w.post("/files", token, call("1", "write_file", arguments))
		if allowed != (r.code() == 0 && r.status == 200) ||
			!allowed && (r.code() != -32602 || !strings.Contains(r.body, "path")) {
			t.Errorf("%s: %d %s", arguments, r.status, r.body)
		}
	}
}

// Values are compared as they are written: a server may read more digits than float64 has.
func TestItem38Values(t *testing.T) {
	w := start(t, `
  - name: files
    path: /files
    upstream: "{upstream}"
    rules:
      - tools: [pay]
        scopes: []
        arguments: {to: {in: [9007199254740992, 18446744073709551617, 0.5, 2026-08-01, "x"]}}
`, answering("application/json", `{"jsonrpc":"2.0","id":1,"result":{}}`))
	for value, allowed := range map[string]bool{
		"9007199254740992": true, "9007199254740993": false, "9007199254740992.0": true, "90071992547409920e-1": true,
		"18446744073709551617": true, "18446744073709551616": false, "-9007199254740992": false,
		"0.50": true, "5e-1": true, "0.50000000000000000001": false,
		`"2026-08-01"`: true, `"x"`: true, `"\u0078"`: true, `"9007199254740992"`: false,
		"1e999999999999999999999": false, "0": false, "null": false, `["x"]`: false,
	} {
		r := w.post("/files", w.token("/files", ""), call("1", "pay", `{"to":`+value+`}`))
		if allowed != (r.code() == 0 && r.status == http.StatusOK) {
			t.Errorf("%s: %d %s", value, r.status, r.body)
		}
	}
}

func TestItem47OneFails(t *testing.T) {
	w := start(t, files+`
  - name: dead
    path: /dead
    upstream: http://127.0.0.1:1/mcp
    default: allow
`, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	if r := w.post("/dead", w.token("/dead", ""), ping); r.status != http.StatusBadGateway ||
		!strings.Contains(r.body, `"id":1`) || strings.Contains(r.body, "127.0.0.1:1") {
		t.Errorf("the dead one: %d %s", r.status, r.body)
	}
	if r := w.post("/files", w.token("/files", "files:read"), call("1", "read_file", "{}")); r.status != http.StatusOK {
		t.Errorf("the other: %d %s", r.status, r.body)
	}
}

func TestItem48GW32Redirects(t *testing.T) {
	elsewhere := serve(t, http.NotFoundHandler())
	w := start(t, strings.Replace(files, "    rules", `    upstream_headers: {Authorization: "Bearer of-the-gateway"}
    rules`, 1), http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	r := w.post("/files", w.token("/files", "files:read"), call("1", "read_file", "{}"))
	if r.status != http.StatusBadGateway || r.header.Get("Location") != "" || elsewhere.hits() > 0 {
		t.Errorf("%d %v", r.status, r.header)
	}
}

// A call may take as long as it takes, whether its answer is one message or a stream.
func TestItem49LongCalls(t *testing.T) {
	release := make(chan struct{})
	const result = `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`
	w := start(t, files, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); strings.Contains(string(body), "read_stream") {
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
			<-release
			_, _ = io.WriteString(w, "data: "+result+"\n\n")
			return
		}
		<-release
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, result)
	}))
	token := w.token("/files", "files:read")
	var all sync.WaitGroup
	all.Go(func() {
		r := w.post("/files", token, call("1", "read_file", "{}"))
		if r.status != http.StatusOK || r.body != result {
			t.Errorf("a message: %d %s", r.status, r.body)
		}
	})
	response := w.open(t.Context(), "POST", "/files", token, call("1", "read_stream", "{}"))
	defer response.Body.Close()
	lines := bufio.NewReader(response.Body)
	began := time.Now()
	for beats := 0; beats < 20 || os.Getenv("CARDEA_LONG") != "" && time.Since(began) < 70*time.Second; {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(line, ":") {
			beats++
		}
	}
	close(release)
	if got := data(t, lines); !strings.Contains(got, result) {
		t.Errorf("a stream: %s", got)
	}
	all.Wait()
}

func TestItem51NoSessions(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	token := w.token("/files", "files:read")
	if session := w.initialize("/files", token); session != "" {
		t.Errorf("a session %q that the server did not give", session)
	}
	if r := w.post("/files", token, call("1", "read_file", "{}")); r.status != http.StatusOK {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestItem52GW12Paths(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	token := w.token("/files", "files:read")
	for _, path := range []string{"/files/%2e%2e/admin", "/files/../files", "//files", "/files//", "/files;x",
		"/files%2f", "/f%69les", "/files%23", "/files/x", `/files\`} {
		if r := w.post(path, token, ping); r.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	w.post("/files/?a=b&token="+token, token, call("1", "read_file", "{}"))
	if got := w.server.last().url; got != "/" && got != "" {
		t.Errorf("the server got %s", got)
	}
}

func TestItem53EveryMountIsProtected(t *testing.T) {
	w := start(t, two, official(nil))
	for _, path := range []string{"/files", "/other", "/files/",
		"/files?access_token=" + w.token("/files", "files:read")} {
		for _, method := range []string{"POST", "GET", "DELETE", "PUT", "TRACE", "HEAD"} {
			if r := w.send(method, path, "", ""); r.status != http.StatusUnauthorized {
				t.Errorf("%s %s: %d %s", method, path, r.status, r.body)
			}
		}
	}
	if w.server.hits() > 0 {
		t.Error("the server was touched")
	}
	for _, method := range []string{"PUT", "PATCH", "TRACE"} {
		if r := w.send(method, "/files", w.token("/files", ""), ""); r.status != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, r.status)
		}
	}
	if err := os.WriteFile(w.file, []byte("public: https://gw.example.com\nservers: [{name: a, path: /a, upstream: "+
		"'http://127.0.0.1:1'}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := gateway.Load(w.file); err == nil {
		t.Error("a gateway without an issuer starts")
	}
}

// The audit line says who called what and how it ended, and nothing of the arguments.
func TestAudit(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	token := w.as("ada", "/files", "files:read")
	w.post("/files", token, call("1", "read_file", `{"path":"private"}`), "Traceparent", "00-x")
	w.post("/files", token, call("1", "delete_file", `{"path":"private"}`))
	w.post("/files", token, call("1", "write_file", `{"path":"private"}`))
	var got []string
	for _, c := range w.log.calls(t) {
		got = append(got, fmt.Sprint(c["user_id"], " ", c["client_id"], " ", c["server"], " ", c["name"], " ",
			c["outcome"], " ", c["traceparent"], " ", c["rule_line"]))
	}
	want := []string{
		"ada test-client files read_file allowed 00-x 8",
		"ada test-client files delete_file refused <nil> <nil>",
		"ada test-client files write_file refused <nil> 9",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if strings.Contains(w.log.String(), "private") {
		t.Error("arguments are in the log")
	}
}

func TestLimits(t *testing.T) {
	w := start(t, strings.Replace(files, "    rules", "    limits: {calls: 2/1h, body: 1KB}\n    rules", 1),
		official(&mcp.StreamableHTTPOptions{Stateless: true}))
	token := w.as("ada", "/files", "files:read")
	for i, want := range []int{200, 200, 429} {
		if r := w.post("/files", token, call("1", "read_file", "{}")); r.status != want {
			t.Errorf("call %d: %d %s", i, r.status, r.body)
		}
	}
	if r := w.post("/files", token, ping); r.status != http.StatusOK {
		t.Errorf("what is not a call: %d %s", r.status, r.body)
	}
	if r := w.post("/files", w.as("bob", "/files", "files:read"),
		call("1", "read_file", "{}")); r.status != http.StatusOK {
		t.Errorf("another person: %d %s", r.status, r.body)
	}
	long := `{"path":"` + strings.Repeat("x", 1<<10) + `"}`
	if r := w.post("/files", token, call("1", "read_file", long)); r.status != http.StatusRequestEntityTooLarge {
		t.Errorf("a long body: %d %s", r.status, r.body)
	}
}

// An upstream whose address is that of a cloud's metadata, though its name does not say so, is not dialled.
func TestItem48Addresses(t *testing.T) {
	w := start(t, strings.Replace(files, "{upstream}", "http://[::ffff:169.254.169.254]/", 1), http.NotFoundHandler())
	r := w.post("/files", w.token("/files", "files:read"), call("1", "read_file", "{}"))
	if r.status != http.StatusBadGateway || !strings.Contains(w.log.String(), "which is not one of a server") {
		t.Errorf("%d %s", r.status, r.body)
	}
}
