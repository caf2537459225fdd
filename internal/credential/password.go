// Package credential makes and checks what people sign in with: the hashes of passwords, the codes of authenticator
// apps, and passkeys.
package credential

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// The shortest password, in characters, and the longest, in bytes.
const (
	minPassword = 8
	maxPassword = 1024
)

// strong is the cost of argon2id for a password (RFC 9106 §4, reduced to the memory of a small machine).
var strong = argon{memory: 19 * 1024, time: 2, threads: 1}

// cost is the cost of a new hash. Hashes of another cost are replaced at sign-in.
var cost = strong

// WeakenForTests makes the hashes of further passwords nearly free, or as strong as they are in the program again. Only
// tests, which sign in thousands of times, may call it; internal/floors_test.go checks that.
func WeakenForTests(weak bool) {
	cost = strong
	if weak {
		cost = argon{memory: 8, time: 1, threads: 1}
	}
}

type argon struct {
	memory, time uint32 // KiB, passes
	threads      uint8
}

// The highest cost of a stored hash. A hash beyond it was not made here and matches no password, because the database
// must not decide how much this server spends.
const (
	maxMemory  = 256 * 1024 // KiB
	maxTime    = 10         // passes
	maxThreads = 16
)

// bulkhead limits how many passwords are hashed at a time, so that sign-ins cannot use up all processors or memory, and
// how many wait for their turn.
var bulkhead = struct{ running, waiting chan struct{} }{
	running: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
	waiting: make(chan struct{}, 64),
}

// ErrBusy refuses a sign-in if too many others are waiting.
var ErrBusy = oauth.RefuseForNow(5*time.Second, "too many people are signing in at this moment: try again")

// enter waits for a turn to hash. A trace shows how long that took, and the hash.
func enter(ctx context.Context) (leave func(), err error) {
	tracer := trace.SpanFromContext(ctx).TracerProvider().Tracer("cardea")
	_, wait := tracer.Start(ctx, "password.wait")
	defer wait.End()
	select {
	case bulkhead.waiting <- struct{}{}:
	default:
		return nil, ErrBusy
	}
	defer func() { <-bulkhead.waiting }()
	select {
	case bulkhead.running <- struct{}{}:
		_, hash := tracer.Start(ctx, "password.hash")
		return func() { <-bulkhead.running; hash.End() }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// HashPassword returns the argon2id hash of a password in PHC form. Every way in which a person gets a new password
// uses it. It refuses a password that is too short, too long, not text, or one that many people use; it does not demand
// digits or signs (NIST SP 800-63B-4 §3.1.1.2). It blocks while others hash.
func HashPassword(ctx context.Context, password string) (string, error) {
	password, err := normalise(password)
	if err != nil {
		return "", err
	}
	if utf8.RuneCountInString(password) < minPassword {
		return "", oauth.Refuse(oauth.InvalidRequest, "the password must have at least %d characters", minPassword)
	}
	if isCommon(password) {
		return "", oauth.Refuse(oauth.InvalidRequest, "the password is one that many people use, so it is guessed "+
			"first: choose another, such as a few words")
	}
	leave, err := enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails, crypto/rand
	return cost.format(salt, cost.key(password, salt)), nil
}

// VerifyPassword reports whether hash is the hash of password, and whether it should be replaced by one of the current
// cost. An empty or malformed hash takes as long to check as a valid one, and matches no password.
func VerifyPassword(ctx context.Context, hash, password string) (ok, outdated bool, err error) {
	password, err = normalise(password)
	if err != nil {
		return false, false, err
	}
	leave, err := enter(ctx)
	if err != nil {
		return false, false, err
	}
	defer leave()
	a, salt, key, err := parsePHC(hash)
	if err != nil {
		a, salt, key = cost, dummySalt, nil
	}
	ok = subtle.ConstantTimeCompare(a.key(password, salt), key) == 1
	return ok, a != cost, nil
}

// dummySalt is the salt for an account that does not exist.
var dummySalt = make([]byte, 16)

// normalise returns a password in a form that does not depend on how it was typed (RFC 8265 §4.2.2).
func normalise(password string) (string, error) {
	if len(password) > maxPassword || !utf8.ValidString(password) || strings.ContainsRune(password, 0) {
		return "", oauth.Refuse(oauth.InvalidRequest, "the password must be text of at most %d bytes", maxPassword)
	}
	return norm.NFC.String(password), nil
}

func (a argon) key(password string, salt []byte) []byte {
	return argon2.IDKey([]byte(password), salt, a.time, a.memory, a.threads, 32)
}

func (a argon) format(salt, key []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, a.memory, a.time, a.threads,
		b64.EncodeToString(salt), b64.EncodeToString(key))
}

func parsePHC(hash string) (a argon, salt, key []byte, err error) {
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return a, nil, nil, fmt.Errorf("credential: not an argon2id hash")
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &a.memory, &a.time, &a.threads); err != nil {
		return a, nil, nil, fmt.Errorf("credential: argon2id parameters: %w", err)
	}
	if a.memory == 0 || a.memory > maxMemory || a.time == 0 || a.time > maxTime || a.threads == 0 ||
		a.threads > maxThreads {
		return a, nil, nil, fmt.Errorf("credential: argon2id parameters out of bounds")
	}
	if salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err == nil {
		key, err = base64.RawStdEncoding.DecodeString(parts[5])
	}
	if err != nil || len(key) == 0 {
		return a, nil, nil, fmt.Errorf("credential: argon2id salt or key is not base64")
	}
	return a, salt, key, nil
}
