package fetch

import (
	"context"
	"net"
	"net/netip"
)

// special are the address ranges from which no document is fetched: the special purpose registries of IANA (RFC 6890),
// multicast, and special addresses that are not registered. vet returns the use of the first range that contains an
// address.
var special = []struct {
	network netip.Prefix
	use     string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "this network, RFC 791 §3.2"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private use, RFC 1918 §3"},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared address space, RFC 6598 §7"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback, RFC 1122 §3.2.1.3"},
	{netip.MustParsePrefix("168.63.129.16/32"), "the host of an Azure machine"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link local, RFC 3927 §2.1"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private use, RFC 1918 §3"},
	{netip.MustParsePrefix("192.0.0.0/24"), "protocol assignments, RFC 6890 §2.1"},
	{netip.MustParsePrefix("192.0.2.0/24"), "documentation, RFC 5737 §3"},
	{netip.MustParsePrefix("192.31.196.0/24"), "AS112, RFC 7535 §3.2"},
	{netip.MustParsePrefix("192.52.193.0/24"), "multicast tunnels, RFC 7450 §7"},
	{netip.MustParsePrefix("192.88.99.0/24"), "6to4 relays, RFC 7526 §6"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private use, RFC 1918 §3"},
	{netip.MustParsePrefix("192.175.48.0/24"), "AS112, RFC 7534 §3.1"},
	{netip.MustParsePrefix("198.18.0.0/15"), "benchmarks, RFC 2544 §C.2.2"},
	{netip.MustParsePrefix("198.51.100.0/24"), "documentation, RFC 5737 §3"},
	{netip.MustParsePrefix("203.0.113.0/24"), "documentation, RFC 5737 §3"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast, RFC 1112 §4"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast, RFC 919 §7"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved, RFC 1112 §4"},

	{netip.MustParsePrefix("::/128"), "unspecified, RFC 4291 §2.5.2"},
	{netip.MustParsePrefix("::1/128"), "loopback, RFC 4291 §2.5.3"},
	{netip.MustParsePrefix("::/96"), "IPv4-compatible, RFC 4291 §2.5.5.1"},
	{netip.MustParsePrefix("64:ff9b::/96"), "IPv4 by translation, RFC 6052 §2.1"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "IPv4 by local translation, RFC 8215 §4"},
	{netip.MustParsePrefix("100::/64"), "discard, RFC 6666 §3"},
	{netip.MustParsePrefix("100:0:0:1::/64"), "dummy prefix, RFC 9780 §3"},
	{netip.MustParsePrefix("2001::/23"), "protocol assignments with Teredo, RFC 2928 §2"},
	{netip.MustParsePrefix("2001:db8::/32"), "documentation, RFC 3849 §2"},
	{netip.MustParsePrefix("2002::/16"), "IPv4 by 6to4, RFC 3056 §2"},
	{netip.MustParsePrefix("2620:4f:8000::/48"), "AS112, RFC 7534 §3.1"},
	{netip.MustParsePrefix("3fff::/20"), "documentation, RFC 9637 §3"},
	{netip.MustParsePrefix("5f00::/16"), "segment routing, RFC 9602 §4"},
	{netip.MustParsePrefix("fc00::/7"), "unique local, RFC 4193 §3"},
	{netip.MustParsePrefix("fe80::/10"), "link local, RFC 4291 §2.5.6"},
	{netip.MustParsePrefix("fec0::/10"), "site local, RFC 3879 §4"},
	{netip.MustParsePrefix("ff00::/8"), "multicast, RFC 4291 §2.7"},
}

// allocated contains all IPv6 addresses that IANA allocates, RFC 4291 §2.4.
var allocated = netip.MustParsePrefix("2000::/3")

// vet returns the reason for which connections to addr are not allowed, or "" if they are.
func vet(addr netip.Addr) (use string) {
	if !addr.IsValid() || addr.Zone() != "" {
		return "not an address of the internet"
	}
	for _, s := range special {
		if s.network.Contains(addr) {
			return s.use
		}
	}
	if addr.Is6() && !allocated.Contains(addr) {
		return "not allocated, RFC 4291 §2.4"
	}
	return ""
}

// triesPerFamily bounds the addresses of each family that one fetch tries, because a stranger's name server may return
// many.
const triesPerFamily = 2

// addresses returns the addresses to try for host, in order. If one of them is not allowed, all are refused, because a
// mix of allowed and forbidden addresses suggests an attack.
func (c *Client) addresses(ctx context.Context, host string) (tries []netip.Addr, err error) {
	found, err := c.lookupIP(ctx, host)
	if err != nil {
		return nil, unavailable("its host does not resolve", err)
	}
	var v4, v6 int
	for _, addr := range found {
		addr = addr.Unmap() // an IPv4-mapped address connects to the IPv4 address
		if use := vet(addr); use != "" {
			return nil, notAllowed("its host has the address %s (%s)", addr, use)
		}
		family := &v6
		if addr.Is4() {
			family = &v4
		}
		if *family++; *family <= triesPerFamily {
			tries = append(tries, addr)
		}
	}
	if len(tries) == 0 {
		return nil, unavailable("its host has no address", nil)
	}
	return tries, nil
}

// loopback returns the addresses of a loopback host, without a name lookup. A name gets both the IPv4 and the IPv6
// address, because a server on localhost may listen on either.
func loopback(host string) []netip.Addr {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}
	}
	return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
}

// Routed reports whether this machine has a route to the internet. It sends nothing: connecting a UDP socket only looks
// up the route. A firewall may still block all traffic.
func (c *Client) Routed(ctx context.Context) bool {
	for _, documentation := range []string{"192.0.2.1:443", "[2001:db8::1]:443"} { // RFC 5737, RFC 3849
		if conn, err := c.dial(ctx, "udp", documentation); err == nil {
			_ = conn.Close()
			return true
		}
	}
	return false
}

// lookupIP resolves host with the system's resolver. The dot at the end prevents the use of search domains, with which
// the name could become one of the local network.
func lookupIP(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host+".")
}
