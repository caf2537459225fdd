package servertest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Request is a request before it is sent, for tweaks to change.
type Request struct {
	Method string
	URL    string
	Header http.Header
	Params url.Values // in the query of a GET, in the body of a POST
	Raw    string     // sent unchanged in place of Params
}

// A Tweak changes a request before it is sent.
type Tweak func(*Request)

// With sets a parameter to values; each one is sent.
func With(name string, values ...string) Tweak {
	return func(r *Request) { r.Params[name] = values }
}

// Without removes parameters.
func Without(names ...string) Tweak {
	return func(r *Request) {
		for _, name := range names {
			delete(r.Params, name)
		}
	}
}

// Header sets a header field to values. Without values the field is omitted, even if a browser would send it.
func Header(name string, values ...string) Tweak {
	return func(r *Request) {
		r.Header[http.CanonicalHeaderKey(name)] = append([]string{}, values...)
	}
}

// Method changes the method.
func Method(method string) Tweak {
	return func(r *Request) { r.Method = method }
}

// Raw sends text as the query or body in place of the parameters.
func Raw(text string) Tweak {
	return func(r *Request) { r.Raw = text }
}

func newRequest(method, url string, params url.Values, tweaks []Tweak) *Request {
	r := &Request{Method: method, URL: url, Header: http.Header{}, Params: clone(params)}
	for _, tweak := range tweaks {
		tweak(r)
	}
	return r
}

func clone(params url.Values) url.Values {
	copied := url.Values{}
	for name, values := range params {
		copied[name] = slices.Clone(values)
	}
	return copied
}

// encoded returns the query or body of the request.
func (r *Request) encoded() string {
	if r.Raw != "" {
		return r.Raw
	}
	return r.Params.Encode()
}

// http converts the request for net/http.
func (r *Request) http(t testing.TB) (*http.Request, error) {
	target, body := r.URL, io.Reader(nil)
	if r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch {
		body = strings.NewReader(r.encoded())
		if r.Header["Content-Type"] == nil {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
	} else if query := r.encoded(); query != "" {
		separator := "?"
		if strings.Contains(target, "?") {
			separator = "&"
		}
		target += separator + query
	}
	req, err := http.NewRequestWithContext(t.Context(), r.Method, target, body)
	if err != nil {
		return nil, err
	}
	req.Header = r.Header
	if host := r.Header.Get("Host"); host != "" {
		req.Host = host
	}
	return req, nil
}

// send sends a request and returns the reply. The test fails if there is none, or if its status is 5xx.
func (s *Server) send(t testing.TB, client *http.Client, r *Request) *Reply {
	t.Helper()
	none := &Reply{s: s, t: t, Header: http.Header{}}
	req, err := r.http(t)
	if err != nil {
		t.Errorf("servertest: %s %s: %v", r.Method, r.URL, err)
		return none
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Errorf("servertest: %s %s: %v", r.Method, r.URL, err)
		return none
	}
	for _, cookie := range resp.Cookies() {
		s.secret("cookie", cookie.Value)
	}
	reply := &Reply{s: s, t: t, Status: resp.StatusCode, Header: resp.Header, Body: readAll(t, resp)}
	switch {
	case reply.Status >= 500 && !s.MayFault:
		t.Errorf("servertest: %s %s: status %d: %s\n%s", r.Method, req.URL.Path, reply.Status, reply.Body, s.Log())
	case reply.Status == http.StatusTemporaryRedirect, reply.Status == http.StatusPermanentRedirect:
		t.Errorf("servertest: %s %s: status %d would forward the posted form to %s", r.Method, req.URL.Path,
			reply.Status, reply.Header.Get("Location"))
	}
	return reply
}

// Reply is a response to an agent.
type Reply struct {
	Status int
	Header http.Header
	Body   []byte

	s *Server
	t testing.TB
}

// JSON returns the body as a JSON object. If it is not one, the test fails and JSON returns nil.
func (r *Reply) JSON() map[string]any {
	r.t.Helper()
	var object map[string]any
	if err := json.NewDecoder(bytes.NewReader(r.Body)).Decode(&object); err != nil {
		r.t.Errorf("the response (%d) is not a JSON object: %v: %.500s", r.Status, err, r.Body)
	}
	return object
}

// Text returns a string member of the JSON object, or "" if it is missing or not a string.
func (r *Reply) Text(name string) string {
	r.t.Helper()
	text, _ := r.JSON()[name].(string)
	return text
}

// Tokens is a token response.
type Tokens struct {
	Access    string `json:"access_token"`
	Refresh   string `json:"refresh_token"`
	Type      string `json:"token_type"`
	ExpiresIn int64  `json:"expires_in"`
	Scope     string `json:"scope"`
}

// Tokens returns the tokens of a successful token response (RFC 6749 §5.1).
func (r *Reply) Tokens() Tokens {
	r.t.Helper()
	var tokens Tokens
	if r.Status != http.StatusOK {
		r.t.Fatalf("got status %d, want tokens: %.500s", r.Status, r.Body)
	}
	r.uncached()
	if err := json.Unmarshal(r.Body, &tokens); err != nil || tokens.Access == "" || tokens.Type != "Bearer" {
		r.t.Fatalf("not a token response: %v: %s", err, r.Body)
	}
	r.s.secret("access token", tokens.Access)
	r.s.secret("refresh token", tokens.Refresh)
	return tokens
}

// Refused checks that the reply is an OAuth error with that status and code (RFC 6749 §5.2).
func (r *Reply) Refused(status int, code string) {
	r.t.Helper()
	if r.Status != status || r.Text("error") != code {
		r.t.Errorf("got %d %.500s, want %d %s", r.Status, r.Body, status, code)
		return
	}
	r.uncached()
	for name := range r.JSON() {
		if name != "error" && name != "error_description" {
			r.t.Errorf("the error has the member %q: %s", name, r.Body)
		}
	}
	if r.Text("error_description") == "" {
		r.t.Errorf("the error has no description: %s", r.Body)
	}
}

// uncached checks the header of a response that must not be cached.
func (r *Reply) uncached() {
	r.t.Helper()
	if got := r.Header.Get("Cache-Control"); !strings.Contains(got, "no-store") {
		r.t.Errorf("Cache-Control is %q, want no-store", got)
	}
	if got := r.Header.Get("Content-Type"); !strings.HasPrefix(got, "application/json") {
		r.t.Errorf("Content-Type is %q, want application/json", got)
	}
	if r.Header.Get("X-Request-Id") == "" {
		r.t.Error("X-Request-Id is missing")
	}
}

// AtOnce calls run(0) to run(n-1) at the same time, and returns what they returned.
func AtOnce[T any](n int, run func(i int) T) []T {
	results := make([]T, n)
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			<-begin
			results[i] = run(i)
		})
	}
	close(begin)
	wg.Wait()
	return results
}
