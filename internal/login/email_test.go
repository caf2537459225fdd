package login_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/mail/mailtest"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// byEmail asks for a mail on the page of the method.
func byEmail(page *servertest.Page, email string) *servertest.Page {
	return page.Submit(page.Form("email"), servertest.With("email", email))
}

// next returns the next mail to an address that is to sign in.
func next(t *testing.T, s *servertest.Server, at *mailtest.Server, to string) mailtest.Mail {
	t.Helper()
	for {
		if m := at.NextTo(t, to); strings.HasPrefix(m.Subject, "Sign in to ") {
			s.KeepSecret(m)
			return m
		}
	}
}

// asked waits until all mails are sent, and returns those that are to sign in and were not read.
func asked(t *testing.T, s *servertest.Server, at *mailtest.Server) []mailtest.Mail {
	t.Helper()
	return slices.DeleteFunc(s.Mails(t, at),
		func(m mailtest.Mail) bool { return !strings.HasPrefix(m.Subject, "Sign in to ") })
}

// linkTo returns the link on a page that begins with start.
func linkTo(t *testing.T, page *servertest.Page, start string) string {
	t.Helper()
	for _, link := range page.Links() {
		if strings.HasPrefix(link, start) {
			return link
		}
	}
	t.Fatalf("the page has no link to %s:\n%s", start, page.Body)
	return ""
}

// press presses the button of the page that a link leads to.
func press(page *servertest.Page) *servertest.Page { return page.Submit(page.Form("token")) }

func TestByEmail(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		at := mailtest.New(t)
		s := servertest.New(t, db, clock, servertest.Mailed(at, "email"))
		s.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts")
		testByEmail(t, s, at)
	})
}

func testByEmail(t *testing.T, s *servertest.Server, at *mailtest.Server) {
	ada, eve := s.User("ada@example.com"), s.User("eve@example.com")
	disabled := s.User("off@example.com")
	s.Update(func(tx *store.Tx) error { return tx.DisableUser(disabled.ID) })
	ask := func(t *testing.T) (*servertest.Browser, *servertest.Page, mailtest.Mail) {
		t.Helper()
		b := s.Browser(t)
		page := byEmail(b.Get("/login/email"), ada.Email)
		return b, page, next(t, s, at, ada.Email)
	}

	t.Run("the link, up to a tool call's token", func(t *testing.T) {
		agent, b := s.Agent(t, s.Client()), s.Browser(t)
		page := b.Authorize(agent.Authorization())
		byEmail(page.Follow(linkTo(t, page, "/login/email")), " ADA@example.com ")
		m := next(t, s, at, ada.Email)
		if !strings.HasPrefix(m.Link(), s.URL+"/login/email?token=") || m.From != "auth@example.com" ||
			!strings.Contains(m.Text, "to connect Example agent") || strings.Contains(m.Subject, m.Code()) {
			t.Errorf("the mail is from %s:\n%s\n%s", m.From, m.Subject, m.Text)
		}
		to, err := url.Parse(press(b.Get(m.Link())).Allow().Location) // the page is not that of a request
		if err != nil {
			t.Fatal(err)
		}
		tokens := agent.Exchange(to.Query().Get("code")).Tokens()
		if claims := servertest.Claims(t, tokens.Access); cmp.Diff([]string{"email"}, claims.AMR) != "" ||
			claims.Subject != ada.ID {
			t.Errorf("the token is of %s, amr %v", claims.Subject, claims.AMR)
		}
		if !verified(t, s, ada.ID) {
			t.Error("the address does not count as verified")
		}
	})
	t.Run("the words of a client that nobody approved are not sent to anybody", func(t *testing.T) {
		agent, b := s.Agent(t, s.Client(servertest.Unapproved, func(c *oauth.Client) {
			c.Name = "Your account is locked: https://evil.example"
		})), s.Browser(t)
		page := b.Authorize(agent.Authorization())
		byEmail(page.Follow(linkTo(t, page, "/login/email")), ada.Email)
		if m := next(t, s, at, ada.Email); strings.Contains(m.Text+m.HTML+m.Subject, "evil.example") {
			t.Errorf("the mail is\n%s\n%s", m.Subject, m.Text)
		}
	})
	t.Run("the code, up to a tool call's token", func(t *testing.T) {
		agent, b := s.Agent(t, s.Client()), s.Browser(t)
		page := b.Authorize(agent.Authorization())
		page = byEmail(page.Follow(linkTo(t, page, "/login/email")), ada.Email)
		code := next(t, s, at, ada.Email).Code()
		page = enter(page, code[:4]+" "+code[4:])
		if page.Status != http.StatusOK || !page.IsConsent() {
			t.Fatalf("status %d: %s", page.Status, page.URL)
		}
		agent.Exchange(page.Allow().Code()).Tokens()
	})
	t.Run("opening the link in another browser shows the code", func(t *testing.T) {
		b, page, m := ask(t)
		other := s.Browser(t)
		opened := other.Get(m.Link())
		if opened.Status != http.StatusOK || !strings.Contains(opened.Body, m.Code()) || opened.Has("token") {
			t.Errorf("status %d:\n%s", opened.Status, opened.Body)
		}
		if signedIn(other) {
			t.Error("the other browser is signed in")
		}
		if enter(page, m.Code()); !signedIn(b) {
			t.Error("the code of the page does not work in the browser that asked")
		}
	})
	t.Run("link scanners spend nothing", func(t *testing.T) {
		b, _, m := ask(t)
		for range 3 {
			s.Browser(t).Get(m.Link())
			s.Browser(t).Get(m.Link(), servertest.Method(http.MethodHead))
			b.Get(m.Link())
		}
		if press(b.Get(m.Link())); !signedIn(b) {
			t.Error("the link no longer works")
		}
	})
	t.Run("LG-22 another browser cannot use the link", func(t *testing.T) {
		b, _, m := ask(t)
		form := b.Get(m.Link()).Form("token").Values()
		other := s.Browser(t)
		csrf := other.Get("/login/email").Form("email").Values().Get("csrf")
		for name, csrf := range map[string]string{
			"with its own token": csrf, "with the form as it is": form.Get("csrf")} {
			form.Set("csrf", csrf)
			if page := other.Post("/login/email", form); page.Status != http.StatusForbidden || signedIn(other) {
				t.Errorf("%s: status %d", name, page.Status)
			}
		}
		if press(b.Get(m.Link())); !signedIn(b) {
			t.Error("the link no longer works where it was asked for")
		}
	})
	t.Run("LG-22 nor the code", func(t *testing.T) {
		_, page, m := ask(t)
		form := page.Form("code").Values()
		other := s.Browser(t)
		form.Set("csrf", other.Get("/login/email").Form("email").Values().Get("csrf"))
		form.Set("code", m.Code())
		if page := other.Post("/login/email", form); page.Status != http.StatusForbidden || signedIn(other) {
			t.Errorf("status %d", page.Status)
		}
	})
	t.Run("LG-22 once, with 50 parallel uses of link and code", func(t *testing.T) {
		b, page, m := ask(t)
		opened := b.Get(m.Link())
		var good atomic.Int64
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				used := press
				if i%2 == 0 {
					used = func(*servertest.Page) *servertest.Page { return enter(page, m.Code()) }
				}
				if used(opened).Status == http.StatusOK {
					good.Add(1)
				}
			})
		}
		wg.Wait()
		if good.Load() != 1 {
			t.Errorf("%d of 50 uses worked, want 1", good.Load())
		}
	})
	t.Run("used before", func(t *testing.T) {
		b, _, m := ask(t)
		press(b.Get(m.Link()))
		b = s.Browser(t)
		page := b.Get(m.Link())
		if page.Status != http.StatusForbidden || !strings.Contains(page.Body, "This link was used before") ||
			!page.Has("email") {
			t.Errorf("status %d:\n%s", page.Status, page.Body)
		}
	})
	t.Run("ten minutes", func(t *testing.T) {
		b, page, m := ask(t)
		opened := b.Get(m.Link())
		s.Clock.Advance(10*time.Minute - time.Second)
		if got := b.Get(m.Link()); got.Status != http.StatusOK {
			t.Errorf("status %d a second before", got.Status)
		}
		s.Clock.Advance(time.Second)
		for what, page := range map[string]*servertest.Page{
			"page": b.Get(m.Link()), "link": press(opened), "code": enter(page, m.Code())} {
			if page.Status != http.StatusForbidden || !page.Has("email") {
				t.Errorf("%s: status %d", what, page.Status)
			}
		}
	})
	t.Run("LG-05 five tries", func(t *testing.T) {
		b, page, m := ask(t)
		for range 5 {
			if got := enter(page, "00000000"); got.Status != http.StatusForbidden ||
				!strings.Contains(got.Body, "That code did not work") {
				t.Errorf("status %d", got.Status)
			}
		}
		if got := enter(page, m.Code()); got.Status != http.StatusForbidden || signedIn(b) {
			t.Errorf("status %d for the right code, after five wrong ones", got.Status)
		}
		if got := s.Browser(t).Get(m.Link()); strings.Contains(got.Body, m.Code()) {
			t.Error("the link still shows a code that no longer works")
		}
	})
	t.Run("LG-09 an account that was disabled since", func(t *testing.T) {
		bob := s.User("bob@example.com")
		b := s.Browser(t)
		byEmail(b.Get("/login/email"), bob.Email)
		opened := b.Get(next(t, s, at, bob.Email).Link())
		s.Update(func(tx *store.Tx) error { return tx.DisableUser(bob.ID) })
		if page := press(opened); page.Status != http.StatusForbidden || signedIn(b) {
			t.Errorf("status %d", page.Status)
		}
	})
	t.Run("LG-22 a link for something else", func(t *testing.T) {
		token := oauth.NewSecret("")
		s.Update(func(tx *store.Tx) error {
			return tx.CreateOneTime(&store.OneTime{ID: "one_reset", Purpose: store.ToReset, UserID: ada.ID,
				Email: ada.Email, TokenHash: oauth.Hash(token), ExpiresAt: tx.Now().Add(time.Hour)})
		})
		b := s.Browser(t)
		form := b.Get("/login/email").Form("email").Values()
		form.Set("token", token)
		for what, page := range map[string]*servertest.Page{"opened": b.Get("/login/email?token=" + token),
			"pressed": b.Post("/login/email", form)} {
			if page.Status != http.StatusForbidden || signedIn(b) {
				t.Errorf("%s: status %d", what, page.Status)
			}
		}
	})
	t.Run("LG-13 a new session", func(t *testing.T) {
		b := s.Browser(t)
		b.Get("/login").SignIn(eve)
		before := b.Cookies()["cardea_session"]
		byEmail(b.Get("/login/email"), ada.Email)
		press(b.Get(next(t, s, at, ada.Email).Link()))
		if now := b.Cookies()["cardea_session"]; now == before || now == "" {
			t.Error("the session is the one from before")
		}
		b.SetCookie("cardea_session", before)
		if signedIn(b) {
			t.Error("the old session lives")
		}
	})
	t.Run("LG-12 without the token of the form", func(t *testing.T) {
		b := s.Browser(t)
		page := b.Get("/login/email")
		if got := page.Submit(page.Form("email"), servertest.With("email", ada.Email),
			servertest.Without("csrf")); got.Status != http.StatusForbidden {
			t.Errorf("status %d", got.Status)
		}
	})
	t.Run("LG-01 unknown and disabled accounts read the same and get no mail", func(t *testing.T) {
		s.Mails(t, at)
		read := func(email string) (string, string) {
			b := s.Browser(t)
			page := byEmail(b.Get("/login/email"), email)
			wrong := enter(page, "12345678")
			return looks(page, email), looks(wrong, email)
		}
		first, second := read(ada.Email)
		for _, email := range []string{"no@example.com", disabled.Email} {
			a, b := read(email)
			if d := cmp.Diff(first, a); d != "" {
				t.Errorf("after the address %s (-ada +other):\n%s", email, d)
			}
			if d := cmp.Diff(second, b); d != "" {
				t.Errorf("after a code for %s (-ada +other):\n%s", email, d)
			}
		}
		mails := asked(t, s, at)
		if len(mails) != 1 || mails[0].To != ada.Email {
			t.Errorf("%d mails were sent, want one to Ada", len(mails))
		}
	})
	t.Run("LG-06 the mail goes to the address of the account", func(t *testing.T) {
		byEmail(s.Browser(t).Get("/login/email"), "ａｄａ@example.com")
		if mails := asked(t, s, at); len(mails) != 1 || mails[0].To != ada.Email {
			t.Errorf("%+v", mails)
		}
	})
	t.Run("LG-21 a forged host", func(t *testing.T) {
		b := s.Browser(t)
		page := b.Get("/login/email")
		page.Submit(page.Form("email"), servertest.With("email", ada.Email),
			servertest.Header("X-Forwarded-Host", "evil.example"), servertest.Header("Forwarded", "host=evil.example"))
		if m := next(t, s, at, ada.Email); !strings.HasPrefix(m.Link(), s.URL+"/") ||
			strings.Contains(m.Text+m.HTML, "evil") {
			t.Errorf("the mail is\n%s", m.Text)
		}
	})
	t.Run("no secret at rest", func(t *testing.T) {
		_, _, m := ask(t)
		link, err := url.Parse(m.Link())
		if err != nil {
			t.Fatal(err)
		}
		storetest.SecretsAtRest(t, s.DB, map[string]string{"token": link.Query().Get("token"), "code": m.Code()})
	})
	t.Run("the second factor follows", func(t *testing.T) {
		carl := s.User("carl@example.com")
		app, _ := withApp(t, s, carl)
		b := s.Browser(t)
		byEmail(b.Get("/login/email"), carl.Email)
		page := press(b.Get(next(t, s, at, carl.Email).Link()))
		if signedIn(b) || !page.Has("code") {
			t.Fatalf("status %d: %s", page.Status, page.URL)
		}
		if enter(page, app.code()); !signedIn(b) {
			t.Error("not signed in")
		}
	})
}

// looks returns what a page says, without what differs by chance or is the address itself.
func looks(page *servertest.Page, email string) string {
	text := regexp.MustCompile(`value="[^"]*"`).ReplaceAllString(page.Body, "value")
	return strings.ReplaceAll(text, email, "EMAIL") + "\n" + http.StatusText(page.Status) +
		page.Header.Get("Retry-After")
}

// verified reports whether the address of an account counts as verified.
func verified(t *testing.T, s *servertest.Server, id string) (is bool) {
	t.Helper()
	if err := s.DB.View(context.Background(), func(tx *store.Tx) error {
		u, err := tx.User(id)
		is = err == nil && !u.EmailVerifiedAt.IsZero()
		return err
	}); err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	return is
}

func TestEmailAlone(t *testing.T) {
	at := mailtest.New(t)
	s := servertest.StartWeather(t, servertest.Mailed(at),
		func(c *config.Config) { c.Login.Methods = config.Words{"email"} })
	ada := s.User("ada@example.com")
	agent, b := s.Agent(t, s.Client()), s.Browser(t)
	page := b.Authorize(agent.Authorization(servertest.With("login_hint", ada.Email)))
	form := page.Form("email")
	if got := form.Values().Get("email"); got != ada.Email || page.Has("password") {
		t.Errorf("the form has the address %q", got)
	}
	page = page.Submit(form)
	agent.Exchange(enter(page, next(t, s, at, ada.Email).Code()).Allow().Code()).Tokens()
}

// Strangers can neither bomb an address nor use up what its owner needs.
func TestMailLimits(t *testing.T) {
	at := mailtest.New(t)
	s := servertest.StartWeather(t, servertest.Mailed(at, "email"), func(c *config.Config) { c.Limits.Enabled = true })
	ada := s.User("ada@example.com")
	known := s.Browser(t)
	known.Get("/login").SignIn(ada)
	s.Mails(t, at)
	var shapes []string
	for _, email := range []string{ada.Email, "no@example.com"} {
		for i := range 7 {
			page := byEmail(s.Browser(t).Get("/login/email"), email)
			if want := i >= 5; (page.Status == http.StatusTooManyRequests) != want {
				t.Errorf("LG-04 %s: status %d for mail %d", email, page.Status, i+1)
			}
			if i == 6 {
				shapes = append(shapes, looks(page, email))
			}
		}
	}
	if d := cmp.Diff(shapes[0], shapes[1]); d != "" {
		t.Errorf("LG-01 at the limit (-ada +unknown):\n%s", d)
	}
	if mails := asked(t, s, at); len(mails) != 5 {
		t.Errorf("%d mails were sent, want 5", len(mails))
	}
	if page := byEmail(known.Get("/login/email"), ada.Email); page.Status != http.StatusOK {
		t.Errorf("LG-10 status %d on the owner's device", page.Status)
	}
	for i := range 40 {
		page := byEmail(s.Browser(t).Get("/login/email"), strings.Repeat("a", i+1)+"@example.net")
		if i == 39 && page.Status != http.StatusTooManyRequests {
			t.Errorf("status %d for the last of many mails that one network asked for", page.Status)
		}
	}
}
