package oauth

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// maxRedirectURI bounds a redirect URI, in bytes.
const maxRedirectURI = 2048

// CheckRedirectURI tells whether uri may be registered: an absolute URI of
// printable ASCII, without fragment, user or dot segments, whose scheme is
// https, http on a loopback host, or private-use (RFC 8252 §7.1). Schemes that
// a browser executes or reads from disk are refused, and so are response
// parameters in the query (OAuth 2.1 §2.3, RFC 9700 §4.1). The error says why,
// as a phrase that follows the URI.
func CheckRedirectURI(uri string) error {
	u, why := parseRedirectURI(uri)
	if why != "" {
		return Refuse(InvalidRedirectURI, "redirect URI %.200q %s", uri, why)
	}
	for name := range u.Query() {
		switch name {
		case "code", "state", "iss", "error", "error_description", "error_uri":
			return Refuse(InvalidRedirectURI, "redirect URI %.200q must not carry the response parameter %q in its query", uri, name)
		}
	}
	return nil
}

// parseRedirectURI returns the parsed URI, or why it can be no redirect URI.
func parseRedirectURI(uri string) (*url.URL, string) {
	switch {
	case uri == "":
		return nil, "is empty"
	case len(uri) > maxRedirectURI:
		return nil, "is longer than " + strconv.Itoa(maxRedirectURI) + " bytes"
	}
	for i := range len(uri) {
		if c := uri[i]; c <= ' ' || c >= 0x7f || c == '\\' || c == '"' || c == '<' || c == '>' || c == '`' || c == '^' || c == '{' || c == '}' || c == '|' {
			return nil, "has a character that a URI cannot have (RFC 3986 §2)"
		}
	}
	u, err := url.Parse(uri)
	switch {
	case err != nil:
		return nil, "is not a URI"
	case u.Scheme == "":
		return nil, "is not absolute: it needs a scheme"
	case strings.Contains(uri, "#"):
		return nil, "must not have a fragment (RFC 6749 section 3.1.2)"
	case u.User != nil || strings.Contains(u.Host, "@"):
		return nil, "must not carry user information"
	case hasDotSegment(u):
		return nil, "must not have dot segments in its path"
	}
	switch scheme := u.Scheme; scheme {
	case "javascript", "data", "vbscript", "file", "blob", "about", "filesystem", "view-source", "jar", "ws", "wss", "ftp", "intent", "mailto":
		return nil, "has the scheme " + scheme + ", which cannot receive an authorization response safely"
	case "https", "http":
		if u.Hostname() == "" || u.Opaque != "" {
			return nil, "has no host"
		}
		if !validPort(u) {
			return nil, "has a port outside 1 to 65535"
		}
		if scheme == "http" && !IsLoopback(u.Hostname()) {
			return nil, "must use https: http is for loopback hosts (127.0.0.1, [::1], localhost) alone"
		}
	}
	return u, ""
}

func hasDotSegment(u *url.URL) bool {
	for _, segment := range strings.FieldsFunc(u.Path, func(r rune) bool { return r == '/' || r == '\\' }) {
		if segment, _, _ := strings.Cut(segment, ";"); segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// validPort tells whether the port is absent, or written as a plain number from
// 1 to 65535; "host:" has an empty port, which is neither.
func validPort(u *url.URL) bool {
	port := u.Port()
	if port == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == port
}

// IsLoopback tells whether host, as it stands in a URI without its port, is
// localhost, a dotted-quad address in 127.0.0.0/8, or [::1]. Disguises of them
// (decimal, octal, IPv4-mapped, zoned) are not.
func IsLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Zone() == "" && (ip.Is4() && ip.IsLoopback() || ip == netip.IPv6Loopback())
}

// MatchRedirectURI tells whether requested is one of the registered redirect
// URIs: byte for byte, except that on a loopback host the port counts for
// nothing, even a registered one (RFC 8252 §7.3, OAuth 2.1 §2.3.1). localhost
// and 127.0.0.1 are two hosts.
func MatchRedirectURI(registered []string, requested string) bool {
	u, why := parseRedirectURI(requested)
	if why != "" {
		return false
	}
	for _, r := range registered {
		if r == requested {
			return true
		}
	}
	if !isLoopbackURL(u) {
		return false
	}
	portless := withoutPort(requested, u)
	for _, r := range registered {
		ru, why := parseRedirectURI(r)
		if why == "" && isLoopbackURL(ru) && withoutPort(r, ru) == portless {
			return true
		}
	}
	return false
}

func isLoopbackURL(u *url.URL) bool {
	return u.Scheme == "http" && IsLoopback(u.Hostname())
}

// withoutPort cuts the port out of the text of a URI, and leaves the rest of it
// byte for byte; only the host is folded to lower case.
func withoutPort(uri string, u *url.URL) string {
	const scheme = "http://"
	if !strings.HasPrefix(uri, scheme) {
		return uri
	}
	rest := uri[len(scheme):]
	if len(rest) < len(u.Host) {
		return uri
	}
	return scheme + strings.ToLower(strings.TrimSuffix(u.Host, ":"+u.Port())) + rest[len(u.Host):]
}

// LoopbackOnly tells whether every redirect URI points to the user's own
// computer over http: then any program there can pretend to be the client
// (RFC 8252 §8.6).
func LoopbackOnly(redirectURIs []string) bool {
	for _, r := range redirectURIs {
		if u, why := parseRedirectURI(r); why != "" || !isLoopbackURL(u) {
			return false
		}
	}
	return len(redirectURIs) > 0
}

// IsNativeRedirect tells whether uri is one that only an installed application
// receives: loopback http or a private-use scheme (RFC 8252 §7).
func IsNativeRedirect(uri string) bool {
	u, why := parseRedirectURI(uri)
	return why == "" && u.Scheme != "https"
}
