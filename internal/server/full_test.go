//go:build linux

package server_test

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// FL-15: a server says that its disk is nearly full before it is. On a full disk it issues no token of which the record
// is lost, answers what needs no write, and goes on when there is room, without a restart.
func TestFullDisk(t *testing.T) {
	folder := t.TempDir()
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=64m"); err != nil {
		runWithMounts(t, err)
		return
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(folder, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	clock := storetest.NewClock()
	db := storetest.Connect(t, "sqlite:"+filepath.Join(folder, "cardea.db"), clock)
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := servertest.New(t, db, clock)
	s.MayFault = true
	s.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts")
	bot := s.Client(servertest.Confidential, func(c *oauth.Client) {
		c.GrantTypes, c.RedirectURIs, c.ResponseTypes = []oauth.GrantType{oauth.ClientCredentials}, nil, nil
		c.Resources, c.Scope = []string{servertest.MCP}, "mcp:tools:weather"
	})
	agent := s.Agent(t, bot)
	asked := kinds(t, s, s, s.User("ada@example.com"))
	already := len(s.Events("token.request"))
	ask := func() (status int, retry, body string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/oauth2/token", strings.NewReader(
			url.Values{"grant_type": {"client_credentials"}, "scope": {"mcp:tools:weather"},
				"resource": {servertest.MCP}}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth(bot.ID, bot.Secret)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header.Get("Retry-After"), string(text)
	}
	if status, _, body := ask(); status != http.StatusOK {
		t.Fatalf("before: %d %s", status, body)
	}
	if reply := agent.Get("/readyz"); reply.Status != http.StatusOK {
		t.Fatalf("before: %d %s", reply.Status, reply.Body)
	}

	ballast, err := os.Create(filepath.Join(folder, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer ballast.Close()
	// fill writes at most so many bytes, and reports whether the disk is full.
	fill := func(most int) (full bool) {
		t.Helper()
		block := make([]byte, 4096)
		for range most / len(block) {
			if _, err := ballast.Write(block); errors.Is(err, syscall.ENOSPC) {
				return true
			} else if err != nil {
				t.Fatal(err)
			}
		}
		return false
	}
	if fill(36 << 20) {
		t.Fatal("the disk is full already")
	}
	if reply := agent.Get("/readyz"); reply.Status != http.StatusServiceUnavailable ||
		!strings.Contains(string(reply.Body), "the disk of the database is nearly full") {
		t.Errorf("nearly full: %d %s", reply.Status, reply.Body)
	}
	if status, _, body := ask(); status != http.StatusOK {
		t.Errorf("nearly full, a token: %d %s", status, body)
	}

	if !fill(64 << 20) {
		t.Fatal("the disk is not full")
	}
	issued, refused := 0, 0
	for range 200 { // the log of the database has some room left
		switch status, retry, body := ask(); status {
		case http.StatusOK:
			issued++
		case http.StatusServiceUnavailable:
			if refused++; retry == "" || !strings.Contains(body, "temporarily_unavailable") {
				t.Errorf("full, a token: Retry-After %q, %s", retry, body)
			}
		default:
			t.Errorf("full, a token: %d %s", status, body)
		}
	}
	if refused == 0 {
		t.Error("200 tokens are issued on a full disk")
	}
	for what, send := range asked { // some need no write
		reply := send()
		if reply.Status == http.StatusOK && (what == "a code" || what == "a refresh") {
			issued++
		}
		if reply.Status == http.StatusServiceUnavailable && reply.Header.Get("Retry-After") == "" ||
			reply.Status > 499 && reply.Status != http.StatusServiceUnavailable {
			t.Errorf("full, %s: %d, Retry-After %q: %.200s", what, reply.Status, reply.Header.Get("Retry-After"),
				reply.Body)
		}
	}
	for _, path := range []string{"/healthz", "/.well-known/jwks", "/.well-known/oauth-authorization-server"} {
		if reply := agent.Get(path); reply.Status != http.StatusOK {
			t.Errorf("full, %s: %d %s", path, reply.Status, reply.Body)
		}
	}
	if reply := agent.Get("/readyz"); reply.Status != http.StatusServiceUnavailable {
		t.Errorf("full: %d %s", reply.Status, reply.Body)
	}

	if err := ballast.Truncate(0); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return agent.Get("/readyz").Status == http.StatusOK })
	if status, _, body := ask(); status != http.StatusOK {
		t.Errorf("with room again, a token: %d %s", status, body)
	}
	if got := len(s.Events("token.request")) - already; got != issued+3 {
		t.Errorf("%d tokens were issued, and %d are recorded", issued+3, got)
	}
}

// runWithMounts runs the test again in a process with mounts of its own, which an account other than root may have. The
// error is that of the mount in this process.
func runWithMounts(t *testing.T, refused error) {
	t.Helper()
	const again = "CARDEA_TEST_OWN_MOUNTS"
	if os.Getenv(again) != "" {
		t.Fatalf("a small disk cannot be mounted in a namespace either: %v", refused)
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	child.Env = append(os.Environ(), again+"=1")
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	output, err := child.CombinedOutput()
	if err != nil || !strings.Contains(string(output), "--- PASS: "+t.Name()) {
		t.Errorf("%v; run it as root, or allow user namespaces: %v\n%s", refused, err, output)
	}
}
