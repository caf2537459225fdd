package oauth

import "slices"

// SigningAlgs are the algorithms that JWTs are signed with (RFC 7518 §3.1, RFC 8037 §3.1), in the order in which they
// are listed: the access tokens that are issued, and the assertions that are accepted.
var SigningAlgs = []string{"ES256", "RS256", "PS256", "EdDSA"}

// IsSigningAlg reports whether alg is one of SigningAlgs.
func IsSigningAlg(alg string) bool { return slices.Contains(SigningAlgs, alg) }
