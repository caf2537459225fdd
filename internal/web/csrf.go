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

// Token returns the CSRF token of a form. It proves that this server showed the form to this browser for this purpose.
// purpose is the name of the form and everything else to which the form is bound.
func (p *Pages) Token(b Browser, purpose ...string) string { return p.TokenFor(b.Hash(), purpose...) }

// TokenFor is Token for the browser whose Browser.Hash is browser.
func (p *Pages) TokenFor(browser string, purpose ...string) string {
	return p.mac(append([]string{"csrf", browser}, purpose...)...)
}

// Check reports whether Token returned token for one of the browser's ids and for purpose. It returns false for a
// browser that sent no cookie.
func (p *Pages) Check(b Browser, token string, purpose ...string) bool {
	found := false
	for _, id := range b.ids {
		found = equal(token, p.TokenFor(oauth.Hash(id), purpose...)) || found
	}
	return found
}

// mac returns the HMAC of parts under the key of p, in base64url. Different lists of parts have different encodings.
func (p *Pages) mac(parts ...string) string {
	mac := hmac.New(sha256.New, p.CSRFKey)
	for _, part := range parts {
		mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		mac.Write([]byte(part))
	}
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// CrossSite reports whether a page of another site caused the browser to send r. Browsers send a form from another site
// without SameSite=Lax cookies.
func CrossSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "cross-site":
		return true
	case "": // an old browser, or another program
		origin := r.Header.Get("Origin")
		u, err := url.Parse(origin)
		return origin != "" && (err != nil || u.Host != r.Host)
	}
	return false
}

func equal(a, b string) bool { return hmac.Equal([]byte(a), []byte(b)) }

var sites = http.NewCrossOriginProtection()

// checkSite refuses a form that was sent by a page of another site, in addition to the check of the form's token.
func checkSite(r *http.Request) error {
	// Because the pages have the policy no-referrer, a browser too old for Sec-Fetch-Site sends the origin null (Fetch
	// §3.2). Then only the token can be checked.
	if r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "null" {
		return nil
	}
	if sites.Check(r) != nil {
		return oauth.Refuse(oauth.AccessDenied, "this form was sent by another site")
	}
	return nil
}
