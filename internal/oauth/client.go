package oauth

import (
	"bytes"
	"crypto/subtle"
	"encoding/json"
	"slices"
	"time"

	"github.com/cardea-auth/cardea/scope"
)

// Method is a token_endpoint_auth_method (RFC 7591 §2): how a client authenticates.
type Method string

// The client authentication methods. A confidential client that registered one of the two secret methods may use the
// other too.
const (
	MethodNone          Method = "none"                // a public client, RFC 6749 §2.1
	MethodBasic         Method = "client_secret_basic" // RFC 6749 §2.3.1
	MethodPost          Method = "client_secret_post"  // RFC 6749 §2.3.1
	MethodPrivateKeyJWT Method = "private_key_jwt"     // RFC 7523 §2.2, OpenID Connect Core §9
)

// IsSecret reports whether m sends a client secret.
func (m Method) IsSecret() bool { return m == MethodBasic || m == MethodPost }

// Origin is how a client was registered.
type Origin string

// The origins of a client.
const (
	ByOperator     Origin = "operator"     // by a command
	ByRegistration Origin = "registration" // by itself, RFC 7591
	ByDocument     Origin = "document"     // by the metadata document that its id is the URL of
)

// Metadata is what a client states about itself (RFC 7591 §2). A field that it does not state is empty.
type Metadata struct {
	Name            string      `json:"client_name,omitempty"`
	URI             string      `json:"client_uri,omitempty"`
	LogoURI         string      `json:"logo_uri,omitempty"`
	TOSURI          string      `json:"tos_uri,omitempty"`
	PolicyURI       string      `json:"policy_uri,omitempty"`
	Contacts        []string    `json:"contacts,omitempty"`
	SoftwareID      string      `json:"software_id,omitempty"`
	SoftwareVersion string      `json:"software_version,omitempty"`
	ApplicationType string      `json:"application_type,omitempty"` // "native" or "web"
	RedirectURIs    []string    `json:"redirect_uris,omitempty"`
	GrantTypes      []GrantType `json:"grant_types,omitempty"`
	ResponseTypes   []string    `json:"response_types,omitempty"`
	Method          Method      `json:"token_endpoint_auth_method,omitempty"`
	// Methods are the methods that a metadata document lists besides Method (token_endpoint_auth_methods_supported); a
	// registration has only Method.
	Methods []Method `json:"token_endpoint_auth_methods_supported,omitempty"`
	// SigningAlg is the only algorithm that its assertions may use; "" allows every one of SigningAlgs (RFC 7591 §2,
	// OpenID Connect Registration §2).
	SigningAlg string `json:"token_endpoint_auth_signing_alg,omitempty"`
	// JWKS holds the public keys of its assertions, and JWKSURI is the address that serves them. One of the two is set
	// if the client uses private_key_jwt, and none otherwise (RFC 7591 §2).
	JWKS    json.RawMessage `json:"jwks,omitempty"`
	JWKSURI string          `json:"jwks_uri,omitempty"`
	Scope   string          `json:"scope,omitempty"` // as registered; not enforced, unlike Client.Allowed
}

// Client is an application that asks for tokens (RFC 6749 §1.1).
type Client struct {
	ID string // "mcp_…" when made here
	// Incarnation differs between clients that have the same id one after the other, because what one was allowed must
	// not pass to the next. It is "" for a client that is not stored, or was stored before there were incarnations.
	Incarnation string
	Metadata
	Origin Origin

	// Allowed are the scopes to which an operator limits the client; empty allows all scopes of the resource.
	Allowed scope.Set
	// Resources are the identifiers of the resources that the client is bound to; empty allows any. The first is the
	// default if a request names none.
	Resources []string
	// ResourceServers are the identifiers of the resources that use this client's credentials for introspection (RFC
	// 7662 §2.1); empty for an ordinary client.
	ResourceServers []string
	Secrets         []Secret
	// RegistrationToken is the Hash of its registration access token (RFC 7592 §3), or "" if it has none.
	RegistrationToken string

	AccessTTL time.Duration // 0: the resource's or the server's

	CreatedAt  time.Time
	ApprovedAt time.Time // zero: unverified
	DisabledAt time.Time // zero: enabled
	UsedAt     time.Time // when it first completed a flow; zero: never
	ExpiresAt  time.Time // when it ends; zero: never
	// ChangedAt is when its redirect URIs or keys last changed; zero: never. Earlier consents are not remembered.
	ChangedAt time.Time
	// FetchedAt is when its metadata document was read; zero for a client without one.
	FetchedAt time.Time
	Version   int64 // rises with each change that operators see
}

// Secret is a client secret as it is stored.
type Secret struct {
	Hash      string    // Hash of the secret
	CreatedAt time.Time //
	ExpiresAt time.Time // zero: never
}

// Public reports whether the client may use the token endpoint without authenticating.
func (c *Client) Public() bool { return c.Accepts(MethodNone) }

// Accepts reports whether the client may authenticate with the method.
func (c *Client) Accepts(m Method) bool { return c.Method == m || slices.Contains(c.Methods, m) }

// Approved reports whether an operator vouches for the client.
func (c *Client) Approved() bool { return !c.ApprovedAt.IsZero() }

// Disabled reports whether an operator has disabled the client.
func (c *Client) Disabled() bool { return !c.DisabledAt.IsZero() }

// Expired reports whether the client has ended at now.
func (c *Client) Expired(now time.Time) bool {
	return !c.ExpiresAt.IsZero() && !now.Before(c.ExpiresAt)
}

// May reports whether the client registered the grant type.
func (c *Client) May(g GrantType) bool { return slices.Contains(c.GrantTypes, g) }

// SameTrust reports whether both clients have the same redirect URIs, in any order, and the same keys. A person's
// consent relies on these and does not hold for a client with others.
func (m *Metadata) SameTrust(other *Metadata) bool {
	sorted := func(uris []string) []string { return slices.Sorted(slices.Values(uris)) }
	return slices.Equal(sorted(m.RedirectURIs), sorted(other.RedirectURIs)) && m.JWKSURI == other.JWKSURI &&
		bytes.Equal(m.JWKS, other.JWKS)
}

// MatchSecret reports whether secret is one of the client's live secrets at now. It compares in constant time.
func (c *Client) MatchSecret(secret string, now time.Time) bool {
	hash := []byte(Hash(secret))
	ok := 0
	for _, s := range c.Secrets {
		if s.ExpiresAt.IsZero() || now.Before(s.ExpiresAt) {
			ok |= subtle.ConstantTimeCompare(hash, []byte(s.Hash))
		}
	}
	return ok == 1
}

// MatchRegistrationToken reports whether token is the client's registration access token (RFC 7592 §3). It compares in
// constant time and returns false for a client without one.
func (c *Client) MatchRegistrationToken(token string) bool {
	return subtle.ConstantTimeCompare([]byte(Hash(token)), []byte(c.RegistrationToken)) == 1
}

// OwnTokens reports whether the client may ask in its own name for tokens for r. A resource that is built in must be
// one that an operator bound it to, because its tokens let a program operate this server.
func (c *Client) OwnTokens(r *Resource) bool {
	return c.BoundTo(r.Identifier) && (!r.BuiltIn || len(c.Resources) > 0)
}

// BoundTo reports whether the client may ask for tokens for the resource.
func (c *Client) BoundTo(identifier string) bool {
	return len(c.Resources) == 0 || slices.Contains(c.Resources, identifier)
}
