// Package deploy_test installs Cardea as its users do, from the files in deploy.
package deploy_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

const root = "../.." // of the repository

// run runs a command at the root of the repository and returns what it prints.
func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir, c.Env = root, append(os.Environ(), env...)
	var errs strings.Builder
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, errs.String())
	}
	return string(out)
}

// built builds the static program, once for all tests.
//
//nolint:noctx // none of them may cancel it
var built = sync.OnceValues(func() (string, error) {
	file := filepath.Join(scratch, "cardea")
	c := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w -X main.version=v0.0.1", "-o", file, "./cmd/cardea")
	c.Dir, c.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	out, err := c.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return file, err
})

// scratch is a folder for all tests.
var scratch string

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "cardea-deploy-*"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(scratch) // nobody needs it any more
	os.Exit(code)
}

// program returns the path of the static program.
func program(t *testing.T) string {
	t.Helper()
	file, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// What the Debian package installs runs with the configuration that is in it, and issues a token.
func TestDebianPackage(t *testing.T) {
	folder := t.TempDir()
	binary := program(t)
	pack := func(name string) string {
		file := filepath.Join(folder, name)
		run(t, nil, "tools/release/package", "deb", binary, runtime.GOARCH, "0.0.1", "2026-11-30T00:00:00Z", file)
		return file
	}
	file := pack("cardea.deb")
	installed := filepath.Join(folder, "root")
	run(t, nil, "dpkg-deb", "--extract", file, installed)

	t.Run("it has the same bytes each time", func(t *testing.T) {
		first, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		second, err := os.ReadFile(pack("again.deb"))
		if err != nil || string(first) != string(second) {
			t.Errorf("the second one differs: %v", err)
		}
	})
	t.Run("files", func(t *testing.T) {
		for name, mode := range map[string]os.FileMode{
			"usr/bin/cardea": 0o755, "etc/cardea/cardea.yaml": 0o640, "usr/lib/systemd/system/cardea.service": 0o644,
			"usr/share/doc/cardea/copyright": 0o644,
		} {
			if info, err := os.Stat(filepath.Join(installed, name)); err != nil || info.Mode().Perm() != mode {
				t.Errorf("%s: %v, %v; want mode %o", name, info, err, mode)
			}
		}
		if kept := run(t, nil, "dpkg-deb", "--info", file, "conffiles"); kept != "/etc/cardea/cardea.yaml\n" {
			t.Errorf("an upgrade keeps changes in %q", kept)
		}
		for _, script := range []string{"postinst", "prerm"} {
			c := exec.CommandContext(t.Context(), "sh", "-n")
			c.Stdin = strings.NewReader(run(t, nil, "dpkg-deb", "--info", file, script))
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%s: %v %s", script, err, out)
			}
		}
	})
	t.Run("the service", func(t *testing.T) {
		unit := filepath.Join(installed, "usr/lib/systemd/system/cardea.service")
		c := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit)
		out, _ := c.CombinedOutput() // it fails because the program is not in /usr/bin of this machine
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "cardea.service") &&
				!strings.Contains(line, "/usr/bin/cardea is not executable") {
				t.Error(line)
			}
		}
		run(t, nil, "systemd-analyze", "security", "--offline=true", "--threshold=20", unit)
	})
	t.Run("a token", func(t *testing.T) {
		token(t, filepath.Join(installed, "usr/bin/cardea"),
			"CARDEA_CONFIG="+filepath.Join(installed, "etc/cardea/cardea.yaml"), "CARDEA_DATA_DIR="+t.TempDir())
	})
}

// token has the program serve with env and issue a token to a machine.
func token(t *testing.T, program string, env ...string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	issuer := "http://" + l.Addr().String()
	env = append(env, "CARDEA_ISSUER="+issuer, "CARDEA_LISTEN="+l.Addr().String())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	resource := "https://mcp.example.com/mcp"
	run(t, env, program, "resource", "create", "--identifier", resource, "--scope", "mcp:tools:weather=Weather")
	var client struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	text := run(t, env, program, "client", "create", "--name", "Bot", "--grant", "client_credentials",
		"--scope", "mcp:tools:weather", "--resource", resource, "-o", "json")
	if err := json.Unmarshal([]byte(text), &client); err != nil {
		t.Fatal(err)
	}

	server := exec.CommandContext(t.Context(), program, "serve")
	server.Env = append(os.Environ(), env...)
	log, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait() // it was killed
	})
	lines := bufio.NewScanner(log)
	for lines.Scan() && !strings.Contains(lines.Text(), `"msg":"serving"`) {
		t.Log(lines.Text())
	}
	go func() { _, _ = io.Copy(io.Discard, log) }()

	run(t, env, program, "health")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, issuer+"/oauth2/token", strings.NewReader(
		url.Values{"grant_type": {"client_credentials"}, "resource": {resource}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(client.ID, client.Secret)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK || !strings.Contains(string(body), `"access_token":"ey`) {
		t.Errorf("%s %s %v", response.Status, body, err)
	}
}
