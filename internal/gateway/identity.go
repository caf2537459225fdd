package gateway

import (
	"crypto"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cardea-auth/cardea/guard"
)

// lasts is how long a server may believe a statement of identity.
const lasts = time.Minute

// identities signs who the caller is, for servers that want to know: a JWT in the header Cardea-Identity, with a key of
// the gateway's own. It is not an access token, and opens nothing.
type identities struct {
	issuer string
	signer jose.Signer
	keys   []byte // the key set, RFC 7517
}

// newIdentities returns identities whose key comes from secret, so that processes with the same configuration have the
// same key. If secret is empty, the key is of this process only.
func newIdentities(issuer, secret string) (*identities, error) {
	seed := make([]byte, ed25519.SeedSize)
	_, _ = rand.Read(seed) // never fails
	if secret != "" {
		derived, err := hkdf.Key(sha256.New, []byte(secret), nil, "cardea gateway identity", len(seed))
		if err != nil {
			return nil, fmt.Errorf("gateway: %w", err)
		}
		seed = derived
	}
	private := ed25519.NewKeyFromSeed(seed)
	public := jose.JSONWebKey{Key: private.Public(), Algorithm: string(jose.EdDSA), Use: "sig"}
	thumb, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	public.KeyID = fmt.Sprintf("%x", thumb[:8])
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: private, KeyID: public.KeyID}},
		(&jose.SignerOptions{}).WithType("cardea-identity+jwt"))
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public}})
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	return &identities{issuer, signer, keys}, nil
}

// of returns the statement that token's person calls the server with this resource, by token's client.
func (i *identities) of(token *guard.Token, resource string) (string, error) {
	now := time.Now()
	claims, err := json.Marshal(map[string]any{
		"iss": i.issuer, "aud": resource, "sub": token.Subject, "sub_iss": token.Issuer, "client_id": token.ClientID,
		"scope": token.Scopes.String(), "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(lasts).Unix(),
	})
	if err != nil {
		return "", fmt.Errorf("gateway: %w", err)
	}
	signed, err := i.signer.Sign(claims)
	if err != nil {
		return "", fmt.Errorf("gateway: %w", err)
	}
	return signed.CompactSerialize()
}

// serve answers with the key set.
func (i *identities) serve(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", "public, max-age=300")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(i.keys) // fails only if the client has gone
}
