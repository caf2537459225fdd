package web

import (
	"crypto/rand"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// The cookies. They go to this host alone, are hidden from scripts, and do not
// come along when another site posts a form. What is in them is random, or a MAC,
// and means nothing to anybody who reads it.
const (
	sessionCookie = "session" // of a signed-in person
	browserCookie = "browser" // of the browser itself: an interaction stays in the one that began it
	deviceCookie  = "device"  // of the account that signed in here last
)

const (
	rememberBrowser = 24 * time.Hour       // since its last visit; no interaction takes as long
	rememberDevice  = 365 * 24 * time.Hour // since its owner signed in
)

// SessionCookie returns the secret of the browser's session, "" if it sent none.
func (p *Pages) SessionCookie(r *http.Request) string {
	return readCookies(r).value(p.cookieName(sessionCookie))
}

// NewSession returns the cookie that gives the browser its session, until it is
// closed. The secret is base64url, at most 256 bytes.
func (p *Pages) NewSession(secret string) *http.Cookie { return p.newCookie(sessionCookie, secret, 0) }

// NoSession returns the cookie that takes the session from the browser.
func (p *Pages) NoSession() *http.Cookie {
	cookie := p.newCookie(sessionCookie, "", 0)
	cookie.MaxAge = -1
	return cookie
}

// Browser is by what a browser is known again. A browser that comes for the first time
// with several requests at once, as one that restores its tabs does, is given a cookie
// in each answer. Each has a name of its own, so that none takes another's place, and
// the browser is known by any of them.
type Browser struct {
	ids    []string // that it sent; the first is used on
	cookie *http.Cookie
}

// maxBrowserIDs bounds how many cookies of one browser are looked at.
const maxBrowserIDs = 32

// Browser returns the browser that sent r. One that sent no cookie has a new id, which
// it is known by once it is given Browser.Cookie.
func (p *Pages) Browser(r *http.Request) Browser {
	sent := readCookies(r)
	prefix := p.cookieName(browserCookie)
	var names []string
	for name := range sent {
		if name == prefix || strings.HasPrefix(name, prefix+"_") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var b Browser
	for _, name := range names {
		if id := sent.value(name); id != "" && len(b.ids) < maxBrowserIDs {
			if b.cookie == nil {
				b.cookie = p.newCookie(strings.TrimPrefix(name, p.cookieName("")), id, rememberBrowser)
			}
			b.ids = append(b.ids, id)
		}
	}
	if b.cookie == nil {
		b.cookie = p.newCookie(browserCookie+"_"+strings.ToLower(rand.Text()[:8]), rand.Text(), rememberBrowser)
	}
	return b
}

// Known reports whether the browser sent a cookie of ours.
func (b Browser) Known() bool { return len(b.ids) > 0 }

// Cookie returns the cookie by which the browser is known again: a new one, or the one
// it sent with its life renewed.
func (b Browser) Cookie() *http.Cookie { return b.cookie }

// Hash returns the hash of the id that Cookie holds, for something to be bound to this
// browser.
func (b Browser) Hash() string { return oauth.Hash(b.cookie.Value) }

// Is reports whether hash is the Hash that the browser has, or had in an answer that it
// got at the same time as others.
func (b Browser) Is(hash string) bool {
	found := false
	for _, id := range b.ids {
		found = equal(oauth.Hash(id), hash) || found
	}
	return found
}

// deviceID is the length of the random part of a device cookie.
const deviceID = 26

// NewDevice returns the cookie by which KnownDevice finds out that the owner of account
// has signed in on a browser.
func (p *Pages) NewDevice(account string) *http.Cookie {
	id := rand.Text()
	return p.newCookie(deviceCookie, id+p.mac("device", account, id), rememberDevice)
}

// KnownDevice returns by what the browser that sent r is known to be one on which the
// owner of account was the last to sign in, "" if it is not.
func (p *Pages) KnownDevice(r *http.Request, account string) string {
	value := readCookies(r).value(p.cookieName(deviceCookie))
	if len(value) <= deviceID || !equal(value[deviceID:], p.mac("device", account, value[:deviceID])) {
		return ""
	}
	return value[:deviceID]
}

func (p *Pages) cookieName(name string) string {
	if p.Secure {
		return "__Host-cardea_" + name // RFC 6265bis §4.1.3.2
	}
	return "cardea_" + name
}

// sentCookies are the cookies of a request by name, each as often as it came.
type sentCookies map[string][]*http.Cookie

// readCookies returns the cookies of r. A name counts in whatever disguise it came, so that
// one that was planted by a neighbouring site beside ours shows.
func readCookies(r *http.Request) sentCookies {
	sent := sentCookies{}
	for _, line := range r.Header["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			name, _, _ := strings.Cut(pair, "=")
			name = strings.TrimFunc(name, func(c rune) bool { return c <= ' ' || c > '~' })
			if strings.Contains(name, "cardea_") {
				sent[name] = append(sent[name], nil)
			}
		}
	}
	for name, all := range sent {
		if found := r.CookiesNamed(name); len(found) == len(all) {
			sent[name] = found
		}
	}
	return sent
}

// value returns the value of a cookie, "" if the browser sent none. A cookie that is
// there twice counts as none: one of the two may have been planted.
func (s sentCookies) value(name string) string {
	found := s[name]
	if len(found) != 1 || found[0] == nil || found[0].Quoted || len(found[0].Value) > maxCookie || !IsBase64URL(found[0].Value) {
		return ""
	}
	return found[0].Value
}

// maxCookie bounds the value of a cookie, in bytes.
const maxCookie = 256

// IsBase64URL reports whether s has no character outside the alphabet of RFC 4648 §5.
// It may be empty.
func IsBase64URL(s string) bool {
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
