package deploy_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/cardea-auth/cardea/internal/porttest"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// What the Dockerfile makes issues a token, with nothing else in its file system.
func TestImage(t *testing.T) {
	p := image(t, filepath.Join(root, "deploy/Dockerfile"))
	at := porttest.Address(t)
	// The address has no host, as that of the image.
	p.env = append(p.env, "CARDEA_ISSUER=http://"+at, "CARDEA_LISTEN=:"+port(at))
	p.token(t, "http://"+at)
}

// What the Compose file starts issues a token: the image with the environment of the file, at a PostgreSQL.
func TestCompose(t *testing.T) {
	var file struct {
		Services map[string]struct {
			Environment map[string]string
			ReadOnly    bool     `yaml:"read_only"`
			CapDrop     []string `yaml:"cap_drop"`
			Build       struct{ Context, Dockerfile string }
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, root, "deploy/compose/compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	service := file.Services["cardea"]
	if !service.ReadOnly || !slices.Equal(service.CapDrop, []string{"ALL"}) {
		t.Errorf("the container may do more than it needs: %+v", service)
	}
	p := image(t, filepath.Join(root, "deploy/compose", service.Build.Context, service.Build.Dockerfile))

	// What a person writes into .env.
	values := map[string]string{"CARDEA_ISSUER": "https://auth.example.com", "POSTGRES_PASSWORD": "5ecre7",
		"CARDEA_MASTER_KEY": "bm90IGEga2V5LCBidXQgMzIgYnl0ZXMgb2YgdGV4dCE="}
	environment := map[string]string{}
	for name, value := range service.Environment {
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
	at := porttest.Address(t)
	environment["CARDEA_ISSUER"], environment["CARDEA_LISTEN"] = "http://"+at, ":"+port(at)
	for name, value := range environment {
		p.env = append(p.env, name+"="+value)
	}
	p.token(t, "http://"+at)
}

// image makes the file system that a Dockerfile describes, with what Docker adds, and returns how it runs there.
func image(t *testing.T, dockerfile string) place {
	t.Helper()
	p := place{root: t.TempDir()}
	if err := os.Chmod(p.root, 0o755); err != nil { // other accounts enter it
		t.Fatal(err)
	}
	put(t, filepath.Join(p.root, "etc/hosts"), []byte("127.0.0.1 localhost\n"), 0o644)
	_, made, found := strings.Cut(read(t, dockerfile), "\nFROM scratch\n")
	if !found {
		t.Fatal("the image is not made from scratch")
	}
	list := func(text string) (list []string) {
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return list
	}
	for line := range strings.Lines(made) {
		what, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		words := strings.Fields(rest)
		switch what {
		case "COPY":
			from, to := words[len(words)-2], filepath.Join(p.root, words[len(words)-1])
			if strings.HasSuffix(words[len(words)-1], "/") {
				to = filepath.Join(to, filepath.Base(from))
			}
			switch from {
			case "/out/cardea":
				put(t, to, []byte(read(t, program(t))), 0o755)
			case "/out/data":
				if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Mkdir(to, 0o700); err != nil {
					t.Fatal(err)
				}
				var uid, gid int
				if _, err := fmt.Sscanf(words[1], "--chown=%d:%d", &uid, &gid); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				if err := os.Chown(to, uid, gid); asRoot() && err != nil {
					t.Fatal(err)
				}
			default:
				put(t, to, []byte(read(t, from)), 0o644)
			}
		case "USER":
			if _, err := fmt.Sscanf(rest, "%d:%d", &p.uid, &p.gid); err != nil || p.uid == 0 {
				t.Fatalf("%s: %v", line, err)
			}
		case "ENV":
			p.env = append(p.env, words...)
		case "ENTRYPOINT":
			p.program = list(rest)[0]
		case "CMD":
			p.serve = list(rest)
		case "HEALTHCHECK":
			_, check, _ := strings.Cut(rest, "CMD ")
			if !slices.Equal(list(check), []string{"/cardea", "health"}) {
				t.Errorf("the health check is %s", check)
			}
		case "WORKDIR", "VOLUME", "EXPOSE":
		default:
			t.Errorf("the test does not know what this does: %s", line)
		}
	}
	if !asRoot() {
		p.env = append(p.env, "CARDEA_DATA_DIR="+t.TempDir())
	}
	return p
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
