package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/agent"
	"github.com/cardea-auth/cardea/internal/doctor"
)

// The doctor finds nothing at the demo, from outside and with a person who signs in, and leaves no client behind.
func TestDoctorDemo(t *testing.T) {
	folder := t.TempDir()
	d := startDemo(t, "--listen", "127.0.0.1:0", "--mcp-listen", "127.0.0.1:0", "--data-dir", folder)
	browser := append(asBrowser(t, d), "CARDEA_DATA_DIR="+folder, "CARDEA_ISSUER="+d.issuer)
	for _, flags := range [][]string{nil, {"--register"}, {"--login"}} {
		report, said := diagnose(t, browser, append([]string{d.mcpServer}, flags...)...)
		if report.Verdict != doctor.Fine {
			t.Errorf("%v: verdict %s:\n%s", flags, report.Verdict, told(report))
		}
		if !strings.Contains(said, "asking "+d.mcpServer) {
			t.Errorf("%v: it tells %q", flags, said)
		}
		if len(flags) > 0 && flags[0] == "--login" && !strings.Contains(told(report),
			"list_events was called, and answered") {
			t.Errorf("no tool was called:\n%s", told(report))
		}
		if clients := cardea(t, browser, "client", "list", "-o", "json"); strings.Contains(clients, "cardea doctor") {
			t.Errorf("%v: a test client stays:\n%s", flags, clients)
		}
	}
}

// If the authorization server is the configured Cardea, its own log says why a token was refused.
func TestDoctorExplains(t *testing.T) {
	folder := t.TempDir()
	d := startDemo(t, "--listen", "127.0.0.1:0", "--mcp-listen", "127.0.0.1:0", "--data-dir", folder)
	browser := append(asBrowser(t, d), "CARDEA_DATA_DIR="+folder, "CARDEA_ISSUER="+d.issuer)
	disable := false
	var own *httptest.Server
	own = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/.well-known/") {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"resource":"%s/mcp","authorization_servers":["%s"],"scopes_supported":["read"]}`, own.URL,
				d.issuer)
			return
		}
		if len(r.Header.Get("Authorization")) > 400 && disable { // it is a token of the demo
			cardea(t, browser, "user", "disable", d.email)
		}
		w.Header().Set("WWW-Authenticate",
			`Bearer resource_metadata="`+own.URL+`/.well-known/oauth-protected-resource"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer own.Close()
	cardea(t, browser, "resource", "create", "--identifier", own.URL+"/mcp", "--scope", "read", "--default-scope",
		"read")
	cardea(t, browser, "user", "create", "--email", "owner@example.com", "--role", "owner", "--password-stdin")

	report, _ := diagnose(t, browser, own.URL+"/mcp", "--login")
	if want := "so the MCP server checks something else"; !strings.Contains(told(report), want) {
		t.Errorf("it does not say %q:\n%s", want, told(report))
	}

	// The same over the Admin API of that Cardea, for an operator on another machine.
	var ops struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	created := cardea(t, browser, "client", "create", "--name", "Ops", "--grant", "client_credentials",
		"--resource", d.issuer+"/admin/api", "--scope", "cardea:*", "-o", "json")
	if err := json.Unmarshal([]byte(created), &ops); err != nil {
		t.Fatal(err)
	}
	remote := append(asBrowser(t, d), "CARDEA_DATA_DIR="+t.TempDir(), "CARDEA_CLIENT_ID="+ops.ID,
		"CARDEA_CLIENT_SECRET="+ops.Secret)
	report, _ = diagnose(t, remote, own.URL+"/mcp", "--login", "--server", d.issuer)
	if want := "so the MCP server checks something else"; !strings.Contains(told(report), want) {
		t.Errorf("over the Admin API it does not say %q:\n%s", want, told(report))
	}
	disable = true
	report, _ = diagnose(t, browser, own.URL+"/mcp", "--login")
	want := "does not accept it either: user: "
	if !strings.Contains(told(report), want) {
		t.Errorf("it does not say %q:\n%s", want, told(report))
	}
}

// cardea runs a command that succeeds, and returns what it prints.
func cardea(t *testing.T, environ []string, args ...string) string {
	t.Helper()
	var out, errs strings.Builder
	if code := run(t.Context(), args, &shell{in: strings.NewReader("a long enough password"), out: &out, errs: &errs,
		environ: environ}); code != exitFine {
		t.Errorf("cardea %v ends with %d: %s%s", args, code, out.String(), errs.String())
	}
	return out.String()
}

// asBrowser returns the environment of a command whose $BROWSER is played by a person who allows everything.
func asBrowser(t *testing.T, d *runningDemo) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	browser := filepath.Join(t.TempDir(), "browser")
	if err := os.Symlink(self, browser); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TEST_PERSON", strings.Join([]string{d.issuer, d.email, d.password}, " "))
	return append(os.Environ(), "BROWSER="+browser)
}

// browse is a browser as a program: a person opens the URL, signs in, allows everything and goes back to the client.
func browse() {
	var issuer, email, password string
	_, err := fmt.Sscan(os.Getenv("TEST_PERSON"), &issuer, &email, &password)
	ctx, says := context.Background(), agent.NewTranscript(io.Discard)
	if err == nil {
		err = func() error {
			ada, err := agent.NewPerson(email, password, issuer, says)
			if err != nil {
				return err
			}
			page, err := ada.Open(ctx, os.Args[1])
			if err == nil {
				page, err = ada.SignIn(ctx, page)
			}
			if err == nil {
				page, _, err = ada.Allow(ctx, page)
			}
			if err != nil {
				return err
			}
			resp, err := http.Get(page.URL.String())
			if err != nil {
				return err
			}
			return resp.Body.Close()
		}()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// diagnose runs cardea doctor, and returns its report and what it tells.
func diagnose(t *testing.T, environ []string, args ...string) (report doctor.Report, said string) {
	t.Helper()
	var out, errs strings.Builder
	run(t.Context(), append([]string{"doctor", "-o", "json"}, args...),
		&shell{out: &out, errs: &errs, environ: environ})
	if err := json.Unmarshal([]byte(out.String()), &report); err != nil {
		t.Fatalf("%v: %s\n%s", err, out.String(), errs.String())
	}
	return report, errs.String()
}

func told(r doctor.Report) string {
	var b strings.Builder
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "%-4s %s (%s): %s → %s %v\n", c.Status, c.ID, c.Party, c.Found, c.Fix, c.Clients)
	}
	return b.String()
}
