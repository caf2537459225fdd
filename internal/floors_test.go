package internal_test

import (
	"bytes"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/cardea-auth/cardea/"

// floors is the house of docs/design.md: an import points to a lower floor, never up and never sideways.
var floors = map[string]int{
	"cmd/cardea": 13,

	"internal/demo":    12,
	"internal/observe": 12,

	"internal/server": 11,
	"internal/config": 11,

	"internal/authorize":    10,
	"internal/token":        10,
	"internal/registration": 10,
	"internal/discovery":    10,
	"internal/account":      10,
	"internal/console":      10,
	"internal/adminapi":     10,

	"internal/declare": 9,

	"internal/admin": 8,

	"internal/login": 7,

	"internal/interaction": 6,
	"internal/upstream":    6,

	"internal/client": 5,
	"internal/keys":   5,
	"internal/ledger": 5,
	"internal/agent":  5,

	"internal/assertion": 4,
	"internal/strangers": 4,

	"internal/web":     3,
	"internal/store":   3,
	"internal/gateway": 3,
	"internal/doctor":  3,
	"guard/gosdk":      3,
	"guard/valkey":     2,

	"internal/store/engine": 2,
	"internal/fetch":        2,
	"internal/credential":   2,
	"internal/mail":         2,

	"internal/oauth":    1,
	"internal/identity": 1,
	"guard":             1,

	"internal/audit": 0,
	"internal/limit": 0,
	"scope":          0,
}

// support is what only tests import, by the highest floor it may import itself.
var support = map[string]int{
	"internal/server/servertest":     11,
	"internal/store/storetest":       3,
	"internal/web/webtest":           3,
	"internal/upstream/upstreamtest": 0,
	"internal/mail/mailtest":         0,
	"internal/logtest":               0,
	"internal/porttest":              0,
	"guard/guardtest":                1,
}

// only names the packages that few may import, whichever floor those few live on.
var only = map[string][]string{
	"internal/config":  {"internal/server", "internal/demo", "cmd/cardea"},
	"internal/gateway": {"cmd/cardea"},
	"internal/doctor":  {"cmd/cardea", "internal/console"},
}

// alone names the packages that link nothing of the house but what is listed.
var alone = map[string][]string{
	"scope":            {},
	"guard":            {"scope"},
	"guard/gosdk":      {"guard", "scope"},
	"guard/valkey":     {"guard", "scope"},
	"guard/guardtest":  {"guard", "scope"},
	"internal/gateway": {"guard", "guard/valkey", "scope"},
	"internal/doctor":  {"guard", "scope"},
	"internal/agent":   {},
}

// nameless are names that say nothing about what is inside.
var nameless = []string{"util", "utils", "common", "helpers", "models", "services", "pkg", "misc", "base"}

// The bounds of the house, which keep it calm (docs/design.md).
const (
	maxPackages        = 39   // without those that only tests import, which are not rooms of the program
	maxLines           = 2200 // of a package, without its tests
	maxFile            = 700  // lines of a file that is not a test
	maxEndpointImports = 10   // of packages of ours
	maxServerImports   = 20
	maxMeanImports     = 2.2 // beyond the vocabularies
)

// large are the packages that may have more lines: store, admin, console, account and cmd/cardea have a file for each
// noun, login one for each way to sign in, adminapi a row for each operation, and doctor a rule for each fault
// (docs/decisions/0024-wide-packages.md); guard and gateway are products of their own.
var large = []string{"internal/store", "internal/admin", "internal/console", "internal/account", "internal/login",
	"internal/adminapi", "cmd/cardea", "guard", "internal/gateway", "internal/doctor"}

// vocabularies are the packages whose words everybody uses: importing them ties nobody to anybody.
var vocabularies = []string{"internal/oauth", "internal/identity", "internal/store", "internal/audit",
	"internal/web", "scope"}

// A pkg is a package of this module, how long it is without its tests, and what it imports of this module, by the names
// of their folders.
type pkg struct {
	Name        string
	Lines       int
	Longest     int // lines of its longest file that is not a test
	Imports     []string
	TestImports []string
}

func TestImportsPointDown(t *testing.T) {
	for _, fault := range faults(list(t)) {
		t.Error(fault)
	}
}

// The rules themselves, each seen to fail.
func TestFaults(t *testing.T) {
	imports := func(from string, to ...string) pkg { return pkg{Name: from, Imports: to} }
	tests := []struct {
		name string
		pkg  pkg
		want []string
	}{
		{"down", imports("internal/token", "internal/store", "internal/oauth", "scope"), nil},
		{"up", imports("internal/oauth", "internal/store"),
			[]string{"internal/oauth (floor 1) imports internal/store (floor 3): imports point down"}},
		{"sideways", imports("internal/token", "internal/authorize"),
			[]string{"internal/token (floor 10) imports internal/authorize (floor 10): imports point down"}},
		{"server reads config", imports("internal/server", "internal/config"), nil},
		{"others do not read config", imports("internal/admin", "internal/config"),
			[]string{"internal/admin imports internal/config, " +
				"which only internal/server, internal/demo, cmd/cardea may"}},
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
		{"a test may look at its neighbours", pkg{Name: "internal/token",
			TestImports: []string{"internal/authorize", "internal/store/storetest"}}, nil},
		{"a test may configure the whole server it runs", pkg{Name: "internal/login",
			TestImports: []string{"internal/config", "internal/server/servertest"}}, nil},
		{"a test of the words needs no database", pkg{Name: "internal/oauth", TestImports: []string{"internal/store"}},
			[]string{"a test of internal/oauth (floor 1) imports internal/store (floor 3): imports point down"}},
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
		name := p.Name
		floor, known := floors[name]
		highest, isSupport := support[name]
		switch {
		case slices.ContainsFunc(strings.Split(name, "/"), func(part string) bool {
			return slices.Contains(nameless, part)
		}):
			fault("%s: the name says nothing; name it after what it holds", name)
			continue
		case outside(name):
			continue
		case isSupport:
			floor = highest + 1
		case !known:
			fault("%s has no floor: give it one in floors_test.go and in docs/design.md", name)
			continue
		}
		for _, to := range p.Imports {
			may, isAlone := alone[name]
			few, guarded := only[to]
			_, toSupport := support[to]
			switch {
			case isAlone && !slices.Contains(may, to):
				fault("%s imports %s; it may import %s", name, to, listed(may))
			case isSupport && toSupport:
			case toSupport:
				fault("%s imports %s, which only tests may", name, to)
			case guarded && !slices.Contains(few, name) && !isSupport:
				fault("%s imports %s, which only %s may", name, to, strings.Join(few, ", "))
			case guarded:
			case floors[to] >= floor:
				fault("%s (floor %d) imports %s (floor %d): imports point down", name, floor, to, floors[to])
			}
		}
		// A test may look at its own floor (a token's test needs an authorized code) and no higher, except through a
		// whole server, which it may configure.
		whole := slices.Contains(p.TestImports, "internal/server/servertest")
		for _, to := range p.TestImports {
			if floors[to] > floor && (to != "internal/config" || !whole) {
				fault("a test of %s (floor %d) imports %s (floor %d): imports point down", name, floor, to, floors[to])
			}
		}
	}
	return found
}

// TestBounds holds the house to its bounds.
func TestBounds(t *testing.T) {
	for _, fault := range excesses(list(t)) {
		t.Error(fault)
	}
}

// Passwords are weakly hashed in tests alone: what the program is made of never calls credential.WeakenForTests.
func TestWeakenForTests(t *testing.T) {
	may := []string{"server/servertest/servertest.go", "credential/password.go"}
	for _, root := range []string{".", "../cmd", "../guard", "../scope"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") ||
				slices.Contains(may, filepath.ToSlash(path)) {
				return err
			}
			text, err := os.ReadFile(path)
			if strings.Contains(string(text), "WeakenForTests") {
				t.Errorf("%s names WeakenForTests, which only tests may call", path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// The bounds themselves, each seen to fail.
func TestExcesses(t *testing.T) {
	many := func(n int) (names []string) {
		for i := range n {
			names = append(names, fmt.Sprintf("internal/thing%d", i))
		}
		return names
	}
	alone := func(names ...string) (pkgs []pkg) {
		for _, name := range names {
			pkgs = append(pkgs, pkg{Name: name})
		}
		return pkgs
	}
	calm := alone(many(20)...) // beside which one package that imports much does not matter
	beside := func(pkgs []pkg, p pkg) []pkg { return append(slices.Clip(pkgs), p) }
	tests := []struct {
		name string
		pkgs []pkg
		want []string
	}{
		{"39 packages, and what is outside",
			append(alone(many(39)...), alone("examples/go", "test/clients", "bench", "internal")...), nil},
		{"39 packages, and what tests import",
			append(alone(many(39)...), alone("internal/web/webtest", "guard/guardtest")...), nil},
		{"40 packages", alone(many(40)...), []string{"there are 40 packages, more than 39: which two are one?"}},
		{"long", []pkg{{Name: "internal/client", Lines: 2201}, {Name: "internal/token", Lines: 2200}},
			[]string{"internal/client has 2201 lines, more than 2200: what in it is a package of its own?"}},
		{"long, as it may be", []pkg{{Name: "internal/store", Lines: 5000}, {Name: "guard", Lines: 5000}}, nil},
		{"a long file, also where the package may be",
			[]pkg{{Name: "internal/store", Longest: 701}, {Name: "internal/token", Longest: 700}},
			[]string{"internal/store has a file of 701 lines, more than 700: what in it is a file of its own?"}},
		{"an endpoint", beside(calm, pkg{Name: "internal/token", Imports: many(10)}), nil},
		{"an endpoint that imports much", beside(calm, pkg{Name: "internal/token", Imports: many(11)}),
			[]string{"internal/token imports 11 packages of ours, more than 10"}},
		{"the server imports much", beside(calm, pkg{Name: "internal/server", Imports: many(21)}),
			[]string{"internal/server imports 21 packages of ours, more than 20"}},
		{"tangled", []pkg{{Name: "internal/login",
			Imports: []string{"internal/a", "internal/b", "internal/c", "internal/web", "internal/store"}}},
			[]string{"packages import 3.00 others on average beyond the vocabularies, more than 2.20"}},
		{"tests may", beside(alone(many(2)...), pkg{Name: "internal/server/servertest", Imports: many(9)}), nil},
		{"all know the words",
			[]pkg{{Name: "internal/login", Imports: slices.Concat(vocabularies, []string{"internal/a", "internal/b"})}},
			nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, excesses(tt.pkgs)); diff != "" {
				t.Errorf("excesses (-want +got):\n%s", diff)
			}
		})
	}
}

// excesses says where the house is beyond its bounds.
func excesses(pkgs []pkg) (found []string) {
	fault := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	house, imports := 0, 0
	for _, p := range pkgs {
		if outside(p.Name) {
			continue
		}
		if _, isSupport := support[p.Name]; !isSupport {
			house++
			for _, to := range p.Imports {
				if !slices.Contains(vocabularies, to) && !outside(to) { // an example is text that a page shows
					imports++
				}
			}
		}
		if p.Lines > maxLines && !slices.Contains(large, p.Name) {
			fault("%s has %d lines, more than %d: what in it is a package of its own?", p.Name, p.Lines, maxLines)
		}
		if p.Longest > maxFile {
			fault("%s has a file of %d lines, more than %d: what in it is a file of its own?", p.Name,
				p.Longest, maxFile)
		}
		most := len(p.Imports)
		switch {
		case p.Name == "internal/server":
			most = maxServerImports
		case floors[p.Name] == floors["internal/token"]: // the floor of the endpoints
			most = maxEndpointImports
		}
		if len(p.Imports) > most {
			fault("%s imports %d packages of ours, more than %d", p.Name, len(p.Imports), most)
		}
	}
	if house > maxPackages {
		fault("there are %d packages, more than %d: which two are one?", house, maxPackages)
	}
	if mean := float64(imports) / float64(max(house, 1)); mean > maxMeanImports {
		fault("packages import %.2f others on average beyond the vocabularies, more than %.2f", mean, maxMeanImports)
	}
	return found
}

// drawn is a line of the tree in docs/design.md: a package with what it is, or below it one of its files.
var drawn = regexp.MustCompile(`(?m)^(  )?([a-z_/]+(?:\.go|\.yaml)?) {2,}\S`)

// TestTree holds the one drawn tree to the packages and files that there are.
func TestTree(t *testing.T) {
	text, err := os.ReadFile("../docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n```\n")
	tree, _, _ := strings.Cut(rest, "\n```\n")
	shown := map[string]bool{}
	folder := ""
	for _, line := range drawn.FindAllStringSubmatch(tree, -1) {
		name := line[2]
		if line[1] != "" {
			name = folder + "/" + name
		} else {
			folder = name
		}
		shown[name] = true
		if _, err := os.Stat(filepath.Join("..", name)); err != nil {
			t.Errorf("docs/design.md draws %s: %v", name, err)
		}
	}
	for _, topic := range []string{
		"PKCE", "RFC 8707", "RFC 7009", "RFC 9207", "CIMD", "reuse", "consent page", "key rotation", "rate limits",
	} {
		if !strings.Contains(tree, topic) {
			t.Errorf("a newcomer does not find %s in the tree of docs/design.md", topic)
		}
	}
	for _, p := range list(t) {
		if _, isSupport := support[p.Name]; !isSupport && !outside(p.Name) && !shown[p.Name] {
			t.Errorf("docs/design.md does not draw %s: give it a line in the tree", p.Name)
		}
	}
}

// outside reports whether a package is not part of the house: it uses the house as anybody would.
func outside(name string) bool {
	return name == "internal" || name == "bench" || strings.HasPrefix(name, "examples/") ||
		strings.HasPrefix(name, "test/")
}

func listed(names []string) string {
	if len(names) == 0 {
		return "nothing of this module"
	}
	return "only " + strings.Join(names, ", ")
}

// list reads the imports from the source files themselves, whatever their build tags, so that the test runs again when
// one of them changes.
func list(t *testing.T) (pkgs []pkg) {
	t.Helper()
	found := map[string]*pkg{}
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != ".." && elsewhere(path, entry.Name()):
			return filepath.SkipDir
		case entry.IsDir() || filepath.Ext(path) != ".go":
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, source, parser.ImportsOnly)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel("..", filepath.Dir(path))
		if err != nil {
			return err
		}
		p := found[folder]
		if p == nil {
			p = &pkg{Name: filepath.ToSlash(folder)}
			found[folder] = p
		}
		if !strings.HasSuffix(path, "_test.go") {
			lines := bytes.Count(source, []byte("\n"))
			p.Lines += lines
			p.Longest = max(p.Longest, lines)
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			name, ours := strings.CutPrefix(imported, module)
			switch {
			case !ours:
			case strings.HasSuffix(path, "_test.go"):
				p.TestImports = append(p.TestImports, name)
			default:
				p.Imports = append(p.Imports, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range found {
		slices.Sort(p.Imports)
		p.Imports = slices.Compact(p.Imports)
		slices.Sort(p.TestImports)
		p.TestImports = slices.Compact(p.TestImports)
		pkgs = append(pkgs, *p)
	}
	slices.SortFunc(pkgs, func(a, b pkg) int { return strings.Compare(a.Name, b.Name) })
	if len(pkgs) < 10 {
		t.Fatalf("only %d packages were found", len(pkgs))
	}
	return pkgs
}

// elsewhere reports whether the Go files of a folder are not packages of this module.
func elsewhere(path, name string) bool {
	if name == "testdata" || name == "node_modules" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return true
	}
	_, err := os.Stat(filepath.Join(path, "go.mod"))
	return err == nil
}
