package oauth

import (
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxRedirectURI is the longest redirect URI that is accepted, in bytes.
const maxRedirectURI = 2048

// CheckRedirectURI returns the form in which uri is registered, with scheme and host in lower case. It refuses a URI
// that cannot be a redirect URI with invalid_redirect_uri. A redirect URI is an absolute URI of printable ASCII without
// fragment, user information or dot segments, and without response parameters in its query (OAuth 2.1 §2.3, RFC 9700
// §4.1). Its scheme is https, http on a loopback host, or private-use (RFC 8252 §7.1): one that begins with a reversed
// domain name, or one of schemes, which lists the known private-use schemes without a dot. All other schemes are
// refused, because some of them start programs.
func CheckRedirectURI(uri string, schemes []string) (string, error) {
	u, why := parseRedirectURI(uri)
	if why == "" && u.Scheme != "https" && u.Scheme != "http" && !slices.Contains(schemes, u.Scheme) &&
		!isReversedDomain(u.Scheme) {
		why = "has the scheme " + u.Scheme + ", which is not accepted: use https, http on a loopback host, or a " +
			"private-use scheme " +
			"that is a domain name in reverse, such as com.example.app (RFC 8252 section 7.1)"
	}
	if why != "" {
		return "", Refuse(InvalidRedirectURI, "redirect URI %.200q %s", uri, why)
	}
	for name := range u.Query() {
		switch name {
		case "code", "state", "iss", "error", "error_description", "error_uri":
			return "", Refuse(InvalidRedirectURI, "redirect URI %.200q must not contain the response parameter %q "+
				"in its query", uri, name)
		}
	}
	return lowered(uri, u), nil
}

// reversedDomain matches a top-level domain, which has only letters unless it is in punycode, followed by at least one
// name. It does not match schemes of operating systems such as x-apple.systempreferences and ms-settings.
var reversedDomain = regexp.MustCompile(`^([a-z]{2,}|xn--[a-z0-9-]+)(\.[a-z0-9+-]+)+$`)

// isReversedDomain reports whether a lower-case scheme can belong to an application (RFC 8252 §7.1). It excludes the
// schemes in this form that Windows uses itself.
func isReversedDomain(scheme string) bool {
	return reversedDomain.MatchString(scheme) && !strings.HasPrefix(scheme, "microsoft.")
}

// parseRedirectURI returns the parsed URI, or the reason why it cannot be a redirect URI. It does not judge a
// private-use scheme.
func parseRedirectURI(uri string) (*url.URL, string) {
	switch {
	case uri == "":
		return nil, "is empty"
	case len(uri) > maxRedirectURI:
		return nil, "is longer than " + strconv.Itoa(maxRedirectURI) + " bytes"
	}
	for i := range len(uri) {
		if c := uri[i]; c <= ' ' || c >= 0x7f || c == '\\' || c == '"' || c == '<' || c == '>' || c == '`' ||
			c == '^' || c == '{' || c == '}' || c == '|' {
			return nil, "has a character that a URI cannot have (RFC 3986 section 2)"
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
		return nil, "must not contain user information"
	case !plainHost(uri, u):
		return nil, "has a host with escapes: write an internationalised domain name in its ASCII form (RFC 5890)"
	case hasDotSegment(u):
		return nil, "must not have dot segments in its path"
	}
	if u.Scheme == "https" || u.Scheme == "http" {
		switch {
		case u.Hostname() == "" || u.Opaque != "":
			return nil, "has no host"
		case !validPort(u):
			return nil, "has a port outside 1 to 65535"
		case !IsSecure(u):
			return nil, "must use https: http is accepted only for loopback hosts (127.0.0.1, [::1], localhost)"
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

// validPort reports whether the port is absent or a plain number from 1 to 65535. The port of "host:" is empty, which
// is not valid.
func validPort(u *url.URL) bool {
	port := u.Port()
	if port == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == port
}

// authority returns the part of uri that contains its host, and what follows it; found reports whether uri has such a
// part.
func authority(uri string) (host, rest string, found bool) {
	_, after, _ := strings.Cut(uri, ":")
	after, found = strings.CutPrefix(after, "//")
	if !found {
		return "", "", false
	}
	if end := strings.IndexAny(after, "/?#"); end >= 0 {
		return after[:end], after[end:], true
	}
	return after, "", true
}

// plainHost reports whether the host of u is written in ASCII without escapes. Escapes are not accepted because one
// could hide a letter that other software folds to another, such as U+017F to s.
func plainHost(uri string, u *url.URL) bool {
	host, _, found := authority(uri)
	return !found || host == u.Host
}

// lowered returns uri with its scheme and host in lower case; u is uri parsed.
func lowered(uri string, u *url.URL) string {
	host, rest, found := authority(uri)
	if !found {
		return u.Scheme + uri[len(u.Scheme):]
	}
	return u.Scheme + "://" + lowerASCII(host) + rest
}

// lowerASCII returns s with the letters A to Z in lower case and everything else unchanged.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// IsLoopback reports whether host, as written in a URI without its port, is localhost or a name below it (RFC 6761
// §6.3), a dotted-quad address in 127.0.0.0/8, or [::1]. It returns false for other spellings of these addresses
// (decimal, octal, IPv4-mapped, written out, with a zone, folded).
func IsLoopback(host string) bool {
	host = lowerASCII(host)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") && belowLocalhost.MatchString(host) {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return host == "::1" || err == nil && ip.Is4() && ip.IsLoopback()
}

var belowLocalhost = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+localhost$`)

// MatchRedirectURI reports whether requested is one of the registered redirect URIs. Two URIs match if they are equal
// after scheme-based normalisation only (RFC 3986 §6.2.3): scheme and host in lower case, an empty path as "/", the
// default port left out. On a loopback host the port is ignored, even a registered one (RFC 8252 §7.3, OAuth 2.1
// §2.3.1); localhost and 127.0.0.1 are different hosts.
func MatchRedirectURI(registered []string, requested string) bool {
	form, ok := normalForm(requested, true)
	return ok && slices.ContainsFunc(registered, func(uri string) bool {
		if uri == requested {
			return true
		}
		own, ok := normalForm(uri, true)
		return ok && own == form
	})
}

// SameRedirectURI reports whether a token request names the redirect URI of its authorization request. It compares the
// two as MatchRedirectURI does, but the port of a loopback host has to be the same (OAuth 2.1 §4.1.3).
func SameRedirectURI(authorized, named string) bool {
	if authorized == named {
		return true
	}
	a, ok := normalForm(authorized, false)
	b, alike := normalForm(named, false)
	return ok && alike && a == b
}

// normalForm returns a form that is equal for equivalent URIs; if anyPort is true, it leaves out the port of a loopback
// host.
func normalForm(uri string, anyPort bool) (form string, ok bool) {
	u, why := parseRedirectURI(uri)
	if why != "" {
		return "", false
	}
	host, rest, found := authority(lowered(uri, u))
	if !found {
		return lowered(uri, u), true
	}
	port := u.Port()
	if port != "" && (anyPort && isLoopbackURL(u) || port == defaultPort(u.Scheme)) {
		host = strings.TrimSuffix(host, ":"+port)
	}
	if host != "" && (rest == "" || rest[0] == '?') {
		rest = "/" + rest
	}
	return u.Scheme + "://" + host + rest, true
}

// defaultPort returns the default port of the scheme, or "" if it has none.
func defaultPort(scheme string) string {
	switch scheme {
	case "https":
		return "443"
	case "http":
		return "80"
	}
	return ""
}

// IsSecure reports whether nobody on the way can read or change what is sent to u: its scheme is https, or it is http
// on a loopback host.
func IsSecure(u *url.URL) bool { return u.Scheme == "https" || isLoopbackURL(u) }

func isLoopbackURL(u *url.URL) bool {
	return u.Scheme == "http" && IsLoopback(u.Hostname())
}

// IsNativeRedirect reports whether only an installed application can receive uri: loopback http or a private-use scheme
// (RFC 8252 §7).
func IsNativeRedirect(uri string) bool {
	u, why := parseRedirectURI(uri)
	return why == "" && u.Scheme != "https"
}
