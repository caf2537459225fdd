package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/mail/mailtest"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// open is an edit of the configuration: people sign up, and mail goes to at.
func open(at *mailtest.Server, domains ...string) func(*config.Config) {
	return func(c *config.Config) {
		servertest.Mailed(at)(c)
		c.Login.SignUp, c.Login.SignUpDomains = "open", domains
	}
}

// asked posts an address to the form of a sign-up page.
func asked(p *servertest.Page, email string) *servertest.Page {
	return p.Submit(p.Form("email"), servertest.With("email", email))
}

// finished posts the form that makes the account.
func finished(p *servertest.Page, code string, tweaks ...servertest.Tweak) *servertest.Page {
	return p.Submit(p.Form("code"), append([]servertest.Tweak{servertest.With("code", code),
		servertest.With("name", "Bob"), servertest.With("password", invitedPassword)}, tweaks...)...)
}

// letters returns the mails about a sign-up that came since the last call.
func letters(t *testing.T, s *servertest.Server, box *mailtest.Server) (found []mailtest.Mail) {
	t.Helper()
	for _, m := range s.Mails(t, box) {
		if strings.Contains(m.Text, "Somebody asked to make an account") {
			found = append(found, m)
		}
	}
	return found
}

// letter returns the only one of letters.
func letter(t *testing.T, s *servertest.Server, box *mailtest.Server, to string) mailtest.Mail {
	t.Helper()
	mails := letters(t, s, box)
	if len(mails) != 1 || mails[0].To != to {
		t.Fatalf("the mails are %+v", mails)
	}
	return mails[0]
}

// A person who comes with an agent makes an account and goes on to what the agent asks for.
func TestSignUp(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		box := mailtest.New(t)
		s := servertest.New(t, db, clock, open(box))
		s.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts")
		agent, b := s.Agent(t, s.Client()), s.Browser(t)
		page := b.Authorize(agent.Authorization())
		var link string
		for _, l := range page.Links() {
			if strings.HasPrefix(l, "/signup") {
				link = l
			}
		}
		page = asked(page.Follow(link), "Bob@Example.com")
		says(t, "the form", page, http.StatusOK, "A mail is on its way to")
		if got := page.Form("code").Values().Get("username"); got != "Bob@Example.com" { // for password managers
			t.Errorf("the form belongs to %q", got)
		}
		m := letter(t, s, box, "Bob@example.com")
		if u := person(t, db, "bob@example.com"); u != nil {
			t.Fatalf("there is an account before the address is verified: %+v", u)
		}
		says(t, "LG-05 a wrong code", finished(page, "00000000"), http.StatusForbidden, "That did not work")
		says(t, "a short password", finished(page, m.Code(), servertest.With("password", "short")),
			http.StatusBadRequest, "at least 8 characters")
		done := finished(page, m.Code())
		if !done.IsConsent() {
			t.Fatalf("%d %s %s", done.Status, done.URL, done.Body)
		}
		tokens := agent.Exchange(done.Allow("mcp:tools:weather").Code()).Tokens()
		u := person(t, db, "bob@example.com")
		if u == nil || u.EmailVerifiedAt.IsZero() || u.Role != "" || u.Name != "Bob" ||
			servertest.Claims(t, tokens.Access).Subject != u.ID {
			t.Errorf("the account is %+v", u)
		}
		says(t, "LG-22 used again", finished(page, m.Code(), servertest.With("password", "another password")),
			http.StatusForbidden, "That did not work")
		login := s.Browser(t).Get("/login").SignIn(
			&servertest.Person{Email: "bob@example.com", Password: invitedPassword})
		says(t, "the password works", login, http.StatusOK, "You are signed in")
		var made []audit.Event
		for _, e := range s.Events("user.sign_up") {
			if e.Outcome == audit.Allowed {
				made = append(made, e)
			}
			if strings.Contains(fmt.Sprintf("%+v", e), m.Code()) {
				t.Errorf("the code is in %+v", e)
			}
		}
		if len(made) != 1 || made[0].UserID != u.ID || made[0].Actor.ID != u.ID {
			t.Errorf("the events are %+v", made)
		}
	})
}

// The link works in any browser, and in the one that asked it leads on; opening it spends nothing.
func TestSignUpByLink(t *testing.T) {
	box := mailtest.New(t)
	s := servertest.StartWeather(t, open(box))
	for _, elsewhere := range []bool{true, false} {
		agent, b := s.Agent(t, s.Client()), s.Browser(t)
		email := fmt.Sprintf("bob.%v@example.com", elsewhere)
		asked(b.Get("/signup?"+strings.SplitN(b.Authorize(agent.Authorization()).URL, "?", 2)[1]), email)
		m := letter(t, s, box, email)
		path, token, _ := strings.Cut(strings.TrimPrefix(m.Link(), s.URL), "#")
		for range 3 {
			s.Browser(t).Get(path)
		}
		if elsewhere {
			b = s.Browser(t)
		}
		done := finished(b.Get(path), token)
		if elsewhere && at(done) != "/account" || !elsewhere && !done.IsConsent() {
			t.Errorf("elsewhere %v: %d %s %s", elsewhere, done.Status, done.URL, done.Body)
		}
		says(t, "LG-22 used again", finished(s.Browser(t).Get(path), token), http.StatusForbidden, "That did not work")
	}
}

// LG-01: nothing on the pages says whether an address has an account; its owner is told by mail, and nothing of the
// account changes, whatever is typed afterwards.
func TestSignUpOfAnAccount(t *testing.T) {
	box := mailtest.New(t)
	s := servertest.Start(t, open(box))
	ada, eve := s.User("ada@example.com"), s.Browser(t)
	known := asked(eve.Get("/signup"), "ADA@example.com")
	unknown := asked(s.Browser(t).Get("/signup"), "bob@example.com")
	plain := func(p *servertest.Page, email string) string {
		text := strings.ReplaceAll(p.Body, email, "")
		for _, name := range []string{"csrf", "sent"} {
			text = strings.ReplaceAll(text, p.Form("code").Values().Get(name), "")
		}
		return text
	}
	if known.Status != unknown.Status || plain(known, "ADA@example.com") != plain(unknown, "bob@example.com") {
		t.Errorf("LG-01 they differ:\n%s\n%s", known.Body, unknown.Body)
	}
	mails := letters(t, s, box)
	for _, m := range mails {
		if m.To == ada.Email && (m.Code() != "" || strings.Contains(m.Text, "signup") ||
			!strings.Contains(m.Text, "There is one already")) {
			t.Errorf("the owner of the account is told %s", m.Text)
		}
	}
	if len(mails) != 2 {
		t.Errorf("the mails are %+v", mails)
	}
	says(t, "takeover: a code for an account", finished(known, "12345678"), http.StatusForbidden, "That did not work")
	login := s.Browser(t).Get("/login").SignIn(ada)
	says(t, "takeover: the password stays", login, http.StatusOK, "You are signed in")
}

// Nobody prepares an account for somebody else: the person who reads the mail chooses the password, and an account that
// was made meanwhile stays as it is.
func TestSignUpTakeover(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		box := mailtest.New(t)
		s := servertest.New(t, db, clock, open(box))
		eve, bob := s.Browser(t), s.Browser(t)
		prepared := asked(eve.Get("/signup"), "bob@example.com")
		m := letter(t, s, box, "bob@example.com")
		path, token, _ := strings.Cut(strings.TrimPrefix(m.Link(), s.URL), "#")
		// The code of Eve's mail is of no use to another browser, and Bob's link signs nobody else in.
		says(t, "pre-registration: the code in another browser", finished(bob.Get("/signup/finish"), m.Code()),
			http.StatusForbidden, "That did not work")
		page := bob.Get(prepared.URL) // with what Eve's browser keeps of the mail
		says(t, "pre-registration: the code in another browser, with the page of the first",
			page.Submit(page.Form("code"), servertest.With("code", m.Code()), servertest.With("name", "Bob"),
				servertest.With("sent", query(t, prepared.URL).Get("sent")),
				servertest.With("password", invitedPassword)),
			http.StatusForbidden, "That did not work")
		for range 5 {
			says(t, "LG-05 guesses", finished(prepared, "00000000"), http.StatusForbidden, "That did not work")
		}
		says(t, "LG-05 the right code after five guesses", finished(prepared, m.Code()), http.StatusForbidden,
			"That did not work")
		says(t, "LG-05 the link after five guesses", finished(bob.Get(path), token), http.StatusForbidden,
			"That did not work")

		asked(bob.Get("/signup"), "bob@example.com")
		m = letter(t, s, box, "bob@example.com")
		path, token, _ = strings.Cut(strings.TrimPrefix(m.Link(), s.URL), "#")
		made := s.User("Bob@example.com") // in another way
		says(t, "pre-registration: an account meanwhile", finished(bob.Get(path), token), http.StatusBadRequest,
			"There is an account")
		says(t, "pre-registration: its password stays", s.Browser(t).Get("/login").SignIn(made), http.StatusOK,
			"You are signed in")

		late := asked(bob.Get("/signup"), "late@example.com")
		m = letter(t, s, box, "late@example.com")
		clock.Advance(30 * time.Minute)
		says(t, "LG-22 too late", finished(late, m.Code()), http.StatusForbidden, "That did not work")
		if person(t, db, "late@example.com") != nil {
			t.Error("there is an account")
		}
	})
}

// LG-22: of several who send the code at once, one makes the account.
func TestSignUpAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		box := mailtest.New(t)
		s := servertest.New(t, db, clock, open(box))
		b := s.Browser(t)
		page := asked(b.Get("/signup"), "bob@example.com")
		m := letter(t, s, box, "bob@example.com")
		made := make(chan bool)
		for range 8 {
			go func() { made <- at(finished(page, m.Code())) == "/account" }()
		}
		n := 0
		for range 8 {
			if <-made {
				n++
			}
		}
		if n < 1 || len(owners(t, db)) != 1 {
			t.Errorf("LG-22 %d succeeded, there are %d accounts", n, len(owners(t, db)))
		}
	})
}

// Addresses are let in by their domain, in whatever form it is typed, and never by one that looks alike.
func TestSignUpDomains(t *testing.T) {
	box := mailtest.New(t)
	s := servertest.Start(t, open(box, "example.com", "xn--hxajbheg2az3al.xn--jxalpdlp"))
	for email, let := range map[string]bool{
		"bob@example.com": true, "Carol@EXAMPLE.com": true, "δοκιμή@παράδειγμα.δοκιμή": true,
		"dave@xn--hxajbheg2az3al.xn--jxalpdlp": true,
		"eve@example.org":                      false, "eve@sub.example.com": false,
		"eve@example.com.evil.example": false,
		"eve@ex\u0430mple.com":         false, "eve@example.com@evil.example": false, "\u0435ve@example.com": false,
		"eve@evil.example\r\nBcc: bob@example.com": false, "eve": false, "": false,
	} {
		page := asked(s.Browser(t).Get("/signup"), email)
		mails := letters(t, s, box)
		if email == "eve@example.org" {
			for _, page := range []*servertest.Page{page, s.Browser(t).Get("/signup")} {
				if !strings.Contains(page.Body, "n address at example.com or παράδειγμα.δοκιμή") {
					t.Errorf("the page does not name the domains as people write them: %s", page.Body)
				}
			}
		}
		if went := at(page) == "/signup/finish"; went != let || len(mails) > 0 != let {
			t.Errorf("%q: %d %s, %d mails", email, page.Status, page.URL, len(mails))
			continue
		}
		if !let {
			continue
		}
		if done := finished(page, mails[0].Code()); at(done) != "/account" {
			t.Errorf("%q: %d %s", email, done.Status, done.Body)
		}
		if u := person(t, s.DB, email); u == nil || identity.EmailKey(u.Email) != identity.EmailKey(email) {
			t.Errorf("%q: the account is %+v", email, u)
		}
	}
}

// Mails are bounded for an address and for a sender, with or without an account.
func TestSignUpLimits(t *testing.T) {
	box := mailtest.New(t)
	s := servertest.Start(t, open(box), func(c *config.Config) { c.Limits.Enabled = true })
	s.User("ada@example.com")
	for _, email := range []string{"ada@example.com", "bob@example.com"} {
		b, sent := s.Browser(t), 0
		for range 8 {
			page := asked(b.Get("/signup"), email)
			if page.Status == http.StatusTooManyRequests {
				says(t, "mail bombing", page, http.StatusTooManyRequests, "Too many mails were asked for")
				break
			}
			sent++
		}
		if sent != 5 || len(letters(t, s, box)) != 5 {
			t.Errorf("mail bombing of %s: %d were sent", email, sent)
		}
	}
}

// Without it there is no page, and no link to one.
func TestSignUpOff(t *testing.T) {
	s := servertest.Start(t)
	if page := s.Browser(t).Get("/signup"); page.Status != http.StatusNotFound {
		t.Errorf("%d", page.Status)
	}
	if page := s.Browser(t).Get("/login"); strings.Contains(page.Body, "signup") {
		t.Errorf("%s", page.Body)
	}
}
