package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Master is the 32-byte key under which everything secret that must be read
// again is sealed, and from which the server's other keys are derived. The zero
// Master is not usable.
type Master struct{ key []byte }

// ParseMaster reads a master key: 32 bytes in base64, with or without padding,
// white space around it ignored.
func ParseMaster(text string) (Master, error) {
	text = strings.TrimRight(strings.TrimSpace(text), "=")
	key, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		key, err = base64.RawURLEncoding.DecodeString(text)
	}
	if err != nil || len(key) != 32 {
		return Master{}, errors.New("the master key must be 32 bytes in base64; make one with: openssl rand -base64 32")
	}
	return Master{key}, nil
}

// NewMaster returns a fresh master key and its text for ParseMaster.
func NewMaster() (Master, string) {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails, crypto/rand
	return Master{key}, base64.StdEncoding.EncodeToString(key)
}

// Derive returns the 32-byte key for one purpose (RFC 5869). Keys of different
// purposes tell nothing of each other.
func (m Master) Derive(purpose string) []byte {
	key, err := hkdf.Key(sha256.New, m.key, nil, "cardea "+purpose, 32)
	if err != nil {
		panic(err) // 32 bytes are always within the bounds of HKDF
	}
	return key
}

// RefreshKey returns the 32-byte key that refresh tokens are made with.
func (m Master) RefreshKey() []byte { return m.Derive("refresh") }

// Seal encrypts plain with AES-256-GCM and binds it to place (the table, row and
// column where it stands): moved elsewhere it does not open.
func (m Master) Seal(place string, plain []byte) (string, error) {
	aead, err := m.aead()
	if err != nil {
		return "", err
	}
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce)
	return base64.RawStdEncoding.EncodeToString(aead.Seal(nonce, nonce, plain, []byte(place))), nil
}

// Open decrypts what Seal made for the same place under the same master key.
func (m Master) Open(place, sealed string) ([]byte, error) {
	aead, err := m.aead()
	if err != nil {
		return nil, err
	}
	b, err := base64.RawStdEncoding.DecodeString(sealed)
	if err != nil || len(b) < aead.NonceSize() {
		return nil, fmt.Errorf("keys: open %s: not a sealed value", place)
	}
	plain, err := aead.Open(nil, b[:aead.NonceSize()], b[aead.NonceSize():], []byte(place))
	if err != nil {
		return nil, fmt.Errorf("keys: open %s: sealed under another master key, or altered", place)
	}
	return plain, nil
}

func (m Master) aead() (cipher.AEAD, error) {
	if len(m.key) != 32 {
		return nil, errors.New("keys: no master key")
	}
	block, err := aes.NewCipher(m.Derive("seal"))
	if err != nil {
		return nil, fmt.Errorf("keys: seal: %w", err)
	}
	return cipher.NewGCM(block)
}
