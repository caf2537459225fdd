package client

import (
	"net/url"
	"slices"
	"strings"
)

// HostList is a list of hosts in lower case: "example.com" is that host on the default port of the scheme,
// "example.com:8443" is that host on that port, and "*.example.com" is every host below it.
type HostList []string

// Covers reports whether the host of a URL is on the list.
func (l HostList) Covers(uri string) bool {
	u, err := url.Parse(uri)
	return err == nil && slices.ContainsFunc(l, func(entry string) bool { return covers(entry, u.Host) })
}

// coversAnyPort is Covers, except that an entry without a port covers every port.
func (l HostList) coversAnyPort(uri string) bool {
	u, err := url.Parse(uri)
	return err == nil &&
		slices.ContainsFunc(l, func(entry string) bool { return covers(entry, u.Host) || covers(entry, u.Hostname()) })
}

func covers(entry, host string) bool {
	if below, ok := strings.CutPrefix(entry, "*"); ok {
		return strings.HasSuffix(host, below)
	}
	return host == entry
}
