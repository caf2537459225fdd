// Package clients_test drives real clients, unmodified, against Cardea's own binary: the official TypeScript and Go
// SDKs, older releases of the former, the AI SDK, mcp-go, mcp-remote, mcpc, the MCP Inspector, the MCP conformance
// tool, OAuth libraries, verifiers of tokens, and the Node example. `make test` installs what they need. Codex, which
// is large, has the build tag nightly: `make nightly`.
package clients_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/porttest"
)

// cardea is the path of the binary under test.
var cardea string

func TestMain(m *testing.M) {
	if desk := os.Getenv(deskVariable); desk != "" {
		browse(desk)
		return
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "cardea-clients-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		cardea = filepath.Join(dir, "cardea")
		build := exec.Command("go", "build", "-o", cardea, "github.com/cardea-auth/cardea/cmd/cardea")
		build.Env = environ("CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// needed returns the value of an environment variable that make test sets.
func needed(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set; `make test` installs what it stands for and sets it", name)
	}
	return value
}

// node returns a command that runs a script in or below this folder with a recent Node.
func node(ctx context.Context, t *testing.T, script string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, needed(t, "CARDEA_NODE"),
		append([]string{filepath.Join(needed(t, "CARDEA_CLIENTS"), script)}, args...)...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// A demo is a running `cardea demo`, or a running `cardea serve` that a test has provisioned.
type demo struct {
	Issuer, MCP     string // as the demo prints them
	Email, Password string
	env             []string
}

var (
	printedIssuer = regexp.MustCompile(`Authorization server +(http://\S+)`)
	printedMCP    = regexp.MustCompile(`MCP server +(http://\S+)`)
	printedPerson = regexp.MustCompile(`Sign in as +(\S+) with password (\S+)`)
)

// startDemo runs `cardea demo` without limits until the test ends. It returns when the demo has printed how to use it.
func startDemo(t *testing.T, env ...string) *demo {
	t.Helper()
	return runDemo(t, env, "--listen", "127.0.0.1:0")
}

// startDemoBehind is startDemo with a proxy of the test in front of the authorization server.
func startDemoBehind(t *testing.T, proxy func(next http.Handler) http.Handler) *demo {
	t.Helper()
	listen := porttest.Address(t)
	front := httptest.NewServer(proxy(httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: listen})))
	t.Cleanup(front.Close)
	return runDemo(t, nil, "--listen", listen, "--issuer", front.URL)
}

func runDemo(t *testing.T, env []string, args ...string) *demo {
	t.Helper()
	d := &demo{env: append([]string{"CARDEA_LIMITS_ENABLED=false", "CARDEA_DATA_DIR=" + t.TempDir()}, env...)}
	said := start(t, d.env, append([]string{"demo", "--mcp-listen", "127.0.0.1:0"}, args...)...)
	var all strings.Builder
	for line := range said {
		all.WriteString(line + "\n")
		text := all.String()
		issuer, mcp, person := printedIssuer.FindStringSubmatch(text), printedMCP.FindStringSubmatch(text),
			printedPerson.FindStringSubmatch(text)
		if issuer != nil && mcp != nil && person != nil {
			d.Issuer, d.MCP, d.Email, d.Password = issuer[1], mcp[1], person[1], person[2]
			drain(said)
			return d
		}
	}
	t.Fatalf("cardea demo ended, or did not say its MCP server, its issuer, and the demo user's e-mail and "+
		"password:\n%s", all.String())
	return nil
}

// startServer runs `cardea serve` without limits until the test ends, with only an account for a person.
func startServer(t *testing.T, env ...string) *demo {
	t.Helper()
	d := newServer(t)
	d.env = append(d.env, env...)
	d.run(t)
	return d
}

// newServer returns a `cardea serve` that run starts.
func newServer(t *testing.T) *demo {
	t.Helper()
	listen := porttest.Address(t)
	d := &demo{Issuer: "http://" + listen, Email: "ada@example.com", Password: "correct horse battery staple"}
	d.env = []string{"CARDEA_LIMITS_ENABLED=false", "CARDEA_DATA_DIR=" + t.TempDir(), "CARDEA_ISSUER=" + d.Issuer,
		"CARDEA_LISTEN=" + listen}
	return d
}

// run runs the server until the test ends, and makes an account.
func (d *demo) run(t *testing.T) {
	t.Helper()
	drain(start(t, d.env, "serve"))
	await(t, d.Issuer+"/readyz")
	create := exec.CommandContext(t.Context(), cardea, "user", "create", "--email", d.Email, "--name", "Ada",
		"--password-stdin", "-o", "json")
	create.Env = environ(d.env...)
	create.Stdin = strings.NewReader(d.Password + "\n")
	if out, err := create.CombinedOutput(); err != nil {
		t.Fatalf("cardea user create: %v\n%s", err, out)
	}
}

// await requests url until the status is 200.
func await(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		resp, err := http.Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s does not answer: %v", url, err)
		}
	}
}

// environ returns this process's environment with more added and without the variables of the tests, which are not for
// cardea.
func environ(more ...string) []string {
	own := func(variable string) bool { return strings.HasPrefix(variable, "CARDEA_") }
	return append(slices.DeleteFunc(os.Environ(), own), more...)
}

// start runs a cardea command until the test ends and returns a channel of the lines of its standard output.
func start(t *testing.T, env []string, args ...string) <-chan string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), cardea, args...)
	cmd.Env = environ(env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	var logged strings.Builder
	cmd.Stderr = &logged
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, ended := make(chan string), make(chan struct{})
	go func() {
		defer close(ended)
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case lines <- s.Text():
			case <-t.Context().Done():
			}
		}
	}()
	t.Cleanup(func() { // the end of the test's context has asked the command to stop
		<-ended
		_ = cmd.Wait() // the command was stopped; its exit status does not matter here
		if t.Failed() {
			t.Logf("what `cardea %s` logged:\n%s", strings.Join(args, " "), logged.String())
		}
	})
	return lines
}

// drain discards lines, so that the pipe does not fill.
func drain(lines <-chan string) {
	go func() {
		for range lines {
		}
	}()
}

// command runs a cardea command that prints JSON, and decodes it into v.
func command(t *testing.T, env []string, v any, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), cardea, args...)
	cmd.Env = environ(env...)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cardea %s: %v\n%s", strings.Join(args, " "), err, complaint.String())
	}
	if err := json.Unmarshal(out, v); err != nil {
		t.Fatalf("cardea %s: %v in\n%s", strings.Join(args, " "), err, out)
	}
}

// A credential is the output of `cardea client create` and `cardea client rotate-secret`.
type credential struct {
	ID     string `json:"client_id"`
	Secret string `json:"client_secret"`
}

// createClient registers a client with a command.
func (d *demo) createClient(t *testing.T, flags ...string) (c credential) {
	t.Helper()
	command(t, d.env, &c, append([]string{"client", "create", "-o", "json"}, flags...)...)
	return c
}

// A grant is a line of `cardea grant list`.
type grant struct {
	ClientID  string  `json:"client_id"`
	Resource  string  `json:"resource"`
	Scope     string  `json:"scope"`
	RevokedAt *string `json:"revoked_at"`
}

// liveGrants returns the number of the client's grants that are not revoked.
func (d *demo) liveGrants(t *testing.T, client string) (live int) {
	t.Helper()
	var grants []grant
	command(t, d.env, &grants, "grant", "list", "-o", "json")
	for _, g := range grants {
		if g.ClientID == client && g.RevokedAt == nil {
			live++
		}
	}
	return live
}

// A client is the output of `cardea client show`.
type client struct {
	ID           string   `json:"client_id"`
	Origin       string   `json:"origin"`
	Method       string   `json:"token_endpoint_auth_method"`
	RedirectURIs []string `json:"redirect_uris"`
}

// client returns the client of an authorization request.
func (d *demo) client(t *testing.T, request url.Values) (c client) {
	t.Helper()
	command(t, d.env, &c, "client", "show", request.Get("client_id"), "-o", "json")
	return c
}

// refreshed returns how often the client of an authorization request has refreshed.
func (d *demo) refreshed(t *testing.T, request url.Values) (times int) {
	t.Helper()
	var events []struct {
		Outcome string
		Detail  map[string]string
	}
	command(t, d.env, &events, "audit", "list", "--action", "token.request", "--client", request.Get("client_id"),
		"-o", "json")
	for _, e := range events {
		if e.Outcome == "allowed" && e.Detail["grant_type"] == "refresh_token" {
			times++
		}
	}
	return times
}
