package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// TestGrantTypes shows what a grant type is made of: a row of the table in oauth, a file of internal/token that is
// named by its wire value, and a row of docs/rfc.md. Nothing else names one that is not a part of the code flow itself.
func TestGrantTypes(t *testing.T) {
	standards, err := os.ReadFile("../docs/rfc.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range oauth.GrantTypes() {
		wire := string(g)
		name := wire[strings.LastIndexByte(wire, ':')+1:] // of urn:ietf:params:oauth:grant-type:device_code
		if _, err := os.Stat(filepath.Join("token", strings.ReplaceAll(name, "-", "_")+".go")); err != nil {
			t.Errorf("%s has no file of its own: %v", g, err)
		}
		if !strings.Contains(string(standards), "| grant type "+wire) {
			t.Errorf("docs/rfc.md has no row for the grant type %s", wire)
		}
	}
	// Where a person is sent to the client and back, and where a refresh token is promised.
	codeFlow := []string{"AuthorizationCode", "RefreshToken"}
	constants := grantConstants(t)
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") ||
			strings.Contains(path, "servertest") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(node ast.Node) bool {
			s, ok := node.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			from, _ := s.X.(*ast.Ident)
			wire, known := constants[s.Sel.Name]
			own := filepath.Join("token", wire[strings.LastIndexByte(wire, ':')+1:]+".go")
			if from != nil && from.Name == "oauth" && known && !slices.Contains(codeFlow, s.Sel.Name) && path != own {
				t.Errorf("%s names oauth.%s: make it a column of the table in oauth/grant_types.go", path, s.Sel.Name)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// grantConstants returns the wire values of the grant types by the names of their constants.
func grantConstants(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "oauth/grant_types.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	constants := map[string]string{}
	ast.Inspect(file, func(node ast.Node) bool {
		if v, ok := node.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			if value, ok := v.Values[0].(*ast.BasicLit); ok {
				constants[v.Names[0].Name] = strings.ReplaceAll(strings.Trim(value.Value, `"`), "-", "_")
			}
		}
		return true
	})
	if len(constants) != len(oauth.GrantTypes()) {
		t.Errorf("%d constants for %d grant types", len(constants), len(oauth.GrantTypes()))
	}
	return constants
}
