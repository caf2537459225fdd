package oauth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"time"
)

// NewID returns prefix followed by 26 characters that encode 130 random bits: NewID("usr_") is "usr_mzxw6ytb…".
func NewID(prefix string) string {
	id := make([]byte, len(prefix)+26)
	random := id[copy(id, prefix):]
	_, _ = rand.Read(random) // crypto/rand.Read never fails
	for i, b := range random {
		random[i] = alphabet[b%32]
	}
	return string(id)
}

const (
	alphabet = "abcdefghijklmnopqrstuvwxyz234567"
	// inOrder are the same characters as they are sorted, so that ids that begin with a later time come later.
	inOrder   = "234567abcdefghijklmnopqrstuvwxyz"
	timeChars = 11 // 55 bits: until the year 3111
)

// NewTimedID is like NewID, but the first 11 characters after prefix encode at in microseconds, and 75 bits are random.
// Ids with one prefix are sorted by time, so that an index of the database grows at its end: rows that are made at one
// time share a page of it, and each transaction writes fewer. What each request makes has such an id.
func NewTimedID(prefix string, at time.Time) string {
	id := []byte(NewID(prefix))
	micros := at.UnixMicro()
	for i := len(prefix) + timeChars - 1; i >= len(prefix); i-- {
		id[i] = inOrder[micros&31]
		micros >>= 5
	}
	return string(id)
}

// TimeOfID returns the time in an id that NewTimedID made with prefix. It returns false if the id is too short or has
// other characters. Of an id that NewID made it returns any time.
func TimeOfID(id, prefix string) (time.Time, bool) {
	text, found := strings.CutPrefix(id, prefix)
	if !found || len(text) < timeChars {
		return time.Time{}, false
	}
	var micros int64
	for _, c := range []byte(text[:timeChars]) {
		n := strings.IndexByte(inOrder, c)
		if n < 0 {
			return time.Time{}, false
		}
		micros = micros<<5 | int64(n)
	}
	return time.UnixMicro(micros).UTC(), true
}

// The prefixes of secrets. They let secret scanners find a leaked one.
const (
	CodePrefix    = "cardea_ac_"
	RefreshPrefix = "cardea_rt_"
	SecretPrefix  = "cardea_cs_"

	RegistrationTokenPrefix = "cardea_rat_" // registration access tokens, RFC 7592 §3
	InitialTokenPrefix      = "cardea_iat_" // initial access tokens, RFC 7591 §3
)

// NewSecret returns prefix followed by 43 characters that encode 256 random bits.
func NewSecret(prefix string) string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails
	return prefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// Hash returns the SHA-256 of a secret as lower-case hex: the form in which codes, client secrets and session cookies
// are stored. Use it only for secrets that were generated with at least 128 random bits, not for people's passwords.
func Hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
