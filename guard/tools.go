package guard

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cardea-auth/cardea/scope"
	"github.com/go-jose/go-jose/v4/json"
)

// maxMessage is how long a JSON-RPC message may be, in bytes.
const maxMessage = 4 << 20

// ToolScopes names for each tool of an MCP server the scopes that a call of it needs, all of them. A tool with no scopes
// is open to every valid token; a tool that is not named at all is closed to everyone.
type ToolScopes map[string][]string

// RequireToolScopes lets a tools/call through only if the token covers the scopes of the tool, byte for byte the one
// named in params.name. It reads the JSON-RPC message before the server does, and hands it on unchanged; other
// messages pass. Who lacks a scope gets 403 insufficient_scope over HTTP, which makes clients step up (MCP
// authorization, "Step-Up Authorization Flow"), naming the scopes of all calls in a batch; one call refused refuses the
// batch.
//
// A message that two readers could understand differently is refused with 400: not one JSON value in UTF-8, a member
// twice, or one whose name differs from method, params or name in case only. More than 4 MiB are refused with 413.
//
// It goes inside [Guard.Protect]; outside it nobody gets through.
func (g *Guard) RequireToolScopes(tools ToolScopes) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := g.CheckScope(r.Context()); err != nil {
				g.WriteError(w, r, err)
				return
			}
			switch r.Method {
			case http.MethodGet, http.MethodHead, http.MethodDelete: // MCP gives their bodies no meaning
			default:
				if err := g.checkCalls(r, tools); err != nil {
					g.WriteError(w, r, err)
					return
				}
			}
			next.ServeHTTP(w, r)
		})
	}
}

func (g *Guard) checkCalls(r *http.Request, tools ToolScopes) error {
	message, err := io.ReadAll(io.LimitReader(r.Body, maxMessage+1))
	switch {
	case err != nil:
		return invalidRequest("The body could not be read.")
	case len(message) > maxMessage:
		return &Error{Status: http.StatusRequestEntityTooLarge, Code: "invalid_request", Description: "The message is longer than 4 MiB."}
	}
	called, err := calledTools(message)
	if err != nil {
		return invalidRequest("The body is not a JSON-RPC message: " + err.Error() + ".")
	}
	var needed scope.Set
	for _, tool := range called {
		scopes, known := tools[tool]
		if !known {
			return &Error{Status: http.StatusForbidden, Code: "access_denied", Description: "There is no such tool, or it is open to nobody."}
		}
		needed = needed.Union(scopes)
	}
	if err := g.CheckScope(r.Context(), needed...); err != nil {
		return err
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{bytes.NewReader(message), r.Body}
	return nil
}

// calledTools returns the tools that a JSON-RPC message, or a batch of them, calls. Its errors repeat nothing of the
// message.
func calledTools(message []byte) ([]string, error) {
	if !utf8.Valid(message) {
		return nil, errors.New("it is not UTF-8")
	}
	var value any
	if err := json.Unmarshal(message, &value); err != nil { // which knows of members that are there twice
		return nil, errors.New("it is not one JSON value, or has a member twice")
	}
	batch, isBatch := value.([]any)
	if !isBatch {
		batch = []any{value}
	}
	var called []string
	for _, one := range batch {
		tool, calls, err := calledTool(one)
		if err != nil {
			return nil, err
		}
		if calls && !slices.Contains(called, tool) {
			called = append(called, tool)
		}
	}
	return called, nil
}

const callTool = "tools/call"

func calledTool(value any) (tool string, calls bool, err error) {
	message, ok := value.(map[string]any)
	if !ok {
		return "", false, errors.New("it is not an object")
	}
	if !plain(message, "jsonrpc", "id", "method", "params") {
		return "", false, errors.New("a member's name is almost that of another")
	}
	method, isText := message["method"].(string)
	_, hasMethod := message["method"]
	switch {
	case !hasMethod: // a response
		return "", false, nil
	case !isText:
		return "", false, errors.New("method is not a string")
	case method != callTool && strings.EqualFold(strings.TrimSpace(method), callTool):
		return "", false, errors.New("method is almost tools/call")
	case method != callTool:
		return "", false, nil
	}
	params, ok := message["params"].(map[string]any)
	if !ok || !plain(params, "name", "arguments") {
		return "", false, errors.New("params of tools/call is not an object, or a member's name is almost that of another")
	}
	tool, ok = params["name"].(string)
	if !ok {
		return "", false, errors.New("params.name of tools/call is not a string")
	}
	return tool, true, nil
}

// plain says whether no member has a name that a lenient reader could take for one of those known: letters of another
// case, letters that fold to them like U+017F to s, or characters that end a string elsewhere.
func plain(object map[string]any, known ...string) bool {
	for name := range object {
		if strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c == 0x7f || c == utf8.RuneError }) {
			return false
		}
		for _, k := range known {
			if name != k && strings.EqualFold(name, k) {
				return false
			}
		}
	}
	return true
}
