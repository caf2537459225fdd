package guard_test

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/guard"
	"github.com/google/go-cmp/cmp"
)

func TestOlderClients(t *testing.T) {
	w := newWorld(t)
	older := w.Guard.OlderClients()
	call := func(t *testing.T, method, target, body string, adjust ...func(*http.Request)) *httptest.ResponseRecorder {
		t.Helper()
		r := httptest.NewRequest(method, "https://mcp.example.com"+target, strings.NewReader(body))
		for _, f := range adjust {
			f(r)
		}
		rec := httptest.NewRecorder()
		older.ServeHTTP(rec, r)
		return rec
	}
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	form := header("Content-Type", "application/x-www-form-urlencoded")

	t.Run("metadata of the issuer, but for the authorization endpoint", func(t *testing.T) {
		got := body(t, call(t, http.MethodGet, "/.well-known/oauth-authorization-server", ""))
		rec := httptest.NewRecorder()
		guard.WellKnown(w.Guard).
			ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/.well-known/oauth-authorization-server", nil))
		want := body(t, rec)
		want["authorization_endpoint"] = "https://mcp.example.com/authorize"
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("authorize is for this server", func(t *testing.T) {
		for _, tt := range []struct{ query, want string }{
			{"?response_type=code&state=a%2Bb%20c",
				"response_type=code&state=a%2Bb%20c&resource=https%3A%2F%2Fmcp.example.com%2Fmcp"},
			{"?state=x&resource=https%3A%2F%2Fmcp.example.com%2F", "state=x&resource=https%3A%2F%2Fmcp.example.com%2F"},
			{"?resource=", "resource=&resource=https%3A%2F%2Fmcp.example.com%2Fmcp"},
			{"", "resource=https%3A%2F%2Fmcp.example.com%2Fmcp"},
		} {
			resp := call(t, http.MethodGet, "/authorize"+tt.query, "")
			if got := resp.Header().Get("Location"); resp.Code != http.StatusFound ||
				got != w.URL+"/oauth2/authorize?"+tt.want {
				t.Errorf("%s: %d %s", tt.query, resp.Code, got)
			}
		}
	})
	t.Run("CN-07 authorize redirects only to the issuer", func(t *testing.T) {
		for _, target := range []string{
			"/authorize?https://evil.example/", "/authorize?redirect_uri=//evil.example", "/authorize?@evil.example/",
		} {
			got := call(t, http.MethodGet, target, "").Header().Get("Location")
			if !strings.HasPrefix(got, w.URL+"/oauth2/authorize?") {
				t.Errorf("%s: %s", target, got)
			}
		}
	})
	t.Run("a client that knows only the origin gets a token", func(t *testing.T) {
		registered := call(t, http.MethodPost, "/register",
			`{"client_name":"Old","redirect_uris":["http://127.0.0.1:3334/callback"]}`,
			header("Content-Type", "application/json"))
		id, _ := body(t, registered)["client_id"].(string)
		if id == "" {
			t.Fatalf("%d %s", registered.Code, registered.Body)
		}
		token := call(t, http.MethodPost, "/token",
			url.Values{"grant_type": {"authorization_code"}, "client_id": {id}, "code": {"none"}}.Encode(), form)
		if got := body(t, token); token.Code != http.StatusBadRequest || got["error"] != "invalid_grant" {
			t.Errorf("%d %v", token.Code, got)
		}
		basic := base64.StdEncoding.EncodeToString([]byte(w.ClientID + ":" + w.ClientSecret))
		token = call(t, http.MethodPost, "/token",
			url.Values{"grant_type": {"client_credentials"}, "resource": {resource}}.Encode(), form,
			header("Authorization", "Basic "+basic))
		if got := body(t, token); token.Code != http.StatusOK || got["access_token"] == nil ||
			token.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%d %v", token.Code, got)
		}
	})
	t.Run("nothing else", func(t *testing.T) {
		for _, tt := range []struct {
			method, target string
			status         int
		}{
			{http.MethodGet, "/token", 405}, {http.MethodGet, "/register", 405}, {http.MethodPost, "/authorize", 405},
			{http.MethodDelete, "/register", 405},
			{http.MethodPost, "/token/", 404}, {http.MethodPost, "/oauth2/token", 404},
			{http.MethodPost, "/%74oken", 404}, {http.MethodGet, "/", 404},
			{http.MethodOptions, "/token", 204}, {http.MethodHead, "/authorize", 302},
		} {
			resp := call(t, tt.method, tt.target, "")
			if resp.Code != tt.status || resp.Header().Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("%s %s: %d", tt.method, tt.target, resp.Code)
			}
		}
	})
	t.Run("an issuer that is down", func(t *testing.T) {
		w.SetDown(true)
		defer w.SetDown(false)
		resp := call(t, http.MethodPost, "/token", "grant_type=refresh_token", form)
		if got := body(t, resp); got["error"] != "temporarily_unavailable" || resp.Code != http.StatusBadGateway {
			t.Errorf("%d %v", resp.Code, got)
		}
	})
}

// The requests to the issuer and its responses, for an issuer whose token endpoint is answer.
func TestOlderClientsHandOn(t *testing.T) {
	call := func(t *testing.T, answer http.HandlerFunc, method, path, body string) *httptest.ResponseRecorder {
		t.Helper()
		mux := http.NewServeMux()
		issuer := httptest.NewServer(mux)
		t.Cleanup(issuer.Close)
		mux.HandleFunc("/.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{
				"issuer": issuer.URL, "jwks_uri": issuer.URL + "/jwks", "token_endpoint": issuer.URL + "/token",
				"authorization_endpoint": "http://plain.example/authorize",
			})
		})
		mux.HandleFunc("/token", answer)
		g, err := guard.New(guard.Config{Issuer: issuer.URL, Resource: resource, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(method, "https://mcp.example.com"+path, strings.NewReader(body))
		r.Header = http.Header{
			"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"},
			"Cookie": {"session=secret"}, "X-Forwarded-For": {"10.0.0.1"}, "Forwarded": {"for=10.0.0.1"},
			"X-Other": {"x"},
		}
		rec := httptest.NewRecorder()
		g.OlderClients().ServeHTTP(rec, r)
		return rec
	}
	t.Run("headers", func(t *testing.T) {
		answer := func(w http.ResponseWriter, r *http.Request) {
			sent, err := io.ReadAll(r.Body)
			if err != nil || string(sent) != "a=b" || r.Header.Get("X-Forwarded-For") != "192.0.2.1" ||
				r.Header.Get("Accept") != "application/json" {
				t.Errorf("%v %s %v", r.Header, sent, err)
			}
			for _, name := range []string{"Cookie", "Forwarded", "X-Other"} {
				if r.Header.Get(name) != "" {
					t.Errorf("%s went to the issuer", name)
				}
			}
			w.Header().Set("Set-Cookie", "issuer=1")
			w.Header().Set("Www-Authenticate", "Basic")
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error":"invalid_client"}`)
		}
		resp := call(t, answer, http.MethodPost, "/token", "a=b")
		if resp.Code != 401 || resp.Header().Get("Www-Authenticate") != "Basic" ||
			body(t, resp)["error"] != "invalid_client" || resp.Header().Get("Set-Cookie") != "" {
			t.Errorf("%d %v", resp.Code, resp.Header())
		}
	})
	silence := func(http.ResponseWriter, *http.Request) {}
	for name, tt := range map[string]struct {
		method, path, body string
		answer             http.HandlerFunc
		status             int
	}{
		"a long request": {http.MethodPost, "/token", strings.Repeat("x", 64<<10+1),
			func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }, 413},
		"a long answer": {http.MethodPost, "/token", "a=b", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(make([]byte, 256<<10+1))
		}, 502},
		"a page": {http.MethodPost, "/token", "a=b",
			func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<title>Hello</title>") }, 502},
		"a redirect": {http.MethodPost, "/token", "a=b", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Location", "https://evil.example/token")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}, 502},
		"an endpoint that is not https":  {http.MethodGet, "/authorize", "", silence, 502},
		"an issuer without registration": {http.MethodPost, "/register", "{}", silence, 404},
	} {
		t.Run(name, func(t *testing.T) {
			if resp := call(t, tt.answer, tt.method, tt.path, tt.body); resp.Code != tt.status ||
				resp.Header().Get("Location") != "" || body(t, resp)["error"] == "" {
				t.Errorf("status %d", resp.Code)
			}
		})
	}
}
