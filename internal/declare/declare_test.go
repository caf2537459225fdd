package declare_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
	"go.yaml.in/yaml/v3"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/declare"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
	"github.com/cardea-auth/cardea/scope"
)

const issuer = "https://auth.example.com"

var root = admin.Command("root", "root@host")

func operations(db *store.DB) *admin.Operations {
	return &admin.Operations{DB: db, Issuer: issuer, SigningAlg: "ES256"}
}

func read(t *testing.T, text string) *declare.File {
	t.Helper()
	f, err := declare.Read([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return f
}

func apply(t *testing.T, o *admin.Operations, text string, options declare.Options) declare.Outcome {
	t.Helper()
	out, err := declare.Apply(t.Context(), o, root, read(t, text), options)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return out
}

func export(t *testing.T, o *admin.Operations) string {
	t.Helper()
	text, notes, err := declare.Export(t.Context(), o, root)
	if err != nil || len(notes) > 0 {
		t.Fatal(err, notes)
	}
	return string(text)
}

// events returns the ids of all events.
func events(t *testing.T, o *admin.Operations) (ids []string) {
	t.Helper()
	found, _, err := o.Events(t.Context(), root, store.EventFilter{}, store.Page{Limit: 1000, Newest: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range found {
		ids = append(ids, e.ID)
	}
	return ids
}

// summary returns what was changed, a line for each record and each difference.
func summary(out declare.Outcome) (lines []string) {
	for _, c := range out.Changes {
		line := fmt.Sprint(c.Verb, " ", c.Noun, " ", c.ID)
		if c.Grants > 0 {
			line += fmt.Sprint(", ends ", c.Grants)
		}
		lines = append(lines, line)
		for _, d := range c.Differences {
			lines = append(lines, fmt.Sprintf("  %s: %q to %q", d.Path, d.Before, d.After))
		}
	}
	return lines
}

func ptr[T any](v T) *T { return &v }

// An installation whose file is applied to an empty one is the same there, and applying it once more changes nothing.
func TestRoundTrip(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, _ *storetest.Clock) {
		for seed := range uint64(5) {
			if seed > 0 {
				db, _ = storetest.Open(t, engineOf(t))
			}
			o := operations(db)
			populate(t, o, db, rand.New(rand.NewPCG(seed, 9)))
			text := export(t, o)
			was := events(t, o)
			if out := apply(t, o, text, declare.Options{Prune: true}); len(out.Changes)+len(out.Notes) > 0 {
				t.Fatalf("seed %d: applied where it comes from: %q, %q\n%s", seed, summary(out), out.Notes, text)
			}
			if diff := cmp.Diff(was, events(t, o)); diff != "" {
				t.Errorf("seed %d: recorded %s", seed, diff)
			}

			empty, _ := storetest.Open(t, engineOf(t))
			other := operations(empty)
			people(t, empty)
			plan := apply(t, other, text, declare.Options{DryRun: true})
			if found := events(t, other); len(found) > 0 {
				t.Errorf("seed %d: a dry run recorded %q", seed, found)
			}
			out := apply(t, other, text, declare.Options{})
			if diff := cmp.Diff(summary(plan), summary(out)); diff != "" {
				t.Errorf("seed %d: done (+) is not what was planned (-):\n%s", seed, diff)
			}
			if diff := cmp.Diff(text, export(t, other)); diff != "" {
				t.Errorf("seed %d: the same file (-) makes another installation (+):\n%s", seed, diff)
			}
			was = events(t, other)
			if out := apply(t, other, text, declare.Options{Prune: true}); len(out.Changes) > 0 {
				t.Errorf("seed %d: applied twice: %q", seed, summary(out))
			}
			if diff := cmp.Diff(was, events(t, other)); diff != "" {
				t.Errorf("seed %d: recorded %s", seed, diff)
			}
		}
	})
}

func engineOf(t *testing.T) storetest.Engine {
	return storetest.Engine(t.Name()[strings.LastIndexByte(t.Name(), '/')+1:])
}

// people makes the accounts that groups have as members.
func people(t *testing.T, db *store.DB) (emails []string) {
	t.Helper()
	for _, name := range []string{"ada", "bob", "eve"} {
		u := &identity.User{ID: oauth.NewID("usr_"), Email: name + "@example.com", CreatedAt: db.Now()}
		if err := db.Update(t.Context(), func(tx *store.Tx) error { return tx.CreateUser(u) }); err != nil {
			t.Fatal(err)
		}
		emails = append(emails, u.Email)
	}
	return emails
}

const jwks = `{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","kid":"1","made":1e3,` +
	`"x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`

// texts are names and descriptions, with what YAML finds special.
var texts = []string{
	"Weather", "yes", "null", "1.5", "0x10", "2024-01-01", "~", "a: b", "- a", "#", "'", `"`, "*a", "&a", "!!int 1",
	"{a}", " begins", "ends ", "two\nlines", "\x1b[31mred", "tab\t", "\u00e4\u4e16\U0001F600", "\u202eright to left",
	"\u0085", "\ufeff", "<<", "%", "\\", "\r\n", "|", "=", "\x7f",
	"very long " + strings.Repeat("word ", 40),
}

// populate makes random groups, resources and clients.
func populate(t *testing.T, o *admin.Operations, db *store.DB, random *rand.Rand) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	text := func() string { return texts[random.IntN(len(texts))] }
	line := func() string { return audit.Plain(text()) }
	maybe := func() bool { return random.IntN(2) == 0 }
	span := func() *admin.Span { return ptr(admin.Span(random.IntN(3) * 90e9)) }
	emails := people(t, db)
	for n := range random.IntN(4) {
		name := fmt.Sprint("group", n)
		description := ""
		if maybe() {
			description = "all - of: 'them'"
		}
		_, err := o.CreateGroup(ctx, root, name,
			admin.GroupTerms{Description: &description, SecondFactor: ptr(maybe())})
		must(err)
		for _, email := range emails {
			if maybe() {
				_, err := o.AddMember(ctx, root, name, email)
				must(err)
			}
		}
	}
	var identifiers []string
	for n := range 1 + random.IntN(4) {
		terms := admin.ResourceTerms{
			Name: ptr(line()), AccessTokenTTL: span(), RefreshIdleTTL: span(), RefreshMaxTTL: span(),
			SigningAlg: ptr([]string{"", "ES256", "EdDSA"}[random.IntN(3)]),
			TokenShape: ptr([]oauth.TokenShape{"", oauth.ShapeStandard, oauth.ShapeLists}[random.IntN(3)]),
		}
		for _, name := range []string{"mcp:tools:weather", "mcp:tools:email:send", "a:*", "yes"} {
			if n == 0 || maybe() {
				terms.Scopes = append(terms.Scopes, oauth.ResourceScope{
					Name: name, Description: line(), Default: maybe(),
					Risk: append([]oauth.Risk{""}, oauth.Risks...)[random.IntN(4)],
				})
			}
		}
		random.Shuffle(len(terms.Scopes),
			func(i, j int) { terms.Scopes[i], terms.Scopes[j] = terms.Scopes[j], terms.Scopes[i] })
		r, err := o.CreateResource(ctx, root,
			admin.NewResource{Identifier: fmt.Sprintf("https://mcp%d.example.com/mcp", n), ResourceTerms: terms})
		must(err)
		identifiers = append(identifiers, r.Identifier)
	}
	for range random.IntN(8) {
		n := admin.NewClient{ClientTerms: admin.ClientTerms{Name: ptr(text() + "."), AccessTokenTTL: span()}}
		switch random.IntN(4) {
		case 0: // for people
			n.GrantTypes = []oauth.GrantType{oauth.AuthorizationCode, oauth.RefreshToken}
			n.RedirectURIs = []string{"http://127.0.0.1/callback", "https://app.example.com/cb?a=%20b"}
			n.Method = []oauth.Method{oauth.MethodNone, oauth.MethodPost, ""}[random.IntN(3)]
			if maybe() {
				n.ID = fmt.Sprintf("https://app%d.example.com/client.json", random.Uint32())
			}
		case 1: // a machine
			n.GrantTypes, n.Resources =
				[]oauth.GrantType{oauth.ClientCredentials}, identifiers[:1+random.IntN(len(identifiers))]
			if maybe() {
				n.Scope = ptr("mcp:tools:weather a:b")
			}
		case 2: // one that signs
			n.GrantTypes, n.AnyResource = []oauth.GrantType{oauth.ClientCredentials}, true
			if maybe() {
				n.JWKSURI = ptr("https://app.example.com/jwks.json")
			} else {
				n.JWKS = json.RawMessage(jwks)
			}
		case 3: // a resource server
			n.ResourceServers, n.AccessTokenTTL = identifiers[:1+random.IntN(len(identifiers))], nil
		}
		c, err := o.CreateClient(ctx, root, n)
		must(err)
		if maybe() {
			_, err := o.DisableClient(ctx, root, c.ID)
			must(err)
		}
	}
	// What no file has.
	_, err := o.CreateClient(ctx, root, admin.NewClient{ClientTerms: admin.ClientTerms{
		Name: ptr("Ops"), GrantTypes: []oauth.GrantType{oauth.ClientCredentials}, Resources: identifiers[:1],
	}, ID: "mcp_last"})
	must(err)
	must(db.Update(ctx, func(tx *store.Tx) error {
		return tx.CreateClient(&oauth.Client{ID: "mcp_registered", Origin: oauth.ByRegistration, CreatedAt: tx.Now(),
			Metadata: oauth.Metadata{
				Name: "Agent", GrantTypes: []oauth.GrantType{oauth.AuthorizationCode},
				RedirectURIs: []string{"http://127.0.0.1/cb"},
			}}, "")
	}))
}

const small = `version: 1
groups:
  - name: staff
    description: All
    members: [ada@example.com, nobody@example.com]
resources:
  - identifier: https://mcp.example.com/mcp
    name: Weather
    access_token_ttl: 10m
    scopes:
      - {name: mcp:tools:weather, description: Forecasts, default: true, risk: read}
      - name: mcp:tools:email:send
clients:
  - client_id: mcp_bot
    client_name: Bot
    grant_types: [client_credentials]
    resources: [https://mcp.example.com/mcp]
    scope: mcp:tools:weather
`

// What changes is told member by member.
func TestDifferences(t *testing.T) {
	db, _ := storetest.Open(t, storetest.SQLite)
	o := operations(db)
	people(t, db)
	out := apply(t, o, small, declare.Options{Secrets: true})
	want := []string{
		`create group staff`,
		`  description: "" to "All"`,
		`  members: "" to "ada@example.com"`,
		`create resource https://mcp.example.com/mcp`,
		`  name: "" to "Weather"`,
		`  access_token_ttl: "" to "10m"`,
		`  scopes: "" to "mcp:tools:weather"`,
		`  scopes: "" to "mcp:tools:email:send"`,
		`  scopes[mcp:tools:weather].description: "" to "Forecasts"`,
		`  scopes[mcp:tools:weather].default: "" to "true"`,
		`  scopes[mcp:tools:weather].risk: "" to "read"`,
		`create client mcp_bot`,
		`  client_name: "" to "Bot"`,
		`  token_endpoint_auth_method: "" to "client_secret_basic"`,
		`  grant_types: "" to "client_credentials"`,
		`  scope: "" to "mcp:tools:weather"`,
		`  resources: "" to "https://mcp.example.com/mcp"`,
	}
	if diff := cmp.Diff(want, summary(out)); diff != "" {
		t.Errorf("created (-want +got):\n%s", diff)
	}
	if len(out.Notes) != 1 || !strings.Contains(out.Notes[0], "nobody has the account nobody@example.com yet") {
		t.Errorf("notes: %q", out.Notes)
	}
	if len(out.Secrets) != 1 || out.Secrets[0].ClientID != "mcp_bot" ||
		!strings.HasPrefix(out.Secrets[0].Secret, oauth.SecretPrefix) {
		t.Errorf("secrets of %d clients", len(out.Secrets))
	}

	edited := strings.NewReplacer("[ada@example.com, nobody@example.com]", "[Bob@example.com]", "10m", "0s",
		"description: Forecasts", "description: Rain", "      - name: mcp:tools:email:send\n", "",
		"    scope: mcp:tools:weather\n", "    disabled: true\n").Replace(small)
	want = []string{
		`update group staff`,
		`  members: "ada@example.com" to ""`,
		`  members: "" to "bob@example.com"`,
		`update resource https://mcp.example.com/mcp`,
		`  access_token_ttl: "10m" to ""`,
		`  scopes: "mcp:tools:email:send" to ""`,
		`  scopes[mcp:tools:weather].description: "Forecasts" to "Rain"`,
		`update client mcp_bot`,
		`  scope: "mcp:tools:weather" to ""`,
		`  disabled: "" to "true"`,
	}
	for _, options := range []declare.Options{{DryRun: true}, {}} {
		if diff := cmp.Diff(want, summary(apply(t, o, edited, options))); diff != "" {
			t.Errorf("changed, %+v (-want +got):\n%s", options, diff)
		}
	}
	// What is left out: members and disabled stay, a list that is not there is not pruned.
	rest := "groups: [{name: staff, description: All}]\nclients: [{client_id: mcp_bot, client_name: Bot, " +
		"grant_types: [client_credentials], resources: ['https://mcp.example.com/mcp']}]"
	if out := apply(t, o, rest, declare.Options{Prune: true}); len(out.Changes) > 0 {
		t.Errorf("changed %q", summary(out))
	}
	// Nobody is taken out of a group that lists an address in another spelling.
	out = apply(t, o, "groups: [{name: staff, description: All, members: [BOB@example.com]}]", declare.Options{})
	if len(out.Changes) > 0 {
		t.Errorf("changed %q", summary(out))
	}
}

// Pruning deletes what the file could have, and says which grants end.
func TestPrune(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, _ *storetest.Clock) {
		o := operations(db)
		people(t, db)
		apply(t, o, small, declare.Options{})
		r, err := o.Resource(t.Context(), root, "https://mcp.example.com/mcp")
		if err != nil {
			t.Fatal(err)
		}
		u, err := o.User(t.Context(), root, "ada@example.com")
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Update(t.Context(), func(tx *store.Tx) error {
			err := tx.CreateClient(&oauth.Client{ID: "mcp_agent", Origin: oauth.ByRegistration, CreatedAt: tx.Now(),
				Metadata: oauth.Metadata{
					Name: "Agent", GrantTypes: []oauth.GrantType{oauth.AuthorizationCode},
					RedirectURIs: []string{"http://127.0.0.1/cb"},
				}}, "")
			if err != nil {
				return err
			}
			if err := tx.CreateClient(&oauth.Client{ID: "mcp_ops", Origin: oauth.ByOperator, CreatedAt: tx.Now(),
				ApprovedAt: tx.Now(), Metadata: oauth.Metadata{
					Name: "Ops", Method: oauth.MethodBasic, GrantTypes: []oauth.GrantType{oauth.ClientCredentials},
				}, Resources: []string{issuer + "/admin/api"}}, ""); err != nil {
				return err
			}
			g := &oauth.Grant{
				ID: "grt_1", ClientID: "mcp_agent", UserID: u.ID, ResourceID: r.ID, RedirectURI: "http://127.0.0.1/cb",
				Secret: "s", Refreshable: true, CreatedAt: tx.Now(), SignedInAt: tx.Now(),
				ExpiresAt: tx.Now().Add(1e15), EndsAt: tx.Now().Add(1e15),
			}
			if err := tx.CreateGrant(g); err != nil {
				return err
			}
			return tx.RedeemGrant(g.ID, 1, g.ExpiresAt, oauth.MethodNone)
		}); err != nil {
			t.Fatal(err)
		}
		none := "groups: []\nresources: []\nclients: []"
		if out := apply(t, o, none, declare.Options{}); len(out.Changes) > 0 {
			t.Errorf("without pruning: %q", summary(out))
		}
		want := []string{"delete client mcp_bot", "delete resource https://mcp.example.com/mcp, ends 1",
			"delete group staff"}
		for _, options := range []declare.Options{{DryRun: true, Prune: true}, {Prune: true}} {
			if diff := cmp.Diff(want, summary(apply(t, o, none, options))); diff != "" {
				t.Errorf("%+v (-want +got):\n%s", options, diff)
			}
		}
		clients, _, err := o.Clients(t.Context(), root, admin.ClientQuery{}, store.Page{})
		var left []string
		for _, c := range clients {
			left = append(left, c.ID)
		}
		slices.Sort(left)
		if diff := cmp.Diff([]string{"mcp_agent", "mcp_ops"}, left); err != nil || diff != "" {
			t.Errorf("clients that are left: %v %s", err, diff)
		}
	})
}

// A file with faults changes nothing, and all of them are told.
func TestFaults(t *testing.T) {
	db, _ := storetest.Open(t, storetest.SQLite)
	o := operations(db)
	apply(t, o, small, declare.Options{})
	if err := db.Update(t.Context(), func(tx *store.Tx) error {
		return tx.CreateClient(&oauth.Client{ID: "mcp_agent", Origin: oauth.ByRegistration, CreatedAt: tx.Now(),
			Metadata: oauth.Metadata{Name: "Agent"}}, "")
	}); err != nil {
		t.Fatal(err)
	}
	before := export(t, o)
	tests := []struct {
		name, text string
		want       []string
	}{
		{"empty", "# nothing",
			[]string{`line 1: the file is empty; it begins with version: 1, and cardea export writes one`}},
		{"not YAML", "version: 1\n a: [",
			[]string{`line 2: this is not YAML: mapping values are not allowed in this context; ` +
				`begin the members of one ` +
				`item in the same column, and quote a text that has a colon or begins with a special character`}},
		{"a tab", "version: 1\ngroups:\n\t- name: x\n",
			[]string{`line 3: this is not YAML: found character that cannot start any token; ` +
				`indent with spaces, not with ` +
				`tabs`}},
		{"another version", "version: 2",
			[]string{`line 1: version 2 of the format is unknown; this program knows version 1`}},
		{"two documents", "version: 1\n---\nversion: 1",
			[]string{`line 2: a second document begins here; write everything into one`}},
		{"a list", "- a", []string{`line 1: the file must have members, each written as name: value`}},
		{"unknown keys", "resource: []\nclients:\n  - client_id: mcp_a\n    client_name: A\n    redirect_uri: x\n" +
			"    secret: y\n", []string{
			`line 1: unknown key "resource"; the nearest known one is "resources"`,
			`line 5: unknown key "redirect_uri"; the nearest known one is "redirect_uris"`,
			`line 6: unknown key "secret"; the nearest known one is "scope"`,
		}},
		{"a key twice", "groups: []\ngroups: []", []string{`line 2: groups is given twice, ` +
			`first on line 1; remove one`}},
		{"aliases", "groups: &a\n  - name: b\nclients: *a",
			[]string{`line 3: aliases (*) and merge keys (<<) are not read; write the value out`}},
		{"a bomb", "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]",
			[]string{`line 2: aliases (*) and merge keys (<<) are not read; write the value out`}},
		{"wrong kinds", "groups:\n  name: a\nresources:\n  - identifier: https://a.example\n    name: " +
			"5\n    access_token_ttl: 10\n    scopes:\n      - name: a\n        default: yes please\nclients: " +
			"[{client_id: mcp_a, client_name: !!binary aGk=, jwks: [], redirect_uris: [~]}]", []string{
			`line 2: groups must be a list; begin each of its items with a dash`,
			`line 5: name must be text; put it in quotes`,
			`line 6: access_token_ttl must be a length of time in whole seconds; write it like 90s, 10m, 1h30m or 720h`,
			`line 9: default must be true or false`,
			`line 10: client_name must be text; put it in quotes`,
			`line 10: jwks must be a JSON Web Key Set (RFC 7517): keys, and below it a list`,
			`line 10: an item of redirect_uris is empty; remove it`,
		}},
		{"U+0000", `groups: [{name: "a\0"}]`,
			[]string{`line 1: name has the character U+0000; remove it`, `line 1: an item of groups needs name`}},
		{"twice", "resources:\n  - identifier: https://a.example/\n  - identifier: " +
			"HTTPS://a.example\nclients:\n  - {client_id: mcp_a, client_name: A}\n  - {client_id: mcp_a, " +
			"client_name: A}\ngroups:\n  - {name: a, members: [a@b.c, a@b.c]}", []string{
			`line 3: the resource "https://a.example" is declared twice, first on line 2; remove one`,
			`line 6: the client "mcp_a" is declared twice, first on line 5; remove one`,
			`line 8: members has "a@b.c" twice; remove one`,
		}},
		{"an id for an identifier", "resources:\n  - identifier: res_1",
			[]string{`line 2: resource "res_1" is not an absolute URI, such as https://mcp.example.com/mcp`}},
		{"what operations refuse", `
groups:
  - name: our staff
resources:
  - identifier: https://a.example/mcp
    scopes:
      - name: a b
  - identifier: https://mcp.example.com/mcp
    signing_alg: HS256
clients:
  - client_id: usr_a
    client_name: A
    grant_types: [client_credentials]
    any_resource: true
  - client_id: mcp_a
    client_name: A
    grant_types: [client_credentials]
    resources: [https://b.example/mcp]
  - client_id: mcp_b
    client_name: B
    grant_types: [client_credentials]
    resources: [https://a.example/mcp]
  - client_id: mcp_agent
    client_name: Mine now
    redirect_uris: [https://eve.example/]
  - client_id: mcp_bot
    client_name: Bot
    token_endpoint_auth_method: none
    redirect_uris: [http://127.0.0.1/]
  - client_id: mcp_c
    client_name: C
    grant_types: [client_credentials]
    resources: [https://auth.example.com/admin/api]
`, []string{
			`line 3: group our staff: name of a group is 1 to 64 letters (a to z), digits, dots, ` +
				`dashes and underscores, and begins with a letter or a digit`,
			`line 6: resource https://a.example/mcp: scopes "a b" is not a scope name; ` +
				`use printable ASCII without spaces, quotation marks and backslashes (RFC 6749 section 3.3)`,
			`line 9: resource https://mcp.example.com/mcp: signing_alg "HS256" is unknown; use one of ES256, ` +
				`RS256, PS256, EdDSA`,
			`line 11: client usr_a: client_id must be the https URL that the client sends as its client_id, ` +
				`or mcp_ and up to 100 letters, digits, dots, dashes and underscores; ` +
				`leave it out to have an id generated`,
			`line 15: client mcp_a: there is no resource https://b.example/mcp`,
			`line 23: client mcp_agent: this client registered itself or has a metadata document, ` +
				`and only clients that an operator made can stand in a file; remove it here, and change it with: ` +
				`cardea client update`,
			`line 28: client mcp_bot: it authenticates with client_secret_basic, ` +
				`and that cannot be changed to none; give the new client another client_id`,
			`line 33: client mcp_c: a client for the administration of Cardea cannot stand in a file, ` +
				`so that a file does not give rights over the installation; make it with: cardea client create`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := declare.Read([]byte(tt.text))
			if err == nil {
				_, err = declare.Apply(t.Context(), o, root, f, declare.Options{Prune: true})
			}
			var faults declare.Faults
			if !errors.As(err, &faults) {
				t.Fatalf("error %v", err)
			}
			if diff := cmp.Diff(tt.want, strings.Split(faults.Error(), "\n")); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			if after := export(t, o); after != before {
				t.Errorf("changed: %s", cmp.Diff(before, after))
			}
		})
	}
	many := "groups:" + strings.Repeat("\n  - nam: a", 100)
	_, err := declare.Read([]byte(many))
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 51 || lines[50] != "line 27: 150 more from here on" {
		t.Errorf("%d faults; the last is %s", len(lines), lines[len(lines)-1])
	}
	_, err = declare.Read(make([]byte, declare.MaxBytes+1))
	if !strings.Contains(fmt.Sprint(err), "more than 4 MB") {
		t.Errorf("too large: %v", err)
	}
}

// Who may not do a part of it does none of it, and that is recorded.
func TestRights(t *testing.T) {
	db, _ := storetest.Open(t, storetest.SQLite)
	o := operations(db)
	u := &identity.User{ID: "usr_1", Email: "op@example.com", Role: identity.Operator, CreatedAt: db.Now()}
	if err := db.Update(t.Context(), func(tx *store.Tx) error { return tx.CreateUser(u) }); err != nil {
		t.Fatal(err)
	}
	undone := (*admin.Error)(nil)
	_, err := declare.Apply(t.Context(), o, admin.Person(u, nil), read(t, small), declare.Options{})
	if !errors.As(err, &undone) || undone.Kind != admin.Forbidden {
		t.Fatalf("an operator, who does not make groups: %v", err)
	}
	found, _, err := o.Events(t.Context(), root, store.EventFilter{}, store.Page{})
	if err != nil || len(found) != 1 || found[0].Action != "apply" || found[0].Outcome != audit.Refused ||
		found[0].Actor.ID != u.ID {
		t.Errorf("recorded %v, %v", found, err)
	}
	if _, err := o.Resource(t.Context(), root, "https://mcp.example.com/mcp"); err == nil {
		t.Error("the resource was made")
	}
}

// A dry run needs only the right to read. It changes nothing, and does not tell which addresses have an account.
func TestDryRunReads(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, _ *storetest.Clock) {
		o := operations(db)
		people(t, db)
		want := summary(apply(t, o, small, declare.Options{DryRun: true}))
		reader := func(scopes ...string) admin.Caller { return admin.Program("mcp_ci", "CI", scope.Of(scopes...)) }
		before := events(t, o)
		out, err := declare.Apply(t.Context(), o,
			reader("cardea:groups:read", "cardea:users:read", "cardea:resources:read", "cardea:clients:read"),
			read(t, small), declare.Options{DryRun: true})
		if diff := cmp.Diff(want, summary(out)); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
		if diff := cmp.Diff(before, events(t, o)); diff != "" {
			t.Errorf("a dry run is recorded: %s", diff)
		}
		refused := func(what, scope string, by admin.Caller, text string, options declare.Options) {
			t.Helper()
			undone := (*admin.Error)(nil)
			_, err := declare.Apply(t.Context(), o, by, read(t, text), options)
			if !errors.As(err, &undone) || undone.Scope != scope {
				t.Errorf("%s: %v", what, err)
			}
		}
		refused("it applies", "cardea:groups:write",
			reader("cardea:groups:read", "cardea:resources:read", "cardea:clients:read"), small, declare.Options{})
		refused("it reads no clients", "cardea:clients:read",
			reader("cardea:groups:read", "cardea:users:read", "cardea:resources:read"), small,
			declare.Options{DryRun: true})
		member := "groups: [{name: staff, members: [nobody@example.com]}]"
		refused("it asks for an account", "cardea:users:read", reader("cardea:groups:read"), member,
			declare.Options{DryRun: true})
		for _, scopes := range [][]string{{"cardea:groups:write"}, {"cardea:groups:read", "cardea:users:read"}} {
			out, err := declare.Apply(t.Context(), o, reader(scopes...), read(t, member), declare.Options{DryRun: true})
			if err != nil || len(out.Notes) != 1 {
				t.Errorf("%v: %v %v", scopes, out.Notes, err)
			}
		}
	})
}

// Two that apply a file at once do not disturb each other: one makes what it says, and the other finds it so.
func TestAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, _ *storetest.Clock) {
		o := operations(db)
		people(t, db)
		outs, errs := make([]declare.Outcome, 4), make([]error, 4)
		var all sync.WaitGroup
		f := read(t, small)
		for i := range outs {
			all.Go(func() { outs[i], errs[i] = declare.Apply(t.Context(), o, root, f, declare.Options{}) })
		}
		all.Wait()
		var changes []int
		for i, out := range outs {
			if errs[i] != nil {
				t.Fatal(errs[i])
			}
			changes = append(changes, len(out.Changes))
		}
		slices.Sort(changes)
		if diff := cmp.Diff([]int{0, 0, 0, 3}, changes); diff != "" {
			t.Errorf("changes (-want +got):\n%s", diff)
		}
	})
}

// An installation with more than people keep in a file is not exported whole, because that is work without a bound.
func TestExportIsBounded(t *testing.T) {
	db, _ := storetest.Open(t, storetest.SQLite)
	o := operations(db)
	if err := db.Update(t.Context(), func(tx *store.Tx) error {
		for i := range 20001 {
			if err := tx.CreateGroup(&identity.Group{ID: fmt.Sprint("grp_", i), Name: fmt.Sprint("g", i)}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := declare.Export(t.Context(), o, root); !strings.Contains(fmt.Sprint(err), "more than 20000 groups") {
		t.Errorf("exported: %v", err)
	}
}

// A client that could not be made again is left out of the file, and is not pruned.
func TestExportLeavesOut(t *testing.T) {
	db, _ := storetest.Open(t, storetest.SQLite)
	o := operations(db)
	apply(t, o, small, declare.Options{})
	if _, err := o.DeleteResource(t.Context(), root, "https://mcp.example.com/mcp"); err != nil {
		t.Fatal(err)
	}
	text, notes, err := declare.Export(t.Context(), o, root)
	want := []string{"the client mcp_bot (Bot) is left out, because there is no resource " +
		"https://mcp.example.com/mcp; change it, or delete it"}
	if diff := cmp.Diff(want, notes); err != nil || diff != "" {
		t.Errorf("notes: %v %s", err, diff)
	}
	if out := apply(t, o, string(text), declare.Options{Prune: true}); len(out.Changes) > 0 {
		t.Errorf("changed %q", summary(out))
	}
}

const examplePath = "../../examples/objects/cardea-objects.yaml"

// The example is applied, its schema has the members that Read knows, and accepts the example and what Export writes.
func TestSchema(t *testing.T) {
	text, err := os.ReadFile("../../docs/cardea-objects.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	schema := new(jsonschema.Schema)
	if err := json.Unmarshal(text, schema); err != nil {
		t.Fatal(err)
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		record reflect.Type
		schema *jsonschema.Schema
	}{
		{reflect.TypeFor[declare.File](), schema},
		{reflect.TypeFor[declare.Group](), schema.Defs["group"]},
		{reflect.TypeFor[declare.Resource](), schema.Defs["resource"]},
		{reflect.TypeFor[declare.Scope](), schema.Defs["scope"]},
		{reflect.TypeFor[declare.Client](), schema.Defs["client"]},
	} {
		var keys []string
		for i := range tt.record.NumField() {
			if key, _, _ := strings.Cut(tt.record.Field(i).Tag.Get("yaml"), ","); key != "" {
				keys = append(keys, key)
			}
		}
		slices.Sort(keys)
		if diff := cmp.Diff(keys, slices.Sorted(maps.Keys(tt.schema.Properties))); diff != "" {
			t.Errorf("%v: members (-package +schema):\n%s", tt.record, diff)
		}
	}

	example, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	db, _ := storetest.Open(t, storetest.SQLite)
	o := operations(db)
	people(t, db)
	if out := apply(t, o, string(example), declare.Options{Secrets: true}); len(out.Changes) != 6 || len(out.Notes) > 0 {
		t.Errorf("the example: %q, %q", summary(out), out.Notes)
	}
	if out := apply(t, o, string(example), declare.Options{Prune: true}); len(out.Changes) > 0 {
		t.Errorf("the example applied twice: %q", summary(out))
	}
	valid := func(text string) error {
		t.Helper()
		var value map[string]any
		if err := yaml.Unmarshal([]byte(text), &value); err != nil {
			t.Fatal(err)
		}
		return resolved.Validate(value)
	}
	for name, text := range map[string]string{"the example": string(example), "its export": export(t, o)} {
		if err := valid(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{
		"version: 2", "client: []", "groups: [{description: a}]", "clients: [{client_id: usr_a, client_name: A}]",
	} {
		if valid(text) == nil {
			t.Errorf("the schema accepts %s", text)
		}
	}
}

// FuzzRead looks for text that stops the reader.
func FuzzRead(f *testing.F) {
	f.Add([]byte(small))
	if example, err := os.ReadFile(examplePath); err == nil {
		f.Add(example)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := declare.Read(text)
		if faults := (declare.Faults)(nil); (file == nil) == (err == nil) || err != nil && !errors.As(err, &faults) {
			t.Errorf("%v, %v", file, err)
		}
	})
}
