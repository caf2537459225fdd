package admin

import (
	"fmt"
	"regexp"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// Kind says why an operation was not done.
type Kind int

// The kinds.
const (
	Invalid   Kind = iota // an input is wrong: the same request fails again
	NotFound              // the thing to operate on is not there
	Conflict              // the thing to make is there already, or the thing to operate on is not of a kind that allows it
	Forbidden             // the caller may not
)

// Error says why an operation was not done, and what to do. Nothing was changed.
type Error struct {
	Kind  Kind
	Noun  Noun   // with NotFound, and with Conflict if the thing is there already, the kind of thing; otherwise ""
	ID    string // and its name as it was given
	Field string // JSON name of the input at fault; "" if it is not one
	// format has the JSON names of inputs in braces, because flags and members have
	// different names.
	format string
	args   []any
	cause  error
}

// Error returns the sentence with inputs by their JSON names.
func (e *Error) Error() string { return e.Text(func(field string) string { return field }) }

// Text returns the sentence with inputs by the names that name gives them.
func (e *Error) Text(name func(field string) string) string {
	format := fields.ReplaceAllStringFunc(e.format, func(match string) string { return name(match[1 : len(match)-1]) })
	return fmt.Sprintf(format, e.args...)
}

var fields = regexp.MustCompile(`\{[a-z_]+\}`)

// Unwrap returns the refusal that the audit log records for a Forbidden, else nil:
// a transaction that ends with one of the others is rolled back.
func (e *Error) Unwrap() error { return e.cause }

func invalid(field, format string, args ...any) error {
	return &Error{Kind: Invalid, Field: field, format: format, args: args}
}

func notFound(noun Noun, id, format string) error {
	return &Error{Kind: NotFound, Noun: noun, ID: id, format: format, args: []any{id}}
}

func conflict(noun Noun, field, id, format string) error {
	return &Error{Kind: Conflict, Noun: noun, ID: id, Field: field, format: format, args: []any{id}}
}

// refused makes a refusal of the rules that clients of the protocol meet an Error
// about field. Other errors stay what they are.
func refused(field string, err error) error {
	refusal, ok := oauth.AsRefusal(err)
	if !ok {
		return err
	}
	if refusal.Code == oauth.InvalidRedirectURI {
		field = "redirect_uris"
	}
	return invalid(field, "%s", refusal.Description)
}
