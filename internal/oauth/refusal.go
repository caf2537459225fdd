// Package oauth defines the terms of the protocol: client, resource, grant, code, challenge and refusal, and the rules
// about them that need neither network nor database. RFC 6749, OAuth 2.1, RFC 7636, RFC 8707.
package oauth

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// ErrorCode is an OAuth error code, as sent to clients.
type ErrorCode string

// The error codes that Cardea sends.
const (
	InvalidRequest          ErrorCode = "invalid_request"           // RFC 6749 §4.1.2.1, §5.2
	InvalidClient           ErrorCode = "invalid_client"            // RFC 6749 §5.2
	InvalidGrant            ErrorCode = "invalid_grant"             // RFC 6749 §5.2
	UnauthorizedClient      ErrorCode = "unauthorized_client"       // RFC 6749 §4.1.2.1, §5.2
	UnsupportedGrantType    ErrorCode = "unsupported_grant_type"    // RFC 6749 §5.2
	UnsupportedResponseType ErrorCode = "unsupported_response_type" // RFC 6749 §4.1.2.1
	UnsupportedTokenType    ErrorCode = "unsupported_token_type"    // RFC 7009 §2.2.1
	InvalidScope            ErrorCode = "invalid_scope"             // RFC 6749 §4.1.2.1, §5.2
	InvalidTarget           ErrorCode = "invalid_target"            // RFC 8707 §2
	AccessDenied            ErrorCode = "access_denied"             // RFC 6749 §4.1.2.1
	ServerError             ErrorCode = "server_error"              // RFC 6749 §4.1.2.1
	TemporarilyUnavailable  ErrorCode = "temporarily_unavailable"   // RFC 6749 §4.1.2.1
	InvalidRedirectURI      ErrorCode = "invalid_redirect_uri"      // RFC 7591 §3.2.2
	InvalidClientMetadata   ErrorCode = "invalid_client_metadata"   // RFC 7591 §3.2.2
	InvalidToken            ErrorCode = "invalid_token"             // RFC 6750 §3.1
	LoginRequired           ErrorCode = "login_required"            // OpenID Connect Core §3.1.2.6
	ConsentRequired         ErrorCode = "consent_required"          // OpenID Connect Core §3.1.2.6
	InteractionRequired     ErrorCode = "interaction_required"      // OpenID Connect Core §3.1.2.6
	RequestNotSupported     ErrorCode = "request_not_supported"     // OpenID Connect Core §3.1.2.6
	RequestURINotSupported  ErrorCode = "request_uri_not_supported"
	TooManyRequests         ErrorCode = "too_many_requests" // with HTTP 429, RFC 6585 §4
)

// Refusal is a decision to refuse a request, with what the client is told. Refuse and the functions like it return one;
// AsRefusal finds it in an error.
type Refusal struct {
	Code        ErrorCode
	Description string        // a short sentence that says how to correct the request; never contains a secret
	Basic       bool          // the client tried HTTP Basic, so a 401 carries its challenge (RFC 6749 §5.2)
	RetryAfter  time.Duration // with HTTP 429 and 503; rounded up to whole seconds
	// Cause is the error behind the refusal, for the audit log. It is never sent to the client. It is nil if there is
	// nothing to add to Description.
	Cause  error
	status int
}

// Error returns the code and the description.
func (r *Refusal) Error() string { return string(r.Code) + ": " + r.Description }

// Status returns the HTTP status for the refusal at an endpoint that answers with JSON, or on a page.
func (r *Refusal) Status() int {
	if r.status != 0 {
		return r.status
	}
	switch r.Code {
	case InvalidClient, InvalidToken:
		return http.StatusUnauthorized
	case AccessDenied:
		return http.StatusForbidden
	case TooManyRequests:
		return http.StatusTooManyRequests
	case TemporarilyUnavailable:
		return http.StatusServiceUnavailable
	case ServerError:
		return http.StatusInternalServerError
	default:
		return http.StatusBadRequest
	}
}

// Refuse returns a refusal. It returns error, never *Refusal, so that a nil refusal cannot become a non-nil error.
func Refuse(code ErrorCode, format string, args ...any) error {
	return &Refusal{Code: code, Description: fmt.Sprintf(format, args...)}
}

// RefuseStatus is like Refuse, with an HTTP status other than the default of the code, such as 413 or 415.
func RefuseStatus(status int, code ErrorCode, format string, args ...any) error {
	return &Refusal{Code: code, Description: fmt.Sprintf(format, args...), status: status}
}

// RefuseClient refuses a client that failed to authenticate (RFC 6749 §5.2). basic reports whether it tried HTTP Basic.
func RefuseClient(basic bool, format string, args ...any) error {
	return &Refusal{Code: InvalidClient, Description: fmt.Sprintf(format, args...), Basic: basic}
}

// RefuseForNow refuses a request because its sender has sent too many. It may be tried again after the given time.
func RefuseForNow(after time.Duration, format string, args ...any) error {
	return &Refusal{Code: TooManyRequests, Description: fmt.Sprintf(format, args...), RetryAfter: after}
}

// RefuseBusy refuses a request because this server is overloaded. It may be tried again after the given time.
func RefuseBusy(after time.Duration, format string, args ...any) error {
	return &Refusal{Code: TemporarilyUnavailable, Description: fmt.Sprintf(format, args...), RetryAfter: after}
}

// IsForNow reports whether err is a temporary refusal: of a sender that has sent too many requests, or by a server that
// is overloaded.
func IsForNow(err error) bool {
	refusal, ok := AsRefusal(err)
	return ok && (refusal.Code == TooManyRequests || refusal.Code == TemporarilyUnavailable)
}

// Listed returns names as a list for a description: "a, b, c".
func Listed[T ~string](names []T) string {
	text := make([]string, len(names))
	for i, name := range names {
		text[i] = string(name)
	}
	return strings.Join(text, ", ")
}

// Brief returns a length of time for a description, as people write it: 10m, not 10m0s.
func Brief(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Because returns a copy of the refusal err with the given cause.
func Because(err, cause error) error {
	refusal, ok := AsRefusal(err)
	if !ok {
		return err
	}
	caused := *refusal
	caused.Cause = cause
	return &caused
}

// AsRefusal returns the refusal in err. An error without one is a fault: it is logged in full, and the client is told
// only server_error.
func AsRefusal(err error) (*Refusal, bool) {
	var r *Refusal
	ok := errors.As(err, &r)
	return r, ok
}

// IsRefusal reports whether err is, or wraps, a refusal.
func IsRefusal(err error) bool {
	_, ok := AsRefusal(err)
	return ok
}

// ErrUnavailable marks a temporary fault: the database does not answer, or the server is stopping. The client is
// answered with HTTP 503.
var ErrUnavailable = errors.New("temporarily unavailable")
