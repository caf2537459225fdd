package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/ledger"
)

const hookSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

const twoWebhooks = `
audit:
  webhooks:
    - name: siem
      url: https://siem.example.com/cardea
      secret_file: SECRET
      actions: [login., token.reuse]
      format: ocsf
    - name: local
      url: http://127.0.0.1:9000/
      secret: ` + hookSecret + "\n"

func TestWebhooks(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(hookSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(twoWebhooks, "SECRET", secret, 1)
	want := []ledger.Webhook{
		{Name: "siem", URL: "https://siem.example.com/cardea", Secret: hookSecret,
			Actions: []string{"login.", "token.reuse"}, Format: "ocsf"},
		{Name: "local", URL: "http://127.0.0.1:9000/", Secret: hookSecret},
	}
	_, list, _ := strings.Cut(text, "webhooks:")
	for name, sources := range map[string]config.Sources{
		"file":        {File: file(t, text)},
		"environment": {Environ: []string{"CARDEA_AUDIT_WEBHOOKS=" + list}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := config.Load(sources)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got.Audit.Webhooks); diff != "" {
				t.Errorf("webhooks (-want +got):\n%s", diff)
			}
			for _, s := range got.Settings() {
				if strings.Contains(s.Value, "whsec_") ||
					s.Key == "audit.webhooks" && (s.Value != "siem, local" || s.From != name) {
					t.Errorf("%+v", s)
				}
			}
		})
	}
	open := file(t, text)
	if err := os.Chmod(open, 0o644); err != nil { //nolint:gosec // that is what is tested
		t.Fatal(err)
	}
	if got, err := config.Load(config.Sources{File: open}); err != nil || len(got.Warnings) != 1 {
		t.Errorf("a secret that every user can read: %+v, %v", got, err)
	}
}

func TestWebhookErrors(t *testing.T) {
	base := "audit:\n  webhooks:\n    - name: siem\n      url: https://siem.example.com\n      secret: " + hookSecret + "\n"
	item := strings.TrimPrefix(base, "audit:\n  webhooks:\n")
	for name, test := range map[string]struct{ text, want string }{
		"unknown key": {base + "      secrt: x\n",
			`:6: audit.webhooks: unknown key "secrt"; the nearest known one is "secret"`},
		"twice":           {base + "      name: b\n", ":6: audit.webhooks: name is set twice"},
		"two of one name": {base + item, ":6: audit.webhooks: name: siem is taken"},
		"the name of syslog": {strings.Replace(base, "name: siem", "name: syslog", 1),
			"audit.webhooks: name: syslog is taken"},
		"both secrets": {base + "      secret_file: SECRET\n", "secret and secret_file are both set; keep one"},
		"no secret file": {strings.Replace(base, "secret: "+hookSecret, "secret_file: /nowhere", 1),
			"secret_file: the file cannot be read: open /nowhere: no such file or directory"},
		"no secret":       {strings.Replace(base, "      secret: "+hookSecret+"\n", "", 1), "secret: it is missing"},
		"a weak secret":   {strings.Replace(base, hookSecret, "whsec_YWJj", 1), "secret: it must be whsec_ and 24 to 64"},
		"no name":         {strings.Replace(base, "name: siem", "format: ocsf", 1), "name: it is missing"},
		"no url":          {strings.Replace(base, "url: https://siem.example.com", "format: ocsf", 1), "url: it is not a URL"},
		"http":            {strings.Replace(base, "https:", "http:", 1), "url: it must be https"},
		"unknown format":  {base + "      format: xml\n", "format: use cardea or ocsf"},
		"no list":         {"audit:\n  webhooks: siem\n", ":2: audit.webhooks: expected a list"},
		"a list of words": {"audit:\n  webhooks: [siem]\n", ":2: audit.webhooks: expected keys with values"},
	} {
		t.Run(name, func(t *testing.T) {
			secret := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(secret, []byte(hookSecret), 0o600); err != nil {
				t.Fatal(err)
			}
			path := file(t, strings.Replace(test.text, "SECRET", secret, 1))
			_, err := config.Load(config.Sources{File: path})
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), path) {
				t.Errorf("%v, want %s … %s", err, path, test.want)
			}
			if err != nil && strings.Contains(err.Error(), hookSecret) {
				t.Errorf("the error has the secret: %v", err)
			}
		})
	}
}

func TestAudit(t *testing.T) {
	for text, want := range map[string]string{
		"retain: forever\n":             "",
		"retain: 365d\n":                "",
		"retain: 0s\n":                  "audit.retain",
		"retain: always\n":              "write forever, or a time like 365d",
		"syslog: udp://127.0.0.1:514\n": "",
		"syslog: unix:/dev/log\n":       "",
		"syslog: 127.0.0.1:514\n":       "audit.syslog: write it like udp://127.0.0.1:514",
	} {
		got, err := config.Load(config.Sources{File: file(t, "audit:\n  "+text)})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		if text == "retain: 365d\n" && err == nil && time.Duration(got.Audit.Retain) != 365*24*time.Hour {
			t.Errorf("retain is %s", time.Duration(got.Audit.Retain))
		}
	}
}

// Every key of a webhook is documented, and the example is accepted.
func TestWebhooksAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n## Webhooks and syslog\n")
	section, _, _ := strings.Cut(rest, "\n## ")
	for _, key := range config.WebhookKeys {
		if !strings.Contains(section, "`"+key+"`") {
			t.Errorf("docs/configuration.md does not say what %s is", key)
		}
	}
	_, example, _ := strings.Cut(section, "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(hookSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(config.Sources{File: file(t, strings.Replace(example, "/run/secrets/siem", secret, 1))}); err != nil {
		t.Error(err)
	}
}
