package guard

import (
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/scope"
)

const offlineAccess = "offline_access" // concerns the issuer alone (OpenID Connect Core §11)

// Error is the answer to a request that does not get through: an error response of RFC 6749 §5.2 and RFC 6750 §3.
// Handlers may make their own for [Guard.WriteError].
type Error struct {
	Status      int           // of the HTTP response
	Code        string        // error
	Description string        // error_description: an ASCII sentence for the client's developer
	URI         string        // error_uri; empty leaves it out
	Scope       scope.Set     // scope: what a token would need
	RetryAfter  time.Duration // zero leaves the header out

	cause   error
	allow   string    // Allow; empty leaves the header out
	message *rpcError // makes the body a JSON-RPC error; nil leaves it one of OAuth
}

// rpcError is an error of JSON-RPC 2.0 §5.1, whose message is the description of the [Error].
type rpcError struct {
	id   json.RawMessage // of the request; nil if it is not known
	code int
}

const (
	codeMethodNotFound = -32601
	codeHeaderMismatch = -32020 // MCP 2026-07-28
)

func rpcRefusal(status int, id []byte, code int, description string) error {
	return &Error{Status: status, Code: "invalid_request", Description: description, message: &rpcError{id, code}}
}

// Error returns the code and the description, and the cause if there is one.
func (e *Error) Error() string {
	s := "guard: " + e.Code + ": " + e.Description
	if e.cause != nil {
		s += " (" + e.cause.Error() + ")"
	}
	return s
}

// Unwrap returns the cause, which the client is not told, or nil.
func (e *Error) Unwrap() error { return e.cause }

// RPC returns the code and the id of the JSON-RPC error that is the body of the answer, and whether it is one. The id
// is nil if the request's is not known.
func (e *Error) RPC() (code int, id []byte, isRPC bool) {
	if e.message == nil {
		return 0, nil, false
	}
	return e.message.code, e.message.id, true
}

var errNoToken = &Error{
	Status: http.StatusUnauthorized,
	Code:   "unauthorized",
	Description: "This server needs an access token in the Authorization header; resource_metadata says where to " +
		"get one.",
}

func invalidRequest(description string) error {
	return &Error{Status: http.StatusBadRequest, Code: "invalid_request", Description: description}
}

func invalidToken(description string) error {
	return &Error{Status: http.StatusUnauthorized, Code: "invalid_token", Description: description}
}

func unavailable(cause error) error {
	return &Error{
		Status:      http.StatusServiceUnavailable,
		Code:        "temporarily_unavailable",
		Description: "The authorization server cannot be reached, so the token cannot be verified; try again.",
		RetryAfter:  interval,
		cause:       cause,
	}
}

// WriteError answers r with err: an [*Error] as it is, with a challenge if another token would help, and any other
// error as a 500 server_error without details. It logs an [*Error] at debug level and any other error at error level.
func (g *Guard) WriteError(w http.ResponseWriter, r *http.Request, err error) {
	var e *Error
	if !errors.As(err, &e) {
		g.log.ErrorContext(r.Context(), "guard: request failed", "error", err)
		e = &Error{Status: http.StatusInternalServerError, Code: "server_error", Description: "The server failed."}
	} else if g.log.Enabled(r.Context(), slog.LevelDebug) {
		g.log.DebugContext(r.Context(), "guard: refused", "error", e, "scope", e.Scope.String(), "address", address(r))
	}
	if e.Status == http.StatusUnauthorized || e.Code == "insufficient_scope" {
		w.Header().Set("WWW-Authenticate", g.challengeFor(e))
	}
	e.write(w)
}

// challengeFor returns the value of WWW-Authenticate (RFC 6750 §3, RFC 9728 §5.1): a single Bearer challenge on one
// line, because clients parse no more. It has no error for a request without a token (RFC 6750 §3.1).
func (g *Guard) challengeFor(e *Error) string {
	needed := e.Scope
	if len(needed) == 0 {
		needed = g.challenge
	}
	var params []string
	param := func(name, value string) {
		if value != "" {
			params = append(params, name+"="+quote(value))
		}
	}
	if e.Code != errNoToken.Code {
		param("error", e.Code)
		param("error_description", e.Description)
	}
	param("resource_metadata", g.metadataURL)
	param("scope", needed.String())
	return "Bearer " + strings.Join(params, ", ")
}

// quote returns s as a quoted-string of printable ASCII (RFC 9110 §5.6.4); other characters become question marks.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range s {
		switch {
		case c < ' ' || c > '~':
			b.WriteByte('?')
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func (e *Error) write(w http.ResponseWriter) {
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
	}
	if e.allow != "" {
		w.Header().Set("Allow", e.allow)
	}
	w.Header().Set("Cache-Control", "no-store")
	if e.message != nil {
		type problem struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		}
		writeJSON(w, e.Status, struct {
			Version string          `json:"jsonrpc"`
			ID      json.RawMessage `json:"id"`
			Error   problem         `json:"error"`
		}{"2.0", e.message.id, problem{e.message.code, e.Description}})
		return
	}
	writeJSON(w, e.Status, struct {
		Code        string `json:"error"`
		Description string `json:"error_description,omitempty"`
		URI         string `json:"error_uri,omitempty"`
		Scope       string `json:"scope,omitempty"`
	}{e.Code, e.Description, e.URI, e.Scope.String()})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // cannot happen: everything written here marshals
		status, body = http.StatusInternalServerError, []byte(`{"error":"server_error"}`)
	}
	writeBody(w, status, body)
}

func writeBody(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // fails only if the client has gone
}
