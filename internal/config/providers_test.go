package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/upstream"
)

const twoProviders = `
login:
  providers:
    - id: google
      preset: google
      client_id: abc
      client_secret_file: SECRET
      domains: [example.com, Bücher.example]
      groups_claim: groups
      group_map: {Engineering: staff}
    - id: hub
      preset: github
      issuer: https://github.example.com/
      client_id: def
      client_secret: x
      create: true
      link: verified_email
`

func TestProviders(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(twoProviders, "SECRET", secret, 1)
	want := []upstream.Config{
		{ID: "google", Preset: "google", Issuer: "https://accounts.google.com", ClientID: "abc", ClientSecret: "s3cret",
			Domains: []string{"example.com", "xn--bcher-kva.example"}, Create: true, Link: upstream.LinkNever,
			GroupsClaim: "groups", GroupMap: map[string]string{"Engineering": "staff"},
			OfflineGrace: upstream.DefaultOfflineGrace},
		{ID: "hub", Preset: "github", Issuer: "https://github.example.com", ClientID: "def", ClientSecret: "x",
			Create: true, Link: upstream.LinkVerified, OfflineGrace: upstream.DefaultOfflineGrace},
	}
	_, list, _ := strings.Cut(text, "providers:")
	for name, sources := range map[string]config.Sources{
		"file":        {File: file(t, text)},
		"environment": {Environ: []string{"CARDEA_LOGIN_PROVIDERS=" + list}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := config.Load(sources)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got.Login.Providers); diff != "" {
				t.Errorf("providers (-want +got):\n%s", diff)
			}
			for _, s := range got.Settings() {
				if strings.Contains(s.Value, "s3cret") ||
					s.Key == "login.providers" && (s.Value != "google, hub" || s.From != name) {
					t.Errorf("%+v", s)
				}
			}
		})
	}
	open := file(t, text)
	if err := os.Chmod(open, 0o644); err != nil { //nolint:gosec // that is what is tested
		t.Fatal(err)
	}
	if got, err := config.Load(config.Sources{File: open}); err != nil || len(got.Warnings) != 1 ||
		!strings.Contains(got.Warnings[0], "client_secret") {
		t.Errorf("a secret that every user can read: %+v, %v", got, err)
	}
}

func TestProviderErrors(t *testing.T) {
	base := "login:\n  providers:\n    - id: corp\n      preset: oidc\n" +
		"      issuer: https://id.example.com\n      client_id: abc\n"
	for name, test := range map[string]struct{ text, want string }{
		"unknown key": {base + "      client_secrt: x\n",
			`:7: login.providers: unknown key "client_secrt"; the nearest known one is "client_secret"`},
		"twice": {base + "      id: b\n", ":7: login.providers: id is set twice"},
		"two of one id": {base + strings.TrimPrefix(base, "login:\n  providers:\n"),
			":7: login.providers: id: two providers are called corp"},
		"both secrets": {base + "      client_secret: x\n      client_secret_file: /x\n",
			"client_secret_file: the file cannot be read"},
		"no secret file": {base + "      client_secret_file: /nowhere\n",
			":7: login.providers: client_secret_file: the file cannot be read: open /nowhere: no such file or " +
				"directory; check the path and its permissions"},
		"no list":         {"login:\n  providers: google\n", ":2: login.providers: expected a list"},
		"a list of words": {"login:\n  providers: [google]\n", ":2: login.providers: expected keys with values"},
		"no id": {strings.Replace(base, "id: corp", "name: corp", 1),
			"login.providers: id: it is missing"},
		"an id that is a page": {strings.Replace(base, "id: corp", "id: email", 1),
			"login.providers: id: email is the name of another page"},
		"an id with a slash": {strings.Replace(base, "id: corp", "id: a/b", 1),
			"login.providers: id: \"a/b\" is not a short name"},
		"no preset": {strings.Replace(base, "      preset: oidc\n", "", 1),
			"login.providers: preset: it is missing"},
		"unknown preset": {strings.Replace(base, "oidc", "gogle", 1),
			"login.providers: preset: \"gogle\" is unknown"},
		"no issuer": {strings.Replace(base, "      issuer: https://id.example.com\n", "", 1),
			"login.providers: issuer: it is missing"},
		"http": {strings.Replace(base, "https://id", "http://id", 1), "must be https"},
		"no client_id": {strings.Replace(base, "      client_id: abc\n", "", 1),
			"login.providers: client_id: it is missing"},
		"no domain":  {base + "      domains: [localhost]\n", `domains: "localhost" is not a domain`},
		"a wildcard": {base + "      domains: ['*.example.com']\n", `is not a domain`},
		"unknown link": {base + "      link: always\n",
			`link: "always" is unknown; use never or verified_email`},
		"map without claim": {base + "      group_map: {A: b}\n", "group_map: it needs groups_claim"},
		"claim without map": {base + "      groups_claim: groups\n", "groups_claim: it needs group_map"},
		"github, no secret": {strings.Replace(base, "oidc", "github", 1),
			"client_secret: it is missing, and github demands one"},
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t, test.text)
			_, err := config.Load(config.Sources{File: path})
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), path) {
				t.Errorf("%v, want %s … %s", err, path, test.want)
			}
		})
	}
	local := strings.Replace(base, "https://id.example.com", "http://127.0.0.1:9000", 1)
	if _, err := config.Load(config.Sources{File: file(t, local)}); err != nil {
		t.Errorf("http on this computer: %v", err)
	}
}

// Every key of a provider is documented.
func TestProvidersAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n## Identity providers\n")
	section, _, _ := strings.Cut(rest, "\n## ")
	for _, key := range config.ProviderKeys {
		if !strings.Contains(section, "`"+key+"`") {
			t.Errorf("docs/configuration.md does not say what %s is", key)
		}
	}
	guide, err := os.ReadFile("../../docs/guides/identity-providers.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, preset := range upstream.Presets {
		if !strings.Contains(section, "`"+preset+"`") || !strings.Contains(string(guide), "`preset: "+preset+"`") {
			t.Errorf("docs/configuration.md or the guide on identity providers does not name the preset %s", preset)
		}
	}
	_, example, _ := strings.Cut(section, "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	example = strings.Replace(example, "/run/secrets/google", secret, 1)
	if _, err := config.Load(config.Sources{File: file(t, example)}); err != nil {
		t.Error(err)
	}
}
