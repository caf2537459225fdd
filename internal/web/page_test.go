package web_test

import (
	"errors"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
	"github.com/cardea-auth/cardea/internal/web/webtest"
)

// page returns a page of a flow's template with probe in its view.
func page(probe string) web.Page { return templates.Page("page.html", probe) }

var templates = web.ParseTemplates(fstest.MapFS{"templates/page.html": {Data: []byte(
	`{{template "top" .}}<title>{{.View}}</title></head><body>{{template "mark" $}}<form method="post" ` +
		`action="{{$.Base}}/login"><p>{{display .View}}</p></form></body></html>`)}})

func TestPageHeaders(t *testing.T) {
	t.Run("HT-01 CN-18 an ordinary page", func(t *testing.T) { webtest.Headers(t, page("x"), false) })
	t.Run("HT-01 CN-18 a page that answers a client",
		func(t *testing.T) { webtest.Headers(t, page("x").AnswersClient(), true) })
	t.Run("HT-01 CN-18 a failure", func(t *testing.T) { webtest.Headers(t, web.Failure{Title: "x"}, false) })
	t.Run("HT-17 pages are not compressed", func(t *testing.T) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Accept-Encoding", "gzip, br")
		w, _ := send(pageOf(page("x"), nil), r)
		wantHeader(t, w, map[string]string{"Content-Encoding": ""})
	})
	t.Run("with a refusal and cookies", func(t *testing.T) {
		refusal, _ := oauth.AsRefusal(oauth.RefuseForNow(7*time.Second, "wait"))
		answer := web.WithCookie(web.WithRefusal(page("Wait."), refusal), pages.NewSession("abc"))
		w, _ := get(pageOf(web.WithCookie(answer, nil), nil), "/")
		if w.Code != http.StatusTooManyRequests || !strings.Contains(w.Body.String(), "Wait.") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		wantHeader(t, w, map[string]string{"Retry-After": "7", "Set-Cookie": "__Host-cardea_session=abc; Path=/; " +
			"HttpOnly; Secure; SameSite=Lax"})
	})
	t.Run("one answer with different cookies", func(t *testing.T) {
		var both web.Answer = page("x")
		for range 3 {
			both = web.WithCookie(both, pages.NewSession("a"))
		}
		first, second := web.WithCookie(both, pages.NewSession("b")), web.WithCookie(both, pages.NewSession("c"))
		for answer, want := range map[string]web.Answer{"b": first, "c": second} {
			w, _ := get(pageOf(want, nil), "/")
			if got := w.Result().Cookies(); len(got) != 4 || got[3].Value != answer {
				t.Errorf("%v, want %s", got, answer)
			}
		}
	})
	t.Run("an empty page is a fault", func(t *testing.T) {
		for _, answer := range []web.Answer{nil, web.Page{}} {
			if w, _ := get(pageOf(answer, nil), "/"); w.Code != http.StatusInternalServerError {
				t.Errorf("%d", w.Code)
			}
		}
	})
}

func TestStream(t *testing.T) {
	broken := errors.New("the disk is on fire")
	for _, tt := range []struct {
		name string
		err  error
	}{{"whole", nil}, {"torn", broken}} {
		t.Run(tt.name, func(t *testing.T) {
			answer := web.Stream{Name: "a.csv", Kind: "text/csv", Write: func(out io.Writer) error {
				for range 1000 {
					if _, err := io.WriteString(out, strings.Repeat("x", 1000)); err != nil {
						return err
					}
				}
				return tt.err
			}}
			front := &web.Front{Now: time.Now, Logger: slog.New(slog.DiscardHandler)}
			server := httptest.NewServer(front.Wrap(pageOf(answer, nil)))
			defer server.Close()
			resp, err := http.Get(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			body, err := io.ReadAll(resp.Body)
			if (err == nil) != (tt.err == nil) || len(body) < 900_000 {
				t.Errorf("%d bytes, %v", len(body), err)
			}
			for name, want := range map[string]string{"Content-Type": "text/csv", "Cache-Control": "no-store",
				"Content-Disposition": `attachment; filename="a.csv"`, "X-Content-Type-Options": "nosniff"} {
				if got := resp.Header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

func TestRedirect(t *testing.T) {
	t.Run("AZ-58 303, whatever the method", func(t *testing.T) {
		answer := web.WithCookie(web.SeeOther("cursor://x/cb?code=1&state=a%20b"), pages.NewSession("abc"))
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			w, _ := send(pageOf(answer, nil), httptest.NewRequest(method, "/", nil))
			if w.Code != http.StatusSeeOther || w.Body.Len() != 0 {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			wantHeader(t, w, map[string]string{
				"Location":                   "cursor://x/cb?code=1&state=a%20b",
				"Cache-Control":              "no-store",
				"Referrer-Policy":            "no-referrer",
				"Cross-Origin-Opener-Policy": "", // it would separate a client from its popup
				"Set-Cookie":                 "__Host-cardea_session=abc; Path=/; HttpOnly; Secure; SameSite=Lax",
			})
		}
	})
	t.Run("below the path of the issuer", func(t *testing.T) {
		below := &web.Pages{Base: "/tenant"}
		for location, want := range map[string]string{
			"/login?request=x": "/tenant/login?request=x", "https://a.test/cb": "https://a.test/cb",
		} {
			w, _ := get(below.HTML(func(*http.Request) (web.Answer, error) { return web.SeeOther(location), nil }), "/")
			wantHeader(t, w, map[string]string{"Location": want})
		}
		w, _ := get(below.HTML(func(*http.Request) (web.Answer, error) { return page("x"), nil }), "/")
		body := w.Body.String()
		if !strings.Contains(body, `action="/tenant/login"`) || !strings.Contains(body, `href="/tenant/assets/`) ||
			strings.Contains(body, `"/assets/`) {
			t.Error(body)
		}
	})
	for _, location := range []string{
		"https://a.test/\r\nSet-Cookie: a=b", "https://a.test/ b", "https://a.test/\x00", "https://a.test/é",
	} {
		t.Run("AZ-38 HT-22 no header injection", func(t *testing.T) {
			w, _ := get(pageOf(web.SeeOther(location), nil), "/")
			if w.Code != http.StatusInternalServerError {
				t.Errorf("%d", w.Code)
			}
			wantHeader(t, w, map[string]string{"Location": "", "Set-Cookie": ""})
		})
	}
}

func TestFailureIsInert(t *testing.T) {
	for _, probe := range webtest.Probes {
		t.Run("AZ-56 AZ-48 DC-06", func(t *testing.T) {
			webtest.Inert(t,
				web.Failure{Status: 400, Title: probe, Message: probe, Hint: probe, Code: probe, RequestID: probe},
				probe)
			webtest.Inert(t, page(probe), probe)
		})
	}
}

func TestErrorPage(t *testing.T) {
	const evil = "https://evil.example/cb?\"><script>"
	w, _ := get(pageOf(nil, oauth.Refuse(oauth.InvalidRequest, "redirect URI %q is not registered", evil)), "/")
	body := w.Body.String()
	t.Run("AZ-57 a page without links or forms", func(t *testing.T) {
		if w.Code != http.StatusBadRequest || w.Header().Get("Location") != "" {
			t.Errorf("%d %v", w.Code, w.Header())
		}
		for _, bad := range []string{"<a", "http-equiv", "<form", "<script", `href="http`} {
			if strings.Contains(body, bad) {
				t.Errorf("the page has %s", bad)
			}
		}
		if !strings.Contains(html.UnescapeString(body), `evil.example/cb?`) {
			t.Error("the page does not have the message")
		}
	})
	t.Run("shows the request id", func(t *testing.T) {
		id := w.Header().Get("X-Request-Id")
		if !strings.Contains(body, id) || !strings.Contains(body, "invalid_request") {
			t.Error("no reference on the page")
		}
	})
	for name, c := range map[string]struct {
		err    error
		status int
		says   string
	}{
		"refused by a person": {oauth.Refuse(oauth.AccessDenied, "this form was sent by another site"), 403,
			"This form was sent by another site."},
		"too often": {oauth.RefuseForNow(0, "wait"), 429, "Too many attempts"},
		"gone": {oauth.RefuseStatus(404, "not_found", "there is nothing at this address"), 404,
			"Nothing here"},
		"unavailable": {oauth.ErrUnavailable, 503, "Not available right now"},
		"a sentence":  {oauth.Refuse(oauth.InvalidRequest, "Add it again."), 400, ">Add it again.<"},
		"a parameter's name": {oauth.Refuse(oauth.InvalidRequest, "client_id is missing"), 400,
			"client_id is missing"},
		"an empty description": {oauth.Refuse(oauth.InvalidRequest, ""), 400, "This request cannot be answered"},
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := get(pageOf(nil, c.err), "/")
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if retry := w.Header().Get("Retry-After"); (retry != "") != (c.status == 429 || c.status == 503) {
				t.Errorf("Retry-After: %q", retry)
			}
		})
	}
}

func TestDisplayName(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"plain", "Claude Code", "Claude Code"},
		{"other scripts", "日本語 Ünïcödé עברית", "日本語 Ünïcödé עברית"},
		{"emoji", "Agent 🤖", "Agent 🤖"},
		{"white space", "  a \t\r\n b\u00a0\u2003c\u2028d  ", "a b c d"},
		{"CN-14 bidi", "a\u202eb\u2066c\u200fd\u061ce", "abcde"},
		{"CN-14 zero width", "a\u200bb\u200cc\u200dd\ufeffe\u2060f\u00adg", "abcdefg"},
		{"CN-14 control", "a\x00b\x1bc\x7fd\u0085e", "abcd e"},
		{"fillers", "\u3164\u115f\u1160\uffa0\u2800", ""},
		{"tags and selectors", "a\U000E0041\ufe0fb", "ab"},
		{"private use", "a\ue000b", "ab"},
		{"not UTF-8", "a\xff\xfeb", "ab"},
		{"a pile of marks", "a" + strings.Repeat("\u0301", 50) + "b", "a\u0301\u0301b"},
		{"a mark in front", "\u0301a \u0301b", "a b"},
		{"80 characters", strings.Repeat("é", 80), strings.Repeat("é", 80)},
		{"CN-14 10 KB", strings.Repeat("ab", 5<<10), strings.Repeat("ab", 39) + "a…"},
		{"cut after a space", strings.Repeat("x", 78) + " yyy", strings.Repeat("x", 78) + "…"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := web.DisplayName(c.in); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func FuzzDisplayName(f *testing.F) {
	for _, s := range []string{"Claude Code", "a\u202eb", "\xff", " \u0301 ", strings.Repeat("\u0301a", 100)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name := web.DisplayName(s)
		if !utf8.ValidString(name) || utf8.RuneCountInString(name) > 80 || strings.TrimSpace(name) != name ||
			strings.Contains(name, "  ") {
			t.Fatalf("%q becomes %q", s, name)
		}
		for _, c := range name {
			if c != ' ' &&
				(unicode.IsSpace(c) || unicode.In(c, unicode.C, unicode.Zl, unicode.Zp, unicode.Bidi_Control)) {
				t.Fatalf("%q keeps %U", s, c)
			}
		}
		if again := web.DisplayName(name); again != name {
			t.Fatalf("%q becomes %q, and that %q", s, name, again)
		}
	})
}

func TestAssets(t *testing.T) {
	assets := web.NewRouter(pages, web.Assets(nil))
	paths := regexp.MustCompile(`/assets/[^"]+`).FindAllString(webtest.Show(t, page("x")), -1)
	if len(paths) < 2 {
		t.Fatalf("the page loads %v", paths)
	}
	for _, path := range paths {
		t.Run(path, func(t *testing.T) {
			w, _ := get(assets, path)
			kind := map[bool]string{true: "text/css; charset=utf-8",
				false: "image/svg+xml"}[strings.HasSuffix(path, ".css")]
			if w.Code != http.StatusOK || w.Body.Len() == 0 {
				t.Errorf("%d", w.Code)
			}
			wantHeader(t, w, map[string]string{
				"Content-Type":            kind,
				"Cache-Control":           "public, max-age=31536000, immutable",
				"X-Content-Type-Options":  "nosniff",
				"Content-Security-Policy": "default-src 'none'",
			})
			if !regexp.MustCompile(`\.[0-9a-f]{16}\.`).MatchString(path) {
				t.Error("no hash in the name")
			}
			if regexp.MustCompile(`url\(|@import|https?://[^w]`).MatchString(w.Body.String()) {
				t.Error("it loads something from elsewhere")
			}
		})
	}
	t.Run("HT-13 Range is ignored", func(t *testing.T) {
		whole, _ := get(assets, paths[0])
		r := httptest.NewRequest(http.MethodGet, paths[0], nil)
		r.Header.Set("Range", "bytes="+strings.Repeat("0-,", 1000)+"0-")
		w, _ := send(assets, r)
		if w.Code != http.StatusOK || w.Body.String() != whole.Body.String() {
			t.Errorf("%d, %d bytes", w.Code, w.Body.Len())
		}
	})
	for _, path := range []string{"/assets/", "/assets/cardea.css", "/assets/../view.go", "/assets/x"} {
		t.Run("not found: "+path, func(t *testing.T) {
			if w, _ := get(assets, path); w.Code != http.StatusNotFound {
				t.Errorf("%d", w.Code)
			}
		})
	}
	t.Run("POST is refused", func(t *testing.T) {
		w, _ := send(assets, httptest.NewRequest(http.MethodPost, paths[0], nil))
		if w.Code != http.StatusMethodNotAllowed {
			t.Errorf("%d", w.Code)
		}
	})
}
