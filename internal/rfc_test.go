package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rfcRow is a row of docs/rfc.md: section, what, `package.Symbol` or `package.Type.Method`, `test`.
var rfcRow = regexp.MustCompile("(?m)^\\| ([^|]+) \\| [^|]+ \\| " +
	"`([^`.]+)\\.([A-Z][A-Za-z0-9]*(?:\\.[A-Z][A-Za-z0-9]*)?)` \\| `([^`]+)` \\|$")

// TestRFC reads docs/rfc.md: each row names a symbol and a test that exist. A symbol is exported and declared at the
// top level of its package: a function, a type, a constant, a variable, or a method named after its type.
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

// declares reports whether a package declares symbol, outside its tests.
func declares(t *testing.T, folder, symbol string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(symbols(file), symbol) {
			return true
		}
	}
	return false
}

// symbols returns what a file declares at its top level; a method is "Type.Method".
func symbols(file *ast.File) (names []string) {
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			name := d.Name.Name
			if d.Recv != nil {
				name = receiver(d.Recv.List[0].Type) + "." + name
			}
			names = append(names, name)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					names = append(names, s.Name.Name)
				case *ast.ValueSpec:
					for _, name := range s.Names {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

// receiver returns the name of a receiver's type, be it a pointer or generic.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

func TestSymbols(t *testing.T) {
	const source = `package p
type Endpoint struct{}
type Set[T any] []T
const Limit, other = 1, 2
var Methods []string
func New() {}
func (Endpoint) Read() {}
func (e *Endpoint) Token() {}
func (s *Set[T]) Has() {}
`
	file, err := parser.ParseFile(token.NewFileSet(), "p.go", source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Endpoint", "Set", "Limit", "other", "Methods", "New", "Endpoint.Read",
		"Endpoint.Token", "Set.Has"}
	if diff := cmp.Diff(want, symbols(file)); diff != "" {
		t.Errorf("symbols (-want +got):\n%s", diff)
	}
	for row, ok := range map[string]bool{
		"| RFC 6749 §3.2 | token endpoint | `internal/token.Endpoint.Token` | `TestToken` |": true,
		"| RFC 7519 §4 | claims | `guard.New` | `code_once.txtar` |":                         true,
		"| RFC 7519 §4 | claims | `guard.New.A.B` | `TestX` |":                               false,
		"| RFC 7519 §4 | claims | `guard.hidden` | `TestX` |":                                false,
		"| RFC 7519 §4 | claims | `guard` | `TestX` |":                                       false,
	} {
		if rfcRow.MatchString(row) != ok {
			t.Errorf("%s: it should be %t that this is a row", row, ok)
		}
	}
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
