package main

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each command line of cardea in the documentation is one that the program understands: the command, its flags, and how
// many arguments it takes. What the commands of the README do is seen by TestREADME.
func TestCommandsOfTheDocumentation(t *testing.T) {
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
		blocks := append(fenced(string(text), "sh"), fenced(string(text), "")...)
		for _, block := range blocks {
			for _, args := range cardeaLines(block) {
				var all commands
				parser, err := newParser(t.Context(), &all, &shell{settings: &all.settings, out: io.Discard, errs: io.Discard})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := parser.Parse(args); err != nil {
					t.Errorf("%s: cardea %s: %v", file, strings.Join(args, " "), err)
				}
				checked++
			}
		}
	}
	if checked < 50 {
		t.Errorf("only %d command lines were found", checked)
	}
}

// call is where a line calls the program: at its beginning, after a prompt of another program, or after variables.
var call = regexp.MustCompile(`^(?:\S+ \| |.* \| |sudo -u cardea |\w+=\S* )*(?:bin/)?cardea (.*)$`)

// continued is where a command goes on in the next line.
var continued = regexp.MustCompile(` *\\\n *`)

// cardeaLines returns the arguments of each call of cardea in a block of shell commands.
func cardeaLines(block string) (found [][]string) {
	for line := range strings.Lines(continued.ReplaceAllString(block, " ")) {
		command, _, _ := strings.Cut(strings.TrimSpace(line), "  ") // what follows explains it
		m := call.FindStringSubmatch(command)
		if m == nil {
			continue
		}
		if args := words(m[1]); len(args) > 0 && args[0] != "…" && args[0] != "--version" {
			found = append(found, args)
		}
	}
	return found
}

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
