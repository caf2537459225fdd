package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/cardea-auth/cardea/guard/guardtest"
)

const (
	streams      = 10_000
	spareFiles   = 500 // files that a process has open besides those of the streams
	streamMemory = 100 // KB for each stream, so that 10,000 take less than 1 GB
	toolCall     = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"forecast",` +
		`"arguments":{"city":"Bern","days":3}}}`
)

// pass prints the fourth and the fifth table: what the gateway passes on beside a plain proxy, and what its idle
// streams take.
func pass(ctx context.Context, binary, parent string, seconds time.Duration, turns int) error {
	most, err := raiseFiles()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(parent, "cardea-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	upstream := weatherServer()
	defer upstream.Close()
	defer upstream.CloseClientConnections()
	issuer := guardtest.NewIssuer()
	defer issuer.Close()
	ourAddress, bareAddress, err := addresses(ctx)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "gateway.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, `issuer: %s
public: http://%s
listen: %[2]s
servers:
  - {name: weather, path: /mcp, upstream: "%s/mcp", rules: [{tools: ["forecast*"], scopes: [%s]}]}
`, issuer.URL, ourAddress, upstream.URL, weather), 0o600); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	env := append(os.Environ(), "GOMAXPROCS=1")
	ours, err := start(ctx, env, filepath.Join(dir, "gateway.log"), ourAddress, "/healthz",
		binary, "gateway", "--config", file)
	if err != nil {
		return err
	}
	defer ours.stop()
	bare, err := start(ctx, env, filepath.Join(dir, "proxy.log"), bareAddress, "/hello", self, "-proxy", upstream.URL,
		"-limit", bareAddress)
	if err != nil {
		return err
	}
	defer bare.stop()
	header := "Authorization: Bearer " + issuer.Token(guardtest.Claims{Audience: "http://" + ourAddress + "/mcp",
		Scope: weather, TTL: time.Hour}) + "\r\n"
	fmt.Println()
	return errors.Join(
		compare(ours, bare, []contest{{"tool call", call(ourAddress, header), call(bareAddress, header), "proxy", 0.7}},
			seconds, turns),
		idle(ours, most, "GET /mcp HTTP/1.1\r\nHost: "+ourAddress+"\r\nAccept: text/event-stream\r\n"+header+"\r\n"))
}

// raiseFiles lets this process and those that it starts have many files open. It returns how many streams that is
// enough for: a stream takes two files of a process.
func raiseFiles() (enough int, err error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	more := syscall.Rlimit{Cur: 2*streams + spareFiles, Max: max(limit.Max, 2*streams+spareFiles)}
	if limit.Cur >= more.Cur || syscall.Setrlimit(syscall.RLIMIT_NOFILE, &more) == nil {
		return streams, nil
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	enough = (int(min(limit.Max, more.Cur)) - spareFiles) / 2 //nolint:gosec // a count of files
	fmt.Printf("\nonly %d streams, because a process may have no more than %d files open here; for %d, run it as root "+
		"or after ulimit -n %d\n", enough, limit.Max, streams, more.Cur)
	return enough, nil
}

// call returns the same call of a tool each time.
func call(host, header string) next {
	return same("POST /mcp HTTP/1.1\r\nHost: " + host + "\r\n" + header + "Content-Type: application/json\r\n" +
		"Accept: application/json, text/event-stream\r\nMcp-Protocol-Version: 2025-11-25\r\nUser-Agent: bench\r\n" +
		"Content-Length: " + strconv.Itoa(len(toolCall)) + "\r\n\r\n" + toolCall)
}

// weatherServer returns an MCP server that does as little as it can: it answers each call alike, and its streams are
// silent.
func weatherServer() *httptest.Server {
	const answer = `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"Sunny, 21 °C"}]}}`
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, answer)
	}))
}

// proxy returns what the gateway is compared with: it passes on all, as fast as the standard library does.
func proxy(upstream string) (http.Handler, error) {
	target, err := url.Parse(upstream)
	if err != nil {
		return nil, err
	}
	return &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: &http.Transport{MaxIdleConnsPerHost: connections, DisableCompression: true},
	}, nil
}

// idle prints the fifth table.
func idle(s server, streams int, wire string) error {
	before, err := resident(s.pid)
	if err != nil {
		return err
	}
	var opened atomic.Int64
	open := make(chan net.Conn, streams)
	var all sync.WaitGroup
	errs := make([]error, connections)
	for i := range connections {
		all.Go(func() {
			for errs[i] == nil && opened.Add(1) <= int64(streams) {
				var conn net.Conn
				if conn, errs[i] = stream(s.address, wire); errs[i] == nil {
					open <- conn
				}
			}
		})
	}
	all.Wait()
	close(open)
	defer func() {
		for conn := range open {
			_ = conn.Close()
		}
	}()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	runtime.GC()                 // so that this process does not take the memory that the other one needs
	time.Sleep(30 * time.Second) // more than a heartbeat of each
	after, err := resident(s.pid)
	if err != nil {
		return err
	}
	each, verdict := (after-before)*1000/float64(streams), "ok"
	if each > streamMemory {
		verdict = "ABOVE"
	}
	fmt.Printf("\nmemory of the gateway's process\n\n")
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\tbefore\tthen\teach\tceiling\t\t")
	fmt.Fprintf(table, "%d idle streams\t%.0f MB\t%.0f MB\t%.1f KB\t%d KB\t%s\t\n", streams, before, after, each,
		streamMemory, verdict)
	if err := table.Flush(); err != nil {
		return err
	}
	if each > streamMemory {
		return errMissed
	}
	return nil
}

// stream opens a stream and returns its connection when the server has answered.
func stream(address, wire string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	if _, err = io.WriteString(conn, wire); err == nil {
		var line string
		if line, err = bufio.NewReader(conn).ReadString('\n'); err == nil && !strings.Contains(line, " 200 ") {
			err = errors.New("a stream is answered with " + strings.TrimSpace(line))
		}
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// resident returns the memory that a process has, in MB (proc(5), status).
func resident(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(text), "\nVmRSS:")
	var kilobytes float64
	if _, err := fmt.Sscan(after, &kilobytes); err != nil {
		return 0, err
	}
	return kilobytes * 1024 / 1e6, nil
}
