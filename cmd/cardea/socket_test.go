package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// serveAt starts a server that sh runs, and returns it when it serves. Its files follow standard error.
func serveAt(t *testing.T, command string, files []*os.File, env ...string) *exec.Cmd {
	t.Helper()
	server := exec.CommandContext(t.Context(), "sh", "-c", command+` exec cardea serve --data-dir "$DATA"`)
	server.Env = append(append(os.Environ(), "DATA="+t.TempDir()), env...)
	server.ExtraFiles = files
	log, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Process.Kill() })
	var said strings.Builder
	for lines := bufio.NewScanner(log); lines.Scan(); said.WriteString(lines.Text() + "\n") {
		if strings.Contains(lines.Text(), `"msg":"serving"`) {
			go func() { _, _ = io.Copy(io.Discard, log) }()
			return server
		}
	}
	t.Fatalf("the server ended before it served:\n%s", said.String())
	return nil
}

// answers asks a server at a network address for /healthz.
func answers(t *testing.T, network, address string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		}}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://cardea.example/healthz", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("%s %s: %s", network, address, resp.Status)
	}
}

// end ends a server as systemd does.
func end(t *testing.T, server *exec.Cmd) {
	t.Helper()
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := server.Wait(); err != nil {
		t.Errorf("cardea serve: %v", err)
	}
}

// health runs cardea health.
func health(t *testing.T, env []string, args ...string) (string, error) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "cardea", append([]string{"health", "--data-dir", t.TempDir()}, args...)...)
	c.Env = append(os.Environ(), env...)
	out, err := c.CombinedOutput()
	return string(out), err
}

func TestServeAtUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	env := "CARDEA_LISTEN=unix:" + path
	server := serveAt(t, "", nil, env)
	answers(t, "unix", path)
	if out, err := health(t, []string{env}); err != nil || !strings.Contains(out, "ready") {
		t.Errorf("cardea health: %v\n%s", err, out)
	}
	if err := server.Process.Signal(syscall.SIGHUP); err != nil { // which ends a process that does not expect it
		t.Fatal(err)
	}
	answers(t, "unix", path)
	end(t, server)
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is still there")
	}
	if out, err := health(t, []string{env}); err == nil || !strings.Contains(out, "nothing answers at unix:"+path) {
		t.Errorf("cardea health: %v\n%s", err, out)
	}
}

// Two sockets of systemd, by name; they outlive the server.
func TestServeAtSocketsOfSystemd(t *testing.T) {
	var files []*os.File
	var at []string
	for range 2 {
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		file, err := listener.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		listener.Close()
		defer file.Close()
		files, at = append(files, file), append(at, listener.Addr().String())
	}
	const mine = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=main:metrics; export LISTEN_PID LISTEN_FDS LISTEN_FDNAMES;"
	for range 2 {
		server := serveAt(t, mine, files, "CARDEA_LISTEN=systemd:main", "CARDEA_METRICS_LISTEN=systemd:metrics")
		answers(t, "tcp", at[0])
		if out, err := health(t, nil, "--address", at[0]); err != nil {
			t.Errorf("cardea health: %v\n%s", err, out)
		}
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", at[1])
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		end(t, server)
	}
	if out, err := health(t, []string{"CARDEA_LISTEN=systemd"}); err == nil ||
		!strings.Contains(out, "only systemd knows that address; say where to ask with --address") {
		t.Errorf("cardea health: %v\n%s", err, out)
	}
	for what, run := range map[string]struct{ command, listen, want string }{
		"one of two":       {mine, "systemd", "systemd passed 2 sockets; say which one with systemd:NAME"},
		"an unknown name":  {mine, "systemd:other", `systemd passed no socket with the name "other"`},
		"of another":       {"LISTEN_PID=1 LISTEN_FDS=2; export LISTEN_PID LISTEN_FDS;", "systemd", "passed no socket"},
		"that is not open": {"LISTEN_PID=$$ LISTEN_FDS=7; export LISTEN_PID LISTEN_FDS;", "systemd", "cannot be used"},
	} {
		c := exec.CommandContext(t.Context(), "sh", "-c", run.command+` exec cardea serve --data-dir "$DATA"`)
		c.Env, c.ExtraFiles = append(os.Environ(), "DATA="+t.TempDir(), "CARDEA_LISTEN="+run.listen), files
		if out, err := c.CombinedOutput(); err == nil || !strings.Contains(string(out), run.want) {
			t.Errorf("%s: %v\n%s", what, err, out)
		}
	}
}
