// Package guardtest is an authorization server for the tests of an MCP server: real HTTP on a loopback port, real
// metadata, keys and signatures, and a person who consents to everything. Tests can make tokens with any claims, rotate
// keys, and take the server down.
//
//	issuer := guardtest.NewIssuer()
//	defer issuer.Close()
//	g, err := guard.New(guard.Config{Issuer: issuer.URL, Resource: "https://mcp.example.com/mcp"})
//	…
//	token := issuer.Token(guardtest.Claims{Audience: "https://mcp.example.com/mcp", Scope: "mcp:tools:weather"})
package guardtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Issuer is the authorization server. Its methods may be called concurrently. They panic if they fail, because only a
// mistake in the test can make them.
type Issuer struct {
	// URL is its identifier, http://127.0.0.1:port.
	URL string

	// ClientID and ClientSecret are the credentials of a client that may use every grant and introspect every token.
	ClientID, ClientSecret string

	// User is the person who consents to everything: the sub of tokens from the authorization code grant.
	User string

	server *httptest.Server

	mu      sync.Mutex
	now     func() time.Time
	down    bool
	keys    []signingKey // the newest signs
	fetched map[string]int
	revoked map[string]bool // by token
	places  int             // in the status list that tokens have
	marked  []int           // places of tokens that are revoked
	calls   []ToolCall
	known   map[string]bool // ids of calls
	clients map[string]bool // registered ones
	codes   map[string]grant
	refresh map[string]grant
}

type signingKey struct {
	id      string
	private *ecdsa.PrivateKey
}

// NewIssuer starts an issuer with one key. Close it when the test is over.
func NewIssuer() *Issuer {
	i := &Issuer{
		ClientID:     "test-client",
		ClientSecret: "test-secret-" + rand.Text(),
		User:         "user-1",
		now:          time.Now,
		fetched:      map[string]int{},
		revoked:      map[string]bool{},
		known:        map[string]bool{},
		clients:      map[string]bool{},
		codes:        map[string]grant{},
		refresh:      map[string]grant{},
	}
	i.Rotate()
	// The port may be one that another guard still asks, so everything is set before the issuer answers.
	i.server = httptest.NewUnstartedServer(i.handler())
	i.URL = "http://" + i.server.Listener.Addr().String()
	i.server.Start()
	return i
}

// Close stops the issuer.
func (i *Issuer) Close() { i.server.Close() }

// SetClock makes now the clock of the issuer, which dates its tokens. Call it before the issuer is used.
func (i *Issuer) SetClock(now func() time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.now = now
}

// Rotate makes a new signing key, published beside the old ones, and returns its kid.
func (i *Issuer) Rotate() string {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	key := signingKey{id: "key-" + rand.Text()[:8], private: private}
	i.keys = append(i.keys, key)
	return key.id
}

// Withdraw removes every key but the newest from the key set, so that tokens signed with the others are no longer
// valid.
func (i *Issuer) Withdraw() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = i.keys[len(i.keys)-1:]
}

// SetDown makes every request fail with 503 if down is true, and work again otherwise.
func (i *Issuer) SetDown(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// Fetches returns the number of requests to path, such as "/.well-known/jwks", including those that failed.
func (i *Issuer) Fetches(path string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetched[path]
}

// Revoke revokes a token: introspection says that it is not active, and its status list that it does not count.
func (i *Issuer) Revoke(token string) {
	place, ok := placeOf(token)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.revoked[token] = true
	if ok {
		i.marked = append(i.marked, place)
	}
}

// Claims are the claims of a token. A zero field gets a plausible value, except Audience, Scope and Extra.
type Claims struct {
	Subject  string        // sub; zero: User
	ClientID string        // client_id; zero: ClientID
	Audience string        // aud
	Scope    string        // scope
	ID       string        // jti; zero: random
	TTL      time.Duration // exp − iat, may be negative; zero: ten minutes

	// Extra claims replace those above; nil as a value leaves a claim out.
	Extra map[string]any
}

// Token returns a signed access token (RFC 9068) that has a place of its own in the status list of the issuer.
func (i *Issuer) Token(c Claims) string {
	i.mu.Lock()
	now, place := i.now(), i.places
	i.places++
	i.mu.Unlock()
	if c.TTL == 0 {
		c.TTL = 10 * time.Minute
	}
	claims := map[string]any{
		"iss":       i.URL,
		"sub":       or(c.Subject, i.User),
		"client_id": or(c.ClientID, i.ClientID),
		"aud":       c.Audience,
		"scope":     c.Scope,
		"jti":       or(c.ID, rand.Text()),
		"iat":       now.Unix(),
		"exp":       now.Add(c.TTL).Unix(),
		"status":    map[string]any{"status_list": map[string]any{"idx": place, "uri": i.URL + statusPath}},
	}
	if _, other := c.Extra["iss"]; other { // no token of another issuer is in the list of this one
		delete(claims, "status")
	}
	maps.Copy(claims, c.Extra)
	for name, value := range claims {
		if value == nil {
			delete(claims, name)
		}
	}
	return i.Sign(nil, claims)
}

// Sign returns a JWS of claims, signed with the newest key. The members of header are added to typ and kid, or replace
// them. Sign makes no other checks, so it can sign what no issuer should sign.
func (i *Issuer) Sign(header, claims map[string]any) string {
	i.mu.Lock()
	key := i.keys[len(i.keys)-1]
	i.mu.Unlock()
	extra := map[jose.HeaderKey]any{"typ": "at+jwt", "kid": key.id}
	for name, value := range header {
		extra[jose.HeaderKey(name)] = value
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key.private},
		&jose.SignerOptions{ExtraHeaders: extra})
	if err != nil {
		panic(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		panic(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return token
}

func (i *Issuer) keySet() jose.JSONWebKeySet {
	i.mu.Lock()
	defer i.mu.Unlock()
	var set jose.JSONWebKeySet
	for _, key := range i.keys {
		set.Keys = append(set.Keys,
			jose.JSONWebKey{Key: key.private.Public(), KeyID: key.id, Algorithm: "ES256", Use: "sig"})
	}
	return set
}

// claimsOf returns the claims of a token of this issuer that is active, or nil.
func (i *Issuer) claimsOf(token string) map[string]any {
	i.mu.Lock()
	revoked, now := i.revoked[token], i.now()
	i.mu.Unlock()
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil || revoked {
		return nil
	}
	payload, err := signed.Verify(i.keySet())
	if err != nil {
		return nil
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		return nil
	}
	if exp, ok := claims["exp"].(float64); !ok || now.Unix() >= int64(exp) {
		return nil
	}
	return claims
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

// count counts the request, and refuses it while the issuer is down.
func (i *Issuer) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		i.fetched[r.URL.Path]++
		down := i.down
		i.mu.Unlock()
		if down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(fmt.Errorf("guardtest: %w", err))
	}
}

func refuse(w http.ResponseWriter, code, description string) {
	answer(w, http.StatusBadRequest, map[string]string{"error": code, "error_description": description})
}
