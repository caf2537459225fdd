package server_test

import (
	"context"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/cardea-auth/cardea/internal/config"
)

// A person sets an authenticator app up while signing in, in a browser, and an agent calls a tool. axe-core finds
// nothing on the way.
func TestSecondFactorInABrowser(t *testing.T) {
	for _, screen := range screens {
		t.Run(screen.name, func(t *testing.T) {
			s := startNow(t, func(c *config.Config) { c.Login.SecondFactor = "required" })
			w := newForecasts(t)
			s.Resource(w.Resource, "*mcp:tools:weather=Weather forecasts")
			w.protect(t, s.URL)
			ada := s.User("ada@example.com")
			ctx, look, visit := lens(t, screen.width, screen.height, screen.scheme)
			const code, allow = `input[name="code"]`, `button[value="allow"]`
			var key string
			scanned := chromedp.Func(func(ctx context.Context, t *chromedp.Target) (err error) {
				key, err = chromedp.TextContent(chromedp.CSS(`.key`))(ctx, t)
				return err
			})
			w.call(t, ctx, filled(`#email`, ada.Email), filled(`#password`, ada.Password+"\r"), shown(code),
				looked(look, "setting up"), filled(code, "000000\r"), shown(`#error`), looked(look, "a wrong code"), scanned,
				filledWith(code, func() string { return s.TOTP(t, key) + "\r" }), shown(`.codes`),
				looked(look, "recovery codes"), pressed(`button[type="submit"]`), shown(allow), looked(look, "consent"),
				pressed(allow))
			visit("the second factor of an account", s.URL+"/account/second-factor", `form[action$="/remove"]`)
		})
	}
}
