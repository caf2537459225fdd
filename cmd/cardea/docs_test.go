package main

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Each command of cardea that a sentence of the documentation names is one that the program understands: the command,
// its flags, and how many arguments it takes. TestGuides and TestREADME run those that stand alone.
func TestCommandsInSentences(t *testing.T) {
	files := []string{"../../README.md", "../../SECURITY.md", "../../CONTRIBUTING.md"}
	err := filepath.WalkDir("../../docs", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sentences := regexp.MustCompile("(?ms)^ *```.*?^ *```$").ReplaceAllString(string(text), "")
		for _, m := range regexp.MustCompile("`cardea ([^`]*)`").FindAllStringSubmatch(sentences, -1) {
			args := words(strings.ReplaceAll(m[1], "\n", " "))
			if len(args) == 0 || strings.ContainsAny(m[1], "…|") || slices.Contains(args, "--help") ||
				args[0] == "--version" {
				continue
			}
			var all commands
			parser, err := newParser(t.Context(), &all, &shell{settings: &all.settings, out: io.Discard, errs: io.Discard})
			if err != nil {
				t.Fatal(err)
			}
			// What a sentence leaves out is not wrong.
			if _, err := parser.Parse(args); err != nil && !omitted.MatchString(err.Error()) {
				t.Errorf("%s: cardea %s: %v", file, strings.Join(args, " "), err)
			}
			checked++
		}
	}
	if checked < 100 {
		t.Errorf("only %d commands were found", checked)
	}
}

// omitted is an error about something that is missing.
var omitted = regexp.MustCompile(`^(?:missing|expected|.*expected a valid|.*got "EOL"|.*no such file)`)

// words splits the rest of a command as a shell does, up to a comment, a pipe or a redirection.
func words(text string) (found []string) {
	var word strings.Builder
	var quote rune
	begun := false
	end := func() {
		if begun {
			found = append(found, word.String())
		}
		word.Reset()
		begun = false
	}
	for _, r := range text {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, begun = r, true
		case r == ' ':
			end()
		case !begun && strings.ContainsRune("#|&>;", r), r == '>', r == '<', r == ';':
			end()
			return found
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	end()
	return found
}
