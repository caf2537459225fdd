package guard

import (
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/cardea-auth/cardea/scope"
)

const (
	protectedResource   = "/.well-known/oauth-protected-resource"
	openidConfiguration = "/.well-known/openid-configuration"
)

// describe returns the protected resource metadata (RFC 9728 §2).
func describe(config Config) []byte {
	body, err := json.Marshal(struct {
		Resource      string    `json:"resource"`
		Issuers       []string  `json:"authorization_servers"`
		Scopes        scope.Set `json:"scopes_supported,omitempty"`
		Methods       []string  `json:"bearer_methods_supported"`
		Name          string    `json:"resource_name,omitempty"`
		Documentation string    `json:"resource_documentation,omitempty"`
	}{config.Resource, []string{config.Issuer}, config.AdvertisedScopes, []string{"header"}, config.Name,
		config.Documentation})
	if err != nil {
		panic(err) // strings marshal
	}
	return body
}

// WellKnown returns a handler for all paths below /.well-known/ on an origin whose MCP servers are protected by guards:
//
//	mux.Handle("/.well-known/", guard.WellKnown(g))
//
// It serves the metadata of each resource at its own URL (RFC 9728 §3.1), and also at the root URL if there is only one
// guard. For clients of MCP 2025-03-26, which look for the authorization server at the MCP server's origin, it serves
// the metadata of the first guard's issuer, fetched and kept like its keys; [Guard.OlderClients] does more for them.
// All other paths are answered with 404 and JSON, because clients try many paths and do not expect a page.
func WellKnown(guards ...*Guard) http.Handler {
	documents := map[string][]byte{}
	for _, g := range guards {
		documents[pathOf(g.metadataURL)] = g.metadata
	}
	if len(guards) == 1 {
		documents[protectedResource] = guards[0].metadata
	}
	return CORS(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.EscapedPath()
		body, found := documents[path]
		var refusal *Error
		switch {
		case !found && (path != authorizationServer && path != openidConfiguration || len(guards) == 0):
			refusal = errNothing
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD, OPTIONS")
			refusal = &Error{Status: http.StatusMethodNotAllowed, Code: "invalid_request",
				Description: "This can only be read: use GET."}
		case !found:
			m, err := guards[0].issuer.metadata.current(r.Context())
			if err != nil {
				refusal = errUnreachable
			}
			body = m.document
		}
		if refusal != nil {
			refusal.write(w)
			return
		}
		w.Header().Set("Cache-Control", "public, max-age=300")
		writeBody(w, http.StatusOK, body)
	}))
}

func pathOf(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		panic(err) // made from a parsed URL
	}
	return u.EscapedPath()
}
