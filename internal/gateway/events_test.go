package gateway_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/cardea-auth/cardea/guard/guardtest"
	"github.com/cardea-auth/cardea/internal/gateway"
)

// reporting adds the credentials with which a gateway reports to a server of a configuration.
func reporting(w *world, servers string) string {
	return strings.ReplaceAll(servers, "    rules:", fmt.Sprintf("    client: {id: %s, secret: %s}\n    rules:",
		w.issuer.ClientID, w.issuer.ClientSecret))
}

// reported waits until the issuer has n events, and returns them.
func (w *world) reported(n int) (got []guardtest.ToolCall) {
	w.Helper()
	eventually(w.T, fmt.Sprintf("the issuer does not get %d events", n), func() bool {
		got = w.issuer.ToolCalls()
		return len(got) >= n
	})
	return got
}

// Each tool call comes into the audit log of the issuer, once, also those from before a reload and while the issuer was
// away.
func TestToolCallsAreReported(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	w.reload(reporting(w, files))
	token := w.token("/files", "files:read")
	call := func(tool string) {
		w.post("/files", token, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{`+meta+`,"name":"`+tool+`","arguments":{"path":"/data/x"}}}`,
			modern("tools/call", tool)...)
	}
	call("read_file")
	call("write_file")
	w.reload(reporting(w, files))
	call("delete_file")
	want := map[string]string{"read_file": "allowed", "write_file": "refused", "delete_file": "refused"}
	for _, c := range w.reported(3) {
		if c.Outcome != want[c.Tool] || c.User != w.issuer.User || c.TokenID == "" ||
			(c.Reason == "") != (c.Outcome == "allowed") {
			t.Errorf("%+v", c)
		}
		delete(want, c.Tool)
	}
	if len(want) > 0 {
		t.Errorf("%v are missing", want)
	}
	spool := filepath.Join(filepath.Dir(w.file), "cardea-gateway-spool")
	if _, err := os.Stat(spool); err != nil {
		t.Error(err)
	}
}

// When a client has the answer of a tool, the call is on disk, also if the answer is an event of a stream that goes on:
// a gateway that is killed then loses nothing.
func TestAnswersAreRecordedFirst(t *testing.T) {
	w := start(t, files, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n"+
			"data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"content\":[]}}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	w.reload(reporting(w, files))
	response := w.open(t.Context(), "POST", "/files", w.token("/files", "files:read"), call("1", "read_file", "{}"))
	defer response.Body.Close()
	for r := bufio.NewReader(response.Body); !strings.Contains(data(t, r), "result"); {
	}
	segments, err := filepath.Glob(filepath.Join(filepath.Dir(w.file), "cardea-gateway-spool", "*", "*.events"))
	if err != nil || len(segments) != 1 {
		t.Fatalf("segments: %v %v", segments, err)
	}
	text, err := os.ReadFile(segments[0])
	if err != nil || strings.Count(string(text), `"tool":"read_file"`) != 1 {
		t.Errorf("on disk: %s %v", text, err)
	}
}

// /readyz reports the state of the issuer and of each server. The gateway stays ready if one server cannot be reached.
func TestReadyTellsOfServers(t *testing.T) {
	w := start(t, files+`
  - name: gone
    path: /gone
    upstream: http://127.0.0.1:1/mcp
    rules: [{tools: [x], scopes: []}]
  - name: program
    path: /program
    command: ["/nonexistent"]
    rules: [{tools: [x], scopes: []}]
`, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	look := func() (status int, report struct {
		Status   string
		Services map[string]string
		Servers  map[string]struct {
			Status, Reason string
			Programs       *int
		}
	}) {
		r := w.send("GET", "/readyz", "", "")
		if err := json.Unmarshal([]byte(r.body), &report); err != nil {
			t.Fatalf("%v: %s", err, r.body)
		}
		return r.status, report
	}
	status, report := look()
	if status != http.StatusOK || report.Status != "degraded" || report.Services["oauth_server"] != "healthy" ||
		report.Servers["files"].Status != "healthy" || report.Servers["gone"].Status != "unhealthy" ||
		report.Servers["gone"].Reason == "" || report.Servers["program"].Programs == nil ||
		*report.Servers["program"].Programs != 0 {
		t.Errorf("%d %+v", status, report)
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(w.public, "http://"), ":")
	for host, told := range map[string]bool{
		"localhost:" + port: true, "app.localhost:" + port: true, "10.0.0.7:" + port: true,
		"[fd00::7]": true, "127.0.0.1": true,
		"evil.example:" + port: false, "127.0.0.1.evil.example:" + port: false, "localhost.evil.example": false,
	} {
		r := w.send("GET", "/readyz", "", "", "Host", host)
		if r.status != http.StatusOK || !strings.Contains(r.body, `"degraded"`) ||
			strings.Contains(r.body, "files") != told || strings.Contains(r.body, "oauth_server") != told {
			t.Errorf("GW-14 asked as %q: %d %s", host, r.status, r.body)
		}
	}
	w.issuer.SetDown(true)
	if r := w.send("GET", "/healthz", "", ""); r.status != http.StatusOK {
		t.Errorf("healthz: %d", r.status)
	}
}

// A gateway whose Valkey does not answer counts calls by itself.
func TestLimitsWithoutValkey(t *testing.T) {
	w := start(t, strings.ReplaceAll(files, "    rules:", "    limits: {calls: 2/1h}\n    rules:"),
		official(&mcp.StreamableHTTPOptions{Stateless: true}))
	text, err := os.ReadFile(w.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.file, append([]byte("valkey: redis://127.0.0.1:1\n"), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := gateway.Load(w.file)
	if err == nil {
		err = w.gw.Reload(config)
	}
	if err != nil {
		t.Fatal(err)
	}
	token, allowed := w.token("/files", "files:read"), 0
	for range 5 {
		r := w.post("/files", token,
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{`+meta+`,"name":"read_file","arguments":{}}}`,
			modern("tools/call", "read_file")...)
		if r.status != http.StatusTooManyRequests {
			allowed++
		}
	}
	if allowed != 2 {
		t.Errorf("%d calls are allowed while the shared limits are away, want 2", allowed)
	}
	for _, bad := range []string{"valkey: http://:hunter2@x", "valkey: [a]"} {
		if err := os.WriteFile(w.file, append([]byte(bad+"\n"), text...), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := gateway.Load(w.file); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
