package guard

import (
	"net/http"
	"strings"
)

const exposed = "WWW-Authenticate, Mcp-Session-Id, MCP-Protocol-Version, Retry-After, X-Request-Id"

// CORS lets web pages of every origin call next, errors included, and answers preflights itself. Nothing here is
// secured by cookies, so any origin may come, and none may send credentials. [Guard.Protect] and [WellKnown] have it
// built in.
func CORS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", exposed)
		if r.Method != http.MethodOptions {
			next.ServeHTTP(w, r)
			return
		}
		h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
		h.Set("Access-Control-Max-Age", "600")
		// "*" would not cover Authorization, and MCP has headers without end (Mcp-Param-…), so what is asked is allowed.
		h.Add("Vary", "Access-Control-Request-Headers")
		if asked := strings.Join(r.Header.Values("Access-Control-Request-Headers"), ", "); fieldNames(asked) {
			h.Set("Access-Control-Allow-Headers", asked)
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

// fieldNames says whether s is a list of header names short enough to be repeated.
func fieldNames(s string) bool {
	if s == "" || len(s) > 4096 {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~, ", c) >= 0:
		default:
			return false
		}
	}
	return true
}
