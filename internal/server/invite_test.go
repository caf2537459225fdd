package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/mail/mailtest"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
	"github.com/cardea-auth/cardea/internal/upstream"
	"github.com/cardea-auth/cardea/internal/upstream/upstreamtest"
	"github.com/cardea-auth/cardea/scope"
)

// root is a command on the machine.
var root = admin.Command("root", "root@host")

// invited returns the token of a fresh invitation.
func invited(t *testing.T, s *servertest.Server, by admin.Caller, n admin.NewInvitation) string {
	t.Helper()
	o := &admin.Operations{DB: s.DB, Issuer: s.URL}
	i, err := o.Invite(t.Context(), by, n)
	if err != nil {
		t.Fatal(err)
	}
	return tokenOf(t, s, i)
}

func tokenOf(t *testing.T, s *servertest.Server, i admin.Invitation) string {
	t.Helper()
	address, token, _ := strings.Cut(i.Link, "#")
	if address != s.URL+"/invite" || len(token) < 43 {
		t.Fatalf("the link is %s", i.Link)
	}
	return token
}

const invitedPassword = "a password of their own"

// accepted posts the form of an invitation.
func accepted(p *servertest.Page, token string, tweaks ...servertest.Tweak) *servertest.Page {
	return p.Submit(p.Form("token"), append([]servertest.Tweak{servertest.With("token", token),
		servertest.With("name", "Bob"), servertest.With("password", invitedPassword)}, tweaks...)...)
}

// person returns the account of an address, nil if there is none.
func person(t *testing.T, db *store.DB, email string) *identity.User {
	t.Helper()
	for _, u := range owners(t, db) {
		if identity.EmailKey(u.Email) == identity.EmailKey(email) {
			return u
		}
	}
	return nil
}

// at returns the path of a page.
func at(p *servertest.Page) string {
	u, err := url.Parse(p.URL)
	if err != nil {
		return p.URL
	}
	return u.Path
}

// says fails the test unless a page has the status and the sentence.
func says(t *testing.T, why string, page *servertest.Page, status int, sentence string) {
	t.Helper()
	if page.Status != status || !strings.Contains(page.Body, sentence) {
		t.Errorf("%s: %d %s", why, page.Status, page.Body)
	}
}

func TestInvitation(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock)
		o := &admin.Operations{DB: db, Issuer: s.URL}
		if _, err := o.CreateGroup(t.Context(), root, "staff", admin.GroupTerms{}); err != nil {
			t.Fatal(err)
		}
		bob := admin.NewInvitation{Email: "bob@example.com", Role: identity.Operator, Groups: []string{"staff"}}
		b := s.Browser(t)
		refused := func(why string, page *servertest.Page, status int, sentence string) {
			t.Helper()
			says(t, why, page, status, sentence)
			if u := person(t, db, bob.Email); u != nil {
				t.Fatalf("%s: there is an account: %+v", why, u)
			}
		}
		refused("LG-22 no invitation", accepted(b.Get("/invite"), "x"), http.StatusForbidden, "the link was cut")
		old := invited(t, s, root, bob)
		token := invited(t, s, root, bob)
		refused("LG-22 an older link", accepted(b.Get("/invite"), old), http.StatusForbidden, "was used or withdrawn")
		clock.Advance(7 * 24 * time.Hour)
		refused("LG-22 a week later", accepted(b.Get("/invite"), token), http.StatusForbidden, "has expired")

		again, err := o.ResendInvitation(t.Context(), root, "BOB@example.com")
		if err != nil {
			t.Fatal(err)
		}
		refused("LG-22 the link before the newest", accepted(b.Get("/invite"), token), http.StatusForbidden,
			"was used or withdrawn")
		token = tokenOf(t, s, again)
		for range 3 {
			b.Get("/invite") // spends nothing
			b.Get("/invite?token=" + token)
		}
		refused("LG-12 a form of nowhere",
			b.Post("/invite", map[string][]string{"token": {token}, "password": {invitedPassword}}),
			http.StatusForbidden, "open the link again")
		page := accepted(b.Get("/invite"), token, servertest.With("password", "short"))
		refused("a short password", page, http.StatusBadRequest, "at least 8 characters")
		if page.Form("token").Values().Get("token") != token {
			t.Error("the token has to be pasted again")
		}
		refused("a name of two lines", accepted(page, token, servertest.With("name", "Bob\nEve")),
			http.StatusBadRequest, "one line")

		done := accepted(page, token)
		if done.Status != http.StatusOK || at(done) != "/account" {
			t.Errorf("%d %s %s", done.Status, done.URL, done.Body)
		}
		u := person(t, db, bob.Email)
		if u == nil || u.ID != again.ID || u.Role != identity.Operator || u.Name != "Bob" ||
			u.EmailVerifiedAt.IsZero() {
			t.Fatalf("the account is %+v", u)
		}
		var groups map[string][]string
		s.Update(func(tx *store.Tx) (err error) { groups, err = tx.UserGroups(u.ID); return err })
		if fmt.Sprint(groups[u.ID]) != "[staff]" {
			t.Errorf("the groups are %v", groups)
		}
		var made []audit.Event
		for _, e := range s.Events("invitation.accept") {
			if e.Outcome == audit.Allowed {
				made = append(made, e)
			}
		}
		if len(made) != 1 || made[0].UserID != u.ID || made[0].Actor.ID != u.ID {
			t.Errorf("the events are %+v", made)
		}
		for _, e := range s.Events("") {
			if strings.Contains(fmt.Sprintf("%+v", e), token) {
				t.Errorf("the token is in an event: %+v", e)
			}
		}
		if strings.Contains(s.Log(), token) {
			t.Error("the token is in the log")
		}
		says(t, "LG-22 used again", accepted(s.Browser(t).Get("/invite"), token), http.StatusForbidden,
			"was used or withdrawn")
		login := s.Browser(t).Get("/login").SignIn(&servertest.Person{Email: bob.Email, Password: invitedPassword})
		says(t, "the password works", login, http.StatusOK, "You are signed in")
		if _, err := o.Invite(t.Context(), root, bob); err == nil || !strings.Contains(err.Error(), "already exists") {
			t.Errorf("an invitation of somebody with an account: %v", err)
		}
	})
}

// LG-22: of fifty who use the link at once, one makes the account.
func TestInvitationAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock)
		o := &admin.Operations{DB: db, Issuer: s.URL}
		token := invited(t, s, root, admin.NewInvitation{Email: "bob@example.com"})
		errs := servertest.AtOnce(50, func(i int) error {
			a, err := o.AcceptInvitation(t.Context(), token, fmt.Sprint("Bob ", i), "", false)
			if err == nil {
				err = db.Update(t.Context(), a.Confirm)
			}
			return err
		})
		made := 0
		for _, err := range errs {
			if err == nil {
				made++
			}
		}
		if n := len(owners(t, db)); made != 1 || n != 1 {
			t.Errorf("LG-22 %d succeeded, there are %d accounts: %v", made, n, errs)
		}
	})
}

// Nobody gives by an invitation what they may not give, or may not give any more.
func TestInvitationRights(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock)
		o := &admin.Operations{DB: db, Issuer: s.URL}
		account := func(email string, role identity.Role) (*servertest.Person, admin.Caller) {
			p := s.User(email)
			if _, err := o.UpdateUser(t.Context(), root, p.ID, admin.UserTerms{Role: &role}); err != nil {
				t.Fatal(err)
			}
			return p, admin.Person(&identity.User{ID: p.ID, Email: p.Email}, nil)
		}
		_, operator := account("operator@example.com", identity.Operator)
		mallory, owner := account("mallory@example.com", identity.Owner)
		account("owner@example.com", identity.Owner)
		program := admin.Program("mcp_x", "Program", scope.Of("cardea:*"))
		for _, tt := range []struct {
			why  string
			by   admin.Caller
			role identity.Role
		}{
			{"an operator invites", operator, ""},
			{"an operator invites an operator", operator, identity.Operator},
			{"a program invites an auditor", program, identity.Auditor},
		} {
			if i, err := o.Invite(t.Context(), tt.by,
				admin.NewInvitation{Email: "bob@example.com", Role: tt.role}); err == nil {
				t.Errorf("%s: %+v", tt.why, i)
			}
		}
		if events := s.Events("user.invite"); len(events) != 3 || events[0].Outcome != audit.Refused {
			t.Errorf("the refusals are %+v", events)
		}

		// An owner keeps a way back in, and is demoted, disabled or deleted.
		back := admin.NewInvitation{Email: "mallory.again@example.com", Role: identity.Owner}
		for what, end := range map[string]func() error{
			"demoted": func() error {
				auditor := identity.Auditor
				_, err := o.UpdateUser(t.Context(), root, mallory.ID, admin.UserTerms{Role: &auditor})
				return err
			},
			"disabled": func() error { _, err := o.DisableUser(t.Context(), root, mallory.ID); return err },
			"deleted":  func() error { _, err := o.DeleteUser(t.Context(), root, mallory.ID); return err },
		} {
			token := invited(t, s, owner, back)
			if what == "demoted" || what == "disabled" || what == "deleted" {
				if err := end(); err != nil {
					t.Fatal(err)
				}
			}
			says(t, "LG-09 the inviter is "+what, accepted(s.Browser(t).Get("/invite"), token), http.StatusForbidden,
				"The person who invited you may no longer do so")
			if person(t, db, back.Email) != nil {
				t.Fatalf("LG-09 the inviter is %s: there is an account", what)
			}
			if what == "deleted" {
				mallory, owner = account("mallory@example.com", identity.Owner)
				continue
			}
			if _, err := o.EnableUser(t.Context(), root, mallory.ID); err != nil {
				t.Fatal(err)
			}
			role := identity.Owner
			if _, err := o.UpdateUser(t.Context(), root, mallory.ID, admin.UserTerms{Role: &role}); err != nil {
				t.Fatal(err)
			}
		}
		if token := invited(t, s, owner, back); accepted(s.Browser(t).Get("/invite"), token).Status != http.StatusOK {
			t.Error("an owner's invitation does not work")
		}
	})
}

// An account that was made otherwise takes the invitation of its own address only, and only while its owner is
// signed in.
func TestInvitationOfAnAccount(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock)
		o := &admin.Operations{DB: db, Issuer: s.URL}
		if _, err := o.CreateGroup(t.Context(), root, "staff", admin.GroupTerms{}); err != nil {
			t.Fatal(err)
		}
		token := invited(t, s, root,
			admin.NewInvitation{Email: "Bob@example.com", Role: identity.Auditor, Groups: []string{"staff"}})
		bob, eve := s.User("bob@example.com"), s.User("eve@example.com")
		says(t, "takeover: a stranger with the link", accepted(s.Browser(t).Get("/invite"), token),
			http.StatusBadRequest, "There is an account with the e-mail address of this invitation already")
		says(t, "takeover: the password stays", s.Browser(t).Get("/login").SignIn(bob), http.StatusOK,
			"You are signed in")

		join := servertest.With("join", "1")
		other := s.Browser(t)
		other.Get("/login").SignIn(eve)
		says(t, "somebody else's mailbox", accepted(other.Get("/invite"), token, join), http.StatusForbidden,
			"for another e-mail address")
		own := s.Browser(t)
		own.Get("/login").SignIn(bob)
		before := own.Cookies()
		done := accepted(own.Get("/invite"), token, join)
		if done.Status != http.StatusOK || at(done) != "/account" {
			t.Errorf("%d %s %s", done.Status, done.URL, done.Body)
		}
		if fmt.Sprint(own.Cookies()) == fmt.Sprint(before) {
			t.Error("LG-14 the session is the one from before")
		}
		u := person(t, db, bob.Email)
		if u.Role != identity.Auditor || u.ID != bob.ID || u.EmailVerifiedAt.IsZero() {
			t.Errorf("the account is %+v", u)
		}
		if e := person(t, db, eve.Email); e.Role != "" {
			t.Errorf("the other account is %+v", e)
		}
		says(t, "LG-22 used again", accepted(own.Get("/invite"), token, join), http.StatusForbidden,
			"was used or withdrawn")
	})
}

// An invited person who must have a second factor sets it up before they arrive; the account is made once.
func TestInvitationSecondFactor(t *testing.T) {
	s := servertest.Start(t, func(c *config.Config) { c.Login.SecondFactor = "required" })
	token := invited(t, s, root, admin.NewInvitation{Email: "bob@example.com"})
	b := s.Browser(t)
	page := accepted(b.Get("/invite"), token)
	if at(page) != "/login/second" || person(t, s.DB, "bob@example.com") == nil {
		t.Errorf("%d %s %s", page.Status, page.URL, page.Body)
	}
	if home := b.Get("/account"); !home.IsSignIn() {
		t.Errorf("the person is signed in with one factor: %s", home.URL)
	}
}

// LG-14: an identity provider is one factor of those that an invited person needs, and the other one is set up at once.
func TestInvitationByProviderSecondFactor(t *testing.T) {
	issuer := upstreamtest.NewIssuer(t, "")
	issuer.SignIn(theirs(upstreamtest.Claims{"groups": []string{"Sales"}}))
	db, clock := storetest.Open(t, storetest.SQLite)
	if _, err := (&admin.Operations{DB: db}).CreateGroup(t.Context(), root, "sales", admin.GroupTerms{}); err != nil {
		t.Fatal(err)
	}
	s := servertest.New(t, db, clock, func(c *config.Config) { c.Login.SecondFactor = "required" },
		corp(issuer, func(c *upstream.Config) {
			c.GroupsClaim, c.GroupMap = "groups", map[string]string{"Sales": "sales"}
		}))
	b := s.Browser(t)
	page := returning(b, issuer.Visit(leaving(t, b,
		invited(t, s, root, admin.NewInvitation{Email: "bob@example.com"}))))
	if at(page) != "/login/second" || !b.Get("/account").IsSignIn() {
		t.Fatalf("the person is signed in with one factor: %d %s %s", page.Status, page.URL, page.Body)
	}
	key := regexp.MustCompile(`class="key">([A-Z2-7 ]+)<`).FindStringSubmatch(page.Body)
	if key == nil {
		t.Fatalf("no key: %s", page.Body)
	}
	page = page.Submit(page.Form("code"), servertest.With("code", s.TOTP(t, key[1])))
	says(t, "the app is set up", page, http.StatusOK, "recovery codes")
	if home := b.Get("/account"); home.IsSignIn() {
		t.Errorf("the person is not signed in: %s", home.Body)
	}
}

// Without passwords an invited person is signed in by the invitation alone, and goes on to how they sign in.
func TestInvitationWithoutPassword(t *testing.T) {
	s := servertest.Start(t, func(c *config.Config) { c.Login.Methods = nil })
	token := invited(t, s, root, admin.NewInvitation{Email: "bob@example.com"})
	page := s.Browser(t).Get("/invite")
	if page.Has("password") {
		t.Error("the form asks for a password")
	}
	page = page.Submit(page.Form("token"), servertest.With("token", token))
	u := person(t, s.DB, "bob@example.com")
	if at(page) != "/account/security" || u == nil || u.PasswordHash != "" {
		t.Errorf("%d %s %+v", page.Status, page.URL, u)
	}
}

func TestInvitationLimit(t *testing.T) {
	s := servertest.Start(t, func(c *config.Config) { c.Limits.Enabled = true })
	token := invited(t, s, root, admin.NewInvitation{Email: "bob@example.com"})
	b := s.Browser(t)
	for range 200 {
		if page := accepted(b.Get("/invite"), "guess"); page.Status == http.StatusTooManyRequests {
			says(t, "the right one", accepted(b.Get("/invite"), token), http.StatusTooManyRequests, "too many attempts")
			return
		}
	}
	t.Error("LG-05 nobody is slowed down who guesses")
}

// The link is mailed to the invited address, if there is a mail server, and works.
func TestInvitationByMail(t *testing.T) {
	letters := mailtest.New(t)
	s := servertest.Start(t, func(c *config.Config) { c.Mail.SMTP, c.Mail.From = letters.URL, "auth@example.com" })
	ada := s.User("ada@example.com")
	role := identity.Owner
	o := &admin.Operations{DB: s.DB, Issuer: s.URL}
	if _, err := o.UpdateUser(t.Context(), root, ada.ID, admin.UserTerms{Role: &role}); err != nil {
		t.Fatal(err)
	}
	b := s.Browser(t)
	b.Get("/login").SignIn(ada)
	page := b.Get("/admin/people/invite")
	page = page.Submit(page.Form("email"), servertest.With("email", "δοκιμή@παράδειγμα.example"),
		servertest.With("role", "auditor"))
	says(t, "the console", page, http.StatusOK, "is on its way to")
	mail := letters.NextTo(t, "δοκιμή@xn--hxajbheg2az3al.example")
	link := mail.Link()
	if !strings.Contains(page.Body, link) || !strings.HasPrefix(link, s.URL+"/invite#") {
		t.Errorf("the link is %q", link)
	}
	_, token, _ := strings.Cut(link, "#")
	says(t, "listed", b.Get("/admin/people/invitations"), http.StatusOK, "δοκιμή@παράδειγμα.example")
	if done := accepted(s.Browser(t).Get("/invite"), token); at(done) != "/account" {
		t.Errorf("%d %s %s", done.Status, done.URL, done.Body)
	}
	u := person(t, s.DB, "Δοκιμή@xn--hxajbheg2az3al.example")
	if u == nil || u.Role != identity.Auditor {
		t.Errorf("the account is %+v", u)
	}
	says(t, "listed no more", b.Get("/admin/people/invitations"), http.StatusOK, "Nobody is invited")
}
