package account_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/mail/mailtest"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

const newPassword = "three new brave words"

// forgot asks for a link to set a new password.
func forgot(b *servertest.Browser, email string) *servertest.Page {
	page := b.Get("/reset")
	return page.Submit(page.Form("email"), servertest.With("email", email))
}

// link waits for the mail with the link of a reset, and returns its token.
func link(t *testing.T, w *world, at *mailtest.Server, email string) string {
	t.Helper()
	m := at.NextTo(t, email)
	for !strings.HasPrefix(m.Subject, "Set a new password for ") {
		m = at.NextTo(t, email)
	}
	w.KeepSecret(m)
	token, ok := strings.CutPrefix(m.Link(), w.URL+"/reset#")
	if !ok {
		t.Fatalf("LG-21 the mail is\n%s", m.Text)
	}
	return token
}

// set sets a new password with a token.
func set(b *servertest.Browser, token, password string) *servertest.Page {
	page := b.Get("/reset")
	return page.Submit(page.Form("token"), servertest.With("token", token), servertest.With("password", password))
}

func TestReset(t *testing.T) {
	eachMailed(t, func(t *testing.T, w *world, at *mailtest.Server) {
		w.tokens = w.agent.Connect(w.browser, w.ada)
		guard, b := w.guard(t), w.Browser(t)
		w.browser.Get("/")

		has(t, w.Browser(t).Get("/login"), http.StatusOK, `href="/reset"`)
		has(t, forgot(b, " ADA@example.com"), http.StatusOK, "a link is on its way")
		token := link(t, w, at, w.ada.Email)
		storetest.SecretsAtRest(t, w.DB, map[string]string{"token": token})
		has(t, set(b, token, "short"), http.StatusBadRequest, "at least 8 characters", token)
		has(t, set(b, token[:len(token)-1], newPassword), http.StatusForbidden,
			"This link was used before, has expired, or was cut")
		b.Get("/reset", servertest.Method(http.MethodHead))
		if !guard.Active(w.tokens.Access) {
			t.Fatal("asking for a link ended the grant")
		}

		var good atomic.Int64
		var wg sync.WaitGroup
		for range 8 { // each costs a hash
			wg.Go(func() {
				if set(w.Browser(t), token, newPassword).Status == http.StatusOK {
					good.Add(1)
				}
			})
		}
		wg.Wait()
		if good.Load() != 1 {
			t.Errorf("LG-22 %d of 8 parallel uses worked, want 1", good.Load())
		}
		if guard.Active(w.tokens.Access) {
			t.Error("the grant lives")
		}
		w.agent.Refresh(w.tokens.Refresh).Refused(http.StatusBadRequest, "invalid_grant")
		if !w.browser.Get("/login").IsSignIn() {
			t.Error("LG-18 the session lives")
		}
		if page := w.Browser(t).Get("/login").SignIn(w.ada); page.Status != http.StatusForbidden {
			t.Errorf("status %d with the old password", page.Status)
		}
		fresh := &servertest.Person{ID: w.ada.ID, Email: w.ada.Email, Password: newPassword}
		w.agent.Connect(w.Browser(t), fresh)
		told := false
		for _, m := range w.Mails(t, at) {
			told = told || strings.HasPrefix(m.Subject, "Your password was reset")
		}
		if !told {
			t.Error("the person was not told")
		}
	})
}

func TestResetLinksEnd(t *testing.T) {
	eachMailed(t, func(t *testing.T, w *world, at *mailtest.Server) {
		b := w.Browser(t)
		forgot(b, w.ada.Email)
		first := link(t, w, at, w.ada.Email)
		forgot(b, w.ada.Email)
		second := link(t, w, at, w.ada.Email)
		has(t, set(b, second, newPassword), http.StatusOK, "Your password is set")
		has(t, set(b, first, newPassword), http.StatusForbidden, "This link was used before")
		forgot(b, w.ada.Email)
		third := link(t, w, at, w.ada.Email)
		w.Clock.Advance(time.Hour)
		has(t, set(b, third, newPassword), http.StatusForbidden, "has expired")
		forgot(b, w.ada.Email)
		fourth := link(t, w, at, w.ada.Email)
		w.Update(func(tx *store.Tx) error { return tx.DisableUser(w.ada.ID) })
		has(t, set(b, fourth, newPassword), http.StatusForbidden, "was cut") // LG-09
		page := b.Get("/reset")
		has(t, page.Submit(page.Form("email"), servertest.With("email", w.ada.Email), servertest.Without("csrf")),
			http.StatusForbidden, "This page was open for too long") // LG-12
	})
}

// An address that has no account, and one whose account has no password, cost and read as any other.
func TestResetOfNobody(t *testing.T) {
	eachMailed(t, func(t *testing.T, w *world, at *mailtest.Server) {
		off := w.User("off@example.com")
		w.Update(func(tx *store.Tx) error { return tx.DisableUser(off.ID) })
		looks := func(email string) string {
			body := regexp.MustCompile(`value="[^"]*"`).ReplaceAllString(forgot(w.Browser(t), email).Body, "")
			return strings.ReplaceAll(body, email, "")
		}
		want := looks(w.ada.Email)
		for _, email := range []string{"no@example.com", "off@example.com"} {
			if d := cmp.Diff(want, looks(email)); d != "" {
				t.Errorf("LG-01 %s (-ada +other):\n%s", email, d)
			}
		}
		if mails := w.Mails(t, at); len(mails) != 1 || mails[0].To != w.ada.Email {
			t.Errorf("LG-01 %d mails were sent, want one to Ada", len(mails))
		}
	})
}

func TestResetLimits(t *testing.T) {
	at := mailtest.New(t)
	s := servertest.StartWeather(t, servertest.Mailed(at), func(c *config.Config) { c.Limits.Enabled = true })
	ada := s.User("ada@example.com")
	for _, email := range []string{ada.Email, "no@example.com"} {
		for i := range 6 {
			if page := forgot(s.Browser(t), email); (page.Status == http.StatusTooManyRequests) != (i == 5) {
				t.Errorf("LG-04 %s: status %d for mail %d", email, page.Status, i+1)
			}
		}
	}
	if mails := s.Mails(t, at); len(mails) != 5 {
		t.Errorf("%d mails were sent, want 5", len(mails))
	}
}

// A link that an operator makes works without a mail server, and keeps the person's grants if the operator says so.
func TestPasswordLink(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		o := &admin.Operations{DB: w.DB, Issuer: w.URL}
		made, err := o.PasswordLink(t.Context(), admin.Command("root", "root@host"), w.ada.Email, admin.KeepGrants)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(made.Link)
		if err != nil {
			t.Fatal(err)
		}
		page := w.Browser(t).Get("/reset")
		if page.Has("email") {
			t.Error("the page offers to send a mail")
		}
		has(t, page, http.StatusOK, "ask the administrator of this server for a link")
		has(t, set(w.Browser(t), u.Fragment, newPassword), http.StatusOK, "Your password is set")
		if !w.guard(t).Active(w.tokens.Access) {
			t.Error("the grant ended")
		}
		if !w.browser.Get("/login").IsSignIn() {
			t.Error("the session lives")
		}
	})
}
