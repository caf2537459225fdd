package token_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// toolCall returns an event of a report, changed by pairs of members and values.
func toolCall(id string, changes ...any) map[string]any {
	call := map[string]any{"id": id, "time": "2026-08-22T12:00:00.5Z", "action": "tool.call", "outcome": "allowed",
		"tool": "get_forecast", "user": "", "client_id": "", "grant_id": "", "jti": "", "duration_ms": 1.5,
		"reason": ""}
	for i := 0; i < len(changes); i += 2 {
		call[changes[i].(string)] = changes[i+1]
	}
	return call
}

// report sends a report of tool calls with the credentials of a resource server.
func report(s *servertest.Server, t testing.TB, c *servertest.Client, body any,
	tweaks ...servertest.Tweak) *servertest.Reply {
	t.Helper()
	text, ok := body.(string)
	if !ok {
		encoded, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		text = string(encoded)
	}
	return s.Agent(t, nil).Post("/oauth2/events", nil, append([]servertest.Tweak{servertest.Raw(text),
		servertest.Header("Content-Type", "application/json"), basic(c.ID, c.Secret)}, tweaks...)...)
}

func events(calls ...map[string]any) map[string]any { return map[string]any{"events": calls} }

// Each call is in the audit log once, however often and at however many nodes it is reported, and it says of a person
// and a client what the grant says.
func TestEvents(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock)
		s.Resource(servertest.MCP, "*weather", "mail")
		s.Resource(other, "*files")
		reporter := s.Client(servertest.Confidential, servertest.ResourceServer(servertest.MCP))
		client, ada, browser := s.Client(servertest.Confidential), s.User("ada@example.com"), s.Browser(t)
		agent := s.Agent(t, client)
		claims := servertest.Claims(t, agent.Connect(browser, ada).Access)
		agent.Resource = other
		foreign := servertest.Claims(t, agent.Connect(browser, ada).Access)
		machine := (&site{Server: s}).machine(t)

		body := events(
			toolCall("event-0001", "user", ada.ID, "client_id", client.ID, "grant_id", claims.GrantID(),
				"jti", claims.ID),
			toolCall("event-0002", "outcome", "refused", "reason", "It needs the scope mail.",
				"grant_id", claims.GrantID(), "user", "somebody else", "client_id", "another"),
			toolCall("event-0003", "outcome", "failed", "user", machine.ClientID, "client_id", machine.ClientID),
			toolCall("event-0004", "user", ada.ID, "client_id", client.ID, "grant_id", foreign.GrantID()),
			toolCall("event-0005", "reason", "cardea_rt_abc_1_def", "tool", "x eyJhbGci.eyJzdWIi.AAAA", "outcome",
				"refused"),
			toolCall("event-0005"),
		)
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				reply := report(s, t, reporter, body)
				status(t, reply, http.StatusAccepted)
				if accepted, ok := reply.JSON()["accepted"].([]any); !ok || len(accepted) != 6 ||
					accepted[0] != "event-0001" {
					t.Errorf("the answer is %s", reply.Body)
				}
			})
		}
		all.Wait()
		var got []audit.Event
		recorded := s.Events("tool.call")
		slices.SortFunc(recorded,
			func(a, b audit.Event) int { return strings.Compare(a.Detail["event"], b.Detail["event"]) })
		for _, e := range recorded {
			if e.Resource != servertest.MCP || e.Actor != (audit.Actor{Type: audit.ByClient, ID: reporter.ID}) {
				t.Errorf("%+v", e)
			}
			got = append(got,
				audit.Event{ClientID: e.ClientID, UserID: e.UserID, GrantID: e.GrantID, Outcome: e.Outcome,
					Description: e.Description,
					Detail: map[string]string{"tool": e.Detail["tool"],
						"claimed_grant": e.Detail["claimed_grant"], "time": e.Detail["time"]}})
		}
		detail := func(tool, claimed string) map[string]string {
			return map[string]string{"tool": tool, "claimed_grant": claimed,
				"time": "2026-08-22T12:00:00.5Z"}
		}
		want := []audit.Event{
			{ClientID: client.ID, UserID: ada.ID, GrantID: claims.GrantID(), Outcome: audit.Allowed,
				Detail: detail("get_forecast", "")},
			{ClientID: client.ID, UserID: ada.ID, GrantID: claims.GrantID(), Outcome: audit.Refused,
				Description: "It needs the scope mail.", Detail: detail("get_forecast", "")},
			{ClientID: machine.ClientID, Outcome: audit.Failed, Detail: detail("get_forecast", "")},
			{Outcome: audit.Allowed, Detail: detail("get_forecast", foreign.GrantID())},
			{Outcome: audit.Refused, Description: "[removed]", Detail: detail("x [removed]", "")},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		told := recorded[1].Sentence(audit.Names{Client: "Claude", Person: "Ada", Resource: "Weather"})
		if told != "A call of the tool get_forecast by Claude for Ada at Weather was refused: It needs the scope "+
			"mail." {
			t.Errorf("it is told as %q", told)
		}
	})
}

// Credentials of several resources say at which of them the tools were called, and only of their own.
func TestEventsOfSeveral(t *testing.T) {
	s := open(t)
	both := s.Client(servertest.Confidential, servertest.ResourceServer(other, servertest.MCP))
	one := s.Client(servertest.Confidential, servertest.ResourceServer(servertest.MCP))
	at := func(resource string) map[string]any {
		return map[string]any{"resource": resource, "events": []any{toolCall("event-0001")}}
	}
	report(s.Server, t, both, events(toolCall("event-0001"))).Refused(http.StatusBadRequest, "invalid_request")
	report(s.Server, t, both, at("https://third.example.com/mcp")).Refused(http.StatusForbidden, "invalid_target")
	report(s.Server, t, one, at(other)).Refused(http.StatusForbidden, "invalid_target")
	for range 2 {
		status(t, report(s.Server, t, both, at(other)), http.StatusAccepted)
		status(t, report(s.Server, t, both, at(servertest.MCP)), http.StatusAccepted)
		status(t, report(s.Server, t, one, events(toolCall("event-0001"))), http.StatusAccepted)
	}
	var got []string
	for _, e := range s.Events("tool.call") {
		got = append(got, e.Resource)
	}
	slices.Sort(got)
	if want := []string{servertest.MCP, other}; !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("events at %v, want one at each of %v", got, want)
	}
}

// A gateway reports a tool that it closed, because it is not what was reviewed.
func TestDriftEvents(t *testing.T) {
	s := open(t)
	reporter := s.Client(servertest.Confidential, servertest.ResourceServer(servertest.MCP))
	drift := toolCall("event-0001", "action", "tool.drift", "outcome", "refused", "tool", "send_email", "reason",
		"it has changed since it was reviewed")
	for range 2 {
		status(t, report(s.Server, t, reporter, events(drift)), http.StatusAccepted)
	}
	recorded := s.Events("tool.drift")
	if len(recorded) != 1 || recorded[0].Resource != servertest.MCP || recorded[0].Actor.ID != reporter.ID {
		t.Fatalf("%+v", recorded)
	}
	told := recorded[0].Sentence(audit.Names{Resource: "Mail"})
	if told != "The tool send_email of Mail is not what was reviewed, and is closed: "+
		"it has changed since it was reviewed" {
		t.Errorf("it is told as %q", told)
	}
	if n := len(s.Events("tool.call")); n > 0 {
		t.Errorf("%d calls", n)
	}
}

func TestEventsRefused(t *testing.T) {
	s := open(t)
	reporter := s.Client(servertest.Confidential, servertest.ResourceServer(servertest.MCP))
	ordinary := s.Client(servertest.Confidential)
	good := events(toolCall("event-0001"))
	for name, c := range map[string]struct {
		by     *servertest.Client
		body   any
		status int
		code   string
		tweaks []servertest.Tweak
	}{
		"an ordinary client": {ordinary, good, 400, "unauthorized_client", nil},
		"a public client":    {s.Client(), good, 400, "unauthorized_client", nil},
		"a wrong secret": {&servertest.Client{Client: reporter.Client, Secret: "x"}, good, 401,
			"invalid_client", nil},
		"another type": {reporter, good, 415,
			"invalid_request", []servertest.Tweak{servertest.Header("Content-Type", "text/plain")}},
		"no events": {reporter, events(), 400, "invalid_request", nil},
		"too many":  {reporter, events(many(1001)...), 400, "invalid_request", nil},
		"too long": {reporter, `{"events":[` + strings.Repeat(" ", 1<<20) + `]}`, 413,
			"invalid_request", nil},
		"no JSON":           {reporter, `{`, 400, "invalid_request", nil},
		"an array":          {reporter, `[]`, 400, "invalid_request", nil},
		"more after it":     {reporter, `{"events":[]} x`, 400, "invalid_request", nil},
		"a member twice":    {reporter, `{"events":[],"events":[]}`, 400, "invalid_request", nil},
		"an unknown member": {reporter, events(toolCall("event-0001", "secret", "x")), 400, "invalid_request", nil},
		"another case":      {reporter, events(toolCall("event-0001", "Tool", "x")), 400, "invalid_request", nil},
		"no id":             {reporter, events(toolCall("")), 400, "invalid_request", nil},
		"an id with spaces": {reporter, events(toolCall("event 0001")), 400, "invalid_request", nil},
		"another action": {reporter, events(toolCall("event-0001", "action", "user.delete")), 400,
			"invalid_request", nil},
		"another outcome": {reporter, events(toolCall("event-0001", "outcome", "fine")), 400,
			"invalid_request", nil},
		"no tool": {reporter, events(toolCall("event-0001", "tool", "")), 400, "invalid_request", nil},
		"a long tool": {reporter, events(toolCall("event-0001", "tool", strings.Repeat("x", 257))), 400,
			"invalid_request", nil},
		"a long reason": {reporter, events(toolCall("event-0001", "reason", strings.Repeat("x", 513))), 400,
			"invalid_request", nil},
		"a control character": {reporter, events(toolCall("event-0001", "user", "a\x00")), 400,
			"invalid_request", nil},
		"a time that is none": {reporter, events(toolCall("event-0001", "time", "yesterday")), 400,
			"invalid_request", nil},
		"a negative duration": {reporter, events(toolCall("event-0001", "duration_ms", -1)), 400,
			"invalid_request", nil},
		"a duration as text": {reporter, events(toolCall("event-0001", "duration_ms", "1")), 400,
			"invalid_request", nil},
		"an eternity": {reporter, events(toolCall("event-0001", "duration_ms", 1e300)), 400,
			"invalid_request", nil},
		"one that is not good": {reporter, events(toolCall("event-0001"), toolCall("")), 400, "invalid_request", nil},
	} {
		t.Run(name, func(t *testing.T) {
			report(s.Server, t, c.by, c.body, c.tweaks...).Refused(c.status, c.code)
			if got := s.Events("tool.call"); len(got) != 0 {
				t.Errorf("%d events were recorded", len(got))
			}
			by := audit.Actor{Type: audit.ByClient, ID: c.by.ID}
			if c.code == "invalid_client" {
				by = audit.Actor{}
			}
			told := s.Events("tool.report")[0]
			if told.Outcome != audit.Refused || told.Reason != c.code || told.Actor != by || told.Description == "" {
				t.Errorf("it is recorded as %+v", told)
			}
		})
	}
	status(t, report(s.Server, t, reporter, events(many(1000)...)), http.StatusAccepted)
	if n := len(s.Events("tool.call")); n != 1000 {
		t.Errorf("%d of 1000 events were recorded", n)
	}
	s.Update(func(tx *store.Tx) error {
		r, err := tx.Resource(servertest.MCP)
		if err != nil {
			return err
		}
		return tx.DeleteResource(r.ID)
	})
	report(s.Server, t, reporter, good).Refused(400, "invalid_target")
	if told := s.Events("tool.report")[0]; told.Reason != "invalid_target" || told.Actor.ID != reporter.ID {
		t.Errorf("it is recorded as %+v", told)
	}
}

func many(n int) []map[string]any {
	calls := make([]map[string]any, n)
	for i := range calls {
		calls[i] = toolCall(fmt.Sprint(i))
	}
	return calls
}
