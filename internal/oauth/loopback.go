package oauth

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Proxy is http.ProxyFromEnvironment for URLs that an operator named, but returns none for a loopback host
// (IsLoopback), names below localhost included: what is sent to this machine in plain text must not leave it.
func Proxy(r *http.Request) (*url.URL, error) {
	if IsLoopback(r.URL.Hostname()) {
		return nil, nil
	}
	return http.ProxyFromEnvironment(r)
}

// Dial returns a DialContext for a transport that uses Proxy. A name below localhost is this machine, without a name
// lookup (RFC 6761 §6.3).
func Dial(within time.Duration) func(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: within}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if host, port, err := net.SplitHostPort(address); err == nil &&
			IsLoopback(host) && strings.HasSuffix(strings.ToLower(host), ".localhost") {
			address = net.JoinHostPort("localhost", port)
		}
		return dialer.DialContext(ctx, network, address)
	}
}
