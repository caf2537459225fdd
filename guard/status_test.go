package guard_test

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/guard/guardtest"
)

const statusPath = "/oauth2/status/1"

// becomes waits until Verify returns an error with the given status, or nil if status is 0. It fails the test after a
// minute.
func becomes(t testing.TB, g *guard.Guard, token string, status int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		got := verifyStatus(t, g, token)
		if got == status {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("status %d, want %d", got, status)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func verifyStatus(t testing.TB, g *guard.Guard, token string) int {
	t.Helper()
	_, err := g.Verify(t.Context(), token)
	var e *guard.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.Status
	}
	t.Fatal(err)
	return 0
}

// A token that was remembered is refused within five seconds after it was revoked, without a request for each call.
func TestStatusList(t *testing.T) {
	w := newWorld(t)
	if age := w.Guard.StatusAge(); age != 0 {
		t.Errorf("it follows no list and is %v old", age)
	}
	token, other := w.Token(guardtest.Claims{Audience: resource}), w.Token(guardtest.Claims{Audience: resource})
	var all sync.WaitGroup
	for range 50 {
		for _, token := range []string{token, other} {
			all.Go(func() {
				if got := verifyStatus(t, w.Guard, token); got != 0 {
					t.Errorf("status %d", got)
				}
			})
		}
	}
	all.Wait()
	if n := w.Fetches(statusPath); n > 2 {
		t.Errorf("100 calls fetched the list %d times", n)
	}
	w.Revoke(token)
	becomes(t, w.Guard, token, 401)
	if got := verifyStatus(t, w.Guard, other); got != 0 {
		t.Errorf("the other token: %d", got)
	}
	if _, err := w.Guard.Verify(t.Context(), token); err == nil || !strings.Contains(err.Error(), "was revoked") {
		t.Errorf("the error is %v", err)
	}
	if e := w.Guard.Explain(t.Context(), token); e.Accepted || !strings.Contains(e.String(), "FAULT status list") {
		t.Errorf("it is explained as\n%s", e)
	}
	if w.Fetches("/oauth2/introspect") != 0 {
		t.Error("the issuer was asked about a token")
	}
	without := w.Token(guardtest.Claims{Audience: resource, Extra: map[string]any{"status": nil}})
	if verifyStatus(t, w.Guard, without) != 0 {
		t.Error("a token without a status is refused")
	}
}

// While the list cannot be fetched, tokens are accepted by the last one until it is stale, and after that refused,
// unless the configuration says otherwise.
func TestStatusListStale(t *testing.T) {
	for name, test := range map[string]struct {
		status guard.Status
		valid  time.Duration
		stale  int // the answer afterwards
		first  int // the answer if there was never a list
	}{
		"by default":        {guard.Status{}, time.Minute, 503, 503},
		"after ten seconds": {guard.Status{Stale: 10 * time.Second}, 10 * time.Second, 503, 503},
		"fail open":         {guard.Status{FailOpen: true}, time.Minute, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(c *guard.Config) { c.Status = test.status })
			token, revoked := w.Token(guardtest.Claims{Audience: resource}), w.Token(guardtest.Claims{Audience: resource})
			w.Revoke(revoked)
			becomes(t, w.Guard, token, 0)
			becomes(t, w.Guard, revoked, 401)
			w.SetDown(true)
			w.Advance(test.valid)
			if got := verifyStatus(t, w.Guard, token); got != 0 || w.Guard.StatusAge() != test.valid {
				t.Errorf("after %v: %d, %v old", test.valid, got, w.Guard.StatusAge())
			}
			w.Advance(time.Second)
			if got := verifyStatus(t, w.Guard, token); got != test.stale {
				t.Errorf("after that: %d", got)
			}
			if got := verifyStatus(t, w.Guard, revoked); got != max(test.stale, 401) {
				t.Errorf("the revoked token after that: %d", got)
			}
			never := w.Token(guardtest.Claims{Audience: resource, Extra: map[string]any{"status": map[string]any{
				"status_list": map[string]any{"idx": 1, "uri": w.URL + "/oauth2/status/2"}}}})
			if got := verifyStatus(t, w.Guard, never); got != test.first {
				t.Errorf("a list that was never there: %d", got)
			}
			w.SetDown(false)
			w.Advance(5 * time.Second)
			becomes(t, w.Guard, token, 0)
		})
	}
}

// A guard ignores a list that the issuer did not sign, and refuses a token whose status claim names no place in a list.
func TestStatusListFaults(t *testing.T) {
	w := newWorld(t)
	status := func(list map[string]any) string {
		return w.Token(guardtest.Claims{Audience: resource,
			Extra: map[string]any{"status": map[string]any{"status_list": list}}})
	}
	for name, token := range map[string]string{
		"elsewhere":         status(map[string]any{"idx": 1, "uri": "https://evil.example/oauth2/status/1"}),
		"almost the issuer": status(map[string]any{"idx": 1, "uri": w.URL + "0/oauth2/status/1"}),
		"as a user":         status(map[string]any{"idx": 1, "uri": w.URL + "@evil.example/1"}),
		"no index":          status(map[string]any{"uri": w.URL + statusPath}),
		"no URI":            status(map[string]any{"idx": 1}),
		"negative":          status(map[string]any{"idx": -1, "uri": w.URL + statusPath}),
		"a fraction":        status(map[string]any{"idx": 1.5, "uri": w.URL + statusPath}),
		"a string":          status(map[string]any{"idx": "1", "uri": w.URL + statusPath}),
		"beyond the list":   status(map[string]any{"idx": 1 << 20, "uri": w.URL + statusPath}),
		"long":              status(map[string]any{"idx": 1, "uri": w.URL + "/" + strings.Repeat("x", 600)}),
		"not an object":     w.Token(guardtest.Claims{Audience: resource, Extra: map[string]any{"status": "valid"}}),
	} {
		if got := verifyStatus(t, w.Guard, token); got != 401 {
			t.Errorf("%s: %d", name, got)
		}
	}
	if other := w.Token(guardtest.Claims{Audience: resource,
		Extra: map[string]any{"status": map[string]any{"other": 1}}}); verifyStatus(t, w.Guard, other) != 0 {
		t.Error("another mechanism is refused")
	}

	// The issuer's lists, of which only the first is right.
	var answer atomic.Value
	mux := http.NewServeMux()
	front := httptest.NewServer(mux)
	t.Cleanup(front.Close)
	mux.HandleFunc("/.well-known/", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(rw, `{"issuer":%q,"jwks_uri":"%s/.well-known/jwks"}`, front.URL, w.URL)
	})
	mux.HandleFunc("/list/", func(rw http.ResponseWriter, r *http.Request) { answer.Load().(http.HandlerFunc)(rw, r) })
	uri := front.URL + "/list/1"
	now := w.Now().Unix()
	good := func() map[string]any {
		return map[string]any{"sub": uri, "iat": now, "exp": now + 100,
			"status_list": map[string]any{"bits": 1, "lst": guardtest.StatusList(7)}}
	}
	sends := func(kind, body string) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", kind)
			_, _ = rw.Write([]byte(body))
		}
	}
	signed := func(edit func(header, claims map[string]any)) http.HandlerFunc {
		header, claims := map[string]any{"typ": "statuslist+jwt"}, good()
		edit(header, claims)
		return sends("application/statuslist+jwt", w.Sign(header, claims))
	}
	claim := func(name string, value any) http.HandlerFunc {
		return signed(func(_, claims map[string]any) { claims[name] = value })
	}
	list := func(bits any, lst string) http.HandlerFunc {
		return claim("status_list", map[string]any{"bits": bits, "lst": lst})
	}
	stranger := guardtest.NewIssuer()
	t.Cleanup(stranger.Close)
	right := signed(func(_, _ map[string]any) {})
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   int
	}{
		"right":             {right, 0},
		"without exp":       {signed(func(_, claims map[string]any) { delete(claims, "exp") }), 0},
		"two bits":          {list(2, pack([]byte{0, 0, 0, 0xc0, 0, 0})), 0},
		"two bits, revoked": {list(2, pack([]byte{0, 0x0c, 0, 0})), 401},
		"short":             {list(1, pack([]byte{0, 0})), 0},
		"too short":         {list(1, pack(nil)), 401},
		"another list":      {claim("sub", uri+"0"), 503},
		"expired":           {claim("exp", now), 503},
		"of the future":     {claim("iat", now+3600), 503},
		"without iat":       {signed(func(_, claims map[string]any) { delete(claims, "iat") }), 503},
		"three bits":        {list(3, guardtest.StatusList()), 503},
		"bits as text":      {list("1", guardtest.StatusList()), 503},
		"not zlib":          {list(1, "AAAA"), 503},
		"not base64url":     {list(1, "****"), 503},
		"cut off":           {list(1, guardtest.StatusList()[:40]), 503},
		"a bomb":            {list(1, pack(make([]byte, 8<<20))), 503},
		"an access token":   {signed(func(header, _ map[string]any) { header["typ"] = "at+jwt" }), 503},
		"of another key": {sends("application/statuslist+jwt",
			stranger.Sign(map[string]any{"typ": "statuslist+jwt"}, good())), 503},
		"JSON":              {sends("application/json", `{}`), 503},
		"another type":      {func(rw http.ResponseWriter, r *http.Request) { right(typed{rw}, r) }, 503},
		"long":              {sends("application/statuslist+jwt", strings.Repeat("x", 2<<20)), 503},
		"an error":          {func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "no", 500) }, 503},
		"unchanged":         {func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(304) }, 503},
		"from an old cache": {func(rw http.ResponseWriter, r *http.Request) { rw.Header().Set("Age", "61"); right(rw, r) }, 503},
		"from a new cache":  {func(rw http.ResponseWriter, r *http.Request) { rw.Header().Set("Age", "59"); right(rw, r) }, 0},
		"elsewhere": {func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, w.URL+statusPath, http.StatusFound)
		}, 503},
	} {
		answer.Store(test.answer)
		g, err := guard.New(guard.Config{Issuer: front.URL, Resource: resource, Now: w.Now})
		if err != nil {
			t.Fatal(err)
		}
		token := w.Token(guardtest.Claims{Audience: resource, Extra: map[string]any{"iss": front.URL,
			"status": map[string]any{"status_list": map[string]any{"idx": 5, "uri": uri}}}})
		if got := verifyStatus(t, g, token); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}

// typed sends another Content-Type.
type typed struct{ http.ResponseWriter }

func (w typed) Write(b []byte) (int, error) {
	w.Header().Set("Content-Type", "application/jwt")
	return w.ResponseWriter.Write(b)
}

func pack(statuses []byte) string {
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	_, _ = z.Write(statuses)
	_ = z.Close()
	return base64.RawURLEncoding.EncodeToString(packed.Bytes())
}

// The test vector for lists of one bit (Token Status List, appendix C.1), read by a guard.
func TestStatusListVector(t *testing.T) {
	packed, err := hex.DecodeString("78daeddc010dc0200c0041a88249400ad2903e0f4bba00bd93f002beb7a2a2010000a91e09000000000000000000000000000000807296" +
		"04000000000000000000000000000000000000000000000000000000000000000000000000000000005c6f4800000000000000fc2c240000000000000000000000be1b12" +
		"000000000000000000ecaa4b000000000000000000000000000000009b0b0900000000000000000038de9400000000000000002a30cc010000000080642f0bd8011b")
	if err != nil {
		t.Fatal(err)
	}
	lst := base64.RawURLEncoding.EncodeToString(packed)
	revoked := map[int]bool{0: true, 1993: true, 25460: true, 159495: true, 495669: true, 554353: true, 645645: true,
		723232: true, 854545: true, 934534: true, 1000345: true}
	w := newWorld(t)
	mux := http.NewServeMux()
	front := httptest.NewServer(mux)
	t.Cleanup(front.Close)
	mux.HandleFunc("/.well-known/", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(rw, `{"issuer":%q,"jwks_uri":"%s/.well-known/jwks"}`, front.URL, w.URL)
	})
	mux.HandleFunc("/1", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/statuslist+jwt")
		_, _ = rw.Write([]byte(w.Sign(map[string]any{"typ": "statuslist+jwt"}, map[string]any{
			"sub": front.URL + "/1", "iat": w.Now().Unix(), "status_list": map[string]any{"bits": 1, "lst": lst}})))
	})
	g, err := guard.New(guard.Config{Issuer: front.URL, Resource: resource, Now: w.Now})
	if err != nil {
		t.Fatal(err)
	}
	for index := range revoked {
		for _, at := range []int{index, index + 1} {
			token := w.Token(guardtest.Claims{Audience: resource, Extra: map[string]any{"iss": front.URL,
				"status": map[string]any{"status_list": map[string]any{"idx": at, "uri": front.URL + "/1"}}}})
			if got := verifyStatus(t, g, token) == 401; got != revoked[at] {
				t.Errorf("status[%d] is %v", at, got)
			}
		}
	}
}

// Tokens that name many lists cost the guard no more than it follows.
func TestStatusListsAreBounded(t *testing.T) {
	w := newWorld(t)
	for n := range 200 {
		token := w.Token(guardtest.Claims{Audience: resource, Extra: map[string]any{"status": map[string]any{
			"status_list": map[string]any{"idx": 1, "uri": fmt.Sprint(w.URL, "/oauth2/status/x", n)}}}})
		if got := verifyStatus(t, w.Guard, token); got != 503 {
			t.Fatalf("status %d", got)
		}
	}
	token := w.Token(guardtest.Claims{Audience: resource})
	becomes(t, w.Guard, token, 0)
	w.Revoke(token)
	becomes(t, w.Guard, token, 401)
}
