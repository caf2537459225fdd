package oauth

import (
	"slices"
	"strings"
)

// The authentication context classes, which say how a person signed in (RFC 9068 §2.2.1). A client that needs the
// second asks for it with acr_values (RFC 9470 §4).
const (
	ACROneFactor  = "aal1"
	ACRTwoFactors = "aal2"
)

// ACRs are the classes, the weakest first.
var ACRs = []string{ACROneFactor, ACRTwoFactors}

// ACR returns the class of a sign-in with the given methods (RFC 8176), or "" if there are none.
func ACR(amr []string) string {
	switch {
	case slices.Contains(amr, "mfa"):
		return ACRTwoFactors
	case len(amr) > 0:
		return ACROneFactor
	}
	return ""
}

// WantsTwoFactors reports whether acr_values, a list in the order of preference, asks for two factors rather than one
// (OpenID Connect Core §3.1.2.1). It ignores classes that are not known here.
func WantsTwoFactors(acrValues string) bool {
	for _, class := range strings.Fields(acrValues) {
		if slices.Contains(ACRs, class) {
			return class == ACRTwoFactors
		}
	}
	return false
}
