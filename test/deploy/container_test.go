package deploy_test

import (
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// What the Compose file starts issues a token: the program with the environment of the image and of the file, at a
// PostgreSQL.
func TestCompose(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "deploy/compose/compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Services map[string]struct {
			Environment map[string]string
			ReadOnly    bool     `yaml:"read_only"`
			CapDrop     []string `yaml:"cap_drop"`
			Build       struct{ Context, Dockerfile string }
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	service := file.Services["cardea"]
	if !service.ReadOnly || !slices.Equal(service.CapDrop, []string{"ALL"}) {
		t.Errorf("the container may do more than it needs: %+v", service)
	}
	dockerfile := filepath.Join(root, "deploy/compose", service.Build.Context, service.Build.Dockerfile)
	environment := imageEnvironment(t, dockerfile)
	maps.Copy(environment, service.Environment)

	// What a person writes into .env.
	values := map[string]string{"CARDEA_ISSUER": "https://auth.example.com", "POSTGRES_PASSWORD": "5ecre7",
		"CARDEA_MASTER_KEY": "bm90IGEga2V5LCBidXQgMzIgYnl0ZXMgb2YgdGV4dCE="}
	for name, value := range environment {
		environment[name] = interpolate(t, value, values)
	}
	database, err := url.Parse(environment["CARDEA_DATABASE"])
	if err != nil {
		t.Fatal(err)
	}
	server := file.Services[database.Hostname()].Environment
	password, _ := database.User.Password()
	if database.User.Username() != server["POSTGRES_USER"] || database.Path != "/"+server["POSTGRES_DB"] ||
		password != interpolate(t, server["POSTGRES_PASSWORD"], values) {
		t.Errorf("%s is not the database that %v makes", database, server)
	}
	environment["CARDEA_DATABASE"] = storetest.New(t, storetest.Postgres)
	environment["CARDEA_DATA_DIR"] = t.TempDir()

	var env []string
	for name, value := range environment {
		env = append(env, name+"="+value)
	}
	token(t, program(t), env...)
}

// imageEnvironment returns the variables that a Dockerfile sets in the image.
func imageEnvironment(t *testing.T, file string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, image, found := strings.Cut(string(text), "\nFROM scratch\n")
	if !found {
		t.Fatal("the image is not made from scratch")
	}
	for _, want := range []string{"USER 65532:65532", `HEALTHCHECK .* CMD \["/cardea", "health"\]`,
		`ENTRYPOINT \["/cardea"\]`, `CMD \["serve"\]`} {
		if !regexp.MustCompile(`(?m)^` + want + `$`).MatchString(image) {
			t.Errorf("the image does not have %s", want)
		}
	}
	environment := map[string]string{}
	for _, line := range regexp.MustCompile(`(?m)^ENV (.*)$`).FindAllStringSubmatch(image, -1) {
		for _, pair := range strings.Fields(line[1]) {
			name, value, _ := strings.Cut(pair, "=")
			environment[name] = value
		}
	}
	return environment
}

var variable = regexp.MustCompile(`\$\{(\w+)(?::([-?])([^}]*))?\}`)

// interpolate does what Compose does with ${NAME}, ${NAME:-default} and ${NAME:?message}.
func interpolate(t *testing.T, text string, values map[string]string) string {
	return variable.ReplaceAllStringFunc(text, func(found string) string {
		m := variable.FindStringSubmatch(found)
		if value := values[m[1]]; value != "" {
			return value
		}
		if m[2] != "-" {
			t.Errorf("%s has no value", m[1])
		}
		return m[3]
	})
}

// Each variable that the chart sets is a key of the configuration.
func TestChartVariables(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "deploy/helm/cardea/templates/*.yaml"))
	if err != nil || len(files) < 3 {
		t.Fatalf("%v, %v", files, err)
	}
	env := map[string]string{"CARDEA_ISSUER": "https://auth.example.com", "CARDEA_MASTER_KEY_FILE": "key",
		"CARDEA_METRICS_LISTEN": ":9090", "CARDEA_TRUSTED_PROXIES": "10.0.0.0/8", "CARDEA_DATABASE": "sqlite:x.db"}
	found := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`CARDEA_\w+`).FindAllString(string(text), -1) {
			found[name] = true
			if env[name] == "" {
				t.Errorf("%s: %s has no value in this test", file, name)
			}
		}
	}
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("bm90IGEga2V5LCBidXQgMzIgYnl0ZXMgb2YgdGV4dCE="), 0o600); err != nil {
		t.Fatal(err)
	}
	env["CARDEA_MASTER_KEY_FILE"] = key
	env["CARDEA_DATABASE"] = "sqlite:" + filepath.Join(t.TempDir(), "cardea.db")
	var list []string
	for name, value := range env {
		if !found[name] {
			t.Errorf("the chart does not set %s", name)
		}
		list = append(list, name+"="+value)
	}
	if out := run(t, list, program(t), "config", "check"); !strings.Contains(out, "in order") {
		t.Error(out)
	}
}
