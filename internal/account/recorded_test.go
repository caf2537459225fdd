package account_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/server/servertest"
)

// What people change about their own sign-in is recorded with the person, and so is what was refused. No event has a
// password or a recovery code.
func TestOwnChangesAreRecorded(t *testing.T) {
	s := servertest.StartMCP(t)
	ada, b := s.User("ada@example.com"), s.Browser(t)
	s.UserWithPassword("bob@example.com", "a much better passphrase") // which registers it as a secret
	b.Get("/login").SignIn(ada)
	s.Browser(t).Get("/login").SignIn(ada)

	page := b.Get("/account/security")
	change := form(t, page, "/account/security/password")
	page.Submit(change, servertest.With("current", "a much better passphrase"),
		servertest.With("password", "a much better passphrase"))
	page.Submit(change, servertest.With("current", ada.Password),
		servertest.With("password", "a much better passphrase"))

	page = b.Get("/account/second-factor")
	key := regexp.MustCompile(`<code class="key">([A-Z2-7 ]+)</code>`).FindStringSubmatch(page.Body)
	if key == nil {
		t.Fatalf("status %d: the page shows no key:\n%s", page.Status, inner(page))
	}
	page.Submit(page.Form("code"), servertest.With("code", s.TOTP(t, key[1])))
	page = b.Get("/account/second-factor")
	renewed := page.Submit(form(t, page, "/codes"))
	codes := regexp.MustCompile(`<li><code>([a-z2-7-]{19})</code>`).FindAllStringSubmatch(renewed.Body, -1)
	if len(codes) != 10 {
		t.Fatalf("status %d: %d recovery codes:\n%s", renewed.Status, len(codes), inner(renewed))
	}

	page = b.Get("/logout")
	page.Submit(page.Form(""), servertest.With("csrf", "x"))
	page.Submit(page.Form(""))

	for action, want := range map[string][]audit.Event{
		"user.change_password": {
			audit.PasswordChange(ada.ID, 1).Allow(),
			audit.PasswordChange(ada.ID, 0).Refuse("access_denied", ""),
		},
		"second_factor.new_codes": {audit.SecondFactor("new_codes", ada.ID).Allow()},
		"login.sign_out": {
			audit.SignOut(ada.ID).Allow(),
			audit.SignOut(ada.ID).Refuse("access_denied", ""),
		},
	} {
		var got []audit.Event
		for _, e := range s.Events(action) {
			if e.RequestID == "" || e.Address == "" || (e.Outcome == audit.Refused) != (e.Description != "") {
				t.Errorf("%s: %+v", action, e)
			}
			got = append(got, audit.Event{Action: e.Action, Outcome: e.Outcome, Actor: e.Actor, UserID: e.UserID,
				Reason: e.Reason, Detail: e.Detail})
			for _, code := range codes {
				if strings.Contains(e.Description+e.DetailJSON(), code[1]) {
					t.Errorf("%s has a recovery code: %+v", action, e)
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", action, diff)
		}
	}
}
