package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// taskServer is an MCP server that makes a task of each call and lists all tasks to everybody.
func taskServer(kind, result string) http.HandlerFunc {
	var made atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		var m struct {
			ID     json.RawMessage
			Method string
		}
		_ = json.NewDecoder(r.Body).Decode(&m)
		body := `{"ok":true}`
		switch m.Method {
		case "tools/call":
			body = fmt.Sprintf(result, made.Add(1))
		case "tasks/list":
			body = `{"tasks":[{"taskId":"t1","x":1.0},{"taskId":"t2"},{"taskId":"t3"}]}`
		}
		body = fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, body)
		if kind == "text/event-stream" {
			body = "id: 1\ndata:\n\ndata: " + body + "\n\n"
		}
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write([]byte(body))
	}
}

func TestItem39Tasks(t *testing.T) {
	for _, kind := range []string{"application/json", "text/event-stream"} {
		w := start(t, two, taskServer(kind, `{"task":{"taskId":"t%d","status":"working"}}`))
		ada, eve := w.as("ada", "/files", "files:read"), w.as("eve", "/files", "files:read")
		task := func(method, id string) string {
			return `{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":{"taskId":"` + id + `"}}`
		}
		for _, token := range []string{ada, eve} {
			r := w.post("/files", token,
				`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_file","task":{"ttl":1000}}}`)
			if !strings.Contains(r.body, "taskId") {
				t.Fatalf("%d %s", r.status, r.body)
			}
		}
		for _, method := range []string{"tasks/get", "tasks/result", "tasks/cancel"} {
			if r := w.post("/files", ada, task(method, "t1")); r.code() != 0 || !strings.Contains(r.body, "ok") {
				t.Errorf("%s, its own: %d %s", method, r.status, r.body)
			}
			hits := w.server.hits()
			for name, r := range map[string]reply{
				"another person's": w.post("/files", eve, task(method, "t1")),
				"unknown":          w.post("/files", ada, task(method, "t9")),
				"another route":    w.post("/other", w.as("ada", "/other", "files:read"), task(method, "t1")),
			} {
				if r.code() != -32602 || w.server.hits() != hits {
					t.Errorf("%s, %s: %d %s", method, name, r.status, r.body)
				}
			}
		}
		r := w.post("/files", ada, `{"jsonrpc":"2.0","id":1,"method":"tasks/list"}`)
		if !strings.Contains(r.body, `{"tasks":[{"taskId":"t1","x":1.0}]}`) {
			t.Errorf("list: %d %s", r.status, r.body)
		}
	}
}

// No list shows tasks of others because a lenient client reads it in another way than the gateway.
func TestItem39ListsReadOtherwise(t *testing.T) {
	const list = `{"jsonrpc":"2.0","id":1,"result":{"tasks":[{"taskId":"t2"}]}}`
	for name, text := range map[string]string{
		"tasks": list, "Tasks": strings.Replace(list, `"tasks"`, `"Tasks"`, 1),
		"a NUL":     strings.Replace(list, `"tasks"`, `"tasks\u0000"`, 1),
		"a long s":  strings.Replace(list, `"tasks"`, `"taskſ"`, 1),
		"Result":    strings.Replace(list, `"result"`, `"Result"`, 1),
		"two lists": strings.Replace(list, `"tasks"`, `"tasks":[],"tasks"`, 1),
		"two ids":   strings.Replace(list, `"taskId":"t2"`, `"taskId":"t2","TaskID":"t1"`, 1),
	} {
		for _, kind := range []string{"application/json", "text/event-stream"} {
			w := start(t, two, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var m struct{ Method string }
				_ = json.NewDecoder(r.Body).Decode(&m)
				body := text
				if m.Method == "tools/call" {
					body = `{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"t1","status":"working"}}}`
				}
				if kind == "text/event-stream" {
					body = "data: " + body + "\n\n"
				}
				answering(kind, body)(w, r)
			}))
			ada := w.as("ada", "/files", "files:read")
			w.post("/files", ada,
				`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_file","task":{"ttl":1000}}}`)
			r := w.post("/files", ada, `{"jsonrpc":"2.0","id":1,"method":"tasks/list"}`)
			if strings.Contains(r.body, "t2") {
				t.Errorf("%s, %s: %d %s", name, kind, r.status, r.body)
			}
		}
	}
}

// A batch may ask for the lists of tasks and of tools at once; each is filtered.
func TestItem39TasksInBatches(t *testing.T) {
	const answer = `[{"jsonrpc":"2.0","id":1,"result":{"tasks":[{"taskId":"t2"}]}},` +
		`{"jsonrpc":"2.0","id":2,"result":{"tools":[{"name":"read_file"},{"name":"secret"}]}}]`
	each := "data: " + strings.Replace(answer[1:len(answer)-1], "},{\"jsonrpc", "}\n\ndata: {\"jsonrpc", 1) + "\n\n"
	for kind, body := range map[string]string{
		"application/json": answer, "text/event-stream": "data: " + answer + "\n\n", "text/event-stream; x=y": each,
	} {
		w := start(t, two, answering(kind, body))
		for _, version := range []string{"", "2025-03-26"} {
			r := w.post("/files", w.as("ada", "/files", "files:read"),
				`[{"jsonrpc":"2.0","id":1,"method":"tasks/list"},{"jsonrpc":"2.0","id":2,"method":"tools/list"}]`,
				"Mcp-Protocol-Version", version)
			if !strings.Contains(r.body, "read_file") || !strings.Contains(r.body, `"tasks":[]`) ||
				strings.Contains(r.body, "secret") || strings.Contains(r.body, "t2") {
				t.Errorf("%s: %d %s", kind, r.status, r.body)
			}
		}
	}
}

// A list that comes in a stream that its client opens later shows no tasks of others either.
func TestItem39ResumedLists(t *testing.T) {
	w := start(t, two, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := `{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"t1","status":"working"}}}`
		if r.Method == http.MethodPost {
			answering("application/json", text)(w, r)
			return
		}
		answering("text/event-stream", "data: "+text+"\n\n"+
			`data: {"jsonrpc":"2.0","id":2,"result":{"tasks":[{"taskId":"t1"},{"taskId":"t2"}]}}`+"\n\n"+
			`data: {"jsonrpc":"2.0","id":2,"result":{"Tasks":[{"taskId":"t3"}]}}`+"\n\n")(w, r)
	}))
	r := w.send("GET", "/files", w.as("ada", "/files", "files:read"), "", "Accept", "text/event-stream")
	if !strings.Contains(r.body, `{"tasks":[{"taskId":"t1"}]}`) || strings.Contains(r.body, "t2") ||
		strings.Contains(r.body, "t3") {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestItem39TaskExtension(t *testing.T) {
	w := start(t, files, taskServer("application/json", `{"resultType":"task","taskId":"t%d","status":"working"}`))
	ada := w.as("ada", "/files", "files:read")
	takes := strings.Replace(meta, `Capabilities":{}`,
		`Capabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}`, 1)
	w.post("/files", ada, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{`+takes+`,"name":"read_file"}}`,
		modern("tools/call", "read_file")...)
	get := `{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{` + takes + `,"taskId":"t1"}}`
	if r := w.post("/files", ada, get, modern("tasks/get", "t1")...); r.status != http.StatusOK {
		t.Errorf("its own: %d %s", r.status, r.body)
	}
	if r := w.post("/files", w.as("eve", "/files", "files:read"), get,
		modern("tasks/get", "t1")...); r.status != http.StatusBadRequest || r.code() != -32602 {
		t.Errorf("another person's: %d %s", r.status, r.body)
	}
}
