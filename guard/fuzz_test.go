package guard_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/cardea-auth/cardea/guard/guardtest"
	"github.com/go-json-experiment/json/jsontext"
)

func FuzzAuthorization(f *testing.F) {
	w := newWorld(f)
	token := w.Token(guardtest.Claims{Audience: resource})
	for _, seed := range []string{
		"", "Bearer", "Bearer ", "Bearer " + token, "bearer  " + token + " ", "Basic x", "Bearer a, Bearer b",
		"Bearer \x00", "Bearer ====", "Bearer " + token + "=",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		var reached counter
		resp := ask(w.Guard.Protect(&reached), "",
			func(r *http.Request) { r.Header["Authorization"] = []string{header} })
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
	for _, seed := range []string{
		"", token, token + ".", "..", "e30.e30.", strings.Repeat("a.", 100), w.Sign(map[string]any{"jwk": 1}, nil),
	} {
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

// toolCalls are messages that different programs read differently.
var toolCalls = []string{
	call("get_forecast"), call("send_email"), `[` + call("get_forecast") + `]`,
	`{"method":"tools/call","Params":{"name":"x"}}`,
	`{"method":"tools/call","params":{"name":"get_forecast","NAME":"send_email"}}`,
	`{"method":"tools/call","params":{"name":"get_forecast","n\u0061me":"send_email"}}`,
	`{"method":"tools/call\u0000","params":{"name":"send_email"}}`,
	`{"id":1,"method":"tools/call","params":{"name":"get_forecast",` +
		`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`,
	`{}`, `[]`, `null`, `"`, "{\"method\":\"\xff\"}", `{"method\u0000":1}`, "\ufeff{}", `{"id":1,"result":{}}`,
	`{"method":"ping","params":{"a":[1e400,-0,1E+2,"\ud83d\ude00","\ud83d"]}}`,
}

// The server may decode a message that passes with encoding/json. It must find the tool that the guard checked.
func FuzzToolCall(f *testing.F) {
	w := newWorld(f)
	token := w.Token(guardtest.Claims{Audience: resource, Scope: "mcp:tools:weather"})
	for _, seed := range toolCalls {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, message string) {
		passed := false
		reached := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			got, err := io.ReadAll(r.Body)
			if err != nil || string(got) != message || r.ContentLength != int64(len(message)) {
				t.Errorf("%q became %q, %v", message, got, err)
			}
			passed = true
		})
		handler := w.Guard.Protect(w.Guard.RequireToolScopes(tools)(reached))
		ask(handler, token, func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(message)) })
		if !passed {
			return
		}
		for _, m := range lenient(t, message) {
			if strings.EqualFold(strings.Trim(m.Method, " \x00/"), "tools/call") && m.Params.Name != "get_forecast" &&
				m.Params.Name != "ping_me" {
				t.Errorf("%q passed", message)
			}
		}
	})
}

type lenientMessage struct {
	Method string
	Params struct{ Name string }
}

// lenient decodes a message or a batch with encoding/json into a struct: names match in any case, and the last
// duplicate wins.
func lenient(t *testing.T, message string) []lenientMessage {
	var one struct {
		Method string
		Params json.RawMessage
	}
	raw := []json.RawMessage{json.RawMessage(message)}
	if strings.HasPrefix(strings.TrimSpace(message), "[") {
		raw = nil
		if err := json.Unmarshal([]byte(message), &raw); err != nil {
			t.Errorf("%q passed, but encoding/json says %v", message, err)
		}
	}
	var all []lenientMessage
	for _, r := range raw {
		if err := json.Unmarshal(r, &one); err != nil {
			t.Errorf("%q passed, but encoding/json says %v", message, err)
		}
		m := lenientMessage{Method: one.Method}
		_ = json.Unmarshal(one.Params, &m.Params) // the name may not be a string
		all = append(all, m)
	}
	return all
}

// The guard accepts the same texts as an independent strict parser of RFC 7493, except for the three bounds of
// withinBounds.
func FuzzStrictJSON(f *testing.F) {
	w := newWorld(f)
	token := w.Token(guardtest.Claims{Audience: resource})
	for _, seed := range append(toolCalls, `0`, `-0.0e-1`, `01`, `1.`, `.1`, `+1`, `1e`, `"\u00e"`, `"\x"`, "\"\t\"",
		`"\udc00"`, `tru`, `nulll`, `[1,]`, `[,1]`, `{"a":1,}`, `{"a" :1 , "b":[{}] }`, `{"a":1,"\u0061":2}`,
		`{"a\u007f":1}`, `{1:1}`, "\u00a0", "1\f", `""""`, "\"\u2028\"",
		strings.Repeat("[", 200)+strings.Repeat("]", 200)) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		var reached counter
		message := `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":` + value + `}}`
		ask(w.Guard.Protect(w.Guard.RequireToolScopes(tools)(&reached)), token,
			func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(message)) })
		valid := jsontext.Value(value).IsValid() && withinBounds(value)
		switch {
		case reached.n == 1 && !jsontext.Value(message).IsValid():
			t.Errorf("%q passed", message)
		case reached.n == 0 && valid:
			t.Errorf("%q is good, but was refused", message)
		case reached.n == 1 && jsontext.Value(value).IsValid() && !valid:
			t.Errorf("%q is beyond the bounds, but passed", message)
		}
	})
}

// withinBounds reports whether in value, which is valid JSON, no name has a control character, all numbers fit in a
// float64, and the nesting below params.a is not too deep.
func withinBounds(value string) bool {
	d := jsontext.NewDecoder(strings.NewReader(value))
	for {
		token, err := d.ReadToken()
		if err != nil {
			return err == io.EOF
		}
		kind, n := d.StackIndex(d.StackDepth())
		switch {
		case d.StackDepth() > 126:
			return false
		case token.Kind() == '0':
			if _, err := strconv.ParseFloat(token.String(), 64); err != nil {
				return false
			}
		case token.Kind() == '"' && kind == '{' && n%2 == 1 && strings.ContainsFunc(token.String(), unicode.IsControl):
			return false
		}
	}
}
