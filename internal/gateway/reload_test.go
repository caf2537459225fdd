package gateway_test

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/cardea-auth/cardea/guard/guardtest"
	"github.com/cardea-auth/cardea/internal/gateway"
)

// closed is files with other rules.
var closed = strings.Replace(files, `"read_*"`, `"admin_*"`, 1)

func TestItem35ListChanged(t *testing.T) {
	w := start(t, files, official(nil))
	token := w.token("/files", "files:read")
	session := w.initialize("/files", token)
	response := w.open(t.Context(), "GET", "/files", token, "", "Mcp-Session-Id", session)
	defer response.Body.Close()
	w.reload(closed)
	r := bufio.NewReader(response.Body)
	for _, list := range []string{"tools", "prompts", "resources"} {
		if got := data(t, r); !strings.Contains(got, `"notifications/`+list+`/list_changed"`) {
			t.Errorf("got %s", got)
		}
	}
	if r := w.post("/files", token, call("1", "read_file", "{}"), "Mcp-Session-Id", session); r.code() != -32601 {
		t.Errorf("the next call: %d %s", r.status, r.body)
	}
	if r := w.post("/files", token, call("1", "admin_x", "{}"),
		"Mcp-Session-Id", session); !strings.Contains(r.body, "admin_x") {
		t.Errorf("what is open now: %d %s", r.status, r.body)
	}
}

func TestItem35ListChangedOnSubscription(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	response := w.open(t.Context(), "POST", "/files", w.token("/files", ""),
		`{"jsonrpc":"2.0","id":"s","method":"subscriptions/listen","params":{`+meta+`,"notifications":{"toolsListChanged":true}}}`,
		modern("subscriptions/listen", "")...)
	defer response.Body.Close()
	r := bufio.NewReader(response.Body)
	if got := data(t, r); !strings.Contains(got, "acknowledged") {
		t.Fatalf("first: %s", got)
	}
	w.reload(closed)
	if got := data(t, r); !strings.Contains(got, "notifications/tools/list_changed") ||
		!strings.Contains(got, `"io.modelcontextprotocol/subscriptionId":"s"`) {
		t.Errorf("got %s", got)
	}
}

// A stream ends with its server, and with its token.
func TestStreamsEnd(t *testing.T) {
	w := start(t, two, official(nil))
	open := func(path, token string) *http.Response {
		return w.open(t.Context(), "GET", path, token, "", "Mcp-Session-Id", w.initialize(path, token))
	}
	response := open("/other", w.token("/other", ""))
	defer response.Body.Close()
	w.reload(files)
	if _, err := io.ReadAll(response.Body); err != nil {
		t.Error(err)
	}

	w.reload(strings.Replace(files, "    rules",
		"    client: {id: "+w.issuer.ClientID+", secret: "+w.issuer.ClientSecret+"}\n    rules", 1))
	token := w.token("/files", "")
	response = open("/files", token)
	defer response.Body.Close()
	w.issuer.Revoke(token)
	if _, err := io.ReadAll(response.Body); err != nil {
		t.Error(err)
	}
	if r := w.post("/files", token, ping); r.status != http.StatusUnauthorized {
		t.Errorf("the revoked token: %d", r.status)
	}
}

// FL-32: a configuration that cannot be used changes nothing. The error names the line and the nearest key.
func TestLoad(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	head := "issuer: " + w.issuer.URL + "\npublic: http://127.0.0.1:1\n"
	one := head + "servers:\n  - name: a\n    path: /a\n    upstream: http://127.0.0.1:2\n"
	for _, tt := range []struct{ text, want string }{
		{"", "it is empty; it needs issuer, public and servers"},
		{"issuer: [", ":1: did not find expected node content"},
		{head + "server: []", ":3: server is not a key; did you mean servers?"},
		{head + "issuer: x", ":3: issuer is there twice"},
		{head, ":1: servers is missing"},
		{"public: https://x.example.com/path\nissuer: " + w.issuer.URL,
			`:1: public is "https://x.example.com/path"; it must be an https origin`},
		{"public: http://x.example.com\nissuer: " + w.issuer.URL,
			"https origin without a path, or http on a loopback host"},
		{one, ":4: servers[0].rules is missing: without a rule, and without default: allow, every call is refused"},
		{one + "    rules:\n      - {tool: [x], scopes: []}",
			":8: servers[0].rules[0].tool is not a key; did you mean tools?"},
		{one + "    rules:\n      - {tools: [x]}", ":8: servers[0].rules[0].scopes is missing; scopes: [] opens it"},
		{one + "    rules:\n      - {tools: [x], prompts: [y], scopes: []}", "prompts and tools are in one rule"},
		{one + "    rules:\n      - {tools: ['*'], scopes: []}\n      - {tools: [x], scopes: [a]}",
			`:9: the rule can never decide about "x", because that of line 8 does`},
		{one + "    rules:\n      - {tools: [x], scopes: ['a b']}", `"a b" is not a scope name`},
		{one + "    rules:\n      - {tools: [x], scopes: [], arguments: {p: {prefix: /a/../b}}}",
			`prefix is "/a/../b", which can never match, because paths must be clean; write "/b"`},
		{one + "    rules:\n      - {tools: [x], scopes: [], arguments: {p: {in: []}}}",
			"must be a list of the values"},
		{one + "    rules:\n      - {tools: [x], scopes: [], arguments: {p: {}}}", "needs either prefix or in"},
		{one + "    rules:\n      - {resources: ['file:///a/../*'], scopes: []}", "can never match"},
		{one + "    rules:\n      - {resources: ['file:///a/*'], scopes: [], arguments: {p: {in: [1]}}}",
			"resources have none"},
		{one + "    default: alow", `:7: servers[0].default is "alow"; it must be deny or allow`},
		{one + "    default: allow\n    limits: {calls: many}", "write a number of calls and a time, as 60/1m"},
		{one + "    default: allow\n    limits: {body: 1GB}", "write a size up to 64MB"},
		{one + "    default: allow\n    scopes: [x]", "which no rule needs"},
		{one + "    default: allow\n    upstream_headers: {Authorization: {file: /nowhere}}",
			":8: servers[0].upstream_headers.Authorization.file: the file cannot be read: open /nowhere: no such " +
				"file or directory; check the path and its permissions"},
		{one + "    default: allow\n    upstream_headers: {Host: x}", "is set by the gateway itself"},
		{one + "    default: allow\n    upstream_headers: {X: \"a\\nb\"}", "is not a header"},
		{one + "    default: allow\n    client: {id: x}", "client needs id and secret_file"},
		{one + "    default: allow\n    resource: https://x.example.com/b", "resource has the path /b"},
		{one + "    default: allow\n  - {name: a, path: /b, upstream: 'http://127.0.0.1:2', default: allow}",
			":8: the name a is taken by the server of line 4"},
		{one + "    default: allow\n  - {name: b, path: /a, upstream: 'http://127.0.0.1:2', default: allow}",
			"b has the resource http://127.0.0.1:1/a, as a of line 4 has"},
		{head + "servers: [{name: a, path: /a/../b, upstream: 'http://127.0.0.1:2', default: allow}]",
			"without empty segments"},
		{head + "servers: [{name: a, path: /healthz, upstream: 'http://127.0.0.1:2', default: allow}]",
			"the gateway itself answers"},
		{head + "servers: [{name: a, path: /a, upstream: 'ftp://127.0.0.1', default: allow}]", "http or https URL"},
		{head + "servers: [{name: a, path: /a, upstream: 'http://u:secret@127.0.0.1', default: allow}]", "has a user"},
	} {
		if err := os.WriteFile(w.file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := gateway.Load(w.file)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), w.file+":") {
			t.Errorf("%s\nerror: %v, want %s", tt.text, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret@") {
			t.Errorf("the error has a secret: %v", err)
		}
	}
	if r := w.post("/files", w.issuer.Token(guardtest.Claims{Audience: w.public + "/files", Scope: "files:read"}),
		call("1", "read_file", "{}")); r.status != http.StatusOK {
		t.Errorf("%d %s", r.status, r.body)
	}
}
