package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// setupToken returns the token of a fresh setup link.
func setupToken(t *testing.T, s *servertest.Server) string {
	t.Helper()
	o := &admin.Operations{DB: s.DB, Issuer: s.URL}
	link, err := o.SetupLink(t.Context(), admin.Command("root", "root@host"))
	if err != nil {
		t.Fatal(err)
	}
	address, token, _ := strings.Cut(link.Link, "#")
	if address != s.URL+"/setup" || len(token) < 43 {
		t.Fatalf("the link is %s", link.Link)
	}
	return token
}

// fill posts the form of a setup page.
func fill(p *servertest.Page, token, email, password string) *servertest.Page {
	return p.Submit(p.Form("token"), servertest.With("token", token), servertest.With("email", email),
		servertest.With("name", "Ada"), servertest.With("password", password))
}

// owners returns the accounts.
func owners(t *testing.T, db *store.DB) (found []*identity.User) {
	t.Helper()
	err := db.View(t.Context(), func(tx *store.Tx) (err error) {
		found, _, err = tx.Users(store.Page{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestSetup_AD20(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock)
		if home := s.Browser(t).Get("/"); !strings.Contains(string(home.Body), "not set up yet") {
			t.Errorf("the home page does not say so: %s", home.Body)
		}
		b := s.Browser(t)
		refused := func(why string, page *servertest.Page, status int, sentence string) {
			t.Helper()
			if page.Status != status || !strings.Contains(string(page.Body), sentence) {
				t.Errorf("AD-20 %s: %d %s", why, page.Status, page.Body)
			}
			if n := len(owners(t, db)); n > 0 {
				t.Fatalf("AD-20 %s: there are %d accounts", why, n)
			}
		}
		const email, password = "ada@example.com", "correct horse battery"
		refused("no link was made", fill(b.Get("/setup"), "x", email, password), http.StatusForbidden,
			"cardea setup-link")
		old := setupToken(t, s)
		token := setupToken(t, s)
		refused("an older link", fill(b.Get("/setup"), old, email, password), http.StatusForbidden,
			"not the newest link")
		clock.Advance(time.Hour)
		refused("an hour later", fill(b.Get("/setup"), token, email, password), http.StatusForbidden, "has expired")
		token = setupToken(t, s)
		for range 3 {
			b.Get("/setup") // spends nothing
		}
		form := url.Values{"token": {token}, "email": {email}, "password": {password}}
		refused("a form of nowhere", b.Post("/setup", form), http.StatusForbidden, "open the link again")
		again := fill(b.Get("/setup"), token, email, "short")
		refused("a short password", again, http.StatusBadRequest, "at least 8 characters")
		if again.Form("token").Values().Get("token") != token {
			t.Error("the token has to be pasted again")
		}
		refused("a bad address", fill(again, token, "ada", password), http.StatusBadRequest, "write it like")
		for _, why := range []string{"at least 8 characters", "not an e-mail address"} {
			told := slices.ContainsFunc(s.Events("setup.complete"), func(e audit.Event) bool {
				return e.Outcome == audit.Refused && strings.Contains(e.Description, why)
			})
			if !told {
				t.Errorf("AD-20 no event says %q", why)
			}
		}

		done := fill(b.Get("/setup"), token, email, password)
		if done.Status != http.StatusOK || !strings.Contains(string(done.Body), "Cardea is set up") ||
			!strings.Contains(string(done.Body), email) {
			t.Errorf("%d %s", done.Status, done.Body)
		}
		found := owners(t, db)
		if len(found) != 1 || found[0].Role != identity.Owner || found[0].Email != email || found[0].Name != "Ada" {
			t.Fatalf("the accounts are %+v", found)
		}
		var made []audit.Event
		for _, e := range s.Events("setup.complete") {
			if e.Outcome == audit.Allowed {
				made = append(made, e)
			}
			if strings.Contains(fmt.Sprintf("%+v", e), token) {
				t.Error("the token is in an event")
			}
		}
		if len(made) != 1 || made[0].UserID != found[0].ID || made[0].Actor.ID != found[0].ID {
			t.Errorf("the events are %+v", made)
		}
		if strings.Contains(s.Log(), token) {
			t.Error("the token is in the log")
		}

		// Neither the link nor a new one opens it again, even if there is no owner any more.
		update := func(change func(*store.Tx) error) {
			t.Helper()
			if err := db.Update(t.Context(), change); err != nil {
				t.Fatal(err)
			}
		}
		update(func(tx *store.Tx) error { return tx.DeleteUser(found[0].ID) })
		stranger := s.Browser(t)
		page := stranger.Get("/setup")
		if page.Has("password") || strings.Contains(string(page.Body), email) {
			t.Errorf("AD-20 there is a form: %s", page.Body)
		}
		stranger.Get("/login")
		if reply := stranger.Post("/setup", form); reply.Status != http.StatusForbidden || len(owners(t, db)) != 0 {
			t.Errorf("AD-20 used again: %d %s", reply.Status, reply.Body)
		}
		o := &admin.Operations{DB: db, Issuer: s.URL}
		if _, err := o.SetupLink(t.Context(), admin.Command("root", "")); err == nil ||
			err.Error() != "this instance is set up; make an owner with cardea user create --role owner" {
			t.Errorf("AD-20 a new link: %v", err)
		}
		if _, err := o.SetUp(t.Context(), token, admin.NewUser{Email: email, Password: password}); err == nil {
			t.Error("AD-20 used again")
		}
		if home := stranger.Get("/"); strings.Contains(string(home.Body), "not set up yet") {
			t.Error("the home page says that it is not set up")
		}
	})
}

// People who send the form of the link at the same moment make one owner, at one node or at two, also if the link was
// made before a restart or if another one is made meanwhile. The others are told, and none of them is signed in.
func TestSetupAtOnce_AD20(t *testing.T) {
	for _, engine := range []storetest.Engine{storetest.SQLite, storetest.Postgres} {
		for _, what := range []string{"after a restart", "while another link is made"} {
			t.Run(string(engine)+" "+what, func(t *testing.T) {
				dsn, clock := storetest.New(t, engine), storetest.NewClock()
				before := servertest.New(t, storetest.Connect(t, dsn, clock), clock)
				token := setupToken(t, before)
				at := func(c *config.Config) { c.Issuer = before.URL }
				nodes := []*servertest.Server{servertest.New(t, storetest.Connect(t, dsn, clock), clock, at),
					servertest.New(t, storetest.Connect(t, dsn, clock), clock, at)}
				var forms []*servertest.Page
				var browsers []*servertest.Browser
				for i := range 8 {
					b := nodes[i%2].Browser(t)
					browsers, forms = append(browsers, b), append(forms, b.Get("/setup"))
				}
				pages := servertest.AtOnce(len(forms), func(i int) *servertest.Page {
					if i == 5 && what != "after a restart" {
						o := &admin.Operations{DB: nodes[1].DB, Issuer: before.URL}
						if _, err := o.SetupLink(t.Context(), admin.Command("root", "root@host")); err != nil {
							t.Log(err) // it was too late
						}
					}
					return fill(forms[i], token, fmt.Sprintf("%d@example.com", i), "correct horse battery")
				})
				made := 0
				for i, page := range pages {
					inside := !browsers[i].Get("/account").IsSignIn()
					switch done := page.Status == http.StatusOK; {
					case done && inside:
						made++
					case done || inside || page.Status != http.StatusForbidden:
						t.Errorf("AD-20 browser %d is signed in: %t, after %d %s", i, inside, page.Status, page.Body)
					case !strings.Contains(page.Body, "link was used") && !strings.Contains(page.Body, "newest link"):
						t.Errorf("AD-20 browser %d is not told why: %s", i, page.Body)
					}
				}
				n := len(owners(t, nodes[0].DB))
				if what == "after a restart" && n != 1 || n > 1 || n != made {
					t.Errorf("AD-20 %d browsers succeeded, there are %d accounts", made, n)
				}
			})
		}
	}
}

// An owner who was made by a command completes the setup too, and a disabled administration has none.
func TestSetupOtherwise_AD20(t *testing.T) {
	s := servertest.Start(t)
	o := &admin.Operations{DB: s.DB, Issuer: s.URL}
	by := admin.Command("root", "root@host")
	token := setupToken(t, s)
	if _, err := o.CreateUser(t.Context(), by, admin.NewUser{Email: "ada@example.com", Password: "correct horse",
		Role: identity.Owner}); err != nil {
		t.Fatal(err)
	}
	_, err := o.SetUp(t.Context(), token, admin.NewUser{Email: "eve@example.com", Password: "correct horse"})
	if err != admin.ErrSetupDone {
		t.Errorf("AD-20 the link still works: %v", err)
	}
	off := servertest.Start(t, func(c *config.Config) { c.Admin.Enabled = false })
	if reply := off.Browser(t).Get("/setup"); reply.Status != http.StatusNotFound {
		t.Errorf("%d", reply.Status)
	}
	if home := off.Browser(t).Get("/"); strings.Contains(string(home.Body), "not set up yet") {
		t.Errorf("%s", home.Body)
	}
}

// Where everybody needs a second factor, the first owner sets one up before the session begins.
func TestSetupSecondFactor(t *testing.T) {
	s := servertest.Start(t, func(c *config.Config) { c.Login.SecondFactor = "required" })
	b := s.Browser(t)
	page := fill(b.Get("/setup"), setupToken(t, s), "ada@example.com", "correct horse battery")
	if !page.Has("code") || len(owners(t, s.DB)) != 1 {
		t.Fatalf("no second factor is asked for: %d %s", page.Status, page.Body)
	}
	if console := b.Get("/admin"); console.Has("csrf") && !console.Has("password") {
		t.Errorf("the console is open without it: %s", console.Body)
	}
	if len(s.Events(audit.SignedIn)) != 0 {
		t.Errorf("a sign-in is recorded: %+v", s.Events(audit.SignedIn))
	}
	key := keyOf.FindStringSubmatch(string(page.Body))
	if key == nil {
		t.Fatalf("there is no key: %s", page.Body)
	}
	page = page.Submit(page.Form("code"), servertest.With("code", s.TOTP(t, key[1])))
	if !strings.Contains(string(page.Body), "recovery codes") {
		t.Fatalf("there are no recovery codes: %d %s", page.Status, page.Body)
	}
	if console := b.Get("/admin"); console.Status != http.StatusOK ||
		!strings.Contains(string(console.Body), "Overview") {
		t.Errorf("the console: %d %s", console.Status, console.Body)
	}
}

var keyOf = regexp.MustCompile(`<code class="key">([^<]+)</code>`)

func TestSetupLimit_AD20(t *testing.T) {
	s := servertest.Start(t, func(c *config.Config) { c.Limits.Enabled = true })
	token := setupToken(t, s)
	b := s.Browser(t)
	for range 200 {
		page := fill(b.Get("/setup"), "guess", "ada@example.com", "correct horse")
		if page.Status == http.StatusTooManyRequests {
			page = fill(b.Get("/setup"), token, "ada@example.com", "correct horse")
			if page.Status != http.StatusTooManyRequests {
				t.Errorf("%d", page.Status)
			}
			return
		}
	}
	t.Error("AD-20 nobody is slowed down who guesses")
}

// The link works in a browser with scripts, which takes the token from the fragment, and in one without.
func TestSetupInChromium(t *testing.T) {
	for _, scripts := range []bool{true, false} {
		t.Run(fmt.Sprint("scripts ", scripts), func(t *testing.T) {
			s := servertest.Start(t)
			token := setupToken(t, s)
			ctx := chromium(t)
			if _, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled,
				emulation.SetScriptExecutionDisabledParams{Value: !scripts}); err != nil {
				t.Fatal(err)
			}
			steps := []chromedp.Action[chromedp.Void]{
				chromedp.Navigate(s.URL + "/setup#" + token),
				chromedp.WaitVisible(chromedp.CSS(`input[name="password"]`)),
			}
			if !scripts {
				steps = append(steps, chromedp.SendKeys(chromedp.CSS(`input[name="token"]`), token))
			}
			steps = append(steps,
				chromedp.SendKeys(chromedp.CSS(`input[name="email"]`), "ada@example.com"),
				chromedp.SendKeys(chromedp.CSS(`input[name="name"]`), "Ada"),
				chromedp.SendKeys(chromedp.CSS(`input[name="password"]`), "correct horse battery\r"),
				chromedp.WaitVisible(chromedp.CSS(`a[href="/admin"]`)))
			if err := chromedp.Do(ctx, steps...); err != nil {
				t.Fatal(err)
			}
			if found := owners(t, s.DB); len(found) != 1 || found[0].Role != identity.Owner {
				t.Errorf("the accounts are %+v", found)
			}
		})
	}
}
