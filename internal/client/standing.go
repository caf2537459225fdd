package client

import (
	"errors"
	"strings"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/scope"
)

// Permission describes what a client was allowed, or asks to be allowed. Directory.Standing checks it. A zero field is
// not checked.
type Permission struct {
	// Client is the client as the Directory found it. A client with a metadata document may be newer than the stored
	// one, or not stored yet.
	Client *oauth.Client
	// Grant is the consent on which the permission is based.
	Grant *oauth.Grant
	// UserID is the ID of the person that the server asks, if there is no Grant yet.
	UserID string
	// RequestID is the ID of the authorization request that the person answers.
	RequestID string
	// GrantType is the grant type that the client uses.
	GrantType oauth.GrantType
	// Method is the method with which the client authenticated.
	Method oauth.Method
	// RedirectURI is the URI to which the code is sent, or was sent.
	RedirectURI string
	// Scope is the scope that was granted or is about to be granted.
	Scope scope.Set
}

// Standing is what a permission still allows.
type Standing struct {
	Client   *oauth.Client
	Resource *oauth.Resource
	Scope    scope.Set // the part of the permission's scope that is still allowed
	// Once reports whether the person may give consent once only, so that the approval must be spent with it.
	Once bool
}

// Errors of Standing. Each is a refusal with the code that the token endpoint answers: invalid_client if the client is
// not accepted, unauthorized_client if it may not use the grant type, otherwise invalid_grant. Only ErrWaiting is never
// an answer of the token endpoint, because it is about a consent that is yet to be given.
var (
	ErrGone = oauth.RefuseClient(false,
		"the client is not registered here, or no longer registered: register it again")
	ErrDisabled = oauth.RefuseClient(false, "the client is disabled: an administrator of this server can enable it")
	ErrExpired  = oauth.RefuseClient(false,
		"the client has expired: an administrator of this server can make another")
	ErrBlocked     = oauth.RefuseClient(false, "an administrator of this server has blocked the client")
	ErrNotAdmitted = oauth.RefuseClient(false,
		"the operator of this server does not accept clients with a metadata document at this client_id")
	ErrMethod = oauth.RefuseClient(false,
		"the client did not use the token_endpoint_auth_method for which it is registered")
	ErrWeaker = oauth.RefuseClient(false, "the client authenticated when it received this grant and must still "+
		"authenticate: send its secret or a client_assertion")
	ErrGrantType   = oauth.Refuse(oauth.UnauthorizedClient, "the client is no longer registered for this grant type")
	ErrRedirectURI = oauth.Refuse(oauth.InvalidGrant,
		"redirect_uri is no longer registered for the client: authorize again")
	ErrRevoked  = oauth.Refuse(oauth.InvalidGrant, "the grant has ended: authorize again")
	ErrNoPerson = oauth.Refuse(oauth.InvalidGrant,
		"the account of the person who gave consent is disabled or deleted")
	ErrNoResource  = oauth.Refuse(oauth.InvalidGrant, "the resource is no longer registered here: authorize again")
	ErrUnbound     = oauth.Refuse(oauth.InvalidGrant, "the client may no longer request tokens for this resource")
	ErrWaiting     = oauth.Refuse(oauth.AccessDenied, "an administrator of this server has to approve the client first")
	ErrNotEntitled = oauth.Refuse(oauth.InvalidGrant, "the person may no longer use this resource, or nothing of "+
		"what was granted: an administrator of this server can put them into a group that may")
	ErrNoScope = oauth.Refuse(oauth.InvalidGrant,
		"the client may no longer use any scope of this grant at this resource: authorize again")
)

// Known returns c, which a lookup returned with err. It returns ErrGone if the client does not exist, ErrDisabled if an
// operator has disabled it, ErrExpired if it has ended, and otherwise err.
func (d *Directory) Known(c *oauth.Client, err error) (*oauth.Client, error) {
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && c == nil:
		return nil, ErrGone
	case err != nil:
		return nil, err
	case c.Disabled():
		return nil, ErrDisabled
	case c.Expired(d.DB.Now()):
		return nil, ErrExpired
	}
	return c, nil
}

// Standing returns what p still allows, according to parties. It is the only function that decides whether a client may
// still act at a resource, with these scopes and for this person. Code that writes calls it inside the transaction. If
// p allows nothing, the error is the first of those above that applies.
func (d *Directory) Standing(parties *store.Parties, p Permission) (*Standing, error) {
	c, err := d.Known(d.newest(parties.Client, p))
	if err != nil {
		return nil, err
	}
	r := parties.Resource
	switch {
	case BlockOf(parties.Blocks, c) != nil:
		return nil, ErrBlocked
	case !d.Admits(c):
		return nil, ErrNotAdmitted
	case p.Grant != nil && !p.Grant.IsOf(c):
		return nil, ErrGone
	case p.Method != "" && !c.Accepts(p.Method) && (!p.Method.IsSecret() || !c.Method.IsSecret()):
		return nil, ErrMethod
	case p.Grant != nil && p.Method == oauth.MethodNone && p.Grant.Method != "" && p.Grant.Method != oauth.MethodNone:
		return nil, ErrWeaker // a thief of the refresh token could not authenticate either
	case p.GrantType != "" && !c.May(p.GrantType):
		return nil, ErrGrantType
	case p.Grant != nil && (!p.Grant.RevokedAt.IsZero() || p.Grant.SignedOut(d.DB.Now())):
		return nil, ErrRevoked
	case p.RedirectURI != "" && !matches(c, p.RedirectURI):
		return nil, ErrRedirectURI
	case (p.Grant != nil || p.UserID != "") && (parties.User == nil || parties.User.Disabled()):
		return nil, ErrNoPerson
	case r == nil:
		return nil, ErrNoResource
	case !c.BoundTo(r.Identifier):
		return nil, ErrUnbound
	}
	left, ok := r.Permitted(c, p.Scope)
	if !ok {
		return nil, ErrNoScope
	}
	if p.Grant != nil || p.UserID != "" {
		entitled := r.EntitledTo(parties.Groups, left)
		if !r.Admits(parties.Groups) || oauth.OnlyTolerated(entitled) && !oauth.OnlyTolerated(left) {
			return nil, ErrNotEntitled
		}
		left = entitled
	}
	asked := d.ApprovalRequired && p.Grant == nil && p.UserID != "" && !c.Approved()
	if asked && parties.Approval == "" { // a grant that was made stays, because somebody approved of it then
		return nil, ErrWaiting
	}
	return &Standing{Client: c, Resource: r, Scope: left, Once: asked && parties.Approval == store.Once}, nil
}

// newest returns the client of p, with the operator's settings as they are stored and the metadata of the document that
// was fetched last.
func (d *Directory) newest(stored *oauth.Client, p Permission) (*oauth.Client, error) {
	found := p.Client
	switch {
	case found == nil, stored != nil && found.Origin != oauth.ByDocument:
		return replaced(stored, found)
	case stored == nil && found.Origin == oauth.ByDocument && p.Grant == nil:
		return found, nil // its document was just checked; it is stored with its first grant
	case stored == nil:
		return nil, store.ErrNotFound
	case stored.Origin != oauth.ByDocument: // an operator registered another client under its URL
		return nil, store.ErrNotFound
	case found.FetchedAt.After(stored.FetchedAt):
		merged := *stored
		merged.Metadata, merged.FetchedAt = found.Metadata, found.FetchedAt
		return replaced(&merged, found)
	}
	return replaced(stored, found)
}

// replaced returns stored, or store.ErrNotFound if the client that was found has been deleted since, even if another
// one with the same id was created.
func replaced(stored, found *oauth.Client) (*oauth.Client, error) {
	if stored == nil || found != nil && found.Incarnation != "" && found.Incarnation != stored.Incarnation {
		return nil, store.ErrNotFound
	}
	return stored, nil
}

func matches(c *oauth.Client, redirectURI string) bool {
	ok, _ := MatchRedirectURI(c, redirectURI)
	return ok
}

// Confirm is Standing for a permission without a Grant, inside the transaction that writes. resource is the id or the
// identifier of the resource. The parties are read in one statement, and the approval of the person in another if
// clients need one.
func (d *Directory) Confirm(tx *store.Tx, p Permission, resource string) (*Standing, error) {
	parties, err := tx.Parties(p.Client.ID, resource, p.UserID)
	if err == nil && d.ApprovalRequired && p.UserID != "" {
		parties.Approval, err = tx.Approval(p.Client.ID, p.UserID, p.RequestID)
	}
	if err != nil {
		return nil, err
	}
	return d.Standing(parties, p)
}

// Own is Standing for what a client does in its own name, without a person.
func (d *Directory) Own(parties *store.Parties, p Permission) (*Standing, error) {
	standing, err := d.Standing(parties, p)
	switch {
	case err != nil:
		return nil, err
	case !oauth.AnyGrant(standing.Client.GrantTypes, func(rule oauth.GrantRule) bool { return rule.OwnName }):
		return nil, ErrGrantType
	case !standing.Client.OwnTokens(standing.Resource):
		return nil, ErrUnbound
	}
	return standing, nil
}

// Errors of AccessToken.
var (
	ErrTokenRevoked = oauth.Refuse(oauth.InvalidToken, "the token was revoked")
	// ErrReplaced says that the client or the resource of a token is not the one for which it was issued, but a later
	// one with the same name.
	ErrReplaced = oauth.Refuse(oauth.InvalidToken,
		"the client or the resource was deleted and created again after the token was issued")
)

// AccessToken returns what an access token that this server signed still allows. It does not check the signature or the
// expiry. The error is the first of those above that applies.
func (d *Directory) AccessToken(tx *store.Tx, claims *oauth.Claims) (*Standing, error) {
	grant, parties, revoked, err := tx.TokenParties(claims)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, ErrRevoked
	case err != nil:
		return nil, err
	case revoked:
		return nil, ErrTokenRevoked
	}
	p := Permission{Grant: grant, Scope: scope.Of(strings.Fields(claims.Scope)...)}
	if grant != nil {
		p.GrantType = oauth.AuthorizationCode
	}
	judge := d.Standing
	if grant == nil {
		judge = d.Own
	}
	standing, err := judge(parties, p)
	switch {
	case err != nil:
		return nil, err
	case standing.Client.ID != claims.ClientID, standing.Resource.Identifier != claims.Audience,
		grant == nil && !claims.IsOwnToken(standing.Client, standing.Resource):
		return nil, ErrReplaced
	}
	return standing, nil
}
