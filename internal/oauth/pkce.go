package oauth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
)

// Challenge is an S256 code challenge (RFC 7636 §4.2): 43 base64url characters. The zero Challenge matches no verifier.
type Challenge string

// ParseChallenge reads code_challenge and code_challenge_method. It refuses any method but S256, and a missing one,
// because its default is plain. Every client has to use PKCE, confidential ones too (OAuth 2.1 §7.5.1).
func ParseChallenge(challenge, method string) (Challenge, error) {
	switch {
	case challenge == "":
		return "", Refuse(InvalidRequest, "code_challenge is missing: this server requires PKCE with S256 from "+
			"every client")
	case method != "S256":
		return "", Refuse(InvalidRequest, "code_challenge_method must be S256")
	}
	if b, err := base64.RawURLEncoding.DecodeString(challenge); err != nil || len(b) != sha256.Size ||
		len(challenge) != 43 {
		return "", Refuse(InvalidRequest, "code_challenge must be the base64url form, without padding, of a "+
			"SHA-256: 43 characters")
	}
	return Challenge(challenge), nil
}

// Verify reports whether verifier is well formed (RFC 7636 §4.1) and hashes to the challenge (§4.6). Its running time
// depends only on the length of verifier.
func (c Challenge) Verify(verifier string) bool {
	if c == "" || !validVerifier(verifier) {
		return false
	}
	sum := sha256.Sum256([]byte(verifier))
	return subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(c)) == 1
}

func validVerifier(v string) bool {
	if len(v) < 43 || len(v) > 128 {
		return false
	}
	for i := range len(v) {
		switch c := v[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_', c == '~':
		default:
			return false
		}
	}
	return true
}
