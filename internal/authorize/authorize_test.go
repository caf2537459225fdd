package authorize_test

import (
	"crypto/rand"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
)

// start runs a server with one resource that has two scopes, the first of which is a default.
func TestClientMustBeProven(t *testing.T) {
	s := servertest.StartMCP(t)
	c := s.Client()

	t.Run("AZ-01 unknown client", func(t *testing.T) {
		agent := s.Agent(t, c)
		agent.ClientID = "mcp_gone"
		page := s.Browser(t).Authorize(agent.Authorization())
		page.ErrorPage(http.StatusBadRequest)
		if !strings.Contains(page.Body, "add it again") {
			t.Errorf("the page does not tell how to register again:\n%s", page.Body)
		}
	})
	t.Run("client_id missing or empty", func(t *testing.T) {
		agent := s.Agent(t, c)
		s.Browser(t).Authorize(agent.Authorization(servertest.Without("client_id"))).ErrorPage(http.StatusBadRequest)
		s.Browser(t).Authorize(agent.Authorization(servertest.With("client_id", ""))).ErrorPage(http.StatusBadRequest)
	})
	t.Run("AZ-26 client_id twice", func(t *testing.T) {
		agent := s.Agent(t, c)
		for _, ids := range [][]string{{c.ID, "mcp_evil"}, {"mcp_evil", c.ID}, {c.ID, c.ID}} {
			s.Browser(t).Authorize(agent.Authorization(servertest.With("client_id", ids...))).
				ErrorPage(http.StatusBadRequest)
		}
	})
	t.Run("AZ-26 redirect_uri twice", func(t *testing.T) {
		agent := s.Agent(t, c)
		evil := "https://evil.example/callback"
		for _, uris := range [][]string{
			{servertest.Callback, evil},
			{evil, servertest.Callback},
			{servertest.Callback, servertest.Callback},
		} {
			s.Browser(t).Authorize(agent.Authorization(servertest.With("redirect_uri", uris...))).
				ErrorPage(http.StatusBadRequest)
		}
	})
	t.Run("redirect_uri left out by a client with one", func(t *testing.T) {
		agent := s.Agent(t, c)
		s.Browser(t).Authorize(agent.Authorization(servertest.Without("redirect_uri", "response_type"))).
			Refused("invalid_request")
	})
	t.Run("redirect_uri left out by a client with several", func(t *testing.T) {
		agent := s.Agent(t, s.Client(servertest.RedirectURIs("https://a.example/cb", "https://b.example/cb")))
		s.Browser(t).Authorize(agent.Authorization(servertest.Without("redirect_uri"))).ErrorPage(http.StatusBadRequest)
	})
	t.Run("redirect_uri left out by a client with one that could no longer be registered", func(t *testing.T) {
		agent := s.Agent(t, s.Client(servertest.RedirectURIs("search-ms:query=x")))
		s.Browser(t).Authorize(agent.Authorization(servertest.Without("redirect_uri"))).ErrorPage(http.StatusBadRequest)
	})
	t.Run("client disabled", func(t *testing.T) {
		disabled := s.Client()
		s.Update(func(tx *store.Tx) error { return tx.DisableClient(disabled.ID) })
		s.Browser(t).Authorize(s.Agent(t, disabled).Authorization()).ErrorPage(http.StatusBadRequest)
	})
}

func TestRedirectURI(t *testing.T) {
	const app = "https://app.example.com/callback"
	tests := []struct {
		name       string
		registered string
		requested  string
		accepted   bool
	}{
		{"as registered", app, app, true},
		{"AZ-02 another host", app, "https://evil.example/callback", false},
		{"AZ-02 a longer host", app, "https://app.example.com.evil.example/callback", false},
		{"AZ-02 a longer path", app, app + "/more", false},
		{"AZ-04 path in another case", app, "https://app.example.com/CALLBACK", false},
		{"AZ-05 a query added", app, app + "?x=1", false},
		{"AZ-05 the query in another order", app + "?a=1&b=2", app + "?b=2&a=1", false},
		{"AZ-05 the query left out", app + "?a=1", app, false},
		{"AZ-06 a slash added", app, app + "/", false},
		{"AZ-06 a slash taken away", app + "/", app, false},
		{"AZ-06 a dot after the host", app, "https://app.example.com./callback", false},
		{"AZ-06 a question mark added", app, app + "?", false},
		{"AZ-06 a hash added", app, app + "#", false},
		{"AZ-08 scheme in upper case", app, "HTTPS://app.example.com/callback", true},
		{"AZ-08 host in upper case", app, "https://APP.example.com/callback", true},
		{"a default port", app, "https://app.example.com:443/callback", true},
		{"a default port left out", "https://app.example.com:443/callback", app, true},
		{"the default port of another scheme", app, "https://app.example.com:80/callback", false},
		{"an empty path for a slash", "http://127.0.0.1:33418/", "http://127.0.0.1:33418", true},
		{"a slash for an empty path", "https://app.example.com", "https://app.example.com/", true},
		{"an empty path before a query", "https://app.example.com/?a=1", "https://app.example.com?a=1", true},
		{"a name below localhost", "http://app.localhost/cb", "http://app.localhost:4000/cb", true},
		{"another name below localhost", "http://app.localhost/cb", "http://other.localhost/cb", false},
		{"localhost for a name below it", "http://app.localhost/cb", "http://localhost/cb", false},
		{"a letter that folds", "http://localhost/cb", "http://localho%C5%BFt/cb", false},
		{"AZ-09 percent-encoded letter", app, "https://app.example.com/%63allback", false},
		{"AZ-09 percent-encoded slash", "https://app.example.com/a/b", "https://app.example.com/a%2Fb", false},
		{"AZ-09 encoded twice", "https://app.example.com/%2e", "https://app.example.com/%252e", false},
		{"AZ-10 dot segments", app, app + "/../evil", false},
		{"AZ-10 dot segments with a parameter", app, app + "/..;/evil", false},
		{"AZ-10 dot segments encoded", app, app + "/%2e%2e/evil", false},
		{"AZ-12 a fragment", app, app + "#x", false},
		{"AZ-12 a response in the fragment", app, app + "#code=1&state=2", false},
		{"AZ-14 a registered query", app + "?tenant=1", app + "?tenant=1", true},
		{"AZ-16 Unicode for punycode", "https://xn--bcher-kva.example/cb", "https://bücher.example/cb", false},
		{"AZ-16 a homoglyph", "https://app.example.com/cb", "https://аpp.example.com/cb", false},
		{"AZ-16 punycode as registered", "https://xn--bcher-kva.example/cb", "https://xn--bcher-kva.example/cb", true},
		{"AZ-17 loopback as a decimal", "http://127.0.0.1/cb", "http://2130706433/cb", false},
		{"AZ-17 loopback in hex", "http://127.0.0.1/cb", "http://0x7f.1/cb", false},
		{"AZ-17 loopback short", "http://127.0.0.1/cb", "http://127.1/cb", false},
		{"AZ-17 loopback mapped into IPv6", "http://127.0.0.1/cb", "http://[::ffff:127.0.0.1]/cb", false},
		{"AZ-17 the unspecified address", "http://127.0.0.1/cb", "http://0.0.0.0:49152/cb", false},
		{"AZ-18 loopback, port asked for", "http://127.0.0.1/cb", "http://127.0.0.1:49152/cb", true},
		{"AZ-18 loopback, another port than registered", "http://127.0.0.1:33418/cb",
			"http://127.0.0.1:49152/cb", true},
		{"AZ-18 loopback, port left out", "http://127.0.0.1:33418/cb", "http://127.0.0.1/cb", true},
		{"AZ-18 loopback, another path", "http://127.0.0.1/cb", "http://127.0.0.1:49152/other", false},
		{"AZ-18 loopback, https", "http://127.0.0.1/cb", "https://127.0.0.1:49152/cb", false},
		{"AZ-18 no loopback, another port", app, "https://app.example.com:8443/callback", false},
		{"AZ-20 IPv6 loopback", "http://[::1]/cb", "http://[::1]:49152/cb", true},
		{"AZ-20 IPv6 loopback with a zone", "http://[::1]/cb", "http://[::1%25lo]:49152/cb", false},
		{"AZ-20 IPv6 loopback written out", "http://[::1]/cb", "http://[0:0:0:0:0:0:0:1]:49152/cb", false},
		{"AZ-21 localhost for 127.0.0.1", "http://127.0.0.1/cb", "http://localhost:49152/cb", false},
		{"AZ-21 127.0.0.1 for localhost", "http://localhost/cb", "http://127.0.0.1:49152/cb", false},
		{"AZ-21 localhost", "http://localhost/cb", "http://localhost:49152/cb", true},
		{"AZ-22 a name that begins with localhost", "http://localhost/cb", "http://localhost.evil.test/cb", false},
		{"AZ-22 a name that begins with 127.0.0.1", "http://127.0.0.1/cb", "http://127.0.0.1.evil.test/cb", false},
		{"AZ-22 loopback as user name", "http://localhost/cb", "http://localhost@evil.test/cb", false},
		{"AZ-22 loopback as user name, with port", "http://localhost/cb", "http://localhost:80@evil.test/cb", false},
		{"AZ-24 port 0", "http://127.0.0.1/cb", "http://127.0.0.1:0/cb", false},
		{"AZ-24 port 65536", "http://127.0.0.1/cb", "http://127.0.0.1:65536/cb", false},
		{"AZ-24 port -1", "http://127.0.0.1/cb", "http://127.0.0.1:-1/cb", false},
		{"AZ-24 port 00080", "http://127.0.0.1/cb", "http://127.0.0.1:00080/cb", false},
		{"AZ-24 an empty port", "http://127.0.0.1/cb", "http://127.0.0.1:/cb", false},
		{"AZ-25 a star is a star", "https://app.example.com/*", "https://app.example.com/any", false},
		{"AZ-25 a star as registered", "https://app.example.com/*", "https://app.example.com/*", true},
		{"AZ-25 a dot is a dot", "https://app.example.com/cb", "https://appaexample.com/cb", false},
		{"AZ-25 a parenthesis", "https://app.example.com/(cb)", "https://app.example.com/cb", false},
		{"a scheme that could once be registered", "search-ms:query=x", "search-ms:query=x", false},
		{"a private-use scheme", "com.example.app:/cb", "com.example.app:/cb", true},
		{"a private-use scheme, another path", "com.example.app:/cb", "com.example.app:/evil", false},
		{"white space before it", app, " " + app, false},
		{"a backslash", app, `https://app.example.com\@evil.example/callback`, false},
	}
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			agent := s.Agent(t, s.Client(servertest.RedirectURIs(tt.registered)))
			agent.RedirectURI = tt.requested
			page := s.Browser(t).Authorize(agent.Authorization())
			if !tt.accepted {
				page.ErrorPage(http.StatusBadRequest)
				if strings.Contains(page.Body, "evil") && strings.Contains(page.Body, "href") {
					for _, link := range page.Links() {
						if strings.Contains(link, "evil") {
							t.Errorf("AZ-57 the page links to %s", link)
						}
					}
				}
				return
			}
			page = page.Through(ada)
			agent.Exchange(page.Code()).Tokens()
			if tail, ok := strings.CutPrefix(page.Location, tt.requested); !ok || tail == "" {
				t.Errorf("the response goes to %s, want %s", page.Location, tt.requested)
			} else if separator := "?"; strings.Contains(tt.requested, "?") && tail[0] != '&' ||
				!strings.Contains(tt.requested, "?") && tail[:1] != separator {
				t.Errorf("the response is not appended to the query: %s", page.Location)
			}
		})
	}
}

// A URI that cannot be requested cannot be registered either.
func TestRegisteredRedirectURI(t *testing.T) {
	s := servertest.StartMCP(t)
	for name, uri := range map[string]string{
		"AZ-12 a fragment":                    "https://app.example.com/cb#x",
		"AZ-12 a response in the fragment":    "https://app.example.com/cb#code=1&state=2",
		"AZ-12 an empty fragment":             "https://app.example.com/cb#",
		"AZ-13 code in the query":             "https://app.example.com/cb?code=1",
		"AZ-13 state in the query":            "https://app.example.com/cb?a=b&state=1",
		"AZ-13 iss in the query":              "https://app.example.com/cb?iss=https%3A%2F%2Fevil.example",
		"AZ-13 error in the query":            "https://app.example.com/cb?error=none",
		"AZ-13 code in the query, escaped":    "https://app.example.com/cb?%63ode=1",
		"AZ-16 Unicode in the host":           "https://bücher.example/cb",
		"AZ-17 loopback as a decimal":         "http://2130706433/cb",
		"AZ-17 the unspecified address":       "http://0.0.0.0/cb",
		"AZ-20 IPv6 loopback with a zone":     "http://[::1%25lo]/cb",
		"AZ-22 a name that begins loopback":   "http://localhost.evil.test/cb",
		"AZ-24 port 65536":                    "http://127.0.0.1:65536/cb",
		"AZ-24 an empty port":                 "http://127.0.0.1:/cb",
		"AZ-10 dot segments":                  "https://app.example.com/a/../cb",
		"the authorization server's own page": s.URL + "/consent",
	} {
		t.Run(name, func(t *testing.T) {
			agent := s.Agent(t, nil)
			agent.RedirectURI = uri
			agent.Register(nil).Refused(http.StatusBadRequest, "invalid_redirect_uri")
		})
	}
}

// From here on, client and redirect URI are valid, so all errors are sent to the client.
func TestRequestIsChecked(t *testing.T) {
	s := servertest.StartMCP(t)
	s.Resource("https://other.example.com/mcp", "*other")
	public, confidential := s.Client(), s.Client(servertest.Confidential)

	challenge := servertest.Challenge(rand.Text() + rand.Text())
	with, without := servertest.With, servertest.Without
	tests := []struct {
		name   string
		client *servertest.Client
		tweak  servertest.Tweak
		want   string
	}{
		{"AZ-28 public client without code_challenge", public, without("code_challenge"), "invalid_request"},
		{"AZ-28 public client without any PKCE", public, without("code_challenge", "code_challenge_method"),
			"invalid_request"},
		{"AZ-29 confidential client without code_challenge", confidential,
			without("code_challenge", "code_challenge_method"), "invalid_request"},
		{"AZ-30 method plain", public, with("code_challenge_method", "plain"), "invalid_request"},
		{"AZ-30 method left out, which means plain", public, without("code_challenge_method"), "invalid_request"},
		{"AZ-32 method s256", public, with("code_challenge_method", "s256"), "invalid_request"},
		{"AZ-32 method S512", public, with("code_challenge_method", "S512"), "invalid_request"},
		{"AZ-32 method with a space", public, with("code_challenge_method", " S256"), "invalid_request"},
		{"AZ-32 method empty", public, with("code_challenge_method", ""), "invalid_request"},
		{"AZ-33 challenge of 42", public, with("code_challenge", challenge[:42]), "invalid_request"},
		{"AZ-33 challenge of 44", public, with("code_challenge", challenge+"A"), "invalid_request"},
		{"AZ-33 challenge of 129", public, with("code_challenge", strings.Repeat("A", 129)), "invalid_request"},
		{"AZ-33 challenge padded", public, with("code_challenge", challenge+"="), "invalid_request"},
		{"AZ-33 challenge in plain base64", public, with("code_challenge", "+/"+challenge[2:]), "invalid_request"},
		{"AZ-33 challenge empty", public, with("code_challenge", ""), "invalid_request"},
		{"AZ-34 response_type missing", public, without("response_type"), "invalid_request"},
		{"AZ-34 response_type token", public, with("response_type", "token"), "unsupported_response_type"},
		{"AZ-34 response_type id_token", public, with("response_type", "id_token"), "unsupported_response_type"},
		{"AZ-34 response_type code token", public, with("response_type", "code token"), "unsupported_response_type"},
		{"AZ-34 response_type code code", public, with("response_type", "code code"), "unsupported_response_type"},
		{"AZ-34 response_type CODE", public, with("response_type", "CODE"), "unsupported_response_type"},
		{"response_mode fragment", public, with("response_mode", "fragment"), "invalid_request"},
		{"AZ-37 state of 8 KB", public, with("state", strings.Repeat("s", 8<<10)), "invalid_request"},
		{"AZ-38 line breaks in scope", public, with("scope", "mcp:tools:weather\r\nX-Injected: 1"), "invalid_scope"},
		{"AZ-40 only an unknown scope", public, with("scope", "mcp:tools:unknown"), "invalid_scope"},
		{"AZ-40 a quotation mark in scope", public, with("scope", `mcp:tools:"weather"`), "invalid_scope"},
		{"AZ-40 a backslash in scope", public, with("scope", `mcp:tools:\weather`), "invalid_scope"},
		{"AZ-40 an umlaut in scope", public, with("scope", "mcp:tools:wetterö"), "invalid_scope"},
		{"AZ-40 an empty scope", public, with("scope", "mcp:tools:weather\xff"), "invalid_scope"},
		{"AZ-40 NUL in scope", public, with("scope", "mcp:tools:weather\x00"), "invalid_scope"},
		{"NUL in login_hint", public, with("login_hint", "ada\x00"), "invalid_request"},
		{"AZ-40 a tab in scope", public, with("scope", "mcp:tools:weather\tmcp:tools:email:send"), "invalid_scope"},
		{"AZ-41 resource with a fragment", public, with("resource", servertest.MCP+"#x"), "invalid_target"},
		{"AZ-41 resource relative", public, with("resource", "/mcp"), "invalid_target"},
		{"AZ-41 resource without scheme", public, with("resource", "mcp.example.com"), "invalid_target"},
		{"AZ-41 resource over http", public, with("resource", "http://mcp.example.com/mcp"), "invalid_target"},
		{"AZ-41 resource unknown", public, with("resource", "https://unknown.example.com/mcp"), "invalid_target"},
		{"AZ-41 two resources", public, with("resource", servertest.MCP, "https://other.example.com/mcp"),
			"invalid_target"},
		{"AZ-41 a good and a bad resource", public, with("resource", servertest.MCP, "https://unknown.example.com/mcp"),
			"invalid_target"},
		{"AZ-41 resource with user information", public, with("resource", "https://a@mcp.example.com/mcp"),
			"invalid_target"},
		{"AZ-41 resource with dot segments", public, with("resource", "https://mcp.example.com/mcp/../mcp"),
			"invalid_target"},
		{"AZ-42 resource missing, several registered", public, without("resource"), "invalid_target"},
		{"AZ-44 prompt none login", public, with("prompt", "none login"), "invalid_request"},
		{"AZ-44 prompt unknown", public, with("prompt", "create"), "invalid_request"},
		{"max_age no number", public, with("max_age", "soon"), "invalid_request"},
		{"max_age negative", public, with("max_age", "-1"), "invalid_request"},
		{"prompt none, nobody signed in", public, with("prompt", "none"), "login_required"},
		{"AZ-50 a request object", public, with("request", "eyJhbGciOiJub25lIn0.e30."), "request_not_supported"},
		{"OAuth 2.1 §3.1 scope twice", public, with("scope", "mcp:tools:weather", "mcp:tools:weather"),
			"invalid_request"},
		{"OAuth 2.1 §3.1 code_challenge twice", public, with("code_challenge", challenge, challenge),
			"invalid_request"},
		{"OAuth 2.1 §3.1 response_type twice", public, with("response_type", "code", "token"), "invalid_request"},
		{"OAuth 2.1 §3.1 an unknown parameter twice", public, with("unknown", "1", "2"), "invalid_request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := len(s.Events("authorize.request"))
			page := s.Browser(t).Authorize(s.Agent(t, tt.client).Authorization(tt.tweak))
			page.Refused(tt.want)
			if page.Header.Get("X-Injected") != "" {
				t.Error("the request wrote a header")
			}
			if after := s.Events("authorize.request"); len(after) != before+1 || after[0].Reason != tt.want {
				t.Errorf("the refusal left no audit event: %+v", after)
			}
		})
	}

	t.Run("OAuth 2.1 §3.1 state twice", func(t *testing.T) {
		page := s.Browser(t).Authorize(s.Agent(t, public).Authorization(with("state", "a", "b")))
		page.Refused("invalid_request")
	})
	t.Run("AZ-37 state of 64 KB", func(t *testing.T) {
		page := s.Browser(t).Authorize(s.Agent(t, public).Authorization(with("state", strings.Repeat("s", 64<<10))))
		page.ErrorPage(http.StatusRequestURITooLong)
	})
	t.Run("AZ-40 10,000 scopes", func(t *testing.T) {
		var names []string
		for i := range 10_000 {
			names = append(names, strconv.Itoa(i))
		}
		params := s.Agent(t, public).Authorization(with("scope", strings.Join(names, " ")))
		s.Browser(t).Authorize(params).ErrorPage(http.StatusRequestURITooLong)
		s.Browser(t).Authorize(params, servertest.Method(http.MethodPost)).Refused("invalid_scope")
	})
	t.Run("AZ-50 request_uri is not fetched", func(t *testing.T) {
		canary := listen(t)
		page := s.Browser(t).
			Authorize(s.Agent(t, public).Authorization(with("request_uri", "http://"+canary.address+"/request.jwt")))
		page.Refused("request_uri_not_supported")
		if n := canary.connections.Load(); n != 0 {
			t.Errorf("the server connected to it %d times", n)
		}
	})
}

// canary is a listener that represents an internal service.
type canary struct {
	address     string
	connections atomic.Int64
}

func listen(t *testing.T) *canary {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &canary{address: l.Addr().String()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.connections.Add(1)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return c
}

func TestState(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	c := s.Client()
	var printable strings.Builder
	for b := byte(' '); b <= '~'; b++ {
		printable.WriteByte(b)
	}
	all := printable.String()
	for name, state := range map[string]string{
		"AZ-36 1 KB of every printable byte": strings.Repeat(all, 11)[:1024],
		"AZ-36 plus, percent and quotes":     `a+b %00 %2B "'` + "`",
		"AZ-36 an emoji":                     "😀🏳️‍🌈",
		"AZ-36 NUL, and no text at all":      "a\x00b\xff\xfe",
		"AZ-36 markup":                       `"><script>alert(1)</script>`,
		"AZ-37 4096 bytes":                   strings.Repeat("s", 4096),
		"AZ-37 4096 bytes that grow escaped": strings.Repeat("<", 4096),
		"AZ-38 line breaks":                  "a\r\nX-Injected: 1\r\n\r\n<html>",
		"base64 with padding":                "aGVsbG8+Lw==",
	} {
		t.Run(name, func(t *testing.T) {
			agent := s.Agent(t, c)
			page := s.Browser(t).
				Authorize(agent.Authorization(servertest.With("state", state)), servertest.Method(http.MethodPost))
			if strings.Contains(page.Body, "<script>") {
				t.Error("state is not escaped in the page")
			}
			page = page.SignIn(ada)
			if strings.Contains(page.Body, "<script>") {
				t.Error("state is not escaped in the page")
			}
			page = page.Allow()
			page.Code() // also checks state
			if page.Header.Get("X-Injected") != "" {
				t.Error("state wrote a header")
			}
			u, err := url.Parse(page.Location)
			if err != nil {
				t.Fatal(err)
			}
			if got := u.Query()["state"]; len(got) != 1 || got[0] != state {
				t.Errorf("state came back as %q", got)
			}
		})
	}
	t.Run("no state", func(t *testing.T) {
		page := s.Browser(t).Authorize(s.Agent(t, c).Authorization(servertest.Without("state"))).Through(ada)
		page.Code()
		if strings.Contains(page.Location, "state") {
			t.Errorf("a state out of nowhere: %s", page.Location)
		}
	})
}

func TestScopeAndResource(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	c := s.Client()
	tests := []struct {
		name  string
		tweak servertest.Tweak
		scope string
	}{
		{"D6 none asked: the defaults", servertest.Without("scope"), "mcp:tools:weather"},
		{"AZ-40 empty: the defaults", servertest.With("scope", ""), "mcp:tools:weather"},
		{"AZ-40 spaces too many do no harm", servertest.With("scope", " mcp:tools:email:send  mcp:tools:weather "),
			"mcp:tools:email:send mcp:tools:weather"},
		{"D6 unknown scopes are dropped", servertest.With("scope", "mcp:tools:unknown mcp:tools:email:send"),
			"mcp:tools:email:send"},
		{"D6 openid and its kin are tolerated", servertest.With("scope", "openid profile email mcp:tools:weather"),
			"mcp:tools:weather"},
		{"D6 only openid: the defaults", servertest.With("scope", "openid"), "mcp:tools:weather"},
		{"AZ-41 upper-case host", servertest.With("resource", "HTTPS://MCP.EXAMPLE.COM/mcp"), "mcp:tools:weather"},
		{"D7 a trailing slash", servertest.With("resource", servertest.MCP+"/"), "mcp:tools:weather"},
		{"D7 a default port", servertest.With("resource", "https://mcp.example.com:443/mcp"), "mcp:tools:weather"},
		{"D7 the origin", servertest.With("resource", "https://mcp.example.com"), "mcp:tools:weather"},
		{"D7 the same twice", servertest.With("resource", servertest.MCP, servertest.MCP+"/"), "mcp:tools:weather"},
		{"D7 missing, one registered", servertest.Without("resource"), "mcp:tools:weather"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			agent := s.Agent(t, c)
			tokens := agent.Connect(s.Browser(t), ada, tt.tweak)
			if tokens.Scope != tt.scope {
				t.Errorf("scope is %q, want %q", tokens.Scope, tt.scope)
			}
			claims := servertest.Claims(t, tokens.Access)
			if claims.Audience != servertest.MCP || claims.Scope != tt.scope {
				t.Errorf("aud %q and scope %q, want %q and %q", claims.Audience, claims.Scope, servertest.MCP, tt.scope)
			}
		})
	}
}

func TestPrompt(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	c := s.Client()

	t.Run("AZ-45 prompt login with a live session", func(t *testing.T) {
		agent, browser := s.Agent(t, c), s.Browser(t)
		agent.Connect(browser, ada)
		s.Clock.Advance(time.Minute)
		page := browser.Authorize(agent.Authorization(servertest.With("prompt", "login")))
		if !page.IsSignIn() {
			t.Fatalf("no sign-in page, but %d %s", page.Status, page.Location)
		}
		jump := browser.Get(strings.Replace(page.URL, "/login?", "/consent?", 1))
		if !jump.IsSignIn() {
			t.Errorf("the jump to the consent page was not sent back: %d %s", jump.Status, jump.Location)
		}
		agent.Exchange(page.Through(ada).Code()).Tokens()
	})
	t.Run("AZ-46 prompt consent with remembered consent", func(t *testing.T) {
		agent, browser := s.Agent(t, c), s.Browser(t)
		agent.Connect(browser, ada)
		browser.Authorize(agent.Authorization()).Code() // consent is remembered
		if page := browser.Authorize(agent.Authorization(servertest.With("prompt", "consent"))); !page.IsConsent() {
			t.Errorf("no consent page, but %d %s", page.Status, page.Location)
		}
	})
	t.Run("prompt none with remembered consent", func(t *testing.T) {
		agent, browser := s.Agent(t, c), s.Browser(t)
		agent.Connect(browser, ada)
		agent.Exchange(browser.Authorize(agent.Authorization(servertest.With("prompt", "none"))).Code()).Tokens()
	})
	t.Run("prompt none without consent", func(t *testing.T) {
		agent, browser := s.Agent(t, s.Client()), s.Browser(t)
		browser.Get("/login").SignIn(ada)
		browser.Authorize(agent.Authorization(servertest.With("prompt", "none"))).Refused("consent_required")
	})
	t.Run("max_age", func(t *testing.T) {
		agent, browser := s.Agent(t, c), s.Browser(t)
		agent.Connect(browser, ada)
		s.Clock.Advance(time.Minute)
		browser.Authorize(agent.Authorization(servertest.With("max_age", "60"))).Code()
		s.Clock.Advance(time.Second)
		if page := browser.Authorize(agent.Authorization(servertest.With("max_age", "60"))); !page.IsSignIn() {
			t.Errorf("no sign-in page, but %d %s", page.Status, page.Location)
		}
	})
}

func TestLoginHint(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	c := s.Client()

	t.Run("AZ-48 markup", func(t *testing.T) {
		hint := `"><script>alert(1)</script>`
		page := s.Browser(t).Authorize(s.Agent(t, c).Authorization(servertest.With("login_hint", hint)))
		if strings.Contains(page.Body, "<script") {
			t.Error("login_hint is not escaped")
		}
		if got := page.Form("email").Values().Get("email"); got != hint {
			t.Errorf("the form is filled in with %q", got)
		}
	})
	t.Run("AZ-48 login_hint with another person's address signs nobody in and reveals nothing", func(t *testing.T) {
		known := s.Browser(t).Authorize(s.Agent(t, c).Authorization(servertest.With("login_hint", ada.Email)))
		unknown := s.Browser(t).Authorize(s.Agent(t, c).Authorization(servertest.With("login_hint", "eve@example.com")))
		if !known.IsSignIn() || !unknown.IsSignIn() {
			t.Fatal("no sign-in page")
		}
		if a, b := shape(known, ada.Email), shape(unknown, "eve@example.com"); a != b {
			t.Errorf("the page reveals whether the account exists:\n%s\n%s", a, b)
		}
	})
	t.Run("AZ-38 line breaks", func(t *testing.T) {
		page := s.Browser(t).Authorize(s.Agent(t, c).Authorization(servertest.With("login_hint", "a\r\nX-Injected: 1")))
		if !page.IsSignIn() || page.Header.Get("X-Injected") != "" {
			t.Errorf("status is %d, want the sign-in page without X-Injected: %v", page.Status, page.Header)
		}
	})
	t.Run("a hint longer than any e-mail address is ignored", func(t *testing.T) {
		page := s.Browser(t).
			Authorize(s.Agent(t, c).Authorization(servertest.With("login_hint", strings.Repeat("<", 12_000))),
				servertest.Method(http.MethodPost))
		if got := page.Form("email").Values().Get("email"); got != "" {
			t.Errorf("the form is filled in with %d bytes", len(got))
		}
	})
	t.Run("AZ-49 ui_locales is ignored", func(t *testing.T) {
		page := s.Browser(t).Authorize(s.Agent(t, c).Authorization(servertest.With("ui_locales", "../../etc/passwd")))
		if !page.IsSignIn() {
			t.Errorf("status is %d, want the sign-in page, Location %s", page.Status, page.Location)
		}
		s.Browser(t).
			Authorize(s.Agent(t, c).Authorization(servertest.With("ui_locales", strings.Repeat("en ", 34_000)))).
			ErrorPage(http.StatusRequestURITooLong)
	})
}

// shape returns a page without the parts that always differ: hidden values and the e-mail address.
func shape(page *servertest.Page, email string) string {
	text := strings.ReplaceAll(page.Body, email, "")
	for _, form := range page.Forms() {
		for _, name := range []string{"request", "csrf"} {
			for _, value := range form.Options(name) {
				text = strings.ReplaceAll(text, value, "")
			}
		}
	}
	return text
}
