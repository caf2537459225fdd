package account_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/mail/mailtest"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// eachMailed is each with a mail server.
func eachMailed(t *testing.T, test func(t *testing.T, w *world, at *mailtest.Server)) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		at := mailtest.New(t)
		s := servertest.New(t, db, clock, servertest.Mailed(at))
		s.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts", "mcp:tools:email:send=Send e-mail")
		w := &world{Server: s, ada: s.User("ada@example.com"), agent: s.Agent(t, s.Client()), browser: s.Browser(t)}
		test(t, w, at)
	})
}

// only returns the only mail that was sent, whose subject begins with start.
func only(t *testing.T, w *world, at *mailtest.Server, start string) mailtest.Mail {
	t.Helper()
	mails := w.Mails(t, at)
	if len(mails) != 1 || mails[0].To != w.ada.Email || !strings.HasPrefix(mails[0].Subject, start) {
		t.Fatalf("%d mails were sent, want one that says %q: %+v", len(mails), start, mails)
	}
	return mails[0]
}

func TestNotices(t *testing.T) {
	eachMailed(t, func(t *testing.T, w *world, at *mailtest.Server) {
		w.browser.Header.Set("User-Agent",
			"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36")
		w.browser.Get("/login").SignIn(w.ada)
		m := only(t, w, at, "A new device signed in")
		if !strings.Contains(m.Text, "Chrome on Linux, network address 127.0.0.1") ||
			!strings.Contains(m.Text, w.URL+"/reset") {
			t.Errorf("the mail is\n%s", m.Text)
		}
		w.browser.Post("/logout", w.browser.Get("/logout").Form("").Values())
		w.browser.Get("/login").SignIn(w.ada)
		if mails := w.Mails(t, at); len(mails) != 0 {
			t.Errorf("of a device that was used before: %+v", mails)
		}

		page := w.browser.Get("/account/security")
		page.Submit(page.Form("password"), servertest.With("current", w.ada.Password),
			servertest.With("password", "another long password"))
		if m := only(t, w, at, "Your password was changed"); strings.Contains(m.Text, "administrator") {
			t.Errorf("the mail is\n%s", m.Text)
		}
		page = w.browser.Get("/account/security")
		page.Submit(page.Form("password"), servertest.With("current", "wrong password"),
			servertest.With("password", "yet another password"))
		if mails := w.Mails(t, at); len(mails) != 0 {
			t.Errorf("of a change that was refused: %+v", mails)
		}
	})
}

func TestReceipt(t *testing.T) {
	eachMailed(t, func(t *testing.T, w *world, at *mailtest.Server) {
		w.browser.Get("/login").SignIn(w.ada)
		w.Mails(t, at)
		w.tokens = w.agent.Exchange(w.browser.Authorize(w.agent.Authorization()).Allow().Code()).Tokens()
		m := only(t, w, at, "You connected Example agent")
		link := m.Link()
		if !strings.HasPrefix(link, w.URL+"/account/undo?grant=") || !strings.Contains(m.Text, "Weather forecasts.") ||
			!strings.Contains(m.Text, "Example agent (at agent.example.com)") ||
			!strings.Contains(m.Text, "It ends on 2 April 2030, 03:04 UTC at the latest.") {
			t.Fatalf("the mail is\n%s", m.Text)
		}
		guard, phone := w.guard(t), w.Browser(t)

		phone.Get(link, servertest.Method(http.MethodHead))
		page := phone.Get(link)
		has(t, page, http.StatusOK, "Undo this connection?", "Example agent", "Weather forecasts")
		if !guard.Active(w.tokens.Access) {
			t.Error("opening the link ended the grant")
		}
		has(t, page.Submit(page.Form("grant"), servertest.Without("csrf")), http.StatusForbidden,
			"Press the button again.")
		if !guard.Active(w.tokens.Access) {
			t.Error("CN-01 a form without the token ended the grant")
		}
		has(t, page.Submit(page.Form("grant")), http.StatusOK, "<h1>Disconnected</h1>")
		if guard.Active(w.tokens.Access) {
			t.Error("the token still works")
		}
		w.agent.Refresh(w.tokens.Refresh).Refused(http.StatusBadRequest, "invalid_grant")
		has(t, page.Submit(page.Form("grant")), http.StatusOK, "<h1>Disconnected</h1>")
		has(t, phone.Get(link), http.StatusOK, "<h1>Disconnected</h1>")
		has(t, phone.Get(link+"A"), http.StatusNotFound, "This link was cut")
		if got := w.Events("grant.revoke"); len(got) > 2 { // with the link that was cut
			t.Error("the second click was recorded")
		}

		// The person can take it back, as any other.
		page = w.browser.Get("/account")
		page.Submit(form(t, page, "/undo"))
		if !guard.Active(w.tokens.Access) {
			t.Error("it was not brought back")
		}
	})
}

// An agent that has not redeemed its code yet gets nothing for it any more.
func TestUndoBeforeTheCodeIsRedeemed(t *testing.T) {
	eachMailed(t, func(t *testing.T, w *world, at *mailtest.Server) {
		w.browser.Get("/login").SignIn(w.ada)
		w.Mails(t, at)
		code := w.browser.Authorize(w.agent.Authorization()).Allow().Code()
		page := w.Browser(t).Get(only(t, w, at, "You connected").Link())
		has(t, page.Submit(page.Form("grant")), http.StatusOK, "<h1>Disconnected</h1>")
		w.agent.Exchange(code).Refused(http.StatusBadRequest, "invalid_grant")
	})
}
