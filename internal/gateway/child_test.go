package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cardea-auth/cardea/internal/gateway"
)

// nameServer is the address of the name server that a test runs, nil if none runs.
var nameServer atomic.Pointer[string]

// askNameServer connects the resolver of all tests to nameServer, or to the machine's own name server if it is nil. A
// test cannot replace net.DefaultResolver itself, because connections that an earlier test began may still read it.
func askNameServer(ctx context.Context, network, address string) (net.Conn, error) {
	if at := nameServer.Load(); at != nil {
		network, address = "udp", *at
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

// TestMain runs this program as an MCP server over standard input and output, if it is started as one.
func TestMain(m *testing.M) {
	switch role := os.Getenv("CHILD"); role {
	case "":
		// Tests with many calls would otherwise use up the ports of the machine.
		http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 64
		net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: askNameServer}
		os.Exit(m.Run())
	case "official":
		fmt.Println("this is not JSON")
		fmt.Fprintln(os.Stderr, "secret="+os.Getenv("GATEWAY_SECRET"))
		s := officialServer()
		mcp.AddTool(s, &mcp.Tool{Name: "open"},
			func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
				return said(strconv.Itoa(os.Getpid())), nil, nil
			})
		mcp.AddTool(s, &mcp.Tool{Name: "notify"},
			func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
				os.Exit(3)
				return nil, nil, nil
			})
		mcp.AddTool(s, &mcp.Tool{Name: "read_environment"},
			func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
				return said(strings.Join(os.Environ(), " ")), nil, nil
			})
		mcp.AddTool(s, &mcp.Tool{Name: "read_long"},
			func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
				return said(strings.Repeat("x", 1<<20)), nil, nil
			})
		if err := s.Run(context.Background(), &mcp.StdioTransport{}); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	case "older": // knows nothing before initialize, and says so with a code, or not at all
		for in := bufio.NewReader(os.Stdin); ; {
			line, err := in.ReadString('\n')
			if err != nil {
				os.Exit(0)
			}
			switch code := os.Getenv("CODE"); {
			case strings.Contains(line, `"initialize"`):
				fmt.Println(`{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},` +
					`"serverInfo":{"name":"older","version":"1"}}}`)
			case code != "" && strings.Contains(line, "server/discover"):
				fmt.Println(`{"jsonrpc":"2.0","id":0,"error":{"code":` + code + `,"message":"not initialized"}}`)
			}
		}
	case "gateway":
		config, err := gateway.Load(os.Args[1])
		if err != nil {
			panic(err)
		}
		g, err := gateway.New(config, gateway.Options{})
		if err != nil {
			panic(err)
		}
		listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", config.Listen)
		if err != nil {
			panic(err)
		}
		fmt.Println(listener.Addr())
		panic(g.Serve(context.Background(), listener))
	case "keeper": // says what it was sent
		var lines []string
		for in := bufio.NewReader(os.Stdin); ; {
			line, err := in.ReadString('\n')
			if err != nil {
				os.Exit(0)
			}
			lines = append(lines, line)
			var m struct {
				ID     json.RawMessage
				Method string
			}
			_ = json.Unmarshal([]byte(line), &m)
			switch m.Method {
			case "subscriptions/listen":
				fmt.Printf(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":`+
					`{"io.modelcontextprotocol/subscriptionId":%s},"notifications":{"toolsListChanged":true}}}`+"\n", m.ID)
			case "tools/call":
				if strings.Contains(line, `"name":"slow"`) {
					fmt.Printf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,`+
						`"progress":1}}`+"\n", m.ID)
					continue
				}
				fallthrough
			default:
				if m.ID != nil && m.Method != "" {
					text, _ := json.Marshal(strings.Join(lines, ""))
					fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":%s}]}}`+"\n", m.ID, text)
				}
			}
		}
	case "odd", "hangs": // writes as few programs do; or answers nothing, if it is not the first that starts
		mark := "\ufeff"
		if first := os.Getenv("FIRST"); first != "" {
			if _, err := os.Stat(first); err == nil {
				_ = os.WriteFile(first+".second", nil, 0o600)
				_, _ = io.Copy(io.Discard, os.Stdin)
				os.Exit(0)
			}
			_ = os.WriteFile(first, nil, 0o600)
		}
		for in := bufio.NewReader(os.Stdin); ; {
			line, err := in.ReadString('\n')
			if err != nil {
				os.Exit(0)
			}
			var m struct{ ID any }
			if json.Unmarshal([]byte(line), &m) != nil || m.ID == nil {
				continue
			}
			id, _ := json.Marshal(m.ID)
			again := ""
			if strings.Contains(line, "read_twice") {
				again = `,"result":{"content":[]}`
			}
			fmt.Printf(mark+`{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{},`+
				`"serverInfo":{"name":"odd","version":"1"},"content":[{"type":"text","text":"caf%s"}]}%s}`+"\n", id, "\xe9",
				again)
			mark = ""
		}
	case "deaf": // begins a session, and then reads nothing
		if _, err := bufio.NewReaderSize(os.Stdin, 1).ReadString('\n'); err == nil {
			fmt.Println(`{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},` +
				`"serverInfo":{"name":"deaf","version":"1"}}}`)
			time.Sleep(time.Hour)
		}
	case "closed":
		_ = os.Stdin.Close()
		time.Sleep(300 * time.Millisecond)
	case "crash":
		os.Exit(3)
	}
}

// program is the route of a server that is a command. {program} is this program.
const program = `
  - name: files
    path: /files
    command: ["{program}"]
    env: {CHILD: official}
    rules:
      - {tools: ["read_*"], scopes: [files:read]}
      - {tools: [ask, open, slow, notify], scopes: []}
`

func startProgram(t *testing.T, servers string) *world {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return start(t, strings.ReplaceAll(servers, "{program}", self), http.NotFoundHandler())
}

// pid returns the process that answers in a session.
func (w *world) pid(token, session string) int {
	w.Helper()
	r := w.post("/files", token, call("1", "open", "{}"), "Mcp-Session-Id", session)
	_, rest, _ := strings.Cut(r.body, `"text":"`)
	number, _, _ := strings.Cut(rest, `"`)
	pid, err := strconv.Atoi(number)
	if err != nil {
		w.Fatalf("no process: %d %s", r.status, r.body)
	}
	return pid
}

// gone waits until a process has ended.
func gone(t *testing.T, pid int) {
	t.Helper()
	for syscall.Kill(pid, 0) == nil {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(state), ") Z ") { // the test's init does not reap
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("process %d is still there", pid)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestProgram(t *testing.T) {
	w := startProgram(t, program)
	session := w.connect("/files", w.token("/files", "files:read"), &mcp.ClientOptions{
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "ada"}}, nil
		},
	})
	t.Log("revision:", session.InitializeResult().ProtocolVersion)
	works(t, session, "ask notify open read_environment read_file read_long read_other slow")
}

// What the program asks reaches the client of its session, and the answer the program.
func TestItem17ProgramRequests(t *testing.T) {
	w := startProgram(t, program)
	token := w.token("/files", "")
	session := w.initializeWith("/files", token, `{"elicitation":{}}`)
	response := w.open(t.Context(), "POST", "/files", token, call("7", "ask", "{}"), "Mcp-Session-Id", session)
	defer response.Body.Close()
	r := bufio.NewReader(response.Body)
	asked := data(t, r)
	_, rest, _ := strings.Cut(asked, `"id":`)
	id, _, _ := strings.Cut(rest, ",")
	if !strings.Contains(asked, "elicitation/create") {
		t.Fatalf("first: %s", asked)
	}
	accepted := `{"jsonrpc":"2.0","id":` + id + `,"result":{"action":"accept","content":{"name":"ada"}}}`
	if r := w.post("/files", token, accepted, "Mcp-Session-Id", session); r.status != http.StatusAccepted {
		t.Errorf("answer: %d %s", r.status, r.body)
	}
	if got := data(t, r); !strings.Contains(got, "ada") || !strings.Contains(got, `"id":7`) {
		t.Errorf("then: %s", got)
	}
}

func TestItem40GroupEnds(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	// The program starts one that does not end by itself, nor when it is asked to.
	w := startProgram(t, strings.Replace(program, `["{program}"]`,
		`[sh, -c, "(trap '' TERM HUP; while :; do sleep 1; done) & echo $! > `+pids+`; '{program}'"]`, 1))
	token := w.token("/files", "")
	session := w.initialize("/files", token)
	pid := w.pid(token, session)
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	grandchild, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if r := w.send("DELETE", "/files", token, "", "Mcp-Session-Id", session); r.status != http.StatusNoContent {
		t.Errorf("DELETE: %d %s", r.status, r.body)
	}
	gone(t, pid)
	gone(t, grandchild)
	if r := w.post("/files", token, ping, "Mcp-Session-Id", session); r.status != http.StatusNotFound {
		t.Errorf("afterwards: %d %s", r.status, r.body)
	}
}

// A gateway that is killed leaves nothing behind.
func TestItem40Killed(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	w := startProgram(t, files) // for its issuer
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w.write(strings.NewReplacer(`["{program}"]`,
		`[sh, -c, "(trap '' TERM HUP; while :; do sleep 1; done) & echo $! > `+pids+`; '`+self+`'"]`).Replace(program) +
		"listen: 127.0.0.1:0\n")
	g := w.process()
	token := w.token("/files", "")
	r := g.post("/files", token, call("1", "open", "{}"), "Mcp-Session-Id", g.initialize("/files", token))
	_, rest, _ := strings.Cut(r.body, `"text":"`)
	number, _, _ := strings.Cut(rest, `"`)
	child, err := strconv.Atoi(number)
	if err != nil {
		t.Fatalf("%d %s", r.status, r.body)
	}
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	grandchild, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	g.kill()
	gone(t, child)
	gone(t, grandchild)
}

// A program that is killed leaves nothing behind either. The call under way is answered, and recorded as failed before.
func TestItem40ProgramKilled(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	w := startProgram(t, strings.Replace(program, `["{program}"]`,
		`[sh, -c, "(trap '' TERM HUP; while :; do sleep 1; done) & echo $! > `+pids+`; exec '{program}'"]`, 1))
	token := w.token("/files", "")
	session := w.initialize("/files", token)
	pid := w.pid(token, session)
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	grandchild, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	response := w.open(t.Context(), "POST", "/files", token,
		`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"slow","arguments":{},`+
			`"_meta":{"progressToken":"p"}}}`,
		"Mcp-Session-Id", session)
	defer response.Body.Close()
	r := bufio.NewReader(response.Body)
	if got := data(t, r); !strings.Contains(got, "notifications/progress") {
		t.Fatalf("first: %s", got)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := data(t, r); !strings.Contains(got, `"id":5,"error":{"code":502`) {
		t.Errorf("then: %s", got)
	}
	calls := w.log.calls(t)
	if last := calls[len(calls)-1]; last["name"] != "slow" || last["outcome"] != "failed" {
		t.Errorf("the record: %v", last)
	}
	gone(t, pid)
	gone(t, grandchild)
}

func TestItem41OneForEachSession(t *testing.T) {
	w := startProgram(t, program)
	ada, eve := w.as("ada", "/files", ""), w.as("eve", "/files", "")
	first, second, hers := w.initialize("/files", ada), w.initialize("/files", ada), w.initialize("/files", eve)
	pids := map[int]bool{w.pid(ada, first): true, w.pid(ada, second): true, w.pid(eve, hers): true}
	if len(pids) != 3 {
		t.Errorf("processes: %v", pids)
	}
	for method, want := range map[string]int{"POST": 404, "GET": 405, "DELETE": 404} {
		body := ""
		if method == "POST" {
			body = ping
		}
		if r := w.send(method, "/files", eve, body, "Mcp-Session-Id", first); r.status != want {
			t.Errorf("another person, %s: %d %s", method, r.status, r.body)
		}
	}
	if r := w.post("/files", ada, ping); r.status != http.StatusBadRequest {
		t.Errorf("without a session: %d %s", r.status, r.body)
	}

	// MCP 2026-07-28 has no sessions: one for each person.
	stateless := func(token string) string {
		body := `{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{` + meta + `,"name":"open","arguments":{}}}`
		return w.post("/files", token, body, modern("tools/call", "open")...).body
	}
	if a, b, c := stateless(ada), stateless(ada), stateless(eve); a != b || a == c || !strings.Contains(a, `"id":"a"`) {
		t.Errorf("answers: %s %s %s", a, b, c)
	}
}

func TestItem18EqualIDsOfOneProgram(t *testing.T) {
	w := startProgram(t, program)
	token := w.token("/files", "files:read")
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := range 50 {
				path := fmt.Sprintf("/%d/%d", worker, i)
				r := w.post("/files", token, `{"jsonrpc":"2.0","id":"1","method":"tools/call","params":{`+meta+
					`,"name":"read_file","arguments":{"path":"`+path+`"}}}`, modern("tools/call", "read_file")...)
				if !strings.Contains(r.body, path+`"`) || !strings.Contains(r.body, `"id":"1"`) {
					t.Errorf("%s got %d %s", path, r.status, r.body)
					return
				}
			}
		})
	}
	all.Wait()
}

func TestItem42Caps(t *testing.T) {
	w := startProgram(t,
		strings.Replace(program, "    rules", "    sessions: 3\n    sessions_per_person: 2\n    rules", 1))
	begin := func(person string) reply {
		return w.post("/files", w.as(person, "/files", ""),
			`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25",`+
				`"capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	}
	for i, tt := range []struct {
		person string
		status int
	}{{"ada", 200}, {"ada", 200}, {"ada", 503}, {"bob", 200}, {"eve", 503}} {
		if r := begin(tt.person); r.status != tt.status || (r.status == 503) != (r.header.Get("Retry-After") != "") {
			t.Errorf("session %d of %s: %d %s", i, tt.person, r.status, r.body)
		}
	}
}

// However many begin at once, no more run than may, and one that ends makes room.
func TestItem42AtOnce(t *testing.T) {
	w := startProgram(t,
		strings.Replace(program, "    rules", "    sessions: 3\n    sessions_per_person: 2\n    rules", 1))
	var all sync.WaitGroup
	begun := make(chan string, 30) // tokens and sessions
	for _, person := range []string{"ada", "bob", "eve"} {
		token := w.as(person, "/files", "")
		for range 10 {
			all.Go(func() {
				r := w.post("/files", token,
					`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25",`+
						`"capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
				switch {
				case r.status == http.StatusOK:
					begun <- token + " " + r.header.Get("Mcp-Session-Id")
				case r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") == "":
					t.Errorf("%d %s", r.status, r.body)
				}
			})
		}
	}
	all.Wait()
	close(begun)
	each := map[string]int{}
	var token, session string
	for one := range begun {
		token, session, _ = strings.Cut(one, " ")
		each[token]++
	}
	sum := 0
	for _, n := range each {
		sum += n
		if n > 2 {
			t.Errorf("a person has %d programs", n)
		}
	}
	if sum != 3 {
		t.Errorf("%d programs run", sum)
	}
	if r := w.send("DELETE", "/files", token, "", "Mcp-Session-Id", session); r.status != http.StatusNoContent {
		t.Errorf("DELETE: %d %s", r.status, r.body)
	}
	w.initialize("/files", token)
}

// A program that ends by itself is told of by /readyz, and does not take the gateway away.
func TestItem43Health(t *testing.T) {
	w := startProgram(t, program)
	token := w.token("/files", "")
	eventually(t, "/readyz does not tell of it", func() bool { // for a second, then two, and so on
		session := w.begun(token)
		if r := w.send("GET", "/readyz", "", ""); !strings.Contains(r.body, `"programs":1`) {
			t.Errorf("before: %d %s", r.status, r.body)
		}
		w.post("/files", token, call("5", "notify", "{}"), "Mcp-Session-Id", session)
		r := w.send("GET", "/readyz", "", "")
		if r.status != http.StatusOK || !strings.Contains(r.body, `"programs":0`) {
			t.Errorf("afterwards: %d %s", r.status, r.body)
		}
		return strings.Contains(r.body, `"status":"degraded"`) && strings.Contains(r.body, "ended by itself")
	})
	w.begun(token)
}

// begun begins a session, and waits for that if its program ended a moment ago.
func (w *world) begun(token string) (session string) {
	w.Helper()
	eventually(w.T, "it is not started again", func() bool {
		r := w.post("/files", token, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{`+
			`"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
		session = r.header.Get("Mcp-Session-Id")
		return r.status == http.StatusOK
	})
	return session
}

func TestItem43Crashes(t *testing.T) {
	w := startProgram(t, program)
	token := w.token("/files", "")
	const initialize = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}`
	eventually(t, "it is always started again at once", func() bool { // it waits a second, then two, and so on
		session := w.begun(token)
		w.pid(token, session)
		if r := w.post("/files", token, call("5", "notify", "{}"),
			"Mcp-Session-Id", session); r.code() != http.StatusBadGateway || !strings.Contains(r.body, `"id":5`) {
			t.Errorf("the pending call: %d %s", r.status, r.body)
		}
		if r := w.post("/files", token, ping, "Mcp-Session-Id", session); r.status != http.StatusNotFound {
			t.Errorf("the session: %d %s", r.status, r.body)
		}
		r := w.post("/files", token, initialize)
		return r.status == http.StatusServiceUnavailable && r.header.Get("Retry-After") != ""
	})
	w = startProgram(t, strings.Replace(program, "official", "crash", 1))
	if r := w.post("/files", w.token("/files", ""), initialize); r.code() != http.StatusBadGateway {
		t.Errorf("a program that ends at once: %d %s", r.status, r.body)
	}
	w = startProgram(t, strings.Replace(program, "official", "closed", 1))
	long := strings.Replace(initialize, "{}", `{"x":"`+strings.Repeat("x", 1<<18)+`"}`, 1) // more than a pipe holds
	if r := w.post("/files", w.token("/files", ""), long); r.code() != http.StatusBadGateway {
		t.Errorf("a program that takes no message: %d %s", r.status, r.body)
	}
	if err := testutil.CollectAndCompare(w.gw, strings.NewReader(`
# HELP cardea_gateway_program_ends_total Programs that ended by themselves, and starts that failed.
# TYPE cardea_gateway_program_ends_total counter
cardea_gateway_program_ends_total{server="files"} 1
`), "cardea_gateway_program_ends_total"); err != nil {
		t.Error(err)
	}
	w = startProgram(t, strings.Replace(program, "{program}", "/nowhere", 1))
	r := w.post("/files", w.token("/files", ""), initialize)
	if r.status != http.StatusBadGateway || strings.Contains(r.body, "nowhere") {
		t.Errorf("a program that is not there: %d %s", r.status, r.body)
	}
}

// Subscriptions of two processes of a client, with equal ids, are acknowledged under the id that each has, and end at
// the program when the client has gone.
func TestItem29ListenToProgram(t *testing.T) {
	w := startProgram(t, keeper)
	token := w.token("/files", "files:read")
	body := `{"jsonrpc":"2.0","id":"s","method":"subscriptions/listen","params":{` + meta +
		`,"notifications":{"toolsListChanged":true}}}`
	var open []*http.Response
	for range 2 {
		response := w.open(t.Context(), "POST", "/files", token, body, modern("subscriptions/listen", "")...)
		open = append(open, response)
		if got := data(t, bufio.NewReader(response.Body)); !strings.Contains(got, "acknowledged") ||
			!strings.Contains(got, `"io.modelcontextprotocol/subscriptionId":"s"`) ||
			!strings.Contains(got, `"notifications":{"toolsListChanged":true}`) {
			t.Errorf("first: %s", got)
		}
	}
	for i, response := range open {
		response.Body.Close()
		eventually(t, "the program was not told", func() bool {
			return strings.Count(w.said(token), "notifications/cancelled") == i+1
		})
	}
}

func TestItem44Lines(t *testing.T) {
	w := startProgram(t, program)
	token := w.token("/files", "files:read")
	session := w.initialize("/files", token) // although the first line is not JSON
	if r := w.post("/files", token, call("1", "read_long", "{}"), "Mcp-Session-Id", session); len(r.body) < 1<<20 {
		t.Errorf("a long line: %d, %d bytes", r.status, len(r.body))
	}
	spaced := strings.ReplaceAll(call("2", "read_file", `{"path":"/x"}`), ",", ",\r\n")
	if r := w.post("/files", token, spaced, "Mcp-Session-Id", session); !strings.Contains(r.body, "read_file /x") {
		t.Errorf("a message of several lines: %d %s", r.status, r.body)
	}
	if !strings.Contains(w.log.String(), "not JSON") {
		t.Error("nothing in the log")
	}
}

func TestItem45Environment(t *testing.T) {
	t.Setenv("GATEWAY_SECRET", "of-the-gateway")
	w := startProgram(t, program)
	token := w.token("/files", "files:read")
	session := w.initialize("/files", token)
	r := w.post("/files", token, call("1", "read_environment", "{}"), "Mcp-Session-Id", session)
	if !strings.Contains(r.body, "CHILD=official") || strings.Contains(r.body, "of-the-gateway") ||
		strings.Contains(w.log.String(), "of-the-gateway") {
		t.Errorf("environment: %s", r.body)
	}
}

// A program that does not know MCP 2026-07-28 may say so with any code, or not at all. Its clients are told to begin a
// session, and can.
func TestItem46Eras(t *testing.T) {
	for _, code := range []string{"-32601", "-32602", "-32600", "-32000", "-32022", "1", ""} {
		t.Run("code"+code, func(t *testing.T) {
			t.Parallel()
			w := startProgram(t, strings.Replace(program, "CHILD: official", `CHILD: older, CODE: "`+code+`"`, 1))
			token := w.token("/files", "")
			for range 2 { // the second one is not asked again
				r := w.post("/files", token,
					`{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{`+meta+`}}`, modern("server/discover", "")...)
				if r.status != http.StatusBadRequest || r.code() != -32022 {
					t.Errorf("%d %s", r.status, r.body)
				}
			}
			w.initialize("/files", token)
		})
	}
}

func TestItem14Idle(t *testing.T) {
	w := startProgram(t, strings.Replace(program, "    rules", "    idle: 50ms\n    rules", 1))
	token := w.token("/files", "")
	var session string
	var stream *http.Response
	eventually(t, "no session lasts until its stream is open", func() bool { // it may take longer on a busy machine
		session = w.initialize("/files", token)
		stream = w.open(t.Context(), "GET", "/files", token, "", "Mcp-Session-Id", session)
		if stream.StatusCode != http.StatusOK {
			stream.Body.Close()
			return false
		}
		return true
	})
	pid := w.pid(token, session)
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("while the stream is open: %v", err)
	}
	stream.Body.Close()
	gone(t, pid)
}
