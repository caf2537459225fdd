package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/agent"
	"github.com/cardea-auth/cardea/internal/porttest"
)

const verifier = "a-verifier-of-at-least-forty-three-characters"

// process is a data folder and the server that runs on it as a process of its own.
type process struct {
	folder, issuer, listen, client string
	program                        string   // that serves; "" is cardea
	env                            []string // of the server
	server                         *exec.Cmd
}

func newProcess(t *testing.T) *process {
	t.Helper()
	w := &process{folder: filepath.Join(t.TempDir(), "data"), listen: porttest.Address(t)}
	w.issuer = "http://" + w.listen
	w.command(t, "", "resource", "create", "--identifier", "https://mcp.example.com/mcp", "--name", "Weather",
		"--scope", "mcp:tools:weather=Weather")
	w.command(t, "correct horse battery", "user", "create", "--email", "ada@example.com", "--name", "Ada",
		"--password-stdin")
	var made struct {
		ClientID string `json:"client_id"`
	}
	text := w.command(t, "", "client", "create", "--name", "App", "--grant", "authorization_code", "--grant",
		"refresh_token", "--redirect-uri", "http://127.0.0.1/callback", "--public", "-o", "json")
	if err := json.Unmarshal([]byte(text), &made); err != nil {
		t.Fatal(err)
	}
	w.client = made.ClientID
	return w
}

// command runs the binary on the data folder, and returns what it prints.
func (w *process) command(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), "cardea",
		append([]string{"--data-dir", w.folder, "--issuer", w.issuer}, args...)...)
	c.Stdin, c.Stderr = strings.NewReader(stdin), os.Stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("cardea %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// start returns when the server serves.
func (w *process) start(t *testing.T) {
	t.Helper()
	//nolint:noctx // it is killed, not cancelled
	w.server = exec.Command(cmp.Or(w.program, "cardea"), "serve", "--data-dir", w.folder, "--issuer", w.issuer,
		"--listen", w.listen)
	w.server.Env = append(append(os.Environ(), "CARDEA_LIMITS_ENABLED=false"), w.env...)
	log, err := w.server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.server.Process.Kill() })
	for lines := bufio.NewScanner(log); lines.Scan(); {
		if strings.Contains(lines.Text(), `"msg":"serving"`) {
			go func() { _, _ = io.Copy(io.Discard, log) }()
			return
		}
	}
	t.Fatal("the server ended before it served")
}

// kill is kill -9.
func (w *process) kill(t *testing.T) {
	if err := w.server.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = w.server.Wait() // it was killed
}

// codes has the person consent n times.
func (w *process) codes(t *testing.T, n int) []string {
	t.Helper()
	p, err := agent.NewPerson("ada@example.com", "correct horse battery", w.issuer, agent.NewTranscript(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(verifier))
	address := w.issuer + "/oauth2/authorize?" + url.Values{
		"response_type": {"code"}, "client_id": {w.client}, "redirect_uri": {"http://127.0.0.1/callback"},
		"state": {"s"}, "code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])},
		"code_challenge_method": {"S256"},
	}.Encode()
	var codes []string
	for range n {
		shown, err := p.Open(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := shown.Form("password"); err == nil {
			if shown, err = p.SignIn(t.Context(), shown); err != nil {
				t.Fatal(err)
			}
		}
		away, _, err := p.Allow(t.Context(), shown)
		if err != nil {
			t.Fatal(err)
		}
		codes = append(codes, away.URL.Query().Get("code"))
	}
	return codes
}

// redeem redeems a code, as token does.
func (w *process) redeem(t *testing.T, code string) (refreshToken string, status int) {
	return w.token(t, url.Values{"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {verifier}})
}

// refresh uses a refresh token, as token does.
func (w *process) refresh(t *testing.T, token string) (refreshToken string, status int) {
	return w.token(t, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

// token sends a token request and returns the refresh token and status of the
// answer; status 0 when none came.
func (w *process) token(t *testing.T, form url.Values) (refreshToken string, status int) {
	form.Set("client_id", w.client)
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodPost,
		w.issuer+"/oauth2/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Error(err)
		return "", 0
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", 0
	}
	defer resp.Body.Close()
	var answer struct {
		RefreshToken string `json:"refresh_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return "", 0
	}
	return answer.RefreshToken, resp.StatusCode
}

// await fails the test unless ok becomes true.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}
