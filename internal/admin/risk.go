package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// The first words of the names of tools that read, and of tools that act towards others. A name is only a hint, as the
// annotations are: an operator decides.
var (
	reading = []string{"get", "list", "read", "search", "find", "fetch", "show", "describe", "query", "lookup", "view",
		"count", "check", "browse"}
	acting = []string{"send", "email", "mail", "post", "publish", "share", "invite", "pay", "buy", "order", "book",
		"reply", "message", "notify", "call", "tweet", "transfer", "submit", "sign", "run", "exec", "execute"}
)

// ProposedRisk returns what is proposed as the risk of a tool with a definition, from its annotations and its name. If
// the two contradict each other, it is the higher one, because the server itself says both.
func ProposedRisk(definition []byte) oauth.Risk {
	d := saidIn(definition)
	words := wordsOf(d.name)
	begins := len(words) > 0 && slices.Contains(reading, words[0])
	acts := slices.ContainsFunc(words, func(w string) bool { return slices.Contains(acting, w) })
	switch {
	case acts && !begins:
		return oauth.RiskAct
	case d.reads():
		return oauth.RiskRead
	case d.openWorld != nil && *d.openWorld:
		return oauth.RiskAct
	case d.readOnly == nil && begins:
		return oauth.RiskRead
	}
	return oauth.RiskChange
}

// riskAfter is ProposedRisk for a tool that had another definition before. One that said that it only reads, and no
// longer does, is not taken to read because of its name.
func riskAfter(before, after []byte) oauth.Risk {
	risk := ProposedRisk(after)
	if risk == oauth.RiskRead && saidIn(before).reads() && !saidIn(after).reads() {
		return oauth.RiskChange
	}
	return risk
}

// said is what a tool says of itself.
type said struct {
	name, description   string
	readOnly, openWorld *bool
}

// saidIn reads a definition by the exact names of its members, because encoding/json would take readonlyhint, or a name
// with a long s, for another. What is of another type is not said.
func saidIn(definition []byte) (d said) {
	var members map[string]any
	_ = unmarshal(definition, &members)
	d.name, _ = members["name"].(string)
	d.description, _ = members["description"].(string)
	annotations, _ := members["annotations"].(map[string]any)
	if hint, isBool := annotations["readOnlyHint"].(bool); isBool {
		d.readOnly = &hint
	}
	if hint, isBool := annotations["openWorldHint"].(bool); isBool {
		d.openWorld = &hint
	}
	return d
}

func (d said) reads() bool { return d.readOnly != nil && *d.readOnly }

// wordsOf returns the words of a name such as send_email, send-email or sendEmail, in lower case.
func wordsOf(name string) []string {
	var spaced strings.Builder
	for i, c := range name {
		if i > 0 && unicode.IsUpper(c) {
			spaced.WriteByte(' ')
		}
		spaced.WriteRune(c)
	}
	return strings.FieldsFunc(strings.ToLower(spaced.String()),
		func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) })
}

// likest returns the scope with a risk, or with none stated, that shares the most words of four letters or more with
// what a tool says of itself, "" if none shares any. A wildcard is never the likest.
func likest(scopes []oauth.ResourceScope, definition []byte, risk oauth.Risk) (name string) {
	d := saidIn(definition)
	said, most := wordsOf(d.name+" "+d.description), 0
	for _, s := range scopes {
		if s.Risk != risk && s.Risk != "" || strings.HasSuffix(s.Name, ":*") {
			continue
		}
		words := wordsOf(strings.TrimPrefix(s.Name, "mcp:tools:") + " " + s.Description)
		slices.Sort(words)
		shared := 0
		for _, word := range slices.Compact(words) {
			if len(word) > 3 && slices.Contains(said, word) {
				shared++
			}
		}
		if shared > most {
			name, most = s.Name, shared
		}
	}
	return name
}

// higher reports whether a is a higher risk than b.
func higher(a, b oauth.Risk) bool { return slices.Index(oauth.Risks, a) > slices.Index(oauth.Risks, b) }

// lowest returns the lowest risk that one of scopes has, "" for none.
func lowest(scopes []oauth.ResourceScope) oauth.Risk {
	for _, risk := range oauth.Risks {
		if slices.ContainsFunc(scopes, func(s oauth.ResourceScope) bool { return s.Risk == risk }) {
			return risk
		}
	}
	return ""
}

// The bounds of what is shown of differences.
const (
	maxDifferences = 100
	maxShown       = 1500 // bytes of a value
	shownBefore    = 60   // bytes of what is equal, before the first difference
)

// differences returns where two definitions differ, in the order of their members.
func differences(before, after []byte) (found []Difference) {
	var was, is any
	if unmarshal(before, &was) != nil || unmarshal(after, &is) != nil {
		a, b := apart(visible(before), visible(after))
		return []Difference{{"", a, b}}
	}
	compare("", was, is, &found)
	return found[:min(len(found), maxDifferences)]
}

// unmarshal keeps numbers as they are written.
func unmarshal(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d.Decode(v)
}

func compare(path string, was, is any, found *[]Difference) {
	a, wasObject := was.(map[string]any)
	b, isObject := is.(map[string]any)
	if !wasObject || !isObject {
		if !reflect.DeepEqual(was, is) {
			a, b := apart(told(was), told(is))
			*found = append(*found, Difference{path, a, b})
		}
		return
	}
	names := slices.Sorted(maps.Keys(a))
	for name := range b {
		if _, both := a[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		one, inA := a[name]
		other, inB := b[name]
		at := path + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
		switch {
		case !inA:
			*found = append(*found, Difference{at, "", shown(told(other))})
		case !inB:
			*found = append(*found, Difference{at, shown(told(one)), ""})
		default:
			compare(at, one, other, found)
		}
	}
}

// told returns a value as JSON.
func told(v any) string {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil {
		return ""
	}
	return visible(bytes.TrimSpace(text.Bytes()))
}

// visible returns a JSON text with what nobody can see in it escaped, because a tool can tell a model by invisible
// characters what no reviewer reads. It stays the same JSON.
func visible(text []byte) string {
	var b strings.Builder
	for _, c := range string(text) {
		switch {
		case !hidden(c):
			b.WriteRune(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c > 0xffff:
			high, low := utf16.EncodeRune(c)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, c)
		}
	}
	return b.String()
}

// hidden reports whether nobody can see c in a text, or see that it is not a space.
func hidden(c rune) bool {
	return !unicode.IsPrint(c) || unicode.In(c, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

// apart returns two texts that differ, cut. If they are long, they begin shortly before the first difference, because a
// server could hide a change behind many words that stay.
func apart(a, b string) (string, string) {
	same := 0
	for same < min(len(a), len(b)) && a[same] == b[same] {
		same++
	}
	if max(len(a), len(b)) <= maxShown || same <= shownBefore {
		return shown(a), shown(b)
	}
	from := same - shownBefore
	return "…" + shown(strings.ToValidUTF8(a[from:], "")), "…" + shown(strings.ToValidUTF8(b[from:], ""))
}

// shown returns a text, cut, with how much is missing.
func shown(text string) string {
	if len(text) <= maxShown {
		return text
	}
	return strings.ToValidUTF8(text[:maxShown], "") + fmt.Sprintf("… (%d bytes more)", len(text)-maxShown)
}
