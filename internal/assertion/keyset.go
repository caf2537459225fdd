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
	"github.com/go-jose/go-jose/v4/json" // tells apart names by case, refuses a name given twice

	"github.com/cardea-auth/cardea/internal/fetch"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// Bounds of a key set.
const (
	maxKeys   = 16   // that verify assertions
	minRSA    = 2048 // bits
	maxRSA    = 8192 // bits; a longer one costs too much to verify
	minRSAExp = 65537
	maxKeyID  = 512 // bytes
)

// member is a key of a key set, as far as it is looked at before it is known to be
// of use (RFC 7517 §4).
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

// secret reports whether the key gives a secret away (RFC 7518 §6.2.2, §6.3.2, §6.4).
func (k *member) secret() bool {
	return slices.ContainsFunc([]json.RawMessage{k.D, k.P, k.Q, k.DP, k.DQ, k.QI, k.Others, k.K}, func(v json.RawMessage) bool { return v != nil })
}

// verifies reports whether the key is of a kind that assertions are verified with.
// Others, such as those for encryption, may stand beside them (RFC 7517 §5).
func (k *member) verifies() bool {
	kind := k.Type == "EC" && k.Curve == "P-256" || k.Type == "OKP" && k.Curve == "Ed25519" || k.Type == "RSA"
	return kind && (k.Use == "" || k.Use == "sig") && (k.Alg == "" || oauth.IsSigningAlg(k.Alg))
}

// readKeySet reads a JSON Web Key Set. Its errors, and those of usableKeys, tell
// the client's developer what is wrong with it.
func readKeySet(text []byte) ([]member, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil || set.Keys == nil {
		return nil, errors.New("it is not a JSON Web Key Set, an object whose member keys is a list of keys (RFC 7517 section 5)")
	}
	var members []member
	for _, text := range set.Keys {
		k := member{whole: text}
		if err := json.Unmarshal(text, &k); err != nil {
			return nil, errors.New("a key is not a JSON Web Key (RFC 7517 section 4)")
		}
		if k.secret() {
			return nil, errors.New("it must hold public keys alone: never send a private or symmetric key")
		}
		members = append(members, k)
	}
	return members, nil
}

// usableKeys returns the keys of a set that verify assertions, at least one.
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
			return nil, errors.New("where there are several keys, each needs a kid")
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
		return nil, fmt.Errorf("none of its keys can verify a signature by one of %s", oauth.Listed(oauth.SigningAlgs))
	case len(keys) > 1 && seen[""]:
		return nil, errors.New("where there are several keys, each needs a kid")
	}
	return keys, nil
}

// CheckPublic returns what is wrong with a key set that is to be published, as a phrase:
// it is not one, or gives a secret away. Keys that verify nothing may stand in it.
func CheckPublic(text []byte) error {
	_, err := readKeySet(text)
	return err
}

// ParseKeySet returns the keys of a set that verify assertions, at least one.
func ParseKeySet(text []byte) ([]jose.JSONWebKey, error) {
	members, err := readKeySet(text)
	if err != nil {
		return nil, err
	}
	return usableKeys(members)
}

// parseKey reads a public key of one of the kinds that verify assertions, and
// leaves out what else the JWK says.
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
			return k, fmt.Errorf("the exponent of an RSA key must be %d or more, and both numbers odd", minRSAExp)
		}
	}
	return jose.JSONWebKey{Key: k.Key, KeyID: k.KeyID, Algorithm: k.Algorithm, Use: k.Use}, nil
}

// fits reports whether the key verifies signatures by alg.
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

// KeySets are keys that are published at a URL (jwks_uri). Make it with
// NewKeySets.
type KeySets struct {
	cache   *fetch.Cache[[]jose.JSONWebKey]
	fetches *limit.Limiter // of those that are not known
	again   *limit.Limiter // of those that are
}

const (
	maxKeySets   = 1000   // that are remembered
	maxRefetches = 10_000 // URLs that are told apart
)

// KeySetRate is how often a key set that cannot be had may be asked for, each URL
// for itself.
var KeySetRate = limit.Rate{Every: 10 * time.Second, Burst: 3}

// NewRefetches bounds, by URL, how often a key set or a metadata document that
// lacks what an assertion or a redirect needs is fetched before its time. It is no
// limit of ours that can be switched off: it protects whose document it is.
func NewRefetches(now func() time.Time) *limit.Limiter {
	return limit.New(KeySetRate, maxRefetches, now)
}

// NewKeySets returns KeySets that come through f, on the clock now. fetches bounds
// those of each URL whose keys are not known (KeySetRate); nil: without limit.
func NewKeySets(f *fetch.Client, now func() time.Time, fetches *limit.Limiter) *KeySets {
	read := func(_ string, d *fetch.Document) ([]jose.JSONWebKey, error) { return ParseKeySet(d.Body) }
	return &KeySets{cache: fetch.NewCache(f, fetch.KeySet, maxKeySets, read), fetches: fetches, again: NewRefetches(now)}
}

// Load returns the keys at uri as they are remembered; as they are now, if they
// were fetched before newerThan. take takes a fetch from the budget of whoever asks, as
// fetch.Cache.Load has it. The error is a refusal if they were asked for too often or
// that budget is used up, fetch.ErrNotAllowed or fetch.ErrUnavailable if they could not
// be fetched, and otherwise a phrase that says why they cannot be used.
func (s *KeySets) Load(ctx context.Context, uri string, newerThan time.Time, take func() (done func(), err error)) ([]jose.JSONWebKey, error) {
	keys, _, err := s.cache.Load(ctx, uri, newerThan, func() (func(), error) {
		budget := s.fetches
		if !newerThan.IsZero() {
			budget = s.again
		}
		if ok, after := budget.Allow(uri); !ok {
			return nil, oauth.RefuseForNow(after, "the keys at this jwks_uri were asked for too often: try again later")
		}
		return take()
	})
	return keys, err
}
