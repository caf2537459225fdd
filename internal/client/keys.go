package client

import (
	"errors"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json" // distinguishes names by case and refuses duplicate names

	"github.com/cardea-auth/cardea/internal/assertion"
	"github.com/cardea-auth/cardea/internal/fetch"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// maxKeySet is the maximum length of a registered key set in bytes; fetch.KeySet has that of a fetched one.
const maxKeySet = 16 << 10

// CheckKeys refuses keys that m must not register, as invalid_client_metadata (RFC 7591 §2). It brings the key set of a
// client that authenticates with private_key_jwt into canonical form, and removes the keys of any other client, because
// they have no use. Those may be malformed, but must not give a secret away.
func CheckKeys(m *oauth.Metadata) error {
	if string(m.JWKS) == "null" {
		m.JWKS = nil
	}
	switch {
	case len(m.JWKS) > 0 && m.JWKSURI != "":
		return oauth.Refuse(oauth.InvalidClientMetadata,
			"jwks and jwks_uri must not both be present (RFC 7591 section 2)")
	case len(m.JWKS) > maxKeySet:
		return oauth.Refuse(oauth.InvalidClientMetadata, "jwks is longer than %d bytes", maxKeySet)
	}
	if err := oauth.CheckWebURI("jwks_uri", m.JWKSURI); err != nil {
		return err
	}
	if len(m.JWKS) > 0 {
		err := assertion.CheckPublic(m.JWKS)
		if err != nil && (signs(m) || errors.Is(err, assertion.ErrSecretKey)) {
			return oauth.Refuse(oauth.InvalidClientMetadata, "jwks: %v", err)
		}
	}
	switch {
	case !signs(m):
		m.JWKS, m.JWKSURI, m.SigningAlg = nil, "", ""
		return nil
	case len(m.JWKS) == 0 && m.JWKSURI == "":
		return oauth.Refuse(oauth.InvalidClientMetadata,
			"private_key_jwt needs the client's public keys: register jwks or jwks_uri")
	case m.SigningAlg != "" && !oauth.IsSigningAlg(m.SigningAlg):
		return oauth.Refuse(oauth.InvalidClientMetadata, "token_endpoint_auth_signing_alg %+.20q is not supported: "+
			"use one of %s", m.SigningAlg, oauth.Listed(oauth.SigningAlgs))
	case m.JWKSURI != "":
		return CheckKeySetURI(m.JWKSURI, true)
	}
	keys, err := assertion.ParseKeySet(m.JWKS)
	if err == nil {
		m.JWKS, err = json.Marshal(jose.JSONWebKeySet{Keys: keys})
	}
	if err != nil {
		return oauth.Refuse(oauth.InvalidClientMetadata, "jwks: %v", err)
	}
	return nil
}

// CheckKeySetURI refuses a URL from which keys are never fetched, such as http, because anybody who can change keys in
// transit can act as the client.
func CheckKeySetURI(uri string, allowLoopback bool) error {
	if fetch.Check(uri, allowLoopback) != nil {
		return oauth.Refuse(oauth.InvalidClientMetadata,
			"jwks_uri must be an https URL of a public host, without a user name or a fragment")
	}
	return nil
}

// KeyIDs returns the kid of each key in m.JWKS, which CheckKeys has accepted; "" for a key without one.
func KeyIDs(m *oauth.Metadata) []string {
	var set jose.JSONWebKeySet
	if len(m.JWKS) == 0 || json.Unmarshal(m.JWKS, &set) != nil {
		return nil
	}
	var ids []string
	for _, k := range set.Keys {
		ids = append(ids, k.KeyID)
	}
	return ids
}

// NewKeySets returns the key sets that clients publish, fetched with f by the clock now. If limited is true, each URL
// is fetched at most as often as assertion.KeySetRate says.
func NewKeySets(f *fetch.Client, now func() time.Time, limited bool) *assertion.KeySets {
	if !limited {
		return assertion.NewKeySets(f, now, nil)
	}
	return assertion.NewKeySets(f, now, assertion.NewRefetches(now))
}
