package web_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

func TestCookies(t *testing.T) {
	plain := &web.Pages{CSRFKey: pages.CSRFKey}
	for _, c := range []struct {
		name   string
		cookie *http.Cookie
		want   string
	}{
		{"a session over https", pages.NewSession("abc"), "__Host-cardea_session=abc; Path=/; HttpOnly; Secure; SameSite=Lax"},
		{"a session over http, on a loopback host", plain.NewSession("abc"), "cardea_session=abc; Path=/; HttpOnly; SameSite=Lax"},
		{"no session", plain.NoSession(), "cardea_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.cookie.String(); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
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
			if got := pages.SessionCookie(r); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// from returns a request of a browser with cookies.
func from(cookies ...*http.Cookie) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	for _, c := range cookies {
		if c != nil {
			r.AddCookie(c)
		}
	}
	return r
}

func TestBrowser(t *testing.T) {
	id, cookie := pages.Browser(from())
	if len(id) < 26 || cookie == nil || cookie.Value != id || cookie.MaxAge < 86400 {
		t.Fatalf("a new browser is %q, %v", id, cookie)
	}
	if again, none := pages.Browser(from(cookie)); again != id || none != nil {
		t.Errorf("the same browser is %q, %v", again, none)
	}
	if other, _ := pages.Browser(from()); other == id {
		t.Error("two browsers are one")
	}
}

func TestKnownDevice(t *testing.T) {
	id, browser := pages.Browser(from())
	_, other := pages.Browser(from())
	device := pages.RememberDevice("ada@example.com", id)
	for _, c := range []struct {
		name    string
		r       *http.Request
		account string
		want    bool
	}{
		{"LG-10 the owner's", from(browser, device), "ada@example.com", true},
		{"LG-10 of another account", from(browser, device), "eve@example.com", false},
		{"LG-10 the cookie alone, in another browser", from(other, device), "ada@example.com", false},
		{"LG-10 the cookie without a browser", from(device), "ada@example.com", false},
		{"LG-10 a browser that never signed in", from(browser), "ada@example.com", false},
		{"LG-10 a form token is no device", from(browser, &http.Cookie{Name: device.Name, Value: pages.TokenFor("ada@example.com", id, "device")}), "ada@example.com", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := pages.KnownDevice(c.r, c.account); got != c.want {
				t.Errorf("%v", got)
			}
		})
	}
}

func TestFormTokens(t *testing.T) {
	id, browser := pages.Browser(from())
	_, otherBrowser := pages.Browser(from())
	session, otherSession := pages.NewSession("session"), pages.NewSession("other")
	token := pages.Token(from(browser, session), "consent req_1")
	if token != pages.TokenFor(id, "session", "consent req_1") {
		t.Error("Token and TokenFor disagree")
	}
	for _, c := range []struct {
		name           string
		r              *http.Request
		purpose, token string
		want           bool
	}{
		{"good", from(browser, session), "consent req_1", token, true},
		{"LG-12 CN-01 none", from(browser, session), "consent req_1", "", false},
		{"CN-01 cut", from(browser, session), "consent req_1", token[:len(token)-1], false},
		{"CN-02 of another interaction", from(browser, session), "consent req_2", token, false},
		{"CN-02 of another form", from(browser, session), "sign out", token, false},
		{"CN-05 AZ-64 of another browser", from(otherBrowser, session), "consent req_1", token, false},
		{"CN-02 CN-22 of another session", from(browser, otherSession), "consent req_1", token, false},
		{"LG-13 of before the sign-in", from(browser, session), "consent req_1", pages.TokenFor(id, "", "consent req_1"), false},
		{"a browser without an id", from(session), "consent req_1", pages.TokenFor("", "session", "consent req_1"), false},
		{"parts moved over their border", from(browser, session), "a", pages.TokenFor("b"+id, "session", ""), false},
		{"under another key", from(browser, session), "consent req_1", (&web.Pages{Secure: true, CSRFKey: []byte("x")}).TokenFor(id, "session", "consent req_1"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := pages.Check(c.r, c.purpose, c.token); got != c.want {
				t.Errorf("%v", got)
			}
		})
	}
	if pages.TokenFor("ab", "c", "d") == pages.TokenFor("a", "bc", "d") {
		t.Error("parts can move over their border")
	}
}

func TestForeignForms(t *testing.T) {
	for _, c := range []struct {
		name   string
		header map[string]string
		want   int
	}{
		{"from no site", nil, 200},
		{"from this site", map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "null"}, 200},
		{"from this site, by Origin", map[string]string{"Origin": "http://example.com"}, 200},
		{"from this site, in an old browser under no-referrer", map[string]string{"Origin": "null"}, 200},
		{"LG-12 AZ-68 from another site", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"LG-12 from a sandboxed frame of another site", map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "null"}, 403},
		{"LG-12 from a neighbouring site", map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		{"LG-12 from another origin", map[string]string{"Origin": "https://evil.example"}, 403},
	} {
		r := func() *http.Request {
			r := from()
			for name, value := range c.header {
				r.Header.Set(name, value)
			}
			return r
		}
		t.Run(c.name, func(t *testing.T) {
			if w, _ := send(pageOf(web.SignedOut{}, nil), r()); w.Code != c.want {
				t.Errorf("%d, want %d", w.Code, c.want)
			}
		})
		t.Run("AZ-53 where other sites may post: "+c.name, func(t *testing.T) {
			h := pages.HTMLFromAnySite(func(*http.Request) (web.Answer, error) { return web.SignedOut{}, nil })
			if w, _ := send(h, r()); w.Code != http.StatusOK {
				t.Errorf("%d", w.Code)
			}
		})
	}
	t.Run("LG-12 one from another site is recorded as what it is", func(t *testing.T) {
		recording := *pages
		var events []audit.Event
		refusal := oauth.RefuseForNow(time.Minute, "too often")
		recording.Refuse = func(_ *http.Request, event audit.Event, err error) error {
			events = append(events, event)
			return refusal
		}
		h := recording.HTML(func(*http.Request) (web.Answer, error) {
			t.Error("the endpoint was reached")
			return web.SignedOut{}, nil
		})
		r := httptest.NewRequest(http.MethodPost, "/consent?request=sealed", nil)
		r.Header.Set("Origin", "https://evil.example")
		if w, _ := send(h, r); w.Code != http.StatusTooManyRequests {
			t.Errorf("%d: what Refuse returns is not the answer", w.Code)
		}
		if d := cmp.Diff([]audit.Event{audit.ForeignForm("/consent", "https://evil.example")}, events); d != "" {
			t.Error(d)
		}
	})
	t.Run("a link on another site", func(t *testing.T) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		if w, _ := send(pageOf(web.SignedOut{}, nil), r); w.Code != http.StatusOK {
			t.Errorf("%d", w.Code)
		}
	})
}

func TestSealedRequest(t *testing.T) {
	id, browser := pages.Browser(from())
	_, other := pages.Browser(from())
	begun := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	want := &oauth.AuthorizationRequest{ID: "req_1", State: []byte("\x00é\U0001F511\xff"), BegunAt: begun, Browser: oauth.Hash(id)}
	sealed, err := pages.SealRequest(want)
	if err != nil {
		t.Fatal(err)
	}
	unbound, err := pages.SealRequest(&oauth.AuthorizationRequest{ID: "req_1", BegunAt: begun, Browser: oauth.Hash("")})
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := pages.Sealer.Seal("something else", want)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		r      *http.Request
		sealed string
		now    time.Time
		status int
	}{
		{"in time, in its browser", from(browser), sealed, begun.Add(oauth.RequestLifetime - time.Second), 0},
		{"CN-21 too late", from(browser), sealed, begun.Add(oauth.RequestLifetime), 400},
		{"AZ-64 in another browser", from(other), sealed, begun, 403},
		{"AZ-64 without cookies", from(), sealed, begun, 403},
		{"AZ-64 without cookies, begun without", from(), unbound, begun, 403},
		{"altered", from(browser), "A" + sealed[1:], begun, 400},
		{"sealed for something else", from(browser), foreign, begun, 400},
		{"none", from(browser), "", begun, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := pages.OpenRequest(c.r, c.sealed, c.now)
			if c.status == 0 {
				if d := cmp.Diff(want, got); d != "" || err != nil {
					t.Error(d, err)
				}
				return
			}
			if refusal, ok := oauth.AsRefusal(err); !ok || refusal.Status() != c.status || got != nil {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

func TestSealer(t *testing.T) {
	s := pages.Sealer
	want := oauth.AuthorizationRequest{ID: "req_1", State: []byte("\x00é\U0001F511\xff"), BegunAt: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)}
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
	s := pages.Sealer
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
