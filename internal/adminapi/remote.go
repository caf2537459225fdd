package adminapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
	"github.com/cardea-auth/cardea/scope"
)

// Target is where an operation is done: on the installation of this machine, or by the server that Remote calls, if it
// is not nil.
type Target struct {
	Operations *admin.Operations
	By         admin.Caller
	Remote     *Remote
}

// Call does the operation. A refusal is an *admin.Error in both places.
func (op *Operation[In, Out]) Call(ctx context.Context, t Target, in In) (out Out, err error) {
	if t.Remote == nil {
		return op.Do(ctx, t.Operations, t.By, in)
	}
	err = t.Remote.do(ctx, &op.Spec, reflect.ValueOf(in), &out)
	return out, err
}

// Remote calls the Admin API of a server. It is for one goroutine.
type Remote struct {
	Issuer string
	// Token is an access token for the API. If it is "", each operation gets one with the client credentials, which has
	// no other scopes than it needs (RFC 6749 §4.4).
	Token, ClientID, ClientSecret string

	tokens map[string]held // that it got, by the scopes that an operation needs
}

// held is an access token that a Remote got.
type held struct {
	text   string
	scope  scope.Set
	endsAt time.Time // before it expires, so that it can still be used
}

// early is how long before its end an access token is replaced.
const early = 30 * time.Second

const (
	patience     = time.Minute
	maxAnswer    = 64 << 20         // bytes
	longestPause = 10 * time.Second // that a command waits because a server asks for it
)

// remoteClient follows no redirect, because it sends secrets.
var remoteClient = &http.Client{Timeout: patience,
	Transport: &http.Transport{Proxy: oauth.Proxy, DialContext: oauth.Dial(patience / 2),
		TLSHandshakeTimeout: patience / 2, ForceAttemptHTTP2: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// do sends the request of an operation and reads the answer into out.
func (c *Remote) do(ctx context.Context, s *Spec, in reflect.Value, out any) error {
	r, err := c.request(ctx, s, in)
	if err != nil {
		return err
	}
	token, err := c.token(ctx, s)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	send := c.send
	if s.Method == http.MethodGet {
		send = c.sendAgain
	}
	status, header, body, err := send(r)
	switch {
	case err != nil:
		return err
	case status/100 != 2:
		return c.refusal(r, status, header, body)
	case strings.HasPrefix(header.Get("Content-Type"), "text/html"):
		return c.strange(r, status, header)
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber() // so that what is shown is what was sent
	if err := decoder.Decode(out); err != nil {
		return c.another()
	}
	return nil
}

// another returns the error for a server whose Admin API is not that of this program.
func (c *Remote) another() error {
	return fmt.Errorf("the answer of %s is not that of this version's Admin API; use the same version of cardea on "+
		"both machines, which cardea version shows", c.Issuer)
}

// request returns the request that read reads as in.
func (c *Remote) request(ctx context.Context, s *Spec, in reflect.Value) (*http.Request, error) {
	path, query, header := s.Path, url.Values{}, http.Header{}
	for _, p := range params(s.In) {
		field := in.FieldByIndex(p.field.Index)
		value := format(field)
		switch {
		case p.in == "path":
			path = strings.Replace(path, "{"+p.name+"}", url.PathEscape(value), 1)
		case field.IsZero():
		case p.in == "query":
			query.Set(p.name, value)
		default:
			header.Set(p.name, value)
		}
	}
	var sent io.Reader
	if field, ok := body(s.In); ok {
		text, err := encodeBody(in.FieldByIndex(field.Index))
		if err != nil {
			return nil, err
		}
		if text != nil {
			sent = bytes.NewReader(text)
			header.Set("Content-Type", "application/json")
		}
	}
	address := c.Issuer + Prefix + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, s.Method, address, sent)
	if err != nil {
		return nil, err
	}
	r.Header = header
	return r, nil
}

// format returns a parameter as text.
func format(field reflect.Value) string {
	switch v := field.Interface().(type) {
	case int:
		return strconv.Itoa(v)
	case bool:
		return strconv.FormatBool(v)
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	}
	return field.String()
}

// encodeBody returns a body as JSON without what is not given, because a member that is null would stand for the
// default.
func encodeBody(v reflect.Value) ([]byte, error) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil, nil
		}
		v = v.Elem()
	}
	object := map[string]any{}
	for _, f := range reflect.VisibleFields(v.Type()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if field := v.FieldByIndex(f.Index); name != "" && name != "-" && !f.Anonymous && !field.IsZero() {
			object[name] = field.Interface()
		}
	}
	return json.Marshal(object)
}

// send sends a request and returns the answer. An error says that there was none.
func (c *Remote) send(r *http.Request) (status int, header http.Header, body []byte, err error) {
	r.Header.Set("Accept", "application/json, application/problem+json")
	resp, err := remoteClient.Do(r)
	if err == nil {
		defer resp.Body.Close() //nolint:errcheck // it is read to its end
		body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	}
	if err != nil {
		cause := err
		if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
			cause = wrapped.Err // which does not repeat the address
		}
		step := c.step(r, err)
		return 0, nil, nil, fmt.Errorf("%s cannot be reached: %w; %s", c.Issuer, cause, step)
	}
	return resp.StatusCode, resp.Header, body, nil
}

// sendAgain is send for a request that changes nothing: if the server says that it is not available for a moment, it is
// asked once more after that (RFC 9110 §10.2.3).
func (c *Remote) sendAgain(r *http.Request) (status int, header http.Header, body []byte, err error) {
	status, header, body, err = c.send(r)
	if err != nil || status != http.StatusServiceUnavailable {
		return status, header, body, err
	}
	seconds, err := strconv.ParseUint(header.Get("Retry-After"), 10, 16)
	pause := time.Duration(seconds) * time.Second
	if err != nil || pause > longestPause {
		return status, header, body, nil
	}
	select {
	case <-time.After(pause):
	case <-r.Context().Done():
		return status, header, body, nil
	}
	if r.GetBody != nil {
		if r.Body, err = r.GetBody(); err != nil {
			return status, header, body, err
		}
	}
	return c.send(r)
}

// step returns what to do after err, which came instead of an answer to r.
func (c *Remote) step(r *http.Request, err error) string {
	expired := x509.CertificateInvalidError{}
	switch {
	case errors.As(err, &expired) && expired.Reason == x509.Expired:
		return "renew the certificate there, unless the clock of this machine is wrong"
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return "write --server with a name that its certificate is for, and if an authority of your own signed that, " +
			"set SSL_CERT_FILE to the file with the authority's certificate"
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, new(tls.RecordHeaderError)):
		return "https is not spoken there: check the port in --server; a server on this machine may be http"
	}
	if proxy, err := oauth.Proxy(r); err == nil && proxy != nil {
		return "the way is through the proxy " + proxy.Host + ": correct HTTPS_PROXY, or name the server in NO_PROXY"
	}
	return "check --server, and that cardea serve runs there"
}

// token returns an access token for an operation. It asks for what the operation needs. Credentials that may only write
// what the operation reads get a token for that.
func (c *Remote) token(ctx context.Context, s *Spec) (string, error) {
	if c.Token != "" {
		return c.Token, nil
	}
	needs := strings.TrimSpace(s.needs().String() + " " + s.May)
	if known, ok := c.tokens[needs]; ok && time.Now().Before(known.endsAt) {
		return known.text, nil
	}
	got, err := c.obtain(ctx, s, needs)
	if !s.Writes && (errors.Is(err, errLacksScope) || err == nil && !got.scope.CoversAll(s.needs()...)) {
		got, err = c.obtain(ctx, s, strings.TrimSpace(strings.Join(s.Scopes(), " ")+" "+s.May))
	}
	if err != nil {
		return "", err
	}
	if c.tokens == nil {
		c.tokens = map[string]held{}
	}
	c.tokens[needs] = got
	return got.text, nil
}

// errLacksScope means that credentials have none of the scopes that were asked for.
var errLacksScope = errors.New("the credentials lack the scope")

// obtain returns a new access token for an operation, with those of scopes that the credentials have.
func (c *Remote) obtain(ctx context.Context, s *Spec, scopes string) (held, error) {
	form := url.Values{"grant_type": {"client_credentials"}, "resource": {c.Issuer + admin.APIPath}, "scope": {scopes}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Issuer+"/oauth2/token",
		strings.NewReader(form.Encode()))
	if err != nil {
		return held{}, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(url.QueryEscape(c.ClientID), url.QueryEscape(c.ClientSecret)) // RFC 6749 §2.3.1
	status, header, body, err := c.sendAgain(r)
	if err != nil {
		return held{}, err
	}
	var answer struct {
		Token       string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"`
		Scope       string `json:"scope"`
		Code        string `json:"error"`
		Description string `json:"error_description"`
	}
	err = json.Unmarshal(body, &answer)
	switch {
	case answer.Code == "invalid_client":
		return held{}, fmt.Errorf("%s does not accept the credentials; check CARDEA_CLIENT_ID and CARDEA_CLIENT_SECRET",
			c.Issuer)
	case answer.Code == "invalid_scope":
		return held{}, fmt.Errorf("%w %s; an operator of the server gives it with: cardea client update %s "+
			"--scope …", errLacksScope, s.Scopes()[0], c.ClientID)
	case answer.Code == "not_found", answer.Code == "invalid_target" && c.misnamed(ctx) != "":
		return held{}, c.elsewhere(ctx)
	case answer.Code == "invalid_target", answer.Code == "unauthorized_client":
		return held{}, fmt.Errorf("%s gives no access token, because these are not API credentials: %s; make some "+
			"there with: %s", c.Issuer, answer.Description, c.Credentials())
	case answer.Code != "" && status != http.StatusOK:
		return held{}, fmt.Errorf("%s gives no access token: %s (%s)", c.Issuer, answer.Description, answer.Code)
	case err != nil || answer.Token == "":
		return held{}, c.strange(r, status, header)
	}
	endsAt := time.Now().Add(time.Duration(answer.ExpiresIn)*time.Second - early)
	return held{answer.Token, scope.Of(strings.Fields(answer.Scope)...), endsAt}, nil
}

// Credentials returns the command that makes API credentials for the server, on its machine.
func (c *Remote) Credentials() string {
	return "cardea client create --name NAME --grant client_credentials --resource " + c.Issuer + admin.APIPath +
		" --scope 'cardea:*'"
}

// misnamed returns the issuer of the server, which its metadata names, if that is not Issuer; otherwise "".
func (c *Remote) misnamed(ctx context.Context) string {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Issuer+"/.well-known/openid-configuration", nil)
	if err != nil {
		return ""
	}
	_, _, body, err := c.send(r)
	var metadata struct{ Issuer string }
	if err != nil || json.Unmarshal(body, &metadata) != nil || metadata.Issuer == c.Issuer {
		return ""
	}
	return metadata.Issuer
}

// elsewhere returns the error for an address that is not the issuer of a server.
func (c *Remote) elsewhere(ctx context.Context) error {
	if issuer := c.misnamed(ctx); issuer != "" {
		return fmt.Errorf("the server at %s calls itself %s; write that as --server", c.Issuer, issuer)
	}
	return fmt.Errorf("there is no Cardea at %s; write the public URL of the server as --server, which cardea config "+
		"print shows there as the issuer", c.Issuer)
}

// strange returns the error for an answer to r that is not one of Cardea, or of a fault.
func (c *Remote) strange(r *http.Request, status int, header http.Header) error {
	if to := header.Get("Location"); status/100 == 3 && to != "" {
		if strings.HasPrefix(to, "/") {
			return c.page("redirects to its page "+to, status)
		}
		to, _ = strings.CutSuffix(to, strings.TrimPrefix(r.URL.String(), c.Issuer))
		return fmt.Errorf("%s redirects to %s, and no secret is sent there; if that is the server, write it as "+
			"--server", c.Issuer, to)
	}
	if id := header.Get("X-Request-Id"); status/100 == 5 && id != "" {
		return fmt.Errorf("%s failed with status %d; its log has the reason, with request_id %s", c.Issuer, status, id)
	}
	switch kind, _, _ := mime.ParseMediaType(header.Get("Content-Type")); {
	case status == http.StatusBadGateway, status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		return fmt.Errorf("%s answers with status %d, so a proxy there does not reach the server; look whether cardea "+
			"serve runs behind it, and try again", c.Issuer, status)
	case kind == "text/html":
		return c.page("answers with a page", status)
	}
	return fmt.Errorf("%s answers with status %d, which the Admin API does not; check --server, and that "+
		"admin.enabled is true there", c.Issuer, status)
}

// page returns the error for a server that shows a page to a program.
func (c *Remote) page(shows string, status int) error {
	return fmt.Errorf("%s %s (status %d), which the Admin API does not; check --server, and if a proxy there asks "+
		"people to sign in, let programs through to /oauth2/ and /admin/api/", c.Issuer, shows, status)
}

// refusal returns the error of a problem (RFC 9457).
func (c *Remote) refusal(r *http.Request, status int, header http.Header, body []byte) error {
	var p struct {
		Code   string      `json:"error"`
		Detail string      `json:"detail"`
		Noun   admin.Noun  `json:"noun"`
		ID     string      `json:"id"`
		Errors []web.Fault `json:"errors"`
	}
	if err := json.Unmarshal(body, &p); err != nil || p.Detail == "" || status/100 != 4 {
		return c.strange(r, status, header)
	}
	if faults := faultsIn(p.Errors); faults != nil {
		return faults
	}
	kind := admin.Invalid
	for k, of := range statuses {
		if of == status {
			kind = k
		}
	}
	field := ""
	if len(p.Errors) > 0 {
		_, field, _ = strings.Cut(p.Errors[0].Location, ".")
	}
	switch {
	case status == http.StatusUnauthorized:
		return fmt.Errorf("%s does not accept the access token: %s", c.Issuer, p.Detail)
	case status == http.StatusTooManyRequests:
		return errors.New(p.Detail)
	case status == http.StatusMethodNotAllowed, status == http.StatusNotFound && p.Noun == "":
		return c.another()
	}
	return admin.Refused(kind, p.Noun, p.ID, field, p.Detail)
}
