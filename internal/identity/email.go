package identity

import (
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// EmailKey returns the form of an e-mail address in which accounts are looked
// up and sign-ins counted: trimmed, NFKC, case folded, and the domain in the form of
// DNS (RFC 5891 §4.4), which is what browsers send of one in another alphabet. It does
// not tell whether the address is one.
func EmailKey(email string) string {
	email = strings.TrimSpace(norm.NFKC.String(strings.TrimSpace(email)))
	if at := strings.LastIndexByte(email, '@'); at >= 0 {
		if domain, err := idna.Lookup.ToASCII(email[at+1:]); err == nil { // ß is not ss there
			return fold(email[:at+1]) + domain
		}
	}
	return fold(email)
}

// OldEmailKey returns what EmailKey made of an address before it knew the form of DNS:
// older accounts are stored by it. It is the same as EmailKey for most.
func OldEmailKey(email string) string {
	if at := strings.LastIndexByte(email, '@'); at >= 0 {
		if domain, err := idna.Lookup.ToUnicode(email[at+1:]); err == nil {
			email = email[:at+1] + domain
		}
	}
	return fold(email)
}

func fold(email string) string {
	return strings.TrimSpace(cases.Fold().String(norm.NFKC.String(strings.TrimSpace(email))))
}
