package server

import (
	"net/http"
	"slices"
	"time"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/strangers"
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

// senders is the number of senders that each limit counts separately.
const senders = 100_000

// newLimits returns the limits of c. now is their clock.
func newLimits(c config.Config, now func() time.Time) limits {
	if !c.Limits.Enabled {
		return limits{}
	}
	delays := func(free int) limit.Delays {
		return limit.Delays{Free: free, First: time.Second, Longest: 5 * time.Minute, Forget: time.Hour}
	}
	shares := func(share, everyone limit.Rate) *strangers.Shares {
		return strangers.NewShares(strangers.Address, share, everyone, senders, now)
	}
	all := c.Limits.AllFailures
	return limits{
		failures:      limit.New(c.Limits.Failures, senders, now),
		recorded:      strangers.NewShares(strangers.Network, half(all), all, senders, now),
		registrations: shares(c.Limits.Registrations, c.Limits.AllRegistrations),
		updates:       shares(c.Limits.Registrations, c.Limits.AllRegistrations),
		fetches:       shares(c.Limits.Documents, c.Limits.AllDocuments),
		people:        limit.New(c.Limits.Documents, senders, now),
		assertions:    limit.New(c.Limits.Assertions, senders, now),
		unused:        shares(c.Limits.Failures, all),
		mails:         limit.New(c.Limits.Mails, senders, now),
		mailRequests:  shares(c.Limits.MailRequests, c.Limits.AllMailRequests),
		accounts:      limit.NewBackoff(delays(c.Limits.AccountFailures), senders, now),
		addresses:     limit.NewBackoff(delays(c.Limits.AddressFailures), senders, now),
	}
}

// half returns half of a rate.
func half(r limit.Rate) limit.Rate { return limit.Rate{Every: 2 * r.Every, Burst: max(1, r.Burst/2)} }
