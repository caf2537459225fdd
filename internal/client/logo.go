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

// Bounds of logos. What a decoder costs follows from pixels and passes over them, not from bytes: a JPEG of 256 KB can
// ask for thousands of passes.
const (
	maxLogos       = 200             // in memory
	logoSize       = 96              // pixels of the longer side, as shown
	maxLogo        = 1024            // pixels of either side, as fetched
	maxScans       = 32              // of a JPEG; cameras and editors make ten or so
	decodePatience = time.Second     // for one picture
	logoPatience   = 5 * time.Second // for a fetch and the decoding
)

// Logos are the pictures that clients show of themselves (RFC 7591 §2, logo_uri): fetched, made anew pixel by pixel, and
// served from here, so that no stranger learns who looks, and nothing but a picture comes along. Make it with NewLogos.
type Logos struct {
	cache    *fetch.Cache[[]byte] // nil: what is there is not a picture that can be shown
	fetches  *strangers.Fetches
	decoding chan struct{} // holds one token while a picture is decoded
}

// NewLogos returns the logos that fetcher fetches. fetches is their budget; nil: without limit.
func NewLogos(fetcher *fetch.Client, fetches *strangers.Fetches) *Logos {
	l := &Logos{fetches: fetches, decoding: make(chan struct{}, 1)}
	l.cache = fetch.NewCache(fetcher, fetch.Logo, maxLogos, func(_ string, d *fetch.Document) ([]byte, error) {
		l.decoding <- struct{}{}
		defer func() { <-l.decoding }()
		return remake(d.Body), nil
	})
	return l
}

// Has reports whether a logo of the client may be shown. A client that made its whole metadata up has none: a picture
// would be the easiest part of another's face to put on.
func (l *Logos) Has(c *oauth.Client) bool {
	return c.LogoURI != "" && (c.Origin != oauth.ByRegistration || c.Approved())
}

// PNG returns the logo of a client for the person who looks at it, nil if it has none that can be shown. It blocks while
// the logo is fetched and decoded, for five seconds at most.
func (l *Logos) PNG(r *http.Request, c *oauth.Client, person string) []byte {
	if !l.Has(c) {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), logoPatience)
	defer cancel()
	picture, _, err := l.cache.Load(ctx, c.LogoURI, time.Time{}, func() (func(), error) { return l.fetches.Take(r, person) })
	if err != nil {
		return nil // the page does without
	}
	return picture
}

// remake decodes a picture and encodes it as a PNG of the size that is shown; nil if it is not a picture, or costs too
// much. That is remembered like a picture, so that it costs once.
func remake(picture []byte) []byte {
	ctx, cancel := context.WithTimeout(context.Background(), decodePatience)
	defer cancel()
	config, format, err := image.DecodeConfig(bytes.NewReader(picture))
	switch {
	case err != nil:
		return nil
	case config.Width < 1 || config.Height < 1 || config.Width > maxLogo || config.Height > maxLogo:
		return nil
	case format == "jpeg" && bytes.Count(picture, []byte{0xff, 0xda}) > maxScans: // each scan begins with these
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

// untilDone reads until ctx ends, a little at a time, so that a decoder that works long on what it has read fails soon.
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
