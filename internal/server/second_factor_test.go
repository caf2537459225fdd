package server_test

import (
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/server/servertest"
)

// A person sets an authenticator app up while signing in, and uses it, in a browser. axe-core finds nothing on the way.
func TestSecondFactorInABrowser(t *testing.T) {
	for _, screen := range screens {
		t.Run(screen.name, func(t *testing.T) {
			s := servertest.StartWeather(t, func(c *config.Config) { c.Login.SecondFactor = "required" })
			ada := s.User("ada@example.com")
			agent := s.Agent(t, s.Client())
			ctx, look, visit := lens(t, screen.width, screen.height, screen.scheme)
			do := func(page string, actions ...chromedp.Action[chromedp.Void]) {
				t.Helper()
				if err := chromedp.Do(ctx, actions...); err != nil {
					t.Fatalf("%s: %v", page, err)
				}
				look(page)
			}
			code, wrong := chromedp.CSS(`input[name="code"]`), chromedp.CSS(`#error`)
			typed := func(text string) chromedp.Action[chromedp.Void] { return chromedp.SendKeys(code, text+"\r") }

			visit("sign-in", s.URL+"/oauth2/authorize?"+agent.Authorization().Encode(), `input[name="password"]`)
			do("setting up", chromedp.SendKeys(chromedp.CSS(`input[name="email"]`), ada.Email),
				chromedp.SendKeys(chromedp.CSS(`input[name="password"]`), ada.Password+"\r"),
				chromedp.WaitVisible(code))
			do("a wrong code", typed("000000"), chromedp.WaitVisible(wrong))
			key, err := chromedp.Run(ctx, chromedp.TextContent(chromedp.CSS(`.key`)))
			if err != nil {
				t.Fatal(err)
			}
			do("recovery codes", typed(s.TOTP(t, key)), chromedp.WaitVisible(chromedp.CSS(`.codes`)))
			do("consent", chromedp.Click(chromedp.CSS(`button[type="submit"]`)),
				chromedp.WaitVisible(chromedp.CSS(`button[value="allow"]`)))
			visit("the second factor of an account", s.URL+"/account/second-factor", `form[action$="/remove"]`)
		})
	}
}
