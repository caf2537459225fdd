package web

import (
	"crypto/rand"
	"net/http"
	"strings"
	"time"
)

// The cookies. They go to this host alone, are hidden from scripts, and do not
// come along when another site posts a form. What is in them is random, or a MAC,
// and means nothing to who reads it.
const (
	sessionCookie = "session" // of a signed-in person
	browserCookie = "browser" // of the browser itself: an interaction stays in the one that began it
	deviceCookie  = "device"  // of the account that signed in here last
)

// remember is how long a browser knows that it is itself.
const remember = 365 * 24 * time.Hour

// SessionCookie returns the secret of the browser's session, "" if it sent none.
func (p *Pages) SessionCookie(r *http.Request) string { return p.cookie(r, sessionCookie) }

// NewSession returns the cookie that gives the browser its session, until it is
// closed. The secret is base64url, at most 256 bytes.
func (p *Pages) NewSession(secret string) *http.Cookie { return p.newCookie(sessionCookie, secret, 0) }

// NoSession returns the cookie that takes the session from the browser.
func (p *Pages) NoSession() *http.Cookie {
	cookie := p.newCookie(sessionCookie, "", 0)
	cookie.MaxAge = -1
	return cookie
}

// Browser returns the id of the browser: the one it sent, and nil; or a new one,
// and the cookie to set.
func (p *Pages) Browser(r *http.Request) (id string, cookie *http.Cookie) {
	if id := p.cookie(r, browserCookie); id != "" {
		return id, nil
	}
	id = rand.Text()
	return id, p.newCookie(browserCookie, id, remember)
}

// RememberDevice returns the cookie by which KnownDevice finds out that the owner
// of account has signed in on the browser with this id.
func (p *Pages) RememberDevice(account, browser string) *http.Cookie {
	return p.newCookie(deviceCookie, p.mac("device", account, browser), remember)
}

// KnownDevice tells whether the owner of account was the last to sign in on the
// browser that sent r.
func (p *Pages) KnownDevice(r *http.Request, account string) bool {
	browser := p.cookie(r, browserCookie)
	return browser != "" && equal(p.cookie(r, deviceCookie), p.mac("device", account, browser))
}

func (p *Pages) cookieName(name string) string {
	if p.Secure {
		return "__Host-cardea_" + name // RFC 6265bis §4.1.3.2
	}
	return "cardea_" + name
}

// cookie returns the value of a cookie, "" if the browser sent none. A cookie that
// is there twice, in whatever disguise, counts as none: one of the two may have
// been planted by a neighbouring site.
func (p *Pages) cookie(r *http.Request, name string) string {
	name = p.cookieName(name)
	seen := 0
	for _, line := range r.Header["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			n, _, _ := strings.Cut(pair, "=")
			if strings.TrimFunc(n, func(c rune) bool { return c <= ' ' || c > '~' }) == name {
				seen++
			}
		}
	}
	found := r.CookiesNamed(name)
	if seen != 1 || len(found) != 1 || found[0].Quoted || len(found[0].Value) > maxCookie || !isBase64URL(found[0].Value) {
		return ""
	}
	return found[0].Value
}

// maxCookie bounds the value of a cookie, in bytes.
const maxCookie = 256

// isBase64URL tells whether s has no character outside the alphabet of RFC 4648
// §5. It may be empty.
func isBase64URL(s string) bool {
	return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

// newCookie returns the cookie that gives the browser value to keep for life,
// until it is closed if life is 0.
func (p *Pages) newCookie(name, value string, life time.Duration) *http.Cookie {
	return &http.Cookie{
		Name:     p.cookieName(name),
		Value:    value,
		Path:     "/",
		MaxAge:   int(life / time.Second),
		Secure:   p.Secure,
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode, // Strict would not come along when a client sends the browser here
	}
}
