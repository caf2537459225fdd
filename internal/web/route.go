package web

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// Route describes paths of the server: their methods, callers and policies. Each endpoint package returns its routes,
// and a Router serves them. The policy of pages is in their adapter, Pages.HTML or Pages.HTMLFromAnySite.
type Route struct {
	// Path begins with a slash. A segment in braces, as in "/things/{id}", matches any one segment, which the handler
	// reads with r.PathValue("id").
	Path    string
	Also    []string // other paths with the same handlers
	Place   Place
	Methods Methods
	Caller  Caller
	// Escapes allows escapes in a segment in braces, for example of a URL. The handler reads the segment decoded.
	Escapes bool
	CORS    bool   // scripts of every origin may call it, without credentials
	Cache   string // Cache-Control of responses other than errors and pages; "" means "no-store"
}

// Place says where the paths of a route are if the issuer has a path. Otherwise all places are the same.
type Place int

// The places.
const (
	BelowIssuer Place = iota // the issuer's path, then the route's path
	WellKnown                // both BelowIssuer and the route's path, then the issuer's path (RFC 8414 §3.1)
	AtRoot                   // only the route's path
)

// Caller says who may call a route. It only documents the check, which each handler makes first; the router does not
// check it.
type Caller string

// The callers.
const (
	Anybody    Caller = "anybody"
	Clients    Caller = "clients"    // with client_id and, unless the client is public, authentication (RFC 6749 §2.3)
	Registered Caller = "registered" // clients with a registration access token (RFC 7592 §3)
	People     Caller = "people"     // in a browser: every response is a page
	Members    Caller = "members"    // people who are signed in; others are led to the sign-in
	Staff      Caller = "staff"      // people who are signed in and have a role; others are led to the sign-in
	Operators  Caller = "operators"  // with an access token for the route's resource; refusals are problems (RFC 9457)
)

// Paths returns the full paths of the route on a server whose issuer has the path base, or "" for none.
func (rt Route) Paths(base string) []string {
	var paths []string
	for _, path := range append([]string{rt.Path}, rt.Also...) {
		switch {
		case rt.Place == AtRoot, base == "":
			paths = append(paths, path)
		case rt.Place == WellKnown:
			paths = append(paths, base+path, path+base)
		case path == "/":
			paths = append(paths, base) // a slash at the end of a path is ignored
		default:
			paths = append(paths, base+path)
		}
	}
	return paths
}

// FromAnySite reports whether a page of another site may post to the route.
func (rt Route) FromAnySite() bool {
	for _, handler := range rt.Methods {
		if page, ok := handler.(page); !ok || !page.anySite {
			return false
		}
	}
	return true
}

// handler returns the handler of the route with its policy applied. fail refuses other methods than those of the route.
func (rt Route) handler(fail failure) http.Handler {
	var answers http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rt.Methods.serve(w, r, fail)
	})
	if rt.CORS {
		answers = cors(rt.Methods.Names(), answers)
	}
	cache := []string{rt.Cache}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rec, ok := w.(*recorder); ok {
			rec.route = rt.Path // for Front.Observe
		}
		if rt.Cache != "" {
			w.Header()["Cache-Control"] = cache // an error replaces it
		}
		answers.ServeHTTP(w, r)
	})
}

// Router passes each request to its route. Use NewRouter to make one.
//
// Router ignores repeated and trailing slashes in a path, and handlers see the path without them. So no redirect is
// needed, and no redirect can have a path that begins with two slashes, which would be another host. Otherwise paths
// must match exactly: dot segments and unnecessary escapes match nothing, and an escaped slash does not separate
// segments. Escapes are decoded only in segments in braces of routes with Escapes.
type Router struct {
	base     string
	paths    map[string]http.Handler
	patterns []pattern
	nothing  http.Handler // for people
	unknown  http.Handler // for programs
	problem  http.Handler // for programs of operators
	document http.Handler // for programs that look for a well-known document
}

// pattern is a path with segments in braces, and its handler.
type pattern struct {
	segments []string
	escapes  bool
	answers  http.Handler
}

// NewRouter returns a router for routes on a server with these pages. It panics if two routes have the same path.
func NewRouter(pages *Pages, routes ...Route) *Router {
	unknown := adapt(nowhere, failJSON)
	rt := &Router{
		base:     pages.Base,
		paths:    map[string]http.Handler{},
		nothing:  pages.NotFound(),
		unknown:  unknown,
		problem:  adapt(nowhere, failProblem),
		document: cors([]string{http.MethodGet, http.MethodHead}, unknown),
	}
	taken := map[string]bool{}
	for _, route := range routes {
		for _, path := range route.Paths(pages.Base) {
			answers := route.handler(rt.failure(path))
			if taken[path] {
				panic("web: two routes have the path " + path)
			}
			taken[path] = true
			if strings.Contains(path, "{") {
				rt.patterns = append(rt.patterns, pattern{strings.Split(path, "/"), route.Escapes, answers})
			} else {
				rt.paths[path] = answers
			}
		}
	}
	return rt
}

// ServeHTTP hands the request to the handler of its route, or answers with 404: people with a page, programs with JSON.
func (rt *Router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := plain(r.URL.Path)
	escaped := r.URL.RawPath != ""
	if !escaped {
		if path != r.URL.Path {
			r = withPath(r, path)
		}
		if answers, ok := rt.paths[path]; ok {
			answers.ServeHTTP(w, r)
			return
		}
	}
	if answers := rt.match(r, escaped); answers != nil {
		answers.ServeHTTP(w, r)
		return
	}
	switch {
	case strings.Contains(path+"/", "/.well-known/"):
		rt.document.ServeHTTP(w, r)
	case rt.forOperators(path):
		rt.problem.ServeHTTP(w, r)
	case strings.HasPrefix(path+"/", rt.base+"/oauth2/"):
		rt.unknown.ServeHTTP(w, r)
	default:
		rt.nothing.ServeHTTP(w, r)
	}
}

// forOperators reports whether a path is for the programs of operators, whose refusals are problems (RFC 9457).
func (rt *Router) forOperators(path string) bool {
	return strings.HasPrefix(path+"/", rt.base+"/admin/api/") || strings.HasPrefix(path+"/", rt.base+"/admin/mcp/")
}

// failure returns what writes a refusal of the router at a path.
func (rt *Router) failure(path string) failure {
	if rt.forOperators(path) {
		return failProblem
	}
	return failJSON
}

// match returns the handler of the first pattern that matches the path and sets the path values of r. It returns nil if
// no pattern matches. If escaped is true, it matches only patterns that allow escapes.
func (rt *Router) match(r *http.Request, escaped bool) http.Handler {
	path := r.URL.Path
	if escaped {
		path = plain(r.URL.EscapedPath())
	}
	segments := strings.Split(path, "/")
	for _, pattern := range rt.patterns {
		if len(pattern.segments) != len(segments) || escaped && !pattern.escapes {
			continue
		}
		fits := true
		for i, want := range pattern.segments {
			name, wild := strings.CutPrefix(want, "{")
			if !wild {
				fits = fits && segments[i] == want
				continue
			}
			value := segments[i]
			if escaped {
				var err error
				if value, err = url.PathUnescape(value); err != nil {
					return nil
				}
			}
			fits = fits && value != "" && value != "." && value != ".."
			r.SetPathValue(strings.TrimSuffix(name, "}"), value)
		}
		if fits {
			return pattern.answers
		}
	}
	return nil
}

// plain returns path without repeated slashes and, unless it is "/", without a slash at the end.
func plain(path string) string {
	if !strings.Contains(path, "//") && (path == "/" || !strings.HasSuffix(path, "/")) {
		return path
	}
	var b strings.Builder
	for segment := range strings.SplitSeq(path, "/") {
		if segment != "" {
			b.WriteByte('/')
			b.WriteString(segment)
		}
	}
	if b.Len() == 0 {
		return "/"
	}
	return b.String()
}

// withPath returns a copy of r with another path.
func withPath(r *http.Request, path string) *http.Request {
	copied, target := *r, *r.URL
	target.Path = path
	copied.URL = &target
	return &copied
}

// Methods has the handlers of a path by HTTP method. HEAD uses the handler of GET, and net/http leaves out the body
// (RFC 9110 §9.3.2). Other methods are refused with 405.
type Methods map[string]http.Handler

// serve passes the request to the handler of its method. fail writes the refusal of another method.
func (m Methods) serve(w http.ResponseWriter, r *http.Request, fail failure) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if handler, ok := m[method]; ok {
		handler.ServeHTTP(w, r)
		return
	}
	allowed := strings.Join(m.Names(), ", ")
	w.Header().Set("Allow", allowed)
	const answers = "this address supports only %s"
	fail(w, r, oauth.RefuseStatus(http.StatusMethodNotAllowed, oauth.InvalidRequest, answers, allowed))
}

// Names returns the supported methods, sorted. They include HEAD if they include GET.
func (m Methods) Names() []string {
	names := slices.Collect(maps.Keys(m))
	if m[http.MethodGet] != nil && m[http.MethodHead] == nil {
		names = append(names, http.MethodHead)
	}
	slices.Sort(names)
	return names
}

// errNothing refuses a request for an unknown path.
var errNothing = oauth.RefuseStatus(http.StatusNotFound, "not_found", "there is nothing at this address")

// nowhere refuses every request.
func nowhere(*http.Request) (Reply, error) { return Reply{}, errNothing }

// Header values that many responses share. They must not be modified in place.
var (
	anyOrigin = []string{"*"}
	exposed   = []string{"WWW-Authenticate, Retry-After, X-Request-Id"}
	plainJSON = []string{"application/json"}
	noSniff   = []string{"nosniff"}
	noStore   = []string{"no-store"}
	noCache   = []string{"no-cache"}
)

// cors allows scripts of every origin to call a path without credentials. This is safe because the response depends
// only on the request, never on the browser's user. Errors have the headers too. Preflights are answered with 204,
// without authentication (Fetch §3.2). names are the methods of the path. Paths without this wrapper send no CORS
// headers.
func cors(names []string, next http.Handler) http.Handler {
	methods := strings.Join(names, ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["Access-Control-Allow-Origin"] = anyOrigin
		if r.Method != http.MethodOptions {
			h["Access-Control-Expose-Headers"] = exposed
			next.ServeHTTP(w, r)
			return
		}
		h.Set("Allow", methods)
		h.Set("Access-Control-Allow-Methods", methods)
		h.Set("Access-Control-Max-Age", "7200")
		h.Set("Vary", "Access-Control-Request-Headers")
		// MCP clients send custom headers, and * does not include Authorization.
		if names := r.Header.Get("Access-Control-Request-Headers"); fieldNames(names) {
			h.Set("Access-Control-Allow-Headers", names)
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

// fieldNames reports whether list is a list of header names (RFC 9110 §5.1) of at most 2048 bytes.
func fieldNames(list string) bool {
	if list == "" || len(list) > 2048 {
		return false
	}
	for _, c := range []byte(list) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			strings.IndexByte("!#$%&'*+-.^_`|~, ", c) >= 0:
		default:
			return false
		}
	}
	return true
}
