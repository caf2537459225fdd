package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A rule recognises one way in which users found a server misconfigured. The rows of docs/guides/doctor.md have the
// same numbers; 0 is a rule that no row is about.
type rule struct {
	row     int
	id      string
	party   Party
	clients []string
	// expected and fix may have {endpoint}, {origin}, {prm}, {resource}, {issuer} and {host}, which are filled in.
	expected, fix string
	source        string // the standard, and reports of users
	judge         func(*facts) []finding
}

// finding is what a rule found. What is empty is the rule's.
type finding struct {
	status Status
	found  string

	id            string
	party         Party
	expected, fix string
	clients       []string
}

func fails(format string, args ...any) []finding {
	return []finding{{status: Fail, found: fmt.Sprintf(format, args...)}}
}

func warns(format string, args ...any) []finding {
	return []finding{{status: Warn, found: fmt.Sprintf(format, args...)}}
}

func informs(format string, args ...any) []finding {
	return []finding{{status: OK, found: fmt.Sprintf(format, args...)}}
}

// either returns a failure if bad, and otherwise a warning.
func either(bad bool, format string, args ...any) []finding {
	if bad {
		return fails(format, args...)
	}
	return warns(format, args...)
}

// A Row describes a rule, for those who read the table.
type Row struct {
	Number        int
	ID            string
	Party         Party
	Expected, Fix string
	Source        string
}

// Rows returns the rules that have a number, in the order of the numbers.
func Rows() (rows []Row) {
	for _, r := range rules() {
		if r.row > 0 {
			rows = append(rows, Row{r.row, r.id, r.party, r.expected, r.fix, r.source})
		}
	}
	slices.SortStableFunc(rows, func(a, b Row) int { return a.Number - b.Number })
	return rows
}

func rules() []rule {
	return slices.Concat(serverRules, networkRules, authorizationServerRules, flowRules)
}

// checks are all ids, in the order of a report: whose matter each is, and what there is to say if no rule found
// anything: what was found, or why nobody looked.
var checks = []struct {
	id    string
	party Party
	look  func(*facts) (found, skipped string)
}{
	{"reachable", Network, func(f *facts) (string, string) { return f.reach(), "" }},
	{"tls", MCPServer, func(f *facts) (string, string) {
		if f.endpoint.Scheme == "https" {
			return "the certificate is valid for " + f.endpoint.Hostname(), ""
		}
		return "http on this computer, which needs no certificate", ""
	}},
	{"redirects", Network, always("the endpoint answers itself")},
	{"clock", Host, func(f *facts) (string, string) {
		if len(f.skews) == 0 {
			return "", "no response has a Date"
		}
		return "the clocks agree with that of this computer", ""
	}},
	{"challenge", MCPServer, always("401 with a challenge that names the metadata")},
	{"challenge.scope", MCPServer, func(f *facts) (string, string) {
		if scope := f.challenge.parameters["scope"]; scope != "" {
			return "the challenge asks for " + short(scope), ""
		}
		return "", "there is no challenge"
	}},
	{"bogus_token", MCPServer, func(f *facts) (string, string) {
		return "a token that nobody issued is refused with " + tell(f.bogus), ""
	}},
	{"user_agents", Network, func(f *facts) (string, string) {
		return fmt.Sprintf("the same answer to %d programs; what is blocked by source address cannot be seen from here",
			len(f.agents)), ""
	}},
	{"get", MCPServer, func(f *facts) (string, string) { return "GET is answered with " + tell(f.get), "" }},
	{"session", MCPServer, func(f *facts) (string, string) {
		switch {
		case f.oldSession.tried():
			return "an unknown session is answered with 404", ""
		case f.open():
			return "the server keeps no sessions", ""
		}
		return "", "the server begins a session only with a token"
	}},
	{"cors", MCPServer, always("web pages may call the server and read its answers")},
	{"prm.path", MCPServer, func(f *facts) (string, string) { return f.path.url + " is served", "" }},
	{"prm.root", MCPServer, func(f *facts) (string, string) {
		if f.root.url == f.path.url {
			return "the server is at the root, so that both are one", ""
		}
		return f.root.url + " is served", ""
	}},
	{"prm.resource", MCPServer, needsPRM(func(f *facts) string {
		return "resource is " +
			short(f.prm().text("resource"))
	})},
	{"prm.authorization_servers", MCPServer, needsPRM(func(f *facts) string {
		return "tokens come from " + f.server().issuer
	})},
	{"prm.scopes", MCPServer, func(f *facts) (string, string) {
		list, where := f.scopes()
		return fmt.Sprintf("%s has %s", where, short(strings.Join(list, " "))), ""
	}},
	{"as.oauth", AuthorizationServer, needsAS(func(f *facts) string { return f.server().forms[0].url + " is served" })},
	{"as.openid", AuthorizationServer,
		needsAS(func(f *facts) string { return f.server().forms[1].url + " is served" })},
	{"as.issuer", AuthorizationServer, needsAS(func(f *facts) string {
		return "issuer is " +
			short(f.as().text("issuer"))
	})},
	{"as.pkce", AuthorizationServer, needsAS(func(*facts) string { return "S256 is advertised" })},
	{"as.iss", AuthorizationServer, needsAS(func(*facts) string { return "iss in responses is advertised" })},
	{"as.registration", AuthorizationServer, needsAS(func(f *facts) string {
		if f.as().members["client_id_metadata_document_supported"] == true {
			return "clients may register, and may have a metadata document"
		}
		return "clients may register"
	})},
	{"as.none", AuthorizationServer, needsAS(func(*facts) string { return "public clients (none) are welcome" })},
	{"as.grants", AuthorizationServer, needsAS(func(*facts) string { return "authorization_code and refresh_token" })},
	{"as.jwks", AuthorizationServer, needsAS(func(f *facts) string {
		keys, _ := f.keys.members["keys"].([]any)
		return f.keys.url + " has " + count(len(keys), "key")
	})},
	{"register", AuthorizationServer, func(f *facts) (string, string) {
		if f.registered.skipped != "" {
			return "", f.registered.skipped
		}
		if f.options.ClientID != "" {
			return "the authorization request of the client was accepted", ""
		}
		return "a client registered, and its authorization request was accepted", ""
	}},
	{"login", AuthorizationServer,
		needsLogin(func(*facts) string { return "the person came back with a code, and it gave a token" })},
	{"login.audience", AuthorizationServer, needsLogin(func(f *facts) string {
		return "the token is " +
			f.login.describe()
	})},
	{"login.refresh", AuthorizationServer, func(f *facts) (string, string) {
		switch {
		case f.login.refreshed.tried():
			return "the token was refreshed", ""
		case f.registered.bogusRefresh.tried():
			return "a refresh token that nobody issued is refused with invalid_grant", ""
		}
		return needsLogin(func(*facts) string { return "" })(f)
	}},
	{"login.tools", MCPServer, needsLogin(func(f *facts) string { return f.login.toolsSeen() })},
}

func always(found string) func(*facts) (string, string) {
	return func(*facts) (string, string) { return found, "" }
}

func needsPRM(found func(*facts) string) func(*facts) (string, string) {
	return func(f *facts) (string, string) {
		if !f.prm().ok() {
			return "", "there is no metadata of the resource"
		}
		return found(f), ""
	}
}

func needsAS(found func(*facts) string) func(*facts) (string, string) {
	return func(f *facts) (string, string) {
		if !f.as().ok() {
			return "", "there is no metadata of the authorization server"
		}
		return found(f), ""
	}
}

func needsLogin(found func(*facts) string) func(*facts) (string, string) {
	return func(f *facts) (string, string) {
		if !f.login.done {
			return "", cmp.Or(f.login.skipped, "the sign-in did not end in a token")
		}
		return found(f), ""
	}
}

// regardless are the ids that say something of every server, also of one without OAuth, and ofTheWay those that say
// something even if there is no server.
var (
	regardless = []string{"reachable", "tls", "redirects", "clock", "user_agents", "get", "session", "cors"}
	ofTheWay   = []string{"reachable", "tls", "redirects", "clock"}
)

// skipped returns why id was not looked at, or "".
func (f *facts) skipped(id string) string {
	switch {
	case !f.reached() && id != "reachable" && id != "tls":
		return "the server cannot be reached"
	case !f.reached():
		return "no connection was made"
	case slices.Contains(ofTheWay, id):
		return ""
	case f.initialize.status >= 500:
		return "the server answers with an error of its own"
	case !f.isServer():
		return "there is no MCP server at this URL"
	case f.asks() || slices.Contains(regardless, id):
		return ""
	}
	return "the server asks for no authorization"
}

// judge applies the rules.
func judge(f *facts) (all []Check) {
	fill := strings.NewReplacer("{endpoint}", f.endpoint.String(), "{origin}", f.host(), "{host}",
		f.endpoint.Hostname(), "{prm}", wellKnown(f.endpoint, "oauth-protected-resource"), "{resource}", f.resource(),
		"{issuer}", f.server().issuer)
	found := map[string][]Check{}
	for _, r := range rules() {
		if why := f.skipped(r.id); why != "" && r.id != "reachable" && r.id != "tls" {
			continue
		}
		for _, n := range r.judge(f) {
			c := Check{ID: cmp.Or(n.id, r.id), Status: n.status, Party: cmp.Or(n.party, r.party), Found: n.found,
				Expected: fill.Replace(cmp.Or(n.expected, r.expected)), Fix: fill.Replace(cmp.Or(n.fix, r.fix)),
				Clients: n.clients, Source: r.source}
			if c.Clients == nil {
				c.Clients = r.clients
			}
			if c.Clients == nil {
				c.Clients = []string{}
			}
			found[c.ID] = append(found[c.ID], c)
		}
	}
	for _, c := range checks {
		if list := found[c.id]; len(list) > 0 {
			all = append(all, list...)
			continue
		}
		seen, why := "", f.skipped(c.id)
		if why == "" {
			seen, why = c.look(f)
		}
		check := Check{ID: c.id, Status: OK, Party: c.party, Found: seen, Clients: []string{}}
		if why != "" {
			check.Status, check.Found = Skip, why
		}
		all = append(all, check)
	}
	return all
}

// reach says what is at the endpoint.
func (f *facts) reach() string {
	name := func(a answer) string {
		info, _ := a.result()["serverInfo"].(map[string]any)
		return text(info["name"])
	}
	eras := []string{}
	if f.initialize.result() != nil {
		eras = append(eras, protocol)
	}
	if f.discover.result() != nil {
		eras = append(eras, stateless)
	}
	switch {
	case len(eras) > 0:
		return fmt.Sprintf("%s answers without a token (MCP %s)", cmp.Or(name(f.initialize), "the server"),
			strings.Join(eras, " and "))
	case f.asks():
		return fmt.Sprintf("initialize is answered with %s, server/discover with %s", tell(f.initialize),
			tell(f.discover))
	}
	return "initialize is answered with " + tell(f.initialize)
}
