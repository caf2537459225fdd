package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
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
		{"a session over https", pages.NewSession("abc"),
			"__Host-cardea_session=abc; Path=/; HttpOnly; Secure; SameSite=Lax"},
		{"a session over http, on a loopback host", plain.NewSession("abc"),
			"cardea_session=abc; Path=/; HttpOnly; SameSite=Lax"},
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
		{"among others", []string{"a=b; __Host-cardea_session=abc; cardea_session=def; x__Host-cardea_session=y"},
			"abc"},
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
		{"LG-16 quoted around a semicolon",
			[]string{`x="; __Host-cardea_session=evil; "; __Host-cardea_session=abc`}, ""},
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

// The work for the cookies of a request does not grow with the square of their number. What it costs is counted in
// bytes of memory, because time depends on the machine.
func TestLG17ManyCookiesOfOurs(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	var cookies strings.Builder
	for i := range 2600 {
		fmt.Fprintf(&cookies, "cardea_%x=; ", i)
	}
	r.Header.Set("Cookie", cookies.String())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	pages.Browser(r)
	runtime.ReadMemStats(&after)
	if spent := after.TotalAlloc - before.TotalAlloc; spent > 4<<20 {
		t.Errorf("%d bytes of cookies cost %d bytes of memory", cookies.Len(), spent)
	}
}

// from returns a request with cookies.
func from(cookies ...*http.Cookie) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	for _, c := range cookies {
		if c != nil {
			r.AddCookie(c)
		}
	}
	return r
}

// browserOf returns the browser that has exactly these cookies.
func browserOf(cookies ...*http.Cookie) web.Browser { return pages.Browser(from(cookies...)) }

func TestBrowser(t *testing.T) {
	first := browserOf()
	cookie := first.Cookie()
	if first.Known() || len(cookie.Value) < 26 || !strings.HasPrefix(cookie.Name, "__Host-cardea_browser_") ||
		cookie.MaxAge < 3600 {
		t.Fatalf("a new browser has %v", cookie)
	}
	t.Run("a browser that returns", func(t *testing.T) {
		again := browserOf(cookie)
		renewed := again.Cookie()
		if !again.Known() || !again.Is(first.Hash()) || again.Hash() != first.Hash() ||
			renewed.String() != cookie.String() {
			t.Errorf("its cookie is %v, want %v", again.Cookie(), cookie)
		}
	})
	t.Run("another", func(t *testing.T) {
		other := browserOf()
		if other.Cookie().Name == cookie.Name || other.Hash() == first.Hash() ||
			browserOf(other.Cookie()).Is(first.Hash()) {
			t.Error("two browsers are the same")
		}
	})
	t.Run("a new browser that sent several requests at once", func(t *testing.T) {
		second := browserOf()
		both := browserOf(cookie, second.Cookie())
		if !both.Is(first.Hash()) || !both.Is(second.Hash()) || both.Is("") {
			t.Error("it is not recognised by each of its cookies")
		}
		if swapped := browserOf(second.Cookie(), cookie); swapped.Hash() != both.Hash() {
			t.Error("which cookie is used depends on their order")
		}
	})
	t.Run("a cookie from before cookies had different names", func(t *testing.T) {
		old := &http.Cookie{Name: "__Host-cardea_browser", Value: "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
		if b := browserOf(old); !b.Known() || b.Cookie().Name != old.Name || b.Cookie().Value != old.Value {
			t.Errorf("it has %v", b.Cookie())
		}
	})
	t.Run("LG-16 a duplicate cookie is ignored, others are not", func(t *testing.T) {
		planted := &http.Cookie{Name: cookie.Name, Value: "AAAA"}
		if browserOf(planted, cookie).Known() {
			t.Error("one of two duplicates was used")
		}
		second := browserOf().Cookie()
		if b := browserOf(planted, cookie, second); b.Cookie().Value != second.Value {
			t.Errorf("it has %v", b.Cookie())
		}
	})
	t.Run("LG-17 very many browser cookies", func(t *testing.T) {
		var many []*http.Cookie
		for range 200 {
			many = append(many, browserOf().Cookie())
		}
		known := 0
		b := browserOf(many...)
		for _, c := range many {
			if b.Is(oauth.Hash(c.Value)) {
				known++
			}
		}
		if known != 180 {
			t.Errorf("%d were read, want 180", known)
		}
	})
}

func TestKnownDevice(t *testing.T) {
	device := pages.NewDevice("ada@example.com")
	id := pages.KnownDevice(from(device), "ada@example.com")
	if id == "" || device.MaxAge < 86400 {
		t.Fatalf("LG-10 the owner's device is not known by %v", device)
	}
	other := pages.KnownDevice(from(pages.NewDevice("ada@example.com")), "ada@example.com")
	if other == "" || other == id {
		t.Errorf("LG-10 two devices are known by %q and %q", id, other)
	}
	for _, c := range []struct {
		name    string
		cookie  *http.Cookie
		account string
	}{
		{"LG-10 of another account", device, "eve@example.com"},
		{"LG-10 a browser that never signed in", nil, "ada@example.com"},
		{"LG-10 its id alone", &http.Cookie{Name: device.Name, Value: id}, "ada@example.com"},
		{"LG-10 altered", &http.Cookie{Name: device.Name, Value: "A" + device.Value}, "ada@example.com"},
		{"LG-10 a form token is no device",
			&http.Cookie{Name: device.Name, Value: id + pages.TokenFor(id, "ada@example.com")}, "ada@example.com"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := pages.KnownDevice(from(c.cookie), c.account); got != "" {
				t.Errorf("known by %q", got)
			}
		})
	}
}

func TestFormTokens(t *testing.T) {
	b, other := browserOf(browserOf().Cookie()), browserOf(browserOf().Cookie())
	token := pages.Token(b, "consent", "req_1")
	if token != pages.TokenFor(b.Hash(), "consent", "req_1") {
		t.Error("Token and TokenFor disagree")
	}
	both := browserOf(other.Cookie(), b.Cookie())
	for _, c := range []struct {
		name    string
		browser web.Browser
		token   string
		purpose []string
		want    bool
	}{
		{"good", b, token, []string{"consent", "req_1"}, true},
		{"of a browser with several ids", both, token, []string{"consent", "req_1"}, true},
		{"LG-12 CN-01 none", b, "", []string{"consent", "req_1"}, false},
		{"CN-01 cut", b, token[:len(token)-1], []string{"consent", "req_1"}, false},
		{"CN-02 of another interaction", b, token, []string{"consent", "req_2"}, false},
		{"CN-02 of another form", b, token, []string{"sign out"}, false},
		{"CN-05 AZ-64 of another browser", other, token, []string{"consent", "req_1"}, false},
		{"a browser that is not known", browserOf(), pages.TokenFor("", "consent", "req_1"),
			[]string{"consent", "req_1"}, false},
		{"parts moved over their border", b, pages.Token(b, "consentreq", "_1"), []string{"consent", "req_1"}, false},
		{"under another key", b, (&web.Pages{Secure: true, CSRFKey: []byte("x")}).Token(b, "consent", "req_1"),
			[]string{"consent", "req_1"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := pages.Check(c.browser, c.token, c.purpose...); got != c.want {
				t.Errorf("%v", got)
			}
		})
	}
}

func TestCrossSite(t *testing.T) {
	for _, c := range []struct {
		name   string
		header map[string]string
		want   bool
	}{
		{"from no site", nil, false},
		{"typed in", map[string]string{"Sec-Fetch-Site": "none"}, false},
		{"from a neighbouring site, whose forms carry our cookies",
			map[string]string{"Sec-Fetch-Site": "same-site", "Origin": "https://app.example.com"}, false},
		{"from this site, in an old browser", map[string]string{"Origin": "http://example.com"}, false},
		{"from another site", map[string]string{"Sec-Fetch-Site": "cross-site"}, true},
		{"from another site, in an old browser", map[string]string{"Origin": "https://evil.example"}, true},
		{"from a site that hides, in an old browser", map[string]string{"Origin": "null"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := from()
			for name, value := range c.header {
				r.Header.Set(name, value)
			}
			if got := web.CrossSite(r); got != c.want {
				t.Errorf("%v", got)
			}
		})
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
		{"LG-12 from a sandboxed frame of another site",
			map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "null"}, 403},
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
			if w, _ := send(pageOf(page("x"), nil), r()); w.Code != c.want {
				t.Errorf("%d, want %d", w.Code, c.want)
			}
		})
		t.Run("AZ-53 if other sites may post: "+c.name, func(t *testing.T) {
			h := pages.HTMLFromAnySite(func(*http.Request) (web.Answer, error) { return page("x"), nil })
			if w, _ := send(h, r()); w.Code != http.StatusOK {
				t.Errorf("%d", w.Code)
			}
		})
	}
	t.Run("LG-12 a form from another site is recorded", func(t *testing.T) {
		recording := *pages
		var events []audit.Event
		refusal := oauth.RefuseForNow(time.Minute, "too often")
		recording.Refuse = func(_ *http.Request, event audit.Event, err error) error {
			events = append(events, event)
			return refusal
		}
		h := recording.HTML(func(*http.Request) (web.Answer, error) {
			t.Error("the endpoint was reached")
			return page("x"), nil
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
		if w, _ := send(pageOf(page("x"), nil), r); w.Code != http.StatusOK {
			t.Errorf("%d", w.Code)
		}
	})
}
