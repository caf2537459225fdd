package server_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/cardea-auth/cardea/internal/mail/mailtest"
	"github.com/cardea-auth/cardea/internal/server/servertest"
)

// mailed returns the next mail whose subject begins with start.
func mailed(t *testing.T, s *servertest.Server, at *mailtest.Server, start string) mailtest.Mail {
	t.Helper()
	m := at.Next(t)
	for !strings.HasPrefix(m.Subject, start) {
		m = at.Next(t)
	}
	s.KeepSecret(m)
	return m
}

// A person signs in by the link in a mail, in a browser, and an agent gets its token. axe-core finds nothing on the
// way.
func TestMagicLinkInABrowser(t *testing.T) {
	at := mailtest.New(t)
	s := servertest.StartWeather(t, servertest.Mailed(at, "email"))
	ada := s.User("ada@example.com")
	agent := s.Agent(t, s.Client())
	ctx, look, visit := lens(t, screens[0].width, screens[0].height, screens[0].scheme)
	visit("sign-in", s.URL+"/oauth2/authorize?"+agent.Authorization().Encode(), `a[href^="/login/email"]`)
	err := chromedp.Do(ctx, chromedp.Click(chromedp.CSS(`a[href^="/login/email"]`)),
		chromedp.WaitVisible(chromedp.CSS(`input[name="email"]`)))
	if err != nil {
		t.Fatal(err)
	}
	look("the address")
	err = chromedp.Do(ctx, chromedp.SendKeys(chromedp.CSS(`input[name="email"]`), ada.Email+"\r"),
		chromedp.WaitVisible(chromedp.CSS(`input[name="code"]`)))
	if err != nil {
		t.Fatal(err)
	}
	look("the code")
	m := mailed(t, s, at, "Sign in to ")
	if page := s.Browser(t).Get(m.Link()); !strings.Contains(page.Body, m.Code()) {
		t.Errorf("another browser sees\n%s", page.Body)
	}
	visit("the link", m.Link(), `button[type="submit"]`)
	err = chromedp.Do(ctx, chromedp.Click(chromedp.CSS(`button[type="submit"]`)),
		chromedp.WaitVisible(chromedp.CSS(`button[value="allow"]`)))
	if err != nil {
		t.Fatal(err)
	}
	isAnswer := func(e network.EventRequestWillBeSent) bool {
		return strings.HasPrefix(e.Request.URL, servertest.Callback)
	}
	answer, err := chromedp.Run(ctx, chromedp.WaitEvent(network.RequestWillBeSent, isAnswer,
		chromedp.Click(chromedp.CSS(`button[value="allow"]`))))
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(answer.Request.URL)
	if err != nil {
		t.Fatal(err)
	}
	tokens := agent.Exchange(u.Query().Get("code")).Tokens()
	guard := s.Agent(t, s.Client(servertest.Confidential, servertest.ResourceServer(servertest.MCP)))
	if !guard.Active(tokens.Access) {
		t.Error("the MCP server does not accept the token")
	}

	receipt := mailed(t, s, at, "You connected ")
	visit("undo", receipt.Link(), `button[type="submit"]`)
	err = chromedp.Do(ctx, chromedp.Click(chromedp.CSS(`button[type="submit"]`)),
		chromedp.WaitNotPresent(chromedp.CSS(`button[type="submit"]`)))
	if err != nil {
		t.Fatal(err)
	}
	look("undone")
	if guard.Active(tokens.Access) {
		t.Error("the MCP server still accepts the token")
	}
}

// A person sets a forgotten password by a link whose token is in the fragment, in a browser, and signs in with it.
func TestResetInABrowser(t *testing.T) {
	at := mailtest.New(t)
	s := servertest.StartWeather(t, servertest.Mailed(at))
	ada := s.User("ada@example.com")
	agent := s.Agent(t, s.Client())
	tokens := agent.Connect(s.Browser(t), ada)
	ctx, look, visit := lens(t, screens[1].width, screens[1].height, screens[1].scheme)
	visit("sign-in", s.URL+"/login", `a[href="/reset"]`)
	err := chromedp.Do(ctx, chromedp.Click(chromedp.CSS(`a[href="/reset"]`)),
		chromedp.WaitVisible(chromedp.CSS(`input[name="email"]`)),
		chromedp.WaitNotVisible(chromedp.CSS(`input[name="token"]`)))
	if err != nil {
		t.Fatal(err)
	}
	look("the address")
	err = chromedp.Do(ctx, chromedp.SendKeys(chromedp.CSS(`input[name="email"]`), ada.Email+"\r"),
		chromedp.WaitVisible(chromedp.CSS(`a[href="/reset"]`)))
	if err != nil {
		t.Fatal(err)
	}
	look("on its way")
	m := mailed(t, s, at, "Set a new password")
	visit("the link", m.Link(), `input[name="password"]`)
	const password = "three new brave words"
	err = chromedp.Do(ctx, chromedp.WaitNotVisible(chromedp.CSS(`input[name="email"]`)),
		chromedp.SendKeys(chromedp.CSS(`input[name="password"]`), password+"\r"),
		chromedp.WaitVisible(chromedp.CSS(`a[href="/login"]`)))
	if err != nil {
		t.Fatal(err)
	}
	look("set")
	agent.Refresh(tokens.Refresh).Refused(400, "invalid_grant")
	agent.Connect(s.Browser(t), &servertest.Person{ID: ada.ID, Email: ada.Email, Password: password})
}
