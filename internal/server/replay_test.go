package server_test

import (
	"encoding/base64"
	"encoding/json"
	"image"
	"image/png"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/server/servertest"
)

// session is an entry of testdata/clients/*/sessions.json: what a client sends beside what every client must.
type session struct {
	Name      string
	As        string // the file beside it that says who the client is
	Headers   http.Header
	Authorize url.Values
	Token     url.Values
	Refresh   url.Values // nil: the client gets no refresh token
	Granted   string     // the scope that it is granted
}

// Clients in use are accepted as they come, by their metadata documents and by registration; testdata/clients/README.md
// tells of the files.
func TestReplay(t *testing.T) {
	const clients = "testdata/clients"
	pinned := t.TempDir()
	documents, err := filepath.Glob(filepath.Join(clients, "*", "document*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range documents {
		name := strings.ReplaceAll(strings.TrimPrefix(file, clients+"/"), "/", "-")
		if err := os.WriteFile(filepath.Join(pinned, name), logoURI.ReplaceAll(read(t, file), logo(t)),
			0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := servertest.StartMCP(t,
		func(c *config.Config) { c.Registration.PinnedDir, c.Registration.AllowLoopback = pinned, true })
	ada := s.User("ada@example.com")

	files, err := filepath.Glob(filepath.Join(clients, "*", "sessions.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no clients in %s: %v", clients, err)
	}
	for _, file := range files {
		folder := filepath.Dir(file)
		var sessions []session
		unmarshal(t, read(t, file), &sessions)
		for _, session := range sessions {
			t.Run(filepath.Base(folder)+" "+session.Name, func(t *testing.T) {
				agent := s.Agent(t, nil)
				said := read(t, filepath.Join(folder, session.As+".json"))
				method := "none"
				if strings.HasPrefix(session.As, "document") {
					become(t, agent, said)
				} else {
					method = enrol(t, agent, said)
				}
				session.play(t, agent, method, s.Browser(t), ada)
			})
		}
	}
}

// logoURI is what a document says of its picture, and logo what it is made to say here, where there is no internet.
var logoURI = regexp.MustCompile(`"logo_uri": "[^"]*"`)

func logo(t *testing.T) []byte {
	t.Helper()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		if err := png.Encode(w, image.NewGray(image.Rect(0, 0, 32, 32))); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(web.Close)
	return []byte(`"logo_uri": "` + web.URL + `/logo.png"`)
}

// become makes agent the client that a metadata document describes.
func become(t *testing.T, agent *servertest.Agent, said []byte) {
	t.Helper()
	var document struct {
		ClientID string `json:"client_id"`
	}
	unmarshal(t, said, &document)
	agent.ClientID = document.ClientID
}

// enrol registers agent with a body to the byte, holds the answer against it, and returns how the agent authenticates.
// A public one that registers twice is the same client.
func enrol(t *testing.T, agent *servertest.Agent, said []byte) (method string) {
	t.Helper()
	var sent map[string]any
	unmarshal(t, said, &sent)
	sent["redirect_uris"] = list(sent, "redirect_uris")
	reply := agent.Post("/oauth2/register", nil, servertest.Raw(string(said)),
		servertest.Header("Content-Type", "application/json"))
	registration(t, reply, sent)
	for _, name := range []string{
		"client_name", "client_uri", "token_endpoint_auth_method", "software_id", "software_version", "scope",
	} {
		if want := text(sent, name); reply.Text(name) != want {
			t.Errorf("%s is %q, want it as it was sent: %q", name, reply.Text(name), want)
		}
	}
	var grants []string // of those sent, or of those there are by default
	for _, grant := range []string{"authorization_code", "refresh_token"} {
		if said := list(sent, "grant_types"); said == nil || slices.Contains(said, grant) {
			grants = append(grants, grant)
		}
	}
	if diff := cmp.Diff(grants, list(reply.JSON(), "grant_types")); diff != "" {
		t.Errorf("grant_types: %s", diff)
	}
	agent.ClientID, agent.Secret = reply.Text("client_id"), reply.Text("client_secret")
	again := agent.Post("/oauth2/register", nil, servertest.Raw(string(said)),
		servertest.Header("Content-Type", "application/json"))
	if same := again.Text("client_id") == agent.ClientID; same != (agent.Secret == "") {
		t.Errorf("registered again it is %s: %v", again.Text("client_id"), same)
	}
	return reply.Text("token_endpoint_auth_method")
}

// play goes the way from authorize to a refreshed token.
func (session *session) play(t *testing.T, agent *servertest.Agent, method string, browser *servertest.Browser,
	ada *servertest.Person) {
	t.Helper()
	agent.Resource = ""
	params := agent.Authorization(with(session.Authorize))
	code := browser.Authorize(params).Through(ada).Code()

	headers := func(r *servertest.Request) {
		for name, values := range session.Headers {
			r.Header[name] = values
		}
	}
	secret := func(r *servertest.Request) {
		switch method {
		case "client_secret_post":
			r.Params.Set("client_secret", agent.Secret)
		case "client_secret_basic": // as clients send it, not encoded first
			r.Header.Set("Authorization",
				"Basic "+base64.StdEncoding.EncodeToString([]byte(agent.ClientID+":"+agent.Secret)))
		}
	}
	ask := func(params, more url.Values) servertest.Tokens {
		t.Helper()
		reply := agent.Post("/oauth2/token", params, servertest.With("client_id", agent.ClientID), secret,
			with(more), headers)
		for name, value := range reply.JSON() {
			if value == nil || value == "" {
				t.Errorf("%s is %v: it should be left out", name, value)
			}
		}
		if _, browser := session.Headers["Origin"]; browser && reply.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("a browser keeps the answer from the client: %v", reply.Header)
		}
		tokens := reply.Tokens()
		claims := servertest.Claims(t, tokens.Access)
		if claims.Audience != servertest.MCP || claims.ClientID != agent.ClientID || claims.Scope != session.Granted {
			t.Errorf("the token says %+v, want scope %s", claims, session.Granted)
		}
		if diff := cmp.Diff(session.Granted, tokens.Scope); diff != "" || tokens.ExpiresIn <= 0 {
			t.Errorf("scope %s, expires_in %d", diff, tokens.ExpiresIn)
		}
		return tokens
	}
	tokens := ask(url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {agent.Verifier},
		"redirect_uri": session.Authorize["redirect_uri"],
	}, session.Token)
	if (tokens.Refresh == "") != (session.Refresh == nil) {
		t.Fatalf("refresh token %q", tokens.Refresh)
	}
	if session.Refresh != nil {
		ask(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.Refresh}}, session.Refresh)
	}
}

// with sets all the parameters.
func with(params url.Values) servertest.Tweak {
	return func(r *servertest.Request) {
		for name, values := range params {
			r.Params[name] = values
		}
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func unmarshal(t *testing.T, text []byte, value any) {
	t.Helper()
	if err := json.Unmarshal(text, value); err != nil {
		t.Fatal(err)
	}
}
