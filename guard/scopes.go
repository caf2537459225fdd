package guard

import (
	"fmt"
	"slices"

	"github.com/cardea-auth/cardea/scope"
)

// checkScopes returns an error if known is there and does not cover one of names: no token for this server could ever
// have it, so it is a mistake, and the error names the member of known that comes nearest.
func checkScopes(known scope.Set, names ...string) error {
	if len(known) == 0 {
		return nil
	}
	for _, name := range known.Missing(names...) {
		nearest := slices.MinFunc(known, func(a, b string) int { return distance(a, name) - distance(b, name) })
		return fmt.Errorf("%q is not among Scopes; did you mean %q?", name, nearest)
	}
	return nil
}

// distance returns how many characters have to be added, removed or changed to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, before+1, row[j]+1)
		}
	}
	return row[len(b)]
}
