package login_test

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
)

// app is an authenticator app.
type app struct {
	t   *testing.T
	s   *servertest.Server
	key string
}

var shownKey = regexp.MustCompile(`<code class="key">([A-Z2-7 ]+)</code>`)

// scan sets an app up from what a page shows.
func scan(t *testing.T, s *servertest.Server, page *servertest.Page) *app {
	t.Helper()
	key := shownKey.FindStringSubmatch(page.Body)
	if key == nil || !strings.Contains(page.Body, "<svg") {
		t.Fatalf("status %d: the page shows no key:\n%s", page.Status, page.Body)
	}
	return &app{t, s, key[1]}
}

// code returns the code that the app shows.
func (a *app) code() string { return a.s.TOTP(a.t, a.key) }

// enter types a code into the form of the page.
func enter(page *servertest.Page, code string) *servertest.Page {
	return page.Submit(page.Form("code"), servertest.With("code", code))
}

// goOn opens what follows the page of the recovery codes.
func goOn(page *servertest.Page) *servertest.Page {
	form := page.Form("")
	return page.Follow(form.Action + "?" + form.Values().Encode())
}

var shownCode = regexp.MustCompile(`<li><code>([a-z2-7-]{19})</code>`)

// withApp sets an authenticator app up for a person and returns it with the recovery codes.
func withApp(t *testing.T, s *servertest.Server, who *servertest.Person) (*app, []string) {
	t.Helper()
	b := s.Browser(t)
	b.Get("/login").SignIn(who)
	page := b.Get("/account/second-factor")
	a := scan(t, s, page)
	page = enter(page, a.code())
	var codes []string
	for _, match := range shownCode.FindAllStringSubmatch(page.Body, -1) {
		codes = append(codes, match[1])
	}
	if len(codes) != 10 {
		t.Fatalf("the page of status %d has %d recovery codes, want 10:\n%s", page.Status, len(codes), page.Body)
	}
	s.Clock.Advance(time.Minute)
	return a, codes
}

func TestSecondFactor(t *testing.T) {
	s := servertest.StartWeather(t)
	ada := s.User("ada@example.com")
	app, recovery := withApp(t, s, ada)

	t.Run("the password alone is not enough, and the code is", func(t *testing.T) {
		agent, b := s.Agent(t, s.Client()), s.Browser(t)
		page := b.Authorize(agent.Authorization()).SignIn(ada)
		if !page.Has("code") || page.IsConsent() {
			t.Fatalf("after the password there is no form for a code: %s", page.URL)
		}
		if signedIn(b) {
			t.Error("signed in without the code")
		}
		tokens := agent.Exchange(enter(page, app.code()).Allow().Code()).Tokens()
		claims := servertest.Claims(t, tokens.Access)
		if claims.ACR != "aal2" || fmt.Sprint(claims.AMR) != "[pwd otp mfa]" {
			t.Errorf("acr %q, amr %v, want aal2 and [pwd otp mfa]", claims.ACR, claims.AMR)
		}
		s.Clock.Advance(time.Minute)
	})
	t.Run("LG-24 a code works once, also in parallel", func(t *testing.T) {
		const tries = 12
		var pages []*servertest.Page
		for range tries {
			pages = append(pages, s.Browser(t).Get("/login").SignIn(ada))
		}
		code := app.code()
		var mu sync.Mutex
		good := 0
		var wg sync.WaitGroup
		for _, page := range pages {
			wg.Go(func() {
				if enter(page, code).Status == http.StatusOK {
					mu.Lock()
					good++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if good != 1 {
			t.Errorf("%d of %d sign-ins with one code worked, want 1", good, tries)
		}
		s.Clock.Advance(time.Minute)
	})
	t.Run("an earlier code of the same window is refused", func(t *testing.T) {
		code := app.code()
		s.Clock.Advance(30 * time.Second)
		enter(s.Browser(t).Get("/login").SignIn(ada), app.code())
		if page := enter(s.Browser(t).Get("/login").SignIn(ada), code); page.Status != http.StatusForbidden {
			t.Errorf("status %d, want 403", page.Status)
		}
		s.Clock.Advance(time.Minute)
	})
	t.Run("a recovery code works once", func(t *testing.T) {
		b := s.Browser(t)
		enter(b.Get("/login").SignIn(ada), strings.ToUpper(recovery[0])+" ")
		if !signedIn(b) {
			t.Error("the browser is not signed in, want it to be")
		}
		b = s.Browser(t)
		if page := enter(b.Get("/login").SignIn(ada), recovery[0]); page.Status != http.StatusForbidden || signedIn(b) {
			t.Errorf("status %d the second time, want 403", page.Status)
		}
	})
	t.Run("the form of another browser is refused", func(t *testing.T) {
		form := s.Browser(t).Get("/login").SignIn(ada).Form("code").Values()
		b := s.Browser(t)
		b.Get("/login")
		b.Post("/login/second", form, servertest.With("code", app.code())).ErrorPage(http.StatusForbidden)
		if signedIn(b) {
			t.Error("another browser was signed in")
		}
	})
	t.Run("LG-22 the address of a half sign-in shows another browser no form for the code", func(t *testing.T) {
		half := s.Browser(t).Get("/login").SignIn(ada)
		page := s.Browser(t).Get(strings.TrimPrefix(half.URL, s.URL))
		if page.Status != http.StatusForbidden || !page.IsSignIn() || page.Has("code") {
			t.Errorf("status %d:\n%s", page.Status, page.Body)
		}
		if enter(half, app.code()).Status != http.StatusOK {
			t.Error("the half sign-in is over where it began")
		}
		s.Clock.Advance(time.Minute)
	})
	t.Run("without the token", func(t *testing.T) {
		page := s.Browser(t).Get("/login").SignIn(ada)
		page.Submit(page.Form("code"), servertest.With("code", app.code()),
			servertest.Without("csrf")).ErrorPage(http.StatusForbidden)
	})
	t.Run("a half sign-in ends after ten minutes, and with another password", func(t *testing.T) {
		old := s.Browser(t).Get("/login").SignIn(ada)
		s.Clock.Advance(11 * time.Minute)
		if page := enter(old, app.code()); !page.IsSignIn() || page.Status != http.StatusForbidden {
			t.Errorf("status %d after eleven minutes, want the sign-in form with 403", page.Status)
		}
		bob := s.User("bob@example.com")
		bobs, _ := withApp(t, s, bob)
		half := s.Browser(t).Get("/login").SignIn(bob)
		s.Update(func(tx *store.Tx) error { return tx.SetPassword(bob.ID, "another") })
		if page := enter(half, bobs.code()); !page.IsSignIn() || page.Status != http.StatusForbidden {
			t.Errorf("status %d after the password was changed, want the sign-in form with 403", page.Status)
		}
	})
	t.Run("events", func(t *testing.T) {
		for _, event := range s.Events("second_factor.set_up") {
			if event.UserID == ada.ID {
				return
			}
		}
		t.Error("setting the app up was not recorded")
	})
}

func TestLG05GuessesAtTheSecondFactor(t *testing.T) {
	s := servertest.StartWeather(t, limited)
	ada := s.User("ada@example.com")
	app, _ := withApp(t, s, ada)
	page := s.Browser(t).Get("/login").SignIn(ada)
	var statuses []int
	for i := range 6 {
		statuses = append(statuses, enter(page, fmt.Sprintf("%06d", i)).Status)
	}
	if statuses[0] != http.StatusForbidden || statuses[5] != http.StatusTooManyRequests {
		t.Errorf("answers to six guesses: %v, want 403 first and 429 at last", statuses)
	}
	if page := enter(page, app.code()); page.Status != http.StatusTooManyRequests {
		t.Errorf("status %d of the right code during the back-off, want 429", page.Status)
	}
	s.Clock.Advance(time.Hour)
	b := s.Browser(t)
	enter(b.Get("/login").SignIn(ada), app.code())
	if !signedIn(b) {
		t.Error("still locked out after an hour")
	}
}

func TestSecondFactorRequired(t *testing.T) {
	s := servertest.StartWeather(t, func(c *config.Config) { c.Login.SecondFactor = "required" })
	ada := s.User("ada@example.com")
	agent, b := s.Agent(t, s.Client()), s.Browser(t)
	page := b.Authorize(agent.Authorization()).SignIn(ada)
	app := scan(t, s, page)
	if again := enter(page, "000000"); again.Status != http.StatusForbidden ||
		shownKey.FindString(again.Body) != shownKey.FindString(page.Body) {
		t.Errorf("status %d: after a wrong code the page shows another key", again.Status)
	}
	page = enter(page, app.code())
	if len(shownCode.FindAllString(page.Body, -1)) != 10 {
		t.Fatalf("status %d, without recovery codes:\n%s", page.Status, page.Body)
	}
	tokens := agent.Exchange(goOn(page).Allow().Code()).Tokens()
	if claims := servertest.Claims(t, tokens.Access); claims.ACR != "aal2" {
		t.Errorf("acr %q, want aal2", claims.ACR)
	}
}

// A client or a resource can demand two factors of a person who is signed in with one (RFC 9470).
func TestStepUpToTwoFactors(t *testing.T) {
	s := servertest.StartWeather(t)
	const strict = "https://strict.example.com/mcp"
	r := s.Resource(strict, "*x:y")
	r.SecondFactor = true
	s.Update(func(tx *store.Tx) error { return tx.UpdateResource(r) })
	for name, tweak := range map[string]servertest.Tweak{
		"acr_values": servertest.With("acr_values", "urn:example:unknown aal2 aal1"),
		"a resource": servertest.With("resource", strict),
	} {
		t.Run(name, func(t *testing.T) {
			ada := s.User(strings.ReplaceAll(name, " ", "") + "@example.com")
			app, _ := withApp(t, s, ada)
			if name == "a resource" {
				tweak = func(r *servertest.Request) {
					servertest.With("resource", strict)(r)
					servertest.Without("scope")(r)
				}
			}
			agent, b := s.Agent(t, s.Client()), s.Browser(t)
			enterFirst := b.Get("/login").SignIn(ada)
			enter(enterFirst, app.code())
			s.Clock.Advance(time.Minute)
			if page := b.Authorize(agent.Authorization(tweak)); !page.IsConsent() {
				t.Fatalf("a person who signed in with two factors is asked again at %s", page.URL)
			}
			s.Update(func(tx *store.Tx) error { return tx.EndSessions(ada.ID) })
			bob := s.User("bob" + strings.ReplaceAll(name, " ", "") + "@example.com")
			weak := s.Browser(t)
			weak.Get("/login").SignIn(bob)
			if !signedIn(weak) {
				t.Fatal("bob is not signed in")
			}
			before := weak.Cookies()["cardea_session"]
			page := weak.Authorize(agent.Authorization(tweak))
			bobs := scan(t, s, page)
			exchange := []servertest.Tweak{}
			if name == "a resource" {
				exchange = append(exchange, servertest.With("resource", strict))
			}
			tokens := agent.Exchange(goOn(enter(page, bobs.code())).Allow().Code(), exchange...).Tokens()
			if claims := servertest.Claims(t, tokens.Access); claims.ACR != "aal2" ||
				!slices.Contains(claims.AMR, "pwd") {
				t.Errorf("acr is %q, want aal2; amr is %v, want pwd in it", claims.ACR, claims.AMR)
			}
			if after := weak.Cookies()["cardea_session"]; after == before {
				t.Error("LG-14: the session kept its cookie")
			}
		})
	}
	t.Run("prompt=none", func(t *testing.T) {
		cay := s.User("cay@example.com")
		b := s.Browser(t)
		b.Get("/login").SignIn(cay)
		b.Authorize(s.Agent(t, s.Client()).Authorization(servertest.With("acr_values", "aal2"),
			servertest.With("prompt", "none"))).Refused("login_required")
	})
}

func TestChangeTheSecondFactor(t *testing.T) {
	s := servertest.StartWeather(t)
	ada := s.User("ada@example.com")
	app, old := withApp(t, s, ada)
	b := s.Browser(t)
	enter(b.Get("/login").SignIn(ada), app.code())
	s.Clock.Advance(time.Minute)

	security := b.Get("/account/security")
	if !strings.Contains(security.Body, `href="/account/second-factor">Recovery codes`) {
		t.Errorf("the page of sign-in methods does not lead to the second factor:\n%s", security.Body)
	}
	page := b.Get("/account/second-factor")
	if !strings.Contains(page.Body, "10 recovery codes left") {
		t.Errorf("the page does not tell how many recovery codes are left:\n%s", page.Body)
	}
	var renew, remove *servertest.Form
	for _, form := range page.Forms() {
		switch {
		case strings.HasSuffix(form.Action, "/codes"):
			renew = form
		case strings.HasSuffix(form.Action, "/remove"):
			remove = form
		}
	}
	if fresh := page.Submit(renew); len(shownCode.FindAllString(fresh.Body, -1)) != 10 ||
		strings.Contains(fresh.Body, old[1]) {
		t.Errorf("status %d: no new recovery codes:\n%s", fresh.Status, fresh.Body)
	}
	if page := enter(s.Browser(t).Get("/login").SignIn(ada), old[1]); page.Status != http.StatusForbidden {
		t.Errorf("status %d with an old recovery code, want 403", page.Status)
	}
	page.Submit(remove, servertest.With("csrf", "x")).ErrorPage(http.StatusForbidden)
	page.Submit(remove)
	after := s.Browser(t)
	after.Get("/login").SignIn(ada)
	if !signedIn(after) {
		t.Error("a code is still needed after the app was removed")
	}
	t.Run("only after a recent sign-in", func(t *testing.T) {
		s.Clock.Advance(16 * time.Minute)
		if page := after.Get("/account/second-factor"); !page.IsSignIn() {
			t.Errorf("status %d at %s, want the sign-in form", page.Status, page.URL)
		}
	})
}

// An operator deletes a lost second factor, and a member of a group that needs one sets up another.
func TestStrictGroup(t *testing.T) {
	s := servertest.StartWeather(t)
	ada := s.User("ada@example.com")
	staff := &identity.Group{ID: oauth.NewID("grp_"), Name: "staff", CreatedAt: s.DB.Now(), SecondFactor: true}
	s.Update(func(tx *store.Tx) error {
		if err := tx.CreateGroup(staff); err != nil {
			return err
		}
		_, err := tx.AddMember(staff.ID, ada.ID)
		return err
	})
	first := scan(t, s, s.Browser(t).Get("/login").SignIn(ada))
	page := s.Browser(t).Get("/login").SignIn(ada)
	if second := scan(t, s, page); second.key == first.key {
		t.Error("two pages offer the same secret")
	} else if page = enter(page, second.code()); len(shownCode.FindAllString(page.Body, -1)) != 10 {
		t.Errorf("status %d without recovery codes:\n%s", page.Status, page.Body)
	}
	s.Update(func(tx *store.Tx) error { return tx.DeleteSecondFactor(ada.ID) })
	b := s.Browser(t)
	scan(t, s, b.Get("/login").SignIn(ada))
	if signedIn(b) {
		t.Error("signed in without a second factor")
	}
}
