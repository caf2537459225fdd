package console

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

// credentialRoutes are the pages of the API credentials: clients that ask for tokens of the administration API in their
// own name.
func (e *Endpoint) credentialRoutes() []web.Route {
	return []web.Route{
		e.route("/admin/credentials", e.show(e.credentials),
			e.do(admin.Clients, "client.create", e.freshly(e.createCredential))),
		e.route("/admin/credentials/new",
			e.show(e.offer(admin.Clients, "client.create", e.fresh(e.newCredential))), nil),
		e.form("/admin/credentials/{id}/roll", admin.Clients, "client.rotate_secret", e.fresh(e.confirmRoll),
			e.freshly(e.rollCredential)),
		e.form("/admin/credentials/{id}/delete", admin.Clients, "client.delete", e.fresh(e.confirmDeleteCredential),
			e.freshly(e.deleteCredential)),
	}
}

const credentialsPath = "/admin/credentials" // #nosec G101 -- a path

// credentialList is the body of the list of API credentials.
type credentialList struct {
	Credentials []credential
	Changes     bool // the visitor's role may change them
	API         string
	Next        string
}

func (l credentialList) next() string { return l.Next }

// credential is a client as API credentials.
type credential struct {
	admin.Client
	Over      bool // it has expired
	Soon      bool // it expires within soon
	Outranked bool // it may do more than the visitor
}

// soon is how long before their end API credentials are marked.
const soon = 14 * 24 * time.Hour

func (e *Endpoint) credentials(v *visit) (outcome, error) {
	api := e.Operations.Issuer + admin.APIPath
	list := credentialList{API: api, Changes: v.may.Change(admin.Clients)}
	query := admin.ClientQuery{Origin: oauth.ByOperator, Resource: api}
	clients, next, err := e.Operations.Clients(v.Context(), v.caller, query, v.page())
	if err != nil {
		return nil, err
	}
	outranked, err := e.Operations.Outranked(v.Context(), v.caller)
	for _, c := range clients {
		ends := c.ExpiresAt.Time
		list.Credentials = append(list.Credentials, credential{Client: c, Outranked: outranked(c),
			Over: !ends.IsZero() && !e.DB.Now().Before(ends), Soon: !ends.IsZero() && ends.Sub(e.DB.Now()) < soon})
	}
	list.Next = next
	return screen{template: "credentials.html", title: "API credentials", body: list}, err
}

// credentialForm is the body of the page that creates API credentials.
type credentialForm struct {
	Name   string
	Scopes []string
	Expiry string // of expiries, or "custom"
	Days   string // with "custom"
	All    []oauth.ResourceScope
	Field  string
}

// Has reports whether a scope is chosen.
func (f *credentialForm) Has(name string) bool { return slices.Contains(f.Scopes, name) }

// Expiries are the times to choose from.
func (f *credentialForm) Expiries() any { return expiries }

const day = 24 * time.Hour

var expiries = []struct {
	Value, Name string
	length      time.Duration
}{
	{"30d", "30 days", 30 * day}, {"90d", "90 days", 90 * day}, {"1y", "a year", 365 * day},
	{"custom", "as many days as are given below", 0},
}

// maxDays is the largest number of days after which API credentials may expire.
const maxDays = 3650

// expiry returns the time that was chosen; ok is false if there is none.
func (f *credentialForm) expiry() (in time.Duration, ok bool) {
	for _, choice := range expiries {
		if choice.Value == f.Expiry && choice.length > 0 {
			return choice.length, true
		}
	}
	n, err := strconv.Atoi(f.Days)
	return time.Duration(n) * day, f.Expiry == "custom" && err == nil && n >= 1 && n <= maxDays
}

func (e *Endpoint) credentialScreen(v *visit, f *credentialForm, field, problem string) (outcome, error) {
	f.Field = field
	s := screen{template: "credential-form.html", title: "Create API credentials", body: f, problem: problem}
	if problem != "" {
		s.status = http.StatusUnprocessableEntity
	}
	var err error
	f.All, err = e.Operations.OwnScopes(v.Context(), v.caller)
	return s, err
}

func (e *Endpoint) newCredential(v *visit) (outcome, error) {
	return e.credentialScreen(v, &credentialForm{Expiry: "90d"}, "", "")
}

func (e *Endpoint) createCredential(v *visit, form url.Values) (outcome, error) {
	f := &credentialForm{
		Name: strings.TrimSpace(form.Get("name")), Scopes: form["scope"],
		Expiry: form.Get("expiry"), Days: strings.TrimSpace(form.Get("days")),
	}
	in, ok := f.expiry()
	switch {
	case len(f.Scopes) == 0: // which would be all of them
		return e.credentialScreen(v, f, "scope",
			"Choose at least one scope: what the credentials are for, and no more.")
	case !ok:
		return e.credentialScreen(v, f, "days", "“Days” is a whole number from 1 to "+strconv.Itoa(maxDays)+".")
	}
	scopes, span := strings.Join(f.Scopes, " "), admin.Span(in)
	made, err := e.Operations.CreateClient(v.Context(), v.caller, admin.NewClient{ClientTerms: admin.ClientTerms{
		Name: &f.Name, GrantTypes: inOwnName(), Scope: &scopes,
		Resources: []string{e.Operations.Issuer + admin.APIPath}, ExpiresIn: &span,
	}})
	if refused := (*admin.Error)(nil); errors.As(err, &refused) && refused.Kind == admin.Invalid {
		return e.credentialScreen(v, f, refused.Field, web.Sentence(refused.Text(label)))
	}
	return secretScreen(made, "The API credentials are created.", credentialsPath), err
}

// credential returns the API credentials that the path names. Another client is not found.
func (e *Endpoint) credential(v *visit) (admin.Client, error) {
	c, err := e.Operations.Client(v.Context(), v.caller, v.id())
	if err == nil && !slices.Contains(c.Resources, e.Operations.Issuer+admin.APIPath) {
		err = oauth.RefuseStatus(http.StatusNotFound, "not_found",
			"%s has no access to the administration API: look among the clients", c.ID)
	}
	return c, err
}

func (e *Endpoint) confirmRoll(v *visit) (outcome, error) {
	c, err := e.credential(v)
	return screen{template: "confirm.html", title: "Roll " + clientName(c),
		body: newSecretQuestion(c, credentialsPath, "Scopes and expiry stay as they are.")}, err
}

func (e *Endpoint) rollCredential(v *visit, _ url.Values) (outcome, error) {
	if _, err := e.credential(v); err != nil {
		return nil, err
	}
	return e.rotate(v, credentialsPath)
}

func (e *Endpoint) confirmDeleteCredential(v *visit) (outcome, error) {
	c, err := e.credential(v)
	return screen{template: "confirm.html", title: "Delete " + clientName(c), body: confirmation{
		Question: "Delete the API credentials " + clientName(c) + "?",
		Ends: []string{
			"They get no more tokens, and those they have are refused at once.",
			"The audit log keeps what they did.",
		},
		Button: "Delete them", Back: credentialsPath,
	}}, err
}

func (e *Endpoint) deleteCredential(v *visit, _ url.Values) (outcome, error) {
	if _, err := e.credential(v); err != nil {
		return nil, err
	}
	_, err := e.Operations.DeleteClient(v.Context(), v.caller, v.id())
	return redirect{credentialsPath, "credential.gone"}, err
}
