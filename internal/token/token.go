// Package token implements the endpoints that issue tokens (/oauth2/token, with a file for each grant type), introspect
// them (/oauth2/introspect) and revoke them (/oauth2/revoke). RFC 6749 §3.2, OAuth 2.1 §3.2, RFC 9068, RFC 7662, RFC
// 7009.
package token

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/strangers"
	"github.com/cardea-auth/cardea/internal/web"
	"github.com/cardea-auth/cardea/scope"
)

// Endpoint implements the three endpoints. All fields must be set.
type Endpoint struct {
	DB        *store.DB
	Keys      *keys.Ring
	Clients   *client.Authenticator
	Strangers *strangers.Recorder
	Issuer    string
	// RefreshKey is the server key from which every refresh token is computed.
	RefreshKey []byte
	Lifetimes  Lifetimes
	SigningAlg string // of resources that name none
	// StillKnown asks the identity providers about a person whose agent refreshes. It returns what repeats their
	// answer in the transaction that decides: nil if the agent may go on, and otherwise a refusal, ErrPersonGone if
	// the grant ends. It is nil if no provider needs to be asked.
	StillKnown func(ctx context.Context, userID string) (confirm func(*store.Tx) error, err error)

	lists  statusLists
	blocks statusBlocks
}

// ErrPersonGone refuses to refresh for a person whom an identity provider no longer knows.
var ErrPersonGone = oauth.Refuse(oauth.InvalidGrant,
	"the identity provider of the person no longer vouches for them; the grant is revoked: authorize again")

// Lifetimes are the server's defaults. A resource or a client may have others.
type Lifetimes struct {
	Access      time.Duration
	RefreshIdle time.Duration // of a refresh token that is not used
	Grace       time.Duration // in which the previous refresh token is answered again
}

// Request is a token request with an authenticated client.
type Request struct {
	Client    *oauth.Client
	Method    oauth.Method // with which the client authenticated
	GrantType oauth.GrantType
	Form      url.Values
	Resources []*oauth.Resource // all that are registered

	// confirm is what Endpoint.StillKnown returned for the person of a grant that is refreshed. It agrees if no
	// provider was asked.
	confirm func(*store.Tx) error
}

// Granted is the decision of an exchange: what the tokens will contain.
type Granted struct {
	Grant    *oauth.Grant // nil for a client's own token
	Client   *oauth.Client
	Resource *oauth.Resource
	Subject  string
	Scope    scope.Set
	Groups   []string // that the access token tells
	// Generation is that of the refresh token to issue; 0: none.
	Generation int64
	// OwnIndex is the place of a client's own token in the status lists of machine clients.
	OwnIndex int64
}

// Response is a token response (RFC 6749 §5.1).
type Response struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"` // "Bearer"
	ExpiresIn    int64  `json:"expires_in"` // seconds
	Scope        string `json:"scope"`
	RefreshToken string `json:"refresh_token,omitempty"`
}

// An exchange decides what is granted to a request of its grant type, or refuses it. It neither signs tokens nor writes
// the response. tx is nil if the grant type is stateless.
type exchange func(e *Endpoint, tx *store.Tx, req *Request) (*Granted, error)

// exchanges has the exchange of each of oauth.GrantTypes. The file of each grant type adds its own.
var exchanges = map[oauth.GrantType]exchange{}

// Token answers POST /oauth2/token (RFC 6749 §3.2).
func (e *Endpoint) Token(r *http.Request) (*Response, error) {
	req, err := e.read(r)
	if err != nil {
		return nil, err
	}
	var granted *Granted
	if rule, _ := req.GrantType.Rule(); rule.Stateless {
		granted, err = exchanges[req.GrantType](e, nil, req)
		if err != nil {
			return nil, e.Strangers.Refuse(r, e.event(req, granted), err)
		}
		if granted.OwnIndex, err = e.ownIndex(r.Context(), granted); err != nil {
			return nil, err
		}
		if err := e.DB.Conclude(r.Context(), e.event(req, granted), nil); err != nil {
			return nil, err
		}
		return e.issue(r, granted)
	}
	if req.GrantType == oauth.RefreshToken && e.StillKnown != nil { // a read that others need not pay
		if err := e.askProviders(r.Context(), req); err != nil {
			return nil, err
		}
	}
	err = e.DB.Update(r.Context(), func(tx *store.Tx) error {
		if granted, err = exchanges[req.GrantType](e, tx, req); err == nil {
			err = granted.tell(tx)
		}
		return e.Strangers.Conclude(tx, r, e.event(req, granted), err)
	})
	if err != nil {
		return nil, err
	}
	return e.issue(r, granted)
}

// maxGroups is the largest number of groups in an access token, because it travels in a header of every call.
const maxGroups = 200

// tell adds the groups of the person if the resource asks for them: the first 200 in alphabetical order.
func (g *Granted) tell(tx *store.Tx) error {
	if g.Grant == nil || !g.Resource.TokenGroups {
		return nil
	}
	groups, err := tx.UserGroups(g.Grant.UserID)
	if err == nil {
		g.Groups = groups[g.Grant.UserID]
		g.Groups = g.Groups[:min(len(g.Groups), maxGroups)]
	}
	return err
}

// read authenticates the client and makes the checks that all grant types share.
func (e *Endpoint) read(r *http.Request) (*Request, error) {
	form, err := web.Form(r, "resource", "audience")
	if err != nil {
		return nil, e.Strangers.Refuse(r, audit.TokenRequest("", ""), err)
	}
	grantType := oauth.GrantType(form.Get("grant_type"))
	if _, served := grantType.Rule(); served {
		web.Kind(r.Context(), string(grantType))
	}
	c, method, err := e.Clients.Authenticate(r, form)
	if err != nil {
		return nil, e.Strangers.Refuse(r, audit.TokenRequest(client.Claimed(form), string(grantType)), err)
	}
	resources, err := e.DB.Resources(r.Context())
	if err != nil {
		return nil, err
	}
	rule, served := grantType.Rule()
	switch {
	case grantType == "":
		err = oauth.Refuse(oauth.InvalidRequest, "grant_type is missing")
	case !served:
		err = oauth.Refuse(oauth.UnsupportedGrantType, "grant_type is not one of %s", oauth.Listed(oauth.GrantTypes()))
	case rule.Authenticated && method == oauth.MethodNone:
		err = oauth.Refuse(oauth.UnauthorizedClient, "%s can only be used by clients that authenticate", grantType)
	case !c.May(grantType):
		err = oauth.Refuse(oauth.UnauthorizedClient, "the client is not registered for the grant type %s", grantType)
	}
	if err != nil {
		return nil, e.Strangers.Refuse(r, audit.TokenRequest(c.ID, string(grantType)), err)
	}
	return &Request{Client: c, Method: method, GrantType: grantType, Form: form, Resources: resources,
		confirm: func(*store.Tx) error { return nil }}, nil
}

// event returns the audit event of the answer to req; granted is nil for a refusal.
func (e *Endpoint) event(req *Request, granted *Granted) audit.Event {
	event := audit.TokenRequest(req.Client.ID, string(req.GrantType))
	if granted != nil {
		event.Resource, event.Scope = granted.Resource.Identifier, granted.Scope.String()
		if granted.Grant != nil {
			event.GrantID, event.UserID = granted.Grant.ID, granted.Grant.UserID
		}
	}
	return event
}

// standing returns what the grant that req relies on still allows, or a refusal. redirectURI is where its code was
// sent, or "" if that does not matter.
func (e *Endpoint) standing(req *Request, grant *oauth.Grant, parties *store.Parties,
	redirectURI string) (*client.Standing, error) {
	standing, err := e.Clients.Directory.Standing(parties, client.Permission{
		Client: req.Client, Grant: grant, GrantType: req.GrantType, Method: req.Method, RedirectURI: redirectURI,
		Scope: grant.Scope,
	})
	if refusal, ok := oauth.AsRefusal(err); ok && refusal.Code == oauth.InvalidClient {
		return nil, oauth.RefuseClient(req.Method == oauth.MethodBasic, "%s", refusal.Description)
	}
	return standing, err
}

// issue returns the signed tokens for what was granted (RFC 9068 §2).
func (e *Endpoint) issue(r *http.Request, granted *Granted) (*Response, error) {
	now := e.DB.Now()
	ttl := e.accessTTL(granted.Client, granted.Resource)
	claims := oauth.Claims{
		Issuer:   e.Issuer,
		Subject:  granted.Subject,
		Audience: granted.Resource.Identifier,
		Expiry:   now.Add(ttl).Unix(),
		IssuedAt: now.Unix(),
		ID:       oauth.NewID(oauth.OwnTokenPrefix(granted.Client, granted.Resource)),
		ClientID: granted.Client.ID,
		Scope:    granted.Scope.String(),
		Groups:   granted.Groups,
		Status:   oauth.StatusAt(e.Issuer, oauth.MachineStatus, granted.OwnIndex),
	}
	resp := &Response{TokenType: "Bearer", ExpiresIn: int64(ttl / time.Second), Scope: claims.Scope}
	if g := granted.Grant; g != nil {
		if left := g.EndsAt.Sub(now); left < ttl { // no token lasts longer than what the person allowed
			ttl = max(left, time.Second)
			claims.Expiry, resp.ExpiresIn = now.Add(ttl).Unix(), int64(ttl/time.Second)
		}
		claims.ID = oauth.NewID(g.ID + ".")
		claims.Status = oauth.StatusAt(e.Issuer, oauth.GrantStatus, g.StatusIndex)
		claims.AuthTime, claims.ACR, claims.AMR = g.SignedInAt.Unix(), oauth.ACR(g.AMR), g.AMR
		if granted.Generation > 0 {
			resp.RefreshToken = oauth.RefreshTokenOf(e.RefreshKey, g, granted.Generation)
		}
	}
	alg := granted.Resource.SigningAlg
	if alg == "" {
		alg = e.SigningAlg
	}
	var err error
	resp.AccessToken, err = e.Keys.Sign(r.Context(), alg, "at+jwt",
		claims.Shaped(granted.Resource.TokenShape, granted.Scope))
	return resp, err
}

// accessTTL returns the lifetime of an access token: the client's own, else the resource's, else the server's.
func (e *Endpoint) accessTTL(c *oauth.Client, r *oauth.Resource) time.Duration {
	switch {
	case c.AccessTTL > 0:
		return c.AccessTTL
	case r.AccessTTL > 0:
		return r.AccessTTL
	}
	return e.Lifetimes.Access
}

// idleDeadline returns when a grant that is used now ends unless it is used again.
func (e *Endpoint) idleDeadline(g *oauth.Grant, r *oauth.Resource, now time.Time) time.Time {
	idle := e.Lifetimes.RefreshIdle
	if r.RefreshIdleTTL > 0 {
		idle = r.RefreshIdleTTL
	}
	deadline := now.Add(idle)
	if g.EndsAt.Before(deadline) {
		return g.EndsAt
	}
	return deadline
}

// agree refuses a resource parameter that names a resource other than the grant's (RFC 8707 §2.2). It accepts a request
// without one.
func (req *Request) agree(r *oauth.Resource) error {
	named, err := oauth.FindResource(req.Resources, req.Form["resource"])
	switch {
	case err != nil:
		return err
	case named != nil && named.ID != r.ID:
		return oauth.Refuse(oauth.InvalidTarget, "resource is not the one that was authorized: %s", r.Identifier)
	}
	return nil
}
