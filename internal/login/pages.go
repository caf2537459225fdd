package login

import (
	"embed"
	"html/template"
	"net/url"

	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/web"
)

//go:embed templates/*.html
var files embed.FS

var templates = web.ParseTemplates(files)

// SignIn is the page that asks who the person is. The form of passwords, with the inputs email and password, is posted
// to /login.
type SignIn struct {
	Password bool                      // whether it has that form
	Forgot   bool                      // people can have a link to set a new password sent to them
	Passkey  Passkey                   // the zero Passkey: people do not sign in with passkeys
	Routed   bool                      // addresses of some domains need no password, because they lead to a provider
	Last     *Way                      // the one that was used last with this browser, by a link; nil: none
	Ways     []Way                     // other ways to sign in, by links
	Client   *interaction.ClientCard   // that sent the person here; nil: the person came without one
	Resource *interaction.ResourceCard // that the client wants to use; nil: none
	Email    string                    // filled in
	Error    string                    // a sentence on why the last attempt failed; "": none
	Wrong    bool                      // the address and the password are at fault
	Request  string                    // sealed authorization request, handed back as request; "": none
	Return   string                    // path of the page of ours that asked for it, handed back as return; "": none
	SignUp   string                    // path and query of the page on which people make accounts; "": they do not
	Again    bool                      // that page needs a recent sign-in, and the person is signed in for longer
	CSRF     string                    // token of the form, handed back as csrf

	browser string // web.Browser.Hash
}

// Passkey is the part of a page with which people sign in by a passkey. Its form, with the input passkey that a script
// fills in, is posted to /login/passkey.
type Passkey struct {
	Options string // PublicKeyCredentialRequestOptions in JSON
	Request string // sealed authorization request, handed back as request; "": none
	Return  string // path, handed back as return; "": none
	CSRF    string // token of the form, handed back as csrf
	Last    bool   // it is what was used last with this browser
}

// Way is a way to sign in that begins by following a link.
type Way struct {
	Name string
	Path string // with its query
}

// Page returns the page, with status 200.
func (v SignIn) Page() web.Page {
	page := templates.Page("sign-in.html", v)
	if v.Passkey.Options != "" {
		page = page.Scripted()
	}
	if v.Request != "" || v.Routed { // the form may lead to a provider
		return page.AnswersClient()
	}
	return page
}

// ByEmail is the page that asks to which address a link and a code are sent. Its form, with the input email, is posted
// to /login/email.
type ByEmail struct {
	Client   *interaction.ClientCard   // that sent the person here; nil: the person came without one
	Resource *interaction.ResourceCard // that the client wants to use; nil: none
	Email    string                    // filled in
	Error    string                    // a sentence on why the last form did nothing; "": none
	Away     bool                      // the form may lead to a provider
	Others   string                    // path of the page with other ways to sign in; "": there are none
	Request  string                    // sealed authorization request, handed back as request; "": none
	Return   string                    // path, handed back as return; "": none
	CSRF     string                    // token of the form, handed back as csrf
}

// Page returns the page, with status 200.
func (v ByEmail) Page() web.Page {
	return within(templates.Page("by-email.html", v), v.Request != "" || v.Away)
}

// ByCode is the page that asks for the code that was sent. Its form, with the input code, is posted to /login/email.
type ByCode struct {
	Email   string // that was typed
	Error   string // a sentence on why the last code did nothing; "": none
	Sent    string // the sealed sent, handed back as sent
	Request string // sealed authorization request, handed back as request; "": none
	Return  string // path, handed back as return; "": none
	CSRF    string // token of the forms, handed back as csrf
}

// Page returns the page, with status 200.
func (v ByCode) Page() web.Page { return within(templates.Page("by-code.html", v), v.Request != "") }

// ByLink is the page to which the link in a mail leads: with a button that signs in, or in another browser than the one
// that asked for the link with the code to type there.
type ByLink struct {
	Email  string // to which the link was sent
	Code   string // "": this is the browser that asked
	Token  string // handed back as token
	CSRF   string // token of the form, handed back as csrf
	Within bool   // the sign-in is for an authorization request
}

// Page returns the page, with status 200.
func (v ByLink) Page() web.Page { return within(templates.Page("by-link.html", v), v.Within) }

// within returns a page whose form may lead to a redirect to a client, or to a provider.
func within(page web.Page, is bool) web.Page {
	if is {
		return page.AnswersClient()
	}
	return page
}

// SignedIn is the page that says who is signed in. Its form to sign out is posted to /logout.
type SignedIn struct {
	Email string
	Error string // a sentence on why the last form did nothing; "": none
	CSRF  string // token of the form, handed back as csrf
}

// Page returns the page, with status 200.
func (v SignedIn) Page() web.Page { return templates.Page("signed-in.html", v) }

// Over is the page that says that a sign-in elsewhere is over, and where to go on.
type Over struct {
	Email string // of who is signed in; "": nobody
	Next  string // path where the person goes on; "": nowhere in particular
}

// Page returns the page, with status 200.
func (v Over) Page() web.Page { return templates.Page("over.html", v) }

// Home is the page that says what this server is, for people who open its address.
type Home struct {
	Admin bool // there is a console
	New   bool // it has no owner yet
}

// Page returns the page, with status 200.
func (v Home) Page() web.Page { return templates.Page("home.html", v) }

// SignedOut is the page that says that the person is signed out.
type SignedOut struct{}

// Page returns the page, with status 200.
func (v SignedOut) Page() web.Page { return templates.Page("signed-out.html", v) }

// Second is the page that asks for the second factor of a sign-in, or for what sets it up. Its form, with the input
// code, is posted to /login/second.
type Second struct {
	Email   string
	Error   string  // a sentence on why the last attempt failed; "": none
	App     bool    // the person has an authenticator app
	Passkey Passkey // the zero Passkey: the person has none
	SetUp   SetUp   // the zero SetUp: the person has a second factor
	Half    string  // the sealed half, handed back as half
	Request string  // sealed authorization request, handed back as request; "": none
	Return  string  // path, handed back as return; "": none
	CSRF    string  // token of the form, handed back as csrf
}

// Page returns the page, with status 200.
func (v Second) Page() web.Page {
	page := templates.Page("second.html", v)
	if v.Passkey.Options != "" {
		page = page.Scripted()
	}
	if v.Request != "" {
		return page.AnswersClient()
	}
	return page
}

// SetUp is what a person needs to set up an authenticator app.
type SetUp struct {
	QR     template.HTML // an SVG element
	Link   template.URL  // opens the app on the same device
	Secret string        // the same to type
	Sealed string        // handed back as set_up
}

// RecoveryCodes is the page that shows new recovery codes, once.
type RecoveryCodes struct {
	Codes  []string
	Next   string     // the path that follows
	Fields url.Values // and its parameters
}

// Page returns the page, with status 200.
func (v RecoveryCodes) Page() web.Page { return templates.Page("codes.html", v).AnswersClient() }
