package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/cardea-auth/cardea/guard/guardtest"
	"github.com/cardea-auth/cardea/internal/gateway"
	"github.com/cardea-auth/cardea/internal/logtest"
)

// world is a gateway with an issuer and an MCP server, all over real HTTP.
type world struct {
	*testing.T
	issuer *guardtest.Issuer
	server *server // the MCP server
	public string  // of the gateway
	host   string  // in requests to it; "" is that of public
	gw     *gateway.Gateway
	file   string // configuration
	log    *logs

	patience time.Duration // of the gateway; zero is the usual one
}

// files is the route that most tests use. {upstream} is the MCP server's URL.
const files = `
  - name: files
    path: /files
    upstream: "{upstream}"
    rules:
      - {tools: ["read_*"], scopes: [files:read]}
      - {tools: [write_file], scopes: [files:read, files:write], arguments: {path: {prefix: /data/}}}
      - {tools: [slow, ask, open, notify], scopes: []}
      - {resources: ["file:///data/*"], scopes: [files:read]}
      - {prompts: [greet], scopes: []}
`

// start starts a world whose gateway has the servers of a configuration.
func start(t *testing.T, servers string, upstream http.Handler, edits ...func(*gateway.Options)) *world {
	t.Helper()
	return startWith(t, servers, upstream, 0, edits...)
}

// startWith is start with the patience of the gateway.
func startWith(t *testing.T, servers string, upstream http.Handler, patience time.Duration,
	edits ...func(*gateway.Options)) *world {
	t.Helper()
	w := &world{T: t, issuer: guardtest.NewIssuer(), log: &logs{}, patience: patience}
	t.Cleanup(w.issuer.Close)
	w.server = serve(t, upstream)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.public = "http://" + listener.Addr().String()
	w.file = filepath.Join(t.TempDir(), "gateway.yaml")
	w.write(servers)
	config, err := gateway.Load(w.file)
	if err != nil {
		t.Fatal(err)
	}
	options := gateway.Options{
		Logger:    slog.New(slog.NewJSONHandler(w.log, nil)),
		Heartbeat: 20 * time.Millisecond,
		Patience:  w.patience,
	}
	for _, edit := range edits {
		edit(&options)
	}
	w.gw, err = gateway.New(config, options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.gw.Serve(ctx, listener) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return w
}

// process is a gateway that is a process of its own. What is sent to it has the host of the world's gateway.
type process struct {
	*world
	kill func() // as kill -9 does
}

// process starts a gateway with the configuration of the world, which needs a port of its own. before are a program and
// arguments to start it with.
func (w *world) process(before ...string) *process {
	w.Helper()
	self, err := os.Executable()
	if err != nil {
		w.Fatal(err)
	}
	arguments := append(before, self, w.file)
	cmd := exec.CommandContext(w.Context(), arguments[0], arguments[1:]...)
	cmd.Env = append(os.Environ(), "CHILD=gateway")
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.Fatal(err)
	}
	inner := *w
	inner.log = &logs{}
	cmd.Stderr = inner.log
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	var once sync.Once
	p := &process{world: &inner, kill: func() { once.Do(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) }}
	w.Cleanup(p.kill)
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		w.Fatal(err)
	}
	inner.public, inner.host = "http://"+strings.TrimSpace(address), strings.TrimPrefix(w.public, "http://")
	return p
}

// eventually waits until ok returns true, and fails the test if that takes too long.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
		time.Sleep(time.Millisecond)
	}
}

// write writes the configuration with servers.
func (w *world) write(servers string) {
	w.Helper()
	text := "issuer: " + w.issuer.URL + "\npublic: " + w.public + "\nservers:" +
		strings.ReplaceAll(servers, "{upstream}", w.server.URL)
	if err := os.WriteFile(w.file, []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
}

// reload makes servers the configuration.
func (w *world) reload(servers string) {
	w.Helper()
	w.write(servers)
	config, err := gateway.Load(w.file)
	if err != nil {
		w.Fatal(err)
	}
	if err := w.gw.Reload(config); err != nil {
		w.Fatal(err)
	}
}

// token returns a token for the server at path.
func (w *world) token(path, scope string) string {
	return w.issuer.Token(guardtest.Claims{Audience: w.public + path, Scope: scope})
}

// as returns a token of another person for the server at path.
func (w *world) as(person, path, scope string) string {
	return w.issuer.Token(guardtest.Claims{Subject: person, Audience: w.public + path, Scope: scope})
}

// reply is an answer of the gateway.
type reply struct {
	status int
	header http.Header
	body   string
}

// code returns the code of the JSON-RPC error in the answer, 0 if it has none.
func (r reply) code() int {
	var m struct{ Error struct{ Code int } }
	_ = json.Unmarshal(r.message(), &m)
	return m.Error.Code
}

// message returns the answer, or the first message of a stream of events, which heartbeats may follow.
func (r reply) message() []byte {
	_, data, found := strings.Cut(r.body, "data: ")
	if !found {
		return []byte(r.body)
	}
	line, _, _ := strings.Cut(data, "\n")
	return []byte(line)
}

// send sends a request; headers are names and values by turns.
func (w *world) send(method, path, token, body string, headers ...string) reply {
	w.Helper()
	response := w.open(w.Context(), method, path, token, body, headers...)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		w.Fatal(err)
	}
	return reply{response.StatusCode, response.Header, string(content)}
}

func (w *world) post(path, token, body string, headers ...string) reply {
	w.Helper()
	return w.send(http.MethodPost, path, token, body, headers...)
}

// open sends a request and returns the answer with its body open.
func (w *world) open(ctx context.Context, method, path, token, body string, headers ...string) *http.Response {
	w.Helper()
	r, err := http.NewRequestWithContext(ctx, method, w.public+path, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	r.Host = w.host
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("Accept", "application/json, text/event-stream")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		key := http.CanonicalHeaderKey(headers[i]) // as it is, unlike Header.Add
		r.Header[key] = append(r.Header[key], headers[i+1])
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		w.Fatal(err)
	}
	return response
}

// initialize begins a session and returns its id.
func (w *world) initialize(path, token string) string {
	w.Helper()
	return w.initializeWith(path, token, "{}")
}

// initializeWith begins a session of a client with these capabilities.
func (w *world) initializeWith(path, token, capabilities string) string {
	w.Helper()
	r := w.post(path, token, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25",`+
		`"capabilities":`+capabilities+`,"clientInfo":{"name":"test","version":"1"}}}`)
	if r.status != http.StatusOK {
		w.Fatalf("initialize: %d %s", r.status, r.body)
	}
	session := r.header.Get("Mcp-Session-Id")
	w.post(path, token, `{"jsonrpc":"2.0","method":"notifications/initialized"}`, "Mcp-Session-Id", session)
	return session
}

// connect returns a session of the official client.
func (w *world) connect(path, token string, options *mcp.ClientOptions) *mcp.ClientSession {
	w.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, options)
	session, err := client.Connect(w.Context(), &mcp.StreamableClientTransport{
		Endpoint:   w.public + path,
		HTTPClient: &http.Client{Transport: withToken(token)},
	}, nil)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = session.Close() })
	return session
}

type withToken string

func (t withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(t))
	return http.DefaultTransport.RoundTrip(r)
}

// server is an MCP server that remembers what it was sent.
type server struct {
	*httptest.Server
	mu       sync.Mutex
	requests []request
}

type request struct {
	method string
	url    string
	host   string
	header http.Header
	body   string
}

// serve starts a server whose URL has a path of its own, because a guard of another test that outlived its issuer may
// ask the same port.
func serve(t *testing.T, handler http.Handler) *server {
	s := &server{}
	own := "/" + strings.ToLower(rand.Text())
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		address, ours := strings.CutPrefix(r.URL.String(), own)
		if !ours {
			http.NotFound(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		s.requests = append(s.requests, request{r.Method, address, r.Host, r.Header.Clone(), string(body)})
		s.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		handler.ServeHTTP(w, r)
	}))
	s.URL += own
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s
}

// hits returns how many requests have come.
func (s *server) hits() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

// last returns the last request that came.
func (s *server) last() request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[len(s.requests)-1]
}

// logs are the records of the gateway.
type logs struct{ logtest.Log }

// calls returns the audit lines.
func (l *logs) calls(t *testing.T) (calls []map[string]any) {
	for line := range strings.Lines(l.String()) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		if record["msg"] == "mcp_call" {
			calls = append(calls, record)
		}
	}
	return calls
}

// official is the file server that most tests use, made with the official SDK.
func official(options *mcp.StreamableHTTPOptions) http.Handler {
	s := officialServer()
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, options)
}

// works tests that a client of officialServer sees these tools and can call one.
func works(t *testing.T, session *mcp.ClientSession, tools string) {
	t.Helper()
	var names []string
	for tool, err := range session.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, tool.Name)
	}
	if got := strings.Join(names, " "); got != tools {
		t.Errorf("tools: %s, want %s", got, tools)
	}
	result, err := session.CallTool(t.Context(),
		&mcp.CallToolParams{Name: "read_file", Arguments: map[string]any{"path": "/x"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := result.Content[0].(*mcp.TextContent).Text; got != "read_file /x" {
		t.Errorf("the tool says %q", got)
	}
}

// said is the result of a tool: a text.
func said(text string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}
}

func officialServer() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "files", Version: "1"}, &mcp.ServerOptions{
		PageSize:           2,
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
		CompletionHandler: func(context.Context, *mcp.CompleteRequest) (*mcp.CompleteResult, error) {
			return &mcp.CompleteResult{Completion: mcp.CompletionResultDetails{Values: []string{"x"}}}, nil
		},
	})
	type in struct {
		Path string `json:"path,omitempty"`
	}
	for _, name := range []string{
		"delete_file", "read_file", "read_other", "write_file", "open", "admin_x", "admin_y"} {
		mcp.AddTool(s, &mcp.Tool{Name: name},
			func(_ context.Context, _ *mcp.CallToolRequest, in in) (*mcp.CallToolResult, any, error) {
				return said(name + " " + in.Path), nil, nil
			})
	}
	mcp.AddTool(s, &mcp.Tool{Name: "ask"},
		func(ctx context.Context, r *mcp.CallToolRequest, _ in) (*mcp.CallToolResult, any, error) {
			answer, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Message: "Sure?"})
			if err != nil {
				return nil, nil, err
			}
			return said(fmt.Sprint(answer.Content["name"])), nil, nil
		})
	mcp.AddTool(s, &mcp.Tool{Name: "slow"},
		func(ctx context.Context, r *mcp.CallToolRequest, _ in) (*mcp.CallToolResult, any, error) {
			_ = r.Session.NotifyProgress(ctx,
				&mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: 1})
			<-ctx.Done()
			return nil, nil, ctx.Err()
		})
	read := func(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI, Text: "content"}}}, nil
	}
	for _, uri := range []string{"file:///data/a.txt", "file:///etc/passwd"} {
		s.AddResource(&mcp.Resource{Name: uri, URI: uri}, read)
	}
	for _, uri := range []string{"file:///data/{name}", "file:///etc/{name}"} {
		s.AddResourceTemplate(&mcp.ResourceTemplate{Name: uri, URITemplate: uri}, read)
	}
	for _, name := range []string{"greet", "secret"} {
		s.AddPrompt(&mcp.Prompt{Name: name},
			func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
				return &mcp.GetPromptResult{}, nil
			})
	}
	return s
}
