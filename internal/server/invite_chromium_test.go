package server_test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/identity"
)

// In browsers without scripts, an owner invites a person in the console, and the person makes the account. Then a real
// MCP client of that person calls a tool.
func TestInvitationInChromium(t *testing.T) {
	s := startNow(t, func(*config.Config) {})
	ada, role := s.User("ada@example.com"), identity.Owner
	o := &admin.Operations{DB: s.DB, Issuer: s.URL}
	if _, err := o.UpdateUser(t.Context(), root, ada.ID, admin.UserTerms{Role: &role}); err != nil {
		t.Fatal(err)
	}
	seen := func(selector string) chromedp.Action[chromedp.Void] {
		return chromedp.WaitVisible(chromedp.CSS(selector))
	}
	typed := func(selector, text string) chromedp.Action[chromedp.Void] {
		return chromedp.SendKeys(chromedp.CSS(selector), text)
	}
	owner := chromium(t)
	if err := chromedp.Do(owner, chromedp.Navigate(s.URL+"/login?return=/admin/people/invite"), seen(`#password`),
		typed(`#email`, ada.Email), typed(`#password`, ada.Password+"\r"), seen(`input[name="role"]`),
		typed(`#email`, "bob@example.com\r"), seen(`code.secret`)); err != nil {
		t.Fatal(err)
	}
	link, err := chromedp.Run(owner, chromedp.TextContent(chromedp.CSS(`code.secret`)))
	if err != nil {
		t.Fatal(err)
	}
	address, token, _ := strings.Cut(link, "#")
	bob := chromium(t)
	if err := chromedp.Do(bob, chromedp.Navigate(address), seen(`#password`),
		typed(`#token`, token), typed(`#name`, "Bob"),
		typed(`#password`, invitedPassword+"\r"), seen(`a[href="/account/security"]`)); err != nil {
		t.Fatal(err)
	}
	forecastIn(bob, t, s)
	if u := person(t, s.DB, "bob@example.com"); u == nil || u.Name != "Bob" {
		t.Errorf("the account is %+v", u)
	}
}
