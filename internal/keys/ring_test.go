package keys_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// lead is the minimum time for which a new key must be published before it signs.
const lead = keys.CacheFor

// longest is how long a key must stay published after its last signature.
const longest = oauth.MaxAccessTTL

func newRing(t testing.TB) (*keys.Ring, *store.DB, *storetest.Clock) {
	t.Helper()
	db, clock := storetest.Open(t, storetest.SQLite)
	master, _ := keys.NewMaster()
	ring := keys.New(db, master)
	if err := ring.Ensure(t.Context(), "ES256"); err != nil {
		t.Fatal(err)
	}
	return ring, db, clock
}

func sign(t testing.TB, r *keys.Ring, alg string) string {
	t.Helper()
	token, err := r.Sign(t.Context(), alg, "at+jwt", map[string]string{"sub": "usr_1"})
	if err != nil {
		t.Fatalf("Sign: %v", err)
	}
	return token
}

// kidOf returns the kid in the header of a token.
func kidOf(t testing.TB, token string) string {
	t.Helper()
	jws, err := jose.ParseSignedCompact(token,
		[]jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.PS256, jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	return jws.Signatures[0].Protected.KeyID
}

// published returns the kids of the JWKS.
func published(t testing.TB, r *keys.Ring) []string {
	t.Helper()
	text, err := r.JWKS(t.Context())
	if err != nil {
		t.Fatalf("JWKS: %v", err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(text, &set); err != nil {
		t.Fatalf("JWKS: %v: %s", err, text)
	}
	var kids []string
	for _, k := range set.Keys {
		kids = append(kids, k.KeyID)
	}
	return kids
}

func rotate(t testing.TB, r *keys.Ring, start keys.Start) keys.Info {
	t.Helper()
	info, err := r.Rotate(t.Context(), "ES256", start, nil)
	if err != nil {
		t.Fatalf("Rotate: %v", err)
	}
	return info
}

// states returns the state of every key by kid.
func states(t testing.TB, r *keys.Ring) map[string]string {
	t.Helper()
	infos, err := r.List(t.Context())
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	all := map[string]string{}
	for _, k := range infos {
		all[k.KID] = k.State
	}
	return all
}

func TestJWKS(t *testing.T) {
	ring, _, _ := newRing(t)
	members := map[string][]string{
		"EC":  {"alg", "crv", "kid", "kty", "use", "x", "y"},
		"OKP": {"alg", "crv", "kid", "kty", "use", "x"},
		"RSA": {"alg", "e", "kid", "kty", "n", "use"},
	}
	for _, alg := range oauth.SigningAlgs {
		if err := ring.Ensure(t.Context(), alg); err != nil {
			t.Fatal(err)
		}
	}
	rotate(t, ring, keys.WhenKnown)
	text, err := ring.JWKS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(text, &set); err != nil {
		t.Fatal(err)
	}
	t.Run("JK-01 public parameters alone, each kid once", func(t *testing.T) {
		if len(set.Keys) != len(oauth.SigningAlgs)+1 {
			t.Errorf("%d keys", len(set.Keys))
		}
		seen := map[string]bool{}
		for _, k := range set.Keys {
			var names []string
			for name, value := range k {
				names = append(names, name)
				if value == "" {
					t.Errorf("%s is empty: %v", name, k)
				}
			}
			slices.Sort(names)
			if !slices.Equal(names, members[k["kty"]]) {
				t.Errorf("a %s key has the members %v", k["kty"], names)
			}
			if seen[k["kid"]] || k["use"] != "sig" || !slices.Contains(oauth.SigningAlgs, k["alg"]) {
				t.Errorf("kid %q, use %q, alg %q", k["kid"], k["use"], k["alg"])
			}
			seen[k["kid"]] = true
		}
	})
	for _, alg := range oauth.SigningAlgs {
		t.Run("a token of "+alg+" verifies", func(t *testing.T) {
			token := sign(t, ring, alg)
			claims, err := ring.Verify(t.Context(), token)
			if err != nil || claims.Subject != "usr_1" {
				t.Errorf("Verify: %+v, %v", claims, err)
			}
			other, err := ring.Sign(t.Context(), alg, "JWT", map[string]string{"sub": "usr_1"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ring.Verify(t.Context(), other); !errors.Is(err, keys.ErrNotOurs) {
				t.Errorf("JK-06 typ JWT: %v", err)
			}
			dot := strings.LastIndexByte(token, '.')
			if _, err := ring.Verify(t.Context(), token[:dot+1]); !errors.Is(err, keys.ErrNotOurs) {
				t.Errorf("JK-06 without a signature: %v", err)
			}
			altered := []byte(token)
			altered[dot+5] ^= 1
			if _, err := ring.Verify(t.Context(), string(altered)); !errors.Is(err, keys.ErrNotOurs) {
				t.Errorf("JK-06 altered signature: %v", err)
			}
			last := len(token) - 1
			for _, spelling := range []string{
				token[:last] + string(token[last]+1), token + "\n", token[:dot] + "\r\n" + token[dot:],
			} {
				if _, err := ring.Verify(t.Context(), spelling); !errors.Is(err, keys.ErrNotOurs) {
					t.Errorf("IR-10 the same bytes, spelled another way: %q: %v", spelling, err)
				}
			}
		})
	}
	t.Run("JK-06 alg none, and HS256 with the public key", func(t *testing.T) {
		kid := set.Keys[0]["kid"]
		for _, alg := range []string{"none", "HS256"} {
			header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"` + alg +
				`","typ":"at+jwt","kid":"` + kid + `"}`))
			if _, err := ring.Verify(t.Context(), header+".e30."); !errors.Is(err, keys.ErrNotOurs) {
				t.Errorf("%s: %v", alg, err)
			}
		}
	})
	t.Run("an unknown algorithm", func(t *testing.T) {
		if _, err := ring.Rotate(t.Context(), "HS256", keys.WhenKnown, nil); err == nil {
			t.Error("HS256 makes a key")
		}
	})
}

func TestRotate(t *testing.T) {
	t.Run("JK-02 lead and overlap", func(t *testing.T) {
		ring, _, clock := newRing(t)
		first := kidOf(t, sign(t, ring, "ES256"))
		next := rotate(t, ring, keys.WhenKnown)
		if next.State != "next" || next.ActiveAt.Sub(clock.Now()) < lead {
			t.Errorf("the new key is %q and signs after %v", next.State, next.ActiveAt.Sub(clock.Now()))
		}
		if got := published(t, ring); !slices.Contains(got, first) || !slices.Contains(got, next.KID) {
			t.Errorf("published are %v", got)
		}
		clock.Set(next.ActiveAt.Add(-time.Microsecond))
		last := sign(t, ring, "ES256")
		if kidOf(t, last) != first {
			t.Error("the new key signs before its time")
		}
		clock.Set(next.ActiveAt)
		if kidOf(t, sign(t, ring, "ES256")) != next.KID {
			t.Error("the new key does not sign when it is due")
		}
		if got := states(t, ring); got[first] != "verifying" || got[next.KID] != "signing" {
			t.Errorf("states %v", got)
		}
		clock.Advance(longest)
		if _, err := ring.Verify(t.Context(), last); err != nil {
			t.Errorf("the last token of the old key, at the end of its life: %v", err)
		}
		if !slices.Contains(published(t, ring), first) {
			t.Error("the old key left the JWKS before its last token expired")
		}
	})
	t.Run("an old key leaves the JWKS in the end", func(t *testing.T) {
		ring, db, clock := newRing(t)
		old := sign(t, ring, "ES256")
		next := rotate(t, ring, keys.WhenKnown)
		clock.Set(next.ActiveAt.Add(longest + time.Hour))
		if got := states(t, ring)[kidOf(t, old)]; got != "retired" {
			t.Errorf("its state is %q", got)
		}
		if _, err := db.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := published(t, ring); !slices.Equal(got, []string{next.KID}) {
			t.Errorf("published are %v, want %s alone", got, next.KID)
		}
		if _, err := ring.Verify(t.Context(), old); !errors.Is(err, keys.ErrNotOurs) {
			t.Errorf("a token of the key that left: %v", err)
		}
	})
	t.Run("JK-02 tokens verify all along", func(t *testing.T) {
		ring, _, clock := newRing(t)
		type issued struct {
			token string
			at    time.Time
		}
		var tokens []issued
		for step := range 120 {
			if step%20 == 10 {
				rotate(t, ring, step%40 == 10)
			}
			for range 5 {
				tokens = append(tokens, issued{sign(t, ring, "ES256"), clock.Now()})
			}
			for _, token := range tokens {
				if clock.Now().Sub(token.at) > longest {
					continue
				}
				if _, err := ring.Verify(t.Context(), token.token); err != nil {
					t.Fatalf("step %d: a token %v old: %v", step, clock.Now().Sub(token.at), err)
				}
			}
			clock.Advance(7 * time.Minute)
		}
	})
	t.Run("at once, in an emergency", func(t *testing.T) {
		ring, _, _ := newRing(t)
		old := sign(t, ring, "ES256")
		next := rotate(t, ring, keys.AtOnce)
		if next.State != "signing" || kidOf(t, sign(t, ring, "ES256")) != next.KID {
			t.Errorf("the new key is %q", next.State)
		}
		if _, err := ring.Verify(t.Context(), old); err != nil {
			t.Errorf("a token of the old key: %v", err)
		}
	})
	t.Run("at once, before the one that was published is due", func(t *testing.T) {
		ring, _, clock := newRing(t)
		skipped := rotate(t, ring, keys.WhenKnown)
		rotate(t, ring, keys.AtOnce)
		for range 2 {
			if got := states(t, ring)[skipped.KID]; got != "verifying" {
				t.Errorf("the key that never signs is %q", got)
			}
			clock.Set(skipped.ActiveAt)
		}
	})
	t.Run("at once, after the clock was ahead", func(t *testing.T) {
		ring, _, clock := newRing(t)
		clock.Advance(365 * 24 * time.Hour)
		ahead := rotate(t, ring, keys.AtOnce)
		clock.Advance(-365 * 24 * time.Hour)
		next := rotate(t, ring, keys.AtOnce)
		if got := states(t, ring); got[ahead.KID] != "verifying" || got[next.KID] != "signing" {
			t.Errorf("states %v", got)
		}
		if kidOf(t, sign(t, ring, "ES256")) != next.KID {
			t.Error("the new key does not sign")
		}
	})
	t.Run("twice, before the first is due", func(t *testing.T) {
		ring, _, clock := newRing(t)
		rotate(t, ring, keys.WhenKnown)
		clock.Advance(time.Minute)
		second := rotate(t, ring, keys.WhenKnown)
		for clock.Now().Before(second.ActiveAt.Add(time.Minute)) {
			if got := states(t, ring); !slices.Contains(values(got), "signing") {
				t.Fatalf("nothing signs at %v: %v", clock.Now(), got)
			}
			clock.Advance(30 * time.Second)
		}
		if kidOf(t, sign(t, ring, "ES256")) != second.KID {
			t.Error("the second does not sign in the end")
		}
		if got := len(states(t, ring)); got != 3 {
			t.Errorf("%d keys, want 3", got)
		}
	})
	t.Run("JK-10 FL-18 every key that signed is published after any step that was cut off", func(t *testing.T) {
		db, clock := storetest.Open(t, storetest.SQLite)
		master, _ := keys.NewMaster()
		if err := keys.New(db, master).Ensure(t.Context(), "ES256"); err != nil {
			t.Fatal(err)
		}
		var signed []string
		for range 4 {
			ring := keys.New(db, master) // as after a restart
			signed = append(signed, kidOf(t, sign(t, ring, "ES256")))
			dead, cancel := context.WithCancel(t.Context())
			cancel()
			// It is interrupted before or after the key is stored. Both are correct.
			_, _ = ring.Rotate(dead, "ES256", keys.WhenKnown, nil)
			signed = append(signed, kidOf(t, sign(t, ring, "ES256")))
			rotate(t, ring, keys.WhenKnown)
			clock.Advance(5 * time.Minute)
			kids := published(t, keys.New(db, master))
			for _, kid := range signed {
				if !slices.Contains(kids, kid) {
					t.Fatalf("%s signed and is not published", kid)
				}
			}
		}
	})
}

func values(m map[string]string) (all []string) {
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

func TestRetire(t *testing.T) {
	t.Run("the one that signs", func(t *testing.T) {
		ring, db, _ := newRing(t)
		token := sign(t, ring, "ES256")
		if _, err := ring.Verify(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		info, err := ring.Retire(t.Context(), kidOf(t, token))
		if err != nil || info.State != "retired" {
			t.Fatalf("Retire: %+v, %v", info, err)
		}
		if slices.Contains(published(t, ring), info.KID) {
			t.Error("the leaked key is published")
		}
		if _, err := ring.Verify(t.Context(), token); !errors.Is(err, keys.ErrNotOurs) {
			t.Errorf("a token of the leaked key: %v", err)
		}
		if kidOf(t, sign(t, ring, "ES256")) == info.KID {
			t.Error("the leaked key signs on")
		}
		if err := db.View(t.Context(), func(tx *store.Tx) error {
			events, _, err := tx.Events(store.EventFilter{Action: "key.retire"}, store.Page{Limit: 10})
			if err == nil && len(events) != 1 {
				t.Errorf("%d audit events", len(events))
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("the one that signs, with a successor waiting", func(t *testing.T) {
		ring, _, _ := newRing(t)
		first := kidOf(t, sign(t, ring, "ES256"))
		next := rotate(t, ring, keys.WhenKnown)
		if _, err := ring.Retire(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		if kidOf(t, sign(t, ring, "ES256")) != next.KID {
			t.Error("the successor does not sign at once")
		}
	})
	t.Run("the successor that waits", func(t *testing.T) {
		ring, _, clock := newRing(t)
		first := kidOf(t, sign(t, ring, "ES256"))
		next := rotate(t, ring, keys.WhenKnown)
		clock.Advance(time.Minute)
		if _, err := ring.Retire(t.Context(), next.KID); err != nil {
			t.Fatal(err)
		}
		known, since := published(t, ring), clock.Now()
		for range 40 {
			kid := kidOf(t, sign(t, ring, "ES256"))
			if kid == next.KID {
				t.Fatal("the retired key signs")
			}
			if clock.Now().Sub(since) < lead && kid != first {
				t.Fatal("a key signs that verifiers had no time to fetch")
			}
			if !slices.Contains(known, kid) {
				t.Fatalf("after %v %s signs, which was not published in time", clock.Now().Sub(since), kid)
			}
			clock.Advance(time.Minute)
		}
	})
	t.Run("one that is not there", func(t *testing.T) {
		ring, _, _ := newRing(t)
		if _, err := ring.Retire(t.Context(), "nothing"); !errors.Is(err, keys.ErrNoKey) {
			t.Errorf("Retire: %v", err)
		}
	})
}

// A kid must not begin with a dash, because cardea key retire would read it as a flag.
func TestKeyIDs(t *testing.T) {
	ring, _, _ := newRing(t)
	for range 300 {
		made, err := ring.Rotate(t.Context(), "EdDSA", keys.AtOnce, nil)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(made.KID, "-") {
			t.Fatalf("kid %s", made.KID)
		}
	}
}

func TestRotateDue(t *testing.T) {
	const every = 30 * 24 * time.Hour
	t.Run("JK-02 when it is due, and only then", func(t *testing.T) {
		ring, _, clock := newRing(t)
		due := func() {
			t.Helper()
			if err := ring.RotateDue(t.Context(), every); err != nil {
				t.Fatal(err)
			}
		}
		clock.Advance(every - time.Second)
		due()
		if got := len(states(t, ring)); got != 1 {
			t.Fatalf("%d keys before the time", got)
		}
		clock.Advance(time.Second)
		for range 3 {
			due()
			clock.Advance(time.Minute)
		}
		if got := len(states(t, ring)); got != 2 {
			t.Fatalf("%d keys after the time, want 2", got)
		}
		clock.Advance(every + time.Hour)
		due()
		if got := len(states(t, ring)); got != 3 {
			t.Fatalf("%d keys after twice the time, want 3", got)
		}
	})
	t.Run("FL-17 many nodes rotate once", func(t *testing.T) {
		dsn, clock := storetest.New(t, storetest.SQLite), storetest.NewClock()
		master, _ := keys.NewMaster()
		var rings []*keys.Ring
		for range 2 {
			rings = append(rings, keys.New(storetest.Connect(t, dsn, clock), master))
		}
		if err := rings[0].Ensure(t.Context(), "ES256"); err != nil {
			t.Fatal(err)
		}
		clock.Advance(every)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				if err := rings[i%2].RotateDue(t.Context(), every); err != nil {
					t.Errorf("RotateDue: %v", err)
				}
			})
		}
		wg.Wait()
		if got := states(t, rings[1]); len(got) != 2 {
			t.Errorf("%d keys, want 2: %v", len(got), got)
		}
	})
	t.Run("many nodes make one first key", func(t *testing.T) {
		dsn, clock := storetest.New(t, storetest.SQLite), storetest.NewClock()
		master, _ := keys.NewMaster()
		rings := []*keys.Ring{keys.New(storetest.Connect(t, dsn, clock), master),
			keys.New(storetest.Connect(t, dsn, clock), master)}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				if err := rings[i%2].Ensure(t.Context(), "ES256"); err != nil {
					t.Errorf("Ensure: %v", err)
				}
			})
		}
		wg.Wait()
		if got := states(t, rings[0]); len(got) != 1 {
			t.Errorf("%d keys, want 1", len(got))
		}
	})
}

func TestClocksDiffer(t *testing.T) {
	dsn, clock, behind := storetest.New(t, storetest.SQLite), storetest.NewClock(), storetest.NewClock()
	behind.Advance(-time.Second)
	master, _ := keys.NewMaster()
	one, two := keys.New(storetest.Connect(t, dsn, clock), master), keys.New(storetest.Connect(t, dsn, behind), master)
	if err := one.Ensure(t.Context(), "ES256"); err != nil {
		t.Fatal(err)
	}
	if kidOf(t, sign(t, two, "ES256")) != kidOf(t, sign(t, one, "ES256")) {
		t.Error("two nodes sign with two first keys")
	}
}

func TestMasterKey(t *testing.T) {
	db, _ := storetest.Open(t, storetest.SQLite)
	master, text := keys.NewMaster()
	ring := keys.New(db, master)
	if err := ring.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := ring.Ensure(t.Context(), "ES256"); err != nil {
		t.Fatal(err)
	}
	t.Run("the same again", func(t *testing.T) {
		for _, written := range []string{
			text, " " + text + "\n", strings.TrimRight(text, "="),
			strings.NewReplacer("+", "-", "/", "_").Replace(text),
		} {
			again, err := keys.ParseMaster(written)
			if err != nil {
				t.Fatal(err)
			}
			if err := keys.New(db, again).Check(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("another", func(t *testing.T) {
		other, secret := keys.NewMaster()
		err := keys.New(db, other).Check(t.Context())
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("Check: %v", err)
		}
		if _, err := keys.New(db, other).JWKS(t.Context()); err == nil {
			t.Error("the keys open under another master key")
		}
	})
	t.Run("none", func(t *testing.T) {
		for _, written := range []string{"", "x", text + text, text[:40], strings.Repeat("=", 44)} {
			if _, err := keys.ParseMaster(written); err == nil ||
				written != "" && len(written) > 8 && strings.Contains(err.Error(), written) {
				t.Errorf("ParseMaster(%q): %v", written, err)
			}
		}
		if _, err := (keys.Master{}).Seal("a", nil); err == nil {
			t.Error("the zero Master seals")
		}
		if _, err := (keys.Master{}).Open("a", ""); err == nil {
			t.Error("the zero Master opens")
		}
	})
	t.Run("JK-09 the private key at rest", func(t *testing.T) {
		var rows []store.Key
		if err := db.View(t.Context(), func(tx *store.Tx) (err error) {
			rows, err = tx.Keys()
			return err
		}); err != nil {
			t.Fatal(err)
		}
		pkcs8, err := master.Open("keys/"+rows[0].KID+"/private", rows[0].Sealed)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		// The end of PKCS #8 is the public point; the scalar is before it.
		storetest.SecretsAtRest(t, db, map[string]string{
			"private key": string(pkcs8), "private scalar": string(pkcs8[36:68]), "master key": string(raw),
			"derived key": string(master.RefreshKey()),
		})
	})
}

func TestSeal(t *testing.T) {
	master, _ := keys.NewMaster()
	const place, plain = "users/usr_1/totp", "a secret that must be read again"
	sealed, err := master.Seal(place, []byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := master.Open(place, sealed); err != nil || string(got) != plain {
		t.Fatalf("Open: %q, %v", got, err)
	}
	t.Run("CS-08 moved elsewhere", func(t *testing.T) {
		for _, elsewhere := range []string{
			"users/usr_2/totp", "users/usr_1/other", "clients/usr_1/totp", "", place + "/",
		} {
			if got, err := master.Open(elsewhere, sealed); err == nil {
				t.Errorf("it opens at %q: %q", elsewhere, got)
			}
		}
	})
	t.Run("CS-08 any bit flipped, any byte cut off", func(t *testing.T) {
		b, err := base64.RawStdEncoding.DecodeString(sealed)
		if err != nil {
			t.Fatal(err)
		}
		for i := range b {
			for bit := range 8 {
				flipped := slices.Clone(b)
				flipped[i] ^= 1 << bit
				got, err := master.Open(place, base64.RawStdEncoding.EncodeToString(flipped))
				if err == nil {
					t.Fatalf("it opens with bit %d of byte %d flipped: %q", bit, i, got)
				}
				if strings.Contains(err.Error(), plain) {
					t.Fatalf("the error contains the secret: %v", err)
				}
			}
			if _, err := master.Open(place, base64.RawStdEncoding.EncodeToString(b[:i])); err == nil {
				t.Fatalf("it opens cut off after %d bytes", i)
			}
		}
	})
	t.Run("CS-08 another master key", func(t *testing.T) {
		other, _ := keys.NewMaster()
		if _, err := other.Open(place, sealed); err == nil {
			t.Error("it opens")
		}
	})
	t.Run("the same twice looks different", func(t *testing.T) {
		again, err := master.Seal(place, []byte(plain))
		if err != nil || again == sealed {
			t.Errorf("Seal: %v", err)
		}
	})
	t.Run("keys of different purposes differ", func(t *testing.T) {
		if bytes.Equal(master.Derive("csrf"), master.Derive("pages")) || len(master.Derive("csrf")) != 32 {
			t.Error("two purposes, one key")
		}
	})
	t.Run("CS-08 FL-34 a signing key moved to another row, or altered", func(t *testing.T) {
		for name, alter := range map[string]func(a, b *store.Key){
			"moved": func(a, b *store.Key) { a.Sealed = b.Sealed },
			"flipped": func(a,
				_ *store.Key) {
				a.Sealed = a.Sealed[:40] + strings.Map(next, a.Sealed[40:41]) + a.Sealed[41:]
			},
		} {
			db, _ := storetest.Open(t, storetest.SQLite)
			if err := keys.New(db, master).Ensure(t.Context(), "ES256"); err != nil {
				t.Fatal(err)
			}
			if _, err := keys.New(db, master).Rotate(t.Context(), "ES256", keys.WhenKnown, nil); err != nil {
				t.Fatal(err)
			}
			if err := db.Update(t.Context(), func(tx *store.Tx) error {
				rows, err := tx.Keys()
				if err != nil {
					return err
				}
				alter(&rows[0], &rows[1])
				return tx.UpdateKey(rows[0])
			}); err != nil {
				t.Fatal(err)
			}
			if _, err := keys.New(db, master).Sign(t.Context(), "ES256", "at+jwt", struct{}{}); err == nil {
				t.Errorf("%s: it signs", name)
			}
		}
	})
}

// next returns another character of base64.
func next(r rune) rune {
	if r == 'A' {
		return 'B'
	}
	return 'A'
}

// Several nodes that start on a new database at once, with connections that are open already, make one key for each
// algorithm.
func TestFirstStartsAtOnce(t *testing.T) {
	for round := range 3 {
		t.Run(fmt.Sprint("round ", round), func(t *testing.T) {
			const nodes = 4
			algs := []string{"ES256", "EdDSA"} // RSA keys take too long to make
			master, _ := keys.NewMaster()
			dsn, clock := storetest.New(t, storetest.Postgres), storetest.NewClock()
			var rings [nodes]*keys.Ring
			for i := range rings {
				db := storetest.Connect(t, dsn, clock)
				rings[i] = keys.New(db, master)
				var warm sync.WaitGroup
				for range algs {
					warm.Go(func() {
						if err := db.Update(t.Context(), func(tx *store.Tx) error {
							_, err := tx.Resources()
							return err
						}); err != nil {
							t.Error(err)
						}
					})
				}
				warm.Wait()
			}
			begin := make(chan struct{})
			var wg sync.WaitGroup
			for _, ring := range rings {
				for _, alg := range algs {
					wg.Go(func() {
						<-begin
						if err := ring.Ensure(t.Context(), alg); err != nil {
							t.Error(err)
						}
					})
				}
			}
			close(begin)
			wg.Wait()
			infos, err := rings[0].List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			made := map[string]int{}
			for _, k := range infos {
				made[k.Alg]++
			}
			for _, alg := range algs {
				if made[alg] != 1 {
					t.Errorf("%d keys for %s were made, want 1", made[alg], alg)
				}
			}
		})
	}
}

// Concurrent changes of the keys by nodes and operators run one after another.
func TestChangesAtOnce(t *testing.T) {
	for _, engine := range []storetest.Engine{storetest.SQLite, storetest.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			const nodes = 6
			master, _ := keys.NewMaster()
			dsn, clock := storetest.New(t, engine), storetest.NewClock()
			var rings [nodes]*keys.Ring
			for i := range rings {
				rings[i] = keys.New(storetest.Connect(t, dsn, clock), master)
			}
			atOnce := func(do func(*keys.Ring) error) {
				t.Helper()
				begin := make(chan struct{})
				var wg sync.WaitGroup
				for _, ring := range rings {
					wg.Go(func() {
						<-begin
						if err := do(ring); err != nil {
							t.Error(err)
						}
					})
				}
				close(begin)
				wg.Wait()
			}
			for _, alg := range oauth.SigningAlgs {
				atOnce(func(r *keys.Ring) error { return r.Ensure(t.Context(), alg) })
			}
			first := states(t, rings[0])
			if len(first) != len(oauth.SigningAlgs) {
				t.Errorf("first starts made the keys %v, want one for each algorithm", first)
			}

			atOnce(func(r *keys.Ring) error {
				_, err := r.Rotate(t.Context(), "ES256", keys.WhenKnown, nil)
				return err
			})
			infos, err := rings[0].List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			last := map[string]int{} // number of keys without an end, by algorithm
			for _, k := range infos {
				if k.RetiredAt.IsZero() {
					last[k.Alg]++
				}
			}
			if len(infos) != len(first)+nodes || last["ES256"] != 1 {
				t.Errorf("after %d rotations there are %d keys; without an end are %v", nodes, len(infos), last)
			}

			kid := ""
			for id := range first {
				kid = max(kid, id)
			}
			atOnce(func(r *keys.Ring) error { _, err := r.Retire(t.Context(), kid); return err })
			if again := states(t, rings[0]); again[kid] != "retired" || len(again) > len(infos)+1 {
				t.Errorf("one key is retired, and there are %d, %d before", len(again), len(infos))
			}
		})
	}
}

// The key for a resource's algorithm is published before the resource's first token.
func TestEnsureResources(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, _ *storetest.Clock) {
		master, _ := keys.NewMaster()
		ring := keys.New(db, master)
		for i, alg := range []string{"", "EdDSA", "EdDSA"} {
			id := fmt.Sprint("res_", i)
			if err := db.Update(t.Context(), func(tx *store.Tx) error {
				return tx.CreateResource(&oauth.Resource{ID: id, Identifier: "https://" + id + ".example.com",
					SigningAlg: alg, CreatedAt: tx.Now(), UpdatedAt: tx.Now()})
			}); err != nil {
				t.Fatal(err)
			}
			if err := ring.EnsureResources(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		algs, err := ring.Algs(t.Context())
		if err != nil || len(algs) != 1 || algs[0] != "EdDSA" || len(states(t, ring)) != 1 {
			t.Errorf("published: %v, %v", algs, err)
		}
	})
}
