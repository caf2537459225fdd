package fetch_test

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/fetch"
)

func TestCheckURL(t *testing.T) {
	long := "https://client.example/" + strings.Repeat("a", 512-len("https://client.example/"))
	tests := []struct {
		name string
		raw  string
		want string // what the refusal says; empty: allowed
	}{
		{"plain", "https://client.example/oauth/metadata.json", ""},
		{"a port", "https://client.example:8443/c", ""},
		{"an international name", "https://xn--bcher-kva.example/c", ""},
		{"dots that are no segment", "https://client.example/.well-known/..a/b../c.", ""},
		{"an empty segment", "https://client.example//c", ""},
		{"percent-encoding", "https://client.example/a%20b", ""},
		{"a trailing slash", "https://client.example/c/", ""},
		{"512 bytes", long, ""},
		{"513 bytes", long + "a", "longer than 512 bytes"},
		{"a megabyte", "https://client.example/" + strings.Repeat("a", 1<<20), "longer than 2048 bytes"},
		{"empty", "", "does not begin with https://"},

		{"CM-01 http", "http://client.example/c", "does not begin with https://"},
		{"CM-01 other scheme", "ftp://client.example/c", "does not begin with https://"},
		{"CM-01 file", "file:///etc/passwd", "does not begin with https://"},
		{"CM-01 upper-case scheme", "HTTPS://client.example/c", "does not begin with https://"},
		{"CM-01 no scheme", "//client.example/c", "does not begin with https://"},
		{"CM-02 no path", "https://client.example", "has no path"},
		{"CM-02 root", "https://client.example/", "has no path"},
		{"CM-02 no host", "https:///c", "not a full domain name"},
		{"CM-02 dot segment", "https://client.example/a/../b", "dot segment"},
		{"CM-02 dot segment at the end", "https://client.example/a/.", "dot segment"},
		{"CM-02 dot segment encoded", "https://client.example/a/%2e%2E/b", "dot segment"},
		{"CM-02 dot segment half encoded", "https://client.example/.%2e/b", "dot segment"},
		{"CM-02 dot segment behind an encoded slash", "https://client.example/a%2f..%2fb", "dot segment"},
		{"CM-02 dot segment behind an encoded backslash", "https://client.example/a%5c..%5cb", "dot segment"},
		{"CM-04 fragment", "https://client.example/c#f", "fragment"},
		{"CM-04 empty fragment", "https://client.example/c#", "fragment"},
		{"CM-04 user and password", "https://user:password@client.example/c", "user name"},
		{"CM-04 empty user", "https://@client.example/c", "user name"},
		{"CM-04 at sign in the path", "https://client.example/@me", ""},
		{"CM-05 query", "https://client.example/c?a=b", "has a query"},
		{"CM-05 empty query", "https://client.example/c?", "has a query"},
		{"CM-05 query instead of a path", "https://client.example?/c", "has a query"},
		{"CM-06 backslashes", `https:\\client.example\c`, "character"},
		{"CM-06 a backslash in the path", `https://client.example/a\b`, "character"},
		{"CM-06 one slash", "https:/client.example/c", "does not begin with https://"},
		{"CM-06 three slashes", "https:///client.example/c", "not a full domain name"},
		{"CM-06 no slash", "https:client.example/c", "does not begin with https://"},
		{"CM-06 tab", "https://client.example/\tc", "character"},
		{"CM-06 newline", "https://client.example/c\n", "character"},
		{"CM-06 leading space", " https://client.example/c", "character"},
		{"CM-06 inner space", "https://client.example/a b", "character"},
		{"CM-06 NUL", "https://client.example/\x00", "character"},
		{"CM-06 not ASCII", "https://client.example/ü", "character"},
		{"CM-06 upper-case host", "https://Client.example/c", "lower case"},
		{"CM-06 international host", "https://bücher.example/c", "character"},
		{"CM-06 fullwidth host", "https://ｃlient.example/c", "character"},
		{"CM-06 percent-encoded host", "https://cl%69ent.example/c", "malformed"},
		{"CM-06 half a percent-encoding", "https://client.example/%2", "malformed"},
		{"CM-06 trailing dot", "https://client.example./c", "domain name"},
		{"CM-06 empty label", "https://client..example/c", "domain name"},
		{"CM-06 underscore", "https://a_b.example/c", "domain name"},
		{"CM-06 hyphen first", "https://-a.example/c", "domain name"},
		{"CM-06 label too long", "https://" + strings.Repeat("a", 64) + ".example/c", "domain name"},
		{"CM-06 name too long", "https://" + strings.Repeat("a.", 124) + "example/c", "domain name"},
		{"CM-06 one label", "https://intranet/c", "domain name"},
		{"CM-06 the default port", "https://client.example:443/c", "default port"},
		{"CM-06 empty port", "https://client.example:/c", "port"},
		{"CM-06 port 0", "https://client.example:0/c", "port"},
		{"CM-06 port 65536", "https://client.example:65536/c", "port"},
		{"CM-06 port with a zero", "https://client.example:0443/c", "port"},
		{"CM-06 port with a sign", "https://client.example:+443/c", "malformed"},
		{"CM-06 port of letters", "https://client.example:https/c", "malformed"},
		{"CM-08 loopback", "https://127.0.0.1/c", "this machine"},
		{"CM-08 localhost", "https://localhost/c", "this machine"},
		{"CM-08 a name below localhost", "https://a.localhost/c", "this machine"},
		{"CM-08 loopback of IPv6", "https://[::1]/c", "this machine"},
		{"CM-08 public address", "https://93.184.216.34/c", "domain name"},
		{"CM-08 public address of IPv6", "https://[2606:2800:220:1::1]/c", "domain name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			checkRefusal(t, fetch.CheckURL(tt.raw, false), tt.want)
		})
	}
}

func TestCheckURLLoopback(t *testing.T) {
	tests := []struct {
		raw  string
		want string
	}{
		{"http://localhost/c", ""},
		{"http://localhost:8081/c", ""},
		{"https://localhost/c", ""},
		{"http://127.0.0.1:3000/c", ""},
		{"http://127.9.8.7/c", ""},
		{"http://[::1]:3000/c", ""},
		{"https://client.example/c", ""},
		{"http://client.example/c", "does not begin with https://"},
		{"http://localhost:80/c", "default port"},
		{"http://localhost:443/c", ""},
		{"https://localhost:443/c", "default port"},
		{"http://localhost", "has no path"},
		{"http://user@localhost/c", "user name"},
		{"http://Localhost/c", "lower case"},
		{"http://localhost./c", "does not begin with https://"},
		{"http://a.localhost/c", ""},
		{"http://a..localhost/c", "does not begin with https://"},
		{"http://localhost.example/c", "does not begin with https://"},
		{"http://127.1/c", "does not begin with https://"},
		{"http://0x7f.0.0.1/c", "does not begin with https://"},
		{"http://127.0.0.01/c", "does not begin with https://"},
		{"http://128.0.0.1/c", "does not begin with https://"},
		{"http://0.0.0.0/c", "does not begin with https://"},
		{"http://10.0.0.1/c", "does not begin with https://"},
		{"http://[127.0.0.1]/c", "malformed"},
		{"http://[::ffff:127.0.0.1]/c", "does not begin with https://"},
		{"http://[0:0:0:0:0:0:0:1]/c", "does not begin with https://"},
		{"http://[::1%25lo]/c", "malformed"},
	}
	for _, tt := range tests {
		t.Run(tt.raw, func(t *testing.T) {
			checkRefusal(t, fetch.CheckURL(tt.raw, true), tt.want)
		})
	}
}

func checkRefusal(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "":
		if err != nil {
			t.Errorf("refused: %v", err)
		}
	case !errors.Is(err, fetch.ErrNotAllowed):
		t.Errorf("got %v, want ErrNotAllowed", err)
	case !strings.Contains(err.Error(), want):
		t.Errorf("got %q, want it to say %q", err, want)
	}
}

func FuzzCheckURL(f *testing.F) {
	for _, raw := range []string{
		"https://client.example/c", "https://client.example:8443/a%20b", "http://localhost:1/c", "http://[::1]/c",
		"https://a@b/c", `https:\\a\b`, "https://[fe80::1%25eth0]/c", "https://127.1/c",
		"https://client.example/%2e%2e",
	} {
		f.Add(raw, false)
		f.Add(raw, true)
	}
	f.Fuzz(func(t *testing.T, raw string, allowLoopback bool) {
		if fetch.CheckURL(raw, allowLoopback) != nil {
			return
		}
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatalf("allowed %q, which is not a URL: %v", raw, err)
		}
		host := u.Hostname()
		lastLabel := host[strings.LastIndexByte(host, '.')+1:]
		ip, err := netip.ParseAddr(host)
		loopback := lastLabel == "localhost" || err == nil && ip.IsLoopback()
		switch {
		case u.String() != raw:
			t.Errorf("allowed %q, which is written %q", raw, u)
		case !strings.HasPrefix(raw, u.Scheme+"://"+u.Host+"/"):
			t.Errorf("allowed %q, whose host %q is not where it seems", raw, u.Host)
		case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
			t.Errorf("allowed %q with more than scheme, host and path", raw)
		case u.Scheme != "https" && (!allowLoopback || !loopback || u.Scheme != "http"):
			t.Errorf("allowed %q", raw)
		case loopback && !allowLoopback:
			t.Errorf("allowed %q, which is loopback", raw)
		case !loopback && (lastLabel[0] < 'a' || lastLabel[0] > 'z'):
			t.Errorf("allowed %q, which may be an address", raw)
		case u.Port() == "443" && u.Scheme == "https":
			t.Errorf("allowed %q with a needless port", raw)
		}
	})
}
