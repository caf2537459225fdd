package doctor

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// An AddressError says why a text is not the URL of an MCP server, and what to give in its place.
type AddressError struct{ Reason string }

func (e *AddressError) Error() string { return e.Reason }

// launchers begin the command lines of MCP servers that are started, not reached.
var launchers = []string{"npx", "bunx", "node", "deno", "uvx", "uv", "python", "python3", "pipx", "docker", "podman",
	"go"}

// parseAddress returns the URL that a person typed.
func parseAddress(text string) (*url.URL, error) {
	fail := func(format string, args ...any) (*url.URL, error) {
		return nil, &AddressError{fmt.Sprintf(format, args...)}
	}
	text = strings.TrimSpace(text)
	first, _, more := strings.Cut(text, " ")
	switch {
	case text == "":
		return fail("the URL of the MCP server is missing; give the one that people type into their client")
	case more || slices.Contains(launchers, first) || strings.HasPrefix(text, "stdio:"):
		return fail("%q is a command that starts an MCP server on standard input and output, which has no "+
			"authorization to look at; put cardea gateway in front of it, and give the URL of that", first)
	}
	u, err := url.Parse(text)
	switch {
	case err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "":
	case !strings.Contains(text, "://") && strings.ContainsAny(first, ".:/"):
		scheme := "https://"
		if host, err := url.Parse("http://" + text); err == nil && isLoopbackHost(host.Hostname()) {
			scheme = "http://"
		}
		return fail("%q has no scheme; did you mean %s%s?", text, scheme, text)
	default:
		return fail("%q is not the URL of an MCP server; give one that begins with https://", text)
	}
	switch {
	case u.User != nil:
		return fail("the URL has a user name or password, which clients do not send; leave it out")
	case u.Fragment != "":
		return fail("the URL has a fragment, which clients do not send; leave out the part from # on")
	}
	return u, nil
}

// isLoopbackHost reports whether host is this computer.
func isLoopbackHost(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.IsLoopback()
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// origin returns the scheme and the host of a URL.
func origin(u *url.URL) string { return u.Scheme + "://" + u.Host }

// wellKnown returns the URL of a well-known document of u, with the path of u after it (RFC 8414 §3.1, RFC 9728 §3.1).
func wellKnown(u *url.URL, name string) string {
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	return origin(u) + "/.well-known/" + name + path
}

// sameServer reports whether two URLs have the same scheme, host and port.
func sameServer(a, b *url.URL) bool { return a != nil && b != nil && plain(a) == plain(b) }

// plain returns the origin of u in lower case without the default port.
func plain(u *url.URL) string {
	host := strings.ToLower(u.Hostname())
	usual := map[string]string{"https": "443", "http": "80"}[u.Scheme]
	if port := u.Port(); port != "" && port != usual {
		host += ":" + port
	}
	return strings.ToLower(u.Scheme) + "://" + host
}

// place returns a URL without its query, which may have secrets.
func place(u *url.URL) string {
	short := *u
	short.User, short.RawQuery, short.Fragment = nil, "", ""
	return short.String()
}

// secure reports whether a secret may be sent to u, and a browser opened there.
func secure(u *url.URL) bool {
	return u != nil && (u.Scheme == "https" || u.Scheme == "http" && isLoopbackHost(u.Hostname()))
}

// parse returns the URL of a text that a server sent, or nil.
func parse(text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return nil
	}
	return u
}
