package adminapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/server/servertest"
)

// A program adds a server with its tools, and reviews them, as the command does.
func TestToolsOfServer(t *testing.T) {
	s := servertest.Start(t)
	ops := program(t, s, "cardea:resources:write")
	made := ops.call("POST", "/resources/add", `{"identifier":"https://gw.example.com/files","name":"Files",`+
		`"tools":[{"name":"read_file","annotations":{"readOnlyHint":true},`+
		`"inputSchema":{"maximum":12345678901234567890}}]}`)
	if made.Status != http.StatusCreated || !strings.Contains(string(made.Body), `"mcp:tools:files:read"`) {
		t.Fatalf("add: %d %s", made.Status, made.Body)
	}
	id := made.JSON()["resource"].(map[string]any)["id"].(string)
	tool := func(r *servertest.Reply) map[string]any {
		t.Helper()
		if r.Status != http.StatusOK {
			t.Fatalf("%d %s", r.Status, r.Body)
		}
		return r.JSON()["tools"].([]any)[0].(map[string]any)
	}
	// The same, written in another way.
	same := ops.call("POST", "/resources/"+id+"/review", `{"seen":[{"inputSchema":{"maximum":12345678901234567890},`+
		`"annotations":{"readOnlyHint":true},"name":"read_file"}]}`)
	if tool(same)["state"] != "reviewed" {
		t.Errorf("%s", same.Body)
	}
	changed := tool(ops.call("POST", "/resources/"+id+"/review", `{"seen":[{"name":"read_file"}]}`))
	if changed["state"] != "changed" || len(changed["differences"].([]any)) != 2 {
		t.Errorf("%v", changed)
	}
	read := tool(ops.call("GET", "/resources/"+id+"/tools", ""))
	stale := ops.call("POST", "/resources/"+id+"/review", `{"accept":[{"name":"read_file","hash":"sha256:0"}]}`)
	if stale.Status != http.StatusUnprocessableEntity || !strings.Contains(string(stale.Body), "read it again") {
		t.Errorf("another definition: %d %s", stale.Status, stale.Body)
	}
	accepted := tool(ops.call("POST", "/resources/"+id+"/review",
		`{"accept":[{"name":"read_file","hash":"`+read["seen_hash"].(string)+`"}]}`))
	if accepted["state"] != "reviewed" {
		t.Errorf("%v", accepted)
	}
	for body, want := range map[string]string{
		`{"identifier":"https://a.example"}`:                                                    "is missing",
		`{"identifier":"https://a.example","tools":[7]}`:                                        "not an object",
		`{"identifier":"https://a.example","tools":[{"name":"a"}],"tool_risks":{"a":"none"}}`:   "the risk must be one of",
		`{"identifier":"https://a.example","tools":[{"name":"a"}],"tool_scopes":{"b":["x"]}}`:   "has no tool",
		`{"identifier":"https://a.example","tools":[{"name":"a"}],"tool_scopes":{"a":["x y"]}}`: "is not a scope name",
		`{"identifier":"http://a.example","tools":[]}`:                                          "must use https",
		`{"identifier":"https://a.example","tools":[{"name":"a","n\u0061me":"b"}]}`:             "more than once",
	} {
		if r := ops.call("POST", "/resources/add", body); r.Status/100 != 4 || !strings.Contains(string(r.Body), want) {
			t.Errorf("%s: %d %s", body, r.Status, r.Body)
		}
	}
}
