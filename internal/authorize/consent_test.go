package authorize_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
)

const both = "mcp:tools:weather mcp:tools:email:send"

func TestConsentForm(t *testing.T) {
	s := servertest.StartMCP(t)
	ada, eve := s.User("ada@example.com"), s.User("eve@example.com")
	c := s.Client()
	asked := func(t *testing.T) (*servertest.Agent, *servertest.Page) {
		t.Helper()
		agent := s.Agent(t, c)
		page := s.Browser(t).
			Authorize(agent.Authorization(servertest.With("scope", both),
				servertest.With("prompt", "consent"))).SignIn(ada)
		if !page.IsConsent() {
			t.Fatalf("status is %d, want the consent page, Location %q", page.Status, page.Location)
		}
		return agent, page
	}
	allow := servertest.With("decision", "allow")

	t.Run("CN-01 without the token", func(t *testing.T) {
		_, page := asked(t)
		codes, refusals := len(s.Events("authorize.code")), len(s.Events("authorize.consent"))
		page.Submit(page.Form("decision"), allow, servertest.Without("csrf")).ErrorPage(http.StatusForbidden)
		page.Submit(page.Form("decision"), allow, servertest.With("csrf", "AAAA")).ErrorPage(http.StatusForbidden)
		if after := len(s.Events("authorize.consent")); after != refusals+2 {
			t.Errorf("the refusals left %d audit events, want 2", after-refusals)
		}
		if after := len(s.Events("authorize.code")); after != codes {
			t.Error("a code was issued")
		}
	})
	t.Run("a resource that is deleted while the person decides", func(t *testing.T) {
		deep := s.Resource(servertest.MCP+"/deep", "*weather") // without it, its identifier matches the parent resource
		agent := s.Agent(t, c)
		agent.Resource = deep.Identifier
		page := s.Browser(t).Authorize(agent.Authorization(servertest.With("prompt", "consent"))).SignIn(ada)
		form := page.Form("decision")
		s.Update(func(tx *store.Tx) error { return tx.DeleteResource(deep.ID) })
		codes, refusals := len(s.Events("authorize.code")), len(s.Events("authorize.request"))
		page.Submit(form, allow).Refused("invalid_target")
		page.Follow(page.URL).Refused("invalid_target")
		if after := len(s.Events("authorize.code")); after != codes {
			t.Error("a code was issued")
		}
		if after := len(s.Events("authorize.request")); after != refusals+2 {
			t.Errorf("the refusals left %d audit events, want 2", after-refusals)
		}
	})
	t.Run("a client that is limited while the person decides", func(t *testing.T) {
		c := s.Client(servertest.Confidential)
		agent := s.Agent(t, c)
		page := s.Browser(t).Authorize(agent.Authorization(servertest.With("scope", both))).SignIn(ada)
		form := page.Form("decision")
		limit := func(allowed string) {
			s.Update(func(tx *store.Tx) error {
				limited, err := tx.Client(c.ID)
				if err != nil {
					return err
				}
				limited.Allowed = []string{allowed}
				return tx.UpdateClient(limited)
			})
		}
		limit("elsewhere")
		page.Submit(form, allow).Refused("invalid_scope")
		limit("mcp:tools:weather")
		if tokens := agent.Exchange(page.Submit(form, allow).Code()).Tokens(); tokens.Scope != "mcp:tools:weather" {
			t.Errorf("scope is %q, want %q", tokens.Scope, "mcp:tools:weather")
		}
	})
	t.Run("CN-01 posted by another site", func(t *testing.T) {
		_, page := asked(t)
		page.Submit(page.Form("decision"), allow,
			servertest.Header("Origin", "https://evil.example"), servertest.Header("Sec-Fetch-Site", "cross-site")).
			ErrorPage(http.StatusForbidden)
	})
	t.Run("CN-02 the token of another request", func(t *testing.T) {
		agent, page := asked(t)
		other := page.Browser.Authorize(agent.Authorization(servertest.With("prompt", "consent")))
		token := other.Form("decision").Values().Get("csrf")
		page.Submit(page.Form("decision"), allow, servertest.With("csrf", token)).ErrorPage(http.StatusForbidden)
	})
	t.Run("CN-02 the token of another session", func(t *testing.T) {
		agent, page := asked(t)
		other := s.Browser(t).Authorize(agent.Authorization(servertest.With("prompt", "consent"))).SignIn(eve)
		token := other.Form("decision").Values().Get("csrf")
		page.Submit(page.Form("decision"), allow, servertest.With("csrf", token)).ErrorPage(http.StatusForbidden)
	})
	t.Run("CN-02 the token of the sign-in form", func(t *testing.T) {
		agent := s.Agent(t, c)
		signIn := s.Browser(t).Authorize(agent.Authorization(servertest.With("prompt", "consent")))
		token := signIn.Form("password").Values().Get("csrf")
		page := signIn.SignIn(ada)
		page.Submit(page.Form("decision"), allow, servertest.With("csrf", token)).ErrorPage(http.StatusForbidden)
	})
	for method, status := range map[string]int{
		http.MethodGet: http.StatusMethodNotAllowed, http.MethodHead: http.StatusOK,
	} {
		t.Run("CN-04 "+method, func(t *testing.T) {
			_, page := asked(t)
			codes := len(s.Events("authorize.code"))
			form := page.Form("decision").Values()
			form.Set("decision", "allow")
			answer := page.Browser.Get("/consent?"+form.Encode(), servertest.Method(method))
			if answer.Status != status || answer.Location != "" {
				t.Errorf("status is %d, want %d, Location %q", answer.Status, status, answer.Location)
			}
			if after := len(s.Events("authorize.code")); after != codes {
				t.Error("a code was issued")
			}
		})
	}
	t.Run("CN-05 somebody who knows only the request", func(t *testing.T) {
		_, page := asked(t)
		request := page.Form("decision").Values().Get("request")
		other := s.Browser(t)
		other.Get("/login").SignIn(eve)
		events := len(s.Events("authorize.request"))
		other.Get("/consent?request=" + request).ErrorPage(http.StatusForbidden)
		if after := s.Events("authorize.request"); len(after) != events+1 || after[0].Reason != "access_denied" {
			t.Errorf("the refusal left no audit event: %+v", after)
		}
		other.Post("/consent", nil, servertest.With("request", request), allow).ErrorPage(http.StatusForbidden)
		s.Browser(t).Post("/consent", nil, servertest.With("request", request), allow).ErrorPage(http.StatusForbidden)
	})
	t.Run("CN-06 more scopes than were asked for", func(t *testing.T) {
		agent := s.Agent(t, c)
		page := s.Browser(t).Authorize(agent.Authorization(servertest.With("prompt", "consent"))).SignIn(ada)
		tokens := agent.Exchange(page.Allow("mcp:tools:weather", "mcp:tools:email:send", "mcp:*",
			"admin").Code()).Tokens()
		if tokens.Scope != "mcp:tools:weather" {
			t.Errorf("scope is %q, want %q", tokens.Scope, "mcp:tools:weather")
		}
	})
	t.Run("CN-20 denied, then approved", func(t *testing.T) {
		_, page := asked(t)
		page.Deny().Refused("access_denied")
		page.Allow().ErrorPage(http.StatusBadRequest)
	})
	t.Run("CN-20 neither allowed nor denied", func(t *testing.T) {
		agent, page := asked(t)
		page.Submit(page.Form("decision")).ErrorPage(http.StatusBadRequest)
		page.Submit(page.Form("decision"), servertest.With("decision", "maybe")).ErrorPage(http.StatusBadRequest)
		agent.Exchange(page.Allow().Code()).Tokens()
	})
	t.Run("CN-21 approved too late", func(t *testing.T) {
		_, page := asked(t)
		s.Clock.Advance(30*time.Minute + time.Second)
		page.Allow().ReturnPage(http.StatusBadRequest, "access_denied", "agent.example.com")
	})
	t.Run("CN-21 approved in time", func(t *testing.T) {
		_, page := asked(t)
		s.Clock.Advance(29 * time.Minute)
		page.Allow().Code()
	})
	t.Run("CN-22 another account signed in meanwhile", func(t *testing.T) {
		_, page := asked(t)
		tab := page.Browser.Get("/login")
		tab.Submit(tab.Form("csrf")) // sign out
		page.Browser.Get("/login").SignIn(eve)
		page.Allow().ErrorPage(http.StatusForbidden)
	})
	t.Run("CN-22 signed out meanwhile", func(t *testing.T) {
		agent, page := asked(t)
		tab := page.Browser.Get("/login")
		tab.Submit(tab.Form("csrf"))
		again := page.Allow().SignIn(ada)
		if !again.IsConsent() {
			t.Fatalf("no consent page after the sign-in, but status %d", again.Status)
		}
		agent.Exchange(again.Allow().Code()).Tokens()
	})
	t.Run("CN-22 not you: another account, same request", func(t *testing.T) {
		agent, page := asked(t)
		other := slices.IndexFunc(page.Links(),
			func(link string) bool { return strings.HasPrefix(link, "/login?request=") })
		if other < 0 {
			t.Fatal("no way to sign in as somebody else")
		}
		out := page.Follow(page.Links()[other])
		tokens := agent.Exchange(out.SignIn(eve).Allow().Code()).Tokens()
		if claims := servertest.Claims(t, tokens.Access); claims.Subject != eve.ID {
			t.Errorf("sub is %q, want %q", claims.Subject, eve.ID)
		}
	})
	t.Run("CN-25 a scope unticked", func(t *testing.T) {
		agent, page := asked(t)
		tokens := agent.Exchange(page.Allow("mcp:tools:email:send").Code()).Tokens()
		claims := servertest.Claims(t, tokens.Access)
		if tokens.Scope != "mcp:tools:email:send" || claims.Scope != tokens.Scope {
			t.Errorf("scope is %q, in the token %q", tokens.Scope, claims.Scope)
		}
	})
	t.Run("CN-25 every scope unticked is a no", func(t *testing.T) {
		_, page := asked(t)
		page.Submit(page.Form("decision"), allow, servertest.Without("scope")).Refused("access_denied")
	})
	t.Run("D6 nothing but the wish to stay connected is asked about again", func(t *testing.T) {
		agent := s.Agent(t, c)
		page := s.Browser(t).
			Authorize(agent.Authorization(servertest.With("scope", "mcp:tools:weather offline_access"),
				servertest.With("prompt", "consent"))).SignIn(ada)
		again := page.Allow("offline_access")
		if again.Status != http.StatusBadRequest || !again.IsConsent() ||
			!strings.Contains(visible(again.Body), "Tick at least one more permission") {
			t.Fatalf("status is %d, want %d, Location %q", again.Status, http.StatusBadRequest, again.Location)
		}
		for _, i := range again.Form("decision").Inputs {
			if i.Name == "scope" && i.Checked != (i.Value == "offline_access") {
				t.Errorf("the scope %s is ticked: %v, want %v", i.Value, i.Checked, !i.Checked)
			}
		}
		tokens := agent.Exchange(again.Allow("mcp:tools:weather").Code()).Tokens()
		if tokens.Scope != "mcp:tools:weather" || tokens.Refresh != "" {
			t.Errorf("tokens are %+v, want the scope mcp:tools:weather without a refresh token", tokens)
		}
	})
	t.Run("D6 a resource without scopes is connected to", func(t *testing.T) {
		plain := s.Resource("https://plain.example.com/mcp")
		agent := s.Agent(t, c)
		agent.Resource = plain.Identifier
		page := s.Browser(t).Authorize(agent.Authorization(servertest.With("scope", "offline_access"))).SignIn(ada)
		agent.Exchange(page.Allow().Code()).Tokens()
	})
}

// D8: when the consent page is not shown again.
func TestRememberedConsent(t *testing.T) {
	s := servertest.StartMCP(t)
	s.Resource("https://other.example.com/mcp", "*mcp:tools:weather")
	ada := s.User("ada@example.com")
	with := servertest.With
	weather := with("scope", "mcp:tools:weather")

	t.Run("D8 the same again", func(t *testing.T) {
		agent, browser := s.Agent(t, s.Client()), s.Browser(t)
		agent.Connect(browser, ada, weather)
		agent.Exchange(browser.Authorize(agent.Authorization(weather)).Code()).Tokens()
	})
	t.Run("D8 the same again after a sign-in", func(t *testing.T) {
		agent := s.Agent(t, s.Client())
		agent.Connect(s.Browser(t), ada, weather)
		agent.Exchange(s.Browser(t).Authorize(agent.Authorization(weather)).SignIn(ada).Code()).Tokens()
	})
	t.Run("D8 fewer scopes", func(t *testing.T) {
		agent, browser := s.Agent(t, s.Client()), s.Browser(t)
		agent.Connect(browser, ada, with("scope", both))
		tokens := agent.Exchange(browser.Authorize(agent.Authorization(weather)).Code()).Tokens()
		if tokens.Scope != "mcp:tools:weather" {
			t.Errorf("scope is %q, want %q", tokens.Scope, "mcp:tools:weather")
		}
	})

	again := func(
		t *testing.T, c *servertest.Client, change func(*servertest.Agent), tweaks ...servertest.Tweak,
	) *servertest.Page {
		t.Helper()
		agent, browser := s.Agent(t, c), s.Browser(t)
		agent.Connect(browser, ada, weather)
		if change != nil {
			change(agent)
		}
		page := browser.Authorize(agent.Authorization(append([]servertest.Tweak{weather}, tweaks...)...))
		if !page.IsConsent() {
			t.Fatalf("no consent page, but status %d %s", page.Status, page.Location)
		}
		return page
	}
	t.Run("CN-08 one new scope", func(t *testing.T) {
		page := again(t, s.Client(), nil, with("scope", both))
		text := visible(page.Body)
		if !strings.Contains(text, "Send e-mail new") || strings.Contains(text, "Weather forecasts new") {
			t.Errorf("the new scope is not marked, or not alone:\n%s", text)
		}
	})
	t.Run("CN-09 another redirect URI", func(t *testing.T) {
		again(t, s.Client(servertest.RedirectURIs("https://a.example/cb", "https://b.example/cb")),
			func(a *servertest.Agent) { a.RedirectURI = "https://b.example/cb" })
	})
	t.Run("CN-09 another resource", func(t *testing.T) {
		again(t, s.Client(), func(a *servertest.Agent) { a.Resource = "https://other.example.com/mcp" })
	})
	t.Run("CN-10 a link on another site", func(t *testing.T) {
		agent, browser := s.Agent(t, s.Client()), s.Browser(t)
		agent.Connect(browser, ada)
		page := browser.Authorize(agent.Authorization(), servertest.Header("Sec-Fetch-Site", "cross-site"))
		if !page.IsConsent() {
			t.Errorf("no consent page, but status %d %s", page.Status, page.Location)
		}
	})
	t.Run("CN-10 a link on another site, prompt none", func(t *testing.T) {
		agent, browser := s.Agent(t, s.Client()), s.Browser(t)
		agent.Connect(browser, ada)
		browser.Authorize(agent.Authorization(with("prompt", "none")),
			servertest.Header("Sec-Fetch-Site", "cross-site")).Refused("consent_required")
	})
	t.Run("CN-12 a client that registered itself", func(t *testing.T) {
		agent, browser := s.Agent(t, nil), s.Browser(t)
		agent.Register(nil)
		agent.Connect(browser, ada)
		if page := browser.Authorize(agent.Authorization()); !page.IsConsent() {
			t.Errorf("no consent page, but status %d %s", page.Status, page.Location)
		}
	})
	t.Run("CN-12 an approved client with only loopback redirects", func(t *testing.T) {
		again(t, s.Client(servertest.RedirectURIs("http://127.0.0.1/cb", "http://localhost/cb")), nil)
	})
	t.Run("CN-12 a client's redirect to loopback, though it has others", func(t *testing.T) {
		again(t, s.Client(servertest.RedirectURIs("http://127.0.0.1/cb", "https://app.example.com/cb")), nil)
	})
	t.Run("CN-12 another person", func(t *testing.T) {
		eve := s.User("eve@example.com")
		agent := s.Agent(t, s.Client())
		agent.Connect(s.Browser(t), ada)
		if page := s.Browser(t).Authorize(agent.Authorization()).SignIn(eve); !page.IsConsent() {
			t.Errorf("no consent page, but status %d %s", page.Status, page.Location)
		}
	})
	t.Run("CN-13 a second client of the same name", func(t *testing.T) {
		first, second := s.Agent(t, s.Client()), s.Agent(t, nil)
		browser := s.Browser(t)
		first.Connect(browser, ada)
		second.RedirectURI = "https://imitation.example/cb"
		second.Register(nil)
		page := browser.Authorize(second.Authorization())
		if !page.IsConsent() {
			t.Fatalf("no consent page, but status %d %s", page.Status, page.Location)
		}
		for _, want := range []string{"nverified", "imitation.example", second.ClientID} {
			if !strings.Contains(visible(page.Body), want) {
				t.Errorf("the page does not show %q:\n%s", want, visible(page.Body))
			}
		}
	})
	t.Run("CN-24 after the grant was revoked", func(t *testing.T) {
		agent, browser := s.Agent(t, s.Client()), s.Browser(t)
		tokens := agent.Connect(browser, ada)
		agent.Revoke(tokens.Refresh)
		if page := browser.Authorize(agent.Authorization()); !page.IsConsent() {
			t.Errorf("no consent page, but status %d %s", page.Status, page.Location)
		}
	})
	t.Run("CN-24 consent to a code that was never redeemed", func(t *testing.T) {
		agent, browser := s.Agent(t, s.Client()), s.Browser(t)
		browser.Authorize(agent.Authorization()).Through(ada).Code()
		if page := browser.Authorize(agent.Authorization()); !page.IsConsent() {
			t.Errorf("no consent page, but status %d %s", page.Status, page.Location)
		}
	})
	t.Run("CN-26 privileges that a client gives itself", func(t *testing.T) {
		agent, browser := s.Agent(t, nil), s.Browser(t)
		reply := agent.Register(map[string]any{
			"client_name": "Pushy", "redirect_uris": []string{servertest.Callback},
			"token_endpoint_auth_method": "none", "skip_consent": true, "trusted": true, "first_party": true,
			"approved": true, "approved_at": 1,
		})
		if reply.Status != http.StatusCreated {
			t.Fatalf("status is %d, want %d: %s", reply.Status, http.StatusCreated, reply.Body)
		}
		agent.Connect(browser, ada)
		page := browser.Authorize(agent.Authorization())
		if !page.IsConsent() || !strings.Contains(visible(page.Body), "nverified") {
			t.Errorf("status is %d, want the consent page, Location %s", page.Status, page.Location)
		}
	})
	t.Run("CN-28 the same client on a second device", func(t *testing.T) {
		// Registration of a public client is idempotent: both devices have the same client.
		a, b := s.Agent(t, nil), s.Agent(t, nil)
		a.RedirectURI, b.RedirectURI = "http://127.0.0.1/device", "http://127.0.0.1/device"
		a.Register(nil)
		b.Register(nil)
		if a.ClientID != b.ClientID {
			t.Fatalf("the same metadata made two clients, %s and %s, want one", a.ClientID, b.ClientID)
		}
		first := a.Connect(s.Browser(t), ada)
		second := b.Connect(s.Browser(t), ada)
		b.Connect(s.Browser(t), ada) // again
		b.Revoke(second.Refresh)
		b.Refresh(second.Refresh).Refused(http.StatusBadRequest, "invalid_grant")
		a.Refresh(first.Refresh).Tokens()
	})
	t.Run("CN-30 open registration with an external redirect, the victim signed in", func(t *testing.T) {
		attacker, victim := s.Agent(t, nil), s.Browser(t)
		s.Agent(t, s.Client()).Connect(victim, ada)
		attacker.RedirectURI = "https://evil.example/cb"
		attacker.Register(nil)
		for _, site := range []string{"cross-site", "none", "same-site"} {
			page := victim.Authorize(attacker.Authorization(), servertest.Header("Sec-Fetch-Site", site))
			if !page.IsConsent() {
				t.Errorf("%s: no consent page, but status %d %s", site, page.Status, page.Location)
			}
			victim.Authorize(attacker.Authorization(with("prompt", "none")), servertest.Header("Sec-Fetch-Site", site)).
				ReturnPage(http.StatusBadRequest, "consent_required", "evil.example")
		}
	})
}

func TestConsentPage(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	show := func(t *testing.T, name string, uris ...string) *servertest.Page {
		t.Helper()
		agent := s.Agent(t, nil)
		agent.RedirectURI = uris[0]
		reply := agent.Register(map[string]any{
			"client_name": name, "redirect_uris": uris, "token_endpoint_auth_method": "none",
			"logo_uri": "https://tracker.example/pixel.svg", "client_uri": "https://tracker.example/",
			"policy_uri": "https://tracker.example/policy",
		})
		if reply.Status != http.StatusCreated {
			t.Fatalf("status is %d, want %d: %s", reply.Status, http.StatusCreated, reply.Body)
		}
		page := s.Browser(t).Authorize(agent.Authorization(servertest.With("scope", both))).SignIn(ada)
		if !page.IsConsent() {
			t.Fatalf("status is %d, want the consent page", page.Status)
		}
		return page
	}

	t.Run("CN-14 a name that tries to deceive", func(t *testing.T) {
		for _, name := range []string{
			"safe\u202egnp.exe", "zero\u200bwidth\u200d\ufeff", "\u2066isolate\u2069", strings.Repeat("n", 500),
			"two\nlines\r\tand\x00more", "<b>bold</b>", "Cаrdea",
		} {
			page := show(t, name, "https://agent.example.com/cb")
			for _, bad := range []string{
				"\u202e", "\u200b", "\u200d", "\ufeff", "\u2066", "<b>bold", strings.Repeat("n", 100),
			} {
				if strings.Contains(page.Body, bad) {
					t.Errorf("the page shows %q of the name %q", bad, name)
				}
			}
			if !strings.Contains(page.Body, "<bdi") {
				t.Error("the name is not isolated")
			}
		}
	})
	t.Run("CN-16 no logo and no link from strangers", func(t *testing.T) {
		page := show(t, "Tracker", "https://agent.example.com/cb")
		if strings.Contains(page.Body, "tracker.example") {
			t.Errorf("the page names the stranger's site:\n%s", page.Body)
		}
		for _, link := range page.Links() {
			if !strings.HasPrefix(link, "/") || strings.HasPrefix(link, "//") {
				t.Errorf("the page links to %s", link)
			}
		}
	})
	t.Run("CN-17 what the page shows", func(t *testing.T) {
		page := show(t, "Weather Agent", "https://agent.example.com/cb")
		text := visible(page.Body)
		for _, want := range []string{
			"Weather Agent", "nverified", "agent.example.com", servertest.MCP, "Example MCP", "Weather forecasts",
			"Send e-mail", "mcp:tools:weather", ada.Email,
		} {
			if !strings.Contains(text, want) {
				t.Errorf("the page does not show %q:\n%s", want, text)
			}
		}
		form := page.Form("decision")
		if got := form.Options("scope"); !slices.Equal(got, strings.Fields(both)) {
			t.Errorf("the checkboxes are %q, want those of %q", got, both)
		}
		if got := form.Values()["scope"]; !slices.Equal(got, strings.Fields(both)) {
			t.Errorf("ticked are %q, want those of %q", got, both)
		}
		if got := form.Options("decision"); !slices.Contains(got, "allow") || !slices.Contains(got, "deny") {
			t.Errorf("the buttons are %q, want allow and deny among them", got)
		}
		if strings.Contains(text, "this computer") {
			t.Errorf("a loopback warning for an agent on the web:\n%s", text)
		}
	})
	t.Run("CN-17 a warning only for loopback", func(t *testing.T) {
		page := show(t, "Local Agent", "http://127.0.0.1/callback")
		if text := visible(page.Body); !strings.Contains(text, "this computer") {
			t.Errorf("the page does not name this computer as where the application is:\n%s", text)
		}
	})
	t.Run("CN-18 framing", func(t *testing.T) {
		page := show(t, "Framed", "https://agent.example.com/cb")
		if policy := page.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "frame-ancestors 'none'") {
			t.Errorf("Content-Security-Policy is %q", policy)
		}
		if got := page.Header.Get("X-Frame-Options"); got != "DENY" {
			t.Errorf("X-Frame-Options is %q, want %q", got, "DENY")
		}
	})
	t.Run("CN-29 form-action does not hold back the answer", func(t *testing.T) {
		page := show(t, "Native", "com.example.agent:/callback")
		if policy := page.Header.Get("Content-Security-Policy"); strings.Contains(policy, "form-action") {
			t.Errorf("Content-Security-Policy is %q", policy)
		}
	})
}

// visible returns the text of a page.
func visible(html string) string {
	var text strings.Builder
	inTag := false
	for _, c := range html {
		switch {
		case c == '<':
			inTag = true
			text.WriteByte(' ')
		case c == '>':
			inTag = false
		case !inTag:
			text.WriteRune(c)
		}
	}
	return strings.Join(strings.Fields(text.String()), " ")
}
