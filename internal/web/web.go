// Package web connects the endpoints to HTTP. Endpoints return values, and an adapter writes the response: JSON for
// programs, HTML for people. So an endpoint cannot continue after it has written an error, and every response has the
// required headers. The package also provides cookies, CSRF tokens, strict parsing of parameters, and the common parts
// of pages.
package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// Reply is a response with a status or headers of its own. The zero Reply is a 200 without a body.
type Reply struct {
	Status int         // 0: 200
	Header http.Header // replaces the default headers of the same name
	Body   any         // encoded as JSON; nil: no body; json.RawMessage is sent unchanged
	Quiet  bool        // log the request at level debug, because machines send it regularly
}

// JSON adapts an endpoint for programs. It sends the result of handle as JSON with status 200, or as described by a
// Reply; the response must not be cached unless Route.Cache is set. It sends a refusal as in RFC 6749 §5.2, with the
// refusal's status. It logs any other error as a fault and sends only server_error, or temporarily_unavailable if a
// later attempt may succeed.
func JSON[T any](handle func(*http.Request) (T, error)) http.Handler {
	return adapt(handle, failJSON)
}

// failure writes an error.
type failure func(http.ResponseWriter, *http.Request, error)

// adapt adapts handle; fail writes its errors.
func adapt[T any](handle func(*http.Request) (T, error), fail failure) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, err := call(r, handle)
		if err != nil {
			fail(w, r, err)
			return
		}
		reply, ok := any(answer).(Reply)
		if !ok {
			reply = Reply{Body: answer}
		}
		body, err := encode(reply.Body)
		if err != nil {
			fail(w, r, err)
			return
		}
		if rec, ok := w.(*recorder); ok {
			rec.quiet = reply.Quiet
		}
		writeJSON(w, reply.Status, reply.Header, body)
	})
}

// call checks the request and calls handle. It returns a panic of handle as a fault.
func call[T any](r *http.Request, handle func(*http.Request) (T, error)) (answer T, err error) {
	if err := checkRequest(r); err != nil {
		return answer, err
	}
	defer func() {
		if p := recover(); p != nil {
			err = panicked(p)
		}
	}()
	return handle(r)
}

// panicked returns a recovered panic as a fault. It panics again with http.ErrAbortHandler, with which a handler aborts
// its response on purpose.
func panicked(p any) error {
	if p == http.ErrAbortHandler {
		panic(p)
	}
	return fmt.Errorf("web: panic: %v\n%s", p, debug.Stack())
}

// Bounds of a request: the length of its target in bytes, the number of header fields, and the length of its cookies in
// bytes.
const (
	maxURI     = 16 << 10
	maxFields  = 256
	maxCookies = 32 << 10
)

// checkRequest refuses requests that no endpoint accepts.
func checkRequest(r *http.Request) error {
	switch {
	case len(r.RequestURI) > maxURI:
		return oauth.RefuseStatus(http.StatusRequestURITooLong, oauth.InvalidRequest,
			"the request URI is longer than %d bytes", maxURI)
	case fields(r.Header) > maxFields:
		return oauth.RefuseStatus(http.StatusRequestHeaderFieldsTooLarge, oauth.InvalidRequest,
			"the request has more than %d header fields", maxFields)
	case cookies(r.Header) > maxCookies:
		return oauth.RefuseStatus(http.StatusRequestHeaderFieldsTooLarge, oauth.InvalidRequest,
			"the cookies are longer than %d bytes", maxCookies)
	case r.URL.Host != "": // RFC 9112 §3.2.2 allows it, but attackers use it to get the host repeated
		return oauth.Refuse(oauth.InvalidRequest, "this server is not a proxy: send only the path in the request line")
	case r.Header.Get("Content-Encoding") != "":
		return oauth.RefuseStatus(http.StatusUnsupportedMediaType, oauth.InvalidRequest,
			"send the body without Content-Encoding")
	}
	return nil
}

// fields returns the number of fields of a header, counting duplicates.
func fields(header http.Header) (n int) {
	for _, values := range header {
		n += len(values)
	}
	return n
}

// cookies returns the length of the cookies of a header, in bytes.
func cookies(header http.Header) (n int) {
	for _, text := range header["Cookie"] {
		n += len(text)
	}
	return n
}

func encode(v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case json.RawMessage:
		return v, nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // the type is application/json and is never sniffed
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("web: encode the response: %w", err)
	}
	return b.Bytes(), nil
}

func writeJSON(w http.ResponseWriter, status int, header http.Header, body []byte) {
	h := w.Header()
	h["X-Content-Type-Options"] = noSniff
	if h["Cache-Control"] == nil { // unless Route.Cache has set it
		h["Cache-Control"] = noStore
	}
	if body != nil {
		h["Content-Type"] = plainJSON
	}
	for name, values := range header {
		h[name] = values
	}
	if h.Get("Cache-Control") == "no-store" {
		h["Pragma"] = noCache // RFC 6749 §5.1
	}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	if status == 0 {
		status = http.StatusOK
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // an error means that the client has disconnected
}

func failJSON(w http.ResponseWriter, r *http.Request, err error) {
	refusal := verdict(r, err)
	header := refusalHeader(refusal)
	// RFC 6750 §3.1: no error code if no token was sent
	if refusal.Code == oauth.InvalidToken && r.Header.Get("Authorization") == "" {
		header.Set("WWW-Authenticate", `Bearer realm="cardea"`)
	}
	body, err := encode(struct {
		Code        oauth.ErrorCode `json:"error"`
		Description string          `json:"error_description,omitempty"`
	}{refusal.Code, ErrorDescription(refusal.Description)})
	if err != nil {
		body = []byte(`{"error":"server_error"}`) // cannot happen: strings always encode
	}
	w.Header()["Cache-Control"] = noStore
	writeJSON(w, refusal.Status(), header, body)
}

// refusalHeader returns the response headers of a refusal.
func refusalHeader(refusal *oauth.Refusal) http.Header {
	header := http.Header{}
	status := refusal.Status()
	switch {
	case status == http.StatusUnauthorized && refusal.Basic:
		header.Set("WWW-Authenticate", `Basic realm="cardea"`)
	case status == http.StatusUnauthorized && refusal.Code == oauth.InvalidToken: // RFC 6750 §3
		header.Set("WWW-Authenticate", `Bearer realm="cardea", error="invalid_token"`)
	}
	if refusal.RetryAfter > 0 || status == http.StatusTooManyRequests {
		seconds := max(1, (refusal.RetryAfter+time.Second-1)/time.Second)
		header.Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	}
	return header
}

// pause is how long a client should wait after a temporary fault.
const pause = 5 * time.Second

// verdict returns the refusal to send for err. If err is a fault, verdict logs it.
func verdict(r *http.Request, err error) *oauth.Refusal {
	if refusal, ok := oauth.AsRefusal(err); ok {
		return refusal
	}
	ctx := r.Context()
	level, answer := slog.LevelError, &oauth.Refusal{Code: oauth.ServerError}
	switch {
	case errors.Is(err, context.Canceled) && ctx.Err() != nil: // the client has disconnected, at least for reading
		level = slog.LevelDebug
		answer = &oauth.Refusal{Code: oauth.InvalidRequest, Description: "the connection ended before the response"}
	case errors.Is(err, oauth.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		answer = &oauth.Refusal{Code: oauth.TemporarilyUnavailable, RetryAfter: pause}
	}
	logger(ctx).LogAttrs(ctx, level, "fault",
		slog.String("request_id", audit.RequestFrom(ctx).ID),
		slog.String("method", r.Method),
		slog.String("path", cut(r.URL.Path)),
		slog.Any("error", err))
	return answer
}

// ErrorDescription returns text in the characters of error_description (RFC 6749 §4.1.2.1, §5.2): printable ASCII
// without quotation mark and backslash. It replaces quotation marks, dashes and similar characters by ASCII ones, and
// percent-encodes all others, so that no information is lost: "caf\u00e9" becomes "caf%C3%A9".
func ErrorDescription(text string) string {
	plain := func(c rune) bool { return ' ' <= c && c <= '~' && c != '"' && c != '\\' }
	if !strings.ContainsFunc(text, func(c rune) bool { return !plain(c) }) {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		c, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case plain(c):
			b.WriteRune(c)
		case neighbours[c] != "":
			b.WriteString(neighbours[c])
		default:
			for _, octet := range []byte(text[i : i+size]) {
				fmt.Fprintf(&b, "%%%02X", octet)
			}
		}
		i += size
	}
	return b.String()
}

// neighbours are the ASCII replacements of similar characters.
var neighbours = map[rune]string{
	'"': "'", '\u201c': "'", '\u201d': "'", '\u2018': "'", '\u2019': "'",
	'\u2013': "-", '\u2014': "-", '\u2026': "...", '\u00a0': " ", '\t': " ", '\r': " ", '\n': " ",
}
