package fetch

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind is what is fetched: how long it may be, of which types, and how long it is
// good. A document is fresh as long as its server says (RFC 9111 §4.2), but no
// shorter than MinFresh and no longer than MaxFresh; after that, for MaxStale
// more, it is used when a newer one cannot be had (RFC 5861 §4).
type Kind struct {
	MaxBytes                     int64
	Accept                       string // the header
	Types                        func(mediaType string) bool
	MinFresh, MaxFresh, MaxStale time.Duration
}

// The kinds.
var (
	// Metadata is a Client ID Metadata Document.
	Metadata = Kind{
		MaxBytes: 5 << 10,
		Accept:   "application/json",
		Types:    isJSON,
		MinFresh: time.Minute, MaxFresh: 24 * time.Hour, MaxStale: 24 * time.Hour,
	}
	// KeySet is a JWK Set, RFC 7517 §5.
	KeySet = Kind{
		MaxBytes: 64 << 10,
		Accept:   "application/jwk-set+json, application/json",
		Types:    isJSON,
		MinFresh: 5 * time.Minute, MaxFresh: time.Hour, MaxStale: 6 * time.Hour,
	}
	// Logo is a picture of a type that cannot carry a script. Whether its bytes are
	// what its type says is left to whoever shows it: serve it with that very type
	// and nosniff.
	Logo = Kind{
		MaxBytes: 256 << 10,
		Accept:   "image/png, image/jpeg, image/gif, image/webp",
		Types:    isPicture,
		MinFresh: time.Hour, MaxFresh: 7 * 24 * time.Hour, MaxStale: 7 * 24 * time.Hour,
	}
)

// isJSON tells application/json and application/…+json.
func isJSON(mediaType string) bool {
	return mediaType == "application/json" ||
		strings.HasPrefix(mediaType, "application/") && strings.HasSuffix(mediaType, "+json")
}

func isPicture(mediaType string) bool {
	return slices.Contains([]string{"image/png", "image/jpeg", "image/gif", "image/webp"}, mediaType)
}

// Document is what was fetched. FetchedAt is when it was asked for.
type Document struct {
	Body       []byte
	MediaType  string // in lower case, without parameters
	FetchedAt  time.Time
	FreshUntil time.Time
}

// freshness returns how long an answer may be reused by its headers; what it does
// not say, or not clearly, is zero. s-maxage is for caches that many share; Vary
// does not matter, for the request is always the same. RFC 9111 §4.2.1.
func freshness(h http.Header, now time.Time) (lifetime time.Duration) {
	if expires, err := http.ParseTime(h.Get("Expires")); err == nil {
		sent, err := http.ParseTime(h.Get("Date"))
		if err != nil {
			sent = now
		}
		lifetime = expires.Sub(sent)
	}
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, argument, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return 0
		case "max-age":
			lifetime = seconds(strings.Trim(argument, `"`))
		}
	}
	return lifetime - seconds(h.Get("Age"))
}

// seconds reads delta-seconds, RFC 9111 §1.2.2: too many are 2^31, nonsense is none.
func seconds(s string) time.Duration {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil && !isDigits(s) {
		return 0
	}
	return time.Duration(min(n, 1<<31)) * time.Second
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
