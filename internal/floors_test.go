package internal_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/cardea-auth/cardea/"

// floors is the house of docs/design.md: an import points to a lower floor, never up and never sideways.
var floors = map[string]int{
	"cmd/cardea": 6,

	"internal/server": 5,
	"internal/config": 5,

	"internal/authorize": 4,
	"internal/token":     4,
	"internal/discovery": 4,
	"internal/account":   4,
	"internal/admin":     4,

	"internal/login":  3,
	"internal/client": 3,
	"internal/keys":   3,

	"internal/web":     2,
	"internal/store":   2,
	"internal/gateway": 2,
	"internal/doctor":  2,
	"guard/gosdk":      2,

	"internal/oauth": 1,
	"guard":          1,

	"internal/audit": 0,
	"internal/limit": 0,
	"internal/dpop":  0,
	"internal/fetch": 0,
	"scope":          0,
}

// support is what only tests import, by what it may import itself.
var support = map[string][]string{
	"internal/store/storetest": {"internal/store", "internal/oauth", "internal/audit", "scope"},
	"guard/guardtest":          {"guard", "scope"},
}

// only names the packages that few may import, whichever floor those few live on.
var only = map[string][]string{
	"internal/config":  {"internal/server", "cmd/cardea"},
	"internal/gateway": {"cmd/cardea"},
	"internal/doctor":  {"cmd/cardea"},
}

// alone names the packages that link nothing of the house but what is listed.
var alone = map[string][]string{
	"scope":            {},
	"guard":            {"scope"},
	"guard/gosdk":      {"guard", "scope"},
	"internal/gateway": {"guard", "scope"},
	"internal/doctor":  {"guard", "scope"},
}

// nameless are names that say nothing about what is inside.
var nameless = []string{"util", "utils", "common", "helpers", "models", "services", "pkg", "misc", "base"}

// A pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func TestImportsPointDown(t *testing.T) {
	for _, fault := range faults(list(t)) {
		t.Error(fault)
	}
}

// The rules themselves, each seen to fail.
func TestFaults(t *testing.T) {
	imports := func(from string, to ...string) pkg {
		p := pkg{ImportPath: module + from}
		for _, name := range to {
			p.Imports = append(p.Imports, module+name)
		}
		return p
	}
	tests := []struct {
		name string
		pkg  pkg
		want []string
	}{
		{"down", imports("internal/token", "internal/store", "internal/oauth", "scope"), nil},
		{"up", imports("internal/oauth", "internal/store"),
			[]string{"internal/oauth (floor 1) imports internal/store (floor 2): imports point down"}},
		{"sideways", imports("internal/token", "internal/authorize"),
			[]string{"internal/token (floor 4) imports internal/authorize (floor 4): imports point down"}},
		{"server reads config", imports("internal/server", "internal/config"), nil},
		{"others do not read config", imports("internal/admin", "internal/config"),
			[]string{"internal/admin imports internal/config, which only internal/server, cmd/cardea may"}},
		{"guard knows nothing of the server", imports("guard", "internal/audit"),
			[]string{"guard imports internal/audit; it may import only scope"}},
		{"scope stands alone", imports("scope", "internal/audit"),
			[]string{"scope imports internal/audit; it may import nothing of this module"}},
		{"a package without a floor", imports("internal/thing"),
			[]string{"internal/thing has no floor: give it one in floors_test.go and in docs/design.md"}},
		{"a name that says nothing", imports("internal/utils"),
			[]string{"internal/utils: the name says nothing; name it after what it holds"}},
		{"test support in the program", imports("internal/token", "internal/store/storetest"),
			[]string{"internal/token imports internal/store/storetest, which only tests may"}},
		{"test support imports the server", imports("guard/guardtest", "internal/keys"),
			[]string{"guard/guardtest imports internal/keys; it may import only guard, scope"}},
		{"examples are outside", imports("examples/go", "guard", "guard/gosdk"), nil},
		{"a test may look at its neighbours", pkg{ImportPath: module + "internal/token",
			XTestImports: []string{module + "internal/authorize", module + "internal/store/storetest"}}, nil},
		{"a test of the words needs no database", pkg{ImportPath: module + "internal/oauth",
			XTestImports: []string{module + "internal/store"}},
			[]string{"a test of internal/oauth (floor 1) imports internal/store (floor 2): imports point down"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, faults([]pkg{tt.pkg})); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

// faults says which import of which package breaks which rule.
func faults(pkgs []pkg) (found []string) {
	fault := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	for _, p := range pkgs {
		name := strings.TrimPrefix(p.ImportPath, module)
		floor, known := floors[name]
		allowed, isSupport := support[name]
		switch {
		case slices.ContainsFunc(strings.Split(name, "/"), func(part string) bool { return slices.Contains(nameless, part) }):
			fault("%s: the name says nothing; name it after what it holds", name)
			continue
		case outside(name):
			continue
		case !known && !isSupport:
			fault("%s has no floor: give it one in floors_test.go and in docs/design.md", name)
			continue
		}
		for _, to := range ours(p.Imports) {
			few, guarded := only[to]
			may, isAlone := alone[name]
			_, toSupport := support[to]
			switch {
			case isSupport && !slices.Contains(allowed, to):
				fault("%s imports %s; it may import %s", name, to, listed(allowed))
			case isSupport:
			case toSupport:
				fault("%s imports %s, which only tests may", name, to)
			case isAlone && !slices.Contains(may, to):
				fault("%s imports %s; it may import %s", name, to, listed(may))
			case guarded && !slices.Contains(few, name):
				fault("%s imports %s, which only %s may", name, to, strings.Join(few, ", "))
			case guarded:
			case floors[to] >= floor:
				fault("%s (floor %d) imports %s (floor %d): imports point down", name, floor, to, floors[to])
			}
		}
		// A test may look at its own floor (a token's test needs an authorized code), and no higher.
		for _, to := range ours(append(p.TestImports, p.XTestImports...)) {
			if floors[to] > floor && !isSupport {
				fault("a test of %s (floor %d) imports %s (floor %d): imports point down", name, floor, to, floors[to])
			}
		}
	}
	return found
}

// outside tells whether a package is no part of the house: it uses the house as anybody would.
func outside(name string) bool {
	return name == "internal" || strings.HasPrefix(name, "examples/") || strings.HasPrefix(name, "test/")
}

// ours keeps the imports of this module, by their short names.
func ours(imports []string) (names []string) {
	for _, path := range imports {
		if name, ok := strings.CutPrefix(path, module); ok && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func listed(names []string) string {
	if len(names) == 0 {
		return "nothing of this module"
	}
	return "only " + strings.Join(names, ", ")
}

func list(t *testing.T) (pkgs []pkg) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports", module+"...")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) < 10 {
		t.Fatalf("go list found %d packages only", len(pkgs))
	}
	return pkgs
}
