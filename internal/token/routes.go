package token

import (
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

// Routes returns the routes of the token, introspection and revocation endpoints. Clients of MCP 2025-03-26 call /token
// if they find no metadata.
func (e *Endpoint) Routes() []web.Route {
	return []web.Route{
		{ // RFC 6749 §3.2
			Path: "/oauth2/token", Also: []string{"/token"},
			Methods: web.Methods{"POST": web.JSON(e.Token)}, Caller: web.Clients, CORS: true,
		},
		{ // RFC 7662 §2.1
			Path:    "/oauth2/introspect",
			Methods: web.Methods{"POST": web.JSON(e.Introspect)}, Caller: web.Clients,
		},
		{ // RFC 7009 §2.1
			Path:    "/oauth2/revoke",
			Methods: web.Methods{"POST": web.JSON(e.Revoke)}, Caller: web.Clients, CORS: true,
		},
		{ // tool calls that guards and gateways report
			Path:    "/oauth2/events",
			Methods: web.Methods{"POST": web.JSON(e.Events)}, Caller: web.Clients,
		},
		{ // Token Status List §8.1
			Path:    oauth.StatusPath + "{list}",
			Methods: web.Methods{"GET": web.JSON(e.Status)}, Caller: web.Anybody, CORS: true,
			Cache: "public, max-age=1",
		},
	}
}
