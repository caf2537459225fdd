package gateway_test

import (
	"context"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/cardea-auth/cardea/internal/porttest"
)

// startValkey starts a real Valkey, or Redis, at an address that is free, or at the given one.
func startValkey(t *testing.T, address string) (at string, stop func()) {
	t.Helper()
	program, err := exec.LookPath("valkey-server")
	if err != nil {
		if program, err = exec.LookPath("redis-server"); err != nil {
			t.Fatal("this test needs valkey-server or redis-server: run test/install")
		}
	}
	if address == "" {
		address = porttest.Address(t)
	}
	_, port, _ := net.SplitHostPort(address)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
		"--dir", t.TempDir(), "--logfile", filepath.Join(t.TempDir(), "log"), "--requirepass", "hunter2")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); _ = cmd.Wait() }) }
	t.Cleanup(stop)
	eventually(t, "Valkey does not start", func() bool {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return address, stop
}

// Two processes count the calls of a person together. While their Valkey is away each counts by itself, and afterwards
// they count together again.
func TestTwoGatewaysShareLimits(t *testing.T) {
	address, stop := startValkey(t, "")
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true}))
	var gateways []*process
	for range 2 {
		w.file = filepath.Join(t.TempDir(), "gateway.yaml")
		w.write(strings.ReplaceAll(files, "    rules:", "    limits: {calls: 3/1h}\n    rules:") +
			"listen: 127.0.0.1:0\nspool: none\nvalkey: redis://:hunter2@" + address + "\n")
		gateways = append(gateways, w.process())
	}
	allowed := func(person string) (n int) {
		token := w.as(person, "/files", "files:read")
		for i := range 10 {
			r := gateways[i%2].post("/files", token,
				`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{`+meta+`,"name":"read_file","arguments":{}}}`,
				modern("tools/call", "read_file")...)
			switch r.status {
			case http.StatusOK:
				n++
			case http.StatusTooManyRequests:
				if s, err := strconv.Atoi(r.header.Get("Retry-After")); err != nil || s < 1 {
					t.Errorf("Retry-After: %q", r.header.Get("Retry-After"))
				}
			default:
				t.Fatalf("%d %s", r.status, r.body)
			}
		}
		return n
	}
	// On a busy machine a gateway may not have an answer of Valkey in time, and then counts a person by itself.
	person := 0
	together := func() bool {
		person++
		return allowed("eve"+strconv.Itoa(person)) == 3
	}
	eventually(t, "the gateways do not count together", together)
	stop()
	if n := allowed("bob"); n != 6 {
		t.Errorf("%d calls are allowed while Valkey is away, want 3 in each gateway", n)
	}
	_, stop = startValkey(t, address)
	defer stop()
	eventually(t, "the gateways do not count together again", together)
}
