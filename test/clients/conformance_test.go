package clients_test

import (
	"bufio"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/porttest"
)

// The MCP conformance tool runs both its authorization server scenarios against Cardea.
func TestConformance(t *testing.T) {
	d := startDemo(t)
	_, port, err := net.SplitHostPort(porttest.Address(t))
	if err != nil {
		t.Fatal(err)
	}
	client := d.createClient(t, "--name", "conformance", "--grant", "authorization_code", "--grant", "refresh_token",
		"--redirect-uri", "http://127.0.0.1:"+port+"/callback", "--public")

	results := t.TempDir()
	cmd := node(t.Context(), t, "node_modules/@modelcontextprotocol/conformance/dist/index.js",
		"authorization", "--url", d.Issuer, "--client-id", client.ID, "-p", port, "--resource", d.MCP, "-o", results)
	cmd.Dir = results
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ada := newPerson(t, d.Email, d.Password)
	var said []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := lines.Text()
		said = append(said, line)
		if !strings.HasPrefix(line, d.Issuer+"/oauth2/authorize?") {
			continue
		}
		back, err := ada.Visit(line)
		if err != nil {
			t.Error(err)
			_ = cmd.Process.Kill() // it would wait five minutes for the response
			break
		}
		resp, err := http.Get(back) // the tool listens there
		if err != nil {
			t.Error(err)
			continue
		}
		resp.Body.Close()
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("conformance: %v\n%s\n%s", err, strings.Join(said, "\n"), complaint.String())
	}

	passed := map[string]string{}
	reports, err := filepath.Glob(filepath.Join(results, "*", "checks.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, report := range reports {
		raw, err := os.ReadFile(report)
		if err != nil {
			t.Fatal(err)
		}
		var checks []struct{ ID, Status, ErrorMessage string }
		if err := json.Unmarshal(raw, &checks); err != nil {
			t.Fatal(err)
		}
		for _, check := range checks {
			passed[check.ID] = check.Status
			if check.Status == "FAILURE" || check.Status == "SKIPPED" {
				t.Errorf("%s: %s: %s", check.ID, check.Status, check.ErrorMessage)
			}
		}
	}
	for _, check := range []string{"authorization-server-metadata", "authorization-code-grant"} {
		if passed[check] != "SUCCESS" {
			t.Errorf("%s did not pass, among %v\n%s", check, passed, strings.Join(said, "\n"))
		}
	}
}
