package oauth

import (
	"net/url"
	"strings"
)

// maxWebURI bounds a web address that a client says of itself, in bytes.
const maxWebURI = 512

// CheckWebURI refuses a URI that is not a plain web address; "" is none at all.
func CheckWebURI(name, uri string) error {
	if uri == "" {
		return nil
	}
	u, err := url.Parse(uri)
	control := strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r == 0x7f })
	if err != nil || control || len(uri) > maxWebURI || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return Refuse(InvalidClientMetadata, "%s must be an https URL of at most %d bytes", name, maxWebURI)
	}
	return nil
}
