package web

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// Sealer hides values in URLs and forms, so that a stranger's interaction costs
// the server no memory. Who holds a sealed value can neither read nor change it,
// nor use it for another purpose; but can use it again: what must happen once is
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
		return nil, fmt.Errorf("web: seal: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("web: seal: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// Seal returns v, as JSON, sealed for a purpose: base64url text.
func (s *Sealer) Seal(purpose string, v any) (string, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("web: seal: %w", err)
	}
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // never fails, crypto/rand
	aead, err := s.aead(purpose, salt)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(aead.Seal(salt, nil, plain, []byte(purpose))), nil
}

// Open reads into v what Seal sealed for the same purpose. Anything else is
// refused with invalid_request.
func (s *Sealer) Open(purpose, sealed string, v any) error {
	refused := oauth.Refuse(oauth.InvalidRequest, "the address of this page is not complete, or was not made here: start again from your application")
	if len(sealed) > maxForm || !isBase64URL(sealed) { // the decoder skips line breaks
		return refused
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	if err != nil || len(b) < saltSize {
		return refused
	}
	aead, err := s.aead(purpose, b[:saltSize])
	if err != nil {
		return err
	}
	plain, err := aead.Open(nil, nil, b[saltSize:], []byte(purpose))
	if err != nil {
		return refused
	}
	if err := json.Unmarshal(plain, v); err != nil {
		return fmt.Errorf("web: open: %w", err)
	}
	return nil
}

// requestPurpose is what authorization requests are sealed for.
const requestPurpose = "authorization request"

// SealRequest returns q sealed, for the parameter request of the pages.
func (p *Pages) SealRequest(q *oauth.AuthorizationRequest) (string, error) {
	return p.Sealer.Seal(requestPurpose, q)
}

// OpenRequest returns the request that SealRequest sealed. One that was altered
// or is too old at now is refused with 400, one that began in another browser
// than that of r with 403.
func (p *Pages) OpenRequest(r *http.Request, sealed string, now time.Time) (*oauth.AuthorizationRequest, error) {
	var q oauth.AuthorizationRequest
	if err := p.Sealer.Open(requestPurpose, sealed, &q); err != nil {
		return nil, err
	}
	browser := p.cookie(r, browserCookie)
	switch {
	case q.Expired(now):
		return nil, oauth.Refuse(oauth.InvalidRequest, "this page was open for too long: go back to the application and start again")
	case browser == "":
		return nil, oauth.Refuse(oauth.AccessDenied, "the browser did not send its cookie: allow cookies for this site, go back to the application and start again")
	case !equal(oauth.Hash(browser), q.Browser):
		return nil, oauth.Refuse(oauth.AccessDenied, "this page belongs to another browser: go back to the application and start again")
	}
	return &q, nil
}
