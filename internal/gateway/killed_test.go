package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A gateway that is killed amid calls loses none that was answered: the next one reports it, once.
func TestItem40KilledReports(t *testing.T) {
	w := start(t, files, answering("application/json", `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`))
	w.write(reporting(w, files) + "listen: 127.0.0.1:0\n")
	token := w.token("/files", "files:read")
	var mu sync.Mutex
	var answered []string
	for round := range 2 {
		g := w.process()
		enough := make(chan struct{})
		before := len(answered)
		var all sync.WaitGroup
		for worker := range 4 {
			all.Go(func() {
				for i := 0; ; i++ {
					tool := fmt.Sprintf("read_%d_%d_%d", round, worker, i)
					r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.public+"/files",
						strings.NewReader(call("1", tool, "{}")))
					if err != nil {
						t.Error(err)
						return
					}
					r.Host = g.host
					r.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + token},
						"Accept": {"application/json, text/event-stream"}}
					response, err := http.DefaultTransport.RoundTrip(r)
					if err != nil {
						return // it was killed
					}
					body, err := io.ReadAll(response.Body)
					response.Body.Close()
					if err != nil || response.StatusCode != http.StatusOK {
						if err == nil {
							t.Errorf("%d %s", response.StatusCode, body)
						}
						return
					}
					mu.Lock()
					if answered = append(answered, tool); len(answered) == before+40 {
						close(enough)
					}
					mu.Unlock()
				}
			})
		}
		<-enough
		g.kill()
		all.Wait()
	}
	w.process()
	eventually(t, "answered calls are missing in the log, or there twice", func() bool {
		seen := map[string]int{}
		for _, c := range w.issuer.ToolCalls() {
			seen[c.Tool]++
		}
		return !slices.ContainsFunc(answered, func(tool string) bool { return seen[tool] != 1 })
	})
}

// What a program says on standard error, however much, neither stops it nor fills the log.
func TestItem44StandardError(t *testing.T) {
	w := startProgram(t, strings.Replace(program, `["{program}"]`,
		`[sh, -c, "yes 'secret of a person' | head -c 4000000 >&2; `+
			`head -c 2000000 /dev/zero >&2; exec '{program}'"]`, 1))
	token := w.token("/files", "files:read")
	session := w.initialize("/files", token)
	r := w.post("/files", token, call("1", "read_file", `{"path":"/x"}`), "Mcp-Session-Id", session)
	if !strings.Contains(r.body, "read_file /x") || strings.Contains(r.body, "secret") {
		t.Errorf("%d %.200s", r.status, r.body)
	}
	if n := len(w.log.String()); n > 1<<20 {
		t.Errorf("the log has %d bytes", n)
	}
}
