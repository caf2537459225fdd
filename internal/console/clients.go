package console

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// clientRoutes are the pages of the clients.
func (e *Endpoint) clientRoutes() []web.Route {
	return []web.Route{
		e.route("/admin/clients", e.show(e.clients), e.do(admin.Clients, "client.create", e.createClient)),
		e.route("/admin/clients/new", e.show(e.offer(admin.Clients, "client.create", e.newClient)), nil),
		e.route("/admin/clients/{id}", e.show(e.client), nil),
		e.form("/admin/clients/{id}/edit", admin.Clients, "client.update", e.editClient, e.changeClient),
		e.form("/admin/clients/{id}/approve", admin.Clients, "client.approve", nil,
			e.onClient("client.approved", e.Operations.ApproveClient)),
		e.form("/admin/clients/{id}/unapprove", admin.Clients, "client.unapprove", e.askUnapprove, e.unapprove),
		e.form("/admin/clients/{id}/enable", admin.Clients, "client.enable", nil,
			e.freshlyIfDeciding(e.onClient("client.enabled", e.Operations.EnableClient))),
		e.form("/admin/clients/{id}/disable", admin.Clients, "client.disable", e.confirmDisableClient,
			e.onClient("client.disabled", e.Operations.DisableClient)),
		e.form("/admin/clients/{id}/rotate-secret", admin.Clients, "client.rotate_secret", e.fresh(e.confirmRotate),
			e.freshly(e.rotateSecret)),
		e.form("/admin/clients/{id}/delete", admin.Clients, "client.delete", e.confirmDeleteClient,
			e.freshlyIfDeciding(e.deleteClient)),
	}
}

// freshlyIfDeciding is freshly for a client that may operate this server or signs people in.
func (e *Endpoint) freshlyIfDeciding(change changer) changer {
	return func(v *visit, form url.Values) (outcome, error) {
		c, err := e.Operations.Client(v.Context(), v.caller, v.id())
		switch {
		case err != nil:
			return nil, err
		case c.Login, e.Operations.IsCredentials(c):
			return e.freshly(change)(v, form)
		}
		return change(v, form)
	}
}

// clientPath returns the path of the page of a client, whose id may be a URL.
func clientPath(id string) string { return "/admin/clients/" + url.PathEscape(id) }

// clientName returns what a client is called on a page.
func clientName(c admin.Client) string { return calledClient(c.Name, c.ID) }

// calledClient is clientName for a client that may be deleted.
func calledClient(name, id string) string { return cmp.Or(web.DisplayName(name), id) }

// clientList is the body of the list of clients.
type clientList struct {
	Clients []folded
	Query   string
	Origin  string
	Next    string
}

func (l clientList) next() string { return l.Next }

// folded are clients that registered with the same name and the same addresses, as programs do that register again for
// each person or each start: one line of the list.
type folded struct {
	admin.Client
	Others []admin.Client
}

// fold puts identical registrations that are on the same page of the list together. The first of them keeps its place.
func fold(clients []admin.Client) []folded {
	var lines []folded
	at := map[string]int{}
	for _, c := range clients {
		key := c.Name + "\n" + strings.Join(c.RedirectURIs, "\n")
		i, known := at[key]
		if known && c.Origin == oauth.ByRegistration && c.State == admin.StateUnverified &&
			lines[i].Origin == c.Origin && lines[i].State == c.State {
			lines[i].Others = append(lines[i].Others, c)
			continue
		}
		at[key] = len(lines)
		lines = append(lines, folded{Client: c})
	}
	return lines
}

func (e *Endpoint) clients(v *visit) (outcome, error) {
	list := clientList{Query: strings.TrimSpace(v.query.Get("q")), Origin: v.query.Get("origin")}
	query := admin.ClientQuery{Origin: oauth.Origin(list.Origin)}
	clients, next, err := e.Operations.Clients(v.Context(), v.caller, query, v.searched(list.Query))
	list.Clients, list.Next = fold(clients), next
	return screen{template: "clients.html", title: "Clients", body: list}, err
}

// clientForm is the body of the page that creates or changes a client.
type clientForm struct {
	ID           string // "" if it is new
	Name         string
	Kind         string // "app", "public", "machine" or "server"
	RedirectURIs string // one a line
	Scope        string
	Resources    []string // identifiers
	AnyResource  bool     // a machine may ask for tokens for all of them
	Life         string   // of its access tokens, as it is typed
	JWKS         string   // its public keys
	JWKSURI      string   // or where they are
	Servers      []admin.Resource
	Typed        bool // there are more of them, to be typed
	Described    bool // by its metadata document, so that its name, addresses and keys cannot be changed here
	Machine      bool
	Signs        bool // it has keys, and no secret
	Field        string
}

// Bare reports whether the client is credentials that get no tokens, so that there is little to change.
func (f *clientForm) Bare() bool { return f.ID != "" && (f.Kind == "server" || f.Kind == "login") }

// HasKeys reports whether the form shows the keys of the client.
func (f *clientForm) HasKeys() bool { return f.ID == "" || f.Signs && !f.Described }

// Others returns the identifiers to which the client is bound and that are not among the servers: of a part of Cardea
// itself, of a server that is deleted, or of one beyond those that the form offers.
func (f *clientForm) Others() (left []string) {
	for _, identifier := range f.Resources {
		if !slices.ContainsFunc(f.Servers, func(r admin.Resource) bool { return r.Identifier == identifier }) {
			left = append(left, identifier)
		}
	}
	return left
}

// kinds are what a client can be made for, with the words of the form.
var kinds = []struct{ Value, Name, Hint string }{
	{"public", "An application without a secret", "A program on people’s computers or phones, or in a browser. Most " +
		"agents are this, and register by themselves."},
	{"app", "An application with a secret",
		"A web application whose server keeps the secret and sends people here to sign in."},
	{"machine", "A machine", "A program that asks for tokens in its own name (client credentials)."},
	{"server", "MCP servers",
		"Credentials with which one or more MCP servers ask whether a token is still valid (introspection)."},
	{"login", "Your own sign-in page", "Credentials with which an application of yours says who has signed in there " +
		"(login.external). Only an owner makes them, because they sign in anybody."},
}

func (f *clientForm) Kinds() any { return kinds }

// maxServers bounds how many MCP servers a form offers to choose from.
const maxServers = 200

func (e *Endpoint) clientScreen(v *visit, f *clientForm, title, problem string) (outcome, error) {
	servers, next, err := e.Operations.Resources(v.Context(), v.caller, store.Page{Limit: maxServers})
	if err != nil {
		return nil, err
	}
	f.Servers, f.Typed = servers, next != ""
	s := screen{template: "client-form.html", title: title, body: f, problem: problem}
	if problem != "" {
		s.status = http.StatusUnprocessableEntity
	}
	return s, nil
}

func (e *Endpoint) newClient(v *visit) (outcome, error) {
	return e.clientScreen(v, &clientForm{Kind: "public"}, "Create a client", "")
}

// read fills the form in as it was posted.
func (f *clientForm) read(form url.Values) {
	f.Name, f.Kind = strings.TrimSpace(form.Get("name")), form.Get("kind")
	f.RedirectURIs, f.Scope = form.Get("redirect_uris"), form.Get("scopes")
	f.Resources = append(form["resource"], strings.Fields(form.Get("resources"))...)
	f.AnyResource, f.Life = form.Get("any_resource") != "", form.Get("access_token_ttl")
	f.JWKS, f.JWKSURI = strings.TrimSpace(form.Get("jwks")), strings.TrimSpace(form.Get("jwks_uri"))
}

// terms returns what the form states, or the input that is mistyped.
func (f *clientForm) terms() (terms admin.ClientTerms, mistyped string) {
	life, ok := spanOf(f.Life)
	if !ok {
		return terms, "access_token_ttl"
	}
	if !f.Described {
		terms.Name = &f.Name
	}
	if f.HasKeys() {
		if f.JWKS != "" {
			terms.JWKS = json.RawMessage(f.JWKS)
		}
		if f.JWKSURI != "" {
			terms.JWKSURI = &f.JWKSURI
		}
	}
	if f.Kind == "server" || f.Kind == "login" {
		if life != 0 {
			terms.AccessTokenTTL = &life
		}
		if f.Kind == "server" {
			terms.ResourceServers = append([]string{}, f.Resources...)
		}
		return terms, ""
	}
	words := strings.Join(strings.Fields(f.Scope), " ")
	terms.Scope, terms.AnyResource, terms.AccessTokenTTL = &words, f.AnyResource, &life
	if !f.AnyResource || len(f.Resources) > 0 {
		terms.Resources = append([]string{}, f.Resources...)
	}
	if !f.Described && f.Kind != "machine" {
		terms.RedirectURIs = append([]string{}, strings.Fields(f.RedirectURIs)...)
	}
	return terms, ""
}

// mistypedClient returns the form again, with what is wrong with one of its inputs.
func (e *Endpoint) mistypedClient(v *visit, f *clientForm, title, field string) (outcome, error) {
	f.Field = field
	return e.clientScreen(v, f, title, notSpan(field))
}

func (e *Endpoint) createClient(v *visit, form url.Values) (outcome, error) {
	const title = "Create a client"
	f := &clientForm{}
	f.read(form)
	terms, mistyped := f.terms()
	if mistyped != "" {
		return e.mistypedClient(v, f, title, mistyped)
	}
	n := admin.NewClient{ClientTerms: terms}
	if decides(f.Kind) && e.stale(v) {
		return away{e.later(v.Request, v.Browser, form, true)}, nil
	}
	switch f.Kind {
	case "public":
		if f.JWKS != "" || f.JWKSURI != "" {
			f.Field = "jwks"
			return e.clientScreen(v, f, title, "An application without a secret has no keys either. Leave them out, "+
				"or choose another kind.")
		}
		n.Method = oauth.MethodNone
		n.GrantTypes = []oauth.GrantType{oauth.AuthorizationCode, oauth.RefreshToken}
	case "app":
		n.GrantTypes = []oauth.GrantType{oauth.AuthorizationCode, oauth.RefreshToken}
	case "machine":
		n.GrantTypes = inOwnName()
	case "server":
		if len(f.Resources) == 0 {
			f.Field = "resources"
			return e.clientScreen(v, f, title, "Choose the MCP servers that these credentials are for.")
		}
	case "login":
		n.Login = true
	default:
		return e.clientScreen(v, f, title, "Choose what the client is.")
	}
	made, err := e.Operations.CreateClient(v.Context(), v.caller, n)
	if err != nil {
		return e.typedClient(v, f, title, err)
	}
	if made.Secret == "" {
		return redirect{clientPath(made.ID), "client.created"}, nil
	}
	return secretScreen(made, "The client is created and approved.", clientPath(made.ID)), nil
}

// decides reports whether clients of that kind may be able to operate this server, so that they need a recent sign-in:
// what a machine is allowed may be the Admin API, and what signs people in signs in an owner too.
func decides(kind string) bool { return kind == "machine" || kind == "login" }

// inOwnName returns the grant types by which a client asks for tokens in its own name.
func inOwnName() (found []oauth.GrantType) {
	for _, g := range oauth.GrantTypes() {
		if rule, _ := g.Rule(); rule.OwnName {
			found = append(found, g)
		}
	}
	return found
}

// typedClient returns the form again with the sentence on what is wrong, if an operation refused what was typed.
func (e *Endpoint) typedClient(v *visit, f *clientForm, title string, err error) (outcome, error) {
	field, problem, ok := v.wrong(err)
	if !ok {
		return nil, err
	}
	f.Field = field
	return e.clientScreen(v, f, title, problem)
}

// newSecret is the body of the page that shows a secret, once.
type newSecret struct {
	admin.Client
	Done string
	Back string
}

// secretScreen shows the secret of a client. It answers the form itself, because a redirect would have to carry the
// secret, and no page shows it again.
func secretScreen(c admin.Client, text, back string) screen {
	return screen{template: "secret.html", title: "The secret of " + clientName(c), body: newSecret{c, text, back}}
}

// clientPage is the body of the page of one client.
type clientPage struct {
	admin.Client
	Grants    []admin.Grant
	More      bool // it has more grants than are shown
	Secrets   bool // it has a secret
	Outranked bool // it may do more than the visitor
}

// fewGrants is how many grants the page of a client, a person or a server shows; the rest is a page of its own.
const fewGrants = 10

func (e *Endpoint) client(v *visit) (outcome, error) {
	c, err := e.Operations.Client(v.Context(), v.caller, v.id())
	if err != nil {
		return nil, err
	}
	page := v.page()
	page.After, page.Limit = "", fewGrants
	grants, next, err := e.Operations.Grants(v.Context(), v.caller, admin.GrantQuery{Client: c.ID, Live: true}, page)
	if err != nil {
		return nil, err
	}
	body := clientPage{Client: c, Grants: grants, More: next != "",
		Secrets: c.Method == oauth.MethodBasic || c.Method == oauth.MethodPost}
	outranked, err := e.Operations.Outranked(v.Context(), v.caller)
	body.Outranked = outranked(c)
	return screen{template: "client.html", title: clientName(c), body: body}, err
}

func (e *Endpoint) editClient(v *visit) (outcome, error) {
	c, err := e.Operations.Client(v.Context(), v.caller, v.id())
	if err != nil {
		return nil, err
	}
	v.version, _ = admin.ETag(c)
	f := formOf(c)
	f.Name, f.RedirectURIs, f.Scope, f.Resources = c.Name, strings.Join(c.RedirectURIs, "\n"), c.Scope,
		slices.Concat(c.Resources, c.ResourceServers) // a client has only one of the two
	f.AnyResource, f.Life, f.JWKSURI = f.Machine && len(c.Resources) == 0, typedSpan(c.AccessTokenTTL), c.JWKSURI
	if f.JWKS = string(c.JWKS); f.JWKS != "" {
		var text bytes.Buffer
		if err := json.Indent(&text, c.JWKS, "", "  "); err == nil {
			f.JWKS = text.String()
		}
	}
	return e.clientScreen(v, f, "Change "+clientName(c), "")
}

// formOf returns the form that changes c, without what was typed.
func formOf(c admin.Client) *clientForm {
	f := &clientForm{ID: c.ID, Kind: "app", Described: c.Origin == oauth.ByDocument,
		Signs: c.Method == oauth.MethodPrivateKeyJWT}
	switch {
	case c.Login:
		f.Kind = "login"
	case len(c.ResourceServers) > 0:
		f.Kind = "server"
	case oauth.AnyGrant(c.GrantTypes, func(rule oauth.GrantRule) bool { return rule.OwnName }):
		f.Kind, f.Machine = "machine", true
	}
	return f
}

func (e *Endpoint) changeClient(v *visit, form url.Values) (outcome, error) {
	c, err := e.Operations.Client(v.Context(), v.caller, v.id())
	if err != nil {
		return nil, err
	}
	f := formOf(c)
	kind := f.Kind
	f.read(form)
	f.Kind = kind
	terms, mistyped := f.terms()
	switch {
	case mistyped != "":
		return e.mistypedClient(v, f, "Change "+clientName(c), mistyped)
	case f.HasKeys() && f.JWKS == "" && f.JWKSURI == "":
		f.Field = "jwks"
		return e.clientScreen(v, f, "Change "+clientName(c), "Give the public keys of the client, or their address.")
	case decides(kind) && e.stale(v):
		return away{e.later(v.Request, v.Browser, form, true)}, nil
	}
	if err := e.save(v, func(o *admin.Operations) (any, error) {
		return o.Client(v.Context(), v.caller, c.ID)
	}, func(o *admin.Operations) (any, error) {
		return o.UpdateClient(v.Context(), v.caller, c.ID, terms)
	}); err != nil {
		return e.typedClient(v, f, "Change "+clientName(c), err)
	}
	return redirect{clientPath(c.ID), "client.changed"}, nil
}

// askUnapprove shows the approvals of a client, to withdraw one or all.
func (e *Endpoint) askUnapprove(v *visit) (outcome, error) {
	c, err := e.Operations.Client(v.Context(), v.caller, v.id())
	return screen{template: "unapprove.html", title: "Withdraw the approval of " + clientName(c), body: c}, err
}

func (e *Endpoint) unapprove(v *visit, form url.Values) (outcome, error) {
	terms := admin.Withdrawal{EndGrants: form.Get("end_grants") != ""}
	if group := form.Get("group"); group != "" {
		terms.Group = &group
	}
	_, err := e.Operations.UnapproveClient(v.Context(), v.caller, v.id(), terms)
	return redirect{clientPath(v.id()), "client.unapproved"}, err
}

func (e *Endpoint) confirmDisableClient(v *visit) (outcome, error) {
	c, err := e.Operations.Client(v.Context(), v.caller, v.id())
	return screen{template: "confirm.html", title: "Disable " + clientName(c), body: confirmation{
		Question: "Disable the client " + clientName(c) + "?",
		Ends: []string{
			"Its access tokens are refused at once by introspection, and it gets no new ones.",
			"Nobody can allow it anything while it is disabled.",
			"Its grants stay. If you enable it again, they work as before.",
		},
		Button: "Disable it", Back: clientPath(c.ID),
	}}, err
}

func (e *Endpoint) confirmRotate(v *visit) (outcome, error) {
	c, err := e.Operations.Client(v.Context(), v.caller, v.id())
	return screen{template: "confirm.html", title: "A new secret for " + clientName(c),
		body: newSecretQuestion(c, clientPath(c.ID))}, err
}

// overlap is how long the old secret of a client works beside a new one, in words.
var overlap = fmt.Sprintf("%.0f hours", admin.SecretOverlap.Hours())

// newSecretQuestion asks before a client gets a new secret, and says what ends with the old one, and what else.
func newSecretQuestion(c admin.Client, back string, more ...string) confirmation {
	return confirmation{
		Question: "Make a new secret for " + clientName(c) + "?",
		Ends: append([]string{"The new secret is shown once.", "The old secret works for another " +
			overlap + ", so that you can change it where it is used."}, more...),
		Button: "Make a new secret", Back: back,
	}
}

func (e *Endpoint) rotateSecret(v *visit, _ url.Values) (outcome, error) {
	return e.rotate(v, clientPath(v.id()))
}

// rotate gives the client of v a new secret, and shows it, once, with a link to the page at back.
func (e *Endpoint) rotate(v *visit, back string) (outcome, error) {
	c, err := e.Operations.RotateClientSecret(v.Context(), v.caller, v.id(), admin.SecretOverlap)
	if err != nil {
		return nil, err
	}
	return secretScreen(c, "The new secret works from now on, and the old one for another "+overlap+".",
		back), nil
}

func (e *Endpoint) confirmDeleteClient(v *visit) (outcome, error) {
	c, err := e.Operations.Client(v.Context(), v.caller, v.id())
	return screen{template: "confirm.html", title: "Delete " + clientName(c), body: confirmation{
		Question: "Delete the client " + clientName(c) + "?",
		Ends: []string{
			"Every grant that people gave it ends, and its tokens are refused at once.",
			"A program that still uses it has to register again, if registration is open.",
			"The audit log keeps what happened.",
		},
		Button: "Delete it", Back: clientPath(c.ID),
	}}, err
}

func (e *Endpoint) deleteClient(v *visit, _ url.Values) (outcome, error) {
	_, err := e.Operations.DeleteClient(v.Context(), v.caller, v.id())
	return redirect{"/admin/clients", "client.deleted"}, err
}

// Has reports whether the client is bound to the MCP server with that identifier.
func (f *clientForm) Has(identifier string) bool { return slices.Contains(f.Resources, identifier) }
