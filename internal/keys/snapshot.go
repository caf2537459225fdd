package keys

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// algorithms are the signing algorithms that Verify accepts: oauth.SigningAlgs.
var algorithms = func() (algs []jose.SignatureAlgorithm) {
	for _, alg := range oauth.SigningAlgs {
		algs = append(algs, jose.SignatureAlgorithm(alg))
	}
	return algs
}()

// snapshot is the content of the key table, opened.
type snapshot struct {
	keys  []*key // published ones, oldest first
	byKID map[string]*key
	jwks  []byte
}

// key is a published key with its private half decrypted.
type key struct {
	store.Key
	public  any
	private crypto.PrivateKey
	signers sync.Map // typ → jose.Signer, kept because making one costs more than signing
}

func (k *key) signer(typ string) (jose.Signer, error) {
	if s, ok := k.signers.Load(typ); ok {
		return s.(jose.Signer), nil
	}
	s, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.SignatureAlgorithm(k.Alg), Key: jose.JSONWebKey{Key: k.private, KeyID: k.KID}},
		(&jose.SignerOptions{}).WithType(jose.ContentType(typ)))
	if err != nil {
		return nil, fmt.Errorf("keys: signer: %w", err)
	}
	k.signers.Store(typ, s)
	return s, nil
}

// load reads and opens every published key.
func (r *Ring) load(tx *store.Tx) (*snapshot, error) {
	rows, err := tx.Keys()
	if err != nil {
		return nil, err
	}
	snap := &snapshot{byKID: map[string]*key{}}
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, row := range rows {
		if !row.ExpiresAt.IsZero() && !tx.Now().Before(row.ExpiresAt) {
			continue
		}
		var jwk jose.JSONWebKey
		if err := json.Unmarshal([]byte(row.Public), &jwk); err != nil {
			return nil, fmt.Errorf("keys: key %s: %w", row.KID, err)
		}
		pkcs8, err := r.master.Open(place(row.KID), row.Sealed)
		if err != nil {
			return nil, err
		}
		private, err := x509.ParsePKCS8PrivateKey(pkcs8)
		if err != nil {
			return nil, fmt.Errorf("keys: key %s: %w", row.KID, err)
		}
		k := &key{Key: row, public: jwk.Key, private: private}
		snap.keys = append(snap.keys, k)
		snap.byKID[row.KID] = k
		set.Keys = append(set.Keys, jwk)
	}
	if snap.jwks, err = json.Marshal(set); err != nil {
		return nil, fmt.Errorf("keys: jwks: %w", err)
	}
	return snap, nil
}

// signing returns the key of alg that signs at now: the youngest one that is active and not retired. If none is active,
// because the clock of the node that made the first key is ahead of this one's, it returns the key that becomes active
// first. It returns nil if there is none.
func (s *snapshot) signing(alg string, now time.Time) *key {
	var due, waiting *key
	for _, k := range s.keys {
		switch {
		case k.Alg != alg:
		case !k.RetiredAt.IsZero() && !now.Before(k.RetiredAt):
		case now.Before(k.ActiveAt):
			if waiting == nil || k.ActiveAt.Before(waiting.ActiveAt) {
				waiting = k
			}
		case due == nil || due.ActiveAt.Before(k.ActiveAt):
			due = k
		}
	}
	if due == nil {
		return waiting
	}
	return due
}

// verified caches the claims of tokens whose signature was checked under one snapshot, so that verifying the same token
// again costs a hash and a lookup. It holds two generations of at most remembered entries and drops the older one when
// the younger one is full.
type verified struct {
	mu         sync.Mutex
	under      *snapshot
	young, old map[[32]byte]*oauth.Claims
}

const remembered = 10_000

func (v *verified) find(under *snapshot, hash [32]byte) (*oauth.Claims, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.under != under {
		return nil, false
	}
	if c, ok := v.young[hash]; ok {
		return c, true
	}
	c, ok := v.old[hash]
	return c, ok
}

func (v *verified) add(under *snapshot, hash [32]byte, c *oauth.Claims) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.under != under {
		v.under, v.young, v.old = under, nil, nil
	}
	if v.young == nil || len(v.young) >= remembered {
		v.young, v.old = make(map[[32]byte]*oauth.Claims), v.young
	}
	v.young[hash] = c
}
