package gateway

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"

	"github.com/cardea-auth/cardea/guard"
)

// sealer turns ids of an upstream into ids of the gateway that only their owner can use. The gateway keeps nothing of
// them.
type sealer struct{ aead cipher.AEAD }

// newSealer returns a sealer whose key comes from secret, so that ids stay good over restarts and between processes
// with the same configuration. If secret is empty, they are good for this process only.
func newSealer(secret string) sealer {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	if secret != "" {
		derived, err := hkdf.Key(sha256.New, []byte(secret), nil, "cardea gateway ids", len(key))
		if err != nil {
			panic(err) // cannot happen: the length is small
		}
		key = derived
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // cannot happen: the length is right
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return sealer{aead}
}

// seal returns the id under which owner knows id.
func (s sealer) seal(id, owner string) string {
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, []byte(id), []byte(owner)))
}

// open returns the id in a sealed one, and whether it is owner's.
func (s sealer) open(sealed, owner string) (id string, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		return "", false
	}
	plain, err := s.aead.Open(nil, nil, raw, []byte(owner))
	return string(plain), err == nil
}

// owner names a person with a client at a server, for things that others must not use.
func (s *Server) owner(what string, token *guard.Token) string {
	return what + "\x00" + s.Name + "\x00" + s.Resource + "\x00" + token.Principal() + "\x00" + token.ClientID
}
