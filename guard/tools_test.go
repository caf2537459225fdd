package guard_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
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
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":` + string(name) +
		`,"arguments":{"city":"Zürich"}}}`
}

func TestRequireToolScopes(t *testing.T) {
	w := newWorld(t)
	var got string
	reached := 0
	tool := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		message, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got = string(message)
		reached++
	})
	handler := w.Guard.Protect(w.Guard.RequireToolScopes(tools)(tool))
	token := w.Token(guardtest.Claims{Audience: resource, Scope: "mcp:tools:weather"})
	post := func(message string) *httptest.ResponseRecorder {
		reached = 0
		return ask(handler, token, func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(message)) })
	}

	for name, message := range map[string]string{
		"GW-18 a tool whose scope is there": call("get_forecast"),
		"a tool that needs none":            call("ping_me"),
		"another method": `{"jsonrpc":"2.0","id":"x","method":"initialize",` +
			`"params":{"name":"delete_all"}}`,
		"a notification":                 `{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		"a response":                     `{"jsonrpc":"2.0","id":7,"result":{"name":"x"}}`,
		"GW-16 a batch of allowed calls": `[` + call("get_forecast") + `,` + call("ping_me") + `]`,
		"white space around":             "\n " + call("get_forecast") + "\r\n",
		"GW-25 arguments with names of all kinds": `{"method":"tools/call","params":{"name":"get_forecast",` +
			`"arguments":{"Name":"x","METHOD":1,"__proto__":{}}}}`,
		"members beside, such as _meta":             `{"method":"tools/call","params":{"_meta":{"progressToken":1},"name":"get_forecast"}}`,
		"numbers stay as they were written":         `{"method":"ping","id":12345678901234567890.10}`,
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
			if resp.Code != 403 || reached != 0 ||
				!strings.Contains(resp.Header().Get("WWW-Authenticate"), `Bearer error="insufficient_scope"`) ||
				!strings.Contains(resp.Header().Get("WWW-Authenticate"), `scope="`+union+`"`) {
				t.Errorf("%d %s", resp.Code, resp.Header().Get("WWW-Authenticate"))
			}
			if got := body(t, resp); got["scope"] != union {
				t.Errorf("%v", got)
			}
		})
	}

	for name, tool := range map[string]string{
		"unknown": "delete_all", "other case": "Get_forecast", "a space after": "get_forecast ", "empty": "",
		"full width": "ｇet_forecast", "zero width": "get_\u200bforecast", "homoglyph": "get_forecаst",
		"NUL": "get_forecast\x00", "long s": "ſend_email",
	} {
		t.Run("GW-18 tool name "+name, func(t *testing.T) {
			if resp := post(call(tool)); resp.Code != 403 || reached != 0 || body(t, resp)["error"] != "access_denied" {
				t.Error(resp.Code)
			}
		})
	}

	for name, message := range map[string]string{
		"GW-17 a member twice":             `{"method":"ping","method":"tools/call","params":{"name":"send_email"}}`,
		"GW-17 a name twice":               `{"method":"tools/call","params":{"name":"get_forecast","name":"send_email"}}`,
		"GW-17 a name twice, once escaped": `{"method":"tools/call","params":{"name":"get_forecast","n\u0061me":"send_email"}}`,
		"GW-25 an argument twice":          `{"method":"tools/call","params":{"name":"get_forecast","arguments":{"a":1,"a":2}}}`,
		"GW-17 Method":                     `{"Method":"tools/call","params":{"name":"send_email"}}`,
		"GW-17 NAME":                       `{"method":"tools/call","params":{"name":"get_forecast","NAME":"send_email"}}`,
		"GW-17 paramſ":                     `{"method":"tools/call","params":{"name":"get_forecast"},"param\u017f":{"name":"send_email"}}`,
		"GW-17 U+212A": `{"method":"tools/call","params":{"name":"get_forecast","` +
			"argument\u017f" + `":{}}}`,
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
		"GW-25 an argument nested too deep": `{"method":"ping","params":{"a":` +
			strings.Repeat(`[`, 127) + strings.Repeat(`]`, 127) + `}}`,
		"GW-25 objects nested too deep": `{"method":"ping","params":` + strings.Repeat(`{"a":`, 128) + `1` +
			strings.Repeat(`}`, 128) + `}`,
		"GW-17 a NUL after the method":          `{"method":"tools/call\u0000","params":{"name":"send_email"}}`,
		"GW-17 a slash after the method":        `{"method":"tools/call/","params":{"name":"send_email"}}`,
		"GW-17 two slashes in the method":       `{"method":"tools//call","params":{"name":"send_email"}}`,
		"GW-17 a backslash in the method":       `{"method":"tools\\call","params":{"name":"send_email"}}`,
		"GW-17 U+017F in the method":            `{"method":"toolſ/call","params":{"name":"send_email"}}`,
		"GW-17 a method with a soft hyphen":     `{"method":"tools/\u00adcall","params":{"name":"send_email"}}`,
		"GW-17 Prompts/get":                     `{"method":"Prompts/get","params":{"name":"x"}}`,
		"GW-17 half of a surrogate pair":        `{"method":"ping","params":{"a":"\ud83d"}}`,
		"GW-17 the second half of a pair":       `{"method":"ping","params":{"a":"\ude00\ud83d"}}`,
		"GW-17 a pair that is none":             `{"method":"ping","params":{"a":"\ud83d\u0041"}}`,
		"GW-17 a line break in a string":        "{\"method\":\"ping\",\"params\":{\"a\":\"\n\"}}",
		"GW-17 a name with a control character": `{"method":"ping","params":{"a":{"b\u0085":1}}}`,
		"GW-17 a number beyond all numbers":     `{"method":"ping","params":{"a":1e400}}`,
		"GW-17 a number of a lenient reader":    `{"method":"ping","params":{"a":01}}`,
		"GW-17 NaN":                             `{"method":"ping","params":{"a":NaN}}`,
		"GW-17 a comma too many":                `{"method":"ping",}`,
		"GW-17 single quotes":                   `{'method':'ping'}`,
		"GW-17 JSONRPC":                         `{"JSONRPC":"2.0","method":"ping"}`,
		"GW-17 ID":                              `{"ID":1,"method":"ping"}`,
		"GW-17 a member beside the message":     `{"jsonrpc":"2.0","id":1,"method":"ping","tool":"send_email"}`,
		"GW-17 a name and a space":              `{"method":"tools/call","params":{"name":"get_forecast","name ":"send_email"}}`,
		"GW-17 a URI twice, once in capitals":   `{"method":"resources/read","params":{"uri":"a","URI":"b"}}`,
		"GW-17 a request and a response":        `{"id":1,"method":"ping","result":{}}`,
		"a result and an error":                 `{"id":1,"result":{},"error":{}}`,
		"a response to nothing":                 `{"result":{}}`,
		"a response with params":                `{"id":1,"result":{},"params":{"name":"send_email"}}`,
		"jsonrpc is 1.0":                        `{"jsonrpc":"1.0","id":1,"method":"ping"}`,
		"jsonrpc is a number":                   `{"jsonrpc":2.0,"id":1,"method":"ping"}`,
		"id is null":                            `{"id":null,"method":"ping"}`,
		"id is an object":                       `{"id":{},"method":"ping"}`,
		"method is empty":                       `{"id":1,"method":""}`,
		"params is text":                        `{"id":1,"method":"ping","params":"x"}`,
		"_meta is text":                         `{"id":1,"method":"ping","params":{"_meta":"x"}}`,
		"an empty batch":                        `[]`,
		"GW-36 a batch without end":             `[` + strings.Repeat(`{"method":"ping"},`, 100) + `{"method":"ping"}]`,
		"a prompt without a name":               `{"id":1,"method":"prompts/get","params":{}}`,
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
	t.Run("other methods of MCP and its extensions pass", func(t *testing.T) {
		for _, message := range []string{
			`{"id":1,"method":"server/discover"}`,
			`{"id":1,"method":"resources/read","params":{"uri":"file:///x"}}`,
			`{"id":1,"method":"prompts/get","params":{"name":"send_email"}}`,
			`{"id":1,"method":"tasks/get","params":{"taskId":"t"}}`,
			`{"method":"notifications/acme/changed","params":{"name":"send_email"}}`,
			`{"id":null,"error":{"code":-32700,"message":"x"}}`,
			`{"id":"` + strings.Repeat("9", 300) + `","result":{}}`,
			`{"id":1,"method":"ping","params":null}`,
			`{"id":1,"method":"ping","params":{"a":` + strings.Repeat(`[`, 126) + strings.Repeat(`]`, 126) + `}}`,
		} {
			if resp := post(message); resp.Code != 200 || reached != 1 || got != message {
				t.Errorf("%s: %d %s", message, resp.Code, resp.Body)
			}
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

// A message that the server could read differently from the guard never reaches it.
func TestRequestsThatAnotherProgramReadsOtherwise(t *testing.T) {
	w := newWorld(t)
	var reached counter
	handler := w.Guard.Protect(w.Guard.RequireToolScopes(tools)(&reached))
	token := w.Token(guardtest.Claims{Audience: resource, Scope: "mcp:tools:weather"})
	set := func(name string, values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header[name] = values }
	}
	method := func(method string) func(*http.Request) { return func(r *http.Request) { r.Method = method } }
	for name, c := range map[string]struct {
		change func(*http.Request)
		status int
	}{
		"as it should be":                  {func(*http.Request) {}, 200},
		"charset utf-8":                    {set("Content-Type", "application/json; charset=utf-8"), 200},
		"charset UTF-8 in quotation marks": {set("Content-Type", `Application/JSON ;Charset="UTF-8"`), 200},
		"GW-17 charset utf-7":              {set("Content-Type", "application/json; charset=utf-7"), 415},
		"GW-17 charset utf-16le":           {set("Content-Type", "application/json; charset=utf-16le"), 415},
		"GW-17 charset iso-8859-1":         {set("Content-Type", "application/json;charset=iso-8859-1"), 415},
		"GW-17 two charsets": {
			set("Content-Type", "application/json; charset=utf-8; charset=utf-7"), 415,
		},
		"GW-17 a charset inside a parameter": {set("Content-Type", `application/json; x="; charset=utf-7"`), 415},
		"GW-17 a charset of RFC 2231":        {set("Content-Type", "application/json; charset*=us-ascii''utf-7"), 415},
		"GW-17 two content types": {set("Content-Type", "application/json",
			"application/json; charset=utf-7"), 415},
		"GW-17 two content types in one": {set("Content-Type",
			"application/json, application/json; charset=utf-7"), 415},
		"GW-17 no content type":               {set("Content-Type"), 415},
		"a form":                              {set("Content-Type", "application/x-www-form-urlencoded"), 415},
		"text":                                {set("Content-Type", "text/plain"), 415},
		"JSON of another kind":                {set("Content-Type", "application/vnd.api+json"), 415},
		"GW-17 gzip":                          {set("Content-Encoding", "gzip"), 415},
		"GW-17 identity, which is not needed": {set("Content-Encoding", "identity"), 415},
		"GW-17 X-HTTP-Method-Override":        {set("X-Http-Method-Override", "PUT"), 400},
		"GW-17 X_HTTP_Method_Override":        {set("X_http_method_override", "PUT"), 400},
		"GW-17 Content_Type":                  {set("Content_type", "application/json; charset=utf-7"), 400},
		"GW-17 Mcp_Name":                      {set("Mcp_name", "send_email"), 400},
		"GW-17 PUT":                           {method("PUT"), 405},
		"GW-17 PATCH":                         {method("PATCH"), 405},
		"GW-17 post":                          {method("post"), 405},
		"GW-17 GET with a body":               {method("GET"), 400},
		"GW-17 HEAD with a body":              {method("HEAD"), 400},
		"GW-17 DELETE with a body":            {method("DELETE"), 400},
	} {
		t.Run(name, func(t *testing.T) {
			reached.n = 0
			resp := ask(handler, token, func(r *http.Request) {
				r.Body = io.NopCloser(strings.NewReader(call("get_forecast")))
				c.change(r)
			})
			if resp.Code != c.status || reached.n == 1 != (c.status == 200) {
				t.Errorf("status %d, want %d; the server was reached %d times", resp.Code, c.status, reached.n)
			}
			if c.status == 405 && !strings.HasPrefix(resp.Header().Get("Allow"), "POST, GET") {
				t.Errorf("Allow: %s", resp.Header().Get("Allow"))
			}
			if c.status >= 400 && body(t, resp)["error"] != "invalid_request" {
				t.Error(resp.Body)
			}
		})
	}
}

// Proxies route and count by these headers, so they must agree with the message.
func TestHeadersThatRepeatTheMessage(t *testing.T) {
	w := newWorld(t)
	var reached counter
	handler := w.Guard.Protect(w.Guard.RequireToolScopes(tools)(&reached))
	token := w.Token(guardtest.Claims{Audience: resource, Scope: "mcp:tools:*"})
	const (
		weather = `{"jsonrpc":"2.0","id":"a\"1","method":"tools/call","params":{"name":"get_forecast"}}`
		modern  = `{"jsonrpc":"2.0","id":"a\"1","method":"tools/call","params":{"name":"get_forecast",` +
			`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
		list = `{"jsonrpc":"2.0","id":"a\"1","method":"tools/list"}`
		read = `{"jsonrpc":"2.0","id":"a\"1","method":"resources/read","params":{"uri":"file:///ä"}}`
		task = `{"jsonrpc":"2.0","id":"a\"1","method":"tasks/get","params":{"taskId":"t1"}}`
	)
	type headers = map[string]string
	for name, c := range map[string]struct {
		message string
		headers headers
		fits    bool
	}{
		"before there were such headers": {weather, headers{}, true},
		"2025-11-25 without them":        {weather, headers{"Mcp-Protocol-Version": "2025-11-25"}, true},
		"2026-07-28 with them": {weather,
			headers{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "get_forecast"},
			true},
		"2026-07-28 in the body too": {modern,
			headers{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "get_forecast"},
			true},
		"a method without a name": {list,
			headers{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"}, true},
		"a name that is not ASCII": {read,
			headers{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "resources/read",
				"Mcp-Name": "=?base64?ZmlsZTovLy/DpA==?="}, true},
		"a task": {task,
			headers{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tasks/get", "Mcp-Name": "t1"}, true},
		"a task without a name": {task,
			headers{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tasks/get"}, true},
		"GW-20 another task": {task,
			headers{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tasks/get", "Mcp-Name": "t2"}, false},
		"a notification needs none": {`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
			headers{"Mcp-Protocol-Version": "2026-07-28"}, true},
		"a response needs none": {`{"jsonrpc":"2.0","id":1,"result":{}}`,
			headers{"Mcp-Protocol-Version": "2026-07-28"}, true},
		"GW-20 another name": {weather,
			headers{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "ping_me"}, false},
		"GW-20 another name, before 2026": {weather,
			headers{"Mcp-Protocol-Version": "2025-06-18", "Mcp-Name": "ping_me"}, false},
		"GW-20 another name in base64": {weather,
			headers{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call",
				"Mcp-Name": "=?base64?cGluZ19tZQ==?="}, false},
		"GW-20 base64 that is none": {weather,
			headers{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "=?base64?!?="},
			false},
		"GW-20 another method": {weather,
			headers{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list", "Mcp-Name": "get_forecast"},
			false},
		"GW-20 a method in capitals": {weather,
			headers{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "Tools/call", "Mcp-Name": "get_forecast"},
			false},
		"GW-20 no method": {weather,
			headers{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Name": "get_forecast"}, false},
		"GW-20 no name": {weather,
			headers{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call"}, false},
		"GW-20 no headers, by the body's word": {modern, headers{}, false},
		"GW-20 a version after 2026":           {weather, headers{"Mcp-Protocol-Version": "2027-01-01"}, false},
		"GW-20 two versions": {modern,
			headers{"Mcp-Protocol-Version": "2025-11-25", "Mcp-Method": "tools/call", "Mcp-Name": "get_forecast"},
			false},
		"GW-20 a name where there is none": {list,
			headers{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list", "Mcp-Name": "send_email"}, false},
		"GW-20 a method for a response": {`{"jsonrpc":"2.0","id":"a\"1","result":{}}`,
			headers{"Mcp-Method": "tools/call"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			reached.n = 0
			resp := ask(handler, token, func(r *http.Request) {
				r.Body = io.NopCloser(strings.NewReader(c.message))
				for name, value := range c.headers {
					r.Header.Set(name, value)
				}
			})
			if c.fits {
				if resp.Code != 200 || reached.n != 1 {
					t.Errorf("status %d, %s", resp.Code, resp.Body)
				}
				return
			}
			got := body(t, resp)
			problem, _ := got["error"].(map[string]any)
			if resp.Code != 400 || reached.n != 0 || got["jsonrpc"] != "2.0" || got["id"] != `a"1` ||
				problem["code"] != -32020.0 || problem["message"] == "" {
				t.Errorf("status %d, %s; the server was reached %d times", resp.Code, resp.Body, reached.n)
			}
		})
	}
	t.Run("GW-20 a header twice", func(t *testing.T) {
		for _, name := range []string{"Mcp-Name", "Mcp-Method", "Mcp-Protocol-Version"} {
			resp := ask(handler, token, func(r *http.Request) {
				r.Body = io.NopCloser(strings.NewReader(weather))
				r.Header.Set("Mcp-Protocol-Version", "2026-07-28")
				r.Header.Set("Mcp-Method", "tools/call")
				r.Header.Set("Mcp-Name", "get_forecast")
				r.Header.Add(name, r.Header.Get(name))
			})
			if resp.Code != 400 {
				t.Errorf("%s: %d", name, resp.Code)
			}
		}
	})
	t.Run("GW-16 batches ended with 2025-03-26", func(t *testing.T) {
		for version, want := range map[string]int{
			"": 200, "2025-03-26": 200, "2025-06-18": 400, "2025-11-25": 400, "2026-07-28": 400,
		} {
			resp := ask(handler, token, func(r *http.Request) {
				r.Body = io.NopCloser(strings.NewReader(`[` + weather + `]`))
				r.Header.Set("Mcp-Protocol-Version", version)
			})
			if resp.Code != want {
				t.Errorf("%q: %d", version, resp.Code)
			}
		}
		resp := ask(handler, token,
			func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(`[` + modern + `]`)) })
		if resp.Code != 400 {
			t.Errorf("2026-07-28 in the body alone: %d", resp.Code)
		}
	})
}

// GW-26: a method that is not in MCP may run a tool, so it is refused unless the configuration allows it.
func TestMethodsThatMCPDoesNotKnow(t *testing.T) {
	w := newWorld(t)
	var reached counter
	post := func(handler http.Handler, version, message string) *httptest.ResponseRecorder {
		reached.n = 0
		return ask(handler, w.Token(guardtest.Claims{Audience: resource}), func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(message))
			r.Header.Set("Mcp-Protocol-Version", version)
			r.Header.Set("Mcp-Method", "acme/search")
		})
	}
	const search = `{"jsonrpc":"2.0","id":7,"method":"acme/search","params":{"name":"send_email"}}`
	closed := w.Guard.Protect(w.Guard.RequireToolScopes(tools)(&reached))
	for version, want := range map[string]int{"2025-03-26": 200, "2025-11-25": 200, "2026-07-28": 404} {
		resp := post(closed, version, search)
		got := `{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"There is no such method, ` +
			`or no client may call it."}}`
		if resp.Code != want || reached.n != 0 || resp.Body.String() != got {
			t.Errorf("%s: %d %s", version, resp.Code, resp.Body)
		}
	}
	if resp := post(closed, "2025-11-25", `{"jsonrpc":"2.0","method":"acme/search"}`); resp.Code != 400 ||
		reached.n != 0 {
		t.Errorf("without an id: %d", resp.Code)
	}
	for _, method := range []string{
		"tools+AC8-call", "tools%2fcall", "tools.call.v2", "call_tool", "tools/call#", "tools/call/send_email",
		"ｔools/call",
	} {
		resp := post(closed, "", strings.Replace(search, "acme/search", method, 1))
		if reached.n != 0 || !strings.Contains(resp.Body.String(), `"error"`) {
			t.Errorf("GW-26 %s: %d %s", method, resp.Code, resp.Body)
		}
	}
	open := w.Guard.Protect(w.Guard.RequireToolScopes(tools, "acme/search")(&reached))
	if resp := post(open, "2026-07-28", search); resp.Code != 200 || reached.n != 1 {
		t.Errorf("a method that the server opens: %d %s", resp.Code, resp.Body)
	}
}

// The server gets exactly the bytes that were checked, whatever the transfer encoding.
func TestTheServerGetsWhatWasJudged(t *testing.T) {
	w := newWorld(t)
	type request struct {
		Method, Body     string
		Length           int64
		Transfer         []string
		Trailer, Declare http.Header
	}
	var got request
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		message, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got = request{Method: r.Method, Body: string(message), Length: r.ContentLength, Transfer: r.TransferEncoding,
			Trailer: r.Trailer}
		if names := r.Header.Values("Trailer"); len(names) > 0 {
			got.Declare = http.Header{"Trailer": names}
		}
	}))
	t.Cleanup(server.Close)
	target, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	front := httptest.NewServer(w.Guard.Protect(w.Guard.RequireToolScopes(tools)(proxy)))
	t.Cleanup(front.Close)
	token := w.Token(guardtest.Claims{Audience: resource, Scope: "mcp:tools:weather"})
	message := " " + call("get_forecast") + "\n"

	const head = " /mcp HTTP/1.1\r\nHost: mcp.example.com\r\nContent-Type: application/json\r\nConnection: " +
		"close\r\nAuthorization: Bearer "
	for name, c := range map[string]struct {
		raw  string
		want request
	}{
		"with its length": {"POST" +
			head + token + fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n", len(message)) + message,
			request{Method: "POST", Body: message, Length: int64(len(message))}},
		"GW-17 in chunks, with a trailer": {"POST" + head + token + fmt.Sprintf("\r\nTransfer-Encoding: "+
			"chunked\r\nTrailer: Mcp-Name\r\n\r\n1\r\n \r\n%x\r\n%s\r\n0\r\nMcp-Name: send_email\r\n\r\n",
			len(message)-1, message[1:]), request{Method: "POST", Body: message, Length: int64(len(message))}},
		"a stream": {"GET" + head + token + "\r\n\r\n", request{Method: "GET"}},
		"a stream, an empty chunk": {"GET" + head + token + "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			request{Method: "GET"}},
		"GW-17 a stream and a call": {"GET" +
			head + token + fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n", len(message)) + message, request{}},
	} {
		t.Run(name, func(t *testing.T) {
			got = request{}
			conn, err := net.Dial("tcp", front.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, c.raw); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("the server got (-want +got):\n%s", diff)
			}
		})
	}
}

// After an upgrade to another protocol, the connection could carry requests that the guard does not check.
func TestNoOtherProtocolBehindTheGuard(t *testing.T) {
	w := newWorld(t)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			return
		}
		conn, _, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn,
			"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\n\r\n")
	}))
	t.Cleanup(server.Close)
	target, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	front := httptest.NewServer(w.Guard.Protect(w.Guard.RequireToolScopes(tools)(proxy)))
	t.Cleanup(front.Close)
	token := w.Token(guardtest.Claims{Audience: resource, Scope: "mcp:tools:weather"})
	for name, c := range map[string]struct{ request, body string }{
		"HTTP/2 as Java offers it": {"POST /mcp HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: " +
			"h2c\r\nHTTP2-Settings: AAEAAEAA\r\nContent-Type: application/json\r\n", call("get_forecast")},
		"a WebSocket": {"GET /mcp HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: " +
			"13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", front.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			request := fmt.Sprintf(
				"%sHost: mcp.example.com\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s",
				c.request, token, len(c.body), c.body)
			if _, err := io.WriteString(conn, request); err != nil {
				t.Fatal(err)
			}
			status, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil || !strings.HasPrefix(status, "HTTP/1.1 200") {
				t.Errorf("the answer is %q (%v), want the server's own, by HTTP/1.1", status, err)
			}
		})
	}
}

func TestLimitRate(t *testing.T) {
	w := newWorld(t, func(c *guard.Config) { c.Scopes = scope.Of("mcp:tools:*"); c.DefaultScopes = nil })
	var reached counter
	handler := w.Guard.Protect(w.Guard.LimitRate(guard.RateLimits{
		Tiers: []guard.Tier{{"mcp:tools:premium", guard.Rate{Requests: 4, Per: time.Minute}},
			{"mcp:tools:basic", guard.Rate{Requests: 2, Per: time.Minute}}},
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
		{"a budget is used up", token("kim", "c1", "mcp:tools:premium"), 4},
		{"a token of another tier does not add a second budget", token("kim", "c1", "mcp:tools:basic"), 0},
		{"nor does one of no tier", token("kim", "c1", ""), 0},
	} {
		if got := allowed(c.token); got != c.want {
			t.Errorf("%s: %d requests", c.name, got)
		}
	}
	t.Run("half a budget is half a budget in every tier", func(t *testing.T) {
		if resp := ask(handler, token("lea", "c1", "mcp:tools:basic")); resp.Code != 200 {
			t.Fatal(resp.Code)
		}
		if got := allowed(token("lea", "c1", "mcp:tools:premium")); got != 2 {
			t.Errorf("%d of 4 requests", got)
		}
	})
	resp := ask(handler, token("ada", "c1", "mcp:tools:*"))
	want := map[string]any{"error": "rate_limit_exceeded",
		"error_description": "Too many requests from this client; Retry-After says how many seconds to wait."}
	diff := cmp.Diff(want, body(t, resp))
	if diff != "" || resp.Code != 429 || resp.Header().Get("Retry-After") != "15" {
		t.Errorf("%d, Retry-After %s %s", resp.Code, resp.Header().Get("Retry-After"), diff)
	}
	w.Advance(15 * time.Second)
	if got := allowed(token("ada", "c1", "mcp:tools:*")); got != 1 {
		t.Errorf("%d requests after a quarter of the time", got)
	}

	t.Run("a zero rate refuses everything", func(t *testing.T) {
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
		if from("[2001:db8::1]:1") != 200 || from("[2001:db8::2:3]:1") != 429 || from("[2001:db8:0:1::1]:1") != 200 {
			t.Error("addresses of one IPv6 network do not count as one")
		}
	})
	t.Run("many clients do not fill the memory", func(t *testing.T) {
		handler := w.Guard.LimitRate(guard.RateLimits{Default: guard.Rate{Requests: 1, Per: time.Hour},
			Clients: 2})(&reached)
		from := func(address string) int {
			return ask(handler, "", func(r *http.Request) { r.RemoteAddr = address }).Code
		}
		if from("a") != 200 || from("b") != 200 || from("c") != 200 || from("c") != 429 || from("a") != 200 {
			t.Error("the first was not forgotten, or the last was")
		}
	})
}

// mallocs returns the number of allocations of a verification: few for a cached token, many for another one.
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
	// fetches the keys
	if _, err := w.Guard.Verify(t.Context(), w.Token(guardtest.Claims{Audience: resource})); err != nil {
		t.Fatal(err)
	}
	tokens := make([]string, 3)
	for i := range tokens {
		tokens[i] = w.Token(guardtest.Claims{Audience: resource})
	}
	// least leaves out what the rest of the process allocates meanwhile.
	least := func() (n uint64) {
		n = math.MaxUint64
		for _, token := range tokens {
			n = min(n, mallocs(t, w, token))
		}
		return n
	}
	first, again := least(), least()
	if again*4 > first {
		t.Errorf("%d allocations, and again %d", first, again)
	}
	for n := range 50 {
		_, err := w.Guard.Verify(t.Context(), w.Token(guardtest.Claims{Audience: fmt.Sprint("https://other/", n)}))
		if err == nil {
			t.Fatal("accepted")
		}
	}
	if got := least(); got*4 > first {
		t.Errorf("tokens that were refused pushed the good ones out: %d allocations", got)
	}
	for range 5 {
		if _, err := w.Guard.Verify(t.Context(), w.Token(guardtest.Claims{Audience: resource})); err != nil {
			t.Fatal(err)
		}
	}
	if got := least(); got*2 < first {
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
		{"mcp:tools:email:send mcp:tools:calendar:read",
			[]string{"calendar:events:read", "contacts:read", "email:send"}},
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
	ask(handler,
		w.Token(guardtest.Claims{Audience: resource, Subject: "ada", ClientID: "c1", ID: "grt_1.x", Scope: "a b"}),
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
	who := map[string]any{"msg": "mcp_tool_access", "level": "INFO", "user_id": "ada", "issuer": w.URL,
		"client_id": "c1", "token_id": "grt_1.x", "tool_name": "get_forecast", "scopes": "a b", "success": true,
		"ip_address": "192.0.2.1", "user_agent": "agent/1"}
	failed := map[string]any{}
	for k, v := range who {
		failed[k] = v
	}
	failed["level"], failed["tool_name"], failed["success"], failed["error"] =
		"WARN", "send_email\n", false, "unexpected EOF"
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
		{"a foreign signature",
			w.Sign(map[string]any{"kid": "x"}, map[string]any{"iss": w.URL, "aud": resource, "exp": w.Now().Unix() + 60,
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
		if got.Claims["sub"] != "ada" || got.Header["typ"] != "at+jwt" ||
			!cmp.Equal(faults(got), []string{"signature"}) {
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
		got := w2.Guard.Explain(t.Context(), token)
		if !cmp.Equal(faults(got), []string{"signature"}) || !strings.Contains(got.String(), "503") {
			t.Error(got)
		}
	})
}
