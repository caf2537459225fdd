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

// Application is a client as people are shown it.
type Application struct {
	Name     string // client_name as the client gave it; "" is shown as an unnamed application
	ID       string // client_id; of a URL the host is set out
	Approved bool   // an operator vouches for it; else it is called unverified
}

// Host is the host of a client_id that is a URL, "" of any other: the one part of
// what a client says of itself that it could not make up.
func (a Application) Host() string {
	u, err := url.Parse(a.ID)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return u.Host
}

// Destination is where the answer to an authorization request goes.
type Destination struct {
	Host     string // of an http or https redirect URI, "vscode.dev"; else ""
	Scheme   string // of a private-use redirect URI, "cursor"; else ""
	Loopback bool   // Host is this computer

	// LoopbackOnly tells that the client answers nowhere but on this computer
	// (oauth.LoopbackOnly), where any program can pretend to be it. DestinationOf
	// leaves it to the caller.
	LoopbackOnly bool
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

// Target is an MCP server as people are shown it.
type Target struct {
	Name       string // "" is shown as an MCP server
	Identifier string
}

// SignIn is the page that asks who the person is: a form with the inputs email
// and password that is posted to /login.
type SignIn struct {
	Client  *Application // who sent the person here; nil: nobody, they came by themselves
	Target  *Target      // where it wants to; nil: not known
	Email   string       // filled in
	Error   string       // a sentence on why the last attempt failed; "": none
	Request string       // sealed authorization request, handed back as request; "": none
	CSRF    string       // token of the form, handed back as csrf
}

// Page returns the page. Its status is 200 even with an Error, unless the caller
// sets another.
func (v SignIn) Page() Page {
	return Page{template: "sign-in.html", view: v, within: v.Request != ""}
}

// Consent is the page that asks whether a client may act for the person. Its
// form is posted to /consent with decision=allow or decision=deny and, of each
// ticked scope, scope=NAME. A second form, posted to /logout, is for who is not
// User.
type Consent struct {
	Client      Application
	User        string // e-mail address of who is signed in
	Destination Destination
	Target      Target
	Scopes      []Choice // in the order they are shown; none: only that it connects
	Request     string   // sealed authorization request, handed back as request by both forms
	CSRF        string   // token of the decision, handed back as csrf
	SignOutCSRF string   // token of the sign-out form, handed back as csrf
}

// Choice is a scope that may be ticked.
type Choice struct {
	Name        string
	Description string // in words; equal to Name when there are none
	Checked     bool   // ticked when the page is shown
	New         bool   // the person has not allowed it to this client before, but others
}

// Page returns the page, with status 200.
func (v Consent) Page() Page {
	return Page{template: "consent.html", view: v, within: true}
}

// SignedIn is what /login shows to who is signed in and was sent by nobody.
type SignedIn struct {
	Email string
	CSRF  string // token of the sign-out form, posted to /logout
}

// Page returns the page, with status 200.
func (v SignedIn) Page() Page { return Page{template: "signed-in.html", view: v} }

// SignedOut says that the session is over.
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
func (v Failure) Page() Page { return Page{Status: v.Status, template: "failure.html", view: v} }
