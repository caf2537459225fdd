package client

import (
	"errors"
	"strings"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/scope"
)

// Permission is what a client was allowed once, or asks to be allowed: what
// Directory.Standing judges. What a zero field would say is not judged.
type Permission struct {
	// Client is the client as the Directory found it. One with a metadata document may
	// be newer than what is stored of it, or not be stored at all.
	Client *oauth.Client
	// Grant is the consent that the permission rests on.
	Grant *oauth.Grant
	// UserID is the person's, if there is no Grant yet.
	UserID string
	// GrantType is that by which the client acts.
	GrantType oauth.GrantType
	// Method is that by which the client proved who it is.
	Method oauth.Method
	// RedirectURI is where the code goes, or went.
	RedirectURI string
	// Scope is what was granted, or is about to be.
	Scope scope.Set
}

// Standing is what a permission is worth now.
type Standing struct {
	Client   *oauth.Client
	Resource *oauth.Resource
	Scope    scope.Set // what is left of the permission's
}

// Why a permission is worth nothing. Each is a refusal as the token endpoint answers
// it: invalid_client if the client itself does not count, else invalid_grant.
var (
	ErrGone        = oauth.RefuseClient(false, "the client is not registered here, or no longer: register it again")
	ErrDisabled    = oauth.RefuseClient(false, "the client is disabled: an administrator of this server can enable it")
	ErrNotAdmitted = oauth.RefuseClient(false, "the operator of this server does not accept clients with a metadata document at this client_id")
	ErrMethod      = oauth.RefuseClient(false, "the client is registered for another token_endpoint_auth_method than it uses")
	ErrWeaker      = oauth.RefuseClient(false, "the client authenticated when this grant began, and must go on doing so: send its secret or a client_assertion")
	ErrGrantType   = oauth.Refuse(oauth.UnauthorizedClient, "the client is not registered for this grant type any more")
	ErrRedirectURI = oauth.Refuse(oauth.InvalidGrant, "redirect_uri is not one that the client has registered any more: authorize again")
	ErrRevoked     = oauth.Refuse(oauth.InvalidGrant, "the grant has ended: authorize again")
	ErrNoPerson    = oauth.Refuse(oauth.InvalidGrant, "the account of the person who allowed this is disabled or gone")
	ErrNoResource  = oauth.Refuse(oauth.InvalidGrant, "the resource is no longer registered here: authorize again")
	ErrUnbound     = oauth.Refuse(oauth.InvalidGrant, "the client may not ask for tokens for this resource any more")
	ErrNoScope     = oauth.Refuse(oauth.InvalidGrant, "none of the scopes of this grant is allowed to the client at this resource any more: authorize again")
)

// Known passes on a client that was looked up: ErrGone if there is none, ErrDisabled if
// an operator has shut it out.
func Known(c *oauth.Client, err error) (*oauth.Client, error) {
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && c == nil:
		return nil, ErrGone
	case err != nil:
		return nil, err
	case c.Disabled():
		return nil, ErrDisabled
	}
	return c, nil
}

// Standing says what p is worth by what the database holds of its parties. It is the one
// place that decides whether a client, at a resource, with these scopes and for this
// person, still counts: who writes asks it inside the transaction. The error is one of
// those above, the first that holds.
func (d *Directory) Standing(parties *store.Parties, p Permission) (*Standing, error) {
	c, err := Known(d.newest(parties.Client, p))
	if err != nil {
		return nil, err
	}
	r := parties.Resource
	switch {
	case !d.Admits(c):
		return nil, ErrNotAdmitted
	case p.Grant != nil && !p.Grant.IsOf(c):
		return nil, ErrGone
	case p.Method != "" && !c.Accepts(p.Method) && (!p.Method.IsSecret() || !c.Method.IsSecret()):
		return nil, ErrMethod
	case p.Grant != nil && p.Method == oauth.MethodNone && p.Grant.Method != "" && p.Grant.Method != oauth.MethodNone:
		return nil, ErrWeaker // whoever took its token may offer nothing better
	case p.GrantType != "" && !c.May(p.GrantType):
		return nil, ErrGrantType
	case p.Grant != nil && !p.Grant.RevokedAt.IsZero():
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
	return &Standing{Client: c, Resource: r, Scope: left}, nil
}

// newest returns the client of p: what an operator says of it as it is stored, and what
// its metadata document says as it was read last.
func (d *Directory) newest(stored *oauth.Client, p Permission) (*oauth.Client, error) {
	found := p.Client
	switch {
	case found == nil, stored != nil && found.Origin != oauth.ByDocument:
		return replaced(stored, found)
	case stored == nil && found.Origin == oauth.ByDocument && p.Grant == nil:
		return found, nil // its document vouches for it; it is stored with its first grant
	case stored == nil:
		return nil, store.ErrNotFound
	case stored.Origin != oauth.ByDocument: // an operator registered another under its URL
		return nil, store.ErrNotFound
	case found.FetchedAt.After(stored.FetchedAt):
		merged := *stored
		merged.Metadata, merged.FetchedAt = found.Metadata, found.FetchedAt
		return replaced(&merged, found)
	}
	return replaced(stored, found)
}

// replaced returns stored, unless it has taken the place of another client with the same
// id since that was found.
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

// Confirm is Standing inside the transaction that writes what p is worth: for the
// resource with the given id or identifier, without a Grant, and by what the database
// says at that moment, in one statement.
func (d *Directory) Confirm(tx *store.Tx, p Permission, resource string) (*Standing, error) {
	parties, err := tx.Parties(p.Client.ID, resource, p.UserID)
	if err != nil {
		return nil, err
	}
	return d.Standing(parties, p)
}

// Errors of AccessToken.
var (
	ErrTokenRevoked = oauth.Refuse(oauth.InvalidToken, "the token was revoked")
	// ErrReplaced says that the client or the resource of a client's own token is not
	// the one it was issued for, but has its name.
	ErrReplaced = oauth.Refuse(oauth.InvalidToken, "the client or the resource was deleted since the token was issued, and made anew")
)

// AccessToken says what an access token is worth that this server signed: nothing has
// ended it before its time, and what it allows is allowed still. Its expiry is for the
// caller to judge. The error is one of those above, the first that holds.
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
	standing, err := d.Standing(parties, p)
	switch {
	case err != nil:
		return nil, err
	case grant == nil && !oauth.AnyGrant(standing.Client.GrantTypes, func(rule oauth.GrantRule) bool { return rule.OwnName }):
		return nil, ErrGrantType
	case standing.Client.ID != claims.ClientID, standing.Resource.Identifier != claims.Audience,
		grant == nil && !claims.IsOwnToken(standing.Client, standing.Resource):
		return nil, ErrReplaced
	}
	return standing, nil
}
