package login_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/argon2"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/credential"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// limited turns on the limits, with three free attempts.
func limited(c *config.Config) {
	c.Limits.Enabled = true
	c.Limits.AccountFailures = 3
	c.Limits.AddressFailures = 10_000
}

// wrong returns p with another password.
func wrong(p *servertest.Person) *servertest.Person {
	return &servertest.Person{Email: p.Email, Password: "not the password at all"}
}

// signedIn reports whether the browser has a session.
func signedIn(b *servertest.Browser) bool { return !b.Get("/login").Has("password") }

// The start page says what runs here, and nothing else.
func TestHome(t *testing.T) {
	s := servertest.StartWeather(t)
	page := s.Browser(t).Get("/")
	if page.Status != http.StatusOK || !strings.Contains(page.Body, "Cardea") ||
		!strings.Contains(page.Body, `href="/login"`) {
		t.Errorf("status is %d, want %d:\n%s", page.Status, http.StatusOK, page.Body)
	}
	if strings.Contains(page.Body, "mcp.example") || strings.Contains(page.Body, "Example MCP") {
		t.Errorf("the page reveals which MCP servers exist:\n%s", page.Body)
	}
}

// A page of ours that needs a sign-in is where it leads, and no other address is.
func TestReturn(t *testing.T) {
	s := servertest.StartWeather(t)
	ada := s.User("ada@example.com")
	for path, leads := range map[string]bool{
		"/admin":                 true,
		"/admin/clients?q=a%20b": true,
		"/account":               true,
		"/admin/clients/https:%2F%2Fa.example%2Fclient": true,
		"/admin/../oauth2/authorize?client_id=x":        false,
		"/admin/.%2E/consent":                           false,
		"/admin/.":                                      false,
		"/admin/%zz":                                    false,
		"/admin/\t/x":                                   false,
		"/admin/é":                                      false,
		"/admin?é":                                      false,
		"":                                              false,
		"/":                                             false,
		"/logout":                                       false,
		"/adminx":                                       false,
		"//admin":                                       false,
		"/admin//evil.example":                          false,
		"/admin\\\\evil.example":                        false,
		"https://evil.example/admin":                    false,
		"/consent?request=x":                            false,
		"/admin/" + strings.Repeat("a", 3000):           false,
	} {
		t.Run(path[:min(len(path), 40)], func(t *testing.T) {
			page := s.Browser(t).Get("/login?return=" + url.QueryEscape(path))
			if page.Has("return") != leads {
				t.Errorf("the form hands the path back: %t", page.Has("return"))
			}
			if at := strings.TrimPrefix(page.SignIn(ada).URL, s.URL); (at == path) != leads {
				t.Errorf("the sign-in leads to %s", at)
			}
		})
	}
}

func TestSignIn(t *testing.T) {
	s := servertest.StartWeather(t)
	ada := s.User("ada@example.com")

	t.Run("without a request", func(t *testing.T) {
		browser := s.Browser(t)
		page := browser.Get("/login").SignIn(ada)
		if page.Status != http.StatusOK || !strings.Contains(page.Body, ada.Email) || !signedIn(browser) {
			t.Errorf("status is %d, want %d:\n%s", page.Status, http.StatusOK, page.Body)
		}
	})
	t.Run("within a request it says for which client and which MCP server", func(t *testing.T) {
		page := s.Browser(t).Get("/oauth2/authorize?" + s.Agent(t, s.Client()).Authorization().Encode())
		for _, want := range []string{"Example agent", "Example MCP"} {
			if !strings.Contains(page.Body, want) {
				t.Errorf("the page does not say %q:\n%s", want, page.Body)
			}
		}
	})
	t.Run("LG-01 an unknown account and a wrong password look the same", func(t *testing.T) {
		known := s.Browser(t).Get("/login").SignIn(wrong(ada))
		unknown := s.Browser(t).Get("/login").
			SignIn(&servertest.Person{Email: "eve@example.com", Password: ada.Password})
		if known.Status != unknown.Status || known.Status != http.StatusForbidden {
			t.Errorf("status is %d for an account and %d for none, want the same", known.Status, unknown.Status)
		}
		if a, b := shape(known), shape(unknown); a != b {
			t.Errorf("the pages differ:\n%s\n%s", a, b)
		}
		for _, name := range []string{"X-Request-Id", "Date", "Set-Cookie", "Content-Length"} {
			known.Header.Del(name)
			unknown.Header.Del(name)
		}
		if a, b := fmt.Sprint(known.Header), fmt.Sprint(unknown.Header); a != b {
			t.Errorf("the headers differ:\n%s\n%s", a, b)
		}
	})
	t.Run("LG-01 a disabled account looks like a wrong password", func(t *testing.T) {
		bob := s.User("bob@example.com")
		s.Update(func(tx *store.Tx) error { return tx.DisableUser(bob.ID) })
		disabled := s.Browser(t).Get("/login").SignIn(bob)
		if a, b := shape(disabled), shape(s.Browser(t).Get("/login").SignIn(wrong(ada))); a != b {
			t.Errorf("the pages differ:\n%s\n%s", a, b)
		}
	})
	t.Run("LG-02 an unknown account costs what a known one does", func(t *testing.T) {
		strongPasswords(t)
		ada := s.User("strong@example.com")
		known := allocated(func() { s.Browser(t).Get("/login").SignIn(wrong(ada)) })
		unknown := allocated(func() {
			s.Browser(t).Get("/login").
				SignIn(&servertest.Person{Email: "nobody@example.com", Password: "whatever it is"})
		})
		// argon2id allocates the configured memory, which shows that a hash was computed.
		const hash = 19 << 20
		if known < hash || unknown < hash || known > 2*hash || unknown > 2*hash {
			t.Errorf("a wrong password takes %d bytes, an unknown account %d; one hash is %d", known, unknown, hash)
		}
	})
	t.Run("LG-12 without the token", func(t *testing.T) {
		page := s.Browser(t).Get("/login")
		page.SignIn(ada, servertest.Without("csrf")).ErrorPage(http.StatusForbidden)
		page.SignIn(ada, servertest.With("csrf", "AAAA")).ErrorPage(http.StatusForbidden)
	})
	t.Run("LG-12 with the token of another browser", func(t *testing.T) {
		token := s.Browser(t).Get("/login").Form("password").Values().Get("csrf")
		s.Browser(t).Get("/login").SignIn(ada, servertest.With("csrf", token)).ErrorPage(http.StatusForbidden)
	})
	t.Run("LG-12 from another site", func(t *testing.T) {
		browser := s.Browser(t)
		page := browser.Get("/login")
		page.SignIn(ada, servertest.Header("Origin", "https://evil.example"),
			servertest.Header("Sec-Fetch-Site", "cross-site")).ErrorPage(http.StatusForbidden)
		page.SignIn(ada, servertest.Header("Origin", "https://evil.example"), servertest.Header("Sec-Fetch-Site")).
			ErrorPage(http.StatusForbidden)
		if signedIn(browser) {
			t.Error("the browser was signed in")
		}
	})
	t.Run("LG-12 with no cookie at all", func(t *testing.T) {
		form := s.Browser(t).Get("/login").Form("password").Values()
		s.Browser(t).
			Post("/login", form, servertest.With("email", ada.Email), servertest.With("password", ada.Password)).
			ErrorPage(http.StatusForbidden)
	})
	t.Run("LG-25 where to go next is not for strangers to say", func(t *testing.T) {
		for _, evil := range []string{"//evil.example", `/\evil.example`, "https:evil.example", "javascript:alert(1)",
			"/%09/evil.example", "/..//evil.example", "https://evil.example"} {
			for _, name := range []string{"return_to", "back", "rd", "next", "redirect_uri", "request"} {
				browser := s.Browser(t)
				browser.Get("/login") // sets the cookie
				page := browser.Get("/login", servertest.With(name, evil))
				if name == "request" { // not a sealed request
					page.ErrorPage(http.StatusBadRequest)
					continue
				}
				if after := page.SignIn(ada, servertest.With(name, evil)); after.Location != "" ||
					!strings.HasPrefix(after.URL, s.URL+"/login") {
					t.Errorf("%s=%s leads to %s %s", name, evil, after.URL, after.Location)
				}
			}
		}
	})
}

// shape returns a page without the parts that always differ.
func shape(page *servertest.Page) string {
	text := page.Body
	for _, form := range page.Forms() {
		for _, name := range []string{"request", "csrf", "email"} {
			for _, value := range form.Options(name) {
				text = strings.ReplaceAll(text, value, "")
			}
		}
	}
	return text
}

// strongPasswords hashes passwords as the program does for the rest of the test, because the hash itself is tested.
func strongPasswords(t *testing.T) {
	credential.WeakenForTests(false)
	t.Cleanup(func() { credential.WeakenForTests(true) })
}

// allocated returns how many bytes were allocated while do ran.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestBackoff(t *testing.T) {
	t.Run("LG-04 the right password during back-off", func(t *testing.T) {
		s := servertest.StartWeather(t, limited)
		ada := s.User("ada@example.com")
		browser := s.Browser(t)
		for range 4 {
			browser.Get("/login").SignIn(wrong(ada))
		}
		page := browser.Get("/login").SignIn(ada)
		if page.Status != http.StatusTooManyRequests || page.Header.Get("Retry-After") == "" {
			t.Errorf("status is %d, want %d, Retry-After %q",
				page.Status, http.StatusTooManyRequests, page.Header.Get("Retry-After"))
		}
		if !strings.Contains(page.Body, "have failed. Wait a second, then try again.") {
			t.Errorf("the page does not tell that it is the back-off, and how long:\n%s", page.Body)
		}
		if signedIn(browser) {
			t.Error("signed in all the same")
		}
		s.Clock.Advance(time.Hour)
		browser.Get("/login").SignIn(ada)
		if !signedIn(browser) {
			t.Error("not signed in after the back-off")
		}
	})
	t.Run("LG-04 an unknown account is slowed down alike", func(t *testing.T) {
		s := servertest.StartWeather(t, limited)
		ada := s.User("ada@example.com")
		known, unknown := tries(t, s, ada.Email, 6), tries(t, s, "nobody@example.com", 6)
		if fmt.Sprint(known) != fmt.Sprint(unknown) {
			t.Errorf("status of a known account %v, of an unknown one %v", known, unknown)
		}
		page := func(email string) string {
			return shape(s.Browser(t).Get("/login").SignIn(&servertest.Person{Email: email, Password: "another guess"}))
		}
		if a, b := page(ada.Email), page("nobody@example.com"); a != b || !strings.Contains(a, "have failed") {
			t.Errorf("the page reveals that there is an account:\n%s\n%s", a, b)
		}
	})
	t.Run("LG-06 variants of a name share one counter", func(t *testing.T) {
		s := servertest.StartWeather(t, limited)
		ada := s.User("ada@example.com")
		for _, variant := range []string{"ADA@EXAMPLE.COM", "ada@example.com ", "ａｄａ@example.com", "Ada@Example.Com"} {
			s.Browser(t).Get("/login").SignIn(&servertest.Person{Email: variant, Password: "guess of a stranger"})
		}
		if page := s.Browser(t).Get("/login").SignIn(ada); page.Status != http.StatusTooManyRequests {
			t.Errorf("status is %d, want %d", page.Status, http.StatusTooManyRequests)
		}
	})
	t.Run("LG-08 500 concurrent guesses", func(t *testing.T) {
		s := servertest.StartWeather(t, limited)
		ada := s.User("ada@example.com")
		page := s.Browser(t).Get("/login")
		var mu sync.Mutex
		statuses := map[int]int{}
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for i := range 500 {
			wg.Go(func() {
				<-begin
				answer := page.SignIn(&servertest.Person{Email: ada.Email, Password: fmt.Sprintf("guess number %d", i)})
				mu.Lock()
				statuses[answer.Status]++
				mu.Unlock()
			})
		}
		close(begin)
		wg.Wait()
		// Three attempts are free, and the next one starts the first delay.
		if evaluated := statuses[http.StatusForbidden]; evaluated > 4 ||
			evaluated+statuses[http.StatusTooManyRequests] != 500 {
			t.Errorf("answers by status are %v, want 4 of 403 at most and 429 for the rest", statuses)
		}
	})
	t.Run("D12 twelve concurrent sign-ins with right passwords", func(t *testing.T) {
		s := servertest.StartWeather(t, limited)
		ada := s.User("ada@example.com")
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for range 12 {
			browser := s.Browser(t)
			page := browser.Get("/login")
			wg.Go(func() {
				<-begin
				if page := page.SignIn(ada); page.Status != http.StatusOK || !signedIn(browser) {
					t.Errorf("status is %d, want %d", page.Status, http.StatusOK)
				}
			})
		}
		close(begin)
		wg.Wait()
	})
	t.Run("LG-10 a victim under attack", func(t *testing.T) {
		s := servertest.StartWeather(t, limited)
		ada := s.User("ada@example.com")
		agent, live, known := s.Agent(t, s.Client()), s.Browser(t), s.Browser(t)
		agent.Connect(live, ada)
		known.Get("/login").SignIn(ada)
		signOut := known.Get("/login")
		signOut.Submit(signOut.Form("csrf"))

		tries(t, s, ada.Email, 20)
		if page := s.Browser(t).Get("/login").SignIn(ada); page.Status != http.StatusTooManyRequests {
			t.Fatalf("the account is not slowed down: status %d", page.Status)
		}
		if !signedIn(live) {
			t.Error("the victim's session is gone")
		}
		agent.Exchange(live.Authorize(agent.Authorization()).Code()).Tokens()
		known.Get("/login").SignIn(ada)
		if !signedIn(known) {
			t.Error("the victim's own device is locked out")
		}
		s.Clock.Advance(time.Hour)
		fresh := s.Browser(t)
		fresh.Get("/login").SignIn(ada)
		if !signedIn(fresh) {
			t.Error("the account is still locked after an hour")
		}
	})
}

// tries makes n guesses for an account, each in a new browser, and returns the statuses.
func tries(t *testing.T, s *servertest.Server, email string, n int) (statuses []int) {
	t.Helper()
	for range n {
		page := s.Browser(t).Get("/login").SignIn(&servertest.Person{Email: email, Password: "guess of a stranger"})
		statuses = append(statuses, page.Status)
	}
	return statuses
}

func TestDisabledAccount(t *testing.T) {
	s := servertest.StartWeather(t)
	ada := s.User("ada@example.com")
	agent, browser := s.Agent(t, s.Client()), s.Browser(t)
	tokens := agent.Connect(browser, ada)
	pending := s.Agent(t, s.Client())
	code := browser.Authorize(pending.Authorization()).Through(ada).Code()
	shown := browser.Authorize(agent.Authorization(servertest.With("prompt", "consent")))
	s.Update(func(tx *store.Tx) error { return tx.DisableUser(ada.ID) })

	t.Run("LG-09 sign-in", func(t *testing.T) {
		b := s.Browser(t)
		b.Get("/login").SignIn(ada)
		if signedIn(b) {
			t.Error("the browser is signed in, want it not to be")
		}
	})
	t.Run("LG-09 the session that was there", func(t *testing.T) {
		if signedIn(browser) {
			t.Error("the browser is still signed in, want it signed out")
		}
	})
	t.Run("LG-09 the consent page that was shown", func(t *testing.T) {
		if page := shown.Allow(); !page.IsSignIn() {
			t.Errorf("status is %d, want the sign-in page, Location %q", page.Status, page.Location)
		}
	})
	t.Run("LG-09 a code that was issued", func(t *testing.T) {
		pending.Exchange(code).Refused(http.StatusBadRequest, "invalid_grant")
	})
	t.Run("LG-09 a refresh token", func(t *testing.T) {
		agent.Refresh(tokens.Refresh).Refused(http.StatusBadRequest, "invalid_grant")
	})
	t.Run("LG-09 an access token", func(t *testing.T) {
		rs := s.Agent(t, s.Client(servertest.Confidential, servertest.ResourceServer(servertest.MCP)))
		if rs.Active(tokens.Access) {
			t.Error("the access token is still active, want it inactive")
		}
	})
}

func TestRecordsOfSignIn(t *testing.T) {
	s := servertest.StartWeather(t, limited)
	ada := s.User("ada@example.com")
	s.Browser(t).Get("/login").SignIn(ada)
	tries(t, s, ada.Email, 5)
	tries(t, s, "eve@example.com", 1)
	tries(t, s, "the password, in the wrong input", 1)

	t.Run("LG-04 they name the account that was tried, throttled or not", func(t *testing.T) {
		got := map[string]int{}
		for _, e := range s.Events("login.sign_in") {
			got[fmt.Sprintf("%s %s %s", e.Outcome, e.Reason, e.UserID)]++
		}
		want := map[string]int{
			"allowed  " + ada.ID:                  1,
			"refused access_denied " + ada.ID:     4,
			"refused too_many_requests " + ada.ID: 1,
			"refused access_denied ":              2,
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	})
	t.Run("CS-20 events have no data of a deleted person", func(t *testing.T) {
		s.Update(func(tx *store.Tx) error { return tx.DeleteUser(ada.ID) })
		for _, e := range s.Events("") {
			if text := fmt.Sprint(e); strings.Contains(text, "@") || strings.Contains(text, "wrong input") {
				t.Errorf("an event contains %s", text)
			}
		}
	})
}

func TestForms(t *testing.T) {
	s := servertest.StartWeather(t)
	ada := s.User("ada@example.com")
	t.Run("U10 a domain in another alphabet, as browsers send it", func(t *testing.T) {
		for created, typed := range map[string]string{
			"bob@bücher.example": "bob@xn--bcher-kva.example", "dan@xn--bcher-kva.example": "dan@Bücher.example"} {
			s.User(created)
			browser := s.Browser(t)
			browser.Get("/login").SignIn(&servertest.Person{Email: typed, Password: servertest.Password})
			if !signedIn(browser) {
				t.Errorf("%s does not sign in as %s", typed, created)
			}
		}
	})
	t.Run("LG-12 a token that is not this browser's shows the form again", func(t *testing.T) {
		browser := s.Browser(t)
		page := browser.Get("/login").SignIn(ada, servertest.With("csrf", "AAAA"))
		page.ErrorPage(http.StatusForbidden)
		if signedIn(browser) || !strings.Contains(page.Body, "Please sign in again") {
			t.Fatalf("the page does not say what to do:\n%s", page.Body)
		}
		if values := page.Form("password").Values(); values.Get("email") != ada.Email || values.Get("password") != "" {
			t.Errorf("the form holds %v, want the address and no password", values)
		}
		page.SignIn(ada)
		if !signedIn(browser) {
			t.Error("the form that is shown again does not work")
		}
	})
	t.Run("LG-12 within a request too", func(t *testing.T) {
		agent := s.Agent(t, s.Client())
		page := s.Browser(t).Authorize(agent.Authorization()).SignIn(ada, servertest.With("csrf", "AAAA"))
		page.ErrorPage(http.StatusForbidden)
		agent.Exchange(page.SignIn(ada).Allow().Code()).Tokens()
	})
	t.Run("LG-12 a browser that sends no cookie gets an explanation", func(t *testing.T) {
		form := s.Browser(t).Get("/login").Form("password").Values()
		page := s.Browser(t).
			Post("/login", form, servertest.With("email", ada.Email), servertest.With("password", ada.Password))
		page.ErrorPage(http.StatusForbidden)
		if !page.IsSignIn() || !strings.Contains(page.Body, "Allow cookies") {
			t.Errorf("the page does not say what to do:\n%s", page.Body)
		}
	})
	t.Run("a browser that keeps no session gets an explanation", func(t *testing.T) {
		browser := s.Browser(t)
		landed := browser.Get("/login").SignIn(ada).URL
		browser.SetCookie("cardea_session", "")
		if page := browser.Get(landed); !page.IsSignIn() || !strings.Contains(page.Body, "did not keep the cookie") {
			t.Errorf("the page does not say what to do:\n%s", page.Body)
		}
		s.Clock.Advance(2 * time.Minute)
		if page := browser.Get(landed); !page.IsSignIn() || strings.Contains(page.Body, "did not keep the cookie") {
			t.Errorf("the page says so of a session that ended:\n%s", page.Body)
		}
	})
	t.Run("sign out on a page from before the last sign-in", func(t *testing.T) {
		browser := s.Browser(t)
		old := browser.Get("/login").SignIn(ada)
		browser.Authorize(s.Agent(t, s.Client()).Authorization(servertest.With("prompt", "login")))
		s.Clock.Advance(time.Second)
		browser.Authorize(s.Agent(t, s.Client()).Authorization(servertest.With("prompt", "login"))).SignIn(ada)
		page := old.Submit(old.Form("csrf"))
		page.ErrorPage(http.StatusForbidden)
		if !signedIn(browser) {
			t.Fatal("signed out by an old form")
		}
		page.Submit(page.Form("csrf"))
		if signedIn(browser) {
			t.Error("the form that is shown again does not work")
		}
	})
}

func TestSession(t *testing.T) {
	s := servertest.StartWeather(t)
	ada := s.User("ada@example.com")
	const cookie = "cardea_session"

	t.Run("LG-13 a cookie planted before the sign-in", func(t *testing.T) {
		planted := strings.Repeat("A", 43)
		browser, thief := s.Browser(t), s.Browser(t)
		browser.SetCookie(cookie, planted)
		browser.Get("/login").SignIn(ada)
		if got := browser.Cookies()[cookie]; got == planted || got == "" {
			t.Errorf("the session is %q", got)
		}
		thief.SetCookie(cookie, planted)
		if signedIn(thief) {
			t.Error("the planted cookie is signed in")
		}
	})
	t.Run("LG-13 the session before ends with a new sign-in", func(t *testing.T) {
		browser, thief := s.Browser(t), s.Browser(t)
		browser.Get("/login").SignIn(ada)
		old := browser.Cookies()[cookie]
		s.Clock.Advance(time.Second)
		browser.Authorize(s.Agent(t, s.Client()).Authorization(servertest.With("prompt", "login"))).SignIn(ada)
		if browser.Cookies()[cookie] == old {
			t.Error("LG-14 the session kept its id")
		}
		thief.SetCookie(cookie, old)
		if signedIn(thief) {
			t.Error("the old cookie is still signed in")
		}
	})
	t.Run("LG-16 cookies that are ambiguous", func(t *testing.T) {
		browser := s.Browser(t)
		browser.Get("/login").SignIn(ada)
		value := browser.Cookies()[cookie]
		for name, header := range map[string][]string{
			"twice":                {cookie + "=" + value + "; " + cookie + "=" + value},
			"twice, two headers":   {cookie + "=" + value, cookie + "=other"},
			"planted before":       {cookie + "=other; " + cookie + "=" + value},
			"$Version":             {"$Version=1; " + cookie + "=other; " + cookie + "=" + value},
			"a disguised name":     {"\u2000" + cookie + "=other; " + cookie + "=" + value},
			"a quoted value":       {cookie + `="` + value + `"`},
			"a truncated value":    {cookie + "=" + value[:len(value)-1]},
			"the hash, not the id": {cookie + "=" + strings.Repeat("a", 64)},
		} {
			page := s.Browser(t).Get("/login", servertest.Header("Cookie", header...))
			if !page.IsSignIn() {
				t.Errorf("%s signs in, want the sign-in page", name)
			}
		}
		if page := s.Browser(t).Get("/login", servertest.Header("Cookie", cookie+"="+value)); page.IsSignIn() {
			t.Error("the cookie alone is not signed in: the test proves nothing")
		}
	})
	t.Run("LG-17 very many cookies", func(t *testing.T) {
		var many strings.Builder
		for i := range 10_000 {
			fmt.Fprintf(&many, "c%d=1; ", i)
		}
		for _, header := range []string{many.String(), "c=" + strings.Repeat("x", 1<<20)} {
			page := s.Browser(t).Get("/login", servertest.Header("Cookie", header))
			if page.Status != http.StatusRequestHeaderFieldsTooLarge && page.Status != http.StatusBadRequest {
				t.Errorf("status is %d, want %d", page.Status, http.StatusRequestHeaderFieldsTooLarge)
			}
		}
	})
	t.Run("LG-18 the cookie after sign-out", func(t *testing.T) {
		browser, thief := s.Browser(t), s.Browser(t)
		tokens := s.Agent(t, s.Client()).Connect(browser, ada)
		old := browser.Cookies()[cookie]
		page := browser.Get("/login")
		out := page.Submit(page.Form("csrf"))
		if out.Status != http.StatusOK || signedIn(browser) {
			t.Errorf("status %d, still signed in", out.Status)
		}
		thief.SetCookie(cookie, old)
		if signedIn(thief) {
			t.Error("the old cookie is still signed in")
		}
		if claims := servertest.Claims(t, tokens.Access); claims.Subject != ada.ID {
			t.Errorf("sub is %q, want %q", claims.Subject, ada.ID)
		}
	})
	t.Run("LG-18 an agent stays connected when its person signs out", func(t *testing.T) {
		agent, browser := s.Agent(t, s.Client()), s.Browser(t)
		tokens := agent.Connect(browser, ada)
		page := browser.Get("/login")
		page.Submit(page.Form("csrf"))
		agent.Refresh(tokens.Refresh).Tokens()
	})
	t.Run("LG-18 nobody is signed out by a link or by another site", func(t *testing.T) {
		browser := s.Browser(t)
		browser.Get("/login").SignIn(ada)
		page := browser.Get("/logout")
		page.Submit(page.Form("csrf"), servertest.Without("csrf")).ErrorPage(http.StatusForbidden)
		page.Submit(page.Form("csrf"), servertest.Header("Sec-Fetch-Site", "cross-site"),
			servertest.Header("Origin", "https://evil.example")).ErrorPage(http.StatusForbidden)
		if !signedIn(browser) {
			t.Error("the browser is signed out, want it still signed in")
		}
	})
	t.Run("LG-20 a session that is not used", func(t *testing.T) {
		s := servertest.StartWeather(t,
			func(c *config.Config) { c.Login.IdleTTL, c.Login.MaxTTL = time.Hour, 24*time.Hour })
		ada := s.User("ada@example.com")
		browser, forgotten := s.Browser(t), s.Browser(t)
		browser.Get("/login").SignIn(ada)
		forgotten.Get("/login").SignIn(ada)
		s.Clock.Advance(59 * time.Minute)
		if !signedIn(browser) {
			t.Fatal("signed out too early")
		}
		s.Clock.Advance(59 * time.Minute)
		if !signedIn(browser) {
			t.Fatal("use does not extend the session")
		}
		if signedIn(forgotten) {
			t.Error("the one that was never used is still signed in")
		}
		s.Clock.Advance(61 * time.Minute)
		if signedIn(browser) {
			t.Error("the browser is still signed in, want it signed out")
		}
	})
	t.Run("LG-20 a session that is used for ever", func(t *testing.T) {
		s := servertest.StartWeather(t,
			func(c *config.Config) { c.Login.IdleTTL, c.Login.MaxTTL = time.Hour, 3*time.Hour })
		ada := s.User("ada@example.com")
		browser := s.Browser(t)
		browser.Get("/login").SignIn(ada)
		for range 3 {
			s.Clock.Advance(50 * time.Minute)
			if !signedIn(browser) {
				t.Fatal("signed out too early")
			}
		}
		s.Clock.Advance(40 * time.Minute)
		if signedIn(browser) {
			t.Error("the browser is still signed in, want it signed out")
		}
	})
	t.Run("LG-20 a superseded cookie extends nothing", func(t *testing.T) {
		s := servertest.StartWeather(t,
			func(c *config.Config) { c.Login.IdleTTL, c.Login.MaxTTL = time.Hour, 24*time.Hour })
		ada := s.User("ada@example.com")
		browser := s.Browser(t)
		browser.Get("/login").SignIn(ada)
		old := browser.Cookies()[cookie]
		s.Clock.Advance(time.Second)
		browser.Authorize(s.Agent(t, s.Client()).Authorization(servertest.With("prompt", "login"))).SignIn(ada)
		for range 3 {
			s.Clock.Advance(25 * time.Minute)
			thief := s.Browser(t)
			thief.SetCookie(cookie, old)
			if signedIn(thief) {
				t.Error("the old cookie is signed in")
			}
		}
		if signedIn(browser) {
			t.Error("the old cookie kept the new session alive")
		}
	})
}

// A session that ends between two reads has ended, which is not a fault.
func TestSessionThatEndsMeanwhile(t *testing.T) {
	clock, calls := storetest.NewClock(), new(atomic.Int64)
	db, err := store.Open(t.Context(), storetest.New(t, storetest.SQLite), store.Options{Clock: func() time.Time {
		if calls.Add(-1) == 0 {
			clock.Advance(time.Hour)
		}
		return clock.Now()
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	s := servertest.New(t, db, clock, func(c *config.Config) { c.Login.IdleTTL = time.Hour })
	browser := s.Browser(t)
	browser.Get("/login").SignIn(s.User("ada@example.com"))
	clock.Advance(59 * time.Minute)
	calls.Store(3) // it is found, is not new and is renewed: an hour later
	if page := browser.Get("/login"); page.Status != http.StatusOK || !page.Has("password") {
		t.Errorf("status is %d, want %d: %s", page.Status, http.StatusOK, page.Body)
	}
}

func TestPassword(t *testing.T) {
	strongPasswords(t)
	s := servertest.StartWeather(t)

	t.Run("LG-26 1 MB", func(t *testing.T) {
		ada := s.User("ada@example.com")
		big := &servertest.Person{Email: ada.Email, Password: strings.Repeat("x", 1<<20)}
		spent := allocated(func() {
			page := s.Browser(t).Get("/login").SignIn(big)
			if page.Status != http.StatusBadRequest && page.Status != http.StatusRequestEntityTooLarge {
				t.Errorf("status is %d, want %d", page.Status, http.StatusBadRequest)
			}
		})
		if spent > 16<<20 {
			t.Errorf("%d bytes were spent on it", spent)
		}
	})
	t.Run("LG-26 longer than any password", func(t *testing.T) {
		ada := &servertest.Person{Email: "ada@example.com", Password: strings.Repeat("x", 1025)}
		s.Browser(t).Get("/login").SignIn(ada).ErrorPage(http.StatusBadRequest)
	})
	t.Run("LG-26 beyond 72 bytes every byte counts", func(t *testing.T) {
		prefix := strings.Repeat("p", 80)
		bob := s.UserWithPassword("bob@example.com", prefix+"1")
		browser := s.Browser(t)
		browser.Get("/login").SignIn(&servertest.Person{Email: bob.Email, Password: prefix + "2"})
		if signedIn(browser) {
			t.Error("another password with the same beginning is accepted")
		}
		browser.Get("/login").SignIn(bob)
		if !signedIn(browser) {
			t.Error("the right one is not")
		}
	})
	t.Run("LG-26 NUL", func(t *testing.T) {
		eve := s.UserWithPassword("eve@example.com", "before the zero")
		browser := s.Browser(t)
		page := browser.Get("/login").
			SignIn(&servertest.Person{Email: eve.Email, Password: "before the zero\x00and after"})
		if page.Status != http.StatusBadRequest || signedIn(browser) {
			t.Errorf("status is %d, want %d", page.Status, http.StatusBadRequest)
		}
	})
	t.Run("LG-26 two forms of the same letters", func(t *testing.T) {
		dan := s.UserWithPassword("dan@example.com", "gr\u00fc\u00dfe aus K\u00f6ln")
		browser := s.Browser(t)
		browser.Get("/login").SignIn(&servertest.Person{Email: dan.Email, Password: "gru\u0308\u00dfe aus Ko\u0308ln"})
		if !signedIn(browser) {
			t.Error("the browser is not signed in, want it to be")
		}
	})
	t.Run("no password is kept in the log", func(t *testing.T) {
		if strings.Contains(s.Log(), servertest.Password) || strings.Contains(s.Log(), "not the password") {
			t.Error("the log holds a password")
		}
	})
}

func TestPasswordHash(t *testing.T) {
	strongPasswords(t)
	s := servertest.StartWeather(t)
	ada := s.User("ada@example.com")
	stored := func() (hash string) {
		s.Update(func(tx *store.Tx) error {
			user, err := tx.User(ada.ID)
			hash = user.PasswordHash
			return err
		})
		return hash
	}
	t.Run("CS-05 the cost of a stored hash is limited", func(t *testing.T) {
		before, b64, salt := stored(), base64.RawStdEncoding.EncodeToString, []byte("a salt of its own")
		for _, cost := range []struct {
			passes  uint32
			threads uint8
		}{{11, 1}, {1, 17}} {
			key := argon2.IDKey([]byte(ada.Password), salt, cost.passes, 256, cost.threads, 32)
			hash := fmt.Sprintf("$argon2id$v=19$m=256,t=%d,p=%d$%s$%s", cost.passes, cost.threads, b64(salt), b64(key))
			s.Update(func(tx *store.Tx) error { return tx.SetPassword(ada.ID, hash) })
			if page := s.Browser(t).Authorize(s.Agent(t, s.Client()).Authorization()).SignIn(ada); page.IsConsent() ||
				stored() != hash {
				t.Errorf("a hash with %+v signs in or is replaced, want neither", cost)
			}
		}
		s.Update(func(tx *store.Tx) error { return tx.SetPassword(ada.ID, before) })
	})
	t.Run("CS-05 argon2id, with what it cost", func(t *testing.T) {
		if hash := stored(); !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
			t.Errorf("stored as %.40s…", hash)
		}
	})
	t.Run("CS-05 a cheaper hash is replaced at sign-in", func(t *testing.T) {
		b64 := base64.RawStdEncoding.EncodeToString
		salt := []byte("a salt of its own")
		cheap := "$argon2id$v=19$m=64,t=1,p=1$" + b64(salt) + "$" +
			b64(argon2.IDKey([]byte(ada.Password), salt, 1, 64, 1, 32))
		s.Update(func(tx *store.Tx) error { return tx.SetPassword(ada.ID, cheap) })
		agent := s.Agent(t, s.Client())
		s.Browser(t).Authorize(agent.Authorization()).SignIn(wrong(ada))
		if stored() != cheap {
			t.Error("a wrong password changed it")
		}
		if page := s.Browser(t).Authorize(agent.Authorization()).SignIn(ada); !page.IsConsent() {
			t.Fatalf("status is %d, want the consent page: %s", page.Status, page.Body)
		}
		if hash := stored(); !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
			t.Errorf("stored as %.40s…", hash)
		}
		if page := s.Browser(t).Authorize(agent.Authorization()).SignIn(ada); !page.IsConsent() {
			t.Errorf("the new hash is not of the same password: %d", page.Status)
		}
	})
}
