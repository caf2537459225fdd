package deploy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/agent"
	"github.com/cardea-auth/cardea/internal/porttest"
)

// proxies are the proxies whose configuration the guides show, and how the test runs it.
var proxies = []struct {
	name, language, page string
	ready                string // what the process logs when it accepts connections
	// wrap returns the configuration of a process that has the one of the guide, and the arguments for it in a file.
	wrap func(config, folder, file string) (text string, args []string)
}{
	{"nginx", "nginx", "docs/guides/behind-a-proxy.md", "start worker process", wrapNginx},
	{"nginx", "nginx", "docs/guides/install.md", "start worker process", wrapNginx},
	{"caddy", "caddyfile", "docs/guides/install.md", "serving initial configuration", wrapCaddy},
}

func wrapCaddy(config, _, file string) (string, []string) {
	return "{\n\tadmin off\n\tauto_https off\n}\n" + config,
		[]string{"run", "--adapter", "caddyfile", "--config", file}
}

func wrapNginx(config, folder, file string) (string, []string) {
	temporary := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temporary += fmt.Sprintf("\t%s_temp_path %s/%s;\n", kind, folder, kind)
	}
	return "daemon off;\nerror_log stderr notice;\npid " + folder + "/pid;\nevents {}\nhttp {\n\taccess_log off;\n" +
		temporary + config + "\n}\n", []string{"-p", folder, "-c", file}
}

// The configurations of the guides carry the longest request of the code flow, tell Cardea the address of the client,
// and pass on events of a gateway as they come. Only the addresses and the certificate are others here.
func TestProxies(t *testing.T) {
	binary := program(t)
	cert, key := certificate(t)
	// Both of this process, in the first connection, and of the programs that it starts.
	t.Setenv("SSL_CERT_FILE", cert)
	for _, proxy := range proxies {
		t.Run(proxy.name+" of "+filepath.Base(proxy.page), func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(root, proxy.page))
			if err != nil {
				t.Fatal(err)
			}
			found := regexp.MustCompile("(?ms)^```" + proxy.language + "\n(.*?)^```$").FindSubmatch(text)
			if found == nil {
				t.Fatalf("%s shows no configuration", proxy.page)
			}
			// before starts the proxy in front of an address, and returns its own URL.
			before := func(t *testing.T, behind string) string {
				folder, file := t.TempDir(), filepath.Join(t.TempDir(), "proxy.conf")
				front := porttest.Address(t)
				config := strings.NewReplacer(
					"auth.example.com {", "https://localhost:"+port(front)+" {\n\ttls "+cert+" "+key,
					"listen 443", "listen "+front, "server_name auth.example.com;", "server_name localhost;",
					"/etc/ssl/auth.example.com/fullchain.pem", cert, "/etc/ssl/auth.example.com/privkey.pem", key,
					"127.0.0.1:8080", behind).Replace(string(found[1]))
				if !strings.Contains(config, behind) || !strings.Contains(config, cert) ||
					!strings.Contains(config, front) &&
						!strings.Contains(config, port(front)) {
					t.Fatalf("the test does not know its way around in:\n%s", config)
				}
				config, args := proxy.wrap(config, folder, file)
				if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
					t.Fatal(err)
				}
				start(t, proxy.ready, []string{"HOME=" + folder}, proxy.name, args...)
				return "https://localhost:" + port(front)
			}
			t.Run("flow", func(t *testing.T) { flow(t, binary, before) })
			t.Run("events", func(t *testing.T) { events(t, binary, before) })
		})
	}
}

// flow is a code flow with 100 scopes and a state of 1,000 characters.
func flow(t *testing.T, binary string, before func(*testing.T, string) string) {
	t.Helper()
	listen := porttest.Address(t)
	issuer := before(t, listen)
	env := []string{"CARDEA_ISSUER=" + issuer, "CARDEA_LISTEN=" + listen, "CARDEA_DATA_DIR=" + t.TempDir(),
		"CARDEA_TRUSTED_PROXIES=127.0.0.1/32"}
	resource := []string{"resource", "create", "--identifier", "https://mcp.example.com/mcp"}
	var scopes []string
	for i := range 100 {
		scopes = append(scopes, fmt.Sprintf("mcp:tools:number-%03d:of-many:go", i))
		resource = append(resource, "--scope", scopes[i])
	}
	run(t, env, binary, resource...)
	created := exec.CommandContext(t.Context(), binary, "user", "create", "--email", "ada@example.com",
		"--password-stdin")
	created.Env, created.Stdin = append(os.Environ(), env...), strings.NewReader("correct horse battery")
	if out, err := created.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	var client struct {
		ID string `json:"client_id"`
	}
	text := run(t, env, binary, "client", "create", "--name", "App", "--grant", "authorization_code", "--redirect-uri",
		"http://127.0.0.1/callback", "--public", "-o", "json")
	if err := json.Unmarshal([]byte(text), &client); err != nil {
		t.Fatal(err)
	}
	start(t, `"msg":"serving"`, env, binary, "serve")

	const verifier = "a-verifier-of-at-least-forty-three-characters"
	sum := sha256.Sum256([]byte(verifier))
	state := strings.Repeat("state-", 166) + "1234"
	ada, err := agent.NewPerson("ada@example.com", "correct horse battery", issuer, agent.NewTranscript(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	page, err := ada.Open(t.Context(), issuer+"/oauth2/authorize?"+url.Values{"response_type": {"code"},
		"client_id": {client.ID}, "redirect_uri": {"http://127.0.0.1/callback"}, "state": {state},
		"scope": {strings.Join(scopes, " ")}, "resource": {"https://mcp.example.com/mcp"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"}}.Encode())
	if err == nil {
		page, err = ada.SignIn(t.Context(), page)
	}
	var allowed []string
	if err == nil {
		page, allowed, err = ada.Allow(t.Context(), page)
	}
	if err != nil {
		t.Fatal(err)
	}
	answer := page.URL.Query()
	if answer.Get("state") != state || answer.Get("iss") != issuer || len(allowed) != len(scopes) {
		t.Errorf("%d scopes are allowed, and the answer is %v", len(allowed), answer)
	}
	token := post(t, http.DefaultClient, issuer+"/oauth2/token", nil, url.Values{"grant_type": {"authorization_code"},
		"client_id": {client.ID}, "code": {answer.Get("code")}, "code_verifier": {verifier}})
	if !strings.Contains(token, `"access_token":"ey`) {
		t.Error(token)
	}

	// A client behind the proxy, one that pretends to be another, and one that passes the proxy by.
	invented := http.Header{"X-Forwarded-For": {"203.0.113.9"}, "Forwarded": {"for=203.0.113.9"}}
	wrong := url.Values{"grant_type": {"authorization_code"}, "client_id": {"mcp_nobody"}}
	post(t, from("127.0.0.5"), issuer+"/oauth2/token", nil, wrong)
	post(t, from("127.0.0.6"), issuer+"/oauth2/token", http.Header{"X-Forwarded-For": invented["X-Forwarded-For"]},
		wrong)
	post(t, from("127.0.0.7"), "http://"+listen+"/oauth2/token", invented, wrong)
	log := run(t, env, binary, "audit", "list", "-o", "json")
	for _, want := range []string{"127.0.0.5", "127.0.0.6", "127.0.0.7"} {
		if !strings.Contains(log, `"`+want+`"`) {
			t.Errorf("no event has the address %s", want)
		}
	}
	if strings.Contains(log, "203.0.113.9") {
		t.Error("an event has the address that a client invented")
	}
}

// events are those of a tool call at a gateway behind the proxy: the first arrives before the server sends the second.
func events(t *testing.T, binary string, before func(*testing.T, string) string) {
	t.Helper()
	arrived := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		write := func(event string) {
			_, _ = fmt.Fprintf(w, "data: %s\n\n", event) // the client sees what is missing
			_ = http.NewResponseController(w).Flush()
		}
		write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`)
		select {
		case <-arrived:
		case <-r.Context().Done():
		}
		write(`{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`)
	}))
	t.Cleanup(upstream.Close)
	listen, issued := porttest.Address(t), porttest.Address(t)
	public := before(t, listen)
	resource := public + "/files"
	env := []string{"CARDEA_ISSUER=http://" + issued, "CARDEA_LISTEN=" + issued, "CARDEA_DATA_DIR=" + t.TempDir()}
	run(t, env, binary, "resource", "create", "--identifier", resource, "--scope", "files:read")
	var client struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	text := run(t, env, binary, "client", "create", "--name", "Bot", "--grant", "client_credentials", "--scope",
		"files:read", "--resource", resource, "-o", "json")
	if err := json.Unmarshal([]byte(text), &client); err != nil {
		t.Fatal(err)
	}
	start(t, `"msg":"serving"`, env, binary, "serve")
	config := filepath.Join(t.TempDir(), "gateway.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `issuer: http://%s
public: %s
listen: %s
servers:
  - {name: files, path: /files, upstream: "%s/mcp", rules: [{tools: ["*"], scopes: [files:read]}]}
`, issued, public, listen, upstream.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, `"msg":"serving`, nil, binary, "gateway", "--config", config)
	var token struct {
		Access string `json:"access_token"`
	}
	issue := post(t, http.DefaultClient, "http://"+issued+"/oauth2/token", nil, url.Values{"client_id": {client.ID},
		"client_secret": {client.Secret}, "grant_type": {"client_credentials"}, "resource": {resource}})
	if err := json.Unmarshal([]byte(issue), &token); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // not reached unless events are held back
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, resource, strings.NewReader(
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_file","arguments":{}}}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = http.Header{"Authorization": {"Bearer " + token.Access}, "Content-Type": {"application/json"},
		"Accept": {"application/json, text/event-stream"}, "Mcp-Protocol-Version": {"2025-11-25"}}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	got := 0
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "data:") {
			if got++; got == 1 {
				close(arrived)
			}
		}
	}
	if got != 2 {
		t.Errorf("%s, and %d events", response.Status, got)
	}
}

// start starts a program that ends with the test, and returns when its log has a text.
func start(t *testing.T, until string, env []string, name string, args ...string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Env = append(os.Environ(), env...)
	started(t, until, c)
}

// started starts a command as start does.
func started(t *testing.T, until string, c *exec.Cmd) {
	t.Helper()
	log, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(os.Interrupt)
		_ = c.Wait() // it was told to end
	})
	var said bytes.Buffer
	lines := bufio.NewScanner(log)
	for found := false; !found; found = strings.Contains(lines.Text(), until) {
		if !lines.Scan() {
			t.Fatalf("%s ended:\n%s", c.Path, &said)
		}
		fmt.Fprintln(&said, lines.Text())
	}
	go func() { _, _ = io.Copy(io.Discard, log) }()
}

func port(address string) string {
	_, port, _ := strings.Cut(address, ":")
	return port
}

// from returns a client whose connections come from an address of this machine.
func from(address string) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}
}

// post posts a form and returns the answer.
func post(t *testing.T, client *http.Client, address string, header http.Header, form url.Values) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		request.Header = header.Clone()
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// certificate returns the files of a certificate for localhost and its key. The certificate is the same in the whole
// process, because Go reads SSL_CERT_FILE once.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	text, err := pair()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	cert, key = filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	for file, block := range map[string][]byte{cert: text[0], key: text[1]} {
		if err := os.WriteFile(file, block, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// pair returns the certificate and its key, as PEM.
var pair = sync.OnceValues(func() (text [2][]byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return text, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	public, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return text, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	text[0] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: public})
	text[1] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	return text, err
})
