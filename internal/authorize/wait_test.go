package authorize_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// inbox is a server on which clients wait for an operator, and the operator.
type inbox struct {
	*servertest.Server
	operations *admin.Operations
	by         admin.Caller
	ada, eve   *servertest.Person
	t          *testing.T
}

func newInbox(t *testing.T, db *store.DB, clock *storetest.Clock) *inbox {
	s := servertest.New(t, db, clock, func(c *config.Config) { c.Registration.Approval = "required" })
	s.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts", "mcp:tools:email:send=Send e-mail")
	return &inbox{
		Server: s, operations: &admin.Operations{DB: s.DB, Issuer: s.URL}, by: admin.Command("root", "root"),
		ada: s.User("ada@example.com"), eve: s.User("eve@example.com"), t: t,
	}
}

// registered returns an agent that registered itself and has the redirect URI.
func (i *inbox) registered(t *testing.T, name, redirectURI string) *servertest.Agent {
	t.Helper()
	agent := i.Agent(t, nil)
	agent.RedirectURI = redirectURI
	reply := agent.Register(map[string]any{"client_name": name, "redirect_uris": []string{redirectURI},
		"token_endpoint_auth_method": "none"})
	if reply.Status != http.StatusCreated {
		t.Fatalf("status is %d, want %d: %s", reply.Status, http.StatusCreated, reply.Body)
	}
	return agent
}

// asks opens the agent's request in a browser of its own and signs in.
func (i *inbox) asks(t *testing.T, agent *servertest.Agent, who *servertest.Person) *servertest.Page {
	t.Helper()
	return i.Browser(t).Authorize(agent.Authorization()).SignIn(who)
}

// waits checks that the page is the one on which a person waits, and that it loads itself again.
func waits(t *testing.T, page *servertest.Page) {
	t.Helper()
	if page.Location != "" || page.Status != http.StatusOK ||
		!strings.Contains(page.Body, "Waiting for an administrator") {
		t.Fatalf("status %d %s %s, want the page that waits:\n%s", page.Status, page.URL, page.Location,
			visible(page.Body))
	}
	if got := page.Header.Get("Refresh"); got != "5" {
		t.Errorf("Refresh is %q, want %q", got, "5")
	}
	if page.IsConsent() {
		t.Error("the page lets the person decide")
	}
}

// again loads the page as the browser does by itself.
func again(page *servertest.Page) *servertest.Page { return page.Follow(page.URL) }

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (i *inbox) waiting() []admin.WaitingClient {
	i.t.Helper()
	views, _, err := i.operations.WaitingClients(i.t.Context(), i.by, store.Page{})
	if err != nil {
		i.t.Fatal(err)
	}
	return views
}

const (
	evil  = "https://app.evil.example/callback"
	local = "http://127.0.0.1:7777/callback"
)

// A client that nobody has approved waits, and the person with it.
func TestWaiting(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		i := newInbox(t, db, clock)
		t.Run("approved for everybody, the page continues by itself", func(t *testing.T) {
			agent := i.registered(t, "Agent", "https://one.example/callback")
			i.Clock.Advance(time.Second)
			page := i.asks(t, agent, i.ada)
			waits(t, page)
			waits(t, again(page))
			entries := i.waiting()
			if len(entries) != 1 || entries[0].ID != agent.ClientID || entries[0].User != i.ada.Email ||
				entries[0].People != 1 ||
				entries[0].Resource != servertest.MCP || entries[0].Scope != "mcp:tools:weather" ||
				entries[0].Sites[0] != "one.example" {
				t.Fatalf("the inbox has %+v", entries)
			}
			must[admin.Client](t)(i.operations.ApproveClient(t.Context(), i.by, agent.ClientID))
			consent := again(page)
			if !consent.IsConsent() {
				t.Fatalf("status is %d, want the consent page:\n%s", consent.Status, visible(consent.Body))
			}
			agent.Exchange(consent.Allow().Code()).Tokens()
			if n := must[int](t)(i.operations.WaitingCount(t.Context(), i.by)); n != 0 {
				t.Errorf("%d clients wait", n)
			}
		})
		t.Run("an operator decides after hours, in the same browser only", func(t *testing.T) {
			agent := i.registered(t, "Agent", "https://two.example/callback")
			page := i.asks(t, agent, i.ada)
			i.Clock.Advance(interaction.WaitingLifetime - time.Second)
			page = again(page)
			if page.IsSignIn() { // the session has ended meanwhile
				page = page.SignIn(i.ada)
			}
			waits(t, page)
			must[admin.Client](t)(i.operations.ApproveClient(t.Context(), i.by, agent.ClientID))
			stranger := i.Browser(t)
			stranger.Get("/login").SignIn(i.ada)
			stranger.Get(page.URL).ErrorPage(http.StatusForbidden)
			code := again(page).Allow().Code()
			agent.Exchange(code).Tokens()
			answered := page.Browser.Get(page.URL)
			if answered.Location != "" || !strings.Contains(answered.Body, "already allowed") {
				t.Errorf("the request was answered twice: %d %s", answered.Status, answered.Location)
			}
		})
		t.Run("a request that did not wait is too old after half an hour, one that did after a day",
			func(t *testing.T) {
				approved := i.Agent(t, i.Client())
				page := i.asks(t, approved, i.ada)
				i.Clock.Advance(interaction.Lifetime)
				if late := again(page); !strings.Contains(late.Body, "too old") {
					t.Errorf("the page of status %d does not say that it is too late:\n%s",
						late.Status, visible(late.Body))
				}
				agent := i.registered(t, "Agent", "https://three.example/callback")
				page = i.asks(t, agent, i.ada)
				i.Clock.Advance(interaction.WaitingLifetime)
				if late := again(page); !strings.Contains(late.Body, "within 24 hours") {
					t.Errorf("the page of status %d does not say that it is too late:\n%s",
						late.Status, visible(late.Body))
				}
			})
		t.Run("dismissed", func(t *testing.T) {
			agent := i.registered(t, "Agent", "https://four.example/callback")
			page := i.asks(t, agent, i.ada)
			loopback := i.registered(t, "Native", local)
			native := i.asks(t, loopback, i.ada)
			for _, a := range []*servertest.Agent{agent, loopback} {
				must[admin.Client](t)(i.operations.DismissClient(t.Context(), i.by, a.ClientID))
			}
			again(page).ReturnPage(http.StatusForbidden, "access_denied", "four.example")
			again(native).Refused("access_denied") // the answer stays on the person's computer
			i.Clock.Advance(time.Second)
			waits(t, i.asks(t, agent, i.ada)) // who starts again, asks again
			if _, err := i.operations.DismissClient(t.Context(), i.by, loopback.ClientID); err == nil {
				t.Error("it was dismissed twice")
			}
		})
		t.Run("approved and dismissed at once", func(t *testing.T) {
			agent := i.registered(t, "Agent", "https://both.example/callback")
			page := i.asks(t, agent, i.ada)
			var operators sync.WaitGroup
			var approved, dismissed error
			operators.Go(func() { _, approved = i.operations.ApproveClient(t.Context(), i.by, agent.ClientID) })
			operators.Go(func() { _, dismissed = i.operations.DismissClient(t.Context(), i.by, agent.ClientID) })
			operators.Wait()
			if refused := (*admin.Error)(nil); approved != nil ||
				dismissed != nil && (!errors.As(dismissed, &refused) || refused.Kind != admin.Conflict) {
				t.Errorf("approve: %v, dismiss: %v", approved, dismissed)
			}
			if consent := again(page); !consent.IsConsent() { // whoever approves has the last word
				t.Errorf("status is %d, want the consent page:\n%s", consent.Status, visible(consent.Body))
			}
		})
		t.Run("the person who asked has no account any more", func(t *testing.T) {
			agent := i.registered(t, "Agent", "https://left.example/callback")
			bob := i.User("bob@example.com")
			page := i.asks(t, agent, bob)
			waits(t, page)
			must[admin.Deletion](t)(i.operations.DeleteUser(t.Context(), i.by, bob.Email))
			for _, entry := range i.waiting() {
				if entry.ID == agent.ClientID && entry.User != "" {
					t.Errorf("the inbox names %s", entry.User)
				}
			}
			_, err := i.operations.ApproveClientFor(t.Context(), i.by, agent.ClientID,
				admin.Approval{Once: new(bob.ID)})
			if refused := (*admin.Error)(nil); !errors.As(err, &refused) || refused.Kind != admin.NotFound {
				t.Errorf("approved for somebody without an account: %v", err)
			}
			if page = again(page); !page.IsSignIn() {
				t.Errorf("status is %d %s, want the sign-in", page.Status, page.URL)
			}
			must[admin.Client](t)(i.operations.ApproveClient(t.Context(), i.by, agent.ClientID))
		})
		t.Run("the client is forgotten meanwhile", func(t *testing.T) {
			agent := i.registered(t, "Agent", "https://forgotten.example/callback")
			i.Clock.Advance(23 * time.Hour)
			page := i.asks(t, agent, i.ada)
			waits(t, page)
			must[admin.Client](t)(i.operations.DismissClient(t.Context(), i.by, agent.ClientID))
			i.Clock.Advance(2 * time.Hour)
			must[store.Swept](t)(i.DB.Sweep(t.Context()))
			if _, err := i.operations.ApproveClient(t.Context(), i.by, agent.ClientID); err == nil {
				t.Error("a client that is not there was approved")
			}
			if page = again(page); page.Status >= http.StatusInternalServerError || page.Location != "" {
				t.Errorf("the page has status %d and leads to %q:\n%s", page.Status, page.Location, visible(page.Body))
			}
		})
		t.Run("the person stops waiting", func(t *testing.T) {
			agent := i.registered(t, "Agent", "https://five.example/callback")
			page := i.asks(t, agent, i.ada)
			page.Submit(page.Form("csrf")).Refused("access_denied")
		})
		t.Run("prompt=none", func(t *testing.T) {
			agent := i.registered(t, "Native", "http://127.0.0.1:7777/none")
			browser := i.Browser(t)
			browser.Get("/login").SignIn(i.ada)
			browser.Authorize(agent.Authorization(servertest.With("prompt", "none"))).Refused("interaction_required")
		})
		t.Run("a form that was made before does not decide", func(t *testing.T) {
			agent := i.registered(t, "Agent", "https://six.example/callback")
			must[admin.Client](t)(i.operations.ApproveClientFor(t.Context(), i.by, agent.ClientID,
				admin.Approval{Once: new(i.ada.ID)}))
			first, second := i.asks(t, agent, i.ada), i.asks(t, agent, i.ada)
			first.Allow().Code()
			waits(t, second.Allow())
		})
	})
}

// An approval for a group or for one person reaches nobody else.
func TestApprovedForSome(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		i := newInbox(t, db, clock)
		group := &identity.Group{ID: oauth.NewID("grp_"), Name: "staff", CreatedAt: i.DB.Now()}
		i.Update(func(tx *store.Tx) error {
			if err := tx.CreateGroup(group); err != nil {
				return err
			}
			_, err := tx.AddMember(group.ID, i.ada.ID)
			return err
		})
		t.Run("a group, and one who left it", func(t *testing.T) {
			agent := i.registered(t, "Agent", "https://group.example/callback")
			hers, mine := i.asks(t, agent, i.eve), i.asks(t, agent, i.ada)
			waits(t, mine)
			waits(t, hers)
			must[admin.Client](t)(i.operations.ApproveClientFor(t.Context(), i.by, agent.ClientID,
				admin.Approval{Group: new("staff")}))
			tokens := agent.Exchange(again(mine).Allow().Code()).Tokens()
			waits(t, again(hers))
			entries := i.waiting()
			if len(entries) != 1 || entries[0].User != i.eve.Email || entries[0].ApprovedFor[0] != "staff" {
				t.Errorf("the inbox has %+v", entries)
			}
			open := i.asks(t, agent, i.ada)
			i.Update(func(tx *store.Tx) error { _, err := tx.RemoveMember(group.ID, i.ada.ID); return err })
			waits(t, open.Allow())
			waits(t, i.asks(t, agent, i.ada))
			tokens = agent.Refresh(tokens.Refresh).Tokens() // what was allowed stays
			guard := i.Agent(t, i.Client(servertest.Confidential, servertest.ResourceServer(servertest.MCP)))
			if !guard.Active(tokens.Access) {
				t.Error("the access token is not active, want the grant to stay")
			}
		})
		t.Run("once", func(t *testing.T) {
			agent := i.registered(t, "Agent", "https://once.example/callback")
			mine, tab, hers := i.asks(t, agent, i.ada), i.asks(t, agent, i.ada), i.asks(t, agent, i.eve)
			must[admin.Client](t)(i.operations.ApproveClientFor(t.Context(), i.by, agent.ClientID,
				admin.Approval{Once: new(i.ada.Email)}))
			waits(t, again(hers)) // it is not hers
			mine, tab = again(mine), again(tab)
			tokens := atOnce(2, func(n int) *servertest.Page { return []*servertest.Page{mine, tab}[n].Allow() })
			codes, waited := 0, (*servertest.Page)(nil)
			for _, page := range tokens {
				if page.Location != "" {
					codes++
					continue
				}
				waited = page
			}
			if codes != 1 || waited == nil {
				t.Fatalf("%d requests got a code by an approval for one", codes)
			}
			waits(t, waited)
			waits(t, i.asks(t, agent, i.ada))
		})
		t.Run("the same decision sent again has the same answer", func(t *testing.T) {
			agent := i.registered(t, "Agent", "https://twice.example/callback")
			page := i.asks(t, agent, i.ada)
			must[admin.Client](t)(i.operations.ApproveClientFor(t.Context(), i.by, agent.ClientID,
				admin.Approval{Once: new(i.ada.ID)}))
			page = again(page)
			if first, second := page.Allow().Code(), page.Allow().Code(); first != second {
				t.Error("allowing again gives another code, want the same")
			}
		})
		t.Run("an approval for one time that is too old", func(t *testing.T) {
			agent := i.registered(t, "Agent", "https://week.example/callback")
			must[admin.Client](t)(i.operations.ApproveClientFor(t.Context(), i.by, agent.ClientID,
				admin.Approval{Once: new(i.ada.ID)}))
			i.Clock.Advance(7 * 24 * time.Hour)
			waits(t, i.asks(t, agent, i.ada))
		})
		t.Run("two operators at once", func(t *testing.T) {
			agent := i.registered(t, "Agent", "https://race.example/callback")
			page := i.asks(t, agent, i.eve)
			var operators sync.WaitGroup
			errs := make([]error, 4)
			decide := func(n int) error {
				if n%2 == 0 {
					_, err := i.operations.ApproveClientFor(t.Context(), i.by, agent.ClientID,
						admin.Approval{Once: new(i.eve.ID)})
					return err
				}
				_, err := i.operations.ApproveClientFor(t.Context(), i.by, agent.ClientID,
					admin.Approval{Group: new("staff")})
				return err
			}
			for n := range errs {
				operators.Go(func() { errs[n] = decide(n) })
			}
			operators.Wait()
			for _, err := range errs {
				if err != nil {
					t.Error(err)
				}
			}
			again(page).Allow().Code()
			waits(t, i.asks(t, agent, i.eve))
		})
		t.Run("an approval ends with the redirect URIs that were approved", func(t *testing.T) {
			agent := i.Agent(t, nil)
			agent.RedirectURI = "https://changes.example/callback"
			agent.Register(map[string]any{"client_name": "Agent", "redirect_uris": []string{agent.RedirectURI},
				"token_endpoint_auth_method": "client_secret_basic"})
			must[admin.Client](t)(i.operations.ApproveClientFor(t.Context(), i.by, agent.ClientID,
				admin.Approval{Once: new(i.ada.ID)}))
			agent.RedirectURI = "https://elsewhere.example/callback"
			reply := agent.Registration(http.MethodPut,
				map[string]any{"client_id": agent.ClientID, "client_name": "Agent",
					"redirect_uris": []string{agent.RedirectURI}, "token_endpoint_auth_method": "client_secret_basic"})
			if reply.Status != http.StatusOK {
				t.Fatalf("status is %d, want %d: %s", reply.Status, http.StatusOK, reply.Body)
			}
			waits(t, i.asks(t, agent, i.ada))
		})
		state := func(t *testing.T, id string) admin.ClientState {
			t.Helper()
			return must[admin.Client](t)(i.operations.Client(t.Context(), i.by, id)).State
		}
		t.Run("an approval is withdrawn", func(t *testing.T) {
			agent := i.registered(t, "Agent", "https://withdrawn.example/callback")
			if got := state(t, agent.ClientID); got != admin.StateUnverified {
				t.Errorf("state is %q, want %q", got, admin.StateUnverified)
			}
			page := i.asks(t, agent, i.ada)
			if got := state(t, agent.ClientID); got != admin.StateWaiting {
				t.Errorf("state is %q, want %q", got, admin.StateWaiting)
			}
			must[admin.Client](t)(i.operations.ApproveClientFor(t.Context(), i.by, agent.ClientID,
				admin.Approval{Group: new("staff")}))
			approved := must[admin.Client](t)(i.operations.ApproveClient(t.Context(), i.by, agent.ClientID))
			if approved.State != admin.StateApproved || len(approved.ApprovedFor) != 1 ||
				approved.ApprovedFor[0] != "staff" {
				t.Errorf("state is %q for %v, want %q for staff",
					approved.State, approved.ApprovedFor, admin.StateApproved)
			}
			tokens := agent.Exchange(again(page).Allow().Code()).Tokens()
			unapprove := func(terms admin.Withdrawal) admin.Unapproval {
				t.Helper()
				return must[admin.Unapproval](t)(i.operations.UnapproveClient(t.Context(), i.by, agent.ClientID, terms))
			}
			if done := unapprove(admin.Withdrawal{Group: new("staff")}); done.State != admin.StateApproved ||
				len(done.ApprovedFor) != 0 {
				t.Errorf("for a group: state %q for %v", done.State, done.ApprovedFor)
			}
			must[admin.Client](t)(i.operations.ApproveClientFor(t.Context(), i.by, agent.ClientID,
				admin.Approval{Group: new("staff")}))
			if done := unapprove(admin.Withdrawal{}); done.State != admin.StateUnverified ||
				len(done.ApprovedFor) != 0 || done.Grants != 0 {
				t.Errorf("for all: state %q for %v, %d grants", done.State, done.ApprovedFor, done.Grants)
			}
			waits(t, i.asks(t, agent, i.ada))
			tokens = agent.Refresh(tokens.Refresh).Tokens() // what was allowed stays
			if done := unapprove(admin.Withdrawal{EndGrants: true}); done.Grants != 1 ||
				done.State != admin.StateWaiting {
				t.Errorf("%d grants ended and the state is %q, want 1 and %q",
					done.Grants, done.State, admin.StateWaiting)
			}
			agent.Refresh(tokens.Refresh).Refused(http.StatusBadRequest, "invalid_grant")
			must[admin.Block](t)(i.operations.BlockClient(t.Context(), i.by, agent.ClientID, admin.BlockTerms{}))
			if got := state(t, agent.ClientID); got != admin.StateBlocked {
				t.Errorf("state is %q, want %q", got, admin.StateBlocked)
			}
			must[admin.Client](t)(i.operations.DisableClient(t.Context(), i.by, agent.ClientID))
			if got := state(t, agent.ClientID); got != admin.StateDisabled {
				t.Errorf("state is %q, want %q", got, admin.StateDisabled)
			}
		})
		t.Run("what is approved is what was looked at", func(t *testing.T) {
			agent := i.Agent(t, nil)
			agent.RedirectURI = "https://looked.example/callback"
			metadata := map[string]any{"client_name": "Agent", "redirect_uris": []string{agent.RedirectURI},
				"token_endpoint_auth_method": "client_secret_basic"}
			agent.Register(metadata)
			page := i.asks(t, agent, i.ada)
			seen := ""
			for _, w := range i.waiting() {
				if w.ID == agent.ClientID {
					seen = w.Seen
				}
			}
			metadata["client_id"], metadata["client_name"] = agent.ClientID, "Claude"
			if reply := agent.Registration(http.MethodPut, metadata); reply.Status != http.StatusOK {
				t.Fatalf("status is %d, want %d: %s", reply.Status, http.StatusOK, reply.Body)
			}
			refusedAs := func(kind admin.Kind, a admin.Approval) {
				t.Helper()
				_, err := i.operations.ApproveClientFor(t.Context(), i.by, agent.ClientID, a)
				if refused := (*admin.Error)(nil); !errors.As(err, &refused) || refused.Kind != kind {
					t.Errorf("%+v is answered with %v, want an error of the kind %v", a, err, kind)
				}
			}
			refusedAs(admin.Stale, admin.Approval{Seen: seen})
			refusedAs(admin.Stale, admin.Approval{Seen: seen, Group: new("staff")})
			refusedAs(admin.Stale, admin.Approval{Seen: seen, Once: new(i.ada.ID)})
			refusedAs(admin.Invalid, admin.Approval{Group: new("")})
			refusedAs(admin.Invalid, admin.Approval{Once: new("")})
			refusedAs(admin.Invalid, admin.Approval{Group: new("staff"), Once: new(i.ada.ID)})
			waits(t, again(page))
		})
	})
}

// Strangers cannot fill the inbox, and one person only a little.
func TestInboxIsBounded(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		i := newInbox(t, db, clock)
		browser := i.Browser(t)
		browser.Authorize(i.registered(t, "Agent", "https://stranger.example/callback").Authorization())
		if entries := i.waiting(); len(entries) != 0 {
			t.Errorf("a stranger entered %+v", entries)
		}
		browser.Get("/login").SignIn(i.eve)
		const most = 20
		for n := range most + 1 {
			agent := i.registered(t, "Agent", "http://127.0.0.1/"+strings.Repeat("x", n+1))
			page := browser.Authorize(agent.Authorization())
			if n < most {
				waits(t, page)
			} else {
				page.Refused("access_denied")
			}
		}
		if n := must[int](t)(i.operations.WaitingCount(t.Context(), i.by)); n != most {
			t.Errorf("%d clients wait", n)
		}
		i.Clock.Advance(2 * 24 * time.Hour) // clients that were never used are kept for a day, unless they wait
		must[store.Swept](t)(i.DB.Sweep(t.Context()))
		if n := must[int](t)(i.operations.WaitingCount(t.Context(), i.by)); n != most {
			t.Errorf("%d clients wait after two days", n)
		}
		i.Clock.Advance(30 * 24 * time.Hour)
		must[store.Swept](t)(i.DB.Sweep(t.Context()))
		if n := must[int](t)(i.operations.WaitingCount(t.Context(), i.by)); n != 0 {
			t.Errorf("%d clients wait after a month", n)
		}
	})
}

// A blocked client loses what it had, and does not come back under another id.
func TestBlocked(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		i := newInbox(t, db, clock)
		guard := i.Agent(t, i.Client(servertest.Confidential, servertest.ResourceServer(servertest.MCP)))
		agent := i.registered(t, "Evil", evil)
		sibling := i.registered(t, "Evil too", "https://other.evil.example/callback")
		honest := i.registered(t, "Honest", "https://honest.example/callback")
		native := i.registered(t, "Native", local)
		tokens := map[*servertest.Agent]servertest.Tokens{}
		for _, a := range []*servertest.Agent{agent, sibling, honest, native} {
			must[admin.Client](t)(i.operations.ApproveClientFor(t.Context(), i.by, a.ClientID,
				admin.Approval{Once: new(i.ada.ID)}))
			tokens[a] = a.Exchange(i.asks(t, a, i.ada).Allow().Code()).Tokens()
		}
		open := i.asks(t, agent, i.eve)
		waits(t, open)
		block := must[admin.Block](t)(i.operations.BlockClient(t.Context(), i.by, agent.ClientID,
			admin.BlockTerms{Reason: "phishing"}))
		if block.GrantsEnded != 1 || len(block.Sites) != 1 || block.Sites[0] != "evil.example" {
			t.Errorf("the block is %+v, want one grant ended and the site evil.example", block)
		}
		t.Run("its tokens end at once, and those of its siblings", func(t *testing.T) {
			for a, live := range map[*servertest.Agent]bool{agent: false, sibling: false, honest: true, native: true} {
				if got := guard.Active(tokens[a].Access); got != live {
					t.Errorf("the token of %s is active: %v, want %v", a.RedirectURI, got, live)
				}
				if reply := a.Refresh(tokens[a].Refresh); (reply.Status == http.StatusOK) != live {
					t.Errorf("a refresh of %s has status %d, want success: %v: %s",
						a.RedirectURI, reply.Status, live, reply.Body)
				}
			}
		})
		t.Run("a person who waits is told, and can go back", func(t *testing.T) {
			page := again(open)
			if !strings.Contains(page.Body, "has blocked this application") {
				t.Errorf("the page says:\n%s", visible(page.Body))
			}
			page.ReturnPage(http.StatusForbidden, "access_denied", "app.evil.example")
			i.Browser(t).Authorize(agent.Authorization()).ErrorPage(http.StatusForbidden)
			i.Browser(t).Authorize(sibling.Authorization()).ErrorPage(http.StatusForbidden)
		})
		t.Run("it does not register again", func(t *testing.T) {
			for name, m := range map[string]map[string]any{
				"the same": {"client_name": "Evil", "redirect_uris": []string{evil},
					"token_endpoint_auth_method": "none"},
				"another name on the same site": {"client_name": "Fresh",
					"redirect_uris": []string{"https://fresh.evil.example/cb"}, "token_endpoint_auth_method": "none"},
				"with a secret": {"client_name": "Fresh",
					"redirect_uris":              []string{"https://EVIL.example./cb"},
					"token_endpoint_auth_method": "client_secret_basic"},
				"beside another site, or a port": {"client_name": "Fresh",
					"redirect_uris":              []string{"https://fine.example/cb", "https://evil.example:8443/cb"},
					"token_endpoint_auth_method": "none"},
			} {
				i.Agent(t, nil).Register(m).Refused(http.StatusForbidden, "access_denied")
				t.Log(name)
			}
			i.registered(t, "Evil", "https://evil.example.org/callback") // another site
			i.registered(t, "Evil", "http://127.0.0.1/callback")         // on the person's own computer
		})
		t.Run("it does not come back by an update", func(t *testing.T) {
			a := i.Agent(t, nil)
			m := map[string]any{"client_name": "Harmless", "redirect_uris": []string{"https://harmless.example/cb"},
				"token_endpoint_auth_method": "client_secret_basic"}
			a.Register(m)
			m["client_id"], m["redirect_uris"] = a.ClientID, []string{evil}
			a.Registration(http.MethodPut, m).Refused(http.StatusForbidden, "access_denied")
		})
		t.Run("blocked twice, approved, unblocked", func(t *testing.T) {
			if _, err := i.operations.BlockClient(t.Context(), i.by, agent.ClientID, admin.BlockTerms{}); err == nil {
				t.Error("it was blocked twice")
			}
			if _, err := i.operations.ApproveClient(t.Context(), i.by, agent.ClientID); err == nil {
				t.Error("the client was approved, want an error")
			}
			must[admin.Client](t)(i.operations.ApproveClient(t.Context(), i.by, sibling.ClientID))
			if !guard.Active(tokens[sibling].Access) {
				t.Error("a client that an operator vouches for is kept out by a block of another")
			}
			must[admin.Block](t)(i.operations.UnblockClient(t.Context(), i.by, agent.ClientID))
			if guard.Active(tokens[agent].Access) {
				t.Error("the grant came back")
			}
			waits(t, i.asks(t, agent, i.ada))
		})
		t.Run("a client on the person's computer", func(t *testing.T) {
			must[admin.Block](t)(i.operations.BlockClient(t.Context(), i.by, native.ClientID, admin.BlockTerms{}))
			i.Agent(t, nil).
				Register(map[string]any{"client_name": " NATIVE ",
					"redirect_uris":              []string{"http://127.0.0.1:9999/callback"},
					"token_endpoint_auth_method": "none"}).Refused(http.StatusForbidden, "access_denied")
			i.registered(t, "Another program", local)
		})
	})
}
