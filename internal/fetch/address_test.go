package fetch_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/fetch"
)

// TestSpecialAddresses checks that no special address can be reached in any spelling, neither by a literal in the URL
// nor by a name that resolves to it. The canaries are a listener on loopback and a dialler that counts.
func TestSpecialAddresses(t *testing.T) {
	canary, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer canary.Close()
	_, port, _ := net.SplitHostPort(canary.Addr().String())

	synctest.Test(t, func(t *testing.T) {
		web := newInternet(t)
		client := fetch.New(fetch.Options{Now: time.Now, LookupIP: web.lookup, Dial: web.dial})
		real := fetch.New(fetch.Options{Now: time.Now, LookupIP: web.lookup})
		var urls []string
		for _, s := range specialIPv4 {
			addr := netip.MustParseAddr(s)
			for _, host := range spellings(addr) {
				urls = append(urls, "https://"+host+":"+port+"/c")
			}
			for n, answer := range embedded(addr) {
				name := fmt.Sprintf("%s.%d.nip.example", strings.ReplaceAll(s, ".", "-"), n)
				web.name(name, answer)
				urls = append(urls, "https://"+name+":"+port+"/c")
			}
		}
		for n, s := range specialIPv6 {
			name := fmt.Sprintf("six-%d.nip.example", n)
			web.name(name, s)
			urls = append(urls, "https://["+s+"]:"+port+"/c", "https://["+strings.ToUpper(s)+"]:"+port+"/c",
				"https://["+netip.MustParseAddr(s).StringExpanded()+"]:"+port+"/c", "https://"+name+":"+port+"/c")
		}
		if len(urls) < 200 {
			t.Fatalf("%d spellings only", len(urls))
		}
		for _, u := range urls {
			if err := fetch.CheckURL(u, false); err == nil && !strings.Contains(u, ".nip.example") {
				t.Errorf("CM-08 CheckURL allows %s", u)
			}
			for _, c := range []*fetch.Client{client, real} {
				if _, err := c.Get(t.Context(), u, fetch.Metadata); !errors.Is(err, fetch.ErrNotAllowed) {
					t.Errorf("CM-08 %s: got %v, want ErrNotAllowed", u, err)
				}
			}
		}
		if dialled := web.dials(); dialled != nil {
			t.Errorf("canary: dialled %v", dialled)
		}
		// Control: the canary notices an allowed connection.
		web.name("control.example", "93.184.216.34")
		_, _ = client.Get(t.Context(), "https://control.example/c", fetch.Metadata)
		if diff := cmp.Diff([]string{"93.184.216.34:443"}, web.dials()); diff != "" {
			t.Errorf("control (-want +got):\n%s", diff)
		}
		t.Logf("%d spellings", len(urls))
	})

	// The first connection that the listener sees is this one.
	mine, err := net.Dial("tcp", canary.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	first, err := canary.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if first.RemoteAddr().String() != mine.LocalAddr().String() {
		t.Error("canary: a connection was made")
	}
}

// The list has at least one address of every special range, the first and last of the large ones, and the metadata
// services of clouds.
var specialIPv4 = []string{
	"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254",
	"168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.31.196.1",
	"192.52.193.1", "192.88.99.1", "192.168.0.1", "192.168.255.255", "192.175.48.1", "198.18.0.1", "198.19.255.255",
	"198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
}

var specialIPv6 = []string{
	"::", "::1", "::2", "::ffff:0:7f00:1", "64:ff9b::1", "64:ff9b:1::a00:1", "100::1", "100:0:0:1::1",
	"200::1", "1000::1",
	"2001::1", "2001:1::1", "2001:2::1", "2001:20::1", "2001:1ff:ffff::1", "2001:db8::1", "2002:7f00:1::",
	"2620:4f:8000::1", "3fff::1", "3fff:fff::1", "4000::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "febf::1",
	"fec0::1", "ff02::1",
}

// spellings returns addr in the spellings that browsers and C libraries accept in URLs.
func spellings(addr netip.Addr) []string {
	b := addr.As4()
	n := binary.BigEndian.Uint32(b[:])
	dotted := addr.String()
	each := func(format string) string { return fmt.Sprintf(format, b[0], b[1], b[2], b[3]) }
	digits := func(first rune) string {
		return strings.Map(func(r rune) rune {
			switch {
			case r == '0' && first == '①': // the circled zero is not next to the other digits
				return '⓪'
			case r == '.':
				return r
			case first == '①':
				return first + r - '1'
			}
			return first + r - '0'
		}, dotted)
	}
	return []string{
		dotted,
		dotted + ".",
		"." + dotted,
		fmt.Sprintf("%d", n),
		fmt.Sprintf("%#x", n),
		fmt.Sprintf("%#X", n),
		fmt.Sprintf("%#o", n),
		fmt.Sprintf("%d.%d", b[0], n&0xffffff),
		fmt.Sprintf("%d.%d.%d", b[0], b[1], n&0xffff),
		fmt.Sprintf("%#x.%d", b[0], n&0xffffff),
		each("%#x.%#x.%#x.%#x"),
		each("0%o.0%o.0%o.0%o"),
		each("%#x.0%o.%d.%d"),
		each("%03d.%03d.%03d.%03d"),
		each("%d。%d。%d。%d"),
		fmt.Sprintf("%d", uint64(n)+1<<32),
		digits('０'),
		digits('①'),
		url.PathEscape(digits('０')),
		fmt.Sprintf("%%%02x%s", dotted[0], dotted[1:]),
		strings.ReplaceAll(dotted, ".", "%2e"),
		"[" + dotted + "]",
		"[::ffff:" + dotted + "]",
		fmt.Sprintf("[::ffff:%x:%x]", n>>16, n&0xffff),
		fmt.Sprintf("[0:0:0:0:0:ffff:%x:%x]", n>>16, n&0xffff),
		"[::" + dotted + "]",
		"[64:ff9b::" + dotted + "]",
		fmt.Sprintf("[2002:%x:%x::]", n>>16, n&0xffff),
		"[::ffff:" + dotted + "%25eth0]",
		"client.example@" + dotted,
		"client.example%40" + dotted,
		`client.example\@` + dotted,
		dotted + "%00.client.example",
		dotted + "\t",
	}
}

// embedded returns addr in the forms in which a name server may return it.
func embedded(addr netip.Addr) []string {
	b := addr.As4()
	n := binary.BigEndian.Uint32(b[:])
	return []string{
		addr.String(),
		"::ffff:" + addr.String(),
		"64:ff9b::" + addr.String(),
		fmt.Sprintf("2002:%x:%x::", n>>16, n&0xffff),
		"::" + addr.String(),
	}
}

func TestAddresses(t *testing.T) {
	tests := []struct {
		name    string
		answers []string
		want    error
		dials   []string
	}{
		{"public", []string{"93.184.216.34"}, nil, []string{"93.184.216.34:443"}},
		{"public, mapped", []string{"::ffff:93.184.216.34"}, nil, []string{"93.184.216.34:443"}},
		{"the first does not listen", []string{"2606:2800:220:1::1", "93.184.216.34"}, nil,
			[]string{"[2606:2800:220:1::1]:443", "93.184.216.34:443"}},
		{"two of a family at most", []string{"8.8.8.1", "8.8.8.2", "93.184.216.34", "2606::1", "2606::2", "2606::3"},
			fetch.ErrUnavailable, []string{"8.8.8.1:443", "8.8.8.2:443", "[2606::1]:443", "[2606::2]:443"}},
		{"no address", []string{}, fetch.ErrUnavailable, nil},
		{"CM-09 private behind public", []string{"93.184.216.34", "10.0.0.1"}, fetch.ErrNotAllowed, nil},
		{"CM-09 private before public", []string{"127.0.0.1", "93.184.216.34"}, fetch.ErrNotAllowed, nil},
		{"CM-09 private of the other family", []string{"93.184.216.34", "fd00::1"}, fetch.ErrNotAllowed, nil},
		{"CM-09 private after many public ones",
			[]string{"93.184.216.34", "8.8.8.1", "8.8.8.2", "8.8.8.3", "192.168.0.1"}, fetch.ErrNotAllowed, nil},
		{"CM-09 with a zone", []string{"2606::1%eth0"}, fetch.ErrNotAllowed, nil},
		// A CNAME to an internal name gives the internal address.
		{"CM-09 CNAME to the inside", []string{"172.20.0.5"}, fetch.ErrNotAllowed, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				web := newInternet(t)
				web.site("client.example", answer(200, "application/json", "{}"))
				web.names["client.example"] = nil
				web.name("client.example", tt.answers...)
				_, err := web.client(false).Get(t.Context(), "https://client.example/c", fetch.Metadata)
				if !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				if diff := cmp.Diff(tt.dials, web.dials()); diff != "" {
					t.Errorf("dialled (-want +got):\n%s", diff)
				}
			})
		})
	}
	t.Run("CM-10 rebinding", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			web := newInternet(t)
			web.site("client.example", answer(200, "application/json", "{}"))
			web.name("client.example", "127.0.0.1")
			client := web.client(false)
			if _, err := client.Get(t.Context(), "https://client.example/c", fetch.Metadata); err != nil {
				t.Errorf("the first fetch: %v", err)
			}
			if web.lookups != 1 {
				t.Errorf("%d lookups for one fetch", web.lookups)
			}
			_, err := client.Get(t.Context(), "https://client.example/c", fetch.Metadata)
			if !errors.Is(err, fetch.ErrNotAllowed) {
				t.Errorf("the second fetch: got %v, want ErrNotAllowed", err)
			}
			if diff := cmp.Diff([]string{"93.184.216.34:443"}, web.dials()); diff != "" {
				t.Errorf("dialled (-want +got):\n%s", diff)
			}
		})
	})
	t.Run("a name for loopback stays refused where loopback is allowed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			web := newInternet(t)
			web.name("client.example", "127.0.0.1")
			_, err := web.client(true).Get(t.Context(), "https://client.example/c", fetch.Metadata)
			if !errors.Is(err, fetch.ErrNotAllowed) {
				t.Errorf("got %v, want ErrNotAllowed", err)
			}
		})
	})
	t.Run("an address that does not respond leaves time for the next", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			web := newInternet(t)
			web.site("client.example", answer(200, "application/json", "{}"))
			web.names["client.example"] = nil
			web.name("client.example", "8.8.8.8", "93.184.216.34")
			client := fetch.New(fetch.Options{Now: time.Now, LookupIP: web.lookup, RootCAs: authority.pool,
				Dial: filtered(web, "8.8.8.8:443")})
			if _, err := client.Get(t.Context(), "https://client.example/c", fetch.Metadata); err != nil {
				t.Error(err)
			}
		})
	})
}

// filtered is a dialler for which address never responds.
func filtered(i *internet, address string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, to string) (net.Conn, error) {
		if to == address {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return i.dial(ctx, network, to)
	}
}
