//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The engine of Prometheus itself judges the alerts by their tests, and each query of the dashboard by what a server
// answers to a scrape. It takes minutes to build, so TestMetrics has a reader of its own for each `make test`.
func TestAlertsEngine(t *testing.T) {
	scraped := filepath.Join(t.TempDir(), "scraped.txt")
	if err := os.WriteFile(scraped, []byte(scrapeUsed(t).text), 0o600); err != nil {
		t.Fatal(err)
	}
	deploy, err := filepath.Abs("../../deploy")
	if err != nil {
		t.Fatal(err)
	}
	judge := exec.CommandContext(t.Context(), "go", "run", "-C", "../../tools/alerts", ".", //nolint:gosec // our own
		deploy+"/prometheus/alerts.yml", deploy+"/prometheus/alerts_test.yml", deploy+"/grafana/cardea.json", scraped)
	out, err := judge.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
