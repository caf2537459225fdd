package web

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// Bounds of a form: its length in bytes, and how many parameters it may have.
const (
	maxForm       = 64 << 10
	maxParameters = 1000
)

// Form returns the parameters of a body of type application/x-www-form-urlencoded,
// as Query does those of the query. Any other type, or a body too long, is
// refused.
func Form(r *http.Request, repeatable ...string) (url.Values, error) {
	values, err := FormAsItIs(r)
	if err != nil {
		return nil, err
	}
	if err := checkValues(values, repeatable); err != nil {
		return nil, err
	}
	return values, nil
}

// Query returns the parameters of the request's query. One without a value is
// left out, because it counts as absent (RFC 6749 §3.1); one that comes twice is
// refused, unless it is among repeatable. Broken escapes, semicolons, and what is
// not UTF-8 text are refused.
func Query(r *http.Request, repeatable ...string) (url.Values, error) {
	values, err := QueryAsItIs(r)
	if err != nil {
		return nil, err
	}
	if err := checkValues(values, repeatable); err != nil {
		return nil, err
	}
	return values, nil
}

// ErrFormTooLong is the refusal of a body that is too long.
var ErrFormTooLong = oauth.Refuse(oauth.InvalidRequest, "the form is longer than %d bytes", maxForm)

// formType is the media type of a form.
const formType = "application/x-www-form-urlencoded"

// FormAsItIs is Form for an endpoint that judges repeated parameters, and those that are not UTF-8 text, for itself.
func FormAsItIs(r *http.Request) (url.Values, error) {
	if err := checkType(r, formType); err != nil {
		return nil, oauth.Refuse(oauth.InvalidRequest, "%s", err)
	}
	var body bytes.Buffer
	if r.ContentLength > 0 { // which is no more than a promise yet
		body.Grow(int(min(r.ContentLength, 4<<10)) + bytes.MinRead)
	}
	_, err := body.ReadFrom(http.MaxBytesReader(nil, r.Body, maxForm))
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		return nil, ErrFormTooLong
	}
	if err != nil {
		return nil, oauth.Refuse(oauth.InvalidRequest, "the body could not be read")
	}
	return parse(body.String())
}

// checkType returns a sentence on why the body of r is not of the media type kind, in UTF-8. It is if Content-Type
// names that type, alone or among others: a client that sets the header twice, in two layers, sends "application/json,
// application/x-www-form-urlencoded".
func checkType(r *http.Request, kind string) error {
	header := r.Header["Content-Type"]
	if len(header) == 1 && header[0] == kind { // as it nearly always is
		return nil
	}
	named := false
	for _, text := range elements(header) {
		got, params, err := mime.ParseMediaType(text)
		charset := params["charset"]
		switch {
		case err != nil || got != kind:
		case charset != "" && !strings.EqualFold(charset, "utf-8"):
			return errors.New("send the body in UTF-8")
		default:
			named = true
		}
	}
	if !named {
		return fmt.Errorf("send the body with Content-Type: %s", kind)
	}
	return nil
}

// QueryAsItIs is Query for an endpoint that judges repeated parameters, and those that are not UTF-8 text, for itself.
func QueryAsItIs(r *http.Request) (url.Values, error) { return parse(r.URL.RawQuery) }

func parse(text string) (url.Values, error) {
	if strings.Count(text, "&") >= maxParameters {
		return nil, oauth.Refuse(oauth.InvalidRequest, "there are more than %d parameters", maxParameters)
	}
	values, err := url.ParseQuery(text)
	if err != nil {
		return nil, oauth.Refuse(oauth.InvalidRequest, "the parameters are not form-encoded: separate them by & and escape with %%")
	}
	for name, all := range values {
		if all = slices.DeleteFunc(all, func(value string) bool { return value == "" }); len(all) > 0 {
			values[name] = all
		} else {
			delete(values, name)
		}
	}
	return values, nil
}

// IsText reports whether a parameter is UTF-8 text without NUL.
func IsText(value string) bool { return utf8.ValidString(value) && !strings.ContainsRune(value, 0) }

func checkValues(values url.Values, repeatable []string) error {
	repeated := ""
	for name, all := range values {
		if !IsText(name) || slices.ContainsFunc(all, func(value string) bool { return !IsText(value) }) {
			return oauth.Refuse(oauth.InvalidRequest, "the parameters must be UTF-8 text")
		}
		if len(all) > 1 && !slices.Contains(repeatable, name) {
			repeated = max(repeated, name)
		}
	}
	if repeated != "" {
		return oauth.Refuse(oauth.InvalidRequest, "parameter %.40q must not be there twice", repeated)
	}
	return nil
}

// EncodeQuery returns values as a query, sorted by name. A space is %20, which every decoder reads; + is a space only
// to those that decode forms.
func EncodeQuery(values url.Values) string {
	return strings.ReplaceAll(values.Encode(), "+", "%20") // a plus sign of a value is %2B
}
