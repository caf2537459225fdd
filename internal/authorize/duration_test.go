package authorize_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// lasting returns a server on db, a person who is signed in in the browser, an agent, and the resource server.
func lasting(t *testing.T, db *store.DB, clock *storetest.Clock) (s *servertest.Server, ada *servertest.Person,
	agent, guard *servertest.Agent, browser *servertest.Browser) {
	s = servertest.New(t, db, clock)
	s.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts", "mcp:tools:email:send=Send e-mail")
	ada, agent, browser = s.User("ada@example.com"), s.Agent(t, s.Client()), s.Browser(t)
	guard = s.Agent(t, s.Client(servertest.Confidential, servertest.ResourceServer(servertest.MCP)))
	browser.Get("/login").SignIn(ada)
	return s, ada, agent, guard, browser
}

// allowFor allows a request for a duration, and redeems its code.
func allowFor(agent *servertest.Agent, browser *servertest.Browser, duration string) servertest.Tokens {
	page := browser.Authorize(agent.Authorization(servertest.With("prompt", "consent")))
	code := page.Submit(page.Form("decision"), servertest.With("decision", "allow"),
		servertest.With("duration", duration)).Code()
	return agent.Exchange(code).Tokens()
}

// CN-24: a grant for eight hours or thirty days ends then, however often it is refreshed, and no token of it lasts
// longer.
func TestDuration(t *testing.T) {
	for duration, length := range map[string]time.Duration{"8h": 8 * time.Hour, "30d": 30 * 24 * time.Hour} {
		t.Run(duration, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
				s, _, agent, guard, browser := lasting(t, db, clock)
				end := s.DB.Now().Add(length)
				tokens := allowFor(agent, browser, duration)
				s.Clock.Set(end.Add(-5 * time.Minute))
				tokens = agent.Refresh(tokens.Refresh).Tokens()
				if got := servertest.Claims(t, tokens.Access).Expiry; got != end.Unix() {
					t.Errorf("the token expires at %d, want %d", got, end.Unix())
				}
				s.Clock.Set(end)
				agent.Refresh(tokens.Refresh).Refused(400, "invalid_grant")
				if guard.Active(tokens.Access) {
					t.Error("the token is active after its grant has ended")
				}
			})
		})
	}
}

// CN-24: a grant for a session ends with the session, however that ends: its access token and its refresh token at
// once.
func TestThisSession(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s, ada, agent, guard, _ := lasting(t, db, clock)
		ends := map[string]func(browser *servertest.Browser){
			"sign-out": func(b *servertest.Browser) {
				page := b.Get("/logout")
				page.Submit(page.Form("csrf"))
			},
			"expiry": func(*servertest.Browser) { s.Clock.Advance(31 * 24 * time.Hour) },
			"revoked": func(*servertest.Browser) {
				s.Update(func(tx *store.Tx) error {
					sessions, _, err := tx.Sessions(store.SessionFilter{UserID: ada.ID}, store.Page{})
					for _, session := range sessions {
						if err == nil {
							_, err = tx.RevokeSession(session.ID)
						}
					}
					return err
				})
			},
			"a changed password": func(*servertest.Browser) {
				other := s.Browser(t)
				other.Get("/login").SignIn(ada)
				page := other.Get("/account/security")
				page.Submit(page.Form("current"), servertest.With("current", ada.Password),
					servertest.With("password", ada.Password))
			},
			"another person": func(b *servertest.Browser) {
				b.Get("/login?return=/account").SignIn(s.User("eve@example.com"))
			},
		}
		for name, end := range ends {
			t.Run(name, func(t *testing.T) {
				b := s.Browser(t)
				b.Get("/login").SignIn(ada)
				tokens, stays := allowFor(agent, b, "session"), allowFor(agent, b, "always")
				if !guard.Active(tokens.Access) {
					t.Fatal("the token is not active while the session lasts")
				}
				refreshed := agent.Refresh(tokens.Refresh).Tokens()
				end(b)
				if guard.Active(refreshed.Access) || guard.Active(tokens.Access) {
					t.Error("an access token is active although the session has ended")
				}
				agent.Refresh(refreshed.Refresh).Refused(400, "invalid_grant")
				if name != "expiry" {
					agent.Refresh(stays.Refresh).Tokens()
				}
			})
		}
		t.Run("not with a sign-in of the same person", func(t *testing.T) {
			browser := s.Browser(t)
			browser.Get("/login").SignIn(ada)
			tokens := allowFor(agent, browser, "session")
			page := browser.Get("/login?return=/account")
			page.SignIn(ada)
			agent.Refresh(tokens.Refresh).Tokens()
		})
		t.Run("a code is worth nothing after it", func(t *testing.T) {
			browser := s.Browser(t)
			browser.Get("/login").SignIn(ada)
			page := browser.Authorize(agent.Authorization(servertest.With("prompt", "consent")))
			code := page.Submit(page.Form("decision"), servertest.With("decision", "allow"),
				servertest.With("duration", "session")).Code()
			s.Update(func(tx *store.Tx) error { return tx.EndSessions(ada.ID) })
			agent.Exchange(code).Refused(400, "invalid_grant")
		})
	})
}

// CN-12: what was allowed for eight hours is remembered until then, and not prolonged by that; what was allowed for a
// session is remembered in that session.
func TestRememberedDuration(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s, ada, agent, _, browser := lasting(t, db, clock)
		end := s.DB.Now().Add(8 * time.Hour)
		allowFor(agent, browser, "8h")
		s.Clock.Advance(7 * time.Hour)
		again := agent.Exchange(browser.Authorize(agent.Authorization()).Code()).Tokens()
		s.Clock.Set(end)
		agent.Refresh(again.Refresh).Refused(400, "invalid_grant")
		if !browser.Authorize(agent.Authorization()).IsConsent() {
			t.Error("a consent is remembered after it has ended")
		}
		allowFor(agent, browser, "session")
		browser.Authorize(agent.Authorization()).Code()
		other := s.Browser(t)
		other.Get("/login").SignIn(ada)
		if !other.Authorize(agent.Authorization()).IsConsent() {
			t.Error("a consent for a session is remembered in another")
		}
	})
}

// CN-25: a button ticks only the scopes that read, without deciding anything and without scripts.
func TestOnlyReading(t *testing.T) {
	s := servertest.Start(t)
	s.Resource(servertest.MCP, "mcp:tools:weather", "mcp:tools:email:send", "mcp:tools:calendar:write")
	s.Update(func(tx *store.Tx) error {
		r, err := tx.Resource(servertest.MCP)
		if err != nil {
			return err
		}
		r.Scopes[0].Risk, r.Scopes[1].Risk, r.Scopes[2].Risk = oauth.RiskRead, oauth.RiskAct, oauth.RiskChange
		return tx.UpdateResource(r)
	})
	agent, browser := s.Agent(t, s.Client()), s.Browser(t)
	browser.Get("/login").SignIn(s.User("ada@example.com"))
	page := browser.Authorize(agent.Authorization(servertest.With("scope",
		"mcp:tools:weather mcp:tools:email:send mcp:tools:calendar:write offline_access")))
	if !strings.Contains(page.Body, "It asked for this by name.") {
		t.Error("the page does not say what does not work without a scope that was asked for by name")
	}
	pick := func(page *servertest.Page, which string) (*servertest.Page, url.Values) {
		page = page.Submit(page.Form("decision"), servertest.With("select", which), servertest.With("duration", "8h"))
		if page.Status != 200 || !strings.Contains(page.Body, `<option value="8h" selected>`) {
			t.Errorf("the page forgets the duration: %d\n%s", page.Status, page.Body)
		}
		return page, page.Form("decision").Values()
	}
	page, chosen := pick(page, "read")
	if got := strings.Join(chosen["scope"], " "); got != "mcp:tools:weather offline_access" {
		t.Errorf("ticked: %s", got)
	}
	_, all := pick(page, "all")
	if got := len(all["scope"]); got != 4 {
		t.Errorf("%d are ticked, want 4", got)
	}
	if n := len(s.Events("authorize.consent")); n != 0 {
		t.Errorf("%d decisions were recorded", n)
	}
	tokens := agent.Exchange(page.Allow().Code()).Tokens()
	if tokens.Scope != "mcp:tools:weather offline_access" {
		t.Errorf("granted: %s", tokens.Scope)
	}
}

// CN-20: the same scopes for another time are another decision.
func TestAnotherDuration(t *testing.T) {
	s := servertest.StartMCP(t)
	agent, browser := s.Agent(t, s.Client()), s.Browser(t)
	browser.Get("/login").SignIn(s.User("ada@example.com"))
	page := browser.Authorize(agent.Authorization())
	form := page.Form("decision")
	code := page.Submit(form, servertest.With("decision", "allow"), servertest.With("duration", "8h")).Code()
	again := page.Submit(form, servertest.With("decision", "allow"), servertest.With("duration", "8h")).Code()
	if again != code {
		t.Error("the same decision has another code")
	}
	page.Submit(form, servertest.With("decision", "allow"), servertest.With("duration", "30d")).ErrorPage(400)
	wrong := page.Submit(form, servertest.With("decision", "allow"), servertest.With("duration", "forever"))
	if wrong.Status != 400 || !strings.Contains(wrong.Body, "Choose how long it may do this.") {
		t.Errorf("status %d:\n%s", wrong.Status, wrong.Body)
	}
}
