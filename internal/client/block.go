package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/net/publicsuffix"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// MarksOf returns the marks by which c, once blocked, is recognised under another client_id.
func MarksOf(c *oauth.Client) oauth.Marks {
	return oauth.Marks{Sites: sites(c), Fingerprint: fingerprint(&c.Metadata)}
}

// BlockOf returns the block that keeps c out, or nil if there is none. A client is kept out if it is the one that was
// blocked. Unless an operator vouches for it, it is also kept out if its document or one of its redirect URIs is on a
// site of a blocked client, or if it has the name, the redirect URIs and the software_id of one. It is not enough that
// both have a redirect URI on the person's own device, because most clients do.
func BlockOf(blocks []*oauth.Block, c *oauth.Client) *oauth.Block {
	if len(blocks) == 0 || c.Origin == oauth.ByOperator {
		return nil
	}
	own := func(b *oauth.Block) bool { return b.ClientID == c.ID }
	if i := slices.IndexFunc(blocks, own); i >= 0 {
		return blocks[i]
	}
	if c.Approved() {
		return nil
	}
	marks := MarksOf(c)
	alike := func(b *oauth.Block) bool {
		return marks.Fingerprint != "" && b.Marks.Fingerprint == marks.Fingerprint ||
			slices.ContainsFunc(marks.Sites, func(site string) bool { return slices.Contains(b.Marks.Sites, site) })
	}
	if i := slices.IndexFunc(blocks, alike); i >= 0 {
		return blocks[i]
	}
	return nil
}

// Unblocked returns ErrBlocked if a block in memory keeps c out.
func (d *Directory) Unblocked(ctx context.Context, c *oauth.Client) error {
	blocks, err := d.DB.Blocks(ctx)
	if err == nil && BlockOf(blocks, c) != nil {
		err = ErrBlocked
	}
	return err
}

// sites returns the sites of the document and of the redirect URIs of c, without those on the person's own device. The
// site of a document on a loopback host is "localhost" with its port, because each port can be another program.
func sites(c *oauth.Client) []string {
	var all []string
	uris := c.RedirectURIs
	if c.Origin == oauth.ByDocument {
		if u, err := url.Parse(c.ID); err == nil && oauth.IsLoopback(u.Hostname()) {
			all = append(all, "localhost:"+portOf(u))
		}
		uris = append([]string{c.ID}, uris...)
	}
	for _, uri := range uris {
		u, err := url.Parse(uri)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || oauth.IsLoopback(u.Hostname()) {
			continue
		}
		if site := siteOf(u.Hostname()); !slices.Contains(all, site) {
			all = append(all, site)
		}
	}
	return all
}

// siteOf returns the domain that somebody had to register to have the host: the public suffix and one name before it.
// It returns an address, and a name that has no other before it, as it is.
func siteOf(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if _, err := netip.ParseAddr(host); err == nil {
		return host
	}
	site, err := publicsuffix.EffectiveTLDPlusOne(host)
	if err != nil {
		return host
	}
	return site
}

// fingerprint returns a hash of the name, the redirect URIs and the software_id. It is the same if the name is written
// with other capitals or spaces, or with characters that nobody sees, and if a redirect URI on a loopback host has
// another port. It is "" if nothing is known of the client, as of one whose document was not read.
func fingerprint(m *oauth.Metadata) string {
	if m.Name == "" && m.SoftwareID == "" && len(m.RedirectURIs) == 0 {
		return ""
	}
	uris := make([]string, len(m.RedirectURIs))
	for i, uri := range m.RedirectURIs {
		uris[i] = uri
		if u, err := url.Parse(uri); err == nil && u.Port() != "" && oauth.IsLoopback(u.Hostname()) {
			u.Host = strings.TrimSuffix(u.Host, ":"+u.Port())
			uris[i] = u.String()
		}
	}
	slices.Sort(uris)
	name := strings.ToLower(strings.Join(strings.Fields(strings.Map(seen, m.Name)), " "))
	text := strings.Join(append([]string{name, m.SoftwareID}, slices.Compact(uris)...), "\x00")
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// seen returns r, or -1 if it has no visible form.
func seen(r rune) rune {
	if unicode.IsSpace(r) || unicode.IsGraphic(r) && !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point,
		unicode.Variation_Selector) {
		return r
	}
	return -1
}
