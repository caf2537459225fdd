package identity

import (
	"net/mail"
	"strings"
	"unicode"

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

// SameMailbox reports whether two addresses are one mailbox, perhaps in other letter cases or forms of the same
// letters. It is stricter than an equal EmailKey, for which ß is ss: what one party has verified of the one is not true
// of the other. It returns false if Email refuses one of them.
func SameMailbox(a, b string) bool {
	a, ok := Email(a)
	b, also := Email(b)
	return ok && also && EmailKey(a) == EmailKey(b) &&
		strings.EqualFold(a[:strings.LastIndexByte(a, '@')], b[:strings.LastIndexByte(b, '@')])
}

// DomainsOf returns domains in their ASCII form as people write them: in their Unicode form, with "or" between them.
func DomainsOf(domains []string) string {
	names := make([]string, len(domains))
	for i, domain := range domains {
		names[i] = domain
		if name, err := idna.Lookup.ToUnicode(domain); err == nil {
			names[i] = name
		}
	}
	return strings.Join(names, " or ")
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

// MaxEmail is the length of the longest e-mail address that is accepted, in bytes: 64 before the @ and 255 after it
// (RFC 5321 §4.5.3.1).
const MaxEmail = 320

// Email returns the form in which an address that a person typed is stored and written to: trimmed and NFKC-normalized,
// because otherwise mail could go to another mailbox than that of the account with the same EmailKey. It returns false
// if the text is not an address. It takes internationalized addresses (RFC 6531 §3.3), but none that mixes alphabets
// with letters that look alike, because people could not tell it from another.
func Email(typed string) (string, bool) {
	email := strings.TrimSpace(norm.NFKC.String(strings.TrimSpace(typed)))
	a, err := mail.ParseAddress(email)
	if err != nil || a.Address != email || len(email) > MaxEmail || strings.ContainsFunc(email, invisible) {
		return "", false
	}
	at := strings.LastIndexByte(email, '@')
	domain, err := idna.Lookup.ToASCII(email[at+1:])
	if err != nil || strings.Contains(domain, "..") {
		return "", false
	}
	if domain, err = idna.Lookup.ToUnicode(domain); err != nil {
		return "", false
	}
	for _, part := range append(strings.Split(domain, "."), email[:at]) {
		if mixed(part) {
			return "", false
		}
	}
	return email, true
}

// invisible reports whether a character of an address could not be seen.
func invisible(r rune) bool { return !unicode.IsPrint(r) || unicode.Is(unicode.Cf, r) }

// lookalikes are the alphabets that have letters of the same shape.
var lookalikes = []*unicode.RangeTable{unicode.Latin, unicode.Greek, unicode.Cyrillic, unicode.Armenian,
	unicode.Cherokee, unicode.Coptic}

// mixed reports whether a text has letters of more than one of the lookalikes (UTS 39 §5.2).
func mixed(text string) bool {
	found := 0
	for _, alphabet := range lookalikes {
		if strings.ContainsFunc(text, func(r rune) bool { return unicode.Is(alphabet, r) }) {
			found++
		}
	}
	return found > 1
}

// Fold returns the form of a text in which all its spellings are the same: trimmed, NFKC-normalized and case-folded.
func Fold(text string) string {
	return strings.TrimSpace(cases.Fold().String(norm.NFKC.String(strings.TrimSpace(text))))
}
