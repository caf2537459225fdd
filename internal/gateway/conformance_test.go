package gateway_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/guard/guardtest"
	"github.com/cardea-auth/cardea/internal/gateway"
	"github.com/cardea-auth/cardea/internal/porttest"
)

// everywhere opens everything to a token with one scope, so that every call of the conformance tool is judged.
const everywhere = `
  - name: everything
    path: /mcp
    upstream: "{upstream}"
    rules:
      - {tools: ["*"], scopes: [all]}
      - {prompts: ["*"], scopes: [all]}
      - {resources: ["**"], scopes: [all]}
`

// The MCP conformance tool finds the same through the gateway as without it, check by check. It sends no token, so one
// is added on the way to the gateway, in the same process, because one more proxy makes the tool find less.
func TestConformance(t *testing.T) {
	node, clients := os.Getenv("CARDEA_NODE"), os.Getenv("CARDEA_CLIENTS")
	tool := filepath.Join(clients, "node_modules/@modelcontextprotocol/conformance/dist/index.js")
	if _, err := os.Stat(tool); err != nil || node == "" {
		t.Fatal("CARDEA_NODE and CARDEA_CLIENTS do not name Node and the tool: run make test, which installs them")
	}
	everything := filepath.Join(t.TempDir(), "everything-server")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", everything,
		"github.com/modelcontextprotocol/go-sdk/conformance/everything-server")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for requirements, stateless := range map[string]bool{"2025-11-25": false, "2026-07-28": true} {
		t.Run(requirements, func(t *testing.T) {
			address := porttest.Address(t)
			server := exec.CommandContext(t.Context(), everything, "-http", address,
				fmt.Sprintf("-stateless=%t", stateless))
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
			for {
				conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
				if err == nil {
					conn.Close()
					break
				}
				select {
				case <-t.Context().Done():
					t.Fatal("the server does not listen")
				case <-time.After(5 * time.Millisecond):
				}
			}

			log := &logs{}
			issuer := guardtest.NewIssuer()
			t.Cleanup(issuer.Close)
			var g *gateway.Gateway
			var token string
			shim := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Header.Set("Authorization", "Bearer "+token)
				g.ServeHTTP(w, r)
			}))
			t.Cleanup(func() { shim.CloseClientConnections(); shim.Close() })
			file := filepath.Join(t.TempDir(), "gateway.yaml")
			text := "issuer: " + issuer.URL + "\npublic: " + shim.URL + "\nservers:" +
				strings.ReplaceAll(everywhere, "{upstream}", "http://"+address+"/")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			config, err := gateway.Load(file)
			if err != nil {
				t.Fatal(err)
			}
			g, err = gateway.New(config, gateway.Options{Logger: slog.New(slog.NewJSONHandler(log,
				&slog.HandlerOptions{Level: slog.LevelDebug}))})
			if err != nil {
				t.Fatal(err)
			}
			token = issuer.Token(guardtest.Claims{Audience: shim.URL + "/mcp", Scope: "all", TTL: time.Hour})
			direct := checks(t, node, tool, requirements, "http://"+address+"/")
			through := checks(t, node, tool, requirements, shim.URL+"/mcp")
			// The gateway knows whose tasks there are, and refuses others itself, as the standard asks and this server
			// does not.
			const others = "server-tasks-dispatch-and-envelope sep-2663-tasks-get-invalid-task-id-32602"
			for name := range direct {
				if strings.HasPrefix(name, others+" ") && through[name] == "SUCCESS" {
					direct[name] = "SUCCESS"
				}
			}
			if diff := cmp.Diff(direct, through); diff != "" {
				t.Errorf("checks (-direct +through the gateway):\n%s\n%s", diff, log)
			}
			if len(direct) < 30 {
				t.Errorf("only %d checks", len(direct))
			}
			counts := map[string]int{}
			for _, status := range through {
				counts[status]++
			}
			t.Log("through the gateway:", counts)
		})
	}
}

// checks runs the conformance tool against the server at url and returns the status of each check.
func checks(t *testing.T, node, tool, requirements, url string) map[string]string {
	t.Helper()
	results := t.TempDir()
	// localhost, because the tool compares how the server treats it with how it treats other names.
	cmd := exec.CommandContext(t.Context(), node, tool, "server",
		"--url", strings.Replace(url, "127.0.0.1", "localhost", 1), "--requirements", requirements, "-o", results)
	cmd.Dir = results
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Logf("%v\n%s", err, out)
	}
	reports, err := filepath.Glob(filepath.Join(results, "*", "checks.json"))
	if err != nil {
		t.Fatal(err)
	}
	status := map[string]string{}
	for _, report := range reports {
		raw, err := os.ReadFile(report)
		if err != nil {
			t.Fatal(err)
		}
		var checks []struct{ ID, Status, ErrorMessage string }
		if err := json.Unmarshal(raw, &checks); err != nil {
			t.Fatal(err)
		}
		scenario := regexp.MustCompile(`-\d{4}-.*$`).ReplaceAllString(filepath.Base(filepath.Dir(report)), "")
		for i, c := range checks {
			status[fmt.Sprintf("%s %s %d", scenario, c.ID, i)] = c.Status
			if c.Status == "FAILURE" {
				t.Logf("%s: %s %s: %s", url, scenario, c.ID, c.ErrorMessage)
			}
		}
	}
	return status
}
