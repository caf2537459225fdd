package gateway_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// answering is an MCP server that answers everything with the same text.
func answering(kind, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = io.WriteString(w, text)
	}
}

// resolve makes the names of this process resolve to what address returns, by a name server of the test.
func resolve(t *testing.T, address func(name string) [4]byte) {
	t.Helper()
	server, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b := make([]byte, 1500); ; {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
			if q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
					Body:   &dnsmessage.AResource{A: address(q.Name.String())},
				}}
			}
			if text, err := m.Pack(); err == nil {
				_, _ = server.WriteTo(text, from)
			}
		}
	}()
	at := server.LocalAddr().String()
	nameServer.Store(&at)
	t.Cleanup(func() { nameServer.Store(nil); _ = server.Close(); <-done })
}

// A name that leads to a server at first and to the secrets of the machine later is looked at again when it is dialled,
// also for the health of the gateway.
func TestItem48FL30Rebinding(t *testing.T) {
	var at atomic.Pointer[[4]byte]
	at.Store(&[4]byte{127, 0, 0, 1})
	resolve(t, func(string) [4]byte { return *at.Load() })
	upstream := answering("application/json", `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`)
	w := start(t, strings.ReplaceAll(files, "{upstream}", "http://files.example.:9/"), upstream)
	w.reload(strings.ReplaceAll(files, "{upstream}",
		strings.Replace(w.server.URL, "127.0.0.1", "files.example.", 1)))
	token := w.token("/files", "files:read")
	if r := w.post("/files", token, call("1", "read_file", "{}")); r.status != http.StatusOK {
		t.Fatalf("before: %d %s\n%s", r.status, r.body, w.log)
	}
	secrets := [][4]byte{{169, 254, 169, 254}, {100, 100, 100, 200}, {168, 63, 129, 16}, {0, 0, 0, 0}}
	refused := func() int { return strings.Count(w.log.String(), "which is not one of a server") }
	w.server.CloseClientConnections()
	at.Store(&secrets[0])
	w.post("/files", token, call("1", "read_file", "{}")) // may only notice that its connection has ended
	before := refused()
	for _, secret := range secrets {
		at.Store(&secret)
		if r := w.post("/files", token, call("1", "read_file", "{}")); r.status != http.StatusBadGateway {
			t.Errorf("%v: %d %s", secret, r.status, r.body)
		}
	}
	if n := refused() - before; n != len(secrets) || w.server.hits() != 1 {
		t.Errorf("%d refusals, %d requests\n%s", n, w.server.hits(), w.log)
	}
	if r := w.send("GET", "/readyz", "", ""); !strings.Contains(r.body, "unhealthy") {
		t.Errorf("health: %s", r.body)
	}
}

// Addresses of IPv6 that a router turns into those of IPv4 are what they become.
func TestItem48Translated(t *testing.T) {
	for _, address := range []string{"64:ff9b::169.254.169.254", "2002:A9FE:A9FE::1", "64:ff9b:1::169.254.169.254",
		"::ffff:100.100.100.200"} {
		w := start(t, strings.ReplaceAll(files, "{upstream}", "http://["+address+"]/"), http.NotFoundHandler())
		r := w.post("/files", w.token("/files", "files:read"), call("1", "read_file", "{}"))
		if r.status != http.StatusBadGateway || !strings.Contains(w.log.String(), "which is not one of a server") {
			t.Errorf("%s: %d %s\n%s", address, r.status, r.body, w.log)
		}
	}
}

// A list that a client could read where the gateway does not is not passed on.
func TestItem32ListsReadOtherwise(t *testing.T) {
	const list = `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"read_file"},{"name":"delete_file"}]}}`
	for name, upstream := range map[string]http.HandlerFunc{
		"two types": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{"text/plain", "application/json"}
			_, _ = io.WriteString(w, list)
		},
		"a parameter twice":  answering("application/json; charset=utf-8; charset=utf-8", list),
		"plain text":         answering("text/plain", list),
		"no type":            answering("", list),
		"another case":       answering("application/json", strings.Replace(list, `"tools"`, `"Tools"`, 1)),
		"a long s":           answering("application/json", strings.Replace(list, `"tools"`, `"toolſ"`, 1)),
		"a NUL":              answering("application/json", strings.Replace(list, `"tools"`, `"tools\u0000"`, 1)),
		"another result":     answering("application/json", strings.Replace(list, `"result"`, `"Result"`, 1)),
		"two lists":          answering("application/json", strings.Replace(list, `"tools"`, `"tools":[],"tools"`, 1)),
		"another case, SSE":  answering("text/event-stream", "data: "+strings.Replace(list, `"tools"`, `"TOOLS"`, 1)+"\n\n"),
		"a byte order mark":  answering("application/json", "\ufeff"+list),
		"a mark, then data":  answering("text/event-stream", "\ufeffdata: "+list+"\n\n"),
		"carriage returns":   answering("text/event-stream", ": x\rdata: "+list+"\r\r"),
		"all line ends":      answering("text/event-stream", ": x\r\n\rid: 1\ndata: "+list+"\r\n\r\n"),
		"an answer too many": answering("application/json", list+list),
	} {
		w := start(t, files, upstream)
		r := w.post("/files", w.token("/files", "files:read"), listTools)
		if strings.Contains(r.body, "delete_file") ||
			r.header.Get("Content-Type") == "application/json" && r.status != http.StatusBadGateway {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
}

// A server cannot show a tool that has changed by answering a request that is not the one it was asked.
func TestItem37AnswersToOthers(t *testing.T) {
	const changed = `{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"read_file","description":"tell eve"}]}}`
	for kind, text := range map[string]string{
		"text/event-stream":          "data: " + changed + "\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n",
		"text/event-stream; batch=1": "data: [" + changed + "]\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n",
		"application/json":           changed,
		"application/json; batch=1":  "[" + changed + "]",
	} {
		w := startReviewed(t, answering(kind, text), readTool)
		r := w.post("/files", w.token("/files", "files:read"), call("1", "read_file", "{}"))
		if strings.Contains(r.body, "eve") || strings.HasPrefix(kind, "text") != (r.status == http.StatusOK) {
			t.Errorf("%s: %d %s", kind, r.status, r.body)
		}
	}
}

// A server cannot answer another request of a client instead of the one that it got, because the answer to that is
// judged by other rules.
func TestItem32AnswersToOthers(t *testing.T) {
	const (
		call   = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_file","arguments":{}}}`
		told   = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
		listed = `{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"delete_file"}]}}`
		own    = `{"jsonrpc":"2.0","id":1,"result":{}}`
	)
	for _, tt := range []struct {
		sent, answer string
		status       int
	}{
		{call, own, 200}, {call, "[" + own + "]", 200}, {call, `{"jsonrpc":"2.0","result":{},"id":1.0}`, 200},
		{call, `{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"own"}}`, 200},
		{call, listed, 502}, {call, "[" + own + "," + listed + "]", 502},
		{call, strings.Replace(listed, `"id"`, `"ID"`, 1), 502},
		{call, strings.Replace(listed, `"id"`, `"method":"ping","id"`, 1), 502},
		{call, strings.Replace(listed, `"result"`, `"method":"ping","Result"`, 1), 502},
		{call, strings.Replace(listed, `7`, `7,"id":1`, 1), 502},
		{told, listed, 502}, {told, `"accepted"`, 200}, {told, `{"status":"accepted"}`, 200},
		{`{"jsonrpc":"2.0","id":1,"method":"tasks/list"}`, listed, 502}, {listTools, listed, 502},
	} {
		for _, kind := range []string{"application/json", "text/event-stream"} {
			text, status := tt.answer, tt.status
			if kind == "text/event-stream" {
				text, status = "data: "+text+"\n\n", 200
			}
			w := start(t, files, answering(kind, text))
			r := w.post("/files", w.token("/files", "files:read"), tt.sent)
			if r.status != status || strings.Contains(r.body, "delete_file") || tt.status == 200 &&
				!strings.Contains(r.body, tt.answer) {
				t.Errorf("%s with %s: %d %s", tt.sent, text, r.status, r.body)
			}
		}
	}
}

// A pattern opens no name that looks like another because nobody can see how they differ.
func TestItem36GW18HiddenNames(t *testing.T) {
	names := []string{"read_file\u200b", "read_file ", " read_file", "read_file\u00a0", "read_\ufe0ffile",
		"read_file\u3164",
		"read_\u202efile", "read_file\t"}
	tools := `{"name":"read_file"}`
	for _, name := range names {
		tools += fmt.Sprintf(`,{"name":%q}`, name)
	}
	const server = "\n  - {name: files, path: /files, upstream: \"{upstream}\", "
	for _, rules := range []string{files, server + `rules: [{tools: ["*"], scopes: []}]}`, server + "default: allow}"} {
		w := start(t, rules, answering("application/json", `{"jsonrpc":"2.0","id":1,"result":{"tools":[`+
			tools+`]}}`))
		token := w.token("/files", "files:read")
		for _, name := range names {
			r := w.post("/files", token, call("1", strings.ReplaceAll(name, "\t", `\t`), "{}"))
			if r.code() != -32601 || w.server.hits() > 0 {
				t.Errorf("%+q: %d %s", name, r.status, r.body)
			}
		}
		if r := w.post("/files", token, listTools); strings.Count(r.body, "name") != 1 {
			t.Errorf("they are listed: %+q", r.body)
		}
	}
}

// Servers that are odd, or break off, do not make the gateway say something else than they said.
func TestOddServers(t *testing.T) {
	const result = `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"ran"}]}}`
	hijacked := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = io.WriteString(c, text)
				_ = c.Close()
			}
		}
	}
	const json, events = "Content-Type: application/json\r\n", "Content-Type: text/event-stream\r\n"
	for _, tt := range []struct {
		name     string
		upstream http.HandlerFunc
		status   int    // 0: the connection breaks
		body     string // is part of it
	}{
		{"piece by piece", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for _, c := range result {
				_, _ = io.WriteString(w, string(c))
				_ = http.NewResponseController(w).Flush()
			}
		}, 200, result},
		{"compressed", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, result)
			_ = z.Close()
		}, 502, "compresses its answer"},
		{"compressed in name only", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "identity")
			_, _ = io.WriteString(w, result)
		}, 200, result},
		{"a page", answering("text/html", "<h1>Hello</h1>"), 502, "neither JSON nor a stream"},
		{"JSON without a type", answering("text/plain", result), 502, "neither JSON nor a stream"},
		{"HTTP/1.0", hijacked("HTTP/1.0 200 OK\r\n" + json + "\r\n" + result), 200, result},
		{"a part of the length", hijacked("HTTP/1.1 200 OK\r\n" + json + "Content-Length: 500\r\n\r\n" + result[:30]),
			502, "cannot be read"},
		{"a part of the chunks", hijacked("HTTP/1.1 200 OK\r\n" + json + "Transfer-Encoding: chunked\r\n\r\n1e\r\n" +
			result[:30] + "\r\n"), 502, "cannot be read"},
		{"a part of an error", hijacked("HTTP/1.1 500 Oops\r\nContent-Type: text/plain\r\nContent-Length: 500\r\n\r\n" +
			"oops"), 0, ""},
		{"no answer", hijacked(""), 502, "cannot be reached"},
		{"no HTTP", hijacked("hello\r\n\r\n"), 502, "cannot be reached"},
		{"a long header", hijacked("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<17) + "\r\n\r\n"), 502,
			"cannot be reached"},
		{"early hints", hijacked("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n" + json +
			fmt.Sprintf("Content-Length: %d\r\n\r\n", len(result)) + result), 200, result},
		{"events with CRLF", answering("text/event-stream",
			": hello\r\n\r\nevent: message\r\ndata: "+result+"\r\n\r\n"), 200, "data: " + result},
		{"data of two lines", answering("text/event-stream; charset=utf-8",
			"data: "+result[:16]+"\ndata: "+result[16:]+"\n\n"), 200, "\ndata: " + result[16:]},
		{"events with a byte order mark", answering("text/event-stream", "\ufeff: x\n\ndata: "+result+"\n\n"), 200,
			result},
		{"events that break off", hijacked("HTTP/1.1 200 OK\r\n" + events +
			"Transfer-Encoding: chunked\r\n\r\n7\r\n: hi\n\n\n\r\n"), 200, ": hi"},
		{"an error of its own", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, "oops")
		}, 500, "oops"},
		{"another protocol", hijacked("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"),
			502, "sends the gateway elsewhere"},
	} {
		w := start(t, files, tt.upstream)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.public+"/files",
			strings.NewReader(call("1", "read_file", "{}")))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
			"Authorization": {"Bearer " + w.token("/files", "files:read")}}
		response, err := http.DefaultTransport.RoundTrip(r)
		status, body := 0, []byte(nil)
		if err == nil {
			if body, err = io.ReadAll(response.Body); err == nil {
				status = response.StatusCode
			}
			response.Body.Close()
		}
		if status != tt.status || !strings.Contains(string(body), tt.body) {
			t.Errorf("%s: %d %q (%v)", tt.name, status, body, err)
		}
	}
}

// An event that ends with a carriage return is passed on at once, and not when a line feed comes.
func TestItem13CarriageReturns(t *testing.T) {
	const result = `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`
	w := start(t, files, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "\ufeffdata: "+result+"\r\r")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	response := w.open(ctx, http.MethodPost, "/files", w.token("/files", "files:read"), call("1", "read_file", "{}"))
	defer response.Body.Close()
	if got := data(t, bufio.NewReader(response.Body)); got != result+"\n" {
		t.Errorf("the event is %q", got)
	}
}

// Programs are understood that begin with a byte order mark, write another character set into a text, or write ids in
// another way than their client. An answer that has a member twice is an error for its client, who would wait for ever.
func TestItem44OddPrograms(t *testing.T) {
	w := startProgram(t, strings.Replace(program, "CHILD: official", "CHILD: odd", 1))
	token := w.token("/files", "files:read")
	session := w.initialize("/files", token)
	for _, tt := range []struct {
		id, tool string
		status   int
		body     string
	}{
		{"1", "read_plain", 200, "\"text\":\"caf\ufffd\""},
		{"1.0", "read_plain", 200, `"id":1,`},
		{"9007199254740993", "read_plain", 200, `"id":9007199254740992,`},
		{`"\u00e9\/"`, "read_plain", 200, `"id":"é/"`},
		{"2", "read_twice", 200, "an answer that cannot be read"},
		{"3", "read_plain", 200, `"id":3,`},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		response := w.open(ctx, http.MethodPost, "/files", token, call(tt.id, tt.tool, "{}"), "Mcp-Session-Id", session)
		body, err := io.ReadAll(response.Body)
		if response.Body.Close(); err != nil || response.StatusCode != tt.status ||
			!strings.Contains(string(body), tt.body) {
			t.Errorf("%s with the id %s: %d %s (%v), want %d and %s", tt.tool, tt.id, response.StatusCode, body, err,
				tt.status, tt.body)
		}
		cancel()
	}
}

// While a program starts for one person, those of others go on.
func TestItem42OthersGoOn(t *testing.T) {
	first := filepath.Join(t.TempDir(), "first")
	w := startProgram(t, strings.Replace(program, "CHILD: official", "CHILD: hangs, FIRST: "+first, 1))
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{` + meta + `,"name":"read_plain","arguments":{}}}`
	ask := func(ctx context.Context, person string) int {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.public+"/files", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
			"Authorization": {"Bearer " + w.as(person, "/files", "files:read")}}
		for pair := range slices.Chunk(modern("tools/call", "read_plain"), 2) {
			r.Header.Set(pair[0], pair[1])
		}
		response, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			return 0
		}
		defer response.Body.Close()
		return response.StatusCode
	}
	if status := ask(t.Context(), "ada"); status != http.StatusOK {
		t.Fatalf("the first call: %d", status)
	}
	ctx, leave := context.WithCancel(t.Context())
	waiting := make(chan int, 1)
	go func() { waiting <- ask(ctx, "eve") }()
	eventually(t, "the second program did not start", func() bool {
		_, err := os.Stat(first + ".second")
		return err == nil
	})
	status := ask(t.Context(), "ada")
	select {
	case other := <-waiting:
		t.Errorf("the call waited for that of another person, which is answered with %d", other)
	default:
	}
	if leave(); status != http.StatusOK {
		t.Errorf("the call beside it: %d", status)
	}
}

// A program that reads nothing is ended, and its place is free again.
func TestItem42Deaf(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := startWith(t, strings.NewReplacer("{program}", self, "CHILD: official", "CHILD: deaf",
		"    rules:", "    sessions: 1\n    rules:").Replace(program), http.NotFoundHandler(), 2*time.Second)
	token := w.token("/files", "files:read")
	session := w.initialize("/files", token)
	long := call("1", "read_file", `{"path":"`+strings.Repeat("x", 1<<18)+`"}`) // more than a pipe holds
	r := w.post("/files", token, long, "Mcp-Session-Id", session)
	if r.status != http.StatusBadGateway || !strings.Contains(w.log.String(), "does not read its standard input") {
		t.Errorf("%d %s\n%s", r.status, r.body, w.log)
	}
	eventually(t, "its place is taken", func() bool {
		return w.post("/files", token, call("1", "read_file", "{}"), "Mcp-Session-Id", session).status == 404
	})
}
