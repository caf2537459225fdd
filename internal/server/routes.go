package server

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/assertion"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/registration"
	"github.com/cardea-auth/cardea/internal/web"
)

// Route is one path that the server answers.
type Route struct {
	Path    string   // below the issuer's own path, but for the well-known documents
	Methods []string // sorted
	CORS    bool     // scripts of every origin may call it, without credentials
}

// Routes lists every path, sorted, for the tests that walk it. Assets are not
// among them.
func (s *Server) Routes() []Route {
	var routes []Route
	for path, e := range s.endpoints() {
		routes = append(routes, Route{Path: path, Methods: slices.Sorted(maps.Keys(e.methods)), CORS: e.cors})
	}
	slices.SortFunc(routes, func(a, b Route) int { return strings.Compare(a.Path, b.Path) })
	return routes
}

// endpoint is what one path answers.
type endpoint struct {
	methods web.Methods
	cors    bool
}

// forScripts is an endpoint that browser-based clients call from their own
// origin; the others are for navigation, for servers, or for operators.
func forScripts(methods web.Methods) endpoint { return endpoint{methods, true} }

// document is what is only read, by HEAD too (RFC 9110 §9.3.2); pages are not
// among them, for what a page does follows from its method.
func document(h http.Handler) web.Methods { return web.Methods{"GET": h, "HEAD": h} }

// endpoints is the route table: surface and standard side by side.
func (s *Server) endpoints() map[string]endpoint {
	metadata := forScripts(document(web.JSON(s.discovery.Metadata))) // RFC 8414, OpenID Connect Discovery
	jwks := forScripts(document(web.JSON(s.discovery.JWKS)))         // RFC 7517
	authorize := endpoint{methods: web.Methods{                      // OAuth 2.1 §4.1
		"GET":  s.pages.HTMLFromAnySite(s.authorization.Authorize),
		"POST": s.pages.HTMLFromAnySite(s.authorization.Authorize),
	}}
	token := forScripts(web.Methods{"POST": web.JSON(s.token.Token)}) // RFC 6749 §3.2

	routes := map[string]endpoint{
		s.wellKnown("/oauth-authorization-server"): metadata,
		s.wellKnown("/openid-configuration"):       metadata,
		s.base + "/.well-known/jwks":               jwks,
		s.base + "/.well-known/jwks.json":          jwks,
		s.base + "/oauth2/authorize":               authorize,
		s.base + "/oauth2/token":                   token,
		s.base + "/oauth2/introspect":              {methods: web.Methods{"POST": web.JSON(s.token.Introspect)}}, // RFC 7662
		s.base + "/oauth2/revoke":                  forScripts(web.Methods{"POST": web.JSON(s.token.Revoke)}),    // RFC 7009
		s.base + "/login":                          {methods: web.Methods{"GET": s.pages.HTML(s.login.SignIn), "POST": s.pages.HTML(s.login.Post)}},
		s.base + "/logout":                         {methods: web.Methods{"GET": s.pages.HTML(s.login.ConfirmSignOut), "POST": s.pages.HTML(s.login.SignOut)}},
		s.base + "/consent":                        {methods: web.Methods{"GET": s.pages.HTML(s.authorization.Consent), "POST": s.pages.HTML(s.authorization.Decide)}},
		s.base + "/consent/logo":                   {methods: web.Methods{"GET": s.pages.HTML(s.authorization.Logo)}},

		// What MCP 2025-03-26 clients call when they find no metadata.
		s.base + "/authorize": authorize,
		s.base + "/token":     token,

		"/healthz": {methods: document(web.JSON(s.alive))},
		"/readyz":  {methods: document(web.JSON(s.ready))},
	}
	if s.base != "" { // the appended form, and that of clients which drop the issuer's path
		routes[s.base+"/.well-known/openid-configuration"] = metadata
		routes[s.base+"/.well-known/oauth-authorization-server"] = metadata
	}
	if s.config.Registration.DCR != "off" {
		register := forScripts(web.Methods{"POST": web.JSON(s.registration.Register)}) // RFC 7591
		routes[s.base+"/oauth2/register"] = register
		routes[s.base+"/register"] = register
		routes[s.base+registrations+"{client_id}"] = forScripts(web.Methods{ // RFC 7592
			"GET":    web.JSON(s.registration.Read),
			"PUT":    web.JSON(s.registration.Update),
			"DELETE": web.JSON(s.registration.Delete),
		})
	}
	return routes
}

// registrations is the path below which each client manages its registration.
const registrations = "/oauth2/register/"

// wellKnown returns the path of a document about the issuer: its own path comes
// after the name (RFC 8414 §3.1).
func (s *Server) wellKnown(name string) string { return "/.well-known" + name + s.base }

// Handler returns everything the server answers, behind what every request
// passes through.
func (s *Server) Handler() http.Handler {
	routes := map[string]http.Handler{}
	for path, e := range s.endpoints() {
		if e.cors {
			routes[path] = web.CORS(e.methods)
		} else {
			routes[path] = e.methods
		}
	}
	registration := routes[s.base+registrations+"{client_id}"]
	assets := http.StripPrefix(s.base, web.Assets())
	notFound := s.pages.NotFound()
	// A map, not a ServeMux: a path is what it says, and nothing is redirected to a
	// cleaner spelling of it.
	all := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		id, below := strings.CutPrefix(path, s.base+registrations)
		switch handler, ok := routes[path]; {
		case r.URL.RawPath != "":
			web.NotFound().ServeHTTP(w, r)
		case below && registration != nil && id != "" && !strings.Contains(id, "/"):
			r.SetPathValue("client_id", id)
			registration.ServeHTTP(w, r)
		case ok:
			handler.ServeHTTP(w, r)
		case strings.HasPrefix(path, s.base+"/assets/"):
			assets.ServeHTTP(w, r)
		case strings.Contains(path, "/.well-known/"), strings.HasPrefix(path, s.base+"/oauth2/"):
			web.NotFound().ServeHTTP(w, r)
		default:
			notFound.ServeHTTP(w, r)
		}
	})
	front := &web.Front{
		Logger:         s.log,
		TrustedProxies: s.config.TrustedProxies,
		HTTPS:          s.pages.Secure,
		Now:            time.Now,
	}
	return front.Wrap(all)
}

// health is the answer of the two health endpoints.
type health struct {
	Status string `json:"status"`
}

// alive answers GET /healthz: the process serves requests.
func (s *Server) alive(*http.Request) (health, error) { return health{"ok"}, nil }

// ready answers GET /readyz: the database answers and there are keys to sign
// with; else 503 with the reason.
func (s *Server) ready(r *http.Request) (health, error) {
	if err := s.db.Ping(r.Context()); err != nil {
		s.log.WarnContext(r.Context(), "not ready: the database does not answer", "error", err)
		return health{}, oauth.Refuse(oauth.TemporarilyUnavailable, "the database does not answer")
	}
	algs, err := s.keys.Algs(r.Context())
	if err == nil && len(algs) == 0 {
		err = errors.New("there is no signing key")
	}
	if err != nil {
		s.log.WarnContext(r.Context(), "not ready: no signing keys", "error", err)
		return health{}, oauth.Refuse(oauth.TemporarilyUnavailable, "the signing keys cannot be loaded")
	}
	return health{"ok"}, nil
}

// senders is how many senders each limit tells apart.
const senders = 100_000

// newLimits returns the limits of the configuration, on the server's clock.
func newLimits(c config.Config, now func() time.Time) limits {
	if !c.Limits.Enabled {
		return limits{}
	}
	delays := func(free int) limit.Delays {
		return limit.Delays{Free: free, First: time.Second, Longest: 5 * time.Minute, Forget: time.Hour}
	}
	return limits{
		failures:      limit.New(c.Limits.Failures, senders, now),
		registrations: registration.NewAdmission(c.Limits.Registrations, c.Limits.AllRegistrations, senders, now),
		documents:     limit.New(c.Limits.Documents, senders, now),
		allDocuments:  limit.New(c.Limits.AllDocuments, 1, now),
		keySets:       limit.New(assertion.KeySetRate, senders, now),
		assertions:    limit.New(c.Limits.Assertions, senders, now),
		accounts:      limit.NewBackoff(delays(c.Limits.AccountFailures), senders, now),
		addresses:     limit.NewBackoff(delays(c.Limits.AddressFailures), senders, now),
	}
}
