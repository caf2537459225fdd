package authorize

import (
	"embed"

	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/web"
)

//go:embed templates/*.html
var files embed.FS

var templates = web.ParseTemplates(files)

// Consent is the page that asks whether a client may act for the person. Its
// form is posted to /consent with decision=allow or decision=deny and, of each
// scope that is left ticked, scope=NAME. A person who is not Email is led back to /login
// with the request.
type Consent struct {
	Client   *interaction.ClientCard
	Email    string // of the person who is signed in
	Hinted   string // of the person whom the client expects, if that is another; else ""
	Resource interaction.ResourceCard
	Scopes   []ScopeLine // in the order they are shown; none: it only connects
	Error    string      // a sentence on why the page is shown again; "": none
	Request  string      // sealed authorization request, handed back as request
	CSRF     string      // token of the form, handed back as csrf
}

// ScopeLine is a scope that may be unticked.
type ScopeLine struct {
	Name        string
	Description string // in words; equal to Name when there are none
	New         bool   // the person has not allowed it to this client before, but others
	Ticked      bool
}

// Page returns the page, with status 200.
func (v Consent) Page() web.Page { return templates.Page("consent.html", v).AnswersClient() }

// Answered says that a request was answered before, and how.
type Answered struct {
	Client   *interaction.ClientCard
	Resource interaction.ResourceCard
	Allowed  bool // by the answer that counts; else it was denied
	Other    bool // by another person
	Over     bool // and what was allowed has ended since
}

// Page returns the page, with status 200.
func (v Answered) Page() web.Page { return templates.Page("answered.html", v) }

// Return says what is wrong with a request, and offers a form that is posted to
// /consent/return and tells the client.
type Return struct {
	Message   string // what is wrong, a sentence
	Code      string // OAuth error code, for developers
	RequestID string // by which the log knows the request
	To        interaction.Destination
	Held      string // sealed redirect, handed back as return
	CSRF      string // token of the form, handed back as csrf
}

// Page returns the page, with status 200.
func (v Return) Page() web.Page { return templates.Page("return.html", v).AnswersClient() }
