package login

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

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// Bounds of a password: in characters at least, in bytes at most.
const (
	minPassword = 8
	maxPassword = 1024
)

// cost is what argon2id spends on a password (RFC 9106 §4, scaled to memory that
// a small machine has). Hashes made at another cost are replaced at sign-in.
var cost = argon{memory: 19 * 1024, time: 2, threads: 1}

type argon struct {
	memory, time uint32 // KiB, passes
	threads      uint8
}

// Bounds of what a stored hash may cost. A hash beyond them was not made here, and
// matches nothing: a database must not make this server spend what it likes.
const (
	maxMemory  = 256 * 1024 // KiB
	maxTime    = 10         // passes
	maxThreads = 16
)

// bulkhead bounds how many passwords are hashed at one time, so that sign-ins
// cannot starve the token endpoint of processors or the machine of memory; and
// how many wait for their turn.
var bulkhead = struct{ running, waiting chan struct{} }{
	running: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
	waiting: make(chan struct{}, 64),
}

// errBusy refuses a sign-in when too many others wait.
var errBusy = oauth.RefuseForNow(5*time.Second, "too many people are signing in at this moment: try again")

// enter waits for a turn to hash.
func enter(ctx context.Context) (leave func(), err error) {
	select {
	case bulkhead.waiting <- struct{}{}:
	default:
		return nil, errBusy
	}
	defer func() { <-bulkhead.waiting }()
	select {
	case bulkhead.running <- struct{}{}:
		return func() { <-bulkhead.running }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// HashPassword returns the argon2id hash of a password in PHC form. A password
// that is too short or too long, or no text, is refused with the reason. It
// blocks while others hash.
func HashPassword(ctx context.Context, password string) (string, error) {
	password, err := normalise(password)
	if err != nil {
		return "", err
	}
	if utf8.RuneCountInString(password) < minPassword {
		return "", oauth.Refuse(oauth.InvalidRequest, "a password needs at least %d characters", minPassword)
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

// verifyPassword reports whether password is the one that hash was made of, and
// whether hash should be replaced by one of today's cost. An empty or broken hash
// costs as much as a good one, and matches nothing.
func verifyPassword(ctx context.Context, hash, password string) (ok, outdated bool, err error) {
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

// dummySalt stands in for that of an account that is not there.
var dummySalt = make([]byte, 16)

// normalise gives a password one form however it was typed (RFC 8265 §4.2.2).
func normalise(password string) (string, error) {
	if len(password) > maxPassword || !utf8.ValidString(password) || strings.ContainsRune(password, 0) {
		return "", oauth.Refuse(oauth.InvalidRequest, "a password is text of at most %d bytes", maxPassword)
	}
	return norm.NFC.String(password), nil
}

func (a argon) key(password string, salt []byte) []byte {
	return argon2.IDKey([]byte(password), salt, a.time, a.memory, a.threads, 32)
}

func (a argon) format(salt, key []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, a.memory, a.time, a.threads, b64.EncodeToString(salt), b64.EncodeToString(key))
}

func parsePHC(hash string) (a argon, salt, key []byte, err error) {
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return a, nil, nil, fmt.Errorf("login: not an argon2id hash")
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &a.memory, &a.time, &a.threads); err != nil {
		return a, nil, nil, fmt.Errorf("login: argon2id parameters: %w", err)
	}
	if a.memory == 0 || a.memory > maxMemory || a.time == 0 || a.time > maxTime || a.threads == 0 || a.threads > maxThreads {
		return a, nil, nil, fmt.Errorf("login: argon2id parameters out of bounds")
	}
	if salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err == nil {
		key, err = base64.RawStdEncoding.DecodeString(parts[5])
	}
	if err != nil || len(key) == 0 {
		return a, nil, nil, fmt.Errorf("login: argon2id salt or key is no base64")
	}
	return a, salt, key, nil
}
