package server_test

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// From the first start to a revoked agent in a browser alone, without scripts: an operator makes the first owner, adds
// an MCP server, approves the agent that connects to it, reads what it did, and ends what it was allowed.
func TestConsoleFromFirstStart(t *testing.T) {
	db, clock := storetest.Open(t, storetest.SQLite)
	clock.Set(time.Now()) // the MCP server has a clock of its own
	s := servertest.New(t, db, clock)
	w := newForecasts(t)

	ctx := chromium(t)
	do := func(what string, steps ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, steps...); err != nil {
			html, _ := chromedp.Run(ctx, chromedp.OuterHTML(chromedp.CSS("body")))
			t.Fatalf("%s: %v\n%s", what, err, html)
		}
	}
	opened := func(path string) chromedp.Action[chromedp.Void] { return chromedp.Navigate(s.URL + path) }
	click := func(selector string) chromedp.Action[chromedp.Void] { return chromedp.Click(chromedp.CSS(selector)) }
	seen := func(selector string) chromedp.Action[chromedp.Void] {
		return chromedp.WaitVisible(chromedp.CSS(selector))
	}
	typed := func(selector, text string) chromedp.Action[chromedp.Void] {
		return chromedp.SendKeys(chromedp.CSS(selector), text)
	}

	const email, password = "ada@example.com", "correct horse battery staple"
	do("set up", opened("/setup#"), seen(`#token`), typed(`#token`, setupToken(t, s)), typed(`#email`, email),
		typed(`#name`, "Ada"), typed(`#password`, password+"\r"), seen(`a[href="/admin"]`), click(`a[href="/admin"]`),
		seen(`body.console a[href="/admin/servers/new"]`))
	do("add the MCP server", click(`a[href="/admin/servers/new"]`), seen(`#identifier`),
		typed(`#identifier`, w.Resource),
		typed(`#name`, "Weather"), typed(`input[name="scope-name-0"]`, "mcp:tools:weather"),
		typed(`input[name="scope-description-0"]`, "Weather forecasts"),
		click(`input[name="scope-default-0"]`), click(`form.form button.primary`), seen(`a[href$="/edit"]`))

	// A real MCP client, whose browser is the one in which the owner is signed in.
	w.protect(t, s.URL)
	w.call(t, ctx, seen(`button[value="allow"]`), click(`button[value="allow"]`))

	do("approve the agent", opened("/admin/clients"), seen(`.things .name a`), click(`.things .name a`),
		seen(`form[action$="/approve"] button`), click(`form[action$="/approve"] button`), seen(`.badge.good`))
	read := func(path string) string {
		t.Helper()
		do(path, opened(path), seen("main"))
		text, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("main")))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if story := read("/admin/audit"); !strings.Contains(story, "Forecaster") || !strings.Contains(story, "Weather") {
		t.Errorf("the audit trail does not tell it:\n%s", story)
	}
	do("revoke", opened("/admin/grants"), seen(`.things a.button`), click(`.things a.button`), seen(`button.danger`),
		click(`button.danger`), seen(`.alert.good[role="status"]`))
	if grants := s.Events("grant.revoke"); len(grants) != 1 || grants[0].Actor.Name != "Ada" {
		t.Errorf("the events are %+v", grants)
	}
}
