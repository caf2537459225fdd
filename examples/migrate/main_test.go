package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/declare"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

const want = `version: 1
resources:
  - identifier: https://mcp.example.com/mcp
    name: Calendar
    access_token_ttl: 300s
    refresh_idle_ttl: 86400s
    token_shape: lists
    scopes:
      - name: mcp:tools:calendar:read
        description: Read your calendar
      - name: mcp:tools:calendar:write
        description: 'Change your calendar: add, move, delete'
  - identifier: https://stock.example.com
    name: Stock
    access_token_ttl: 86400s
    token_shape: lists
    scopes:
      - name: mcp:tools:inventory:check
clients:
  - client_id: mcp_m2m_2001
    client_name: Nightly report
    grant_types: [client_credentials]
    resources:
      - https://stock.example.com
    scope: mcp:tools:inventory:check
    access_token_ttl: 600s
  - client_id: mcp_m2m_2002
    client_name: Assistant
    grant_types: [authorization_code, refresh_token]
    redirect_uris:
      - https://app.example.com/callback
    resources:
      - https://mcp.example.com/mcp
`

const wantNotes = `note: the scope mcp:tools:old of https://mcp.example.com/mcp is left out, because it is not enabled
note: access tokens of https://stock.example.com live for 24h, because longer ones cannot be served
note: https://stock.example.com turned away clients that register themselves; registration.dcr does so for all servers
note: the claims that tokens of m2m_2001 have in addition are left out
note: the client m2m_2001 is now mcp_m2m_2001; make its secret with: cardea client rotate-secret mcp_m2m_2001
note: the client m2m_2002 is now mcp_m2m_2002; make its secret with: cardea client rotate-secret mcp_m2m_2002
note: clients that registered themselves or have a metadata document come back by themselves; left out: 1
`

// What it writes is what cardea apply makes, and what is then exported, but for defaults.
func TestMigrate(t *testing.T) {
	var out, notes bytes.Buffer
	if err := run([]string{"testdata/clients.json", "testdata/servers.json"}, &out, &notes); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("file (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantNotes, notes.String()); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	file, err := declare.Read(out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	db, _ := storetest.Open(t, storetest.SQLite)
	o := &admin.Operations{DB: db, Issuer: "https://auth.example.com", SigningAlg: "ES256"}
	root := admin.Command("root", "root@host")
	for _, changes := range []int{4, 0} {
		done, err := declare.Apply(t.Context(), o, root, file, declare.Options{Secrets: true})
		if err != nil || len(done.Changes) != changes {
			t.Errorf("applied: %+v, %v; want %d changes", done, err, changes)
		}
	}
	r, err := o.Resource(t.Context(), root, "https://mcp.example.com/mcp")
	if err != nil || r.TokenShape != "lists" || r.AccessTokenTTL.String() != "5m" || len(r.Scopes) != 2 {
		t.Errorf("made %+v, %v", r, err)
	}
}

// What it cannot read it names, with all faults at once, and it writes no file.
func TestMigrateFaults(t *testing.T) {
	const servers = `{"resources": [{"id": "res_1", "name": "A", "resource_uri": "https://a.example"}]}`
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"no JSON", "a: b", []string{"in.json: line 1: it is not JSON: invalid character 'a'",
			"save the answer of the API"}},
		{"cut off", "{\n\"resources\": [\n", []string{"line 3: it is not JSON: unexpected end"}},
		{"a list", "[]", []string{"it is a JSON array, not an object"}},
		{"an error answer", `{"code": 5, "message": "not found"}`, []string{"it has neither resources nor clients"}},
		{"a page", `{"resources": [], "next_page_token": "x"}`, []string{"it is one page of several"}},
		{"another kind", "{\"clients\":\n[{\"scopes\": \"a\"}]}", []string{"line 2: clients.scopes is a JSON string"}},
		{"no time", `{"resources": [{"access_token_expiry": "1h"}]}`, []string{`"1h" is not a number of seconds`}},
		{"no URL", `{"resources": [{"id": "res_1", "name": "A"}, {"id": "res_2", "name": "B", "resource_uri": "b"}]}`,
			[]string{
				"the server res_1 (A): resource_uri is missing", `the server res_2 (B): resource_uri "b" is not the URL of`}},
		{"twice", servers[:len(servers)-2] + "," + servers[len(`{"resources": [`):], []string{
			"the server res_1 (A): another one has the resource_uri https://a.example"}},
		{"clients alone", `{"clients": [{"client_id": "m2m_1", "name": "B", "resource_id": "res_1"}, {"name": "C"}]}`,
			[]string{
				`the client m2m_1 (B): no file has its server "res_1"; give the file that lists the servers, too`,
				"a client (C) has no client_id"}},
		{"a client twice", servers[:len(servers)-1] + `, "clients": [` +
			`{"client_id": "m/1", "resource_id": "res_1"}, {"client_id": "m:1", "resource_id": "res_1"}]}`,
			[]string{"the client m:1 () is there twice"}},
	} {
		file := filepath.Join(t.TempDir(), "in.json")
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err := run([]string{file}, &out, &bytes.Buffer{})
		if err == nil || out.Len() > 0 {
			t.Errorf("%s: %v, wrote %q", tt.name, err, &out)
			continue
		}
		for _, part := range tt.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v; want %s", tt.name, err, part)
			}
		}
	}
	if err := run([]string{"missing.json"}, &bytes.Buffer{}, &bytes.Buffer{}); err == nil ||
		err.Error() != "missing.json: no such file or directory" {
		t.Error(err)
	}
}
