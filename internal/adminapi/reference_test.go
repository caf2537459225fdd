package adminapi_test

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/adminapi"
)

var update = flag.Bool("update", false, "write docs/admin-api-reference.md")

// schema holds the parts of a JSON schema of the document that the reference prints.
type schema struct {
	Ref         string `json:"$ref"`
	Type        any    // a name, or several
	Format      string
	Description string
	Enum        []any
	Properties  map[string]schema
	Required    []string
	Items       *schema
	Additional  any `json:"additionalProperties"`
}

type operation struct {
	Summary    string
	Parameters []struct {
		Name, In, Description string
		Required              bool
		Schema                schema
	}
	Security    []map[string][]string
	RequestBody *struct {
		Required bool
		Content  map[string]struct{ Schema schema }
	}
	Responses map[string]struct {
		Content map[string]struct{ Schema schema }
	}
	Destructive bool `json:"x-destructive"`
}

// reference writes the page.
type reference struct {
	strings.Builder
	schemas map[string]schema
	told    map[string]string // the operation that has told a schema, by its JSON
}

// The reference of the Admin API is that of the OpenAPI document.
func TestReference(t *testing.T) {
	const path = "../../docs/admin-api-reference.md"
	var document struct {
		Paths      map[string]map[string]operation
		Components struct{ Schemas map[string]schema }
	}
	if err := json.Unmarshal(adminapi.Document("https://auth.example.com"), &document); err != nil {
		t.Fatal(err)
	}
	r := reference{schemas: document.Components.Schemas, told: map[string]string{}}
	r.WriteString(`<!-- Made by: go test ./internal/adminapi -run '^TestReference$' -update -->

# Reference of the Admin API

Every operation of ` + "`ISSUER" + adminapi.Prefix + "`" + `, from the OpenAPI document that a server has at ` +
		"`ISSUER/admin/api/openapi.json`" + `. The guide to the
[Admin API](guides/admin-api.md) says how to get a token, and what lists, ETags and idempotency keys are. [Agents](guides/administer-by-agent.md)
have each operation as a tool.

A refusal is ` + "`application/problem+json`" + ` with ` + "`title`, `status`, `detail`, `error`" + ` and, for what was sent, ` +
		"`errors`" + `:

| status | when |
|---|---|
| 400 | the request cannot be read: an unknown parameter, no JSON, a cursor of another list |
| 401 | there is no access token for ` + "`ISSUER/admin/api`" + `, or it has expired or ended |
| 403 | the token lacks a scope, which ` + "`WWW-Authenticate`" + ` names; or the role of its person does not allow it |
| 404 | there is no such thing |
| 409 | it conflicts with what there is, such as a name that is taken |
| 412 | it was changed since the ` + "`ETag`" + ` of ` + "`If-Match`" + ` |
| 415 | the body is not JSON |
| 422 | a member of the body is wrong; ` + "`errors[].location`" + ` says which |
| 429, 503 | too many requests, or the database is away; ` + "`Retry-After`" + ` says how long to wait |
`)
	noun := ""
	for _, s := range adminapi.Specs() {
		if string(s.Noun) != noun {
			noun = string(s.Noun)
			fmt.Fprintf(&r, "\n## %s\n", strings.ToUpper(noun[:1])+strings.ReplaceAll(noun[1:], "_", " "))
		}
		o, known := document.Paths[s.Path][strings.ToLower(s.Method)]
		if !known {
			t.Errorf("the document lacks %s %s", s.Method, s.Path)
		}
		r.operation(s, o)
	}
	made := r.String()
	if *update {
		if err := os.WriteFile(path, []byte(made), 0o644); err != nil { // #nosec G306 -- a page of the documentation
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(text), made); diff != "" {
		t.Errorf("the page is not that of the document; make it with: go test ./internal/adminapi -run "+
			"'^TestReference$' -update\n%s", diff)
	}
}

func (r *reference) operation(s *adminapi.Spec, o operation) {
	fmt.Fprintf(r, "\n### %s %s\n\n%s", s.Method, s.Path, o.Summary)
	if o.Destructive {
		r.WriteString(" It cannot be undone.")
	}
	fmt.Fprintf(r, "\n\nTool of agents: `%s`. Scope: ", s.Name())
	for i, alternative := range o.Security {
		if i > 0 {
			r.WriteString(", or ")
		}
		fmt.Fprintf(r, "`%s`", strings.Join(alternative["token"], "` and `"))
	}
	r.WriteString(".\n")
	if len(o.Parameters) > 0 {
		r.WriteString("\n| parameter | in | type | |\n|---|---|---|---|\n")
		for _, p := range o.Parameters {
			fmt.Fprintf(r, "| `%s` | %s | %s | %s |\n", p.Name, p.In, kind(p.Schema),
				cell(cmp.Or(p.Description, p.Schema.Description)))
		}
	}
	if o.RequestBody != nil {
		heading := "Body"
		if !o.RequestBody.Required {
			heading = "Body, which may be left out"
		}
		r.members(s, heading, r.resolve(o.RequestBody.Content["application/json"].Schema), true)
	}
	for _, status := range slices.Sorted(maps.Keys(o.Responses)) {
		if status == "default" {
			continue
		}
		answer := r.resolve(o.Responses[status].Content["application/json"].Schema)
		heading := "Answer " + status
		if items, isList := answer.Properties["items"]; isList && items.Items != nil {
			answer, heading = *items.Items, heading+": `next` and `items`, each"
		}
		r.members(s, heading, answer, false)
	}
}

// members tells the members of an object, once.
func (r *reference) members(s *adminapi.Spec, heading string, of schema, sent bool) {
	canonical, _ := json.Marshal(of) // it came from JSON
	if before, told := r.told[string(canonical)]; told && len(of.Properties) > 3 {
		fmt.Fprintf(r, "\n%s with the members of %s.\n", heading, before)
		return
	}
	r.told[string(canonical)] = fmt.Sprintf("`%s %s`", s.Method, s.Path)
	if len(of.Properties) == 0 {
		fmt.Fprintf(r, "\n%s: %s.\n", heading, kind(of))
		return
	}
	fmt.Fprintf(r, "\n%s:\n\n| member | type | |\n|---|---|---|\n", heading)
	r.rows("", of, sent)
}

func (r *reference) rows(prefix string, of schema, sent bool) {
	for _, name := range slices.Sorted(maps.Keys(of.Properties)) {
		member := r.resolve(of.Properties[name])
		words := member.Description
		if sent && slices.Contains(of.Required, name) {
			words = strings.TrimSuffix("required; "+words, "; ")
		}
		fmt.Fprintf(r, "| `%s%s` | %s | %s |\n", prefix, name, kind(member), cell(words))
		inner, dots := member, "."
		if member.Items != nil {
			inner, dots = r.resolve(*member.Items), "[]."
		}
		if len(inner.Properties) > 0 {
			r.rows(prefix+name+dots, inner, sent)
		}
	}
}

func (r *reference) resolve(s schema) schema {
	if name, isRef := strings.CutPrefix(s.Ref, "#/components/schemas/"); isRef {
		return r.schemas[name]
	}
	return s
}

// kind returns the type of a schema in words.
func kind(s schema) string {
	name := ""
	switch of := s.Type.(type) {
	case string:
		name = of
	case []any:
		for _, one := range of {
			if one != "null" {
				name = fmt.Sprint(one)
			}
		}
	}
	switch {
	case len(s.Enum) > 0:
		values := make([]string, len(s.Enum))
		for i, v := range s.Enum {
			values[i] = fmt.Sprintf("`%v`", v)
		}
		return strings.Join(values, ", ")
	case name == "array" && s.Items != nil:
		return "list of " + kind(*s.Items)
	case s.Format == "date-time":
		return "time"
	}
	return cmp.Or(name, "any")
}

// cell returns words as they stand in a table.
func cell(words string) string { return strings.ReplaceAll(words, "|", "\\|") }
