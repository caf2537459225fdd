package gateway_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// FL-28: a gateway with many streams is killed. All of its clients come back at the same moment, to another one, which
// does not know their sessions and says so, in a way that has none of them ask for its old stream for ever. Each begins
// again, and has its stream and its answers.
func TestManyStreamsKilled_FL28(t *testing.T) {
	w := start(t, files, official(nil))
	w.write(files + "listen: 127.0.0.1:0\n")
	one, other := w.process(), w.process()
	token := w.token("/files", "files:read")
	sessions, streams := make([]string, 50), make([]*http.Response, 50)
	for i := range sessions {
		sessions[i] = one.initialize("/files", token)
		streams[i] = one.open(t.Context(), "GET", "/files", token, "", "Mcp-Session-Id", sessions[i])
		if streams[i].StatusCode != http.StatusOK {
			t.Fatalf("stream %d: %d", i, streams[i].StatusCode)
		}
	}
	one.kill()
	var all sync.WaitGroup
	for i, session := range sessions {
		all.Go(func() {
			_, _ = io.ReadAll(streams[i].Body) // until it ends
			streams[i].Body.Close()
			gone := other.send("GET", "/files", token, "", "Mcp-Session-Id", session)
			again := other.post("/files", token, ping, "Mcp-Session-Id", session)
			if gone.status != http.StatusMethodNotAllowed || again.status != http.StatusNotFound {
				t.Errorf("the session %d of another gateway: %d, %d", i, gone.status, again.status)
			}
			session := other.initialize("/files", token)
			response := other.open(t.Context(), "GET", "/files", token, "", "Mcp-Session-Id", session)
			defer response.Body.Close()
			beat, err := bufio.NewReader(response.Body).ReadString('\n')
			if response.StatusCode != http.StatusOK || err != nil || !strings.HasPrefix(beat, ":") {
				t.Errorf("stream %d: %d, %q, %v", i, response.StatusCode, beat, err)
			}
			r := other.post("/files", token, call("1", "read_file", `{}`), "Mcp-Session-Id", session)
			if r.status != http.StatusOK || !strings.Contains(r.body, "read_file") {
				t.Errorf("call %d: %d %s", i, r.status, r.body)
			}
		})
	}
	all.Wait()
}
