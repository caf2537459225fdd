package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func drawn(t *testing.T, style style, fold []string, rows ...[]string) string {
	t.Helper()
	var b strings.Builder
	tab := newTable(&b, style)
	if fold != nil {
		tab.Fold(16, fold...)
	}
	for i, row := range rows {
		if i == 0 && fold != nil {
			tab.Head(row...)
		} else {
			tab.Row(row...)
		}
	}
	if err := tab.Flush(); err != nil {
		t.Fatal(err)
	}
	return "\n" + b.String()
}

// TestTableInParts checks that a list that is printed part by part has one heading and the columns of its first part.
func TestTableInParts(t *testing.T) {
	for _, tt := range []struct {
		width int
		want  string
	}{
		{0, `
ID      NAME   STATE
mcp_1   Agent  approved
mcp_22  A      approved
mcp_333333  Another one  disabled
mcp_4   Agent  approved
`},
		{24, `
ID      NAME   STATE
mcp_1   Agent  approved
mcp_22  A      approved
mcp_333333  Anoth  disabled
        er
        one
mcp_4   Agent  approved
`},
		{20, `
ID     mcp_1
NAME   Agent
STATE  approved

ID     mcp_22
NAME   A
STATE  approved

ID     mcp_333333
NAME   Another one
STATE  disabled

ID     mcp_4
NAME   Agent
STATE  approved
`},
	} {
		var b strings.Builder
		tab := newTable(&b, style{Width: tt.width})
		for _, part := range [][][]string{
			{{"mcp_1", "Agent", "approved"}, {"mcp_22", "A", "approved"}},
			{{"mcp_333333", "Another one", "disabled"}, {"mcp_4", "Agent", "approved"}},
		} {
			tab.Head("ID", "NAME", "STATE")
			tab.Fold(16, "NAME")
			for _, row := range part {
				tab.Row(row...)
			}
			if err := tab.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(tt.want, "\n"+b.String()); diff != "" {
			t.Errorf("%d columns (-want +got):\n%s", tt.width, diff)
		}
	}
}

func TestTable(t *testing.T) {
	id := "mcp_kibgo547gjkkotmuu3qrfmld3v"
	list := [][]string{
		{"ID", "NAME", "STATE"},
		{id, "An application whose name is long enough to be folded", "approved"},
		{id, "名前", "approved"},
	}
	tests := []struct {
		name  string
		style style
		fold  []string
		rows  [][]string
		want  string
	}{
		{"a file", style{}, []string{"NAME"}, list, `
ID                              NAME                                                   STATE
mcp_kibgo547gjkkotmuu3qrfmld3v  An application whose name is long enough to be folded  approved
mcp_kibgo547gjkkotmuu3qrfmld3v  名前                                                   approved
`},
		{"a wide terminal", style{Width: 200}, []string{"NAME"}, list[2:], `
mcp_kibgo547gjkkotmuu3qrfmld3v  名前  approved
`},
		{"a terminal", style{Width: 64}, []string{"NAME"}, list, `
ID                              NAME                    STATE
mcp_kibgo547gjkkotmuu3qrfmld3v  An application whose    approved
                                name is long enough to
                                be folded
mcp_kibgo547gjkkotmuu3qrfmld3v  名前                    approved
`},
		{"a narrow terminal", style{Width: 48}, []string{"NAME"}, list, `
ID     mcp_kibgo547gjkkotmuu3qrfmld3v
NAME   An application whose name is long enough
       to be folded
STATE  approved

ID     mcp_kibgo547gjkkotmuu3qrfmld3v
NAME   名前
STATE  approved
`},
		{"a long word", style{Width: 50}, []string{"URL"}, [][]string{
			{"ID", "URL"},
			{"1", "https://mcp.example.com/a/path/that/is/longer/than/the/line"},
		}, `
ID  URL
1   https://mcp.example.com/a/path/that/is/longer/
    than/the/line
`},
		{"nothing to fold", style{Width: 20}, nil, [][]string{
			{"client id", id},
			{"client secret", "cardea_cs_" + strings.Repeat("x", 40)},
		}, `
client id      mcp_kibgo547gjkkotmuu3qrfmld3v
client secret  cardea_cs_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
`},
		{"a sentence", style{Width: 20}, nil, [][]string{
			{"kind", "access token"}, {"a sentence of its own"}, {"ok", "typ"},
		}, `
kind  access token
a sentence of its own
ok    typ
`},
		{"empty", style{Width: 10}, []string{"NAME"}, list[:1], "\n"},
		{"no rows", style{Width: 10}, []string{"NAME"}, nil, "\n"},
		{"escape sequences", style{Width: 80, Colors: true}, []string{"NAME"}, [][]string{
			{"NAME"},
			{"\x1b[2J\u202eevil\r\nREFUSED\t\u009b31m"},
		}, "\nNAME\n\ufffd[2J\ufffdevil\ufffd\ufffdREFUSED\ufffd\ufffd31m\n"},
		{"refused, in color", style{Colors: true}, nil, [][]string{
			{"OUTCOME", "WHAT"},
			{"REFUSED", "client=REFUSED"},
		}, "\nOUTCOME  WHAT\n\x1b[31mREFUSED\x1b[0m  client=REFUSED\n"},
		{"refused", style{}, nil, [][]string{{"REFUSED", "a"}}, "\nREFUSED  a\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, drawn(t, tt.style, tt.fold, tt.rows...)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLine(t *testing.T) {
	got := (style{Colors: true}).Line("a\x1b", "REFUSED", "b", "")
	if got != "a\ufffd  \x1b[31mREFUSED\x1b[0m  b" {
		t.Errorf("%q", got)
	}
	if got := (style{Width: 2}).Line("a", "REFUSED"); got != "a  REFUSED" {
		t.Errorf("%q", got)
	}
}

func TestStyleOf(t *testing.T) {
	for _, tt := range []struct {
		environ []string
		want    style
	}{
		{nil, style{}},
		{[]string{"COLUMNS=60", "COLUMNS=72"}, style{Width: 72}},
		{[]string{"COLUMNS=-1"}, style{}},
		{[]string{"COLUMNS=wide", "TERM=xterm"}, style{}},
	} {
		if got := styleOf(new(strings.Builder), tt.environ); got != tt.want {
			t.Errorf("%v: %+v, want %+v", tt.environ, got, tt.want)
		}
	}
}

// A list that is a member of a record is the JSON of that record, however it comes in parts.
func TestListWithin(t *testing.T) {
	type group struct {
		Name    string   `json:"name"`
		Members []string `json:"members,omitempty"`
	}
	for _, parts := range [][][]string{{{"ada", "<bob>"}, {"eve"}}, {{"ada"}}, {nil}} {
		var out, want strings.Builder
		p := newPrinter(output{Output: "json"}, &shell{out: &out}, "", func([]string, *table) {})
		err := p.within(group{Name: "staff"}, "members")
		all := []string{}
		for _, part := range parts {
			err = errors.Join(err, p.add(part))
			all = append(all, part...)
		}
		err = errors.Join(err, p.end(), printJSON(&want, map[string]any{"name": "staff", "members": all}))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(want.String(), "<bob>") != strings.Contains(out.String(), "<bob>") {
			t.Errorf("it is written in other ways:\n%s", out.String())
		}
		var got any
		if err := json.Unmarshal([]byte(out.String()), &got); err != nil {
			t.Fatalf("%v:\n%s", err, out.String())
		}
		if diff := cmp.Diff(strings.Count(want.String(), "\n"), strings.Count(out.String(), "\n")); diff != "" {
			t.Errorf("%s", out.String())
		}
		if diff := cmp.Diff(map[string]any{"name": "staff", "members": anyOf(all)}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func anyOf(texts []string) []any {
	all := []any{}
	for _, text := range texts {
		all = append(all, text)
	}
	return all
}
