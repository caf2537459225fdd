//go:build linux

package porttest_test

import (
	"errors"
	"net"
	"strconv"
	"syscall"
	"testing"

	"github.com/cardea-auth/cardea/internal/porttest"
)

// A program that is told the address listens there, as often as it is started.
func TestAddress(t *testing.T) {
	address := porttest.Address(t)
	for range 3 {
		if conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address); err == nil {
			conn.Close()
			t.Fatal("something listens there")
		}
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		l.Close()
	}
}

// Meanwhile nobody that asks for any port is given this one, even if there is no other.
func TestReserved(t *testing.T) {
	const localPortRange = 51 // ip(7), IP_LOCAL_PORT_RANGE
	port := porttest.Port(t)
	var unable error
	anywhere := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			unable = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, localPortRange, port|port<<16)
		})
	}}
	l, err := anywhere.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err == nil {
		defer l.Close()
	}
	if unable != nil { // Linux before 6.3 cannot be told that there is no other
		if _, got, _ := net.SplitHostPort(l.Addr().String()); got == strconv.Itoa(port) {
			t.Error("it was given")
		}
		return
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("it was given: %v", err)
	}
}
