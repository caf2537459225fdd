package adminapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/server/servertest"
)

// What an operator decides about clients, groups and invitations is recorded with the operator, what it was about, and
// what it changed. So is who may not.
func TestDecisionsAreRecorded(t *testing.T) {
	s := servertest.StartMCP(t, func(c *config.Config) { c.Registration.Approval = "required" })
	ops, reader := program(t, s, "cardea:*"), program(t, s, "cardea:clients:read", "cardea:groups:read",
		"cardea:users:read")
	ada := s.User("ada@example.com")
	agent := s.Agent(t, nil)
	agent.RedirectURI = "https://agent.evil.example/callback"
	if reply := agent.Register(map[string]any{"client_name": "Agent", "redirect_uris": []string{agent.RedirectURI},
		"token_endpoint_auth_method": "none"}); reply.Status != http.StatusCreated {
		t.Fatalf("%d %s", reply.Status, reply.Body)
	}
	s.Browser(t).Authorize(agent.Authorization()).SignIn(ada)
	waited := audit.Waiting(agent.ClientID, ada.ID, servertest.MCP, "mcp:tools:weather").Allow()
	if diff := cmp.Diff([]audit.Event{waited}, lasting(s.Events("client.wait"))); diff != "" {
		t.Errorf("client.wait (-want +got):\n%s", diff)
	}
	client := "/clients/" + agent.ClientID
	group := ops.call("POST", "/groups", `{"name":"staff"}`)
	invited := ops.call("POST", "/users/invite", `{"email":"eve@example.com"}`)
	if group.Status != http.StatusCreated || invited.Status != http.StatusCreated {
		t.Fatalf("%d %s, %d %s", group.Status, group.Body, invited.Status, invited.Body)
	}
	invitation := invited.Text("id")
	var block string
	for _, c := range []struct {
		action, method, path, body string
		want                       func() audit.Event
		before, after              string // a part of each
	}{
		{"client.dismiss", "POST", client + "/dismiss", "",
			func() audit.Event { return audit.Client("dismiss", agent.ClientID) }, "", ""},
		{"client.approve", "POST", client + "/approve", "",
			func() audit.Event { return audit.Client("approve", agent.ClientID) },
			`"approved_at":null`, `"approved_at":"2`},
		{"client.unapprove", "POST", client + "/unapprove", "",
			func() audit.Event { return audit.Client("unapprove", agent.ClientID) },
			`"approved_at":"2`, `"approved_at":null`},
		{"client.block", "POST", client + "/block", `{"reason":"It lied."}`, func() audit.Event {
			return audit.Block("block", agent.ClientID, block).With("sites", "evil.example").With("reason", "It lied.").
				With("grants_ended", "0")
		}, "", ""},
		{"client.unblock", "POST", client + "/unblock", "",
			func() audit.Event { return audit.Block("unblock", agent.ClientID, block) }, "", ""},
		{"group.update", "PATCH", "/groups/staff", `{"description":"All of us"}`,
			func() audit.Event { return audit.Group("update", "staff", "") },
			`"description":""`, `"description":"All of us"`},
		{"group.delete", "DELETE", "/groups/staff", "",
			func() audit.Event { return audit.Group("delete", "staff", "") }, `"name":"staff"`, ""},
		{"invitation.resend", "POST", "/invitations/" + invitation + "/resend", "",
			func() audit.Event { return audit.Invitation("resend", invitation, "eve@example.com") }, "", ""},
	} {
		if reply := reader.call(c.method, c.path, c.body); reply.Status != http.StatusForbidden {
			t.Errorf("%s by a program that may only read: %d %s", c.action, reply.Status, reply.Body)
		} else if e := s.Events(c.action); len(e) != 1 || e[0].Outcome != audit.Refused ||
			e[0].Actor.ID != reader.ClientID || e[0].Actor.Type != audit.ByClient {
			t.Errorf("%s, refused: %+v", c.action, e)
		}
		reply := ops.call(c.method, c.path, c.body)
		if reply.Status != http.StatusOK {
			t.Fatalf("%s: %d %s", c.action, reply.Status, reply.Body)
		}
		if c.action == "client.block" {
			block = reply.Text("id")
		}
		all := s.Events(c.action)
		if len(all) != 2 {
			t.Errorf("%s: %d events, want 2", c.action, len(all))
			continue
		}
		if e := all[0]; !strings.Contains(string(e.Before), c.before) || !strings.Contains(string(e.After), c.after) ||
			e.RequestID != reply.Header.Get("X-Request-Id") || e.Address == "" {
			t.Errorf("%s: %+v, before %s, after %s", c.action, e, e.Before, e.After)
		}
		want := c.want().Allow()
		want.Actor = audit.Actor{Type: audit.ByClient, ID: ops.ClientID, Name: "Example agent"}
		if diff := cmp.Diff(want, lasting(all)[0]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.action, diff)
		}
		_, token, _ := strings.Cut(reply.Text("link"), "#")
		if c.action == "invitation.resend" && token == "" ||
			token != "" && strings.Contains(string(all[0].Before)+string(all[0].After)+all[0].DetailJSON(), token) {
			t.Errorf("%s: the link is %q, and the event is %+v", c.action, reply.Text("link"), all[0])
		}
	}
	for action, c := range map[string][3]string{
		"key.list":      {"GET", "/keys", ""},
		"token.inspect": {"POST", "/tokens/inspect", `{"token":"` + reader.token + `"}`},
	} {
		reply := reader.call(c[0], c[1], c[2])
		e := s.Events(action)
		if reply.Status != http.StatusForbidden || len(e) != 1 || e[0].Outcome != audit.Refused ||
			e[0].Actor.ID != reader.ClientID || e[0].Reason != "access_denied" {
			t.Errorf("%s: %d %s, %+v", action, reply.Status, reply.Body, e)
		}
	}
}

// lasting returns the events without what differs from run to run, and without what they changed.
func lasting(events []audit.Event) (all []audit.Event) {
	for _, e := range events {
		e.ID, e.RequestID, e.Address, e.UserAgent, e.Before, e.After = "", "", "", "", nil, nil
		e.At = audit.Event{}.At
		all = append(all, e)
	}
	return all
}
