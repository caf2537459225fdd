package internal_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// pages returns the text of each page of docs, by its path below docs.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir("../docs", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".md" {
			return err
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel("../docs", path)
		found[filepath.ToSlash(name)] = string(text)
		return err
	})
	if err != nil || len(found) < 20 {
		t.Fatalf("%d pages, %v", len(found), err)
	}
	return found
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	code    = regexp.MustCompile("(?ms)^ *```.*?^ *```$|`[^`\n]*`")
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	unsaid  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// Each link of the documentation leads to a file, and to a heading if it names one; and the index has each page.
func TestLinks(t *testing.T) {
	all := pages(t)
	linked := map[string]bool{}
	for name, text := range all {
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], ":") {
				continue // elsewhere
			}
			file, fragment, _ := strings.Cut(m[1], "#")
			target := filepath.Join("../docs", filepath.Dir(name), file)
			if file == "" {
				target = filepath.Join("../docs", name)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: the link %s leads nowhere", name, m[1])
				continue
			}
			page, err := filepath.Rel("../docs", target)
			if err != nil {
				t.Fatal(err)
			}
			page = filepath.ToSlash(page)
			if name == "README.md" {
				linked[page] = true
			}
			if to, known := all[page]; known && fragment != "" && !anchors(to)[fragment] {
				t.Errorf("%s: the link %s leads to no heading", name, m[1])
			}
		}
	}
	for name := range all {
		if !linked[name] && name != "README.md" && !strings.HasPrefix(name, "decisions/") {
			t.Errorf("docs/README.md does not link to %s", name)
		}
	}
}

// anchors returns the fragments of a page's headings, as GitHub makes them.
func anchors(text string) map[string]bool {
	found := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		title := link.ReplaceAllString(m[1], "")
		found[strings.ReplaceAll(unsaid.ReplaceAllString(strings.ToLower(title), ""), " ", "-")] = true
	}
	return found
}

// split is where a string of the source goes on in the next line.
var split = regexp.MustCompile(`" ?\+\s*"`)

// Each symptom of the troubleshooting page is what the program says.
func TestSymptoms(t *testing.T) {
	var source strings.Builder
	for _, root := range []string{".", "../cmd", "../guard"} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			source.WriteString(split.ReplaceAllString(string(text), ""))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	page := pages(t)["guides/troubleshooting.md"]
	symptoms := regexp.MustCompile("(?m)^### `(.*)`$").FindAllStringSubmatch(page, -1)
	if len(symptoms) < 15 || len(symptoms) != strings.Count(page, "\n### ") {
		t.Fatalf("%d symptoms are found in the page", len(symptoms))
	}
	for _, symptom := range symptoms {
		var parts []string
		for _, part := range strings.Split(symptom[1], "…") {
			parts = append(parts, regexp.QuoteMeta(part))
		}
		// What differs is a verb of fmt, or a value between two strings.
		said := regexp.MustCompile(strings.Join(parts, `(?:%[+.0-9]*[a-z]|"[ +]*[\w.]+[ +]*")`))
		if !said.MatchString(source.String()) {
			t.Errorf("nothing says %q any more", symptom[1])
		}
	}
}
