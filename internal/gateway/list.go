package gateway

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cardea-auth/cardea/scope"
)

// lists has the members of results that list what clients may call, with the member of an item that names it.
var lists = map[string]struct {
	kind kind
	name string
}{
	"tools":             {tools, "name"},
	"prompts":           {prompts, "name"},
	"resources":         {resources, "uri"},
	"resourceTemplates": {resources, "uriTemplate"},
}

// member is a member of a JSON object, as its bytes.
type member struct {
	name  string
	value jsontext.Value
}

// objectOf returns the members of the object in data, in their order, and whether data is an object without a member
// twice.
func objectOf(data []byte) (members []member, ok bool) {
	d := jsontext.NewDecoder(bytes.NewReader(data))
	if start, err := d.ReadToken(); err != nil || start.Kind() != '{' {
		return nil, false
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, false
		}
		key := name.String()
		value, err := d.ReadValue()
		if err != nil {
			return nil, false
		}
		members = append(members, member{key, value.Clone()})
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, false
	}
	_, err := d.ReadToken()
	return members, err == io.EOF //nolint:errorlint // the decoder returns it bare
}

func find(members []member, name string) jsontext.Value {
	for _, m := range members {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// writeObject returns the object that has members.
func writeObject(members []member) []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range members {
		if i > 0 {
			b.WriteByte(',')
		}
		name, _ := jsontext.AppendQuote(nil, m.name) // it was read as valid UTF-8
		b.Write(name)
		b.WriteByte(':')
		b.Write(m.value)
	}
	b.WriteByte('}')
	return b.Bytes()
}

// isBatch reports whether data is an array.
func isBatch(data []byte) bool {
	trimmed := bytes.TrimLeft(data, " \t\r\n")
	return len(trimmed) > 0 && trimmed[0] == '['
}

// eachOf returns the batch in data with what change makes of each message, and whether all can be read.
func eachOf(data []byte, change func([]byte) ([]byte, bool)) ([]byte, bool) {
	var batch []jsontext.Value
	if json.Unmarshal(data, &batch) != nil {
		return nil, false
	}
	for i, item := range batch {
		one, ok := change(item)
		if !ok {
			return nil, false
		}
		batch[i] = one
	}
	return append(append([]byte("["), bytes.Join(asBytes(batch), []byte(","))...), ']'), true
}

// visible returns what c's client may see of the answers in data, and whether they can be read. A batch may ask for
// several kinds of lists at once, and to a GET any list may come.
func (rt *route) visible(c *call, data []byte) (shown []byte, ok bool) {
	shown, ok = data, true
	if c.Method == http.MethodGet || c.has("tasks/list") {
		shown, ok = rt.ownTasks(c, shown)
	}
	if ok && (c.Method == http.MethodGet || c.has(listing...)) {
		shown, ok = rt.filtered(shown, c.token.Scopes)
	}
	return shown, ok
}

// filtered returns the messages in data with lists that have only what s lets a client with these scopes call, and
// whether data can be read. Every other byte stays as it is. A list that is filtered is private to its client, for
// caches (MCP 2026-07-28, "Caching").
func (s *Server) filtered(data []byte, scopes scope.Set) ([]byte, bool) {
	if isBatch(data) {
		return eachOf(data, func(one []byte) ([]byte, bool) { return s.filtered(one, scopes) })
	}
	message, ok := objectOf(data)
	if !ok {
		return nil, false
	}
	if hasAlmost(message, "result") {
		return nil, false
	}
	result, ok := objectOf(find(message, "result"))
	if !ok {
		return data, true
	}
	changed := false
	for known := range lists {
		if hasAlmost(result, known) {
			return nil, false
		}
	}
	for i, m := range result {
		if list, ok := lists[m.name]; ok && m.value.Kind() == '[' {
			if result[i].value, ok = s.items(m.value, list.kind, list.name, scopes); !ok {
				return nil, false
			}
			changed = true
		}
	}
	if !changed {
		return data, true
	}
	for i, m := range result {
		switch m.name {
		case "cacheScope":
			result[i].value = jsontext.Value(`"private"`)
		case "ttlMs":
			result[i].value = capped(m.value)
		}
	}
	for i, m := range message {
		if m.name == "result" {
			message[i].value = writeObject(result)
		}
	}
	return writeObject(message), true
}

// almost reports whether a lenient reader could take the name of a member for a known one, although they differ: in the
// case of letters, or in characters around the name.
func almost(name, known string) bool {
	letters := strings.TrimFunc(name, func(c rune) bool { return !unicode.IsLetter(c) })
	return name != known && strings.EqualFold(letters, known)
}

// hasAlmost reports whether a member has almost a known name.
func hasAlmost(members []member, known string) bool {
	return slices.ContainsFunc(members, func(m member) bool { return almost(m.name, known) })
}

func asBytes(values []jsontext.Value) (all [][]byte) {
	for _, value := range values {
		all = append(all, value)
	}
	return all
}

// maxTTL is how long a client may keep a filtered list, in milliseconds: about as long as a reload of the rules may
// take to be seen.
const maxTTL = 60_000

func capped(value jsontext.Value) jsontext.Value {
	var ttl float64
	if json.Unmarshal(value, &ttl) == nil && ttl <= maxTTL {
		return value
	}
	return jsontext.Value("60000")
}

// items returns a list without the items that a client with these scopes cannot call.
func (s *Server) items(list jsontext.Value, k kind, nameMember string, scopes scope.Set) (jsontext.Value, bool) {
	var items, kept []jsontext.Value
	if err := json.Unmarshal(list, &items); err != nil {
		return nil, false
	}
	for _, item := range items {
		members, ok := objectOf(item)
		if !ok {
			return nil, false
		}
		var name string
		if json.Unmarshal(find(members, nameMember), &name) != nil {
			continue
		}
		if k == tools {
			s.see(item)
		}
		if v := s.judge(k, name); v.open && scopes.CoversAll(v.scopes...) {
			kept = append(kept, item)
		}
	}
	return append(append([]byte("["), bytes.Join(asBytes(kept), []byte(","))...), ']'), true
}
