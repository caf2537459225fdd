package guard_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/guard/guardtest"
	"github.com/cardea-auth/cardea/scope"
	"github.com/google/go-cmp/cmp"
)

var tools = guard.ToolScopes{
	"get_forecast": {"mcp:tools:weather"},
	"send_email":   {"mcp:tools:email:send", "mcp:tools:contacts"},
	"ping_me":      nil,
}

func call(tool string) string {
	name, _ := json.Marshal(tool)
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":` + string(name) + `,"arguments":{"city":"Zürich"}}}`
}

func TestRequireToolScopes(t *testing.T) {
	w := newWorld(t)
	var got string
	reached := 0
	handler := w.Guard.Protect(w.Guard.RequireToolScopes(tools)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		message, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got = string(message)
		reached++
	})))
	token := w.Token(guardtest.Claims{Audience: resource, Scope: "mcp:tools:weather"})
	post := func(message string) *httptest.ResponseRecorder {
		reached = 0
		return ask(handler, token, func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(message)) })
	}

	for name, message := range map[string]string{
		"GW-18 a tool whose scope is there":         call("get_forecast"),
		"a tool that needs none":                    call("ping_me"),
		"another method":                            `{"jsonrpc":"2.0","id":"x","method":"initialize","params":{"name":"delete_all"}}`,
		"a notification":                            `{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		"a response":                                `{"jsonrpc":"2.0","id":7,"result":{"name":"x"}}`,
		"GW-16 a batch of allowed calls":            `[` + call("get_forecast") + `,` + call("ping_me") + `]`,
		"white space around":                        "\n " + call("get_forecast") + "\r\n",
		"GW-25 arguments with names of all kinds":   `{"method":"tools/call","params":{"name":"get_forecast","arguments":{"Name":"x","METHOD":1,"__proto__":{}}}}`,
		"members beside, such as _meta":             `{"method":"tools/call","params":{"_meta":{"progressToken":1},"name":"get_forecast"}}`,
		"numbers stay as they were written":         `{"method":"x","id":12345678901234567890.10}`,
		"a tool named by escapes is the tool meant": `{"method":"tools\/call","params":{"name":"get_f\u006frecast"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			if resp := post(message); resp.Code != 200 || reached != 1 {
				t.Fatalf("%d %v", resp.Code, body(t, resp))
			}
			if got != message {
				t.Errorf("the server got %s", got)
			}
		})
	}

	const union = "mcp:tools:weather mcp:tools:email:send mcp:tools:contacts"
	for name, message := range map[string]string{
		"GW-24 a tool whose scopes are missing": call("send_email"),
		"GW-16 one call in a batch":             `[` + call("get_forecast") + `,` + call("send_email") + `]`,
		"GW-16 the first call in a batch":       `[` + call("send_email") + `,` + call("get_forecast") + `]`,
		"GW-16 a call after a response":         `[{"id":1,"result":{}},` + call("send_email") + `]`,
	} {
		t.Run(name, func(t *testing.T) {
			resp := post(message)
			if resp.Code != 403 || reached != 0 || !strings.Contains(resp.Header().Get("WWW-Authenticate"), `Bearer error="insufficient_scope"`) ||
				!strings.Contains(resp.Header().Get("WWW-Authenticate"), `scope="`+union+`"`) {
				t.Errorf("%d %s", resp.Code, resp.Header().Get("WWW-Authenticate"))
			}
			if got := body(t, resp); got["scope"] != union {
				t.Errorf("%v", got)
			}
		})
	}

	for name, tool := range map[string]string{
		"unknown": "delete_all", "other case": "Get_forecast", "a space after": "get_forecast ", "empty": "", "full width": "ｇet_forecast",
		"zero width": "get_\u200bforecast", "homoglyph": "get_forecаst", "NUL": "get_forecast\x00", "long s": "ſend_email",
	} {
		t.Run("GW-18 tool name "+name, func(t *testing.T) {
			if resp := post(call(tool)); resp.Code != 403 || reached != 0 || body(t, resp)["error"] != "access_denied" {
				t.Error(resp.Code)
			}
		})
	}

	for name, message := range map[string]string{
		"GW-17 a member twice":                  `{"method":"ping","method":"tools/call","params":{"name":"send_email"}}`,
		"GW-17 a name twice":                    `{"method":"tools/call","params":{"name":"get_forecast","name":"send_email"}}`,
		"GW-17 a name twice, once escaped":      `{"method":"tools/call","params":{"name":"get_forecast","n\u0061me":"send_email"}}`,
		"GW-25 an argument twice":               `{"method":"tools/call","params":{"name":"get_forecast","arguments":{"a":1,"a":2}}}`,
		"GW-17 Method":                          `{"Method":"tools/call","params":{"name":"send_email"}}`,
		"GW-17 NAME":                            `{"method":"tools/call","params":{"name":"get_forecast","NAME":"send_email"}}`,
		"GW-17 paramſ":                          `{"method":"tools/call","params":{"name":"get_forecast"},"param\u017f":{"name":"send_email"}}`,
		"GW-17 U+212A":                          `{"method":"tools/call","params":{"name":"get_forecast","` + "argument\u017f" + `":{}}}`,
		"GW-17 name and NUL":                    `{"method":"tools/call","params":{"name":"get_forecast","name\u0000":"send_email"}}`,
		"GW-17 method and NUL":                  `{"method":"ping","method\u0000":"tools/call","params":{"name":"send_email"}}`,
		"GW-17 Tools/Call":                      `{"method":"Tools/Call","params":{"name":"send_email"}}`,
		"GW-17 a space after the method":        `{"method":"tools/call ","params":{"name":"send_email"}}`,
		"GW-17 trailing data":                   call("get_forecast") + call("send_email"),
		"GW-17 trailing garbage":                call("get_forecast") + "x",
		"GW-17 BOM":                             "\ufeff" + call("get_forecast"),
		"GW-17 not UTF-8":                       strings.Replace(call("get_forecast"), "ü", "\xfc", 1),
		"GW-17 UTF-16":                          "\xff\xfe{\x00}\x00",
		"GW-17 comments":                        `{"method":"ping"/**/}`,
		"GW-17 text":                            `"tools/call"`,
		"GW-16 a batch in a batch":              `[[` + call("get_forecast") + `]]`,
		"GW-16 a batch with a number":           `[1]`,
		"nothing":                               ``,
		"method is no string":                   `{"method":["tools/call"],"params":{"name":"send_email"}}`,
		"params is an array":                    `{"method":"tools/call","params":["send_email"]}`,
		"params is missing":                     `{"method":"tools/call"}`,
		"name is no string":                     `{"method":"tools/call","params":{"name":["send_email"]}}`,
		"name is missing":                       `{"method":"tools/call","params":{}}`,
		"GW-25 nested without end":              strings.Repeat(`{"a":`, 100_000),
		"GW-25 nested without end, well-formed": strings.Repeat(`[`, 100_000) + strings.Repeat(`]`, 100_000),
	} {
		t.Run(name, func(t *testing.T) {
			if resp := post(message); resp.Code != 400 || reached != 0 || body(t, resp)["error"] != "invalid_request" {
				t.Error(resp.Code)
			}
		})
	}

	t.Run("GW-36 a message without end", func(t *testing.T) {
		if resp := post(strings.Repeat(" ", 4<<20+1)); resp.Code != 413 || reached != 0 {
			t.Error(resp.Code)
		}
	})
	t.Run("a stream is opened without a message", func(t *testing.T) {
		resp := ask(handler, token, func(r *http.Request) { r.Method, r.Body = http.MethodGet, http.NoBody })
		if resp.Code != 200 {
			t.Error(resp.Code)
		}
	})
	t.Run("outside Protect nobody gets through", func(t *testing.T) {
		var reached counter
		if resp := ask(w.Guard.RequireToolScopes(tools)(&reached), token); resp.Code != 401 || reached.n != 0 {
			t.Error(resp.Code)
		}
	})
}

func TestLimitRate(t *testing.T) {
	w := newWorld(t)
	var reached counter
	handler := w.Guard.Protect(w.Guard.LimitRate(guard.RateLimits{
		Tiers:   []guard.Tier{{"mcp:tools:premium", guard.Rate{Requests: 4, Per: time.Minute}}, {"mcp:tools:basic", guard.Rate{Requests: 2, Per: time.Minute}}},
		Default: guard.Rate{Requests: 1, Per: time.Minute},
	})(&reached))
	token := func(subject, client, scopes string) string {
		return w.Token(guardtest.Claims{Audience: resource, Subject: subject, ClientID: client, Scope: scopes})
	}
	allowed := func(token string) (n int) {
		for range 10 {
			if resp := ask(handler, token); resp.Code == 200 {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		name, token string
		want        int
	}{
		{"a wildcard covers the first tier", token("ada", "c1", "mcp:tools:*"), 4},
		{"the second tier", token("bob", "c1", "mcp:tools:basic"), 2},
		{"no tier", token("eve", "c1", ""), 1},
		{"a new token of the same client changes nothing", token("eve", "c1", "x"), 0},
		{"another person with the same application", token("dan", "c1", ""), 1},
		{"the same person with another application", token("eve", "c2", ""), 1},
	} {
		if got := allowed(c.token); got != c.want {
			t.Errorf("%s: %d requests", c.name, got)
		}
	}
	resp := ask(handler, token("ada", "c1", "mcp:tools:*"))
	want := map[string]any{"error": "rate_limit_exceeded", "error_description": "Too many requests from this client; Retry-After tells how many seconds to wait."}
	if diff := cmp.Diff(want, body(t, resp)); diff != "" || resp.Code != 429 || resp.Header().Get("Retry-After") != "15" {
		t.Errorf("%d, Retry-After %s %s", resp.Code, resp.Header().Get("Retry-After"), diff)
	}
	w.Advance(15 * time.Second)
	if got := allowed(token("ada", "c1", "mcp:tools:*")); got != 1 {
		t.Errorf("%d requests after a quarter of the time", got)
	}

	t.Run("a zero rate lets nothing through", func(t *testing.T) {
		handler := w.Guard.Protect(w.Guard.LimitRate(guard.RateLimits{})(&reached))
		if resp := ask(handler, token("ada", "c1", "")); resp.Code != 429 {
			t.Error(resp.Code)
		}
	})
	t.Run("without a token the address counts", func(t *testing.T) {
		handler := w.Guard.LimitRate(guard.RateLimits{Default: guard.Rate{Requests: 1, Per: time.Hour}})(&reached)
		from := func(address string) int {
			return ask(handler, "", func(r *http.Request) { r.RemoteAddr = address }).Code
		}
		if from("192.0.2.1:1") != 200 || from("192.0.2.1:2") != 429 || from("192.0.2.2:1") != 200 {
			t.Error("addresses are mixed up")
		}
	})
	t.Run("many clients do not fill the memory", func(t *testing.T) {
		handler := w.Guard.LimitRate(guard.RateLimits{Default: guard.Rate{Requests: 1, Per: time.Hour}, Clients: 2})(&reached)
		from := func(address string) int {
			return ask(handler, "", func(r *http.Request) { r.RemoteAddr = address }).Code
		}
		if from("a") != 200 || from("b") != 200 || from("c") != 200 || from("c") != 429 || from("a") != 200 {
			t.Error("the first was not forgotten, or the last was")
		}
	})
}

// mallocs is what verifying token costs in allocations: few for a token that is remembered, many for one that is not.
func mallocs(t *testing.T, w *world, token string) uint64 {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := w.Guard.Verify(t.Context(), token)
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Error(err)
	}
	return after.Mallocs - before.Mallocs
}

func TestRememberedTokens(t *testing.T) {
	w := newWorld(t, func(c *guard.Config) { c.Remember = 4 })
	if _, err := w.Guard.Verify(t.Context(), w.Token(guardtest.Claims{Audience: resource})); err != nil { // has the keys fetched
		t.Fatal(err)
	}
	token := w.Token(guardtest.Claims{Audience: resource})
	first, again := mallocs(t, w, token), mallocs(t, w, token)
	if again*4 > first {
		t.Errorf("%d allocations, and again %d", first, again)
	}
	for n := range 50 {
		if _, err := w.Guard.Verify(t.Context(), w.Token(guardtest.Claims{Audience: fmt.Sprint("https://other/", n)})); err == nil {
			t.Fatal("accepted")
		}
	}
	if got := mallocs(t, w, token); got*4 > first {
		t.Errorf("tokens that were refused pushed a good one out: %d allocations", got)
	}
	for range 5 {
		if _, err := w.Guard.Verify(t.Context(), w.Token(guardtest.Claims{Audience: resource})); err != nil {
			t.Fatal(err)
		}
	}
	if got := mallocs(t, w, token); got*2 < first {
		t.Errorf("more is remembered than Config.Remember says: %d allocations", got)
	}
}

func TestPermissions(t *testing.T) {
	p := guard.Permissions{
		"mcp:tools:calendar:read":  {"calendar:events:read"},
		"mcp:tools:calendar:write": {"calendar:events:read", "calendar:events:write"},
		"mcp:tools:email:send":     {"email:send", "contacts:read"},
	}
	for _, c := range []struct {
		granted string
		want    []string
	}{
		{"mcp:tools:calendar:read", []string{"calendar:events:read"}},
		{"mcp:tools:calendar:*", []string{"calendar:events:read", "calendar:events:write"}},
		{"mcp:tools:email:send mcp:tools:calendar:read", []string{"calendar:events:read", "contacts:read", "email:send"}},
		{"mcp:other", nil},
		{"", nil},
	} {
		granted, err := scope.Parse(c.granted)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, p.Of(granted)); diff != "" {
			t.Errorf("%s: %s", c.granted, diff)
		}
	}
	if !p.Allows(scope.Of("mcp:tools:*"), "email:send") || p.Allows(scope.Of("mcp:tools:calendar:*"), "email:send") {
		t.Error("Allows")
	}
}

func TestLogToolCall(t *testing.T) {
	var log strings.Builder
	w := newWorld(t, func(c *guard.Config) { c.Logger = slog.New(slog.NewJSONHandler(&log, nil)) })
	handler := w.Guard.Protect(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		w.Guard.LogToolCall(r.Context(), "get_forecast", nil)
		w.Guard.LogToolCall(r.Context(), "send_email\n", io.ErrUnexpectedEOF)
	}))
	ask(handler, w.Token(guardtest.Claims{Audience: resource, Subject: "ada", ClientID: "c1", ID: "grt_1.x", Scope: "a b"}),
		func(r *http.Request) { r.Header.Set("User-Agent", "agent/1") })
	var got []map[string]any
	for line := range strings.Lines(log.String()) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		delete(record, "time")
		got = append(got, record)
	}
	who := map[string]any{"msg": "mcp_tool_access", "level": "INFO", "user_id": "ada", "issuer": w.URL, "client_id": "c1", "token_id": "grt_1.x",
		"tool_name": "get_forecast", "scopes": "a b", "success": true, "ip_address": "192.0.2.1", "user_agent": "agent/1"}
	failed := map[string]any{}
	for k, v := range who {
		failed[k] = v
	}
	failed["level"], failed["tool_name"], failed["success"], failed["error"] = "WARN", "send_email\n", false, "unexpected EOF"
	if diff := cmp.Diff([]map[string]any{who, failed}, got); diff != "" {
		t.Error("GW-40", diff)
	}
	w.Guard.LogToolCall(t.Context(), "outside of a request", nil)
}

func TestHealth(t *testing.T) {
	w := newWorld(t)
	health := func(g *guard.Guard) (int, string, string) {
		rec := httptest.NewRecorder()
		g.Health().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/health", nil))
		v := body(t, rec)
		services, _ := v["services"].(map[string]any)
		status, _ := v["status"].(string)
		issuer, _ := services["oauth_server"].(string)
		if v["timestamp"] == "" || services["mcp_server"] != "healthy" {
			t.Errorf("%v", v)
		}
		return rec.Code, status, issuer
	}
	expect := func(g *guard.Guard, code int, status, issuer string) {
		t.Helper()
		if c, s, i := health(g); c != code || s != status || i != issuer {
			t.Errorf("%d %s %s, want %d %s %s", c, s, i, code, status, issuer)
		}
	}
	for range 20 {
		expect(w.Guard, 200, "healthy", "healthy")
	}
	if n := w.Fetches("/.well-known/oauth-authorization-server"); n != 1 {
		t.Errorf("%d fetches", n)
	}
	if _, err := w.Guard.Verify(t.Context(), w.Token(guardtest.Claims{Audience: resource})); err != nil {
		t.Fatal(err)
	}
	careful := newWorld(t, func(c *guard.Config) { c.Issuer, c.Now = w.URL, w.Now; strict(w.Issuer)(c) })
	if _, err := careful.Guard.Verify(t.Context(), w.Token(guardtest.Claims{Audience: resource})); err != nil {
		t.Fatal(err)
	}
	before := w.Fetches("/.well-known/oauth-authorization-server")
	w.SetDown(true)
	w.Advance(5 * time.Second)
	for range 20 {
		expect(w.Guard, 200, "degraded", "unhealthy")
	}
	if n := w.Fetches("/.well-known/oauth-authorization-server") - before; n != 1 {
		t.Errorf("%d fetches", n)
	}
	expect(careful.Guard, 503, "unhealthy", "unhealthy")
	w.SetDown(false)
	w.Advance(5 * time.Second)
	expect(w.Guard, 200, "healthy", "healthy")
}

func TestExplain(t *testing.T) {
	w := newWorld(t)
	faults := func(e guard.Explanation) (names []string) {
		for _, c := range e.Checks {
			if c.Fault != "" {
				names = append(names, c.Name)
			}
		}
		return names
	}
	for _, c := range []struct {
		name, token string
		want        []string
	}{
		{"a good one", w.Token(guardtest.Claims{Audience: resource}), nil},
		{"all that is wrong shows", w.Sign(map[string]any{"typ": "JWT"}, map[string]any{"iss": "x", "aud": "y"}),
			[]string{"typ", "iss", "aud", "exp", "iat", "sub", "client_id", "jti"}},
		{"a foreign signature", w.Sign(map[string]any{"kid": "x"}, map[string]any{"iss": w.URL, "aud": resource, "exp": w.Now().Unix() + 60,
			"iat": w.Now().Unix(), "sub": "a", "client_id": "c", "jti": "j"}), []string{"signature"}},
		{"no token", "", []string{"format"}},
		{"garbage", "a.b.c", []string{"format"}},
		{"without end", strings.Repeat("a", 1<<20), []string{"format"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := w.Guard.Explain(t.Context(), c.token)
			if diff := cmp.Diff(c.want, faults(got)); diff != "" || got.Accepted != (c.want == nil) {
				t.Errorf("%s%s", got, diff)
			}
			signature := c.token[strings.LastIndexByte(c.token, '.')+1:]
			if len(signature) > 10 && len(signature) < 1000 && strings.Contains(got.String(), signature) {
				t.Error("the explanation has the signature")
			}
			if _, err := w.Guard.Verify(t.Context(), c.token); (err == nil) != got.Accepted {
				t.Errorf("Verify = %v", err)
			}
		})
	}
	t.Run("claims are shown though the signature is wrong", func(t *testing.T) {
		token := w.Token(guardtest.Claims{Subject: "ada", Audience: resource})
		got := w.Guard.Explain(t.Context(), token[:len(token)-4]+"AAAA")
		if got.Claims["sub"] != "ada" || got.Header["typ"] != "at+jwt" || !cmp.Equal(faults(got), []string{"signature"}) {
			t.Error(got)
		}
	})
	t.Run("a revoked token", func(t *testing.T) {
		careful := newWorld(t, func(c *guard.Config) { c.Issuer = w.URL; c.Now = w.Now; strict(w.Issuer)(c) })
		token := w.Token(guardtest.Claims{Audience: resource})
		w.Revoke(token)
		if got := careful.Guard.Explain(t.Context(), token); !cmp.Equal(faults(got), []string{"introspection"}) {
			t.Error(got)
		}
	})
	t.Run("an issuer that is down", func(t *testing.T) {
		token := w.Token(guardtest.Claims{Audience: resource})
		w2 := newWorld(t, func(c *guard.Config) { c.Issuer = w.URL; c.Now = w.Now })
		w.SetDown(true)
		defer w.SetDown(false)
		if got := w2.Guard.Explain(t.Context(), token); !cmp.Equal(faults(got), []string{"signature"}) || !strings.Contains(got.String(), "503") {
			t.Error(got)
		}
	})
}
