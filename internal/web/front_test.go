package web_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

func TestAddress(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:ff::/48")}
	for _, c := range []struct {
		name    string
		trusted []netip.Prefix
		remote  string
		header  http.Header
		want    string
	}{
		{"the peer", nil, "192.0.2.1:1234", nil, "192.0.2.1"},
		{"the peer, IPv6", nil, "[2001:db8::1]:1234", nil, "2001:db8::1"},
		{"IPv4 in IPv6 is IPv4", proxies, "[::ffff:10.0.0.1]:1",
			http.Header{"X-Forwarded-For": {"192.0.2.1"}}, "192.0.2.1"},
		{"no address at all", nil, "@", nil, ""},
		{"HT-18 nobody is trusted by default", nil, "10.0.0.1:1",
			http.Header{"X-Forwarded-For": {"192.0.2.1"}, "Forwarded": {"for=192.0.2.1"}}, "10.0.0.1"},
		{"HT-18 a stranger is not trusted", proxies, "192.0.2.7:1",
			http.Header{"X-Forwarded-For": {"192.0.2.1"}}, "192.0.2.7"},
		{"a proxy is", proxies, "10.0.0.1:1", http.Header{"X-Forwarded-For": {"192.0.2.1"}}, "192.0.2.1"},
		{"HT-18 what the client wrote before it is not", proxies, "10.0.0.1:1",
			http.Header{"X-Forwarded-For": {"198.51.100.9, 192.0.2.1"}}, "192.0.2.1"},
		{"nor in a header of its own", proxies, "10.0.0.1:1",
			http.Header{"X-Forwarded-For": {"198.51.100.9", "192.0.2.1"}}, "192.0.2.1"},
		{"two proxies", proxies, "10.0.0.1:1",
			http.Header{"X-Forwarded-For": {"198.51.100.9, 192.0.2.1, 10.0.0.2"}}, "192.0.2.1"},
		{"proxies alone", proxies, "10.0.0.1:1", http.Header{"X-Forwarded-For": {"10.0.0.3, 10.0.0.2"}}, "10.0.0.3"},
		{"garbage ends the walk", proxies, "10.0.0.1:1",
			http.Header{"X-Forwarded-For": {"192.0.2.1, x\", 10.0.0.2"}}, "10.0.0.2"},
		{"with a port", proxies, "10.0.0.1:1", http.Header{"X-Forwarded-For": {"192.0.2.1:5555"}}, "192.0.2.1"},
		{"Forwarded", proxies, "10.0.0.1:1",
			http.Header{"Forwarded": {`for=198.51.100.9;proto=http, For="192.0.2.1:8080";proto=https;by=10.0.0.1`}},
			"192.0.2.1"},
		{"Forwarded, IPv6", proxies, "[2001:db8:ff::1]:1", http.Header{"Forwarded": {`by=x;for="[2001:db8::9]:4711"`}},
			"2001:db8::9"},
		{"Forwarded by nobody", proxies, "10.0.0.1:1",
			http.Header{"Forwarded": {`for=192.0.2.1, proto=https`}}, "10.0.0.1"},
		{"Forwarded, obfuscated", proxies, "10.0.0.1:1",
			http.Header{"Forwarded": {`for=192.0.2.1, for=_hidden`}}, "10.0.0.1"},
		{"HT-18 an unclosed quote hides nothing", proxies, "10.0.0.1:1",
			http.Header{"Forwarded": {`for="198.51.100.9, for=192.0.2.1`}}, "192.0.2.1"},
		{"both agree", proxies, "10.0.0.1:1",
			http.Header{"X-Forwarded-For": {"192.0.2.1"}, "Forwarded": {"for=192.0.2.1"}}, "192.0.2.1"},
		{"HT-18 both disagree: one of them is the client's", proxies, "10.0.0.1:1",
			http.Header{"X-Forwarded-For": {"192.0.2.1"}, "Forwarded": {"for=198.51.100.9"}}, "10.0.0.1"},
		{"HT-18 a broken one beside a forged one", proxies, "10.0.0.1:1",
			http.Header{"X-Forwarded-For": {"198.51.100.9"}, "Forwarded": {`for=", `}}, "10.0.0.1"},
		{"a blank one counts as absent", proxies, "10.0.0.1:1",
			http.Header{"X-Forwarded-For": {"192.0.2.1"}, "Forwarded": {" "}}, "192.0.2.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := front(new(bytes.Buffer))
			f.TrustedProxies = c.trusted
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr, r.Header = c.remote, c.header
			if c.header == nil {
				r.Header = http.Header{}
			}
			var got string
			f.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				got = audit.RequestFrom(r.Context()).Address
			})).ServeHTTP(httptest.NewRecorder(), r)
			if got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestUntrustedProxy(t *testing.T) {
	var log bytes.Buffer
	f := front(&log)
	f.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	h := f.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	warnings := func(remote string, header http.Header) int {
		log.Reset()
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr, r.Header = remote, header
		h.ServeHTTP(httptest.NewRecorder(), r)
		if n := strings.Count(log.String(), "trusted_proxies: "+strings.TrimSuffix(remote, ":1")); n > 0 {
			return n
		}
		return -strings.Count(log.String(), "trusted_proxies")
	}
	named := http.Header{"X-Forwarded-For": {"192.0.2.1"}}
	for _, step := range []struct {
		name, remote string
		header       http.Header
		want         int
	}{
		{"no proxy", "198.51.100.7:1", http.Header{}, 0},
		{"a trusted one", "10.0.0.1:1", named, 0},
		{"a stranger", "198.51.100.7:1", named, 1},
		{"another stranger", "198.51.100.8:1", named, 0},
		{"a proxy of the operator", "172.18.0.5:1", http.Header{"Forwarded": {"for=192.0.2.1"}}, 1},
		{"it again", "172.18.0.5:1", named, 0},
	} {
		if got := warnings(step.remote, step.header); got != step.want {
			t.Errorf("%s: %d warnings, want %d: %s", step.name, got, step.want, log.String())
		}
	}
}

func TestFront(t *testing.T) {
	t.Run("every response has an id, which the handler and the log have too", func(t *testing.T) {
		var seen audit.Request
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen = audit.RequestFrom(r.Context())
			w.WriteHeader(http.StatusTeapot)
		})
		r := httptest.NewRequest(http.MethodPost, "/oauth2/token?code=cardea_ac_secret", nil)
		r.Header.Set("User-Agent", "agent/1")
		w, log := send(h, r)
		id := w.Header().Get("X-Request-Id")
		if len(id) < 20 || seen != (audit.Request{ID: id, Address: "192.0.2.1", UserAgent: "agent/1"}) {
			t.Errorf("id %q, context %+v", id, seen)
		}
		line := logLine(t, log, "request")
		delete(line, "time")
		want := map[string]any{"level": "INFO", "msg": "request", "method": "POST", "path": "/oauth2/token",
			"status": 418.0, "duration": 0.0, "request_id": id, "address": "192.0.2.1"}
		if fmt.Sprint(line) != fmt.Sprint(want) {
			t.Errorf("log: %v, want %v", line, want)
		}
	})
	t.Run("a quiet response is logged at debug level, an error instead of it is not", func(t *testing.T) {
		for level, err := range map[string]error{"DEBUG": nil, "INFO": oauth.Refuse(oauth.InvalidRequest, "no")} {
			w, log := get(jsonOf(web.Reply{Quiet: true}, err), "/")
			line := logLine(t, log, "request")
			if line["level"] != level || line["request_id"] != w.Header().Get("X-Request-Id") {
				t.Errorf("log: %v, want level %s", line, level)
			}
		}
	})
	t.Run("HT-24 a client's own id is replaced", func(t *testing.T) {
		for _, id := range []string{"abc", strings.Repeat("x", 10<<10), "a\r\nSet-Cookie: b=c", `{"level":"ERROR"}`} {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header.Set("X-Request-Id", id)
			w, log := send(jsonOf("x", nil), r)
			if got := w.Header().Values("X-Request-Id"); len(got) != 1 || got[0] == id || strings.Contains(log, id) {
				t.Errorf("id %q, log %s", got, log)
			}
		}
	})
	t.Run("HT-24 a path cannot forge a log line", func(t *testing.T) {
		_, log := get(jsonOf("x", nil), "/a%0A%7B%22msg%22:%22request%22%7D"+strings.Repeat("y", 5000))
		if line := logLine(t, log, "request"); len(fmt.Sprint(line["path"])) > 300 {
			t.Errorf("log: %v", line)
		}
	})
	t.Run("HT-01 HSTS only with https", func(t *testing.T) {
		f := front(new(bytes.Buffer))
		for https, want := range map[bool]string{true: "max-age=31536000", false: ""} {
			f.HTTPS = https
			w := httptest.NewRecorder()
			f.Wrap(jsonOf("x", nil)).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
			wantHeader(t, w, map[string]string{"Strict-Transport-Security": want})
		}
	})
	t.Run("the log has the status of a handler that writes nothing", func(t *testing.T) {
		_, log := get(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("x"))
		}), "/")
		if line := logLine(t, log, "request"); line["status"] != 200.0 {
			t.Errorf("log: %v", line)
		}
	})
}

// TestSmuggling sends requests that a proxy and a server may read differently. There must be one response, and the
// connection must end.
func TestSmuggling(t *testing.T) {
	s := httptest.NewServer(front(new(bytes.Buffer)).Wrap(web.JSON(func(r *http.Request) (any, error) {
		form, err := web.Form(r)
		return form, err
	})))
	defer s.Close()
	const head = "POST / HTTP/1.1\r\nHost: cardea.test\r\nContent-Type: application/x-www-form-urlencoded\r\n"
	const second = "GET /second HTTP/1.1\r\nHost: cardea.test\r\n\r\n"
	for name, request := range map[string]string{
		"HT-08 a chunked body": head + "Transfer-Encoding: chunked\r\n\r\n3\r\na=1\r\n0\r\n\r\n" + second,
		"HT-08 CL.TE": head +
			"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na=1\r\n0\r\n\r\n" + second,
		"HT-08 TE.TE": head +
			"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n3\r\na=1\r\n0\r\n\r\n" + second,
		"HT-08 two lengths":            head + "Content-Length: 3\r\nContent-Length: 0\r\n\r\na=1" + second,
		"HT-08 a chunk extension":      head + "Transfer-Encoding: chunked\r\n\r\n3;x=\"y\r\na=1\r\n0\r\n\r\n" + second,
		"HT-09 bare LF in chunk size":  head + "Transfer-Encoding: chunked\r\n\r\n3\na=1\r\n0\r\n\r\n" + second,
		"HT-14 two hosts":              "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n" + second,
		"HT-14 no host":                "GET / HTTP/1.1\r\n\r\n" + second,
		"HT-08 space before the colon": "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length : 3\r\n\r\na=1" + second,
		"HT-08 TE.CL": head +
			"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\na=1\r\n0\r\n\r\n" + second,
		"HT-08 two lengths in one":    head + "Content-Length: 3, 3\r\n\r\na=1" + second,
		"HT-08 a signed length":       head + "Content-Length: +3\r\n\r\na=1" + second,
		"HT-08 an unknown coding":     head + "Transfer-Encoding: xchunked\r\n\r\n3\r\na=1\r\n0\r\n\r\n" + second,
		"HT-08 a coding on two lines": head + "Transfer-Encoding:\r\n chunked\r\n\r\n3\r\na=1\r\n0\r\n\r\n" + second,
		"HT-08 a coding behind a LF": head +
			"Content-Length: 3\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n3\r\na=1\r\n0\r\n\r\n" + second,
		"HT-08 a coding behind a CR": head + "Content-Length: 3\r\nX: y\rTransfer-Encoding: chunked\r\n\r\na=1" +
			second,
		"HT-08 h2c, outright":  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + second,
		"HT-14 a garbled host": "GET / HTTP/1.1\r\nHost: a\"><script>\r\n\r\n" + second,
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			// the test fails if the server waits for more
			if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, request); err != nil {
				t.Fatal(err)
			}
			answers, err := io.ReadAll(bufio.NewReader(conn)) // ends because the server closes
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(answers), "HTTP/1.1 "); n != 1 {
				t.Errorf("%d answers:\n%s", n, answers)
			}
			if strings.HasPrefix(string(answers), "HTTP/1.1 500") || strings.Contains(string(answers), "<script") {
				t.Errorf("the answer is\n%s", answers)
			}
		})
	}
	t.Run("HT-08 h2c, by upgrade", func(t *testing.T) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Connection": {"Upgrade, HTTP2-Settings"}, "Upgrade": {"h2c"},
			"Http2-Settings": {"AAMAAABkAARAAAAAAAIAAAAA"}}
		resp, err := s.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusSwitchingProtocols || resp.ProtoMajor != 1 {
			t.Errorf("%s %s", resp.Proto, resp.Status)
		}
	})
}
