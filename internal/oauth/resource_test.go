package oauth_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/oauth"
)

func TestFindResource(t *testing.T) {
	registered := func(identifiers ...string) (all []*oauth.Resource) {
		for _, identifier := range identifiers {
			all = append(all, &oauth.Resource{Identifier: identifier})
		}
		return all
	}
	one := registered("https://host.example/mcp", "https://host.example/mcp/inner",
		"https://host.example/mcp?project=y", "http://localhost:8081/mcp", "https://alone.example/a")
	tests := []struct{ asked, want string }{
		{"https://host.example/mcp", "https://host.example/mcp"},
		{"https://host.example/mcp/", "https://host.example/mcp"},
		{"HTTPS://HOST.example:443/mcp", "https://host.example/mcp"},
		{"https://host.example/mcp?project=x", "https://host.example/mcp"},
		{"https://host.example/mcp/?project=x", "https://host.example/mcp"},
		{"https://host.example/mcp?project=y", "https://host.example/mcp?project=y"},
		{"https://host.example/mcp?", "https://host.example/mcp"},
		{"https://host.example/mcp/other?project=x", "https://host.example/mcp"},
		{"https://host.example/mcp/inner/x?project=y", "https://host.example/mcp/inner"},
		{"https://alone.example/", "https://alone.example/a"},
		{"https://alone.example?x=1", "https://alone.example/a"},
		{"http://LOCALHOST:8081/mcp", "http://localhost:8081/mcp"},
		{"https://host.example/mcpx?project=x", ""},
		{"https://host.example/", ""},
		{"https://host.example/?project=x", ""},
		{"https://evil.example/mcp?https://host.example/mcp", ""},
		{"http://localho%C5%BFt:8081/mcp", ""},
	}
	for _, test := range tests {
		got, err := oauth.FindResource(one, []string{test.asked})
		switch {
		case test.want == "" && err == nil:
			t.Errorf("FindResource(%q) = %q, want a refusal", test.asked, got.Identifier)
		case test.want != "" && (err != nil || got.Identifier != test.want):
			t.Errorf("FindResource(%q) = %v, %v, want %q", test.asked, got, err, test.want)
		}
	}
}

func TestCheckIdentifier(t *testing.T) {
	for identifier, want := range map[string]string{
		"http://LOCALHOST:8081/mcp":     "http://localhost:8081/mcp",
		"http://mcp.localhost:8081/mcp": "http://mcp.localhost:8081/mcp",
		"https://Mcp.example:443/":      "https://mcp.example",
	} {
		if got, err := oauth.CheckIdentifier(identifier); err != nil || got != want {
			t.Errorf("CheckIdentifier(%q) = %q, %v, want %q", identifier, got, err, want)
		}
	}
	for _, identifier := range []string{"http://localho%C5%BFt/mcp", "https://%E2%84%AA.example/mcp",
		"http://mcp.example/mcp", "http://localhost.evil.example/mcp"} {
		if got, err := oauth.CheckIdentifier(identifier); err == nil {
			t.Errorf("CheckIdentifier(%q) = %q, want a refusal", identifier, got)
		}
	}
}

func TestParseScope(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"too many", strings.TrimSpace(strings.Repeat("a:b ", 257)), "more than 256 names"},
		{"too long", strings.Repeat("a", 257), "name 1 is longer than 256 bytes"},
		{"not a name", `a:b "c"`, "name 2 has a character"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := oauth.ParseScope(tt.text)
			refusal := (*oauth.Refusal)(nil)
			if !errors.As(err, &refusal) || refusal.Code != oauth.InvalidScope ||
				!strings.Contains(refusal.Description, tt.want) {
				t.Errorf("%v, want invalid_scope that says %q", err, tt.want)
			}
		})
	}
	if got, err := oauth.ParseScope("a:b  c a:b"); err != nil || got.String() != "a:b c" {
		t.Errorf("%v, %v", got, err)
	}
}
