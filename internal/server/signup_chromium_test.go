package server_test

import (
	"context"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/mail/mailtest"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store/storetest"
	"github.com/cardea-auth/cardea/internal/upstream"
	"github.com/cardea-auth/cardea/internal/upstream/upstreamtest"
)

// shown waits until what the selector says is to be seen.
func shown(selector string) chromedp.Action[chromedp.Void] {
	return chromedp.WaitVisible(chromedp.CSS(selector))
}

// pressed presses a button or follows a link.
func pressed(selector string) chromedp.Action[chromedp.Void] {
	return chromedp.Steps(shown(selector), chromedp.Click(chromedp.CSS(selector)))
}

// filled types into an input.
func filled(selector, text string) chromedp.Action[chromedp.Void] {
	return chromedp.Steps(shown(selector), chromedp.SendKeys(chromedp.CSS(selector), text))
}

// filledWith types what text returns by then.
func filledWith(selector string, text func() string) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		return filled(selector, text())(ctx, t)
	}
}

// looked looks at the page that is open.
func looked(look func(string), page string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(context.Context, *chromedp.Target) error {
		look(page)
		return nil
	})
}

// People sign up for an agent, and accept an invitation, in a browser, and the agent calls a tool. axe-core finds
// nothing on the way.
func TestSignUpInABrowser(t *testing.T) {
	for _, screen := range screens {
		t.Run(screen.name, func(t *testing.T) {
			box := mailtest.New(t)
			db, clock := storetest.Open(t, storetest.SQLite)
			clock.Set(time.Now())
			s := servertest.New(t, db, clock, open(box, "example.com"))
			w := newForecasts(t)
			s.Resource(w.Resource, "*mcp:tools:weather=Weather forecasts")
			w.protect(t, s.URL)
			ctx, look, visit := lens(t, screen.width, screen.height, screen.scheme)
			code := func() string { return mailed(t, s, box, "Make your account").Code() }
			allow := `button[value="allow"]`
			w.call(t, ctx, pressed(`a[href^="/signup"]`), shown(`#email`), looked(look, "sign up"),
				filled(`#email`, "eve@evil.example\r"), shown(`#error`), looked(look, "an address that is not let in"),
				chromedp.Clear(chromedp.CSS(`#email`)), filled(`#email`, "bob@example.com\r"),
				shown(`#code`), looked(look, "finishing"), filled(`#code`, "00000000"),
				filled(`#password`, invitedPassword+"\r"), shown(`#error`), looked(look, "a wrong code"),
				filledWith(`#code`, code), filled(`#name`, "Bob"),
				filled(`#password`, invitedPassword+"\r"), shown(allow), looked(look, "consent"), pressed(allow))
			if u := person(t, db, "bob@example.com"); u == nil || u.Name != "Bob" || u.EmailVerifiedAt.IsZero() {
				t.Errorf("the account is %+v", u)
			}

			// In the browser in which Bob is signed in.
			token := invited(t, s, root, admin.NewInvitation{Email: "carol@example.com"})
			visit("an invitation", s.URL+"/invite#"+token, `#name`)
			if err := chromedp.Do(ctx, chromedp.WaitNotVisible(chromedp.CSS(`#token`)), filled(`#name`, "Carol"),
				filled(`#password`, invitedPassword+"\r"), shown(`a[href="/account/security"]`)); err != nil {
				t.Fatal(err)
			}
			look("accepted")
			visit("the invitation again", s.URL+"/invite#"+token, `#password`)
			if err := chromedp.Do(ctx, filled(`#password`, invitedPassword+"\r"), shown(`#error`), shown(`#token`)); err != nil {
				t.Fatal(err)
			}
			look("an invitation that was used")
		})
	}
}

// In browsers without scripts, people whose address belongs to an identity provider are led there by each form in which
// they type it, and by the button of an invitation. Each time an agent calls a tool.
func TestFormsLeadToAProviderInChromium(t *testing.T) {
	box, issuer := mailtest.New(t), upstreamtest.NewIssuer(t, "")
	s := startNow(t, func(c *config.Config) {
		open(box)(c)
		c.Login.Methods = append(c.Login.Methods, "email")
		corp(issuer, func(at *upstream.Config) { at.Domains, at.Create = []string{"corp.example"}, true })(c)
	})
	signIn := func(who string) string {
		issuer.SignIn(upstreamtest.Claims{"sub": who, "email": who + "@corp.example", "email_verified": true})
		return who + "@corp.example\r"
	}
	const address = `input[name="email"]`
	t.Run("sign-up for an agent", func(t *testing.T) {
		forecast(t, s, pressed(`a[href^="/signup"]`), filled(address, signIn("ada")))
	})
	for _, path := range []string{"/signup", "/login/email", "/reset", "/login"} {
		t.Run(path, func(t *testing.T) {
			ctx := chromium(t)
			err := chromedp.Do(ctx, chromedp.Navigate(s.URL+path), filled(address, signIn("ada")),
				shown(`form[action="/logout"]`))
			if err != nil {
				html, _ := chromedp.Run(ctx, chromedp.OuterHTML(chromedp.CSS("body")))
				t.Fatalf("%v\n%s", err, html)
			}
		})
	}
	t.Run("an invitation", func(t *testing.T) {
		s := startNow(t, corp(issuer))
		ctx := chromium(t)
		issuer.SignIn(theirs(nil))
		token := invited(t, s, root, admin.NewInvitation{Email: "bob@example.com"})
		if err := chromedp.Do(ctx, chromedp.Navigate(s.URL+"/invite"), filled(`#token`, token),
			pressed(`button[name="via"]`), shown(`a[href="/account/security"]`)); err != nil {
			t.Fatal(err)
		}
		forecastIn(ctx, t, s)
	})
}
