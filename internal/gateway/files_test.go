//go:build unix

package gateway_test

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A gateway whose files are used up says what to do.
func TestFilesAreUsedUp(t *testing.T) {
	w := startProgram(t, files) // for its issuer
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w.write(files + "listen: 127.0.0.1:0\n")
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `ulimit -n 40; exec "$0" "$1"`, self, w.file)
	cmd.Env = append(os.Environ(), "CHILD=gateway")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	for range 40 {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimSpace(address))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	for lines := bufio.NewScanner(said); lines.Scan(); {
		if strings.Contains(lines.Text(), "ulimit -n") {
			return
		}
	}
	t.Error("the log says nothing of it")
}
