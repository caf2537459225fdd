package server_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
)

// keyboard is a person who has no mouse.
type keyboard struct {
	t  *testing.T
	do func(what string, steps ...chromedp.Action[chromedp.Void])
	is func(script string) string
}

// focused describes what has the focus: what it is, whether it is on the screen, and whether that can be seen.
const focused = `(() => {
	const at = document.activeElement;
	if (!at || at === document.body) return "nothing";
	const box = at.getBoundingClientRect(), style = getComputedStyle(at);
	if (box.bottom < 0 || box.top > innerHeight || box.width === 0) return "off the screen: " + at.outerHTML;
	if (style.outlineStyle === "none" && style.boxShadow === "none") return "not to be seen: " + at.outerHTML;
	return "";
})()`

// tab goes on to what the selector matches, which is to be seen as every step on the way is.
func (k keyboard) tab(selector string) {
	k.t.Helper()
	for range 150 {
		k.do("Tab", press(kb.Tab, 1))
		switch at := k.is(focused); {
		case at == "nothing": // from the end of the page to the browser's own controls, and on
		case at != "":
			k.t.Errorf("on the way to %s, the focus is %s", selector, at)
		}
		if k.is(fmt.Sprintf(`String(document.activeElement.matches(%q))`, selector)) == "true" {
			return
		}
	}
	k.t.Fatalf("no Tab leads to %s on %s", selector, k.is("location.href"))
}

// fill tabs to an input and types.
func (k keyboard) fill(selector, text string) {
	k.t.Helper()
	k.tab(selector)
	k.do("type", chromedp.KeyEvent(text))
}

// An operator without a mouse adds an MCP server, approves a client, revokes a grant and turns the page of a list.
// Where the focus is can be seen at each step, and it is not lost where a script changes the page.
func TestConsoleByKeyboard(t *testing.T) {
	s, owner, ada, agent := startInbox(t)
	o := &admin.Operations{DB: s.DB, Issuer: s.URL}
	s.Update(func(tx *store.Tx) error {
		for i := range 60 { // more than a page
			u := &identity.User{ID: oauth.NewID("usr_"), Email: fmt.Sprintf("p%d@example.com", i), CreatedAt: tx.Now()}
			if err := tx.CreateUser(u); err != nil {
				return err
			}
		}
		return nil
	})
	s.Agent(t, s.Client(servertest.Confidential)).Connect(s.Browser(t), ada)
	s.Browser(t).Authorize(agent.Authorization()).SignIn(ada)
	ctx, _, _ := lens(t, 1280, 800, "light")
	do := func(what string, steps ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, steps...); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	k := keyboard{t: t, do: do, is: func(script string) string {
		t.Helper()
		yes := true
		got, err := chromedp.Call(ctx, runtime.Evaluate,
			runtime.EvaluateParams{Expression: script, AwaitPromise: &yes, ReturnByValue: &yes})
		if err != nil || got.ExceptionDetails != nil {
			t.Fatalf("%s: %v %+v", script, err, got.ExceptionDetails)
		}
		return strings.Trim(string(got.Result.Value), `"`)
	}}
	seen := func(selector string) chromedp.Action[chromedp.Void] {
		return chromedp.WaitVisible(chromedp.CSS(selector))
	}
	open := func(path, wait string) { t.Helper(); do(path, chromedp.Navigate(s.URL+path), seen(wait)) }

	do("sign in", chromedp.Navigate(s.URL+"/admin"), signIn(owner), seen("body.console"))
	k.tab(`.skip`)
	k.tab(`a[href="/admin/servers"]`)
	do("servers", press(kb.Enter, 1), seen(`a[href="/admin/servers/new"]`))
	k.tab(`a[href="/admin/servers/new"]`)
	do("a new server", press(kb.Enter, 1), seen(`#identifier`))
	k.fill(`#identifier`, "https://keys.example.com/mcp")
	k.fill(`input[name="scope-name-0"]`, "mcp:tools:type")
	k.tab(`input[name="scope-default-0"]`)
	do("default", press(" ", 1))
	k.tab(`form.form button.primary`)
	do("add the server", press(kb.Enter, 1), seen(`.alert.good`))
	r, err := o.Resource(t.Context(), admin.Command("root", ""), "https://keys.example.com/mcp")
	if err != nil || len(r.Scopes) != 1 || !r.Scopes[0].Default {
		t.Errorf("the server is %+v, %v", r, err)
	}

	open("/admin/clients/waiting", `button[value="everybody"]`)
	k.tab(`button[value="everybody"]`)
	do("approve", press(" ", 1), seen(`.alert.good`))
	if s.ClientOf(agent.ClientID).ApprovedAt.IsZero() {
		t.Error("the client is not approved")
	}

	open("/admin/grants", `a[href$="/revoke"]`)
	k.tab(`a[href$="/revoke"]`)
	do("ask", press(kb.Enter, 1), seen(`.danger-zone`))
	k.tab(`.danger-zone button.danger`)
	do("revoke", press(kb.Enter, 1), seen(`.alert.good`))
	if live, _, err := o.Grants(t.Context(), admin.Command("root", ""), admin.GrantQuery{Live: true},
		store.Page{}); err != nil || len(live) > 0 {
		t.Errorf("the grant is not revoked: %v %v", live, err)
	}

	// Scripts change a part of these pages.
	open("/admin/people", `#list nav.pages a`)
	k.tab(`#list nav.pages a`)
	do("the next page", press(kb.Enter, 1), seen(`#list nav.pages a[href="/admin/people"]`))
	held := `new Promise(done => { const look = () => document.getElementById("list").contains(document.activeElement) ?
		done("yes") : --tries ? setTimeout(look, 50) : done(document.activeElement.outerHTML.slice(0, 80)); let tries = 40; look(); })`
	if at := k.is(held); at != "yes" {
		t.Errorf("the focus is lost when a list is turned: it is at %s", at)
	}
	open("/admin/people", `#q`)
	k.fill(`#q`, "ada")
	do("search", seen(`#list[data-says="1 people"]`))
	if at := k.is(`document.activeElement.id`); at != "q" {
		t.Errorf("a search takes the focus to %q", at)
	}
}
