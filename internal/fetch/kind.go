package fetch

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind says how long a kind of document may be, which types it may have, and how long it may be used. A document is
// fresh for as long as its server says (RFC 9111 §4.2), but at least for MinFresh and at most for MaxFresh. For
// MaxStale after that, it is used if a newer one cannot be fetched (RFC 5861 §4).
type Kind struct {
	MaxBytes                     int64
	Accept                       string // header of the request
	Types                        func(mediaType string) bool
	MinFresh, MaxFresh, MaxStale time.Duration
}

// The kinds of documents.
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
	// Logo is a picture of a type that cannot contain a script. The package does not check whether the bytes have that
	// type, so a caller that serves them unchanged must send exactly that type and nosniff.
	Logo = Kind{
		MaxBytes: 256 << 10,
		Accept:   "image/png, image/jpeg, image/gif, image/webp",
		Types:    isPicture,
		MinFresh: time.Hour, MaxFresh: 7 * 24 * time.Hour, MaxStale: 7 * 24 * time.Hour,
	}
)

// isJSON reports whether mediaType is application/json or ends with +json.
func isJSON(mediaType string) bool {
	return mediaType == "application/json" ||
		strings.HasPrefix(mediaType, "application/") && strings.HasSuffix(mediaType, "+json")
}

func isPicture(mediaType string) bool {
	return slices.Contains([]string{"image/png", "image/jpeg", "image/gif", "image/webp"}, mediaType)
}

// Document is a fetched document. FetchedAt is the time when its request began.
type Document struct {
	Body       []byte
	MediaType  string // in lower case, without parameters
	FetchedAt  time.Time
	FreshUntil time.Time
}

// freshness returns how long a response may be reused according to its headers (RFC 9111 §4.2.1), or zero if they do
// not say so clearly. It ignores s-maxage, which is for shared caches, and Vary, because the request is always the
// same.
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

// seconds parses delta-seconds (RFC 9111 §1.2.2). It returns at most 2^31 seconds, and 0 if s is not a number.
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
