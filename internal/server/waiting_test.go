package server_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
)

// startInbox starts a server on which clients wait, with an owner, a person, and an agent that registered itself.
func startInbox(t *testing.T,
	edits ...func(*config.Config)) (s *servertest.Server, owner, person *servertest.Person, agent *servertest.Agent) {
	s = servertest.StartMCP(t,
		append(edits, func(c *config.Config) { c.Registration.Approval = "required" })...)
	owner, person = s.User("owner@example.com"), s.User("ada@example.com")
	role(t, s, owner, identity.Owner)
	agent = s.Agent(t, nil)
	agent.RedirectURI = "https://agent.evil.example/callback"
	agent.Register(map[string]any{"client_name": "<b>Agent</b>", "redirect_uris": []string{agent.RedirectURI},
		"token_endpoint_auth_method": "none"})
	return s, owner, person, agent
}

// An operator decides in the console, and the person who waits goes on.
func TestConsoleInbox(t *testing.T) {
	s, owner, ada, agent := startInbox(t)
	s.Update(func(tx *store.Tx) error {
		return tx.CreateGroup(&identity.Group{ID: oauth.NewID("grp_"), Name: "staff", CreatedAt: tx.Now()})
	})
	console := s.Browser(t)
	console.Get("/login").SignIn(owner)
	if page := console.Get("/admin/clients/waiting"); page.Status != http.StatusOK ||
		!strings.Contains(page.Body, "Nobody waits") {
		t.Fatalf("status %d:\n%s", page.Status, page.Body)
	}
	waits := s.Browser(t).Authorize(agent.Authorization()).SignIn(ada)
	inbox := console.Get("/admin/clients/waiting")
	for _, said := range []string{
		"&lt;b&gt;Agent&lt;/b&gt;", "agent.evil.example", ada.Email, servertest.MCP, "mcp:tools:weather",
		`<option value="staff">`,
	} {
		if !strings.Contains(inbox.Body, said) {
			t.Errorf("the inbox does not say %q:\n%s", said, inbox.Body)
		}
	}
	s.Update(func(tx *store.Tx) (err error) {
		for i := range 25 {
			err = errors.Join(err, tx.CreateGroup(&identity.Group{ID: oauth.NewID("grp_"), Name: fmt.Sprint("team-", i),
				CreatedAt: tx.Now()}))
		}
		return err
	})
	if page := console.Get("/admin/clients/waiting"); strings.Contains(page.Body, "<select") ||
		!strings.Contains(page.Body, `<input name="group" list="groups"`) ||
		strings.Count(page.Body, `<option value="team-3">`) != 1 {
		t.Errorf("with many groups, their names are not typed:\n%s", page.Body)
	}
	overview := console.Get("/admin")
	if !strings.Contains(overview.Body, "A client waits to be approved") ||
		!strings.Contains(overview.Body, `1<span class="unseen"> waiting`) {
		t.Error("the overview does not mention it")
	}
	form := inbox.Form("person")
	page := inbox.Submit(form, servertest.With("decision", "everybody"), servertest.With("seen", "another client"))
	if page.Status != http.StatusConflict {
		t.Errorf("a client that was not looked at was approved: %d", page.Status)
	}
	for _, decision := range []string{"group", "once", "everybody"} { // a form that lacks something approves nobody
		page := inbox.Submit(form, servertest.With("decision", decision), servertest.With("group", ""),
			servertest.With("person", ""), servertest.With("seen", ""))
		if page.Status < http.StatusBadRequest {
			t.Errorf("%s of nobody: %d", decision, page.Status)
		}
	}
	page = inbox.Submit(inbox.Form("group"), servertest.With("decision", "group"), servertest.With("group", ""))
	if page.Status < http.StatusBadRequest {
		t.Errorf("a group without a name: %d", page.Status)
	}
	page = inbox.Submit(inbox.Form("group"), servertest.With("decision", "group"), servertest.With("group", "staff"))
	if page.Status != http.StatusOK {
		t.Errorf("for a group: %d\n%s", page.Status, page.Body)
	}
	if waits = waits.Follow(waits.URL); waits.IsConsent() { // ada is not in that group
		t.Error("somebody outside the group goes on")
	}
	if page := inbox.Submit(form, servertest.With("decision", "once")); page.Status != http.StatusOK ||
		!strings.Contains(page.Body, "Nobody waits") {
		t.Errorf("once: %d\n%s", page.Status, page.Body)
	}
	agent.Exchange(waits.Follow(waits.URL).Allow().Code()).Tokens()

	block := console.Get("/admin/clients/" + agent.ClientID + "/block")
	if !strings.Contains(block.Body, "evil.example") {
		t.Errorf("the page does not name the site:\n%s", block.Body)
	}
	blocks := block.Submit(block.Form("csrf"))
	if blocks.Status != http.StatusOK || !strings.Contains(blocks.Body, "evil.example") {
		t.Errorf("status %d:\n%s", blocks.Status, blocks.Body)
	}
	again := map[string]any{"client_name": "Fresh", "redirect_uris": []string{"https://fresh.evil.example/cb"},
		"token_endpoint_auth_method": "none"}
	s.Agent(t, nil).Register(again).Refused(http.StatusForbidden, "access_denied")
	if page := blocks.Submit(blocks.Form("csrf")); page.Status != http.StatusOK ||
		!strings.Contains(page.Body, "No client is blocked") {
		t.Errorf("unblock: %d\n%s", page.Status, page.Body)
	}
	if reply := s.Agent(t, nil).Register(again); reply.Status != http.StatusCreated {
		t.Errorf("status %d: %s", reply.Status, reply.Body)
	}
}

// In a browser without scripts, the page continues by itself. axe-core finds nothing on it, nor on the inbox.
func TestWaitingInChromium(t *testing.T) {
	s, owner, ada, agent := startInbox(t)
	ctx, look, visit := lens(t, 360, 740, "dark")
	signIn := func(who *servertest.Person, wait string) {
		t.Helper()
		if err := chromedp.Do(ctx, chromedp.WaitVisible(chromedp.CSS(`input[name="password"]`)),
			chromedp.SendKeys(chromedp.CSS(`input[name="email"]`), who.Email),
			chromedp.SendKeys(chromedp.CSS(`input[name="password"]`), who.Password+"\r"),
			chromedp.WaitVisible(chromedp.CSS(wait))); err != nil {
			t.Fatal(err)
		}
	}
	visit("sign-in", s.URL+"/oauth2/authorize?"+agent.Authorization().Encode(), `input[name="password"]`)
	signIn(ada, `form[action$="/consent/stop"]`)
	look("the page that waits")
	s.Update(func(tx *store.Tx) error {
		c, err := tx.Client(agent.ClientID)
		if err != nil {
			return err
		}
		c.ApprovedAt = tx.Now()
		return tx.UpdateClient(c)
	})
	if err := chromedp.Do(ctx, chromedp.WaitVisible(chromedp.CSS(`button[value="allow"]`))); err != nil {
		t.Fatalf("the page does not continue by itself: %v", err)
	}

	another := s.Agent(t, nil)
	another.Register(nil)
	s.Browser(t).Authorize(another.Authorization()).SignIn(ada)
	ctx, _, visit = lens(t, 360, 740, "dark")
	visit("sign-in", s.URL+"/admin/clients/waiting", `input[name="password"]`)
	signIn(owner, "body.console")
	for _, path := range []string{
		"/admin/clients/waiting", "/admin/clients/" + another.ClientID + "/block", "/admin/clients/blocks",
	} {
		visit(path, s.URL+path, `body.console main h1`)
	}
}
