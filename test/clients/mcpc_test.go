package clients_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An mcpc is a person's mcpc command line, which stores its state in a home folder.
type mcpc struct {
	d    *demo
	at   *desk
	home string
	path string // with a browser and a Node
}

func newMCPC(t *testing.T, d *demo) *mcpc {
	t.Helper()
	c := &mcpc{d: d, at: newDesk(t, newPerson(t, d.Email, d.Password)), home: t.TempDir()}
	// It starts `node` and `xdg-open` by name.
	bin := t.TempDir()
	for name, program := range map[string]string{"node": needed(t, "CARDEA_NODE"), "xdg-open": os.Args[0]} {
		absolute, err := filepath.Abs(program)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(absolute, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		logs, _ := filepath.Glob(filepath.Join(c.home, "logs", "*"))
		for _, file := range logs {
			said, _ := os.ReadFile(file)
			t.Logf("%s:\n%s", filepath.Base(file), said)
		}
	})
	c.path = bin + ":" + os.Getenv("PATH")
	return c
}

// run runs a command that prints JSON, and returns its output.
func (c *mcpc) run(t *testing.T, args ...string) (out string, err error) {
	t.Helper()
	for range 5 {
		cmd := node(c.at.waits, t, "node_modules/@apify/mcpc/bin/mcpc", append(args, "--json")...)
		// Without a session bus there is no keychain, so it stores its tokens in a file.
		cmd.Env = append(environ(c.at.env()...), "HOME="+c.home, "MCPC_HOME_DIR="+c.home, "PATH="+c.path,
			"DBUS_SESSION_BUS_ADDRESS=unix:path="+filepath.Join(c.home, "none"))
		var all []byte
		all, err = cmd.CombinedOutput()
		// It waits only five seconds for the process of a session to start, which may not be enough on a busy machine.
		if out = string(all); !strings.Contains(out, "Bridge failed to start") {
			break
		}
	}
	return out, err
}

// mcpc signs in once for all its sessions, which are background processes. It refreshes at the token endpoint that the
// MCP server's origin names, and signs in again for another scope on request.
func TestMCPC(t *testing.T) {
	d := startDemo(t, "CARDEA_TOKENS_ACCESS_TTL=30s") // it treats a token as expired a minute early
	c := newMCPC(t, d)
	do := func(args ...string) string {
		t.Helper()
		out, err := c.run(t, args...)
		if err != nil {
			t.Fatalf("mcpc %q: %v\n%s", args, err, out)
		}
		return out
	}
	do("login", d.MCP)
	do("connect", d.MCP, "@demo")
	defer do("@demo", "close") // its process would keep running
	if out := do("@demo", "tools-call", "get_forecast", "city:=Lisbon"); !strings.Contains(out, "Lisbon") {
		t.Errorf("get_forecast:\n%s", out)
	}
	event := []string{"@demo", "tools-call", "create_event", "title:=Tea", "start:=2031-05-04T15:00"}
	if out, err := c.run(t, event...); err == nil || !strings.Contains(out, "login") {
		t.Errorf("create_event: %v, want the advice to sign in\n%s", err, out)
	}
	// The process of a session is sometimes given the client and the tokens of an earlier sign-in, and then says to
	// sign in again, as the person does here.
	for attempt := 1; ; attempt++ {
		_, _ = c.run(t, "@demo", "close") // fails if it did not connect
		do("login", d.MCP, "--scope", "mcp:tools:weather mcp:tools:calendar:write")
		out, err := c.run(t, "connect", d.MCP, "@demo")
		if err == nil {
			out, err = c.run(t, event...)
		}
		if err == nil {
			break
		}
		if attempt == 3 || !strings.Contains(out, "login") {
			t.Fatalf("create_event after signing in for its scope: %v\n%s", err, out)
		}
	}

	opened := c.at.requests()
	if len(opened) < 2 {
		t.Fatalf("the browser was opened %d times, want twice at least", len(opened))
	}
	if got := d.client(t, opened[0]); got.Origin != "registration" || got.Method != "none" {
		t.Errorf("the client is %+v, want one that registered, without a secret", got)
	}
	if n := d.refreshed(t, opened[0]); n == 0 {
		t.Error("it did not refresh")
	}
}
