// Package doctor finds out from outside what is wrong with the authorization of an MCP server, whose fault it is, how
// to mend it, and which clients it keeps out. It needs only the server's URL, and the server need not use Cardea.
//
// [Run] probes once and collects what it saw; then each rule of one table judges that.
package doctor

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Options configure Run.
type Options struct {
	// URL is what a person would type into a client.
	URL string
	// Register allows to register a test client at the authorization server, which is deleted afterwards if the server
	// can (RFC 7592). If it cannot, the check register says so, and how the client is removed.
	Register bool
	// Login allows to ask a person, in a browser, for tokens, and to call a tool with them. It registers a client,
	// unless ClientID names one.
	Login bool
	// ClientID and ClientSecret are those of a client that is registered already.
	ClientID, ClientSecret string
	// Scopes are what Login asks for; if there are none, it asks for what the MCP server names.
	Scopes []string
	// Open shows the person a URL. It is needed for Login.
	Open func(ctx context.Context, url string) error
	// Patience is how long Login waits for the person, 5 minutes if it is 0.
	Patience time.Duration
	// Progress is told what is done next. It may be nil.
	Progress func(string)
	// Explain asks the authorization server's own log about token, or about what it refused the client last if token is
	// "". It reports whether the token is good there, and returns "" if the log is not at hand. It may be nil.
	Explain func(ctx context.Context, issuer, clientID, token string) (said string, good bool)

	// Now is the clock of this computer.
	Now func() time.Time
	// Transport sends the requests. If it is nil, one without proxies and caches does.
	Transport *http.Transport
	// Lookup resolves a name as clients on the Internet do. If it is nil, the resolver of this computer does.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Version is the version of the program.
	Version string
}

// A Status is the outcome of a check.
type Status string

// The outcomes. Fail means that a client of the table cannot connect, or that security is lost; Warn that all can, some
// with a detour. Skip means that the check could not be made.
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
	Skip Status = "skip"
)

// A Party is the party that can mend what a check finds.
type Party string

// The parties. Network is what stands before a server: a proxy, a CDN, a firewall. Host is the clock of a machine.
const (
	MCPServer           Party = "mcp-server"
	AuthorizationServer Party = "authorization-server"
	Network             Party = "network"
	Client              Party = "client"
	User                Party = "user"
	Host                Party = "host"
)

// Words returns the name of the party for a sentence.
func (p Party) Words() string {
	switch p {
	case MCPServer:
		return "the MCP server"
	case AuthorizationServer:
		return "the authorization server"
	case Network:
		return "the proxy, firewall or network"
	case Client:
		return "the client"
	case User:
		return "you"
	case Host:
		return "the administrator of that machine"
	}
	return string(p)
}

// A Verdict is the outcome of all checks.
type Verdict string

// The verdicts.
const (
	Fine     Verdict = "ok"
	Warnings Verdict = "warnings"
	Broken   Verdict = "broken"
)

// A Check is what was found about one thing. Every id of Checks appears at least once in a report, and once for each
// place where several were looked at.
type Check struct {
	ID       string   `json:"id"`
	Status   Status   `json:"status"`
	Party    Party    `json:"party"`
	Found    string   `json:"found"`
	Expected string   `json:"expected"`
	Fix      string   `json:"fix"`
	Clients  []string `json:"clients"` // which it concerns; those of a Fail cannot connect
	Source   string   `json:"source"`
}

// A Report is what Run found.
type Report struct {
	URL     string  `json:"url"`
	Verdict Verdict `json:"verdict"`
	Checks  []Check `json:"checks"`

	// Notes are what a reader must know beside the checks: what cannot be seen from here.
	Notes []string `json:"-"`
}

// Run diagnoses the MCP server at o.URL. It returns an *AddressError if that is not the URL of a server, and no other
// error: what does not work is in the report. Looking from outside, registering a client, and using a token take at
// most 90 seconds each. It sends at most 90 requests, and reads at most 256 KB of each response.
func Run(ctx context.Context, o Options) (*Report, error) {
	typed, err := parseAddress(o.URL)
	if err != nil {
		return nil, err
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if o.Lookup == nil {
		o.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	o.Register = o.Register || o.Login && o.ClientID == ""
	f := &facts{typed: typed, endpoint: typed, options: o}
	f.line = newLine(o)
	defer f.line.close()
	f.probe(ctx)
	report := &Report{URL: o.URL, Checks: judge(f), Notes: f.notes()}
	report.Verdict = Fine
	for _, c := range report.Checks {
		switch {
		case c.Status == Fail:
			report.Verdict = Broken
		case c.Status == Warn && report.Verdict == Fine:
			report.Verdict = Warnings
		}
	}
	return report, nil
}

// With returns the names of the clients of the table that have the status.
func (r *Report) With(status Status) (names []string) {
	for _, v := range r.Clients() {
		if v.Status == status {
			names = append(names, v.Client)
		}
	}
	return names
}

// Headline returns the verdict as one line.
func (r *Report) Headline() string {
	out, detour, total := len(r.With(Fail)), len(r.With(Warn)), len(clients)
	switch {
	case r.Verdict == Broken && out == total:
		return "BROKEN: no client can connect"
	case r.Verdict == Broken && out > 0:
		return fmt.Sprintf("BROKEN: %d of %d clients cannot connect", out, total)
	case r.Verdict == Broken:
		return "BROKEN: clients connect, but security is lost"
	case r.Verdict == Warnings && detour > 0:
		return fmt.Sprintf("WARNINGS: all clients can connect, %d of %d with a detour", detour, total)
	case r.Verdict == Warnings:
		return "WARNINGS: all clients can connect"
	}
	return "OK"
}

// Worst returns the failure that keeps out most clients, and false if nothing fails.
func (r *Report) Worst() (worst Check, found bool) {
	for _, c := range r.Checks {
		if c.Status == Fail && (!found || len(c.Clients) > len(worst.Clients)) {
			worst, found = c, true
		}
	}
	return worst, found
}

// Named returns the clients of a check as a list, or that they are all.
func (c Check) Named() string {
	if len(c.Clients) == len(clients) {
		return "every client"
	}
	return strings.Join(c.Clients, ", ")
}

// A ClientVerdict is the status of one client of the table.
type ClientVerdict struct {
	Client string
	Status Status // Fail: it cannot connect; Warn: with a detour
	For    []string
}

// Clients returns a verdict for each client of the table, with the ids of the checks that are why.
func (r *Report) Clients() (verdicts []ClientVerdict) {
	for _, c := range clients {
		v := ClientVerdict{Client: c.name, Status: OK}
		for _, check := range r.Checks {
			concerned := slices.Contains(check.Clients, c.name)
			switch {
			case concerned && check.Status == Fail && v.Status != Fail:
				v.Status, v.For = Fail, []string{check.ID}
			case concerned && check.Status == v.Status && v.Status != OK && !slices.Contains(v.For, check.ID):
				v.For = append(v.For, check.ID)
			case concerned && check.Status == Warn && v.Status == OK:
				v.Status, v.For = Warn, []string{check.ID}
			}
		}
		verdicts = append(verdicts, v)
	}
	return verdicts
}
