package login_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"database/sql"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// holders runs test on both databases, each time with a new server and a person who has a passkey in device and is
// signed in nowhere.
func holders(t *testing.T, test func(t *testing.T, s *servertest.Server, ada *servertest.Person,
	device *servertest.Authenticator)) {
	t.Helper()
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock, servertest.Localhost)
		s.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts")
		ada := s.User("ada@example.com")
		device := s.Authenticator(t)
		addPasskey(t, s, s.Browser(t), ada, device)
		test(t, s, ada, device)
	})
}

// addPasskey signs a person in by password and adds a passkey to their account.
func addPasskey(t *testing.T, s *servertest.Server, b *servertest.Browser, who *servertest.Person,
	device *servertest.Authenticator) {
	t.Helper()
	page := b.Get("/account/security/passkeys/new").SignIn(who)
	if page = page.WithPasskey(device.Create(page)); !strings.Contains(page.Body, "Your passkey is added.") {
		t.Fatalf("status %d:\n%s", page.Status, page.Body)
	}
}

// A person adds a passkey, signs in with it to connect an agent, and the token says with what.
func TestPasskey(t *testing.T) {
	holders(t, func(t *testing.T, s *servertest.Server, ada *servertest.Person, device *servertest.Authenticator) {
		agent := s.Agent(t, s.Client())
		device.Synced = true
		page := s.Browser(t).Authorize(agent.Authorization())
		tokens := agent.Exchange(page.WithPasskey(device.Use(page)).Allow().Code()).Tokens()
		claims := servertest.Claims(t, tokens.Access)
		if claims.Subject != ada.ID || !slices.Equal(claims.AMR, []string{"swk", "user", "mfa"}) ||
			claims.ACR != "aal2" {
			t.Errorf("the token says %+v", claims)
		}
	})
}

// LG-32: what is not the answer of the right passkey to this page's challenge signs nobody in, and each refusal reads
// the same, no matter whose passkey it is.
func TestPasskeyRefused(t *testing.T) {
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const unknown = "That passkey did not work here."
	holders(t, func(t *testing.T, s *servertest.Server, ada *servertest.Person, device *servertest.Authenticator) {
		eve := s.User("eve@example.com")
		for name, c := range map[string]struct {
			edit func(*servertest.Authenticator)
			says string
		}{
			"LG-32 another site's page":    {func(a *servertest.Authenticator) { a.Origin = "https://evil.example" }, unknown},
			"LG-32 another port":           {func(a *servertest.Authenticator) { a.Origin = "http://localhost:1" }, unknown},
			"LG-32 a site below":           {func(a *servertest.Authenticator) { a.Origin = "http://evil.localhost" }, unknown},
			"LG-32 another RP ID":          {func(a *servertest.Authenticator) { a.RPID = "evil.example" }, unknown},
			"LG-32 not unlocked":           {func(a *servertest.Authenticator) { a.Verified = false }, unknown},
			"LG-32 another key":            {func(a *servertest.Authenticator) { a.Key = other }, unknown},
			"LG-32 of another account":     {func(a *servertest.Authenticator) { a.Handle = []byte(eve.ID) }, unknown},
			"LG-32 of no account":          {func(a *servertest.Authenticator) { a.Handle = nil }, unknown},
			"LG-32 an unknown passkey":     {func(a *servertest.Authenticator) { a.ID = []byte("another passkey.....") }, unknown},
			"LG-32 made and not used":      {func(a *servertest.Authenticator) { a.Type = "webauthn.create" }, unknown},
			"LG-32 a challenge of its own": {func(a *servertest.Authenticator) { a.Challenge = "AAAAAAAAAAAAAAAAAAAAAA" }, "open for too long"},
			"LG-32 no challenge":           {func(a *servertest.Authenticator) { a.Challenge = "=" }, "open for too long"},
		} {
			t.Run(name, func(t *testing.T) {
				mine := *device
				c.edit(&mine)
				b := s.Browser(t)
				page := b.Get("/login")
				page = page.WithPasskey(mine.Use(page))
				if page.Status != http.StatusForbidden || !strings.Contains(page.Body, c.says) ||
					len(b.Cookies()) != 1 {
					t.Errorf("status %d, cookies %v:\n%s", page.Status, b.Cookies(), page.Body)
				}
			})
		}
		for name, answer := range map[string]string{
			"nothing": "", "no JSON": "x", "an object": "{}", "null": "null",
			"deep": strings.Repeat("[", 20_000), "ids that differ": strings.Replace(
				device.Use(s.Browser(t).Get("/login")), `"rawId":"`, `"rawId":"A`, 1),
		} {
			t.Run("LG-32 "+name, func(t *testing.T) {
				page := s.Browser(t).Get("/login")
				if page = page.WithPasskey(answer); page.Status != http.StatusForbidden ||
					!strings.Contains(page.Body, unknown) {
					t.Errorf("status %d:\n%s", page.Status, page.Body)
				}
			})
		}
		t.Run("LG-32 the passkey of a disabled account", func(t *testing.T) {
			s.Update(func(tx *store.Tx) error { return tx.DisableUser(ada.ID) })
			page := s.Browser(t).Get("/login")
			if page = page.WithPasskey(device.Use(page)); page.Status != http.StatusForbidden ||
				!strings.Contains(page.Body, unknown) {
				t.Errorf("status %d:\n%s", page.Status, page.Body)
			}
		})
		for _, e := range s.Events("login.sign_in") {
			if e.Outcome == audit.Allowed && e.Detail["method"] == "passkey" {
				t.Errorf("somebody signed in: %+v", e)
			}
		}
	})
}

// LG-32: a challenge is answered once, in the browser that was given it, and within ten minutes.
func TestPasskeyChallenge(t *testing.T) {
	holders(t, func(t *testing.T, s *servertest.Server, _ *servertest.Person, device *servertest.Authenticator) {
		b := s.Browser(t)
		page := b.Get("/login")
		answer := device.Use(page)
		signedIn := func(p *servertest.Page) bool { return strings.Contains(p.Body, `action="/logout"`) }

		elsewhere := s.Browser(t).Get("/login").WithPasskey(answer)
		if signedIn(elsewhere) || elsewhere.Status != http.StatusForbidden {
			t.Errorf("LG-32 in another browser: status %d", elsewhere.Status)
		}
		if !signedIn(page.WithPasskey(answer)) {
			t.Fatal("in its own browser, it does not sign in")
		}
		if again := page.WithPasskey(answer); again.Status != http.StatusForbidden ||
			!strings.Contains(again.Body, "was used before") {
			t.Errorf("LG-32 a second time: status %d:\n%s", again.Status, again.Body)
		}
		other := s.Browser(t).Get("/account/security/passkeys/new").SignIn(s.User("bob@example.com"))
		if p := other.WithPasskey(answer); !strings.Contains(p.Body, "could not be added") {
			t.Errorf("LG-32 the answer to a sign-in adds a passkey: %d", p.Status)
		}

		b = s.Browser(t)
		page = b.Get("/login")
		answer = device.Use(page)
		replies := make(chan bool, 8)
		for range cap(replies) {
			go func() { replies <- page.WithPasskey(answer).Status == http.StatusOK }()
		}
		n := 0
		for range cap(replies) {
			if <-replies {
				n++
			}
		}
		if n != 1 {
			t.Errorf("LG-32 LG-22 of %d answers at once, %d signed in", cap(replies), n)
		}

		b = s.Browser(t)
		page = b.Get("/login")
		s.Clock.Advance(10 * time.Minute)
		if late := page.WithPasskey(device.Use(page)); signedIn(late) ||
			!strings.Contains(late.Body, "open for too long") {
			t.Errorf("LG-32 after ten minutes: status %d", late.Status)
		}
	})
}

// LG-32: a counter that does not rise means a copy. A passkey that does not count is fine.
func TestPasskeyCounter(t *testing.T) {
	holders(t, func(t *testing.T, s *servertest.Server, _ *servertest.Person, device *servertest.Authenticator) {
		for i, c := range []struct {
			count uint32
			says  string
		}{
			{0, `action="/logout"`}, {0, `action="/logout"`}, {7, `action="/logout"`}, {8, `action="/logout"`},
			{8, "somebody may have a copy"}, {3, "somebody may have a copy"}, {0, "somebody may have a copy"},
			{9, `action="/logout"`},
		} {
			device.Count = c.count
			page := s.Browser(t).Get("/login")
			if page = page.WithPasskey(device.Use(page)); !strings.Contains(page.Body, c.says) {
				t.Errorf("LG-32 %d: the counter %d: status %d:\n%s", i, c.count, page.Status, page.Body)
			}
		}
		device.Synced = true // as iCloud has it once it has copied a passkey
		device.Count = 10
		page := s.Browser(t).Get("/login")
		if page = page.WithPasskey(device.Use(page)); !strings.Contains(page.Body, `action="/logout"`) {
			t.Errorf("a passkey that became one that is copied: status %d:\n%s", page.Status, page.Body)
		}
	})
}

// A person with a passkey uses it where two factors are demanded after a password, and a stolen password sets no app
// up.
func TestPasskeyAsSecondFactor(t *testing.T) {
	holders(t, func(t *testing.T, s *servertest.Server, ada *servertest.Person, device *servertest.Authenticator) {
		agent := s.Agent(t, s.Client())
		b := s.Browser(t)
		second := b.Authorize(agent.Authorization(servertest.With("acr_values", "aal2"))).SignIn(ada)
		if !strings.Contains(second.Body, "One more step") || second.Has("code") || second.Has("set_up") {
			t.Fatalf("status %d:\n%s", second.Status, second.Body)
		}
		u, err := url.Parse(second.URL)
		if err != nil {
			t.Fatal(err)
		}
		forced := b.Post("/login/second", url.Values{"half": u.Query()["half"], "code": {"000000"}, "csrf": {"x"}})
		if strings.Contains(forced.Body, "set_up") {
			t.Errorf("it offers to set an app up:\n%s", forced.Body)
		}
		tokens := agent.Exchange(second.WithPasskey(device.Use(second)).Allow().Code()).Tokens()
		if claims := servertest.Claims(t, tokens.Access); claims.ACR != "aal2" || !slices.Contains(claims.AMR, "hwk") {
			t.Errorf("the token says %+v", claims)
		}

		// Without a demand, nothing is asked beyond the password.
		another := s.Agent(t, s.Client())
		if page := s.Browser(t).Authorize(another.Authorization()).SignIn(ada); !page.IsConsent() {
			t.Errorf("status %d:\n%s", page.Status, page.Body)
		}
	})
}

// A passkey satisfies login.second_factor: required, and signs in a person who has no password.
func TestPasskeyAlone(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock, servertest.Localhost)
		ada := s.User("ada@example.com")
		device := s.Authenticator(t)
		addPasskey(t, s, s.Browser(t), ada, device)
		strict := servertest.New(t, db, clock, servertest.Localhost, func(c *config.Config) {
			c.Login.SecondFactor, c.Login.Methods = "required", config.Words{"passkey"}
		})
		device.Origin = strict.URL
		b := strict.Browser(t)
		page := b.Get("/login")
		if page.Has("password") || !page.Has("passkey") {
			t.Fatalf("status %d:\n%s", page.Status, page.Body)
		}
		if page = page.WithPasskey(device.Use(page)); !strings.Contains(page.Body, `action="/logout"`) {
			t.Fatalf("status %d:\n%s", page.Status, page.Body)
		}
	})
}

// Where the server's address has no name, browsers make no passkeys, and the pages offer none.
func TestPasskeyNeedsAName(t *testing.T) {
	s := servertest.Start(t)
	page := s.Browser(t).Get("/login")
	if page.Has("passkey") || strings.Contains(page.Header.Get("Content-Security-Policy"), "script-src") {
		t.Error(page.Body)
	}
	page = s.Browser(t).Get("/account/security/passkeys/new").SignIn(s.User("ada@example.com"))
	if page.Status != http.StatusNotFound {
		t.Errorf("status %d", page.Status)
	}
}

// The sign-in page begins with the passkey if one was used last with the browser, and with the password after that was.
func TestLastPasskey(t *testing.T) {
	holders(t, func(t *testing.T, s *servertest.Server, ada *servertest.Person, device *servertest.Authenticator) {
		b := s.Browser(t)
		signedOut := func() *servertest.Page {
			page := b.Get("/logout")
			page.Submit(page.Form("csrf"))
			return b.Get("/login")
		}
		page := b.Get("/login")
		page.WithPasskey(device.Use(page))
		page = signedOut()
		mark, password := strings.Index(page.Body, "last used"), strings.Index(page.Body, `name="password"`)
		if mark < 0 || mark > password || strings.Count(page.Body, "data-passkey=") != 1 {
			t.Errorf("the passkey is not offered first:\n%s", page.Body)
		}
		page.SignIn(ada)
		if page = signedOut(); strings.Contains(page.Body, "last used") ||
			strings.Index(page.Body, "data-passkey=") < strings.Index(page.Body, `name="password"`) {
			t.Errorf("the passkey is still offered first:\n%s", page.Body)
		}
	})
}

// On PostgreSQL, a passkey can be removed at the moment in which somebody signs in with it. Nobody has a copy of it
// then, and nobody is told so.
func TestPasskeyRemovedMeanwhile(t *testing.T) {
	dsn, clock := storetest.New(t, storetest.Postgres), storetest.NewClock()
	s := servertest.New(t, storetest.Connect(t, dsn, clock), clock, servertest.Localhost)
	device := s.Authenticator(t)
	addPasskey(t, s, s.Browser(t), s.User("ada@example.com"), device)
	handle, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = handle.Close() }()
	page := s.Browser(t).Get("/login")
	answer := make(chan *servertest.Page, 1)
	s.Update(func(tx *store.Tx) error {
		key, err := tx.Passkey(device.ID)
		if err == nil {
			err = tx.DeletePasskey(key.ID, key.UserID)
		}
		go func() { answer <- page.WithPasskey(device.Use(page)) }()
		for waiting := false; !waiting && err == nil; runtime.Gosched() {
			err = handle.QueryRowContext(t.Context(), "SELECT EXISTS (SELECT 1 FROM pg_stat_activity "+
				"WHERE datname = current_database() AND wait_event_type = 'Lock')").Scan(&waiting)
		}
		return err
	})
	if page = <-answer; page.Status != http.StatusForbidden || !strings.Contains(page.Body, "That passkey did not work") {
		t.Errorf("status %d:\n%s", page.Status, page.Body)
	}
}
