package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// The gateway holds no tokens for the upstream but the one that the operator gave, which it neither refreshes nor mixes
// up: each call of each person is one request with it, and its refusal is the answer.
func TestItem50GW42NoUpstreamTokens(t *testing.T) {
	w := start(t, strings.Replace(files, "    rules", `    upstream_headers: {Authorization: "Bearer of-the-gateway"}
    rules`, 1), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	tokens := []string{w.as("ada", "/files", "files:read"), w.as("eve", "/files", "files:read")}
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			r := w.post("/files", tokens[i%2], call(fmt.Sprint(i), "read_file", "{}"))
			if r.status != http.StatusBadGateway || strings.Contains(r.body+fmt.Sprint(r.header), "of-the-gateway") {
				t.Errorf("%d %v %s", r.status, r.header, r.body)
			}
		})
	}
	all.Wait()
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	if n := len(w.server.requests); n != 100 {
		t.Errorf("the server got %d requests, want 100", n)
	}
	for _, r := range w.server.requests {
		if got := r.header.Values("Authorization"); len(got) != 1 || got[0] != "Bearer of-the-gateway" {
			t.Errorf("the server got Authorization %q", got)
		}
	}
}

// What a proxy in front may say of a request opens nothing.
func TestGW13ForwardedURI(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	for _, name := range []string{"X-Forwarded-Uri", "X-Original-Url", "X-Rewrite-Url", "X-Forwarded-Prefix",
		"X-Http-Method-Override"} {
		for _, path := range []string{"/healthz", "/.well-known/oauth-protected-resource/files", "GET"} {
			if r := w.post("/files", "", call("1", "read_file", "{}"), name, path); r.status != http.StatusUnauthorized {
				t.Errorf("%s: %d %s", name, r.status, r.body)
			}
		}
	}
	if w.server.hits() > 0 {
		t.Error("the server was touched")
	}
}

// A request that two programs would end at different places is refused at the edge, or ends where the gateway says.
func TestGW37Smuggling(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	token := w.token("/files", "files:read")
	body := call("1", "read_file", "{}")
	head := "POST /files HTTP/1.1\r\nHost: " + strings.TrimPrefix(w.public, "http://") +
		"\r\nAuthorization: Bearer " + token +
		"\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nConnection: close\r\n"
	length := fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body))
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	for name, tt := range map[string]struct {
		text string
		ok   bool
	}{
		"plain":                    {head + length + body, true},
		"two lengths":              {head + "Content-Length: 3\r\n" + length + body, false},
		"TE twice":                 {head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: a\r\n\r\n" + chunked, false},
		"TE unknown":               {head + "Transfer-Encoding: xchunked\r\n\r\n" + chunked, false},
		"a folded header":          {head + "X: a\r\n b\r\n" + length + body, true},
		"a folded length":          {head + fmt.Sprintf("Content-Length: 1\r\n %d\r\n\r\n", len(body)) + body, false},
		"length and TE":            {head + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked, true},
		"a space before the colon": {head + fmt.Sprintf("Content-Length : %d\r\n\r\n", len(body)) + body, false},
		"a bad chunk":              {head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n" + body + "\r\n0\r\n\r\n", false},
		"NUL in a header":          {head + "X: a\x00b\r\n" + length + body, false},
	} {
		before := w.server.hits()
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(w.public, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		_, _ = io.WriteString(c, tt.text)
		status := 0
		if r, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil {
			status = r.StatusCode
			_ = r.Body.Close()
		}
		_ = c.Close()
		touched := w.server.hits() - before
		if touched > 0 && (w.server.last().body != body || w.server.last().header.Get("X") != "") {
			t.Errorf("%s: the server got %+v", name, w.server.last())
		}
		if tt.ok && (status != 200 || touched != 1) || !tt.ok && (status == 200 || touched > 0) {
			t.Errorf("%s: %d, %d requests at the server", name, status, touched)
		}
	}
}

// A client that leaves ends what the server does for it, and leaves nothing behind in the gateway.
func TestGW38ClientsThatLeave(t *testing.T) {
	var began, ended sync.WaitGroup
	w := start(t, files, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		began.Done()
		<-r.Context().Done()
		ended.Done()
	}))
	token := w.token("/files", "files:read")
	// At 2026-07-28 to leave is to cancel.
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{` + meta + `,"name":"read_file","arguments":{}}}`
	before := 0
	for round := range 5 {
		const clients = 40
		ctx, leave := context.WithCancel(t.Context())
		began.Add(clients)
		ended.Add(clients)
		var all sync.WaitGroup
		for range clients {
			all.Go(func() {
				r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.public+"/files", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				r.Header.Set("Authorization", "Bearer "+token)
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set("Accept", "application/json, text/event-stream")
				for i, h := 0, modern("tools/call", "read_file"); i < len(h); i += 2 {
					r.Header.Set(h[i], h[i+1])
				}
				if resp, err := http.DefaultClient.Do(r); err == nil {
					_ = resp.Body.Close()
				}
			})
		}
		began.Wait()
		leave()
		all.Wait()
		ended.Wait() // hangs if the server is not told
		if round == 0 {
			before = runtime.NumGoroutine()
		}
	}
	eventually(t, "no goroutines are left behind", func() bool { return runtime.NumGoroutine() <= before+20 })
}

// Pages of other origins are refused, and no answer lets any origin use a person's credentials.
func TestGW44CORS(t *testing.T) {
	w := start(t, files, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Access-Control-Allow-Credentials", "true")
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`)
	}))
	for _, origin := range []string{"https://evil.example.com", w.public} {
		for _, token := range []string{"", w.token("/files", "files:read")} {
			for _, method := range []string{"POST", "OPTIONS"} {
				r := w.send(method, "/files", token, call("1", "read_file", "{}"), "Origin", origin,
					"Access-Control-Request-Method", "POST", "Content-Type", "application/json")
				if r.header.Get("Access-Control-Allow-Credentials") != "" {
					t.Errorf("%s from %s: %v", method, origin, r.header)
				}
				if origin != w.public && method == "POST" && r.status != http.StatusForbidden {
					t.Errorf("%s from %s: %d", method, origin, r.status)
				}
			}
		}
	}
}

// The connection stays one for HTTP.
func TestGW45Upgrade(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	token := w.token("/files", "files:read")
	for _, method := range []string{"TRACE", "CONNECT", "PUT"} {
		if r := w.send(method, "/files", token, ""); r.status != 405 && r.status != 501 && r.status != 404 {
			t.Errorf("%s: %d", method, r.status)
		}
	}
	before := w.server.hits()
	for _, kind := range []string{"websocket", "h2c"} {
		r := w.send("GET", "/files", token, "", "Connection", "Upgrade", "Upgrade", kind, "Sec-WebSocket-Version", "13",
			"Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
		if r.status == http.StatusSwitchingProtocols {
			t.Errorf("%s: %d", kind, r.status)
		}
	}
	for _, request := range w.server.requests[before:] {
		if request.header.Get("Upgrade") != "" {
			t.Errorf("the server got %v", request.header)
		}
	}
}
