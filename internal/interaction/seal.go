package interaction

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

// Sealer encrypts values that travel in URLs and forms, so that a stranger's interaction takes no memory of the server.
// The holder of a sealed value can neither read nor change it, nor use it for another purpose. It can use the value
// more than once and at any time, so the caller must check the age, and prevent a second use where that matters.
type Sealer struct {
	key []byte
}

// NewSealer returns a Sealer under a 32-byte key.
func NewSealer(key []byte) *Sealer { return &Sealer{key: key} }

const saltSize = 16

// aead returns AES-256-GCM with a separate key for each sealed value, because random nonces are safe only for 2³²
// values under one key, and strangers can have any number sealed.
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

// Seal returns plain sealed for a purpose, as base64url text that is a third and 60 bytes longer than plain.
func (s *Sealer) Seal(purpose string, plain []byte) (string, error) {
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // crypto/rand.Read never fails
	aead, err := s.aead(purpose, salt)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(aead.Seal(salt, nil, plain, []byte(purpose))), nil
}

// errSealed refuses a value that was not sealed here.
var errSealed = oauth.Refuse(oauth.InvalidRequest,
	"the address of this page is incomplete, or was not made by this server: start again from your application")

// Open returns the value that Seal sealed for the same purpose. It refuses anything else with invalid_request.
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

// SealJSON is Seal for a value that has a JSON form.
func (s *Sealer) SealJSON(purpose string, v any) (string, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	return s.Seal(purpose, plain)
}

// OpenJSON stores the value that SealJSON sealed for the same purpose in the value that v points to. It returns an
// error for anything else.
func (s *Sealer) OpenJSON(purpose, sealed string, v any) error {
	plain, err := s.Open(purpose, sealed)
	if err != nil {
		return err
	}
	return json.Unmarshal(plain, v)
}
