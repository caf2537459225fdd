package console_test

import (
	"encoding/csv"
	"strings"
	"testing"
	"unicode"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/server/servertest"
)

// What strangers chose runs in no spreadsheet and obeys no terminal when the audit log is exported.
func TestExportIsInert_AD09(t *testing.T) {
	s := servertest.StartMCP(t)
	agent := s.Agent(t, nil)
	for _, name := range []string{`=cmd|' /C calc'!A1`, `+1+cmd`, `-2+3`, `@SUM(A1)`, "\u202e=evil",
		` =HYPERLINK("x")`} {
		agent.Register(map[string]any{"client_name": name, "redirect_uris": []string{agent.RedirectURI},
			"token_endpoint_auth_method": "none"})
		s.Browser(t).Authorize(agent.Authorization(servertest.With("scope", "=none")),
			servertest.Header("User-Agent", "=cmd|x"))
	}
	b := staff(t, s, identity.Auditor)
	exported := b.Get("/admin/audit/export?format=csv").Body
	rows, err := csv.NewReader(strings.NewReader(exported)).ReadAll()
	if err != nil || len(rows) < 6 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for _, row := range rows {
		for _, cell := range row {
			if strings.ContainsAny(strings.TrimLeft(cell, " ")[:min(1, len(strings.TrimLeft(cell, " ")))], "=+-@|%") {
				t.Errorf("AD-09 a formula: %q", cell)
			}
			if strings.ContainsFunc(cell, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("AD-09 characters that nobody sees: %q", cell)
			}
		}
	}
	lines := b.Get("/admin/audit/export?format=ndjson").Body
	for _, line := range strings.Split(strings.TrimSuffix(lines, "\n"), "\n") {
		if !strings.HasPrefix(line, "{") ||
			strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("AD-09 not one object in a line: %q", line)
		}
	}
}
