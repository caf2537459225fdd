package oauth

import "slices"

// GrantType is a grant_type, as sent by clients.
type GrantType string

// The grant types of the token endpoint.
const (
	AuthorizationCode GrantType = "authorization_code" // OAuth 2.1 §4.1
	RefreshToken      GrantType = "refresh_token"      // OAuth 2.1 §4.3
	ClientCredentials GrantType = "client_credentials" // OAuth 2.1 §4.2
)

// GrantRule holds the rules of a grant type, for registration, metadata, commands and the token endpoint.
type GrantRule struct {
	Type GrantType

	// Registrable reports whether a client may choose the grant type in its registration or metadata document. If not,
	// only an operator can give it to a client.
	Registrable bool
	// Authenticated reports whether only clients that authenticate may use it, and not public ones.
	Authenticated bool
	// Redirect reports whether it begins at the authorization endpoint, so that the client needs a redirect URI.
	Redirect bool
	// Follows reports whether it continues another grant type and cannot be used without one.
	Follows bool
	// OwnName reports whether its tokens are for the client itself, without a person. An operator sets the resources
	// for which the client may have them.
	OwnName bool
	// Stateless reports whether it writes only its audit event, and so needs no transaction.
	Stateless bool
}

// grantRules is the table of grant types, in the order in which they are listed. Each has a row here and a file in
// internal/token that is named after it.
var grantRules = []GrantRule{
	{Type: AuthorizationCode, Registrable: true, Redirect: true},
	{Type: RefreshToken, Registrable: true, Follows: true},
	{Type: ClientCredentials, Authenticated: true, OwnName: true, Stateless: true},
}

// GrantTypes returns the supported grant types, in the order in which they are listed.
func GrantTypes() []GrantType {
	types := make([]GrantType, len(grantRules))
	for i, rule := range grantRules {
		types[i] = rule.Type
	}
	return types
}

// Rule returns the rules of the grant type; ok reports whether it is supported.
func (g GrantType) Rule() (rule GrantRule, ok bool) {
	i := slices.IndexFunc(grantRules, func(rule GrantRule) bool { return rule.Type == g })
	if i < 0 {
		return GrantRule{}, false
	}
	return grantRules[i], true
}

// AnyGrant reports whether at least one of the grant types is supported and has a rule for which holds returns true.
func AnyGrant(types []GrantType, holds func(GrantRule) bool) bool {
	return slices.ContainsFunc(types, func(g GrantType) bool {
		rule, ok := g.Rule()
		return ok && holds(rule)
	})
}
