package clients_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The programs of the guide run unchanged: a machine makes a key, is registered with it, and uses a tool, by hand and
// with the official TypeScript SDK.
func TestMachineGuide(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guides/machine-clients.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, program := range regexp.MustCompile("(?ms)^```js\n// (\\S+)\n(.*?)^```$").FindAllSubmatch(guide, -1) {
		if err := os.WriteFile(filepath.Join(dir, string(program[1])), program[2], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err = os.Symlink(filepath.Join(needed(t, "CARDEA_CLIENTS"), "node_modules"), filepath.Join(dir, "node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	d := startDemo(t)
	var machine credential
	run := func(program string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), needed(t, "CARDEA_NODE"), program)
		cmd.Dir = dir
		cmd.Env = environ("ISSUER="+d.Issuer, "CLIENT_ID="+machine.ID, "MCP_SERVER="+d.MCP)
		var complaint strings.Builder
		cmd.Stderr = &complaint
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s%s", program, err, out, complaint.String())
		}
		return strings.TrimSpace(string(out))
	}
	run("make-key.mjs")
	machine = d.createClient(t, "--name", "Signed", "--grant", "client_credentials", "--scope", "mcp:tools:weather",
		"--resource", d.MCP, "--auth-method", "private_key_jwt", "--jwks", filepath.Join(dir, "keys.json"))

	t.Run("by hand", func(t *testing.T) {
		var inspected struct {
			Accepted bool `json:"accepted"`
			Claims   struct {
				Subject string `json:"sub"`
			} `json:"claims"`
		}
		command(t, d.env, &inspected, "token", "inspect", "--issuer", d.Issuer, run("token.mjs"), "-o", "json")
		if !inspected.Accepted || inspected.Claims.Subject != machine.ID {
			t.Errorf("the token: %+v", inspected)
		}
	})
	t.Run("through the TypeScript SDK", func(t *testing.T) {
		if said := run("agent.mjs"); !strings.Contains(said, "Rome") {
			t.Errorf("the tool said %q", said)
		}
	})
}
