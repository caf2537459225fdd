package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/fetch"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// publisher is a client's web site, which serves its metadata document.
type publisher struct {
	URL string // of the document: its client_id
	t   testing.TB

	mu      sync.Mutex
	answer  http.HandlerFunc
	fetches atomic.Int64
}

// publish starts a publisher whose document is the shortest valid one, changed by members.
func publish(t testing.TB, members map[string]any) *publisher {
	t.Helper()
	p := &publisher{t: t}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.fetches.Add(1)
		p.mu.Lock()
		answer := p.answer
		p.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(web.Close)
	p.URL = web.URL + "/agent/client.json"
	p.say(members)
	return p
}

// document returns the shortest valid document for the publisher's URL, changed by members; nil removes a member.
func (p *publisher) document(members map[string]any) string {
	doc := map[string]any{
		"client_id":                  p.URL,
		"client_name":                "Documented agent",
		"redirect_uris":              []string{servertest.Callback},
		"grant_types":                []string{"authorization_code", "refresh_token"},
		"token_endpoint_auth_method": "none",
	}
	for name, value := range members {
		if doc[name] = value; value == nil {
			delete(doc, name)
		}
	}
	text, err := json.Marshal(doc)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}

// say publishes the shortest valid document, changed by members.
func (p *publisher) say(members map[string]any) {
	p.text("application/json", p.document(members))
}

// text publishes text as the document.
func (p *publisher) text(mediaType, text string) {
	p.do(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Cache-Control", "max-age=300")
		_, _ = w.Write([]byte(text))
	})
}

func (p *publisher) do(answer http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

// fetched fails the test unless the document was fetched n times since the last call.
func (p *publisher) fetched(n int64) {
	p.t.Helper()
	if got := p.fetches.Swap(0); got != n {
		p.t.Errorf("the document was fetched %d times, want %d", got, n)
	}
}

// loopback makes the server accept documents on loopback hosts.
func loopback(c *config.Config) { c.Registration.AllowLoopback = true }

// agentOf returns an agent whose client_id is the publisher's URL.
func agentOf(t testing.TB, s *servertest.Server, p *publisher) *servertest.Agent {
	a := s.Agent(t, nil)
	a.ClientID = p.URL
	return a
}

func TestDocument(t *testing.T) {
	s := servertest.StartWeather(t, loopback)
	ada := s.User("ada@example.com")
	t.Run("a client that nobody registered", func(t *testing.T) {
		p := publish(t, nil)
		agent := agentOf(t, s, p)
		page := s.Browser(t).Authorize(agent.Authorization()).SignIn(ada)
		host := strings.TrimPrefix(p.URL, "http://")
		host = host[:strings.IndexByte(host, '/')]
		for _, want := range []string{"Documented agent", host, "unverified", "agent.example.com"} {
			if !strings.Contains(page.Body, want) {
				t.Errorf("the consent page does not show %q", want)
			}
		}
		tokens := agent.Exchange(page.Allow("mcp:tools:weather").Code()).Tokens()
		if claims := servertest.Claims(t, tokens.Access); claims.ClientID != p.URL {
			t.Errorf("client_id is %q, want the URL", claims.ClientID)
		}
		agent.Refresh(tokens.Refresh).Tokens()
		p.fetched(1)
		if c := s.ClientOf(p.URL); c.Origin != oauth.ByDocument || c.Approved() {
			t.Errorf("stored as %+v, want the origin document without an approval", c)
		}
	})
	t.Run("CM-05 a query", func(t *testing.T) {
		p := publish(t, nil)
		agent := agentOf(t, s, p)
		agent.ClientID += "?x=1"
		s.Browser(t).Authorize(agent.Authorization()).ErrorPage(http.StatusBadRequest)
		p.fetched(0)
	})
	for name, id := range map[string]func(*url.URL) string{
		"CM-01 http, not on loopback": func(*url.URL) string { return "http://client.example/client.json" },
		"CM-02 no path":               func(u *url.URL) string { return "http://" + u.Host },
		"CM-02 the root":              func(u *url.URL) string { return "http://" + u.Host + "/" },
		"CM-04 a fragment":            func(u *url.URL) string { return u.String() + "#x" },
		"CM-04 a user":                func(u *url.URL) string { return "http://a:b@" + u.Host + u.Path },
		"CM-06 backslashes":           func(u *url.URL) string { return `http:\\` + u.Host + `\agent\client.json` },
		"CM-06 one slash":             func(u *url.URL) string { return "http:/" + u.Host + u.Path },
		"CM-06 a tab":                 func(u *url.URL) string { return "http://" + u.Host + "/agent\t/client.json" },
		"CM-06 a newline":             func(u *url.URL) string { return u.String() + "\n" },
		"CM-06 a space":               func(u *url.URL) string { return " " + u.String() },
		"CM-06 upper case":            func(u *url.URL) string { return "HTTP://" + u.Host + u.Path },
		"CM-06 an upper-case host":    func(u *url.URL) string { return "http://LOCALHOST:" + u.Port() + u.Path },
		"CM-08 a decimal address":     func(u *url.URL) string { return "http://2130706433:" + u.Port() + u.Path },
		"CM-08 a short address":       func(u *url.URL) string { return "http://127.1:" + u.Port() + u.Path },
		"CM-08 an octal address":      func(u *url.URL) string { return "http://0177.0.0.1:" + u.Port() + u.Path },
		"CM-08 a mapped address": func(u *url.URL) string {
			return "http://[::ffff:127.0.0.1]:" +
				u.Port() + u.Path
		},
		"dot segments": func(u *url.URL) string { return "http://" + u.Host + "/x/.." + u.Path },
	} {
		t.Run(name, func(t *testing.T) {
			p := publish(t, nil)
			u, err := url.Parse(p.URL)
			if err != nil {
				t.Fatal(err)
			}
			agent := agentOf(t, s, p)
			agent.ClientID = id(u)
			s.Browser(t).Authorize(agent.Authorization()).ErrorPage(http.StatusBadRequest)
			p.fetched(0)
		})
	}
	t.Run("loopback documents are for development", func(t *testing.T) {
		s, p := servertest.StartWeather(t), publish(t, nil)
		s.Browser(t).Authorize(agentOf(t, s, p).Authorization()).ErrorPage(http.StatusBadRequest)
		p.fetched(0)
	})
	t.Run("a stranger at the token endpoint", func(t *testing.T) {
		p := publish(t, nil)
		agentOf(t, s, p).Exchange("cardea_ac_x").Refused(http.StatusUnauthorized, "invalid_client")
		p.fetched(0)
	})
}

func TestBadDocument(t *testing.T) {
	s := servertest.StartWeather(t, loopback)
	refused := func(t *testing.T, p *publisher) *servertest.Page {
		t.Helper()
		page := s.Browser(t).Authorize(agentOf(t, s, p).Authorization())
		page.ErrorPage(http.StatusBadRequest)
		return page
	}
	for name, members := range map[string]map[string]any{
		"CM-18 another client_id":          {"client_id": "https://client.example/client.json"},
		"CM-18 no client_id":               {"client_id": nil},
		"CM-17 a twin in upper case":       {"Redirect_uris": []string{"https://evil.example/cb"}},
		"CM-20 a secret method":            {"token_endpoint_auth_method": "client_secret_basic"},
		"CM-20 client_secret":              {"client_secret": "x"},
		"CM-20 client_secret that is null": {"client_secret": json.RawMessage("null")},
		"CM-20 client_secret_expires_at":   {"client_secret_expires_at": 0},
		"CM-21 a symmetric key": {"token_endpoint_auth_method": "private_key_jwt",
			"jwks": map[string]any{"keys": []any{map[string]any{"kty": "oct", "k": "c2VjcmV0"}}}},
		"CM-21 a key nobody needs": {"jwks": map[string]any{"keys": []any{map[string]any{"kty": "oct",
			"k": "c2VjcmV0"}}}},
		"CM-22 one bad redirect URI":      {"redirect_uris": []string{servertest.Callback, "javascript:alert(1)"}},
		"no name":                         {"client_name": " "},
		"no redirect URI":                 {"redirect_uris": []string{}},
		"a redirect URI that is no text":  {"redirect_uris": []any{1}},
		"client_credentials alone":        {"grant_types": []string{"client_credentials"}},
		"no grant type that is served":    {"grant_types": []string{"client_credentials", "urn:example"}},
		"no method that is served":        {"token_endpoint_auth_method": "tls_client_auth"},
		"private_key_jwt without keys":    {"token_endpoint_auth_method": "private_key_jwt"},
		"response_types without code":     {"response_types": []string{"token"}},
		"a name that is too long":         {"client_name": strings.Repeat("a", 600)},
		"a method that is no text":        {"token_endpoint_auth_method": 1},
		"methods that are no list":        {"token_endpoint_auth_methods_supported": "private_key_jwt"},
		"CM-17 a twin that folds to s":    {"redirect_uri\u017f": []string{"https://evil.example/cb"}},
		"CM-17 a twin that folds to k":    {"jw\u212as": 1},
		"CM-17 a twin of an optional one": {"Token_endpoint_auth_methods_supported": []string{"none"}},
	} {
		t.Run(name, func(t *testing.T) { refused(t, publish(t, members)) })
	}
	for _, spelling := range []string{"slash", "case", "port", "percent"} {
		t.Run("CM-18 another "+spelling, func(t *testing.T) {
			p := publish(t, nil)
			p.say(map[string]any{"client_id": map[string]string{
				"slash": p.URL + "/", "case": strings.Replace(p.URL, "client.json", "Client.json", 1),
				"port": "http://127.0.0.1/agent/client.json", "percent": strings.Replace(p.URL, "agent", "%61gent", 1),
			}[spelling]})
			refused(t, p)
		})
	}
	for name, text := range map[string]func(p *publisher) string{
		"no JSON":      func(*publisher) string { return "hello" },
		"an array":     func(p *publisher) string { return "[" + p.document(nil) + "]" },
		"a name twice": func(p *publisher) string { return `{"client_name":"a",` + p.document(nil)[1:] },
		"another case": func(p *publisher) string {
			return strings.Replace(p.document(nil), "client_id", "Client_ID", 1)
		},
		"a mark in front": func(p *publisher) string { return "\ufeff" + p.document(nil) },
		"too deep":        func(*publisher) string { return strings.Repeat("[", 5000) },
		"two values":      func(p *publisher) string { return p.document(nil) + p.document(nil) },
	} {
		t.Run("CM-17 "+name, func(t *testing.T) {
			p := publish(t, nil)
			p.text("application/json", text(p))
			refused(t, p)
		})
	}
	t.Run("CM-16 types", func(t *testing.T) {
		p := publish(t, nil)
		p.text("text/html", p.document(nil))
		refused(t, p)
		p.text("application/x+json; charset=utf-8", p.document(nil))
		if page := s.Browser(t).Authorize(agentOf(t, s, p).Authorization()); !page.IsSignIn() {
			t.Errorf("application/x+json is refused: %s", page.Body)
		}
	})
	t.Run("CM-14 size", func(t *testing.T) {
		p := publish(t, nil)
		pad := func(size int) string {
			doc := p.document(nil)
			return doc + strings.Repeat(" ", size-len(doc))
		}
		p.text("application/json", pad(5<<10+1))
		refused(t, p)
		p.text("application/json", pad(5<<10))
		if page := s.Browser(t).Authorize(agentOf(t, s, p).Authorization()); !page.IsSignIn() {
			t.Errorf("5 KB are refused: %s", page.Body)
		}
	})
	t.Run("CM-30 one wording, and the cause for the operator", func(t *testing.T) {
		closed := publish(t, nil)
		closed.URL = "http://127.0.0.1:1/client.json"
		missing, moved, garbage := publish(t, nil), publish(t, nil), publish(t, nil)
		missing.do(http.NotFound)
		moved.do(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) })
		garbage.text("application/json", "hello")
		message := func(p *publisher) string {
			_, rest, _ := strings.Cut(refused(t, p).Body, `class="message"`)
			text, _, _ := strings.Cut(rest, "</p>")
			return text
		}
		want := message(missing)
		for name, p := range map[string]*publisher{"a closed port": closed, "a redirect": moved, "no JSON": garbage} {
			if got := message(p); got != want {
				t.Errorf("%s: %s, but a document that is missing: %s", name, got, want)
			}
		}
		moved.fetched(1) // CM-12: the redirect was not followed
		events := s.Events("authorize.request")
		if last := events[0]; last.Detail["cause"] == "" {
			t.Errorf("the event does not tell the cause: %+v", last)
		}
	})
}

// The page and the log explain what to do on a server without a route to the internet.
func TestNoWayOut(t *testing.T) {
	s := servertest.StartWeather(t, loopback)
	try := func(p *publisher) *servertest.Page { return s.Browser(t).Authorize(agentOf(t, s, p).Authorization()) }
	closed := publish(t, nil)
	closed.URL = "http://127.0.0.1:1/client.json"
	for range 3 {
		page := try(closed)
		page.ErrorPage(http.StatusBadRequest)
		if !strings.Contains(page.Body, "This server could not fetch the metadata document") ||
			!strings.Contains(page.Body, "administrator") {
			t.Errorf("the page does not name the cause: %s", page.Body)
		}
	}
	hints := func() int { return strings.Count(s.Log(), "registration.cimd to off") }
	log := s.Log()
	if hints() != 1 || !strings.Contains(log, "level=WARN") || !strings.Contains(log, "registration.cimd_pinned_dir") ||
		!strings.Contains(log, "client_id="+closed.URL) || !strings.Contains(log, "cause=") {
		t.Errorf("%d hints for the operator, want one: %s", hints(), log)
	}
	s.Clock.Advance(2 * time.Hour)
	try(closed)
	if hints() != 2 {
		t.Errorf("%d hints after two hours", hints())
	}
	try(publish(t, nil))
	s.Clock.Advance(2 * time.Hour)
	try(closed)
	if hints() != 2 {
		t.Error("there is a hint although a document was fetched")
	}
}

// At the start, the log has a warning if the machine has no route to the internet.
func TestWarnIfOffline(t *testing.T) {
	for _, test := range []struct {
		name   string
		policy client.Policy
		dial   error
		warns  bool
	}{
		{"no route", client.Policy{}, syscall.ENETUNREACH, true},
		{"a route", client.Policy{}, nil, false},
		{"for development, where documents are on this machine", client.Policy{AllowLoopback: true},
			syscall.ENETUNREACH, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			db, _ := storetest.Open(t, storetest.SQLite)
			dial := func(_ context.Context, network, _ string) (net.Conn, error) {
				if network != "udp" {
					t.Errorf("a packet is sent, by %s", network)
				}
				here, there := net.Pipe()
				_ = there.Close()
				return here, test.dial
			}
			fetcher := fetch.New(fetch.Options{Now: db.Now, Dial: dial})
			documents, err := client.NewDocuments(db, "https://auth.example.com", test.policy, "", fetcher,
				slog.New(slog.NewTextHandler(&log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			documents.WarnIfOffline(t.Context())
			got := log.String()
			if strings.Contains(got, "level=WARN") != test.warns ||
				strings.Contains(got, "registration.cimd_pinned_dir") != test.warns {
				t.Errorf("the log has %q", got)
			}
		})
	}
}

func TestDocumentWithUnknownParts(t *testing.T) {
	s := servertest.StartWeather(t, loopback)
	ada := s.User("ada@example.com")
	for name, members := range map[string]map[string]any{
		"unknown members": {"x": 1, "software_statement": "a.b.c",
			"post_logout_redirect_uris": []string{"https://a.example/"}},
		"grant types of others": {"grant_types": []string{"authorization_code", "refresh_token",
			"urn:ietf:params:oauth:grant-type:jwt-bearer", "client_credentials"}},
		"no grant types, no method": {"grant_types": nil, "token_endpoint_auth_method": nil},
		"a method of others, and none": {"token_endpoint_auth_method": "tls_client_auth",
			"token_endpoint_auth_methods_supported": []string{"tls_client_auth", "none"}},
		"private_key_jwt, and none": {"token_endpoint_auth_method": "private_key_jwt",
			"token_endpoint_auth_methods_supported": []string{"none", "private_key_jwt"},
			"token_endpoint_auth_signing_alg":       "RS256", "jwks_uri": "https://client.example/jwks.json"},
		"redirect URIs of many kinds": {"redirect_uris": []string{servertest.Callback, "http://127.0.0.1/callback",
			"http://localhost/callback", "cursor://x/callback"}},
		"private_key_jwt, jwks null": {"token_endpoint_auth_methods_supported": []string{"none", "private_key_jwt"},
			"jwks": json.RawMessage("null")},
		"private_key_jwt without a key": {"token_endpoint_auth_method": "private_key_jwt",
			"token_endpoint_auth_methods_supported": []string{"none", "private_key_jwt"}},
	} {
		t.Run(name, func(t *testing.T) {
			agent := agentOf(t, s, publish(t, members))
			tokens := agent.Connect(s.Browser(t), ada)
			agent.Refresh(tokens.Refresh).Tokens()
			agent.ClientCredentials().Refused(http.StatusBadRequest, "unauthorized_client")
		})
	}
}

// Many people give consent to a new client at the same time.
func TestDocumentRace(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock, loopback)
		s.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts")
		const people = 8
		for round := range 3 {
			p := publish(t, nil)
			pages, agents := make([]*servertest.Page, people), make([]*servertest.Agent, people)
			for i := range people {
				agents[i] = agentOf(t, s, p)
				pages[i] = s.Browser(t).Authorize(agents[i].Authorization()).
					SignIn(s.User(fmt.Sprintf("%d@%d.example", i, round)))
			}
			var wg sync.WaitGroup
			for i := range people {
				wg.Go(func() { pages[i] = pages[i].Allow() })
			}
			wg.Wait()
			for i := range people {
				tokens := agents[i].Exchange(pages[i].Code()).Tokens()
				agents[i].Refresh(tokens.Refresh).Tokens()
			}
		}
	})
}

// A client that an operator registers under the URL of a document replaces it, also for requests that are reading the
// document.
func TestOperatorTakesDocumentOver(t *testing.T) {
	s := servertest.StartWeather(t, loopback)
	p := publish(t, nil)
	page := s.Browser(t).Authorize(agentOf(t, s, p).Authorization()).SignIn(s.User("ada@example.com"))
	s.Clock.Advance(10 * time.Minute) // the document is no longer fresh
	answer := p.answer
	p.do(func(w http.ResponseWriter, r *http.Request) {
		s.Client(func(c *oauth.Client) { c.ID, c.Name = p.URL, "The operator's" })
		p.do(answer)
		answer(w, r)
	})
	page.Submit(page.Form("decision"), servertest.With("decision", "allow"))
	if c := s.ClientOf(p.URL); c.Origin != oauth.ByOperator || c.Name != "The operator's" {
		t.Errorf("it is %s, called %q", c.Origin, c.Name)
	}
}

func TestDocumentWithUselessParts(t *testing.T) {
	s := servertest.StartWeather(t, loopback)
	ada := s.User("ada@example.com")
	metadata := func(t *testing.T, members map[string]any) map[string]any {
		agent := agentOf(t, s, publish(t, members))
		agent.Connect(s.Browser(t), ada)
		text, err := json.Marshal(s.ClientOf(agent.ClientID).Metadata)
		if err != nil {
			t.Fatal(err)
		}
		var said map[string]any
		if err := json.Unmarshal(text, &said); err != nil {
			t.Fatal(err)
		}
		return said
	}
	for name, useless := range servertest.Useless {
		t.Run(name, func(t *testing.T) {
			want := metadata(t, nil)
			maps.Copy(want, useless.Kept)
			if diff := cmp.Diff(want, metadata(t, useless.Said)); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDocumentCache(t *testing.T) {
	s := servertest.StartWeather(t, loopback)
	ada := s.User("ada@example.com")
	signIn := func(t *testing.T, agent *servertest.Agent) {
		t.Helper()
		if page := s.Browser(t).Authorize(agent.Authorization()); !page.IsSignIn() {
			t.Fatalf("status is %d, want the sign-in page: %s", page.Status, page.Body)
		}
	}
	t.Run("CM-13 CM-25 errors are forgotten at once", func(t *testing.T) {
		p := publish(t, nil)
		agent := agentOf(t, s, p)
		for _, status := range []int{204, 206, 304, 404, 500} {
			p.do(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Cache-Control", "max-age=3600")
				w.WriteHeader(status)
			})
			s.Browser(t).Authorize(agent.Authorization()).ErrorPage(http.StatusBadRequest)
		}
		p.say(nil)
		signIn(t, agent)
		p.fetched(6)
	})
	t.Run("CM-24 fresh as long as the server says", func(t *testing.T) {
		p := publish(t, nil) // 300 s
		agent := agentOf(t, s, p)
		signIn(t, agent)
		s.Clock.Advance(299 * time.Second)
		signIn(t, agent)
		p.fetched(1)
		s.Clock.Advance(2 * time.Second)
		signIn(t, agent)
		p.fetched(1)
	})
	t.Run("CM-25 what is not valid does not replace what was", func(t *testing.T) {
		p := publish(t, nil)
		agent := agentOf(t, s, p)
		signIn(t, agent)
		p.say(map[string]any{"redirect_uris": []string{"javascript:alert(1)"}})
		s.Clock.Advance(time.Hour)
		signIn(t, agent)
		p.do(http.NotFound)
		s.Clock.Advance(time.Hour)
		signIn(t, agent)
		p.fetched(3)
	})
	t.Run("CM-26 a redirect URI that is new in the document", func(t *testing.T) {
		p := publish(t, nil)
		agent := agentOf(t, s, p)
		signIn(t, agent)
		s.Clock.Advance(time.Millisecond)
		agent.RedirectURI = "https://agent.example.com/new"
		s.Browser(t).Authorize(agent.Authorization()).ErrorPage(http.StatusBadRequest)
		p.say(map[string]any{"redirect_uris": []string{"https://agent.example.com/new"}})
		s.Clock.Advance(time.Millisecond)
		signIn(t, agent)
		agent.RedirectURI = servertest.Callback
		s.Browser(t).Authorize(agent.Authorization()).ErrorPage(http.StatusBadRequest)
	})
	t.Run("CM-26 a stranger cannot have a client in use fetched all the time", func(t *testing.T) {
		p := publish(t, nil)
		agent := agentOf(t, s, p)
		agent.Connect(s.Browser(t), ada)
		agent.RedirectURI = "https://evil.example/"
		for range 50 {
			s.Clock.Advance(time.Second)
			s.Browser(t).Authorize(agent.Authorization()).ErrorPage(http.StatusBadRequest)
		}
		if fetches := p.fetches.Load(); fetches < 2 || fetches > 10 {
			t.Errorf("%d fetches in 50 seconds", fetches)
		}
	})
	t.Run("what says the same is not stored again", func(t *testing.T) {
		key := servertest.NewKey(t, "<a>&\u2028", "ES256")
		var keys bytes.Buffer
		if err := json.Indent(&keys, servertest.KeySet(t, key), "", "  "); err != nil {
			t.Fatal(err)
		}
		p := publish(t, nil)
		members := map[string]any{
			"token_endpoint_auth_method":            nil,
			"token_endpoint_auth_methods_supported": []string{"none", "private_key_jwt"}, "jwks": "KEYS",
			"contacts": []string{}, "client_name": "A <b> & \u2028",
		}
		p.text("application/json", strings.Replace(p.document(members), `"KEYS"`, keys.String(), 1))
		agent := agentOf(t, s, p)
		agent.Connect(s.Browser(t), ada)
		stored := func() (c *oauth.Client) {
			s.Update(func(tx *store.Tx) (err error) {
				c, err = tx.Client(p.URL)
				return err
			})
			return c
		}
		before := stored().FetchedAt
		s.Clock.Advance(time.Hour)
		signIn(t, agent)
		if after := stored(); !after.FetchedAt.Equal(before) || !after.ChangedAt.IsZero() {
			t.Errorf("stored again: %+v", after)
		}
		p.fetched(2)
	})
	t.Run("CM-28 a hundred at once", func(t *testing.T) {
		p := publish(t, nil)
		var wg sync.WaitGroup
		for range 100 {
			agent, browser := agentOf(t, s, p), s.Browser(t)
			wg.Go(func() { browser.Authorize(agent.Authorization()) })
		}
		wg.Wait()
		p.fetched(1)
	})
	t.Run("a client in use outlives its web site and a restart", func(t *testing.T) {
		p := publish(t, nil)
		agent := agentOf(t, s, p)
		tokens := agent.Connect(s.Browser(t), ada)
		p.do(http.NotFound)
		again := servertest.New(t, s.DB, s.Clock, loopback)
		revived := agentOf(t, again, p)
		s.Clock.Advance(48 * time.Hour)
		tokens = revived.Refresh(tokens.Refresh).Tokens()
		revived.Connect(again.Browser(t), ada)
		p.say(nil)
		s.Clock.Advance(28 * 24 * time.Hour)
		tokens = revived.Refresh(tokens.Refresh).Tokens() // because it was stored
		p.do(http.NotFound)
		again = servertest.New(t, s.DB, s.Clock, loopback)
		revived = agentOf(t, again, p)
		s.Clock.Advance(29 * 24 * time.Hour)
		tokens = revived.Refresh(tokens.Refresh).Tokens()
		s.Clock.Advance(2 * 24 * time.Hour)
		revived.Refresh(tokens.Refresh).Refused(http.StatusUnauthorized, "invalid_client")
		again.Browser(t).Authorize(revived.Authorization()).ErrorPage(http.StatusBadRequest)
		p.say(nil)
		revived.Refresh(tokens.Refresh).Tokens()
	})
}

func TestDocumentBudget(t *testing.T) {
	t.Run("CM-29 many documents for one stranger", func(t *testing.T) {
		s := servertest.StartWeather(t, loopback, func(c *config.Config) { c.Limits.Enabled = true })
		ada := s.User("ada@example.com")
		p := publish(t, nil)
		signedIn := s.Browser(t)
		signedIn.Authorize(agentOf(t, s, p).Authorization()).SignIn(ada)
		p.fetched(1)
		p.do(http.NotFound)
		turned := 0
		for i := range 100 {
			agent := agentOf(t, s, p)
			agent.ClientID = fmt.Sprintf("%s/%d", p.URL, i)
			if page := s.Browser(t).Authorize(agent.Authorization()); page.Status == http.StatusTooManyRequests {
				turned++
			}
		}
		if fetches := p.fetches.Swap(0); fetches > 40 || turned < 50 {
			t.Errorf("%d fetches, %d refused", fetches, turned)
		}
		// A signed-in person has a separate budget.
		agent := agentOf(t, s, p)
		agent.ClientID += "/mine"
		p.do(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(strings.ReplaceAll(p.document(nil), p.URL, agent.ClientID)))
		})
		if page := signedIn.Authorize(agent.Authorization()); !page.IsConsent() {
			t.Errorf("status is %d, want the consent page: %s", page.Status, page.Body)
		}
	})
}

func TestDocumentPolicy(t *testing.T) {
	p := publish(t, nil)
	host := strings.Split(strings.TrimPrefix(p.URL, "http://"), "/")[0]
	bare := strings.Split(host, ":")[0]
	for name, test := range map[string]struct {
		edit func(*config.Registration)
		ok   bool
	}{
		"off": {func(r *config.Registration) { r.CIMD = "off" }, false},
		"CM-38 listed": {
			func(r *config.Registration) { r.CIMD, r.Allow = "allowlist", []string{host} }, true,
		},
		"CM-38 listed without the port": {
			func(r *config.Registration) { r.CIMD, r.Allow = "allowlist", []string{bare} }, false,
		},
		"CM-38 another listed": {
			func(r *config.Registration) { r.CIMD, r.Allow = "allowlist", []string{"example.com"} }, false,
		},
		"denied":             {func(r *config.Registration) { r.Deny = []string{bare} }, false},
		"denied on its port": {func(r *config.Registration) { r.Deny = []string{host} }, false},
		"denied and listed": {
			func(r *config.Registration) { r.CIMD, r.Allow, r.Deny = "allowlist", []string{host}, []string{bare} },
			false,
		},
		"another denied":                  {func(r *config.Registration) { r.Deny = []string{"example.com"} }, true},
		"open, and a list that is no use": {func(r *config.Registration) { r.Allow = []string{"example.com"} }, true},
	} {
		t.Run(name, func(t *testing.T) {
			db, clock := storetest.Open(t, storetest.SQLite)
			before := servertest.New(t, db, clock, loopback)
			before.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts")
			ada := before.User("ada@example.com")
			rs := before.Client(servertest.Confidential, servertest.ResourceServer(servertest.MCP))
			tokens := agentOf(t, before, p).Connect(before.Browser(t), ada)
			p.fetches.Store(0)

			s := servertest.New(t, db, clock, loopback, func(c *config.Config) {
				c.Issuer = before.URL // so that the tokens of before remain valid
				test.edit(&c.Registration)
			})
			agent := agentOf(t, s, p)
			metadata := agent.Get("/.well-known/oauth-authorization-server").JSON()
			_, advertised := metadata["client_id_metadata_document_supported"]
			if advertised != (name != "off") {
				t.Errorf("advertised is %v, want %v", advertised, name != "off")
			}
			page := s.Browser(t).Authorize(agent.Authorization())
			active := s.Agent(t, rs).Active(tokens.Access)
			if test.ok {
				agent.Refresh(tokens.Refresh).Tokens()
				if !page.IsSignIn() || !active {
					t.Errorf("status is %d, want the sign-in page; active is %v, want true", page.Status, active)
				}
				return
			}
			page.ErrorPage(http.StatusBadRequest)
			agent.Refresh(tokens.Refresh).Refused(http.StatusUnauthorized, "invalid_client")
			if active {
				t.Error("its access token is active")
			}
			p.fetched(0)
		})
	}
}

func TestHostList(t *testing.T) {
	for _, test := range []struct {
		entry, uri string
		want       bool
	}{
		{"example.com", "https://example.com/c", true},
		{"example.com", "https://example.com.evil/c", false},
		{"example.com", "https://evilexample.com/c", false},
		{"example.com", "https://example.com./c", false},
		{"example.com", "https://a.example.com/c", false},
		{"example.com", "https://example.com:8443/c", false},
		{"example.com", "https://xn--exmple-cua.com/c", false},
		{"example.com:8443", "https://example.com:8443/c", true},
		{"example.com:8443", "https://example.com/c", false},
		{"*.example.com", "https://a.example.com/c", true},
		{"*.example.com", "https://a.b.example.com/c", true},
		{"*.example.com", "https://example.com/c", false},
		{"*.example.com", "https://evil-example.com/c", false},
		{"*.example.com:8443", "https://a.example.com:8443/c", true},
		{"*.example.com:8443", "https://a.example.com/c", false},
	} {
		t.Run("CM-38 "+test.entry+" "+test.uri, func(t *testing.T) {
			if got := (client.HostList{test.entry}).Covers(test.uri); got != test.want {
				t.Errorf("Covers is %v, want %v", got, test.want)
			}
		})
	}
}

func TestDocumentConsent(t *testing.T) {
	s := servertest.StartWeather(t, loopback)
	ada := s.User("ada@example.com")
	approve := func(p *publisher) {
		s.Update(func(tx *store.Tx) error {
			c, err := tx.Client(p.URL)
			if err != nil {
				return err
			}
			c.ApprovedAt = tx.Now()
			return tx.UpdateClient(c)
		})
	}
	t.Run("CM-36 CM-37 a client of this computer is asked about each time", func(t *testing.T) {
		p := publish(t,
			map[string]any{"redirect_uris": []string{"http://localhost/callback", "http://127.0.0.1/callback"}})
		agent, browser := agentOf(t, s, p), s.Browser(t)
		agent.RedirectURI = "http://localhost:4711/callback"
		agent.Connect(browser, ada)
		approve(p)
		page := browser.Authorize(agent.Authorization())
		if !page.IsConsent() || !strings.Contains(page.Body, "any program could be the one that asks") ||
			!strings.Contains(page.Body, "127.0.0.1") {
			t.Errorf("no page with a warning: %d %s", page.Status, page.Body)
		}
	})
	t.Run("a client that is approved is asked about once", func(t *testing.T) {
		p := publish(t, nil)
		agent, browser := agentOf(t, s, p), s.Browser(t)
		agent.Connect(browser, ada)
		if page := browser.Authorize(agent.Authorization()); !page.IsConsent() {
			t.Errorf("there is no consent page for an unapproved client: %d %s", page.Status, page.Location)
		}
		approve(p)
		agent.Exchange(browser.Authorize(agent.Authorization()).Code()).Tokens()
	})
	for name, change := range map[string]map[string]any{
		"redirect URIs": {"redirect_uris": []string{servertest.Callback, "https://elsewhere.example/callback"}},
		"keys": {"token_endpoint_auth_methods_supported": []string{"none", "private_key_jwt"},
			"jwks_uri": "https://client.example/jwks.json"},
	} {
		t.Run("with other "+name+" it is asked about again", func(t *testing.T) {
			p := publish(t, nil)
			agent, browser := agentOf(t, s, p), s.Browser(t)
			bob, others := s.User(name[:4]+"@example.com"), s.Browser(t)
			tokens := agent.Connect(browser, ada)
			approve(p)
			agent.Connect(others, bob)
			s.Clock.Advance(time.Second)
			p.say(change)
			s.Clock.Advance(time.Hour)
			page := browser.Authorize(agent.Authorization())
			if !page.IsConsent() {
				t.Fatalf("status is %d, want the consent page, Location %q", page.Status, page.Location)
			}
			agent.Exchange(page.Allow("mcp:tools:weather").Code()).Tokens()
			agent.Exchange(browser.Authorize(agent.Authorization()).Code()).Tokens() // consent is remembered
			if page := others.Authorize(agent.Authorization()); !page.IsConsent() {
				t.Errorf("the other person is not asked: %d %s", page.Status, page.Location)
			}
			agent.Refresh(tokens.Refresh).Tokens() // the earlier grant remains
		})
	}
	t.Run("a second device leaves the first alone", func(t *testing.T) {
		p := publish(t, nil)
		first, second := agentOf(t, s, p), agentOf(t, s, p)
		one := first.Connect(s.Browser(t), ada)
		two := second.Connect(s.Browser(t), ada)
		one, two = first.Refresh(one.Refresh).Tokens(), second.Refresh(two.Refresh).Tokens()
		second.Revoke(two.Refresh)
		second.Refresh(two.Refresh).Refused(http.StatusBadRequest, "invalid_grant")
		first.Refresh(one.Refresh).Tokens()
	})
	t.Run("CM-40 a client that is registered under the URL", func(t *testing.T) {
		p := publish(t, nil)
		s.Client(func(c *oauth.Client) { c.ID, c.Name = p.URL, "Registered agent" })
		page := s.Browser(t).Authorize(agentOf(t, s, p).Authorization()).SignIn(ada)
		if !strings.Contains(page.Body, "Registered agent") && page.Location == "" {
			t.Errorf("not the registered client: %d %s", page.Status, page.Body)
		}
		p.fetched(0)
	})
	t.Run("disabled by the operator", func(t *testing.T) {
		p := publish(t, nil)
		agent := agentOf(t, s, p)
		tokens := agent.Connect(s.Browser(t), ada)
		s.Update(func(tx *store.Tx) error { return tx.DisableClient(p.URL) })
		s.Browser(t).Authorize(agent.Authorization()).ErrorPage(http.StatusBadRequest)
		agent.Refresh(tokens.Refresh).Refused(http.StatusUnauthorized, "invalid_client")
	})
}

func TestPinnedDocument(t *testing.T) {
	write := func(t *testing.T, dir, name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const id = "https://unreachable.example/client.json"
	document := `{"client_id":"` + id + `","client_name":"Pinned agent","redirect_uris":["` +
		servertest.Callback + `"]}`
	t.Run("used without being fetched", func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir, "agent.json", document)
		s := servertest.StartWeather(t,
			func(c *config.Config) { c.Registration.CIMD, c.Registration.PinnedDir = "allowlist", dir })
		agent := s.Agent(t, nil)
		agent.ClientID = id
		tokens := agent.Connect(s.Browser(t), s.User("ada@example.com"))
		agent.Refresh(tokens.Refresh).Tokens()
	})
	for name, files := range map[string]map[string]string{
		"is not a JSON object":                                    {"a.json": "hello"},
		"cannot be the URL of a metadata":                         {"a.json": `{"client_id":"agent"}`},
		"redirect_uris is missing":                                {"a.json": `{"client_id":"` + id + `","client_name":"x"}`},
		"another file has the client_id":                          {"a.json": document, "b.json": document},
		"registration.cimd_pinned_dir: the folder cannot be read": nil, // there is none
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "pinned[1]")
			if files != nil {
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			for file, text := range files {
				write(t, dir, file, text)
			}
			db, clock := storetest.Open(t, storetest.SQLite)
			fetcher := fetch.New(fetch.Options{Now: clock.Now})
			_, err := client.NewDocuments(db, "https://auth.example.com", client.Policy{}, dir, fetcher, nil)
			if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), dir) {
				t.Errorf("NewDocuments says %v", err)
			} else if _, refusal := oauth.AsRefusal(err); refusal {
				t.Error("the error is a refusal, which is printed without the file name")
			}
		})
	}
}

func TestDocumentWithKeys(t *testing.T) {
	s := servertest.StartWeather(t, loopback)
	ada := s.User("ada@example.com")
	jwks := func(keys ...*servertest.Key) map[string]any {
		return map[string]any{
			"token_endpoint_auth_method":            "private_key_jwt",
			"token_endpoint_auth_methods_supported": []string{"none", "private_key_jwt"},
			"jwks":                                  servertest.KeySet(t, keys...),
		}
	}
	first, second := servertest.NewKey(t, "1", "ES256"), servertest.NewKey(t, "2", "ES256")
	t.Run("CM-42 both methods, and no way back from the stronger", func(t *testing.T) {
		p := publish(t, jwks(first))
		public, signing := agentOf(t, s, p), agentOf(t, s, p)
		signing.Key = first
		weak, strong := public.Connect(s.Browser(t), ada), signing.Connect(s.Browser(t), ada)
		public.Refresh(weak.Refresh).Tokens()
		public.Refresh(strong.Refresh).Refused(http.StatusUnauthorized, "invalid_client")
		signing.Refresh(strong.Refresh).Tokens()
	})
	t.Run("private_key_jwt alone", func(t *testing.T) {
		only := jwks(first)
		delete(only, "token_endpoint_auth_methods_supported")
		p := publish(t, only)
		agent := agentOf(t, s, p)
		code := s.Browser(t).Authorize(agent.Authorization()).Through(ada).Code()
		agent.Exchange(code).Refused(http.StatusUnauthorized, "invalid_client")
		agent.Key = first
		agent.Exchange(code).Tokens()
	})
	t.Run("CA-21 CM-26 keys that change", func(t *testing.T) {
		p := publish(t, jwks(first))
		agent := agentOf(t, s, p)
		agent.Key = first
		tokens := agent.Connect(s.Browser(t), ada)
		p.say(jwks(second))
		s.Clock.Advance(time.Minute)
		agent.Key = second
		tokens = agent.Refresh(tokens.Refresh).Tokens()
		agent.Key = first
		agent.Refresh(tokens.Refresh).Refused(http.StatusUnauthorized, "invalid_client")
		p.fetched(2)
		for range 20 { // a stranger cannot cause a fetch for each request
			agent.Refresh(tokens.Refresh).Refused(http.StatusUnauthorized, "invalid_client")
		}
		p.fetched(0)
	})
	t.Run("CM-21 a private key", func(t *testing.T) {
		members := jwks(first)
		members["jwks"] = map[string]any{"keys": []any{map[string]any{"kty": "OKP", "crv": "Ed25519",
			"x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}}}
		s.Browser(t).Authorize(agentOf(t, s, publish(t, members)).Authorization()).ErrorPage(http.StatusBadRequest)
	})
}
