// Package discovery serves the authorization server metadata and the key set (RFC 8414, OpenID Connect Discovery 1.0,
// RFC 7517).
package discovery

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
	"github.com/cardea-auth/cardea/scope"
)

// Metadata is the authorization server metadata (RFC 8414 §2). It is also served as OpenID provider metadata, because
// some clients look there first (OpenID Connect Discovery §3). It must claim only what the server does, and no field
// may be null or "".
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
	ACRValuesSupported                []string          `json:"acr_values_supported"`                            // RFC 9470 §7
	SubjectTypesSupported             []string          `json:"subject_types_supported"`
	IDTokenSigningAlgValuesSupported  []string          `json:"id_token_signing_alg_values_supported"`
	RequestParameterSupported         bool              `json:"request_parameter_supported"`
	RequestURIParameterSupported      bool              `json:"request_uri_parameter_supported"`
}

// Endpoint serves the well-known documents. Create it with New.
type Endpoint struct {
	keys     *keys.Ring
	metadata *store.Cached[[]byte]
}

// New returns an Endpoint that serves base as the metadata, with scopes_supported set to the scopes of the registered
// resources, and the signing algorithms of base completed by those of resources, because verifiers accept no others.
func New(db *store.DB, ring *keys.Ring, base Metadata) *Endpoint {
	build := func(tx *store.Tx) ([]byte, error) {
		resources, err := tx.Resources()
		if err != nil {
			return nil, err
		}
		document := base
		document.ScopesSupported = scope.Set{}
		for _, r := range resources {
			if r.BuiltIn { // a client that asks for all that is supported must not ask to operate this server
				continue
			}
			document.ScopesSupported = document.ScopesSupported.Union(r.ScopeNames())
		}
		document.IDTokenSigningAlgValuesSupported = slices.DeleteFunc(slices.Clone(oauth.SigningAlgs),
			func(alg string) bool {
				own := func(r *oauth.Resource) bool { return r.SigningAlg == alg }
				return !slices.Contains(base.IDTokenSigningAlgValuesSupported, alg) &&
					!slices.ContainsFunc(resources, own)
			})
		document.ScopesSupported = document.ScopesSupported.Union(scope.Of(oauth.OfflineAccess))
		text, err := json.Marshal(document)
		if err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
		return text, nil
	}
	return &Endpoint{keys: ring, metadata: store.NewCached(db, store.Resources, build)}
}

// Routes returns the routes of the metadata, at every path where clients look for it, and of the key set. The documents
// may be cached for keys.CacheFor; a new key is published longer than that before it signs.
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

// Metadata serves GET /.well-known/oauth-authorization-server (RFC 8414 §3) and /.well-known/openid-configuration.
func (e *Endpoint) Metadata(r *http.Request) (web.Reply, error) {
	return document(r.Context(), e.metadata.Load)
}

// JWKS serves GET /.well-known/jwks (RFC 7517 §5).
func (e *Endpoint) JWKS(r *http.Request) (web.Reply, error) {
	return document(r.Context(), e.keys.JWKS)
}

func document(ctx context.Context, load func(context.Context) ([]byte, error)) (web.Reply, error) {
	text, err := load(ctx)
	return web.Reply{Body: json.RawMessage(text), Quiet: true}, err
}
