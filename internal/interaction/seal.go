package interaction

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

// Sealer hides values in URLs and forms, so that a stranger's interaction costs
// the server no memory. The holder of a sealed value can neither read nor change it,
// nor use it for another purpose, but can use it again: what must happen once is
// for the caller to see to, and so is its age.
type Sealer struct {
	key []byte
}

// NewSealer returns a Sealer under a 32-byte key.
func NewSealer(key []byte) *Sealer { return &Sealer{key: key} }

const saltSize = 16

// aead returns AES-256-GCM under a key of its own for each sealed value: strangers
// have as many sealed as they like, and random nonces bear 2³² under one key.
func (s *Sealer) aead(purpose string, salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, s.key, salt, purpose, 32)
	if err != nil {
		return nil, fmt.Errorf("interaction: seal: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("interaction: seal: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// Seal returns plain sealed for a purpose: base64url text, longer than plain by a third
// and 60 bytes.
func (s *Sealer) Seal(purpose string, plain []byte) (string, error) {
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // never fails, crypto/rand
	aead, err := s.aead(purpose, salt)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(aead.Seal(salt, nil, plain, []byte(purpose))), nil
}

// errSealed refuses what was not sealed here.
var errSealed = oauth.Refuse(oauth.InvalidRequest, "the address of this page is not complete, or was not made here: start again from your application")

// Open returns what Seal sealed for the same purpose. Anything else is refused with
// invalid_request.
func (s *Sealer) Open(purpose, sealed string) ([]byte, error) {
	if len(sealed) > MaxSealed || !web.IsBase64URL(sealed) { // the decoder skips line breaks
		return nil, errSealed
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	if err != nil || len(b) < saltSize {
		return nil, errSealed
	}
	aead, err := s.aead(purpose, b[:saltSize])
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nil, b[saltSize:], []byte(purpose))
	if err != nil {
		return nil, errSealed
	}
	return plain, nil
}
