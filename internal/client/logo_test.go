package client_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
)

var logoTag = regexp.MustCompile(`<img class="logo" src="([^"]*)"`)

// drawn returns a PNG of the given size.
func drawn(t *testing.T, width, height int) []byte {
	t.Helper()
	picture := image.NewNRGBA(image.Rect(0, 0, width, height))
	for x := range width {
		picture.Set(x, height/2, color.NRGBA{200, 30, 30, 255})
	}
	var out bytes.Buffer
	if err := png.Encode(&out, picture); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// claimed returns a small PNG whose header declares the given size.
func claimed(picture []byte, width, height uint32) []byte {
	lying := bytes.Clone(picture)
	binary.BigEndian.PutUint32(lying[16:], width)
	binary.BigEndian.PutUint32(lying[20:], height)
	binary.BigEndian.PutUint32(lying[29:], crc32.ChecksumIEEE(lying[12:29]))
	return lying
}

// scans returns a progressive JPEG of 16 by 16 grey pixels with the given number of passes.
func scans(n int) []byte {
	table := func(class byte) []byte { // one code of one bit, for the symbol 0
		return append([]byte{0xff, 0xc4, 0, 20, class, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0)
	}
	jpeg := []byte{0xff, 0xd8, 0xff, 0xdb, 0, 67, 0}
	jpeg = append(jpeg, bytes.Repeat([]byte{1}, 64)...)
	jpeg = append(jpeg, 0xff, 0xc2, 0, 11, 8, 0, 16, 0, 16, 1, 1, 0x11, 0)
	jpeg = append(append(jpeg, table(0x00)...), table(0x10)...)
	jpeg = append(jpeg, 0xff, 0xda, 0, 8, 1, 1, 0x00, 0, 0, 0x00, 0x0f) // the first of DC: four differences of 0
	for range n - 1 {
		jpeg = append(jpeg, 0xff, 0xda, 0, 8, 1, 1, 0x00, 1, 5, 0x00, 0x0f) // AC: four blocks without any
	}
	return append(jpeg, 0xff, 0xd9)
}

func TestLogo(t *testing.T) {
	s := servertest.StartWeather(t, loopback)
	ada := s.User("ada@example.com")
	// consent returns the consent page for an agent whose logo handler serves.
	consent := func(t *testing.T, answer http.HandlerFunc) *servertest.Page {
		t.Helper()
		site := httptest.NewServer(answer)
		t.Cleanup(site.Close)
		p := publish(t, map[string]any{"logo_uri": site.URL + "/logo"})
		page := s.Browser(t).Authorize(agentOf(t, s, p).Authorization()).SignIn(ada)
		if !page.IsConsent() {
			t.Fatalf("status is %d, want the consent page: %s", page.Status, page.Body)
		}
		if strings.Contains(page.Body, site.URL) {
			t.Error("the page names the stranger's picture")
		}
		return page
	}
	serve := func(mediaType string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", mediaType)
			_, _ = w.Write(body)
		}
	}
	// show requests the logo at the address in the page.
	show := func(t *testing.T, page *servertest.Page) *servertest.Page {
		t.Helper()
		tag := logoTag.FindStringSubmatch(page.Body)
		if tag == nil {
			t.Fatalf("no logo on %s", page.Body)
		}
		return page.Follow(strings.ReplaceAll(tag[1], "&amp;", "&"))
	}
	t.Run("the page does not wait for it", func(t *testing.T) {
		asked := make(chan struct{})
		page := consent(t, func(w http.ResponseWriter, r *http.Request) {
			close(asked)
			serve("image/png", drawn(t, 10, 10))(w, r)
		})
		select {
		case <-asked:
			t.Error("it was fetched before the page was there")
		default:
		}
		if shown := show(t, page); shown.Status != http.StatusOK {
			t.Errorf("status is %d, want %d", shown.Status, http.StatusOK)
		}
	})
	t.Run("what is not a picture is remembered too", func(t *testing.T) {
		asked := 0
		page := consent(t, func(w http.ResponseWriter, r *http.Request) {
			asked++
			serve("image/png", []byte("hello"))(w, r)
		})
		for range 3 {
			if shown := show(t, page); shown.Status != http.StatusNotFound {
				t.Errorf("status is %d, want %d", shown.Status, http.StatusNotFound)
			}
		}
		if asked != 1 {
			t.Errorf("it was fetched %d times", asked)
		}
		if again := page.Follow(page.URL); !again.IsConsent() || logoTag.MatchString(again.Body) {
			t.Error("the page still asks for it")
		}
	})
	t.Run("a progressive JPEG", func(t *testing.T) {
		if shown := show(t, consent(t, serve("image/jpeg", scans(10)))); shown.Status != http.StatusOK {
			t.Errorf("one of ten passes is not shown: %d", shown.Status)
		}
		if shown := show(t, consent(t, serve("image/jpeg", scans(200)))); shown.Status != http.StatusNotFound {
			t.Errorf("one of 200 passes is shown: %d", shown.Status)
		}
		big := scans(25_000) // all that a logo may have, 250 KB
		if shown := show(t, consent(t, serve("image/jpeg", big))); shown.Status != http.StatusNotFound {
			t.Errorf("one of %d bytes is shown with status %d, want 404", len(big), shown.Status)
		}
	})
	t.Run("a picture is made anew and served from here", func(t *testing.T) {
		script := []byte("<script>alert(1)</script>")
		page := consent(t, serve("image/png", append(drawn(t, 400, 200), script...)))
		shown := show(t, page)
		if shown.Status != http.StatusOK || shown.Header.Get("Content-Type") != "image/png" ||
			shown.Header.Get("X-Content-Type-Options") != "nosniff" ||
			shown.Header.Get("Content-Security-Policy") != "default-src 'none'" {
			t.Errorf("status is %d with the header %v, want a PNG that is not sniffed and loads nothing",
				shown.Status, shown.Header)
		}
		picture, err := png.Decode(strings.NewReader(shown.Body))
		if err != nil || picture.Bounds().Size() != image.Pt(96, 48) {
			t.Errorf("the picture is %v, %v; want 96 by 48", picture.Bounds(), err)
		}
		if strings.Contains(shown.Body, "script") {
			t.Error("the data after the picture is passed on")
		}
		if other := s.Browser(t).Get(logoTag.FindStringSubmatch(page.Body)[1]); other.Status == http.StatusOK {
			t.Error("another browser has it")
		}
	})
	good := drawn(t, 10, 10)
	for name, answer := range map[string]http.HandlerFunc{
		"an SVG with a script": serve("image/svg+xml",
			[]byte(`<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`)),
		"an SVG called a PNG": serve("image/png",
			[]byte(`<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`)),
		"HTML called a GIF":     serve("image/gif", []byte("GIF89a<html><script>alert(1)</script>")),
		"a PNG called HTML":     serve("text/html", good),
		"50 MB":                 serve("image/png", append(bytes.Clone(good), make([]byte, 50<<20)...)),
		"a header of 2^31 by 1": serve("image/png", claimed(good, 1<<31-1, 1)),
		"60,000 by 60,000":      serve("image/png", claimed(good, 60_000, 60_000)),
		"1,025 pixels wide":     serve("image/png", drawn(t, 1025, 2)),
		"a picture cut short":   serve("image/png", good[:len(good)-20]),
		"a redirect": func(w http.ResponseWriter,
			r *http.Request) {
			http.Redirect(w, r, "/other", http.StatusFound)
		},
		"nothing":                http.NotFound,
		"a connection cut short": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run("CM-41 "+name, func(t *testing.T) {
			if shown := show(t, consent(t, answer)); shown.Status != http.StatusNotFound {
				t.Errorf("status is %d, want %d", shown.Status, http.StatusNotFound)
			}
		})
	}
	t.Run("a client that registered itself", func(t *testing.T) {
		asked := false
		site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = true
			serve("image/png", good)(w, r)
		}))
		defer site.Close()
		page := func(edits ...func(*oauth.Client)) *servertest.Page {
			c := s.Client(append(edits, func(c *oauth.Client) { c.LogoURI = site.URL })...)
			return s.Browser(t).Authorize(s.Agent(t, c).Authorization()).SignIn(ada)
		}
		if page := page(servertest.Unapproved); logoTag.MatchString(page.Body) || asked {
			t.Error("the logo of an unapproved client is shown")
		}
		if page := page(); !logoTag.MatchString(page.Body) {
			t.Error("the logo of an approved client is not shown")
		}
	})
}
