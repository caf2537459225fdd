package web

import (
	"bytes"
	"errors"
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
// left out, for it counts as absent (RFC 6749 §3.1); one that comes twice is
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

// ErrFormTooLong is what Form says to a body too long.
var ErrFormTooLong = oauth.Refuse(oauth.InvalidRequest, "the form is longer than %d bytes", maxForm)

// FormAsItIs is Form for who judges repeated parameters, and those that are not
// UTF-8 text, for themselves.
func FormAsItIs(r *http.Request) (url.Values, error) {
	const form = "application/x-www-form-urlencoded"
	if text := r.Header.Get("Content-Type"); text != form { // as it nearly always is
		kind, params, err := mime.ParseMediaType(text)
		charset := params["charset"]
		switch {
		case err != nil || kind != form:
			return nil, oauth.Refuse(oauth.InvalidRequest, "send the parameters as %s in the body", form)
		case charset != "" && !strings.EqualFold(charset, "utf-8"):
			return nil, oauth.Refuse(oauth.InvalidRequest, "send the form in UTF-8")
		}
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

// QueryAsItIs is Query for who judges repeated parameters, and those that are not
// UTF-8 text, for themselves.
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

// IsText tells whether a parameter is UTF-8 text without NUL.
func IsText(value string) bool { return utf8.ValidString(value) && !strings.ContainsRune(value, 0) }

func checkValues(values url.Values, repeatable []string) error {
	repeated := ""
	for name, all := range values {
		if !IsText(name) || slices.ContainsFunc(all, func(value string) bool { return !IsText(value) }) {
			return oauth.Refuse(oauth.InvalidRequest, "the parameters are not UTF-8 text")
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
