package declare

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/scope"
)

// MaxBytes is the largest size of a file.
const MaxBytes = 4 << 20

// maxFaults is the largest number of faults that Read and Apply tell.
const maxFaults = 50

// Read reads a file. It takes nothing for granted: an unknown, repeated or wrongly written member is a fault, and so
// are two records of one name. The error is Faults.
func Read(text []byte) (*File, error) {
	r, f := new(reader), new(File)
	if document := r.parse(text); document != nil {
		r.value(reflect.ValueOf(f).Elem(), document, "the file")
		r.check(f)
	}
	if len(r.faults) > 0 {
		return nil, r.sorted()
	}
	return f, nil
}

// reader collects the faults of a file.
type reader struct{ faults Faults }

func (r *reader) fault(line int, format string, args ...any) {
	r.faults = append(r.faults, Fault{line, fmt.Sprintf(format, args...)})
}

// sorted returns the faults by line, without those that are too many.
func (r *reader) sorted() Faults {
	slices.SortStableFunc(r.faults, func(a, b Fault) int { return a.Line - b.Line })
	if n := len(r.faults); n > maxFaults {
		rest := Fault{r.faults[maxFaults].Line, fmt.Sprintf("%d more from here on", n-maxFaults)}
		r.faults = append(r.faults[:maxFaults:maxFaults], rest)
	}
	return r.faults
}

// syntaxLine is how the YAML library tells a line.
var syntaxLine = regexp.MustCompile(`^line (\d+): `)

// parse returns the only document of a file, or nil and a fault.
func (r *reader) parse(text []byte) *yaml.Node {
	if len(text) > MaxBytes {
		r.fault(1, "the file has more than %d MB; split it, and apply the parts without --prune", MaxBytes>>20)
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document, second yaml.Node
	err := decoder.Decode(&document)
	if err == nil {
		err = decoder.Decode(&second)
	}
	switch {
	case errors.Is(err, io.EOF) && document.Kind == 0:
		r.fault(1, "the file is empty; it begins with version: 1, and cardea export writes one")
	case errors.Is(err, io.EOF):
		if r.plain(document.Content[0]) {
			return document.Content[0]
		}
	case err == nil:
		r.fault(second.Line, "a second document begins here; write everything into one")
	default:
		why, line := strings.TrimPrefix(err.Error(), "yaml: "), 1
		if m := syntaxLine.FindStringSubmatch(why); m != nil {
			line, _ = strconv.Atoi(m[1]) // digits
			why = why[len(m[0]):]
		}
		r.fault(line, "this is not YAML: %s%s", why, remedy(text, line))
	}
	return nil
}

// remedy returns what usually helps if a line is not YAML, which may have gone wrong in the line before, or "".
func remedy(text []byte, line int) string {
	lines := strings.Split(string(text), "\n")
	for _, at := range []int{line - 1, line} {
		if at > 0 && at <= len(lines) && strings.HasPrefix(strings.TrimLeft(lines[at-1], " "), "\t") {
			return "; indent with spaces, not with tabs"
		}
	}
	return "; begin the members of one item in the same column, and quote a text that has a colon or begins with a " +
		"special character"
}

// plain reports whether node has no aliases, because a few lines of them can stand for any amount of text.
func (r *reader) plain(node *yaml.Node) bool {
	if node.Kind == yaml.AliasNode || node.Tag == "!!merge" {
		r.fault(node.Line, "aliases (*) and merge keys (<<) are not read; write the value out")
		return false
	}
	for _, child := range node.Content {
		if !r.plain(child) {
			return false
		}
	}
	return true
}

// value reads node, which is called what in errors, into v.
func (r *reader) value(v reflect.Value, node *yaml.Node, what string) {
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return // as if it were not there
	}
	switch to := v.Addr().Interface().(type) {
	case *Span:
		d, err := time.ParseDuration(node.Value)
		if node.Kind != yaml.ScalarNode || err != nil || d < 0 || d%time.Second != 0 {
			r.fault(node.Line, "%s must be a length of time in whole seconds; write it like 90s, 10m, 1h30m or 720h",
				what)
			return
		}
		*to = Span(d)
		return
	case *Keys:
		text, err := asJSON(node, 0)
		if err != nil || node.Kind != yaml.MappingNode {
			r.fault(node.Line, "%s must be a JSON Web Key Set (RFC 7517): keys, and below it a list", what)
		}
		*to = Keys(text)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		r.mapping(v, node, what)
	case reflect.Slice:
		if node.Kind != yaml.SequenceNode {
			r.fault(node.Line, "%s must be a list; begin each of its items with a dash", what)
			return
		}
		list := reflect.MakeSlice(v.Type(), len(node.Content), len(node.Content))
		for i, item := range node.Content {
			r.value(list.Index(i), item, "an item of "+what)
			if list.Index(i).IsZero() && item.Tag == "!!null" {
				r.fault(item.Line, "an item of %s is empty; remove it", what)
			}
		}
		v.Set(list)
	case reflect.Pointer:
		to := reflect.New(v.Type().Elem())
		r.value(to.Elem(), node, what)
		v.Set(to)
	case reflect.String:
		if node.Kind != yaml.ScalarNode || node.Tag != "!!str" {
			r.fault(node.Line, "%s must be text; put it in quotes", what)
			return
		}
		if strings.ContainsRune(node.Value, 0) { // PostgreSQL cannot store it
			r.fault(node.Line, "%s has the character U+0000; remove it", what)
			return
		}
		v.SetString(node.Value)
	case reflect.Bool:
		if node.Kind != yaml.ScalarNode || node.Tag != "!!bool" {
			r.fault(node.Line, "%s must be true or false", what)
			return
		}
		v.SetBool(strings.EqualFold(node.Value, "true"))
	default: // reflect.Int: no member is of another kind
		n, err := strconv.Atoi(node.Value)
		if node.Kind != yaml.ScalarNode || node.Tag != "!!int" || err != nil {
			r.fault(node.Line, "%s must be a number", what)
			return
		}
		v.SetInt(int64(n))
	}
}

// mapping reads the members of a record into the fields of v that are tagged with their keys.
func (r *reader) mapping(v reflect.Value, node *yaml.Node, what string) {
	if node.Kind != yaml.MappingNode {
		r.fault(node.Line, "%s must have members, each written as name: value", what)
		return
	}
	keys := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		field := fieldOf(v, key.Value)
		switch first, again := keys[key.Value]; {
		case key.Kind != yaml.ScalarNode || !field.IsValid():
			r.fault(key.Line, "unknown key %.60q; the nearest known one is %q", key.Value,
				scope.Nearest(key.Value, keysOf(v.Type())))
		case again:
			r.fault(key.Line, "%s is given twice, first on line %d; remove one", key.Value, first)
		default:
			r.value(field, value, key.Value)
		}
		if _, again := keys[key.Value]; !again {
			keys[key.Value] = key.Line
		}
	}
	switch to := v.Addr().Interface().(type) {
	case *Group:
		to.at = place{node.Line, keys}
	case *Resource:
		to.at = place{node.Line, keys}
	case *Scope:
		to.at = place{node.Line, keys}
	case *Client:
		to.at = place{node.Line, keys}
	}
	for i := range v.NumField() {
		name := keyOf(v.Type().Field(i))
		if _, isID := v.Type().Field(i).Tag.Lookup("id"); isID && v.Field(i).IsZero() {
			r.fault(node.Line, "%s needs %s", what, name)
		}
	}
}

// keyOf returns the key of a field in the file, "" for none.
func keyOf(field reflect.StructField) string {
	key, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
	return key
}

func keysOf(record reflect.Type) (keys []string) {
	for i := range record.NumField() {
		if key := keyOf(record.Field(i)); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

// fieldOf returns the field with that key, or the zero Value.
func fieldOf(v reflect.Value, key string) reflect.Value {
	for i := range v.NumField() {
		if key != "" && keyOf(v.Type().Field(i)) == key {
			return v.Field(i)
		}
	}
	return reflect.Value{}
}

// check reports what only the whole file shows.
func (r *reader) check(f *File) {
	if f.Version != 0 && f.Version != version {
		r.fault(1, "version %d of the format is unknown; this program knows version %d", f.Version, version)
	}
	groups, resources, clients := map[string]int{}, map[string]int{}, map[string]int{}
	for _, g := range f.Groups {
		r.once(groups, "group", g.Name, g.at.of("name"))
		if g.Members != nil {
			r.distinct("members", *g.Members, g.at)
		}
	}
	for i := range f.Resources {
		d := &f.Resources[i]
		r.identifier(&d.Identifier, d.at.of("identifier"))
		r.once(resources, "resource", d.Identifier, d.at.of("identifier"))
		scopes := map[string]int{}
		for _, s := range d.Scopes {
			r.once(scopes, "scope", s.Name, s.at.of("name"))
		}
	}
	for i := range f.Clients {
		d := &f.Clients[i]
		r.once(clients, "client", d.ID, d.at.of("client_id"))
		for n := range d.Resources {
			r.identifier(&d.Resources[n], d.at.of("resources"))
		}
		for n := range d.ResourceServers {
			r.identifier(&d.ResourceServers[n], d.at.of("resource_servers"))
		}
		r.distinct("redirect_uris", d.RedirectURIs, d.at)
		r.distinct("grant_types", d.GrantTypes, d.at)
		r.distinct("resources", d.Resources, d.at)
		r.distinct("resource_servers", d.ResourceServers, d.at)
	}
}

// identifier makes an identifier canonical. Ids will not do, because another installation has others.
func (r *reader) identifier(identifier *string, line int) {
	if *identifier == "" {
		return
	}
	canonical, err := oauth.CheckIdentifier(*identifier)
	if refusal, refused := oauth.AsRefusal(err); refused {
		r.fault(line, "%s", refusal.Description)
		return
	}
	*identifier = canonical
}

func (r *reader) once(seen map[string]int, what, name string, line int) {
	if first, again := seen[name]; again && name != "" {
		r.fault(line, "the %s %.100q is declared twice, first on line %d; remove one", what, name, first)
		return
	}
	seen[name] = line
}

func (r *reader) distinct(key string, list []string, at place) {
	seen := make(map[string]bool, len(list))
	for _, item := range list {
		if seen[item] {
			r.fault(at.of(key), "%s has %.100q twice; remove one", key, item)
		}
		seen[item] = true
	}
}

// maxDepth is how deep a key set may be nested, because each level is written again by the one above it.
const maxDepth = 8

// asJSON returns the JSON of a node without aliases.
func asJSON(node *yaml.Node, depth int) (json.RawMessage, error) {
	var value any
	switch {
	case depth > maxDepth:
		return nil, errors.New("declare: nested too deeply")
	case node.Kind == yaml.ScalarNode && (node.Tag == "!!int" || node.Tag == "!!float") &&
		json.Valid([]byte(node.Value)):
		return json.RawMessage(node.Value), nil
	case node.Kind == yaml.ScalarNode && node.Tag == "!!str":
		value = node.Value
	case node.Kind == yaml.ScalarNode && (node.Tag == "!!bool" || node.Tag == "!!null"):
		if err := node.Decode(&value); err != nil {
			return nil, err
		}
	case node.Kind == yaml.SequenceNode:
		list := make([]json.RawMessage, len(node.Content))
		for i, item := range node.Content {
			text, err := asJSON(item, depth+1)
			if err != nil {
				return nil, err
			}
			list[i] = text
		}
		value = list
	case node.Kind == yaml.MappingNode:
		members := map[string]json.RawMessage{}
		for i := 0; i+1 < len(node.Content); i += 2 {
			key := node.Content[i].Value
			if _, again := members[key]; again || node.Content[i].Kind != yaml.ScalarNode {
				return nil, fmt.Errorf("declare: the member %q is given twice", key)
			}
			text, err := asJSON(node.Content[i+1], depth+1)
			if err != nil {
				return nil, err
			}
			members[key] = text
		}
		value = members
	default:
		return nil, errors.New("declare: not a value that JSON has")
	}
	return json.Marshal(value)
}
