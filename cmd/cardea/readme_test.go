package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// What the README says is done here: its commands are run, its Go is looked for in the example it names.
func TestREADME(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(text)

	t.Run("the commands work, in their order", func(t *testing.T) {
		blocks := fenced(readme, "sh")
		if len(blocks) != 1 {
			t.Fatalf("%d blocks of commands, want 1", len(blocks))
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-eux", "-c", blocks[0])
		cmd.Env = append(os.Environ(), "CARDEA_DATA_DIR="+t.TempDir())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v:\n%s", err, out)
		}
	})

	t.Run("the Go is that of the example", func(t *testing.T) {
		example, err := os.ReadFile("../../examples/go/main.go")
		if err != nil {
			t.Fatal(err)
		}
		dedented := strings.ReplaceAll(string(example), "\n\t", "\n")
		blocks := fenced(readme, "go")
		if len(blocks) != 1 || !strings.Contains(dedented, blocks[0]) {
			t.Errorf("examples/go/main.go does not have these lines of the README:\n%s", strings.Join(blocks, "\n"))
		}
	})

	t.Run("what it links to is there", func(t *testing.T) {
		headings := strings.ToLower(readme)
		for _, link := range regexp.MustCompile(`\]\(([^):]+)\)`).FindAllStringSubmatch(readme, -1) {
			if heading, isHere := strings.CutPrefix(link[1], "#"); isHere {
				if !strings.Contains(headings, "\n## "+strings.ReplaceAll(heading, "-", " ")+"\n") {
					t.Errorf("no heading for the link to %s", link[1])
				}
				continue
			}
			file, _, _ := strings.Cut(link[1], "#")
			if _, err := os.Stat("../../" + file); err != nil {
				t.Error(err)
			}
		}
	})
}

// fenced returns the code blocks of a language, without the last line feed.
func fenced(markdown, language string) []string {
	var blocks []string
	for _, match := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)\n```$").FindAllStringSubmatch(markdown, -1) {
		blocks = append(blocks, match[1])
	}
	return blocks
}
