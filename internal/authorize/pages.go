package authorize

import (
	"embed"
	"fmt"
	"slices"

	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

//go:embed templates/*.html
var files embed.FS

var templates = web.ParseTemplates(files)

// Consent is the page that asks whether a client may act for the person. Its form is posted to /consent with
// decision=allow or decision=deny, with scope=NAME for each ticked scope and with duration. With select=read or
// select=all the same page is the response, with the boxes of those scopes ticked. A link to /login lets another person
// than Email sign in for the same request.
type Consent struct {
	Client   *interaction.ClientCard
	Email    string // of the person who is signed in
	Hinted   string // of the person whom the client expects if it is not Email; else ""
	Resource interaction.ResourceCard
	Scopes   []ScopeLine // in the order in which they are shown; if empty, the client only connects
	// Durations are the choices of how long the client may act.
	Durations []DurationChoice
	Error     string // a sentence on why the page is shown again; "": none
	Request   string // sealed authorization request, handed back as request
	Shown     string // the names of Scopes, handed back as shown
	CSRF      string // token of the form, handed back as csrf
}

// DurationChoice is a length of time for which the person can let the client act.
type DurationChoice struct {
	Value, Label string
	Chosen       bool
}

// ScopeLine is a scope that the person can untick.
type ScopeLine struct {
	Name        string
	Description string // in words; equal to Name when there are none
	New         bool   // the person has allowed this client other scopes before, but not this one
	Ticked      bool
	Named       bool       // the client asked for it by name, so that it may not do without
	Risk        oauth.Risk // "": not said
	Opens       Opened     // if the tools of the MCP server are known
}

// ScopeGroup is a group of scopes under one heading.
type ScopeGroup struct {
	Heading string
	Lines   []ScopeLine
	Folded  bool // the person allowed them before, and left all of them ticked
	Grave   bool // they let the client act in the person's name
}

// Groups returns the scopes as they are grouped on the page. If some are new, these come first, and those that were
// allowed before are folded. Otherwise they are grouped by risk, the highest first, and those without a stated risk
// last.
func (v Consent) Groups() []ScopeGroup {
	pick := func(heading string, belongs func(ScopeLine) bool) ScopeGroup {
		group := ScopeGroup{Heading: heading}
		for _, line := range v.Scopes {
			if belongs(line) {
				group.Lines = append(group.Lines, line)
			}
		}
		return group
	}
	risky := func(risks ...oauth.Risk) func(ScopeLine) bool {
		return func(line ScopeLine) bool { return slices.Contains(risks, line.Risk) }
	}
	groups := []ScopeGroup{
		pick("It will be able to act in your name:", risky(oauth.RiskAct)),
		pick("It will be able to change:", risky(oauth.RiskChange)),
		pick("It will be able to look at:", risky(oauth.RiskRead)),
		pick("It will be able to:", risky("")),
	}
	groups[0].Grave = true
	if fresh := v.New(); fresh > 0 {
		heading := "It asks for one more permission:"
		if fresh > 1 {
			heading = fmt.Sprintf("It asks for %d more permissions:", fresh)
		}
		groups = []ScopeGroup{pick(heading, func(line ScopeLine) bool { return line.New }),
			pick("You allowed before:", func(line ScopeLine) bool { return !line.New })}
		groups[1].Folded = !slices.ContainsFunc(groups[1].Lines, func(line ScopeLine) bool { return !line.Ticked })
	}
	return slices.DeleteFunc(groups, func(group ScopeGroup) bool { return len(group.Lines) == 0 })
}

// Choosable reports whether the page has more than one kind of scopes to choose from, so that a button ticks one kind.
func (v Consent) Choosable() bool {
	read := func(line ScopeLine) bool { return line.Risk == oauth.RiskRead }
	return slices.ContainsFunc(v.Scopes, read) && slices.ContainsFunc(v.Scopes, func(line ScopeLine) bool {
		return !read(line) && line.Name != oauth.OfflineAccess
	})
}

// New returns the number of new scopes (see ScopeLine).
func (v Consent) New() (n int) {
	for _, line := range v.Scopes {
		if line.New {
			n++
		}
	}
	return n
}

// Page returns the page, with status 200.
func (v Consent) Page() web.Page { return templates.Page("consent.html", v).AnswersClient() }

// Wait is the page that says that an operator has to approve the client. It loads itself again until one has decided.
// Its form is posted to /consent/stop and denies the request.
type Wait struct {
	Client   *interaction.ClientCard
	Email    string // of the person who is signed in
	Resource interaction.ResourceCard
	Request  string // sealed authorization request, handed back as request
	CSRF     string // token of the form, handed back as csrf
}

// Page returns the page, with status 200.
func (v Wait) Page() web.Page {
	return templates.Page("wait.html", v).AnswersClient().LoadsAgain(lookAgain)
}

// Outside is the page that says that the person may not use an MCP server, and whom to ask. Its form is posted to
// /consent/return and tells the client.
type Outside struct {
	Client   *interaction.ClientCard
	Email    string // of the person who is signed in
	Resource interaction.ResourceCard
	Request  string // sealed authorization request, with which another person can sign in
	Held     string // sealed redirect, handed back as return
	CSRF     string // token of the form, handed back as csrf
}

// Page returns the page, with status 200.
func (v Outside) Page() web.Page { return templates.Page("outside.html", v).AnswersClient() }

// Answered is the page that says that a request was answered before, and how.
type Answered struct {
	Client   *interaction.ClientCard
	Resource interaction.ResourceCard
	Allowed  bool // by the answer that counts; else it was denied
	Other    bool // by another person
	Over     bool // and what was allowed has ended since
}

// Page returns the page, with status 200.
func (v Answered) Page() web.Page { return templates.Page("answered.html", v) }

// Return is the page that says what is wrong with a request. Its form is posted to /consent/return and sends the
// refusal to the client.
type Return struct {
	Message   string // what is wrong, a sentence
	Code      string // OAuth error code, for developers
	RequestID string // the id of the request in the log
	To        interaction.Destination
	Held      string // sealed redirect, handed back as return
	CSRF      string // token of the form, handed back as csrf
	Again     string // for a request that is too old: the path and query of the same request; "" if it cannot be made
}

// Page returns the page, with status 200.
func (v Return) Page() web.Page { return templates.Page("return.html", v).AnswersClient() }
