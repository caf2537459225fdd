package clients_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/porttest"
)

// cardea doctor finds nothing at the MCP servers that the guides show.
func TestDoctor(t *testing.T) {
	t.Run("Node", func(t *testing.T) { nodeExample(t).diagnose(t) })
	t.Run("Go", func(t *testing.T) { goExample(t).diagnose(t) })
}

// diagnose asks the doctor about the MCP server, and fails the test if it finds something.
func (d *demo) diagnose(t *testing.T) {
	t.Helper()
	var report struct {
		Verdict string
		Checks  []struct{ ID, Status, Found string }
	}
	command(t, d.env, &report, "doctor", d.MCP, "--register", "-o", "json")
	if report.Verdict != "ok" {
		t.Errorf("the verdict on %s is %s", d.MCP, report.Verdict)
		for _, c := range report.Checks {
			t.Logf("%s %s: %s", c.Status, c.ID, c.Found)
		}
	}
}

// goExample runs the Go example behind a server of its own until the test ends.
func goExample(t *testing.T) *demo {
	t.Helper()
	d := startServer(t)
	address := porttest.Address(t)
	d.MCP = "http://" + address + "/mcp"
	var resource struct{ Identifier string }
	command(t, d.env, &resource, "resource", "create", "--identifier", d.MCP, "--name", "Go example",
		"--scope", "mcp:tools:weather=Weather forecasts", "--scope", "mcp:tools:email:send=Send e-mail",
		"--default-scope", "mcp:tools:weather", "-o", "json")
	program := filepath.Join(t.TempDir(), "server")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../examples/go")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	running, stop := context.WithCancel(t.Context())
	runUntilEnd(t, exec.CommandContext(running, program), stop,
		[]string{"ISSUER=" + d.Issuer, "RESOURCE=" + d.MCP, "LISTEN=" + address})
	await(t, strings.TrimSuffix(d.MCP, "/mcp")+"/.well-known/oauth-protected-resource/mcp")
	return d
}
