package clients_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/porttest"
)

// play runs a script to its end, lets the person visit each authorization URL, and returns the other steps that the
// script prints.
func play(t *testing.T, who *person, env []string, script string, args ...string) (told []map[string]any) {
	t.Helper()
	a := startProgram(t, env, script, args...)
	a.session(who)
	for _, line := range a.trail {
		var s map[string]any
		if err := json.Unmarshal([]byte(line), &s); err == nil && s["step"] != "authorize" {
			told = append(told, s)
		}
	}
	return told
}

// OAuth libraries without MCP support use all their functions, and print how they report a refusal.
func TestLibraries(t *testing.T) {
	d := startDemo(t)
	const weather = "mcp:tools:weather"
	// no program listens there: the response is sent by standard input
	redirect := "http://" + porttest.Address(t) + "/callback"
	public, private := newKey(t)
	app := d.createClient(t, "--name", "App", "--grant", "authorization_code", "--grant", "refresh_token",
		"--redirect-uri", redirect)
	bot := d.createClient(t, "--name", "Bot", "--grant", "client_credentials", "--scope", weather, "--resource", d.MCP)
	rs := d.createClient(t, "--name", "RS", "--resource-server", d.MCP)
	signed := d.createClient(t, "--name", "Signed", "--grant", "client_credentials", "--scope", weather,
		"--resource", d.MCP,
		"--auth-method", "private_key_jwt", "--jwks", public)
	env := []string{
		"ISSUER=" + d.Issuer, "RESOURCE=" + d.MCP, "REDIRECT=" + redirect,
		"APP_ID=" + app.ID, "APP_SECRET=" + app.Secret, "BOT_ID=" + bot.ID, "BOT_SECRET=" + bot.Secret,
		"RS_ID=" + rs.ID, "RS_SECRET=" + rs.Secret, "SIGNED_ID=" + signed.ID, "SIGNED_KEY=" + private,
	}

	type told = map[string]any
	openid := func(by string) []told {
		return []told{
			{"step": "an answer of another issuer", "error": "OAUTH_INVALID_RESPONSE"},
			{"step": "an answer without issuer", "error": "OAUTH_INVALID_RESPONSE"},
			{"step": "code", "by": by, "type": "bearer", "scope": weather},
			{"step": "refreshed", "scope": weather, "rotated": true},
			{"step": "introspected", "active": true, "scope": weather},
			{"step": "introspected after revocation", "active": false},
			{"step": "refreshed after revocation", "status": 400.0, "error": "invalid_grant"},
		}
	}
	tests := []struct {
		script string
		want   []told
	}{
		{"simple-oauth2.mjs", []told{
			{"step": "code", "type": "Bearer", "scope": "mcp:tools:weather mcp:tools:calendar:read", "expired": false},
			{"step": "refreshed", "rotated": true, "scope": "mcp:tools:weather mcp:tools:calendar:read",
				"fewer": weather},
			{"step": "logged out", "status": 400.0, "error": "invalid_grant"},
			{"step": "machine", "by": "header", "scope": weather, "refresh": false},
			{"step": "machine", "by": "body", "scope": weather, "refresh": false},
			{"step": "a wrong secret", "status": 401.0, "error": "invalid_client"},
		}},
		{"oauth4webapi.mjs", []told{
			{"step": "discovered", "issuer": true, "same": true},
			{"step": "registered", "secret": false, "method": "none"},
			{"step": "an answer of another issuer", "error": "OAUTH_INVALID_RESPONSE"},
			{"step": "code", "type": "bearer", "scope": weather},
			{"step": "called", "status": 200.0},
			{"step": "a tool of another scope", "status": 403.0, "scheme": "bearer", "error": "insufficient_scope",
				"scope": "mcp:tools:weather mcp:tools:calendar:write", "metadata": true},
			{"step": "a token of nobody", "status": 401.0, "scheme": "bearer", "error": "invalid_token",
				"scope": "mcp:tools:weather mcp:tools:calendar:read", "metadata": true},
			{"step": "refreshed", "scope": weather, "rotated": true},
			{"step": "introspected", "active": true, "scope": weather, "ours": true},
			{"step": "introspected after revocation", "active": false, "ours": false},
			{"step": "refreshed after revocation", "status": 400.0, "error": "invalid_grant"},
			{"step": "a wrong verifier", "status": 400.0, "error": "invalid_grant"},
			{"step": "machine", "by": "header", "scope": weather},
			{"step": "machine", "by": "body", "scope": weather},
			{"step": "a wrong secret", "status": 401.0, "scheme": "basic"},
			{"step": "a scope that nobody knows", "status": 400.0, "error": "invalid_scope"},
		}},
		{"openid-client.mjs", append(append(openid("oidc"), openid("oauth2")...),
			told{"step": "registered", "secret": false, "method": "none"},
			told{"step": "machine", "by": "key", "scope": weather, "refresh": false},
		)},
	}
	for _, tt := range tests {
		t.Run(tt.script, func(t *testing.T) {
			ada := newPerson(t, d.Email, d.Password)
			if diff := cmp.Diff(tt.want, play(t, ada, env, tt.script)); diff != "" {
				t.Errorf("what it saw (-want +got):\n%s", diff)
			}
			if live := d.liveGrants(t, app.ID); live != 0 {
				t.Errorf("%d grants of the application live on after it revoked its tokens", live)
			}
		})
	}
}

// newKey makes a key for assertions. It returns a file with the public key, and the private key as a JWK.
func newKey(t *testing.T) (publicFile, private string) {
	t.Helper()
	made, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := jose.JSONWebKey{Key: made, KeyID: "one"}
	whole, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	publicFile = filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(publicFile, set, 0o600); err != nil {
		t.Fatal(err)
	}
	return publicFile, string(whole)
}

// Libraries that verify access tokens take everything from the issuer's discovery documents, including the algorithms,
// which may differ between resources. They accept a token only for its own resource.
func TestVerifiers(t *testing.T) {
	d := startDemo(t)
	type judged struct {
		Alg      string `json:"alg"`
		Resource string `json:"resource"`
		Token    string `json:"token"`
		Audience string `json:"audience"` // of the verifier
	}
	var tokens []judged
	const scope = "mcp:tools:weather"
	for _, alg := range []string{"ES256", "RS256"} {
		resource := "https://" + strings.ToLower(alg) + ".example.com/mcp"
		var created any
		command(t, d.env, &created, "resource", "create", "--identifier", resource, "--name", alg, "--scope",
			scope+"=Weather", "--signing-alg", alg, "-o", "json")
		bot := d.createClient(t, "--name", alg, "--grant", "client_credentials", "--scope", scope,
			"--resource", resource)
		token := machineToken(t, d.Issuer, bot.ID, bot.Secret)
		tokens = append(tokens,
			judged{Alg: alg, Resource: resource, Token: token, Audience: resource},
			judged{Alg: alg, Resource: resource, Token: token, Audience: d.MCP})
	}

	t.Run("go-oidc", func(t *testing.T) {
		provider, err := oidc.NewProvider(t.Context(), d.Issuer)
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range tokens {
			token, err := provider.Verifier(&oidc.Config{ClientID: j.Audience}).Verify(t.Context(), j.Token)
			if own := j.Audience == j.Resource; own != (err == nil) {
				t.Errorf("a token signed with %s, for the API itself: %t: %v", j.Alg, own, err)
			}
			if err != nil {
				continue
			}
			var claims struct{ Scope string }
			if err := token.Claims(&claims); err != nil || claims.Scope != scope {
				t.Errorf("its scope is %q (%v)", claims.Scope, err)
			}
		}
	})
	t.Run("JavaScript", func(t *testing.T) {
		asked, err := json.Marshal(tokens)
		if err != nil {
			t.Fatal(err)
		}
		judgements := map[string]int{}
		for _, s := range play(t, nil, []string{"ISSUER=" + d.Issuer, "TOKENS=" + string(asked)}, "verifiers.mjs") {
			judgements[s["step"].(string)]++
			if s["own"] != s["accepted"] {
				t.Errorf("%s: a token signed with %s, for the API itself: %t: %s", s["step"], s["alg"], s["own"],
					s["verdict"])
			}
		}
		want := map[string]int{"jose": 4, "oauth4webapi": 4, "express-oauth2-jwt-bearer": 4}
		if diff := cmp.Diff(want, judgements); diff != "" {
			t.Errorf("judgements (-want +got):\n%s", diff)
		}
	})
}
