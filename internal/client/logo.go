package client

import (
	"bytes"
	"context"
	"image"
	_ "image/gif" // formats of logos
	_ "image/jpeg"
	"image/png"
	"io"
	"net/http"
	"time"

	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp"

	"github.com/cardea-auth/cardea/internal/fetch"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/strangers"
)

// Bounds of logos. The cost of decoding depends on the number of pixels and of passes over them, not on the number of
// bytes: a JPEG of 256 KB can require thousands of passes.
const (
	maxLogos       = 200             // in memory
	logoSize       = 96              // pixels of the longer side, as shown
	maxLogo        = 1024            // pixels of either side, of the fetched picture
	maxScans       = 32              // of a JPEG; cameras and editors write about ten
	decodePatience = time.Second     // for one picture
	logoPatience   = 5 * time.Second // for a fetch and the decoding
)

// Logos fetches the logos of clients (RFC 7591 §2, logo_uri), draws each one again pixel by pixel, and serves the copy.
// So the client's web site does not learn who looks at a page, and nothing but the picture is passed on. Use NewLogos
// to make one.
type Logos struct {
	cache    *fetch.Cache[[]byte] // nil if the document is not a picture that can be shown
	fetches  *strangers.Fetches
	decoding chan struct{} // holds one token while a picture is decoded
}

// NewLogos returns Logos that uses fetcher. fetches is the budget; nil means unlimited.
func NewLogos(fetcher *fetch.Client, fetches *strangers.Fetches) *Logos {
	l := &Logos{fetches: fetches, decoding: make(chan struct{}, 1)}
	l.cache = fetch.NewCache(fetcher, fetch.Logo, maxLogos, func(_ string, d *fetch.Document) ([]byte, error) {
		l.decoding <- struct{}{}
		defer func() { <-l.decoding }()
		return remake(d.Body), nil
	})
	return l
}

// Has reports whether a logo of the client may be shown, and is not known to be something else than a picture. It
// fetches nothing, so a logo that nobody has looked at yet may turn out not to be a picture.
func (l *Logos) Has(c *oauth.Client) bool {
	if !mayShow(c) {
		return false
	}
	picture, known := l.cache.Fresh(c.LogoURI)
	return !known || picture != nil
}

// mayShow reports whether a logo of the client may be shown. That of a client that registered itself is not shown until
// the client is approved, because it could easily imitate another client with a copied picture.
func mayShow(c *oauth.Client) bool {
	return c.LogoURI != "" && (c.Origin != oauth.ByRegistration || c.Approved())
}

// PNG returns the logo of a client, or nil if it has none that can be shown. person is the person who looks at it, for
// the budget. PNG blocks while the logo is fetched and decoded, for at most five seconds.
func (l *Logos) PNG(r *http.Request, c *oauth.Client, person string) []byte {
	if !mayShow(c) {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), logoPatience)
	defer cancel()
	picture, _, err := l.cache.Load(ctx, c.LogoURI, time.Time{},
		func() (func(), error) { return l.fetches.Take(r, person) })
	if err != nil {
		return nil // the page is shown without a logo
	}
	return picture
}

// remake decodes a picture and encodes it as a PNG of the size that is shown. It returns nil if it is not a picture, or
// costs too much to decode. The caller caches that result too, so that the cost is paid once.
func remake(picture []byte) []byte {
	ctx, cancel := context.WithTimeout(context.Background(), decodePatience)
	defer cancel()
	config, format, err := image.DecodeConfig(bytes.NewReader(picture))
	switch {
	case err != nil:
		return nil
	case config.Width < 1 || config.Height < 1 || config.Width > maxLogo || config.Height > maxLogo:
		return nil
	case format == "jpeg" && bytes.Count(picture, []byte{0xff, 0xda}) > maxScans: // with these bytes a scan begins
		return nil
	}
	from, _, err := image.Decode(&untilDone{ctx, bytes.NewReader(picture)})
	if err != nil {
		return nil
	}
	longer := max(config.Width, config.Height)
	size := image.Rect(0, 0, max(1, config.Width*logoSize/longer), max(1, config.Height*logoSize/longer))
	to := image.NewNRGBA(size)
	draw.CatmullRom.Scale(to, size, from, from.Bounds(), draw.Src, nil)
	var out bytes.Buffer
	if png.Encode(&out, to) != nil {
		return nil
	}
	return out.Bytes()
}

// untilDone is a reader that fails once ctx has ended. It reads in small pieces, so that a slow decoder soon notices.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u *untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p[:min(len(p), 512)])
}
