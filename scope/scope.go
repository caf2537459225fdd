// Package scope has the names of what a token allows: scope names, sets of them, and wildcards.
//
// A scope name is an RFC 6749 §3.3 scope-token, by convention segments joined by colons, the widest first:
// "mcp:tools:calendar:read". A name that ends in ":*" is a wildcard and covers every name below its prefix,
// however deep: "mcp:tools:*" covers "mcp:tools:weather" and "mcp:tools:calendar:read".
package scope

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	maxName  = 256 // bytes in one name
	maxNames = 256 // names in one parameter
)

// ErrSyntax means that a scope parameter is not a list of scope names (RFC 6749 §3.3), or is longer than 256 names of
// 256 bytes.
var ErrSyntax = errors.New("scope: not a list of scope names")

// Set is an ordered set of scope names. Nil is the empty set. Make one with [Of] or [Parse]; the methods never change
// the sets they are called on.
type Set []string

// Of returns the set of names in the order given, without duplicates and empty strings. It does not check the names.
func Of(names ...string) Set {
	var s Set
	for _, name := range names {
		if name != "" && !s.Has(name) {
			s = append(s, name)
		}
	}
	return s
}

// Parse parses a scope parameter: names separated by spaces (RFC 6749 §3.3). It ignores additional spaces and repeated
// names; the empty string is the empty set. The error is [ErrSyntax].
func Parse(s string) (Set, error) {
	var set Set
	n := 0
	for name := range strings.SplitSeq(s, " ") {
		if name == "" {
			continue
		}
		n++
		switch {
		case n > maxNames:
			return nil, fmt.Errorf("%w: more than %d names", ErrSyntax, maxNames)
		case len(name) > maxName:
			return nil, fmt.Errorf("%w: name %d is longer than %d bytes", ErrSyntax, n, maxName)
		case !Valid(name):
			return nil, fmt.Errorf("%w: name %d has a character that RFC 6749 does not allow", ErrSyntax, n)
		}
		if !set.Has(name) {
			set = append(set, name)
		}
	}
	return set, nil
}

// Valid reports whether name is a scope-token of RFC 6749 §3.3: 1 to 256 printable ASCII characters without space,
// quotation mark and backslash.
func Valid(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// String returns the names joined by single spaces, as in a scope parameter.
func (s Set) String() string { return strings.Join(s, " ") }

// Has reports whether name itself is a member. Wildcards are not considered.
func (s Set) Has(name string) bool { return slices.Contains(s, name) }

// Covers reports whether the set allows name: it is a member, or a wildcard member covers it. The wildcard "mcp:*"
// covers "mcp:a", "mcp:a:b" and "mcp:a:*", but neither "mcp" nor "mcp:"; "*" alone covers only itself. The empty name
// is never covered.
func (s Set) Covers(name string) bool {
	if name == "" {
		return false
	}
	for _, member := range s {
		if member == name || below(member, name) {
			return true
		}
	}
	return false
}

// below reports whether member is a wildcard and name lies at least one segment below its prefix.
func below(member, name string) bool {
	prefix, wild := strings.CutSuffix(member, ":*")
	if !wild || prefix == "" {
		return false
	}
	rest, found := strings.CutPrefix(name, prefix)
	return found && len(rest) > 1 && rest[0] == ':' && rest[1] != ':'
}

// CoversAll reports whether the set covers every name. It is true if there are no names.
func (s Set) CoversAll(names ...string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return !s.Covers(name) })
}

// CoversAny reports whether the set covers at least one name. It is false if there are no names.
func (s Set) CoversAny(names ...string) bool { return slices.ContainsFunc(names, s.Covers) }

// Missing returns the names that the set does not cover, in their order.
func (s Set) Missing(names ...string) Set {
	var missing Set
	for _, name := range names {
		if name != "" && !s.Covers(name) && !missing.Has(name) {
			missing = append(missing, name)
		}
	}
	return missing
}

// Intersect returns the members of s that are members of o, in the order of s. Wildcards are not considered.
func (s Set) Intersect(o Set) Set {
	var both Set
	for _, name := range s {
		if o.Has(name) {
			both = append(both, name)
		}
	}
	return both
}

// Union returns the members of s and after them those of o that s lacks.
func (s Set) Union(o Set) Set { return Of(slices.Concat(s, o)...) }

// Minus returns the members of s that are not members of o. Wildcards are not considered.
func (s Set) Minus(o Set) Set {
	var rest Set
	for _, name := range s {
		if !o.Has(name) {
			rest = append(rest, name)
		}
	}
	return rest
}

// SubsetOf reports whether every member of s is a member of o. Wildcards are not considered.
func (s Set) SubsetOf(o Set) bool {
	return !slices.ContainsFunc(s, func(name string) bool { return !o.Has(name) })
}

// Nearest returns the known name that takes the fewest changes to become name, the first of several, or "" if there is
// none. An error about an unknown name says with it which one may be meant.
func Nearest(name string, known []string) string {
	best, least := "", 0
	for i, candidate := range known {
		d := distance(candidate, name)
		if d > 1 && slices.Contains(strings.FieldsFunc(candidate, separates), name) {
			d = 1 // who types a word of a name means that name, however long it is
		}
		if i == 0 || d < least {
			best, least = candidate, d
		}
	}
	return best
}

// separates reports whether c stands between the words of a name.
func separates(c rune) bool { return strings.ContainsRune(":_-./", c) }

// distance returns how many bytes must be added, removed or changed to turn a into b. It compares the first 64 bytes of
// both, so that a long name costs no more than a short one.
func distance(a, b string) int {
	a, b = a[:min(len(a), 64)], b[:min(len(b), 64)]
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
