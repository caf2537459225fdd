package gateway_test

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

var older = strings.Replace(files, "    rules", "    transport: sse\n    rules", 1)

func olderServer() http.Handler {
	s := officialServer()
	return mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return s }, nil)
}

func TestItem09Endpoint(t *testing.T) {
	two := older + strings.NewReplacer("name: files", "name: other", "path: /files", "path: /other").Replace(older)
	w := start(t, two, olderServer())
	token := w.token("/files", "files:read")
	response := w.open(t.Context(), "GET", "/files", token, "", "Accept", "text/event-stream")
	defer response.Body.Close()
	r := bufio.NewReader(response.Body)
	if line, err := r.ReadString('\n'); err != nil || line != "event: endpoint\n" {
		t.Fatalf("first: %q %v", line, err)
	}
	endpoint := strings.TrimSpace(data(t, r))
	if !strings.HasPrefix(endpoint, "/files?session=") {
		t.Fatalf("endpoint: %s", endpoint)
	}
	hits := w.server.hits()
	for name, tt := range map[string]struct{ path, token string }{
		"another person": {endpoint, w.as("eve", "/files", "files:read")},
		"another route":  {strings.Replace(endpoint, "/files", "/other", 1), w.token("/other", "files:read")},
		"invented":       {"/files?session=x", token},
		"twice":          {endpoint + "&session=x", token},
	} {
		if r := w.post(tt.path, tt.token, ping); r.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	if r := w.post(endpoint, token, call("1", "delete_file", "{}")); r.code() != -32601 {
		t.Errorf("a closed tool: %d %s", r.status, r.body)
	}
	if r := w.post("/files", token, ping); r.status != http.StatusMethodNotAllowed || w.server.hits() != hits {
		t.Errorf("without a stream: %d %s", r.status, r.body)
	}
	if r := w.post(endpoint, token, ping); r.status != http.StatusAccepted {
		t.Errorf("its own: %d %s", r.status, r.body)
	}
}

// The official client of the older transport works, and the lists on its stream are filtered.
func TestItem10OlderClient(t *testing.T) {
	w := start(t, older, olderServer())
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), &mcp.SSEClientTransport{
		Endpoint: w.public + "/files", HTTPClient: &http.Client{Transport: withToken(w.token("/files", "files:read"))},
	}, nil)
	if err != nil {
		t.Fatal(err, w.log, w.server.last())
	}
	t.Cleanup(func() { _ = session.Close() })
	works(t, session, "ask open read_file read_other slow")
}
