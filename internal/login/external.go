package login

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/upstream"
	"github.com/cardea-auth/cardea/internal/web"
)

// External is an application's own sign-in page, on which people sign in.
type External struct {
	URL string // of the page; "": there is none
	// Authenticate returns the client that sent r (client.Authenticator.Authenticate).
	Authenticate func(r *http.Request, form url.Values) (*oauth.Client, oauth.Method, error)
	// Deny answers the client of an authorization request with a refusal (authorize.Endpoint.Deny).
	Deny func(r *http.Request, a *interaction.Authorization, err error) (web.Answer, error)
}

// external is the method of an application's own sign-in page.
type external struct{ *Endpoint }

// externalID is the id of the method, as that of a provider.
const externalID = "external"

// Name is the method's name.
func (external) Name() string { return externalID }

// Offer shows the link to the application.
func (m external) Offer(page *SignIn) {
	page.Ways = append(page.Ways, Way{Name: m.host(), Path: m.start(destination{page.Request, page.Return})})
}

// Opens reports whether the person has an account of the application.
func (m external) Opens(tx *store.Tx, person *identity.User, without string) (bool, error) {
	return hasIdentity(tx, person, m.Name(), without)
}

// host returns the host of the application's page, which people know.
func (m external) host() string {
	u, err := url.Parse(m.External.URL)
	if err != nil {
		return m.External.URL
	}
	return u.Host
}

// start returns the path at which the way to the application begins.
func (m external) start(to destination) string {
	return "/login/external?" + url.Values{"request": {to.request}, "return": {to.back}}.Encode()
}

// Routes returns the routes of the handshake.
func (m external) Routes() []web.Route {
	return []web.Route{
		{Path: "/login/external", Methods: web.Methods{"GET": m.Pages.HTML(m.Start)}, Caller: web.People},
		{Path: "/login/external/continue", Methods: web.Methods{"GET": m.Pages.HTML(m.Continue)}, Caller: web.People},
		{Path: "/login/external/{login_request}",
			Methods: web.Methods{"POST": web.JSON(m.Answer)}, Caller: web.Clients},
	}
}

// externalLifetime is how long a login request lives.
const externalLifetime = 10 * time.Minute

// loginRequest is what a login request seals.
type loginRequest struct {
	trip
	State string         `json:"state"`
	Terms upstream.Terms `json:"terms"`
}

// externalPurpose is the purpose for which login requests are sealed.
const externalPurpose = "login request"

// continuePurpose is the purpose for which the state of continue_url is sealed. It is not the state that the browser
// brought to the application, because the person who began the sign-in knows that one, and need not be the person whom
// the application recognises: somebody may lead another person's browser to the application with a login request of
// their own.
const continuePurpose = "continue after login request"

// loginRequestPrefix is how a login request begins.
const loginRequestPrefix = "lrq_"

// Start answers GET /login/external: it sends the browser to the application's page.
func (m external) Start(r *http.Request) (web.Answer, error) {
	query, v, err := m.visit(r, audit.SignIn(""))
	if err != nil {
		return nil, err
	}
	to := destinationOf(query)
	now := m.DB.Now()
	q := loginRequest{trip{BegunAt: now, BoundTo: v.Browser.Hash(), Back: to.back},
		oauth.NewSecret(""), upstream.Terms{Since: now}}
	if to.back != "" && v.SignedIn() { // the page of ours needs a recent sign-in
		q.Terms.MaxAge = new(int64(interaction.RecentSignIn / time.Second))
	}
	if to.request != "" {
		a, elsewhere, err := m.resume(r, to.request, audit.SignIn(""))
		if err != nil || elsewhere != nil {
			return elsewhere, err
		}
		q.Request = oauth.Hash(to.request)
		if q.Terms.MaxAge = a.MaxAge; a.PromptLogin {
			q.Terms.MaxAge = new(int64)
		}
	}
	sealed, err := m.Desk.Sealer.SealJSON(externalPurpose, q)
	if err != nil {
		return nil, err
	}
	if to.request != "" {
		sealed += "." + to.request
	}
	u, err := url.Parse(m.External.URL)
	if err != nil {
		return nil, err
	}
	params := u.Query()
	params.Set("login_request", loginRequestPrefix+sealed)
	params.Set("state", q.State)
	if q.Terms.MaxAge != nil {
		params.Set("max_age", strconv.FormatInt(*q.Terms.MaxAge, 10))
	}
	u.RawQuery = params.Encode()
	return web.WithCookie(web.SeeOther(u.String()), v.Browser.Cookie()), nil
}

// open returns the login request that text is.
func (m external) open(text string) (q loginRequest, err error) {
	sealed, request, _ := strings.Cut(strings.TrimPrefix(text, loginRequestPrefix), ".")
	err = m.Desk.Sealer.OpenJSON(externalPurpose, sealed, &q)
	q.hash, q.expiresAt = oauth.Hash(q.State), q.BegunAt.Add(externalLifetime)
	switch {
	case err != nil, !strings.HasPrefix(text, loginRequestPrefix), !q.lead(request):
		return loginRequest{}, errLoginRequest
	case !m.DB.Now().Before(q.expiresAt):
		return loginRequest{}, errLateRequest
	}
	return q, nil
}

var (
	errLoginRequest = oauth.RefuseStatus(http.StatusNotFound, oauth.InvalidRequest,
		"the login request is unknown: send back login_request as it came")
	errLateRequest = oauth.RefuseStatus(http.StatusGone, oauth.InvalidRequest,
		"the login request is older than %d minutes: the person has to start again", int(externalLifetime.Minutes()))
	errAnswered = oauth.RefuseStatus(http.StatusConflict, oauth.InvalidRequest, "the login request was answered before")
	errNotLogin = oauth.RefuseStatus(http.StatusForbidden, oauth.UnauthorizedClient,
		"the client does not sign people in: use the one that cardea client create --login made")
)

// signsIn returns nil if the application with that Client.Incarnation signs people in at this moment, and otherwise
// not. An operator who disables or deletes its client thereby ends the sign-ins that it has answered, too, because
// somebody else may have given the answers.
func signsIn(tx *store.Tx, application string, not error) error {
	var c *oauth.Client
	id, err := tx.LoginClient()
	if err == nil {
		c, err = tx.Client(id)
	}
	switch {
	case err != nil:
		return notNow(err, not)
	case c.Incarnation != application, c.Disabled(), c.Expired(tx.Now()):
		return not
	}
	return nil
}

// continued is the response to an answer.
type continued struct {
	ContinueURL string `json:"continue_url"`
}

// Answer answers POST /login/external/{login_request}, by which the application names the person that has signed in.
func (m external) Answer(r *http.Request) (continued, error) {
	c, _, err := m.External.Authenticate(r, url.Values{})
	if err != nil {
		return continued{}, m.Pages.Refuse(r, audit.SignIn(""), err)
	}
	event := audit.SignIn("").With("provider", externalID)
	event.ClientID = c.ID
	said, err := upstream.ReadAnswer(r.Body)
	if err != nil {
		return continued{}, m.Pages.Refuse(r, event, err)
	}
	text := r.PathValue("login_request")
	q, err := m.open(text)
	if err != nil {
		return continued{}, m.Pages.Refuse(r, event, err)
	}
	if err := q.Terms.Judge(said, m.DB.Now()); err != nil {
		return continued{}, m.Pages.Refuse(r, event, err)
	}
	plain, err := json.Marshal(said)
	if err != nil {
		return continued{}, err
	}
	err = m.DB.Update(r.Context(), func(tx *store.Tx) error {
		if err := signsIn(tx, c.Incarnation, errNotLogin); err != nil {
			return err
		}
		if said.Groups != nil {
			for _, name := range *said.Groups {
				if _, err := tx.Group(name); errors.Is(err, store.ErrNotFound) {
					return oauth.Refuse(oauth.InvalidRequest,
						"groups: the group %.100q does not exist; create it with: cardea group create", name)
				} else if err != nil {
					return err
				}
			}
		}
		err := tx.AnswerLogin(store.ExternalLogin{Hash: q.hash, Request: text, Application: c.Incarnation,
			Answer: string(plain), ExpiresAt: q.expiresAt})
		if errors.Is(err, store.ErrConflict) {
			return errAnswered
		}
		return err
	})
	if err != nil {
		return continued{}, m.Pages.Refuse(r, event, err)
	}
	sealed, err := m.Desk.Sealer.Seal(continuePurpose, []byte(q.State))
	if err != nil {
		return continued{}, err
	}
	return continued{m.Issuer + "/login/external/continue?state=" + url.QueryEscape(sealed)}, nil
}

// Continue answers GET /login/external/continue, where the flow goes on in the browser in which it began.
func (m external) Continue(r *http.Request) (web.Answer, error) {
	query, v, err := m.visit(r, audit.SignIn(""))
	if err != nil {
		return nil, err
	}
	event := audit.SignIn("").With("provider", externalID)
	var login store.ExternalLogin
	state, err := m.Desk.Sealer.Open(continuePurpose, query.Get("state"))
	if err == nil {
		err = m.DB.View(r.Context(), func(tx *store.Tx) (err error) {
			login, err = tx.ExternalLogin(oauth.Hash(string(state)))
			return err
		})
	}
	if errors.Is(err, store.ErrNotFound) || oauth.IsRefusal(err) {
		return m.backToSignIn(r, v, destination{}, event, oauth.Refuse(oauth.AccessDenied,
			"this sign-in is unknown, took too long, or was not finished: start again from the application"))
	}
	if err != nil {
		return nil, err
	}
	q, err := m.open(login.Request)
	if err == nil && !v.Browser.Is(q.BoundTo) {
		err = errOtherBrowser
	}
	if err != nil {
		return m.backToSignIn(r, v, destination{}, event, err)
	}
	if answer, err := m.over(r, v, q.trip); answer != nil || err != nil {
		return answer, err
	}
	said := new(upstream.Answer)
	if err := json.Unmarshal([]byte(login.Answer), said); err != nil {
		return nil, fmt.Errorf("login: an answer of the application: %w", err)
	}
	if said.Error != "" {
		return m.denied(r, v, q.to, event)
	}
	answer, err := m.enter(r, v, q, login.Application, said)
	if err != nil {
		return m.backToSignIn(r, v, q.to, event, err)
	}
	return answer, nil
}

// denied tells the client of the request, or the person if there is none, that the application let nobody in.
func (m external) denied(
	r *http.Request, v interaction.Visitor, to destination, event audit.Event,
) (web.Answer, error) {
	refusal := oauth.Refuse(oauth.AccessDenied, "you were not signed in by %s", m.host())
	if to.request == "" {
		return m.backToSignIn(r, v, to, event, refusal)
	}
	a, elsewhere, err := m.resume(r, to.request, event)
	if err != nil || elsewhere != nil {
		return elsewhere, err
	}
	return m.External.Deny(r, a, refusal)
}

// enter signs in the person of the answer of an application, which is a Client.Incarnation.
func (m external) enter(r *http.Request, v interaction.Visitor, q loginRequest, application string,
	said *upstream.Answer) (web.Answer, error) {
	c := upstream.Config{ID: externalID, Name: m.host(), Create: true, Link: upstream.LinkNever,
		GroupMap: said.GroupMap()}
	gone := oauth.Refuse(oauth.AccessDenied,
		"nobody is signed in here by %s any more: ask the administrator of this server", m.host())
	p := Proof{Method: externalID, AMR: said.Methods(), At: q.Terms.SignedInAt(said.AuthTime, m.DB.Now()),
		Confirm: func(tx *store.Tx) error { return signsIn(tx, application, gone) }}
	return m.enterAs(r, v, q.trip, p, func(tx *store.Tx) (*upstream.Entry, error) {
		return c.Find(tx, said.Person(application))
	})
}
