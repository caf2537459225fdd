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
	values, err := FormWithRepeats(r)
	if err != nil {
		return nil, err
	}
	if err := checkRepeats(values, repeatable); err != nil {
		return nil, err
	}
	return values, nil
}

// Query returns the parameters of the request's query. One without a value is
// left out, for it counts as absent (RFC 6749 §3.1); one that comes twice is
// refused, unless it is among repeatable. Broken escapes, semicolons, and what is
// not UTF-8 text are refused.
func Query(r *http.Request, repeatable ...string) (url.Values, error) {
	values, err := QueryWithRepeats(r)
	if err != nil {
		return nil, err
	}
	if err := checkRepeats(values, repeatable); err != nil {
		return nil, err
	}
	return values, nil
}

// FormWithRepeats is Form for who judges repeated parameters for themselves.
func FormWithRepeats(r *http.Request) (url.Values, error) {
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
		return nil, oauth.RefuseStatus(http.StatusRequestEntityTooLarge, oauth.InvalidRequest, "the form is longer than %d bytes", maxForm)
	}
	if err != nil {
		return nil, oauth.Refuse(oauth.InvalidRequest, "the body could not be read")
	}
	return parse(body.String())
}

// QueryWithRepeats is Query for who judges repeated parameters for themselves.
func QueryWithRepeats(r *http.Request) (url.Values, error) { return parse(r.URL.RawQuery) }

func parse(text string) (url.Values, error) {
	if strings.Count(text, "&") >= maxParameters {
		return nil, oauth.Refuse(oauth.InvalidRequest, "there are more than %d parameters", maxParameters)
	}
	values, err := url.ParseQuery(text)
	if err != nil {
		return nil, oauth.Refuse(oauth.InvalidRequest, "the parameters are not form-encoded: separate them by & and escape with %%")
	}
	for name, all := range values {
		for _, text := range append(all, name) {
			if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
				return nil, oauth.Refuse(oauth.InvalidRequest, "the parameters are not UTF-8 text")
			}
		}
		if all = slices.DeleteFunc(all, func(value string) bool { return value == "" }); len(all) > 0 {
			values[name] = all
		} else {
			delete(values, name)
		}
	}
	return values, nil
}

func checkRepeats(values url.Values, repeatable []string) error {
	repeated := ""
	for name, all := range values {
		if len(all) > 1 && !slices.Contains(repeatable, name) {
			repeated = max(repeated, name)
		}
	}
	if repeated != "" {
		return oauth.Refuse(oauth.InvalidRequest, "parameter %.40q must not be there twice", repeated)
	}
	return nil
}
