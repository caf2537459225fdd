package authorize_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// club is a server with a group. Its methods limit the resource to the group and change the members.
type club struct {
	*servertest.Server
	ada          *servertest.Person
	agent, guard *servertest.Agent
	browser      *servertest.Browser
}

func newClub(t *testing.T, db *store.DB, clock *storetest.Clock) *club {
	s, ada, agent, guard, browser := lasting(t, db, clock)
	s.Update(func(tx *store.Tx) error {
		return tx.CreateGroup(&identity.Group{ID: "grp_staff", Name: "staff", CreatedAt: tx.Now()})
	})
	return &club{s, ada, agent, guard, browser}
}

const twoScopes = "mcp:tools:weather mcp:tools:email:send"

func (c *club) limit(change func(*oauth.Resource)) {
	c.Update(func(tx *store.Tx) error {
		r, err := tx.LockResource(servertest.MCP)
		if err != nil {
			return err
		}
		change(r)
		return tx.UpdateResource(r)
	})
}

func (c *club) join() {
	c.Update(func(tx *store.Tx) error { _, err := tx.AddMember("grp_staff", c.ada.ID); return err })
}

func (c *club) leave() {
	c.Update(func(tx *store.Tx) error { _, err := tx.RemoveMember("grp_staff", c.ada.ID); return err })
}

// TK-39: a resource for a group is for nobody else, and a person who leaves the group loses at once what it
// opened.
func TestResourceOfGroup(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		c := newClub(t, db, clock)
		c.limit(func(r *oauth.Resource) { r.Groups = []string{"staff"} })
		page := c.browser.Authorize(c.agent.Authorization())
		if page.Status != 403 || !strings.Contains(page.Body, "You have no access") ||
			!strings.Contains(page.Body, "Ask an administrator of this server to give") {
			t.Fatalf("status %d:\n%s", page.Status, page.Body)
		}
		page.Submit(page.Form("return")).Refused("access_denied")
		c.browser.Authorize(c.agent.Authorization(servertest.With("prompt", "none"))).Refused("access_denied")

		c.join()
		page = c.browser.Authorize(c.agent.Authorization())
		form := page.Form("decision")
		c.leave() // between the page and the decision
		late := page.Submit(form, servertest.With("decision", "allow"))
		if late.Status != 403 || !strings.Contains(late.Body, "You have no access") {
			t.Errorf("status %d:\n%s", late.Status, late.Body)
		}
		c.join()
		code := page.Submit(form, servertest.With("decision", "allow")).Code()
		c.leave()
		c.agent.Exchange(code).Refused(400, "invalid_grant")
		c.join()
		tokens := c.agent.Exchange(code).Tokens()
		if !c.guard.Active(tokens.Access) {
			t.Error("the token of a member is not active")
		}
		c.leave()
		if c.guard.Active(tokens.Access) {
			t.Error("the token is active although its person has left the group")
		}
		c.agent.Refresh(tokens.Refresh).Refused(400, "invalid_grant")
		c.join()
		c.agent.Refresh(tokens.Refresh).Tokens()
	})
}

// TK-39: a scope for a group is left out for everybody else: on the page, in the token, at a refresh, in introspection.
func TestScopeOfGroup(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		c := newClub(t, db, clock)
		c.limit(func(r *oauth.Resource) { r.Scopes[1].Groups, r.TokenGroups = []string{"staff"}, true })
		page := c.browser.Authorize(c.agent.Authorization(servertest.With("scope", twoScopes)))
		if got := page.Form("decision").Options("scope"); !slices.Equal(got, []string{"mcp:tools:weather"}) {
			t.Errorf("the page offers %v", got)
		}
		forged := page.Submit(page.Form("decision"), servertest.With("decision", "allow"),
			servertest.With("scope", "mcp:tools:weather", "mcp:tools:email:send"))
		if got := c.agent.Exchange(forged.Code()).Tokens().Scope; got != "mcp:tools:weather" {
			t.Errorf("granted: %s", got)
		}
		c.joinsMeanwhile(t)
		tokens := c.agent.Exchange(c.browser.Authorize(c.agent.Authorization(servertest.With("scope",
			twoScopes))).Allow().Code()).Tokens()
		if tokens.Scope != twoScopes || !slices.Equal(servertest.Claims(t, tokens.Access).Groups, []string{"staff"}) {
			t.Errorf("scope %q, claims %+v", tokens.Scope, servertest.Claims(t, tokens.Access))
		}
		c.leave()
		if got := c.guard.Introspect(tokens.Access).Text("scope"); got != "mcp:tools:weather" {
			t.Errorf("introspection tells the scope %q", got)
		}
		refreshed := c.agent.Refresh(tokens.Refresh).Tokens()
		if refreshed.Scope != "mcp:tools:weather" || len(servertest.Claims(t, refreshed.Access).Groups) != 0 {
			t.Errorf("refreshed: %q, %+v", refreshed.Scope, servertest.Claims(t, refreshed.Access))
		}
		outside := c.browser.Authorize(c.agent.Authorization(servertest.With("scope", "mcp:tools:email:send")))
		if outside.Status != 403 || !strings.Contains(outside.Body, "You have no access") {
			t.Errorf("a scope for others alone: %d\n%s", outside.Status, outside.Body)
		}
	})
}

// joinsMeanwhile lets the person join while the page is open. CN-06: what it did not show is not granted.
func (c *club) joinsMeanwhile(t *testing.T) {
	t.Helper()
	page := c.browser.Authorize(c.agent.Authorization(servertest.With("scope", twoScopes),
		servertest.With("prompt", "consent")))
	form, both := page.Form("decision"), servertest.With("scope", "mcp:tools:weather", "mcp:tools:email:send")
	allow := servertest.With("decision", "allow")
	c.join()
	for name, forged := range map[string]servertest.Tweak{"more": servertest.With("shown", twoScopes),
		"nothing": servertest.With("shown", ""), "none": servertest.Without("shown")} {
		again := page.Submit(form, allow, both, forged)
		if again.Status != 403 || !again.IsConsent() {
			t.Errorf("CN-06 a form that says that %s was shown: status %d, Location %q", name, again.Status,
				again.Location)
		}
	}
	page = page.Submit(form, servertest.With("select", "all"))
	if got := page.Form("decision").Options("scope"); len(got) != 2 {
		t.Errorf("the page that is shown again offers %v", got)
	}
	if got := c.agent.Exchange(page.Submit(form, allow, both).Code()).Tokens().Scope; got != "mcp:tools:weather" {
		t.Errorf("CN-06 granted: %s", got)
	}
}

// A person may allow only scopes that were taken away while the page was open. The page is then shown again, because
// that is not a denial.
func TestScopesLostMeanwhile(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		c := newClub(t, db, clock)
		c.limit(func(r *oauth.Resource) { r.Scopes[1].Groups = []string{"staff"} })
		c.join()
		page := c.browser.Authorize(c.agent.Authorization(servertest.With("scope", twoScopes)))
		c.leave()
		again := page.Allow("mcp:tools:email:send")
		if again.Status != 400 || !strings.Contains(again.Body, "What you may allow has changed") {
			t.Fatalf("status %d, Location %q:\n%s", again.Status, again.Location, again.Body)
		}
		if got := c.agent.Exchange(again.Allow().Code()).Tokens().Scope; got != "mcp:tools:weather" {
			t.Errorf("granted: %s", got)
		}
	})
}
