package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// row of docs/rfc.md: section, what, `package.Symbol`, `test`.
var rfcRow = regexp.MustCompile("(?m)^\\| ([^|]+) \\| [^|]+ \\| `([^`]+)\\.([A-Za-z]+)` \\| `([^`]+)` \\|$")

// TestRFC reads docs/rfc.md: each row names a symbol and a test that are there.
func TestRFC(t *testing.T) {
	text, err := os.ReadFile("../docs/rfc.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := rfcRow.FindAllStringSubmatch(string(text), -1)
	if lines := strings.Count(string(text), "\n| ") - strings.Count(string(text), "\n| section"); len(rows) != lines {
		t.Fatalf("docs/rfc.md has %d rows, of which %d have the form of one", lines, len(rows))
	}
	tests := testNames(t)
	for _, row := range rows {
		section, folder, symbol, test := row[1], row[2], row[3], row[4]
		if !declares(t, filepath.Join("..", folder), symbol) {
			t.Errorf("%s: %s has no exported %s", section, folder, symbol)
		}
		if !tests[test] {
			t.Errorf("%s: there is no test %s", section, test)
		}
	}
}

// declares tells whether a package declares symbol at its top level.
func declares(t *testing.T, folder, symbol string) bool {
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == symbol {
					return true
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if s, ok := spec.(*ast.TypeSpec); ok && s.Name.Name == symbol {
						return true
					}
				}
			}
		}
	}
	return false
}

// testNames has the name of every Go test and script of the module.
func testNames(t *testing.T) map[string]bool {
	names := map[string]bool{}
	declaration := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example)\w+)\(`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "node_modules":
			return fs.SkipDir
		case strings.HasSuffix(path, ".txtar"):
			names[d.Name()] = true
		case strings.HasSuffix(path, "_test.go"):
			source, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, found := range declaration.FindAllStringSubmatch(string(source), -1) {
				names[found[1]] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
