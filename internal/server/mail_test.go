package server_test

import (
	"context"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/mail/mailtest"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
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

// A person signs in by the link in a mail, in a browser, and an agent calls a tool. axe-core finds nothing on the way.
func TestMagicLinkInABrowser(t *testing.T) {
	at := mailtest.New(t)
	s := startNow(t, servertest.Mailed(at, "email"))
	w := newForecasts(t)
	s.Resource(w.Resource, "*mcp:tools:weather=Weather forecasts")
	w.protect(t, s.URL)
	ada := s.User("ada@example.com")
	ctx, look, visit := lens(t, screens[0].width, screens[0].height, screens[0].scheme)
	link := func(ctx context.Context, t2 *chromedp.Target) (chromedp.Void, error) {
		m := mailed(t, s, at, "Sign in to ")
		if page := s.Browser(t).Get(m.Link()); !strings.Contains(page.Body, m.Code()) {
			t.Errorf("another browser sees\n%s", page.Body)
		}
		return chromedp.Navigate(m.Link())(ctx, t2)
	}
	w.call(t, ctx, pressed(`a[href^="/login/email"]`), shown(`input[name="email"]`), looked(look, "the address"),
		filled(`input[name="email"]`, ada.Email+"\r"), shown(`input[name="code"]`), looked(look, "the code"), link,
		shown(`button[type="submit"]`), looked(look, "the link"), pressed(`button[type="submit"]`),
		pressed(`button[value="allow"]`))

	receipt := mailed(t, s, at, "You connected ")
	visit("undo", receipt.Link(), `button[type="submit"]`)
	err := chromedp.Do(ctx, chromedp.Click(chromedp.CSS(`button[type="submit"]`)),
		chromedp.WaitNotPresent(chromedp.CSS(`button[type="submit"]`)))
	if err != nil {
		t.Fatal(err)
	}
	look("undone")
	o := &admin.Operations{DB: s.DB, Issuer: s.URL}
	if live, _, err := o.Grants(t.Context(), root, admin.GrantQuery{User: ada.ID, Live: true},
		store.Page{}); err != nil || len(live) != 0 {
		t.Errorf("still allowed is %+v, %v", live, err)
	}
}

// Mails have the name and the colour of the brand, as the pages do.
func TestMailsOfABrand(t *testing.T) {
	for _, brand := range []struct{ name, color, said, shown string }{
		{"", "", "", "#0b6b60"},
		{"Example & Daughters", "#06c", "Example & Daughters (", "#06c"},
	} {
		at := mailtest.New(t)
		s := servertest.Start(t, servertest.Mailed(at), func(c *config.Config) {
			c.Brand.Name, c.Brand.Color = brand.name, brand.color
		})
		page := s.Browser(t).Get("/reset")
		page.Submit(page.Form("email"), servertest.With("email", s.User("ada@example.com").Email))
		m := mailed(t, s, at, "Set a new password")
		host := strings.TrimPrefix(s.URL, "http://")
		if !strings.Contains(m.Text, "\n-- \n"+brand.said+host) ||
			!strings.Contains(m.HTML, "background:"+brand.shown+";") {
			t.Errorf("the mail of %+v is\n%s\n%s", brand, m.Text, m.HTML)
		}
	}
}

// A person sets a forgotten password by a link whose token is in the fragment, in a browser, and signs in with it.
func TestResetInABrowser(t *testing.T) {
	at := mailtest.New(t)
	s := startNow(t, servertest.Mailed(at))
	w := newForecasts(t)
	s.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts")
	s.Resource(w.Resource, "*mcp:tools:weather=Weather forecasts")
	w.protect(t, s.URL)
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
		chromedp.WaitNotVisible(chromedp.CSS(`input[name="token"]`)),
		chromedp.SendKeys(chromedp.CSS(`input[name="password"]`), password+"\r"),
		chromedp.WaitVisible(chromedp.CSS(`a[href="/login"]`)))
	if err != nil {
		t.Fatal(err)
	}
	look("set")
	agent.Refresh(tokens.Refresh).Refused(400, "invalid_grant")
	w.call(t, ctx, filled(`input[name="email"]`, ada.Email), filled(`input[name="password"]`, password+"\r"),
		pressed(`button[value="allow"]`))
}
