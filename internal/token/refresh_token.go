package token

import (
	"errors"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/scope"
)

// refreshToken rotates a refresh token (OAuth 2.1 §4.3). The grant is the family:
// its generation rises by one with each use. The generation before is answered
// with the same successor for a short grace, because processes that share a token
// race, and responses get lost; after that, or once the successor was used, it is
// a thief's, and the family ends.
func (e *Endpoint) refreshToken(tx *store.Tx, req *Request) (*Granted, error) {
	presented := req.Form.Get("refresh_token")
	if presented == "" {
		return nil, oauth.Refuse(oauth.InvalidRequest, "refresh_token is missing")
	}
	unknown := oauth.Refuse(oauth.InvalidGrant, "the refresh token is unknown")
	id, generation, ok := oauth.ParseRefreshToken(presented)
	if !ok {
		return nil, unknown
	}
	grant, err := tx.Grant(id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, unknown
	}
	if err != nil {
		return nil, err
	}
	switch {
	case !oauth.IsRefreshTokenOf(e.RefreshKey, grant, generation, presented), generation > grant.Generation:
		return nil, unknown
	case grant.ClientID != req.Client.ID:
		return nil, oauth.Refuse(oauth.InvalidGrant, "the refresh token was issued to another client")
	case !grant.Live(tx.Now()):
		if err := req.shutOut(tx); err != nil {
			return nil, err
		}
		return nil, oauth.Refuse(oauth.InvalidGrant, "the grant of this refresh token has ended: authorize again")
	}
	if err := keepsMethod(grant, req.Method); err != nil {
		return nil, err
	}
	resource, err := req.resourceOf(grant)
	if err != nil {
		return nil, err
	}
	if err := req.agree(resource); err != nil {
		return nil, err
	}
	granted := &Granted{Grant: grant, Resource: resource, Subject: grant.UserID, Generation: generation + 1}
	if granted.Scope, err = req.narrow(grant, resource); err != nil {
		return nil, err
	}

	_, err = tx.RotateGrant(grant.ID, generation, e.idleDeadline(grant, resource, tx.Now()))
	if !errors.Is(err, store.ErrNotFound) {
		return granted, err
	}
	if err := req.shutOut(tx); err != nil {
		return nil, err
	}
	user, err := tx.User(grant.UserID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if err != nil || user.Disabled() {
		return nil, oauth.Refuse(oauth.InvalidGrant, "the account behind this refresh token is disabled or gone")
	}
	if grant, err = tx.Grant(grant.ID); err != nil {
		return nil, err
	}
	switch {
	case !grant.Live(tx.Now()):
		return nil, oauth.Refuse(oauth.InvalidGrant, "the grant of this refresh token has ended: authorize again")
	case grant.Generation == generation+1 && tx.Now().Sub(grant.RotatedAt) < e.Lifetimes.Grace:
		return granted, nil
	}
	return nil, e.reused(tx, grant, "refresh_token_reuse", "the refresh token was used before; its grant is revoked: authorize again")
}

// narrow returns the scopes of a refreshed token: those of the grant that its
// resource and client still have, cut to what was asked for (RFC 6749 §6).
// Asking for more than was granted is no error, and gives nothing.
func (req *Request) narrow(g *oauth.Grant, r *oauth.Resource) (scope.Set, error) {
	asked, err := scope.Parse(req.Form.Get("scope"))
	if err != nil {
		return nil, oauth.Refuse(oauth.InvalidScope, "scope is not a list of scope names separated by spaces")
	}
	var granted scope.Set
	for _, name := range g.Scope {
		if (name == oauth.OfflineAccess || r.Permits(req.Client, name)) && (len(asked) == 0 || asked.Has(name)) {
			granted = append(granted, name)
		}
	}
	for _, name := range asked { // a scope below a granted wildcard
		if !granted.Has(name) && g.Scope.Covers(name) && r.Permits(req.Client, name) {
			granted = append(granted, name)
		}
	}
	if len(granted) == 0 && len(asked)+len(g.Scope) > 0 {
		return nil, oauth.Refuse(oauth.InvalidScope, "nothing of the requested scope belongs to this grant: %s", g.Scope)
	}
	return granted, nil
}
