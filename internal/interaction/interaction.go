// Package interaction keeps an authorization request from its arrival until its answer: the request, which waits in the
// browser, the browser that it is bound to, and the person who is signed in there.
//
// While it waits for sign-in and consent, a request is sealed in the address of those pages, so that a stranger's
// request takes neither memory nor a write to the database. An Authorization is the request with the current state of
// everything that it refers to. Desk.Open makes it when the request arrives, and Desk.Resume on each page that follows;
// no other code looks up its client, resource or session.
package interaction

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
	"github.com/cardea-auth/cardea/scope"
)

// Desk opens authorizations. All fields must be set.
type Desk struct {
	*Sessions
	Clients *client.Directory
	Sealer  *Sealer
	Issuer  string
}

// Authorization is an authorization request that waits for its answer, with what it refers to. Its client and redirect
// URI are verified, its resource exists, its scopes are among those that the client may request, and the browser is the
// one in which it began.
type Authorization struct {
	*Request
	Visitor
	Client   *oauth.Client
	Resource *oauth.Resource
	Reply    Reply
	Sealed   string // what Resume restores it from
}

// Ready reports whether a person is signed in, recently enough for the request and with two factors if it needs them.
func (a *Authorization) Ready(now time.Time) bool {
	return a.SignedIn() && a.Satisfied(a.Session.SignedInAt, now) && (!a.NeedsTwoFactors() || a.Session.TwoFactors())
}

// NeedsTwoFactors reports whether the client or the resource demands that the person signs in with two factors.
func (a *Authorization) NeedsTwoFactors() bool { return a.TwoFactors || a.Resource.SecondFactor }

// Hinted returns the e-mail address of the person whom the client expects if another person is signed in, and otherwise
// "".
func (a *Authorization) Hinted() string {
	hint := a.LoginHint
	if hint == "" || a.Person == nil || !strings.Contains(hint, "@") ||
		identity.EmailKey(hint) == identity.EmailKey(a.Person.Email) {
		return ""
	}
	return hint
}

// Purpose returns the purpose of the tokens in forms that decide on a. A token of a form for another request or person,
// or for another client with the same id, is not valid for it.
func (a *Authorization) Purpose() []string {
	purpose := []string{"consent", a.ID, a.PersonID()}
	if a.Client.Origin != oauth.ByDocument { // which has no incarnation before its first grant
		purpose = append(purpose, a.Client.Incarnation)
	}
	return purpose
}

// Find verifies the client and the redirect URI, and returns the client and where its answer goes. If it refuses
// either, nothing may be sent to the redirect URI (OAuth 2.1 §4.1.2.1). An empty redirect URI stands for the client's
// only one. If a block keeps the client out, Find returns them together with ErrBlocked: then nothing may be sent but
// that.
func (d *Desk) Find(r *http.Request, v Visitor, clientID, redirectURI, state string) (*oauth.Client, Reply, error) {
	asked := d.DB.Now()
	c, err := d.find(r, v, clientID)
	switch {
	case errors.Is(err, ErrBlocked) && c != nil:
		if ok, _ := client.MatchRedirectURI(c, redirectURI); ok {
			return c, d.reply(c, redirectURI, state), err
		}
		return nil, Reply{}, err
	case err != nil:
		return nil, Reply{}, err
	case redirectURI == "" && len(c.RedirectURIs) == 1:
		redirectURI = c.RedirectURIs[0]
	case redirectURI == "":
		return nil, Reply{}, oauth.Refuse(oauth.InvalidRequest, "redirect_uri is missing")
	}
	if ok, _ := client.MatchRedirectURI(c, redirectURI); ok {
		return c, d.reply(c, redirectURI, state), nil
	}
	if c, err = d.Clients.FindAgain(r, c, v.PersonID(), asked); err != nil { // its document may have changed
		return nil, Reply{}, err
	}
	if err := d.Clients.Unblocked(r.Context(), c); err != nil {
		return nil, Reply{}, told(err)
	}
	if ok, _ := client.MatchRedirectURI(c, redirectURI); !ok {
		return nil, Reply{}, errRedirectURI
	}
	return c, d.reply(c, redirectURI, state), nil
}

// find returns the client with the given id. If a block keeps it out, find returns it together with ErrBlocked.
func (d *Desk) find(r *http.Request, v Visitor, clientID string) (*oauth.Client, error) {
	c, err := d.Clients.Known(d.Clients.Find(r, clientID, v.PersonID()))
	if err == nil {
		err = d.Clients.Unblocked(r.Context(), c)
	}
	if err != nil {
		return c, told(err)
	}
	return c, nil
}

func (d *Desk) reply(c *oauth.Client, redirectURI, state string) Reply {
	return Reply{
		ClientID:    c.ID,
		RedirectURI: redirectURI,
		State:       state,
		Issuer:      d.Issuer,
		Automatic:   c.Approved() || DestinationOf(redirectURI).Loopback,
	}
}

// errUnknownClient tells the person how to replace a registration that is gone. The client cannot do that by itself,
// because nothing is sent to it.
var errUnknownClient = oauth.RefuseStatus(http.StatusBadRequest, oauth.InvalidClient,
	"This application is not, or no longer, registered here. "+
		"In the application, remove this MCP server and add it again, or clear the sign-in that it remembers: it will "+
		"register again.")

var (
	errDisabledClient = oauth.Refuse(oauth.UnauthorizedClient,
		"this application has been disabled here by an administrator")
	errRedirectURI = oauth.Refuse(oauth.InvalidRequest, "redirect_uri is not registered for this application")
)

// ErrBlocked refuses a client that an operator has blocked.
var ErrBlocked = oauth.Refuse(oauth.AccessDenied, "an administrator of this server has blocked this application")

// sealPurpose is the purpose for which authorization requests are sealed.
const sealPurpose = "authorization request"

// Open returns the authorization for a checked request that begins in the browser of v. It refuses a request that is
// too long to be carried from page to page.
func (d *Desk) Open(v Visitor, c *oauth.Client, reply Reply, resource *oauth.Resource, q *Request) (*Authorization,
	error) {
	if len(q.Scope) > maxScopes || len(q.Scope.String()) > maxScopeText {
		return nil, errTooManyScopes
	}
	q.BoundTo = v.Browser.Hash()
	a := &Authorization{Request: q, Visitor: v, Client: c, Resource: resource, Reply: reply}
	return a, d.seal(a)
}

func (d *Desk) seal(a *Authorization) (err error) {
	if a.Sealed, err = d.Sealer.Seal(sealPurpose, carry(a).encode()); err == nil && len(a.Sealed) > MaxSealed {
		err = errTooLong
	}
	return err
}

// Prolong returns a with a longer lifetime, because its client has to wait for an operator. Nothing else changes: it is
// the same request, and bound to the same browser.
func (d *Desk) Prolong(a *Authorization) (*Authorization, error) {
	q, longer := *a.Request, *a
	q.Waited = true
	longer.Request = &q
	return &longer, d.seal(&longer)
}

// endsAt returns when a request is too old to be answered.
func (d *Desk) endsAt(q *Request) time.Time {
	if q.Waited && d.Clients.ApprovalRequired {
		return q.BegunAt.Add(WaitingLifetime)
	}
	return q.BegunAt.Add(Lifetime)
}

// AnswerableUntil returns when a request is too old to be answered, also if it is prolonged. Its decision must be kept
// until then.
func (d *Desk) AnswerableUntil(q *Request) time.Time {
	prolonged := *q
	prolonged.Waited = true
	return d.endsAt(&prolonged)
}

// Resume returns the authorization that was sealed, in its current state. Client, redirect URI and resource may have
// changed since, and so may the scopes that the client is allowed; scopes that it is no longer allowed are left out.
// Resume refuses a request that was altered, is too old, or began in another browser. A refusal that may be sent to the
// client is an Answerable; that of a request that is too old is one of TooOld.
func (d *Desk) Resume(r *http.Request, sealed string) (*Authorization, error) {
	plain, err := d.Sealer.Open(sealPurpose, sealed)
	if err != nil {
		return nil, err
	}
	q, err := decodeCarried(plain)
	if err != nil {
		return nil, err
	}
	v, err := d.Visitor(r)
	if err != nil {
		return nil, err
	}
	tooOld := !d.DB.Now().Before(d.endsAt(q.Request))
	if err := mine(v.Browser, q.BoundTo); err != nil {
		if tooOld { // the browser may have dropped its cookie by now, and to say so would be of no help
			err = errTooOld
		}
		return nil, err
	}
	c, reply, err := d.findCarried(r, v, q)
	if err != nil {
		return nil, err
	}
	resource, err := d.stands(r, v, c, reply, q)
	switch {
	case tooOld && err == nil:
		return nil, &Answerable{reply, &TooOld{Again: again(reply, resource, q.Request), Waited: q.Waited}}
	case tooOld && oauth.IsRefusal(err):
		return nil, &Answerable{reply, &TooOld{Waited: q.Waited}}
	case err != nil:
		return nil, &Answerable{reply, err}
	}
	return &Authorization{Request: q.Request, Visitor: v, Client: c, Resource: resource, Reply: reply, Sealed: sealed},
		nil
}

// again returns the query of a request equal to q. If another site sent the browser, the new request asks for the
// consent page, because the browser will come from one of our pages.
func again(reply Reply, resource *oauth.Resource, q *Request) string {
	values := url.Values{"response_type": {"code"}, "client_id": {reply.ClientID}, "redirect_uri": {reply.RedirectURI},
		"code_challenge": {string(q.Challenge)}, "code_challenge_method": {"S256"}, "resource": {resource.Identifier}}
	var prompt []string
	if q.PromptLogin {
		prompt = append(prompt, "login")
	}
	if q.PromptConsent || q.CrossSite {
		prompt = append(prompt, "consent")
	}
	for name, value := range map[string]string{"state": reply.State, "scope": q.Scope.String(),
		"login_hint": q.LoginHint, "prompt": strings.Join(prompt, " ")} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if q.MaxAge != nil {
		values.Set("max_age", strconv.FormatInt(*q.MaxAge, 10))
	}
	return values.Encode()
}

// mine refuses a request that is bound to another browser.
func mine(browser web.Browser, hash string) error {
	switch {
	case !browser.Known():
		return oauth.Refuse(oauth.AccessDenied, "the browser did not send its cookie: allow cookies for this site, "+
			"go back to the application and start again")
	case !browser.Is(hash):
		return oauth.Refuse(oauth.AccessDenied, "this page belongs to another browser, or this one has forgotten "+
			"it among too many others: go back to the application and start again")
	}
	return nil
}

// findCarried is like Find, for a sealed request.
func (d *Desk) findCarried(r *http.Request, v Visitor, q *carried) (*oauth.Client, Reply, error) {
	c, err := d.find(r, v, q.clientID)
	blocked := errors.Is(err, ErrBlocked) && c != nil
	if err != nil && !blocked {
		return nil, Reply{}, err
	}
	redirectURI := q.findRedirect(c)
	ok, _ := client.MatchRedirectURI(c, redirectURI)
	reply := d.reply(c, redirectURI, q.state)
	switch {
	case !ok && blocked:
		return nil, Reply{}, ErrBlocked
	case !ok:
		return nil, Reply{}, errRedirectURI
	case blocked: // since the request came
		return nil, Reply{}, &Answerable{reply, ErrBlocked}
	}
	return c, reply, nil
}

// stands returns the requested resource, and reduces the scopes of q to those that the client may request there.
func (d *Desk) stands(r *http.Request, v Visitor, c *oauth.Client, reply Reply, q *carried) (*oauth.Resource, error) {
	resources, err := d.DB.Resources(r.Context())
	if err != nil {
		return nil, err
	}
	blocks, err := d.DB.Blocks(r.Context())
	if err != nil {
		return nil, err
	}
	parties := &store.Parties{Client: c, User: v.Person, Blocks: blocks}
	i := slices.IndexFunc(resources, func(resource *oauth.Resource) bool { return resource.ID == q.resourceID })
	if i >= 0 {
		parties.Resource = resources[i]
		q.Scope = q.findScopes(parties.Resource)
	}
	standing, err := d.Clients.Standing(parties, permission(c, reply, q.Request, ""))
	if err == nil && len(q.Scope) < len(q.marks) && len(q.Wanted()) == 0 {
		err = client.ErrNoScope // the resource no longer has any of them
	}
	if err != nil {
		return nil, told(err)
	}
	q.Scope = standing.Scope
	return standing.Resource, nil
}

// permission returns what a client asks for with a request.
func permission(c *oauth.Client, reply Reply, q *Request, userID string) client.Permission {
	return client.Permission{Client: c, UserID: userID, RequestID: q.ID, GrantType: oauth.AuthorizationCode,
		RedirectURI: reply.RedirectURI, Scope: q.Scope}
}

// ErrSignedOut means that the session of an authorization has ended since it was resumed.
var ErrSignedOut = errors.New("interaction: the session has ended")

// ErrNotEntitled means that the person may not use the MCP server, or nothing of what the client asks for there.
var ErrNotEntitled = oauth.Refuse(oauth.AccessDenied, "the person is not entitled to use this MCP server, or what the "+
	"application asks for there")

// Entitle leaves out of the scopes of a what the person may not allow. It returns ErrNotEntitled if nothing is left.
func (d *Desk) Entitle(r *http.Request, a *Authorization) error {
	if len(a.Resource.Limiting()) == 0 {
		return nil
	}
	err := d.DB.View(r.Context(), func(tx *store.Tx) error {
		standing, err := d.Clients.Confirm(tx, permission(a.Client, a.Reply, a.Request, a.Person.ID), a.Resource.ID)
		if err == nil {
			q := *a.Request
			q.Scope, a.Request = standing.Scope, &q
		}
		return err
	})
	switch {
	case errors.Is(err, client.ErrNotEntitled):
		return ErrNotEntitled
	case oauth.IsRefusal(err): // Confirm says so again
		return nil
	}
	return err
}

// MustWait reports whether an operator has to approve the client before the person can allow it anything.
func (d *Desk) MustWait(r *http.Request, a *Authorization) (bool, error) {
	if !d.Clients.ApprovalRequired || a.Client.Approved() {
		return false, nil
	}
	err := d.DB.View(r.Context(), func(tx *store.Tx) error {
		_, err := d.Clients.Confirm(tx, permission(a.Client, a.Reply, a.Request, a.Person.ID), a.Resource.ID)
		return err
	})
	switch {
	case errors.Is(err, client.ErrWaiting):
		return true, nil
	case oauth.IsRefusal(err): // Confirm says so again
		return false, nil
	}
	return false, err
}

// Confirm repeats the checks of Resume inside the transaction that writes the decision, and checks that the client need
// not wait for an operator. It returns what the client may still have of the allowed scopes, or a refusal as Resume
// does, client.ErrWaiting, or ErrSignedOut. The session cannot end before tx does.
func (d *Desk) Confirm(tx *store.Tx, a *Authorization, allowed scope.Set) (*client.Standing, error) {
	err := d.Sessions.Confirm(tx, a.Visitor)
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrSignedOut
	}
	if err != nil {
		return nil, err
	}
	p := permission(a.Client, a.Reply, a.Request, a.Person.ID)
	p.Scope = allowed
	standing, err := d.Clients.Confirm(tx, p, a.Resource.ID)
	switch {
	case err == nil:
		return standing, nil
	case !oauth.IsRefusal(err), errors.Is(err, client.ErrWaiting):
		return nil, err
	}
	if err = told(err); slices.Contains([]error{ErrSignedOut, errUnknownClient, errDisabledClient, errRedirectURI},
		err) {
		return nil, err // nothing may be sent to the client
	}
	return nil, &Answerable{a.Reply, err}
}

// told rewords an error of client.Directory.Standing, which is meant for callers of the token endpoint, for the person
// or the client in an authorization.
func told(err error) error {
	switch {
	case errors.Is(err, client.ErrGone), errors.Is(err, client.ErrNotAdmitted):
		return errUnknownClient
	case errors.Is(err, client.ErrDisabled):
		return errDisabledClient
	case errors.Is(err, client.ErrBlocked):
		return ErrBlocked
	case errors.Is(err, client.ErrRedirectURI):
		return errRedirectURI
	case errors.Is(err, client.ErrNoPerson):
		return ErrSignedOut
	case errors.Is(err, client.ErrNotEntitled):
		return ErrNotEntitled
	case errors.Is(err, client.ErrNoResource):
		return errNoResource
	case errors.Is(err, client.ErrUnbound):
		return oauth.Refuse(oauth.InvalidTarget, "the application is no longer allowed to use this MCP server")
	case errors.Is(err, client.ErrNoScope):
		return oauth.Refuse(oauth.InvalidScope, "the application is no longer allowed any of the scopes that it "+
			"requested")
	}
	return err
}

var errNoResource = oauth.Refuse(oauth.InvalidTarget, "the requested MCP server is no longer registered here")
