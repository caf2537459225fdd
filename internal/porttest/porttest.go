// Package porttest finds ports for programs that tests start.
package porttest

import (
	"net"
	"strconv"
	"testing"
)

// Address returns an address of 127.0.0.1 at which nothing listens. Until t ends, the system gives its port to nobody
// that asks for any port, so that only a program that is told the address listens there, as often as it is started.
func Address(t testing.TB) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(Port(t)))
}

// Port returns the port of an [Address].
func Port(t testing.TB) int {
	t.Helper()
	port, release, err := reserve()
	if err != nil {
		t.Fatalf("porttest: %v", err)
	}
	t.Cleanup(release)
	return port
}
