// Package authorize implements /oauth2/authorize: it checks the request, asks the person to sign in and consent, and
// sends the code. OAuth 2.1 §4.1, RFC 7636, RFC 8707, RFC 9207.
package authorize

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/strangers"
	"github.com/cardea-auth/cardea/internal/web"
)

// Endpoint implements the authorization endpoint and the consent page. All fields must be set.
type Endpoint struct {
	DB        *store.DB
	Desk      *interaction.Desk
	Strangers *strangers.Recorder
	Pages     *web.Pages
	Logos     *client.Logos
	CodeKey   []byte // from which codes are computed
	CodeTTL   time.Duration
	GrantMax  time.Duration // longest life of a grant, unless its resource has its own
}

// Authorize answers GET and POST /oauth2/authorize (OAuth 2.1 §4.1.1). Until client and redirect URI are verified, it
// shows refusals only on a page; after that, it sends them to the client (§4.1.2.1).
func (e *Endpoint) Authorize(r *http.Request) (web.Answer, error) {
	if r.Method == http.MethodPost && web.CrossSite(r) {
		return e.askAgain(r)
	}
	p, err := read(r)
	if err != nil {
		return nil, e.Strangers.Refuse(r, audit.AuthorizationRequest(""), err)
	}
	v, err := e.Desk.Visitor(r)
	if err != nil {
		return nil, err
	}
	c, reply, err := e.client(r, v, p)
	if err != nil {
		return nil, e.Strangers.Refuse(r, audit.AuthorizationRequest(p.get("client_id")), err)
	}
	a, err := e.open(r, p, v, c, reply)
	if err != nil {
		return e.refuse(r, v, audit.AuthorizationRequest(c.ID), reply, err)
	}
	answer, err := e.proceed(r, a)
	if err != nil {
		return nil, err
	}
	return web.WithCookie(answer, v.Browser.Cookie()), nil
}

// maxQuery is the longest query to which a POST is redirected, or with which a request is offered again, in bytes.
const maxQuery = 8 << 10

// askAgain redirects a POST from another site to a GET of the same request, because the browser sends our cookies only
// with the GET. It sets no cookie, which would replace the one that the browser has.
func (e *Endpoint) askAgain(r *http.Request) (web.Answer, error) {
	values, err := web.FormAsItIs(r)
	location := "/oauth2/authorize?" + values.Encode()
	if err == nil && len(location) > maxQuery {
		err = oauth.Refuse(oauth.InvalidRequest,
			"the parameters are longer than %d bytes: send fewer of them, or a shorter state", maxQuery)
	}
	if err != nil {
		return nil, e.Strangers.Refuse(r, audit.AuthorizationRequest(""), err)
	}
	return web.SeeOther(location), nil
}

// client verifies client and redirect URI. Its refusals must not be sent to the redirect URI (OAuth 2.1 §4.1.2.1).
func (e *Endpoint) client(r *http.Request, v interaction.Visitor, p *parameters) (*oauth.Client, interaction.Reply,
	error) {
	switch {
	case p.repeated("client_id"), p.repeated("redirect_uri"):
		return nil, interaction.Reply{}, oauth.Refuse(oauth.InvalidRequest,
			"client_id and redirect_uri must not appear more than once")
	case p.get("client_id") == "":
		return nil, interaction.Reply{}, oauth.Refuse(oauth.InvalidRequest, "client_id is missing")
	}
	return e.Desk.Find(r, v, p.get("client_id"), p.get("redirect_uri"), p.get("state"))
}

// open checks the request, in the order of the specifications, and opens the authorization.
func (e *Endpoint) open(r *http.Request, p *parameters, v interaction.Visitor, c *oauth.Client,
	reply interaction.Reply) (*interaction.Authorization, error) {
	now := e.DB.Now()
	q := &interaction.Request{ID: oauth.NewTimedID("req_", now), BegunAt: now, CrossSite: web.CrossSite(r)}
	if hint := p.get("login_hint"); len(hint) <= maxHint {
		q.LoginHint = hint
	}
	switch {
	case p.anyRepeated(): // OAuth 2.1 §3.1
		return nil, oauth.Refuse(oauth.InvalidRequest, "%s must not appear more than once", p.firstRepeated())
	case !p.onlyText():
		return nil, oauth.Refuse(oauth.InvalidRequest, "the parameters must be UTF-8 text")
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
		return nil, oauth.Refuse(oauth.UnauthorizedClient,
			"the client is not registered for the grant type authorization_code")
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
	if q.Scope, q.Named, err = grantable(target, c, p.get("scope")); err != nil {
		return nil, err
	}
	return e.Desk.Open(v, c, reply, target, q)
}

// proceed takes an open authorization to its next step: sign-in, consent, or the answer.
func (e *Endpoint) proceed(r *http.Request, a *interaction.Authorization) (web.Answer, error) {
	event := audit.AuthorizationRequest(a.Client.ID)
	switch {
	case !a.Ready(e.DB.Now()) && a.PromptNone:
		return e.refuse(r, a.Visitor, event, a.Reply,
			oauth.Refuse(oauth.LoginRequired, "nobody is signed in, and prompt=none does not allow asking"))
	case !a.Ready(e.DB.Now()):
		return page("/login", a), nil
	}
	event.UserID = a.Person.ID
	switch err := e.Desk.Entitle(r, a); {
	case errors.Is(err, interaction.ErrNotEntitled) && a.PromptNone:
		return e.refuse(r, a.Visitor, event, a.Reply, err)
	case errors.Is(err, interaction.ErrNotEntitled):
		return page("/consent", a), nil
	case err != nil:
		return nil, err
	}
	waits, err := e.Desk.MustWait(r, a)
	if err != nil {
		return nil, err
	}
	before, remembered, err := e.remembered(r, a)
	switch {
	case err != nil:
		return nil, err
	case remembered && !waits:
		return e.grant(r, a, a.Scope, before)
	case a.PromptNone && a.Hinted() != "":
		return e.refuse(r, a.Visitor, event, a.Reply,
			oauth.Refuse(oauth.LoginRequired, "the person who is signed in is not the one in login_hint, and "+
				"prompt=none does not allow asking"))
	case a.PromptNone && waits:
		return e.refuse(r, a.Visitor, event, a.Reply,
			oauth.Refuse(oauth.InteractionRequired, "an administrator has to approve the application first, and "+
				"prompt=none does not allow a page on which the person waits"))
	case a.PromptNone:
		return e.refuse(r, a.Visitor, event, a.Reply,
			oauth.Refuse(oauth.ConsentRequired, "consent is needed, and prompt=none does not allow asking"))
	}
	return page("/consent", a), nil
}

// page redirects the browser to one of the pages of the interaction.
func page(path string, a *interaction.Authorization) web.Answer {
	return web.SeeOther(path + "?request=" + url.QueryEscape(a.Sealed))
}

// Deny answers the client of a with a refusal that came from the person's sign-in.
func (e *Endpoint) Deny(r *http.Request, a *interaction.Authorization, err error) (web.Answer, error) {
	return e.refuse(r, a.Visitor, audit.AuthorizationRequest(a.Client.ID), a.Reply, err)
}

// refuse records a refusal and sends it to the client. It returns a fault as it is.
func (e *Endpoint) refuse(r *http.Request, v interaction.Visitor, event audit.Event, reply interaction.Reply,
	err error) (web.Answer, error) {
	refusal, ok := oauth.AsRefusal(err)
	if !ok {
		return nil, err
	}
	if err := e.Strangers.Refuse(r, event, err); !errors.Is(err, refusal) {
		return nil, err
	}
	return e.tell(r, v, reply, err)
}

// tell sends a refusal to the client: at once if Reply.Automatic is true and the request is not too old, and otherwise
// with a form on a page that names the host.
func (e *Endpoint) tell(r *http.Request, v interaction.Visitor, reply interaction.Reply, err error) (web.Answer,
	error) {
	refusal, ok := oauth.AsRefusal(err)
	if !ok {
		return nil, err
	}
	tooOld := (*interaction.TooOld)(nil)
	switch late := errors.As(err, &tooOld); {
	case reply.Automatic && !late:
		return web.SeeOther(reply.Refusal(refusal)), nil
	case web.ForProgram(r):
		return nil, refusal
	}
	held, err := e.Desk.Hold(v, reply, refusal)
	if err != nil {
		return nil, err
	}
	said := web.FailureOf(refusal)
	page := Return{
		Message:   said.Message,
		Code:      said.Code,
		RequestID: audit.RequestFrom(r.Context()).ID,
		To:        interaction.DestinationOf(reply.RedirectURI),
		Held:      held,
		CSRF:      e.Pages.Token(v.Browser, returnPurpose),
	}
	if tooOld != nil && tooOld.Again != "" && len(tooOld.Again) <= maxQuery {
		page.Again = "/oauth2/authorize?" + tooOld.Again
	}
	return web.WithCookie(web.WithRefusal(page, refusal), v.Browser.Cookie()), nil
}

// returnPurpose is the purpose of the token in the form that returns to a client.
const returnPurpose = "return"

// Return answers POST /consent/return: the person confirms that a refusal is sent to the client, at the address that
// the page named (RFC 9700 §4.11.2). If the page was open for too long, it is shown again.
func (e *Endpoint) Return(r *http.Request) (web.Answer, error) {
	form, err := web.Form(r)
	if err != nil {
		return nil, e.Strangers.Refuse(r, audit.AuthorizationRequest(""), err)
	}
	browser := e.Pages.Browser(r)
	location, err := e.Desk.Held(r, form.Get("return"))
	if answerable := (*interaction.Answerable)(nil); errors.As(err, &answerable) {
		return e.refuse(r, interaction.Visitor{Browser: browser}, audit.AuthorizationRequest(answerable.Reply.ClientID),
			answerable.Reply, answerable.Err)
	}
	if err == nil && !e.Pages.Check(browser, form.Get("csrf"), returnPurpose) {
		err = oauth.Refuse(oauth.AccessDenied, "this form belongs to another page: go back to the application and "+
			"start again")
	}
	if err != nil {
		return nil, e.Strangers.Refuse(r, audit.AuthorizationRequest(""), err)
	}
	return web.SeeOther(location), nil
}

// again refuses a GET of the address of a form, which a person opens from the history of the browser or after a sign-in
// elsewhere, and says how to go on. A form that was posted before has its answer.
func (e *Endpoint) again(*http.Request) (web.Answer, error) {
	return nil, oauth.Refuse(oauth.InvalidRequest,
		"nothing was sent to this page: go back to the application and start again")
}
