package token

import (
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

func init() { exchanges[oauth.ClientCredentials] = (*Endpoint).clientCredentials }

// clientCredentials grants a client access in its own name (OAuth 2.1 §4.2). The resource is the one that the parameter
// resource names, or audience, as other servers call it; without either it is the client's own or the only one. It
// never issues a refresh token.
//
// It writes only the audit event and so waits for no transaction. It uses the client and the resource in memory, which
// may be up to a second older than the database. If either has ended in that second, introspection answers that the
// token is not active.
func (e *Endpoint) clientCredentials(_ *store.Tx, req *Request) (*Granted, error) {
	resource, err := oauth.TargetOf(req.Client, req.Resources, append(req.Form["resource"], req.Form["audience"]...))
	if err != nil {
		return nil, err
	}
	if !req.Client.OwnTokens(resource) {
		return nil, oauth.Refuse(oauth.InvalidTarget,
			"this client is not bound to %s: an operator must name it as a resource of the client", resource.Identifier)
	}
	asked, err := oauth.ParseScope(req.Form.Get("scope"))
	if err != nil {
		return nil, err
	}
	granted := &Granted{Client: req.Client, Resource: resource, Subject: req.Client.ID}
	granted.Scope, err = resource.Grantable(req.Client, asked, false)
	if err != nil {
		return nil, err
	}
	return granted, nil
}
