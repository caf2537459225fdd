package clients_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/guard/guardtest"
	"github.com/cardea-auth/cardea/scope"
)

// GW-17 An Express server behind a guard and a reverse proxy interprets some messages differently from what they seem
// to be. Sent directly, each of them calls the tool; through the guard, with a token for another tool, none does.
func TestExpressBehindGuard(t *testing.T) {
	cmd := node(t.Context(), t, "express.mjs")
	cmd.Env = environ()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // it is stopped by now
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("express.mjs did not say where it listens: %v", err)
	}
	express := &url.URL{Scheme: "http", Host: "127.0.0.1:" + strings.TrimSpace(port)}

	issuer := guardtest.NewIssuer()
	t.Cleanup(issuer.Close)
	mux := http.NewServeMux()
	front := httptest.NewServer(mux)
	t.Cleanup(front.Close)
	g, err := guard.New(guard.Config{
		Issuer:   issuer.URL,
		Resource: front.URL + "/mcp",
		Scopes:   scope.Of("mcp:tools:weather", "mcp:tools:email:send"),
		Logger:   slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(express) }}
	mux.Handle("/mcp", g.Protect(g.RequireToolScopes(guard.ToolScopes{
		"get_forecast": {"mcp:tools:weather"},
		"send_email":   {"mcp:tools:email:send"},
	})(proxy)))
	token := issuer.Token(guardtest.Claims{Audience: front.URL + "/mcp", Scope: "mcp:tools:weather"})

	// send sends a message and returns the tools that it called.
	send := func(
		t *testing.T, to *url.URL, method string, header http.Header, message string,
	) (status int, ran []string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, to.JoinPath("mcp").String(),
			strings.NewReader(message))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = header.Clone()
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		var answer struct{ Ran []string }
		if resp.StatusCode == http.StatusOK {
			if err := json.Unmarshal(body, &answer); err != nil {
				t.Fatalf("%v in %s", err, body)
			}
		}
		return resp.StatusCode, answer.Ran
	}
	guarded, err := url.Parse(front.URL)
	if err != nil {
		t.Fatal(err)
	}

	const (
		weather = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_forecast"}}`
		email   = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"send_email"}}`
		ping    = `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	)
	plain := http.Header{"Content-Type": {"application/json"}}
	charset := func(name string) http.Header {
		return http.Header{"Content-Type": {"application/json; charset=" + name}}
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, email) // into memory
	_ = z.Close()
	var wide bytes.Buffer
	for _, unit := range utf16.Encode([]rune(email)) {
		wide.Write([]byte{byte(unit), byte(unit >> 8)})
	}

	for name, c := range map[string]struct {
		method  string
		header  http.Header
		message string
	}{
		"a method in UTF-7": {"POST", charset("utf-7"),
			strings.Replace(email, "tools/call", "tools+AC8-call", 1)},
		"a tool's name in UTF-7": {"POST", charset("utf-7"),
			strings.Replace(weather, "get_forecast", "+AHM-end+AF8-email", 1)},
		"a message in UTF-16": {"POST", charset("utf-16le"), wide.String()},
		"a message that is zipped": {"POST",
			http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}}, zipped.String()},
		"a NUL after the method":   {"POST", plain, strings.Replace(email, "tools/call", `tools/call\u0000`, 1)},
		"a slash after the method": {"POST", plain, strings.Replace(email, "tools/call", "tools/call/", 1)},
		"a method in capitals":     {"POST", plain, strings.Replace(email, "tools/call", "TOOLS/CALL", 1)},
		"the last of two methods": {"POST", plain,
			strings.Replace(email, `"method"`, `"method":"ping","m\u0065thod"`, 1)},
		"the last of two names": {"POST", plain,
			strings.Replace(weather, `"get_forecast"`, `"get_forecast","name":"send_email"`, 1)},
		"a byte order mark": {"POST", plain, "\ufeff" + email},
		"a batch":           {"POST", plain, "[" + ping + "," + email + "]"},
		"a call by GET":     {"GET", plain, email},
		"a call by DELETE":  {"DELETE", plain, email},
		"a call by PUT":     {"PUT", plain, email},
		"a call as text":    {"POST", http.Header{"Content-Type": {"text/plain"}}, email},
		"headers that say it pings": {"POST",
			http.Header{"Content-Type": {"application/json"}, "Mcp-Protocol-Version": {"2026-07-28"},
				"Mcp-Method": {"ping"}}, email},
	} {
		t.Run(name, func(t *testing.T) {
			if status, ran := send(t, express, c.method, c.header, c.message); !cmp.Equal(ran, []string{"send_email"}) {
				t.Errorf("sent to Express itself: status %d, tools %v; this message tries nothing", status, ran)
			}
			if status, ran := send(t, guarded, c.method, c.header, c.message); status < 400 || ran != nil {
				t.Errorf("behind the guard: status %d, tools %v", status, ran)
			}
		})
	}
	modern := http.Header{"Content-Type": {"application/json"}, "Mcp-Protocol-Version": {"2026-07-28"},
		"Mcp-Method": {"tools/call"}, "Mcp-Name": {"get_forecast"}}
	for _, header := range []http.Header{plain, charset("utf-8"), modern} {
		if status, ran := send(t, guarded, "POST", header, weather); !cmp.Equal(ran, []string{"get_forecast"}) {
			t.Errorf("%v: a call that the token allows: status %d, tools %v", header, status, ran)
		}
	}
}
