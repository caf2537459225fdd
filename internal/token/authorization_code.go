package token

import (
	"errors"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// authorizationCode redeems a code (OAuth 2.1 §4.1.3). A request that names the
// wrong client, redirect URI or resource leaves the code as it is; one with a
// wrong verifier spends it. A second use by the code's own client ends the grant
// and every token that came of it (§4.1.2).
func (e *Endpoint) authorizationCode(tx *store.Tx, req *Request) (*Granted, error) {
	presented, verifier := req.Form.Get("code"), req.Form.Get("code_verifier")
	if presented == "" {
		return nil, oauth.Refuse(oauth.InvalidRequest, "code is missing")
	}
	code, err := tx.Code(oauth.Hash(presented))
	if errors.Is(err, store.ErrNotFound) {
		return nil, oauth.Refuse(oauth.InvalidGrant, "the code is unknown, or was issued too long ago")
	}
	if err != nil {
		return nil, err
	}
	grant, err := tx.Grant(code.GrantID)
	if err != nil {
		return nil, err
	}
	switch {
	case grant.ClientID != req.Client.ID:
		return nil, oauth.Refuse(oauth.InvalidGrant, "the code was issued to another client")
	case !code.SpentAt.IsZero():
		return nil, e.reused(tx, grant, "code_reuse", "the code was used before; the tokens that came of it are revoked")
	case !tx.Now().Before(code.ExpiresAt):
		return nil, oauth.Refuse(oauth.InvalidGrant, "the code has expired: codes must be redeemed at once")
	case req.Form.Has("redirect_uri") && !oauth.SameRedirectURI(code.RedirectURI, req.Form.Get("redirect_uri")):
		return nil, oauth.Refuse(oauth.InvalidGrant, "redirect_uri is not the one of the authorization request")
	case verifier == "":
		return nil, oauth.Refuse(oauth.InvalidGrant, "code_verifier is missing (RFC 7636 section 4.5)")
	}
	resource, err := req.resourceOf(grant)
	if err != nil {
		return nil, err
	}
	if err := req.agree(resource); err != nil {
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
			return nil, e.reused(tx, grant, "code_reuse", "the code was used before; the tokens that came of it are revoked")
		}
		if err := req.shutOut(tx); err != nil {
			return nil, err
		}
		return nil, oauth.Refuse(oauth.InvalidGrant, "the code has expired, or its grant has ended")
	}
	if !code.Challenge.Verify(verifier) {
		if _, err := tx.RevokeGrant(grant.ID, "wrong_verifier"); err != nil {
			return nil, err
		}
		return nil, oauth.Refuse(oauth.InvalidGrant, "code_verifier does not match the code_challenge; the code is spent")
	}

	granted := &Granted{Grant: grant, Resource: resource, Subject: grant.UserID, Scope: grant.Scope}
	deadline := tx.Now().Add(e.accessTTL(req.Client, resource))
	if grant.Refreshable {
		granted.Generation, deadline = 1, e.idleDeadline(grant, resource, tx.Now())
	}
	err = tx.RedeemGrant(grant.ID, granted.Generation, deadline, req.Method)
	if errors.Is(err, store.ErrNotFound) { // revoked since the code was spent
		return nil, oauth.Refuse(oauth.InvalidGrant, "the grant of the code has ended")
	}
	if err != nil {
		return nil, err
	}
	if req.Client.UsedAt.IsZero() {
		err = tx.ClientUsed(req.Client.ID)
	}
	return granted, err
}

// reused ends a grant one of whose credentials was used twice: either the client
// or a thief used it first, and nobody can tell which (RFC 9700 §4.14.2).
func (e *Endpoint) reused(tx *store.Tx, g *oauth.Grant, what, description string) error {
	if _, err := tx.RevokeGrant(g.ID, what); err != nil {
		return err
	}
	refusal := oauth.Refuse(oauth.InvalidGrant, "%s", description)
	return tx.Conclude(audit.Reuse(g.ClientID, g.UserID, g.ID, what), refusal)
}
