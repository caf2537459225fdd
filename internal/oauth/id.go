package oauth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
)

// NewID returns prefix followed by 26 characters that encode 130 random bits: NewID("grt_") is "grt_mzxw6ytb…".
func NewID(prefix string) string {
	const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
	id := make([]byte, len(prefix)+26)
	random := id[copy(id, prefix):]
	_, _ = rand.Read(random) // crypto/rand.Read never fails
	for i, b := range random {
		random[i] = alphabet[b%32]
	}
	return string(id)
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
