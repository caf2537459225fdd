package web

import (
	"strings"
	"unicode"
)

// maxName is the maximum length of a displayed name, in characters.
const maxName = 80

// DisplayName returns a stranger's text in a form that is safe to show inside a page: on one line, at most 80
// characters, without characters that are invisible, change the direction of writing, or stack on others. The result
// may be "". It does not distinguish lookalike names, so never show a name alone.
func DisplayName(s string) string {
	var name []rune
	space, marks := false, 0
	for _, c := range s {
		switch {
		case unicode.IsSpace(c), c == '\u2800': // BRAILLE PATTERN BLANK
			space = true
			continue
		case c == unicode.ReplacementChar, !unicode.IsGraphic(c), invisible(c):
			continue
		case unicode.In(c, unicode.Mn, unicode.Me):
			if marks++; marks > 2 || len(name) == 0 || space {
				continue
			}
		default:
			marks = 0
		}
		if space && len(name) > 0 {
			name = append(name, ' ')
		}
		space = false
		name = append(name, c)
		if len(name) > maxName {
			return strings.TrimRight(string(name[:maxName-1]), " ") + "…"
		}
	}
	return string(name)
}

// invisible reports whether c has no visible form although it counts as graphic: fillers, joiners and variation
// selectors.
func invisible(c rune) bool {
	return unicode.In(c, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}
