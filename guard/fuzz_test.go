package guard_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/guard/guardtest"
)

func FuzzAuthorization(f *testing.F) {
	w := newWorld(f)
	token := w.Token(guardtest.Claims{Audience: resource})
	for _, seed := range []string{"", "Bearer", "Bearer ", "Bearer " + token, "bearer  " + token + " ", "Basic x", "Bearer a, Bearer b", "Bearer \x00", "Bearer ====", "Bearer " + token + "="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		var reached counter
		resp := ask(w.Guard.Protect(&reached), "", func(r *http.Request) { r.Header["Authorization"] = []string{header} })
		good := strings.EqualFold(strings.Join(strings.Fields(header), " "), "Bearer "+token)
		switch {
		case reached.n == 1 && !good:
			t.Errorf("%q let in", header)
		case reached.n == 0 && resp.Code != 400 && resp.Code != 401:
			t.Errorf("%q answered %d", header, resp.Code)
		case reached.n == 0 && resp.Code == 401 && !strings.HasPrefix(resp.Header().Get("WWW-Authenticate"), "Bearer "):
			t.Errorf("%q: %s", header, resp.Header().Get("WWW-Authenticate"))
		}
	})
}

func FuzzToken(f *testing.F) {
	w := newWorld(f)
	token := w.Token(guardtest.Claims{Audience: resource, Scope: "a b"})
	for _, seed := range []string{"", token, token + ".", "..", "e30.e30.", strings.Repeat("a.", 100), w.Sign(map[string]any{"jwk": 1}, nil)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		_, err := w.Guard.Verify(t.Context(), raw)
		if err == nil && raw != token {
			t.Errorf("%q accepted", raw)
		}
		if got := w.Guard.Explain(t.Context(), raw); got.Accepted != (err == nil) || got.String() == "" {
			t.Errorf("%q: Verify says %v, Explain %s", raw, err, got)
		}
	})
}

// What passes is read by the server, whose reader may be encoding/json: it must find the tool that was checked.
func FuzzToolCall(f *testing.F) {
	w := newWorld(f)
	token := w.Token(guardtest.Claims{Audience: resource, Scope: "mcp:tools:weather"})
	for _, seed := range []string{call("get_forecast"), call("send_email"), `[` + call("get_forecast") + `]`, `{"method":"tools/call","Params":{"name":"x"}}`,
		`{"method":"tools/call","params":{"name":"get_forecast","NAME":"send_email"}}`, `{}`, `[]`, `null`, `"`, "{\"method\":\"\xff\"}", `{"method\u0000":1}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, message string) {
		passed := false
		handler := w.Guard.Protect(w.Guard.RequireToolScopes(tools)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			got, err := io.ReadAll(r.Body)
			if err != nil || string(got) != message {
				t.Errorf("%q became %q, %v", message, got, err)
			}
			passed = true
		})))
		ask(handler, token, func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(message)) })
		type lenient struct {
			Method string
			Params struct{ Name string }
		}
		var one lenient
		batch := []lenient{}
		if json.Unmarshal([]byte(message), &one) == nil {
			batch = append(batch, one)
		} else if json.Unmarshal([]byte(message), &batch) != nil {
			return
		}
		for _, m := range batch {
			if passed && strings.EqualFold(strings.TrimSpace(m.Method), "tools/call") && m.Params.Name != "get_forecast" && m.Params.Name != "ping_me" {
				t.Errorf("%q passed", message)
			}
		}
	})
}
