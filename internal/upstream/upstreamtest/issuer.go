// Package upstreamtest has identity providers for tests: a real OpenID issuer and a server with GitHub's form, both on
// this computer. A test changes who is signed in there, and makes them lie, stall or go away.
package upstreamtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// The client that Cardea is at the providers.
const (
	ClientID     = "cardea"
	ClientSecret = "the secret of cardea at the provider"
)

// Claims are claims about a person; Claims["sub"] is required.
type Claims = map[string]any

// Issuer is an OpenID provider at which the same person is always signed in. Its fields may be changed between
// requests.
type Issuer struct {
	URL string

	mu     sync.Mutex
	t      testing.TB
	web    *httptest.Server
	key    *ecdsa.PrivateKey
	person Claims            // who signs in; nil: nobody, so that the answer is access_denied
	codes  map[string]flow   // by code, until it is redeemed
	tokens map[string]Claims // people by refresh and access token
	hooks  Hooks
	path   string
}

// Hooks make an issuer misbehave. Each that is set is called with what would be sent, and may change it.
type Hooks struct {
	Discovery func(metadata map[string]any)
	Response  func(query url.Values)                            // with which the browser is sent back
	IDToken   func(claims Claims)                               // before it is signed
	UserInfo  func(claims Claims)                               // what the userinfo endpoint says
	Answer    func(w http.ResponseWriter, r *http.Request) bool // true: it has answered instead of the issuer
	Key       *ecdsa.PrivateKey                                 // signs ID tokens instead of the published key
}

type flow struct {
	person                            Claims
	nonce, challenge, redirect, scope string
}

// NewIssuer runs an issuer until t ends. path is the path of its URL, "" for none.
func NewIssuer(t testing.TB, path string) *Issuer {
	t.Helper()
	i := &Issuer{t: t, path: path, codes: map[string]flow{}, tokens: map[string]Claims{}}
	i.key = NewKey(t)
	i.web = httptest.NewServer(http.HandlerFunc(i.serve))
	t.Cleanup(i.web.Close)
	i.URL = i.web.URL + path
	return i
}

// NewKey returns a key for ES256.
func NewKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// ChangeKey replaces the key that signs ID tokens, under the same name.
func (i *Issuer) ChangeKey() {
	key := NewKey(i.t)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.key = key
}

// Stop makes the issuer unreachable.
func (i *Issuer) Stop() { i.web.Close() }

// SignIn makes person the one who is signed in at the issuer; nil for nobody.
func (i *Issuer) SignIn(person Claims) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.person = maps.Clone(person)
}

// Misbehave replaces the hooks.
func (i *Issuer) Misbehave(h Hooks) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.hooks = h
}

// Forget makes the issuer refuse everything that it gave out for the person with that sub.
func (i *Issuer) Forget(sub string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for token, person := range i.tokens {
		if person["sub"] == sub {
			delete(i.tokens, token)
		}
	}
}

// Visit opens the address to which Cardea sent the browser, and returns the one to which the issuer sends it back.
func (i *Issuer) Visit(location string) string { i.t.Helper(); return visit(i.t, location) }

func visit(t testing.TB, location string) string {
	t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Get(location)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusFound {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("upstreamtest: %s answered %s %s", location, resp.Status, body)
	}
	return resp.Header.Get("Location")
}

func (i *Issuer) serve(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	answer := i.hooks.Answer
	i.mu.Unlock()
	if answer != nil && answer(w, r) {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, i.path)
	switch path {
	case "/.well-known/openid-configuration":
		metadata := map[string]any{
			"issuer": i.URL, "authorization_endpoint": i.URL + "/authorize", "token_endpoint": i.URL + "/token",
			"userinfo_endpoint": i.URL + "/userinfo", "jwks_uri": i.URL + "/jwks",
			"response_types_supported": []string{"code"},
			"subject_types_supported":  []string{"public"}, "id_token_signing_alg_values_supported": []string{"ES256"},
			"authorization_response_iss_parameter_supported": true,
			"scopes_supported": []string{"openid", "profile", "email", "groups", "offline_access"},
		}
		if i.hooks.Discovery != nil {
			i.hooks.Discovery(metadata)
		}
		send(w, http.StatusOK, metadata)
	case "/authorize":
		i.authorize(w, r)
	case "/token":
		i.token(w, r)
	case "/jwks":
		key := jose.JSONWebKey{Key: i.key.Public(), KeyID: "1", Algorithm: "ES256", Use: "sig"}
		send(w, http.StatusOK, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key}})
	case "/userinfo":
		person, ok := i.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
		if !ok {
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			send(w, http.StatusUnauthorized, Claims{"error": "invalid_token"})
			return
		}
		said := maps.Clone(person)
		if i.hooks.UserInfo != nil {
			i.hooks.UserInfo(said)
		}
		send(w, http.StatusOK, said)
	default:
		http.NotFound(w, r)
	}
}

func (i *Issuer) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("client_id") != ClientID || q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" ||
		q.Get("nonce") == "" {
		http.Error(w, "the request is not as it should be: "+r.URL.RawQuery, http.StatusBadRequest)
		return
	}
	back := url.Values{"state": {q.Get("state")}, "iss": {i.URL}}
	if i.person == nil {
		back.Set("error", "access_denied")
	} else {
		code := rand.Text()
		i.codes[code] = flow{i.person, q.Get("nonce"), q.Get("code_challenge"), q.Get("redirect_uri"), q.Get("scope")}
		back.Set("code", code)
	}
	if i.hooks.Response != nil {
		i.hooks.Response(back)
	}
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
}

func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	id, secret, _ := r.BasicAuth()
	if decoded, err := url.QueryUnescape(secret); err != nil || id != ClientID || decoded != ClientSecret {
		send(w, http.StatusUnauthorized, Claims{"error": "invalid_client"})
		return
	}
	var f flow
	switch r.FormValue("grant_type") {
	case "authorization_code":
		var ok bool
		f, ok = i.codes[r.FormValue("code")]
		delete(i.codes, r.FormValue("code"))
		sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		if !ok || base64.RawURLEncoding.EncodeToString(sum[:]) != f.challenge ||
			r.FormValue("redirect_uri") != f.redirect {
			send(w, http.StatusBadRequest, Claims{"error": "invalid_grant"})
			return
		}
	case "refresh_token": // good for one use
		person, ok := i.tokens[r.FormValue("refresh_token")]
		delete(i.tokens, r.FormValue("refresh_token"))
		if !ok {
			send(w, http.StatusBadRequest, Claims{"error": "invalid_grant"})
			return
		}
		f = flow{person: person, scope: "openid offline_access"}
	}
	access := rand.Text()
	i.tokens[access] = f.person
	answer := Claims{"access_token": access, "token_type": "Bearer", "expires_in": 3600, "id_token": i.idToken(f)}
	if strings.Contains(f.scope, "offline_access") {
		refresh := rand.Text()
		i.tokens[refresh] = f.person
		answer["refresh_token"] = refresh
	}
	send(w, http.StatusOK, answer)
}

func (i *Issuer) idToken(f flow) string {
	claims := maps.Clone(f.person)
	maps.Copy(claims, Claims{"iss": i.URL, "aud": ClientID, "iat": time.Now().Unix(),
		"exp": time.Now().Add(time.Hour).Unix()})
	if f.nonce != "" {
		claims["nonce"] = f.nonce
	}
	if i.hooks.IDToken != nil {
		i.hooks.IDToken(claims)
	}
	key := i.key
	if i.hooks.Key != nil {
		key = i.hooks.Key
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil)
	if err != nil {
		i.t.Error(err)
		return ""
	}
	text, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		i.t.Error(err)
	}
	return text
}

func send(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
