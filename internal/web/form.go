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

// Bounds of a form: its length in bytes and its number of parameters.
const (
	maxForm       = 64 << 10
	maxParameters = 1000
)

// Form returns the parameters of a body of type application/x-www-form-urlencoded, by the same rules as Query. It
// refuses any other type and a body that is too long.
func Form(r *http.Request, repeatable ...string) (url.Values, error) {
	values, err := FormAsItIs(r)
	return checked(values, err, repeatable)
}

// Query returns the parameters of the request's query. Parameters without a value are left out, because they count as
// absent (RFC 6749 §3.1). Query refuses duplicate parameters, unless they are in repeatable, and invalid escapes,
// semicolons and text that is not UTF-8.
func Query(r *http.Request, repeatable ...string) (url.Values, error) {
	values, err := QueryAsItIs(r)
	return checked(values, err, repeatable)
}

// ErrFormTooLong is the error of Form if the body is too long.
var ErrFormTooLong = oauth.Refuse(oauth.InvalidRequest, "the form is longer than %d bytes", maxForm)

// formType is the media type of a form.
const formType = "application/x-www-form-urlencoded"

// FormAsItIs is Form without the checks for duplicate parameters and UTF-8, for an endpoint that makes them itself.
func FormAsItIs(r *http.Request) (url.Values, error) {
	if err := checkType(r, formType); err != nil {
		return nil, oauth.Refuse(oauth.InvalidRequest, "%s", err)
	}
	var body bytes.Buffer
	if r.ContentLength > 0 { // the client may send less than it declares
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

// checkType returns an error if the body of r does not have the media type kind in UTF-8. Content-Type may have other
// types too, because a client that sets the header in two layers sends "application/json,
// application/x-www-form-urlencoded". The error is an instruction for the client's developer.
func checkType(r *http.Request, kind string) error {
	header := r.Header["Content-Type"]
	if len(header) == 1 && header[0] == kind { // the common case
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

// QueryAsItIs is Query without the checks for duplicate parameters and UTF-8, for an endpoint that makes them itself.
func QueryAsItIs(r *http.Request) (url.Values, error) { return parse(r.URL.RawQuery) }

func parse(text string) (url.Values, error) {
	if strings.Count(text, "&") >= maxParameters {
		return nil, oauth.Refuse(oauth.InvalidRequest, "there are more than %d parameters", maxParameters)
	}
	values, err := url.ParseQuery(text)
	if err != nil {
		return nil, oauth.Refuse(oauth.InvalidRequest,
			"the parameters are not form-encoded: separate them with & and escape special characters with %%")
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

// checked returns values, unless err is set or they break the rules of Query.
func checked(values url.Values, err error, repeatable []string) (url.Values, error) {
	if err != nil {
		return nil, err
	}
	repeated := ""
	for name, all := range values {
		if !IsText(name) || slices.ContainsFunc(all, func(value string) bool { return !IsText(value) }) {
			return nil, oauth.Refuse(oauth.InvalidRequest, "the parameters must be UTF-8 text")
		}
		if len(all) > 1 && !slices.Contains(repeatable, name) {
			repeated = max(repeated, name)
		}
	}
	if repeated != "" {
		return nil, oauth.Refuse(oauth.InvalidRequest, "parameter %.40q must not be repeated", repeated)
	}
	return values, nil
}

// EncodeQuery encodes values as a query, sorted by name. It encodes a space as %20, which every decoder understands,
// because + means a space only to form decoders.
func EncodeQuery(values url.Values) string {
	return strings.ReplaceAll(values.Encode(), "+", "%20") // a plus sign in a value is already %2B
}
