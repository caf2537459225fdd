package oauth

import (
	"net/url"
	"strings"
)

// maxWebURI is the longest web address that is accepted in a client's metadata, in bytes.
const maxWebURI = 512

// CheckWebURI refuses a URI that is not an http or https URL of at most maxWebURI bytes. It accepts "", which means
// that the client has none.
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
