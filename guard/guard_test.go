package guard_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/guard/guardtest"
	"github.com/cardea-auth/cardea/scope"
	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

const (
	resource    = "https://mcp.example.com/mcp"
	metadataURL = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"
)

// clock is a clock that stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is an issuer and a guard with a common clock.
type world struct {
	*guardtest.Issuer
	*clock
	Guard *guard.Guard
}

func newWorld(t testing.TB, adjust ...func(*guard.Config)) *world {
	t.Helper()
	w := &world{Issuer: guardtest.NewIssuer(), clock: &clock{now: time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)}}
	t.Cleanup(w.Close)
	w.SetClock(w.Now)
	config := guard.Config{
		Issuer:        w.URL,
		Resource:      resource,
		Scopes:        scope.Of("mcp:tools:weather", "mcp:tools:email:send", "mcp:tools:contacts", "mcp:resources:*"),
		DefaultScopes: scope.Of("mcp:tools:weather"),
		Now:           w.Now,
		Logger:        slog.New(slog.DiscardHandler),
	}
	for _, f := range adjust {
		f(&config)
	}
	g, err := guard.New(config)
	if err != nil {
		t.Fatal(err)
	}
	w.Guard = g
	return w
}

func strict(w *guardtest.Issuer) func(*guard.Config) {
	return func(c *guard.Config) {
		c.Introspection = &guard.Credentials{ClientID: w.ClientID, ClientSecret: w.ClientSecret}
	}
}

// ask sends a request to handler, with the token unless it is "".
func ask(handler http.Handler, token string, adjust ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, resource, strings.NewReader(`{}`))
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for _, f := range adjust {
		f(r)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

// counter is a handler that counts its requests.
type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	c.mu.Lock()
	c.n++
	c.mu.Unlock()
	_, _ = io.WriteString(w, "hello")
}

func orElse(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

func body(t testing.TB, resp *httptest.ResponseRecorder) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(resp.Body.Bytes(), &v); err != nil {
		t.Fatalf("the body is not JSON: %v", err)
	}
	return v
}

func TestNewRefusesWhatItCannotProtect(t *testing.T) {
	for name, config := range map[string]guard.Config{
		"MW-01 no resource":        {Issuer: "https://id.example.com"},
		"MW-01 no issuer":          {Resource: resource},
		"MW-01 nothing":            {},
		"issuer without TLS":       {Resource: resource, Issuer: "http://id.example.com"},
		"resource without TLS":     {Resource: "http://mcp.example.com/mcp", Issuer: "https://id.example.com"},
		"loopback look-alike":      {Resource: resource, Issuer: "http://127.0.0.1.example.com"},
		"localhost look-alike":     {Resource: resource, Issuer: "http://localhost.example.com"},
		"localhost by U+017F":      {Resource: resource, Issuer: "http://localho%C5%BFt"},
		"a name that ends alike":   {Resource: resource, Issuer: "http://mylocalhost"},
		"resource with fragment":   {Resource: resource + "#x", Issuer: "https://id.example.com"},
		"resource with empty frag": {Resource: resource + "#", Issuer: "https://id.example.com"},
		"resource with query":      {Resource: resource + "?x=1", Issuer: "https://id.example.com"},
		"resource with user":       {Resource: "https://ada@mcp.example.com/mcp", Issuer: "https://id.example.com"},
		"relative resource":        {Resource: "/mcp", Issuer: "https://id.example.com"},
		"resource that is a urn":   {Resource: "urn:mcp", Issuer: "https://id.example.com"},
		"issuer with query":        {Resource: resource, Issuer: "https://id.example.com?x"},
		"a scope that is none":     {Resource: resource, Issuer: "https://id.example.com", Scopes: scope.Set{"a b"}},
		"offline_access": {Resource: resource, Issuer: "https://id.example.com",
			Scopes: scope.Of("offline_access")},
		"introspection without proof": {Resource: resource, Issuer: "https://id.example.com",
			Introspection: &guard.Credentials{ClientID: "rs"}},
	} {
		t.Run(name, func(t *testing.T) {
			if g, err := guard.New(config); err == nil || g != nil {
				t.Errorf("New = %v, %v; want an error", g, err)
			}
		})
	}
	for _, issuer := range []string{
		"https://id.example.com", "https://id.example.com/tenant", "http://localhost:8080", "http://id.localhost:8080",
		"http://127.8.9.1", "http://[::1]:80", "http://id.localhost:8080",
	} {
		if _, err := guard.New(guard.Config{Issuer: issuer, Resource: resource}); err != nil {
			t.Errorf("%s: %v", issuer, err)
		}
	}
}

func TestProtectLetsInWhoMayCome(t *testing.T) {
	w := newWorld(t)
	var got *guard.Token
	var caller guard.Caller
	handler := w.Guard.Protect(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got, caller = guard.FromContext(r.Context()), guard.CallerFromContext(r.Context())
	}))
	token := w.Token(guardtest.Claims{Subject: "ada", ClientID: "c1", Audience: resource, Scope: "a b:*", ID: "grt_1.x",
		Extra: map[string]any{"roles": []string{"admin"}}})
	resp := ask(handler, token, func(r *http.Request) { r.Header.Set("User-Agent", "agent/1") })
	if resp.Code != http.StatusOK || got == nil {
		t.Fatalf("status %d, token %v", resp.Code, got)
	}
	want := &guard.Token{Issuer: w.URL, Subject: "ada", ClientID: "c1", Audience: resource,
		Scopes: scope.Of("a", "b:*"), ID: "grt_1.x", IssuedAt: w.Now(), Expiry: w.Now().Add(10 * time.Minute)}
	diff := cmp.Diff(want, got, cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "payload" }, cmp.Ignore()))
	if diff != "" {
		t.Error(diff)
	}
	t.Run("MW-04 subject only with issuer", func(t *testing.T) {
		if got.Principal() != w.URL+"|ada" {
			t.Error(got.Principal())
		}
	})
	var extra struct {
		Roles []string `json:"roles"`
	}
	if err := got.Claims(&extra); err != nil || !cmp.Equal(extra.Roles, []string{"admin"}) {
		t.Errorf("Claims = %v, %v", extra, err)
	}
	if caller.Address != "192.0.2.1" || caller.UserAgent != "agent/1" {
		t.Errorf("caller = %+v", caller)
	}

	for name, scheme := range map[string]string{"lower case": "bearer ", "two spaces": "Bearer  "} {
		resp := ask(handler, "", func(r *http.Request) { r.Header.Set("Authorization", scheme+token) })
		if resp.Code != http.StatusOK {
			t.Errorf("%s: status %d", name, resp.Code)
		}
	}
	t.Run("audience as an array of one", func(t *testing.T) {
		resp := ask(handler, w.Token(guardtest.Claims{Extra: map[string]any{"aud": []string{resource}}}))
		if resp.Code != http.StatusOK {
			t.Error(resp.Code)
		}
	})
	t.Run("typ as a media type", func(t *testing.T) {
		c := map[string]any{"iss": w.URL, "sub": "a", "aud": resource, "client_id": "c", "jti": "j",
			"iat": w.Now().Unix(), "exp": float64(w.Now().Unix()) + 60.5}
		if resp := ask(handler, w.Sign(map[string]any{"typ": "application/AT+JWT"}, c)); resp.Code != http.StatusOK {
			t.Error(resp.Code, body(t, resp))
		}
	})
}

func TestProtectRefuses(t *testing.T) {
	w := newWorld(t)
	other := guardtest.NewIssuer()
	t.Cleanup(other.Close)
	other.SetClock(w.Now)

	good := func(extra map[string]any) string {
		return w.Token(guardtest.Claims{Audience: resource, Extra: extra})
	}
	kid := func(token string) string {
		raw, _ := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
		var h map[string]string
		_ = json.Unmarshal(raw, &h)
		return h["kid"]
	}(good(nil))
	claims := map[string]any{"iss": w.URL, "sub": "a", "aud": resource, "client_id": "c", "jti": "j",
		"iat": w.Now().Unix(), "exp": w.Now().Unix() + 60}
	signed := func(header map[string]any) string { return w.Sign(header, claims) }
	forged := func(header string) string {
		parts := strings.Split(good(nil), ".")
		return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + parts[1] + "." + parts[2]
	}
	cut := good(nil)

	for name, token := range map[string]string{
		"GW-02 token for another resource": good(map[string]any{"aud": "https://other.example.com/mcp"}),
		"GW-02 token for a path below":     good(map[string]any{"aud": resource + "/x"}),
		"GW-02 token with a slash more":    good(map[string]any{"aud": resource + "/"}),
		"GW-02 no audience":                good(map[string]any{"aud": nil}),
		"GW-02 empty audience":             good(map[string]any{"aud": []string{}}),
		"GW-02 ours and another audience": good(map[string]any{"aud": []string{resource,
			"https://other.example.com"}}),
		"GW-02 audience is no string":          good(map[string]any{"aud": 1}),
		"GW-04 expired":                        good(map[string]any{"exp": w.Now().Unix()}),
		"GW-04 no expiry":                      good(map[string]any{"exp": nil}),
		"GW-04 expiry is text":                 good(map[string]any{"exp": "9999999999"}),
		"GW-04 expiry beyond all dates":        good(map[string]any{"exp": 1e300}),
		"GW-04 expiry before all dates":        good(map[string]any{"exp": -1}),
		"GW-04 not valid yet":                  good(map[string]any{"nbf": w.Now().Unix() + 61}),
		"GW-04 issued in the future":           good(map[string]any{"iat": w.Now().Unix() + 61}),
		"GW-04 no iat":                         good(map[string]any{"iat": nil}),
		"GW-04 wrong issuer":                   good(map[string]any{"iss": "https://id.example.com"}),
		"GW-04 issuer with a slash more":       good(map[string]any{"iss": w.URL + "/"}),
		"GW-04 no issuer":                      good(map[string]any{"iss": nil}),
		"GW-04 no subject":                     good(map[string]any{"sub": nil}),
		"GW-04 no client":                      good(map[string]any{"client_id": nil}),
		"GW-04 no jti":                         good(map[string]any{"jti": nil}),
		"GW-04 bound to a key":                 good(map[string]any{"cnf": map[string]string{"jkt": "x"}}),
		"GW-04 scope is an array":              good(map[string]any{"scope": []string{"a"}}),
		"GW-04 scope with a quotation mark":    good(map[string]any{"scope": `a"b`}),
		"GW-04 an ID token":                    signed(map[string]any{"typ": "JWT"}),
		"GW-04 no typ":                         signed(map[string]any{"typ": ""}),
		"GW-04 a logout token":                 signed(map[string]any{"typ": "logout+jwt"}),
		"JK-05 unknown key":                    signed(map[string]any{"kid": "other"}),
		"no kid":                               signed(map[string]any{"kid": ""}),
		"JK-06 alg none":                       forged(`{"alg":"none","typ":"at+jwt"}`),
		"JK-06 alg None":                       forged(`{"alg":"None","typ":"at+jwt","kid":"` + kid + `"}`),
		"JK-06 HS256 by the public key":        forged(`{"alg":"HS256","typ":"at+jwt","kid":"` + kid + `"}`),
		"JK-06 RS256 by an EC key":             forged(`{"alg":"RS256","typ":"at+jwt","kid":"` + kid + `"}`),
		"JK-06 embedded jwk":                   signed(map[string]any{"jwk": map[string]string{"kty": "EC"}}),
		"JK-06 jku":                            signed(map[string]any{"jku": other.URL + "/.well-known/jwks"}),
		"JK-06 x5u":                            signed(map[string]any{"x5u": other.URL}),
		"JK-06 x5c":                            signed(map[string]any{"x5c": []string{"AA=="}}),
		"JK-06 crit":                           signed(map[string]any{"crit": []string{"b64"}, "b64": true}),
		"JK-06 alg twice":                      forged(`{"alg":"ES256","alg":"none","typ":"at+jwt","kid":"` + kid + `"}`),
		"JK-08 issuer B's token, same key id":  other.Sign(map[string]any{"kid": kid}, claims),
		"JK-08 issuer B's token":               other.Token(guardtest.Claims{Audience: resource}),
		"signature cut off":                    cut[:strings.LastIndexByte(cut, '.')+1],
		"signature cut short":                  cut[:len(cut)-4],
		"IR-10 signature spelled another way":  cut[:len(cut)-1] + string(cut[len(cut)-1]+1),
		"one part":                             "garbage",
		"five parts":                           "a.b.c.d.e",
		"header is no JSON":                    forged("x"),
		"header is an array":                   forged("[]"),
		"GW-06 a token of the greatest length": strings.Repeat("a", 16<<10),
		"claims that are no JSON": cut[:strings.IndexByte(cut, '.')+1] + "eA" +
			cut[strings.LastIndexByte(cut, '.'):],
		"payload of somebody else's good token": strings.Split(cut, ".")[0] + "." +
			strings.Split(good(map[string]any{"sub": "eve"}), ".")[1] + "." + strings.Split(cut, ".")[2],
	} {
		t.Run(name, func(t *testing.T) {
			var reached counter
			for range 2 { // the second time to check that it was not cached as valid
				resp := ask(w.Guard.Protect(&reached), token)
				challenge := resp.Header().Get("WWW-Authenticate")
				if resp.Code != http.StatusUnauthorized ||
					!strings.HasPrefix(challenge, `Bearer error="invalid_token", error_description="`) ||
					!strings.HasSuffix(challenge, `, resource_metadata="`+metadataURL+`", scope="mcp:tools:weather"`) {
					t.Errorf("%d %s", resp.Code, challenge)
				}
				if got := body(t, resp); got["error"] != "invalid_token" {
					t.Errorf("body %v", got)
				}
			}
			if reached.n != 0 {
				t.Error("MW-02 the handler was reached")
			}
		})
	}

	token := good(nil)
	for _, c := range []struct {
		name   string
		adjust func(*http.Request)
		status int
		code   string
	}{
		{"GW-01 no token", func(*http.Request) {}, 401, "unauthorized"},
		{"another scheme", func(r *http.Request) { r.SetBasicAuth("a", "b") }, 401, "unauthorized"},
		{"a scheme that begins alike", func(r *http.Request) { r.Header.Set("Authorization", "Bearerx "+token) }, 401,
			"unauthorized"},
		{"GW-05 token in the query", func(r *http.Request) { r.URL.RawQuery = "access_token=" + token }, 401,
			"unauthorized"},
		{"GW-05 token in the body", func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader("access_token=" + token))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}, 401, "unauthorized"},
		{"GW-06 two headers", func(r *http.Request) {
			r.Header["Authorization"] = []string{"Bearer " + token, "Bearer " + token}
		}, 400, "invalid_request"},
		{"GW-06 two headers, one empty", func(r *http.Request) {
			r.Header["Authorization"] = []string{"", "Bearer " + token}
		}, 400, "invalid_request"},
		{"GW-06 two tokens", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token+", Bearer "+token) },
			400, "invalid_request"},
		{"GW-06 NUL", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token+"\x00") }, 400,
			"invalid_request"},
		{"GW-06 100 KB", func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+strings.Repeat("a", 100<<10))
		}, 400, "invalid_request"},
		{"nothing after Bearer", func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") }, 400,
			"invalid_request"},
		{"a line break", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token+"\r\n") }, 400,
			"invalid_request"},
		{"only padding", func(r *http.Request) { r.Header.Set("Authorization", "Bearer ==") }, 400, "invalid_request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var reached counter
			resp := ask(w.Guard.Protect(&reached), "", c.adjust)
			if resp.Code != c.status {
				t.Errorf("status %d", resp.Code)
			}
			want := ""
			if c.status == 401 { // RFC 6750 §3.1: no error code if no token was sent
				want = `Bearer resource_metadata="` + metadataURL + `", scope="mcp:tools:weather"`
			}
			if got := resp.Header().Get("WWW-Authenticate"); got != want {
				t.Errorf("challenge %s", got)
			}
			for name, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store",
				"X-Content-Type-Options": "nosniff", "Access-Control-Allow-Origin": "*"} {
				if got := resp.Header().Get(name); got != want {
					t.Errorf("%s: %q", name, got)
				}
			}
			if got := body(t, resp); got["error"] != c.code || got["error_description"] == "" {
				t.Errorf("body %v", got)
			}
			if reached.n != 0 {
				t.Error("the handler was reached")
			}
		})
	}
}

func TestClocksMayDifferAMinute(t *testing.T) {
	w := newWorld(t)
	token := w.Token(guardtest.Claims{Audience: resource,
		Extra: map[string]any{"iat": w.Now().Unix() + 60, "nbf": w.Now().Unix() + 60}})
	if _, err := w.Guard.Verify(t.Context(), token); err != nil {
		t.Error(err)
	}
}

func TestARememberedTokenDies(t *testing.T) {
	w := newWorld(t)
	var reached counter
	handler := w.Guard.Protect(&reached)
	token := w.Token(guardtest.Claims{Audience: resource, TTL: time.Minute})
	status := func() int { return ask(handler, token).Code }
	for range 2 {
		if status() != 200 {
			t.Fatal("refused")
		}
	}
	w.Advance(59 * time.Second)
	if status() != 200 {
		t.Error("refused before its time")
	}
	w.Advance(time.Second)
	for range 2 {
		if status() != 401 {
			t.Error("GW-04 accepted after its expiry")
		}
	}
}

func TestKeys(t *testing.T) {
	const jwks = "/.well-known/jwks"
	accepted := func(t *testing.T, w *world, token string) {
		t.Helper()
		if _, err := w.Guard.Verify(t.Context(), token); err != nil {
			t.Error(err)
		}
	}
	refused := func(t *testing.T, w *world, token string, status int) {
		t.Helper()
		if got := ask(w.Guard.Protect(&counter{}), token); got.Code != status {
			t.Errorf("status %d, want %d", got.Code, status)
		}
	}
	fresh := func(w *world) string { return w.Token(guardtest.Claims{Audience: resource}) }

	t.Run("fetched when first needed, and then no more", func(t *testing.T) {
		w := newWorld(t)
		if n := w.Fetches(jwks); n != 0 {
			t.Fatalf("%d fetches before the first token", n)
		}
		for range 5 {
			accepted(t, w, fresh(w))
		}
		if n := w.Fetches(jwks); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})
	t.Run("JK-04 a key made since the last fetch is fetched at once", func(t *testing.T) {
		w := newWorld(t)
		accepted(t, w, fresh(w))
		w.Rotate()
		accepted(t, w, fresh(w))
		w.Advance(5 * time.Second)
		w.Rotate()
		accepted(t, w, fresh(w))
		if n := w.Fetches(jwks); n != 3 {
			t.Errorf("%d fetches", n)
		}
	})
	t.Run("JK-05 unknown kid flood", func(t *testing.T) {
		w := newWorld(t)
		accepted(t, w, fresh(w))
		before := w.Fetches(jwks)
		for second := range 10 {
			var wg sync.WaitGroup
			for n := range 20 {
				token := w.Sign(map[string]any{"kid": fmt.Sprint("no-", second, "-", n)},
					map[string]any{"iss": w.URL, "aud": resource})
				wg.Go(func() { refused(t, w, token, 401) })
			}
			wg.Wait()
			w.Advance(time.Second)
		}
		if n := w.Fetches(jwks) - before; n != 2 { // two intervals in ten seconds
			t.Errorf("%d fetches", n)
		}
	})
	t.Run("many first tokens at once are one fetch", func(t *testing.T) {
		w := newWorld(t)
		var wg sync.WaitGroup
		for range 20 {
			token := fresh(w)
			wg.Go(func() { accepted(t, w, token) })
		}
		wg.Wait()
		if n := w.Fetches(jwks); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})
	t.Run("FL-09 an issuer that is down for a day", func(t *testing.T) {
		w := newWorld(t, func(c *guard.Config) { c.Status.FailOpen = true })
		accepted(t, w, fresh(w))
		w.SetDown(true)
		w.Advance(23 * time.Hour)
		accepted(t, w, fresh(w))
		w.Advance(2 * time.Hour)
		refused(t, w, fresh(w), 503)
		w.SetDown(false)
		w.Advance(5 * time.Second)
		_, _ = w.Guard.Verify(t.Context(), fresh(w)) // may join a fetch that began before
		w.Advance(5 * time.Second)
		accepted(t, w, fresh(w))
	})
	t.Run("an issuer that is down from the start", func(t *testing.T) {
		w := newWorld(t)
		w.SetDown(true)
		for range 10 {
			refused(t, w, fresh(w), 503)
		}
		if n := w.Fetches("/.well-known/oauth-authorization-server"); n != 1 {
			t.Errorf("%d fetches within the interval", n)
		}
		w.SetDown(false)
		w.Advance(5 * time.Second)
		accepted(t, w, fresh(w))
	})
	t.Run("an unknown key while the issuer is down is not blamed on the token", func(t *testing.T) {
		w := newWorld(t)
		accepted(t, w, fresh(w))
		w.SetDown(true)
		w.Rotate()
		refused(t, w, fresh(w), 503)
	})
	t.Run("a withdrawn key ends the tokens it signed, remembered ones too", func(t *testing.T) {
		w := newWorld(t)
		token := w.Token(guardtest.Claims{Audience: resource, TTL: time.Hour})
		accepted(t, w, token)
		w.Rotate()
		w.Withdraw()
		accepted(t, w, fresh(w)) // fetches the keys
		refused(t, w, token, 401)
	})
	t.Run("JK-02 rotation without a withdrawal forgets nothing", func(t *testing.T) {
		w := newWorld(t)
		token := fresh(w)
		accepted(t, w, token)
		w.Rotate()
		accepted(t, w, fresh(w))
		accepted(t, w, token)
	})
}

// The issuer's documents may be false or malformed. Each of these would lead to keys that verify the token.
func TestIssuerThatIsNotWhatItSays(t *testing.T) {
	inside := guardtest.NewIssuer() // represents an internal service
	t.Cleanup(inside.Close)
	keys := func() string {
		resp, err := http.Get(inside.URL + "/.well-known/jwks")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}()
	before := inside.Fetches("/.well-known/jwks")

	// answer is the metadata document, with %[1]s for the issuer.
	for name, c := range map[string]struct {
		answer  string
		kind    string // Content-Type; "": JSON
		keys    string // key set; "": the right one
		status  int
		trusted bool
	}{
		"what it should be": {answer: `{"issuer":"%[1]s","jwks_uri":"%[1]s/jwks"}`, trusted: true},
		"keys on another host with TLS": {answer: `{"issuer":"%[1]s","jwks_uri":"https://keys.example.com/jwks"}`,
			trusted: true},
		"MW-06 another issuer":           {answer: `{"issuer":"https://evil.example.com","jwks_uri":"%[1]s/jwks"}`},
		"MW-06 issuer with a slash more": {answer: `{"issuer":"%[1]s/","jwks_uri":"%[1]s/jwks"}`},
		"MW-06 no issuer":                {answer: `{"jwks_uri":"%[1]s/jwks"}`},
		"MW-06 issuer twice": {
			answer: `{"issuer":"https://evil.example.com","issuer":"%[1]s","jwks_uri":"%[1]s/jwks"}`,
		},
		"MW-06 keys without TLS": {answer: `{"issuer":"%[1]s","jwks_uri":"http://keys.example.com/jwks"}`},
		"MW-06 keys on loopback": {answer: `{"issuer":"%[1]s","jwks_uri":"http://127.0.0.1/jwks"}`},
		"MW-06 keys from a file": {answer: `{"issuer":"%[1]s","jwks_uri":"file:///etc/passwd"}`},
		"MW-06 introspection without TLS": {
			answer: `{"issuer":"%[1]s","jwks_uri":"%[1]s/jwks","introspection_endpoint":"http://keys.example.com/i"}`,
		},
		"MW-06 redirect to another origin": {answer: inside.URL + "/.well-known/oauth-authorization-server",
			status: http.StatusFound},
		"no jwks_uri": {answer: `{"issuer":"%[1]s"}`},
		"not 200":     {answer: `{"issuer":"%[1]s","jwks_uri":"%[1]s/jwks"}`, status: http.StatusAccepted},
		"a page":      {answer: `{"issuer":"%[1]s","jwks_uri":"%[1]s/jwks"}`, kind: "text/html"},
		"without end": {answer: `{"issuer":"%[1]s","jwks_uri":"%[1]s/jwks"}` + strings.Repeat(" ", 1<<20)},
		"no keys":     {answer: `{"issuer":"%[1]s","jwks_uri":"%[1]s/jwks"}`, keys: `{"keys":[]}`},
		"keys that are none": {answer: `{"issuer":"%[1]s","jwks_uri":"%[1]s/jwks"}`,
			keys: `{"keys":[7,{"kty":"oct","kid":"a","k":"AAAA"},{"kty":"XX","kid":"b"}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			mux := http.NewServeMux()
			issuer := httptest.NewTLSServer(mux)
			defer issuer.Close()
			mux.HandleFunc("/.well-known/oauth-authorization-server", func(w http.ResponseWriter, r *http.Request) {
				switch c.status {
				case http.StatusFound:
					http.Redirect(w, r, c.answer, c.status)
					return
				case 0:
					c.status = http.StatusOK
				}
				w.Header().Set("Content-Type", orElse(c.kind, "application/json"))
				w.WriteHeader(c.status)
				fmt.Fprintf(w, c.answer, issuer.URL)
			})
			serve := func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/jwk-set+json")
				_, _ = io.WriteString(w, orElse(c.keys, keys))
			}
			mux.HandleFunc("/jwks", serve)
			plain := httptest.NewServer(mux)
			defer plain.Close()

			// The issuer responds on every host, so that a fetch from a wrong host would succeed.
			client := issuer.Client()
			transport, _ := client.Transport.(*http.Transport)
			transport.TLSClientConfig.InsecureSkipVerify = true
			transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				switch {
				case strings.HasSuffix(address, ":80"):
					address = plain.Listener.Addr().String()
				case strings.HasSuffix(address, ":443"):
					address = issuer.Listener.Addr().String()
				}
				return (&net.Dialer{}).DialContext(ctx, network, address)
			}
			g, err := guard.New(guard.Config{Issuer: issuer.URL, Resource: resource, HTTPClient: client,
				Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			var reached counter
			resp := ask(g.Protect(&reached),
				inside.Token(guardtest.Claims{Audience: resource, Extra: map[string]any{"iss": issuer.URL}}))
			switch {
			case c.trusted && resp.Code != 200:
				t.Errorf("status %d %s", resp.Code, resp.Body)
			case c.trusted:
			case resp.Code != http.StatusServiceUnavailable || resp.Header().Get("Retry-After") != "5" ||
				reached.n != 0:
				t.Errorf("status %d, Retry-After %q", resp.Code, resp.Header().Get("Retry-After"))
			case body(t, resp)["error"] != "temporarily_unavailable":
				t.Error(resp.Body)
			}
		})
	}
	if inside.Fetches("/.well-known/jwks") != before || inside.Fetches("/.well-known/oauth-authorization-server") != 0 {
		t.Error("canary: the internal service was reached")
	}
}

// All accepted algorithms, and published keys that the guard does not use.
func TestAlgorithms(t *testing.T) {
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	elliptic, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	strong, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	publish := func(kid, alg, use string, key crypto.Signer) {
		set.Keys = append(set.Keys, jose.JSONWebKey{KeyID: kid, Algorithm: alg, Use: use, Key: key.Public()})
	}
	publish("ed", "EdDSA", "sig", edwards)
	publish("ec", "", "", elliptic)
	publish("rsa", "", "sig", strong)
	publish("rs256", "RS256", "sig", strong)
	publish("enc", "", "enc", strong)
	publish("weak", "", "sig", weak)
	publish("", "ES256", "sig", elliptic)
	large := new(big.Int).SetBit(big.NewInt(1), 100_000, 1)
	set.Keys = append(set.Keys, jose.JSONWebKey{KeyID: "large", Use: "sig", Key: &rsa.PublicKey{N: large, E: 65537}})

	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	mux.HandleFunc("/.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"%s/jwks"}`, server.URL, server.URL)
	})
	mux.HandleFunc("/jwks", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(set); err != nil {
			t.Error(err)
		}
	})
	w := newWorld(t, func(c *guard.Config) { c.Issuer = server.URL })
	for _, c := range []struct {
		alg    jose.SignatureAlgorithm
		kid    string
		key    any
		status int
	}{
		{jose.EdDSA, "ed", edwards, 200},
		{jose.ES256, "ec", elliptic, 200},
		{jose.RS256, "rsa", strong, 200},
		{jose.PS256, "rsa", strong, 200},
		{jose.RS256, "rs256", strong, 200},
		{jose.PS256, "rs256", strong, 401},
		{jose.RS384, "rsa", strong, 401},
		{jose.RS256, "enc", strong, 401},
		{jose.RS256, "weak", weak, 401},
		{jose.RS256, "large", strong, 401},
		{jose.ES256, "", elliptic, 401},
		{jose.HS256, "ec", []byte(strings.Repeat("k", 32)), 401},
	} {
		t.Run("JK-06 "+string(c.alg)+" by "+c.kid, func(t *testing.T) {
			signer, err := jose.NewSigner(jose.SigningKey{Algorithm: c.alg, Key: c.key},
				&jose.SignerOptions{ExtraHeaders: map[jose.HeaderKey]any{"typ": "at+jwt", "kid": c.kid}})
			if err != nil {
				t.Fatal(err)
			}
			jws, err := signer.Sign(fmt.Appendf(nil,
				`{"iss":%q,"aud":%q,"sub":"a","client_id":"c","jti":"j","iat":%d,"exp":%d}`,
				server.URL, resource, w.Now().Unix(), w.Now().Unix()+60))
			if err != nil {
				t.Fatal(err)
			}
			token, err := jws.CompactSerialize()
			if err != nil {
				t.Fatal(err)
			}
			resp := ask(w.Guard.Protect(&counter{}), token)
			if resp.Code != c.status {
				t.Errorf("%d %s", resp.Code, resp.Body)
			}
			if c.kid == "large" && !strings.Contains(resp.Body.String(), "a key that the issuer does not have") {
				t.Errorf("an RSA key of 100,000 bits is used: %s", resp.Body)
			}
		})
	}
}

// Keys are fetched again in the background as Cache-Control says, within bounds.
func TestFreshness(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"":                            5 * time.Minute,
		"public, max-age=600":         10 * time.Minute,
		"max-age=1":                   time.Minute,
		"max-age=0":                   time.Minute,
		"Max-Age=31536000, immutable": time.Hour,
		"max-age=99999999999999":      5 * time.Minute,
		"max-age=-1":                  5 * time.Minute,
		"no-store":                    time.Minute,
		"no-cache, max-age=600":       time.Minute,
	} {
		t.Run(header, func(t *testing.T) {
			w := newWorld(t)
			fetched := make(chan time.Time, 10)
			mux := http.NewServeMux()
			front := httptest.NewServer(mux)
			defer front.Close()
			mux.HandleFunc("/.well-known/oauth-authorization-server", func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Content-Type", "application/json")
				fmt.Fprintf(rw, `{"issuer":%q,"jwks_uri":"%s/jwks"}`, front.URL, front.URL)
			})
			mux.HandleFunc("/jwks", func(rw http.ResponseWriter, r *http.Request) {
				fetched <- w.Now()
				resp, err := http.Get(w.URL + "/.well-known/jwks")
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				rw.Header().Set("Content-Type", "application/json")
				rw.Header().Set("Cache-Control", header)
				_, _ = io.Copy(rw, resp.Body)
			})
			g := newWorld(t, func(c *guard.Config) { c.Issuer, c.Now = front.URL, w.Now }).Guard
			token := w.Token(guardtest.Claims{Audience: resource, TTL: 48 * time.Hour,
				Extra: map[string]any{"iss": front.URL}})
			verify := func() {
				if _, err := g.Verify(t.Context(), token); err != nil {
					t.Fatal(err)
				}
			}
			start := w.Now()
			verify()
			<-fetched
			w.Advance(want - time.Second)
			verify()
			w.Advance(time.Second)
			verify()
			if got := (<-fetched).Sub(start); got != want {
				t.Errorf("fetched again after %s, want %s", got, want)
			}
		})
	}
}

func TestStrictValidation(t *testing.T) {
	issuer := guardtest.NewIssuer()
	t.Cleanup(issuer.Close)
	w := newWorld(t)
	w2 := newWorld(t, func(c *guard.Config) { c.Issuer = w.URL; c.Now = w.Now; strict(w.Issuer)(c) })
	var scopes scope.Set
	handler := w2.Guard.Protect(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		scopes = guard.FromContext(r.Context()).Scopes
	}))
	token := w.Token(guardtest.Claims{Audience: resource, Scope: "a b"})

	for n := range 4 {
		if resp := ask(handler, token); resp.Code != 200 || !cmp.Equal(scopes, scope.Of("a", "b")) {
			t.Fatalf("status %d, scopes %v", resp.Code, scopes)
		}
		if got := w.Fetches("/oauth2/introspect"); got != n/2+1 {
			t.Errorf("asked %d times in %d requests", got, n+1)
		}
		if n%2 == 1 { // an answer is remembered for a second
			w.Advance(time.Second)
		}
	}
	t.Run("concurrent requests ask once", func(t *testing.T) {
		w.Advance(time.Second)
		before := w.Fetches("/oauth2/introspect")
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if _, err := w2.Guard.Verify(t.Context(), token); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if got := w.Fetches("/oauth2/introspect"); got != before+1 {
			t.Errorf("asked %d times", got-before)
		}
		w.Advance(time.Second)
	})
	t.Run("a token that is wrong by itself is not asked about", func(t *testing.T) {
		before := w.Fetches("/oauth2/introspect")
		if resp := ask(handler, w.Token(guardtest.Claims{Audience: "https://other"})); resp.Code != 401 {
			t.Error(resp.Code)
		}
		if got := w.Fetches("/oauth2/introspect"); got != before {
			t.Error("the issuer was asked")
		}
	})
	t.Run("all tokens are refused while the issuer is down", func(t *testing.T) {
		w.SetDown(true)
		defer w.SetDown(false)
		resp := ask(handler, token)
		if resp.Code != 503 || resp.Header().Get("Retry-After") == "" || resp.Header().Get("WWW-Authenticate") != "" {
			t.Errorf("status %d", resp.Code)
		}
	})
	t.Run("all tokens are refused with wrong credentials", func(t *testing.T) {
		bad := newWorld(t, func(c *guard.Config) {
			c.Issuer, c.Now = w.URL, w.Now
			c.Introspection = &guard.Credentials{ClientID: w.ClientID, ClientSecret: "wrong"}
		})
		if resp := ask(bad.Guard.Protect(handler), token); resp.Code != 503 {
			t.Error(resp.Code)
		}
	})
	t.Run("GW-04 revoked", func(t *testing.T) {
		w.Revoke(token)
		resp := ask(handler, token)
		if resp.Code != 401 || !strings.Contains(resp.Header().Get("WWW-Authenticate"), `error="invalid_token"`) {
			t.Errorf("status %d", resp.Code)
		}
	})
}

func TestStrictValidationOfAnswers(t *testing.T) {
	var answer string
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	w := newWorld(t)
	mux.HandleFunc("/.well-known/oauth-authorization-server", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(rw, `{"issuer":%q,"jwks_uri":"%s/.well-known/jwks","introspection_endpoint":"%s/i"}`, server.URL,
			w.URL, server.URL)
	})
	mux.HandleFunc("/i", func(rw http.ResponseWriter, r *http.Request) {
		if id, secret, _ := r.BasicAuth(); id != "r%3As" || secret != "s%2B+%25" {
			t.Errorf("credentials %q %q", id, secret)
		}
		rw.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(rw, answer)
	})
	g := newWorld(t, func(c *guard.Config) {
		c.Issuer, c.Now = server.URL, w.Now
		c.Introspection = &guard.Credentials{ClientID: "r:s", ClientSecret: "s+ %"}
	}).Guard
	token := w.Token(guardtest.Claims{Audience: resource, Scope: "a b", Extra: map[string]any{"iss": server.URL}})
	for _, c := range []struct {
		answer string
		status int
		scopes scope.Set
	}{
		{`{"active":true}`, 200, scope.Of("a", "b")},
		{`{"active":true,"scope":"a"}`, 200, scope.Of("a")},
		{`{"active":true,"scope":""}`, 200, nil},
		{`{"active":false}`, 401, nil},
		{`{}`, 503, nil},
		{`{"active":"true"}`, 503, nil},
		{`{"Active":true}`, 503, nil},
		{`{"active":false,"active":true}`, 503, nil},
		{`{"active":true,"scope":"\""}`, 503, nil},
		{`[]`, 503, nil},
		{``, 503, nil},
	} {
		answer = c.answer
		w.Advance(time.Second)
		var scopes scope.Set
		resp := ask(g.Protect(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			scopes = guard.FromContext(r.Context()).Scopes
		})), token)
		if resp.Code != c.status || scopes.String() != c.scopes.String() {
			t.Errorf("%s: status %d, scopes %q", c.answer, resp.Code, scopes)
		}
	}
}

func TestRequireScope(t *testing.T) {
	w := newWorld(t, func(c *guard.Config) { c.Scopes = scope.Of("mcp:*", "a") })
	for _, c := range []struct {
		granted, want string
		status        int
		scope         string
	}{
		{"mcp:tools:email:send", "mcp:tools:email:send", 200, ""},
		{"mcp:tools:*", "mcp:tools:email:send", 200, ""},
		{"mcp:tools:*", "mcp:tools:a mcp:resources:b", 403, "mcp:tools:* mcp:tools:a mcp:resources:b"},
		{"mcp:tools:weather offline_access", "mcp:tools:email:send", 403, "mcp:tools:weather mcp:tools:email:send"},
		{"", "mcp:tools:weather", 403, "mcp:tools:weather"},
	} {
		t.Run("GW-24 "+c.granted+" for "+c.want, func(t *testing.T) {
			var reached counter
			handler := w.Guard.Protect(w.Guard.RequireScope(strings.Fields(c.want)...)(&reached))
			resp := ask(handler, w.Token(guardtest.Claims{Audience: resource, Scope: c.granted}))
			if resp.Code != c.status || (c.status == 200) != (reached.n == 1) {
				t.Fatalf("status %d, reached %d times", resp.Code, reached.n)
			}
			if c.status == 200 {
				return
			}
			got := body(t, resp)
			if got["error"] != "insufficient_scope" || got["scope"] != c.scope {
				t.Errorf("body %v", got)
			}
			want := fmt.Sprintf(
				`Bearer error="insufficient_scope", error_description="%s", resource_metadata="%s", scope="%s"`,
				got["error_description"], metadataURL, c.scope)
			if diff := cmp.Diff(want, resp.Header().Get("WWW-Authenticate")); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("requests outside Protect are refused", func(t *testing.T) {
		var reached counter
		resp := ask(w.Guard.RequireScope()(&reached), w.Token(guardtest.Claims{Audience: resource}))
		if resp.Code != 401 || reached.n != 0 {
			t.Error(resp.Code)
		}
	})
	t.Run("GW-41 a token verified by another server's guard is not accepted", func(t *testing.T) {
		var reached counter
		other := newWorld(t,
			func(c *guard.Config) { c.Resource, c.Issuer, c.Now = "https://other.example.com", w.URL, w.Now })
		handler := other.Guard.Protect(w.Guard.RequireScope("a")(&reached))
		resp := ask(handler, w.Token(guardtest.Claims{Audience: "https://other.example.com", Scope: "a"}))
		if resp.Code != 401 || reached.n != 0 {
			t.Error(resp.Code)
		}
	})
}

func TestPreflightNeedsNoToken(t *testing.T) {
	w := newWorld(t)
	var reached counter
	ok := w.Guard.Protect(&reached)
	asked := "authorization, content-type, mcp-protocol-version, mcp-param-city"
	for name, handler := range map[string]http.Handler{
		"HT-04 the server": ok, "MD-09 metadata": guard.WellKnown(w.Guard),
	} {
		t.Run(name, func(t *testing.T) {
			resp := ask(handler, "", func(r *http.Request) {
				r.Method = http.MethodOptions
				r.Header.Set("Origin", "https://inspector.example.com")
				r.Header.Set("Access-Control-Request-Method", "POST")
				r.Header.Set("Access-Control-Request-Headers", asked)
			})
			if resp.Code != http.StatusNoContent || reached.n != 0 {
				t.Errorf("status %d", resp.Code)
			}
			for name, want := range map[string]string{
				"Access-Control-Allow-Origin":      "*",
				"Access-Control-Allow-Headers":     asked,
				"Access-Control-Allow-Credentials": "",
				"Vary":                             "Access-Control-Request-Headers",
			} {
				if got := resp.Header().Get(name); got != want {
					t.Errorf("%s: %q", name, got)
				}
			}
			if !strings.Contains(resp.Header().Get("Access-Control-Allow-Methods"), "DELETE") {
				t.Error("no DELETE")
			}
		})
	}
	t.Run("HT-22 only a list of header names is repeated", func(t *testing.T) {
		for _, bad := range []string{"a\r\nSet-Cookie: x", "a\x00", "<script>", strings.Repeat("a", 4097), "ä"} {
			resp := ask(ok, "", func(r *http.Request) {
				r.Method = http.MethodOptions
				r.Header.Set("Access-Control-Request-Headers", bad)
			})
			if got := resp.Header().Get("Access-Control-Allow-Headers"); got != "" {
				t.Errorf("%q", got)
			}
		}
	})
	t.Run("HT-04 errors and answers can be read", func(t *testing.T) {
		for _, token := range []string{"", "x", w.Token(guardtest.Claims{Audience: resource})} {
			resp := ask(ok, token, func(r *http.Request) { r.Header.Set("Origin", "null") })
			if resp.Header().Get("Access-Control-Allow-Origin") != "*" ||
				!strings.Contains(resp.Header().Get("Access-Control-Expose-Headers"), "WWW-Authenticate") {
				t.Errorf("%d %v", resp.Code, resp.Header())
			}
		}
	})
}

func TestWellKnown(t *testing.T) {
	w := newWorld(t, func(c *guard.Config) { c.Name = "Weather"; c.Documentation = "https://mcp.example.com/docs" })
	get := func(t *testing.T, handler http.Handler, path string) *httptest.ResponseRecorder {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://attacker.example"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, r)
		return rec
	}
	one := guard.WellKnown(w.Guard)
	want := map[string]any{
		"resource":                 resource,
		"authorization_servers":    []any{w.URL},
		"scopes_supported":         []any{"mcp:tools:weather"},
		"bearer_methods_supported": []any{"header"},
		"resource_name":            "Weather",
		"resource_documentation":   "https://mcp.example.com/docs",
	}
	for _, path := range []string{
		"/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource",
	} {
		resp := get(t, one, path)
		if diff := cmp.Diff(want, body(t, resp)); diff != "" || resp.Code != 200 {
			t.Errorf("%s: %d %s", path, resp.Code, diff)
		}
		if resp.Header().Get("Cache-Control") != "public, max-age=300" ||
			resp.Header().Get("Content-Type") != "application/json" ||
			resp.Header().Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("MD-10 %v", resp.Header())
		}
	}
	t.Run("MD-06 other paths", func(t *testing.T) {
		for _, path := range []string{
			"/.well-known/oauth-protected-resource/other", "/.well-known/oauth-protected-resource/mcp/",
			"/.well-known/oauth-protected-resource/", "/.well-known/oauth-protected-resource/mcp/..%2fmcp",
			"/.well-known/oauth-protected-resource/%6dcp", "/.well-known/oauth-protected-resource/x/../mcp",
			"/.well-known/oauth-authorization-server/mcp", "/.well-known/jwks", "/.well-known/", "/",
		} {
			resp := get(t, one, path)
			got := body(t, resp)
			if resp.Code != 404 || got["error"] != "not_found" ||
				resp.Header().Get("Content-Type") != "application/json" {
				t.Errorf("%s: %d %v", path, resp.Code, got)
			}
		}
	})
	t.Run("two servers on one origin", func(t *testing.T) {
		other := newWorld(t, func(c *guard.Config) { c.Resource = "https://mcp.example.com/other" })
		two := guard.WellKnown(w.Guard, other.Guard)
		for path, want := range map[string]any{"/mcp": resource, "/other": "https://mcp.example.com/other"} {
			if got := body(t, get(t, two, "/.well-known/oauth-protected-resource"+path)); got["resource"] != want {
				t.Errorf("%s: %v", path, got)
			}
		}
		if resp := get(t, two, "/.well-known/oauth-protected-resource"); resp.Code != 404 {
			t.Error("the root URL stands for neither")
		}
	})
	t.Run("a server at the root of its origin", func(t *testing.T) {
		for _, resource := range []string{"https://mcp.example.com", "https://mcp.example.com/"} {
			root := newWorld(t, func(c *guard.Config) { c.Resource = resource })
			got := body(t, get(t, guard.WellKnown(root.Guard), "/.well-known/oauth-protected-resource"))
			if got["resource"] != resource {
				t.Errorf("%v", got)
			}
			challenge := ask(root.Guard.Protect(&counter{}), "").Header().Get("WWW-Authenticate")
			if !strings.Contains(challenge, `"https://mcp.example.com/.well-known/oauth-protected-resource"`) {
				t.Error(challenge)
			}
		}
	})
	t.Run("MD-08 quotation marks in the path", func(t *testing.T) {
		odd := newWorld(t, func(c *guard.Config) { c.Resource = "https://mcp.example.com/a%22%0d%0ab,c" })
		got := ask(odd.Guard.Protect(&counter{}), "").Header().Get("WWW-Authenticate")
		want := `Bearer resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/a%22%0d%0ab,c", ` +
			`scope="mcp:tools:weather"`
		if got != want {
			t.Error(got)
		}
		resp := get(t, guard.WellKnown(odd.Guard), "/.well-known/oauth-protected-resource/a%22%0d%0ab,c")
		if resp.Code != 200 {
			t.Error(resp.Code)
		}
	})
	t.Run("nothing can be written", func(t *testing.T) {
		rec := httptest.NewRecorder()
		one.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/.well-known/oauth-protected-resource", nil))
		if rec.Code != 405 || rec.Header().Get("Allow") == "" {
			t.Error(rec.Code)
		}
	})
	t.Run("metadata of the issuer for clients of 2025-03-26", func(t *testing.T) {
		for range 3 {
			for _, path := range []string{
				"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration",
			} {
				resp := get(t, one, path)
				if got := body(t, resp); resp.Code != 200 || got["issuer"] != w.URL ||
					got["token_endpoint"] != w.URL+"/oauth2/token" {
					t.Errorf("%s: %d %v", path, resp.Code, got)
				}
			}
		}
		if n := w.Fetches("/.well-known/oauth-authorization-server"); n != 1 {
			t.Errorf("%d fetches", n)
		}
		w.SetDown(true)
		defer w.SetDown(false)
		w.Advance(time.Hour)
		if resp := get(t, one, "/.well-known/oauth-authorization-server"); resp.Code != 200 {
			t.Errorf("status %d while the issuer is down", resp.Code)
		}
	})
	t.Run("an issuer that was never up", func(t *testing.T) {
		w := newWorld(t)
		w.SetDown(true)
		for range 10 {
			resp := get(t, guard.WellKnown(w.Guard), "/.well-known/oauth-authorization-server")
			if got := body(t, resp); resp.Code != 502 || got["error"] != "temporarily_unavailable" {
				t.Errorf("%d %v", resp.Code, got)
			}
		}
		if n := w.Fetches("/.well-known/oauth-authorization-server"); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})
}

func TestWriteError(t *testing.T) {
	w := newWorld(t)
	answer := func(err error) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		w.Guard.WriteError(rec, httptest.NewRequest(http.MethodGet, "/", nil), err)
		return rec
	}
	t.Run("what the handler meant", func(t *testing.T) {
		resp := answer(fmt.Errorf("booking: %w",
			&guard.Error{Status: 409, Code: "conflict", Description: "Taken.",
				URI: "https://mcp.example.com/docs/errors", RetryAfter: 1500 * time.Millisecond}))
		want := map[string]any{"error": "conflict", "error_description": "Taken.",
			"error_uri": "https://mcp.example.com/docs/errors"}
		diff := cmp.Diff(want, body(t, resp))
		if diff != "" || resp.Code != 409 || resp.Header().Get("Retry-After") != "2" ||
			resp.Header().Get("WWW-Authenticate") != "" {
			t.Errorf("%d %v %s", resp.Code, resp.Header(), diff)
		}
	})
	t.Run("the details of a fault are not sent", func(t *testing.T) {
		resp := answer(context.DeadlineExceeded)
		want := map[string]any{"error": "server_error", "error_description": "The server failed."}
		if diff := cmp.Diff(want, body(t, resp)); diff != "" || resp.Code != 500 {
			t.Errorf("%d %s", resp.Code, diff)
		}
	})
	t.Run("MD-08 the challenge is quoted", func(t *testing.T) {
		resp := answer(&guard.Error{Status: 401, Code: "invalid_token", Description: "a\"b\\c\r\nSet-Cookie: x ü"})
		want := `Bearer error="invalid_token", error_description="a\"b\\c??Set-Cookie: x ?", resource_metadata="` +
			metadataURL + `", scope="mcp:tools:weather"`
		if got := resp.Header().Get("WWW-Authenticate"); got != want {
			t.Error(got)
		}
	})
}

// The challenge and the metadata have the same scopes to request first.
func TestDefaultScopes(t *testing.T) {
	all := scope.Of("a", "b", "c:*")
	for name, c := range map[string]struct {
		known, byDefault, advertised scope.Set
		challenge, metadata          string // scopes; "": missing
	}{
		"the default scopes":                 {all, scope.Of("a"), nil, "a", "a"},
		"no default scopes":                  {all, nil, nil, "a b", "a b"},
		"for clients that cannot step up":    {all, scope.Of("a"), all, "a", "a b c:*"},
		"the default scopes may be more":     {all, all, nil, "a b c:*", "a b c:*"},
		"nothing in the metadata":            {all, scope.Of("a"), scope.Set{}, "a", ""},
		"the server does not know":           {nil, nil, nil, "", ""},
		"the server knows only what it asks": {nil, scope.Of("a"), nil, "a", "a"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newWorld(t, func(config *guard.Config) {
				config.Scopes, config.DefaultScopes, config.AdvertisedScopes = c.known, c.byDefault, c.advertised
			}).Guard
			want := `Bearer resource_metadata="` + metadataURL + `"`
			if c.challenge != "" {
				want += `, scope="` + c.challenge + `"`
			}
			if got := ask(g.Protect(&counter{}), "").Header().Get("WWW-Authenticate"); got != want {
				t.Errorf("the challenge is %s, want %s", got, want)
			}
			metadata := body(t, ask(guard.WellKnown(g), "", func(r *http.Request) {
				r.Method, r.URL.Path = http.MethodGet, "/.well-known/oauth-protected-resource"
			}))
			var want2 any
			if c.metadata != "" {
				var names []any
				for name := range strings.FieldsSeq(c.metadata) {
					names = append(names, name)
				}
				want2 = names
			}
			if diff := cmp.Diff(want2, metadata["scopes_supported"]); diff != "" {
				t.Errorf("scopes_supported (-want +got):\n%s", diff)
			}
		})
	}
}

// New returns an error for a misspelled scope, with the one that was probably meant.
func TestScopesThatAreNotKnown(t *testing.T) {
	w := newWorld(t)
	g := w.Guard
	panicking := func(f func()) (text string) {
		defer func() { text, _ = recover().(string) }()
		f()
		return ""
	}
	config := guard.Config{Issuer: w.URL, Resource: resource,
		Scopes: scope.Of("mcp:tools:weather", "mcp:tools:email:send", "mcp:resources:*")}
	defaults, advertises := config, config
	defaults.DefaultScopes, advertises.AdvertisedScopes = scope.Of("mcp:tool:weather"), scope.Of("mcp:tools:*")
	_, byDefault := guard.New(defaults)
	_, advertised := guard.New(advertises)
	const known = "is not among Scopes; did you mean"
	send := guard.ToolScopes{"ok": {"mcp:resources:x"}, "send": {"mcp:tools:weather", "mcp:tools:e-mail:send"}}
	for want, got := range map[string]string{
		`guard: DefaultScopes: "mcp:tool:weather" ` + known + ` "mcp:tools:weather"?`: fmt.Sprint(byDefault),
		`guard: AdvertisedScopes: "mcp:tools:*" ` + known + ` "mcp:tools:weather"?`:   fmt.Sprint(advertised),
		`guard: RequireToolScopes: tool "send": "mcp:tools:e-mail:send" ` + known +
			` "mcp:tools:email:send"?`: panicking(func() { g.RequireToolScopes(send) }),
		`guard: RequireScope: "mcp:tools:Weather" ` + known +
			` "mcp:tools:weather"?`: panicking(func() { g.RequireScope("mcp:tools:Weather") }),
		`guard: LimitRate: "mcp:resource:x" ` + known + ` "mcp:resources:*"?`: panicking(func() {
			g.LimitRate(guard.RateLimits{Tiers: []guard.Tier{{Scope: "mcp:resource:x"}}})
		}),
	} {
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	silent := newWorld(t, func(c *guard.Config) { c.Scopes, c.DefaultScopes = nil, nil }).Guard
	if got := panicking(func() { silent.RequireScope("x") }); got != "" {
		t.Errorf("with no Scopes: %s", got)
	}
}

// The log must not contain any token or part of one.
func TestTheLogHasNoToken(t *testing.T) {
	var log strings.Builder
	w := newWorld(t, func(c *guard.Config) {
		c.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	token := w.Token(guardtest.Claims{Audience: "https://other", Subject: "canary"})
	ask(w.Guard.Protect(&counter{}), token)
	if !strings.Contains(log.String(), "invalid_token") {
		t.Error("the refusal was not logged")
	}
	for _, secret := range append(strings.Split(token, "."), "canary") {
		if strings.Contains(log.String(), secret) {
			t.Errorf("%s in %s", secret, log.String())
		}
	}
}

// An issuer with a name below localhost is on this machine, whatever a name server says.
func TestIssuerBelowLocalhost(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	issuer := "http://auth.localhost:" + fmt.Sprint(server.Listener.Addr().(*net.TCPAddr).Port)
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"issuer":"`+issuer+`","jwks_uri":"`+issuer+`/jwks"}`)
	})
	server.Start()
	defer server.Close()
	g, err := guard.New(guard.Config{Issuer: issuer, Resource: "http://mcp.localhost/mcp"})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	g.Health().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody))
	if !strings.Contains(w.Body.String(), `"oauth_server":"healthy"`) {
		t.Error(w.Body)
	}
}
