package gateway

import (
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/scope"
)

// Rule says what calls of the tools, resources or prompts that match one of its patterns need.
type Rule struct {
	kind      kind
	patterns  []string
	matches   []*regexp.Regexp // patterns, compiled
	scopes    scope.Set
	arguments map[string]argument
	line      int
}

// kind is what a rule is about: the key of its patterns.
type kind string

const (
	tools     kind = "tools"
	resources kind = "resources"
	prompts   kind = "prompts"
)

// argument is what an argument of a call must be.
type argument struct {
	prefix string   // it is this path, or one below it; empty: anything
	in     []string // it is one of these values, as plainValue writes them; nil: anything
}

func readRules(n *yaml.Node, key string) (rules []*Rule, err error) {
	if n.Kind != yaml.SequenceNode {
		return nil, faultAt(n, "%s must be a list", key)
	}
	for i, item := range n.Content {
		rule, err := readRule(item, fmt.Sprintf("%s[%d].", key, i))
		if err != nil {
			return nil, err
		}
		for _, earlier := range rules {
			if hidden := earlier.hides(rule); hidden != "" {
				return nil, faultAt(item,
					"the rule can never decide about %q, because that of line %d does; move it up, or delete it",
					hidden, earlier.line)
			}
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

func readRule(n *yaml.Node, path string) (*Rule, error) {
	r := &Rule{line: n.Line}
	var scopes []string
	patterns := func(k kind) func(*yaml.Node, string) error {
		return func(n *yaml.Node, key string) error {
			if r.kind != "" {
				return faultAt(n, "%s and %s are in one rule; write two rules", key, r.kind)
			}
			r.kind = k
			return texts(&r.patterns)(n, key)
		}
	}
	err := members(n, path, fields{
		"tools": patterns(tools), "resources": patterns(resources), "prompts": patterns(prompts),
		"scopes": texts(&scopes),
		"arguments": func(n *yaml.Node, key string) (err error) {
			r.arguments, err = readArguments(n, key)
			return err
		},
	})
	switch {
	case err != nil:
		return nil, err
	case len(r.patterns) == 0:
		return nil, faultAt(n, "%s has no tools, resources or prompts that it is about", whole(path))
	case slices.ContainsFunc(r.patterns,
		func(p string) bool { return p == "" || strings.ContainsFunc(p, unicode.IsControl) }):
		return nil, faultAt(n, "%s.%s has a name that is empty or has a control character", whole(path), r.kind)
	case scopes == nil:
		return nil, faultAt(n, "%sscopes is missing; scopes: [] opens it to every valid token", path)
	case r.arguments != nil && r.kind == resources:
		return nil, faultAt(n, "%sarguments: resources have none", path)
	}
	for _, name := range scopes {
		if !scope.Valid(name) {
			return nil, faultAt(n, "%sscopes: %q is not a scope name", path, name)
		}
	}
	if r.kind == resources {
		for _, pattern := range r.patterns {
			if plain, ok := plainURI(pattern); !ok || plain != pattern {
				return nil, faultAt(n, "%sresources: %q can never match, because URIs are judged after decoding and "+
					"removal of dot segments", path, pattern)
			}
		}
	}
	for _, pattern := range r.patterns {
		r.matches = append(r.matches, compile(pattern, r.kind == resources))
	}
	r.scopes = scope.Of(scopes...)
	return r, nil
}

func readArguments(n *yaml.Node, key string) (map[string]argument, error) {
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		return nil, faultAt(n, "%s must be arguments with what they must be", key)
	}
	arguments := map[string]argument{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, item := n.Content[i].Value, n.Content[i+1]
		if _, twice := arguments[name]; twice {
			return nil, faultAt(item, "%s.%s is there twice", key, name)
		}
		var a argument
		err := members(item, key+"."+name+".", fields{
			"prefix": text(&a.prefix),
			"in": func(n *yaml.Node, key string) error {
				if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
					return faultAt(n, "%s must be a list of the values that are allowed", key)
				}
				for _, item := range n.Content {
					encoded, err := jsonOf(item)
					if err != nil {
						return faultAt(item, "%s must have strings, numbers, true, false or null", key)
					}
					a.in = append(a.in, plainValue(encoded))
				}
				return nil
			},
		})
		switch plain := strings.TrimSuffix(a.prefix, "/"); {
		case err != nil:
			return nil, err
		case a.prefix == "" && a.in == nil, a.prefix != "" && a.in != nil:
			return nil, faultAt(item, "%s.%s needs either prefix or in", key, name)
		case a.prefix != "" && plain != "" && path.Clean(plain) != plain:
			return nil, faultAt(item,
				"%s.%s.prefix is %q, which can never match, because paths must be clean; write %q",
				key, name, a.prefix, path.Clean(a.prefix))
		}
		arguments[name] = a
	}
	return arguments, nil
}

// hides returns a pattern of later that never decides, because r, which comes before it, matches all that it matches,
// or "".
func (r *Rule) hides(later *Rule) string {
	if r.kind != later.kind {
		return ""
	}
	for _, pattern := range later.patterns {
		if slices.ContainsFunc(r.patterns, func(mine string) bool {
			return mine == pattern || mine == "**" || mine == "*" && r.kind != resources
		}) {
			return pattern
		}
	}
	return ""
}

// rule returns the first rule about what is named, or nil.
func (s *Server) rule(k kind, name string) *Rule {
	for _, r := range s.Rules {
		if r.kind == k && slices.ContainsFunc(r.matches, func(m *regexp.Regexp) bool { return m.MatchString(name) }) {
			return r
		}
	}
	return nil
}

// verdict is what the rules say of a call: whether it is open at all, which scopes it needs, and, if a rule decides,
// which one.
type verdict struct {
	rule   *Rule
	open   bool
	scopes scope.Set
	why    string // it is closed although a rule may name it; "" for no rule
}

// judge returns what the rules say of a tool, prompt or resource. It decides about calls and about what lists show, so
// that nothing is shown that cannot be called.
func (s *Server) judge(k kind, name string) verdict {
	if k == resources {
		plain, ok := plainURI(name)
		if !ok {
			return verdict{}
		}
		name = plain
	}
	if k != resources && (strings.TrimSpace(name) != name || strings.ContainsFunc(name, hidden)) {
		return verdict{why: "Its name has a character that nobody can see."}
	}
	if k == tools {
		if why := s.unreviewed(name); why != "" {
			return verdict{why: why}
		}
	}
	if r := s.rule(k, name); r != nil {
		return verdict{rule: r, open: true, scopes: r.scopes}
	}
	if k == tools && s.reviewed != nil {
		return verdict{open: true, scopes: s.reviewed.tools[name].scopes}
	}
	return verdict{open: s.Default}
}

// hidden reports whether nobody can see c in a name. A pattern must not open a name that looks like another.
func hidden(c rune) bool {
	return !unicode.IsPrint(c) || unicode.In(c, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

// plainURI returns a URI as it is judged: decoded. It reports false if a server could take it for another one, because
// it has dot segments, a character that is encoded twice, a backslash or a control character, or because its scheme or
// host has capital letters.
func plainURI(uri string) (plain string, ok bool) {
	plain, err := url.PathUnescape(uri)
	if err != nil || strings.ContainsRune(plain, '\\') || strings.ContainsFunc(plain, unicode.IsControl) {
		return "", false
	}
	if again, err := url.PathUnescape(plain); err == nil && again != plain {
		return "", false
	}
	start, rest, _ := strings.Cut(plain, "://")
	host, _, _ := strings.Cut(rest, "/")
	if scheme, _, found := strings.Cut(start, ":"); found {
		start = scheme
	}
	if strings.ToLower(start) != start || strings.ToLower(host) != host {
		return "", false
	}
	for _, segment := range strings.FieldsFunc(plain, func(c rune) bool { return strings.ContainsRune("/?#", c) }) {
		if name, _, _ := strings.Cut(segment, ";"); isDots(name) {
			return "", false
		}
	}
	return plain, true
}

// isDots reports whether a segment of a path means its folder, or the one above, perhaps only where spaces at the end
// of a name are dropped, as on Windows.
func isDots(segment string) bool {
	segment = strings.TrimRight(segment, " ")
	return segment == "." || segment == ".."
}

// compile returns a pattern as a regular expression, whose work is bounded by the length of the name. In a pattern, *
// matches any run of characters. In that of a URI, * stops at a slash, and ** does not.
func compile(pattern string, uri bool) *regexp.Regexp {
	const far = "\x00" // no name has it
	one := ".*"
	if uri {
		one = "[^/]*"
	}
	quoted := regexp.QuoteMeta(strings.ReplaceAll(pattern, "**", far))
	return regexp.MustCompile("^(?s:" + strings.NewReplacer(`\*`, one, far, ".*").Replace(quoted) + ")$")
}

// violated returns the name of an argument of the call m that r does not allow, or "".
func (r *Rule) violated(m guard.Message) string {
	for name, want := range r.arguments {
		value, err := m.Param("arguments", name)
		if err != nil || value == nil || !want.allows(value) {
			return name
		}
	}
	return ""
}

// allows reports whether a is met by a value in JSON.
func (a argument) allows(value []byte) bool {
	if a.in != nil {
		return slices.Contains(a.in, plainValue(value))
	}
	var v any
	if json.Unmarshal(value, &v) != nil {
		return false
	}
	s, isString := v.(string)
	folder := strings.TrimSuffix(a.prefix, "/")
	switch {
	case !isString || strings.ContainsRune(s, '\\') || strings.ContainsFunc(s, unicode.IsControl):
		return false
	case path.Clean(s) != s && path.Clean(s)+"/" != s, slices.ContainsFunc(strings.Split(s, "/"), isDots):
		return false
	}
	return strings.TrimSuffix(s, "/") == folder || strings.HasPrefix(s, folder+"/")
}
