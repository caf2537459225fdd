package guard_test

import (
	"os/exec"
	"strings"
	"testing"
)

// A program that imports guard links only the necessary packages.
func TestGuardImportsLittle(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f",
		"{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for path := range strings.FieldsSeq(string(out)) {
		switch {
		case path == "github.com/cardea-auth/cardea/guard", path == "github.com/cardea-auth/cardea/scope":
		case strings.HasPrefix(path, "github.com/go-jose/go-jose/v4"), strings.HasPrefix(path, "golang.org/x/time/"),
			strings.HasPrefix(path, "golang.org/x/sync/"):
		default:
			t.Errorf("guard links %s", path)
		}
	}
}
