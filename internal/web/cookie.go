package web

import (
	"net/http"
	"strings"
	"time"
)

// Cookie names what a browser is given to keep.
type Cookie string

// The cookies. Their values are random and mean nothing by themselves.
const (
	Session Cookie = "session" // a signed-in person
	Browser Cookie = "browser" // the browser itself, signed in or not: an interaction stays in the one that began it
)

// Cookies reads and makes cookies. They go to this host alone, are hidden from
// scripts, and do not come along when another site posts a form.
type Cookies struct {
	Secure bool // the issuer's scheme is https: the cookies are __Host- ones (RFC 6265bis §4.1.3.2)
}

func (c Cookies) name(k Cookie) string {
	if c.Secure {
		return "__Host-cardea_" + string(k)
	}
	return "cardea_" + string(k)
}

// Value returns the value of a cookie, "" if the browser sent none. A cookie that
// is there twice, in whatever disguise, counts as none: one of the two may have
// been planted by a neighbouring site.
func (c Cookies) Value(r *http.Request, k Cookie) string {
	name := c.name(k)
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

// Set returns the cookie that gives the browser value to keep for life, until it
// is closed if life is 0. The value is base64url, at most 256 bytes.
func (c Cookies) Set(k Cookie, value string, life time.Duration) *http.Cookie {
	return &http.Cookie{
		Name:     c.name(k),
		Value:    value,
		Path:     "/",
		MaxAge:   int(life / time.Second),
		Secure:   c.Secure,
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode, // Strict would not come along when a client sends the browser here
	}
}

// Clear returns the cookie that makes the browser forget it.
func (c Cookies) Clear(k Cookie) *http.Cookie {
	cookie := c.Set(k, "", 0)
	cookie.MaxAge = -1
	return cookie
}
