package web

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// Token returns the hidden token of a form on the page that answers r: proof that
// the form was shown by this server, to this browser, in this session and for
// this purpose. A purpose names the form, and the interaction if the form belongs
// to one.
func (p *Pages) Token(r *http.Request, purpose string) string {
	return p.TokenFor(p.cookie(r, browserCookie), p.SessionCookie(r), purpose)
}

// TokenFor is Token for a browser that may not have the cookies yet: browser is
// the id that Browser gave it, session the secret of its session, "" for none.
func (p *Pages) TokenFor(browser, session, purpose string) string {
	return p.mac("csrf", purpose, browser, session)
}

// Check tells, in constant time, whether token is the one that Token makes of r's
// cookies and purpose. A browser without an id has none.
func (p *Pages) Check(r *http.Request, purpose, token string) bool {
	return p.CheckFor(p.cookie(r, browserCookie), p.SessionCookie(r), purpose, token)
}

// CheckFor is Check for what TokenFor makes.
func (p *Pages) CheckFor(browser, session, purpose, token string) bool {
	return browser != "" && equal(token, p.TokenFor(browser, session, purpose))
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
