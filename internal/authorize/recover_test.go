package authorize_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

var consentAnew = servertest.With("prompt", "consent")

// D18: tabs of one browser do not disturb each other.
func TestTabs(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock)
		s.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts", "mcp:tools:email:send=Send e-mail")
		ada, eve := s.User("ada@example.com"), s.User("eve@example.com")
		c := s.Client()

		t.Run("D18 a sign-in in each, then Allow in each", func(t *testing.T) {
			browser := s.Browser(t)
			agents, pages := make([]*servertest.Agent, 3), make([]*servertest.Page, 3)
			for i := range agents {
				agents[i] = s.Agent(t, c)
				pages[i] = browser.Authorize(agents[i].Authorization(consentAnew))
			}
			for i := range pages {
				pages[i] = pages[i].SignIn(ada)
				s.Clock.Advance(time.Second)
			}
			for i := range pages {
				agents[i].Exchange(pages[i].Allow().Code()).Tokens()
			}
		})
		t.Run("D18 concurrent first visits", func(t *testing.T) {
			browser := s.Browser(t)
			const tabs = 18
			agents := make([]*servertest.Agent, tabs)
			pages := atOnce(tabs, func(i int) *servertest.Page {
				agents[i] = s.Agent(t, c)
				return browser.Authorize(agents[i].Authorization(consentAnew))
			})
			for i := range pages {
				if !pages[i].IsSignIn() {
					t.Fatalf("tab %d: status is %d, want the sign-in page", i, pages[i].Status)
				}
				pages[i] = pages[i].SignIn(ada)
			}
			for i := range pages {
				agents[i].Exchange(pages[i].Allow().Code()).Tokens()
			}
		})
		t.Run("D18 sign-in pages opened concurrently", func(t *testing.T) {
			browser := s.Browser(t)
			for _, page := range atOnce(8, func(int) *servertest.Page { return browser.Get("/login") }) {
				if signedIn := page.SignIn(ada); signedIn.Status != http.StatusOK || signedIn.IsSignIn() {
					t.Errorf("status is %d, want %d:\n%s", signedIn.Status, http.StatusOK, visible(signedIn.Body))
				}
			}
		})
		t.Run("D18 Allow after the session has ended", func(t *testing.T) {
			agent := s.Agent(t, c)
			page := s.Browser(t).Authorize(agent.Authorization(consentAnew)).SignIn(ada)
			s.Update(func(tx *store.Tx) error { return tx.EndSessions(ada.ID) })
			again := page.Allow().SignIn(ada)
			if !again.IsConsent() {
				t.Fatalf("status is %d, want the consent page, Location %q", again.Status, again.Location)
			}
			agent.Exchange(again.Allow().Code()).Tokens()
		})
		t.Run("CN-22 Allow when another person has signed in", func(t *testing.T) {
			agent := s.Agent(t, c)
			page := s.Browser(t).Authorize(agent.Authorization(consentAnew)).SignIn(ada)
			page.Browser.Get("/login?request=" + request(t, page)).SignIn(eve)
			again := page.Allow()
			again.ErrorPage(http.StatusForbidden)
			if !again.IsConsent() || !strings.Contains(visible(again.Body), eve.Email) {
				t.Fatalf("the page does not ask again:\n%s", visible(again.Body))
			}
			claims := servertest.Claims(t, agent.Exchange(again.Allow().Code()).Tokens().Access)
			if claims.Subject != eve.ID {
				t.Errorf("sub is %s, want %s", claims.Subject, eve.ID)
			}
		})
	})
}

// request returns the sealed request of a consent page.
func request(t *testing.T, page *servertest.Page) string {
	t.Helper()
	return page.Form("decision").Values().Get("request")
}

// D18: the first decision counts, and the same decision again gets the same response.
func TestSameDecisionAgain(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock)
		s.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts", "mcp:tools:email:send=Send e-mail")
		ada, eve := s.User("ada@example.com"), s.User("eve@example.com")
		c := s.Client()
		browser := s.Browser(t)
		browser.Get("/login").SignIn(ada)
		asked := func(t *testing.T) (*servertest.Agent, *servertest.Page) {
			t.Helper()
			agent := s.Agent(t, c)
			return agent, browser.Authorize(agent.Authorization(servertest.With("scope", both), consentAnew))
		}
		said := func(t *testing.T, page *servertest.Page, status int, text string) {
			t.Helper()
			if page.Status != status || page.Location != "" || !strings.Contains(visible(page.Body), text) {
				t.Errorf("status %d, Location %q, want %d and %q:\n%s", page.Status, page.Location, status, text,
					visible(page.Body))
			}
		}

		t.Run("D18 Allow twice", func(t *testing.T) {
			agent, page := asked(t)
			first := page.Allow()
			s.Clock.Advance(10 * time.Second)
			if second := page.Allow(); second.Location != first.Location {
				t.Errorf("the second answer leads to\n%s, want as the first\n%s", second.Location, first.Location)
			}
			agent.Exchange(first.Code()).Tokens()
		})
		t.Run("D18 Allow, Back, the page loaded again, Allow", func(t *testing.T) {
			agent, page := asked(t)
			first := page.Allow()
			if second := page.Follow(page.URL).Allow(); second.Location != first.Location {
				t.Errorf("the second answer leads to\n%s, want as the first\n%s", second.Location, first.Location)
			}
			agent.Exchange(first.Code()).Tokens()
		})
		t.Run("D18 Allow again when the code has expired", func(t *testing.T) {
			agent, page := asked(t)
			var codes []string
			for range 3 {
				codes = append(codes, page.Allow().Code())
				s.Clock.Advance(2 * time.Minute)
				if _, err := db.Sweep(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			last := page.Allow().Code()
			for _, code := range codes {
				if code == last {
					t.Fatal("an expired code was sent again")
				}
				agent.Exchange(code).Refused(http.StatusBadRequest, "invalid_grant")
			}
			tokens := agent.Exchange(last).Tokens()
			agent.Refresh(tokens.Refresh).Tokens()
		})
		t.Run("D18 Allow again when the code was redeemed", func(t *testing.T) {
			agent, page := asked(t)
			tokens := agent.Exchange(page.Allow().Code()).Tokens()
			events := len(s.Events("authorize"))
			said(t, page.Allow(), http.StatusOK, "You have already allowed this")
			if after := len(s.Events("authorize")); after != events {
				t.Errorf("%d events tell of a page", after-events)
			}
			agent.Refresh(tokens.Refresh).Tokens() // the client did not get a spent code
		})
		t.Run("D18 Allow again when the grant was revoked", func(t *testing.T) {
			agent, page := asked(t)
			agent.Revoke(agent.Exchange(page.Allow().Code()).Tokens().Refresh)
			said(t, page.Allow(), http.StatusBadRequest, "has ended since")
		})
		t.Run("D18 Allow again with other scopes", func(t *testing.T) {
			agent, page := asked(t)
			code := page.Allow("mcp:tools:weather").Code()
			said(t, page.Allow(), http.StatusBadRequest, "You have already allowed this")
			if tokens := agent.Exchange(code).Tokens(); tokens.Scope != "mcp:tools:weather" {
				t.Errorf("scope is %q, want %q", tokens.Scope, "mcp:tools:weather")
			}
		})
		t.Run("D18 Deny twice", func(t *testing.T) {
			_, page := asked(t)
			events := len(s.Events("authorize.consent"))
			first, second := page.Deny(), page.Deny()
			first.Refused("access_denied")
			if second.Location != first.Location {
				t.Errorf("the second answer leads to\n%s, want as the first\n%s", second.Location, first.Location)
			}
			if after := len(s.Events("authorize.consent")); after != events+1 {
				t.Errorf("%d events, want 1", after-events)
			}
		})
		t.Run("CN-20 Deny, then Allow", func(t *testing.T) {
			_, page := asked(t)
			page.Deny().Refused("access_denied")
			said(t, page.Allow(), http.StatusBadRequest, "You have already denied this")
		})
		t.Run("CN-20 Allow, then Deny", func(t *testing.T) {
			agent, page := asked(t)
			code := page.Allow().Code()
			said(t, page.Deny(), http.StatusBadRequest, "You have already allowed this")
			agent.Exchange(code).Tokens()
		})
		t.Run("CN-22 Allow by another person", func(t *testing.T) {
			agent, page := asked(t)
			code := page.Allow().Code()
			other := page.Follow("/login?request=" + request(t, page)).SignIn(eve)
			said(t, other.Allow(), http.StatusBadRequest, "Somebody else has answered this")
			said(t, other.Deny(), http.StatusBadRequest, "Somebody else has answered this")
			agent.Exchange(code).Tokens()
			page.Browser.Get("/login?request=" + request(t, page)).SignIn(ada)
		})
		t.Run("D18 a remembered consent, loaded again", func(t *testing.T) {
			agent := s.Agent(t, c)
			agent.Connect(browser, ada)
			page := s.Browser(t).Authorize(agent.Authorization())
			consent := "/consent?request=" + page.Form("password").Values().Get("request")
			first := page.SignIn(ada)
			if second := first.Follow(consent); second.Location != first.Location {
				t.Errorf("the second answer leads to\n%s, want as the first\n%s", second.Location, first.Location)
			}
			agent.Exchange(first.Code()).Tokens()
			said(t, first.Follow(consent), http.StatusOK, "You have already allowed this")
		})
	})
}

// Everything that was read when the page was shown is checked again when the decision is stored.
func TestDecidedByWhatIsTrueThen(t *testing.T) {
	for _, engine := range []storetest.Engine{storetest.SQLite, storetest.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			clock, dsn := storetest.NewClock(), storetest.New(t, engine)
			s := servertest.New(t, storetest.Connect(t, dsn, clock), clock)
			ada, elsewhere := s.User("ada@example.com"), storetest.Connect(t, dsn, clock)
			c := s.Client()
			n := 0
			// meanwhile shows a page, changes something through another process, before the cache of this one is
			// updated, and then allows.
			meanwhile := func(
				t *testing.T, change func(tx *store.Tx, resource string) error,
			) (*servertest.Agent, *servertest.Page) {
				t.Helper()
				n++
				resource := s.Resource(fmt.Sprintf("https://mcp-%d.example.com/mcp", n), "*mcp:tools:weather",
					"*mcp:tools:email:send")
				agent := s.Agent(t, c)
				agent.Resource = resource.Identifier
				page := s.Browser(t).Authorize(agent.Authorization(consentAnew)).SignIn(ada)
				form := page.Form("decision")
				err := elsewhere.Update(t.Context(), func(tx *store.Tx) error { return change(tx, resource.ID) })
				if err != nil {
					t.Fatal(err)
				}
				return agent, page.Submit(form, servertest.With("decision", "allow"))
			}
			t.Run("the session ends", func(t *testing.T) {
				_, page := meanwhile(t, func(tx *store.Tx, _ string) error { return tx.EndSessions(ada.ID) })
				if !page.IsSignIn() {
					t.Errorf("status is %d, want the sign-in page, Location %q", page.Status, page.Location)
				}
			})
			t.Run("the resource is deleted", func(t *testing.T) {
				_, page := meanwhile(t, func(tx *store.Tx, id string) error { return tx.DeleteResource(id) })
				if strings.Contains(page.Location, "code=") {
					t.Errorf("Location is %q, want none with a code", page.Location)
				}
			})
			t.Run("the resource loses a scope", func(t *testing.T) {
				agent, page := meanwhile(t, func(tx *store.Tx, id string) error {
					resource, err := tx.Resource(id)
					if err != nil {
						return err
					}
					resource.Scopes = resource.Scopes[:1]
					return tx.UpdateResource(resource)
				})
				if tokens := agent.Exchange(page.Code()).Tokens(); tokens.Scope != "mcp:tools:weather" {
					t.Errorf("scope is %q, want %q", tokens.Scope, "mcp:tools:weather")
				}
			})
			t.Run("the client is bound to another resource", func(t *testing.T) {
				_, page := meanwhile(t, func(tx *store.Tx, _ string) error {
					changed := *c.Client
					changed.Resources = []string{"https://other.example.com/mcp"}
					return tx.UpdateClient(&changed)
				})
				if strings.Contains(page.Location, "code=") {
					t.Errorf("Location is %q, want none with a code", page.Location)
				}
				s.Update(func(tx *store.Tx) error { return tx.UpdateClient(c.Client) })
			})
			t.Run("the account is disabled", func(t *testing.T) {
				_, page := meanwhile(t, func(tx *store.Tx, _ string) error { return tx.DisableUser(ada.ID) })
				if !page.IsSignIn() {
					t.Errorf("status is %d, want the sign-in page, Location %q", page.Status, page.Location)
				}
			})
		})
	}
}

// RFC 9700 §4.11.2: which errors are redirected without an action of a person.
func TestErrorsReturnToTheClient(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	with := servertest.With
	clients := map[string]*servertest.Client{
		"approved":               s.Client(),
		"unverified on loopback": s.Client(servertest.Unapproved, servertest.RedirectURIs("http://127.0.0.1/callback")),
	}
	strangers := map[string]struct {
		*servertest.Client
		named string
	}{
		"unverified on the web": {s.Client(servertest.Unapproved), "agent.example.com"},
		"unverified with a query": {s.Client(servertest.Unapproved,
			servertest.RedirectURIs("https://agent.example.com/callback?a=1&b=2")), "agent.example.com"},
		"unverified by private-use scheme": {s.Client(servertest.Unapproved,
			servertest.RedirectURIs("com.example.agent:/callback")), "com.example.agent"},
	}
	faults := map[string]struct {
		tweak servertest.Tweak
		code  string
	}{
		"response_type":     {with("response_type", "token"), "unsupported_response_type"},
		"scope":             {with("scope", "unheard:of"), "invalid_scope"},
		"resource":          {with("resource", "https://unknown.example.com/mcp"), "invalid_target"},
		"code_challenge":    {servertest.Without("code_challenge"), "invalid_request"},
		"prompt none":       {with("prompt", "none"), "login_required"},
		"repeated":          {with("state", "a", "b"), "invalid_request"},
		"a state too long":  {with("state", strings.Repeat("x", 5000)), "invalid_request"},
		"a request too big": {with("login_hint", strings.Repeat("é", 100)+"@x", "b"), "invalid_request"},
	}
	for name, fault := range faults {
		for who, c := range clients {
			t.Run(name+", "+who, func(t *testing.T) {
				s.Browser(t).Authorize(s.Agent(t, c).Authorization(fault.tweak)).Refused(fault.code)
			})
		}
		for who, c := range strangers {
			t.Run(name+", "+who, func(t *testing.T) {
				page := s.Browser(t).Authorize(s.Agent(t, c.Client).Authorization(fault.tweak))
				if page.Location != "" {
					t.Fatalf("the answer leads to %s, want a page", page.Location)
				}
				page.ReturnPage(http.StatusBadRequest, fault.code, c.named)
			})
		}
	}
	t.Run("prompt none when signed in, by a stranger", func(t *testing.T) {
		agent, browser := s.Agent(t, s.Client(servertest.Unapproved)), s.Browser(t)
		agent.Connect(browser, ada)
		browser.Authorize(agent.Authorization(with("prompt", "none"))).
			ReturnPage(http.StatusBadRequest, "consent_required", "agent.example.com")
	})
	t.Run("a refusal by the person is redirected without another click", func(t *testing.T) {
		s.Browser(t).Authorize(s.Agent(t, s.Client(servertest.Unapproved)).Authorization()).SignIn(ada).Deny().
			Refused("access_denied")
	})
	t.Run("what ended while the person decided", func(t *testing.T) {
		resource := s.Resource("https://gone.example.com/mcp", "*weather")
		agent := s.Agent(t, s.Client(servertest.Unapproved))
		agent.Resource = resource.Identifier
		page := s.Browser(t).Authorize(agent.Authorization()).SignIn(ada)
		form := page.Form("decision")
		s.Update(func(tx *store.Tx) error { return tx.DeleteResource(resource.ID) })
		page.Submit(form, with("decision", "allow")).
			ReturnPage(http.StatusBadRequest, "invalid_target", "agent.example.com")
	})
	t.Run("a program gets JSON", func(t *testing.T) {
		agent := s.Agent(t, s.Client(servertest.Unapproved))
		query := agent.Authorization(with("response_type", "token")).Encode()
		agent.Get("/oauth2/authorize?"+query, servertest.Header("Accept", "application/json")).
			Refused(http.StatusBadRequest, "unsupported_response_type")
	})

	refused := func(t *testing.T) *servertest.Page {
		t.Helper()
		return s.Browser(t).
			Authorize(s.Agent(t, s.Client(servertest.Unapproved)).Authorization(with("response_type", "token")))
	}
	t.Run("the address of a form, opened", func(t *testing.T) {
		for _, path := range []string{"/consent/return", "/consent/stop"} {
			s.Browser(t).Get(path).ErrorPage(http.StatusBadRequest)
		}
	})
	t.Run("the form in another browser", func(t *testing.T) {
		page, other := refused(t), s.Browser(t)
		other.Get("/login")
		other.Post("/consent/return", page.Form("return").Values()).ErrorPage(http.StatusForbidden)
	})
	t.Run("the form posted by another site", func(t *testing.T) {
		page := refused(t)
		page.Submit(page.Form("return"), servertest.Header("Sec-Fetch-Site", "cross-site"),
			servertest.Header("Origin", "https://evil.example")).ErrorPage(http.StatusForbidden)
	})
	t.Run("the form without its token", func(t *testing.T) {
		page := refused(t)
		page.Submit(page.Form("return"), servertest.Without("csrf")).ErrorPage(http.StatusForbidden)
	})
	t.Run("the form, too late", func(t *testing.T) {
		page := refused(t)
		s.Clock.Advance(30 * time.Minute)
		page.Submit(page.Form("return")).ReturnPage(http.StatusBadRequest, "access_denied", "agent.example.com")
	})
	t.Run("the client has another redirect URI by then", func(t *testing.T) {
		c := s.Client(servertest.Unapproved)
		page := s.Browser(t).Authorize(s.Agent(t, c).Authorization(with("response_type", "token")))
		changed := *c.Client
		changed.RedirectURIs = []string{"https://agent.example.com/another"}
		s.Update(func(tx *store.Tx) error { return tx.UpdateClient(&changed) })
		page.Submit(page.Form("return")).ErrorPage(http.StatusBadRequest)
		s.Update(func(tx *store.Tx) error { return tx.DeleteClient(c.ID) })
		page.Submit(page.Form("return")).ErrorPage(http.StatusBadRequest)
	})
	t.Run("a redirect that was made up", func(t *testing.T) {
		page := refused(t)
		for _, held := range []string{
			"", "https://evil.example/",
			request(t, s.Browser(t).Authorize(s.Agent(t, s.Client()).Authorization()).SignIn(ada)),
		} {
			page.Submit(page.Form("return"), with("return", held)).ErrorPage(http.StatusBadRequest)
		}
	})
}

// A request that is too old leads back to the client, or begins again.
func TestTooOld(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock)
		s.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts", "mcp:tools:email:send=Send e-mail")
		ada, eve := s.User("ada@example.com"), s.User("eve@example.com")
		const title = "This request cannot be answered"
		again := func(t *testing.T, page *servertest.Page) string {
			t.Helper()
			for _, link := range page.Links() {
				if strings.HasPrefix(link, "/oauth2/authorize?") {
					return strings.ReplaceAll(link, "&amp;", "&")
				}
			}
			return ""
		}
		for name, c := range map[string]*servertest.Client{
			"an approved client": s.Client(), "a stranger": s.Client(servertest.Unapproved),
		} {
			late := func(t *testing.T) (*servertest.Agent, *servertest.Page) {
				t.Helper()
				agent := s.Agent(t, c)
				page := s.Browser(t).Authorize(agent.Authorization(servertest.With("scope", both), consentAnew))
				s.Clock.Advance(31 * time.Minute)
				return agent, page
			}
			t.Run("the sign-in page, "+name, func(t *testing.T) {
				_, page := late(t)
				page.Follow(page.URL).ReturnPage(http.StatusBadRequest, "access_denied", title)
			})
			t.Run("a sign-in on it, "+name, func(t *testing.T) {
				agent, page := late(t)
				page = page.SignIn(ada)
				page.ErrorPage(http.StatusBadRequest)
				consent := page.Follow(again(t, page))
				if !consent.IsConsent() {
					t.Fatalf("status is %d, want the consent page:\n%s", consent.Status, visible(consent.Body))
				}
				if tokens := agent.Exchange(consent.Allow().Code()).Tokens(); tokens.Scope != both {
					t.Errorf("scope is %q, want %q", tokens.Scope, both)
				}
			})
			t.Run("Allow, "+name, func(t *testing.T) {
				agent, page := late(t)
				page = page.Follow(again(t, page.Follow(page.URL))).SignIn(ada)
				s.Clock.Advance(31 * time.Minute)
				page = page.Allow()
				page.ErrorPage(http.StatusBadRequest)
				agent.Exchange(page.Follow(again(t, page)).Allow().Code()).Tokens()
			})
			t.Run("another browser learns nothing of it, "+name, func(t *testing.T) {
				_, page := late(t)
				other := s.Browser(t)
				other.Get("/login").SignIn(eve)
				page = other.Get(page.URL)
				page.ErrorPage(http.StatusBadRequest)
				if !strings.Contains(page.Body, "too old") || strings.Contains(page.Body, "agent.example.com") {
					t.Errorf("the page says:\n%s", visible(page.Body))
				}
			})
		}
		t.Run("a client that is gone", func(t *testing.T) {
			c := s.Client()
			page := s.Browser(t).Authorize(s.Agent(t, c).Authorization())
			s.Clock.Advance(31 * time.Minute)
			s.Update(func(tx *store.Tx) error { return tx.DeleteClient(c.ID) })
			page = page.Follow(page.URL)
			page.ErrorPage(http.StatusBadRequest)
			if strings.Contains(page.Body, `name="return"`) {
				t.Error("the page offers to return to a client that is gone")
			}
		})
	})
}

// AZ-53: a POST from another site comes without the cookies of this server.
func TestPostFromAnotherSite(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	agent, browser := s.Agent(t, s.Client()), s.Browser(t)
	browser.Get("/login").SignIn(ada)
	foreign := []servertest.Tweak{servertest.Method(http.MethodPost),
		servertest.Header("Origin", "https://evil.example"), servertest.Header("Sec-Fetch-Site", "cross-site"),
		servertest.Header("Cookie")}
	for _, path := range []string{"/oauth2/authorize", "/authorize"} {
		t.Run(path, func(t *testing.T) {
			params := agent.Authorization(servertest.With("state", "a b&c=\xff"), consentAnew)
			reply := s.Agent(t, nil).Post(path, params, foreign...)
			if reply.Status != http.StatusSeeOther || len(reply.Header.Values("Set-Cookie")) > 0 {
				t.Fatalf("status is %d, want %d, Set-Cookie %q",
					reply.Status, http.StatusSeeOther, reply.Header.Values("Set-Cookie"))
			}
			u, err := url.Parse(reply.Header.Get("Location"))
			if err != nil || u.Path != "/oauth2/authorize" || u.Query().Encode() != params.Encode() {
				t.Fatalf("Location %q, want the same parameters: %s", reply.Header.Get("Location"), params.Encode())
			}
			page := browser.Authorize(u.Query(), servertest.Header("Sec-Fetch-Site", "cross-site"))
			if !page.IsConsent() {
				t.Fatalf("status is %d, want the consent page, Location %q", page.Status, page.Location)
			}
			agent.Exchange(page.Allow().Code()).Tokens()
		})
		t.Run("from a browser that sends only Origin, "+path, func(t *testing.T) {
			reply := s.Agent(t, nil).
				Post(path, agent.Authorization(), servertest.Header("Origin", "https://evil.example"))
			if reply.Status != http.StatusSeeOther || len(reply.Header.Values("Set-Cookie")) > 0 {
				t.Errorf("status is %d, want %d, Set-Cookie %q",
					reply.Status, http.StatusSeeOther, reply.Header.Values("Set-Cookie"))
			}
		})
		t.Run("too long to be a GET, "+path, func(t *testing.T) {
			browser.Post(path, agent.Authorization(servertest.With("x", strings.Repeat("y", 9000))), foreign...).
				ErrorPage(http.StatusBadRequest)
		})
		t.Run("from a neighbouring site, whose forms carry our cookies, "+path, func(t *testing.T) {
			page := browser.Post(path, agent.Authorization(consentAnew),
				servertest.Header("Origin", "https://app.example.com"),
				servertest.Header("Sec-Fetch-Site", "same-site"))
			if !page.IsConsent() {
				t.Errorf("status is %d, want the consent page, Location %q", page.Status, page.Location)
			}
		})
	}
}

// A client that expects one person uses the browser of another.
func TestHintOfAnotherPerson(t *testing.T) {
	s := servertest.StartMCP(t)
	ada, eve := s.User("ada@example.com"), s.User("eve@example.com")
	agent, browser := s.Agent(t, s.Client()), s.Browser(t)
	agent.Connect(browser, ada)
	hint := func(who string) servertest.Tweak { return servertest.With("login_hint", who) }

	t.Run("the person who is signed in", func(t *testing.T) {
		browser.Authorize(agent.Authorization(hint("ADA@example.com"))).Code()
	})
	t.Run("no address", func(t *testing.T) {
		browser.Authorize(agent.Authorization(hint("some-opaque-id"))).Code()
	})
	t.Run("another", func(t *testing.T) {
		page := browser.Authorize(agent.Authorization(hint(eve.Email)))
		if !page.IsConsent() || !strings.Contains(visible(page.Body), "expects eve@example.com") {
			t.Fatalf("the page does not offer to switch:\n%s", visible(page.Body))
		}
		signIn := page.Follow("/login?request=" + request(t, page))
		if values := signIn.Form("password").Values(); values.Get("email") != eve.Email {
			t.Errorf("the form names %q, want %q", values.Get("email"), eve.Email)
		}
		claims := servertest.Claims(t, agent.Exchange(signIn.SignIn(eve).Allow().Code()).Tokens().Access)
		if claims.Subject != eve.ID {
			t.Errorf("sub is %s, want %s", claims.Subject, eve.ID)
		}
	})
	t.Run("another, and prompt none", func(t *testing.T) {
		browser.Get("/login?request=" + request(t, browser.Authorize(agent.Authorization(consentAnew)))).SignIn(ada)
		browser.Authorize(agent.Authorization(hint(eve.Email), servertest.With("prompt", "none"))).
			Refused("login_required")
	})
}

// D8: consent for a program on the person's own device is not remembered, because another program could imitate it.
func TestNotRememberedOnDevices(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	const web = "https://agent.example.com/callback"
	for _, uri := range []string{
		"com.example.agent:/callback", "cursor://anysphere.cursor-mcp/oauth/callback", "http://127.0.0.1/callback",
		"http://localhost:33418/", "http://[::1]/callback", "https://127.0.0.1/callback", "https://localhost/callback",
	} {
		t.Run("D8 CN-12 "+uri, func(t *testing.T) {
			agent, browser := s.Agent(t, s.Client(servertest.RedirectURIs(web, uri))), s.Browser(t)
			agent.RedirectURI = uri
			agent.Connect(browser, ada)
			page := browser.Authorize(agent.Authorization())
			if !page.IsConsent() ||
				!strings.Contains(visible(page.Body), "Only go on if you have just started this yourself.") {
				t.Fatalf("no page with a warning, but status %d %s", page.Status, page.Location)
			}
			browser.Authorize(agent.Authorization(servertest.With("prompt", "none"))).Refused("consent_required")

			agent.RedirectURI = web
			agent.Connect(browser, ada)
			browser.Authorize(agent.Authorization(servertest.With("prompt", "none"))).Code()
			if page := browser.Authorize(agent.Authorization(consentAnew)); strings.Contains(visible(page.Body),
				"Only go on") {
				t.Error("CN-17 the page warns of a program on this device, though the answer goes to the web")
			}
		})
	}
}

// A browser that does not keep cookies gets a page that says so.
func TestCookiesThatAreNotKept(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	const session = "cardea_session"
	t.Run("none at all", func(t *testing.T) {
		page := s.Browser(t).Authorize(s.Agent(t, s.Client()).Authorization(), servertest.Header("Cookie"))
		other := s.Browser(t).Get(page.URL)
		other.ErrorPage(http.StatusForbidden)
		if !strings.Contains(visible(other.Body), "allow cookies") {
			t.Errorf("the page does not say to allow cookies:\n%s", visible(other.Body))
		}
	})
	t.Run("not that of the session", func(t *testing.T) {
		agent, browser := s.Agent(t, s.Client()), s.Browser(t)
		page := browser.Authorize(agent.Authorization())
		sealed := page.Form("password").Values().Get("request")
		consent := page.SignIn(ada).URL
		browser.SetCookie(session, "")
		again := page.Follow(consent)
		if !again.IsSignIn() || !strings.Contains(visible(again.Body), "did not keep the cookie") {
			t.Errorf("status is %d, want the sign-in page:\n%s", again.Status, visible(again.Body))
		}
		plain := browser.Get("/consent?request=" + sealed)
		if !plain.IsSignIn() || strings.Contains(visible(plain.Body), "did not keep") {
			t.Errorf("status is %d, want the sign-in page:\n%s", plain.Status, visible(plain.Body))
		}
		s.Clock.Advance(2 * time.Minute)
		if late := browser.Get(consent); !late.IsSignIn() || strings.Contains(visible(late.Body), "did not keep") {
			t.Errorf("status is %d, want the sign-in page:\n%s", late.Status, visible(late.Body))
		}
		agent.Exchange(again.SignIn(ada).Allow().Code()).Tokens()
	})
}

// Sealed requests in redirects stay short, and a request that is too long is refused.
func TestRedirectsAreShort(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	const n = 100
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("mcp:tools:department-%d:read", i))
	}
	wide := s.Resource("https://wide.example.com/mcp", names...)
	agent := s.Agent(t, s.Client())
	agent.Resource = wide.Identifier
	state := strings.Repeat("0aZ-", 250)
	page := s.Browser(t).
		Authorize(agent.Authorization(servertest.With("scope", strings.Join(names, " ")),
			servertest.With("state", state)))
	if got := len(page.URL); got > 2000 {
		t.Errorf("the sign-in page of %d scopes and a state of 1,000 characters has an address of %d", n, got)
	}
	consent := page.SignIn(ada)
	if got := len(consent.URL); got > 2000 {
		t.Errorf("the consent page of %d scopes and a state of 1,000 characters has an address of %d", n, got)
	}
	if tokens := agent.Exchange(consent.Allow().Code()).Tokens(); len(strings.Fields(tokens.Scope)) != n {
		t.Errorf("%d scopes were granted, want %d", len(strings.Fields(tokens.Scope)), n)
	}
	t.Run("scopes that no list has and no address can carry", func(t *testing.T) {
		any := s.Resource("https://any.example.com/mcp", "mcp:*")
		agent := s.Agent(t, s.Client())
		agent.Resource = any.Identifier
		var made []string
		for i := range 250 {
			made = append(made, "mcp:"+oauthID(i))
		}
		s.Browser(t).Authorize(agent.Authorization(servertest.With("scope", strings.Join(made, " ")))).
			Refused("invalid_request")
	})
}

// oauthID returns a random name, which does not compress.
func oauthID(i int) string {
	return strings.ToLower(servertest.Challenge(fmt.Sprint(i)))[:40]
}
