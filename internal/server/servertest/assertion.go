package servertest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// Key is a client's signing key for the algorithm Alg. All RSA keys share one private key, because generating one is
// slow.
type Key struct {
	ID      string // kid; "" for none
	Alg     string
	Private crypto.Signer
}

// NewKey returns a new key for ES256, EdDSA, RS256 or PS256.
func NewKey(t testing.TB, kid, alg string) *Key {
	t.Helper()
	k := &Key{ID: kid, Alg: alg}
	var err error
	switch alg {
	case "ES256":
		k.Private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "EdDSA":
		_, k.Private, err = ed25519.GenerateKey(rand.Reader)
	default:
		k.Private, err = rsaKey()
	}
	if err != nil {
		t.Fatalf("servertest: %v", err)
	}
	return k
}

var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// KeySet returns the JSON Web Key Set of the public keys.
func KeySet(t testing.TB, keys ...*Key) json.RawMessage {
	t.Helper()
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, k := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.Private.Public(), KeyID: k.ID})
	}
	text, err := json.Marshal(set)
	if err != nil {
		t.Fatalf("servertest: %v", err)
	}
	return text
}

// Signed is an edit for Client: the client authenticates with private_key_jwt and a key of the set.
func Signed(set json.RawMessage) func(*oauth.Client) {
	return func(c *oauth.Client) { c.Method, c.JWKS = oauth.MethodPrivateKeyJWT, set }
}

// Assertion is a client assertion before it is signed, for edits to change (RFC 7523 §3).
type Assertion struct {
	Header, Claims map[string]any
	Sign           func(input []byte) []byte // nil to sign with the agent's Key
}

// Assertion returns a new assertion of the agent for this server, signed with its Key, with a lifetime of five minutes
// and a unique jti.
func (a *Agent) Assertion(edits ...func(*Assertion)) string {
	a.t.Helper()
	now := a.s.Clock.Now()
	made := &Assertion{
		Header: map[string]any{"alg": a.Key.Alg, "typ": "JWT"},
		Claims: map[string]any{
			"iss": a.ClientID, "sub": a.ClientID, "aud": a.s.issuer, "jti": rand.Text(),
			"iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		},
	}
	if a.Key.ID != "" {
		made.Header["kid"] = a.Key.ID
	}
	for _, edit := range edits {
		edit(made)
	}
	if made.Sign == nil {
		made.Sign = func(input []byte) []byte { return a.Key.Sign(a.t, input) }
	}
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			a.t.Fatalf("servertest: %v", err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	input := part(made.Header) + "." + part(made.Claims)
	text := input + "." + base64.RawURLEncoding.EncodeToString(made.Sign([]byte(input)))
	a.s.secret("client assertion", text)
	return text
}

// Sign returns the JWS signature of input (RFC 7518 §3).
func (k *Key) Sign(t testing.TB, input []byte) (signature []byte) {
	t.Helper()
	digest := sha256.Sum256(input)
	var err error
	switch key := k.Private.(type) {
	case *ecdsa.PrivateKey:
		r, s, failed := ecdsa.Sign(rand.Reader, key, digest[:])
		if err = failed; err == nil {
			size := (key.Curve.Params().BitSize + 7) / 8
			signature = append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
		}
	case ed25519.PrivateKey:
		signature = ed25519.Sign(key, input)
	case *rsa.PrivateKey:
		if k.Alg == "PS256" {
			signature, err = rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:],
				&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			signature, err = rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
		}
	}
	if err != nil || signature == nil {
		t.Fatalf("servertest: cannot sign with %s: %v", k.Alg, err)
	}
	return signature
}

// Assert sends the assertion as the only credential (RFC 7523 §2.2).
func Assert(assertion string) Tweak {
	return func(r *Request) {
		With("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")(r)
		With("client_assertion", assertion)(r)
		Without("client_id", "client_secret")(r)
		r.Header.Del("Authorization")
	}
}
