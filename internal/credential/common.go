package credential

import (
	_ "embed"
	"strings"
	"sync"
)

//go:embed common.txt
var commonText string

// common are the passwords that many people use, in lower case.
var common = sync.OnceValue(func() map[string]struct{} {
	_, list, _ := strings.Cut(commonText, "\n\n")
	all := map[string]struct{}{}
	for password := range strings.Lines(list) {
		all[strings.TrimSuffix(password, "\n")] = struct{}{}
	}
	return all
})

// isCommon reports whether many people use the password, in any case: it is one of those that are guessed first (NIST
// SP 800-63B-4 §3.1.1.2).
func isCommon(password string) bool {
	_, ok := common()[strings.ToLower(password)]
	return ok
}
