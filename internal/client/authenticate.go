package client

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/cardea-auth/cardea/internal/assertion"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/strangers"
)

// maxCredentials is the maximum length of a client_id or a client secret, in bytes.
const maxCredentials = 4096

// Authenticator authenticates clients at the endpoints that they call (RFC 6749 §2.3).
type Authenticator struct {
	DB        *store.DB
	Directory *Directory
	Issuer    string
	Keys      *assertion.KeySets
	Fetches   *strangers.Fetches // of key sets; nil: unlimited
	// Assertions limits the assertions of one client, because each is stored until it expires; nil: unlimited.
	Assertions *limit.Limiter
	// Unused limits, by sender and in total, the assertions of clients that nobody has used or approved, because
	// anybody can register them; nil: unlimited.
	Unused *strangers.Shares
}

// credentials are the client_id and the secret of a request.
type credentials struct {
	ids     []string // with Basic, decoded and raw; otherwise one
	secrets []string // likewise; empty if the request has none
	basic   bool
}

// Authenticate returns the client that sent r and the method with which it authenticated. form is the form of r. A
// public client sends only its client_id; a confidential one sends a secret, in the header or in the body, or a signed
// assertion. If authentication fails, the error is an invalid_client refusal, and no code or token is changed.
func (a *Authenticator) Authenticate(r *http.Request, form url.Values) (*oauth.Client, oauth.Method, error) {
	if hasAssertion(form) {
		c, err := a.byAssertion(r, form)
		if err != nil {
			return nil, "", err
		}
		return c, oauth.MethodPrivateKeyJWT, nil
	}
	cred, err := read(r, form)
	if err != nil {
		return nil, "", err
	}
	c, err := a.Directory.Known(a.find(r, cred.ids))
	if refusal, ok := oauth.AsRefusal(err); ok && refusal.Code == oauth.InvalidClient {
		return nil, "", oauth.Because(oauth.RefuseClient(cred.basic, "%s", refusal.Description), refusal.Cause)
	}
	if err != nil {
		return nil, "", err
	}
	switch {
	case c.Public() && len(cred.secrets) > 0:
		return nil, "", oauth.RefuseClient(cred.basic,
			"the client is public (token_endpoint_auth_method none) and must not send a secret")
	case c.Public():
		return c, oauth.MethodNone, nil
	case c.Accepts(oauth.MethodPrivateKeyJWT):
		return nil, "", oauth.RefuseClient(cred.basic,
			"the client must authenticate with a client_assertion (token_endpoint_auth_method private_key_jwt)")
	case len(cred.secrets) == 0:
		return nil, "", oauth.RefuseClient(cred.basic, "the client must authenticate with its secret")
	}
	for _, secret := range cred.secrets {
		if c.MatchSecret(secret, a.DB.Now()) {
			return c, c.Method, nil
		}
	}
	return nil, "", oauth.RefuseClient(cred.basic, "the client secret is wrong or has expired")
}

// Claimed returns the client_id in the body of a request, or the issuer of its assertion, without authenticating it. It
// returns "" if there is neither.
func Claimed(form url.Values) string {
	if hasAssertion(form) {
		if said, err := readAssertion(form); err == nil {
			return said.Claims.Issuer
		}
	}
	return form.Get("client_id")
}

// find returns the first client with one of ids, or nil if there is none.
func (a *Authenticator) find(r *http.Request, ids []string) (*oauth.Client, error) {
	for _, id := range ids {
		c, err := a.Directory.FindUsed(r, id)
		if refusal, ok := oauth.AsRefusal(err); ok && !oauth.IsForNow(err) {
			return nil, oauth.Because(oauth.RefuseClient(false, "%s", refusal.Description), refusal.Cause)
		}
		if err == nil || !errors.Is(err, store.ErrNotFound) {
			return c, err
		}
	}
	return nil, nil
}

// read returns the credentials of the request. The body may repeat the client_id of the header, but the secret must be
// in one place only.
func read(r *http.Request, form url.Values) (credentials, error) {
	id, secret := form.Get("client_id"), form.Get("client_secret")
	header := r.Header.Values("Authorization")
	scheme, encoded, _ := strings.Cut(strings.Join(header, ","), " ")
	basic := strings.EqualFold(scheme, "Basic")
	switch {
	case len(header) > 1:
		return credentials{}, oauth.RefuseClient(basic, "the request must have only one Authorization header")
	case !basic && id == "":
		return credentials{}, oauth.RefuseClient(false, "client_id is missing")
	case len(id) > maxCredentials || len(secret) > maxCredentials || basic && len(encoded) > 2*maxCredentials:
		return credentials{}, oauth.RefuseClient(basic, "the client credentials are too long")
	case !basic:
		cred := credentials{ids: []string{id}}
		if secret != "" {
			cred.secrets = []string{secret}
		}
		return cred, nil
	}
	cred, err := readBasic(encoded)
	switch {
	case err != nil:
		return credentials{}, err
	case len(cred.secrets) > 0 && secret != "":
		return credentials{}, oauth.RefuseClient(true,
			"the client secret must be in the header or in the body, not in both")
	case id != "" && id != cred.ids[0] && id != cred.ids[len(cred.ids)-1]:
		return credentials{}, oauth.RefuseClient(true,
			"client_id in the body differs from client_id in the Authorization header")
	case secret != "":
		cred.secrets = []string{secret}
	}
	return cred, nil
}

// readBasic reads HTTP Basic credentials. RFC 6749 §2.3.1 requires id and secret to be form-encoded first, but many
// clients do not do so, so the raw form is accepted too. An empty secret counts as absent, because some public clients
// always send the header.
func readBasic(encoded string) (credentials, error) {
	plain, err := base64.StdEncoding.DecodeString(encoded)
	id, secret, colon := strings.Cut(string(plain), ":")
	switch {
	case err != nil || !colon:
		return credentials{}, oauth.RefuseClient(true,
			"the Authorization header is not Basic with base64 of client_id:client_secret")
	case !utf8.Valid(plain) || strings.ContainsRune(string(plain), 0):
		return credentials{}, oauth.RefuseClient(true, "the Basic credentials are not UTF-8 text")
	case id == "":
		return credentials{}, oauth.RefuseClient(true, "the Basic credentials have no client_id")
	}
	cred := credentials{basic: true, ids: decodedAndRaw(id)}
	if secret != "" {
		cred.secrets = decodedAndRaw(secret)
	}
	return cred, nil
}

func decodedAndRaw(s string) []string {
	decoded, err := url.QueryUnescape(s)
	if err != nil || decoded == s || decoded == "" {
		return []string{s}
	}
	return []string{decoded, s}
}
