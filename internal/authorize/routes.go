package authorize

import "github.com/cardea-auth/cardea/internal/web"

// Routes returns the routes of the authorization endpoint and the consent page. Clients of MCP 2025-03-26 call
// /authorize if they find no metadata.
func (e *Endpoint) Routes() []web.Route {
	authorize := e.Pages.HTMLFromAnySite(e.Authorize)
	return []web.Route{
		{Path: "/oauth2/authorize", Also: []string{"/authorize"},
			Methods: web.Methods{"GET": authorize, "POST": authorize}, Caller: web.People}, // OAuth 2.1 §3.1
		{Path: "/consent", Methods: web.Methods{"GET": e.Pages.HTML(e.Consent), "POST": e.Pages.HTML(e.Decide)},
			Caller: web.People},
		{Path: "/consent/stop", Methods: web.Methods{"GET": e.Pages.HTML(e.again), "POST": e.Pages.HTML(e.Stop)},
			Caller: web.People},
		{Path: "/consent/return", Methods: web.Methods{"GET": e.Pages.HTML(e.again), "POST": e.Pages.HTML(e.Return)},
			Caller: web.People},
		{Path: "/consent/logo", Methods: web.Methods{"GET": e.Pages.HTML(e.Logo)}, Caller: web.People},
	}
}
