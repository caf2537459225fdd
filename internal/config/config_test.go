package config_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/limit"
)

// file writes a configuration file and returns its path.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cardea.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaults(t *testing.T) {
	got, err := config.Load(config.Sources{})
	if err != nil {
		t.Fatal(err)
	}
	want := config.Config{
		Issuer:   "http://localhost:8080",
		Listen:   "127.0.0.1:8080",
		DataDir:  "./cardea-data",
		Database: "sqlite:cardea-data/cardea.db",
		Tokens: config.Tokens{
			AccessTTL: 10 * time.Minute, CodeTTL: time.Minute, RefreshIdleTTL: 720 * time.Hour,
			RefreshMaxTTL: 2160 * time.Hour, RefreshGrace: time.Minute, SigningAlg: "ES256",
		},
		Keys:         config.Rotation{RotateEvery: 720 * time.Hour},
		Registration: config.Registration{DCR: "open", CIMD: "open", Approval: "off"},
		Login: config.Login{Methods: config.Words{"password", "passkey"}, SecondFactor: "optional", SignUp: "off",
			IdleTTL: 24 * time.Hour, MaxTTL: 168 * time.Hour},
		Admin: config.Admin{Enabled: true},
		Limits: config.Limits{
			Enabled:          true,
			Failures:         limit.Rate{Every: 200 * time.Millisecond, Burst: 300},
			AllFailures:      limit.Rate{Every: 50 * time.Millisecond, Burst: 1200},
			Registrations:    limit.Rate{Every: time.Second, Burst: 60},
			AllRegistrations: limit.Rate{Every: 100 * time.Millisecond, Burst: 600},
			Documents:        limit.Rate{Every: 2 * time.Second, Burst: 30},
			AllDocuments:     limit.Rate{Every: 500 * time.Millisecond, Burst: 120},
			Assertions:       limit.Rate{Every: 10 * time.Millisecond, Burst: 6000},
			Mails:            limit.Rate{Every: 12 * time.Minute, Burst: 5},
			MailRequests:     limit.Rate{Every: 2 * time.Minute, Burst: 30},
			AllMailRequests:  limit.Rate{Every: 3 * time.Second, Burst: 1200},
			AccountFailures:  5, AddressFailures: 20,
		},
		Log: config.Log{Format: "auto", Level: slog.LevelInfo},
	}
	want.TLS.ACME.Directory = "https://acme-v02.api.letsencrypt.org/directory"
	if diff := cmp.Diff(want, got.Config, cmpopts.IgnoreUnexported(config.Config{})); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}

func TestEachSourceOverridesTheOneBefore(t *testing.T) {
	path := file(t, `
issuer: https://file.example.com
data_dir: /srv/file
trusted_proxies: [10.1.2.3/8, "::1"]
tokens:
  access_ttl: 1d12h
  refresh_grace: 0
log:
  level: debug
`)
	_, err := config.Load(config.Sources{
		File: path,
		Environ: []string{"CARDEA_DATA_DIR=/srv/env", "CARDEA_ISSUER=https://env.example.com",
			"CARDEA_TOKENS_CODE_TTL=", "HOME=/root"},
		Flags: map[string]string{"issuer": "https://flag.example.com"},
	})
	if err == nil || !strings.Contains(err.Error(), "tokens.access_ttl: it must be at most 24h") {
		t.Fatalf("an access token of 36 hours: %v", err)
	}
	got, err := config.Load(config.Sources{
		File: path,
		Environ: []string{"CARDEA_DATA_DIR=/srv/env", "CARDEA_ISSUER=https://env.example.com",
			"CARDEA_TOKENS_ACCESS_TTL=5m", "CARDEA_TOKENS_CODE_TTL="},
		Flags: map[string]string{"issuer": "https://flag.example.com"},
	})
	if err != nil {
		t.Fatal(err)
	}
	from := map[string]string{}
	for _, s := range got.Settings() {
		from[s.Key] = s.Value + " by " + s.From
	}
	for key, want := range map[string]string{
		"issuer":               "https://flag.example.com by flag",
		"data_dir":             "/srv/env by environment",
		"database":             "sqlite:/srv/env/cardea.db by default",
		"tokens.access_ttl":    "5m by environment",
		"tokens.code_ttl":      "1m by default",
		"tokens.refresh_grace": "0s by file",
		"trusted_proxies":      "10.0.0.0/8, ::1/128 by file",
		"log.level":            "debug by file",
		"limits.failures":      "300/1m by default",
	} {
		if from[key] != want {
			t.Errorf("%s is %s, want %s", key, from[key], want)
		}
	}
	want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	if diff := cmp.Diff(want, got.TrustedProxies,
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("trusted_proxies (-want +got):\n%s", diff)
	}
}

func TestFileErrorsNamePlaceAndNearestKey(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"unknown section", "issuer: https://a.example\n\ntoken:\n  access_ttl: 5m\n",
			`:3: unknown key "token"; the nearest known one is "`},
		{"unknown key in a section", "tokens:\n  acces_ttl: 5m\n",
			`:2: unknown key "tokens.acces_ttl"; the nearest known one is "tokens.access_ttl"`},
		{"key outside its section", "# hm\nrefresh_grace: 5m\n",
			`:2: unknown key "refresh_grace"; the nearest known one is "tokens.refresh_grace"`},
		{"not built yet", "metrics_lisen: :9090\n",
			`:1: unknown key "metrics_lisen"; the nearest known one is "metrics_listen"`},
		{"twice", "issuer: https://a.example\nissuer: https://b.example\n", ":2: issuer is set twice"},
		{"wrong value", "tokens:\n  access_ttl: soon\n",
			`:2: tokens.access_ttl: "soon" is not a duration; write it like 90s`},
		{"value where a section belongs", "tokens: 5m\n", ":1: expected keys with values"},
		{"section where a value belongs", "issuer:\n  url: x\n", ":1: issuer: expected one value or a list of values"},
		{"a list of sections", "trusted_proxies:\n- a: b\n", ":1: trusted_proxies: expected a list of plain values"},
		{"no mapping", "- a\n", ":1: expected keys with values"},
		{"no YAML", "issuer: [", "cardea.yaml: yaml: line 1: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := file(t, test.text)
			_, err := config.Load(config.Sources{File: path})
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), path) {
				t.Errorf("%v, want %s%s", err, path, test.want)
			}
		})
	}
	if _, err := config.Load(config.Sources{File: "/nowhere/cardea.yaml"}); err == nil ||
		err.Error() != "the configuration file /nowhere/cardea.yaml does not exist; "+
			"correct the path, or create the file" {
		t.Errorf("a missing file: %v", err)
	}
	for _, harmless := range []string{"", "# nothing\n", "tokens:\n", "master_key:\n"} {
		if _, err := config.Load(config.Sources{File: file(t, harmless)}); err != nil {
			t.Errorf("%q: %v", harmless, err)
		}
	}
}

func TestMail(t *testing.T) {
	secret := file(t, "smtps://cardea:canary-word@mail.example.com\n")
	good := []string{"CARDEA_MAIL_SMTP_FILE=" + secret, "CARDEA_MAIL_FROM=auth@example.com"}
	got, err := config.Load(config.Sources{Environ: good})
	if err != nil {
		t.Fatal(err)
	}
	if want := "smtps://cardea:canary-word@mail.example.com"; got.Mail.SMTP != want || !got.Mail.On() {
		t.Errorf("mail.smtp is %q", got.Mail.SMTP)
	}
	for _, s := range got.Settings() {
		if strings.Contains(s.Value, "canary-word") {
			t.Errorf("%s shows the password: %s", s.Key, s.Value)
		}
	}
	for want, environ := range map[string][]string{
		"mail.from is missing":                      good[:1],
		"mail.smtp and mail.smtp_file are both set": append(good[:2:2], "CARDEA_MAIL_SMTP=smtps://mail.example.com"),
		"mail.smtp_file: the file cannot be read: open /none: no such file or directory; check the path and its " +
			"permissions": {"CARDEA_MAIL_SMTP_FILE=/none", good[1]},
		"mail.smtp: it must begin with smtps:// or sm": {"CARDEA_MAIL_SMTP=mail.example.com", good[1]},
	} {
		_, err := config.Load(config.Sources{Environ: environ})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary-word") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// The URL of the database may stand in a file of its own, as every secret.
func TestDatabaseFile(t *testing.T) {
	const url = "postgres://cardea:canary-word@db.example.com/cardea"
	environ := []string{"CARDEA_DATABASE_FILE=" + file(t, url+"\n"),
		"CARDEA_MASTER_KEY=" + strings.Repeat("A", 43) + "="}
	got, err := config.Load(config.Sources{Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	if got.Database != url {
		t.Errorf("database is %q", got.Database)
	}
	for _, s := range got.Settings() {
		if strings.Contains(s.Value, "canary-word") || s.Key == "database" && s.From != "environment" {
			t.Errorf("%s is shown as %s, from %s", s.Key, s.Value, s.From)
		}
	}
	got, err = config.Load(config.Sources{Environ: environ, Flags: map[string]string{"database": "sqlite:other.db"}})
	if err != nil || got.Database != "sqlite:other.db" {
		t.Errorf("with a flag: %q, %v", got.Database, err)
	}
	for want, more := range map[string]string{
		"database and database_file are both set; keep one": "CARDEA_DATABASE=sqlite:other.db",
		"database_file: the file cannot be read":            "CARDEA_DATABASE_FILE=/none",
	} {
		_, err := config.Load(config.Sources{Environ: append(environ[:2:2], more)})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary-word") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestUnknownVariableIsAWarning(t *testing.T) {
	got, err := config.Load(config.Sources{Environ: []string{
		"CARDEA_TOKEN_ACCESS_TTL=1m", "CARDEA_CONFIG=x", "CARDEA_TEST_POSTGRES=y", "CARDEAN=z", "PATH=/bin",
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"the environment variable CARDEA_TOKEN_ACCESS_TTL is unknown and ignored; the nearest known one " +
		"is CARDEA_TOKENS_ACCESS_TTL"}
	if diff := cmp.Diff(want, got.Warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestCheck(t *testing.T) {
	acme := func(domains string) string { return "issuer=https://auth.example.com tls.acme.domains=" + domains }
	const postgres = "postgres://cardea:hunter2@db/cardea"
	for _, test := range []struct{ set, want string }{ // want "": accepted
		{"issuer=https://auth.example.com", ""},
		{"issuer=https://example.com/cardea", ""},
		{"issuer=http://127.0.0.1:9000", ""},
		{"issuer=http://[::1]:9000", ""},
		{"issuer=http://id.localhost:9000", ""},
		{"issuer=http://localho%C5%BFt:9000", "issuer: it must be https, because tokens are sent over it"},
		{"issuer=auth.example.com", `issuer: "auth.example.com" is not a URL; write it like https://auth.example.com`},
		{"issuer=http://auth.example.com",
			"issuer: it must be https, because tokens are sent over it; write https://auth.example.com"},
		{"issuer=ftp://auth.example.com", "issuer: it must be an https URL, not ftp"},
		{"issuer=https://auth.example.com/", "issuer: it must not end in a slash; write https://auth.example.com"},
		{"issuer=https://auth.example.com?a=b", "issuer: it must not have a query or fragment"},
		{"issuer=https://auth.example.com#a", "issuer: it must not have a query or fragment"},
		{"issuer=https://me:pw@auth.example.com", "issuer: it must not contain a user name or password"},
		{"issuer=https://auth.example.com/a/../b", "issuer: its path must not have empty segments"},
		{"issuer=https://auth.example.com/a%20b", "issuer: its path must not have empty segments"},
		{"issuer=https://Auth.example.com",
			"issuer: scheme and host must be in lower case; write https://auth.example.com"},
		{"issuer=https://auth.example.com:443", "issuer: remove the port"},
		{"issuer=https://auth.example.com:", "issuer: it ends in a colon without a port"},
		{"listen=:8080", ""},
		{"listen=8080", `listen: "8080" is not an address; write it like 127.0.0.1:8080, or :8080 for all`},
		{"listen=localhost:http", "listen: "},
		{"listen=unix:/run/cardea.sock", ""},
		{"listen=unix:/run/cardea.sock?mode=0666", ""},
		{"listen=unix:/run/cardea.sock?mode=9", `listen: "9" is not a mode; write it like ?mode=0660`},
		{"listen=unix:/run/cardea.sock?mode=07777", `listen: "07777" is not a mode`},
		{"listen=unix:cardea.sock", `listen: "cardea.sock" is not the path of a socket; write it like unix:/run/`},
		{"listen=unix:@cardea", `listen: "@cardea" is not the path of a socket`},
		{"listen=systemd", ""},
		{"listen=systemd:main", ""},
		{"listen=systemd:", "listen: the name after systemd: is missing"},
		{"listen=systemdd", `listen: "systemdd" is not an address`},
		{"metrics_listen=unix:/run/metrics.sock", ""},
		{"metrics_listen=systemd", ""},
		{"metrics_listen=nine", `metrics_listen: "nine" is not an address; write it like 127.0.0.1:9090`},
		{"listen=unix:/run/cardea.sock tls.cert=a.pem tls.key=b.pem issuer=https://a.example",
			"listen: a Unix socket is for a proxy on this machine, which has the certificate"},
		{"data_dir=", "data_dir: it must not be empty"},
		{"database=mysql://x:hunter2@db/cardea",
			"database: it must begin with sqlite: or postgres://; write a file like sqlite:/var/lib/cardea/cardea.db"},
		{"database=postgres://ada:hun@ter2@db/cardea master_key=hunter2",
			"database: there is an @ in the user name or the password; write it as %40"},
		{"database=postgres://ada:hun%40ter2@db/cardea?application_name=a@b@c master_key=hunter2", ""},
		{"database=sqlite:", "database: the path of the SQLite file is missing"},
		{"database=" + postgres, "master_key is required with PostgreSQL"},
		{"database=" + postgres + " master_key=hunter2", ""},
		{"database=" + postgres + " master_key_file=/run/key", ""},
		{"master_key=hunter2 master_key_file=/run/key", "master_key and master_key_file are both set"},
		{"tls.cert=a.pem", "tls.cert and tls.key must be set together"},
		{"tls.cert=a.pem tls.key=b.pem", "issuer: it must be https when tls.cert is set"},
		{"tls.cert=a.pem tls.key=b.pem issuer=https://a.example", ""},
		{acme("auth.example.com"), ""},
		{acme("www.example.com,auth.example.com") + " tls.acme.email=ada@example.com", ""},
		{acme("auth.example.com") + " tls.http_listen=off", ""},
		{acme("auth.example.com") + " tls.http_listen=systemd:http listen=systemd:https", ""},
		{acme("www.example.com"), "tls.acme.domains: the host of issuer must be among them, because clients connect " +
			"to it; add auth.example.com"},
		{acme("*.example.com"), "tls.acme.domains: a certificate for *.example.com needs an entry in DNS"},
		{acme("auth.example.com:443"), "tls.acme.domains: auth.example.com:443 has a port; write the name alone"},
		{acme("192.0.2.1"), "tls.acme.domains: nobody on the internet can prove to have 192.0.2.1"},
		{acme("a.localhost"), "tls.acme.domains: nobody on the internet can prove to have a.localhost"},
		{acme("auth"), "tls.acme.domains: nobody on the internet can prove to have auth; use a public name"},
		{"issuer=https://auth tls.acme.domains=auth tls.acme.directory=https://ca/dir", ""},
		{"tls.acme.domains=auth.example.com", "issuer: it must be https when tls.acme.domains is set"},
		{"tls.acme.email=ada@example.com", "tls.acme.domains is missing; list the host of issuer there"},
		{acme("auth.example.com") + " tls.cert=a.pem tls.key=b.pem",
			"tls.cert and tls.acme.domains are both set; keep"},
		{acme("auth.example.com") + " listen=unix:/run/s", "listen: a Unix socket is for a proxy on this machine"},
		{acme("auth.example.com") + " tls.acme.directory=http://ca/",
			"is not an https URL; write it like https://acme-"},
		{acme("auth.example.com") + " tls.http_listen=80", `tls.http_listen: ` +
			`"80" is not an address; write it like :80`},
		{acme("auth.example.com") + " listen=:80 tls.http_listen=:80", "tls.http_listen: it must be another address"},
		{"tls.http_listen=:80", "tls.http_listen: this server does not serve https"},
		{"trusted_proxies=10.0.0.0/33", `"10.0.0.0/33" is not a network; write it like 10.0.0.0/8 or ::1`},
		{"tokens.access_ttl=0", "tokens.access_ttl: it must be at least 1s"},
		{"tokens.access_ttl=-5m", `"-5m" is not a duration`},
		{"tokens.access_ttl=99999d", "tokens.access_ttl: it must be at most 24h"},
		{"tokens.access_ttl=99999d2562047h", `is not a duration`},
		{"tokens.access_ttl=", `"" is not a duration`},
		{"tokens.code_ttl=11m", "tokens.code_ttl: it must be at most 10m"},
		{"tokens.refresh_grace=0", ""},
		{"tokens.refresh_grace=1h", "tokens.refresh_grace: it must be at most 10m"},
		{"tokens.refresh_max_ttl=3s", ""},
		{"tokens.signing_alg=HS256", `tokens.signing_alg: "HS256" is unknown; use one of ES256, RS256, PS256, EdDSA`},
		{"keys.rotate_every=0", ""},
		{"keys.rotate_every=30d", ""},
		{"keys.rotate_every=5m", "keys.rotate_every: it must be at least 1h"},
		{"registration.dcr=off", ""},
		{"registration.dcr=token", ""},
		{"registration.dcr=closed", `registration.dcr: "closed" is unknown; use one of open, token, off`},
		{"registration.cimd=off", ""},
		{"registration.cimd=closed", `registration.cimd: "closed" is unknown; use one of open, allowlist, off`},
		{"registration.cimd=allowlist",
			`registration.cimd: allowlist permits no client while registration.cimd_allow is empty; ` +
				`list hosts there, or set registration.cimd to off`},
		{"registration.cimd=allowlist registration.cimd_allow=claude.ai,*.Example.com:8443", ""},
		{"registration.cimd_deny=https://evil.example/",
			`--registration-cimd-deny: "https://evil.example/" is not a host; write it like example.com, ` +
				`*.example.com or example.com:8443`},
		{"registration.cimd_deny=*.Bücher.example:8443",
			`--registration-cimd-deny: "*.Bücher.example:8443" is an internationalized name; write its DNS form: ` +
				`*.xn--bcher-kva.example:8443`},
		{"registration.cimd_deny=bü/cher.example", `--registration-cimd-deny: "bü/cher.example" is not a host`},
		{"issuer=https://bücher.example", "issuer: an internationalized host must be in its DNS form, because " +
			"clients compare it byte for byte; write https://xn--bcher-kva.example"},
		{"issuer=https://BÜCHER.example:8443/auth", "; write https://xn--bcher-kva.example:8443/auth"},
		{"issuer=https://b%C3%BCcher.example", "; write https://xn--bcher-kva.example"},
		{"issuer=https://xn--bcher-kva.example", ""},
		{"issuer=https://a\u202eb.example", "has none, so use another host"},
		{"limits.enabled=no", "expected true or false"},
		{"limits.failures=60", `"60" is not a rate; write it like 60/1m`},
		{"limits.failures=0/1m", `"0/1m" is not a rate`},
		{"limits.failures=5/0s", `"5/0s" is not a rate`},
		{"limits.failures=7/1m", ""},
		{"limits.account_failures=0", "limits.account_failures and limits.address_failures must be at least 1"},
		{"limits.account_failures=few", "expected a whole number"},
		{"log.format=xml", `log.format: "xml" is unknown`},
		{"log.level=loud", `"loud" is not a log level`},
	} {
		t.Run(test.set, func(t *testing.T) {
			flags := map[string]string{}
			for pair := range strings.FieldsSeq(test.set) {
				name, value, _ := strings.Cut(pair, "=")
				flags[name] = value
			}
			_, err := config.Load(config.Sources{Flags: flags})
			switch {
			case test.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("%v, want %s", err, test.want)
			case err != nil && strings.Contains(err.Error(), "hunter2"):
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}

func TestSettingsMaskSecrets(t *testing.T) {
	for _, database := range []string{
		"postgres://cardea:hunter2@db/cardea",
		"postgres://db/cardea?user=cardea&password=hunter2",
		"postgres://cardea:hunter2@[broken/cardea",
	} {
		got, err := config.Load(config.Sources{Flags: map[string]string{"database": database, "master_key": "hunter2"}})
		if err != nil {
			t.Fatal(err)
		}
		if shown := fmt.Sprint(got.Settings()); strings.Contains(shown, "hunter2") {
			t.Errorf("%s shows a secret", shown)
		}
	}
}

func TestHoldsPassword(t *testing.T) {
	for database, want := range map[string]bool{
		"postgres://ada:hunter2@db/cardea":                      true,
		"postgres://ada:@db/cardea":                             true,
		"POSTGRES://ada:hunter2@db/cardea":                      true,
		"postgres://ada:hun/ter2@db/cardea":                     true,
		"postgres://ada:%zz@db/cardea":                          true,
		"postgres://ada:hunter2@db1:5432,db2:5432/cardea":       true,
		"postgres://db/cardea?password=hunter2":                 true,
		"postgres://db/cardea?sslmode=require&PassWord=hunter2": true,
		"postgres://db/cardea?sslpassword=hunter2":              true,
		"postgres://db/cardea?p%61ssword=hunter2":               true,
		"postgres://db/cardea?p%2561ssword%253Dhunter2":         true,
		"postgres://db/cardea#password=hunter2":                 true,
		"postgres:host=db password=hunter2":                     true,
		"host=db dbname=cardea password = 'hunter2'":            true,

		"postgres://ada@db/cardea":                                 false,
		"postgres://ada@db:5432/cardea?application_name=a@b":       false,
		"postgres://db1:5432,db2:5432/cardea":                      false,
		"postgres://db/cardea?sslmode=verify-full&passfile=pgpass": false,
		"postgres://db/password":                                   false,
		"sqlite:password=1.db":                                     false,
		"":                                                         false,
	} {
		if got := config.HoldsPassword(database); got != want {
			t.Errorf("HoldsPassword(%q) = %v", database, got)
		}
	}
}

func TestDocumentedFileIsAccepted(t *testing.T) {
	text, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\n")
	example, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("docs/configuration.md shows no file")
	}
	got, err := config.Load(config.Sources{File: file(t, example)})
	if err != nil {
		t.Fatal(err)
	}
	if got.Tokens.RefreshMaxTTL != 30*24*time.Hour {
		t.Errorf("30d is %s", got.Tokens.RefreshMaxTTL)
	}
}

func TestDocumentationIsComplete(t *testing.T) {
	text, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n## Keys\n")
	keys, _, _ := strings.Cut(rest, "\n## ")
	var documented []string
	for line := range strings.Lines(keys) {
		if strings.HasPrefix(line, "| `") {
			documented = append(documented, strings.TrimSpace(line))
		}
	}
	var want []string
	for _, k := range config.Keys() {
		standard := "none"
		if k.Default != "" {
			standard = "`" + k.Default + "`"
		}
		want = append(want, fmt.Sprintf("| `%s` | %s | %s |", k.Name, standard, k.Meaning))
	}
	if diff := cmp.Diff(want, documented); diff != "" {
		t.Errorf("docs/configuration.md (-keys +documented):\n%s", diff)
	}
}
