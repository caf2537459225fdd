package guard

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how deep arrays and objects may nest in a message.
const maxDepth = 128

// Errors of a body that two JSON readers could read differently. They repeat nothing of the body.
var (
	errNotUTF8   = errors.New("it is not UTF-8")
	errSyntax    = errors.New("it is not one JSON value")
	errDepth     = errors.New("it nests deeper than 128 levels")
	errTwice     = errors.New("an object has a member twice")
	errName      = errors.New("a member's name has a control character")
	errSurrogate = errors.New("a string has half of a surrogate pair")
	errNumber    = errors.New("a number is out of range")
	errNotObject = errors.New("it is not an object")
)

// checkJSON returns an error unless all JSON readers read data alike: one value of RFC 8259 in UTF-8 without a byte
// order mark, no member twice in an object, escaped or not, no control character in the name of a member, no half of a
// surrogate pair, no number that float64 cannot hold (RFC 7493 §2), and no more than maxDepth levels.
func checkJSON(data []byte) error {
	if !utf8.Valid(data) {
		return errNotUTF8
	}
	r := reader{data: data, strict: true}
	if err := r.value(0); err != nil {
		return err
	}
	if r.space(); r.pos < len(data) {
		return errSyntax
	}
	return nil
}

// eachMember calls each with the name and the value of every member of the object in data, in their order. The error is
// errNotObject if data is another value, or the first error that each returns. Data must have passed checkJSON.
func eachMember(data []byte, each func(name string, value []byte) error) error {
	r := reader{data: data}
	if r.space(); !r.skip('{') {
		return errNotObject
	}
	return r.object(0, each)
}

// elements returns the values in the array in data, and whether data is one. It must have passed checkJSON.
func elements(data []byte) (values [][]byte, isArray bool) {
	r := reader{data: data}
	if r.space(); !r.skip('[') {
		return nil, false
	}
	_ = r.array(0, func(value []byte) { values = append(values, value) })
	return values, true
}

// text returns the string in data, and whether data is one. It must have passed checkJSON.
func text(data []byte) (s string, isString bool) {
	r := reader{data: data}
	if r.space(); !r.skip('"') {
		return "", false
	}
	t, err := r.text()
	return string(t), err == nil
}

// reader reads JSON from data, which is valid UTF-8. Its methods leave pos after what they read.
type reader struct {
	data   []byte
	pos    int
	strict bool // check names and numbers, which is not needed again for data that has passed checkJSON
}

// space skips white space (RFC 8259 §2).
func (r *reader) space() {
	for r.pos < len(r.data) && strings.IndexByte(" \t\r\n", r.data[r.pos]) >= 0 {
		r.pos++
	}
}

// skip reports whether the next byte is c, and skips it if so.
func (r *reader) skip(c byte) bool {
	if r.pos == len(r.data) || r.data[r.pos] != c {
		return false
	}
	r.pos++
	return true
}

// value reads a value that lies in depth arrays and objects.
func (r *reader) value(depth int) error {
	r.space()
	if r.pos == len(r.data) {
		return errSyntax
	}
	switch r.data[r.pos] {
	case '{':
		r.pos++
		return r.object(depth, nil)
	case '[':
		r.pos++
		return r.array(depth, nil)
	case '"':
		r.pos++
		_, err := r.text()
		return err
	case 't':
		return r.literal("true")
	case 'f':
		return r.literal("false")
	case 'n':
		return r.literal("null")
	}
	return r.number()
}

func (r *reader) literal(name string) error {
	if !bytes.HasPrefix(r.data[r.pos:], []byte(name)) {
		return errSyntax
	}
	r.pos += len(name)
	return nil
}

// object reads the rest of an object after its brace.
func (r *reader) object(depth int, each func(name string, value []byte) error) error {
	if depth == maxDepth {
		return errDepth
	}
	if r.space(); r.skip('}') {
		return nil
	}
	var seen names
	for {
		if r.space(); !r.skip('"') {
			return errSyntax
		}
		name, err := r.text()
		switch {
		case err != nil:
			return err
		case r.strict && bytes.ContainsFunc(name, isControl):
			return errName
		case r.strict && !seen.add(string(name)):
			return errTwice
		}
		if r.space(); !r.skip(':') {
			return errSyntax
		}
		start := r.pos
		if err := r.value(depth + 1); err != nil {
			return err
		}
		if each != nil {
			if err := each(string(name), bytes.TrimSpace(r.data[start:r.pos])); err != nil {
				return err
			}
		}
		switch r.space(); {
		case r.skip('}'):
			return nil
		case !r.skip(','):
			return errSyntax
		}
	}
}

func isControl(c rune) bool { return c < ' ' || 0x7f <= c && c < 0xa0 }

// names is a set of names that costs little while it is small.
type names struct {
	few  []string
	many map[string]struct{}
}

// add reports whether name was not in the set, and adds it.
func (n *names) add(name string) bool {
	if n.many == nil {
		if slices.Contains(n.few, name) {
			return false
		}
		if len(n.few) < 8 {
			n.few = append(n.few, name)
			return true
		}
		n.many = map[string]struct{}{}
		for _, old := range n.few {
			n.many[old] = struct{}{}
		}
	}
	if _, ok := n.many[name]; ok {
		return false
	}
	n.many[name] = struct{}{}
	return true
}

// array reads the rest of an array after its bracket.
func (r *reader) array(depth int, each func(value []byte)) error {
	if depth == maxDepth {
		return errDepth
	}
	if r.space(); r.skip(']') {
		return nil
	}
	for {
		start := r.pos
		if err := r.value(depth + 1); err != nil {
			return err
		}
		if each != nil {
			each(bytes.TrimSpace(r.data[start:r.pos]))
		}
		switch r.space(); {
		case r.skip(']'):
			return nil
		case !r.skip(','):
			return errSyntax
		}
	}
}

// text reads the rest of a string after its quotation mark, and returns what it means.
func (r *reader) text() ([]byte, error) {
	start := r.pos
	var unescaped []byte // what came before start, if there was an escape
	for r.pos < len(r.data) {
		switch c := r.data[r.pos]; {
		case c == '"':
			s := r.data[start:r.pos]
			if unescaped != nil {
				s = append(unescaped, s...)
			}
			r.pos++
			return s, nil
		case c < ' ':
			return nil, errSyntax
		case c == '\\':
			unescaped = append(unescaped, r.data[start:r.pos]...)
			r.pos++
			c, err := r.escape()
			if err != nil {
				return nil, err
			}
			unescaped = utf8.AppendRune(unescaped, c)
			start = r.pos
		default:
			r.pos++
		}
	}
	return nil, errSyntax
}

// escape reads the rest of an escape after its backslash (RFC 8259 §7).
func (r *reader) escape() (rune, error) {
	if r.pos == len(r.data) {
		return 0, errSyntax
	}
	c := r.data[r.pos]
	r.pos++
	if c == 'u' {
		first, err := r.hex()
		if err != nil || !utf16.IsSurrogate(first) {
			return first, err
		}
		if !bytes.HasPrefix(r.data[r.pos:], []byte(`\u`)) {
			return 0, errSurrogate
		}
		r.pos += 2
		second, err := r.hex()
		if err != nil {
			return 0, err
		}
		if c := utf16.DecodeRune(first, second); c != utf8.RuneError {
			return c, nil
		}
		return 0, errSurrogate
	}
	if n := strings.IndexByte(`"\/bfnrt`, c); n >= 0 {
		return rune("\"\\/\b\f\n\r\t"[n]), nil
	}
	return 0, errSyntax
}

func (r *reader) hex() (rune, error) {
	if len(r.data)-r.pos < 4 {
		return 0, errSyntax
	}
	var c rune
	for _, digit := range r.data[r.pos : r.pos+4] {
		switch {
		case '0' <= digit && digit <= '9':
			c = c<<4 + rune(digit-'0')
		case 'a' <= digit|0x20 && digit|0x20 <= 'f':
			c = c<<4 + rune(digit|0x20-'a') + 10
		default:
			return 0, errSyntax
		}
	}
	r.pos += 4
	return c, nil
}

// number reads a number (RFC 8259 §6).
func (r *reader) number() error {
	start := r.pos
	r.skip('-')
	if !r.skip('0') && !r.digits() {
		return errSyntax
	}
	if r.skip('.') && !r.digits() {
		return errSyntax
	}
	if r.skip('e') || r.skip('E') {
		if !r.skip('+') {
			r.skip('-')
		}
		if !r.digits() {
			return errSyntax
		}
	}
	if r.strict {
		if _, err := strconv.ParseFloat(string(r.data[start:r.pos]), 64); err != nil {
			return errNumber
		}
	}
	return nil
}

// digits skips digits and reports whether there was one.
func (r *reader) digits() bool {
	start := r.pos
	for r.pos < len(r.data) && '0' <= r.data[r.pos] && r.data[r.pos] <= '9' {
		r.pos++
	}
	return r.pos > start
}
