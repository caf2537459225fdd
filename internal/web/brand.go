package web

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// Branding is how an operator makes the pages look like their own. The zero Branding is Cardea's.
type Branding struct {
	Name     string // of the operator or the product; "": Cardea
	LogoFile string // path of a picture; "": Cardea's mark
	Color    string // of links and buttons, like #0b6b60; "": Cardea's
	Links    struct{ Imprint, Privacy, Support string }
}

// Brand is a Branding that was checked, with what the pages show.
type Brand struct {
	Name  string
	Logo  string // path of the picture, below the path of the issuer; "": Cardea's mark
	Style string // path of the style sheet with the colours; "": none
	Links []Link // at the foot of the pages

	assets []asset
}

// Link is a link at the foot of the pages.
type Link struct{ Name, URL string }

// ours is the brand of Cardea.
var ours = &Brand{Name: "Cardea"}

// maxBrandName is the longest name, in characters, and maxLogo the largest picture, in bytes.
const (
	maxBrandName = 60
	maxLogo      = 256 << 10
)

// Make checks the branding and reads the logo. An error begins with the name of the key that is wrong.
func (b Branding) Make() (*Brand, error) {
	brand := &Brand{Name: cmp.Or(b.Name, ours.Name)}
	if utf8.RuneCountInString(b.Name) > maxBrandName || DisplayName(b.Name) != b.Name {
		return nil, fmt.Errorf("brand.name: %.100q is not a name of one line with at most %d characters", b.Name,
			maxBrandName)
	}
	if b.Color != "" {
		style, err := palette(b.Color)
		if err != nil {
			return nil, fmt.Errorf("brand.color: %w", err)
		}
		sheet := newAsset("brand.css", []byte(style))
		brand.Style, brand.assets = sheet.path, append(brand.assets, sheet)
	}
	if b.LogoFile != "" {
		logo, err := readLogo(b.LogoFile)
		if err != nil {
			return nil, fmt.Errorf("brand.logo_file: %w", err)
		}
		brand.Logo, brand.assets = logo.path, append(brand.assets, logo)
	}
	for _, link := range []struct{ key, name, url string }{
		{"imprint", "Imprint", b.Links.Imprint},
		{"privacy", "Privacy", b.Links.Privacy},
		{"support", "Support", b.Links.Support},
	} {
		if link.url == "" {
			continue
		}
		if err := checkLink(link.url); err != nil {
			return nil, fmt.Errorf("brand.links.%s: %w", link.key, err)
		}
		brand.Links = append(brand.Links, Link{link.name, link.url})
	}
	return brand, nil
}

// Check returns the error of Make.
func (b Branding) Check() error {
	_, err := b.Make()
	return err
}

// checkLink returns an error unless text is the address of a page or of a mailbox.
func checkLink(text string) error {
	u, err := url.Parse(text)
	switch {
	case err == nil && u.Scheme == "mailto" && strings.Contains(u.Opaque, "@"):
	case err == nil && u.Host != "" && u.User == nil && oauth.IsSecure(u):
	default:
		return fmt.Errorf("%.200q is not the address of a page; write it like https://example.com/imprint, or "+
			"mailto:help@example.com", text)
	}
	return nil
}

// pictures are the kinds of a logo, by the extension of the file, and how such a file begins; "" is not looked at.
var pictures = map[string]struct{ kind, begins string }{
	".svg":  {"image/svg+xml", ""},
	".png":  {"image/png", "\x89PNG\r\n\x1a\n"},
	".jpg":  {"image/jpeg", "\xff\xd8\xff"},
	".jpeg": {"image/jpeg", "\xff\xd8\xff"},
	".webp": {"image/webp", "RIFF"},
}

// readLogo returns the picture in a file. Browsers run no scripts of it, because the pages show it as an image.
func readLogo(file string) (asset, error) {
	ext := strings.ToLower(path.Ext(file))
	kind, ok := pictures[ext]
	if !ok {
		return asset{}, fmt.Errorf("%.200s is not a picture that browsers show; use a file that ends in .svg, .png, "+
			".jpg or .webp", file)
	}
	f, err := os.Open(file) // #nosec G304 -- the operator's choice
	if err != nil {
		return asset{}, fmt.Errorf("the file cannot be read: %w; check the path and its permissions", err)
	}
	defer func() { _ = f.Close() }()
	body, err := io.ReadAll(io.LimitReader(f, maxLogo+1))
	switch {
	case err != nil:
		return asset{}, fmt.Errorf("the file cannot be read: %w; check the path and its permissions", err)
	case len(body) > maxLogo:
		return asset{}, fmt.Errorf("%.200s is larger than %d KB; make it smaller", file, maxLogo>>10)
	case len(body) == 0 || !strings.HasPrefix(string(body), kind.begins) ||
		ext == ".svg" && !strings.Contains(string(body), "<svg"):
		return asset{}, fmt.Errorf("%.200s does not begin as a file that ends in %s does", file, ext)
	}
	logo := newAsset("logo"+ext, body)
	logo.kind = kind.kind
	return logo, nil
}

// The backgrounds of the pages with which links have the least contrast, as in cardea.css: --glow in light, --wash in
// dark.
var (
	lightest = color{0x1f, 0x27, 0x25} // of the dark ones
	darkest  = color{0xdf, 0xea, 0xe7} // of the light ones
)

// enough is the contrast that text needs (WCAG 2.2 §1.4.3, level AA), and ample the one that the colour of dark pages
// is given.
const (
	enough = 4.5
	ample  = 7
)

// palette returns a style sheet in which links and buttons have the colour. On dark pages they have a lighter one of
// the same hue. It returns an error if the colour cannot be read on light pages.
func palette(text string) (string, error) {
	c, err := parseColor(text)
	if err != nil {
		return "", err
	}
	if ratio := contrast(c, darkest); ratio < enough {
		return "", fmt.Errorf("text in %s has a contrast of %.2f:1 with the background of the pages (%s), and needs "+
			"%.1f:1 to be readable (WCAG AA); choose a darker colour", text, math.Floor(ratio*100)/100, darkest, enough)
	}
	bright := c
	for share := 0.0; contrast(bright, lightest) < ample; share += 0.02 {
		bright = c.mix(white, share)
	}
	return fmt.Sprintf(":root { --accent: %s; --accent-deep: %s; --on-accent: %s; }\n"+
		"@media (prefers-color-scheme: dark) {\n  :root { --accent: %s; --accent-deep: %s; --on-accent: %s; }\n}\n",
		c, c.mix(black, 0.25), white, bright, bright.mix(white, 0.3), black), nil
}

// color is a colour of sRGB.
type color struct{ r, g, b uint8 }

var black, white = color{}, color{255, 255, 255}

// parseColor returns the colour that text is, in the form #rrggbb or #rgb.
func parseColor(text string) (color, error) {
	digits := strings.TrimPrefix(text, "#")
	if len(digits) == 3 {
		digits = string([]byte{digits[0], digits[0], digits[1], digits[1], digits[2], digits[2]})
	}
	n, err := strconv.ParseUint(digits, 16, 24)
	if err != nil || len(digits) != 6 || digits == text || strings.HasPrefix(digits, "+") {
		return color{}, errors.New("it is not a colour like #0b6b60")
	}
	return color{uint8(n >> 16), uint8(n >> 8), uint8(n)}, nil // #nosec G115 -- 24 bits
}

// String returns the colour in the form #rrggbb.
func (c color) String() string { return fmt.Sprintf("#%02x%02x%02x", c.r, c.g, c.b) }

// mix returns the colour with a share of another.
func (c color) mix(other color, share float64) color {
	part := func(a, b uint8) uint8 { return uint8(math.Round(float64(a)*(1-share) + float64(b)*share)) }
	return color{part(c.r, other.r), part(c.g, other.g), part(c.b, other.b)}
}

// luminance returns the relative luminance of a colour (WCAG 2.2).
func (c color) luminance() float64 {
	linear := func(v uint8) float64 {
		s := float64(v) / 255
		if s <= 0.04045 {
			return s / 12.92
		}
		return math.Pow((s+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(c.r) + 0.7152*linear(c.g) + 0.0722*linear(c.b)
}

// contrast returns the contrast ratio of two colours (WCAG 2.2): from 1 to 21.
func contrast(a, b color) float64 {
	light, dark := a.luminance(), b.luminance()
	if light < dark {
		light, dark = dark, light
	}
	return (light + 0.05) / (dark + 0.05)
}
