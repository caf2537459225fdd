package audit

import (
	"bytes"
	"fmt"
	"unicode"
)

// Escaped returns text, which is JSON, with escapes for the unprintable characters that JSON allows, such as C1 control
// characters and marks that reorder text, because a terminal would obey them. Line feeds, which are only between its
// values, stay.
func Escaped(text []byte) []byte {
	if bytes.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) < 0 {
		return text
	}
	var b bytes.Buffer
	for _, r := range string(text) {
		switch {
		case r == '\n', unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := (r-0x10000)>>10+0xd800, (r-0x10000)&0x3ff+0xdc00
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes()
}
