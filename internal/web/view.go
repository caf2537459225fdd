package web

import (
	"embed"
	"html/template"
	"net/url"
	"strings"

	"github.com/cardea-auth/cardea/internal/oauth"
)

//go:embed templates/*.html
var templates embed.FS

// pages are all templates. Names that strangers chose go through display, and
// are set apart by <bdi> from the text around them.
var pages = template.Must(template.New("").Option("missingkey=error").Funcs(template.FuncMap{
	"asset":   assetPath,
	"display": DisplayName,
}).ParseFS(templates, "templates/*.html"))

// ClientCard is a client as people are shown it.
type ClientCard struct {
	Name        string // client_name as the client gave it; "" is shown as an unnamed application
	ID          string // client_id; of a URL the host is set out
	Approved    bool   // an operator vouches for it; else it is called unverified
	Logo        string // path of ours where its picture is; "": none is shown
	Destination Destination
}

// CardOf returns the card of a client whose answer goes to a checked redirect URI.
func CardOf(c *oauth.Client, redirectURI string) *ClientCard {
	d := DestinationOf(redirectURI)
	d.LoopbackOnly = oauth.LoopbackOnly(c.RedirectURIs)
	return &ClientCard{Name: c.Name, ID: c.ID, Approved: c.Approved(), Destination: d}
}

// Host is the host of a client_id that is a URL, "" of any other: the one part of
// what a client says of itself that it could not make up.
func (c ClientCard) Host() string {
	u, err := url.Parse(c.ID)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return u.Host
}

// Destination is where the answer to an authorization request goes.
type Destination struct {
	Host     string // of an http or https redirect URI, "agent.example"; else ""
	Scheme   string // of a private-use redirect URI, "cursor"; else ""
	Loopback bool   // Host is this computer

	// LoopbackOnly tells that the client answers nowhere but on this computer,
	// where any program can pretend to be it (RFC 8252 §8.6).
	LoopbackOnly bool
}

// DestinationOf returns the destination that a checked redirect URI is. It
// leaves LoopbackOnly to who knows the client's other redirect URIs.
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

// ResourceCard is an MCP server as people are shown it.
type ResourceCard struct {
	Name       string // "" is shown as an MCP server
	Identifier string
}

// SignIn is the page that asks who the person is: a form with the inputs email
// and password that is posted to /login.
type SignIn struct {
	Client  *ClientCard // who sent the person here; nil: nobody, they came by themselves
	Email   string      // filled in
	Error   string      // a sentence on why the last attempt failed; "": none
	Request string      // sealed authorization request, handed back as request; "": none
	CSRF    string      // token of the form, handed back as csrf
}

// Page returns the page, with status 200.
func (v SignIn) Page() Page {
	return Page{template: "sign-in.html", view: v, within: v.Request != ""}
}

// Consent is the page that asks whether a client may act for the person. Its
// form is posted to /consent with decision=allow or decision=deny and, of each
// scope that is left ticked, scope=NAME. Who is not Email is led back to /login
// with the request.
type Consent struct {
	Client   *ClientCard
	Email    string // of who is signed in
	Resource ResourceCard
	Scopes   []ScopeLine // in the order they are shown; none: it only connects
	Request  string      // sealed authorization request, handed back as request
	CSRF     string      // token of the form, handed back as csrf
}

// ScopeLine is a scope that may be unticked.
type ScopeLine struct {
	Name        string
	Description string // in words; equal to Name when there are none
	New         bool   // the person has not allowed it to this client before, but others
}

// Page returns the page, with status 200.
func (v Consent) Page() Page {
	return Page{template: "consent.html", view: v, within: true}
}

// SignedIn says who is signed in, and offers to sign out: a form that is posted
// to /logout.
type SignedIn struct {
	Email string
	CSRF  string // token of the form, handed back as csrf
}

// Page returns the page, with status 200.
func (v SignedIn) Page() Page { return Page{template: "signed-in.html", view: v} }

// SignedOut says that nobody is signed in any more.
type SignedOut struct{}

// Page returns the page, with status 200.
func (v SignedOut) Page() Page { return Page{template: "signed-out.html", view: v} }

// Failure says why there is nothing else to show. It links nowhere.
type Failure struct {
	Status    int    // of the response
	Title     string // a few words
	Message   string // what is wrong, a sentence; may quote the request
	Hint      string // what the person can do, "" for nothing
	Code      string // OAuth error code, for developers
	RequestID string // by which the log knows the request
}

// Page returns the page, with Status.
func (v Failure) Page() Page { return Page{status: v.Status, template: "failure.html", view: v} }
