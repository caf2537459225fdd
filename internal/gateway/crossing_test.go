package gateway_test

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/cardea-auth/cardea/guard/guardtest"
)

// crossings is how many calls two people make at the same time, in each way to reach a server. The long form takes
// longer than the ten minutes that go test allows: CARDEA_LONG=1 go test -timeout 1h -run TestItem18GW30EqualIDs
// ./internal/gateway
func crossings() int {
	if os.Getenv("CARDEA_LONG") != "" {
		return 100_000
	}
	return 200
}

// Calls of two people with equal ids, and equal progress tokens, at the same time get their own answers.
func TestItem18GW30EqualIDs(t *testing.T) {
	for name, tt := range map[string]struct {
		start     func(*testing.T) *world
		stateless bool
	}{
		"sessions": {start: func(t *testing.T) *world { return start(t, files, official(nil)) }},
		"stateless": {func(t *testing.T) *world {
			return start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
		}, true},
		"programs":           {start: func(t *testing.T) *world { return startProgram(t, program) }},
		"stateless programs": {func(t *testing.T) *world { return startProgram(t, program) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := tt.start(t)
			var all sync.WaitGroup
			for _, person := range []string{"ada", "bob"} {
				token := w.issuer.Token(guardtest.Claims{Subject: person, Audience: w.public + "/files", Scope: "files:read",
					TTL: 2 * time.Hour})
				extra, headers := "", []string{}
				if tt.stateless {
					extra, headers = meta+",", modern("tools/call", "read_file")
				} else {
					headers = []string{"Mcp-Session-Id", w.initialize("/files", token)}
				}
				for worker := range 4 {
					all.Go(func() {
						for i := range crossings() / 8 {
							path := fmt.Sprintf("/%s/%d/%d", person, worker, i)
							// In a session, one client does not use an id twice; without one, each worker is a process.
							id := fmt.Sprint(i)
							if !tt.stateless {
								id = fmt.Sprint(worker*crossings() + i)
							}
							r := w.post("/files", token, `{"jsonrpc":"2.0","id":`+id+`,"method":"tools/call","params":{`+
								extra+`"name":"read_file","arguments":{"path":"`+path+`"}}}`, headers...)
							if !strings.Contains(r.body, `"read_file `+path+`"`) || !strings.Contains(r.body, `"id":`+id+`,`) {
								t.Errorf("%s got %d %s", path, r.status, r.body)
								return
							}
						}
					})
				}
			}
			all.Wait()
		})
	}
}

// keeper is a route whose program says what it was sent.
var keeper = strings.NewReplacer("official", "keeper", `"read_*"`, `read_it`).Replace(program)

// said returns what the program of a person was sent.
func (w *world) said(token string) string {
	return w.post("/files", token, `{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{`+meta+`,"name":"read_it"}}`,
		modern("tools/call", "read_it")...).body
}

// Without sessions, a client's processes share a program. What one sends does not cancel, or answer, what is another's.
func TestItem18OthersRequests(t *testing.T) {
	w := startProgram(t, keeper)
	token := w.token("/files", "files:read")
	body := `{"jsonrpc":"2.0","id":"mine","method":"tools/call","params":{"_meta":{"progressToken":"p",` +
		strings.TrimPrefix(meta, `"_meta":{`) + `,"name":"slow"}}`
	response := w.open(t.Context(), "POST", "/files", token, body, modern("tools/call", "slow")...)
	defer response.Body.Close()
	if got := data(t, bufio.NewReader(response.Body)); !strings.Contains(got, `"progressToken":"p"`) {
		t.Fatalf("first: %s", got)
	}
	for message, headers := range map[string][]string{
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`: modern("notifications/cancelled", ""),
		`{"jsonrpc":"2.0","id":1,"result":{"stolen":true}}`:                             {"MCP-Protocol-Version", "2026-07-28"},
	} {
		if r := w.post("/files", token, message, headers...); r.status != http.StatusAccepted {
			t.Errorf("%s: %d %s", message, r.status, r.body)
		}
	}
	if said := w.said(token); !strings.Contains(said, "slow") || strings.Contains(said, "cancelled") ||
		strings.Contains(said, "stolen") {
		t.Errorf("the program got %s", said)
	}
	response.Body.Close() // disconnecting does cancel, under the id that the program knows
	eventually(t, "the program was not told", func() bool {
		return strings.Contains(w.said(token), `notifications/cancelled\",\"params\":{\"requestId\":1}`)
	})
}
