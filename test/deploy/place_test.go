package deploy_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A place is where Cardea is installed. Only root may enter one and be another account; for others the program runs
// from there as it is.
type place struct {
	root     string   // of its file system
	program  string   // as it is called there
	serve    []string // the arguments of the service
	uid, gid uint32   // of the service
	env      []string
}

// asRoot reports whether the tests may do what an installation does.
func asRoot() bool { return os.Getuid() == 0 }

// command returns the program with arguments, as the account of the service.
func (p place) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	if !asRoot() {
		c := exec.CommandContext(t.Context(), filepath.Join(p.root, p.program), args...)
		c.Env = append(os.Environ(), p.env...)
		return c
	}
	c := exec.CommandContext(t.Context(), p.program, args...)
	c.Env, c.Dir = p.env, "/"
	c.SysProcAttr = &syscall.SysProcAttr{Chroot: p.root, Credential: &syscall.Credential{Uid: p.uid, Gid: p.gid}}
	return c
}

// run runs the program and returns what it prints.
func (p place) run(t *testing.T, args ...string) string {
	t.Helper()
	c := p.command(t, args...)
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", p.program, strings.Join(args, " "), err, out, &errs)
	}
	return string(out)
}

// token has the service issue a token to a machine.
func (p place) token(t *testing.T, issuer string) {
	t.Helper()
	resource := "https://mcp.example.com/mcp"
	p.run(t, "resource", "create", "--identifier", resource, "--scope", "mcp:tools:weather=Weather")
	var client struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	text := p.run(t, "client", "create", "--name", "Bot", "--grant", "client_credentials", "--scope",
		"mcp:tools:weather", "--resource", resource, "-o", "json")
	if err := json.Unmarshal([]byte(text), &client); err != nil {
		t.Fatal(err)
	}
	started(t, `"msg":"serving"`, p.command(t, p.serve...))
	p.run(t, "health")
	token := post(t, http.DefaultClient, issuer+"/oauth2/token", nil, url.Values{"client_id": {client.ID},
		"client_secret": {client.Secret}, "grant_type": {"client_credentials"}, "resource": {resource}})
	if !strings.Contains(token, `"access_token":"ey`) {
		t.Error(token)
	}
}

// account returns the numbers of an account of the place.
func (p place) account(t *testing.T, name string) (uid, gid uint32) {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + name + `:[^:]*:(\d+):(\d+):`).FindStringSubmatch(read(t, p.root, "/etc/passwd"))
	if m == nil {
		t.Fatalf("there is no account %s", name)
	}
	u, _ := strconv.ParseUint(m[1], 10, 32)
	g, _ := strconv.ParseUint(m[2], 10, 32)
	return uint32(u), uint32(g)
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// put writes a file, and makes its folder.
func put(t *testing.T, file string, text []byte, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, mode); err != nil {
		t.Fatal(err)
	}
}

// minimal returns the root of a Debian system with programs of this one, and without packages.
func minimal(t *testing.T, programs ...string) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil { // other accounts enter it
		t.Fatal(err)
	}
	for _, name := range []string{"var/lib/dpkg/updates", "var/lib/dpkg/info"} {
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n",
		"etc/shadow": "root:*:20000::::::\n", "etc/gshadow": "root:*::\n", "var/lib/dpkg/status": "",
		"dev/null": ""} {
		put(t, filepath.Join(root, name), []byte(text), 0o644)
	}
	for _, name := range programs {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		files := map[string]string{path: filepath.Join("/bin", name)}
		for _, m := range regexp.MustCompile(`(/\S+) \(0x`).FindAllStringSubmatch(run(t, nil, "ldd", path), -1) {
			files[m[1]] = m[1]
		}
		for from, to := range files {
			put(t, filepath.Join(root, to), []byte(read(t, from)), 0o755)
		}
	}
	return root
}
