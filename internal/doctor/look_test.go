package doctor_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/cardea-auth/cardea/internal/doctor"
)

// names returns the names of the tools in a sight.
func names(s *doctor.Sight) string {
	if s == nil {
		return ""
	}
	var all []string
	for _, text := range s.Tools {
		var tool struct{ Name string }
		_ = json.Unmarshal(text, &tool)
		all = append(all, tool.Name)
	}
	return s.Name + ": " + strings.Join(all, " ")
}

func look(t *testing.T, url string, header http.Header) (*doctor.Sight, error) {
	t.Helper()
	return doctor.Look(t.Context(), doctor.LookOptions{Options: doctor.Options{URL: url, Now: time.Now},
		Header: header})
}

// Servers of the official SDK are looked at, with sessions and without, as JSON and as a stream, and their sessions
// end.
func TestLookOfficial(t *testing.T) {
	tools := mcp.NewServer(&mcp.Implementation{Name: "files", Version: "1"}, &mcp.ServerOptions{PageSize: 2})
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		mcp.AddTool(tools, &mcp.Tool{Name: name},
			func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
				t.Error("a tool was called")
				return nil, nil, nil
			})
	}
	for _, options := range []mcp.StreamableHTTPOptions{{}, {JSONResponse: true}, {Stateless: true}} {
		ended := 0
		handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return tools }, &options)
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodDelete {
				ended++
			}
			handler.ServeHTTP(w, r)
		}))
		seen, err := look(t, s.URL, nil)
		if err != nil || names(seen) != "files: a b c d e" {
			t.Errorf("%+v: %v %s", options, err, names(seen))
		}
		if !options.Stateless && ended != 1 {
			t.Errorf("%+v: %d sessions ended", options, ended)
		}
		s.Close()
	}
}

// A server of MCP 2026-07-28 alone is asked as it wants to be.
func TestLookStateless(t *testing.T) {
	s := answering(t, func(m message) string {
		switch {
		case m.header.Get("Mcp-Method") != m.Method || !strings.Contains(m.body, "protocolVersion\":\"2026-07-28"):
			return `"error":{"code":-32020,"message":"no"}`
		case m.Method == "server/discover":
			return `"result":{"serverInfo":{"name":"new"}}`
		}
		return `"result":{"tools":[{"name":"a"}]}`
	})
	if seen, err := look(t, s.URL, nil); err != nil || names(seen) != "new: a" {
		t.Errorf("%v %s", err, names(seen))
	}
}

type message struct {
	ID     json.RawMessage
	Method string
	Params struct{ Cursor string }
	header http.Header
	body   string
}

func answering(t *testing.T, answer func(message) string) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		m := message{header: r.Header, body: string(body)}
		if err != nil || json.Unmarshal(body, &m) != nil || m.ID == nil {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,%s}`, m.ID, answer(m))
	}))
	t.Cleanup(s.Close)
	return s
}

// What a server does wrong is said, and it cannot make a look last.
func TestLookFaults(t *testing.T) {
	const hello = `"result":{"serverInfo":{"name":"x"}}`
	for name, test := range map[string]struct {
		list func(cursor string) string
		want string
	}{
		"the same cursor": {func(string) string { return `"result":{"tools":[],"nextCursor":"a"}` }, "the same cursor"},
		"too many": {func(string) string { return `"result":{"tools":[0` + strings.Repeat(",0", 1000) + `]}` },
			"more than 1000 tools"},
		"too much": {func(cursor string) string {
			return `"result":{"tools":["` + strings.Repeat("x", 3<<20) + `"],"nextCursor":"` + cursor + `x"}`
		}, "more than 8 MB"},
		"an error":          {func(string) string { return `"error":{"code":-32601,"message":"no\u001btools"}` }, "refuses tools/list"},
		"not what MCP says": {func(string) string { return `"result":{"tools":7}` }, "not what MCP says"},
		"pages without end": {func(cursor string) string {
			n, _ := strconv.Atoi(cursor)
			return `"result":{"tools":[],"nextCursor":"` + strconv.Itoa(n+1) + `"}`
		}, "more than 40 pages"},
	} {
		s := answering(t, func(m message) string {
			if m.Method != "tools/list" {
				return hello
			}
			return test.list(m.Params.Cursor)
		})
		if seen, err := look(t, s.URL, nil); err == nil || !strings.Contains(err.Error(), test.want) ||
			strings.ContainsRune(err.Error(), '\x1b') {
			t.Errorf("%s: %v %s", name, err, names(seen))
		}
	}
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/page":
			fmt.Fprint(w, "<!doctype html>")
		case "/moved":
			http.Redirect(w, r, "/page?secret", http.StatusPermanentRedirect)
		default:
			if r.Header.Get("Authorization") != "Bearer good" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}`)
		}
	}))
	defer page.Close()
	if _, err := look(t, page.URL+"/page", nil); err == nil || !strings.Contains(err.Error(), "an HTML page") {
		t.Errorf("a page: %v", err)
	}
	if _, err := look(t, page.URL+"/moved", nil); err == nil || !strings.Contains(err.Error(), page.URL+"/page;") {
		t.Errorf("moved: %v", err)
	}
	if _, err := look(t, page.URL, nil); !errors.Is(err, doctor.ErrWantsToken) {
		t.Errorf("without a token: %v", err)
	}
	if _, err := look(t, page.URL, http.Header{"Authorization": {"Bearer good"}}); err != nil {
		t.Errorf("with a token: %v", err)
	}
	if _, err := look(t, "npx server", nil); err == nil || !strings.Contains(err.Error(), "is a command") {
		t.Errorf("a command: %v", err)
	}
}

// With a login, a person signs in, the tools are listed with the token, and nothing stays behind.
func TestLookLogin(t *testing.T) {
	w := newWorld(t)
	seen, err := doctor.Look(t.Context(), doctor.LookOptions{Options: w.asked(signsIn)})
	if err != nil || !strings.HasSuffix(names(seen), ": send look") {
		t.Errorf("%v %s", err, names(seen))
	}
	if len(w.clients) > 0 || w.revoked != 1 {
		t.Errorf("%d clients left, %d tokens given back", len(w.clients), w.revoked)
	}
	w.answer = func(members map[string]any) { members["error"] = "invalid_grant"; delete(members, "access_token") }
	if seen, err := doctor.Look(t.Context(), doctor.LookOptions{Options: w.asked(signsIn)}); err == nil ||
		!strings.Contains(err.Error(), "invalid_grant") {
		t.Errorf("%v %s", err, names(seen))
	}
}
