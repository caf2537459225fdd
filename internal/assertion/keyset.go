package assertion

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json" // distinguishes names by case and refuses duplicate names

	"github.com/cardea-auth/cardea/internal/fetch"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// Bounds of a key set.
const (
	maxKeys   = 16   // that can verify assertions
	minRSA    = 2048 // bits
	maxRSA    = 8192 // bits; a longer one costs too much to verify
	minRSAExp = 65537
	maxKeyID  = 512 // bytes
)

// member has the fields of a key in a key set that decide whether it is used (RFC 7517 §4).
type member struct {
	Type   string          `json:"kty"`
	Curve  string          `json:"crv"`
	Use    string          `json:"use"`
	Alg    string          `json:"alg"`
	D      json.RawMessage `json:"d"`
	P      json.RawMessage `json:"p"`
	Q      json.RawMessage `json:"q"`
	DP     json.RawMessage `json:"dp"`
	DQ     json.RawMessage `json:"dq"`
	QI     json.RawMessage `json:"qi"`
	Others json.RawMessage `json:"oth"`
	K      json.RawMessage `json:"k"`
	whole  json.RawMessage
}

// secret reports whether the key contains a secret (RFC 7518 §6.2.2, §6.3.2, §6.4).
func (k *member) secret() bool {
	return slices.ContainsFunc([]json.RawMessage{k.D, k.P, k.Q, k.DP, k.DQ, k.QI, k.Others, k.K},
		func(v json.RawMessage) bool { return v != nil })
}

// verifies reports whether the key can verify assertions. A set may also contain other keys, such as keys for
// encryption (RFC 7517 §5).
func (k *member) verifies() bool {
	kind := k.Type == "EC" && k.Curve == "P-256" || k.Type == "OKP" && k.Curve == "Ed25519" || k.Type == "RSA"
	return kind && (k.Use == "" || k.Use == "sig") && (k.Alg == "" || oauth.IsSigningAlg(k.Alg))
}

// ErrSecretKey means that a key set contains a private or symmetric key.
var ErrSecretKey = errors.New("it must contain public keys only: never send a private or symmetric key")

// readKeySet parses a JSON Web Key Set. Its errors, and those of usableKeys, are phrases for the client's developer.
func readKeySet(text []byte) ([]member, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil || set.Keys == nil {
		return nil, errors.New("it is not a JSON Web Key Set, which is an object whose member keys is a list of keys " +
			"(RFC 7517 section 5)")
	}
	var members []member
	var malformed error
	for _, text := range set.Keys {
		k := member{whole: text}
		if err := json.Unmarshal(text, &k); err != nil {
			malformed = errors.New("a key is not a JSON Web Key (RFC 7517 section 4)")
		}
		if k.secret() {
			return nil, ErrSecretKey
		}
		members = append(members, k)
	}
	return members, malformed
}

// usableKeys returns the keys that can verify assertions. It returns an error if there is none.
func usableKeys(members []member) ([]jose.JSONWebKey, error) {
	var keys []jose.JSONWebKey
	seen := map[string]bool{}
	for _, m := range members {
		if !m.verifies() {
			continue
		}
		k, err := parseKey(m.whole)
		switch {
		case err != nil:
			return nil, err
		case len(k.KeyID) > maxKeyID:
			return nil, fmt.Errorf("a kid is longer than %d bytes", maxKeyID)
		case seen[k.KeyID] && k.KeyID == "":
			return nil, errors.New("if there are several keys, each needs a kid")
		case seen[k.KeyID]:
			return nil, errors.New("two keys have the same kid")
		}
		if len(keys) == maxKeys {
			return nil, fmt.Errorf("it has more than %d keys", maxKeys)
		}
		seen[k.KeyID] = true
		keys = append(keys, k)
	}
	switch {
	case len(keys) == 0:
		return nil, fmt.Errorf("none of its keys can verify a signature with one of %s",
			oauth.Listed(oauth.SigningAlgs))
	case len(keys) > 1 && seen[""]:
		return nil, errors.New("if there are several keys, each needs a kid")
	}
	return keys, nil
}

// CheckPublic returns ErrSecretKey if text contains a secret, and another error if it is not a key set. It accepts keys
// that cannot verify assertions. The error is a phrase.
func CheckPublic(text []byte) error {
	_, err := readKeySet(text)
	return err
}

// ParseKeySet returns the keys of a set that can verify assertions. It returns an error if there is none. The error is
// a phrase.
func ParseKeySet(text []byte) ([]jose.JSONWebKey, error) {
	members, err := readKeySet(text)
	if err != nil {
		return nil, err
	}
	return usableKeys(members)
}

// parseKey parses a public key that can verify assertions. The result has only the key, its kid, alg and use.
func parseKey(text []byte) (jose.JSONWebKey, error) {
	var k jose.JSONWebKey
	if err := json.Unmarshal(text, &k); err != nil || !k.Valid() || !k.IsPublic() {
		return k, errors.New("a key is malformed or not on its curve (RFC 7518 section 6)")
	}
	if key, ok := k.Key.(*rsa.PublicKey); ok {
		switch bits := key.N.BitLen(); {
		case bits < minRSA || bits > maxRSA:
			return k, fmt.Errorf("an RSA key has %d bits: it must have from %d to %d", bits, minRSA, maxRSA)
		case key.E < minRSAExp || key.E%2 == 0 || key.N.Bit(0) == 0:
			return k, fmt.Errorf("the exponent of an RSA key must be %d or more, and its exponent and modulus "+
				"must be odd", minRSAExp)
		}
	}
	return jose.JSONWebKey{Key: k.Key, KeyID: k.KeyID, Algorithm: k.Algorithm, Use: k.Use}, nil
}

// fits reports whether the key verifies signatures with alg.
func fits(k jose.JSONWebKey, alg string) bool {
	if k.Algorithm != "" && k.Algorithm != alg {
		return false
	}
	switch k.Key.(type) {
	case *ecdsa.PublicKey:
		return alg == "ES256"
	case ed25519.PublicKey:
		return alg == "EdDSA"
	case *rsa.PublicKey:
		return alg == "RS256" || alg == "PS256"
	}
	return false
}

// KeySets loads and caches the keys that are published at a URL (jwks_uri). Use NewKeySets to make one.
type KeySets struct {
	cache   *fetch.Cache[[]jose.JSONWebKey]
	fetches *limit.Limiter // of key sets that are not cached, by URL
	again   *limit.Limiter // of cached key sets before they are stale, by URL
}

const (
	maxKeySets   = 1000   // in memory
	maxRefetches = 10_000 // URLs with separate limits
)

// KeySetRate is how often each URL may be fetched while its key set is not in memory.
var KeySetRate = limit.Rate{Every: 10 * time.Second, Burst: 3}

// NewRefetches returns a limit, by URL, on fetching a key set or a metadata document again before it is stale, because
// it lacks the key or the redirect URI of a request. The configuration cannot switch this limit off, because it
// protects other people's servers.
func NewRefetches(now func() time.Time) *limit.Limiter {
	return limit.New(KeySetRate, maxRefetches, now)
}

// NewKeySets returns KeySets that fetches with f and uses the clock now. fetches limits, by URL, the fetches of keys
// that are not in memory (KeySetRate); nil means unlimited.
func NewKeySets(f *fetch.Client, now func() time.Time, fetches *limit.Limiter) *KeySets {
	read := func(_ string, d *fetch.Document) ([]jose.JSONWebKey, error) { return ParseKeySet(d.Body) }
	return &KeySets{cache: fetch.NewCache(f, fetch.KeySet, maxKeySets, read), fetches: fetches,
		again: NewRefetches(now)}
}

// Load returns the keys at uri, from memory unless they were fetched before newerThan. take takes one fetch from the
// budget of the sender, as the allow function of fetch.Cache.Load. The error is a refusal if the keys were requested
// too often or the budget is used up, fetch.ErrNotAllowed or fetch.ErrUnavailable if they could not be fetched, and
// otherwise a phrase that says why they cannot be used.
func (s *KeySets) Load(ctx context.Context, uri string, newerThan time.Time,
	take func() (done func(), err error)) ([]jose.JSONWebKey, error) {
	keys, _, err := s.cache.Load(ctx, uri, newerThan, func() (func(), error) {
		budget := s.fetches
		if !newerThan.IsZero() {
			budget = s.again
		}
		if ok, after := budget.Allow(uri); !ok {
			return nil, oauth.RefuseForNow(after, "the keys at this jwks_uri were requested too often: try again later")
		}
		return take()
	})
	return keys, err
}
