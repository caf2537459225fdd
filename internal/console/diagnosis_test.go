package console_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/server/servertest"
)

// An operator has an MCP server looked at from here: the page says what is wrong and whom that keeps out, and the event
// says that the operator did so. Others are refused.
func TestDiagnosis(t *testing.T) {
	s := servertest.StartMCP(t)
	asked := 0
	mcp := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; r.URL.Path == "/mcp" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.NotFound(w, r)
	}))
	defer mcp.Close()
	o := &admin.Operations{DB: s.DB, Issuer: s.URL}
	r, err := o.CreateResource(t.Context(), root, admin.NewResource{Identifier: mcp.URL + "/mcp"})
	if err != nil {
		t.Fatal(err)
	}
	b := staff(t, s, identity.Operator)
	page := b.Get("/admin/servers/" + r.ID + "/diagnose")
	says(t, page, 200, "looks at the MCP server from outside", "cardea doctor "+r.Identifier)
	if asked > 0 {
		t.Error("it looks before it is asked to")
	}
	page = page.Submit(page.Form("csrf"))
	says(t, page, 200, "BROKEN: no client can connect", "401 without WWW-Authenticate", "How to mend it",
		"the MCP server",
		"there is no metadata of the resource", "Diagnose again")
	events := s.Events("resource.diagnose")
	if len(events) != 1 || events[0].Resource != r.Identifier || events[0].Actor.Type != "user" ||
		!strings.Contains(events[0].Sentence(audit.Names{}), "diagnosed the MCP server") {
		t.Errorf("events %+v", events)
	}
	if page := staff(t, s, identity.Auditor).Get("/admin/servers/" + r.ID + "/diagnose"); page.Status != http.StatusForbidden {
		t.Errorf("status %d for an auditor", page.Status)
	}
}
