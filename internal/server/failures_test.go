package server_test

import "testing"

// metadataPath is where clients look for the metadata first.
const metadataPath = "/.well-known/oauth-authorization-server"

// failures are what keeps MCP clients from connecting in the field, most frequent first. Each is met once, as the
// client would meet it; those that belong together share a file.
var failures = []struct {
	name string
	meet func(*testing.T)
}{
	{"01 loopback redirect matched with its port", loopbackPort},
	{"02 client forgotten", forgottenClient},
	{"03 issuer string mismatch", issuerMismatch},
	{"04 resource mismatch", resourceMismatch},
	{"05 metadata of an internal host behind a proxy", internalHost},
	{"06 well-known path wrong", wellKnownPaths},
	{"07 refresh rotation race", rotationRace},
	{"08 no refresh token", noRefreshToken},
	{"09 invalid_scope", scopesRefused},
	{"10 metadata documents advertised without the method none", documentsWithoutNone},
	{"11 metadata document validated too strictly", strictDocuments},
	{"12 metadata document cannot be fetched", unreachableDocument},
	{"13 registration rejected for one redirect", oneBadRedirect},
	{"14 registration response with null, empty or missing members", emptyMembers},
	{"15 registration blocked for a shared address", sharedAddress},
	{"16 neither registration nor metadata documents", noWayToRegister},
	{"17 Basic authentication handled wrongly", basicAuthentication},
	{"18 resource rejected or ignored", resourceIgnored},
	{"19 CORS missing, or preflight answered 401", missingCORS},
	{"20 CSP form-action blocks the redirect after consent", formAction},
	{"21 no usable challenge", noChallenge},
	{"22 PKCE support not advertised", pkceNotAdvertised},
	{"23 iss missing, unadvertised or different", issMissing},
	{"24 redirected or non-JSON endpoints", redirectedEndpoints},
	{"25 token issued but never used", unusedToken},
}

func TestFailures(t *testing.T) {
	for _, failure := range failures {
		t.Run(failure.name, failure.meet)
	}
}
