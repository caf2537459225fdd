package fetch

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cardea-auth/cardea/internal/oauth"
)

const (
	maxURL      = 2048 // bytes of any URL that is fetched
	maxClientID = 512  // bytes of a URL that is a client identifier: it is stored, shown and logged
)

// CheckURL checks whether raw may be the URL of a Client ID Metadata Document, without looking anything up: https, a
// domain name in lower case, a path, and no userinfo, fragment, query, dot segment or default port; at most 512 bytes.
// With allowLoopback, it also accepts http and https URLs of loopback hosts (oauth.IsLoopback). It does not normalise
// raw, because client identifiers are compared byte for byte. The error is ErrNotAllowed with the rule that raw breaks;
// it does not quote raw. Client ID Metadata Document §3.
func CheckURL(raw string, allowLoopback bool) error {
	t, err := parse(raw, allowLoopback)
	if err != nil {
		return err
	}
	switch {
	case len(raw) > maxClientID:
		return notAllowed("it is longer than %d bytes", maxClientID)
	case strings.Contains(raw, "?"):
		return notAllowed("it has a query")
	case t.url.Path == "" || t.url.Path == "/":
		return notAllowed("it has no path")
	case slices.ContainsFunc(strings.FieldsFunc(t.url.Path, isSlash), isDots):
		return notAllowed("its path has a dot segment")
	case t.url.Port() == defaultPort(t.url.Scheme):
		return notAllowed("it spells out the default port")
	}
	return nil
}

// Check checks whether raw may be fetched, without looking anything up. It applies the rules for every URL that a
// stranger may choose; CheckURL applies additional ones. The error is as that of CheckURL.
func Check(raw string, allowLoopback bool) error {
	_, err := parse(raw, allowLoopback)
	return err
}

// A backslash here was %5C in the URL. Some servers treat it as a slash.
func isSlash(r rune) bool        { return r == '/' || r == '\\' }
func isDots(segment string) bool { return segment == "." || segment == ".." }

// A target is a URL that parse has accepted.
type target struct {
	url      *url.URL
	host     string // a domain name, or the IP address of a loopback host without brackets
	port     string
	loopback bool
}

// outsideURI reports whether r cannot be in a URI, RFC 3986 §2.
func outsideURI(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"<>\\^`{|}", r)
}

// parse parses raw and applies the rules for every URL that a stranger may choose.
func parse(raw string, allowLoopback bool) (target, error) {
	switch {
	case len(raw) > maxURL:
		return target{}, notAllowed("it is longer than %d bytes", maxURL)
	case strings.ContainsFunc(raw, outsideURI):
		return target{}, notAllowed("it has a character that is not allowed in a URL")
	case strings.Contains(raw, "#"):
		return target{}, notAllowed("it has a fragment")
	}
	scheme, rest, hierarchical := strings.Cut(raw, "://")
	if !hierarchical || scheme != "https" && scheme != "http" {
		return target{}, notAllowed("it does not begin with https://")
	}
	authority := rest
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		authority = rest[:end]
	}
	u, err := url.Parse(raw)
	switch {
	case strings.Contains(authority, "@"):
		return target{}, notAllowed("it has a user name")
	case err != nil || u.Host != authority: // as in https://%31%32%37.0.0.1/
		return target{}, notAllowed("it is malformed")
	}
	port := u.Port()
	host := strings.TrimSuffix(authority, ":"+port)
	_, err = strconv.ParseUint(port, 10, 16)
	loopback := oauth.IsLoopback(u.Hostname())
	switch {
	case host != authority && (err != nil || port[0] == '0'):
		return target{}, notAllowed("its port is not a number from 1 to 65535")
	case loopback && !allowLoopback:
		return target{}, notAllowed("its host is this machine")
	case scheme == "http" && !loopback:
		return target{}, notAllowed("it does not begin with https://")
	case host != strings.ToLower(host):
		return target{}, notAllowed("its host is not in lower case")
	case !loopback && !isDomainName(host):
		return target{}, notAllowed("its host is not a full domain name")
	}
	if port == "" {
		port = defaultPort(scheme)
	}
	return target{u, u.Hostname(), port, loopback}, nil
}

func defaultPort(scheme string) string {
	if scheme == "http" {
		return "80"
	}
	return "443"
}

// domainName requires a letter at the beginning of the last label, so that it matches no spelling of an IPv4 address,
// such as 127.0.0.1, 127.1, 2130706433, 0177.0.0.1 or 0x7f.1.
var domainName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])$`)

func isDomainName(host string) bool {
	return len(host) <= 253 && domainName.MatchString(host)
}

func notAllowed(why string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrNotAllowed, fmt.Sprintf(why, args...))
}
