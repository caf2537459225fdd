// Package scope knows the names of OAuth scopes: how they are written (RFC 6749
// §3.3), which of them a wildcard covers, and how sets of them are compared.
package scope

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Bounds of what Parse accepts: bytes of one name, and names in one list.
const (
	maxName  = 256
	maxNames = 256
)

// ErrSyntax is in the error of Parse for text that is no list of scope names.
var ErrSyntax = errors.New("not a list of scope names separated by spaces")

// Set is a set of scope names in the order in which they were given. The nil Set
// is empty. Make one with Of or Parse, which drop duplicates.
type Set []string

// Of returns the set of the names, without duplicates and empty strings.
func Of(names ...string) Set {
	var s Set
	for _, name := range names {
		if name != "" && !s.Has(name) {
			s = append(s, name)
		}
	}
	return s
}

// Valid tells whether name is a scope-token of RFC 6749 §3.3: printable ASCII
// without space, quotation mark and backslash, 1 to 256 bytes.
func Valid(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// Parse reads a space-delimited list of scope names (RFC 6749 §3.3). Spaces too
// many do no harm, "" is the empty set. Its error is an ErrSyntax.
func Parse(list string) (Set, error) {
	if len(list) > maxNames*(maxName+1) {
		return nil, fmt.Errorf("%w: too long", ErrSyntax)
	}
	var s Set
	for name := range strings.SplitSeq(list, " ") {
		switch {
		case name == "" || s.Has(name):
		case !Valid(name):
			return nil, fmt.Errorf("%w: %.40q cannot be a name", ErrSyntax, name)
		case len(s) == maxNames:
			return nil, fmt.Errorf("%w: more than %d names", ErrSyntax, maxNames)
		default:
			s = append(s, name)
		}
	}
	return s, nil
}

// String returns the names joined by spaces, as they stand on the wire.
func (s Set) String() string { return strings.Join(s, " ") }

// Has tells whether name is a member, letter for letter.
func (s Set) Has(name string) bool { return slices.Contains(s, name) }

// Covers tells whether name is a member or falls under a wildcard: a member that
// ends in ":*" covers every name with that prefix, one or more segments deeper.
// "mcp:*" covers "mcp:a" and "mcp:a:b", but neither "mcp" nor "mcp:".
func (s Set) Covers(name string) bool {
	for _, member := range s {
		if member == name {
			return true
		}
		if prefix, ok := strings.CutSuffix(member, "*"); ok && len(prefix) > 1 && strings.HasSuffix(prefix, ":") &&
			len(name) > len(prefix) && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// CoversAll tells whether each of the names is covered.
func (s Set) CoversAll(names ...string) bool { return len(s.Missing(names...)) == 0 }

// CoversAny tells whether at least one of the names is covered.
func (s Set) CoversAny(names ...string) bool { return slices.ContainsFunc(names, s.Covers) }

// Missing returns those of the names that are not covered.
func (s Set) Missing(names ...string) Set {
	var missing Set
	for _, name := range names {
		if !s.Covers(name) && !missing.Has(name) {
			missing = append(missing, name)
		}
	}
	return missing
}

// Intersect returns the members that are in o too, letter for letter.
func (s Set) Intersect(o Set) Set {
	return s.filter(o.Has)
}

// Minus returns the members that are not in o, letter for letter.
func (s Set) Minus(o Set) Set {
	return s.filter(func(name string) bool { return !o.Has(name) })
}

// Union returns the members of s, and then those of o that are new.
func (s Set) Union(o Set) Set {
	return Of(slices.Concat(s, o)...)
}

// SubsetOf tells whether every member is in o too, letter for letter.
func (s Set) SubsetOf(o Set) bool { return len(s.Minus(o)) == 0 }

func (s Set) filter(keep func(string) bool) Set {
	var kept Set
	for _, name := range s {
		if keep(name) {
			kept = append(kept, name)
		}
	}
	return kept
}
