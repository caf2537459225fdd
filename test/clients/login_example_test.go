package clients_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/cardea-auth/cardea/internal/porttest"
)

// The applications of the examples sign people in for Cardea, as the guide "Bring your own login" says: an agent gets a
// token and calls tools, and another one needs no password again.
func TestLoginExample(t *testing.T) {
	goExample := filepath.Join(t.TempDir(), "login")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", goExample, "../../examples/login")
	build.Env = environ("CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for name, run := range map[string]func(t *testing.T, listen string, env []string) (end func() string){
		"Express": func(t *testing.T, listen string, env []string) func() string {
			return startNode(t, append(env, "APP=http://"+listen), "../../examples/node/login.mjs")
		},
		"Go": func(t *testing.T, listen string, env []string) func() string {
			running, stop := context.WithCancel(t.Context())
			return runUntilEnd(t, exec.CommandContext(running, goExample), stop, append(env, "LISTEN="+listen))
		},
	} {
		t.Run(name, func(t *testing.T) {
			listen := porttest.Address(t)
			d := startServer(t, "CARDEA_LOGIN_EXTERNAL_URL=http://"+listen+"/cardea-login")
			d.serveTools(t)
			app := d.createClient(t, "--name", "App", "--login")
			run(t, listen, []string{"ISSUER=" + d.Issuer, "CLIENT_ID=" + app.ID, "CLIENT_SECRET=" + app.Secret,
				"PASSWORD=" + d.Password})
			await(t, "http://"+listen+"/cardea-login")

			playGoSession(t, d, func(c *auth.AuthorizationCodeHandlerConfig) {
				metadata := &oauthex.ClientRegistrationMetadata{
					ClientName: "Cardea test agent", RedirectURIs: []string{c.RedirectURL},
					GrantTypes:    []string{"authorization_code", "refresh_token"},
					ResponseTypes: []string{"code"}, TokenEndpointAuthMethod: "none",
				}
				c.DynamicClientRegistrationConfig = &auth.DynamicClientRegistrationConfig{Metadata: metadata}
			})
			agent := d.createClient(t, "--name", "Agent", "--public", "--grant", "authorization_code",
				"--redirect-uri", "http://127.0.0.1:43118/callback")
			ada := newPerson(t, d.Email, d.Password)
			authorize := func(more string) url.Values {
				query := url.Values{"response_type": {"code"}, "client_id": {agent.ID}, "resource": {d.MCP},
					"redirect_uri":          {"http://127.0.0.1:43118/callback"},
					"code_challenge_method": {"S256"}, "code_challenge": {strings.Repeat("A", 43)}}
				back, err := ada.Visit(d.Issuer + "/oauth2/authorize?" + query.Encode() + more)
				if err != nil {
					t.Fatal(err)
				}
				u, err := url.Parse(back)
				if err != nil {
					t.Fatal(err)
				}
				return u.Query()
			}
			for _, more := range []string{"", "", "&max_age=3600"} {
				if answer := authorize(more); answer.Get("code") == "" || ada.signedIn != 1 {
					t.Errorf("with %q the answer is %v, and the password was given %d times, want once", more, answer,
						ada.signedIn)
				}
			}
			for ada.signedIn == 1 { // a sign-in of the last moment still counts as new
				if answer := authorize("&prompt=login"); answer.Get("code") == "" {
					t.Fatalf("with prompt=login the answer is %v", answer)
				}
			}
			ada = newPerson(t, d.Email, d.Password)
			ada.cancels = true
			if answer := authorize(""); answer.Get("error") != "access_denied" {
				t.Errorf("after Cancel the answer is %v", answer)
			}

			// The person is told to start again only if that helps. The rest is for the log of the application.
			for _, tt := range []struct {
				fault, issuer, secret, page, log string
				status                           int
			}{
				{"a login request that is unknown", d.Issuer, app.Secret, "start again from your agent",
					"404", http.StatusBadRequest},
				{"a wrong secret", d.Issuer, "wrong", "tell the people who run this application",
					"check CLIENT_ID and CLIENT_SECRET", http.StatusBadGateway},
				{"no server", "http://" + porttest.Address(t), app.Secret, "tell the people who run this application",
					"check ISSUER", http.StatusBadGateway},
				{"another server", "http://" + listen, app.Secret, "tell the people who run this application",
					"check ISSUER", http.StatusBadGateway},
			} {
				listen := porttest.Address(t)
				end := run(t, listen, []string{"ISSUER=" + tt.issuer, "CLIENT_ID=" + app.ID,
					"CLIENT_SECRET=" + tt.secret})
				await(t, "http://"+listen+"/cardea-login")
				resp, err := http.PostForm("http://"+listen+"/cardea-login",
					url.Values{"login_request": {"lrq_x"}, "cancel": {"1"}})
				if err != nil {
					t.Fatal(err)
				}
				page, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || resp.StatusCode != tt.status || !strings.Contains(string(page), tt.page) {
					t.Errorf("%s: %d %s %v", tt.fault, resp.StatusCode, page, err)
				}
				if log := end(); !strings.Contains(log, tt.log) {
					t.Errorf("%s: the log has no %q: %s", tt.fault, tt.log, log)
				}
			}
		})
	}
}
