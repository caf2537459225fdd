//go:build unix

package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// series are the label sets that were scraped, by the name of their metric.
type series map[string][]map[string]string

var (
	sample  = regexp.MustCompile(`(?m)^([a-z_]+)(?:\{([^}]*)\})? `)
	matcher = regexp.MustCompile(`([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"`)
	// metric is a name in a query, with its matchers.
	metric = regexp.MustCompile(`\b((?:cardea|process|go)_[a-z_]+)(?:\{([^}]*)\})?`)
	by     = regexp.MustCompile(`\bby \(([^)]*)\)`)
)

func parsed(text string) series {
	s := series{}
	for _, m := range sample.FindAllStringSubmatch(text, -1) {
		labels := map[string]string{}
		for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
			labels[l[1]] = l[3]
		}
		s[m[1]] = append(s[m[1]], labels)
	}
	return s
}

// added are the labels that Prometheus adds to what it scrapes.
var added = []string{"instance", "job"}

// lacks returns what a query names that s does not have, "" if it returns data.
func (s series) lacks(query string) string {
	found := metric.FindAllStringSubmatch(query, -1)
	var all []map[string]string
	for _, m := range found {
		fits := slices.ContainsFunc(s[m[1]], func(labels map[string]string) bool {
			for _, want := range matcher.FindAllStringSubmatch(m[2], -1) {
				value, there := labels[want[1]]
				if slices.Contains(added, want[1]) {
					continue
				}
				if !there || want[2] == "=" && value != want[3] ||
					want[2] == "=~" && !regexp.MustCompile("^(?:"+want[3]+")$").MatchString(value) {
					return false
				}
			}
			return true
		})
		if !fits {
			return m[0]
		}
		all = append(all, s[m[1]]...)
	}
	for _, names := range by.FindAllStringSubmatch(query, -1) {
		for name := range strings.SplitSeq(names[1], ",") {
			name = strings.TrimSpace(name)
			if !slices.Contains(added, name) &&
				!slices.ContainsFunc(all, func(labels map[string]string) bool { _, ok := labels[name]; return ok }) {
				return "by (" + name + ")"
			}
		}
	}
	return ""
}

// onlyHTTPS is a metric that a server has only if it serves HTTPS by itself.
const onlyHTTPS = "cardea_tls_certificate_expires_timestamp_seconds"

// used is a server with a gateway that was used, and what it answered to a scrape then.
type used struct {
	*fronted
	bot           credentials
	address, text string // of the metrics
}

// scrapeUsed uses a server with a gateway: tokens, calls of tools, and refusals of both.
func scrapeUsed(t *testing.T) used {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := used{address: "http://" + l.Addr().String() + "/metrics"}
	l.Close()
	u.fronted = newFronted(t, "CARDEA_METRICS_LISTEN="+l.Addr().String())
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

// Every query of the dashboard and of the alerts has data at a server that was used, every alert has a section in the
// guide, and no label names a client or a person.
func TestMetrics(t *testing.T) {
	used := scrapeUsed(t)
	text, scraped := used.text, parsed(used.text)
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
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("the metrics lack %s", line)
		}
	}
	for name, want := range map[string]string{
		"a token":   `cardea_token_requests_total{grant_type="client_credentials",outcome="allowed"}`,
		"a refusal": `cardea_token_requests_total{grant_type="client_credentials",outcome="refused",reason="invalid_client"}`,
		"a route":   `cardea_http_requests_total{route="/.well-known/jwks",method="GET",status="200"}`,
		"a call":    `cardea_gateway_calls_total{server="files",outcome="allowed"}`,
		"an answer": `cardea_gateway_requests_total{server="files",status="200"}`,
	} {
		if lacks := scraped.lacks(want); lacks != "" {
			t.Errorf("%s: there is no %s", name, lacks)
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

	var board struct {
		Panels []struct {
			Type, Title string
			Targets     []struct{ Expr string }
		}
	}
	read(t, "../../deploy/grafana/cardea.json", func(b []byte) error { return json.Unmarshal(b, &board) })
	queries := 0
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			queries++
			if lacks := scraped.lacks(target.Expr); lacks != "" &&
				!strings.Contains(target.Expr, "or vector(0)") { // what is missing there is none
				t.Errorf("the panel %q has no data: there is no %s", panel.Title, lacks)
			}
		}
		if panel.Type != "row" && len(panel.Targets) == 0 {
			t.Errorf("the panel %q has no query", panel.Title)
		}
	}
	if queries < 35 {
		t.Errorf("only %d queries were found", queries)
	}
	var alerts struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
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
		for _, m := range metric.FindAllStringSubmatch(rule.Expr, -1) {
			// An alert is about what is not there when all is well, so its matchers need no data.
			if lacks := scraped.lacks(m[1]); lacks != "" && m[1] != onlyHTTPS {
				t.Errorf("%s: there is no %s", rule.Alert, lacks)
			}
		}
		if !strings.HasSuffix(rule.Annotations["runbook"], "watch.md#"+strings.ToLower(rule.Alert)) {
			t.Errorf("%s: runbook %q", rule.Alert, rule.Annotations["runbook"])
		}
	}
	if !slices.Equal(named, told) {
		t.Errorf("alerts %q, and the guide has %q", named, told)
	}
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
