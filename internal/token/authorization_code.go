package token

import (
	"errors"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

func init() { exchanges[oauth.AuthorizationCode] = (*Endpoint).authorizationCode }

// authorizationCode redeems a code (OAuth 2.1 §4.1.3). A request with the wrong client, redirect URI or resource does
// not spend the code, and neither does one whose client, person or resource is no longer allowed; one with a wrong
// verifier does. A second use by the code's own client revokes the grant and every token issued from it (§4.1.2). For
// any other client the code is unknown.
func (e *Endpoint) authorizationCode(tx *store.Tx, req *Request) (*Granted, error) {
	presented, verifier := req.Form.Get("code"), req.Form.Get("code_verifier")
	if presented == "" {
		return nil, oauth.Refuse(oauth.InvalidRequest, "code is missing")
	}
	code, err := tx.Code(oauth.Hash(presented))
	if errors.Is(err, store.ErrNotFound) {
		return nil, errUnknownCode
	}
	if err != nil {
		return nil, err
	}
	grant, parties, err := tx.GrantParties(code.GrantID)
	if err != nil {
		return nil, err
	}
	switch {
	case !grant.IsOf(req.Client):
		return nil, oauth.Because(errUnknownCode, errNotIts)
	case !code.SpentAt.IsZero():
		return nil, e.codeReused(tx, grant)
	case !tx.Now().Before(code.ExpiresAt):
		return nil, errCodeExpired
	}
	standing, err := e.standing(req, grant, parties, code.RedirectURI)
	switch {
	case err != nil:
		return nil, err
	case req.Form.Has("redirect_uri") && !oauth.SameRedirectURI(code.RedirectURI, req.Form.Get("redirect_uri")):
		return nil, oauth.Refuse(oauth.InvalidGrant, "redirect_uri differs from the one in the authorization request")
	case verifier == "":
		return nil, oauth.Refuse(oauth.InvalidGrant, "code_verifier is missing (RFC 7636 section 4.5)")
	}
	if err := req.agree(standing.Resource); err != nil {
		return nil, err
	}

	spent, err := tx.SpendCode(code.Hash)
	if err != nil {
		return nil, err
	}
	if !spent { // another request spent it, or the grant ended, since it was read
		if code, err = tx.Code(code.Hash); err != nil {
			return nil, err
		}
		if !code.SpentAt.IsZero() {
			return nil, e.codeReused(tx, grant)
		}
		return nil, client.ErrRevoked
	}
	if !code.Challenge.Verify(verifier) {
		if _, err := tx.RevokeGrant(grant.ID, "wrong_verifier"); err != nil {
			return nil, err
		}
		return nil, oauth.Refuse(oauth.InvalidGrant,
			"code_verifier does not match the code_challenge; the code cannot be used again")
	}

	granted := &Granted{Grant: grant, Client: standing.Client, Resource: standing.Resource, Subject: grant.UserID,
		Scope: standing.Scope}
	deadline := tx.Now().Add(e.accessTTL(standing.Client, standing.Resource))
	if grant.Refreshable && standing.Client.May(oauth.RefreshToken) {
		granted.Generation, deadline = 1, e.idleDeadline(grant, standing.Resource, tx.Now())
	}
	err = tx.RedeemGrant(grant.ID, granted.Generation, deadline, req.Method)
	if errors.Is(err, store.ErrNotFound) { // revoked since the code was spent
		return nil, client.ErrRevoked
	}
	if err != nil {
		return nil, err
	}
	if standing.Client.UsedAt.IsZero() {
		err = tx.ClientUsed(standing.Client.ID)
	}
	return granted, err
}

var (
	errUnknownCode = oauth.Refuse(oauth.InvalidGrant,
		"the code is unknown, or was issued too long ago: start a new authorization request")
	errCodeExpired = oauth.Refuse(oauth.InvalidGrant,
		"the code has expired: start a new authorization request, and redeem its code at once")
	// errNotIts is the cause that the audit log gives for a code or a refresh token of another client. The client is
	// not told.
	errNotIts = errors.New("it was issued to another client")
)

func (e *Endpoint) codeReused(tx *store.Tx, g *oauth.Grant) error {
	return e.reused(tx, g, "code_reuse", "the code was used before; the tokens issued from it are revoked")
}

// reused revokes a grant if one of its credentials was used twice, because one of the two uses may be a thief's and the
// server cannot tell which (RFC 9700 §4.14.2).
func (e *Endpoint) reused(tx *store.Tx, g *oauth.Grant, what, description string) error {
	alive, err := tx.RevokeGrant(g.ID, what)
	if err != nil {
		return err
	}
	refusal := oauth.Refuse(oauth.InvalidGrant, "%s", description)
	if !alive { // the reuse is recorded only once
		return refusal
	}
	return tx.Conclude(audit.Reuse(g.ClientID, g.UserID, g.ID, what), refusal)
}
