package guard

import (
	"fmt"
	"slices"

	"github.com/cardea-auth/cardea/scope"
)

// checkScopes returns an error if known is not empty and does not cover one of names. No token for this server could
// ever have that scope, so it is a mistake; the error names the most similar member of known.
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

// distance returns how many bytes must be added, removed or changed to turn a into b.
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
