package login

import "github.com/cardea-auth/cardea/internal/web"

// Routes returns the routes of the pages for signing in and out.
func (e *Endpoint) Routes() []web.Route {
	routes := []web.Route{
		{Path: "/", Methods: web.Methods{"GET": e.Pages.HTML(e.Home)}, Caller: web.People},
		{
			Path:    "/login",
			Methods: web.Methods{"GET": e.Pages.HTML(e.SignIn), "POST": e.Pages.HTML(passwords{e}.Post)},
			Caller:  web.People,
		},
		{
			Path: "/logout",
			Methods: web.Methods{"GET": e.Pages.HTML(e.ConfirmSignOut),
				"POST": e.Pages.HTML(e.SignOut)}, Caller: web.People,
		},
		{
			Path:    "/login/second",
			Methods: web.Methods{"GET": e.Pages.HTML(e.Second), "POST": e.Pages.HTML(e.PostSecond)}, Caller: web.People,
		},
	}
	for _, method := range e.methods() {
		routes = append(routes, method.Routes()...)
	}
	if e.SignUp {
		routes = append(routes, signUps{e}.routes()...)
	}
	return routes
}
