package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/mail/mailtest"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
)

// The verbs of protocol scripts. A script states one rule, with its source, on
// its first line, and plays it with three roles: a person, an agent, and an
// attacker with a client and a browser of his own.
//
//	server [mail] [KEY=VALUE …]   a Cardea with that configuration, and perhaps with a mail server, the resource
//	                              https://mcp.example.com/mcp (mcp:tools:weather by default,
//	                              mcp:tools:email:send) and the person ada@example.com
//	resource IDENTIFIER SCOPE …   one more resource; *SCOPE is a default scope
//	client ROLE [confidential | signed] [unapproved] [URI …]
//	                              the client of agent or attacker, with these redirect URIs; with a
//	                              secret, or a key with which it signs an assertion for each request
//	clock +61s                    time passes
//
//	ROLE registers [TOKEN] [NAME=VALUE …]
//	                              dynamic registration, with an initial access token; a name may come again
//	ROLE publishes [NAME=VALUE …]
//	                              a metadata document on a web site of its own, whose URL is its client_id from
//	                              now on; a server with registration.cimd_allow_loopback=true reads it
//	ROLE withdraws                      its document
//	ROLE reads | deletes [of ROLE] [TOKEN]
//	ROLE updates [of ROLE] [TOKEN] [NAME=VALUE …]
//	                              its registration, or that of another, with its registration access token
//	ROLE makes-key                      a key to sign with from now on; its public part is $jwks
//	ROLE signs [CLAIM=VALUE …]          an assertion: $assertion, to send as client_assertion with $assertion_type
//	ROLE authorizes [PARAMETER …]       opens the request in the person's browser
//	ROLE redeems [CODE] [PARAMETER …]   $code unless told otherwise
//	ROLE refreshes [TOKEN] [PARAMETER …]
//	ROLE asks [PARAMETER …]             for a token in its own name
//	ROLE introspects TOKEN
//	ROLE revokes TOKEN
//	attacker opens URL                  in his own browser
//
//	person signs-in | allows [SCOPE …] | denies | signs-out | opens URL
//	person signs-up EMAIL               asks for an account, from the sign-in page; then $mailed_code and
//	                                    $mailed_token are those of the mail, or ""
//	ROLE finishes CODE                  an account, in the browser of the person or the attacker
//	person returns                      to the client, by the form of a page that names an error
//	person goes-back                    to the page before, as the browser kept it
//	operator disables | approves ROLE   the client of that role
//	operator admits N                   $initial_access_token registers so many clients
//
//	expect page sign-in | consent | error STATUS
//	expect page says TEXT               somewhere on it
//	expect code                         at the client
//	expect refusal ERROR                at the client
//	expect status STATUS [NAME=VALUE …] of the last answer to an agent, and members of its JSON;
//	                                    token.NAME is a claim of its access token
//	expect location PREFIX              of the redirect to the client
//
// A PARAMETER is NAME=VALUE (a name may come again), or -NAME to leave it out.
// What comes back is there as $code, $registration_access_token, $access_token, $refresh_token, $client_id,
// $verifier and, of the person's browser, $page.
var protocol = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"server":   verb((*stage).startServer),
	"resource": verb((*stage).addResource),
	"client":   verb((*stage).addClient),
	"clock":    verb((*stage).moveClock),
	"agent":    verb(func(s *stage, args []string) { s.act("agent", args) }),
	"attacker": verb(func(s *stage, args []string) { s.act("attacker", args) }),
	"person":   verb((*stage).person),
	"operator": verb((*stage).operator),
	"expect":   verb((*stage).expect),
}

// stage is what a protocol script has put up so far.
type stage struct {
	ts      *testscript.TestScript
	t       testing.TB
	server  *servertest.Server
	letters *mailtest.Server // nil: there is no mail
	ada     *servertest.Person
	agents  map[string]*servertest.Agent
	browser map[string]*servertest.Browser
	page    *servertest.Page  // what the person, or the attacker, saw last
	before  *servertest.Page  // and before that
	reply   *servertest.Reply // what an agent heard last

	documents map[string]map[string]any // by role, what it publishes
}

type stageKey struct{}

// setStage prepares a script for the verbs of protocol scripts.
func setStage(env *testscript.Env) {
	t, ok := env.T().(testing.TB)
	if !ok {
		return // not run by go test
	}
	env.Values[stageKey{}] = &stage{t: t, agents: map[string]*servertest.Agent{},
		browser: map[string]*servertest.Browser{}, documents: map[string]map[string]any{}}
}

func verb(do func(*stage, []string)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		s, ok := ts.Value(stageKey{}).(*stage)
		switch {
		case !ok:
			ts.Fatalf("the verbs of protocol scripts work under go test alone")
		case neg:
			ts.Fatalf("say with expect what is refused, not with !")
		}
		s.ts = ts
		do(s, args)
		if s.t.Failed() {
			ts.Fatalf("see above")
		}
	}
}

func (s *stage) startServer(args []string) {
	s.server = servertest.Start(s.t, func(c *config.Config) {
		flags := map[string]string{"issuer": c.Issuer, "data_dir": c.DataDir, "limits.enabled": "false"}
		for _, arg := range args {
			if arg == "mail" {
				s.letters = mailtest.New(s.t)
				flags["mail.smtp"], flags["mail.from"] = s.letters.URL, "auth@example.com"
				continue
			}
			name, value, _ := strings.Cut(arg, "=")
			flags[name] = value
		}
		loaded, err := config.Load(config.Sources{Flags: flags})
		s.ts.Check(err)
		*c = loaded.Config
	})
	s.server.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts", "mcp:tools:email:send=Send e-mail")
	s.ada = s.server.User("ada@example.com")
	s.browser["person"], s.browser["attacker"] = s.server.Browser(s.t), s.server.Browser(s.t)
	s.ts.Setenv("issuer", s.server.URL)
}

func (s *stage) addResource(args []string) {
	if len(args) < 1 {
		s.ts.Fatalf("usage: resource IDENTIFIER SCOPE …")
	}
	s.server.Resource(args[0], args[1:]...)
}

func (s *stage) addClient(args []string) {
	if len(args) < 1 {
		s.ts.Fatalf("usage: client ROLE [confidential | signed] [unapproved] [URI …]")
	}
	var uris []string
	var key *servertest.Key
	c := s.server.Client(func(c *oauth.Client) {
		for _, arg := range args[1:] {
			switch arg {
			case "confidential":
				servertest.Confidential(c)
				c.GrantTypes = append(c.GrantTypes, oauth.ClientCredentials)
			case "signed":
				key = servertest.NewKey(s.t, "key-1", "ES256")
				servertest.Signed(servertest.KeySet(s.t, key))(c)
				c.GrantTypes = append(c.GrantTypes, oauth.ClientCredentials)
			case "unapproved":
				servertest.Unapproved(c)
			default:
				uris = append(uris, arg)
			}
		}
		if len(uris) > 0 {
			c.RedirectURIs = uris
		}
	})
	a := s.server.Agent(s.t, c)
	a.Key = key
	s.agents[args[0]] = a
	s.ts.Setenv("client_id", c.ID)
}

func (s *stage) moveClock(args []string) {
	d, err := time.ParseDuration(strings.TrimPrefix(strings.Join(args, ""), "+"))
	s.ts.Check(err)
	s.server.Clock.Advance(d)
}

// agent returns the agent of a role; one that nobody introduced gets a client.
func (s *stage) agent(role string) *servertest.Agent {
	if s.server == nil {
		s.startServer(nil)
	}
	if s.agents[role] == nil {
		s.addClient([]string{role})
	}
	return s.agents[role]
}

func (s *stage) act(role string, args []string) {
	if len(args) == 0 {
		s.ts.Fatalf("usage: %s VERB …", role)
	}
	a, does, args := s.agent(role), args[0], args[1:]
	// token takes the credential to act with off the arguments.
	token := func(name string) string {
		if len(args) > 0 && !strings.Contains(args[0], "=") && !strings.HasPrefix(args[0], "-") {
			first := args[0]
			args = args[1:]
			return first
		}
		return s.ts.Getenv(name)
	}
	switch does {
	case "registers":
		initial := token("")
		s.heard(a.Register(metadata(args), servertest.Bearer(initial)))
		s.ts.Setenv("client_id", a.ClientID)
		s.ts.Setenv("registration_access_token", a.RegistrationToken)
	case "makes-key":
		a.Key = servertest.NewKey(s.t, "key-1", "ES256")
		s.ts.Setenv("jwks", string(servertest.KeySet(s.t, a.Key)))
	case "signs":
		s.ts.Setenv("assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		s.ts.Setenv("assertion", a.Assertion(func(made *servertest.Assertion) {
			for _, arg := range args {
				name, value, _ := strings.Cut(arg, "=")
				made.Claims[name] = value
			}
		}))
	case "publishes":
		s.publish(role, a, metadata(args))
	case "withdraws":
		s.documents[role] = nil
	case "reads", "updates", "deletes":
		target := *a
		if len(args) > 1 && args[0] == "of" {
			target.ClientID = s.agent(args[1]).ClientID
			args = args[2:]
		}
		target.RegistrationToken = cmp.Or(token(""), a.RegistrationToken)
		method := map[string]string{"reads": http.MethodGet, "updates": http.MethodPut,
			"deletes": http.MethodDelete}[does]
		var body any
		if does == "updates" {
			body = metadata(append([]string{"client_id=" + target.ClientID}, args...))
		}
		s.heard(target.Registration(method, body))
	case "authorizes":
		s.saw(s.browser["person"].Authorize(a.Authorization(s.tweaks(args)...)))
		s.ts.Setenv("verifier", a.Verifier)
	case "opens":
		s.saw(s.browser[role].Get(strings.Join(args, "")))
	case "finishes":
		s.finish(s.browser[role].Get("/signup/finish"), strings.Join(args, ""))
	case "redeems":
		code := token("code")
		s.heard(a.Exchange(code, s.tweaks(args)...))
	case "refreshes":
		refresh := token("refresh_token")
		s.heard(a.Refresh(refresh, s.tweaks(args)...))
	case "asks":
		s.heard(a.ClientCredentials(s.tweaks(args)...))
	case "introspects":
		access := token("access_token")
		s.heard(a.Introspect(access, s.tweaks(args)...))
	case "revokes":
		refresh := token("refresh_token")
		s.heard(a.Revoke(refresh, s.tweaks(args)...))
	default:
		s.ts.Fatalf("%s cannot: %s", role, does)
	}
}

// publish serves the metadata document of a role. Its client_id is its URL unless
// it says otherwise.
func (s *stage) publish(role string, a *servertest.Agent, document map[string]any) {
	if _, ok := s.documents[role]; !ok {
		site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			document := s.documents[role]
			if document == nil {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(document) // the server hung up if this fails
		}))
		s.t.Cleanup(site.Close)
		a.ClientID = site.URL + "/client.json"
		s.ts.Setenv("client_id", a.ClientID)
	}
	if _, ok := document["client_id"]; !ok {
		document["client_id"] = a.ClientID
	}
	s.documents[role] = document
}

// metadata is client metadata of NAME=VALUE; what is a list in RFC 7591 §2 is one
// here.
func metadata(args []string) map[string]any {
	m := map[string]any{}
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		switch name {
		case "redirect_uris", "grant_types", "response_types", "contacts":
			list, _ := m[name].([]string)
			m[name] = append(list, value)
		case "jwks":
			m[name] = json.RawMessage(value)
		default:
			m[name] = value
		}
	}
	return m
}

func (s *stage) tweaks(args []string) []servertest.Tweak {
	values := url.Values{}
	var tweaks []servertest.Tweak
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		switch {
		case ok:
			values.Add(name, value)
		case strings.HasPrefix(arg, "-"):
			tweaks = append(tweaks, servertest.Without(arg[1:]))
		default:
			s.ts.Fatalf("%q is neither NAME=VALUE nor -NAME", arg)
		}
	}
	for name, all := range values {
		tweaks = append(tweaks, servertest.With(name, all...))
	}
	return tweaks
}

func (s *stage) heard(reply *servertest.Reply) {
	s.reply = reply
	s.ts.Logf("%d %s", reply.Status, reply.Body)
	for _, name := range []string{"access_token", "refresh_token"} {
		if reply.Status == http.StatusOK && strings.HasPrefix(string(reply.Body), "{") && reply.Text(name) != "" {
			s.ts.Setenv(name, reply.Text(name))
		}
	}
}

func (s *stage) saw(page *servertest.Page) {
	s.page, s.before = page, s.page
	s.ts.Setenv("page", page.URL)
	s.ts.Logf("%d %s %s", page.Status, page.URL, page.Location)
}

func (s *stage) person(args []string) {
	if len(args) == 0 || s.server == nil {
		s.ts.Fatalf("usage: person VERB …, once there is a server")
	}
	switch does, args := args[0], args[1:]; does {
	case "opens":
		s.saw(s.browser["person"].Get(strings.Join(args, "")))
	case "signs-in":
		s.saw(s.page.SignIn(s.ada))
	case "signs-up":
		s.signUp(strings.Join(args, ""))
	case "finishes":
		s.finish(s.page, strings.Join(args, ""))
	case "allows":
		s.saw(s.page.Allow(args...))
	case "goes-back":
		s.page = s.before
	case "denies":
		s.saw(s.page.Deny())
	case "returns":
		s.saw(s.page.Submit(s.page.Form("return")))
	case "signs-out":
		page := s.browser["person"].Get("/login")
		page.Submit(page.Form("csrf"))
	default:
		s.ts.Fatalf("person cannot: %s", does)
	}
}

// signUp asks for an account, from the sign-in page or from that of an earlier attempt.
func (s *stage) signUp(email string) {
	page := s.page
	for _, link := range page.Links() {
		if strings.HasPrefix(link, "/signup") && !page.Has("code") {
			page = page.Follow(link)
			break
		}
	}
	s.saw(page.Submit(page.Form("email"), servertest.With("email", email)))
	s.ts.Setenv("mailed_code", "")
	s.ts.Setenv("mailed_token", "")
	for _, m := range s.server.Mails(s.t, s.letters) {
		s.ts.Setenv("mailed_code", m.Code())
		_, token, _ := strings.Cut(m.Link(), "#")
		s.ts.Setenv("mailed_token", token)
	}
}

// finish makes an account by the form of a page.
func (s *stage) finish(page *servertest.Page, code string) {
	s.saw(page.Submit(page.Form("code"), servertest.With("code", code), servertest.With("name", "Bob"),
		servertest.With("password", "a password of their own")))
}

func (s *stage) operator(args []string) {
	if len(args) < 2 {
		s.ts.Fatalf("usage: operator VERB WHAT …")
	}
	switch args[0] {
	case "binds":
		s.change(args[1], func(c *oauth.Client) { c.Resources = args[2:] })
	case "limits":
		s.change(args[1], func(c *oauth.Client) { c.Allowed = args[2:] })
	case "disables":
		id := s.agent(args[1]).ClientID
		s.server.Update(func(tx *store.Tx) error { return tx.DisableClient(id) })
	case "approves":
		s.change(args[1], func(c *oauth.Client) { c.ApprovedAt = s.server.DB.Now() })
	case "admits":
		uses, err := strconv.Atoi(args[1])
		s.ts.Check(err)
		token := oauth.NewSecret(oauth.InitialTokenPrefix)
		s.server.Update(func(tx *store.Tx) error {
			return tx.CreateInitialToken(&oauth.InitialAccessToken{
				ID: oauth.NewID("iat_"), Hash: oauth.Hash(token), MaxUses: uses, CreatedAt: tx.Now(),
				ExpiresAt: tx.Now().Add(time.Hour),
			})
		})
		s.ts.Setenv("initial_access_token", token)
	default:
		s.ts.Fatalf("operator cannot: %s", args[0])
	}
}

// change changes the client of an agent, as an operator does.
func (s *stage) change(agent string, edit func(*oauth.Client)) {
	id := s.agent(agent).ClientID
	s.server.Update(func(tx *store.Tx) error {
		c, err := tx.Client(id)
		if err != nil {
			return err
		}
		edit(c)
		return tx.UpdateClient(c)
	})
}

func (s *stage) expect(args []string) {
	if len(args) == 0 {
		s.ts.Fatalf("usage: expect WHAT …")
	}
	switch what, args := args[0], args[1:]; what {
	case "page":
		s.expectPage(args)
	case "code":
		s.ts.Setenv("code", s.page.Code())
	case "refusal":
		s.page.Refused(strings.Join(args, ""))
	case "location":
		if prefix := strings.Join(args, ""); !strings.HasPrefix(s.page.Location, prefix) {
			s.ts.Fatalf("the redirect leads to %q, want %s…", s.page.Location, prefix)
		}
	case "status":
		s.expectStatus(args)
	default:
		s.ts.Fatalf("cannot expect: %s", what)
	}
}

func (s *stage) expectPage(args []string) {
	switch kind := strings.Join(args, " "); {
	case len(args) > 1 && args[0] == "says":
		if text := strings.Join(args[1:], " "); !strings.Contains(s.page.Body, text) {
			s.ts.Fatalf("%q is not on the page with status %d\n%s", text, s.page.Status, s.page.Body)
		}
	case kind == "sign-in" && s.page.IsSignIn(), kind == "consent" && s.page.IsConsent():
	case len(args) == 2 && args[0] == "error":
		status, err := strconv.Atoi(args[1])
		s.ts.Check(err)
		s.page.ErrorPage(status)
	default:
		s.ts.Fatalf("no %s page, but status %d %s\n%s", kind, s.page.Status, s.page.Location, s.page.Body)
	}
}

func (s *stage) expectStatus(args []string) {
	if len(args) == 0 || s.reply == nil {
		s.ts.Fatalf("usage: expect status STATUS [NAME=VALUE …], after an agent heard an answer")
	}
	if strconv.Itoa(s.reply.Status) != args[0] {
		s.ts.Fatalf("status %d, want %s: %s", s.reply.Status, args[0], s.reply.Body)
	}
	if len(args) == 1 {
		return
	}
	members := s.reply.JSON()
	for _, arg := range args[1:] {
		name, want, _ := strings.Cut(arg, "=")
		got, ok := members[name]
		if claim, isClaim := strings.CutPrefix(name, "token."); isClaim {
			got, ok = s.claims()[claim]
		}
		if text := fmt.Sprint(got); !ok && want != "" || ok && text != want {
			s.ts.Fatalf("%s is %v, want %s: %s", name, got, want, s.reply.Body)
		}
	}
	if code, ok := members["error"].(string); ok && slices.Contains(args, "error="+code) {
		s.reply.Refused(s.reply.Status, code)
	}
}

// claims returns the claims of the access token in the last answer.
func (s *stage) claims() map[string]any {
	var claims map[string]any
	text, err := json.Marshal(servertest.Claims(s.t, s.reply.Text("access_token")))
	s.ts.Check(err)
	s.ts.Check(json.Unmarshal(text, &claims))
	return claims
}
