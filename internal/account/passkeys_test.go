package account_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/mail/mailtest"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// passkeyHolders runs test on both databases, each time with a person who has just added the passkey in device.
func passkeyHolders(t *testing.T, test func(t *testing.T, w *world, device *servertest.Authenticator)) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock, servertest.Localhost)
		s.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts")
		w := &world{Server: s, ada: s.User("ada@example.com"), browser: s.Browser(t)}
		w.browser.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0")
		device := s.Authenticator(t)
		page := w.browser.Get("/account/security/passkeys/new").SignIn(w.ada)
		has(t, page.WithPasskey(device.Create(page)), http.StatusOK, "Your passkey is added.", "Firefox on Linux")
		test(t, w, device)
	})
}

// A person names and removes their passkeys, and nobody else's. The session in which one was added goes on.
func TestPasskeys(t *testing.T) {
	passkeyHolders(t, func(t *testing.T, w *world, device *servertest.Authenticator) {
		page := w.browser.Get("/account/security")
		rename, remove := form(t, page, "/rename"), form(t, page, "/remove")
		has(t, page.Submit(rename, servertest.With("name", "Work \u202elaptop")), http.StatusOK, "new name",
			"Work laptop")
		has(t, page.Submit(rename, servertest.With("name", " ")), http.StatusBadRequest, "Type a name")

		eve, hers := w.Browser(t), w.Authenticator(t)
		theirs := eve.Get("/account/security/passkeys/new").SignIn(w.User("eve@example.com"))
		theirs = theirs.WithPasskey(hers.Create(theirs))
		has(t, theirs.Submit(at(form(t, theirs, "/rename"), rename.Action)), http.StatusNotFound)
		has(t, theirs.Submit(at(form(t, theirs, "/remove"), remove.Action)), http.StatusNotFound)

		w.Clock.Advance(time.Second)
		page = w.browser.Get("/account/security/passkeys/new")
		second := w.Authenticator(t)
		second.AAGUID = [16]byte{0xea, 0x9b, 0x8d, 0x66, 0x4d, 0x01, 0x1d, 0x21,
			0x3c, 0xe4, 0xb6, 0xb4, 0x8c, 0xb5, 0x75, 0xd4}
		second.Synced = true
		answer := second.Create(page)
		has(t, page.WithPasskey(answer), http.StatusOK, "Google Password Manager", "synced")
		has(t, page.WithPasskey(answer), http.StatusForbidden) // once

		page = w.browser.Get("/account/security")
		remove = form(t, page, "/remove") // of the oldest
		has(t, page.Submit(remove), http.StatusOK, "The passkey is removed.", "Google Password Manager")
		has(t, page.Submit(remove), http.StatusNotFound)
		sign := w.Browser(t).Get("/login")
		has(t, sign.WithPasskey(device.Use(sign)), http.StatusForbidden, "did not work here")
		if got := w.browser.Get("/account"); got.Status != http.StatusOK {
			t.Errorf("the session ended: status %d", got.Status)
		}
		for _, action := range []string{"passkey.add", "passkey.rename", "passkey.remove"} {
			if len(w.Events(action)) == 0 {
				t.Errorf("no event %s", action)
			}
		}
	})
}

// A change needs a recent sign-in, and the passkey itself once there is one: a stolen password adds none.
func TestPasskeysOfTheOwnerAlone(t *testing.T) {
	passkeyHolders(t, func(t *testing.T, w *world, device *servertest.Authenticator) {
		thief := w.Browser(t)
		page := thief.Get("/account/security/passkeys/new").SignIn(w.ada)
		has(t, page, http.StatusOK, "One more step")
		page = thief.Get("/account/security")
		if page = page.Submit(form(t, page, "/remove")); !strings.Contains(page.Body, "One more step") {
			t.Errorf("status %d:\n%s", page.Status, page.Body)
		}
		has(t, page.WithPasskey(device.Use(page)), http.StatusOK, "Add a passkey")

		// LG-14: nor does it delete the account.
		thief = w.Browser(t)
		thief.Get("/login").SignIn(w.ada)
		page = thief.Get("/account/delete")
		has(t, page, http.StatusOK, "One more step")
		has(t, page.WithPasskey(device.Use(page)), http.StatusOK, "Delete your account?")

		w.Clock.Advance(16 * time.Minute)
		page = w.browser.Get("/account/security")
		has(t, page.Submit(form(t, page, "/remove")), http.StatusOK, "Sign in again")
	})
}

// The only way to sign in stays, until an operator gives the person a new start.
func TestTheLastPasskeyStays(t *testing.T) {
	passkeyHolders(t, func(t *testing.T, w *world, device *servertest.Authenticator) {
		only := servertest.New(t, w.DB, w.Clock, servertest.Localhost, func(c *config.Config) {
			c.Login.Methods = config.Words{"passkey"}
		})
		device.Origin = only.URL
		b := only.Browser(t)
		page := b.Get("/login?" + url.Values{"return": {"/account/security"}}.Encode())
		page = page.WithPasskey(device.Use(page))
		has(t, page.Submit(form(t, page, "/remove")), http.StatusBadRequest, "without it you could not sign in")

		o := &admin.Operations{DB: w.DB, Issuer: w.URL}
		if _, err := o.ResetSecondFactor(t.Context(), admin.Command("test", "test"), w.ada.Email); err != nil {
			t.Fatal(err)
		}
		sign := w.Browser(t).Get("/login")
		device.Origin = w.URL
		has(t, sign.WithPasskey(device.Use(sign)), http.StatusForbidden, "did not work here")
		if _, err := o.ResetSecondFactor(t.Context(), admin.Command("test", "test"), w.ada.Email); err == nil {
			t.Error("there was nothing to reset")
		}
	})
}

// An operator sees the passkeys of a person and removes one, which signs the person out; the person is told. The export
// has what is stored of the others.
func TestAnOperatorRemovesAPasskey(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		letters := mailtest.New(t)
		s := servertest.New(t, db, clock, servertest.Localhost, servertest.Mailed(letters))
		ada, owner, b := s.User("ada@example.com"), s.User("owner@example.com"), s.Browser(t)
		o := &admin.Operations{DB: db, Issuer: s.URL}
		root, role := admin.Command("root", "root@host"), identity.Owner
		if _, err := o.UpdateUser(t.Context(), root, owner.ID, admin.UserTerms{Role: &role}); err != nil {
			t.Fatal(err)
		}
		keys := []*servertest.Authenticator{s.Authenticator(t), s.Authenticator(t)}
		for i, key := range keys {
			clock.Advance(time.Second)
			page := b.Get("/account/security/passkeys/new")
			if i == 0 {
				page = page.SignIn(ada)
			}
			has(t, page.WithPasskey(key.Create(page)), http.StatusOK, "Your passkey is added.")
		}
		seen, err := o.User(t.Context(), root, ada.Email)
		if err != nil || len(seen.Passkeys) != 2 || seen.AuthenticatorApp || !seen.Passkeys[0].LastUsedAt.IsZero() {
			t.Fatalf("%+v %v", seen, err)
		}
		s.Mails(t, letters)

		who, err := person(db, owner.ID)
		if err != nil {
			t.Fatal(err)
		}
		done, err := o.RemovePasskey(t.Context(), admin.Person(who, nil), ada.Email, seen.Passkeys[0].ID)
		if err != nil || len(done.Passkeys) != 1 || done.Passkeys[0] != seen.Passkeys[1] || done.Email != ada.Email {
			t.Fatalf("%+v %v", done, err)
		}
		has(t, b.Get("/account"), http.StatusOK, "Sign in") // in no browser any more
		sign := s.Browser(t).Get("/login")
		has(t, sign.WithPasskey(keys[0].Use(sign)), http.StatusForbidden, "did not work here")
		sign = b.Get("/login")
		has(t, sign.WithPasskey(keys[1].Use(sign)), http.StatusOK, "You are signed in")
		if event := s.Events("user.remove_passkey")[0]; event.UserID != ada.ID || event.Actor.ID != owner.ID ||
			event.Detail["passkey"] != seen.Passkeys[0].ID || event.Detail["name"] != seen.Passkeys[0].Name {
			t.Errorf("the event is %+v", event)
		}
		told := s.Mails(t, letters)
		if len(told) == 0 || told[0].To != ada.Email ||
			told[0].Subject[:len("A passkey was removed")] != "A passkey was removed" ||
			!strings.Contains(told[0].Text, "by an administrator") {
			t.Errorf("the person was told %+v", told)
		}

		if _, err := o.RemovePasskey(t.Context(), root, owner.Email, seen.Passkeys[1].ID); err == nil ||
			err.Error() != "the account has no passkey "+seen.Passkeys[1].ID {
			t.Errorf("the passkey of another account: %v", err)
		}
		who, err = person(db, ada.ID)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.RemovePasskey(t.Context(), admin.Person(who, nil), owner.Email, "psk_x"); err == nil ||
			!strings.Contains(err.Error(), "your role does not let you") {
			t.Errorf("a person without a role: %v", err)
		}

		page := b.Get("/account/export")
		has(t, page, http.StatusOK, seen.Passkeys[1].ID, `"aaguid"`, `"name": "`+seen.Passkeys[1].Name)
		if strings.Contains(page.Body, `"id": "`+seen.Passkeys[0].ID) ||
			strings.Contains(page.Body, "authenticator_app") {
			t.Errorf("the export is %s", page.Body)
		}
	})
}

// person returns an account.
func person(db *store.DB, id string) (u *identity.User, err error) {
	err = db.View(context.Background(), func(tx *store.Tx) error {
		u, err = tx.User(id)
		return err
	})
	return u, err
}
