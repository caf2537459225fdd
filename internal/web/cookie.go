package web

import (
	"crypto/rand"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// The cookies. Browsers send them to this host only, hide them from scripts, and do not send them with a form that
// another site posts. Their values are random text or a MAC and contain no data.
const (
	sessionCookie = "session" // of a signed-in person
	browserCookie = "browser" // of the browser: an interaction is bound to the browser that began it
	deviceCookie  = "device"  // of the account that signed in last in this browser
	methodCookie  = "method"  // how somebody signed in last
)

const (
	rememberBrowser = 24 * time.Hour       // since the last visit; interactions are shorter
	rememberDevice  = 365 * 24 * time.Hour // since the owner signed in
)

// SessionCookie returns the secret of the browser's session, or "" if r has no valid session cookie.
func (p *Pages) SessionCookie(r *http.Request) string {
	return readCookies(r).value(p.cookieName(sessionCookie))
}

// NewSession returns a session cookie with secret, which lasts until the browser is closed. The secret must be
// base64url of at most 256 bytes.
func (p *Pages) NewSession(secret string) *http.Cookie { return p.newCookie(sessionCookie, secret, 0) }

// NoSession returns a cookie that deletes the session cookie.
func (p *Pages) NoSession() *http.Cookie {
	cookie := p.newCookie(sessionCookie, "", 0)
	cookie.MaxAge = -1
	return cookie
}

// Browser identifies a browser by its cookies. A new browser that sends several requests at once, for example when it
// restores its tabs, gets a cookie in each response. The cookies have different names, so that none replaces another,
// and each of them identifies the browser.
type Browser struct {
	ids    []string // from its cookies; the first one is renewed
	cookie *http.Cookie
}

// maxBrowserIDs is the maximum number of cookies of one browser that are read: as many as browsers keep of one site.
const maxBrowserIDs = 180

// Browser returns the browser that sent r. If r has no browser cookie, the Browser has a new id; the caller must send
// Browser.Cookie for it to be recognised later.
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

// Known reports whether the browser sent a browser cookie.
func (b Browser) Known() bool { return len(b.ids) > 0 }

// Cookie returns the cookie that identifies the browser: a new one, or the one that it sent with a renewed lifetime.
func (b Browser) Cookie() *http.Cookie { return b.cookie }

// Hash returns the hash of the id in Cookie. Store it to bind something to this browser.
func (b Browser) Hash() string { return oauth.Hash(b.cookie.Value) }

// Is reports whether hash is the Hash of one of the cookies that the browser sent.
func (b Browser) Is(hash string) bool {
	found := false
	for _, id := range b.ids {
		found = equal(oauth.Hash(id), hash) || found
	}
	return found
}

// deviceID is the length of the random part of a device cookie.
const deviceID = 26

// NewDevice returns a cookie with which KnownDevice recognises that the owner of account has signed in with this
// browser.
func (p *Pages) NewDevice(account string) *http.Cookie {
	id := rand.Text()
	return p.newCookie(deviceCookie, id+p.mac("device", account, id), rememberDevice)
}

// KnownDevice returns the id in the device cookie of the browser that sent r, or "" if the last person who signed in
// with the browser was not the owner of account.
func (p *Pages) KnownDevice(r *http.Request, account string) string {
	value := readCookies(r).value(p.cookieName(deviceCookie))
	if len(value) <= deviceID || !equal(value[deviceID:], p.mac("device", account, value[:deviceID])) {
		return ""
	}
	return value[:deviceID]
}

// UsedMethod returns a cookie with which UsedLast recognises the method with which somebody signed in last.
func (p *Pages) UsedMethod(name string) *http.Cookie {
	id := rand.Text()
	return p.newCookie(methodCookie, id+p.mac("method", name, id), rememberDevice)
}

// UsedLast reports whether the method with that name is the one with which somebody signed in last with the browser
// that sent r.
func (p *Pages) UsedLast(r *http.Request, name string) bool {
	value := readCookies(r).value(p.cookieName(methodCookie))
	return len(value) > deviceID && equal(value[deviceID:], p.mac("method", name, value[:deviceID]))
}

func (p *Pages) cookieName(name string) string {
	if p.Secure {
		return "__Host-cardea_" + name // RFC 6265bis §4.1.3.2
	}
	return "cardea_" + name
}

// sentCookies are the cookies of a request by name, duplicates included.
type sentCookies map[string][]*http.Cookie

// readCookies returns the cookies of r. It removes spaces and characters that are not printable ASCII around names
// before it counts duplicates, so that a cookie that a neighbouring site has set under a disguised name is noticed.
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
	if len(sent) == 0 {
		return sent
	}
	named := map[string][]*http.Cookie{}
	for _, cookie := range r.Cookies() { // once for all names, because a request may have thousands
		named[cookie.Name] = append(named[cookie.Name], cookie)
	}
	for name, all := range sent {
		if found := named[name]; len(found) == len(all) {
			sent[name] = found
		}
	}
	return sent
}

// value returns the value of a cookie, or "" if it is missing or malformed. A duplicate cookie counts as missing,
// because an attacker may have set one of the two.
func (s sentCookies) value(name string) string {
	found := s[name]
	if len(found) != 1 || found[0] == nil || found[0].Quoted || len(found[0].Value) > maxCookie ||
		!IsBase64URL(found[0].Value) {
		return ""
	}
	return found[0].Value
}

// maxCookie is the maximum length of the value of a cookie, in bytes.
const maxCookie = 256

// IsBase64URL reports whether all characters of s are in the alphabet of RFC 4648 §5. The empty string is.
func IsBase64URL(s string) bool {
	return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

// newCookie returns a cookie with the given value and lifetime. If life is 0, it lasts until the browser is closed.
func (p *Pages) newCookie(name, value string, life time.Duration) *http.Cookie {
	return &http.Cookie{
		Name:     p.cookieName(name),
		Value:    value,
		Path:     "/",
		MaxAge:   int(life / time.Second),
		Secure:   p.Secure,
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode, // browsers do not send Strict cookies when a client redirects here
	}
}
