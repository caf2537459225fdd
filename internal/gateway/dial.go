package gateway

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// Transport returns the transport for requests to the servers behind a gateway. It uses no proxy, and connects to the
// metadata service of a cloud, which hands out secrets of the machine, only if a URL names its address itself.
func Transport() *http.Transport {
	return &http.Transport{
		DialContext:            dial,
		TLSHandshakeTimeout:    10 * time.Second,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConnsPerHost:    64,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
	}
}

// dial connects to an address of the form host:port. The addresses that a name has are judged when they are dialled, so
// that nothing lies between the look and the connection.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	d := &net.Dialer{Timeout: 10 * time.Second,
		ControlContext: func(_ context.Context, _, at string, _ syscall.RawConn) error {
			ip, err := netip.ParseAddrPort(at)
			if err != nil {
				return fmt.Errorf("gateway: %w", err)
			}
			if plain := ip.Addr().Unmap(); host != plain.String() && isSpecial(plain) {
				return fmt.Errorf("gateway: the name of the server has the address %s, which is not one of a server",
					plain)
			}
			return nil
		}}
	return d.DialContext(ctx, network, address)
}

// clouds are the addresses of metadata services that are not link-local.
var clouds = []netip.Addr{
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("168.63.129.16"),   // Azure
	netip.MustParseAddr("192.0.0.192"),     // Oracle
	netip.MustParseAddr("fd00:ec2::254"),   // Amazon
	netip.MustParseAddr("fd20:ce::254"),    // Google
}

// isSpecial reports whether no server has the address. Private addresses are usual behind a gateway.
func isSpecial(ip netip.Addr) bool {
	if four, ok := within4(ip); ok && isSpecial(four) {
		return true
	}
	return ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() || slices.Contains(clouds, ip)
}

// within4 returns the IPv4 address that a router takes out of an IPv6 address, if it has one: of a translation (RFC
// 6052 §2.1, RFC 8215 §4), or of 6to4 (RFC 3056 §2).
func within4(ip netip.Addr) (four netip.Addr, ok bool) {
	if !ip.Is6() {
		return four, false
	}
	b := ip.As16()
	switch {
	case translated.Contains(ip), translatedHere.Contains(ip):
		return netip.AddrFrom4([4]byte(b[12:])), true
	case b[0] == 0x20 && b[1] == 0x02:
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return four, false
}

var (
	translated     = netip.MustParsePrefix("64:ff9b::/96")
	translatedHere = netip.MustParsePrefix("64:ff9b:1::/48")
)
