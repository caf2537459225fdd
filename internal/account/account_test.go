package account_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// each runs test on both databases, each time with a new server, a signed-in person and a connected agent.
func each(t *testing.T, test func(t *testing.T, w *world)) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock)
		s.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts", "mcp:tools:email:send=Send e-mail")
		w := &world{Server: s, ada: s.User("ada@example.com"), agent: s.Agent(t, s.Client()), browser: s.Browser(t)}
		w.tokens = w.agent.Connect(w.browser, w.ada)
		test(t, w)
	})
}

type world struct {
	*servertest.Server
	ada     *servertest.Person
	agent   *servertest.Agent
	browser *servertest.Browser
	tokens  servertest.Tokens
}

// guard returns the resource server, which introspects tokens.
func (w *world) guard(t *testing.T) *servertest.Agent {
	return w.Agent(t, w.Client(servertest.Confidential, servertest.ResourceServer(servertest.MCP)))
}

// form returns the form of a page whose action ends in suffix.
func form(t *testing.T, p *servertest.Page, suffix string) *servertest.Form {
	t.Helper()
	for _, f := range p.Forms() {
		if strings.HasSuffix(f.Action, suffix) {
			return f
		}
	}
	t.Fatalf("no form to …%s (status %d):\n%s", suffix, p.Status, p.Body)
	return nil
}

// at returns f with another action.
func at(f *servertest.Form, action string) *servertest.Form {
	moved := *f
	moved.Action = action
	return &moved
}

// inner returns what the page shows beside its menu.
func inner(p *servertest.Page) string {
	_, text, _ := strings.Cut(p.Body, "<main")
	return text
}

func has(t *testing.T, p *servertest.Page, status int, texts ...string) {
	t.Helper()
	if p.Status != status {
		t.Errorf("status %d, want %d:\n%s", p.Status, status, inner(p))
	}
	for _, text := range texts {
		if !strings.Contains(p.Body, text) {
			t.Errorf("the page lacks %q:\n%s", text, inner(p))
		}
	}
}

// A person sees what they allowed, ends it at once, and takes that back within ten minutes.
func TestAgents(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		guard := w.guard(t)
		w.Clock.Advance(5 * time.Minute)
		page := w.browser.Get("/account")
		has(t, page, 200, "Example agent", "Example MCP", "Weather forecasts", "5 minutes ago", "127.0.0.1",
			"agent.example.com")
		page = page.Submit(form(t, page, "/revoke"))
		has(t, page, 200, "Disconnected. What it could do here has ended.", "You can undo this for ten minutes.")
		if guard.Active(w.tokens.Access) {
			t.Error("the access token is active although the agent is disconnected")
		}
		w.agent.Refresh(w.tokens.Refresh).Refused(400, "invalid_grant")
		undo := form(t, page, "/undo")
		w.Clock.Advance(4 * time.Minute)
		has(t, page.Submit(undo), 200, "Connected again, as it was.")
		has(t, page.Submit(undo), 200, "Connected again, as it was.") // a second click
		if !guard.Active(w.tokens.Access) {
			t.Error("the access token is not active although the agent is connected again")
		}
		w.agent.Refresh(w.tokens.Refresh).Tokens()
		if n := len(w.Events("grant.restore")); n != 1 {
			t.Errorf("%d events of the undo, want 1", n)
		}
		activity := w.browser.Get("/account/activity")
		has(t, activity, 200, "You connected Example agent again, as it was.",
			"The access of Example agent for you ended because you disconnected it.", "You signed in.")
	})
}

// What an administrator or the person did to the account is told to the person in plain sentences.
func TestActivityIsPlain(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		o, root := &admin.Operations{DB: w.DB, Issuer: w.URL}, admin.Command("root", "root@host")
		role := identity.Operator
		if _, err := o.UpdateUser(t.Context(), root, w.ada.ID, admin.UserTerms{Role: &role}); err != nil {
			t.Fatal(err)
		}
		for _, action := range []string{"second_factor.remove", "setup.complete", "user.export",
			"identity.disconnect"} {
			event := audit.Event{Action: action, UserID: w.ada.ID, Actor: audit.Actor{Type: audit.ByUser, ID: w.ada.ID}}
			if err := w.DB.Append(t.Context(), event.With("provider", "GitHub").Allow()); err != nil {
				t.Fatal(err)
			}
		}
		w.browser.Authorize(w.agent.Authorization(servertest.With("prompt", "consent"))).Deny()
		refused := audit.Consent(w.agent.ClientID, w.ada.ID, servertest.MCP, "").Refuse("access_denied",
			"the person is not entitled to use this MCP server")
		if err := w.DB.Append(t.Context(), refused); err != nil {
			t.Fatal(err)
		}
		page := w.browser.Get("/account/activity")
		has(t, page, 200, "You did not let Example agent in at Example MCP.",
			"Example agent was not let in at Example MCP, because you are not entitled to use this MCP server",
			"An administrator changed the role of your account from none to operator.",
			"You removed your authenticator app.", "You set the installation up and are its first owner.",
			"You downloaded what is stored about your account.", "You disconnected your sign-in with GitHub.",
			"You allowed Example agent to use “Weather forecasts” at Example MCP for 90 days.",
			"Example agent obtained a token for you at Example MCP with “Weather forecasts”.")
		for _, word := range []string{"root@host", "mcp:tools:weather", "with its code"} {
			if strings.Contains(page.Body, word) {
				t.Errorf("the page says %q, which means nothing to the person", word)
			}
		}
	})
}

// A disconnection cannot be undone after ten minutes, after an operator revoked the grant, or after the agent connected
// again.
func TestNoUndo(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		page := w.browser.Get("/account")
		gone := page.Submit(form(t, page, "/revoke"))
		undo := form(t, gone, "/undo")
		t.Run("connected anew", func(t *testing.T) {
			w.Clock.Advance(time.Second)
			w.agent.Connect(w.browser, w.ada)
			has(t, gone.Submit(undo), 409, "This can no longer be undone")
			if strings.Contains(w.browser.Get("/account").Body, "/undo") {
				t.Error("an undo is offered")
			}
		})
		t.Run("too late", func(t *testing.T) {
			page := w.browser.Get("/account")
			gone := page.Submit(form(t, page, "/revoke"))
			w.Clock.Advance(10*time.Minute + time.Second)
			has(t, gone.Submit(form(t, gone, "/undo")), 409, "This can no longer be undone")
		})
		t.Run("ended by an operator", func(t *testing.T) {
			tokens := w.agent.Connect(w.browser, w.ada)
			id := strings.SplitN(servertest.Claims(t, tokens.Access).ID, ".", 2)[0]
			w.Update(func(tx *store.Tx) error { _, err := tx.RevokeGrant(id, "operator"); return err })
			has(t, gone.Submit(at(undo, "/account/grants/"+id+"/undo")), 409)
			w.agent.Refresh(tokens.Refresh).Refused(400, "invalid_grant")
		})
	})
}

// Two clicks on undo at once bring the grant back once, and both hear that it is back.
func TestUndoAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for range 5 {
			page := w.browser.Get("/account")
			gone := page.Submit(form(t, page, "/revoke"))
			undo := form(t, gone, "/undo")
			for _, answer := range atOnce(8, func() *servertest.Page { return gone.Submit(undo) }) {
				has(t, answer, 200, "Connected again")
			}
		}
		if n := len(w.Events("grant.restore")); n != 5 {
			t.Errorf("%d events of five undos", n)
		}
	})
}

func TestDisconnectAll(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		eve := w.User("eve@example.com")
		theirs := w.agent.Connect(w.Browser(t), eve)
		more := w.agent.Connect(w.browser, w.ada)
		page := w.browser.Get("/account")
		page = page.Submit(form(t, page, "/account/grants/revoke"))
		has(t, page, 200, "All agents are disconnected.")
		for _, tokens := range []servertest.Tokens{w.tokens, more} {
			w.agent.Refresh(tokens.Refresh).Refused(400, "invalid_grant")
		}
		w.agent.Refresh(theirs.Refresh).Tokens()
		page = page.Submit(form(t, page, "/undo"))
		has(t, page, 200, "Connected again")
		if events := w.Events("grant.revoke_all"); len(events) != 1 || events[0].Detail["grants_ended"] != "2" {
			t.Errorf("events: %+v", events)
		}
	})
}

// Another person's records are as if they were not there, whether read or written, one at a time or all at once.
func TestOnlyOnesOwn(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		eve := w.User("eve@example.com")
		other := w.Browser(t)
		theirs := w.agent.Connect(other, eve)
		grant := strings.SplitN(servertest.Claims(t, theirs.Access).ID, ".", 2)[0]
		page := w.browser.Get("/account")
		if strings.Contains(page.Body, grant) || strings.Contains(page.Body, eve.Email) {
			t.Error("the page shows another person's grant")
		}
		mine := form(t, page, "/revoke")
		for _, answer := range atOnce(8, func() *servertest.Page {
			return page.Submit(at(mine, "/account/grants/"+grant+"/revoke"))
		}) {
			has(t, answer, 404, "There is nothing of yours at this address.")
		}
		has(t, page.Submit(at(mine, "/account/grants/grt_none/revoke")), 404)
		w.agent.Refresh(theirs.Refresh).Tokens()

		gone := page.Submit(mine)
		undo := form(t, gone, "/undo")
		their := other.Get("/account")
		their = their.Submit(form(t, their, "/revoke"))
		has(t, gone.Submit(at(undo, "/account/grants/"+grant+"/undo")), 404)
		has(t, their, 200, "Disconnected.")

		session := strings.TrimSuffix(strings.TrimPrefix(form(t, other.Get("/account/sessions"), "/revoke").Action,
			"/account/sessions/"), "/revoke")
		sessions := w.browser.Get("/account/sessions")
		has(t, sessions.Submit(at(form(t, sessions, "/revoke"), "/account/sessions/"+session+"/revoke")), 404)
		has(t, other.Get("/account"), 200, eve.Email)
		if strings.Contains(w.browser.Get("/account/activity").Body, grant) {
			t.Error("the activity tells of another person")
		}
	})
}

// LG-12: a form without its token, with one of another form, session or person, changes nothing; nor does a session
// that ended.
func TestForms(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		page := w.browser.Get("/account")
		revoke := form(t, page, "/revoke")
		all := form(t, page, "/account/grants/revoke")
		page.Submit(revoke, servertest.Without("csrf")).ErrorPage(403)
		page.Submit(revoke, servertest.With("csrf", all.Values().Get("csrf"))).ErrorPage(403)
		other := w.Browser(t)
		other.Get("/login").SignIn(w.ada)
		theirs := other.Get("/account")
		page.Submit(revoke, servertest.With("csrf", form(t, theirs, "/revoke").Values().Get("csrf"))).ErrorPage(403)
		w.agent.Refresh(w.tokens.Refresh).Tokens()
		w.Update(func(tx *store.Tx) error { return tx.EndSessions(w.ada.ID) })
		if ended := page.Submit(revoke); !ended.IsSignIn() ||
			!strings.Contains(ended.URL, url.QueryEscape("/account")) {
			t.Errorf("after the session ended: %s\n%s", ended.URL, ended.Body)
		}
	})
}

func TestSessions(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		other := w.Browser(t)
		other.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
		w.Clock.Advance(time.Minute)
		other.Get("/login").SignIn(w.ada)
		page := w.browser.Get("/account/sessions")
		has(t, page, 200, "Firefox on Linux", "this one")
		if strings.Index(page.Body, "this one") > strings.Index(page.Body, "Firefox on Linux") {
			t.Errorf("the session of this browser is not the first:\n%s", page.Body)
		}
		var forms []*servertest.Form
		for _, f := range page.Forms() {
			if strings.HasSuffix(f.Action, "/revoke") {
				forms = append(forms, f)
			}
		}
		if len(forms) != 2 {
			t.Fatalf("%d forms, want 2", len(forms))
		}
		has(t, page.Submit(forms[1]), 200, "You are signed out there.")
		if !other.Get("/account").IsSignIn() {
			t.Error("the other session has not ended")
		}
		has(t, page.Submit(forms[1]), 404)
		if last := page.Submit(forms[0]); !last.IsSignIn() {
			t.Errorf("the person is not signed out here: %s", last.URL)
		}
		w.agent.Refresh(w.tokens.Refresh).Tokens() // agents stay
	})
}

// A password is changed by somebody who knows the current one. The other sessions end, this one and the agents stay.
func TestPassword(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		other := w.Browser(t)
		other.Get("/login").SignIn(w.ada)
		page := w.browser.Get("/account/security")
		change := form(t, page, "/account/security/password")
		const better = "a much better passphrase"
		send := func(current, next string) *servertest.Page {
			return page.Submit(change, servertest.With("current", current), servertest.With("password", next))
		}
		has(t, send("not the password", better), 403, "That is not your current password. Nothing was changed.")
		has(t, send(w.ada.Password, "short"), 400, "The password must have at least 8 characters.")
		has(t, other.Get("/account"), 200)
		has(t, send(w.ada.Password, better), 200, "Your password is changed")
		if !other.Get("/account").IsSignIn() {
			t.Error("the other session has not ended")
		}
		w.agent.Refresh(w.tokens.Refresh).Tokens()
		if !other.Get("/login").SignIn(w.ada).IsSignIn() {
			t.Error("the old password is accepted")
		}
		w.ada.Password = better
		if other.Get("/login").SignIn(w.ada).IsSignIn() {
			t.Error("the new password is not accepted")
		}
		has(t, send(servertest.Password, better), 403) // the form is still good, but that is the old password
	})
}

// Guesses at the current password have to wait as those at the sign-in do.
func TestPasswordGuesses(t *testing.T) {
	s := servertest.StartMCP(t, func(c *config.Config) {
		c.Limits.Enabled, c.Limits.AccountFailures, c.Limits.AddressFailures = true, 3, 10_000
	})
	ada, browser := s.User("ada@example.com"), s.Browser(t)
	browser.Get("/login").SignIn(ada)
	page := browser.Get("/account/security")
	change := form(t, page, "/account/security/password")
	var last *servertest.Page
	for range 5 {
		last = page.Submit(change, servertest.With("current", "a guess"),
			servertest.With("password", "a new passphrase"))
	}
	has(t, last, http.StatusTooManyRequests, "Wait")
}

// The export has what is stored about the person, and nothing that opens anything.
func TestExport(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.Update(func(tx *store.Tx) error {
			return tx.CreateGroup(&identity.Group{ID: "grp_1", Name: "staff", CreatedAt: tx.Now()})
		})
		w.Update(func(tx *store.Tx) error { _, err := tx.AddMember("grp_1", w.ada.ID); return err })
		page := w.browser.Get("/account/export")
		if page.Status != 200 ||
			page.Header.Get("Content-Disposition") != `attachment; filename="cardea-account.json"` ||
			page.Header.Get("Content-Type") != "application/json" {
			t.Fatalf("status %d, %v", page.Status, page.Header)
		}
		var data struct {
			Account struct {
				Email  string
				Groups []string
			}
			Sessions []struct{ ID string }
			Agents   []struct{ Scope, Resource string }
			Activity []struct{ Told string }
			Next     string
		}
		if err := json.Unmarshal([]byte(page.Body), &data); err != nil {
			t.Fatal(err)
		}
		if data.Account.Email != w.ada.Email || len(data.Account.Groups) != 1 ||
			len(data.Sessions) != 1 || len(data.Agents) != 1 ||
			data.Agents[0].Resource != servertest.MCP || len(data.Activity) < 3 || data.Next != "" {
			t.Errorf("%+v", data)
		}
		for name, secret := range w.browser.Cookies() {
			if strings.Contains(page.Body, secret) {
				t.Errorf("the export has the cookie %s", name)
			}
		}
		if strings.Contains(page.Body, "argon2") || strings.Contains(page.Body, w.tokens.Refresh) {
			t.Error("the export has a secret")
		}
	})
}

// Deleting an account takes a tick and a recent sign-in, and ends all that the person had. The last owner stays.
func TestDelete(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		guard := w.guard(t)
		page := w.browser.Get("/account/delete")
		has(t, page.Submit(form(t, page, "/account/delete")), 400, "Tick the box to say that you want this.")
		confirmed := servertest.With("confirm", "delete")
		w.Update(func(tx *store.Tx) error {
			u, err := tx.User(w.ada.ID)
			u.Role = identity.Owner
			if err == nil {
				err = tx.UpdateUser(u)
			}
			return err
		})
		has(t, page.Submit(form(t, page, "/account/delete"), confirmed), 409,
			"You are the last owner of this installation")
		w.Update(func(tx *store.Tx) error { return tx.UpdateUser(&identity.User{ID: w.ada.ID}) })

		w.Clock.Advance(16 * time.Minute)
		if late := page.Submit(form(t, page, "/account/delete"), confirmed); !late.IsSignIn() {
			t.Errorf("a sign-in of 16 minutes ago is enough: %d %s", late.Status, late.URL)
		}
		tokens := w.agent.Connect(w.browser, w.ada)
		page = w.browser.Get("/account/delete")
		if !page.IsSignIn() {
			t.Fatalf("a sign-in of 16 minutes ago is enough: %s", page.Body)
		}
		page = page.SignIn(w.ada)
		has(t, page.Submit(form(t, page, "/account/delete"), confirmed), 200, "Your account is deleted")
		if guard.Active(tokens.Access) {
			t.Error("an access token of a deleted account is active")
		}
		w.agent.Refresh(tokens.Refresh).Refused(400, "invalid_grant")
		if !w.browser.Get("/account").IsSignIn() || !w.browser.Get("/login").SignIn(w.ada).IsSignIn() {
			t.Error("the account is still there")
		}
	})
}

// Every list is shown in pages.
func TestPaged(t *testing.T) {
	s := servertest.StartMCP(t)
	ada, agent, browser := s.User("ada@example.com"), s.Agent(t, s.Client()), s.Browser(t)
	browser.Get("/login").SignIn(ada)
	for range 27 {
		s.Clock.Advance(time.Second)
		agent.Connect(browser, ada)
		s.Browser(t).Get("/login").SignIn(ada)
	}
	for _, path := range []string{"/account", "/account/sessions", "/account/activity"} {
		page, rows := browser.Get(path), 0
		for range 10 {
			rows += strings.Count(page.Body, "<time datetime=")
			next := ""
			for _, link := range page.Links() {
				if strings.Contains(link, "?after=") {
					next = link
				}
			}
			if next == "" {
				break
			}
			page = page.Follow(next)
		}
		if rows < 50 || !strings.Contains(page.Body, "First page") {
			t.Errorf("%s: %d times on all pages, the last one:\n%s", path, rows, page.Body)
		}
	}
}

// atOnce runs do n times at the same moment.
func atOnce(n int, do func() *servertest.Page) []*servertest.Page {
	pages, begin := make([]*servertest.Page, n), make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-begin
			pages[i] = do()
		})
	}
	close(begin)
	wg.Wait()
	return pages
}
