//go:build unix

package main

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/cardea-auth/cardea/internal/porttest"
)

// used is a server with a gateway that was used, and what it answered to a scrape then.
type used struct {
	*fronted
	bot           credentials
	address, text string // of the metrics
}

// scrapeUsed uses a server with a gateway: tokens, calls of tools, and refusals of both.
func scrapeUsed(t *testing.T) used {
	t.Helper()
	listen := porttest.Address(t)
	u := used{address: "http://" + listen + "/metrics", fronted: newFronted(t, "CARDEA_METRICS_LISTEN="+listen)}
	u.bot = u.made(t, "--grant", "client_credentials", "--any-resource")
	for _, secret := range []string{u.bot.ClientSecret, "wrong"} {
		resp, err := http.PostForm(u.issuer+"/oauth2/token", url.Values{"grant_type": {"client_credentials"}, //nolint:noctx
			"client_id": {u.bot.ClientID}, "client_secret": {secret}, "resource": {"https://mcp.example.com/mcp"},
			"scope": {"mcp:tools:weather"}})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	got(t, u.issuer+"/.well-known/jwks", "")
	for tool, want := range map[string]string{"read_file": "done", "write_file": "-32601"} {
		if body, err := u.call(t, tool); err != nil || !strings.Contains(body, want) {
			t.Errorf("%s: %v, %s", tool, err, body)
		}
	}
	u.text = got(t, u.address, "text/plain")
	return u
}

// got returns what is at a URL.
func got(t *testing.T, url, accept string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d, %v", url, resp.StatusCode, err)
	}
	return string(body)
}

// Every query of the dashboard and of the alerts has data at a server that was used, as the engine of Prometheus finds,
// which also judges the alerts by their tests. Every alert has a section in the guide, and no label names a client or a
// person.
func TestMetrics(t *testing.T) {
	used := scrapeUsed(t)
	text := used.text
	for what, secret := range map[string]string{"a client": used.bot.ClientID, "a person": "ada@", "an id": "usr_",
		"a secret": used.bot.ClientSecret, "an address": "127.0.0.1"} {
		if strings.Contains(text, secret) {
			t.Errorf("the metrics name %s", what)
		}
	}
	for _, line := range []string{`cardea_gateway_calls_total{outcome="allowed",server="files"} 1`,
		`cardea_gateway_calls_total{outcome="refused",server="files"} 1`,
		`cardea_gateway_upstream_duration_seconds_count{server="files"} 1`,
		`cardea_gateway_server_up{server="files"} 1`, `cardea_gateway_server_up{server="program"} 1`,
		`cardea_gateway_programs_max{server="program"} 20`,
		`cardea_token_request_duration_seconds_count{grant_type="client_credentials"} 3`,
		`cardea_token_requests_total{grant_type="client_credentials",outcome="allowed",reason=""} 2`,
		`cardea_token_requests_total{grant_type="client_credentials",outcome="refused",reason="invalid_client"} 1`,
		`cardea_http_requests_total{method="GET",route="/.well-known/jwks",status="200"} `,
		`cardea_gateway_requests_total{server="files",status="200"} `,
	} {
		if !strings.Contains(text, "\n"+line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
	port := used.address[strings.LastIndex(used.address, ":")+1 : len(used.address)-len("/metrics")]
	for host, want := range map[string]int{"localhost:" + port: 200, "10.0.0.7:" + port: 200, "[fd00::7]": 200,
		"evil.example:" + port: 403, "127.0.0.1.evil.example": 403} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, used.address, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close(); resp.StatusCode != want {
			t.Errorf("asked as %s: %d, want %d", host, resp.StatusCode, want)
		}
	}
	if open := got(t, used.address, "application/openmetrics-text"); !strings.Contains(open,
		`# {request_id="`) {
		t.Error("there are no exemplars")
	}
	resp, err := http.Get(used.issuer + "/metrics") //nolint:noctx
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("the public address answers /metrics with %d", resp.StatusCode)
	}

	var alerts struct {
		Groups []struct {
			Rules []struct {
				Alert       string
				Annotations map[string]string
			}
		}
	}
	read(t, "../../deploy/prometheus/alerts.yml", func(b []byte) error { return yaml.Unmarshal(b, &alerts) })
	var told []string
	read(t, "../../docs/guides/watch.md", func(b []byte) error {
		for _, m := range regexp.MustCompile(`(?m)^### (Cardea\w+)$`).FindAllStringSubmatch(string(b), -1) {
			told = append(told, m[1])
		}
		return nil
	})
	var named []string
	for _, rule := range alerts.Groups[0].Rules {
		named = append(named, rule.Alert)
		if !strings.HasSuffix(rule.Annotations["runbook"], "watch.md#"+strings.ToLower(rule.Alert)) {
			t.Errorf("%s: runbook %q", rule.Alert, rule.Annotations["runbook"])
		}
	}
	if !slices.Equal(named, told) {
		t.Errorf("alerts %q, and the guide has %q", named, told)
	}

	scraped := filepath.Join(t.TempDir(), "scraped.txt")
	if err := os.WriteFile(scraped, []byte(text), 0o600); err != nil {
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

func read(t *testing.T, path string, into func([]byte) error) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = into(text)
	}
	if err != nil {
		t.Fatal(path, ": ", err)
	}
}
