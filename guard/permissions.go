package guard

import (
	"slices"

	"github.com/cardea-auth/cardea/scope"
)

// Permissions names for each scope what it allows inside an MCP server, in the server's own words.
type Permissions map[string][]string

// Of returns the permissions of all scopes that granted covers, sorted and without duplicates. The wildcard
// "mcp:tools:*" brings those of every scope below it.
func (p Permissions) Of(granted scope.Set) []string {
	var allowed []string
	for name, permissions := range p {
		if granted.Covers(name) {
			allowed = append(allowed, permissions...)
		}
	}
	slices.Sort(allowed)
	return slices.Compact(allowed)
}

// Allows reports whether permission is among those of granted.
func (p Permissions) Allows(granted scope.Set, permission string) bool {
	return slices.Contains(p.Of(granted), permission)
}
