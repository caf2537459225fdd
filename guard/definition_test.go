package guard_test

import (
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/guard"
)

// The hash of a tool is that of what it says, not of how it is written.
func TestParseDefinition(t *testing.T) {
	const tool = `{"name":"read_file","description":"Reads <a> file","inputSchema":{"type":"object","properties":{` +
		`"path":{"type":"string"},"lines":{"maximum":1e3}}},"annotations":{"readOnlyHint":true}}`
	hash := func(item string) string {
		t.Helper()
		d, err := guard.ParseDefinition([]byte(item))
		if err != nil || d.Name != "read_file" || !strings.HasPrefix(d.Hash, "sha256:") {
			t.Fatalf("%v %q %q", err, d.Name, d.Hash)
		}
		return d.Hash
	}
	same := hash(tool)
	for _, item := range []string{
		`{ "annotations" : {"readOnlyHint":true}, "inputSchema":{"properties":{"lines":{"maximum":1e3},` +
			`"path":{"type":"string"}},"type":"object"}, "description":"Reads \u003ca> file", "name":"read_file"}`,
	} {
		if hash(item) != same {
			t.Errorf("another order has another hash: %s", item)
		}
	}
	for _, change := range [][2]string{
		{`"readOnlyHint":true`, `"readOnlyHint":false`}, {`,"annotations":{"readOnlyHint":true}`, ``},
		{`"path"`, `"Path"`}, {`a> file`, `a> file `}, {`"object"`, `"object","required":["path"]`},
		{`}}`, `}},"_meta":{"ui":"evil"}`},
	} {
		if changed := strings.Replace(tool, change[0], change[1], 1); changed == tool || hash(changed) == same {
			t.Errorf("%s: the same hash", changed)
		}
	}
	for _, item := range []string{``, `[]`, `"read_file"`, `{}`, `{"name":""}`, `{"name":7}`, `{"name":"a","name":"b"}`,
		`{"name":"a","n\u0061me":"b"}`, `{"name":"a"}{}`, strings.Repeat(`{"a":`, 200) + `1` + strings.Repeat(`}`, 200),
		"{\"name\":\"\xff\"}"} {
		if d, err := guard.ParseDefinition([]byte(item)); err == nil {
			t.Errorf("%.40s: %q", item, d.Name)
		}
	}
}
