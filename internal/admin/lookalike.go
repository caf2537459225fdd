package admin

import (
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// sameShape has for letters and digits the one that people take them for (the part of confusables.txt of UTS 39 that
// is about letters of names).
var sameShape = func() map[rune]rune {
	shapes := map[rune]rune{}
	for _, pair := range []struct{ from, to string }{
		{"аьвсԁеһіјкӏмноԛрѕтухѵԝзбгпԍ", "abbcdehijklmhoqpstyxvw36rng"}, // Cyrillic
		{"αβγεηικνορτυχωϲϳδ", "abyenikvoptuxwcjd"},                     // Greek
		{"օոսհզց", "onuhqg"},               // Armenian
		{"ıɩɪɑɡƽᴏᴠᴡᴢʟℓǀ", "iiiag5ovwzlll"}, // Latin
		{"01il", "olll"},
	} {
		to := []rune(pair.to)
		for i, c := range []rune(pair.from) {
			shapes[c] = to[i]
		}
	}
	return shapes
}()

// shape returns a form in which the names of tools are equal that people could take for each other (UTS 39 §4): without
// case, accents and what is between words, and with one letter for all of the same form.
func shape(name string) string {
	letters := strings.Map(func(c rune) rune {
		if !unicode.IsLetter(c) && !unicode.IsDigit(c) {
			return -1
		}
		for range 2 { // і is i, and i is l
			if same, ok := sameShape[c]; ok {
				c = same
			}
		}
		return c
	}, norm.NFKD.String(cases.Fold().String(norm.NFKC.String(name))))
	return strings.NewReplacer("rn", "m", "vv", "w").Replace(letters)
}

// resembles returns another tool that people could take the tool for: a reviewed one if there is one, or "".
func (b *book) resembles(name string) (other string) {
	if b.shapes == nil { // a shape is dear, and a server may have hundreds of tools
		b.shapes = map[string][]string{}
		for _, one := range b.names() {
			s := shape(one)
			b.shapes[s] = append(b.shapes[s], one)
		}
	}
	for _, candidate := range b.shapes[shape(name)] {
		t := b.tools[candidate]
		if candidate == name || t.Hash == "" && t.SeenHash == "" {
			continue
		}
		if other = candidate; t.Hash != "" {
			return other
		}
	}
	return other
}

// twin returns resembles if that is reviewed, and "" otherwise.
func (b *book) twin(name string) string {
	if other := b.resembles(name); other != "" && b.tools[other].Hash != "" {
		return other
	}
	return ""
}
