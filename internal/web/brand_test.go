package web_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/web"
)

// picture writes a file and returns its path.
func picture(t *testing.T, name, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBranding(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(b *web.Branding)
		want string // the error begins with it; "": none
	}{
		{"none", func(*web.Branding) {}, ""},
		{"a name", func(b *web.Branding) { b.Name = "Example & Söhne" }, ""},
		{"a name of two lines", func(b *web.Branding) { b.Name = "Example\nInc." }, "brand.name: "},
		{"a name that turns the text around", func(b *web.Branding) { b.Name = "Example\u202e" }, "brand.name: "},
		{"a long name", func(b *web.Branding) { b.Name = strings.Repeat("x", 61) }, "brand.name: "},
		{"a dark colour", func(b *web.Branding) { b.Color = "#7a1f5c" }, ""},
		{"black", func(b *web.Branding) { b.Color = "#000" }, ""},
		{"yellow", func(b *web.Branding) { b.Color = "#FFEE00" },
			"brand.color: text in #FFEE00 has a contrast of 1.02:1 with the background of the pages (#dfeae7), and " +
				"needs 4.5:1 to be readable (WCAG AA); choose a darker colour"},
		{"white", func(b *web.Branding) { b.Color = "#ffffff" }, "brand.color: text in #ffffff has a contrast of 1.2"},
		{"a word", func(b *web.Branding) { b.Color = "teal" }, "brand.color: it is not a colour like #0b6b60"},
		{"a style", func(b *web.Branding) { b.Color = "#000}*{" }, "brand.color: it is not a colour"},
		{"a missing logo", func(b *web.Branding) { b.LogoFile = "/nowhere/logo.svg" },
			"brand.logo_file: the file cannot be read: open /nowhere/logo.svg: no such file or directory; check the " +
				"path and its permissions"},
		{"a logo of another kind", func(b *web.Branding) { b.LogoFile = picture(t, "logo.gif", "GIF89a") },
			"brand.logo_file: "},
		{"a page as logo", func(b *web.Branding) { b.LogoFile = picture(t, "logo.png", "<html>") },
			"brand.logo_file: "},
		{"a large logo", func(b *web.Branding) {
			b.LogoFile = picture(t, "logo.svg", "<svg>"+strings.Repeat(" ", 256<<10))
		}, "brand.logo_file: "},
		{"links", func(b *web.Branding) {
			b.Links.Imprint, b.Links.Privacy, b.Links.Support =
				"https://example.com/imprint", "http://localhost/privacy", "mailto:help@example.com"
		}, ""},
		{"a script as link", func(b *web.Branding) { b.Links.Support = "javascript:alert(1)" },
			"brand.links.support: "},
		{"a link without TLS", func(b *web.Branding) { b.Links.Imprint = "http://example.com/" },
			"brand.links.imprint: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b web.Branding
			tt.edit(&b)
			err := b.Check()
			if (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// The style sheet and the logo of a brand are served from the server itself, as the policy of the pages demands.
func TestBrandAssets(t *testing.T) {
	b := web.Branding{Color: "#7a1f5c", LogoFile: picture(t, "logo.svg", `<svg xmlns="http://www.w3.org/2000/svg"/>`)}
	brand, err := b.Make()
	if err != nil {
		t.Fatal(err)
	}
	router := web.NewRouter(&web.Pages{}, web.Assets(brand))
	for path, want := range map[string]struct{ kind, text string }{
		brand.Style: {"text/css; charset=utf-8", "--accent: #7a1f5c"},
		brand.Logo:  {"image/svg+xml", "<svg"},
	} {
		w := httptest.NewRecorder()
		router.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if got := w.Header().Get("Content-Type"); w.Code != http.StatusOK || got != want.kind ||
			!strings.Contains(w.Body.String(), want.text) ||
			w.Header().Get("Content-Security-Policy") != "default-src 'none'" {
			t.Errorf("%s: status %d, %v:\n%s", path, w.Code, w.Header(), w.Body)
		}
	}
}
