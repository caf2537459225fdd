package web

import (
	"errors"
	"io"
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
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := params["charset"]
	switch {
	case err != nil || kind != "application/x-www-form-urlencoded":
		return nil, oauth.Refuse(oauth.InvalidRequest, "send the parameters as application/x-www-form-urlencoded in the body")
	case charset != "" && !strings.EqualFold(charset, "utf-8"):
		return nil, oauth.Refuse(oauth.InvalidRequest, "send the form in UTF-8")
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxForm))
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		return nil, oauth.RefuseStatus(http.StatusRequestEntityTooLarge, oauth.InvalidRequest, "the form is longer than %d bytes", maxForm)
	}
	if err != nil {
		return nil, oauth.Refuse(oauth.InvalidRequest, "the body could not be read")
	}
	return parse(string(body), repeatable)
}

// Query returns the parameters of the request's query. One without a value is
// left out, for it counts as absent (RFC 6749 §3.1); one that comes twice is
// refused, unless it is among repeatable. Broken escapes, semicolons, and what is
// not UTF-8 text are refused. When a parameter came twice and all else is well,
// the others are returned beside the refusal: the authorization endpoint needs
// them to send it to the client.
func Query(r *http.Request, repeatable ...string) (url.Values, error) {
	return parse(r.URL.RawQuery, repeatable)
}

func parse(text string, repeatable []string) (url.Values, error) {
	if strings.Count(text, "&") >= maxParameters {
		return nil, oauth.Refuse(oauth.InvalidRequest, "there are more than %d parameters", maxParameters)
	}
	values, err := url.ParseQuery(text)
	if err != nil {
		return nil, oauth.Refuse(oauth.InvalidRequest, "the parameters are not form-encoded: separate them by & and escape with %%")
	}
	twice := ""
	for name, all := range values {
		for _, text := range append(all, name) {
			if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
				return nil, oauth.Refuse(oauth.InvalidRequest, "the parameters are not UTF-8 text")
			}
		}
		if len(all) > 1 && !slices.Contains(repeatable, name) {
			delete(values, name)
			twice = max(twice, name)
			continue
		}
		all = slices.DeleteFunc(all, func(value string) bool { return value == "" })
		if len(all) == 0 {
			delete(values, name)
			continue
		}
		values[name] = all
	}
	if twice != "" {
		return values, oauth.Refuse(oauth.InvalidRequest, "parameter %.40q must not be there twice", twice)
	}
	return values, nil
}
