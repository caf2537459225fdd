package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// What keeps MCP clients from connecting in the field, most frequent first: each met here once, as the client would.
func TestFailures(t *testing.T) {
	// start runs a server with one resource and a person.
	start := func(t *testing.T, edits ...func(*config.Config)) (*servertest.Server, *servertest.Person) {
		t.Helper()
		s := servertest.Start(t, edits...)
		s.Resource(servertest.MCP, "*"+weather+"=Weather forecasts", email+"=Send e-mail")
		return s, s.User("ada@example.com")
	}
	const metadataPath = "/.well-known/oauth-authorization-server"

	t.Run("01 loopback redirect matched with its port", func(t *testing.T) {
		s, ada := start(t)
		agent := s.Agent(t, nil)
		agent.Register(map[string]any{"redirect_uris": []string{"http://127.0.0.1:33418/callback", "http://localhost/callback", "http://[::1]:1/callback"}})
		for _, uri := range []string{"http://127.0.0.1:33418/callback", "http://127.0.0.1:52163/callback", "http://localhost:8080/callback", "http://[::1]:49152/callback"} {
			agent.RedirectURI = uri
			agent.Connect(s.Browser(t), ada)
		}
		for _, uri := range []string{"http://127.0.0.1:33418/other", "http://127.0.0.2:33418/callback", "https://localhost:8080/callback", "http://localhost:8080/callback?a=b"} {
			agent.RedirectURI = uri
			s.Browser(t).Authorize(agent.Authorization()).ErrorPage(http.StatusBadRequest)
		}
	})

	t.Run("02 client forgotten", func(t *testing.T) {
		db, clock := storetest.Open(t, storetest.SQLite)
		s := servertest.New(t, db, clock)
		s.Resource(servertest.MCP, weather)
		ada := s.User("ada@example.com")
		agent := s.Agent(t, nil)
		agent.Register(nil)
		agent.Connect(s.Browser(t), ada)
		never := s.Agent(t, nil)
		never.Register(map[string]any{"client_name": "Never used", "redirect_uris": []string{servertest.Callback}, "token_endpoint_auth_method": "none"})
		clock.Advance(400 * 24 * time.Hour)
		if _, err := db.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		restarted := servertest.New(t, db, clock)
		again := restarted.Agent(t, nil)
		again.ClientID = agent.ClientID
		again.Connect(restarted.Browser(t), ada)

		// Who is gone hears how to come back, at the place where it can be heard.
		gone := restarted.Agent(t, nil)
		gone.ClientID = never.ClientID
		gone.Exchange("any code").Refused(http.StatusUnauthorized, "invalid_client")
		gone.Refresh("any token").Refused(http.StatusUnauthorized, "invalid_client")
		page := restarted.Browser(t).Authorize(gone.Authorization())
		page.ErrorPage(http.StatusBadRequest)
		if !strings.Contains(page.Body, "remove this MCP server and add it again") {
			t.Errorf("the page does not tell a person how to mend it:\n%s", page.Body)
		}
	})

	t.Run("03 issuer string mismatch", func(t *testing.T) {
		s := servertest.Start(t)
		c := newClient(t, s, s.User("ada@example.com"), newMCP(t, s, everything), "2026-07-28")
		resource := c.find(c.challenged(c.call(""), http.StatusUnauthorized)["resource_metadata"])
		m := c.find(s.URL + metadataPath)
		c.register(text(m, "registration_endpoint"), nil)
		back := c.authorize(text(m, "authorization_endpoint"), nil)
		got := c.redeem(text(m, "token_endpoint"), back.Get("code"), nil)
		for place, issuer := range map[string]string{
			"protected resource metadata": c.issuer(resource), "metadata": text(m, "issuer"),
			"authorization response": back.Get("iss"), "token": got.Claims.Issuer,
		} {
			if issuer != s.URL {
				t.Errorf("%s: the issuer is %q, want %q", place, issuer, s.URL)
			}
		}
		if _, err := config.Load(config.Sources{Flags: map[string]string{"issuer": "https://auth.example.com/", "data_dir": t.TempDir()}}); err == nil {
			t.Error("an issuer with a slash at its end is accepted")
		}
		slashed, err := guard.New(guard.Config{Issuer: s.URL + "/", Resource: c.MCP, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPost, c.MCP, nil)
		r.Header.Set("Authorization", "Bearer "+got.Access)
		slashed.Protect(http.NotFoundHandler()).ServeHTTP(w, r)
		if w.Code != http.StatusServiceUnavailable {
			t.Errorf("a guard of another issuer answers %d", w.Code)
		}
	})

	t.Run("04 resource mismatch", func(t *testing.T) {
		s, ada := start(t)
		s.Resource("https://other.example.com/a/mcp", "a")
		s.Resource("https://other.example.com/b/mcp", "b")
		agent := s.Agent(t, s.Client())
		browser := s.Browser(t)
		for asked, audience := range map[string]string{
			"https://mcp.example.com/mcp":       servertest.MCP,
			"https://mcp.example.com/mcp/":      servertest.MCP,
			"HTTPS://MCP.Example.com:443/mcp":   servertest.MCP,
			"https://mcp.example.com":           servertest.MCP,
			"https://mcp.example.com/":          servertest.MCP,
			"https://mcp.example.com/mcp/tools": servertest.MCP,
			"https://other.example.com/b/mcp/":  "https://other.example.com/b/mcp",
		} {
			agent.Resource = asked
			tokens := agent.Connect(browser, ada)
			if got := servertest.Claims(t, tokens.Access).Audience; got != audience {
				t.Errorf("%s: aud is %s, want %s", asked, got, audience)
			}
		}
		mcpURL := newMCP(t, s, everything)
		c := newClient(t, s, ada, mcpURL, "2026-07-28")
		if got := text(c.find(c.challenged(c.call(""), http.StatusUnauthorized)["resource_metadata"]), "resource"); got != mcpURL {
			t.Errorf("resource is %s, want the URL that people enter: %s", got, mcpURL)
		}
	})

	t.Run("05 metadata of an internal host behind a proxy", func(t *testing.T) {
		s, _ := start(t)
		stranger := s.Agent(t, nil)
		want := stranger.Get(metadataPath).JSON()
		for _, header := range [][2]string{{"Host", "cardea.internal:8080"}, {"X-Forwarded-Host", "evil.example"}, {"X-Forwarded-Proto", "http"}, {"Forwarded", "host=evil.example;proto=http"}} {
			if diff := cmp.Diff(want, stranger.Get(metadataPath, servertest.Header(header[0], header[1])).JSON()); diff != "" {
				t.Errorf("%s: %s", header[0], diff)
			}
		}
		for _, name := range []string{"authorization_endpoint", "token_endpoint", "registration_endpoint", "jwks_uri"} {
			if !strings.HasPrefix(text(want, name), s.URL+"/") {
				t.Errorf("%s is %v", name, want[name])
			}
		}
	})

	t.Run("06 well-known path wrong", func(t *testing.T) {
		s, ada := start(t)
		mcpURL := newMCP(t, s, everything)
		c := newClient(t, s, ada, mcpURL, "2026-07-28")
		origin := originOf(t, mcpURL)
		for _, found := range []string{
			s.URL + metadataPath, s.URL + "/.well-known/openid-configuration", s.URL + "/.well-known/jwks", s.URL + "/.well-known/jwks.json",
			origin + "/.well-known/oauth-protected-resource/mcp", origin + "/.well-known/oauth-protected-resource", origin + metadataPath,
		} {
			if c.find(found) == nil {
				t.Errorf("nothing at %s", found)
			}
		}
		for _, other := range []string{
			s.URL + metadataPath + "/mcp", s.URL + "/.well-known/oauth-protected-resource", s.URL + "/mcp/.well-known/openid-configuration", s.URL + "/.well-known/webfinger",
			origin + "/.well-known/openid-configuration/mcp", origin + metadataPath + "/mcp", origin + "/.well-known/anything",
		} {
			resp, body := c.send(http.MethodGet, other, "", nil)
			if resp.StatusCode != http.StatusNotFound || text(body, "error") == "" || resp.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s: %d %s %v", other, resp.StatusCode, resp.Header.Get("Content-Type"), body)
			}
		}
	})

	t.Run("07 refresh rotation race", func(t *testing.T) {
		s, ada := start(t)
		agent := s.Agent(t, s.Client())
		first := agent.Connect(s.Browser(t), ada)
		replies := make([]*servertest.Reply, 5) // of five processes that share one token
		var all sync.WaitGroup
		for i := range replies {
			all.Go(func() { replies[i] = agent.Refresh(first.Refresh) })
		}
		all.Wait()
		successor := replies[0].Tokens().Refresh
		for _, reply := range replies {
			if got := reply.Tokens().Refresh; got != successor {
				t.Error("two processes have two successors")
			}
		}
		s.Clock.Advance(59 * time.Second) // whose answer was lost asks again
		if agent.Refresh(first.Refresh).Tokens().Refresh != successor {
			t.Error("a late process has another successor")
		}
		last := agent.Refresh(successor).Tokens()
		agent.Refresh(first.Refresh).Refused(http.StatusBadRequest, "invalid_grant") // now it can only be a thief
		agent.Refresh(last.Refresh).Refused(http.StatusBadRequest, "invalid_grant")
	})

	t.Run("08 no refresh token", func(t *testing.T) {
		s, ada := start(t)
		if m := s.Agent(t, nil).Get(metadataPath).JSON(); !slices.Contains(list(m, "scopes_supported"), "offline_access") {
			t.Errorf("scopes_supported is %v", m["scopes_supported"])
		}
		agent := s.Agent(t, nil)
		agent.Register(map[string]any{"redirect_uris": []string{servertest.Callback}, "token_endpoint_auth_method": "none"})
		for _, asked := range []string{"", weather, weather + " offline_access"} {
			tokens := agent.Connect(s.Browser(t), ada, servertest.With("scope", asked))
			s.Clock.Advance(29 * 24 * time.Hour)
			if agent.Refresh(tokens.Refresh).Tokens().Refresh == "" {
				t.Errorf("scope %q: no refresh token", asked)
			}
		}
	})

	t.Run("09 invalid_scope", func(t *testing.T) {
		s, ada := start(t)
		for _, registered := range []string{"", "something else", weather} {
			agent := s.Agent(t, nil)
			agent.Register(map[string]any{"redirect_uris": []string{servertest.Callback}, "token_endpoint_auth_method": "none", "scope": registered})
			for asked, granted := range map[string]string{
				"":                              weather,
				"openid profile email":          weather,
				email:                           email,
				email + " unknown openid":       email,
				weather + " " + email:           weather + " " + email,
				email + " offline_access admin": email + " offline_access",
			} {
				tokens := agent.Connect(s.Browser(t), ada, servertest.With("scope", asked))
				if tokens.Scope != granted {
					t.Errorf("registered %q, asked %q: granted %q, want %q", registered, asked, tokens.Scope, granted)
				}
				if got := agent.Refresh(tokens.Refresh, servertest.With("scope", granted+" offline_access unknown")).Tokens().Scope; got != granted {
					t.Errorf("asked %q: refreshed to %q, want %q", asked, got, granted)
				}
			}
		}
	})

	t.Run("10 metadata documents advertised without the method none", func(t *testing.T) {
		s, _ := start(t)
		for _, path := range []string{metadataPath, "/.well-known/openid-configuration"} {
			m := s.Agent(t, nil).Get(path).JSON()
			if m["client_id_metadata_document_supported"] != true || !slices.Contains(list(m, "token_endpoint_auth_methods_supported"), "none") {
				t.Errorf("%s: %v %v", path, m["client_id_metadata_document_supported"], m["token_endpoint_auth_methods_supported"])
			}
		}
	})

	t.Run("11 metadata document validated too strictly", func(t *testing.T) {
		s, ada := start(t, func(c *config.Config) { c.Registration.AllowLoopback = true })
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		public := jose.JSONWebKey{Key: key.Public(), KeyID: "one", Algorithm: "ES256", Use: "sig"}
		site := newSite(t)
		site.document = map[string]any{
			"client_id": site.URL, "client_name": "Strange agent", "redirect_uris": []string{servertest.Callback},
			"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_methods_supported": []string{"none", "private_key_jwt", "tls_client_auth"},
			"jwks": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public}}, "token_endpoint_auth_signing_alg": "ES256",
			"grant_types":    []string{"authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:jwt-bearer", "urn:example:grant"},
			"response_types": []string{"code"}, "require_pushed_authorization_requests": false, "x_vendor": map[string]any{"anything": []int{1}},
		}
		agent := s.Agent(t, nil)
		agent.ClientID = site.URL
		tokens := agent.Connect(s.Browser(t), ada) // as it can by the method none
		agent.Refresh(tokens.Refresh).Tokens()

		code := s.Browser(t).Authorize(agent.Authorization()).Through(ada).Code()
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "one"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		now := s.Clock.Now().Unix()
		claims, err := json.Marshal(map[string]any{"iss": site.URL, "sub": site.URL, "aud": s.URL, "iat": now, "exp": now + 60, "jti": rand.Text()})
		if err != nil {
			t.Fatal(err)
		}
		jws, err := signer.Sign(claims)
		if err != nil {
			t.Fatal(err)
		}
		assertion, err := jws.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		agent.Exchange(code, servertest.Without("client_id"), servertest.With("client_assertion", assertion),
			servertest.With("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")).Tokens()
	})

	t.Run("12 metadata document cannot be fetched", func(t *testing.T) {
		s, ada := start(t, func(c *config.Config) { c.Registration.AllowLoopback = true })
		known, unknown := newSite(t), newSite(t)
		for _, site := range []*site{known, unknown} {
			site.document = map[string]any{"client_id": site.URL, "client_name": "Agent", "redirect_uris": []string{servertest.Callback}, "token_endpoint_auth_method": "none"}
		}
		agent := s.Agent(t, nil)
		agent.ClientID = known.URL
		tokens := agent.Connect(s.Browser(t), ada)
		if asked := known.asked; !strings.Contains(asked.Get("Accept"), "application/json") || asked.Get("User-Agent") == "" {
			t.Errorf("the request says %v", asked)
		}
		known.blocked, unknown.blocked = true, true
		s.Clock.Advance(25 * time.Hour) // which is longer than a document stays fresh
		agent.Refresh(tokens.Refresh).Tokens()
		agent.Connect(s.Browser(t), ada)

		agent.ClientID = unknown.URL
		page := s.Browser(t).Authorize(agent.Authorization())
		page.ErrorPage(http.StatusBadRequest)
		if !strings.Contains(page.Body, "metadata document") {
			t.Errorf("the page does not say what is wrong:\n%s", page.Body)
		}
		unknown.blocked = false // an error is not remembered
		agent.Connect(s.Browser(t), ada)
	})

	t.Run("13 registration rejected for one redirect", func(t *testing.T) {
		s, ada := start(t)
		uris := []string{"cursor://anysphere.cursor-mcp/oauth/callback", "https://www.cursor.com/agents/mcp/oauth/callback", "http://localhost:8787/callback", "https://any.example.net:8443/oauth/clients/mcp:1/callback"}
		agent := s.Agent(t, nil)
		agent.Register(map[string]any{"redirect_uris": uris, "token_endpoint_auth_method": "none"})
		for _, agent.RedirectURI = range uris {
			agent.Connect(s.Browser(t), ada)
		}
		for _, uri := range []string{"javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "vbscript:x", "http://agent.example.com/callback"} {
			bad := s.Agent(t, nil)
			bad.Register(map[string]any{"redirect_uris": append([]string{uri}, uris...)}).Refused(http.StatusBadRequest, "invalid_redirect_uri")
			agent.RedirectURI = uri
			s.Browser(t).Authorize(agent.Authorization()).ErrorPage(http.StatusBadRequest)
		}
	})

	t.Run("14 registration response with null, empty or missing members", func(t *testing.T) {
		s, _ := start(t)
		for name, metadata := range map[string]map[string]any{
			"the least": {"redirect_uris": []string{"http://127.0.0.1/callback"}},
			"empty members": {
				"redirect_uris": []string{servertest.Callback}, "client_name": "", "client_uri": "", "logo_uri": "", "scope": "", "contacts": []string{}, "token_endpoint_auth_method": "none",
			},
			"null members": {"redirect_uris": []string{servertest.Callback}, "client_name": nil, "scope": nil, "jwks": nil, "grant_types": nil, "token_endpoint_auth_method": "none"},
			"a secret":     {"redirect_uris": []string{servertest.Callback}, "token_endpoint_auth_method": "client_secret_post"},
		} {
			reply := s.Agent(t, nil).Register(metadata)
			registration(t, reply, metadata)
			if secret := reply.Text("client_secret"); (name == "a secret") != (secret != "") {
				t.Errorf("%s: %s", name, reply.Body)
			}
		}
	})

	t.Run("15 registration blocked for a shared address", func(t *testing.T) {
		s, _ := start(t, func(c *config.Config) {
			c.Limits.Enabled = true
			c.Limits.Registrations = limit.Rate{Every: time.Minute, Burst: 3}
		})
		same := map[string]any{"client_name": "Connector", "redirect_uris": []string{servertest.Callback}, "token_endpoint_auth_method": "none"}
		first := s.Agent(t, nil)
		first.Register(same)
		for range 50 { // of whom all but the first are the same client, and cost nothing
			next := s.Agent(t, nil)
			if next.Register(same); next.ClientID != first.ClientID {
				t.Fatal("the same registration makes another client")
			}
		}
		var reply *servertest.Reply
		for i := range 4 {
			reply = s.Agent(t, nil).Register(map[string]any{"client_name": fmt.Sprint("Connector ", i), "redirect_uris": []string{servertest.Callback}, "token_endpoint_auth_method": "none"})
		}
		if reply.Status != http.StatusTooManyRequests || reply.Header.Get("Retry-After") == "" || reply.Text("error") == "" {
			t.Errorf("the answer is %d %v %s", reply.Status, reply.Header, reply.Body)
		}
		first.Exchange("no code").Refused(http.StatusBadRequest, "invalid_grant") // the token endpoint stays open
		if reply := s.Agent(t, nil).Register(same); reply.Status != http.StatusCreated {
			t.Errorf("a known client is turned away: %d", reply.Status)
		}
	})

	t.Run("16 neither registration nor metadata documents", func(t *testing.T) {
		s, _ := start(t)
		for _, path := range []string{metadataPath, "/.well-known/openid-configuration"} {
			m := s.Agent(t, nil).Get(path).JSON()
			if text(m, "registration_endpoint") != s.URL+"/oauth2/register" || m["client_id_metadata_document_supported"] != true {
				t.Errorf("%s: %v %v", path, m["registration_endpoint"], m["client_id_metadata_document_supported"])
			}
		}
	})

	t.Run("17 Basic authentication handled wrongly", func(t *testing.T) {
		s, ada := start(t)
		browser := s.Browser(t)
		basic := func(id, secret string) servertest.Tweak {
			return servertest.Header("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(id+":"+secret)))
		}
		confidential := s.Client(servertest.Confidential)
		agent := s.Agent(t, confidential)
		code := browser.Authorize(agent.Authorization()).Through(ada).Code()
		wrong := basic(agent.ClientID, "wrong")
		agent.Exchange(code, wrong).Refused(http.StatusUnauthorized, "invalid_client")
		agent.Exchange(code, servertest.With("client_id", "mcp_another")).Refused(http.StatusUnauthorized, "invalid_client")
		agent.Exchange(code, servertest.Header("Authorization"), servertest.With("client_id", agent.ClientID)).Refused(http.StatusUnauthorized, "invalid_client")
		agent.Exchange(code, basic(agent.ClientID, agent.Secret), servertest.With("client_id", agent.ClientID)).Tokens() // the code is still good

		public := s.Agent(t, s.Client())
		code = browser.Authorize(public.Authorization()).Through(ada).Code()
		public.Exchange(code, basic(strings.Replace(public.ClientID, "_", "%5F", 1), ""), servertest.Without("client_id")).Tokens()
	})

	t.Run("18 resource rejected or ignored", func(t *testing.T) {
		s, ada := start(t)
		agent := s.Agent(t, s.Client())
		for _, resource := range []string{"", servertest.MCP} {
			agent.Resource = resource
			tokens := agent.Connect(s.Browser(t), ada)
			for _, again := range []servertest.Tweak{servertest.Without("resource"), servertest.With("resource", servertest.MCP), servertest.With("resource", servertest.MCP, servertest.MCP+"/")} {
				tokens = agent.Refresh(tokens.Refresh, again).Tokens()
				if claims := servertest.Claims(t, tokens.Access); claims.Audience != servertest.MCP { // a signed JWT with one audience, or Claims fails
					t.Errorf("aud is %q", claims.Audience)
				}
			}
		}
		agent.Refresh(agent.Connect(s.Browser(t), ada).Refresh, servertest.With("resource", "https://unknown.example.com/")).Refused(http.StatusBadRequest, "invalid_target")
	})

	t.Run("19 CORS missing, or preflight answered 401", func(t *testing.T) {
		s, ada := start(t)
		mcpURL := newMCP(t, s, everything)
		c := newClient(t, s, ada, mcpURL, "2026-07-28")
		c.Header.Set("Origin", "https://app.example.com")
		asked := "authorization, content-type, mcp-protocol-version, mcp-param-x"
		for _, target := range []string{
			mcpURL, originOf(t, mcpURL) + "/.well-known/oauth-protected-resource/mcp", originOf(t, mcpURL) + "/.well-known/nothing", originOf(t, mcpURL) + "/token",
			s.URL + metadataPath, s.URL + "/.well-known/jwks", s.URL + "/oauth2/register", s.URL + "/oauth2/token", s.URL + "/oauth2/revoke",
		} {
			resp, _ := c.send(http.MethodOptions, target, "", nil, "Access-Control-Request-Method", http.MethodPost, "Access-Control-Request-Headers", asked)
			if resp.StatusCode != http.StatusNoContent || resp.Header.Get("Access-Control-Allow-Origin") != "*" || resp.Header.Get("Access-Control-Allow-Headers") != asked {
				t.Errorf("preflight of %s: %d %v", target, resp.StatusCode, resp.Header)
			}
			for _, method := range []string{http.MethodGet, http.MethodPost} { // of which one is an error at most of them
				resp, _ = c.send(method, target, "", nil)
				if resp.Header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(resp.Header.Get("Access-Control-Expose-Headers"), "WWW-Authenticate") {
					t.Errorf("%s %s: %d %v", method, target, resp.StatusCode, resp.Header)
				}
			}
		}
	})

	t.Run("20 CSP form-action blocks the redirect after consent", func(t *testing.T) {
		s, ada := start(t)
		for _, uri := range []string{"http://127.0.0.1:49152/callback", "com.example.agent:/callback", servertest.Callback} {
			agent := s.Agent(t, s.Client(servertest.RedirectURIs(uri)))
			page := s.Browser(t).Authorize(agent.Authorization())
			for _, policy := range []string{page.Header.Get("Content-Security-Policy"), page.SignIn(ada).Header.Get("Content-Security-Policy")} {
				if policy == "" || strings.Contains(policy, "form-action") {
					t.Errorf("%s: Content-Security-Policy is %q", uri, policy)
				}
			}
			answer := s.Browser(t).Authorize(agent.Authorization()).Through(ada)
			if answer.Code(); answer.Status != http.StatusSeeOther {
				t.Errorf("%s: status %d", uri, answer.Status)
			}
		}
	})

	t.Run("21 no usable challenge", func(t *testing.T) {
		s := servertest.Start(t)
		c := newClient(t, s, s.User("ada@example.com"), newMCP(t, s, everything), "2026-07-28")
		at := originOf(t, c.MCP) + "/.well-known/oauth-protected-resource/mcp"
		first := c.challenged(c.call(""), http.StatusUnauthorized)
		if diff := cmp.Diff(map[string]string{"resource_metadata": at, "scope": weather}, first); diff != "" {
			t.Errorf("without a token: %s", diff)
		}
		bad := c.challenged(c.call("no.good.token"), http.StatusUnauthorized)
		if bad["error"] != "invalid_token" || bad["resource_metadata"] != at || bad["error_description"] == "" {
			t.Errorf("with a bad token: %v", bad)
		}
		c.register(s.URL+"/oauth2/register", nil)
		got := c.redeem(s.URL+"/oauth2/token", c.authorize(s.URL+"/oauth2/authorize", nil).Get("code"), nil)
		more := c.challenged(c.call(got.Access, "Tool", "email"), http.StatusForbidden)
		if more["error"] != "insufficient_scope" || more["scope"] != weather+" "+email || more["resource_metadata"] != at {
			t.Errorf("without the scope: %v", more)
		}
	})

	t.Run("22 PKCE support not advertised", func(t *testing.T) {
		s, _ := start(t)
		for _, path := range []string{metadataPath, "/.well-known/openid-configuration"} {
			if m := s.Agent(t, nil).Get(path).JSON(); !slices.Equal(list(m, "code_challenge_methods_supported"), []string{"S256"}) {
				t.Errorf("%s: %v", path, m["code_challenge_methods_supported"])
			}
		}
	})

	t.Run("23 iss missing, unadvertised or different", func(t *testing.T) {
		s, ada := start(t)
		for _, path := range []string{metadataPath, "/.well-known/openid-configuration"} {
			if m := s.Agent(t, nil).Get(path).JSON(); m["authorization_response_iss_parameter_supported"] != true || text(m, "issuer") != s.URL {
				t.Errorf("%s: %v %v", path, m["issuer"], m["authorization_response_iss_parameter_supported"])
			}
		}
		agent := s.Agent(t, s.Client())
		browser := s.Browser(t)
		// Code and Refused compare iss with the issuer.
		browser.Authorize(agent.Authorization(servertest.With("prompt", "none"))).Refused("login_required")
		browser.Authorize(agent.Authorization()).SignIn(ada).Deny().Refused("access_denied")
		browser.Authorize(agent.Authorization()).Through(ada).Code()
	})

	t.Run("24 redirected or non-JSON endpoints", func(t *testing.T) {
		s, _ := start(t)
		stranger := s.Agent(t, nil)
		for _, path := range []string{"/oauth2/token", "/oauth2/token/", "/oauth2//token", "/oauth2/register", "/oauth2/register/", "/oauth2/revoke", "/oauth2/introspect", "/token", "/register", "/.well-known/nothing", "/oauth2/nothing"} {
			for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut} {
				reply := stranger.Get(path, servertest.Method(method))
				if reply.Status < 400 || reply.Status > 499 || reply.Header.Get("Location") != "" ||
					reply.Header.Get("Content-Type") != "application/json" || reply.Header.Get("Cache-Control") != "no-store" || reply.Text("error") == "" {
					t.Errorf("%s %s: %d %v %s", method, path, reply.Status, reply.Header, reply.Body)
				}
			}
		}
		stranger.ClientID = "mcp_unknown"
		stranger.Exchange("x").Refused(http.StatusUnauthorized, "invalid_client")
	})

	t.Run("25 token issued but never used", func(t *testing.T) {
		s := servertest.Start(t)
		mcpURL := newMCP(t, s, everything)
		c := newClient(t, s, s.User("ada@example.com"), mcpURL, "2026-07-28")
		resource := c.find(c.challenged(c.call(""), http.StatusUnauthorized)["resource_metadata"])
		m := c.find(c.issuer(resource) + metadataPath)
		c.register(text(m, "registration_endpoint"), nil)
		target := url.Values{"resource": {text(resource, "resource")}}
		got := c.redeem(text(m, "token_endpoint"), c.authorize(text(m, "authorization_endpoint"), target).Get("code"), target)
		if got.Claims.Audience != mcpURL || got.Claims.Issuer != text(m, "issuer") || text(resource, "resource") != mcpURL {
			t.Errorf("entered %s, described as %v, aud %s, iss %s", mcpURL, resource["resource"], got.Claims.Audience, got.Claims.Issuer)
		}
		c.works(got.Access)
		// What happened to a client is found under its id.
		var done []string
		for _, event := range s.Events("") {
			if event.ClientID == c.ID && event.Outcome == "allowed" {
				done = append(done, event.Action)
			}
		}
		slices.Reverse(done)
		if diff := cmp.Diff([]string{"client.register", "authorize.code", "token.request"}, done); diff != "" {
			t.Error(diff)
		}
	})
}

// registration checks the form of a client information response (RFC 7591 §3.2.1): what was sent is echoed, arrays
// are there, and nothing is null or empty.
func registration(t *testing.T, reply *servertest.Reply, sent map[string]any) {
	t.Helper()
	info := reply.JSON()
	if reply.Status != http.StatusCreated || reply.Header.Get("Cache-Control") != "no-store" || reply.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("registration: %d %v %s", reply.Status, reply.Header, reply.Body)
	}
	for name, value := range info {
		if value == nil || value == "" {
			t.Errorf("%s is %v: it should be left out", name, value)
		}
		if values, ok := value.([]any); ok && (len(values) == 0 || slices.Contains(values, any(nil)) || slices.Contains(values, any(""))) {
			t.Errorf("%s is %v", name, values)
		}
	}
	for _, name := range []string{"redirect_uris", "grant_types", "response_types"} {
		if _, ok := info[name].([]any); !ok {
			t.Errorf("%s is %v", name, info[name])
		}
	}
	for _, name := range []string{"client_id", "token_endpoint_auth_method"} {
		if text(info, name) == "" {
			t.Errorf("%s is missing", name)
		}
	}
	if issued, _ := info["client_id_issued_at"].(float64); issued <= 0 {
		t.Errorf("client_id_issued_at is %v", info["client_id_issued_at"])
	}
	_, secret := info["client_secret"]
	_, expires := info["client_secret_expires_at"]
	if public := text(info, "token_endpoint_auth_method") == "none"; secret == public || expires == public {
		t.Errorf("%s: %s", info["token_endpoint_auth_method"], reply.Body)
	}
	if diff := cmp.Diff(sent["redirect_uris"], any(list(info, "redirect_uris"))); diff != "" {
		t.Errorf("redirect_uris: %s", diff)
	}
}

// site is where a client has its metadata document.
type site struct {
	URL      string         // of the document
	document map[string]any // what it says
	blocked  bool           // strangers get a page of 403
	asked    http.Header    // of the last request
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked = r.Header
		if s.blocked {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, "<title>Are you human?</title>")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(s.document); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(web.Close)
	s.URL = web.URL + "/oauth/client.json"
	return s
}
