// Package webtest has checks that every page must pass.
package webtest

import (
	"context"
	"html"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/web"
)

// Pages are the pages of a server whose issuer is https and has no path.
var Pages = &web.Pages{
	Secure:  true,
	CSRFKey: []byte("fedcba9876543210fedcba9876543210"),
	Refuse:  func(_ *http.Request, _ audit.Event, err error) error { return err },
}

// Probes are texts that would act as markup or code if a page did not escape them.
var Probes = []string{
	`"><script>alert(1)</script>`, `'><img src=x onerror=alert(1)>`, `</title><svg/onload=alert(1)>`, "`${alert(1)}`",
	`javascript:alert(1)`, `{{.CSRF}}`, "&lt;script&gt;", `" autofocus onfocus=alert(1) x="`, "\r\nSet-Cookie: a=b",
	`<meta http-equiv=refresh content=0;url=//evil>`,
}

// Answer returns the response to GET / with page.
func Answer(page web.Answer) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	Pages.HTML(func(*http.Request) (web.Answer, error) { return page, nil }).
		ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/", nil))
	return w
}

// Show returns the HTML of a page, whose status must be 200.
func Show(t testing.TB, page web.Answer) string {
	t.Helper()
	w := Answer(page)
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

var (
	tag       = regexp.MustCompile(`<([a-zA-Z/!][^>]*)>`)
	attribute = regexp.MustCompile(`\s([a-z-]+)(?:="([^"]*)")?`)
)

// Text returns the text of a page, without markup.
func Text(page string) string {
	return strings.Join(strings.Fields(html.UnescapeString(tag.ReplaceAllString(page, " "))), " ")
}

// Headers checks the headers of a page. answersClient says whether a form on it may lead to a redirect to a client.
func Headers(t testing.TB, page web.Answer, answersClient bool) {
	t.Helper()
	policy := "default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'"
	opener := "unsafe-none"
	if !answersClient {
		policy, opener = policy+"; form-action 'self'", "same-origin"
	}
	h := Answer(page).Header()
	for name, want := range map[string]string{
		"Content-Type":               "text/html; charset=utf-8",
		"Content-Security-Policy":    policy,
		"Cross-Origin-Opener-Policy": opener,
		"X-Frame-Options":            "DENY",
		"X-Content-Type-Options":     "nosniff",
		"Referrer-Policy":            "no-referrer",
		"Cache-Control":              "no-store",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if !strings.Contains(h.Get("Permissions-Policy"), "camera=()") {
		t.Error("no Permissions-Policy")
	}
}

// elements are the HTML elements that pages may contain.
var elements = strings.Fields("!doctype html head meta link title body main header img h1 p strong bdi span a form " +
	"input div label button dl dt dd code fieldset legend ul li details summary select option")

// Inert checks that a page with probe in all its texts loads and runs nothing, and links and posts only to paths of
// this server.
func Inert(t testing.TB, page web.Answer, probe string) {
	t.Helper()
	for _, m := range tag.FindAllStringSubmatch(Answer(page).Body.String(), -1) {
		if element, _, _ := strings.Cut(strings.TrimPrefix(m[1], "/"), " "); !slices.Contains(elements, element) {
			t.Errorf("element %q for %q", m[0], probe)
		}
		for _, a := range attribute.FindAllStringSubmatch(m[1], -1) {
			switch name, value := a[1], html.UnescapeString(a[2]); {
			case strings.HasPrefix(name, "on"), name == "style", name == "http-equiv":
				t.Errorf("attribute %s in %q for %q", name, m[0], probe)
			case name == "src" || name == "href":
				if !strings.HasPrefix(value, "/assets/") && value != "/account" &&
					!strings.HasPrefix(value, "/login?request=") &&
					!strings.HasPrefix(value, "/oauth2/authorize?") {
					t.Errorf("leads to %q", value)
				}
			case name == "action":
				if !slices.Contains([]string{"/login", "/logout", "/consent", "/consent/return"}, value) {
					t.Errorf("posts to %q", value)
				}
			}
		}
	}
}
