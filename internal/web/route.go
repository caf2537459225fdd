package web

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// Methods is what a path answers, by HTTP method. A method that is not there is
// refused with 405; HEAD and OPTIONS are no exception.
type Methods map[string]http.Handler

// ServeHTTP hands the request to the handler of its method.
func (m Methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if handler, ok := m[r.Method]; ok {
		handler.ServeHTTP(w, r)
		return
	}
	allowed := strings.Join(m.names(), ", ")
	w.Header().Set("Allow", allowed)
	failJSON(w, r, oauth.RefuseStatus(http.StatusMethodNotAllowed, oauth.InvalidRequest, "this address answers %s", allowed))
}

// errNothing refuses a request for what is not there.
var errNothing = oauth.RefuseStatus(http.StatusNotFound, "not_found", "there is nothing at this address")

// NotFound answers every request with 404.
func NotFound() http.Handler {
	return JSON(func(*http.Request) (Reply, error) { return Reply{}, errNothing })
}

func (m Methods) names() []string { return slices.Sorted(maps.Keys(m)) }

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
func CORS(m Methods) http.Handler {
	methods := strings.Join(m.names(), ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["Access-Control-Allow-Origin"] = anyOrigin
		if r.Method != http.MethodOptions {
			h["Access-Control-Expose-Headers"] = exposed
			m.ServeHTTP(w, r)
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

// fieldNames tells whether list is a list of header names (RFC 9110 §5.1) of
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
