package admin_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
	"github.com/cardea-auth/cardea/scope"
)

var root = admin.Command("root", "root@host")

// operate returns the operations on db, and makes a resource.
func operate(t *testing.T, db *store.DB) *admin.Operations {
	t.Helper()
	o := &admin.Operations{DB: db, Issuer: "https://auth.example.com", SigningAlg: "ES256"}
	_, err := o.CreateResource(t.Context(), root, admin.NewResource{
		Identifier: servertest.MCP,
		ResourceTerms: admin.ResourceTerms{Scopes: []oauth.ResourceScope{{Name: "mcp:tools:weather"},
			{Name: "mcp:tools:email:send"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// account makes an account without a password.
func account(t *testing.T, db *store.DB, role identity.Role) *identity.User {
	t.Helper()
	u := &identity.User{ID: oauth.NewID("usr_"), Name: "Ada", Role: role, CreatedAt: db.Now()}
	u.Email = u.ID + "@example.com"
	update(t, db, func(tx *store.Tx) error { return tx.CreateUser(u) })
	return u
}

func update(t *testing.T, db *store.DB, fn func(*store.Tx) error) {
	t.Helper()
	if err := db.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func ptr[T any](v T) *T { return &v }

// lastEvent returns the newest event of the audit log.
func lastEvent(t *testing.T, o *admin.Operations) audit.Event {
	t.Helper()
	events, _, err := o.Events(t.Context(), root, store.EventFilter{}, store.Page{Newest: true, Limit: 1})
	if err != nil || len(events) != 1 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	return events[0].Event
}

func TestCaller(t *testing.T) {
	db, _ := storetest.Open(t, storetest.SQLite)
	o := operate(t, db)
	person := func(role identity.Role, scopes scope.Set) admin.Caller {
		return admin.Person(account(t, db, role), scopes)
	}
	program := func(scopes ...string) admin.Caller { return admin.Program("mcp_1", "Robot", scopes) }
	gone := account(t, db, identity.Owner)
	update(t, db, func(tx *store.Tx) error { return tx.DeleteUser(gone.ID) })
	disabled := account(t, db, identity.Owner)
	update(t, db, func(tx *store.Tx) error { return tx.DisableUser(disabled.ID) })
	account(t, db, identity.Owner) // whom nothing below touches
	reads := map[admin.Noun]func(context.Context, admin.Caller) error{
		admin.Resources: func(ctx context.Context, by admin.Caller) error {
			_, _, err := o.Resources(ctx, by, store.Page{})
			return err
		},
		admin.Clients: func(ctx context.Context, by admin.Caller) error {
			_, _, err := o.Clients(ctx, by, admin.ClientQuery{}, store.Page{})
			return err
		},
		admin.Users: func(ctx context.Context, by admin.Caller) error {
			_, _, err := o.Users(ctx, by, store.Page{})
			return err
		},
		admin.Groups: func(ctx context.Context, by admin.Caller) error {
			_, _, err := o.Groups(ctx, by, store.Page{})
			return err
		},
		admin.Grants: func(ctx context.Context, by admin.Caller) error {
			_, _, err := o.Grants(ctx, by, admin.GrantQuery{}, store.Page{})
			return err
		},
		admin.Sessions: func(ctx context.Context, by admin.Caller) error {
			_, _, err := o.Sessions(ctx, by, "", store.Page{})
			return err
		},
		admin.Events: func(ctx context.Context, by admin.Caller) error {
			_, _, err := o.Events(ctx, by, store.EventFilter{}, store.Page{})
			return err
		},
	}
	writes := map[admin.Noun]func(context.Context, admin.Caller) error{
		admin.Resources: func(ctx context.Context, by admin.Caller) error {
			_, err := o.UpdateResource(ctx, by, servertest.MCP, admin.ResourceTerms{Name: ptr("Weather")})
			return err
		},
		admin.Clients: func(ctx context.Context, by admin.Caller) error {
			n := admin.NewClient{ClientTerms: admin.ClientTerms{Name: ptr("App"),
				RedirectURIs: []string{"http://127.0.0.1/callback"}}}
			_, err := o.CreateClient(ctx, by, n)
			return err
		},
		admin.InitialAccessTokens: func(ctx context.Context, by admin.Caller) error {
			_, err := o.CreateInitialAccessToken(ctx, by, "Team", 1, time.Hour)
			return err
		},
		admin.Users: func(ctx context.Context, by admin.Caller) error {
			_, err := o.DisableUser(ctx, by, "eve@example.com")
			return err
		},
		admin.Groups: func(ctx context.Context, by admin.Caller) error {
			_, err := o.DeleteGroup(ctx, by, "none")
			return err
		},
		admin.Sessions: func(ctx context.Context, by admin.Caller) error {
			_, err := o.RevokeSession(ctx, by, "ses_none")
			return err
		},
		admin.Grants: func(ctx context.Context, by admin.Caller) error {
			_, err := o.RevokeGrant(ctx, by, "grt_none")
			return err
		},
	}
	all := []admin.Noun{admin.Resources, admin.Clients, admin.Users, admin.Groups, admin.Grants, admin.Sessions,
		admin.Events}
	for _, tt := range []struct {
		who           string
		by            admin.Caller
		reads, writes []admin.Noun
	}{
		{"nobody", admin.Caller{}, nil, nil},
		{"a command", root, all, all},
		{"an owner", person(identity.Owner, nil), all, all},
		{"an operator", person(identity.Operator, nil), all,
			[]admin.Noun{admin.Resources, admin.Clients, admin.Grants, admin.Sessions}},
		{"an auditor", person(identity.Auditor, nil), all, nil},
		{"a person without a role", person("", nil), nil, nil},
		{"an owner whose account is deleted", admin.Person(gone, nil), nil, nil},
		{"an owner whose account is disabled", admin.Person(disabled, nil), nil, nil},
		{"an owner's program for clients", person(identity.Owner, scope.Set{"cardea:clients:write"}),
			[]admin.Noun{admin.Clients}, []admin.Noun{admin.Clients}},
		{"an auditor's program for clients", person(identity.Auditor, scope.Set{"cardea:clients:write"}),
			[]admin.Noun{admin.Clients}, nil},
		{"an owner's program for nothing", person(identity.Owner, scope.Set{}), nil, nil},
		{"a program without scopes", program(), nil, nil},
		{"a program that reads grants", program("cardea:grants:read"), []admin.Noun{admin.Grants}, nil},
		{"a program that writes resources", program("cardea:resources:write"), []admin.Noun{admin.Resources},
			[]admin.Noun{admin.Resources}},
		{"a program for everything", program("cardea:*"), all, all},
		{"a program for something else", program("mcp:tools:weather", "cardea:clients"), nil, nil},
	} {
		t.Run(tt.who, func(t *testing.T) {
			judge := func(kind string, noun admin.Noun, do func(context.Context, admin.Caller) error, may bool) {
				err := do(t.Context(), tt.by)
				refusal := (*admin.Error)(nil)
				refused := errors.As(err, &refusal) && refusal.Kind == admin.Forbidden
				if refused == may {
					t.Errorf("to %s %s: %v", kind, noun, err)
				}
				if !refused {
					return
				}
				e := lastEvent(t, o)
				if e.Outcome != audit.Refused || e.Reason != "access_denied" || e.Actor != tt.by.Actor {
					t.Errorf("to %s %s is refused, and the last event is %+v", kind, noun, e)
				}
			}
			for noun, do := range reads {
				judge("read", noun, do, slices.Contains(tt.reads, noun))
			}
			for noun, do := range writes {
				of := noun
				if noun == admin.InitialAccessTokens {
					of = admin.Clients
				}
				judge("write", noun, do, slices.Contains(tt.writes, of))
			}
		})
	}
	if _, err := o.Keys(t.Context(), program("cardea:grants:read")); err == nil ||
		lastEvent(t, o).Action != "key.read" {
		t.Errorf("to read keys without their scope: %v, and the last event is %+v", err, lastEvent(t, o))
	}
}

func TestActor(t *testing.T) {
	db, _ := storetest.Open(t, storetest.SQLite)
	o := operate(t, db)
	ada := admin.Person(account(t, db, identity.Operator), nil)
	ctx := audit.WithRequest(t.Context(), audit.Request{ID: "req_1", Address: "192.0.2.1"})
	if _, err := o.UpdateResource(ctx, ada, servertest.MCP, admin.ResourceTerms{Name: ptr("Weather")}); err != nil {
		t.Fatal(err)
	}
	e := lastEvent(t, o)
	if e.Action != "resource.update" || e.Actor != ada.Actor || e.Address != "192.0.2.1" || e.Outcome != audit.Allowed {
		t.Errorf("the event is %+v", e)
	}
}

// What is read, judged and written again is not written over by somebody else.
func TestChangesAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, _ *storetest.Clock) {
		o := operate(t, db)
		for round := range 10 {
			made, err := o.CreateClient(t.Context(), root, admin.NewClient{ClientTerms: admin.ClientTerms{
				Name: ptr("App"), GrantTypes: []oauth.GrantType{oauth.ClientCredentials},
				Resources: []string{servertest.MCP},
			}})
			if err != nil {
				t.Fatal(err)
			}
			changes := []func() error{
				func() error { // one field each
					_, err := o.UpdateClient(t.Context(), root, made.ID, admin.ClientTerms{Name: ptr("Robot")})
					return err
				},
				func() error {
					_, err := o.UpdateClient(t.Context(), root, made.ID,
						admin.ClientTerms{Scope: ptr("mcp:tools:weather")})
					return err
				},
				func() error {
					_, err := o.UpdateClient(t.Context(), root, made.ID,
						admin.ClientTerms{AccessTokenTTL: ptr(admin.Span(time.Minute))})
					return err
				},
				func() error {
					_, err := o.UpdateResource(t.Context(), root, servertest.MCP,
						admin.ResourceTerms{Name: ptr(fmt.Sprint("Weather ", round))})
					return err
				},
				func() error {
					_, err := o.UpdateResource(t.Context(), root, servertest.MCP,
						admin.ResourceTerms{AccessTokenTTL: ptr(admin.Span(time.Duration(round+1) * time.Minute))})
					return err
				},
			}
			begin := make(chan struct{})
			var wg sync.WaitGroup
			for _, change := range changes {
				wg.Go(func() {
					<-begin
					if err := change(); err != nil {
						t.Error(err)
					}
				})
			}
			close(begin)
			wg.Wait()
			c, err := o.Client(t.Context(), root, made.ID)
			if err != nil || c.Name != "Robot" || c.Scope != "mcp:tools:weather" ||
				c.AccessTokenTTL != admin.Span(time.Minute) {
				t.Errorf("the client is called %q, limited to %q for %v, %v", c.Name, c.Scope, c.AccessTokenTTL, err)
			}
			r, err := o.Resource(t.Context(), root, servertest.MCP)
			if err != nil || r.Name != fmt.Sprint("Weather ", round) ||
				r.AccessTokenTTL != admin.Span(time.Duration(round+1)*time.Minute) {
				t.Errorf("the resource is called %q, with tokens for %v, %v", r.Name, r.AccessTokenTTL, err)
			}
		}
	})
}

func TestErrors(t *testing.T) {
	db, _ := storetest.Open(t, storetest.SQLite)
	o := operate(t, db)
	_, err := o.CreateClient(t.Context(), root, admin.NewClient{ClientTerms: admin.ClientTerms{
		Name: ptr("App {scope} %s"), GrantTypes: []oauth.GrantType{oauth.AuthorizationCode},
	}})
	var e *admin.Error
	if !errors.As(err, &e) || e.Kind != admin.Invalid || e.Field != "redirect_uris" {
		t.Fatalf("the error is %#v", err)
	}
	if want := "grant_types authorization_code needs redirect_uris: where"; !strings.HasPrefix(e.Error(), want) {
		t.Errorf("it says %q, want %q …", e.Error(), want)
	}
	got := e.Text(func(f string) string { return "--" + f })
	if want := "--grant_types authorization_code needs --redirect_uris: where"; !strings.HasPrefix(got, want) {
		t.Errorf("it says %q, want %q …", got, want)
	}
	_, err = o.CreateResource(t.Context(), root, admin.NewResource{
		Identifier:    "https://b.example",
		ResourceTerms: admin.ResourceTerms{Scopes: []oauth.ResourceScope{{Name: "{scopes} %s"}}},
	})
	if !errors.As(err, &e) || !strings.Contains(e.Error(), `"{scopes} %s" is not a scope name`) {
		t.Errorf("what was given is quoted as %q", err)
	}
}

// A resource has no more scopes than a client can request at once, with offline_access.
func TestTooManyScopes(t *testing.T) {
	db, _ := storetest.Open(t, storetest.SQLite)
	o := operate(t, db)
	terms := func(n int) (t admin.ResourceTerms) {
		for i := range n {
			t.Scopes = append(t.Scopes, oauth.ResourceScope{Name: fmt.Sprint("mcp:tools:", i)})
		}
		return t
	}
	refused := func(err error) {
		t.Helper()
		var e *admin.Error
		if !errors.As(err, &e) || e.Kind != admin.Invalid || e.Field != "scopes" ||
			!strings.Contains(e.Error(), "too many") {
			t.Errorf("the error is %v", err)
		}
	}
	_, err := o.CreateResource(t.Context(), root,
		admin.NewResource{Identifier: "https://a.example", ResourceTerms: terms(400)})
	refused(err)
	r, err := o.CreateResource(t.Context(), root,
		admin.NewResource{Identifier: "https://a.example", ResourceTerms: terms(255)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = o.UpdateResource(t.Context(), root, r.ID, terms(256))
	refused(err)
}

// Only any_resource lets a machine ask for tokens for every resource.
func TestAnyResource(t *testing.T) {
	db, _ := storetest.Open(t, storetest.SQLite)
	o := operate(t, db)
	bot := admin.NewClient{ClientTerms: admin.ClientTerms{Name: ptr("Bot"),
		GrantTypes: []oauth.GrantType{oauth.ClientCredentials}}}
	refused := func(what string, err error) {
		t.Helper()
		var e *admin.Error
		if !errors.As(err, &e) || e.Kind != admin.Invalid || e.Field != "resources" {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := o.CreateClient(t.Context(), root, bot)
	refused("made without resources", err)
	bot.Resources = []string{servertest.MCP}
	made, err := o.CreateClient(t.Context(), root, bot)
	if err != nil {
		t.Fatal(err)
	}
	_, err = o.UpdateClient(t.Context(), root, made.ID, admin.ClientTerms{Resources: []string{}})
	refused("changed to no resources", err)
	if _, err := o.UpdateClient(t.Context(), root, made.ID, admin.ClientTerms{AnyResource: true}); err != nil {
		t.Error(err)
	}
	renamed, err := o.UpdateClient(t.Context(), root, made.ID, admin.ClientTerms{Name: ptr("Robot")})
	if err != nil || len(renamed.Resources) != 0 {
		t.Errorf("renamed, it is bound to %v, %v", renamed.Resources, err)
	}
	people, err := o.CreateClient(t.Context(), root,
		admin.NewClient{ClientTerms: admin.ClientTerms{Name: ptr("App"),
			RedirectURIs: []string{"https://a.example/cb"}}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = o.UpdateClient(t.Context(), root, people.ID,
		admin.ClientTerms{GrantTypes: []oauth.GrantType{oauth.AuthorizationCode, oauth.ClientCredentials}})
	refused("changed to a machine", err)
	r, err := o.UpdateResource(t.Context(), root, servertest.MCP, admin.ResourceTerms{Name: ptr("")})
	if err != nil || r.Name != "mcp.example.com" {
		t.Errorf("a resource without a name is called %q, %v", r.Name, err)
	}
}

func TestResetPassword(t *testing.T) {
	s := servertest.StartWeather(t)
	o := &admin.Operations{DB: s.DB, Issuer: s.URL}
	agent, ada := s.Agent(t, s.Client(servertest.Confidential)), s.User("ada@example.com")
	browser := s.Browser(t)
	reset := func(t *testing.T, grants admin.OldGrants) admin.PasswordReset {
		t.Helper()
		done, err := o.ResetPassword(t.Context(), root, ada.Email, servertest.Password, grants)
		if err != nil {
			t.Fatal(err)
		}
		return done
	}

	t.Run("agents stay connected if they are to", func(t *testing.T) {
		tokens := agent.Connect(browser, ada)
		if done := reset(t, admin.KeepGrants); done.Grants != 0 || !agent.Active(tokens.Access) {
			t.Errorf("%d grants ended", done.Grants)
		}
		agent.Refresh(tokens.Refresh).Tokens()
		if !browser.Authorize(agent.Authorization()).IsSignIn() {
			t.Error("the browser is still signed in")
		}
	})
	t.Run("they are disconnected otherwise, and so is a code that waits", func(t *testing.T) {
		tokens := agent.Connect(browser, ada)
		code := browser.Authorize(agent.Authorization()).Through(ada).Code()
		if done := reset(t, admin.EndGrants); done.Grants != 2 { // with that of the test before
			t.Errorf("%d grants ended, want 2", done.Grants)
		}
		if e := lastEvent(t, o); e.Action != "user.reset_password" || e.Detail["grants_ended"] != "2" {
			t.Errorf("the event is %+v", e)
		}
		if agent.Active(tokens.Access) {
			t.Error("an access token is still active")
		}
		agent.Refresh(tokens.Refresh).Refused(400, "invalid_grant")
		agent.Exchange(code).Refused(400, "invalid_grant")
		if !browser.Authorize(agent.Authorization()).IsSignIn() {
			t.Error("the browser is still signed in")
		}
	})
}

func TestSessions(t *testing.T) {
	s := servertest.StartWeather(t)
	o := &admin.Operations{DB: s.DB, Issuer: s.URL}
	agent, ada, bob := s.Agent(t,
		s.Client(servertest.Confidential)), s.User("ada@example.com"), s.User("bob@example.com")
	desk, phone, bobs := s.Browser(t), s.Browser(t), s.Browser(t)
	tokens := agent.Connect(desk, ada)
	phone.Get("/login", servertest.Header("User-Agent", "Phone")).SignIn(ada, servertest.Header("User-Agent", "Phone"))
	bobs.Get("/login").SignIn(bob)

	list := func(user string, page store.Page) ([]admin.Session, string) {
		t.Helper()
		sessions, next, err := o.Sessions(t.Context(), root, user, page)
		if err != nil {
			t.Fatal(err)
		}
		return sessions, next
	}
	if all, _ := list("", store.Page{}); len(all) != 3 {
		t.Fatalf("there are %d sessions, want 3", len(all))
	}
	first, next := list(ada.Email, store.Page{Limit: 1})
	second, end := list(ada.Email, store.Page{Limit: 1, After: next})
	if len(first) != 1 || len(second) != 1 || end != "" || first[0].ID == second[0].ID {
		t.Fatalf("Ada's sessions are %+v and %+v", first, second)
	}
	phones := second[0]
	if first[0].UserAgent == "Phone" {
		phones = first[0]
	}
	if phones.User != ada.Email || phones.UserAgent != "Phone" || phones.Address == "" || phones.CreatedAt.IsZero() ||
		len(phones.AMR) == 0 {
		t.Errorf("the session is %+v", phones)
	}

	if done, err := o.RevokeSession(t.Context(), root, phones.ID); err != nil || !done.Revoked {
		t.Fatal(err)
	}
	if e := lastEvent(t, o); e.Action != "session.revoke" || e.UserID != ada.ID || e.Detail["id"] != phones.ID {
		t.Errorf("the event is %+v", e)
	}
	if !phone.Authorize(agent.Authorization()).IsSignIn() {
		t.Error("the phone is still signed in")
	}
	if desk.Authorize(agent.Authorization(servertest.With("prompt", "consent"))).IsSignIn() ||
		!agent.Active(tokens.Access) {
		t.Error("more ended than one session")
	}
	var undone *admin.Error
	_, err := o.RevokeSession(t.Context(), root, phones.ID)
	if !errors.As(err, &undone) || undone.Kind != admin.NotFound {
		t.Errorf("once more: %v", err)
	}
}

// What a person allows until the moment of a reset does not outlive it.
func TestResetPasswordAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock)
		s.Resource(servertest.MCP, "*mcp:tools:weather")
		o := &admin.Operations{DB: s.DB, Issuer: s.URL}
		app, ada := s.Client(servertest.Confidential), s.User("ada@example.com")
		for range 5 {
			allowed := make(chan struct{}, 4)
			var wg sync.WaitGroup
			for range 4 {
				browser, agent := s.Browser(t), s.Agent(t, app)
				browser.Get("/login").SignIn(ada)
				wg.Go(func() { // allows, again and again, until it is signed out
					for {
						page := browser.Authorize(agent.Authorization(servertest.With("prompt", "consent")))
						if page.IsSignIn() {
							return
						}
						page.Submit(page.Form("decision"), servertest.With("decision", "allow"))
						select {
						case allowed <- struct{}{}:
						default:
						}
					}
				})
			}
			wg.Go(func() {
				<-allowed
				if _, err := o.ResetPassword(t.Context(), root, ada.Email, ada.Password, admin.EndGrants); err != nil {
					t.Error(err)
				}
			})
			wg.Wait()
			if sessions, _, err := o.Sessions(t.Context(), root, ada.Email, store.Page{}); err != nil ||
				len(sessions) > 0 {
				t.Errorf("%d sessions are left, %v", len(sessions), err)
			}
			grants, next, err := o.Grants(t.Context(), root, admin.GrantQuery{User: ada.Email},
				store.Page{Limit: 1000, Newest: true})
			if err != nil || next != "" || len(grants) == 0 {
				t.Fatalf("%d grants, %v", len(grants), err)
			}
			for _, g := range grants {
				if g.RevokedAt.IsZero() {
					t.Errorf("the grant %s of %v is not revoked", g.ID, g.CreatedAt)
				}
			}
		}
	})
}
