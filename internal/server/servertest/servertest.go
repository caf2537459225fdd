// Package servertest runs a complete Cardea server inside a test, and provides its counterparts: a person with a
// browser, an agent, and attackers that pose as either.
//
//	s := servertest.StartMCP(t)                     // on SQLite, with the resource MCP; New takes any database
//	ada := s.User("ada@example.com")
//	agent := s.Agent(t, s.Client())                 // or agent := s.Agent(t, nil); agent.Register(…)
//	browser := s.Browser(t)
//
//	page := browser.Authorize(agent.Authorization(servertest.With("scope", "mcp:tools:weather mcp:tools:email:send")))
//	code := page.SignIn(ada).Allow("mcp:tools:weather").Code()
//	tokens := agent.Exchange(code).Tokens()
//	agent.Exchange(code).Refused(400, "invalid_grant")
//
// The server is the real one, behind a real listener on 127.0.0.1. Limits are off, and the test controls the clock:
// s.Clock.Advance(61 * time.Second). The last arguments of Start and New change the configuration:
//
//	servertest.Start(t, func(c *config.Config) { c.Limits.Enabled = true })
//
// A Browser keeps cookies, follows redirects within the server, and stops at a redirect to a client, whose target is
// Page.Location, unchanged. Each step returns the resulting Page; several pages at a time are several tabs. Page.Form
// and Page.Submit post any form, with any changes.
//
// An Agent makes authorization requests and calls the endpoints. Tweaks change the requests of both: With and Without
// change parameters, Header changes the header. Browser and Agent check by themselves, and fail the test otherwise,
// that:
//
//   - no response is 5xx, unless Server.MayFault is set;
//   - no redirect is 307 or 308;
//   - the log has no panic, and neither it nor an event of the audit log has a code, token, verifier, password, secret
//     or cookie;
//   - Page.Code, Page.Refused, Page.ErrorPage, Reply.Tokens and Reply.Refused get a response that is valid as a whole.
//
// Create browsers and agents with the t of the subtest that uses them, because failures are reported to that t.
package servertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/credential"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/logtest"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// panicked matches a line of the log that tells of a panic, and no id that has these letters by chance.
var panicked = regexp.MustCompile(`\bpanic\b`)

// MCP is the identifier of the resource that most tests use.
const MCP = "https://mcp.example.com/mcp"

// Callback is the default redirect URI of clients.
const Callback = "https://agent.example.com/callback"

// Password is the password of accounts made by User.
const Password = "correct horse battery staple"

// Server is a running Cardea.
type Server struct {
	URL    string // the issuer, without a trailing slash
	DB     *store.DB
	Clock  *storetest.Clock
	Server *server.Server
	// MayFault allows 5xx responses and panics without failing the test.
	MayFault bool

	t      testing.TB
	web    *httptest.Server
	log    *logtest.Log
	issuer string // equal to URL unless an edit changed it

	mu      sync.Mutex
	secrets map[string]string // kind of secret by value; none may be in the log
}

// Start runs a server on a new SQLite database.
func Start(t testing.TB, edits ...func(*config.Config)) *Server {
	t.Helper()
	db, clock := storetest.Open(t, storetest.SQLite)
	return New(t, db, clock, edits...)
}

// StartMCP is Start with the resource MCP, which has the default scope mcp:tools:weather and the scope
// mcp:tools:email:send.
func StartMCP(t testing.TB, edits ...func(*config.Config)) *Server {
	t.Helper()
	s := Start(t, edits...)
	s.Resource(MCP, "*mcp:tools:weather=Weather forecasts", "mcp:tools:email:send=Send e-mail")
	return s
}

// StartWeather is StartMCP with only the default scope.
func StartWeather(t testing.TB, edits ...func(*config.Config)) *Server {
	t.Helper()
	s := Start(t, edits...)
	s.Resource(MCP, "*mcp:tools:weather=Weather forecasts")
	return s
}

// Localhost is an edit that gives the server a name, without which browsers make no passkeys.
func Localhost(c *config.Config) { c.Issuer = strings.Replace(c.Issuer, "127.0.0.1", "localhost", 1) }

// New runs a server on db until t ends. Limits are off unless an edit of the configuration turns them on.
func New(t testing.TB, db *store.DB, clock *storetest.Clock, edits ...func(*config.Config)) *Server {
	t.Helper()
	return run(t, db, clock, false, edits)
}

// NewTLS is New with HTTPS.
func NewTLS(t testing.TB, db *store.DB, clock *storetest.Clock, edits ...func(*config.Config)) *Server {
	t.Helper()
	return run(t, db, clock, true, edits)
}

func run(t testing.TB, db *store.DB, clock *storetest.Clock, https bool, edits []func(*config.Config)) *Server {
	t.Helper()
	s := &Server{DB: db, Clock: clock, t: t, log: new(logtest.Log), secrets: map[string]string{}}
	s.web = httptest.NewUnstartedServer(nil)
	s.URL = "http://" + s.web.Listener.Addr().String()
	if https {
		s.URL = "https://" + s.web.Listener.Addr().String()
	}
	loaded, err := config.Load(config.Sources{Flags: map[string]string{"issuer": s.URL, "data_dir": t.TempDir(),
		"limits.enabled": "false"}})
	if err != nil {
		t.Fatalf("servertest: %v", err)
	}
	for _, edit := range edits {
		edit(&loaded.Config)
	}
	s.issuer = loaded.Issuer
	if strings.HasPrefix(s.issuer, "http://localhost:") {
		s.URL = s.issuer
	}
	s.Server, err = server.New(t.Context(), loaded.Config, db, master,
		slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatalf("servertest: %v", err)
	}
	s.web.Config.Handler = s.Server.Handler()
	s.web.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(s.log, nil), slog.LevelDebug)
	if https {
		s.web.StartTLS()
	} else {
		s.web.Start()
	}
	t.Cleanup(func() {
		s.web.Close()
		if panicked.MatchString(s.Log()) && !s.MayFault {
			t.Errorf("servertest: the server panicked:\n%s", s.Log())
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		log := s.Log()
		for secret, what := range s.secrets {
			if strings.Contains(log, secret) {
				t.Errorf("servertest: the log contains a %s: %s", what, secret)
			}
		}
		events := s.events()
		for secret, what := range s.secrets {
			if strings.Contains(events, secret) {
				t.Errorf("servertest: an event of the audit log contains a %s: %s", what, secret)
			}
		}
	})
	return s
}

// events returns the newest events of the audit log as JSON, each in a line, as exports and webhooks have them.
func (s *Server) events() string {
	s.t.Helper()
	var all []audit.Event
	if err := s.DB.View(context.Background(), func(tx *store.Tx) (err error) {
		all, _, err = tx.Events(store.EventFilter{}, store.Page{Newest: true, Limit: 1000})
		return err
	}); err != nil && !s.MayFault && !errors.Is(err, oauth.ErrUnavailable) { // a test may have closed it
		s.t.Errorf("servertest: %v", err)
	}
	var text bytes.Buffer
	write := json.NewEncoder(&text)
	write.SetEscapeHTML(false)
	for _, e := range all {
		if err := write.Encode(e); err != nil {
			s.t.Errorf("servertest: %v", err)
		}
	}
	return text.String()
}

// master is the master key of all servers, so that two of them can share a database.
var master, _ = keys.NewMaster()

// Log returns what the server has logged so far.
func (s *Server) Log() string { return s.log.String() }

// secret registers a value that must not be in the log.
func (s *Server) secret(what, value string) {
	if value == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets[value] = what
}

// client returns an HTTP client that does not follow redirects.
func (s *Server) client(jar http.CookieJar) *http.Client {
	return &http.Client{
		Transport:     s.web.Client().Transport,
		Jar:           jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Resource registers a resource. Each scope is "name=description" or just a name; a leading star makes it a default
// scope.
func (s *Server) Resource(identifier string, scopes ...string) *oauth.Resource {
	s.t.Helper()
	r := &oauth.Resource{ID: oauth.NewID("res_"), Identifier: identifier, Name: "Example MCP", CreatedAt: s.DB.Now(),
		UpdatedAt: s.DB.Now()}
	for _, text := range scopes {
		text, isDefault := strings.CutPrefix(text, "*")
		name, description, _ := strings.Cut(text, "=")
		r.Scopes = append(r.Scopes, oauth.ResourceScope{Name: name, Description: description, Default: isDefault})
	}
	s.Update(func(tx *store.Tx) error { return tx.CreateResource(r) })
	return r
}

// Update runs change in a transaction, and fails the test if it does not commit.
func (s *Server) Update(change func(*store.Tx) error) {
	s.t.Helper()
	if err := s.DB.Update(context.Background(), change); err != nil {
		s.t.Fatalf("servertest: %v", err)
	}
}

// Client is a registered client and, if it has one, its secret.
type Client struct {
	*oauth.Client
	Secret string
}

// Client registers a client as an operator would. Unless an edit changes it, the client is public and approved, may use
// the code flow and refresh tokens, and has the redirect URI Callback. It gets a secret if its Method needs one.
func (s *Server) Client(edits ...func(*oauth.Client)) *Client {
	s.t.Helper()
	c := &Client{Client: &oauth.Client{
		ID: oauth.NewID("mcp_"),
		Metadata: oauth.Metadata{
			Name:          "Example agent",
			RedirectURIs:  []string{Callback},
			GrantTypes:    []oauth.GrantType{oauth.AuthorizationCode, oauth.RefreshToken},
			ResponseTypes: []string{"code"},
			Method:        oauth.MethodNone,
		},
		Origin:     oauth.ByOperator,
		CreatedAt:  s.DB.Now(),
		ApprovedAt: s.DB.Now(),
	}}
	for _, edit := range edits {
		edit(c.Client)
	}
	if c.Method == oauth.MethodBasic || c.Method == oauth.MethodPost {
		c.Secret = oauth.NewSecret(oauth.SecretPrefix)
		s.secret("client secret", c.Secret)
		c.Secrets = []oauth.Secret{{Hash: oauth.Hash(c.Secret), CreatedAt: s.DB.Now()}}
	}
	s.Update(func(tx *store.Tx) error { return tx.CreateClient(c.Client, "") })
	return c
}

// ChangeClient returns a function that changes the client with an id as a command would.
func ChangeClient(edit func(*oauth.Client)) func(*store.Tx, string) error {
	return func(tx *store.Tx, id string) error {
		c, err := tx.Client(id)
		if err != nil {
			return err
		}
		edit(c)
		return tx.UpdateClient(c)
	}
}

// RedirectURIs is an edit for Client: it sets the redirect URIs.
func RedirectURIs(uris ...string) func(*oauth.Client) {
	return func(c *oauth.Client) { c.RedirectURIs = uris }
}

// Confidential is an edit for Client: the client authenticates with a secret.
func Confidential(c *oauth.Client) { c.Method = oauth.MethodBasic }

// ResourceServer is an edit for Client: the client is the resource servers themselves, which introspect their tokens
// (RFC 7662 §2.1).
func ResourceServer(identifiers ...string) func(*oauth.Client) {
	return func(c *oauth.Client) {
		c.ResourceServers, c.RedirectURIs, c.GrantTypes, c.ResponseTypes = identifiers, nil, nil, nil
	}
}

// Unapproved is an edit for Client: no operator approved the client, as if it had registered itself.
func Unapproved(c *oauth.Client) { c.ApprovedAt, c.Origin = time.Time{}, oauth.ByRegistration }

// Person is a person with an account.
type Person struct {
	ID       string
	Email    string
	Password string
}

func init() { credential.WeakenForTests(true) }

// User creates an account with the password Password.
func (s *Server) User(email string) *Person {
	s.t.Helper()
	return s.UserWithPassword(email, Password)
}

// UserWithPassword creates an account with the given password.
func (s *Server) UserWithPassword(email, password string) *Person {
	s.t.Helper()
	hash, err := credential.HashPassword(context.Background(), password)
	if err != nil {
		s.t.Fatalf("servertest: %v", err)
	}
	s.secret("password", password)
	s.secret("password", password)
	p := &Person{ID: oauth.NewID("usr_"), Email: email, Password: password}
	s.Update(func(tx *store.Tx) error {
		return tx.CreateUser(&identity.User{ID: p.ID, Email: email, Name: "", PasswordHash: hash,
			CreatedAt: tx.Now()})
	})
	return p
}

// readAll reads and closes the body of a response.
func readAll(t testing.TB, resp *http.Response) []byte {
	t.Helper()
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("servertest: reading the response: %v", err)
	}
	return body
}

// Events returns the newest audit events, at most 1,000, whose action begins with action, newest first.
func (s *Server) Events(action string) []audit.Event {
	s.t.Helper()
	var events []audit.Event
	err := s.DB.View(context.Background(), func(tx *store.Tx) (err error) {
		events, _, err = tx.Events(store.EventFilter{Action: action}, store.Page{Limit: 1000, Newest: true})
		return err
	})
	if err != nil {
		s.t.Fatalf("servertest: %v", err)
	}
	return events
}
