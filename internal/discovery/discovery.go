// Package discovery tells clients where everything is: the authorization server
// metadata and the key set. RFC 8414, OpenID Connect Discovery 1.0, RFC 7517.
package discovery

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
	"github.com/cardea-auth/cardea/scope"
)

// Metadata is the authorization server metadata (RFC 8414 §2), and at the same
// time the OpenID provider metadata, which clients read when they look there
// first (OpenID Connect Discovery §3). Every field is true; none is null or "".
type Metadata struct {
	Issuer                            string            `json:"issuer"`
	AuthorizationEndpoint             string            `json:"authorization_endpoint"`
	TokenEndpoint                     string            `json:"token_endpoint"`
	RegistrationEndpoint              string            `json:"registration_endpoint,omitempty"` // RFC 7591
	RevocationEndpoint                string            `json:"revocation_endpoint"`             // RFC 7009
	IntrospectionEndpoint             string            `json:"introspection_endpoint"`          // RFC 7662
	JWKSURI                           string            `json:"jwks_uri"`
	ScopesSupported                   scope.Set         `json:"scopes_supported"`
	ResponseTypesSupported            []string          `json:"response_types_supported"`
	ResponseModesSupported            []string          `json:"response_modes_supported"`
	GrantTypesSupported               []oauth.GrantType `json:"grant_types_supported"`
	TokenEndpointAuthMethodsSupported []oauth.Method    `json:"token_endpoint_auth_methods_supported"`
	RevocationEndpointAuthMethods     []oauth.Method    `json:"revocation_endpoint_auth_methods_supported"`
	IntrospectionEndpointAuthMethods  []oauth.Method    `json:"introspection_endpoint_auth_methods_supported"`
	TokenEndpointAuthSigningAlgs      []string          `json:"token_endpoint_auth_signing_alg_values_supported"`
	RevocationEndpointAuthSigningAlgs []string          `json:"revocation_endpoint_auth_signing_alg_values_supported"`
	IntrospectionEndpointSigningAlgs  []string          `json:"introspection_endpoint_auth_signing_alg_values_supported"`
	CodeChallengeMethodsSupported     []string          `json:"code_challenge_methods_supported"`                // RFC 7636
	AuthorizationResponseIssParameter bool              `json:"authorization_response_iss_parameter_supported"`  // RFC 9207
	ClientIDMetadataDocument          bool              `json:"client_id_metadata_document_supported,omitempty"` // Client ID Metadata Document §6
	SubjectTypesSupported             []string          `json:"subject_types_supported"`
	IDTokenSigningAlgValuesSupported  []string          `json:"id_token_signing_alg_values_supported"`
	RequestParameterSupported         bool              `json:"request_parameter_supported"`
	RequestURIParameterSupported      bool              `json:"request_uri_parameter_supported"`
}

// Endpoint answers the well-known documents. Make it with New.
type Endpoint struct {
	keys     *keys.Ring
	metadata *store.Cached[[]byte]
}

// New returns the documents of a server whose metadata is base, but for the
// scopes, which are those of the registered resources.
func New(db *store.DB, ring *keys.Ring, base Metadata) *Endpoint {
	build := func(tx *store.Tx) ([]byte, error) {
		resources, err := tx.Resources()
		if err != nil {
			return nil, err
		}
		document := base
		document.ScopesSupported = scope.Set{}
		for _, r := range resources {
			document.ScopesSupported = document.ScopesSupported.Union(r.ScopeNames())
		}
		document.ScopesSupported = document.ScopesSupported.Union(scope.Of(oauth.OfflineAccess))
		text, err := json.Marshal(document)
		if err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
		return text, nil
	}
	return &Endpoint{keys: ring, metadata: store.NewCached(db, store.Resources, build)}
}

// Routes are the documents: the metadata in every form that clients look for, and the key set. Verifiers and clients
// may keep a document for as long as a new key waits before it signs.
func (e *Endpoint) Routes() []web.Route {
	cache := fmt.Sprintf("public, max-age=%d", int(keys.CacheFor.Seconds()))
	return []web.Route{
		{ // RFC 8414 §3.1; OpenID Connect Discovery §4
			Path: "/.well-known/oauth-authorization-server", Also: []string{"/.well-known/openid-configuration"},
			Place:   web.WellKnown,
			Methods: web.Methods{"GET": web.JSON(e.Metadata)}, Caller: web.Anybody, CORS: true, Cache: cache,
		},
		{ // RFC 7517 §5
			Path: "/.well-known/jwks", Also: []string{"/.well-known/jwks.json"},
			Methods: web.Methods{"GET": web.JSON(e.JWKS)}, Caller: web.Anybody, CORS: true, Cache: cache,
		},
	}
}

// Metadata answers GET /.well-known/oauth-authorization-server (RFC 8414 §3) and
// /.well-known/openid-configuration.
func (e *Endpoint) Metadata(r *http.Request) (web.Reply, error) {
	return document(r.Context(), e.metadata.Load)
}

// JWKS answers GET /.well-known/jwks (RFC 7517 §5).
func (e *Endpoint) JWKS(r *http.Request) (web.Reply, error) {
	return document(r.Context(), e.keys.JWKS)
}

func document(ctx context.Context, load func(context.Context) ([]byte, error)) (web.Reply, error) {
	text, err := load(ctx)
	return web.Reply{Body: json.RawMessage(text), Quiet: true}, err
}
