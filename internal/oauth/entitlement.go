package oauth

import (
	"slices"
	"strings"

	"github.com/cardea-auth/cardea/scope"
)

// Limiting returns the names of all groups to which r or one of its scopes is limited, in alphabetical order.
func (r *Resource) Limiting() []string {
	names := slices.Clone(r.Groups)
	for _, s := range r.Scopes {
		names = append(names, s.Groups...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Admits reports whether a person in groups may use r at all: it is not limited to groups, or to one of these.
func (r *Resource) Admits(groups []string) bool { return within(r.Groups, groups) }

// within reports whether limit is empty, or has one of groups.
func within(limit, groups []string) bool {
	return len(limit) == 0 ||
		slices.ContainsFunc(limit, func(name string) bool { return slices.Contains(groups, name) })
}

// entitles reports whether a person in groups may have the scope: every scope of r that covers it, or that it covers,
// is for everybody or for one of these groups.
func (r *Resource) entitles(groups []string, name string) bool {
	for _, s := range r.Scopes {
		if !within(s.Groups, groups) && (scope.Of(s.Name).Covers(name) || scope.Of(name).Covers(s.Name)) {
			return false
		}
	}
	return true
}

// EntitledTo returns those of scopes that a person in groups may have at r. A wildcard that covers a scope which is not
// for that person is replaced by the scopes of r below it that are.
func (r *Resource) EntitledTo(groups []string, scopes scope.Set) scope.Set {
	var left scope.Set
	for _, name := range scopes {
		switch {
		case r.entitles(groups, name):
			left = append(left, name)
		case strings.HasSuffix(name, ":*"):
			for _, below := range r.ScopeNames() {
				if below != name && scope.Of(name).Covers(below) && r.entitles(groups, below) {
					left = append(left, below)
				}
			}
		}
	}
	return scope.Of(left...)
}
