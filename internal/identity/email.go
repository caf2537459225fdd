package identity

import (
	"strings"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// EmailKey returns the form of an e-mail address in which accounts are looked
// up and sign-ins counted: trimmed, NFKC, case folded. It does not tell whether
// the address is one.
func EmailKey(email string) string {
	return strings.TrimSpace(cases.Fold().String(norm.NFKC.String(strings.TrimSpace(email))))
}
