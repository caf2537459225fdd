package guard

import (
	"fmt"

	"github.com/cardea-auth/cardea/scope"
)

// checkScopes returns an error if known is not empty and does not cover one of names. No token for this server could
// ever have that scope, so it is a mistake; the error names the most similar member of known.
func checkScopes(known scope.Set, names ...string) error {
	if len(known) == 0 {
		return nil
	}
	for _, name := range known.Missing(names...) {
		return fmt.Errorf("%q is not among Scopes; did you mean %q?", name, scope.Nearest(name, known))
	}
	return nil
}
