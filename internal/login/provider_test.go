package login_test

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
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

// ada is a person at the provider, with a verified address.
var ada = upstreamtest.Claims{"sub": "ada-at-corp", "email": "ada@example.com", "email_verified": true, "name": "Ada"}

// onBoth runs test on both databases.
func onBoth(t *testing.T, test func(*testing.T, storetest.Engine)) {
	for _, engine := range []storetest.Engine{storetest.SQLite, storetest.Postgres} {
		t.Run(string(engine), func(t *testing.T) { test(t, engine) })
	}
}

// weather is servertest.StartWeather on a database of that kind.
func weather(t *testing.T, engine storetest.Engine, edits ...func(*config.Config)) *servertest.Server {
	t.Helper()
	db, clock := storetest.Open(t, engine)
	s := servertest.New(t, db, clock, edits...)
	s.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts")
	return s
}

// visitor is a provider that a browser visits.
type visitor interface{ Visit(location string) string }

// fromElsewhere opens an address as a browser does that another site redirects.
func fromElsewhere(b *servertest.Browser, location string) *servertest.Page {
	return b.Get(location, servertest.Header("Sec-Fetch-Site", "cross-site"))
}

// through goes to the provider from a path of the server, and comes back.
func through(t *testing.T, b *servertest.Browser, at visitor, path string) *servertest.Page {
	t.Helper()
	page := b.Get(path)
	if page.Location == "" {
		t.Fatalf("%s leads to no provider (status %d):\n%s", path, page.Status, page.Body)
	}
	return fromElsewhere(b, at.Visit(page.Location))
}

// way returns the link on a page that begins a sign-in with a provider.
func way(t *testing.T, page *servertest.Page, id string) string {
	t.Helper()
	for _, link := range page.Links() {
		if strings.HasPrefix(link, "/login/"+id) {
			return link
		}
	}
	t.Fatalf("no link to %s:\n%s", id, page.Body)
	return ""
}

// says checks that a page has the status, the text, and a way on: the sign-in form or a link to a provider.
func says(t *testing.T, page *servertest.Page, status int, text string) {
	t.Helper()
	if page.Status != status || !strings.Contains(page.Body, text) {
		t.Errorf("status %d, want %d and %q:\n%s", page.Status, status, text, page.Body)
	}
	if !strings.Contains(page.Body, `href="/login`) && !page.Has("password") {
		t.Errorf("the page has no way on:\n%s", page.Body)
	}
}

// identities returns how many accounts of the provider are connected with the user who has that address.
func userOf(t *testing.T, s *servertest.Server, email string) (user *identity.User, identities int) {
	t.Helper()
	s.Update(func(tx *store.Tx) (err error) {
		if user, err = tx.UserByEmail(email); err != nil {
			return err
		}
		all, err := tx.Identities(user.ID)
		identities = len(all)
		return err
	})
	return user, identities
}

// subject returns the sub of the tokens that an agent gets for a browser that is signed in, or signs in with the
// provider.
func subject(t *testing.T, s *servertest.Server, b *servertest.Browser, at visitor) (sub string, amr any) {
	t.Helper()
	agent := s.Agent(t, s.Client())
	page := b.Authorize(agent.Authorization())
	if page.IsSignIn() {
		forth := page.Follow(way(t, page, "corp"))
		back := fromElsewhere(b, at.Visit(forth.Location))
		page = back
	}
	if !page.IsConsent() {
		t.Fatalf("not the consent page but %s:\n%s", page.URL, page.Body)
	}
	q := page.Allow()
	u, err := url.Parse(q.Location)
	if err != nil {
		t.Fatal(err)
	}
	return claimsOf(t, agent.Exchange(u.Query().Get("code")).Tokens().Access)
}

// claimsOf returns sub and amr of an access token.
func claimsOf(t *testing.T, token string) (sub string, amr any) {
	t.Helper()
	var claims struct {
		Sub string `json:"sub"`
		AMR any    `json:"amr"`
	}
	decodeClaims(t, token, &claims)
	return claims.Sub, claims.AMR
}

// decodeClaims decodes the claims of a token into v.
func decodeClaims(t *testing.T, token string, v any) {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err == nil {
		err = json.Unmarshal(payload, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestProvider(t *testing.T) { onBoth(t, testProvider) }

func testProvider(t *testing.T, engine storetest.Engine) {
	t.Run("a sign-in within a request ends with a token", func(t *testing.T) {
		issuer := upstreamtest.NewIssuer(t, "")
		issuer.SignIn(ada)
		s := weather(t, engine, servertest.Provider(servertest.Corp(issuer.URL)))
		sub, amr := subject(t, s, s.Browser(t), issuer)
		user, n := userOf(t, s, "ada@example.com")
		if sub != user.ID || n != 1 || user.Name != "Ada" || fmt.Sprint(amr) != "[fed]" {
			t.Errorf("sub %s, amr %v, user %+v with %d identities", sub, amr, user, n)
		}
		again, _ := subject(t, s, s.Browser(t), issuer)
		if again != sub {
			t.Errorf("the second sign-in is of %s, the first of %s", again, sub)
		}
	})
	t.Run("a sign-in without a request, and a reload of the callback, which shows where to go on", func(t *testing.T) {
		issuer := upstreamtest.NewIssuer(t, "")
		issuer.SignIn(ada)
		s := weather(t, engine, servertest.Provider(servertest.Corp(issuer.URL)))
		b := s.Browser(t)
		callback := issuer.Visit(b.Get("/login/corp?return=/account").Location)
		page := fromElsewhere(b, callback)
		if at := strings.TrimPrefix(page.URL, s.URL); at != "/account" {
			t.Errorf("the sign-in leads to %s", at)
		}
		if _, ok := b.Cookies()["cardea_session"]; !ok {
			t.Fatal("nobody is signed in")
		}
		before := b.Cookies()["cardea_session"]
		again := fromElsewhere(b, callback)
		if again.Status != http.StatusOK || !strings.Contains(again.Body, `href="/account"`) ||
			b.Cookies()["cardea_session"] != before {
			t.Errorf("the reload: status %d, another session: %t\n%s", again.Status,
				b.Cookies()["cardea_session"] != before, again.Body)
		}
		b.SetCookie("cardea_session", "")
		if over := fromElsewhere(b, callback); over.Status != http.StatusForbidden || signedIn(b) {
			t.Errorf("a replay after the end of the session: status %d, signed in: %t", over.Status, signedIn(b))
		}
	})
	t.Run("GitHub's form", func(t *testing.T) {
		hub := upstreamtest.NewGitHub(t)
		hub.SignIn(upstreamtest.GitHubAccount{ID: 42, Login: "ada", Emails: []upstreamtest.Claims{
			{"email": "other@example.com", "primary": false, "verified": true},
			{"email": "ada@example.com", "primary": true, "verified": true}}})
		c := servertest.Corp(hub.URL)
		c.Preset = "github"
		s := weather(t, engine, servertest.Provider(c))
		sub, _ := subject(t, s, s.Browser(t), hub)
		if user, _ := userOf(t, s, "ada@example.com"); user.ID != sub || user.Name != "ada" {
			t.Errorf("sub %s, user %+v", sub, user)
		}
	})
	t.Run("Microsoft's issuers of many tenants", func(t *testing.T) {
		const mine, other = "0a1b2c3d-0000-1111-2222-333344445555", "0a1b2c3d-9999-1111-2222-333344445555"
		issuer := upstreamtest.NewIssuer(t, "/common/v2.0")
		base := strings.TrimSuffix(issuer.URL, "/common/v2.0")
		issuer.SignIn(upstreamtest.Claims{"sub": "ada", "tid": mine, "email": "ada@example.com", "xms_edov": true})
		iss := base + "/" + mine + "/v2.0"
		misbehave := func() {
			issuer.Misbehave(upstreamtest.Hooks{
				Discovery: func(m map[string]any) {
					m["issuer"] = base + "/{tenantid}/v2.0"
					delete(m, "authorization_response_iss_parameter_supported")
				},
				Response: func(q url.Values) { q.Del("iss") },
				IDToken:  func(c upstreamtest.Claims) { c["iss"] = iss },
			})
		}
		misbehave()
		c := servertest.Corp(issuer.URL)
		c.Preset = "microsoft"
		s := weather(t, engine, servertest.Provider(c))
		sub, _ := subject(t, s, s.Browser(t), issuer)
		if user, _ := userOf(t, s, "ada@example.com"); user.ID != sub {
			t.Errorf("sub %s, user %s", sub, user.ID)
		}
		for _, iss = range []string{base + "/" + other + "/v2.0", base + "/common/v2.0",
			"https://evil.example/" + mine + "/v2.0"} {
			b := s.Browser(t)
			says(t, through(t, b, issuer, "/login/corp"), http.StatusForbidden, "was not valid")
		}
	})
}

// LG-29: nothing but the provider's own answer to this browser's own trip signs anybody in.
func TestLG29Callback(t *testing.T) { onBoth(t, testLG29Callback) }

func testLG29Callback(t *testing.T, engine storetest.Engine) {
	issuer := upstreamtest.NewIssuer(t, "")
	evil := upstreamtest.NewIssuer(t, "")
	issuer.SignIn(ada)
	evil.SignIn(upstreamtest.Claims{"sub": "ada-at-corp", "email": "ada@example.com", "email_verified": true})
	other := servertest.Corp(evil.URL)
	other.ID, other.Name = "evil", "Evil"
	s := weather(t, engine, servertest.Provider(servertest.Corp(issuer.URL)), servertest.Provider(other))

	callback := func(b *servertest.Browser) (*url.URL, url.Values) {
		u, err := url.Parse(issuer.Visit(b.Get("/login/corp").Location))
		if err != nil {
			t.Fatal(err)
		}
		return u, u.Query()
	}
	for name, change := range map[string]func(b *servertest.Browser, q url.Values) *servertest.Browser{
		"state missing": func(b *servertest.Browser, q url.Values) *servertest.Browser { q.Del("state"); return b },
		"state altered": func(b *servertest.Browser, q url.Values) *servertest.Browser {
			q.Set("state", q.Get("state")+"A")
			return b
		},
		"state with another request": func(b *servertest.Browser, q url.Values) *servertest.Browser {
			q.Set("state", q.Get("state")+".abc")
			return b
		},
		"state of another browser": func(_ *servertest.Browser,
			q url.Values) *servertest.Browser {
			return s.Browser(t)
		},
		"state of another browser that has been here": func(_ *servertest.Browser, q url.Values) *servertest.Browser {
			b := s.Browser(t)
			b.Get("/login")
			return b
		},
		"state of another provider": func(b *servertest.Browser, q url.Values) *servertest.Browser {
			u, _ := url.Parse(b.Get("/login/evil").Location)
			q.Set("state", u.Query().Get("state"))
			return b
		},
		"state after its time": func(b *servertest.Browser, q url.Values) *servertest.Browser {
			s.Clock.Advance(31 * time.Minute)
			return b
		},
		"another iss": func(b *servertest.Browser,
			q url.Values) *servertest.Browser {
			q.Set("iss", evil.URL)
			return b
		},
		"no iss, although promised": func(b *servertest.Browser,
			q url.Values) *servertest.Browser {
			q.Del("iss")
			return b
		},
		"another code": func(b *servertest.Browser, q url.Values) *servertest.Browser { q.Set("code", "x"); return b },
		"no code":      func(b *servertest.Browser, q url.Values) *servertest.Browser { q.Del("code"); return b },
		"code of another browser's sign-in": func(b *servertest.Browser, q url.Values) *servertest.Browser {
			_, theirs := callback(s.Browser(t))
			q.Set("code", theirs.Get("code"))
			return b
		},
		"code of another provider": func(b *servertest.Browser, q url.Values) *servertest.Browser {
			u, _ := url.Parse(evil.Visit(b.Get("/login/evil").Location))
			q.Set("code", u.Query().Get("code"))
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := s.Browser(t)
			u, q := callback(b)
			b = change(b, q)
			u.RawQuery = q.Encode()
			says(t, fromElsewhere(b, u.String()), http.StatusForbidden, "")
			if signedIn(b) {
				t.Error("somebody is signed in")
			}
		})
	}
	t.Run("a parameter twice", func(t *testing.T) {
		b := s.Browser(t)
		u, _ := callback(b)
		if page := fromElsewhere(b, u.String()+"&code=x"); page.Status != http.StatusBadRequest || signedIn(b) {
			t.Errorf("status %d", page.Status)
		}
	})
	t.Run("the sign-in has another session id than the browser had", func(t *testing.T) {
		b := s.Browser(t)
		b.SetCookie("cardea_session", "fixed")
		through(t, b, issuer, "/login/corp")
		if now := b.Cookies()["cardea_session"]; now == "fixed" || now == "" {
			t.Errorf("the session is %q", now)
		}
	})
	for name, hooks := range map[string]upstreamtest.Hooks{
		"ID token: another nonce": {IDToken: func(c upstreamtest.Claims) { c["nonce"] = "x" }},
		"ID token: no nonce":      {IDToken: func(c upstreamtest.Claims) { delete(c, "nonce") }},
		"ID token: another iss":   {IDToken: func(c upstreamtest.Claims) { c["iss"] = evil.URL }},
		"ID token: another aud":   {IDToken: func(c upstreamtest.Claims) { c["aud"] = "other" }},
		"ID token: for another azp": {IDToken: func(c upstreamtest.Claims) {
			c["aud"] = []string{"cardea", "other"}
			c["azp"] = "other"
		}},
		"ID token: many aud, no azp": {IDToken: func(c upstreamtest.Claims) {
			c["aud"] = []string{"cardea", "other"}
		}},
		"ID token: expired": {IDToken: func(c upstreamtest.Claims) {
			c["exp"] = time.Now().Add(-time.Hour).Unix()
		}},
		"ID token: no exp":               {IDToken: func(c upstreamtest.Claims) { delete(c, "exp") }},
		"ID token: no sub":               {IDToken: func(c upstreamtest.Claims) { delete(c, "sub") }},
		"ID token: signed by a stranger": {Key: upstreamtest.NewKey(t)},
		"userinfo of another sub": {IDToken: func(c upstreamtest.Claims) { delete(c, "email") },
			UserInfo: func(c upstreamtest.Claims) { c["sub"] = "eve" }},
	} {
		t.Run(name, func(t *testing.T) {
			issuer.Misbehave(hooks)
			b := s.Browser(t)
			says(t, through(t, b, issuer, "/login/corp"), http.StatusForbidden, "was not valid")
			if signedIn(b) {
				t.Error("somebody is signed in")
			}
		})
	}
}

// A provider that is away, slow, too big or wrong signs nobody in, and the page says so.
func TestProviderFails(t *testing.T) { onBoth(t, testProviderFails) }

func testProviderFails(t *testing.T, engine storetest.Engine) {
	tests := map[string]struct {
		hooks  func(done <-chan struct{}) upstreamtest.Hooks
		secret string
		status int
		says   string
	}{
		"huge metadata": {func(<-chan struct{}) upstreamtest.Hooks {
			return upstreamtest.Hooks{Discovery: func(m map[string]any) { m["x"] = strings.Repeat("x", 2<<20) }}
		}, "", 503, "Corp cannot be reached"},
		"another issuer in the metadata": {func(<-chan struct{}) upstreamtest.Hooks {
			return upstreamtest.Hooks{Discovery: func(m map[string]any) { m["issuer"] = "https://evil.example" }}
		}, "", 503, "Corp cannot be reached"},
		"a token endpoint without https": {func(<-chan struct{}) upstreamtest.Hooks {
			return upstreamtest.Hooks{Discovery: func(m map[string]any) {
				m["token_endpoint"] = "http://evil.example/token"
			}}
		}, "", 503, "Corp cannot be reached"},
		"a huge token response": {func(<-chan struct{}) upstreamtest.Hooks {
			return upstreamtest.Hooks{Answer: func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, "/token") {
					_, _ = w.Write([]byte(`{"access_token":"` + strings.Repeat("x", 2<<20) + `"}`))
					return true
				}
				return false
			}}
		}, "", 503, "Corp cannot be reached"},
		"a token endpoint that redirects": {func(<-chan struct{}) upstreamtest.Hooks {
			return upstreamtest.Hooks{Answer: func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, "/token") {
					http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
					return true
				}
				return false
			}}
		}, "", 503, "Corp cannot be reached"},
		"a client that is not accepted": {nil, "another secret", 403, "in the audit log"},
		"a person who does not sign in": {func(<-chan struct{}) upstreamtest.Hooks {
			return upstreamtest.Hooks{Response: func(q url.Values) { q.Del("code"); q.Set("error", "access_denied") }}
		}, "", 403, "You did not sign in with Corp"},
		"a provider that fails": {func(<-chan struct{}) upstreamtest.Hooks {
			return upstreamtest.Hooks{Response: func(q url.Values) { q.Del("code"); q.Set("error", "server_error") }}
		}, "", 503, "Corp cannot be reached"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			issuer := upstreamtest.NewIssuer(t, "")
			issuer.SignIn(ada)
			c := servertest.Corp(issuer.URL)
			if tt.secret != "" {
				c.ClientSecret = tt.secret
			}
			s := weather(t, engine, servertest.Provider(c))
			s.MayFault = true // 503 is the provider's fault, and the page's status
			if tt.hooks != nil {
				issuer.Misbehave(tt.hooks(t.Context().Done()))
			}
			b := s.Browser(t)
			page := b.Authorize(s.Agent(t, s.Client()).Authorization())
			page = page.Follow(way(t, page, "corp"))
			if page.Location != "" {
				page = fromElsewhere(b, issuer.Visit(page.Location))
			}
			says(t, page, tt.status, tt.says)
			if !page.Has("request") {
				t.Error("the page has lost the request")
			}
		})
	}
	t.Run("a provider that is away", func(t *testing.T) {
		issuer := upstreamtest.NewIssuer(t, "")
		s := weather(t, engine, servertest.Provider(servertest.Corp(issuer.URL)))
		s.MayFault = true
		issuer.Stop()
		says(t, s.Browser(t).Get("/login/corp"), http.StatusServiceUnavailable, "Corp cannot be reached")
	})
}

// LG-30: an address joins an account only if it is verified on both sides and the configuration says so.
func TestLG30Link(t *testing.T) { onBoth(t, testLG30Link) }

func testLG30Link(t *testing.T, engine storetest.Engine) {
	for name, tt := range map[string]struct {
		link     string
		here     bool
		verified any
		joins    bool
	}{
		"verified on both sides":    {upstream.LinkVerified, true, true, true},
		"not verified there":        {upstream.LinkVerified, true, false, false},
		"not said to be verified":   {upstream.LinkVerified, true, nil, false},
		"verified as a string":      {upstream.LinkVerified, true, "true", false},
		"verified as a number":      {upstream.LinkVerified, true, 1, false},
		"typed here by an operator": {upstream.LinkVerified, false, true, false},
		"link: never":               {upstream.LinkNever, true, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			issuer := upstreamtest.NewIssuer(t, "")
			claims := upstreamtest.Claims{"sub": "ada-at-corp", "email": "Ada@Example.com", "name": "Ada"}
			if tt.verified != nil {
				claims["email_verified"] = tt.verified
			}
			issuer.SignIn(claims)
			s := weather(t, engine,
				servertest.Provider(servertest.Corp(issuer.URL), func(c *upstream.Config) { c.Link = tt.link }))
			local := s.User("ada@example.com")
			if tt.here {
				s.Update(func(tx *store.Tx) error { return tx.VerifyEmail(local.ID, local.Email) })
			}
			sub, _ := subject(t, s, s.Browser(t), issuer)
			user, n := userOf(t, s, "ada@example.com")
			if user.ID != local.ID || (sub == local.ID) != tt.joins || (n == 1) != tt.joins {
				t.Errorf("the sign-in is of %s; %s is %s, with %d identities", sub, local.Email, user.ID, n)
			}
		})
	}
	t.Run("People, settled: a second sub with the same address is another person", func(t *testing.T) {
		issuer := upstreamtest.NewIssuer(t, "")
		s := weather(t, engine, servertest.Provider(servertest.Corp(issuer.URL),
			func(c *upstream.Config) { c.Link = upstream.LinkVerified }))
		local := s.User("ada@example.com")
		s.Update(func(tx *store.Tx) error { return tx.VerifyEmail(local.ID, local.Email) })
		issuer.SignIn(ada)
		first, _ := subject(t, s, s.Browser(t), issuer)
		issuer.SignIn(upstreamtest.Claims{"sub": "eve", "email": "ada@example.com", "email_verified": true})
		second, _ := subject(t, s, s.Browser(t), issuer)
		if first != local.ID || second == first {
			t.Errorf("%s and %s; the account is %s", first, second, local.ID)
		}
	})
}

func TestPeopleSettled(t *testing.T) { onBoth(t, testPeopleSettled) }

func testPeopleSettled(t *testing.T, engine storetest.Engine) {
	start := func(t *testing.T, edits ...func(*upstream.Config)) (*upstreamtest.Issuer, *servertest.Server) {
		issuer := upstreamtest.NewIssuer(t, "")
		issuer.SignIn(ada)
		return issuer, weather(t, engine, servertest.Provider(servertest.Corp(issuer.URL), edits...))
	}
	t.Run("create: false lets in nobody who is not known", func(t *testing.T) {
		issuer, s := start(t, func(c *upstream.Config) { c.Create = false })
		says(t, through(t, s.Browser(t), issuer, "/login/corp"), http.StatusForbidden, "No account here is connected")
	})
	t.Run("domains let in verified addresses of these domains, in their xn-- form", func(t *testing.T) {
		issuer, s := start(t, func(c *upstream.Config) { c.Domains = []string{"bücher.example"} })
		for email, in := range map[string]bool{
			"ada@bücher.example": true, "ada@xn--bcher-kva.example": true, "ada@BÜCHER.example": true,
			"ada@example.com": false, "ada@x.bücher.example": false, "ada@bücher.example.evil.example": false,
			"bücher.example": false, "": false,
		} {
			for _, verified := range []any{true, false} {
				issuer.SignIn(upstreamtest.Claims{"sub": "sub of " + email, "email": email, "email_verified": verified})
				b := s.Browser(t)
				page := through(t, b, issuer, "/login/corp")
				if signedIn(b) != (in && verified == true) {
					t.Errorf("%s, verified %v: signed in %t", email, verified, signedIn(b))
				}
				if !in || verified == false {
					says(t, page, http.StatusForbidden, "verified e-mail address at bücher.example")
				}
			}
		}
	})
	t.Run("who types an address of such a domain is led to the provider, known here or not", func(t *testing.T) {
		_, s := start(t, func(c *upstream.Config) { c.Domains = []string{"bücher.example"} })
		s.User("ada@bücher.example")
		for _, email := range []string{"ada@bücher.example", "eve@XN--bcher-KVA.example"} {
			page := s.Browser(t).Authorize(s.Agent(t, s.Client()).Authorization())
			led := page.SignIn(&servertest.Person{Email: email, Password: servertest.Password})
			u, err := url.Parse(led.Location)
			if err != nil || u.Path != "/authorize" || u.Query().Get("login_hint") != email ||
				!strings.Contains(u.Query().Get("state"), ".") {
				t.Errorf("%s leads to %s", email, led.Location)
			}
		}
		other := s.User("ada@example.com")
		if b := s.Browser(t); b.Get("/login").SignIn(other).Location != "" || !signedIn(b) {
			t.Error("another address does not sign in here")
		}
	})
	t.Run("an address that is not verified, or another's, is not the account's", func(t *testing.T) {
		issuer, s := start(t)
		local := s.User("eve@example.com")
		for sub, claims := range map[string]upstreamtest.Claims{
			"one":   {"email": "boss@example.com", "email_verified": false, "name": "Not the boss"},
			"two":   {"email": local.Email, "email_verified": true, "name": "Eve"},
			"three": {"email": "not an address", "email_verified": true},
			"four":  {},
		} {
			claims["sub"] = sub
			issuer.SignIn(claims)
			id, _ := subject(t, s, s.Browser(t), issuer)
			s.Update(func(tx *store.Tx) error {
				u, err := tx.User(id)
				if err == nil && (u.Email != "" || u.ID == local.ID) {
					t.Errorf("%s has the address %q", sub, u.Email)
				}
				return err
			})
		}
	})
	t.Run("a provider may change its keys at any time", func(t *testing.T) {
		issuer, s := start(t)
		for range 2 {
			b := s.Browser(t)
			if through(t, b, issuer, "/login/corp"); !signedIn(b) {
				t.Error("the person is not signed in")
			}
			issuer.ChangeKey()
		}
	})
	t.Run("a deleted person's sub is another account", func(t *testing.T) {
		issuer, s := start(t)
		first, _ := subject(t, s, s.Browser(t), issuer)
		s.Update(func(tx *store.Tx) error { return tx.DeleteUser(first) })
		if second, _ := subject(t, s, s.Browser(t), issuer); second == first {
			t.Error("the account has come back")
		}
	})
	t.Run("a disabled account does not sign in", func(t *testing.T) {
		issuer, s := start(t)
		id, _ := subject(t, s, s.Browser(t), issuer)
		s.Update(func(tx *store.Tx) error { return tx.DisableUser(id) })
		b := s.Browser(t)
		says(t, through(t, b, issuer, "/login/corp"), http.StatusForbidden, "disabled")
		if signedIn(b) {
			t.Error("signed in")
		}
	})
	t.Run("another issuer under the same id knows nobody", func(t *testing.T) {
		db, clock := storetest.Open(t, engine)
		one, two := upstreamtest.NewIssuer(t, ""), upstreamtest.NewIssuer(t, "")
		one.SignIn(ada)
		two.SignIn(ada)
		s := servertest.New(t, db, clock, servertest.Provider(servertest.Corp(one.URL)))
		s.Resource(servertest.MCP, "*mcp:tools:weather")
		first, _ := subject(t, s, s.Browser(t), one)
		moved := servertest.New(t, db, clock, servertest.Provider(servertest.Corp(two.URL)))
		if second, _ := subject(t, moved, moved.Browser(t), two); second == first {
			t.Error("the sub of another issuer is the same person")
		}
	})
	t.Run("groups follow the provider at each sign-in, and others stay", func(t *testing.T) {
		db, clock := storetest.Open(t, engine)
		issuer := upstreamtest.NewIssuer(t, "")
		if err := db.Update(t.Context(), func(tx *store.Tx) error {
			for _, name := range []string{"staff", "chess", "admins"} {
				if err := tx.CreateGroup(&identity.Group{ID: oauth.NewID("grp_"), Name: name,
					CreatedAt: tx.Now()}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		s := servertest.New(t, db, clock, servertest.Provider(servertest.Corp(issuer.URL), func(c *upstream.Config) {
			c.GroupsClaim = "realm.groups"
			c.GroupMap = map[string]string{"Engineering": "staff", "Everybody": "staff", "Root": "admins"}
		}))
		s.Resource(servertest.MCP, "*mcp:tools:weather")
		for _, step := range []struct {
			there any
			want  string
		}{
			{[]string{"Engineering", "Root", "chess"}, "[admins staff]"},
			{[]string{"Everybody"}, "[chess staff]"},
			{"Root", "[admins chess]"},
			{nil, "[chess]"},
		} {
			claims := upstreamtest.Claims{"sub": "ada"}
			if step.there != nil {
				claims["realm"] = map[string]any{"groups": step.there}
			}
			issuer.SignIn(claims)
			id, _ := subject(t, s, s.Browser(t), issuer)
			s.Update(func(tx *store.Tx) error {
				groups, err := tx.UserGroups(id)
				if got := fmt.Sprint(groups[id]); got != step.want {
					t.Errorf("%v there is %s here, want %s", step.there, got, step.want)
				}
				chess, err2 := tx.Group("chess")
				if err2 == nil {
					_, err2 = tx.AddMember(chess.ID, id) // by an operator
				}
				return cmp.Or(err, err2)
			})
		}
	})
	t.Run("parallel first sign-ins make one account", func(t *testing.T) {
		issuer, s := start(t)
		callbacks := make([]string, 8)
		browsers := make([]*servertest.Browser, len(callbacks))
		for i := range callbacks {
			browsers[i] = s.Browser(t)
			callbacks[i] = issuer.Visit(browsers[i].Get("/login/corp").Location)
		}
		var wait sync.WaitGroup
		for i, b := range browsers {
			wait.Go(func() { fromElsewhere(b, callbacks[i]) })
		}
		wait.Wait()
		for _, b := range browsers {
			if !signedIn(b) {
				t.Error("a browser is not signed in")
			}
		}
		if _, n := userOf(t, s, "ada@example.com"); n != 1 {
			t.Errorf("%d identities", n)
		}
	})
}

// The sign-in page begins with the method that was used last with the browser.
func TestLastMethod(t *testing.T) {
	issuer := upstreamtest.NewIssuer(t, "")
	issuer.SignIn(ada)
	s := servertest.StartWeather(t, servertest.Provider(servertest.Corp(issuer.URL)))
	person, b := s.User("bob@example.com"), s.Browser(t)
	const mark = "last used"
	if page := b.Get("/login"); strings.Contains(page.Body, mark) {
		t.Errorf("a method is marked before any was used:\n%s", page.Body)
	}
	signOut := func() { page := b.Get("/logout"); page.Submit(page.Forms()[0]) }
	through(t, b, issuer, "/login/corp")
	signOut()
	page := b.Get("/login")
	at := strings.Index(page.Body, mark)
	if at < 0 || at > strings.Index(page.Body, `name="password"`) ||
		strings.Count(page.Body, "Continue with Corp") != 1 {
		t.Errorf("the provider is not offered first:\n%s", page.Body)
	}
	page.SignIn(person)
	signOut()
	if page := b.Get("/login"); strings.Contains(page.Body, mark) {
		t.Errorf("the provider is still marked:\n%s", page.Body)
	}
}

// When a person signed in at the provider is what it says, and what a request demands travels there and is checked
// (OpenID Connect Core §3.1.2.1, §3.1.3.7).
func TestProviderAuthTime(t *testing.T) { onBoth(t, testProviderAuthTime) }

func testProviderAuthTime(t *testing.T, engine storetest.Engine) {
	issuer := upstreamtest.NewIssuer(t, "")
	s := weather(t, engine, servertest.Provider(servertest.Corp(issuer.URL)))
	ago := func(d time.Duration) *int64 { at := s.Clock.Now().Add(-d).Unix(); return &at }
	for name, c := range map[string]struct {
		ask            [2]string // a parameter of the authorization request
		maxAge, prompt string    // what the provider is sent
		said           any       // auth_time; nil: nothing
		want           *int64    // auth_time of the token; nil: the sign-in is refused
		refused        string
	}{
		"it is in the token": {said: ago(5 * time.Hour), want: ago(5 * time.Hour)},
		"with a fraction":    {said: float64(*ago(time.Hour)) + 0.5, want: ago(time.Hour)},
		"not said":           {want: ago(0)},
		"null":               {said: json.RawMessage("null"), want: ago(0)},
		"a little ahead":     {said: ago(-30 * time.Second), want: ago(0)},
		"ahead":              {said: ago(-time.Hour), refused: "was not valid"},
		"not a time":         {said: "yesterday", refused: "was not valid"},
		"negative":           {said: -5, refused: "was not valid"},
		"LG-14 max_age": {ask: [2]string{"max_age", "3600"}, maxAge: "3600",
			said: ago(30 * time.Minute), want: ago(30 * time.Minute)},
		"LG-14 max_age, and too long ago": {ask: [2]string{"max_age", "3600"}, maxAge: "3600",
			said: ago(2 * time.Hour), refused: "does not say that you signed in just now"},
		"LG-14 max_age, and it is not said": {ask: [2]string{"max_age", "3600"}, maxAge: "3600",
			refused: "does not say that you signed in just now"},
		"LG-14 max_age=0": {ask: [2]string{"max_age", "0"}, maxAge: "0", said: ago(time.Minute),
			refused: "does not say that you signed in just now"},
		"LG-14 prompt=login": {ask: [2]string{"prompt", "login"}, prompt: "login", said: ago(0),
			want: ago(0)},
		"LG-14 prompt=login, and it did not": {ask: [2]string{"prompt", "login"}, prompt: "login",
			said: ago(time.Minute), refused: "does not say that you signed in just now"},
		"LG-14 prompt=login, and not said": {ask: [2]string{"prompt", "login"}, prompt: "login", want: ago(0)},
		"LG-14 a second of rounding is given": {ask: [2]string{"max_age", "0"}, maxAge: "0", said: ago(time.Second),
			want: ago(0)},
	} {
		t.Run(name, func(t *testing.T) {
			claims := upstreamtest.Claims{"sub": "ada-at-corp", "email": "ada@example.com", "email_verified": true}
			if at, ok := c.said.(*int64); ok {
				claims["auth_time"] = *at
			} else if c.said != nil {
				claims["auth_time"] = c.said
			}
			issuer.SignIn(claims)
			agent, b := s.Agent(t, s.Client()), s.Browser(t)
			params := agent.Authorization()
			if c.ask[0] != "" {
				params.Set(c.ask[0], c.ask[1])
			}
			page := b.Authorize(params)
			page = page.Follow(way(t, page, "corp"))
			u, err := url.Parse(page.Location)
			if err != nil {
				t.Fatal(err)
			}
			if q := u.Query(); q.Get("max_age") != c.maxAge || q.Get("prompt") != c.prompt {
				t.Errorf("the provider gets max_age %q and prompt %q, want %q and %q", q.Get("max_age"),
					q.Get("prompt"), c.maxAge, c.prompt)
			}
			page = fromElsewhere(b, issuer.Visit(page.Location))
			if c.want == nil {
				says(t, page, http.StatusForbidden, c.refused)
				if signedIn(b) {
					t.Error("somebody is signed in")
				}
				return
			}
			if !page.IsConsent() {
				t.Fatalf("%d %s", page.Status, page.Body)
			}
			if u, err = url.Parse(page.Allow().Location); err != nil {
				t.Fatal(err)
			}
			var token struct {
				AuthTime int64 `json:"auth_time"`
			}
			decodeClaims(t, agent.Exchange(u.Query().Get("code")).Tokens().Access, &token)
			if token.AuthTime != *c.want {
				t.Errorf("auth_time is %d, want %d", token.AuthTime, *c.want)
			}
		})
	}
	t.Run("LG-14 GitHub says nothing of it", func(t *testing.T) {
		hub := upstreamtest.NewGitHub(t)
		hub.SignIn(upstreamtest.GitHubAccount{ID: 42, Login: "ada"})
		c := servertest.Corp(hub.URL)
		c.Preset = "github"
		s := weather(t, engine, servertest.Provider(c))
		b := s.Browser(t)
		page := b.Authorize(s.Agent(t, s.Client()).Authorization(servertest.With("max_age", "60")))
		page = fromElsewhere(b, hub.Visit(page.Follow(way(t, page, "corp")).Location))
		says(t, page, http.StatusForbidden, "does not say that you signed in just now")
	})
}

// LG-30: addresses that are counted as one, or look like one, join nobody's account.
func TestLG30Lookalikes(t *testing.T) { onBoth(t, testLG30Lookalikes) }

func testLG30Lookalikes(t *testing.T, engine storetest.Engine) {
	issuer := upstreamtest.NewIssuer(t, "")
	s := weather(t, engine, servertest.Provider(servertest.Corp(issuer.URL), func(c *upstream.Config) { c.Link = upstream.LinkVerified }))
	for here, there := range map[string]string{
		"strasse@example.com": "straße@example.com", "mike@example.com": "m\u0131ke@example.com",
		"bob@example.com": "b\u043eb@example.com", "eve@example.com": "eve@ex\u0430mple.com",
		"carol@example.com": "carol@xn--exmple-4nf.com", "dan@strasse.example": "dan@straße.example",
		"frank@example.com": "frank@example.com.evil.example", "grace@example.com": "grace@example.com\u200b",
	} {
		who := s.User(here)
		s.Update(func(tx *store.Tx) error { return tx.VerifyEmail(who.ID, here) })
		issuer.SignIn(upstreamtest.Claims{"sub": "of " + there, "email": there, "email_verified": true})
		through(t, s.Browser(t), issuer, "/login/corp")
		if _, n := userOf(t, s, here); n != 0 {
			t.Errorf("%s was joined by %s", here, there)
		}
		s.Update(func(tx *store.Tx) error {
			made, err := tx.Identity("corp", issuer.URL, "of "+there)
			if err != nil {
				return err
			}
			u, err := tx.User(made.UserID)
			if err == nil && u.Email != "" &&
				(strings.ContainsAny(u.Email, "\u043e\u0430\u200b") || strings.Contains(u.Email, "4nf")) {
				t.Errorf("operators see %q", u.Email)
			}
			return err
		})
	}
	issuer.SignIn(upstreamtest.Claims{"sub": "of\uFFFD"})
	through(t, s.Browser(t), issuer, "/login/corp")
	issuer.SignIn(upstreamtest.Claims{"sub": "of\x00"}) // which databases would store as the one before
	says(t, through(t, s.Browser(t), issuer, "/login/corp"), http.StatusForbidden, "cannot be stored here")
	who := s.User("Rose@example.com")
	s.Update(func(tx *store.Tx) error { return tx.VerifyEmail(who.ID, "Rose@example.com") })
	issuer.SignIn(upstreamtest.Claims{"sub": "rose", "email": "ROSE@example.com", "email_verified": true})
	through(t, s.Browser(t), issuer, "/login/corp")
	if _, n := userOf(t, s, "rose@example.com"); n != 1 {
		t.Error("the same address in other letter cases does not join")
	}
}
