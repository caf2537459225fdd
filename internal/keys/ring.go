// Package keys creates, rotates and retires the keys that sign access tokens, and signs and verifies with them. Private
// keys are stored in the database, sealed under the master key. See RFC 7515, RFC 7517, RFC 7518, RFC 7638 and RFC
// 9068.
package keys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// CacheFor is how long a verifier may cache the JWKS and the metadata: their max-age.
const CacheFor = 5 * time.Minute

// lead is how long a new key is published before it signs: long enough for every cached JWKS to expire.
const lead = 2 * CacheFor

// keep is how long a key stays published after it stopped signing. It is longer than the life of any access token.
const keep = oauth.MaxAccessTTL + CacheFor

// Ring is the set of signing keys. Create it with New. It is safe for concurrent use and sees changes by other
// processes within a second.
type Ring struct {
	db      *store.DB
	master  Master
	current *store.Cached[*snapshot]
	making  sync.Mutex // held while a key is made on demand, so that concurrent requests make one

	verified verified
}

// Info is the public information about a key.
type Info struct {
	KID       string    `json:"kid"`
	Alg       string    `json:"alg"`
	State     string    `json:"state"` // "next", "signing", "verifying" or "retired"
	CreatedAt time.Time `json:"created_at"`
	ActiveAt  time.Time `json:"active_at"`           // when it begins to sign
	RetiredAt time.Time `json:"retired_at,omitzero"` // when it stops signing
	ExpiresAt time.Time `json:"expires_at,omitzero"` // when it leaves the JWKS
}

// Start says when a new key begins to sign.
type Start bool

// The starts of a new key.
const (
	WhenKnown Start = false // when every verifier has had time to fetch it
	AtOnce    Start = true  // for an emergency: verifiers with a cached JWKS refuse its tokens until they fetch it
)

// ErrNoKey is wrapped by the error of Retire for an unknown kid.
var ErrNoKey = errors.New("no such key")

// New returns the ring of db's keys.
func New(db *store.DB, master Master) *Ring {
	r := &Ring{db: db, master: master}
	r.current = store.NewCached(db, store.Keys, r.load)
	return r
}

// Check returns an error unless the master key is the one that the database was created with. In a new database it
// records the master key's fingerprint.
func (r *Ring) Check(ctx context.Context) error {
	want := r.master.fingerprint()
	return r.db.Update(ctx, func(tx *store.Tx) error {
		got, err := tx.SetSettingOnce(fingerprintSetting, want)
		if err == nil && got != want {
			err = errWrongMaster
		}
		return err
	})
}

// Examine is like Check, and records nothing.
func (r *Ring) Examine(ctx context.Context) error {
	return r.db.View(ctx, func(tx *store.Tx) error {
		got, err := tx.Setting(fingerprintSetting)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return nil
		case err == nil && got != r.master.fingerprint():
			return errWrongMaster
		}
		return err
	})
}

// fingerprintSetting is the name of the setting that holds the fingerprint of the master key.
const fingerprintSetting = "master_key_check"

var errWrongMaster = errors.New("the master key is not the one that this database was created with, and nothing was " +
	"changed; set master_key or master_key_file to the right one")

// Ensure creates a key for alg if there is none that signs. The first key signs at once.
func (r *Ring) Ensure(ctx context.Context, alg string) error {
	_, err := r.signer(ctx, alg)
	return err
}

// EnsureResources is Ensure for the algorithm of every registered resource, so that a key is published before the first
// token needs it.
func (r *Ring) EnsureResources(ctx context.Context) error {
	resources, err := r.db.Resources(ctx)
	if err != nil {
		return err
	}
	for _, resource := range resources {
		if resource.SigningAlg == "" {
			continue
		}
		if err := r.Ensure(ctx, resource.SigningAlg); err != nil {
			return err
		}
	}
	return nil
}

// Sign returns claims as a JWS in compact form, with the header typ, signed by the current key of alg (RFC 9068 §2.1).
func (r *Ring) Sign(ctx context.Context, alg, typ string, claims any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("keys: sign: %w", err)
	}
	key, err := r.signer(ctx, alg)
	if err != nil {
		return "", err
	}
	signer, err := key.signer(typ)
	if err != nil {
		return "", err
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("keys: sign: %w", err)
	}
	return jws.CompactSerialize()
}

// ErrNotOurs is wrapped by the error of Verify for a token that is not an access token signed by a key of the ring.
var ErrNotOurs = errors.New("not an access token of this server")

// Verify returns the claims of an access token that was signed by a published key of the ring. It checks only the
// signature and typ; the caller must check expiry, audience and grant. The claims are shared; do not change them.
func (r *Ring) Verify(ctx context.Context, token string) (*oauth.Claims, error) {
	snap, err := r.current.Load(ctx)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256([]byte(token))
	if claims, ok := r.verified.find(snap, hash); ok {
		return claims, nil
	}
	jws, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil || !canonical(token) {
		return nil, fmt.Errorf("%w: it is not a signed JWT", ErrNotOurs)
	}
	header := jws.Signatures[0].Protected
	key := snap.byKID[header.KeyID]
	switch {
	case header.ExtraHeaders[jose.HeaderType] != "at+jwt":
		return nil, fmt.Errorf("%w: typ is not at+jwt", ErrNotOurs)
	case key == nil:
		return nil, fmt.Errorf("%w: no published key has its kid", ErrNotOurs)
	case header.Algorithm != key.Alg:
		return nil, fmt.Errorf("%w: alg differs from the algorithm of its key", ErrNotOurs)
	}
	payload, err := jws.Verify(key.public)
	if err != nil {
		return nil, fmt.Errorf("%w: the signature is wrong", ErrNotOurs)
	}
	claims := new(oauth.Claims)
	if err := json.Unmarshal(payload, claims); err != nil {
		return nil, fmt.Errorf("%w: its payload is not a JSON object", ErrNotOurs)
	}
	r.verified.add(snap, hash, claims)
	return claims, nil
}

// canonical reports whether every part of token is in canonical base64url. Decoders ignore line ends and unused
// trailing bits, which would give one token many spellings (RFC 4648 §3.5).
func canonical(token string) bool {
	for part := range strings.SplitSeq(token, ".") {
		b, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil || base64.RawURLEncoding.EncodeToString(b) != part {
			return false
		}
	}
	return true
}

// JWKS returns the JSON Web Key Set of all published keys, with public parameters only (RFC 7517 §5). The bytes are
// shared; do not change them.
func (r *Ring) JWKS(ctx context.Context) ([]byte, error) {
	snap, err := r.current.Load(ctx)
	if err != nil {
		return nil, err
	}
	return snap.jwks, nil
}

// Algs returns the algorithms of the published keys, in the order of oauth.SigningAlgs.
func (r *Ring) Algs(ctx context.Context) ([]string, error) {
	snap, err := r.current.Load(ctx)
	if err != nil {
		return nil, err
	}
	var algs []string
	for _, alg := range oauth.SigningAlgs {
		if slices.ContainsFunc(snap.keys, func(k *key) bool { return k.Alg == alg }) {
			algs = append(algs, alg)
		}
	}
	return algs, nil
}

// Signing returns when the key that signs at this moment was created, by algorithm. It reads the keys from memory.
func (r *Ring) Signing(ctx context.Context) (map[string]time.Time, error) {
	snap, err := r.current.Load(ctx)
	if err != nil {
		return nil, err
	}
	created := map[string]time.Time{}
	for _, alg := range oauth.SigningAlgs {
		if k := snap.signing(alg, r.db.Now()); k != nil {
			created[alg] = k.CreatedAt
		}
	}
	return created, nil
}

// List returns all keys, oldest first.
func (r *Ring) List(ctx context.Context) ([]Info, error) {
	var infos []Info
	err := r.db.View(ctx, func(tx *store.Tx) error {
		rows, err := tx.Keys()
		infos = describe(rows, tx.Now())
		return err
	})
	return infos, err
}

// Rotate publishes a new key for alg. The key that it replaces stays published until its last token has expired. then,
// if it is not nil, is called at the end of the transaction; its error undoes the rotation.
func (r *Ring) Rotate(ctx context.Context, alg string, start Start, then func(*store.Tx, Info) error) (Info, error) {
	next, err := r.generate(alg)
	if err != nil {
		return Info{}, err
	}
	var info Info
	err = r.db.Update(ctx, func(tx *store.Tx) error {
		info, err = r.rotate(tx, next, start)
		if err == nil && then != nil {
			err = then(tx, info)
		}
		return err
	})
	return info, err
}

// RotateDue rotates the keys that have been signing for at least every. If several nodes call it at once, one of them
// rotates.
func (r *Ring) RotateDue(ctx context.Context, every time.Duration) error {
	infos, err := r.List(ctx)
	if err != nil {
		return err
	}
	for _, old := range infos {
		if old.State != "signing" || !old.RetiredAt.IsZero() || r.db.Now().Sub(old.ActiveAt) < every {
			continue
		}
		next, err := r.generate(old.Alg)
		if err != nil {
			return err
		}
		err = r.db.Update(ctx, func(tx *store.Tx) error {
			successor, err := tx.SetSettingOnce("key_rotated/"+old.KID, next.KID)
			if err != nil || successor != next.KID {
				return err
			}
			_, err = r.rotate(tx, next, WhenKnown)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *Ring) rotate(tx *store.Tx, next store.Key, start Start) (Info, error) {
	rows, err := tx.LockKeys()
	if err != nil {
		return Info{}, err
	}
	next.CreatedAt, next.ActiveAt = tx.Now(), tx.Now()
	signing := slices.ContainsFunc(describe(rows, tx.Now()),
		func(k Info) bool { return k.Alg == next.Alg && k.State == "signing" })
	if signing && start == WhenKnown { // if none signs, there is nothing to wait for
		next.ActiveAt = tx.Now().Add(lead)
	}
	for _, old := range rows {
		if old.Alg != next.Alg || !old.RetiredAt.IsZero() && !old.RetiredAt.After(next.ActiveAt) {
			continue
		}
		old.RetiredAt, old.ExpiresAt = next.ActiveAt, next.ActiveAt.Add(keep)
		if err := tx.UpdateKey(old); err != nil {
			return Info{}, err
		}
	}
	if err := tx.CreateKey(next); err != nil {
		return Info{}, err
	}
	made := describe([]store.Key{next}, tx.Now())[0]
	return made, tx.Conclude(audit.Key("rotate", next.KID, next.Alg).Changed(nil, made), nil)
}

// Retire removes a leaked key from the JWKS at once. The tokens that it signed are refused as soon as verifiers fetch
// the JWKS again. If the key was signing, its successor begins to sign at once; if it has none, a new key does. If the
// key was the successor of the signing key, a new key takes its place. A key that was retired before is left unchanged.
// The error wraps ErrNoKey if kid is unknown.
func (r *Ring) Retire(ctx context.Context, kid string) (Info, error) {
	infos, err := r.List(ctx)
	if err != nil {
		return Info{}, err
	}
	i := slices.IndexFunc(infos, func(k Info) bool { return k.KID == kid })
	if i < 0 {
		return Info{}, fmt.Errorf("%w: %s", ErrNoKey, kid)
	}
	info := infos[i]
	spare, err := r.generate(info.Alg)
	if err != nil {
		return info, err
	}
	err = r.db.Update(ctx, func(tx *store.Tx) error {
		rows, err := tx.LockKeys()
		if err != nil {
			return err
		}
		there := slices.IndexFunc(rows, func(k store.Key) bool { return k.KID == kid })
		if there < 0 {
			return fmt.Errorf("%w: %s", ErrNoKey, kid)
		}
		if info = describe(rows[there:there+1], tx.Now())[0]; info.State == "retired" {
			return nil
		}
		before := info
		var heir *store.Key // the key that signs when kid is gone
		last := true        // whether heir has no successor
		for i := range rows {
			switch k := &rows[i]; {
			case k.KID == kid:
				k.RetiredAt, k.ExpiresAt = tx.Now(), tx.Now()
				if err := tx.UpdateKey(*k); err != nil {
					return err
				}
				info = describe(rows[i:i+1], tx.Now())[0]
			case k.Alg == info.Alg && (k.RetiredAt.IsZero() || tx.Now().Before(k.RetiredAt)):
				last = last && !k.RetiredAt.IsZero()
				if heir == nil || k.ActiveAt.Before(heir.ActiveAt) {
					heir = k
				}
			}
		}
		spare.CreatedAt, spare.ActiveAt = tx.Now(), tx.Now()
		switch {
		case heir == nil:
			err = tx.CreateKey(spare)
		case last: // kid was its successor; now spare is, after its own lead time
			spare.ActiveAt = tx.Now().Add(lead)
			heir.RetiredAt, heir.ExpiresAt = spare.ActiveAt, spare.ActiveAt.Add(keep)
			if tx.Now().Before(heir.ActiveAt) {
				heir.ActiveAt = tx.Now()
			}
			if err = tx.CreateKey(spare); err == nil {
				err = tx.UpdateKey(*heir)
			}
		case tx.Now().Before(heir.ActiveAt):
			heir.ActiveAt = tx.Now()
			err = tx.UpdateKey(*heir)
		}
		if err != nil {
			return err
		}
		return tx.Conclude(audit.Key("retire", kid, info.Alg).Changed(before, info), nil)
	})
	return info, err
}

// signer returns the current signing key of alg. If there is none, it creates the first one.
func (r *Ring) signer(ctx context.Context, alg string) (*key, error) {
	snap, err := r.current.Load(ctx)
	if err != nil {
		return nil, err
	}
	if k := snap.signing(alg, r.db.Now()); k != nil {
		return k, nil
	}
	r.making.Lock()
	defer r.making.Unlock()
	if snap, err = r.current.Load(ctx); err != nil {
		return nil, err
	}
	if k := snap.signing(alg, r.db.Now()); k != nil {
		return k, nil
	}
	first, err := r.generate(alg)
	if err != nil {
		return nil, err
	}
	err = r.db.Update(ctx, func(tx *store.Tx) error {
		rows, err := tx.LockKeys()
		if err != nil {
			return err
		}
		for _, k := range rows {
			if k.Alg == alg && k.RetiredAt.IsZero() {
				tx.Touch(store.Keys) // another process was first; its key is not in the cache yet
				return nil
			}
		}
		first.CreatedAt, first.ActiveAt = tx.Now(), tx.Now()
		if err := tx.CreateKey(first); err != nil {
			return err
		}
		made := describe([]store.Key{first}, tx.Now())[0]
		return tx.Conclude(audit.Key("create", first.KID, alg).Changed(nil, made), nil)
	})
	if err != nil {
		return nil, err
	}
	if snap, err = r.current.Load(ctx); err != nil {
		return nil, err
	}
	if k := snap.signing(alg, r.db.Now()); k != nil {
		return k, nil
	}
	return nil, fmt.Errorf("keys: no key for %s is active", alg)
}

// generate creates a key pair and seals its private key.
func (r *Ring) generate(alg string) (store.Key, error) {
	var private crypto.Signer
	var err error
	switch alg {
	case "ES256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "RS256", "PS256":
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	case "EdDSA":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		return store.Key{}, fmt.Errorf("keys: unknown signing algorithm %q: use one of %s", alg,
			oauth.Listed(oauth.SigningAlgs))
	}
	if err != nil {
		return store.Key{}, fmt.Errorf("keys: generate: %w", err)
	}
	jwk := jose.JSONWebKey{Key: private.Public(), Algorithm: alg, Use: "sig"}
	thumbprint, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return store.Key{}, fmt.Errorf("keys: thumbprint: %w", err)
	}
	jwk.KeyID = base64.RawURLEncoding.EncodeToString(thumbprint)
	if jwk.KeyID[0] == '-' { // people pass it as an argument, where a dash begins a flag
		return r.generate(alg)
	}
	public, err := json.Marshal(jwk)
	if err != nil {
		return store.Key{}, fmt.Errorf("keys: generate: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return store.Key{}, fmt.Errorf("keys: generate: %w", err)
	}
	sealed, err := r.master.Seal(place(jwk.KeyID), pkcs8)
	if err != nil {
		return store.Key{}, err
	}
	return store.Key{KID: jwk.KeyID, Alg: alg, Public: string(public), Sealed: sealed}, nil
}

func place(kid string) string { return "keys/" + kid + "/private" }

func describe(rows []store.Key, now time.Time) []Info {
	var infos []Info
	for _, k := range rows {
		info := Info{KID: k.KID, Alg: k.Alg, CreatedAt: k.CreatedAt, ActiveAt: k.ActiveAt, RetiredAt: k.RetiredAt,
			ExpiresAt: k.ExpiresAt}
		switch {
		case !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt):
			info.State = "retired"
		case !k.RetiredAt.IsZero() && !now.Before(k.RetiredAt):
			info.State = "verifying" // also if its time to sign is still to come, because another took its place
		case now.Before(k.ActiveAt):
			info.State = "next"
		default:
			info.State = "signing"
		}
		infos = append(infos, info)
	}
	return infos
}
