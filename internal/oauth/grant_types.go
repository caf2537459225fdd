package oauth

import "slices"

// GrantType is a grant_type as it stands on the wire.
type GrantType string

// The grant types of the token endpoint.
const (
	AuthorizationCode GrantType = "authorization_code" // OAuth 2.1 §4.1
	RefreshToken      GrantType = "refresh_token"      // OAuth 2.1 §4.3
	ClientCredentials GrantType = "client_credentials" // OAuth 2.1 §4.2
)

// GrantRule is what holds for a grant type wherever clients have to do with it.
type GrantRule struct {
	Type GrantType

	// Registrable reports that a client may take the grant type by itself, by registration or metadata document; any
	// other is an operator's to give.
	Registrable bool
	// Authenticated reports that it is for clients that authenticate, never for public ones.
	Authenticated bool
	// Redirect reports that it begins at the authorization endpoint: the client needs a redirect URI.
	Redirect bool
	// Follows reports that it goes on with what another grant type began, and is of no use alone.
	Follows bool
	// OwnName reports that its tokens are for the client itself, without a person: an operator says for which resources.
	OwnName bool
	// Stateless reports that it writes nothing but its audit event, and so needs no transaction.
	Stateless bool
}

// grantRules is the table of grant types, in the order in which they are listed. A grant type is a row here and a file
// of internal/token that is named by its wire value.
var grantRules = []GrantRule{
	{Type: AuthorizationCode, Registrable: true, Redirect: true},
	{Type: RefreshToken, Registrable: true, Follows: true},
	{Type: ClientCredentials, Authenticated: true, OwnName: true, Stateless: true},
}

// GrantTypes returns the grant types that are served, in the order in which they are listed.
func GrantTypes() []GrantType {
	types := make([]GrantType, len(grantRules))
	for i, rule := range grantRules {
		types[i] = rule.Type
	}
	return types
}

// Rule returns what holds for the grant type; ok reports whether it is served.
func (g GrantType) Rule() (rule GrantRule, ok bool) {
	i := slices.IndexFunc(grantRules, func(rule GrantRule) bool { return rule.Type == g })
	if i < 0 {
		return GrantRule{}, false
	}
	return grantRules[i], true
}

// AnyGrant reports whether one of the grant types is served and has a rule for which holds reports true.
func AnyGrant(types []GrantType, holds func(GrantRule) bool) bool {
	return slices.ContainsFunc(types, func(g GrantType) bool {
		rule, ok := g.Rule()
		return ok && holds(rule)
	})
}
