package web_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

func TestCookies(t *testing.T) {
	t.Run("over https", func(t *testing.T) {
		got := web.Cookies{Secure: true}.Set(web.Session, "abc", time.Hour).String()
		if want := "__Host-cardea_session=abc; Path=/; Max-Age=3600; HttpOnly; Secure; SameSite=Lax"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
	t.Run("over http, on a loopback host", func(t *testing.T) {
		got := web.Cookies{}.Set(web.Browser, "abc", 0).String()
		if want := "cardea_browser=abc; Path=/; HttpOnly; SameSite=Lax"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
	t.Run("cleared", func(t *testing.T) {
		got := web.Cookies{}.Clear(web.Session).String()
		if want := "cardea_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
	for _, c := range []struct {
		name   string
		header []string
		want   string
	}{
		{"one", []string{"__Host-cardea_session=abc"}, "abc"},
		{"among others", []string{"a=b; __Host-cardea_session=abc; cardea_session=def; x__Host-cardea_session=y"}, "abc"},
		{"none", nil, ""},
		{"of another name", []string{"cardea_session=abc"}, ""},
		{"LG-16 two", []string{"__Host-cardea_session=abc; __Host-cardea_session=def"}, ""},
		{"LG-16 two alike", []string{"__Host-cardea_session=abc; __Host-cardea_session=abc"}, ""},
		{"LG-16 two headers", []string{"__Host-cardea_session=abc", "__Host-cardea_session=def"}, ""},
		{"LG-16 a name behind U+2000", []string{"\u2000__Host-cardea_session=evil; __Host-cardea_session=abc"}, ""},
		{"LG-16 a name behind U+2000 alone", []string{"\u2000__Host-cardea_session=evil"}, ""},
		{"LG-16 a name before a tab", []string{"__Host-cardea_session\t=evil; __Host-cardea_session=abc"}, ""},
		{"LG-16 $Version", []string{`$Version=1; __Host-cardea_session="abc"; $Path=/`}, ""},
		{"LG-16 quoted", []string{`__Host-cardea_session="abc"`}, ""},
		{"LG-16 quoted around a semicolon", []string{`x="; __Host-cardea_session=evil; "; __Host-cardea_session=abc`}, ""},
		{"not ours", []string{"__Host-cardea_session=a.b"}, ""},
		{"too long", []string{"__Host-cardea_session=" + strings.Repeat("a", 257)}, ""},
		{"LG-17 10,000 cookies", []string{strings.Repeat("a=b; ", 10_000) + "__Host-cardea_session=abc"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header["Cookie"] = c.header
			if got := (web.Cookies{Secure: true}).Value(r, web.Session); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

var key = []byte("0123456789abcdef0123456789abcdef")

func TestCSRF(t *testing.T) {
	csrf, err := web.NewCSRF(key, "https://id.example.com")
	if err != nil {
		t.Fatal(err)
	}
	token := csrf.Token("consent req_1", "browser", "session")
	for _, c := range []struct {
		name                               string
		header                             map[string]string
		token, purpose, browser, sessionID string
		ok                                 bool
	}{
		{"good", nil, token, "consent req_1", "browser", "session", true},
		{"from this site", map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "null"}, token, "consent req_1", "browser", "session", true},
		{"from this site, by Origin", map[string]string{"Origin": "https://id.example.com"}, token, "consent req_1", "browser", "session", true},
		{"from this site, in a browser without Sec-Fetch-Site, under no-referrer", map[string]string{"Origin": "null"}, token, "consent req_1", "browser", "session", true},
		{"LG-12 CN-01 no token", nil, "", "consent req_1", "browser", "session", false},
		{"LG-12 from another site", map[string]string{"Sec-Fetch-Site": "cross-site"}, token, "consent req_1", "browser", "session", false},
		{"LG-12 from a sandboxed frame of another site", map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "null"}, token, "consent req_1", "browser", "session", false},
		{"LG-12 from a neighbouring site", map[string]string{"Sec-Fetch-Site": "same-site"}, token, "consent req_1", "browser", "session", false},
		{"LG-12 from another origin", map[string]string{"Origin": "https://evil.example"}, token, "consent req_1", "browser", "session", false},
		{"CN-02 of another interaction", nil, token, "consent req_2", "browser", "session", false},
		{"CN-02 of another form", nil, token, "sign-in req_1", "browser", "session", false},
		{"CN-05 AZ-64 of another browser", nil, token, "consent req_1", "other", "session", false},
		{"CN-02 CN-22 of another session", nil, token, "consent req_1", "browser", "other", false},
		{"parts moved over their border", nil, csrf.Token("a", "bc", "d"), "a", "b", "cd", false},
		{"no browser cookie", nil, csrf.Token("consent req_1", "", "session"), "consent req_1", "", "session", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "http://10.0.0.5:8080/consent", nil) // as a proxy rewrites Host
			for name, value := range c.header {
				r.Header.Set(name, value)
			}
			err := csrf.Check(r, c.token, c.purpose, c.browser, c.sessionID)
			if refusal, ok := oauth.AsRefusal(err); c.ok != (err == nil) || err != nil && (!ok || refusal.Status() != http.StatusForbidden) {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("an issuer that is no URL", func(t *testing.T) {
		for _, issuer := range []string{"", "id.example.com", "http://[::1"} {
			if _, err := web.NewCSRF(key, issuer); err == nil {
				t.Errorf("%q was taken", issuer)
			}
		}
	})
	t.Run("another key, another token", func(t *testing.T) {
		other, err := web.NewCSRF([]byte(strings.Repeat("x", 32)), "https://id.example.com")
		if err != nil || other.Token("a", "b", "c") == csrf.Token("a", "b", "c") {
			t.Errorf("the same token, %v", err)
		}
	})
}

func TestSealer(t *testing.T) {
	s := web.NewSealer(key)
	want := oauth.AuthorizationRequest{ID: "req_1", State: "\x00é\U0001F511", BegunAt: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)}
	sealed, err := s.Seal("request", want)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("opens for its purpose", func(t *testing.T) {
		var got oauth.AuthorizationRequest
		if err := s.Open("request", sealed, &got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	})
	t.Run("never looks the same, and hides what is in it", func(t *testing.T) {
		again, err := s.Seal("request", want)
		if err != nil || again == sealed || strings.Contains(again, "req_1") {
			t.Errorf("%s, %v", again, err)
		}
	})
	refused := func(t *testing.T, s *web.Sealer, purpose, text string) {
		t.Helper()
		var got oauth.AuthorizationRequest
		if err := s.Open(purpose, text, &got); !isRefusal(err) || got.ID != "" {
			t.Errorf("%v, %v", err, got)
		}
	}
	t.Run("not for another purpose", func(t *testing.T) { refused(t, s, "other", sealed) })
	t.Run("not under another key", func(t *testing.T) {
		refused(t, web.NewSealer([]byte(strings.Repeat("x", 32))), "request", sealed)
	})
	t.Run("not when one character is another", func(t *testing.T) {
		for i := range sealed {
			other := byte('A')
			if sealed[i] == other {
				other = 'B'
			}
			refused(t, s, "request", sealed[:i]+string(other)+sealed[i+1:])
		}
	})
	t.Run("not when cut or longer", func(t *testing.T) {
		for i := range sealed {
			refused(t, s, "request", sealed[:i])
		}
		refused(t, s, "request", sealed+"A")
		refused(t, s, "request", sealed+"=")
		refused(t, s, "request", sealed+"\n")
		refused(t, s, "request", strings.Repeat("A", 1<<20))
	})
	t.Run("what does not encode is a fault", func(t *testing.T) {
		if _, err := s.Seal("request", func() {}); err == nil || isRefusal(err) {
			t.Errorf("%v", err)
		}
	})
}

func FuzzSealerOpen(f *testing.F) {
	s := web.NewSealer(key)
	sealed, err := s.Seal("request", "x")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed[:20])
	f.Add("")
	f.Add("=")
	f.Fuzz(func(t *testing.T, text string) {
		var got string
		if err := s.Open("request", text, &got); !isRefusal(err) && text != sealed {
			t.Fatalf("Open(%q) = %v", text, err)
		}
	})
}
