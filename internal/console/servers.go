package console

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

// serverRoutes are the pages of the MCP servers, which the protocol calls resources.
func (e *Endpoint) serverRoutes() []web.Route {
	return []web.Route{
		e.route("/admin/servers", e.show(e.servers), e.do(admin.Resources, "resource.create", e.createServer)),
		e.route("/admin/servers/new", e.show(e.offer(admin.Resources, "resource.create", e.newServer)), nil),
		e.route("/admin/servers/{id}", e.show(e.server), nil),
		e.form("/admin/servers/{id}/edit", admin.Resources, "resource.update", e.editServer, e.changeServer),
		e.form("/admin/servers/{id}/delete", admin.Resources, "resource.delete", e.confirmDeleteServer, e.deleteServer),
	}
}

// serverList is the body of the list of MCP servers.
type serverList struct {
	Servers []admin.Resource
	Query   string
	Next    string
}

func (l serverList) next() string { return l.Next }

func (e *Endpoint) servers(v *visit) (outcome, error) {
	list := serverList{Query: v.query.Get("q")}
	var err error
	list.Servers, list.Next, err = e.Operations.Resources(v.Context(), v.caller, v.page())
	return screen{template: "servers.html", title: "MCP servers", body: list}, err
}

// serverForm is the body of the page that creates or changes an MCP server.
type serverForm struct {
	ID         string // "" if it is new
	Identifier string
	Name       string
	Scopes     []scopeLine
	Lives      []lifetime
	Groups     string // names, separated by commas
	Tell       bool   // the groups in tokens
	Lists      bool   // aud and scopes in tokens are lists
	TwoFactors bool   // people need two factors
	SigningAlg string
	Algs       []string
	Field      string // the input that is at fault, "" for none
	Problem    string // what is wrong with it
}

// lifetime is an input for a length of time.
type lifetime struct{ Field, Label, Hint, Value string }

// lifetimes returns the inputs of the form, with what the values of fields returns.
func lifetimes(value func(field string) string) []lifetime {
	lives := []lifetime{
		{"access_token_ttl", "Access tokens live for",
			"A length of time such as 10m. Short is safe: clients refresh by themselves.", ""},
		{"refresh_idle_ttl", "An agent that is not used stays connected for",
			"Such as 720h. Afterwards the person has to allow it again.", ""},
		{"refresh_max_ttl", "An agent stays connected for at most", "Such as 2160h, however much it is used.", ""},
	}
	for i := range lives {
		lives[i].Value = value(lives[i].Field)
	}
	return lives
}

// spans sets the lengths of time of terms as they were typed, such as 10m; "" is the default. It returns the field that
// is not one, "" if all are.
func (f *serverForm) spans(terms *admin.ResourceTerms) string {
	at := map[string]**admin.Span{"access_token_ttl": &terms.AccessTokenTTL, "refresh_idle_ttl": &terms.RefreshIdleTTL,
		"refresh_max_ttl": &terms.RefreshMaxTTL}
	for _, l := range f.Lives {
		span, ok := spanOf(l.Value)
		if !ok {
			return l.Field
		}
		*at[l.Field] = &span
	}
	return ""
}

// spanOf returns the length of time that was typed, such as 10m; "" is 0, the default. ok is false if it is none.
func spanOf(text string) (span admin.Span, ok bool) {
	if text = strings.TrimSpace(text); text == "" {
		return 0, true
	}
	d, err := time.ParseDuration(text)
	return admin.Span(d), err == nil && d%time.Second == 0
}

// typedSpan returns what spanOf reads as span.
func typedSpan(span admin.Span) string {
	if span == 0 {
		return ""
	}
	return span.String()
}

// notSpan says that the value of a field is not a length of time.
func notSpan(field string) string {
	return label(field) + " is a length of time in whole seconds, such as 10m or 1h30m."
}

// mistyped returns the form again, with what is wrong with a length of time.
func (f *serverForm) mistyped(title, field string) screen {
	f.Field = field
	return f.screen(title, notSpan(field))
}

// scopeLine is a line of the form: a scope with its words.
type scopeLine struct {
	Name, Description, Risk, Groups string
	Default                         bool
}

// emptyLines is how many empty lines for scopes a form has; saving it gives as many again.
const emptyLines = 3

func (f *serverForm) screen(title, problem string) screen {
	for range emptyLines {
		f.Scopes = append(f.Scopes, scopeLine{})
	}
	f.Algs = oauth.SigningAlgs
	s := screen{template: "server-form.html", title: title, body: f}
	if problem != "" {
		s.status, s.problem = http.StatusUnprocessableEntity, problem
	}
	return s
}

func (e *Endpoint) newServer(*visit) (outcome, error) {
	return (&serverForm{Lives: lifetimes(func(string) string { return "" })}).screen("Add an MCP server", ""), nil
}

// maxScopeLines bounds the lines of a form.
const maxScopeLines = 300

// readServer returns the form as it was filled in, and the terms it states. A line without a name is left out.
func readServer(form url.Values) (*serverForm, admin.ResourceTerms) {
	f := &serverForm{
		Identifier: strings.TrimSpace(form.Get("identifier")), Name: strings.TrimSpace(form.Get("name")),
		Lives: lifetimes(form.Get), SigningAlg: form.Get("signing_alg"), Groups: form.Get("groups"),
		Tell: form.Get("token_groups") != "", Lists: form.Get("token_shape") == string(oauth.ShapeLists),
		TwoFactors: form.Get("second_factor") != "",
	}
	scopes, defaults := []oauth.ResourceScope{}, []string{}
	for i := range maxScopeLines {
		n := strconv.Itoa(i)
		line := scopeLine{
			Name:        strings.TrimSpace(form.Get("scope-name-" + n)),
			Description: strings.TrimSpace(form.Get("scope-description-" + n)),
			Groups:      form.Get("scope-groups-" + n),
			Risk:        form.Get("scope-risk-" + n), Default: form.Get("scope-default-"+n) != "",
		}
		if line.Name == "" {
			continue
		}
		f.Scopes = append(f.Scopes, line)
		scopes = append(scopes,
			oauth.ResourceScope{Name: line.Name, Description: line.Description, Risk: oauth.Risk(line.Risk),
				Default: line.Default, Groups: groupNames(line.Groups)})
		if line.Default {
			defaults = append(defaults, line.Name)
		}
	}
	terms := admin.ResourceTerms{
		Name: &f.Name, Scopes: scopes, DefaultScopes: defaults, SigningAlg: &f.SigningAlg, Groups: groupNames(f.Groups),
		TokenGroups: &f.Tell, TokenShape: f.shape(), SecondFactor: &f.TwoFactors,
	}
	return f, terms
}

// shape returns the shape of tokens that f states.
func (f *serverForm) shape() *oauth.TokenShape {
	shape := oauth.ShapeStandard
	if f.Lists {
		shape = oauth.ShapeLists
	}
	return &shape
}

// groupNames returns the names in a text in which commas separate them.
func groupNames(text string) []string {
	names := []string{}
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// typed returns the form again with the sentence on what is wrong, if an operation refused what was typed, and
// otherwise the error.
func (f *serverForm) typed(v *visit, title string, err error) (outcome, error) {
	ok := false
	if f.Field, f.Problem, ok = v.wrong(err); !ok {
		return nil, err
	}
	return f.screen(title, f.Problem), nil
}

// label returns what a form calls the field of an operation.
func label(field string) string {
	if name, ok := labels[field]; ok {
		return "“" + name + "”"
	}
	return "“" + strings.ReplaceAll(field, "_", " ") + "”"
}

var labels = map[string]string{
	"identifier": "Address", "name": "Name", "scopes": "Scope", "default_scopes": "Granted by default",
	"access_token_ttl": "Access tokens live for",
	"refresh_idle_ttl": "An agent that is not used stays connected for",
	"refresh_max_ttl":  "An agent stays connected for at most", "signing_alg": "Signing algorithm",
	"client_name": "Name", "redirect_uris": "Redirect addresses", "jwks": "Public keys",
	"jwks_uri": "Address of the keys", "any_resource": "All MCP servers", "resource_servers": "MCP servers",
	"login": "Your own sign-in page", "token_endpoint_auth_method": "Kind", "resources": "MCP servers",
	"scope": "Scopes", "groups": "Only for members of", "grant_types": "Kind", "email": "E-mail",
	"password": "Password", "role": "Role",
}

func (e *Endpoint) createServer(v *visit, form url.Values) (outcome, error) {
	const title = "Add an MCP server"
	f, terms := readServer(form)
	if field := f.spans(&terms); field != "" {
		return f.mistyped(title, field), nil
	}
	made, err := e.Operations.CreateResource(v.Context(), v.caller,
		admin.NewResource{Identifier: f.Identifier, ResourceTerms: terms})
	if err != nil {
		return f.typed(v, title, err)
	}
	return redirect{"/admin/servers/" + made.ID, "server.created"}, nil
}

// serverPage is the body of the page of one MCP server.
type serverPage struct {
	admin.Resource
	*guide
}

func (e *Endpoint) server(v *visit) (outcome, error) {
	r, err := e.Operations.Resource(v.Context(), v.caller, v.id())
	if err != nil {
		return nil, err
	}
	how, err := guideFor(r, e.Operations.Issuer, e.Operations.SigningAlg)
	return screen{template: "server.html", title: r.Name, body: serverPage{r, how}}, err
}

func (e *Endpoint) editServer(v *visit) (outcome, error) {
	r, err := e.Operations.Resource(v.Context(), v.caller, v.id())
	if err != nil {
		return nil, err
	}
	v.version, _ = admin.ETag(r)
	f := &serverForm{
		ID: r.ID, Identifier: r.Identifier, Name: r.Name, SigningAlg: r.SigningAlg,
		Groups: strings.Join(r.Groups, ", "), Tell: r.TokenGroups, Lists: r.TokenShape == oauth.ShapeLists,
		TwoFactors: r.SecondFactor,
	}
	set := map[string]admin.Span{"access_token_ttl": r.AccessTokenTTL, "refresh_idle_ttl": r.RefreshIdleTTL,
		"refresh_max_ttl": r.RefreshMaxTTL}
	f.Lives = lifetimes(func(field string) string { return typedSpan(set[field]) })
	for _, s := range r.Scopes {
		f.Scopes = append(f.Scopes, scopeLine{s.Name, s.Description, string(s.Risk), strings.Join(s.Groups, ", "),
			s.Default})
	}
	return f.screen("Change "+r.Name, ""), nil
}

func (e *Endpoint) changeServer(v *visit, form url.Values) (outcome, error) {
	r, err := e.Operations.Resource(v.Context(), v.caller, v.id())
	if err != nil {
		return nil, err
	}
	f, terms := readServer(form)
	f.ID, f.Identifier = r.ID, r.Identifier
	title := "Change " + r.Name
	if field := f.spans(&terms); field != "" {
		return f.mistyped(title, field), nil
	}
	if err := e.save(v, func(o *admin.Operations) (any, error) {
		return o.Resource(v.Context(), v.caller, v.id())
	}, func(o *admin.Operations) (any, error) {
		return o.UpdateResource(v.Context(), v.caller, v.id(), terms)
	}); err != nil {
		return f.typed(v, title, err)
	}
	return redirect{"/admin/servers/" + v.id(), "server.changed"}, nil
}

// confirmation is the body of a page that asks before it ends something.
type confirmation struct {
	Question string
	Ends     []string // what ends with it, a sentence each
	Button   string
	Back     string // the path that leaves things as they are
	Reason   bool   // why it is done can be said, for operators
}

func (e *Endpoint) confirmDeleteServer(v *visit) (outcome, error) {
	r, err := e.Operations.Resource(v.Context(), v.caller, v.id())
	if err != nil {
		return nil, err
	}
	return screen{template: "confirm.html", title: "Delete " + r.Name, body: confirmation{
		Question: "Delete the MCP server " + r.Name + "?",
		Ends: []string{
			"Every grant at it ends, and the access tokens and refresh tokens of those grants are refused at once.",
			"Clients that are bound to it alone get no more tokens.",
			"The audit log keeps what happened.",
		},
		Button: "Delete it", Back: "/admin/servers/" + r.ID,
	}}, nil
}

func (e *Endpoint) deleteServer(v *visit, _ url.Values) (outcome, error) {
	_, err := e.Operations.DeleteResource(v.Context(), v.caller, v.id())
	return redirect{"/admin/servers", "server.deleted"}, err
}
