package guard

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/cardea-auth/cardea/scope"
)

// maxMessage is how long a JSON-RPC message may be, in bytes.
const maxMessage = 4 << 20

// ToolScopes has for each tool of an MCP server the scopes that a call of it needs, all of them. A tool without scopes
// is open to every valid token; a tool that is not in the map is closed.
type ToolScopes map[string][]string

// RequireToolScopes lets a tools/call through only if the token covers the scopes of the tool in params.name, which it
// compares byte for byte. If a scope is missing, it answers 403 insufficient_scope over HTTP, which makes clients step
// up (MCP authorization, "Step-Up Authorization Flow"), with the scopes of all calls in a batch; a batch is refused as
// a whole. Other requests of MCP, notifications and responses get through. A method that MCP does not know is refused
// as not found, because it may be another name for a tool. The methods in extra are open to every valid token.
//
// RequireToolScopes reads the whole message before next does. So that both read the same message, next gets the same
// bytes, with their length, without an offer to go on in another protocol (Upgrade), and everything that next could
// read differently is refused:
//
//   - 415: the body is not application/json in UTF-8, or it is compressed.
//   - 400: two JSON readers could read the body differently, because it is not UTF-8, or has a member twice, a member
//     that is almost one of those that decide, a control character in a member's name, half of a surrogate pair, a
//     number that float64 cannot hold, or more than 128 levels.
//   - 400: the body is not a JSON-RPC message of MCP, or its method is almost one of MCP's.
//   - 400 with the JSON-RPC error -32020: the headers Mcp-Method, Mcp-Name and MCP-Protocol-Version do not agree with
//     the body, or are missing although MCP 2026-07-28 requires them.
//   - 400: the body is a batch of more than 100 messages, or any batch in MCP 2025-06-18 and later.
//   - 400: a GET or DELETE has a body, or a header overrides the method.
//   - 405: the method is not POST, GET, HEAD or DELETE.
//   - 413: the body is longer than 4 MiB.
//
// RequireToolScopes goes inside [Guard.Protect]; outside it no request gets through. It panics if Config.Scopes is set
// and does not cover a scope in tools.
func (g *Guard) RequireToolScopes(tools ToolScopes, extra ...string) func(http.Handler) http.Handler {
	for _, tool := range slices.Sorted(maps.Keys(tools)) {
		if err := checkScopes(g.scopes, tools[tool]...); err != nil {
			panic(fmt.Sprintf("guard: RequireToolScopes: tool %q: %v", tool, err))
		}
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			judged, err := g.judge(w, r, tools, extra)
			if err != nil {
				g.WriteError(w, r, err)
				return
			}
			next.ServeHTTP(w, judged)
		})
	}
}

// judge returns the request that goes to the server in place of r: the same with the body that was judged.
func (g *Guard) judge(w http.ResponseWriter, r *http.Request, tools ToolScopes, extra []string) (*http.Request, error) {
	judged, messages, err := g.Messages(w, r, Reading{Limit: maxMessage})
	if err != nil {
		return nil, err
	}
	if err := g.checkMessages(judged.Context(), messages, tools, extra); err != nil {
		for _, m := range messages {
			if m.Method == callTool {
				g.LogToolCall(judged.Context(), m.Name, err)
			}
		}
		return nil, err
	}
	return judged, nil
}

// overrides are headers that some frameworks read the method from.
var overrides = []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override"}

// otherProtocol are the headers that offer to go on in another protocol (RFC 9110 §7.8), in which nobody would judge
// what the client sends. A server may always ignore the offer, which some clients make in every request, so it is left
// out rather than refused.
var otherProtocol = []string{"Upgrade", "Http2-Settings"}

// decisive are the headers that decide how a body is read. Those of MCP do too.
var decisive = []string{"Content-Type", "Content-Encoding", "Content-Length", "Transfer-Encoding"}

// checkForm returns an error if another program could read another message because of the method or the headers of r.
func checkForm(r *http.Request) error {
	for name := range r.Header {
		switch plain := http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-")); {
		case slices.Contains(overrides, plain):
			return invalidRequest("The header " + plain +
				" overrides the method; send the request with the method itself.")
		case plain != name && (slices.Contains(decisive, plain) || strings.HasPrefix(plain, "Mcp-")):
			// CGI and its successors do not tell the two apart.
			return invalidRequest("A header's name is almost " + plain + "; write it with hyphens.")
		}
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodDelete:
		return nil
	case http.MethodPost:
	default:
		return &Error{
			Status:      http.StatusMethodNotAllowed,
			Code:        "invalid_request",
			Description: "MCP has no " + r.Method + " requests: use POST, GET or DELETE.",
			allow:       "POST, GET, HEAD, DELETE, OPTIONS",
		}
	}
	if kinds := r.Header.Values("Content-Type"); len(kinds) != 1 || !plainJSON(kinds[0]) {
		return wrongMedia("The Content-Type must be application/json, without a charset or with charset=utf-8.")
	}
	if len(r.Header.Values("Content-Encoding")) > 0 {
		return wrongMedia("The body must not be compressed: leave Content-Encoding out.")
	}
	return nil
}

func wrongMedia(description string) error {
	return &Error{Status: http.StatusUnsupportedMediaType, Code: "invalid_request", Description: description}
}

// plainJSON reports whether a Content-Type is application/json in UTF-8. It allows no other parameter than charset,
// because a program that searches for charset without parsing could find it in the value of another one.
func plainJSON(s string) bool {
	kind, parameter, more := strings.Cut(strings.ToLower(s), ";")
	if strings.Trim(kind, " \t") != "application/json" {
		return false
	}
	parameter = strings.Trim(parameter, " \t")
	return !more || parameter == "charset=utf-8" || parameter == `charset="utf-8"`
}

// checkMessages returns an error unless all messages of a request get through with the token in ctx.
func (g *Guard) checkMessages(ctx context.Context, messages []Message, tools ToolScopes, extra []string) error {
	var needed scope.Set
	for _, m := range messages {
		_, ofMCP := methods[m.Method]
		switch {
		case m.Method == callTool:
			scopes, ok := tools[m.Name]
			if !ok {
				return &Error{
					Status:      http.StatusForbidden,
					Code:        "access_denied",
					Description: "There is no such tool, or no client may call it.",
				}
			}
			needed = needed.Union(scopes)
		case ofMCP, m.Method == "", isNotification(m.Method), slices.Contains(extra, m.Method):
		case almostKnown(m.Method):
			return invalidRequest("The method is almost one of MCP; write it as MCP does.")
		default:
			return noMethod(m)
		}
	}
	return g.CheckScope(ctx, needed...)
}

// noMethod returns the answer to a request with a method that is closed, which is the answer of a server that does not
// have the method. Before MCP 2026-07-28 its status is 200, because clients take 404 for the end of their session.
func noMethod(m Message) error {
	id := m.ID
	if m.Batch {
		id = nil // the error is about the batch
	}
	status := http.StatusOK
	switch {
	case m.Version >= withHeaders:
		status = http.StatusNotFound
	case id == nil:
		status = http.StatusBadRequest
	}
	return rpcRefusal(status, id, codeMethodNotFound, "There is no such method, or no client may call it.")
}
