package audit_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/audit"
)

// An event in the form of OCSF, whole.
func TestOCSF(t *testing.T) {
	e := audit.Code("mcp_1", "usr_1", "grt_1", "https://mcp.example.com", "a b", true).Allow()
	e.ID, e.At, e.RequestID, e.Address = "evt_1", time.UnixMilli(1700000000123).UTC(), "req_1", "192.0.2.1"
	got, err := json.MarshalIndent(audit.OCSF(e), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
 "class_uid": 3003,
 "category_uid": 3,
 "activity_id": 1,
 "type_uid": 300301,
 "severity_id": 1,
 "status_id": 1,
 "time": 1700000000123,
 "message": "usr_1 allowed mcp_1 to use a and b at https://mcp.example.com, as before, and was not asked again",
 "metadata": {
  "version": "1.3.0",
  "product": {
   "name": "Cardea",
   "vendor_name": "Cardea"
  },
  "uid": "evt_1",
  "event_code": "authorize.code",
  "correlation_uid": "req_1"
 },
 "actor": {
  "user": {
   "uid": "usr_1",
   "type_id": 1
  }
 },
 "user": {
  "uid": "usr_1",
  "type_id": 1
 },
 "privileges": [
  "a",
  "b"
 ],
 "src_endpoint": {
  "ip": "192.0.2.1"
 },
 "http_request": {
  "uid": "req_1"
 },
 "unmapped": {
  "client_id": "mcp_1",
  "detail.consent": "remembered",
  "grant_id": "grt_1",
  "resource": "https://mcp.example.com",
  "scope": "a b",
  "user_id": "usr_1"
 }
}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Each class has what the schema requires of it.
func TestOCSFClasses(t *testing.T) {
	for _, c := range []struct {
		event    audit.Event
		class    int
		activity int
		requires []string
	}{
		{audit.SignIn("").Refuse("access_denied", "wrong"), 3002, 1, []string{"user", "service"}},
		{audit.SignIn("usr_1").Allow(), 3002, 1, []string{"user", "service"}},
		{audit.SignOut("usr_1").Allow(), 3002, 2, []string{"user", "service"}},
		{audit.Consent("mcp_1", "usr_1", "r", "a").Allow(), 3003, 1, []string{"user", "privileges"}},
		{audit.TokenRequest("mcp_1", "x").Allow(), 6003, 99, []string{"actor", "api", "src_endpoint"}},
		{audit.TokenRequest("", "x").Refuse("invalid_client", ""), 6003, 99, []string{"actor", "api", "src_endpoint"}},
		{audit.User("create", "usr_1").Allow(), 3004, 1, []string{"entity"}},
		{audit.Management("update", "mcp_1").Allow(), 3004, 3, []string{"entity"}},
		{audit.Block("block", "mcp_1", "blk_1").Allow(), 3004, 99, []string{"entity"}},
		{audit.ToolCall("mcp_1", "r", "send").Allow(), 6003, 99, []string{"actor", "api", "src_endpoint"}},
		{audit.Event{}, 6003, 99, []string{"actor", "api", "src_endpoint"}},
	} {
		o := audit.OCSF(c.event)
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(text, &members); err != nil {
			t.Fatal(err)
		}
		if o.ClassUID != c.class || o.ActivityID != c.activity || o.TypeUID != c.class*100+c.activity ||
			o.CategoryUID != c.class/1000 {
			t.Errorf("%s: class %d, activity %d, type %d", c.event.Action, o.ClassUID, o.ActivityID, o.TypeUID)
		}
		for _, name := range append(slices.Clone(c.requires), "time", "metadata", "severity_id", "type_uid") {
			if v := string(members[name]); v == "" || v == "null" || v == "{}" {
				t.Errorf("%s: %s is missing: %s", c.event.Action, name, text)
			}
		}
	}
}
