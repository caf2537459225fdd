package guard

import (
	"net/http"
	"strings"
)

const exposed = "WWW-Authenticate, Mcp-Session-Id, MCP-Protocol-Version, Retry-After, X-Request-Id"

// CORS lets web pages of every origin call next and read its answers, errors included; it answers preflights itself. No
// origin may send credentials: what is protected here is protected by tokens, not by cookies. [Guard.Protect] and
// [WellKnown] include it.
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
		// "*" does not cover Authorization, and MCP has an open set of headers (Mcp-Param-…), so allow what is asked
		// for.
		h.Add("Vary", "Access-Control-Request-Headers")
		if asked := strings.Join(r.Header.Values("Access-Control-Request-Headers"), ", "); fieldNames(asked) {
			h.Set("Access-Control-Allow-Headers", asked)
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

// fieldNames reports whether s is a list of header names, short enough to be sent back.
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
