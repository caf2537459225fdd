package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/adminapi"
	"github.com/cardea-auth/cardea/internal/oauth"
)

type clientCommands struct {
	Create       clientCreate    `cmd:"" help:"Create a client. Its secret is shown once."`
	List         clientList      `cmd:"" help:"List the clients."`
	Show         clientShow      `cmd:"" help:"Show a client."`
	Update       clientUpdate    `cmd:"" help:"Change a client."`
	Approve      clientApprove   `cmd:"" help:"Approve a client for everybody, for a group, or for one person once."`
	Unapprove    clientUnapprove `cmd:"" help:"Withdraw the approval of a client."`
	Dismiss      clientDismiss   `cmd:"" help:"Refuse all who wait for the approval of a client. It may ask again."`
	Block        clientBlock     `cmd:"" help:"End all that a client has, and keep it and its sites from coming back."`
	Unblock      clientUnblock   `cmd:"" help:"Let a blocked client come again."`
	Blocks       clientBlocks    `cmd:"" help:"List the blocks."`
	RotateSecret clientRotate    `cmd:"" help:"Give a client a new secret. The old one stays valid for a while."`
	Disable      clientDisable   `cmd:"" help:"Refuse a client and its tokens until it is enabled again."`
	Enable       clientEnable    `cmd:"" help:"Enable a disabled client."`
	Delete       clientDelete    `cmd:"" help:"Delete a client and end all its grants."`
	Profiles     profileList     `cmd:"" help:"List the exceptions to the rules for certain clients, with the reason and how often each was used."`
}

// clientResources returns the resources that a client is bound to. "any" is for a machine's client that is bound to
// none, because it may ask for tokens for every resource.
func clientResources(v admin.Client) string {
	ownName := func(rule oauth.GrantRule) bool { return rule.OwnName }
	if len(v.Resources) == 0 && oauth.AnyGrant(v.GrantTypes, ownName) {
		return "any"
	}
	return dash(strings.Join(v.Resources, " "))
}

func drawClient(v admin.Client, t *table) {
	t.Row("client id", v.ID)
	if v.Secret != "" {
		t.Row("client secret", v.Secret+"  (shown this once: keep it)")
	}
	t.Row("name", dash(v.Name))
	t.Row("state", string(v.State))
	for _, group := range v.ApprovedFor {
		t.Row("approved for", group)
	}
	t.Row("authentication", string(v.Method))
	for _, id := range v.KeyIDs {
		t.Row("key", dash(id))
	}
	if v.JWKSURI != "" {
		t.Row("keys at", v.JWKSURI)
	}
	for _, g := range v.GrantTypes {
		t.Row("grant type", string(g))
	}
	for _, uri := range v.RedirectURIs {
		t.Row("redirect uri", uri)
	}
	for _, identifier := range v.ResourceServers {
		t.Row("resource server", identifier)
	}
	if len(v.ResourceServers) == 0 {
		t.Row("scope", dash(v.Scope))
		t.Row("resources", clientResources(v))
		t.Row("access token ttl", v.AccessTokenTTL.String())
	}
	t.Row("made by", string(v.Origin))
	t.Row("created", v.CreatedAt.String())
	t.Row("first used", v.UsedAt.String())
	t.Row("last used", v.LastUsedAt.String())
	t.Row("expires", v.ExpiresAt.String())
	t.Row("redirect uris or keys changed", v.ChangedAt.String())
	if v.ManagesItself {
		t.Row("manages itself", "yes: it may change and delete its registration")
	} else {
		t.Row("manages itself", "no")
	}
}

// clientTerms are the flags that say what a client may do.
type clientTerms struct {
	Grant          []string       `sep:"none" placeholder:"TYPE" help:"authorization_code, refresh_token or client_credentials. Repeatable."`
	RedirectURI    []string       `name:"redirect-uri" sep:"none" placeholder:"URI" help:"Where the authorization response may go. Repeatable."`
	Scope          []string       `sep:"none" placeholder:"NAME" help:"Scope it is limited to. Repeatable; all that the resource has if none is given."`
	Resource       []string       `sep:"none" placeholder:"URL" help:"Identifier of a resource it is bound to; the first is its default. Repeatable."`
	ResourceServer []string       `sep:"none" placeholder:"URL" help:"A resource that introspects tokens with these credentials, which allow nothing else. Repeatable."`
	AnyResource    bool           `help:"Let a machine ask for tokens for every resource, now and later."`
	AccessTokenTTL *time.Duration `name:"access-token-ttl" placeholder:"DURATION" help:"Life of its access tokens; 0 is the resource's."`
	ExpiresIn      *days          `name:"expires-in" placeholder:"DURATION" help:"Life of the client, such as 90d or 12h, from now on; 0 is for ever."`
	JWKS           []byte         `name:"jwks" type:"filecontent" placeholder:"FILE" help:"Its public keys, a JSON Web Key Set, for private_key_jwt; - reads them from standard input."`
	JWKSURI        string         `name:"jwks-uri" placeholder:"URL" help:"Where it publishes its keys, in place of --jwks."`
}

// days is a length of time that may be written in days: 90d.
type days time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *days) UnmarshalText(text []byte) error {
	if number, ok := strings.CutSuffix(string(text), "d"); ok {
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return fmt.Errorf("%q is not a number of days such as 90d", text)
		}
		*d = days(time.Duration(n) * 24 * time.Hour)
		return nil
	}
	parsed, err := time.ParseDuration(string(text))
	*d = days(parsed)
	return err
}

// terms returns the terms that the flags give.
func (f clientTerms) terms() admin.ClientTerms {
	t := admin.ClientTerms{
		RedirectURIs:    f.RedirectURI,
		JWKS:            f.JWKS,
		Resources:       f.Resource,
		AnyResource:     f.AnyResource,
		ResourceServers: f.ResourceServer,
		AccessTokenTTL:  (*admin.Span)(f.AccessTokenTTL),
		ExpiresIn:       (*admin.Span)(f.ExpiresIn),
	}
	for _, g := range f.Grant {
		t.GrantTypes = append(t.GrantTypes, oauth.GrantType(g))
	}
	if f.JWKSURI != "" {
		t.JWKSURI = &f.JWKSURI
	}
	if len(f.Scope) > 0 {
		scopes := strings.Join(f.Scope, " ")
		t.Scope = &scopes
	}
	return t
}

type clientCreate struct {
	Name string `required:"" placeholder:"NAME" help:"Name shown to people."`
	clientTerms
	ClientID   string `name:"client-id" placeholder:"URL|mcp_NAME" help:"The client's id: a URL, whose metadata document is ignored, or mcp_ and a name. By default an id is generated."`
	Public     bool   `help:"The client cannot keep a secret: it is installed on people's devices, or runs in the browser."`
	AuthMethod string `placeholder:"METHOD" help:"client_secret_basic, client_secret_post, private_key_jwt or none (the same as --public). A client with a secret may use either of the first two."`
	Login      bool   `help:"Create credentials with which your application signs people in on its own page (login.external). They allow nothing else."`
	output
}

// Help returns what the help shows below the usage.
func (c *clientCreate) Help() string {
	return `An application for people:

	cardea client create --name App --grant authorization_code --grant refresh_token \
	    --redirect-uri http://127.0.0.1/callback --public

A machine:

	cardea client create --name Bot --grant client_credentials \
	    --scope mcp:tools:weather --resource https://mcp.example.com/mcp

A machine that has no secret, but signs with its own key (RFC 7523):

	cardea client create --name Signed --grant client_credentials \
	    --resource https://mcp.example.com/mcp --auth-method private_key_jwt --jwks keys.json

The credentials with which an MCP server introspects tokens; with --resource-server again, those of several:

	cardea client create --name Weather-RS --resource-server https://mcp.example.com/mcp

The credentials with which your application signs people in on its own page:

	cardea client create --name App --login`
}

func (c *clientCreate) Run(ctx context.Context, sh *shell) error {
	n := admin.NewClient{ClientTerms: c.terms(), ID: c.ClientID, Method: oauth.Method(c.AuthMethod),
		Login: c.Login}
	n.Name = &c.Name
	if c.Public {
		if c.AuthMethod != "" && n.Method != oauth.MethodNone {
			return usageError("--public means --auth-method none; give only one of the two")
		}
		n.Method = oauth.MethodNone
	}
	return ask(ctx, sh, c.output, drawClient, adminapi.CreateClient, adminapi.Creation[admin.NewClient]{Body: n})
}

type clientList struct {
	Waiting bool `help:"Only those that wait for approval, with who asked and for what."`
	searched
	output
}

func (c *clientList) Run(ctx context.Context, sh *shell) error {
	if c.Waiting && c.Begins != "" {
		return usageError("--waiting and --begins exclude each other; give one of them")
	}
	if c.Waiting {
		return list(ctx, sh, sh.operate, c.output, "no client waits for approval", drawWaiting,
			adminapi.ListWaitingClients, plainListing)
	}
	none := "no client is registered yet; most agents register themselves when they connect; make one with: " +
		"cardea client create --name NAME --grant authorization_code --redirect-uri URL --public"
	empty := emptyList(c.Begins != "", "client", none)
	return list(ctx, sh, sh.operate, c.output, empty, drawClients, adminapi.ListClients,
		func(l adminapi.Listing) adminapi.ClientListing {
			return adminapi.ClientListing{Search: c.listing(l)}
		})
}

func drawClients(views []admin.Client, t *table) {
	t.Head("CLIENT ID", "NAME", "STATE", "AUTHENTICATION", "MADE BY", "CREATED", "FIRST USED", "RESOURCES")
	t.Fold(16, "NAME", "RESOURCES")
	for _, v := range views {
		t.Row(v.ID, dash(v.Name), string(v.State), string(v.Method), string(v.Origin), v.CreatedAt.String(),
			v.UsedAt.String(), clientResources(v))
	}
}

type clientUpdate struct {
	ID   string  `arg:"" name:"client_id" help:"The client."`
	Name *string `placeholder:"NAME" help:"Name shown to people."`
	clientTerms
	output
}

// Help returns what the help shows below the usage.
func (c *clientUpdate) Help() string {
	return `What is not given stays as it is. A list that is given replaces the whole list: give every --redirect-uri and
every --scope.

	cardea client update CLIENT_ID --redirect-uri https://app.example.com/callback`
}

func (c *clientUpdate) Run(ctx context.Context, sh *shell) error {
	terms := c.terms()
	terms.Name = c.Name
	return ask(ctx, sh, c.output, drawClient, adminapi.UpdateClient,
		adminapi.Change[admin.ClientTerms]{ID: c.ID, Body: terms})
}

type clientRotate struct {
	ID      string        `arg:"" name:"client_id" help:"The client."`
	Overlap time.Duration `default:"24h" placeholder:"DURATION" help:"How long the old secret stays valid; 0 ends it at once."`
	output
}

func (c *clientRotate) Run(ctx context.Context, sh *shell) error {
	overlap := admin.Span(c.Overlap)
	return ask(ctx, sh, c.output, c.draw, adminapi.RotateClientSecret,
		adminapi.Change[*adminapi.Overlap]{ID: c.ID, Body: &adminapi.Overlap{Overlap: &overlap}})
}

func (c *clientRotate) draw(v admin.Client, t *table) {
	t.Row("client id", v.ID)
	t.Row("client secret", v.Secret+"  (shown this once: keep it)")
	if c.Overlap == 0 {
		t.Row("old secret", "ended")
	} else {
		t.Row("old secret", "ends in "+admin.Span(c.Overlap).String())
	}
}

// namedClient has the inputs of a command that takes only a client.
type namedClient struct {
	ID string `arg:"" name:"client_id" help:"The client."`
	output
}

// run does an operation on the client and prints it.
func (c *namedClient) run(ctx context.Context, sh *shell, op *adminapi.Operation[adminapi.ByID, admin.Client]) error {
	return ask(ctx, sh, c.output, drawClient, op, adminapi.ByID{ID: c.ID})
}

type clientShow struct{ namedClient }

func (c *clientShow) Run(ctx context.Context, sh *shell) error {
	return c.run(ctx, sh, adminapi.ShowClient)
}

type clientDisable struct{ namedClient }

func (c *clientDisable) Run(ctx context.Context, sh *shell) error {
	return c.run(ctx, sh, adminapi.DisableClient)
}

type clientEnable struct{ namedClient }

func (c *clientEnable) Run(ctx context.Context, sh *shell) error {
	return c.run(ctx, sh, adminapi.EnableClient)
}

type clientDelete struct{ namedClient }

func (c *clientDelete) Run(ctx context.Context, sh *shell) error {
	return ask(ctx, sh, c.output, drawDeletion, adminapi.DeleteClient, adminapi.ByID{ID: c.ID})
}
