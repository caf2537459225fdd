package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	_ "image/gif" // formats of logos
	_ "image/jpeg"
	"image/png"
	"net/http"
	"time"

	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp"

	"github.com/cardea-auth/cardea/internal/fetch"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/oauth"
)

const (
	maxLogos     = 200         // in memory
	logoSize     = 96          // pixels of the longer side, as shown
	maxLogo      = 1024        // pixels of either side, as fetched
	logoPatience = time.Second // that a page waits for a picture
)

// Logos are the pictures that clients show of themselves (RFC 7591 §2, logo_uri):
// fetched, made anew pixel by pixel, and served from here, so that no stranger
// learns who looks, and nothing but a picture comes along. Make it with NewLogos.
type Logos struct {
	cache *fetch.Cache[[]byte]
	share *limit.Limiter
}

// NewLogos returns the logos that fetcher fetches. share bounds how many for one
// person; nil: without limit.
func NewLogos(fetcher *fetch.Client, share *limit.Limiter) *Logos {
	return &Logos{cache: fetch.NewCache(fetcher, fetch.Logo, maxLogos, remake), share: share}
}

// PNG returns the logo of a client for the person who looks at it, nil if it has
// none that can be shown at once. A client that made its whole metadata up has
// none: a picture would be the easiest part of another's face to put on.
func (l *Logos) PNG(r *http.Request, c *oauth.Client, person string) []byte {
	if c.LogoURI == "" || c.Origin == oauth.ByRegistration && !c.Approved() {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), logoPatience)
	defer cancel()
	picture, _, err := l.cache.Load(ctx, c.LogoURI, time.Time{}, func() error {
		if ok, _ := l.share.Allow(person); !ok {
			return errors.New("client: too many logos")
		}
		return nil
	})
	if err != nil {
		return nil // the page does without
	}
	return picture
}

// remake decodes a picture and encodes it as a PNG of the size that is shown.
func remake(_ string, d *fetch.Document) ([]byte, error) {
	config, _, err := image.DecodeConfig(bytes.NewReader(d.Body))
	if err != nil {
		return nil, fmt.Errorf("client: logo: %w", err)
	}
	if config.Width < 1 || config.Height < 1 || config.Width > maxLogo || config.Height > maxLogo {
		return nil, fmt.Errorf("client: a logo of %d by %d pixels", config.Width, config.Height)
	}
	from, _, err := image.Decode(bytes.NewReader(d.Body))
	if err != nil {
		return nil, fmt.Errorf("client: logo: %w", err)
	}
	longer := max(config.Width, config.Height)
	size := image.Rect(0, 0, max(1, config.Width*logoSize/longer), max(1, config.Height*logoSize/longer))
	to := image.NewNRGBA(size)
	draw.CatmullRom.Scale(to, size, from, from.Bounds(), draw.Src, nil)
	var out bytes.Buffer
	if err := png.Encode(&out, to); err != nil {
		return nil, fmt.Errorf("client: logo: %w", err)
	}
	return out.Bytes(), nil
}
