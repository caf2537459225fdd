package account_test

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
	"github.com/cardea-auth/cardea/internal/upstream"
	"github.com/cardea-auth/cardea/internal/upstream/upstreamtest"
)

// elsewhere is a server with an identity provider and a browser in which Ada is signed in with a password.
type elsewhere struct {
	*servertest.Server
	t       *testing.T
	corp    *upstreamtest.Issuer
	ada     *servertest.Person
	browser *servertest.Browser
}

// eachElsewhere runs test on both databases.
func eachElsewhere(t *testing.T, test func(*testing.T, *elsewhere), edits ...func(*config.Config)) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		err := db.Update(t.Context(), func(tx *store.Tx) error {
			return tx.CreateGroup(&identity.Group{ID: oauth.NewID("grp_"), Name: "staff", CreatedAt: tx.Now()})
		})
		if err != nil {
			t.Fatal(err)
		}
		corp := upstreamtest.NewIssuer(t, "")
		provider := servertest.Provider(servertest.Corp(corp.URL), func(c *upstream.Config) {
			c.Create, c.GroupsClaim, c.GroupMap = false, "groups", map[string]string{"Engineering": "staff"}
		})
		s := servertest.New(t, db, clock, append(edits, provider)...)
		e := &elsewhere{Server: s, t: t, corp: corp, ada: s.User("ada@example.com"), browser: s.Browser(t)}
		e.browser.Get("/login").SignIn(e.ada)
		test(t, e)
	})
}

// begin presses the button that connects an account, and returns the page of the provider to which it leads.
func (e *elsewhere) begin(b *servertest.Browser) string {
	e.t.Helper()
	page := b.Get("/account/security")
	page = page.Submit(form(e.t, page, "/connect/corp"))
	if !strings.HasPrefix(page.Location, e.corp.URL) {
		e.t.Fatalf("the button leads to %q (status %d):\n%s", page.Location, page.Status, page.Body)
	}
	return page.Location
}

// back signs in at the provider as sub and returns the page to which the provider sends the browser.
func (e *elsewhere) back(b *servertest.Browser, location, sub string) *servertest.Page {
	e.t.Helper()
	e.corp.SignIn(upstreamtest.Claims{"sub": sub, "email": sub + "@corp.example", "groups": []string{"Engineering"}})
	return b.Get(e.corp.Visit(location), servertest.Header("Sec-Fetch-Site", "cross-site"))
}

func (e *elsewhere) connect(b *servertest.Browser, sub string) *servertest.Page {
	e.t.Helper()
	return e.back(b, e.begin(b), sub)
}

// signsIn reports whether the person can sign in with the provider, and as whom.
func (e *elsewhere) signsIn(sub string) string {
	e.t.Helper()
	b := e.Browser(e.t)
	page := e.back(b, b.Get("/login/corp").Location, sub)
	for _, name := range []string{"ada@example.com", "bob@example.com"} {
		if strings.Contains(page.Body, "signed in as <strong><bdi>"+name) ||
			strings.Contains(b.Get("/login").Body, name) {
			return name
		}
	}
	return ""
}

// has returns the accounts elsewhere and the groups of a person.
func (e *elsewhere) has(p *servertest.Person) (identities int, groups string) {
	e.t.Helper()
	e.Update(func(tx *store.Tx) error {
		all, err := tx.Identities(p.ID)
		if err != nil {
			return err
		}
		names, err := tx.UserGroups(p.ID)
		identities, groups = len(all), strings.Join(names[p.ID], " ")
		return err
	})
	return identities, groups
}

func TestConnect(t *testing.T) {
	eachElsewhere(t, func(t *testing.T, e *elsewhere) {
		if who := e.signsIn("ada-at-corp"); who != "" {
			t.Fatalf("signed in as %s before the account was connected", who)
		}
		page := e.connect(e.browser, "ada-at-corp")
		if !strings.Contains(page.Body, "Connected. You can sign in with it") ||
			!strings.Contains(page.Body, "ada-at-corp@corp.example") {
			t.Errorf("status %d:\n%s", page.Status, page.Body)
		}
		if n, groups := e.has(e.ada); n != 1 || groups != "staff" {
			t.Errorf("%d accounts and the groups %q, want 1 and staff", n, groups)
		}
		if who := e.signsIn("ada-at-corp"); who != "ada@example.com" {
			t.Errorf("the account signs in %q", who)
		}
		if data := e.browser.Get("/account/export").Body; !strings.Contains(data, `"sub": "ada-at-corp"`) {
			t.Errorf("the export lacks the account at the provider:\n%s", data)
		}
		other := e.Browser(t)
		other.Get("/login").SignIn(e.ada)
		page = e.browser.Get("/account/security")
		page = page.Submit(form(t, page, "/disconnect"))
		if !strings.Contains(page.Body, "Disconnected. It does not sign you in any more") {
			t.Errorf("status %d:\n%s", page.Status, page.Body)
		}
		if n, groups := e.has(e.ada); n != 0 || groups != "" {
			t.Errorf("after it was disconnected: %d accounts and the groups %q", n, groups)
		}
		if who := e.signsIn("ada-at-corp"); who != "" {
			t.Errorf("the account still signs in %q", who)
		}
		if !other.Get("/account").IsSignIn() {
			t.Error("another browser is still signed in")
		}
		for _, action := range []string{"identity.connect", "identity.disconnect"} {
			if events := e.Events(action); len(events) != 1 || events[0].UserID != e.ada.ID ||
				events[0].Actor.ID != e.ada.ID || events[0].Detail["provider"] != "corp" {
				t.Errorf("%s is recorded as %+v", action, events)
			}
		}
	})
}

func TestLastMethodStays(t *testing.T) {
	eachElsewhere(t, func(t *testing.T, e *elsewhere) {
		e.connect(e.browser, "ada-at-corp")
		stale := e.browser.Get("/account/security") // with a button, because there is a password
		e.Update(func(tx *store.Tx) error { return tx.SetPassword(e.ada.ID, "") })
		b := e.Browser(t)
		e.back(b, b.Get("/login/corp").Location, "ada-at-corp")
		page := b.Get("/account/security")
		if !strings.Contains(page.Body, "You have no other way to sign in") ||
			strings.Contains(page.Body, "/disconnect") {
			t.Errorf("the page offers to disconnect the last account:\n%s", page.Body)
		}
		page = stale.Submit(form(t, stale, "/disconnect"))
		if n, _ := e.has(e.ada); n != 1 || page.Status != http.StatusConflict ||
			!strings.Contains(page.Body, "set up another way to sign in first") {
			t.Errorf("status %d, %d accounts:\n%s", page.Status, n, page.Body)
		}
	})
}

// Nobody connects an account with a person who did not want it, or takes over another's.
func TestConnectAttacks(t *testing.T) {
	for name, attack := range map[string]func(e *elsewhere) (page *servertest.Page, status int, text string){
		"CN-01 without the token of the form": func(e *elsewhere) (*servertest.Page, int, string) {
			page := e.browser.Get("/account/security")
			return page.Submit(form(e.t, page, "/connect/corp"), servertest.With("csrf", "x")), http.StatusForbidden, ""
		},
		"CN-04 by a link": func(e *elsewhere) (*servertest.Page, int, string) {
			return e.browser.Get("/account/security/connect/corp"), http.StatusMethodNotAllowed, ""
		},
		"LG-29 in another browser": func(e *elsewhere) (*servertest.Page, int, string) {
			attacker := e.Browser(e.t)
			attacker.Get("/login").SignIn(e.User("bob@example.com"))
			return e.back(e.browser, e.begin(attacker), "attacker"), http.StatusForbidden, "another browser"
		},
		"CN-22 after another person has signed in": func(e *elsewhere) (*servertest.Page, int, string) {
			location := e.begin(e.browser)
			e.browser.Get("/login?return=/account").SignIn(e.User("bob@example.com"))
			return e.back(e.browser, location, "ada-at-corp"), http.StatusForbidden, "nothing was connected"
		},
		"a sign-in of half an hour ago": func(e *elsewhere) (*servertest.Page, int, string) {
			page := e.browser.Get("/account/security")
			e.Clock.Advance(16 * time.Minute)
			return page.Submit(form(e.t, page, "/connect/corp")), http.StatusOK, "Sign in again"
		},
		"an account that is another person's": func(e *elsewhere) (*servertest.Page, int, string) {
			b := e.Browser(e.t)
			b.Get("/login").SignIn(e.User("bob@example.com"))
			e.connect(b, "shared")
			return e.connect(e.browser, "shared"), http.StatusForbidden, "connected with another account here"
		},
		"a trip that took too long": func(e *elsewhere) (*servertest.Page, int, string) {
			location := e.begin(e.browser)
			e.Clock.Advance(31 * time.Minute)
			return e.back(e.browser, location, "ada-at-corp"), http.StatusForbidden, "took too long"
		},
		"a provider that declines": func(e *elsewhere) (*servertest.Page, int, string) {
			u, err := url.Parse(e.corp.Visit(e.begin(e.browser)))
			if err != nil {
				e.t.Fatal(err)
			}
			q := u.Query()
			q.Del("code")
			q.Set("error", "access_denied")
			u.RawQuery = q.Encode()
			return e.browser.Get(u.String(), servertest.Header("Sec-Fetch-Site", "cross-site")), http.StatusForbidden,
				"You did not sign in with Corp"
		},
		"a provider that is unknown": func(e *elsewhere) (*servertest.Page, int, string) {
			page := e.browser.Get("/account/security")
			return page.Submit(at(form(e.t, page, "/connect/corp"), "/account/security/connect/other")),
				http.StatusNotFound, ""
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachElsewhere(t, func(t *testing.T, e *elsewhere) {
				page, status, text := attack(e)
				if page.Status != status || !strings.Contains(page.Body, text) {
					t.Errorf("status %d, want %d and %q:\n%s", page.Status, status, text, page.Body)
				}
				if n, groups := e.has(e.ada); n != 0 || groups != "" {
					t.Errorf("%d accounts are connected, with the groups %q", n, groups)
				}
			})
		})
	}
	t.Run("another person's connection is not ended", func(t *testing.T) {
		eachElsewhere(t, func(t *testing.T, e *elsewhere) {
			e.connect(e.browser, "ada-at-corp")
			bob, b := e.User("bob@example.com"), e.Browser(t)
			b.Get("/login").SignIn(bob)
			e.connect(b, "bob-at-corp")
			theirs := form(t, e.browser.Get("/account/security"), "/disconnect").Action
			page := b.Get("/account/security")
			if page = page.Submit(at(form(t, page, "/disconnect"), theirs)); page.Status != http.StatusNotFound {
				t.Errorf("status %d:\n%s", page.Status, page.Body)
			}
			if n, _ := e.has(e.ada); n != 1 {
				t.Error("the connection is gone")
			}
		})
	})
	t.Run("two at once: one is connected", func(t *testing.T) {
		eachElsewhere(t, func(t *testing.T, e *elsewhere) {
			var backs []string
			for _, sub := range []string{"one", "two"} {
				location := e.begin(e.browser)
				e.corp.SignIn(upstreamtest.Claims{"sub": sub})
				backs = append(backs, e.corp.Visit(location))
			}
			var wait sync.WaitGroup
			for _, back := range backs {
				wait.Go(func() { e.browser.Get(back, servertest.Header("Sec-Fetch-Site", "cross-site")) })
			}
			wait.Wait()
			if n, _ := e.has(e.ada); n != 1 {
				t.Errorf("%d accounts are connected, want 1", n)
			}
		})
	})
}

// LG-14: the password of a person with a passkey is not enough to connect an account, or to disconnect one.
func TestConnectTakesTheSecondFactor(t *testing.T) {
	eachElsewhere(t, func(t *testing.T, e *elsewhere) {
		has(t, e.connect(e.browser, "ada"), http.StatusOK, "Connected.")
		device := e.Authenticator(t)
		page := e.browser.Get("/account/security/passkeys/new")
		has(t, page.WithPasskey(device.Create(page)), http.StatusOK, "Your passkey is added.")
		thief := e.Browser(t)
		thief.Get("/login").SignIn(e.ada)
		page = thief.Get("/account/security")
		has(t, page.Submit(form(t, page, "/disconnect")), http.StatusOK, "One more step")
		e.Update(func(tx *store.Tx) error {
			identities, err := tx.Identities(e.ada.ID)
			if err == nil && len(identities) == 1 {
				return tx.DeleteIdentity(identities[0].ID, e.ada.ID)
			}
			t.Errorf("%d identities, %v", len(identities), err)
			return err
		})
		page = thief.Get("/account/security")
		page = page.Submit(form(t, page, "/connect/corp"))
		has(t, page, http.StatusOK, "One more step")
		has(t, page.WithPasskey(device.Use(page)), http.StatusOK, "How you sign in")
		has(t, e.connect(thief, "ada"), http.StatusOK, "Connected.")
	}, servertest.Localhost)
}
