package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/mail/mailtest"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/upstream/upstreamtest"
)

// axe-core finds nothing on the pages of people with a brand whose colour is just dark enough.
func TestBrandAccessibility(t *testing.T) {
	logo := filepath.Join(t.TempDir(), "logo.svg")
	const drawing = `<svg xmlns="http://www.w3.org/2000/svg" width="160" height="44">` +
		`<rect width="160" height="44" fill="#0066cc"/></svg>`
	if err := os.WriteFile(logo, []byte(drawing), 0o600); err != nil {
		t.Fatal(err)
	}
	corp := upstreamtest.NewIssuer(t, "")
	corp.SignIn(upstreamtest.Claims{"sub": "ada-at-corp", "email": "ada@corp.example"})
	s := servertest.StartMCP(t, servertest.Provider(servertest.Corp(corp.URL)), func(c *config.Config) {
		c.Brand.Name, c.Brand.Color, c.Brand.LogoFile = "Example & Daughters", "#0066cc", logo
		c.Brand.Links.Imprint, c.Brand.Links.Privacy = "https://example.com/imprint", "https://example.com/privacy"
	})
	staff := s.Resource("https://staff.example.com/mcp", "*mcp:tools:weather=Weather forecasts")
	s.Update(func(tx *store.Tx) error {
		if err := tx.CreateGroup(&identity.Group{ID: oauth.NewID("grp_"),
			Name: "staff", CreatedAt: tx.Now()}); err != nil {
			return err
		}
		staff.Groups = []string{"staff"}
		return tx.UpdateResource(staff)
	})
	for _, screen := range screens {
		t.Run(screen.name, func(t *testing.T) {
			ada := s.User(screen.scheme + "@example.com")
			agent := s.Agent(t, s.Client(servertest.Unapproved))
			ctx, look, visit := lens(t, screen.width, screen.height, screen.scheme)
			do := func(page string, steps ...chromedp.Action[chromedp.Void]) {
				t.Helper()
				if err := chromedp.Do(ctx, steps...); err != nil {
					t.Fatalf("%s: %v", page, err)
				}
				look(page)
			}
			visit("home", s.URL+"/", "footer.links")
			visit("sign-in", s.URL+"/oauth2/authorize?"+
				agent.Authorization(servertest.With("scope", "mcp:tools:weather mcp:tools:email:send")).Encode(),
				"footer.links")
			do("consent, with how long", chromedp.SendKeys(chromedp.CSS(`input[name="email"]`), ada.Email),
				chromedp.SendKeys(chromedp.CSS(`input[name="password"]`), ada.Password+"\r"),
				chromedp.WaitVisible(chromedp.CSS(`select[name="duration"]`)))
			visit("somebody who may not", s.URL+"/oauth2/authorize?"+
				agent.Authorization(servertest.With("resource", staff.Identifier)).Encode(), "h1")
			visit("how one signs in", s.URL+"/account/security", `form[action$="/connect/corp"]`)
			do("an account elsewhere", chromedp.Click(chromedp.CSS(`form[action$="/connect/corp"] button`)),
				chromedp.WaitVisible(chromedp.CSS(`form[action$="/disconnect"]`)))
			visit("second factor", s.URL+"/account/second-factor", `input[name="code"]`)
			visit("failure", s.URL+"/nothing", "h1")
			// Each sub-test connects another account.
			corp.SignIn(upstreamtest.Claims{"sub": "bob-at-corp", "email": "bob@corp.example"})
		})
	}
}

// The links of the installation stand on every page that people see before they have an account.
func TestBrandLinks(t *testing.T) {
	s := servertest.StartMCP(t, servertest.Mailed(mailtest.New(t), "email"), func(c *config.Config) {
		c.Login.SignUp = "open"
		c.Brand.Links.Privacy = "https://example.com/privacy"
	})
	for _, path := range []string{"/", "/login", "/login/email", "/signup", "/signup/finish", "/reset", "/invite",
		"/setup"} {
		if page := s.Browser(t).Get(path); !strings.Contains(page.Body, `href="https://example.com/privacy"`) {
			t.Errorf("%s has no link to what is said about privacy:\n%s", path, page.Body)
		}
	}
}
