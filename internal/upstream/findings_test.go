package upstream_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/upstream"
	"github.com/cardea-auth/cardea/internal/upstream/upstreamtest"
)

// found returns the findings about a provider by their checks. It fails the test if the secret is in one of them.
func found(t *testing.T, c upstream.Config) map[string]upstream.Finding {
	t.Helper()
	if err := c.Settle(); err != nil {
		t.Fatal(err)
	}
	all := upstream.New(c, "https://auth.example.com", time.Now).Test(t.Context())
	by := map[string]upstream.Finding{}
	var names []string
	for _, f := range all {
		by[f.Check] = f
		names = append(names, f.Check)
		if c.ClientSecret != "" && strings.Contains(f.Found+f.Fix, c.ClientSecret) {
			t.Errorf("the secret is in %+v", f)
		}
		if f.Found == "" {
			t.Errorf("%s says nothing", f.Check)
		}
	}
	if !slices.Equal(names, upstream.Checked) {
		t.Errorf("the checks are %v", names)
	}
	return by
}

func TestFindings(t *testing.T) {
	answer := func(path string, status int, text string) func(*upstreamtest.Issuer) {
		return func(i *upstreamtest.Issuer) {
			i.Misbehave(upstreamtest.Hooks{Answer: func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != path {
					return false
				}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(status)
				_, _ = w.Write([]byte(text))
				return true
			}})
		}
	}
	says := func(name string, value any) func(*upstreamtest.Issuer) {
		return func(i *upstreamtest.Issuer) {
			i.Misbehave(upstreamtest.Hooks{Discovery: func(m map[string]any) { m[name] = value }})
		}
	}
	at := func(off time.Duration) func(*upstreamtest.Issuer) {
		return func(i *upstreamtest.Issuer) {
			i.Misbehave(upstreamtest.Hooks{Answer: func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Date", time.Now().Add(off).UTC().Format(http.TimeFormat))
				return false
			}})
		}
	}
	const discovery = "/.well-known/openid-configuration"
	tests := []struct {
		name   string
		issuer func(*upstreamtest.Issuer)
		config func(*upstream.Config)
		check  string
		status upstream.Status
		says   string
	}{
		{"all is well", nil, nil, "client", upstream.OK, "accepts client_id and client_secret"},
		{"the redirect URI to register", nil, nil, "redirect_uri", upstream.Skipped,
			"https://auth.example.com/login/corp/callback"},
		{"nobody answers", (*upstreamtest.Issuer).Stop, nil, "reachable", upstream.Fail, "connection refused"},
		{"not found", answer(discovery, 404, "{}"), nil, "reachable", upstream.Fail, "404 Not Found"},
		{"a page", answer(discovery, 200, "<html>"), nil, "reachable", upstream.Fail, "is not the metadata"},
		{"it is down", answer(discovery, 503, ""), nil, "reachable", upstream.Fail, "503 Service Unavailable"},
		{"another issuer", says("issuer", "https://id.example.com"), nil, "issuer", upstream.Fail,
			`"https://id.example.com"`},
		{"an endpoint without TLS", says("token_endpoint", "http://id.example.com/token"), nil,
			"endpoints", upstream.Fail, "token_endpoint"},
		{"no PKCE", says("code_challenge_methods_supported", []string{"plain"}), nil, "endpoints", upstream.Warn,
			"PKCE"},
		{"no secrets", says("token_endpoint_auth_methods_supported", []string{"private_key_jwt"}), nil, "endpoints",
			upstream.Fail, "private_key_jwt"},
		{"no keys", answer("/jwks", 200, `{"keys":[]}`), nil, "keys", upstream.Fail, "has no key"},
		{"the clocks agree", nil, nil, "clock", upstream.OK, "agree"},
		{"a slow clock", at(2 * time.Minute), nil, "clock", upstream.Warn, "behind"},
		{"a wrong clock", at(-time.Hour), nil, "clock", upstream.Fail, "ahead of that of the provider"},
		{"another secret", nil, func(c *upstream.Config) { c.ClientSecret = "wrong and secret" },
			"client", upstream.Fail, "invalid_client"},
		{"another client", nil, func(c *upstream.Config) { c.ClientID = "nobody" }, "client", upstream.Fail,
			"does not accept client_id"},
		{"a secret in an answer",
			answer("/token", 400, `{"error":"odd","error_description":"`+upstreamtest.ClientSecret+`"}`), nil, "client",
			upstream.Skipped, "[client_secret]"},
		{"an unknown redirect URI", answer("/token", 400, `{"error":"redirect_uri_mismatch"}`), nil, "redirect_uri",
			upstream.Fail, "https://auth.example.com/login/corp/callback"},
		{"the token endpoint is down", answer("/token", 502, "Bad Gateway"), nil, "client", upstream.Warn, "502"},
		{"tokens for everybody", answer("/token", 200, `{"access_token":"x","token_type":"Bearer"}`), nil, "client",
			upstream.Fail, "never gave out"},
		{"no offline access", says("scopes_supported", []string{"openid"}),
			func(c *upstream.Config) { c.CheckAtRefresh = true }, "configuration", upstream.Warn, "offline_access"},
		{"no groups", says("claims_supported", []string{"sub"}), func(c *upstream.Config) {
			c.GroupsClaim, c.GroupMap = "groups", map[string]string{"a": "b"}
		}, "configuration", upstream.Warn, "groups_claim is groups"},
		{"a secret where none is needed", nil, func(c *upstream.Config) { c.ClientSecret = "" },
			"client", upstream.Fail, "invalid_client"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			issuer := upstreamtest.NewIssuer(t, "")
			c := upstream.Config{ID: "corp", Preset: "oidc", Issuer: issuer.URL, ClientID: upstreamtest.ClientID,
				ClientSecret: upstreamtest.ClientSecret}
			if tt.issuer != nil {
				tt.issuer(issuer)
			}
			if tt.config != nil {
				tt.config(&c)
			}
			got := found(t, c)[tt.check]
			if got.Status != tt.status || !strings.Contains(got.Found, tt.says) ||
				(got.Status == upstream.Fail || got.Status == upstream.Warn) && got.Fix == "" {
				t.Errorf("%+v, want %s with %q and what to do", got, tt.status, tt.says)
			}
		})
	}
}

// A certificate that this computer does not trust, and a port without TLS.
func TestFindingsTLS(t *testing.T) {
	nothing := http.NotFoundHandler()
	private, plain := httptest.NewTLSServer(nothing), httptest.NewServer(nothing)
	defer private.Close()
	defer plain.Close()
	for issuer, fix := range map[string]string{
		private.URL: "authority that this computer trusts",
		strings.Replace(plain.URL, "http:", "https:", 1): "no TLS at this port",
		"https://nothing.invalid":                        "the DNS of this computer",
	} {
		c := upstream.Config{ID: "corp", Preset: "oidc", Issuer: issuer, ClientID: "cardea", ClientSecret: "secret"}
		if got := found(t, c)["reachable"]; got.Status != upstream.Fail || !strings.Contains(got.Fix, fix) {
			t.Errorf("%s: %+v", issuer, got)
		}
	}
}

func TestFindingsGitHub(t *testing.T) {
	hub := upstreamtest.NewGitHub(t)
	c := upstream.Config{ID: "github", Preset: "github", Issuer: hub.URL, ClientID: upstreamtest.ClientID,
		ClientSecret: upstreamtest.ClientSecret}
	for secret, want := range map[string]upstream.Status{
		upstreamtest.ClientSecret: upstream.OK, "wrong": upstream.Fail} {
		c.ClientSecret = secret
		if got := found(t, c)["client"]; got.Status != want {
			t.Errorf("%+v, want %s", got, want)
		}
	}
}
