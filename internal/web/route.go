package web

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// Route is something that the server answers: where, by which methods, for whom and under which policy. Each endpoint
// returns its own; a Router serves them. The policy of pages is in their adapter, Pages.HTML or Pages.HTMLFromAnySite.
type Route struct {
	// Path begins with a slash. A segment in braces, as in "/things/{id}", stands for any one segment, which the
	// handler reads by r.PathValue("id").
	Path    string
	Also    []string // other paths with the same answers
	Place   Place
	Methods Methods
	Caller  Caller
	// Escapes lets a segment in braces hold escapes, which the handler reads decoded: it may be a URL.
	Escapes bool
	CORS    bool   // scripts of every origin may call it, without credentials
	Cache   string // Cache-Control of what it answers, unless that is an error or a page; "" is "no-store"
}

// Place is where the paths of a route stand when the issuer has a path of its own. Without one, all places are the
// same.
type Place int

// The places.
const (
	BelowIssuer Place = iota // the issuer's path, then the route's
	WellKnown                // that, and the route's path, then the issuer's (RFC 8414 §3.1)
	AtRoot                   // the route's path alone
)

// Caller is whom a route answers. It states what the handlers ask for, each at the beginning; the router asks for
// nothing.
type Caller string

// The callers.
const (
	Anybody    Caller = "anybody"
	Clients    Caller = "clients"    // with client_id and, unless the client is public, proof of it (RFC 6749 §2.3)
	Registered Caller = "registered" // clients with a registration access token (RFC 7592 §3)
	People     Caller = "people"     // in a browser: every answer is a page
)

// Paths returns the full paths of the route on a server whose issuer has the path base, "" for none.
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

// handler returns what answers the route under its policy.
func (rt Route) handler() http.Handler {
	var answers http.Handler = rt.Methods
	if rt.CORS {
		answers = CORS(rt.Methods)
	}
	if rt.Cache == "" {
		return answers
	}
	cache := []string{rt.Cache}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Cache-Control"] = cache // which an error replaces
		answers.ServeHTTP(w, r)
	})
}

// Router hands each request to its route. Make it with NewRouter.
//
// Doubled and trailing slashes in a path are ignored, and handlers see the path without them: no redirect is needed,
// and none of ours can begin with two slashes, which is another host. Otherwise a path is what it says: dot segments
// and needless escapes lead nowhere, and an escaped slash separates nothing. Only in a segment in braces, on a route
// that says so, escapes are decoded.
type Router struct {
	base     string
	paths    map[string]http.Handler
	patterns []pattern
	nothing  http.Handler // for people
	unknown  http.Handler // for programs
	document http.Handler // for programs that look for a well-known document
}

// pattern is a path with segments in braces, and what answers there.
type pattern struct {
	segments []string
	escapes  bool
	answers  http.Handler
}

// NewRouter returns a router for routes on a server with these pages. It panics if two routes have the same path.
func NewRouter(pages *Pages, routes ...Route) *Router {
	unknown := notFound()
	rt := &Router{
		base:     pages.Base,
		paths:    map[string]http.Handler{},
		nothing:  pages.NotFound(),
		unknown:  unknown,
		document: cors([]string{http.MethodGet, http.MethodHead}, unknown),
	}
	taken := map[string]bool{}
	for _, route := range routes {
		answers := route.handler()
		for _, path := range route.Paths(pages.Base) {
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
	case strings.HasPrefix(path+"/", rt.base+"/oauth2/"):
		rt.unknown.ServeHTTP(w, r)
	default:
		rt.nothing.ServeHTTP(w, r)
	}
}

// match returns what answers a path that fits a pattern, nil if there is none, and sets the path values of r.
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

// plain returns path with single slashes, and without one at its end unless it is the whole path.
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

// withPath returns r as if it were for another path.
func withPath(r *http.Request, path string) *http.Request {
	copied, target := *r, *r.URL
	target.Path = path
	copied.URL = &target
	return &copied
}

// Methods is what a path answers, by HTTP method. HEAD goes where GET goes, and net/http leaves out the body (RFC 9110
// §9.3.2). Any other method that is not there is refused with 405.
type Methods map[string]http.Handler

// ServeHTTP hands the request to the handler of its method.
func (m Methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
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
	const answers = "this address answers %s"
	failJSON(w, r, oauth.RefuseStatus(http.StatusMethodNotAllowed, oauth.InvalidRequest, answers, allowed))
}

// Names returns the methods that are answered, sorted; HEAD is among them if GET is.
func (m Methods) Names() []string {
	names := slices.Collect(maps.Keys(m))
	if m[http.MethodGet] != nil && m[http.MethodHead] == nil {
		names = append(names, http.MethodHead)
	}
	slices.Sort(names)
	return names
}

// errNothing refuses a request for what is not there.
var errNothing = oauth.RefuseStatus(http.StatusNotFound, "not_found", "there is nothing at this address")

// notFound answers every request with 404.
func notFound() http.Handler {
	return JSON(func(*http.Request) (Reply, error) { return Reply{}, errNothing })
}

// The values of headers that many answers have. They are shared: a header is
// replaced, never changed in its place.
var (
	anyOrigin = []string{"*"}
	exposed   = []string{"WWW-Authenticate, Retry-After, X-Request-Id"}
	plainJSON = []string{"application/json"}
	noSniff   = []string{"nosniff"}
	noStore   = []string{"no-store"}
	noCache   = []string{"no-cache"}
)

// CORS lets scripts of every origin call a path, without credentials: the answer
// depends on what the request says, never on who the browser's user is. Errors
// carry the headers too. Preflights are answered with 204 and ask for no proof of
// anything (Fetch §3.2). A path that is not wrapped has no CORS at all.
func CORS(m Methods) http.Handler { return cors(m.Names(), m) }

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
		// MCP clients send headers of their own, and * does not cover Authorization.
		if names := r.Header.Get("Access-Control-Request-Headers"); fieldNames(names) {
			h.Set("Access-Control-Allow-Headers", names)
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

// fieldNames reports whether list is a list of header names (RFC 9110 §5.1) of
// bearable length.
func fieldNames(list string) bool {
	if list == "" || len(list) > 2048 {
		return false
	}
	for _, c := range []byte(list) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("!#$%&'*+-.^_`|~, ", c) >= 0:
		default:
			return false
		}
	}
	return true
}
