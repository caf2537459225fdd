package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Master is the 32-byte key that seals every secret that must be readable later, and from which the server's other keys
// are derived. The zero Master is not valid.
type Master struct{ key []byte }

// ParseMaster parses a master key: 32 bytes in base64, with or without padding. It ignores surrounding white space.
func ParseMaster(text string) (Master, error) {
	text = strings.TrimRight(strings.TrimSpace(text), "=")
	key, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		key, err = base64.RawURLEncoding.DecodeString(text)
	}
	if err != nil || len(key) != 32 {
		return Master{}, errors.New("the master key must be 32 bytes in base64; create one with: openssl rand " +
			"-base64 32")
	}
	return Master{key}, nil
}

// NewMaster returns a new master key and its text in the form of ParseMaster.
func NewMaster() (Master, string) {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // crypto/rand never fails
	return Master{key}, base64.StdEncoding.EncodeToString(key)
}

// Derive returns the 32-byte key for a purpose (RFC 5869). The keys of different purposes are independent of each
// other.
func (m Master) Derive(purpose string) []byte {
	key, err := hkdf.Key(sha256.New, m.key, nil, "cardea "+purpose, 32)
	if err != nil {
		panic(err) // 32 bytes are always within the bounds of HKDF
	}
	return key
}

// RefreshKey returns the 32-byte key that authenticates refresh tokens.
func (m Master) RefreshKey() []byte { return m.Derive("refresh") }

// fingerprint returns a text that differs for every master key and does not reveal it.
func (m Master) fingerprint() string {
	mac := hmac.New(sha256.New, m.Derive("check"))
	mac.Write([]byte("cardea"))
	return hex.EncodeToString(mac.Sum(nil))
}

// Seal encrypts plain with AES-256-GCM and binds it to place, the table, row and column where it is stored. Open fails
// if the value was moved to another place.
func (m Master) Seal(place string, plain []byte) (string, error) {
	aead, err := m.aead()
	if err != nil {
		return "", err
	}
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce)
	return base64.RawStdEncoding.EncodeToString(aead.Seal(nonce, nonce, plain, []byte(place))), nil
}

// Open decrypts a value that Seal returned for the same place under the same master key.
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
		return nil, errors.New("keys: the master key is not set")
	}
	block, err := aes.NewCipher(m.Derive("seal"))
	if err != nil {
		return nil, fmt.Errorf("keys: seal: %w", err)
	}
	return cipher.NewGCM(block)
}
