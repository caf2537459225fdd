// Package authorize answers /oauth2/authorize: it checks the request, has the
// person sign in and consent, and sends the code. OAuth 2.1 §4.1, RFC 7636,
// RFC 8707, RFC 9207.
package authorize

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/login"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/strangers"
	"github.com/cardea-auth/cardea/internal/web"
)

// Endpoint answers the authorize endpoint and the consent page. All fields are
// set.
type Endpoint struct {
	DB        *store.DB
	Clients   *client.Directory
	Login     *login.Endpoint
	Strangers *strangers.Recorder
	Pages     *web.Pages
	Logos     *client.Logos
	Issuer    string
	CodeTTL   time.Duration
	GrantMax  time.Duration // how long a grant lives at most, unless its resource says otherwise
}

// Authorize answers GET and POST /oauth2/authorize (OAuth 2.1 §4.1.1). While
// client and redirect URI are not proven, every refusal is a page; from then on
// it goes to the client (§4.1.2.1).
func (e *Endpoint) Authorize(r *http.Request) (web.Answer, error) {
	p, err := read(r)
	if err != nil {
		return nil, e.Strangers.Refuse(r, audit.AuthorizationRequest(""), err)
	}
	c, redirectURI, err := e.client(r, p)
	if err != nil {
		return nil, e.Strangers.Refuse(r, audit.AuthorizationRequest(p.get("client_id")), err)
	}
	back := &response{redirectURI: redirectURI, state: p.get("state"), issuer: e.Issuer}
	q, err := e.check(r, p, c)
	if err != nil {
		return e.refuse(r, audit.AuthorizationRequest(c.ID), back, err)
	}
	q.ClientID, q.RedirectURI, q.State = c.ID, redirectURI, []byte(back.state)
	q.CrossSite = r.Header.Get("Sec-Fetch-Site") == "cross-site"
	browser, cookie := e.Pages.Browser(r)
	q.Browser = oauth.Hash(browser)
	answer, err := e.proceed(r, q, c, back)
	if err != nil {
		return nil, err
	}
	return web.WithCookie(answer, cookie), nil
}

// proceed takes a checked request to where it waits next: for a sign-in, for
// consent, or for nothing more.
func (e *Endpoint) proceed(r *http.Request, q *oauth.AuthorizationRequest, c *oauth.Client, back *response) (web.Answer, error) {
	session, user, err := e.Login.Session(r)
	if err != nil {
		return nil, err
	}
	event := audit.AuthorizationRequest(q.ClientID)
	signedIn := session != nil && q.Satisfied(session.SignedInAt, e.DB.Now())
	if !signedIn {
		if q.PromptNone {
			return e.refuse(r, event, back, oauth.Refuse(oauth.LoginRequired, "nobody is signed in, and prompt is none"))
		}
		return e.page("/login", q)
	}
	event.UserID = user.ID
	remembered, err := e.remembered(r, q, c, user)
	switch {
	case err != nil:
		return nil, err
	case remembered:
		return e.grant(r, q, c, session, q.Scope, back, true)
	case q.PromptNone:
		return e.refuse(r, event, back, oauth.Refuse(oauth.ConsentRequired, "consent is needed, and prompt is none"))
	}
	return e.page("/consent", q)
}

// page sends the browser to one of the pages of the interaction.
func (e *Endpoint) page(path string, q *oauth.AuthorizationRequest) (web.Answer, error) {
	sealed, err := e.Pages.SealRequest(q)
	if err != nil {
		return nil, err
	}
	return web.SeeOther(path + "?request=" + url.QueryEscape(sealed)), nil
}

// client proves client and redirect URI, or refuses with a page that leads
// nowhere (OAuth 2.1 §4.1.2.1).
func (e *Endpoint) client(r *http.Request, p *parameters) (*oauth.Client, string, error) {
	id, redirectURI := p.get("client_id"), p.get("redirect_uri")
	switch {
	case p.repeated("client_id"), p.repeated("redirect_uri"):
		return nil, "", oauth.Refuse(oauth.InvalidRequest, "client_id and redirect_uri must each be there once")
	case id == "":
		return nil, "", oauth.Refuse(oauth.InvalidRequest, "client_id is missing")
	}
	person, err := e.person(r)
	if err != nil {
		return nil, "", err
	}
	asked := e.DB.Now()
	c, err := e.Clients.Find(r, id, person)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, "", errUnknownClient
	case err != nil:
		return nil, "", err
	case c.Disabled():
		return nil, "", errDisabledClient
	case redirectURI == "" && len(c.RedirectURIs) == 1:
		redirectURI = c.RedirectURIs[0]
	case redirectURI == "":
		return nil, "", oauth.Refuse(oauth.InvalidRequest, "redirect_uri is missing")
	}
	if ok, _ := client.MatchRedirectURI(c, redirectURI); ok {
		return c, redirectURI, nil
	}
	if c, err = e.Clients.FindAgain(r, c, person, asked); err != nil { // its document may have changed
		return nil, "", err
	}
	if ok, _ := client.MatchRedirectURI(c, redirectURI); !ok {
		return nil, "", errRedirectURI
	}
	return c, redirectURI, nil
}

// person returns the id of who is signed in, "" for nobody.
func (e *Endpoint) person(r *http.Request) (string, error) {
	_, user, err := e.Login.Session(r)
	if err != nil || user == nil {
		return "", err
	}
	return user.ID, nil
}

// errUnknownClient tells a person how to mend a registration that is gone: no
// client can, for nothing is sent back to it.
var errUnknownClient = oauth.RefuseStatus(http.StatusBadRequest, oauth.InvalidClient, "This application is not registered here, or no longer. "+
	"In the application, remove this MCP server and add it again, or clear the sign-in that it remembers: it will register anew.")

var (
	errDisabledClient = oauth.Refuse(oauth.UnauthorizedClient, "this application has been disabled here by an administrator")
	errRedirectURI    = oauth.Refuse(oauth.InvalidRequest, "redirect_uri is not one that this application has registered")
)

// check judges what the client asks for, in the order of the specifications.
func (e *Endpoint) check(r *http.Request, p *parameters, c *oauth.Client) (*oauth.AuthorizationRequest, error) {
	q := &oauth.AuthorizationRequest{ID: oauth.NewID("req_"), BegunAt: e.DB.Now()}
	if hint := p.get("login_hint"); len(hint) <= maxHint {
		q.LoginHint = hint
	}
	switch {
	case p.anyRepeated(): // OAuth 2.1 §3.1
		return nil, oauth.Refuse(oauth.InvalidRequest, "%s is there more than once", p.firstRepeated())
	case !p.onlyText():
		return nil, oauth.Refuse(oauth.InvalidRequest, "the parameters are not UTF-8 text")
	case len(p.get("state")) > maxState:
		return nil, oauth.Refuse(oauth.InvalidRequest, "state is longer than %d bytes", maxState)
	case p.get("request") != "": // OpenID Connect Core §6
		return nil, oauth.Refuse(oauth.RequestNotSupported, "request objects are not supported: send plain parameters")
	case p.get("request_uri") != "":
		return nil, oauth.Refuse(oauth.RequestURINotSupported, "request_uri is not supported: send plain parameters")
	case p.get("response_type") == "": // OAuth 2.1 §4.1.1
		return nil, oauth.Refuse(oauth.InvalidRequest, "response_type is missing: it must be code")
	case p.get("response_type") != "code":
		return nil, oauth.Refuse(oauth.UnsupportedResponseType, "response_type must be code")
	case p.get("response_mode") != "" && p.get("response_mode") != "query":
		return nil, oauth.Refuse(oauth.InvalidRequest, "response_mode must be query")
	case !c.May(oauth.AuthorizationCode):
		return nil, oauth.Refuse(oauth.UnauthorizedClient, "the client is not registered for the grant type authorization_code")
	}
	var err error
	if q.Challenge, err = oauth.ParseChallenge(p.get("code_challenge"), p.get("code_challenge_method")); err != nil {
		return nil, err // RFC 7636 §4.4.1
	}
	if err := checkPrompt(q, p); err != nil {
		return nil, err
	}
	resources, err := e.DB.Resources(r.Context())
	if err != nil {
		return nil, err
	}
	target, err := oauth.TargetOf(c, resources, p.values["resource"])
	if err != nil {
		return nil, err // RFC 8707 §2
	}
	q.Resource = target.Identifier
	q.Scope, err = grantable(target, c, p.get("scope"))
	return q, err
}

// response is what the client hears, in the end (OAuth 2.1 §4.1.2, RFC 9207).
type response struct {
	redirectURI, state, issuer string
}

// to returns the redirect URI with the parameters of the response, each exactly
// once, after any that it was registered with.
func (b *response) to(params url.Values) string {
	if b.state != "" {
		params.Set("state", b.state)
	}
	params.Set("iss", b.issuer)
	separator := "?"
	if u, err := url.Parse(b.redirectURI); err == nil && (u.RawQuery != "" || u.ForceQuery) {
		separator = "&"
	}
	return b.redirectURI + separator + web.EncodeQuery(params)
}

// refusal is to with what a refusal says.
func (b *response) refusal(refusal *oauth.Refusal) string {
	return b.to(url.Values{"error": {string(refusal.Code)}, "error_description": {web.ErrorDescription(refusal.Description)}})
}

// refuse sends a refusal to the client, and records it. A fault stays here.
func (e *Endpoint) refuse(r *http.Request, event audit.Event, back *response, err error) (web.Answer, error) {
	refusal, ok := oauth.AsRefusal(err)
	if !ok {
		return nil, err
	}
	if err := e.Strangers.Refuse(r, event, err); !errors.Is(err, refusal) {
		return nil, err
	}
	return web.SeeOther(back.refusal(refusal)), nil
}
