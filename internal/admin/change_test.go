package admin_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// Every change that an operator makes is recorded with what it made different, and without secrets.
func TestChanges(t *testing.T) {
	db, _ := storetest.Open(t, storetest.SQLite)
	o := operate(t, db)
	ctx, by := t.Context(), root
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	text := func(s string) *string { return &s }
	last := func() (e audit.Event, was, is map[string]any) {
		t.Helper()
		events, _, err := o.Events(ctx, by, store.EventFilter{}, store.Page{Limit: 1, Newest: true})
		must(err)
		e = events[0].Event
		for _, of := range []struct {
			text json.RawMessage
			to   *map[string]any
		}{{e.Before, &was}, {e.After, &is}} {
			if of.text != nil {
				must(json.Unmarshal(of.text, of.to))
			}
		}
		return e, was, is
	}

	r, err := o.CreateResource(ctx, by, admin.NewResource{Identifier: "https://weather.example.com/mcp",
		ResourceTerms: admin.ResourceTerms{Name: text("Weather"), Scopes: []oauth.ResourceScope{{Name: "a"}}}})
	must(err)
	if _, was, is := last(); was != nil || is["name"] != "Weather" || is["id"] != r.ID {
		t.Errorf("created: %v, %v", was, is)
	}
	_, err = o.UpdateResource(ctx, by, r.ID, admin.ResourceTerms{Name: text("Forecasts"), DefaultScopes: []string{"a"}})
	must(err)
	_, was, is := last()
	for name, diff := range map[string]string{
		"name": cmp.Diff([]any{"Weather", "Forecasts"}, []any{was["name"], is["name"]}),
		"only": cmp.Diff([]int{2, 2}, []int{len(was), len(is)}),
	} {
		if diff != "" {
			t.Errorf("updated, %s: %s (%v, %v)", name, diff, was, is)
		}
	}
	many := []oauth.ResourceScope{}
	for i := range 200 {
		many = append(many, oauth.ResourceScope{Name: fmt.Sprint("scope-", i)})
	}
	_, err = o.UpdateResource(ctx, by, r.ID, admin.ResourceTerms{Scopes: many})
	must(err)
	if _, _, is := last(); !strings.HasSuffix(fmt.Sprint(is["scopes"]), " bytes)") {
		t.Errorf("a long member: %v", is)
	}

	c, err := o.CreateClient(ctx, by, admin.NewClient{ClientTerms: admin.ClientTerms{Name: text("Bot"),
		GrantTypes: []oauth.GrantType{oauth.ClientCredentials}, Resources: []string{r.ID}}})
	must(err)
	_, err = o.RotateClientSecret(ctx, by, c.ID, time.Hour)
	must(err)
	_, err = o.DisableClient(ctx, by, c.ID)
	must(err)
	if _, was, is := last(); was["disabled_at"] != nil || is["disabled_at"] == nil || len(is) != 1 {
		t.Errorf("disabled: %v, %v", was, is)
	}
	_, err = o.DeleteClient(ctx, by, c.ID)
	must(err)
	if _, was, is := last(); is != nil || was["client_name"] != "Bot" {
		t.Errorf("deleted: %v, %v", was, is)
	}
	u, err := o.CreateUser(ctx, by,
		admin.NewUser{Email: "ada@example.com", Name: "Ada", Password: "correct horse battery"})
	must(err)
	_, err = o.DisableUser(ctx, by, u.ID)
	must(err)
	_, err = o.DeleteUser(ctx, by, u.ID)
	must(err)
	iat, err := o.CreateInitialAccessToken(ctx, by, "CI", 1, 0)
	must(err)
	_, err = o.RevokeInitialAccessToken(ctx, by, iat.ID)
	must(err)
	_, err = o.DeleteResource(ctx, by, r.ID)
	must(err)

	events, _, err := o.Events(ctx, by, store.EventFilter{}, store.Page{})
	must(err)
	for _, e := range events {
		if e.Before == nil && e.After == nil && e.Action != "client.rotate_secret" { // of which nobody may see anything
			t.Errorf("%s is recorded without what it changed", e.Action)
		}
		for _, secret := range []string{"cardea_cs_", "cardea_iat_", "argon2", "battery"} {
			if strings.Contains(string(e.Before)+string(e.After), secret) {
				t.Errorf("%s: %s %s", e.Action, e.Before, e.After)
			}
		}
	}
}

// An overview has what the log has, in parts.
func TestOverview(t *testing.T) {
	db, clock := storetest.Open(t, storetest.SQLite)
	o := operate(t, db)
	ctx, by := t.Context(), root
	if err := o.DB.Append(ctx, audit.TokenRequest("mcp_1", "refresh_token").Allow(), audit.SignIn("usr_1").Allow(),
		audit.TokenRequest("mcp_1", "refresh_token").Refuse("invalid_grant", "over"),
		audit.ToolCall("mcp_2", "https://mcp.example.com", "get_forecast").Fail()); err != nil {
		t.Fatal(err)
	}
	now := clock.Now()
	for step, since := range map[time.Duration]time.Time{
		time.Hour: now.Add(-24 * time.Hour), 24 * time.Hour: now.Add(-30 * 24 * time.Hour),
		7 * 24 * time.Hour: now.AddDate(-1, 0, 0),
		0:                  {}, // the beginning of time is not before the log's
	} {
		view, err := o.Overview(ctx, by, since, now.Add(time.Second))
		if err != nil {
			t.Fatal(err)
		}
		last := view.Parts[len(view.Parts)-1]
		if last.Tokens != 1 || last.SignIns != 1 || last.Refused != 1 || last.Failed != 1 || last.Agents != 1 ||
			view.Reasons["invalid_grant"] != 1 {
			t.Errorf("since %v: %+v", since, last)
		}
		if len(view.Parts) > 60 || !since.IsZero() && time.Duration(view.Step) != step {
			t.Errorf("since %v: %d parts of %v, want %v", since, len(view.Parts), view.Step, step)
		}
	}
	if _, err := o.Overview(ctx, by, now, now); err == nil {
		t.Error("an overview of no time")
	}
}

// Operations that belong together are all done, or none of them is; a refusal is recorded all the same.
func TestTogether(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, _ *storetest.Clock) {
		o := operate(t, db)
		ctx := t.Context()
		group := func(by admin.Caller, names ...string) error {
			return o.Together(ctx, by, nil, func(o *admin.Operations) error {
				for _, name := range names {
					if _, err := o.CreateGroup(ctx, by, name, admin.GroupTerms{}); err != nil {
						return err
					}
				}
				return nil
			})
		}
		names := func() (names []string) {
			groups, _, err := o.Groups(ctx, root, store.Page{})
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range groups {
				names = append(names, g.Name)
			}
			slices.Sort(names)
			return names
		}
		if err := group(root, "a", "b"); err != nil {
			t.Fatal(err)
		}
		before := lastEvent(t, o)
		if err := group(root, "c", "a"); kind(err) != admin.Conflict {
			t.Errorf("a group that exists: %v", err)
		}
		if after := lastEvent(t, o); after.ID != before.ID {
			t.Errorf("recorded what was not done: %v", after)
		}
		operator := admin.Person(account(t, db, identity.Operator), nil)
		if err := group(operator, "d"); kind(err) != admin.Forbidden {
			t.Errorf("an operator made a group: %v", err)
		}
		if e := lastEvent(t, o); e.Action != "group.create" || e.Outcome != audit.Refused || e.Actor != operator.Actor {
			t.Errorf("recorded %+v", e)
		}
		if diff := cmp.Diff([]string{"a", "b"}, names()); diff != "" {
			t.Errorf("groups (-want +got):\n%s", diff)
		}
	})
}

// What changes nothing is not recorded, and does not raise updated_at.
func TestUpdateChangesNothing(t *testing.T) {
	db, clock := storetest.Open(t, storetest.SQLite)
	o := operate(t, db)
	ctx := t.Context()
	keys := json.RawMessage(`{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","kid":"1",` +
		`"x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`)
	terms := admin.ClientTerms{
		Name: ptr("Robot"), GrantTypes: []oauth.GrantType{oauth.ClientCredentials}, Resources: []string{servertest.MCP},
		Scope: ptr(""), JWKS: keys,
	}
	c, err := o.CreateClient(ctx, root, admin.NewClient{ID: "mcp_robot", ClientTerms: terms})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.CreateGroup(ctx, root, "staff", described("All")); err != nil {
		t.Fatal(err)
	}
	r, err := o.Resource(ctx, root, servertest.MCP)
	if err != nil {
		t.Fatal(err)
	}
	clock.Advance(time.Hour)
	before := lastEvent(t, o)
	same, err := o.UpdateResource(ctx, root, r.ID,
		admin.ResourceTerms{Name: &r.Name, Scopes: r.Scopes, AccessTokenTTL: &r.AccessTokenTTL})
	if err != nil || !reflect.DeepEqual(r, same) {
		t.Errorf("resource: %v %+v, want %+v", err, same, r)
	}
	terms.JWKS = append(json.RawMessage(" "), keys...)
	unchanged, err := o.UpdateClient(ctx, root, c.ID, terms)
	c.Secret = ""
	if err != nil || !reflect.DeepEqual(c, unchanged) {
		t.Errorf("client: %v %+v, want %+v", err, unchanged, c)
	}
	if _, err := o.UpdateGroup(ctx, root, "staff", admin.GroupTerms{Description: ptr("All")}); err != nil {
		t.Error(err)
	}
	if after := lastEvent(t, o); after.ID != before.ID {
		t.Errorf("recorded %+v", after)
	}
}

// A client keeps a resource that was deleted, and is not kept from changing by it. A new client cannot name it.
func TestBoundToWhatIsDeleted(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, _ *storetest.Clock) {
		o, ctx := operate(t, db), t.Context()
		const gone, here = "https://gone.example.com/mcp", "https://here.example.com/mcp"
		for _, identifier := range []string{gone, here} {
			r := admin.NewResource{Identifier: identifier}
			r.Scopes = []oauth.ResourceScope{{Name: "read"}}
			if _, err := o.CreateResource(ctx, root, r); err != nil {
				t.Fatal(err)
			}
		}
		server := admin.NewClient{ClientTerms: admin.ClientTerms{Name: ptr("Server"),
			ResourceServers: []string{gone, here}}}
		machine := admin.NewClient{ClientTerms: admin.ClientTerms{Name: ptr("Machine"),
			GrantTypes: []oauth.GrantType{oauth.ClientCredentials}, Resources: []string{gone, here}}}
		servers, err := o.CreateClient(ctx, root, server)
		if err != nil {
			t.Fatal(err)
		}
		machines, err := o.CreateClient(ctx, root, machine)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.DeleteResource(ctx, root, gone); err != nil {
			t.Fatal(err)
		}
		for id, terms := range map[string]admin.ClientTerms{
			servers.ID:  {Name: ptr("Other"), ResourceServers: []string{gone, here, gone}},
			machines.ID: {Name: ptr("Other"), Resources: []string{gone, here, gone}},
		} {
			c, err := o.UpdateClient(ctx, root, id, terms)
			if got := slices.Concat(c.Resources, c.ResourceServers); err != nil || c.Name != "Other" ||
				!slices.Equal(got, []string{gone, here}) {
				t.Errorf("%+v %v", c, err)
			}
		}
		server.ResourceServers, machine.Resources = []string{gone}, []string{gone}
		for _, n := range []admin.NewClient{server, machine} {
			if _, err := o.CreateClient(ctx, root, n); kind(err) != admin.NotFound {
				t.Errorf("a new client: %v", err)
			}
		}
		alone := admin.ClientTerms{ResourceServers: []string{here}}
		if c, err := o.UpdateClient(ctx, root, servers.ID, alone); err != nil || len(c.ResourceServers) != 1 {
			t.Errorf("%+v %v", c, err)
		}
		alone.ResourceServers = []string{gone}
		if _, err := o.UpdateClient(ctx, root, servers.ID, alone); kind(err) != admin.NotFound {
			t.Errorf("what it has no longer: %v", err)
		}
	})
}
