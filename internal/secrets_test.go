package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestSecrets reads the code for what no request can show.
func TestSecrets(t *testing.T) {
	files := map[string]*ast.File{}
	for _, root := range []string{".", "../guard", "../cmd", "../scope"} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				files[path], err = parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Run("CS-06 what is random comes from crypto/rand", func(t *testing.T) {
		for path, file := range files {
			for _, spec := range file.Imports {
				if strings.HasPrefix(spec.Path.Value, `"math/rand`) {
					t.Errorf("%s imports %s", path, spec.Path.Value)
				}
			}
		}
	})
	t.Run("CS-16 TK-56 secrets are compared in constant time", func(t *testing.T) {
		for path, names := range map[string][]string{
			"oauth/client.go":        {"MatchSecret", "MatchRegistrationToken"},
			"oauth/grant.go":         {"IsRefreshTokenOf"},
			"oauth/pkce.go":          {"Verify"},
			"web/csrf.go":            {"equal"},
			"credential/password.go": {"VerifyPassword"},
		} {
			for _, name := range names {
				if !slices.ContainsFunc(files[path].Decls, func(d ast.Decl) bool {
					fn, ok := d.(*ast.FuncDecl)
					return ok && fn.Name.Name == name && inConstantTime(fn)
				}) {
					t.Errorf("%s in %s does not, or is somewhere else now", name, path)
				}
			}
		}
	})
}

// inConstantTime reports whether fn calls one of the functions that take as long for
// whatever they compare.
func inConstantTime(fn *ast.FuncDecl) bool {
	found := false
	ast.Inspect(fn, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok {
			name := types.ExprString(selector)
			found = found || name == "subtle.ConstantTimeCompare" || name == "hmac.Equal"
		}
		return true
	})
	return found
}
