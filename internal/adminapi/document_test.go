package adminapi_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"github.com/cardea-auth/cardea/internal/adminapi"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/server/servertest"
)

// The document is OpenAPI 3.1, has every operation, and describes what is sent and answered as it is: for each role,
// for a program with each scope, and for a caller with none.
func TestDocument(t *testing.T) {
	s := servertest.StartMCP(t)
	reply := s.Agent(t, nil).Get("/admin/api/openapi.json")
	document, err := libopenapi.NewDocument(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	checker, faults := validator.NewValidator(document)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if ok, faults := checker.ValidateDocument(); !ok {
		for _, fault := range faults {
			t.Errorf("%s: %s", fault.Message, fault.Reason)
			for _, e := range fault.SchemaValidationErrors {
				t.Errorf("  %s: %s", e.FieldPath, e.Reason)
			}
		}
	}
	paths := reply.JSON()["paths"].(map[string]any)
	ops := program(t, s, "cardea:*")
	p := s.User("ada@example.com")
	ops.call("POST", "/groups", `{"name":"staff"}`)
	ops.call("PUT", "/groups/staff/members/ada@example.com", "")
	resource := ops.call("GET", "/resources", "").JSON()["items"].([]any)[0].(map[string]any)["id"].(string)
	agent := s.Agent(t, s.Client())
	agent.Connect(s.Browser(t), p)
	grant := ops.call("GET", "/grants", "").JSON()["items"].([]any)[0].(map[string]any)["id"].(string)
	event := ops.call("GET", "/events", "").JSON()["items"].([]any)[0].(map[string]any)["id"].(string)
	iat := ops.call("POST", "/initial_access_tokens", `{"name":"CI"}`).Text("id")
	ids := map[string]string{"resources": resource, "clients": agent.ClientID, "users": "ada@example.com",
		"grants": grant,
		"events": event, "initial_access_tokens": iat}
	callers := map[string]string{"nobody": "", "a program": ops.token}
	for _, role := range []identity.Role{identity.Owner, identity.Operator, identity.Auditor, ""} {
		callers["a person whose role is "+string(role)] = personal(t, s, role, "cardea:*").token
	}
	for _, held := range []string{"resources:read", "clients:write", "users:read", "groups:write", "grants:read",
		"sessions:write",
		"keys:read", "events:read", "settings:read"} {
		callers["a program with "+held] = program(t, s, "cardea:"+held).token
	}
	for _, spec := range adminapi.Specs() {
		methods, ok := paths[spec.Path].(map[string]any)
		if !ok || methods[strings.ToLower(spec.Method)] == nil {
			t.Errorf("%s %s is not in the document", spec.Method, spec.Path)
			continue
		}
		id := ids[string(spec.Noun)]
		if spec.Writes || id == "" { // so that nothing that the next operation needs is ended
			id = "nothing"
		}
		path := strings.NewReplacer("{id}", url.PathEscape(id), "{kid}", "nothing", "{name}", "staff", "{user}",
			"nobody").Replace(spec.Path)
		if spec.Destroys || spec.Method == http.MethodDelete {
			path = strings.ReplaceAll(path, "staff", "nothing")
		}
		body := ""
		if spec.Required != "" {
			body = "{}"
		}
		if spec.Name() == "token_inspect" {
			body = `{"token":"` + ops.token + `"}`
		}
		t.Run(spec.Name(), func(t *testing.T) {
			for name, token := range callers {
				r, err := http.NewRequestWithContext(t.Context(), spec.Method, s.URL+"/admin/api/v1"+path,
					strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				if body != "" {
					r.Header.Set("Content-Type", "application/json")
				}
				if token != "" {
					r.Header.Set("Authorization", "Bearer "+token)
				}
				response, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				if response.StatusCode >= 500 {
					t.Errorf("%s: %d", name, response.StatusCode)
				}
				if ok, faults := checker.ValidateHttpResponse(r, response); !ok {
					for _, fault := range faults {
						t.Errorf("%s, %d: %s: %s", name, response.StatusCode, fault.Message, fault.Reason)
						for _, e := range fault.SchemaValidationErrors {
							t.Errorf("  %s: %s", e.FieldPath, e.Reason)
						}
					}
				}
				_ = response.Body.Close()
			}
		})
	}
}
