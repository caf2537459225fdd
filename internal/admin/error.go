package admin

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// Kind says why an operation was not done.
type Kind int

// The kinds.
const (
	Invalid   Kind = iota // an input is wrong, so the same request would fail again
	NotFound              // the record does not exist
	Conflict              // the record to create already exists, or the operation does not apply to this record
	Forbidden             // the caller does not have the right
	Stale                 // the record has been changed since the caller read it
)

// Error says why an operation was not done and what to do about it. Nothing was changed.
type Error struct {
	Kind  Kind
	Noun  Noun   // the kind of record, with NotFound, and with Conflict if the record already exists; otherwise ""
	ID    string // the name of the record as it was given, or ""
	Field string // the JSON name of the wrong input; "" if it is not a single input
	Scope string // with Forbidden, the scope that the access token lacks; "" if that is not the reason
	// format has the JSON names of inputs in braces, because flags and JSON members have different names.
	format string
	args   []any
	cause  error
}

// Error returns the text with inputs by their JSON names.
func (e *Error) Error() string { return e.Text(func(field string) string { return field }) }

// Text returns the text with each input called by what name returns for its JSON name.
func (e *Error) Text(name func(field string) string) string {
	format := fields.ReplaceAllStringFunc(e.format, func(match string) string { return name(match[1 : len(match)-1]) })
	return fmt.Sprintf(format, e.args...)
}

var fields = regexp.MustCompile(`\{[a-z_]+\}`)

// Unwrap returns the refusal that the audit log records if e is Forbidden. Otherwise it returns nil, so that the
// transaction is rolled back.
func (e *Error) Unwrap() error { return e.cause }

// Refused returns an Error with the text that another server sent. id is the record and field the input that it is
// about; both may be "".
func Refused(kind Kind, noun Noun, id, field, text string) *Error {
	e := &Error{Kind: kind, Noun: noun, ID: id, Field: field, format: strings.ReplaceAll(text, "%", "%%")}
	word, err := regexp.Compile(`\b` + regexp.QuoteMeta(field) + `\b`)
	if err == nil && fields.MatchString("{"+field+"}") {
		if at := word.FindStringIndex(e.format); at != nil {
			e.format = e.format[:at[0]] + "{" + field + "}" + e.format[at[1]:]
		}
	}
	return e
}

func invalid(field, format string, args ...any) error {
	return &Error{Kind: Invalid, Field: field, format: format, args: args}
}

func notFound(noun Noun, id, format string) error {
	return &Error{Kind: NotFound, Noun: noun, ID: id, format: format, args: []any{id}}
}

func conflict(noun Noun, field, id, format string) error {
	return &Error{Kind: Conflict, Noun: noun, ID: id, Field: field, format: format, args: []any{id}}
}

// isForbidden reports whether err says that the caller does not have the right.
func isForbidden(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == Forbidden
}

// refused returns an Error about field, or about the member that the refusal names, if err is a refusal of the
// protocol. Other errors are returned as they are.
func refused(field string, err error) error {
	refusal, ok := oauth.AsRefusal(err)
	if !ok {
		return err
	}
	if refusal.Code == oauth.InvalidRedirectURI {
		field = "redirect_uris"
	}
	if member, fault, _ := strings.Cut(refusal.Description, " "); member == "client_name" || member == "jwks_uri" {
		return invalid(member, "{"+member+"} %s", fault)
	}
	return invalid(field, "%s", refusal.Description)
}
