package token

import (
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

func init() { exchanges[oauth.ClientCredentials] = (*Endpoint).clientCredentials }

// clientCredentials grants a client access in its own name (OAuth 2.1 §4.2). The
// resource may be named by resource, by audience (as other servers call it), or
// be the client's own or the only one. There is never a refresh token.
//
// Nothing is written but the event, so that no transaction is waited for: client and
// resource are those in memory, which follows other processes within a second. A token
// that was issued to one that ended in that second is worth nothing at introspection.
func (e *Endpoint) clientCredentials(_ *store.Tx, req *Request) (*Granted, error) {
	resource, err := oauth.TargetOf(req.Client, req.Resources, append(req.Form["resource"], req.Form["audience"]...))
	if err != nil {
		return nil, err
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
