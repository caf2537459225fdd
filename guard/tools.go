package guard

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/cardea-auth/cardea/scope"
)

// maxMessage is how long a JSON-RPC message may be, in bytes.
const maxMessage = 4 << 20

// ToolScopes names for each tool of an MCP server the scopes that a call of it needs, all of them. A tool with no scopes
// is open to every valid token; a tool that is not named at all is closed to everyone.
type ToolScopes map[string][]string

// RequireToolScopes lets a tools/call through only if the token covers the scopes of the tool that params.name names,
// byte for byte. A client whose token lacks a scope gets 403 insufficient_scope over HTTP, which makes it step up (MCP
// authorization, "Step-Up Authorization Flow"), with the scopes of all calls in a batch; one call refused refuses the
// batch. Requests with another method of MCP, notifications and responses pass. Other methods are closed, because they
// may be another name for a tool: the client is told that there is no such method, unless extra names it.
//
// RequireToolScopes judges the bytes that next reads: it reads the whole message first, and next gets the same bytes,
// with their length. Whatever next might read differently is refused:
//
//   - with 415 a body that is not application/json in UTF-8, or is compressed;
//   - with 400 a body that two JSON readers could read differently: not UTF-8, a member twice, a member that is almost
//     one of those that decide, a control character in a name, half of a surrogate pair, a number beyond float64, more
//     than 128 levels;
//   - with 400 a body that is not a JSON-RPC message of MCP, and a method that is almost one of MCP's;
//   - with 400 and the JSON-RPC error -32020 Mcp-Method, Mcp-Name and MCP-Protocol-Version headers that do not say what
//     the body says, or are missing where MCP 2026-07-28 wants them;
//   - with 400 a batch from 2025-06-18 on, a body of GET and DELETE, and a header that changes the method;
//   - with 405 any method but POST, GET, HEAD and DELETE;
//   - with 413 more than 4 MiB.
//
// It goes inside [Guard.Protect]; outside it no request gets through. RequireToolScopes panics if tools has a scope that
// Config.Scopes is there for and does not cover, because no token could ever have it.
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

// judge returns the request that may be handed on in place of r, with the body that was judged.
func (g *Guard) judge(w http.ResponseWriter, r *http.Request, tools ToolScopes, extra []string) (*http.Request, error) {
	if err := g.CheckScope(r.Context()); err != nil {
		return nil, err
	}
	if err := checkForm(r); err != nil {
		return nil, err
	}
	if r.ContentLength > maxMessage {
		return nil, errTooLong
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return nil, errTooLong
	case err != nil:
		return nil, invalidRequest("The body could not be read.")
	case r.Method == http.MethodPost:
		err = g.checkBody(r, body, tools, extra)
	case len(body) > 0: // MCP gives it no meaning, but a server may
		err = invalidRequest("A " + r.Method + " request has a body.")
	}
	if err != nil {
		return nil, err
	}
	judged := r.WithContext(r.Context())
	judged.Header = r.Header.Clone()
	judged.Header.Del("Trailer")
	judged.Trailer, judged.TransferEncoding = nil, nil
	judged.ContentLength = int64(len(body))
	judged.Body = http.NoBody
	if len(body) > 0 {
		judged.Header.Set("Content-Length", strconv.Itoa(len(body)))
		judged.Body = io.NopCloser(bytes.NewReader(body))
	}
	return judged, nil
}

var errTooLong = &Error{Status: http.StatusRequestEntityTooLarge, Code: "invalid_request", Description: "The message is longer than 4 MiB."}

// overrides are headers by which some frameworks let a request say that its method is another.
var overrides = []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override"}

// decisive are headers that decide how a request is read, beside those of MCP.
var decisive = []string{"Content-Type", "Content-Encoding", "Content-Length", "Transfer-Encoding"}

// checkForm returns an error if the method or the headers of r could make another program read another message.
func checkForm(r *http.Request) error {
	for name := range r.Header {
		switch plain := http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-")); {
		case slices.Contains(overrides, plain):
			return invalidRequest("The header " + plain + " changes the method; send the method itself.")
		case plain != name && (slices.Contains(decisive, plain) || strings.HasPrefix(plain, "Mcp-")):
			return invalidRequest("A header's name is almost " + plain + ".") // to CGI and its heirs it is the same
		}
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodDelete:
		return nil
	case http.MethodPost:
	default:
		return &Error{Status: http.StatusMethodNotAllowed, Code: "invalid_request", Description: "MCP knows POST, GET and DELETE.",
			allow: "POST, GET, HEAD, DELETE, OPTIONS"}
	}
	if kinds := r.Header.Values("Content-Type"); len(kinds) != 1 || !plainJSON(kinds[0]) {
		return &Error{Status: http.StatusUnsupportedMediaType, Code: "invalid_request",
			Description: "The body must be application/json, without a charset or with charset=utf-8."}
	}
	if len(r.Header.Values("Content-Encoding")) > 0 {
		return &Error{Status: http.StatusUnsupportedMediaType, Code: "invalid_request",
			Description: "The body must not be compressed: leave Content-Encoding out."}
	}
	return nil
}

// plainJSON reports whether a Content-Type is application/json in UTF-8 and nothing else. It allows no other parameter,
// because programs that look for charset without parsing might find it in there.
func plainJSON(s string) bool {
	kind, parameter, more := strings.Cut(strings.ToLower(s), ";")
	if strings.Trim(kind, " \t") != "application/json" {
		return false
	}
	parameter = strings.Trim(parameter, " \t")
	return !more || parameter == "charset=utf-8" || parameter == `charset="utf-8"`
}

// checkBody returns an error unless body is a message, or a batch, that the token of r may send.
func (g *Guard) checkBody(r *http.Request, body []byte, tools ToolScopes, extra []string) error {
	messages, batch, err := readMessages(body)
	if err != nil {
		return invalidRequest("The body is not a JSON-RPC message: " + err.Error() + ".")
	}
	version := r.Header.Get("MCP-Protocol-Version")
	if batch && slices.ContainsFunc(messages, func(m message) bool { return max(version, m.version) >= withoutBatches }) {
		return invalidRequest("MCP " + withoutBatches + " and later have no batches.")
	}
	var needed scope.Set
	for _, m := range messages {
		if batch {
			m.id = nil // whose error is it?
		}
		if err := checkHeaders(r.Header, m); err != nil {
			return &Error{Status: http.StatusBadRequest, Code: "invalid_request", Description: "Header mismatch: " + err.Error() + ".",
				message: &rpcError{ID: m.id, Code: codeHeaderMismatch}}
		}
		_, ofMCP := methods[m.method]
		switch {
		case m.method == callTool:
			scopes, ok := tools[m.name]
			if !ok {
				return &Error{Status: http.StatusForbidden, Code: "access_denied", Description: "There is no such tool, or it is open to nobody."}
			}
			needed = needed.Union(scopes)
		case ofMCP, m.method == "", isNotification(m.method), slices.Contains(extra, m.method):
		case almostKnown(m.method):
			return invalidRequest("The method is almost one of MCP.")
		default:
			return noMethod(m, cmp.Or(version, m.version))
		}
	}
	return g.CheckScope(r.Context(), needed...)
}

// noMethod is the answer to a request with a method that is not open: what a server that does not know it answers.
func noMethod(m message, version string) error {
	status := http.StatusOK
	switch {
	case version >= withHeaders:
		status = http.StatusNotFound
	case m.id == nil:
		status = http.StatusBadRequest
	}
	return &Error{Status: status, Code: "invalid_request", Description: "There is no such method, or it is open to nobody.",
		message: &rpcError{ID: m.id, Code: codeMethodNotFound}}
}
