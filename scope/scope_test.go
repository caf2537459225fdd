package scope_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/scope"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     scope.Set
	}{
		{"nothing", "", nil},
		{"only spaces", "   ", nil},
		{"one", "a", scope.Set{"a"}},
		{"order is kept", "b a", scope.Set{"b", "a"}},
		{"spaces around and doubled", "  a  b ", scope.Set{"a", "b"}},
		{"said twice counts once", "a b a", scope.Set{"a", "b"}},
		{"every character that is allowed", "!#[]~ a:*", scope.Set{"!#[]~", "a:*"}},
		{"the longest name", strings.Repeat("x", 256), scope.Set{strings.Repeat("x", 256)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := scope.Parse(c.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
	for name, in := range map[string]string{
		"quotation mark":    `a "b"`,
		"backslash":         `a\b`,
		"tab":               "a\tb",
		"line break":        "a\r\nb",
		"NUL":               "a\x00",
		"DEL":               "a\x7f",
		"not ASCII":         "mcp:tööls",
		"invalid UTF-8":     "a\xff",
		"a name too long":   strings.Repeat("x", 257),
		"one name too many": strings.Repeat("a ", 257),
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := scope.Parse(in); !errors.Is(err, scope.ErrSyntax) || got != nil {
				t.Errorf("Parse = %q, %v; want ErrSyntax", got, err)
			}
		})
	}
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		set  scope.Set
		name string
		want bool
	}{
		{scope.Of("mcp:tools:weather"), "mcp:tools:weather", true},
		{scope.Of("mcp:tools:weather"), "mcp:tools:weather:read", false},
		{scope.Of("mcp:tools:weather"), "mcp:tools", false},
		{scope.Of("mcp:tools:weather"), "MCP:tools:weather", false},
		{scope.Of("mcp:*"), "mcp:a", true},
		{scope.Of("mcp:*"), "mcp:a:b", true},
		{scope.Of("mcp:*"), "mcp:a:*", true},
		{scope.Of("mcp:*"), "mcp:*", true},
		{scope.Of("mcp:a:*"), "mcp:*", false},
		{scope.Of("mcp:*"), "mcp:", false},
		{scope.Of("mcp:*"), "mcp", false},
		{scope.Of("mcp:*"), "mcp::a", false},
		{scope.Of("mcp:*"), "mcpx:a", false},
		{scope.Of("mcp:t*"), "mcp:tools", false},
		{scope.Of("mcp*"), "mcp:a", false},
		{scope.Of("*"), "a", false},
		{scope.Of("*"), "*", true},
		{scope.Of(":*"), ":a", false},
		{scope.Of("a", "b:*"), "b:c", true},
		{scope.Set{""}, "", false},
		{nil, "a", false},
		{nil, "", false},
	} {
		if got := c.set.Covers(c.name); got != c.want {
			t.Errorf("%q covers %q = %v", c.set, c.name, got)
		}
	}
}

func TestSets(t *testing.T) {
	s := scope.Of("a", "b:*", "", "c", "a")
	if diff := cmp.Diff(scope.Set{"a", "b:*", "c"}, s); diff != "" {
		t.Fatal(diff)
	}
	o := scope.Of("c", "d", "a")
	for _, c := range []struct {
		op   string
		got  scope.Set
		want scope.Set
	}{
		{"Intersect", s.Intersect(o), scope.Set{"a", "c"}},
		{"Intersect is exact", s.Intersect(scope.Of("b:x")), nil},
		{"Union", s.Union(o), scope.Set{"a", "b:*", "c", "d"}},
		{"Union of nothing", scope.Set(nil).Union(nil), nil},
		{"Minus", s.Minus(o), scope.Set{"b:*"}},
		{"Missing", s.Missing("d", "b:x", "", "e", "d"), scope.Set{"d", "e"}},
		{"Missing nothing", s.Missing("a", "b:x:y"), nil},
	} {
		if diff := cmp.Diff(c.want, c.got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: %s", c.op, diff)
		}
	}
	for _, c := range []struct {
		op        string
		got, want bool
	}{
		{"SubsetOf", scope.Of("a", "c").SubsetOf(s), true},
		{"SubsetOf is exact", scope.Of("b:x").SubsetOf(s), false},
		{"the empty set is a subset", scope.Set(nil).SubsetOf(nil), true},
		{"CoversAll", s.CoversAll("a", "b:x"), true},
		{"CoversAll but one", s.CoversAll("a", "d"), false},
		{"CoversAll of nothing", scope.Set(nil).CoversAll(), true},
		{"CoversAny", s.CoversAny("d", "b:x"), true},
		{"CoversAny of strangers", s.CoversAny("d", "e"), false},
		{"CoversAny of nothing", s.CoversAny(), false},
	} {
		if c.got != c.want {
			t.Errorf("%s = %v", c.op, c.got)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"mcp:tools:weather", "mcp:tools:email:send", "mcp:tools:whether"}
	for name, want := range map[string]string{
		"mcp:tools:wether": "mcp:tools:weather", "mcp:tools:email:sent": "mcp:tools:email:send",
		"mcp:tools:whethr": "mcp:tools:whether", "": "mcp:tools:weather", "email": "mcp:tools:email:send",
		"mcp:tools:weather" + strings.Repeat("x", 1<<20): "mcp:tools:weather",
	} {
		if got := scope.Nearest(name, known); got != want {
			t.Errorf("the nearest to %.40q is %q, want %q", name, got, want)
		}
	}
	if got := scope.Nearest("name", []string{"client_name", "jwks", "scope"}); got != "client_name" {
		t.Errorf("the nearest to a word of client_name is %q", got)
	}
	if got := scope.Nearest("a", nil); got != "" {
		t.Errorf("the nearest of none is %q", got)
	}
}

func TestMethodsLeaveTheirSetsAlone(t *testing.T) {
	backing := scope.Set{"a", "b", "kept"}
	short := backing[:2]
	short.Union(scope.Of("c"))
	short.Minus(scope.Of("a"))
	short.Intersect(scope.Of("b"))
	if diff := cmp.Diff(scope.Set{"a", "b", "kept"}, backing); diff != "" {
		t.Error(diff)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", " a  b ", "mcp:tools:* x", `"`, "a\x00", strings.Repeat("a ", 300)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		set, err := scope.Parse(in)
		if err != nil {
			if !errors.Is(err, scope.ErrSyntax) || set != nil {
				t.Fatalf("Parse(%q) = %q, %v", in, set, err)
			}
			return
		}
		for i, name := range set {
			if !scope.Valid(name) || slices.Contains(set[:i], name) {
				t.Fatalf("Parse(%q) let %q through", in, name)
			}
		}
		again, err := scope.Parse(set.String())
		if err != nil || !slices.Equal(set, again) {
			t.Fatalf("Parse(%q) = %q, and again %q, %v", in, set, again, err)
		}
	})
}

func FuzzCovers(f *testing.F) {
	f.Add("mcp:*", "mcp:a:b")
	f.Add("a b:*", "b:")
	f.Fuzz(func(t *testing.T, granted, name string) {
		set, err := scope.Parse(granted)
		if err != nil || !set.Covers(name) || set.Has(name) {
			return
		}
		if !slices.ContainsFunc(set, func(w string) bool {
			return strings.HasSuffix(w, ":*") && len(w) > 2 && strings.HasPrefix(name, w[:len(w)-1]) &&
				len(name) > len(w)-1
		}) {
			t.Fatalf("%q covers %q", granted, name)
		}
	})
}

func Example() {
	granted, err := scope.Parse("mcp:tools:calendar:read mcp:resources:*")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(granted.Covers("mcp:tools:calendar:read"))
	fmt.Println(granted.Covers("mcp:resources:customer-data:write"))
	fmt.Println(granted.CoversAny("mcp:tools:weather", "mcp:tools:email:send"))
	fmt.Println(granted.Missing("mcp:tools:calendar:read", "mcp:tools:email:send"))
	// Output:
	// true
	// true
	// false
	// mcp:tools:email:send
}
