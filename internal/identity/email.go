package identity

import (
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// EmailKey returns the form of an e-mail address by which accounts are looked up and sign-ins counted: trimmed,
// NFKC-normalized, case-folded, and with the domain in its ASCII form (RFC 5891 §4.4), because that is what browsers
// send for an internationalized domain. It does not check that the address is valid.
func EmailKey(email string) string {
	email = strings.TrimSpace(norm.NFKC.String(strings.TrimSpace(email)))
	if at := strings.LastIndexByte(email, '@'); at >= 0 {
		if domain, err := idna.Lookup.ToASCII(email[at+1:]); err == nil { // case folding would turn ß into ss
			return Fold(email[:at+1]) + domain
		}
	}
	return Fold(email)
}

// OldEmailKey returns the key that earlier versions stored, with the domain in its Unicode form. It differs from
// EmailKey only for internationalized domains.
func OldEmailKey(email string) string {
	if at := strings.LastIndexByte(email, '@'); at >= 0 {
		if domain, err := idna.Lookup.ToUnicode(email[at+1:]); err == nil {
			email = email[:at+1] + domain
		}
	}
	return Fold(email)
}

// Fold returns the form of a text in which all its spellings are the same: trimmed, NFKC-normalized and case-folded.
func Fold(text string) string {
	return strings.TrimSpace(cases.Fold().String(norm.NFKC.String(strings.TrimSpace(text))))
}
