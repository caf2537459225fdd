package authorize_test

import (
	"encoding/base64"
	"math"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

func TestMethods(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	agent, browser := s.Agent(t, s.Client()), s.Browser(t)
	agent.Connect(browser, ada) // a session and a remembered consent: a GET would send a code immediately

	t.Run("AZ-52 HEAD", func(t *testing.T) {
		codes := len(s.Events("authorize.code"))
		page := browser.Authorize(agent.Authorization(), servertest.Method(http.MethodHead))
		if page.Status != http.StatusOK || page.Header.Get("Location") != "" || page.Header.Get("Set-Cookie") != "" ||
			page.Body != "" {
			t.Errorf("status is %d, want %d, Location %q", page.Status, http.StatusOK, page.Header.Get("Location"))
		}
		if after := len(s.Events("authorize.code")); after != codes {
			t.Errorf("%d codes were issued, want none", after-codes)
		}
	})
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodTrace, http.MethodPatch} {
		t.Run("AZ-54 "+method, func(t *testing.T) {
			page := browser.Authorize(agent.Authorization(), servertest.Method(method))
			if page.Status != http.StatusMethodNotAllowed || page.Header.Get("Allow") != "GET, HEAD, POST" {
				t.Errorf("status is %d, want %d, Allow %q",
					page.Status, http.StatusMethodNotAllowed, page.Header.Get("Allow"))
			}
		})
	}
	t.Run("POST is answered like GET", func(t *testing.T) {
		browser.Authorize(agent.Authorization(), servertest.Method(http.MethodPost)).Code()
	})
	t.Run("POST of another type", func(t *testing.T) {
		browser.Authorize(agent.Authorization(), servertest.Method(http.MethodPost),
			servertest.Header("Content-Type", "application/json")).ErrorPage(http.StatusBadRequest)
	})
	t.Run("AZ-53 cross-site POST", func(t *testing.T) {
		page := browser.Authorize(agent.Authorization(), servertest.Method(http.MethodPost),
			servertest.Header("Origin", "https://evil.example"), servertest.Header("Sec-Fetch-Site", "cross-site"))
		if !page.IsConsent() && !page.IsSignIn() {
			t.Errorf("no page, but status %d %s", page.Status, page.Location)
		}
	})
	t.Run("AZ-68 a link on another site", func(t *testing.T) {
		page := browser.Authorize(agent.Authorization(), servertest.Header("Sec-Fetch-Site", "cross-site"))
		if !page.IsConsent() {
			t.Fatalf("no consent page, but status %d %s", page.Status, page.Location)
		}
		page.Allow().Code()
	})
}

func TestCookies(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")

	t.Run("AZ-68 attributes", func(t *testing.T) {
		browser := s.Browser(t)
		page := browser.Authorize(s.Agent(t, s.Client()).Authorization())
		signedIn := page.Submit(page.Form("password"), servertest.With("email", ada.Email),
			servertest.With("password", ada.Password))
		if !signedIn.IsConsent() {
			t.Fatalf("status is %d, want the consent page", signedIn.Status)
		}
		reply := s.Agent(t, nil).Get("/login")
		cookies := reply.Header.Values("Set-Cookie")
		if len(cookies) == 0 {
			t.Fatal("the answer sets no cookie, want one")
		}
		for _, cookie := range cookies {
			for _, attribute := range []string{"HttpOnly", "SameSite=Lax", "Path=/"} {
				if !strings.Contains(cookie, attribute) {
					t.Errorf("the cookie lacks %s: %s", attribute, cookie)
				}
			}
			if strings.Contains(cookie, "Domain") {
				t.Errorf("the cookie names a domain: %s", cookie)
			}
		}
	})
	t.Run("AZ-68 sign-in posted by another site", func(t *testing.T) {
		page := s.Browser(t).Authorize(s.Agent(t, s.Client()).Authorization())
		page = page.SignIn(ada, servertest.Header("Origin", "https://evil.example"),
			servertest.Header("Sec-Fetch-Site", "cross-site"))
		page.ErrorPage(http.StatusForbidden)
	})
}

func TestErrorPage(t *testing.T) {
	s := servertest.StartMCP(t)
	c := s.Client()
	probe := `"><img src=x onerror=alert(1)></title><script>alert(1)</script>'"`

	for _, name := range []string{
		"client_id", "redirect_uri", "response_type", "scope", "state", "resource", "code_challenge",
		"code_challenge_method", "login_hint", "prompt", "max_age", "error_description", "error", "ui_locales",
		"unknown", probe,
	} {
		t.Run("AZ-56 "+strings.ReplaceAll(name, "/", "_"), func(t *testing.T) {
			params := s.Agent(t, c).Authorization(servertest.With(name, probe))
			if name != "client_id" {
				params.Set("redirect_uri", "https://evil.example/"+probe)
			}
			page := s.Browser(t).Authorize(params)
			page.ErrorPage(http.StatusBadRequest)
			if strings.Contains(page.Body, "<img src=x") || strings.Contains(page.Body, "<script") {
				t.Errorf("the page has markup of the request, want it escaped:\n%s", page.Body)
			}
		})
	}
	t.Run("AZ-57 after a bad redirect URI", func(t *testing.T) {
		page := s.Browser(t).
			Authorize(s.Agent(t, c).Authorization(servertest.With("redirect_uri", "https://evil.example/callback")))
		page.ErrorPage(http.StatusBadRequest)
		for _, link := range page.Links() {
			if strings.Contains(link, "evil") {
				t.Errorf("the page links to %s", link)
			}
		}
		if page.Header.Get("Refresh") != "" {
			t.Error("the page has a Refresh header")
		}
	})
	t.Run("AZ-60 long queries", func(t *testing.T) {
		for _, size := range []int{8 << 10, 64 << 10, 1 << 20} {
			params := s.Agent(t, c).
				Authorization(servertest.With("redirect_uri", "https://evil.example/"+strings.Repeat("x", size)))
			page := s.Browser(t).Authorize(params)
			switch page.Status {
			case http.StatusBadRequest, http.StatusRequestURITooLong, http.StatusRequestHeaderFieldsTooLarge:
			default:
				t.Errorf("status is %d for %d bytes, want 400, 414 or 431", page.Status, size)
			}
		}
	})
	t.Run("parameters that are none", func(t *testing.T) {
		for _, query := range []string{
			"client_id=%zz", "client_id=%ff", "client_id=%00", "client_id=a;redirect_uri=b",
		} {
			s.Browser(t).Authorize(nil, servertest.Raw(query)).ErrorPage(http.StatusBadRequest)
		}
	})
}

func TestRedirectAfterCredentials(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	browser := s.Browser(t)
	page := browser.Authorize(s.Agent(t, s.Client()).Authorization())

	t.Run("AZ-58 sign-in and consent redirect with 303", func(t *testing.T) {
		consent := page.SignIn(ada) // a 307 or 308 on the way fails the test
		if !consent.IsConsent() {
			t.Fatalf("status is %d, want the consent page", consent.Status)
		}
		if answer := consent.Allow(); answer.Status != http.StatusSeeOther && answer.Status != http.StatusFound {
			t.Errorf("status is %d, want %d", answer.Status, http.StatusSeeOther)
		}
	})
}

func TestCode(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	c := s.Client()

	t.Run("AZ-61 codes are unguessable", func(t *testing.T) {
		const n = 100_000
		seen := make(map[string]bool, n)
		ones := make([]int, 256)
		for range n {
			code := oauth.NewSecret(oauth.CodePrefix)
			if seen[code] {
				t.Fatalf("the code %s was issued twice", code)
			}
			seen[code] = true
			for i, b := range secretBytes(t, code) {
				for bit := range 8 {
					ones[i*8+bit] += int(b >> bit & 1)
				}
			}
		}
		for bit, got := range ones { // six standard deviations: fails by chance in one of two million runs
			if math.Abs(float64(got)-n/2) > 6*math.Sqrt(n)/2 {
				t.Errorf("bit %d is set in %d of %d codes", bit, got, n)
			}
		}
	})
	t.Run("AZ-61 a code names neither user nor grant", func(t *testing.T) {
		code := s.Browser(t).Authorize(s.Agent(t, c).Authorization()).Through(ada).Code()
		grant := s.Events("authorize.code")[0].GrantID
		secretBytes(t, code)
		for _, id := range []string{ada.ID, grant, c.ID} {
			_, bare, _ := strings.Cut(id, "_")
			if bare == "" || strings.Contains(strings.ToLower(code), bare) {
				t.Errorf("the code %s holds %q", code, id)
			}
		}
	})
	t.Run("AZ-62 redeemed in its last second", func(t *testing.T) {
		agent := s.Agent(t, c)
		code := s.Browser(t).Authorize(agent.Authorization()).Through(ada).Code()
		s.Clock.Advance(59 * time.Second)
		agent.Exchange(code).Tokens()
	})
	t.Run("AZ-62 redeemed a second too late", func(t *testing.T) {
		agent := s.Agent(t, c)
		code := s.Browser(t).Authorize(agent.Authorization()).Through(ada).Code()
		s.Clock.Advance(61 * time.Second)
		agent.Exchange(code).Refused(http.StatusBadRequest, "invalid_grant")
	})
}

// The interaction is bound to the browser that began it, and client and redirect URI must still be valid when it ends.
func TestInteraction(t *testing.T) {
	s := servertest.StartMCP(t)
	ada, eve := s.User("ada@example.com"), s.User("eve@example.com")

	t.Run("AZ-64 the sign-in page in another browser", func(t *testing.T) {
		page := s.Browser(t).Authorize(s.Agent(t, s.Client()).Authorization())
		s.Browser(t).Get(page.URL).ErrorPage(http.StatusForbidden)
	})
	t.Run("AZ-64 the consent page in another browser", func(t *testing.T) {
		page := s.Browser(t).Authorize(s.Agent(t, s.Client()).Authorization()).SignIn(ada)
		if !page.IsConsent() {
			t.Fatalf("status is %d, want the consent page", page.Status)
		}
		other := s.Browser(t)
		other.Get("/login").SignIn(eve)
		other.Get(page.URL).ErrorPage(http.StatusForbidden)
		other.Post("/consent", page.Form("decision").Values(), servertest.With("decision", "allow")).
			ErrorPage(http.StatusForbidden)
		page.Allow().Code() // the browser that began it can still finish it
	})
	t.Run("AZ-65 client disabled between request and consent", func(t *testing.T) {
		c := s.Client()
		page := s.Browser(t).Authorize(s.Agent(t, c).Authorization()).SignIn(ada)
		s.Update(func(tx *store.Tx) error { return tx.DisableClient(c.ID) })
		page.Allow().ErrorPage(http.StatusBadRequest)
	})
	t.Run("AZ-65 client deleted between request and sign-in", func(t *testing.T) {
		c := s.Client()
		page := s.Browser(t).Authorize(s.Agent(t, c).Authorization())
		s.Update(func(tx *store.Tx) error { return tx.DeleteClient(c.ID) })
		page.SignIn(ada).ErrorPage(http.StatusBadRequest)
	})
	t.Run("AZ-66 redirect URI unregistered between request and consent", func(t *testing.T) {
		c := s.Client(servertest.RedirectURIs("https://old.example/cb", "https://new.example/cb"))
		page := s.Browser(t).Authorize(s.Agent(t, c).Authorization()).SignIn(ada)
		s.Update(func(tx *store.Tx) error {
			changed := *c.Client
			changed.RedirectURIs = []string{"https://new.example/cb"}
			return tx.UpdateClient(&changed)
		})
		page.Allow().ErrorPage(http.StatusBadRequest)
	})
	t.Run("another process, of which this one's memory has not heard", func(t *testing.T) {
		clock, dsn := storetest.NewClock(), storetest.New(t, storetest.SQLite)
		s := servertest.New(t, storetest.Connect(t, dsn, clock), clock)
		s.Resource(servertest.MCP, "*weather")
		ada, elsewhere := s.User("ada@example.com"), storetest.Connect(t, dsn, clock)
		for name, change := range map[string]func(tx *store.Tx, c *oauth.Client) error{
			"AZ-65 disables the client": func(tx *store.Tx, c *oauth.Client) error { return tx.DisableClient(c.ID) },
			"AZ-65 deletes the client":  func(tx *store.Tx, c *oauth.Client) error { return tx.DeleteClient(c.ID) },
			"AZ-66 takes the redirect URI from it": func(tx *store.Tx, c *oauth.Client) error {
				c.RedirectURIs = []string{"https://new.example/cb"}
				return tx.UpdateClient(c)
			},
		} {
			t.Run(name, func(t *testing.T) {
				c := s.Client()
				page := s.Browser(t).Authorize(s.Agent(t, c).Authorization()).SignIn(ada)
				changed := *c.Client
				err := elsewhere.Update(t.Context(), func(tx *store.Tx) error { return change(tx, &changed) })
				if err != nil {
					t.Fatal(err)
				}
				page.Allow().ErrorPage(http.StatusBadRequest)
			})
		}
	})
	t.Run("a request that was altered on the way", func(t *testing.T) {
		browser := s.Browser(t)
		page := browser.Authorize(s.Agent(t, s.Client()).Authorization()).SignIn(ada)
		u, err := url.Parse(page.URL)
		if err != nil {
			t.Fatal(err)
		}
		sealed := u.Query().Get("request")
		flipped := "A" + sealed[1:]
		if sealed[0] == 'A' {
			flipped = "B" + sealed[1:]
		}
		for _, altered := range []string{sealed[:len(sealed)-1], sealed + "A", flipped, "x", ""} {
			browser.Get("/consent?request=" + altered).ErrorPage(http.StatusBadRequest)
		}
	})
}

// secretBytes returns the random part of a code, which must have 256 bits.
func secretBytes(t *testing.T, code string) []byte {
	t.Helper()
	secret, ok := strings.CutPrefix(code, oauth.CodePrefix)
	b, err := base64.RawURLEncoding.DecodeString(secret)
	if !ok || err != nil || len(b) != 32 {
		t.Fatalf("the code %s is not %s and 256 bits", code, oauth.CodePrefix)
	}
	return b
}

// A program with an old registration sends a request before it opens a browser.
func TestRefusalForPrograms(t *testing.T) {
	s := servertest.StartMCP(t)
	agent := s.Agent(t, s.Client())
	agent.ClientID = "mcp_gone"
	query := agent.Authorization().Encode()
	reply := agent.Get("/oauth2/authorize?"+query, servertest.Header("Accept", "application/json"))
	reply.Refused(http.StatusBadRequest, "invalid_client")
	if location := reply.Header.Get("Location"); location != "" {
		t.Errorf("the answer leads to %s, want no Location", location)
	}
	for _, accept := range []string{"", "*/*", "text/html,application/json;q=0.9"} {
		s.Browser(t).Get("/oauth2/authorize?"+query, servertest.Header("Accept", accept)).
			ErrorPage(http.StatusBadRequest)
	}
}

// Every refusal is recorded, even of an incomplete request.
func TestRefusedPagesAreRecorded(t *testing.T) {
	s := servertest.StartMCP(t)
	for path, action := range map[string]string{
		"/consent?decision=allow":      "authorize.consent",
		"/consent?request=a&request=b": "authorize.consent",
		"/consent?request=forged":      "authorize.request",
		"/consent/logo?%zz":            "authorize.consent",
		"/login?request=forged":        "login.sign_in",
		"/login?%zz":                   "login.sign_in",
	} {
		t.Run(path, func(t *testing.T) {
			before := len(s.Events(action))
			if page := s.Browser(t).Get(path); page.Status < 400 {
				t.Errorf("status is %d, want 400 or more", page.Status)
			}
			events := s.Events(action)
			if len(events) != before+1 || events[0].Outcome != "refused" {
				t.Errorf("%d events of %s, want one more than %d, refused", len(events), action, before)
			}
		})
	}
}
