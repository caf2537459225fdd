// Package deploy_test installs Cardea as its users do, from the files in deploy.
package deploy_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cardea-auth/cardea/internal/porttest"
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

// The Debian package installs what runs with the configuration that is in it, and issues a token; an upgrade, a removal
// and a purge leave what Debian's users expect.
func TestDebianPackage(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("PATH", "/usr/sbin:/sbin:"+os.Getenv("PATH")) // dpkg wants them
	pack := func(program, version string) string {
		file := filepath.Join(folder, version+".deb")
		run(t, nil, "tools/release/package", "deb", program, runtime.GOARCH, strings.TrimSuffix(version, "again"),
			"2026-11-30T00:00:00Z", file)
		return file
	}
	// Other versions, of which no program needs to run.
	other := filepath.Join(folder, "other")
	put(t, other, []byte("#!/bin/sh\n"), 0o755)
	older, newer := pack(other, "0.0.1"), pack(other, "0.0.3")
	file := pack(program(t), "0.0.2")

	t.Run("it has the same bytes each time", func(t *testing.T) {
		if read(t, older) != read(t, pack(other, "0.0.1again")) {
			t.Error("the second one differs")
		}
	})
	installed := place{root: filepath.Join(folder, "root"), program: "/usr/bin/cardea"}
	dpkg := func(args ...string) {
		t.Helper()
		run(t, nil, "dpkg", append([]string{"--root=" + installed.root, "--log=/dev/null", "--force-depends",
			"--force-unsafe-io"}, args...)...)
	}
	is := func(name string, mode os.FileMode, uid, gid uint32) {
		t.Helper()
		info, err := os.Stat(filepath.Join(installed.root, name))
		if err != nil {
			t.Error(err)
			return
		}
		owner := info.Sys().(*syscall.Stat_t)
		if info.Mode().Perm() != mode || asRoot() && (owner.Uid != uid || owner.Gid != gid) {
			t.Errorf("%s has mode %o and belongs to %d:%d; want %o, %d:%d", name, info.Mode().Perm(), owner.Uid,
				owner.Gid, mode, uid, gid)
		}
	}
	const config, kept = "/etc/cardea/cardea.yaml", "/var/lib/cardea/kept"
	if asRoot() {
		installed.root = minimal(t, "sh", "getent", "useradd", "chgrp", "install", "rm")
		dpkg("--install", older)
		installed.uid, installed.gid = installed.account(t, "cardea")
		put(t, installed.root+kept, nil, 0o600)
	} else {
		run(t, nil, "dpkg-deb", "--extract", file, installed.root)
	}
	issuer := "http://" + porttest.Address(t)
	put(t, installed.root+config, []byte(strings.ReplaceAll(read(t, installed.root, config),
		"#issuer: https://auth.example.com", "issuer: "+issuer)), 0o640)
	if asRoot() {
		dpkg("--install", file)
		if !strings.Contains(read(t, installed.root, config), issuer) {
			t.Error("an upgrade changes the configuration")
		}
		is(kept, 0o600, 0, 0)
		is("/var/lib/cardea", 0o700, installed.uid, installed.gid)
	}
	is("/usr/bin/cardea", 0o755, 0, 0)
	is(config, 0o640, 0, installed.gid)
	is("/usr/share/doc/cardea/copyright", 0o644, 0, 0)
	const service = "/usr/lib/systemd/system/cardea.service"
	is(service, 0o644, 0, 0)

	t.Run("the service", func(t *testing.T) {
		c := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", "--recursive-errors=no",
			installed.root+service)
		out, _ := c.CombinedOutput() // it fails because the program is not in /usr/bin of this machine
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "cardea.service") &&
				!strings.Contains(line, "/usr/bin/cardea is not executable") {
				t.Error(line)
			}
		}
		run(t, nil, "systemd-analyze", "security", "--offline=true", "--threshold=20", installed.root+service)
	})
	t.Run("a token", func(t *testing.T) {
		says := func(key string) string {
			m := regexp.MustCompile(`(?m)^` + key + `=(.*)$`).FindStringSubmatch(read(t, installed.root, service))
			if m == nil {
				t.Fatalf("the service has no %s", key)
			}
			return m[1]
		}
		start := strings.Fields(says("ExecStart"))
		if installed.serve = start[1:]; start[0] != installed.program || says("User") != "cardea" {
			t.Errorf("%v as %s", start, says("User"))
		}
		// What systemd reads from the file, and what the service says.
		variables := "CARDEA_LISTEN=" + strings.TrimPrefix(issuer, "http://")
		put(t, filepath.Join(installed.root, strings.TrimPrefix(says("EnvironmentFile"), "-")), []byte(variables),
			0o600)
		installed.env = []string{says("Environment"), variables}
		if !asRoot() {
			installed.env = append(installed.env, "CARDEA_CONFIG="+installed.root+config,
				"CARDEA_DATA_DIR="+t.TempDir())
		}
		installed.token(t, issuer)
	})
	if !asRoot() {
		return
	}

	const database = "/var/lib/cardea/cardea.db"
	gone := func(name string) bool {
		_, err := os.Lstat(installed.root + name)
		return errors.Is(err, fs.ErrNotExist)
	}
	dpkg("--remove", "cardea")
	if !gone(installed.program) || !gone(service) || gone(config) || gone(database) || gone(kept) {
		t.Error("a removal does not keep configuration and data, and nothing else")
	}
	dpkg("--install", newer)
	if err := os.Remove(installed.root + config); err != nil {
		t.Fatal(err)
	}
	dpkg("--install", newer)
	if !gone(config) || gone(database) {
		t.Error("an upgrade brings a configuration back that was removed, or removes data")
	}
	dpkg("--purge", "cardea")
	if !gone("/etc/cardea") || !gone("/var/lib/cardea") {
		t.Error("a purge leaves something")
	}
	if uid, _ := installed.account(t, "cardea"); uid != installed.uid {
		t.Errorf("the account has the number %d, and had %d", uid, installed.uid)
	}
}
