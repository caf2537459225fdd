package registration

import "github.com/cardea-auth/cardea/internal/web"

// Routes returns the routes of client registration and management. Clients of MCP 2025-03-26 call /register if they
// find no metadata.
func (e *Endpoint) Routes() []web.Route {
	return []web.Route{
		{ // RFC 7591 §3.1
			Path: "/oauth2/register", Also: []string{"/register"},
			Methods: web.Methods{"POST": web.JSON(e.Register)}, Caller: web.Anybody, CORS: true,
		},
		{ // RFC 7592 §2
			Path:    "/oauth2/register/{client_id}",
			Methods: web.Methods{"GET": web.JSON(e.Read), "PUT": web.JSON(e.Update), "DELETE": web.JSON(e.Delete)},
			Caller:  web.Registered, CORS: true,
		},
	}
}
