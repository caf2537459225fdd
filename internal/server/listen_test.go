package server_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/server"
)

func TestListenUnix(t *testing.T) {
	listen := func(address string) (net.Listener, error) {
		return server.Listen(t.Context(), "listen", "--listen", address)
	}
	refused := func(t *testing.T, address, want string) {
		t.Helper()
		listener, err := listen(address)
		if err == nil {
			listener.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
	}
	mode := func(t *testing.T, path string) fs.FileMode {
		t.Helper()
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode()
	}
	path := filepath.Join(t.TempDir(), "s")

	for suffix, want := range map[string]fs.FileMode{"": 0o660, "?mode=0666": 0o666, "?mode=600": 0o600} {
		listener, err := listen("unix:" + path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if got := mode(t, path); got != fs.ModeSocket|want {
			t.Errorf("%q: the mode is %s", suffix, got)
		}
		conn, err := new(net.Dialer).DialContext(t.Context(), "unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if peer, err := listener.Accept(); err != nil || peer.RemoteAddr().String() != "127.0.0.1:0" {
			t.Errorf("a peer is %v, %v", peer, err)
		}
		refused(t, "unix:"+path, "another program answers at "+path+"; end that program")
		listener.Close()
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after the end: %v", err)
		}
	}

	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false) // as if the process was killed
	left.Close()
	mode(t, path)
	listener, err := listen("unix:" + path)
	if err != nil {
		t.Fatalf("over what a process left behind: %v", err)
	}
	listener.Close()

	if err := os.WriteFile(path, []byte("notes"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, "unix:"+path, path+" is there and is not a socket; move it away")
	if text, err := os.ReadFile(path); err != nil || string(text) != "notes" {
		t.Errorf("the file is %q, %v", text, err)
	}
	if err := os.Symlink(filepath.Join(t.TempDir(), "elsewhere"), path+"2"); err != nil {
		t.Fatal(err)
	}
	refused(t, "unix:"+path+"2", "is not a socket")
	refused(t, "unix:"+filepath.Join(t.TempDir(), "no", "s"), "the folder must exist")
	refused(t, "systemd", "listen: systemd passed no socket to this process; start it by a socket unit")
}
