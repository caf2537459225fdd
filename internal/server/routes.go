package server

import (
	"net/http"
	"slices"
	"time"

	"github.com/cardea-auth/cardea/internal/web"
)

// Routes returns all routes of the server.
func (s *Server) Routes() []web.Route {
	routes := slices.Concat(s.discovery.Routes(), s.authorization.Routes(), s.token.Routes(), s.login.Routes(),
		s.account.Routes(), s.invite.Routes(), s.reset.Routes())
	if s.registration != nil {
		routes = append(routes, s.registration.Routes()...)
	}
	if s.adminapi != nil {
		routes = slices.Concat(routes, s.adminapi.Routes(), s.console.Routes())
	}
	if s.setup != nil {
		routes = append(routes, s.setup.Routes()...)
	}
	return append(routes,
		web.Assets(s.pages.Brand),
		web.Route{Path: "/healthz", Place: web.AtRoot, Methods: web.Methods{"GET": web.JSON(s.alive)},
			Caller: web.Anybody},
		web.Route{Path: "/readyz", Place: web.AtRoot, Methods: web.Methods{"GET": web.JSON(s.ready)},
			Caller: web.Anybody},
	)
}

// Handler returns the handler of all routes, behind the middleware that every request passes through.
func (s *Server) Handler() http.Handler {
	front := &web.Front{
		Logger:         s.log,
		TrustedProxies: s.config.TrustedProxies,
		HTTPS:          s.pages.Secure,
		Now:            time.Now,
		Dates:          s.db.Now,
		Observe:        s.watcher.Request,
	}
	handler := front.Wrap(web.NewRouter(s.pages, s.Routes()...))
	if s.watcher.Wrap != nil {
		handler = s.watcher.Wrap(handler)
	}
	return handler
}
