package web_test

import (
	"html"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

const (
	strict   = "default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
	answered = "default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)

// views is every page, with probe in everything it shows.
func views(probe string) map[string]web.Answer {
	client := &web.ClientCard{Name: probe, ID: probe, Destination: web.Destination{Host: probe, LoopbackOnly: true}}
	return map[string]web.Answer{
		"sign-in":         web.SignIn{Client: client, Email: probe, Error: probe, Request: "sealed" + probe, CSRF: probe},
		"plain sign-in":   web.SignIn{CSRF: probe},
		"consent":         web.Consent{Client: client, Email: probe, Resource: web.ResourceCard{Name: probe, Identifier: probe}, Scopes: []web.ScopeLine{{Name: probe, Description: probe, New: true}}, Request: probe, CSRF: probe},
		"consent, scheme": web.Consent{Client: &web.ClientCard{ID: "https://" + probe, Destination: web.Destination{Scheme: probe}}},
		"signed in":       web.SignedIn{Email: probe, CSRF: probe},
		"signed out":      web.SignedOut{},
		"failure":         web.Failure{Status: 400, Title: probe, Message: probe, Hint: probe, Code: probe, RequestID: probe},
	}
}

func TestPageHeaders(t *testing.T) {
	for name, page := range views("x") {
		t.Run("HT-01 CN-18 "+name, func(t *testing.T) {
			policy, opener := strict, "same-origin"
			if name == "sign-in" || strings.HasPrefix(name, "consent") {
				policy, opener = answered, "unsafe-none" // CN-29
			}
			w, _ := get(pageOf(page, nil), "/")
			wantHeader(t, w, map[string]string{
				"Content-Type":               "text/html; charset=utf-8",
				"Content-Security-Policy":    policy,
				"Cross-Origin-Opener-Policy": opener,
				"X-Frame-Options":            "DENY",
				"X-Content-Type-Options":     "nosniff",
				"Referrer-Policy":            "no-referrer",
				"Cache-Control":              "no-store",
			})
			if !strings.Contains(w.Header().Get("Permissions-Policy"), "camera=()") {
				t.Error("no Permissions-Policy")
			}
		})
	}
	t.Run("HT-17 pages are not compressed", func(t *testing.T) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Accept-Encoding", "gzip, br")
		w, _ := send(pageOf(web.SignIn{CSRF: "x"}, nil), r)
		wantHeader(t, w, map[string]string{"Content-Encoding": ""})
	})
	t.Run("with a refusal and cookies", func(t *testing.T) {
		refusal, _ := oauth.AsRefusal(oauth.RefuseForNow(7*time.Second, "wait"))
		answer := web.WithCookie(web.WithRefusal(web.SignIn{Error: "Wait."}, refusal), pages.NewSession("abc"))
		w, _ := get(pageOf(web.WithCookie(answer, nil), nil), "/")
		if w.Code != http.StatusTooManyRequests || !strings.Contains(w.Body.String(), "Wait.") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		wantHeader(t, w, map[string]string{"Retry-After": "7", "Set-Cookie": "__Host-cardea_session=abc; Path=/; HttpOnly; Secure; SameSite=Lax"})
	})
	t.Run("one answer with this cookie, one with that", func(t *testing.T) {
		var both web.Answer = web.SignedOut{}
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
	t.Run("no page is a fault", func(t *testing.T) {
		for _, answer := range []web.Answer{nil, web.Page{}} {
			if w, _ := get(pageOf(answer, nil), "/"); w.Code != http.StatusInternalServerError {
				t.Errorf("%d", w.Code)
			}
		}
	})
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
				"Cross-Origin-Opener-Policy": "", // it would part a client from its popup
				"Set-Cookie":                 "__Host-cardea_session=abc; Path=/; HttpOnly; Secure; SameSite=Lax",
			})
		}
	})
	t.Run("below the path of the issuer", func(t *testing.T) {
		below := &web.Pages{Base: "/tenant"}
		for location, want := range map[string]string{"/login?request=x": "/tenant/login?request=x", "https://a.test/cb": "https://a.test/cb"} {
			w, _ := get(below.HTML(func(*http.Request) (web.Answer, error) { return web.SeeOther(location), nil }), "/")
			wantHeader(t, w, map[string]string{"Location": want})
		}
		w, _ := get(below.HTML(func(*http.Request) (web.Answer, error) { return web.SignIn{}, nil }), "/")
		if page := w.Body.String(); !strings.Contains(page, `action="/tenant/login"`) || !strings.Contains(page, `href="/tenant/assets/`) || strings.Contains(page, `"/assets/`) {
			t.Error(page)
		}
	})
	for _, location := range []string{"https://a.test/\r\nSet-Cookie: a=b", "https://a.test/ b", "https://a.test/\x00", "https://a.test/é"} {
		t.Run("AZ-38 HT-22 no header injection", func(t *testing.T) {
			w, _ := get(pageOf(web.SeeOther(location), nil), "/")
			if w.Code != http.StatusInternalServerError {
				t.Errorf("%d", w.Code)
			}
			wantHeader(t, w, map[string]string{"Location": "", "Set-Cookie": ""})
		})
	}
}

var (
	tag       = regexp.MustCompile(`<([a-zA-Z/!][^>]*)>`)
	attribute = regexp.MustCompile(`\s([a-z-]+)(?:="([^"]*)")?`)
)

func TestPagesAreInert(t *testing.T) {
	for _, probe := range []string{
		`"><script>alert(1)</script>`, `'><img src=x onerror=alert(1)>`, `</title><svg/onload=alert(1)>`, "`${alert(1)}`",
		`javascript:alert(1)`, `{{.CSRF}}`, "&lt;script&gt;", `" autofocus onfocus=alert(1) x="`, "\r\nSet-Cookie: a=b", `<meta http-equiv=refresh content=0;url=//evil>`,
	} {
		for name, page := range views(probe) {
			t.Run("AZ-56 AZ-48 DC-06 "+name, func(t *testing.T) {
				w, _ := get(pageOf(page, nil), "/")
				body := w.Body.String()
				for _, m := range tag.FindAllStringSubmatch(body, -1) {
					if element, _, _ := strings.Cut(strings.TrimPrefix(m[1], "/"), " "); !strings.Contains(" !doctype html head meta link title body main header img h1 p strong bdi span a form input div label button dl dt dd code fieldset legend ul li ", " "+element+" ") {
						t.Errorf("element %q for %q", m[0], probe)
					}
					for _, a := range attribute.FindAllStringSubmatch(m[1], -1) {
						switch name, value := a[1], html.UnescapeString(a[2]); {
						case strings.HasPrefix(name, "on"), name == "style", name == "http-equiv":
							t.Errorf("attribute %s in %q for %q", name, m[0], probe)
						case name == "src" || name == "href":
							if !strings.HasPrefix(value, "/assets/") && !strings.HasPrefix(value, "/login?request=") {
								t.Errorf("leads to %q", value)
							}
						case name == "action":
							if value != "/login" && value != "/consent" && value != "/logout" {
								t.Errorf("posts to %q", value)
							}
						}
					}
				}
			})
		}
	}
}

func TestErrorPage(t *testing.T) {
	const evil = "https://evil.example/cb?\"><script>"
	w, _ := get(pageOf(nil, oauth.Refuse(oauth.InvalidRequest, "redirect URI %q is not registered", evil)), "/")
	body := w.Body.String()
	t.Run("AZ-57 no way out", func(t *testing.T) {
		if w.Code != http.StatusBadRequest || w.Header().Get("Location") != "" {
			t.Errorf("%d %v", w.Code, w.Header())
		}
		for _, bad := range []string{"<a", "http-equiv", "<form", "<script", `href="http`} {
			if strings.Contains(body, bad) {
				t.Errorf("the page has %s", bad)
			}
		}
		if !strings.Contains(html.UnescapeString(body), `evil.example/cb?`) {
			t.Error("the page does not say what is wrong")
		}
	})
	t.Run("names the request", func(t *testing.T) {
		if id := w.Header().Get("X-Request-Id"); !strings.Contains(body, id) || !strings.Contains(body, "invalid_request") {
			t.Error("no reference on the page")
		}
	})
	for name, c := range map[string]struct {
		err    error
		status int
		says   string
	}{
		"refused by a person":  {oauth.Refuse(oauth.AccessDenied, "this form was sent by another site"), 403, "This form was sent by another site."},
		"too often":            {oauth.RefuseForNow(0, "wait"), 429, "Too many attempts"},
		"gone":                 {oauth.RefuseStatus(404, "not_found", "there is nothing at this address"), 404, "Nothing here"},
		"unavailable":          {oauth.ErrUnavailable, 503, "Not available right now"},
		"a sentence":           {oauth.Refuse(oauth.InvalidRequest, "Add it again."), 400, ">Add it again.<"},
		"a parameter's name":   {oauth.Refuse(oauth.InvalidRequest, "client_id is missing"), 400, "client_id is missing"},
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

// text returns what a page says, without markup.
func text(page string) string {
	return strings.Join(strings.Fields(html.UnescapeString(tag.ReplaceAllString(page, " "))), " ")
}

func show(t *testing.T, a web.Answer) string {
	t.Helper()
	w, _ := get(pageOf(a, nil), "/")
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestConsentPage(t *testing.T) {
	consent := web.Consent{
		Client: web.CardOf(&oauth.Client{
			ID:       "https://claude.ai/oauth/metadata",
			Metadata: oauth.Metadata{Name: "Claude Code", RedirectURIs: []string{"http://127.0.0.1/cb"}},
		}, "http://127.0.0.1:5000/cb"),
		Email:    "ada@example.com",
		Resource: web.ResourceCard{Name: "Weather", Identifier: "https://mcp.example.com/mcp"},
		Scopes: []web.ScopeLine{
			{Name: "mcp:tools:weather", Description: "Look up forecasts"},
			{Name: "mcp:tools:email:send", Description: "Send e-mail", New: true},
		},
		Request: "sealed", CSRF: "token",
	}
	page := show(t, consent)
	t.Run("CN-17 what it says", func(t *testing.T) {
		for _, want := range []string{
			"Claude Code", "claude.ai", "unverified", "ada@example.com", "A program on this computer", "127.0.0.1", "any program could be the one that asks",
			"Weather", "https://mcp.example.com/mcp", "Look up forecasts", "mcp:tools:weather", "Send e-mail new mcp:tools:email:send",
		} {
			if !strings.Contains(text(page), want) {
				t.Errorf("the page does not say %q: %s", want, text(page))
			}
		}
	})
	t.Run("the form", func(t *testing.T) {
		for _, want := range []string{
			`<form method="post" action="/consent">`, `<input type="hidden" name="request" value="sealed">`, `<input type="hidden" name="csrf" value="token">`,
			`<input type="checkbox" name="scope" value="mcp:tools:weather" checked>`, `<input type="checkbox" name="scope" value="mcp:tools:email:send" checked>`,
			`name="decision" value="deny"`, `name="decision" value="allow"`,
			`<a href="/login?request=sealed">Not you?</a>`,
		} {
			if !strings.Contains(page, want) {
				t.Errorf("the page has no %s", want)
			}
		}
		if strings.Index(page, `value="deny"`) > strings.Index(page, `value="allow"`) {
			t.Error("the Enter key would allow")
		}
	})
	t.Run("an approved client that answers on the web", func(t *testing.T) {
		c := consent
		c.Client = web.CardOf(&oauth.Client{ID: "mcp_1", Metadata: oauth.Metadata{Name: "Bot"}, ApprovedAt: time.Unix(1, 0)}, "https://Bot.example:8443/cb")
		c.Scopes = nil
		said := text(show(t, c))
		for _, want := range []string{"mcp_1", "approved", "bot.example:8443", "only to connect"} {
			if !strings.Contains(said, want) {
				t.Errorf("the page does not say %q: %s", want, said)
			}
		}
		for _, bad := range []string{"unverified", "any program", "this computer"} {
			if strings.Contains(said, bad) {
				t.Errorf("the page says %q", bad)
			}
		}
	})
	t.Run("CN-14 CN-13 a name that lies", func(t *testing.T) {
		c := consent
		c.Client = &web.ClientCard{ID: consent.Client.ID}
		c.Client.Name = "\u202egro.live\u202c\u200b  Cl\u0430ude\n\nCode" + strings.Repeat(" and more", 2000)
		page := show(t, c)
		if strings.ContainsAny(page, "\u202e\u202c\u200b") || strings.Count(page, "and more") > 30 {
			t.Error("the name was not cleaned")
		}
		if !strings.Contains(page, "<bdi>gro.live Cl\u0430ude Code and more") || !strings.Contains(text(page), "claude.ai") {
			t.Error("the name is not isolated, or stands alone")
		}
	})
	t.Run("a name of nothing", func(t *testing.T) {
		c := consent
		c.Client, c.Resource.Name = &web.ClientCard{Name: "\u200b\u3164"}, ""
		if said := text(show(t, c)); !strings.Contains(said, "Allow An unnamed application to use an MCP server?") {
			t.Error(said)
		}
	})
}

func TestSignInPage(t *testing.T) {
	t.Run("within a request", func(t *testing.T) {
		page := show(t, web.SignIn{
			Client: &web.ClientCard{Name: "Claude Code", ID: "mcp_1"},
			Email:  "ada@example.com", Request: "sealed", CSRF: "token",
		})
		for _, want := range []string{`name="request" value="sealed"`, `name="csrf" value="token"`, `name="email" type="email" value="ada@example.com" autocomplete="username"`, `name="password" type="password" autocomplete="current-password"`, `for="email"`, `for="password"`} {
			if !strings.Contains(page, want) {
				t.Errorf("the page has no %s", want)
			}
		}
		if strings.Count(page, "<form") != 1 || strings.Count(page, "<button") != 1 || strings.Contains(page, "aria-invalid") {
			t.Error(page)
		}
		if said := text(page); !strings.Contains(said, "to connect Claude Code unverified") {
			t.Error(said)
		}
	})
	t.Run("after an error", func(t *testing.T) {
		page := show(t, web.SignIn{Error: "E-mail or password is wrong."})
		if !strings.Contains(page, `id="error" role="alert">E-mail or password is wrong.`) || strings.Count(page, `aria-describedby="error"`) != 2 {
			t.Error(page)
		}
	})
}

func TestDestinationOf(t *testing.T) {
	for uri, want := range map[string]web.Destination{
		"http://127.0.0.1:5000/cb":       {Host: "127.0.0.1", Loopback: true},
		"http://[::1]:5000/cb":           {Host: "::1", Loopback: true},
		"http://localhost/cb":            {Host: "localhost", Loopback: true},
		"https://vscode.dev/redirect":    {Host: "vscode.dev"},
		"cursor://anysphere.cursor/cb":   {Scheme: "cursor"},
		"com.example.app:/oauth":         {Scheme: "com.example.app"},
		"http://127.0.0.1.evil.test/x":   {Host: "127.0.0.1.evil.test"},
		"https://user@evil.test:8443/cb": {Host: "evil.test:8443"},
		"://":                            {},
	} {
		if d := cmp.Diff(want, web.DestinationOf(uri)); d != "" {
			t.Errorf("%s: %s", uri, d)
		}
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
		if !utf8.ValidString(name) || utf8.RuneCountInString(name) > 80 || strings.TrimSpace(name) != name || strings.Contains(name, "  ") {
			t.Fatalf("%q becomes %q", s, name)
		}
		for _, c := range name {
			if c != ' ' && (unicode.IsSpace(c) || unicode.In(c, unicode.C, unicode.Zl, unicode.Zp, unicode.Bidi_Control)) {
				t.Fatalf("%q keeps %U", s, c)
			}
		}
		if again := web.DisplayName(name); again != name {
			t.Fatalf("%q becomes %q, and that %q", s, name, again)
		}
	})
}

func TestAssets(t *testing.T) {
	assets := web.NewRouter(pages, web.Assets())
	page := show(t, web.SignedOut{})
	paths := regexp.MustCompile(`/assets/[^"]+`).FindAllString(page, -1)
	if len(paths) < 2 {
		t.Fatalf("the page loads %v", paths)
	}
	for _, path := range paths {
		t.Run(path, func(t *testing.T) {
			w, _ := get(assets, path)
			kind := map[bool]string{true: "text/css; charset=utf-8", false: "image/svg+xml"}[strings.HasSuffix(path, ".css")]
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
	t.Run("HT-13 a range is not looked at", func(t *testing.T) {
		whole, _ := get(assets, paths[0])
		r := httptest.NewRequest(http.MethodGet, paths[0], nil)
		r.Header.Set("Range", "bytes="+strings.Repeat("0-,", 1000)+"0-")
		w, _ := send(assets, r)
		if w.Code != http.StatusOK || w.Body.String() != whole.Body.String() {
			t.Errorf("%d, %d bytes", w.Code, w.Body.Len())
		}
	})
	for _, path := range []string{"/assets/", "/assets/cardea.css", "/assets/../view.go", "/assets/x"} {
		t.Run("nothing else: "+path, func(t *testing.T) {
			if w, _ := get(assets, path); w.Code != http.StatusNotFound {
				t.Errorf("%d", w.Code)
			}
		})
	}
	t.Run("no posting", func(t *testing.T) {
		if w, _ := send(assets, httptest.NewRequest(http.MethodPost, paths[0], nil)); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("%d", w.Code)
		}
	})
}
