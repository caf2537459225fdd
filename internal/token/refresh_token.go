package token

import (
	"context"
	"errors"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/scope"
)

func init() { exchanges[oauth.RefreshToken] = (*Endpoint).refreshToken }

// refreshToken rotates a refresh token (OAuth 2.1 §4.3). Each use raises the grant's generation by one. For a short
// grace period the previous generation is answered with the same successor, because processes that share a token race
// and responses get lost. After that, or once the successor has been used, a second use counts as theft and revokes the
// grant. So does a token that is newer than the grant: the database went back to an earlier state, in which a thief's
// older token counts again, so that nobody can tell whose the grant is.
func (e *Endpoint) refreshToken(tx *store.Tx, req *Request) (*Granted, error) {
	presented := req.Form.Get("refresh_token")
	if presented == "" {
		return nil, oauth.Refuse(oauth.InvalidRequest, "refresh_token is missing")
	}
	grant, parties, generation, err := e.grantOf(tx, presented)
	switch {
	case err != nil:
		return nil, err
	case grant == nil:
		return nil, errUnknownToken
	case !grant.IsOf(req.Client):
		return nil, oauth.Because(errUnknownToken, errNotIts)
	}
	standing, err := e.standing(req, grant, parties, "")
	switch {
	case err != nil:
		return nil, err
	case !grant.Live(tx.Now()):
		return nil, client.ErrRevoked
	}
	if err := req.agree(standing.Resource); err != nil {
		return nil, err
	}
	granted := &Granted{Grant: grant, Client: standing.Client, Resource: standing.Resource, Subject: grant.UserID,
		Generation: generation + 1}
	if granted.Scope, err = req.narrow(standing); err != nil {
		return nil, err
	}

	switch err := req.confirm(tx); {
	case errors.Is(err, ErrPersonGone):
		return nil, e.gone(tx, grant)
	case err != nil:
		return nil, err
	}
	// The place in the status list may have changed since the grant was read.
	grant.StatusIndex, err = tx.RotateGrant(grant.ID, generation, e.idleDeadline(grant, standing.Resource, tx.Now()))
	if !errors.Is(err, store.ErrNotFound) {
		return granted, err
	}
	if grant, err = tx.Grant(grant.ID); err != nil { // it may have changed since it was read
		return nil, err
	}
	granted.Grant = grant
	switch {
	case !grant.Live(tx.Now()):
		return nil, client.ErrRevoked
	case grant.Generation == generation+1 && tx.Now().Sub(grant.RotatedAt) < e.Lifetimes.Grace:
		return granted, tx.Conclude(audit.Grace(grant.ClientID, grant.UserID, grant.ID,
			grant.RotatedFrom == tx.Address()), nil)
	}
	if generation > grant.Generation {
		return nil, e.reused(tx, grant, "refresh_token_newer",
			"the refresh token is newer than the restored database; its grant is revoked: authorize again")
	}
	return nil, e.reused(tx, grant, "refresh_token_reuse",
		"the refresh token was used before; its grant is revoked: authorize again")
}

// askProviders asks the identity providers about the person of the grant that req refreshes. It asks only for a token
// that the client could use, so that nobody else makes this server ask.
func (e *Endpoint) askProviders(ctx context.Context, req *Request) (err error) {
	userID := ""
	err = e.DB.View(ctx, func(tx *store.Tx) error {
		grant, _, _, err := e.grantOf(tx, req.Form.Get("refresh_token"))
		if err == nil && grant != nil && grant.IsOf(req.Client) && grant.Live(tx.Now()) {
			userID = grant.UserID
		}
		return err
	})
	if err == nil {
		req.confirm, err = e.StillKnown(ctx, userID)
	}
	return err
}

// gone revokes the grant of a person whom an identity provider no longer knows, and returns ErrPersonGone.
func (e *Endpoint) gone(tx *store.Tx, grant *oauth.Grant) error {
	const why = "provider_refused"
	ended, err := tx.RevokeGrant(grant.ID, why)
	if err == nil && ended {
		err = tx.Record(audit.Grant(grant.ID, grant.ClientID, grant.UserID, why).Allow())
	}
	if err != nil {
		return err
	}
	return ErrPersonGone
}

var errUnknownToken = oauth.Refuse(oauth.InvalidGrant, "the refresh token is unknown: authorize again")

// narrow returns the scopes of a refreshed token: those of the grant's remaining scopes that the request names (RFC
// 6749 §6), or all of them if it names none or only tolerated ones (see oauth.OnlyTolerated). It ignores scopes that
// the grant does not have, and refuses with invalid_scope if none is left.
func (req *Request) narrow(standing *client.Standing) (scope.Set, error) {
	asked, err := oauth.ParseScope(req.Form.Get("scope"))
	if err != nil {
		return nil, err
	}
	if oauth.OnlyTolerated(asked) {
		return standing.Scope, nil
	}
	var granted scope.Set
	for _, name := range standing.Scope {
		if asked.Covers(name) {
			granted = append(granted, name)
		}
	}
	for _, name := range asked { // a scope below a granted wildcard
		if !granted.Has(name) && standing.Scope.Covers(name) && standing.Resource.Permits(standing.Client, name) {
			granted = append(granted, name)
		}
	}
	if oauth.OnlyTolerated(granted) {
		return nil, oauth.Refuse(oauth.InvalidScope,
			"none of the requested scopes belongs to this grant: request some of %s", standing.Scope)
	}
	return granted, nil
}
