package web

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"net/url"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// Token returns the hidden token of a form that is shown to the browser: proof that the
// form was shown by this server, to this browser and for this purpose. A purpose names
// the form, and whatever else the form must stay with.
func (p *Pages) Token(b Browser, purpose ...string) string { return p.TokenFor(b.Hash(), purpose...) }

// TokenFor is Token for the browser with that Browser.Hash.
func (p *Pages) TokenFor(browser string, purpose ...string) string {
	return p.mac(append([]string{"csrf", browser}, purpose...)...)
}

// Check reports whether token is one that Token made for the browser, by any of its
// ids, and the purpose. A browser that is not known has none.
func (p *Pages) Check(b Browser, token string, purpose ...string) bool {
	found := false
	for _, id := range b.ids {
		found = equal(token, p.TokenFor(oauth.Hash(id), purpose...)) || found
	}
	return found
}

// mac returns the HMAC of parts under the key of p, in base64url. No two lists of
// parts are the same to it.
func (p *Pages) mac(parts ...string) string {
	mac := hmac.New(sha256.New, p.CSRFKey)
	for _, part := range parts {
		mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		mac.Write([]byte(part))
	}
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// CrossSite reports whether a page of another site made the browser send r. Then the
// cookies that SameSite=Lax holds back of a form are missing.
func CrossSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "cross-site":
		return true
	case "": // an old browser, or none
		origin := r.Header.Get("Origin")
		u, err := url.Parse(origin)
		return origin != "" && (err != nil || u.Host != r.Host)
	}
	return false
}

func equal(a, b string) bool { return hmac.Equal([]byte(a), []byte(b)) }

var sites = http.NewCrossOriginProtection()

// checkSite refuses a form that another site made the browser send. It comes on
// top of the form's token.
func checkSite(r *http.Request) error {
	// Because our pages ask for no referrer, a browser too old for Sec-Fetch-Site
	// hides its origin (Fetch §3.2): there the token alone must tell.
	if r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "null" {
		return nil
	}
	if sites.Check(r) != nil {
		return oauth.Refuse(oauth.AccessDenied, "this form was sent by another site")
	}
	return nil
}
