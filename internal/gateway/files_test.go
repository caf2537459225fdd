//go:build unix

package gateway_test

import (
	"net"
	"strings"
	"testing"
)

// A gateway whose files are used up says what to do.
func TestFilesAreUsedUp(t *testing.T) {
	w := startProgram(t, files) // for its issuer
	w.write(files + "listen: 127.0.0.1:0\n")
	g := w.process("sh", "-c", `ulimit -n 40; exec "$0" "$1"`)
	for range 40 {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(g.public, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	eventually(t, "the log says nothing of it", func() bool { return strings.Contains(g.log.String(), "ulimit -n") })
}
