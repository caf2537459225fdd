package interaction

import (
	"net/url"
	"strings"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// ClientCard is a client as it is shown to people.
type ClientCard struct {
	Name        string // client_name as the client states it; "" is shown as an unnamed application
	ID          string // client_id; the host of a URL is shown separately
	Approved    bool   // an operator vouches for it; else it is called unverified
	Logo        string // path on this server of its logo; "": none is shown
	Destination Destination
}

// Card returns the card of the client of a.
func (a *Authorization) Card() *ClientCard {
	return &ClientCard{
		Name:        a.Client.Name,
		ID:          a.Client.ID,
		Approved:    a.Client.Approved(),
		Destination: DestinationOf(a.Reply.RedirectURI),
	}
}

// Host returns the host of a client_id that is a URL, or "". It is the only part of the card that the client cannot
// choose freely.
func (c ClientCard) Host() string {
	u, err := url.Parse(c.ID)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return u.Host
}

// Destination is where the answer to an authorization request is sent.
type Destination struct {
	Host     string // of an http or https redirect URI, "agent.example"; else ""
	Scheme   string // of a private-use redirect URI, "cursor"; else ""
	Loopback bool   // Host is this computer
}

// DestinationOf returns the destination of a checked redirect URI.
func DestinationOf(redirectURI string) Destination {
	u, err := url.Parse(redirectURI)
	switch {
	case err != nil:
		return Destination{}
	case u.Scheme != "https" && u.Scheme != "http":
		return Destination{Scheme: u.Scheme}
	case oauth.IsLoopback(u.Hostname()):
		return Destination{Host: u.Hostname(), Loopback: true}
	}
	return Destination{Host: strings.ToLower(u.Host)}
}

// OnDevice reports whether the answer goes to a program on the person's own device, where another program could
// impersonate the client (RFC 8252 §8.6).
func (d Destination) OnDevice() bool { return d.Loopback || d.Scheme != "" }

// ResourceCard is an MCP server as it is shown to people.
type ResourceCard struct {
	Name       string // "" is shown as an MCP server
	Identifier string
}

// ResourceCard returns the card of the MCP server of a.
func (a *Authorization) ResourceCard() ResourceCard {
	return ResourceCard{Name: a.Resource.Name, Identifier: a.Resource.Identifier}
}
