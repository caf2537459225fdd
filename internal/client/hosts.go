package client

import (
	"net/url"
	"slices"
	"strings"
)

// HostList is a list of hosts: "example.com" is that host on the port of its
// scheme, "example.com:8443" on that port, "*.example.com" every host below it.
// All are in lower case.
type HostList []string

// Covers reports whether the host of a URL is on the list.
func (l HostList) Covers(uri string) bool {
	u, err := url.Parse(uri)
	return err == nil && slices.ContainsFunc(l, func(entry string) bool { return covers(entry, u.Host) })
}

// coversAnyPort is Covers, with the port counting for nothing where the list
// names none.
func (l HostList) coversAnyPort(uri string) bool {
	u, err := url.Parse(uri)
	return err == nil && slices.ContainsFunc(l, func(entry string) bool { return covers(entry, u.Host) || covers(entry, u.Hostname()) })
}

func covers(entry, host string) bool {
	if below, ok := strings.CutPrefix(entry, "*"); ok {
		return strings.HasSuffix(host, below)
	}
	return host == entry
}
