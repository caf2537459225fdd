package registration_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

func TestClientsInTheWild(t *testing.T) {
	s := servertest.StartWeather(t)
	ada := s.User("ada@example.com")
	both := []any{"authorization_code", "refresh_token"}
	tests := []struct {
		name string
		body map[string]any
		kind string
		use  string // a redirect URI that it authorizes with
	}{
		{"Cursor", map[string]any{
			"client_name": "Cursor", "token_endpoint_auth_method": "none", "grant_types": both,
			"response_types": []string{"code"},
			"redirect_uris": []string{"cursor://anysphere.cursor-mcp/oauth/callback",
				"https://www.cursor.com/agents/mcp/oauth/callback", "http://localhost:8787/callback"},
		}, "native", "cursor://anysphere.cursor-mcp/oauth/callback"},
		{"VS Code", map[string]any{
			"client_name": "Visual Studio Code", "token_endpoint_auth_method": "none", "application_type": "native",
			"response_types": []string{"code"},
			"grant_types": []string{"authorization_code", "refresh_token",
				"urn:ietf:params:oauth:grant-type:device_code"},
			"redirect_uris": []string{"https://insiders.vscode.dev/redirect", "https://vscode.dev/redirect",
				"http://127.0.0.1/", "http://127.0.0.1:33418/"},
		}, "native", "http://127.0.0.1:50123/"},
		{"Claude Code", map[string]any{
			"client_name": "Claude Code", "token_endpoint_auth_method": "none", "grant_types": both,
			"response_types": []string{"code"},
			"redirect_uris":  []string{"http://localhost/callback", "http://127.0.0.1/callback"},
		}, "native", "http://localhost:54212/callback"},
		{"Claude.ai", map[string]any{
			"client_name": "Claude", "token_endpoint_auth_method": "none", "grant_types": both,
			"response_types": []string{"code"},
			"redirect_uris": []string{"https://claude.ai/api/mcp/auth_callback",
				"https://claude.com/api/mcp/auth_callback"},
		}, "web", "https://claude.ai/api/mcp/auth_callback"},
		{"Gemini CLI", map[string]any{
			"client_name": "Gemini CLI MCP Client", "token_endpoint_auth_method": "none", "grant_types": both,
			"response_types": []string{"code"}, "scope": "",
			"redirect_uris": []string{"http://localhost:7777/oauth/callback"},
		}, "native", "http://localhost:7777/oauth/callback"},
		{"LM Studio", map[string]any{
			"client_name": "LM Studio", "token_endpoint_auth_method": "none",
			"redirect_uris": []string{"http://127.0.0.1:33389/callback"},
		}, "native", "http://127.0.0.1:33389/callback"},
		{"MCP Inspector", map[string]any{
			"client_name": "MCP Inspector", "token_endpoint_auth_method": "none", "grant_types": both,
			"response_types": []string{"code"}, "client_uri": "https://github.com/modelcontextprotocol/inspector",
			"redirect_uris": []string{"http://localhost:6274/oauth/callback"},
		}, "native", "http://localhost:6274/oauth/callback"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			agent := s.Agent(t, nil)
			info := servertest.Registered(t, agent.Register(test.body))
			delete(info, "client_id")
			delete(info, "client_id_issued_at")
			var uris []any
			for _, uri := range test.body["redirect_uris"].([]string) {
				uris = append(uris, uri)
			}
			want := map[string]any{
				"client_name": test.body["client_name"], "redirect_uris": uris, "grant_types": both,
				"response_types": []any{"code"}, "token_endpoint_auth_method": "none", "application_type": test.kind,
			}
			if uri, ok := test.body["client_uri"]; ok {
				want["client_uri"] = uri
			}
			if diff := cmp.Diff(want, info); diff != "" {
				t.Errorf("client information (-want +got):\n%s", diff)
			}
			agent.RedirectURI = test.use
			if tokens := agent.Connect(s.Browser(t), ada); tokens.Refresh == "" {
				t.Error("no refresh token")
			}
		})
	}

	t.Run("the same public registration again returns the same client", func(t *testing.T) {
		first, second := s.Agent(t, nil), s.Agent(t, nil)
		servertest.Registered(t,
			first.Register(servertest.Metadata(map[string]any{"redirect_uris": []string{"https://a.example/1",
				"https://a.example/2"}})))
		servertest.Registered(t,
			second.Register(servertest.Metadata(map[string]any{"redirect_uris": []string{"https://a.example/2",
				"https://a.example/1"}})))
		if first.ClientID != second.ClientID {
			t.Errorf("two clients, %s and %s, for the same metadata", first.ClientID, second.ClientID)
		}
		third := s.Agent(t, nil)
		servertest.Registered(t,
			third.Register(servertest.Metadata(map[string]any{"redirect_uris": []string{"https://a.example/1"}})))
		if third.ClientID == first.ClientID {
			t.Error("a registration with other redirect URIs returned the same client")
		}
	})
}

func TestRegistrationRedirects(t *testing.T) {
	s := servertest.StartWeather(t)
	hostile := []string{
		"javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\tscript:alert(1)", "\x01javascript:alert(1)",
		" javascript:alert(1)",
		"data:text/html,x", "DATA:text/html,x", "vbscript:x", "file:///etc/passwd", "blob:https://a.example/1",
		"about:blank",
		"search-ms:query=x", "ms-msdt:/id", "itms-services://?action=download-manifest", "chrome-extension://abc/x",
		"smb://evil.example/x",
		"shell:startup", "tel:+15550100", "SEARCH-MS:query=x", "myapp://callback",
	}
	for _, uri := range hostile {
		t.Run(fmt.Sprintf("DC-01 %q", uri), func(t *testing.T) {
			s.Agent(t, nil).
				Register(servertest.Metadata(map[string]any{"redirect_uris": []string{servertest.Callback, uri}})).
				Refused(400, "invalid_redirect_uri")
			s.Agent(t, nil).Register(servertest.Metadata(map[string]any{"jwks_uri": uri})).
				Refused(400, "invalid_client_metadata")
		})
	}
	for _, uri := range []string{
		"http://app.example/cb", "HTTP://app.example/cb", "http://127.0.0.1.evil.example/cb",
		"http://localhost.evil.example/cb", "http://10.0.0.1/cb", "http://127.0.0.1@evil.example/cb",
	} {
		t.Run("DC-02 "+uri, func(t *testing.T) {
			s.Agent(t, nil).Register(servertest.Metadata(map[string]any{"redirect_uris": []string{uri}})).
				Refused(400, "invalid_redirect_uri")
		})
	}
	for _, uri := range []string{
		"http://localho%C5%BFt/cb", "http://localho\u017ft/cb", "http://%C5%BF.localhost/cb",
		"https://%E2%84%AA.example/cb",
	} {
		t.Run("DC-02 a letter that folds to ASCII, "+uri, func(t *testing.T) {
			s.Agent(t, nil).Register(servertest.Metadata(map[string]any{"redirect_uris": []string{uri}})).
				Refused(400, "invalid_redirect_uri")
		})
	}
	t.Run("registered with scheme and host in lower case", func(t *testing.T) {
		agent := s.Agent(t, nil)
		info := servertest.Registered(t,
			agent.Register(servertest.Metadata(map[string]any{"redirect_uris": []string{"HTTP://LOCALHOST:80/CB",
				"http://App.Localhost/cb", "Com.Example.App:/Cb", "https://A.example"}})))
		want := []any{"http://localhost:80/CB", "http://app.localhost/cb", "com.example.app:/Cb", "https://a.example"}
		if diff := cmp.Diff(want, info["redirect_uris"]); diff != "" {
			t.Errorf("redirect_uris (-want +got):\n%s", diff)
		}
		if info["application_type"] != "native" {
			t.Errorf("application_type is %v", info["application_type"])
		}
		agent.RedirectURI = "http://app.localhost:4000/cb"
		agent.Connect(s.Browser(t), s.User("lower@example.com"))
	})
	for _, uri := range []string{
		"https://a.example/cb#fragment", "https://a.example/../cb", "/callback", "", "https://user@a.example/cb",
		"https://a.example/cb?code=1",
	} {
		t.Run(fmt.Sprintf("not a redirect URI %q", uri), func(t *testing.T) {
			s.Agent(t, nil).Register(servertest.Metadata(map[string]any{"redirect_uris": []string{uri}})).
				Refused(400, "invalid_redirect_uri")
		})
	}
	t.Run("none, or too many", func(t *testing.T) {
		var many []string
		for i := range 33 {
			many = append(many, fmt.Sprintf("https://a.example/%d", i))
		}
		for _, uris := range [][]string{nil, {}, many} {
			s.Agent(t, nil).Register(servertest.Metadata(map[string]any{"redirect_uris": uris})).
				Refused(400, "invalid_redirect_uri")
		}
	})
	for _, path := range []string{"/", "/oauth2/authorize", "/consent", "/logout"} {
		t.Run("DC-04 "+path, func(t *testing.T) {
			s.Agent(t, nil).Register(servertest.Metadata(map[string]any{"redirect_uris": []string{s.URL + path}})).
				Refused(400, "invalid_redirect_uri")
		})
	}
	t.Run("DC-04 the server's own origin in another spelling", func(t *testing.T) {
		s := servertest.StartWeather(t, func(c *config.Config) { c.Issuer = "https://login.example.com" })
		for _, uri := range []string{
			"https://login.example.com/consent", "https://LOGIN.example.com/consent", "HTTPS://login.example.com/",
			"https://login.example.com:443/consent",
			"https://login.example.com./consent",
		} {
			s.Agent(t, nil).Register(servertest.Metadata(map[string]any{"redirect_uris": []string{uri}})).
				Refused(400, "invalid_redirect_uri")
		}
		other := map[string]any{"redirect_uris": []string{"https://login.example.com:8443/callback"}}
		servertest.Registered(t, s.Agent(t, nil).Register(servertest.Metadata(other)))
	})
	kinds := []struct{ said, uri, want string }{
		{"web", "http://127.0.0.1/cb", "native"},
		{"native", "https://a.example/cb", "web"},
		{"native", "com.example.app:/cb", "native"},
		{"", "http://[::1]:1234/cb", "native"},
	}
	for _, kind := range kinds {
		t.Run("DC-30 "+kind.said+" "+kind.uri, func(t *testing.T) {
			info := servertest.Registered(t,
				s.Agent(t, nil).
					Register(servertest.Metadata(map[string]any{"application_type": kind.said,
						"redirect_uris": []string{kind.uri}})))
			if info["application_type"] != kind.want {
				t.Errorf("application_type is %v, want %s", info["application_type"], kind.want)
			}
		})
	}
}

func TestRegistrationBody(t *testing.T) {
	s := servertest.StartWeather(t)
	const plain = `{"redirect_uris":["https://a.example/cb"],"token_endpoint_auth_method":"none"`
	t.Run("DC-05 too long", func(t *testing.T) {
		s.Agent(t, nil).RegisterRaw("application/json", plain+`,"x":"`+strings.Repeat("a", 1<<20)+`"}`).
			Refused(413, "invalid_client_metadata")
	})
	t.Run("DC-05 nested deep", func(t *testing.T) {
		s.Agent(t, nil).
			RegisterRaw("application/json",
				plain+`,"x":`+strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000)+"}").
			Refused(413, "invalid_client_metadata")
		s.Agent(t, nil).
			RegisterRaw("application/json", plain+`,"x":`+strings.Repeat("[", 30_000)+strings.Repeat("]", 30_000)+"}").
			Refused(400, "invalid_client_metadata")
	})
	t.Run("DC-05 many names", func(t *testing.T) {
		var names strings.Builder
		for i := range 1_000_000 {
			fmt.Fprintf(&names, `,"%x":1`, i)
		}
		s.Agent(t, nil).RegisterRaw("application/json", plain+names.String()+"}").
			Refused(413, "invalid_client_metadata")
	})
	for _, kind := range []string{
		"text/plain", "application/x-www-form-urlencoded", "application/jsonx", "application/json, text/html",
		"nonsense;;",
	} {
		t.Run("DC-22 "+kind, func(t *testing.T) {
			s.Agent(t, nil).RegisterRaw(kind, plain+"}").Refused(415, "invalid_client_metadata")
		})
	}
	t.Run("DC-22 a charset does not change the type", func(t *testing.T) {
		servertest.Registered(t, s.Agent(t, nil).RegisterRaw("application/json; charset=utf-8", plain+"}"))
	})
	bodies := map[string]string{
		"a name twice":            plain + `,"redirect_uris":["https://evil.example/cb"]}`,
		"no object":               `[]`,
		"null":                    `null`,
		"cut off":                 plain,
		"two objects":             plain + `}{}`,
		"empty":                   " ",
		"redirect_uris as text":   `{"redirect_uris":"https://a.example/cb"}`,
		"redirect_uris as number": `{"redirect_uris":[1]}`,
		"a method as number":      `{"redirect_uris":["https://a.example/cb"],"token_endpoint_auth_method":1}`,
		"jwks_uri as object":      plain + `,"jwks_uri":{}}`,
	}
	for name, body := range bodies {
		t.Run("DC-22 "+name, func(t *testing.T) {
			reply := s.Agent(t, nil).RegisterRaw("application/json", body)
			if reply.Status != http.StatusBadRequest {
				t.Errorf("status %d: %s", reply.Status, reply.Body)
			}
		})
	}
	t.Run("DC-22 names differ by case", func(t *testing.T) {
		s.Agent(t, nil).
			RegisterRaw("application/json",
				`{"Redirect_uris":["https://a.example/cb"],"token_endpoint_auth_method":"none"}`).
			Refused(400, "invalid_redirect_uri")
		info := servertest.Registered(t,
			s.Agent(t, nil).RegisterRaw("application/json", plain+`,"Redirect_uris":["https://evil.example/cb"]}`))
		if diff := cmp.Diff([]any{"https://a.example/cb"}, info["redirect_uris"]); diff != "" {
			t.Error(diff)
		}
	})
}

func TestRegistrationWords(t *testing.T) {
	s := servertest.StartWeather(t)
	t.Run("DC-06 a client_name that cannot be shown", func(t *testing.T) {
		for _, name := range []any{strings.Repeat("a", 10<<10), map[string]any{}, 5} {
			info := servertest.Registered(t,
				s.Agent(t, nil).Register(servertest.Metadata(map[string]any{"client_name": name})))
			if got, ok := info["client_name"]; ok {
				t.Errorf("client_name is %.40v", got)
			}
		}
	})
	for name, useless := range servertest.Useless {
		t.Run("dropped: "+name, func(t *testing.T) {
			plain, odd := s.Agent(t, nil), s.Agent(t, nil)
			want := servertest.Registered(t, plain.Register(servertest.Metadata(nil)))
			got := servertest.Registered(t, odd.Register(servertest.Metadata(useless.Said)))
			if useless.Kept == nil && odd.ClientID != plain.ClientID {
				t.Error("it is not the same client as without the member")
			}
			maps.Copy(want, useless.Kept)
			want["client_id"] = got["client_id"]
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("registered (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("DC-06 a client_name with misleading characters", func(t *testing.T) {
		ada := s.User("ada@example.com")
		agent := s.Agent(t, nil)
		name := "Good\u202eevil\x00\x1b[31m<script>alert(1)</script>\u200b"
		reply := agent.Register(servertest.Metadata(map[string]any{"client_name": name}))
		if reply.Status == http.StatusBadRequest {
			return
		}
		servertest.Registered(t, reply)
		page := s.Browser(t).Authorize(agent.Authorization()).SignIn(ada)
		if !page.IsConsent() {
			t.Fatalf("no consent: %d %s", page.Status, page.Location)
		}
		for _, bad := range []string{"\u202e", "\x00", "\x1b", "<script>alert", "\u200b"} {
			if strings.Contains(page.Body, bad) {
				t.Errorf("the consent page holds %q", bad)
			}
		}
	})
	t.Run("DC-08 privileges asked for", func(t *testing.T) {
		agent := s.Agent(t, nil)
		info := servertest.Registered(t, agent.Register(servertest.Metadata(map[string]any{
			"client_id": "mcp_admin", "client_secret": "chosen", "client_secret_expires_at": 1,
			"client_id_issued_at": 1, "skip_consent": true, "trusted": true,
			"role": "admin", "tenant_id": "other", "created_at": "2001-01-01T00:00:00Z",
			"approved_at": "2001-01-01T00:00:00Z", "ApprovedAt": "2001-01-01T00:00:00Z",
			"origin": "operator", "resource_servers": []string{servertest.MCP}, "secrets": []string{"x"},
			"software_id":               "x-1",
			"registration_access_token": "chosen", "registration_client_uri": "https://evil.example/",
			"token_endpoint_auth_methods_supported": []string{"client_secret_basic"},
		})))
		want := []string{"application_type", "client_id", "client_id_issued_at", "client_name", "grant_types",
			"redirect_uris", "response_types", "software_id", "token_endpoint_auth_method"}
		var got []string
		for name := range info {
			got = append(got, name)
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("members (-want +got):\n%s", diff)
		}
		c := s.ClientOf(agent.ClientID)
		if c.ID == "mcp_admin" || !c.ApprovedAt.IsZero() || c.Origin != oauth.ByRegistration ||
			len(c.ResourceServers) != 0 || len(c.Secrets) != 0 || !c.CreatedAt.Equal(storetest.Start) {
			t.Errorf("the client got what it asked for: %+v", c)
		}
	})
	t.Run("DC-09 a scope nobody has", func(t *testing.T) {
		agent := s.Agent(t, nil)
		reply := agent.Register(servertest.Metadata(map[string]any{"scope": "admin mcp:tools:weather"}))
		if reply.Status == http.StatusBadRequest {
			return
		}
		servertest.Registered(t, reply)
		tokens := agent.Connect(s.Browser(t), s.User("dc09@example.com"),
			servertest.With("scope", "admin mcp:tools:weather"))
		got := servertest.Claims(t, tokens.Access).Scope
		if fmt.Sprint(got) != "mcp:tools:weather" || strings.Contains(tokens.Scope, "admin") {
			t.Errorf("scope is %q, and %q in the token", tokens.Scope, got)
		}
	})
	for _, grant := range []string{
		"client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange",
		"urn:ietf:params:oauth:grant-type:jwt-bearer", "password", "implicit",
	} {
		t.Run("DC-10 "+grant, func(t *testing.T) {
			body := servertest.Metadata(map[string]any{"grant_types": []string{grant},
				"token_endpoint_auth_method": "client_secret_basic"})
			s.Agent(t, nil).Register(body).Refused(400, "invalid_client_metadata")
			body["grant_types"] = []string{grant, "authorization_code"}
			agent := s.Agent(t, nil)
			info := servertest.Registered(t, agent.Register(body))
			if !cmp.Equal(info["grant_types"], []any{"authorization_code"}) {
				t.Errorf("grant_types are %v", info["grant_types"])
			}
			agent.Token(url.Values{"grant_type": {grant}}).
				Refused(400,
					map[bool]string{true: "unauthorized_client",
						false: "unsupported_grant_type"}[grant == "client_credentials"])
		})
	}
	for _, method := range []string{"private_key_jwt", "client_secret_jwt", "tls_client_auth", "NONE"} {
		t.Run("method "+method, func(t *testing.T) {
			s.Agent(t, nil).Register(servertest.Metadata(map[string]any{"token_endpoint_auth_method": method})).
				Refused(400, "invalid_client_metadata")
		})
	}
	t.Run("DC-16 software_statement", func(t *testing.T) {
		header, claims := `{"alg":"none"}`,
			`{"iss":"https://evil.example","client_name":"Trusted","redirect_uris":["https://evil.example/cb"]}`
		none := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." +
			base64.RawURLEncoding.EncodeToString([]byte(claims)) + "."
		agent := s.Agent(t, nil)
		reply := agent.Register(servertest.Metadata(map[string]any{"software_statement": none}))
		if reply.Status == http.StatusBadRequest {
			return
		}
		// RFC 7591 §3.1.1: a server that does not support statements ignores them.
		info := servertest.Registered(t, reply)
		if info["client_name"] != "Example agent" || !strings.Contains(string(reply.Body), servertest.Callback) ||
			strings.Contains(string(reply.Body), "evil") {
			t.Errorf("the statement was believed: %s", reply.Body)
		}
		if _, ok := info["software_statement"]; ok {
			t.Error("the statement is echoed, as if it had been accepted")
		}
		if !s.ClientOf(agent.ClientID).ApprovedAt.IsZero() {
			t.Error("the statement approved the client")
		}
	})
	t.Run("DC-24 keys that are secret", func(t *testing.T) {
		for _, key := range []map[string]any{
			{"kty": "oct", "k": "c2VjcmV0"},
			{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
				"d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"},
		} {
			s.Agent(t, nil).Register(servertest.Metadata(map[string]any{"jwks": map[string]any{"keys": []any{key}}})).
				Refused(400, "invalid_client_metadata")
		}
		s.Agent(t, nil).
			Register(servertest.Metadata(map[string]any{"jwks": map[string]any{"keys": []any{"key",
				map[string]any{"kty": "oct", "k": "c2VjcmV0"}}}})).Refused(400, "invalid_client_metadata")
		public := map[string]any{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
		servertest.Registered(t, s.Agent(t, nil).Register(
			servertest.Metadata(map[string]any{"jwks": map[string]any{"keys": []any{public}}})))
	})
	t.Run("D11 malformed keys of a client that has no use for them are dropped", func(t *testing.T) {
		for _, keys := range []any{"keys", 1, []any{}, map[string]any{}, map[string]any{"keys": []any{"key"}}} {
			info := servertest.Registered(t,
				s.Agent(t, nil).Register(servertest.Metadata(map[string]any{"jwks": keys})))
			if _, ok := info["jwks"]; ok {
				t.Errorf("%v is registered", keys)
			}
		}
	})
	t.Run("DC-25 jwks and jwks_uri", func(t *testing.T) {
		s.Agent(t, nil).
			Register(servertest.Metadata(map[string]any{"jwks": map[string]any{"keys": []any{}},
				"jwks_uri": "https://a.example/jwks"})).Refused(400, "invalid_client_metadata")
	})
}

func TestRegisteredSecret(t *testing.T) {
	s := servertest.StartWeather(t)
	ada := s.User("ada@example.com")
	t.Run("DC-12 method left out", func(t *testing.T) {
		web := s.Agent(t, nil)
		info := servertest.Registered(t, web.Register(map[string]any{"redirect_uris": []string{servertest.Callback}}))
		if info["token_endpoint_auth_method"] != "client_secret_basic" || web.Secret == "" {
			t.Errorf("not the default of RFC 7591 §2: %v", info)
		}
		web.Connect(s.Browser(t), ada)
		native := s.Agent(t, nil)
		info = servertest.Registered(t,
			native.Register(map[string]any{"redirect_uris": []string{"http://127.0.0.1/cb"}}))
		if info["token_endpoint_auth_method"] != "none" || native.Secret != "" {
			t.Errorf("a native client is not public: %v", info)
		}
		native.RedirectURI = "http://127.0.0.1:4000/cb"
		native.Connect(s.Browser(t), ada)
	})
	for _, method := range []string{"client_secret_basic", "client_secret_post"} {
		t.Run("DC-13 "+method, func(t *testing.T) {
			agent, again := s.Agent(t, nil), s.Agent(t, nil)
			info := servertest.Registered(t,
				agent.Register(servertest.Metadata(map[string]any{"token_endpoint_auth_method": method})))
			if expires, ok := info["client_secret_expires_at"].(float64); !ok || expires != 0 {
				t.Errorf("client_secret_expires_at is %v, want 0", info["client_secret_expires_at"])
			}
			if len(strings.TrimPrefix(agent.Secret, oauth.SecretPrefix)) < 43 {
				t.Errorf("the secret has fewer than 256 bits: %q", agent.Secret)
			}
			servertest.Registered(t,
				again.Register(servertest.Metadata(map[string]any{"token_endpoint_auth_method": method})))
			if again.ClientID == agent.ClientID || again.Secret == agent.Secret {
				t.Error("a stranger with the same metadata is the same confidential client")
			}
			storetest.SecretsAtRest(t, s.DB, map[string]string{"client secret": agent.Secret, "registration " +
				"access token": info["registration_access_token"].(string)})
		})
	}
	t.Run("DC-26 no secret for a public client", func(t *testing.T) {
		info := servertest.Registered(t, s.Agent(t, nil).Register(nil))
		for _, name := range []string{"client_secret", "client_secret_expires_at"} {
			if _, ok := info[name]; ok {
				t.Errorf("the answer has %s", name)
			}
		}
	})
	t.Run("DC-28 generated client_ids are not URLs", func(t *testing.T) {
		seen := map[string]bool{}
		for i := range 50 {
			agent := s.Agent(t, nil)
			servertest.Registered(t, agent.Register(servertest.Metadata(map[string]any{"client_name": fmt.Sprint(i)})))
			if seen[agent.ClientID] || strings.Contains(agent.ClientID, ":") {
				t.Errorf("client_id %q", agent.ClientID)
			}
			seen[agent.ClientID] = true
		}
	})
}

// fill registers clients until there is no room for another that nobody has used.
func fill(tx *store.Tx) error {
	for range 100 {
		var clients []store.NewClient
		for range 100 {
			clients = append(clients, store.NewClient{Client: &oauth.Client{ID: oauth.NewID("mcp_"),
				Origin: oauth.ByRegistration, CreatedAt: tx.Now()}})
		}
		if _, err := tx.CreateClients(clients...); err != nil {
			return err
		}
	}
	return nil
}

func TestRegistrationFlood(t *testing.T) {
	t.Run("DC-14 one address", func(t *testing.T) {
		s := servertest.StartWeather(t, func(c *config.Config) { c.Limits.Enabled = true })
		agent := s.Agent(t, nil)
		created, turned := 0, 0
		for i := range 300 {
			reply := agent.Post("/oauth2/register", nil, servertest.Header("Content-Type", "application/json"),
				servertest.Header("X-Forwarded-For", fmt.Sprintf("203.0.113.%d", i%250)),
				servertest.Header("Forwarded", fmt.Sprintf("for=203.0.113.%d", i%250)),
				servertest.Raw(fmt.Sprintf(`{"client_name":"Flood %d","redirect_uris":["https://a.example/cb"],`+
					`"token_endpoint_auth_method":"none"}`, i)))
			switch reply.Status {
			case http.StatusCreated:
				created++
			case http.StatusTooManyRequests:
				turned++
				if reply.Header.Get("Retry-After") == "" {
					t.Fatal("429 without Retry-After")
				}
			default:
				t.Fatalf("status %d: %s", reply.Status, reply.Body)
			}
		}
		if turned == 0 || created == 0 || created > 200 {
			t.Errorf("%d registered, %d turned away", created, turned)
		}
		if events := len(s.Events("client.register")); events > created+10 {
			t.Errorf("%d audit events for %d clients", events, created)
		}
	})
	t.Run("DC-14 a client that is known is answered, also by a process that has not seen it", func(t *testing.T) {
		s := servertest.StartWeather(t)
		known := s.Agent(t, nil)
		servertest.Registered(t, known.Register(nil))
		other := servertest.New(t, s.DB, s.Clock, func(c *config.Config) { c.Limits.Enabled = true })
		for i := 0; ; i++ {
			reply := other.Agent(t, nil).Register(servertest.Metadata(map[string]any{"client_name": fmt.Sprint(i)}))
			if reply.Status == http.StatusTooManyRequests {
				break
			}
			if i == 300 {
				t.Fatalf("no limit; the last status was %d", reply.Status)
			}
		}
		for range 2 {
			again := other.Agent(t, nil)
			servertest.Registered(t, again.Register(nil))
			if again.ClientID != known.ClientID {
				t.Errorf("client %s, then %s", known.ClientID, again.ClientID)
			}
		}
	})
	for _, mode := range []string{"open", "token"} {
		t.Run("DC-14 a client that is known is answered when there is no room for new ones, "+mode, func(t *testing.T) {
			edit := func(c *config.Config) { c.Registration.DCR = mode }
			s := servertest.StartWeather(t, edit)
			three, id := admit(s, func(t *oauth.InitialAccessToken) { t.MaxUses = 3 })
			known, token := s.Agent(t, nil), servertest.Bearer(three)
			servertest.Registered(t, known.Register(nil, token))
			s.Update(fill)
			other := servertest.New(t, s.DB, s.Clock, edit) // has not seen it
			other.Agent(t, nil).Register(secretive(nil), token).Refused(http.StatusTooManyRequests, "too_many_requests")
			for range 2 {
				again := other.Agent(t, nil)
				servertest.Registered(t, again.Register(nil, token))
				if again.ClientID != known.ClientID {
					t.Errorf("client %s, then %s", known.ClientID, again.ClientID)
				}
			}
			if mode == "token" { // each answer spent it, and the refusal did not
				other.Agent(t, nil).Register(nil, token).Refused(http.StatusUnauthorized, "invalid_token")
				if e := s.Events("client.register")[1]; e.ClientID != known.ClientID ||
					e.Detail["initial_access_token"] != id {
					t.Errorf("the event is %+v", e)
				}
			}
		})
	}
	const day = 24 * time.Hour // after which store.DB.Sweep forgets them
	t.Run("DC-14 DC-29 unused clients are forgotten", func(t *testing.T) {
		s := servertest.StartWeather(t)
		ada := s.User("ada@example.com")
		used, unused := s.Agent(t, nil), s.Agent(t, nil)
		used.Register(servertest.Metadata(map[string]any{"client_name": "Used"}))
		unused.Register(servertest.Metadata(map[string]any{"client_name": "Unused"}))
		used.Connect(s.Browser(t), ada)
		s.Clock.Advance(day + time.Minute)
		if _, err := s.DB.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Browser(t).Authorize(unused.Authorization()).ErrorPage(http.StatusBadRequest)
		unused.Exchange("crd_code_x").Refused(401, "invalid_client")
		if page := s.Browser(t).Authorize(used.Authorization()); !page.IsSignIn() {
			t.Errorf("the client in use is gone: %d", page.Status)
		}
	})
	for _, tokens := range []string{"open", "token"} {
		t.Run("DC-29 a client that registers again is kept for another day, "+tokens, func(t *testing.T) {
			s := servertest.StartWeather(t, func(c *config.Config) { c.Registration.DCR = tokens })
			var tweaks []servertest.Tweak
			if tokens == "token" {
				token, _ := admit(s, nil)
				tweaks = append(tweaks, servertest.Bearer(token))
			}
			agent, again := s.Agent(t, nil), s.Agent(t, nil)
			agent.Register(nil, tweaks...)
			s.Clock.Advance(day - time.Minute)
			if again.Register(nil, tweaks...); again.ClientID != agent.ClientID {
				t.Fatalf("%s, then %s", agent.ClientID, again.ClientID)
			}
			for _, later := range []time.Duration{time.Hour, day - 2*time.Hour} {
				s.Clock.Advance(later)
				if _, err := s.DB.Sweep(t.Context()); err != nil {
					t.Fatal(err)
				}
				if page := s.Browser(t).Authorize(again.Authorization()); !page.IsSignIn() {
					t.Fatalf("status %d", page.Status)
				}
			}
			s.Clock.Advance(2 * time.Hour)
			if _, err := s.DB.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.Browser(t).Authorize(again.Authorization()).ErrorPage(http.StatusBadRequest)
		})
	}
	t.Run("DC-29 deleted client", func(t *testing.T) {
		s := servertest.StartWeather(t)
		ada := s.User("ada@example.com")
		agent := s.Agent(t, nil)
		agent.Register(nil)
		rs := s.Agent(t, s.Client(servertest.Confidential, servertest.ResourceServer(servertest.MCP)))
		tokens := agent.Connect(s.Browser(t), ada)
		if !rs.Active(tokens.Access) {
			t.Fatal("the token is not active to begin with")
		}
		s.Update(func(tx *store.Tx) error { return tx.DeleteClient(agent.ClientID) })
		agent.Refresh(tokens.Refresh).Refused(401, "invalid_client")
		if rs.Active(tokens.Access) {
			t.Error("the token of a deleted client is active")
		}
	})
}
