package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cardea-auth/cardea/internal/config"
)

// Listen listens at an address as config.ParseAddress reads it: at a TCP port, at a Unix socket, which it makes and
// which goes when the listener is closed, or at a socket that systemd passed to the process. A peer at a Unix socket
// has the address 127.0.0.1, because it is on this machine. name is what the configuration calls the address, and
// option is what else sets it; both are for the error, which says what to do.
func Listen(ctx context.Context, name, option, address string) (net.Listener, error) {
	at, err := config.ParseAddress(address)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	case at.Systemd:
		listener, err := passed().take(at.Name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if listener.Addr().Network() == "unix" {
			listener = here{listener}
		}
		return listener, nil
	case at.Path != "":
		listener, err := listenUnix(ctx, at)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return here{listener}, nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	var dns *net.DNSError
	switch {
	case err == nil:
		return listener, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s: another program uses %s; end that program, or choose another address with "+
			"%s", name, address, option)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s: this account may not use the port of %s; choose a port from 1024 on with "+
			"%s", name, address, option)
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.As(err, &dns):
		return nil, fmt.Errorf("%s: this machine does not have the address %s; choose one that it has with "+
			"%s, or :PORT for all", name, address, option)
	}
	return nil, fmt.Errorf("%s: %w; choose another address with %s", name, err, option)
}

// listenUnix makes a Unix socket. It replaces one that a process left behind, and nothing else.
func listenUnix(ctx context.Context, at config.Address) (net.Listener, error) {
	info, err := os.Lstat(at.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s is there and is not a socket; move it away, or choose another path", at.Path)
	default:
		dial := net.Dialer{Timeout: time.Second}
		conn, err := dial.DialContext(ctx, "unix", at.Path)
		if err == nil {
			_ = conn.Close()
			return nil, fmt.Errorf("another program answers at %s; end that program, or choose another path", at.Path)
		}
		if !errors.Is(err, syscall.ECONNREFUSED) { // perhaps it is busy
			return nil, fmt.Errorf("%w; choose another path", err)
		}
		if err := os.Remove(at.Path); err != nil {
			return nil, err
		}
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", at.Path)
	if err != nil {
		return nil, fmt.Errorf("%w; the folder must exist and this account must be able to write to it", err)
	}
	if err := os.Chmod(at.Path, at.Mode); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// here is a listener at a Unix socket, whose peers are on this machine.
type here struct{ net.Listener }

// Accept implements net.Listener.
func (l here) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return localConn{conn}, nil
}

type localConn struct{ net.Conn }

// RemoteAddr implements net.Conn.
func (localConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// sockets are those that systemd passed to this process (sd_listen_fds). They stay open until the process ends, so that
// a connection that comes between two listeners waits.
type sockets struct {
	files []*os.File
	names []string
	err   error
}

// firstPassed is the file descriptor of the first socket.
const firstPassed = 3

// passed returns the sockets. It takes their variables out of the environment, because they are not for the programs
// that this process starts.
var passed = sync.OnceValue(func() *sockets {
	pid, err := strconv.Atoi(os.Getenv("LISTEN_PID"))
	n, errN := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for _, variable := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(variable)
	}
	s := new(sockets)
	if err != nil || errN != nil || pid != os.Getpid() || n < 1 {
		s.err = errors.New("systemd passed no socket to this process; start it by a socket unit, or write an address " +
			"like 127.0.0.1:8080")
		return s
	}
	for i := range n {
		file, err := keep(uintptr(firstPassed + i))
		if err != nil {
			s.err = fmt.Errorf("socket %d of systemd cannot be used: %w; it must be a stream socket", i+1, err)
			return s
		}
		s.files = append(s.files, file)
		if i < len(names) {
			s.names = append(s.names, names[i])
		}
	}
	return s
})

// keep returns a copy of a file descriptor that no other program inherits, and closes the original. It returns an error
// if nobody can listen at it.
func keep(fd uintptr) (*os.File, error) {
	original := os.NewFile(fd, "systemd")
	if original == nil {
		return nil, errors.New("it is not open")
	}
	listener, err := net.FileListener(original)
	if err := errors.Join(err, original.Close()); err != nil {
		return nil, err
	}
	defer func() { _ = listener.Close() }()
	switch l := listener.(type) {
	case *net.TCPListener:
		return l.File()
	case *net.UnixListener:
		return l.File()
	}
	return nil, errors.New("it is neither TCP nor Unix")
}

// take returns a listener at the socket of a name, or at the only one if name is "".
func (s *sockets) take(name string) (net.Listener, error) {
	i := 0
	switch {
	case s.err != nil:
		return nil, s.err
	case name != "":
		if i = slices.Index(s.names, name); i < 0 {
			return nil, fmt.Errorf("systemd passed no socket with the name %q, but %q; set FileDescriptorName in the "+
				"socket unit", name, s.names)
		}
	case len(s.files) > 1:
		return nil, fmt.Errorf("systemd passed %d sockets; say which one with systemd:NAME, of %q", len(s.files),
			s.names)
	}
	return net.FileListener(s.files[i])
}
