package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/internal/gateway"
)

// The tools of the tests of drift, as the server lists them.
const (
	readTool  = `{"name":"read_file","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}}`
	writeTool = `{"name":"write_file","inputSchema":{"type":"object"}}`
)

// listing is an MCP server whose tools can change.
type listing struct{ tools atomic.Value }

func (l *listing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var m struct {
		ID     json.RawMessage
		Method string
		Params struct{ Name string }
	}
	_ = json.Unmarshal(body, &m)
	result := `{"content":[{"type":"text","text":"` + m.Params.Name + ` ran"}]}`
	switch {
	case m.ID == nil:
		w.WriteHeader(http.StatusAccepted)
		return
	case m.Method == "initialize":
		result = `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},` +
			`"serverInfo":{"name":"files","version":"1"}}`
	case m.Method == "tools/list":
		result = `{"tools":[` + l.tools.Load().(string) + `]}`
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)
}

// review writes the file of reviewed tools, all of them with files:read.
func review(w *world, tools ...string) (path string) {
	w.Helper()
	file := gateway.Reviewed{Resource: w.public + "/files"}
	for _, text := range tools {
		d, err := guard.ParseDefinition([]byte(text))
		if err != nil {
			w.Fatal(err)
		}
		file.Tools = append(file.Tools, gateway.ReviewedTool{Name: d.Name, Hash: d.Hash,
			Scopes: []string{"files:read"}})
	}
	path = filepath.Join(filepath.Dir(w.file), "files.tools.json")
	if err := gateway.WriteReviewed(path, file); err != nil {
		w.Fatal(err)
	}
	return path
}

// startReviewed starts a gateway in front of l that opens the tools as they were reviewed.
func startReviewed(t *testing.T, upstream http.Handler, tools ...string) *world {
	w := start(t, files, upstream)
	review(w, tools...)
	w.reload(reviewedFiles)
	return w
}

const reviewedFiles = `
  - name: files
    path: /files
    upstream: "{upstream}"
    reviewed: files.tools.json
`

const listTools = `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}`

// A tool stays open only as it was reviewed: blocked on changed content, not on order.
func TestItem37Drift(t *testing.T) {
	l := &listing{}
	l.tools.Store(readTool + "," + writeTool)
	w := startReviewed(t, l, readTool, writeTool)
	token := w.token("/files", "files:read")
	seen := func(names string) {
		t.Helper()
		list := w.post("/files", token, listTools)
		for name := range strings.FieldsSeq("read_file write_file delete_file") {
			if strings.Contains(list.body, `"`+name+`"`) != strings.Contains(" "+names+" ", " "+name+" ") {
				t.Errorf("%s in the list: %s", name, list.body)
			}
		}
	}
	runs := func(name string, want bool) {
		t.Helper()
		r := w.post("/files", token, call("1", name, "{}"))
		if ran := strings.Contains(r.body, name+" ran"); ran != want || !want && r.code() != -32601 {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	seen("read_file write_file")
	runs("read_file", true)
	runs("delete_file", false) // it is not listed, and nobody has reviewed it

	l.tools.Store(writeTool + `,{"annotations":{"readOnlyHint":true},` +
		`"inputSchema":{"type":"object"},"name":"read_file"}`)
	seen("read_file write_file") // in another order
	runs("read_file", true)

	l.tools.Store(`{"name":"read_file","inputSchema":{"type":"object"}},` + writeTool +
		`,{"name":"delete_file","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}}`)
	seen("write_file")
	runs("read_file", false)
	runs("write_file", true)
	runs("delete_file", false)
	for _, text := range []string{"a tool has changed since it was reviewed", "a tool is new"} {
		if n := strings.Count(w.log.String(), text); n != 1 {
			t.Errorf("%d log lines with %q", n, text)
		}
	}

	l.tools.Store(readTool + "," + writeTool)
	seen("write_file")
	runs("read_file", false) // it has changed once, and may again
	w.reload(reviewedFiles)
	runs("read_file", false) // also after a reload that says nothing new

	l.tools.Store(`{"name":"read_file","inputSchema":{"type":"object"}},` + writeTool)
	review(w, `{"name":"read_file","inputSchema":{"type":"object"}}`, writeTool)
	w.reload(reviewedFiles)
	seen("read_file write_file")
	runs("read_file", true)
}

// Rules still say what a reviewed tool needs, and cannot open another.
func TestReviewedAndRules(t *testing.T) {
	l := &listing{}
	l.tools.Store(readTool + "," + writeTool)
	w := startReviewed(t, l, readTool)
	w.reload(reviewedFiles + `    default: allow
    rules:
      - {tools: [read_file], scopes: [files:more]}
      - {tools: [write_file], scopes: []}
`)
	r := w.post("/files", w.token("/files", "files:read"), call("1", "read_file", "{}"))
	if r.status != http.StatusForbidden || !strings.Contains(r.header.Get("WWW-Authenticate"), "files:more") {
		t.Errorf("by the rule: %d %s", r.status, r.body)
	}
	if r := w.post("/files", w.token("/files", ""), call("1", "write_file", "{}")); r.code() != -32601 {
		t.Errorf("named by a rule, and not reviewed: %d %s", r.status, r.body)
	}
}

// The file of reviewed tools must be one, and that of the server.
func TestReviewedFile(t *testing.T) {
	l := &listing{}
	w := startReviewed(t, l, readTool)
	path := filepath.Join(filepath.Dir(w.file), "files.tools.json")
	for text, want := range map[string]string{
		`{}`: "the file has the tools of , and not of",
		`{"resource":"https://other.example","tools":[]}`:                                                        "has the tools of https://other.example",
		`{"resource":"","tool":[]}`:                                                                              "is not a list of reviewed tools",
		`{"resource":"","tools":[{"name":"a","hash":""}]}`:                                                       "without a name or a hash",
		`{"resource":"","tools":[{"name":"a","hash":"sha256:1","scopes":["a b"]}]}`:                              `"a b" is not a scope name`,
		`{"resource":"","tools":[{"name":"a","hash":"sha256:1"},{"name":"a","hash":"sha256:1"}],"resource":"x"}`: "is not a list of reviewed tools",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := gateway.Load(w.file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := gateway.Load(w.file); err == nil ||
		!strings.Contains(err.Error(), "cardea resource review writes it") {
		t.Errorf("no file: %v", err)
	}
}

// A server is written into a configuration, and nothing else in it changes.
func TestAddServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.yaml")
	reviewedAt := func(name string) {
		err := gateway.WriteReviewed(filepath.Join(filepath.Dir(path), name+".tools.json"),
			gateway.Reviewed{Resource: "https://gw.example.com/" + name})
		if err != nil {
			t.Fatal(err)
		}
	}
	add := func(e gateway.Entry) error {
		return gateway.AddServer(path, "https://auth.example.com", "https://gw.example.com", e)
	}
	for _, name := range []string{"files", "mail", "rest"} {
		reviewedAt(name)
	}
	if err := add(gateway.Entry{Name: "files", Path: "/files", Upstream: "http://127.0.0.1:9000/mcp",
		Reviewed: "files.tools.json"}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append([]byte("# ours\n"), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := add(gateway.Entry{Name: "mail", Path: "/mail", Command: []string{"npx", "-y", "a: b"},
		Reviewed: "mail.tools.json"}); err != nil {
		t.Fatal(err)
	}
	config, err := gateway.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(config.Servers) != 2 || config.Servers[1].Command[2] != "a: b" || len(config.Files()) != 2 {
		t.Errorf("%+v", config.Servers)
	}
	text, err = os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(text), "# ours\nissuer: https://auth.example.com\n") {
		t.Errorf("%v\n%s", err, text)
	}
	if err := add(gateway.Entry{Name: "mail", Path: "/rest", Command: []string{"x"},
		Reviewed: "rest.tools.json"}); err == nil || !strings.Contains(err.Error(), "the name mail is taken") {
		t.Errorf("the same name: %v", err)
	}
	if again, err := os.ReadFile(path); err != nil || string(again) != string(text) {
		t.Errorf("it was written nevertheless: %v\n%s", err, again)
	}
	rules := "issuer: https://auth.example.com\npublic: https://gw.example.com\nservers:\n" +
		"- name: rest # of old\n  path: /rest\n  command: [x]\n  rules: [{tools: [a], scopes: []}]\n"
	if err := os.WriteFile(path, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := gateway.AddReviewed(path, "rest", "rest.tools.json"); err != nil {
		t.Fatal(err)
	}
	if config, err = gateway.Load(path); err != nil || config.Servers[0].ReviewedFile() == "" {
		t.Errorf("%v", err)
	}
}

// A new configuration listens where clients look for the gateway, and goes on when no tool needs a scope any more that
// they ask for first.
func TestAddServerHere(t *testing.T) {
	for public, listen := range map[string]string{
		"https://gw.example.com": "127.0.0.1:8090", "http://localhost:9100": "127.0.0.1:9100",
		"http://a.localhost": "127.0.0.1:80", "http://[::1]:9100": "[::1]:9100",
		"http://127.0.0.2:9100": "127.0.0.2:9100",
	} {
		folder := t.TempDir()
		path := filepath.Join(folder, "gateway.yaml")
		tools := gateway.Reviewed{Resource: public + "/x", Tools: []gateway.ReviewedTool{
			{Name: "a", Hash: "sha256:1", Scopes: []string{"x:read"}},
			{Name: "b", Hash: "sha256:2", Scopes: []string{"x:write"}}}}
		if err := gateway.WriteReviewed(filepath.Join(folder, "x.json"), tools); err != nil {
			t.Fatal(err)
		}
		err := gateway.AddServer(path, "https://auth.example.com", public, gateway.Entry{Name: "x", Path: "/x",
			Command: []string{"x"}, Scopes: []string{"x:read"}, Reviewed: "x.json"})
		if err != nil {
			t.Fatal(err)
		}
		config, err := gateway.Load(path)
		if err != nil || config.Listen != listen || !slices.Equal(config.Servers[0].Scopes, []string{"x:read"}) {
			t.Errorf("%s: %v %+v", public, err, config)
		}
		tools.Tools = tools.Tools[1:]
		if err := gateway.WriteReviewed(filepath.Join(folder, "x.json"), tools); err != nil {
			t.Fatal(err)
		}
		if config, err = gateway.Load(path); err != nil || len(config.Servers[0].Scopes) > 0 {
			t.Errorf("%s: after a review: %v %+v", public, err, config)
		}
	}
}

// A program lists its tools without a session of a client.
func TestPipe(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ask, stop, err := gateway.Pipe(
		&gateway.Server{Name: "files", Command: []string{self}, Env: []string{"CHILD=official"}},
		slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for _, step := range [][2]string{
		{`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},` +
			`"clientInfo":{"name":"test","version":"1"}}}`, `"serverInfo"`},
		{`{"jsonrpc":"2.0","method":"notifications/initialized"}`, ""},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}`, `"admin_x"`},
	} {
		reply, err := ask(context.Background(), []byte(step[0]))
		if err != nil || !strings.Contains(string(reply), step[1]) || step[1] == "" && reply != nil {
			t.Errorf("%s: %v %s", step[0], err, reply)
		}
	}
}

// A tool that is closed because it is not what was reviewed comes into the audit log of the issuer, once.
func TestDriftIsReported(t *testing.T) {
	l := &listing{}
	l.tools.Store(readTool)
	w := startReviewed(t, l, writeTool)
	w.reload(reviewedFiles + fmt.Sprintf("    client: {id: %s, secret: %s}\n", w.issuer.ClientID,
		w.issuer.ClientSecret))
	token := w.token("/files", "files:read")
	w.post("/files", token, listTools)
	w.post("/files", token, listTools)
	w.post("/files", token, call("1", "read_file", "{}"))
	got := w.reported(2)
	if len(got) != 2 || got[0].Action != "tool.drift" || got[0].Tool != "read_file" || got[0].Reason != "it is new" ||
		got[1].Action != "tool.call" || got[1].Outcome != "refused" {
		t.Errorf("%+v", got)
	}
}

// The gateway looks at tools itself, so that one that has changed is closed before a client lists it.
func TestSurvey(t *testing.T) {
	l := &listing{}
	l.tools.Store(readTool)
	w := start(t, files, l)
	review(w, readTool)
	config, err := gateway.Load(w.configuration(reviewedFiles))
	if err != nil {
		t.Fatal(err)
	}
	looked := make(chan string, 8)
	g, err := gateway.New(config, gateway.Options{Logger: slog.New(slog.NewJSONHandler(w.log, nil)),
		List: func(_ context.Context, s *gateway.Server) ([][]byte, error) {
			looked <- s.Name
			return [][]byte{[]byte(`{"name":"read_file"}`)}, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Serve(ctx, listener) }()
	<-looked
	if config, err = gateway.Load(w.file); err != nil {
		t.Fatal(err)
	}
	if err := g.Reload(config); err != nil { // it looks again, so what it saw before is noted
		t.Fatal(err)
	}
	<-looked
	r := w.ask(g, "/files", w.token("/files", "files:read"), call("1", "read_file", "{}"))
	if r.code() != -32601 || !strings.Contains(r.body, "has changed since an operator reviewed it") {
		t.Errorf("%d %s", r.status, r.body)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// configuration writes the configuration with servers, and returns its path.
func (w *world) configuration(servers string) string {
	w.write(servers)
	return w.file
}

// ask sends a message to a gateway without a connection.
func (w *world) ask(g *gateway.Gateway, path, token, body string) reply {
	r := httptest.NewRequestWithContext(w.Context(), http.MethodPost, w.public+path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Authorization", "Bearer "+token)
	recorder := httptest.NewRecorder()
	g.ServeHTTP(recorder, r)
	return reply{recorder.Code, recorder.Header(), recorder.Body.String()}
}
