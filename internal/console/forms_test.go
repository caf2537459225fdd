package console_test

import (
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
)

var root = admin.Command("root", "root@host")

// What the API can set of an MCP server and its scopes, a form sets too, and shows when it is opened again.
func TestServerFields(t *testing.T) {
	s := servertest.StartMCP(t)
	o := &admin.Operations{DB: s.DB, Issuer: s.URL}
	for _, name := range []string{"staff", "finance"} {
		if _, err := o.CreateGroup(t.Context(), root, name, admin.GroupTerms{}); err != nil {
			t.Fatal(err)
		}
	}
	b := staff(t, s, identity.Operator)
	page := b.Get("/admin/servers/new")
	page = page.Submit(page.Form("identifier"), servertest.With("identifier", "https://pay.example.com/mcp"),
		servertest.With("scope-name-0", "mcp:tools:pay"), servertest.With("scope-risk-0", "act"),
		servertest.With("scope-groups-0", "finance"), servertest.With("groups", "staff, finance"),
		servertest.With("token_groups", "on"), servertest.With("token_shape", "lists"),
		servertest.With("second_factor", "on"),
		servertest.With("access_token_ttl", "5m"), servertest.With("refresh_idle_ttl", "24h"),
		servertest.With("refresh_max_ttl", "48h"))
	says(t, page, 200, "only for members of finance", "with two factors",
		"in which groups the person is", "scopes</code> as lists", "24h", "48h")
	check := func(what string, idle string) {
		t.Helper()
		r, err := o.Resource(t.Context(), root, "https://pay.example.com/mcp")
		if err != nil || strings.Join(r.Groups, " ") != "finance staff" || !r.TokenGroups ||
			r.TokenShape != "lists" || !r.SecondFactor ||
			r.AccessTokenTTL.String() != "5m" || r.RefreshIdleTTL.String() != idle ||
			r.RefreshMaxTTL.String() != "48h" ||
			strings.Join(r.Scopes[0].Groups, " ") != "finance" || r.Scopes[0].Risk != "act" {
			t.Errorf("%s: %+v %v", what, r, err)
		}
	}
	check("created", "24h")
	edit := page.Links()
	for _, link := range edit {
		if strings.HasSuffix(link, "/edit") {
			page = b.Get(link)
		}
	}
	bad := page.Submit(page.Form("name"), servertest.With("refresh_idle_ttl", "a day"))
	says(t, bad, 422, "“An agent that is not used stays connected for” is a length of time", `value="a day"`)
	check("refused", "24h")
	says(t, bad.Submit(bad.Form("name"), servertest.With("refresh_idle_ttl", "12h")), 200, "Saved")
	check("changed", "12h")
}

// A group's words and whether its members need a second factor can be changed.
func TestGroupFields(t *testing.T) {
	s := servertest.StartMCP(t)
	b := staff(t, s, identity.Owner)
	page := b.Get("/admin/groups")
	page = page.Submit(page.Form("name"), servertest.With("name", "admins"), servertest.With("second_factor", "on"))
	says(t, page, 200, "second factor")
	page = b.Get("/admin/groups/admins/edit")
	says(t, page, 200, "checked")
	says(t, page.Submit(page.Form("description"), servertest.With("description", strings.Repeat("x", 501))), 422,
		"“description”")
	says(t, page.Submit(page.Form("description"), servertest.With("description", "Who run this"),
		servertest.Without("second_factor")), 200, "Saved", "Who run this")
	lacks(t, b.Get("/admin/groups/admins"), "need a second factor")
	says(t, staff(t, s, identity.Operator).Get("/admin/groups/admins/edit"), 403,
		"does not let you change groups; ask an owner")
}

// The approval of a client is withdrawn for one group or for all, and a block says why.
func TestWithdrawAndBlock(t *testing.T) {
	s := servertest.StartMCP(t)
	o := &admin.Operations{DB: s.DB, Issuer: s.URL}
	for _, name := range []string{"staff", "finance"} {
		if _, err := o.CreateGroup(t.Context(), root, name, admin.GroupTerms{}); err != nil {
			t.Fatal(err)
		}
	}
	agent := s.Agent(t, nil)
	agent.Register(map[string]any{"client_name": "Agent", "redirect_uris": []string{agent.RedirectURI},
		"token_endpoint_auth_method": "none"})
	for _, group := range []string{"staff", "finance"} {
		if _, err := o.ApproveClientFor(t.Context(), root, agent.ClientID, admin.Approval{Group: &group}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := o.ApproveClient(t.Context(), root, agent.ClientID); err != nil {
		t.Fatal(err)
	}
	tokens := agent.Connect(s.Browser(t), s.User("ada@example.com"))
	b := staff(t, s, identity.Operator)
	path := "/admin/clients/" + agent.ClientID
	says(t, b.Get(path), 200, path+"/unapprove", "Approved for")
	state := func(what string, approved bool, groups string) {
		t.Helper()
		c, err := o.Client(t.Context(), root, agent.ClientID)
		if err != nil || c.ApprovedAt.IsZero() == approved || strings.Join(c.ApprovedFor, " ") != groups {
			t.Errorf("%s: approved at %s, for %v, %v", what, c.ApprovedAt, c.ApprovedFor, err)
		}
	}
	page := b.Get(path + "/unapprove")
	says(t, page.Submit(page.Form("csrf"), servertest.With("group", "staff")), 200, "The approval is withdrawn")
	state("one group", true, "finance")
	page = b.Get(path + "/unapprove")
	says(t, page.Submit(page.Form("csrf"), servertest.With("group", "")), 200)
	state("all", false, "")
	agent.Refresh(tokens.Refresh).Tokens() // grants go on unless told otherwise
	page = b.Get(path + "/unapprove")
	page.Submit(page.Form("csrf"), servertest.With("end_grants", "on"))
	if live, _, err := o.Grants(t.Context(), root, admin.GrantQuery{Client: agent.ClientID, Live: true},
		store.Page{}); err != nil || len(live) > 0 {
		t.Errorf("grants are left: %v %v", live, err)
	}

	page = b.Get(path + "/block")
	page = page.Submit(page.Form("reason"), servertest.With("reason", "It <b>lied</b>"))
	says(t, page, 200, "Reason: <bdi>It &lt;b&gt;lied&lt;/b&gt;</bdi>")
	told := false
	for _, e := range s.Events("client.block") {
		told = told || e.Outcome == audit.Allowed && e.Detail["reason"] == "It <b>lied</b>"
	}
	if !told {
		t.Errorf("the audit log does not say why: %+v", s.Events("client.block"))
	}
}
