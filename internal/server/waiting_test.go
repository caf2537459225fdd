package server_test

import (
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
)

// startInbox starts a server on which clients wait, with a person, and an agent that registered itself.
func startInbox(t *testing.T) (s *servertest.Server, person *servertest.Person, agent *servertest.Agent) {
	s = servertest.StartMCP(t, func(c *config.Config) { c.Registration.Approval = "required" })
	person = s.User("ada@example.com")
	agent = s.Agent(t, nil)
	agent.RedirectURI = "https://agent.evil.example/callback"
	agent.Register(map[string]any{"client_name": "<b>Agent</b>", "redirect_uris": []string{agent.RedirectURI}, "token_endpoint_auth_method": "none"})
	return s, person, agent
}

// The page on which a person waits continues by itself, in a real browser. axe-core finds nothing on it.
func TestWaitingInChromium(t *testing.T) {
	s, ada, agent := startInbox(t)
	ctx, look, visit := lens(t, 360, 740, "dark")
	signIn := func(who *servertest.Person, wait string) {
		t.Helper()
		if err := chromedp.Do(ctx, chromedp.WaitVisible(chromedp.CSS(`input[name="password"]`)), chromedp.SendKeys(chromedp.CSS(`input[name="email"]`), who.Email),
			chromedp.SendKeys(chromedp.CSS(`input[name="password"]`), who.Password+"\r"), chromedp.WaitVisible(chromedp.CSS(wait))); err != nil {
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
}
