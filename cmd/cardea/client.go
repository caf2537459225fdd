package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/assertion"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/scope"
)

type clientCommands struct {
	Create       clientCreate  `cmd:"" help:"Make a client; its secret is shown once."`
	List         clientList    `cmd:"" help:"List the clients."`
	Show         clientShow    `cmd:"" help:"Show a client."`
	Update       clientUpdate  `cmd:"" help:"Change a client."`
	Approve      clientApprove `cmd:"" help:"Vouch for a client that registered itself: people are told so, and asked once only."`
	RotateSecret clientRotate  `cmd:"" help:"Give a client a new secret; the old one lives on for a while."`
	Disable      clientDisable `cmd:"" help:"Shut a client out; enable lets it in again."`
	Enable       clientEnable  `cmd:"" help:"Let a disabled client in again."`
	Delete       clientDelete  `cmd:"" help:"Delete a client, and end every grant it has."`
	Profiles     profileList   `cmd:"" help:"List what single clients are allowed beyond the rules, why, and how often it was needed."`
}

// clientView is a client as commands print it.
type clientView struct {
	ID             string            `json:"client_id"`
	Secret         string            `json:"client_secret,omitempty"` // only when it was made just now
	Name           string            `json:"client_name"`
	Method         oauth.Method      `json:"token_endpoint_auth_method"`
	KeyIDs         []string          `json:"key_ids,omitempty"`  // of the keys it registered, with private_key_jwt; "" is a key without a kid
	JWKSURI        string            `json:"jwks_uri,omitempty"` // or where they are
	GrantTypes     []oauth.GrantType `json:"grant_types"`
	RedirectURIs   []string          `json:"redirect_uris"`
	Scope          string            `json:"scope"`            // what it is limited to; "" is whatever the resource offers
	Resources      []string          `json:"resources"`        // that it is bound to; empty is any
	ResourceServer string            `json:"resource_server"`  // whose own credentials these are; "" for an ordinary client
	AccessTokenTTL span              `json:"access_token_ttl"` // seconds; 0 is the resource's
	Origin         oauth.Origin      `json:"origin"`
	CreatedAt      moment            `json:"created_at"`
	ApprovedAt     moment            `json:"approved_at"`
	DisabledAt     moment            `json:"disabled_at"`
	UsedAt         moment            `json:"used_at"`        // when it first completed a flow
	ManagesItself  bool              `json:"manages_itself"` // it may change and delete its registration (RFC 7592)
	ChangedAt      moment            `json:"changed_at"`     // when its redirect URIs or keys last changed
}

func viewClient(c *oauth.Client) clientView {
	return clientView{
		ID: c.ID, Name: c.Name, Method: c.Method, KeyIDs: assertion.KeyIDs(&c.Metadata), JWKSURI: c.JWKSURI,
		GrantTypes: append([]oauth.GrantType{}, c.GrantTypes...), RedirectURIs: append([]string{}, c.RedirectURIs...),
		Scope: c.Allowed.String(), Resources: append([]string{}, c.Resources...), ResourceServer: c.ResourceServer,
		AccessTokenTTL: span(c.AccessTTL), Origin: c.Origin,
		CreatedAt: moment{c.CreatedAt}, ApprovedAt: moment{c.ApprovedAt}, DisabledAt: moment{c.DisabledAt}, UsedAt: moment{c.UsedAt},
		ManagesItself: c.RegistrationToken != "", ChangedAt: moment{c.ChangedAt},
	}
}

func (v clientView) state() string {
	switch {
	case !v.DisabledAt.IsZero():
		return "disabled"
	case v.ApprovedAt.IsZero():
		return "unverified"
	}
	return "approved"
}

func (v clientView) draw(t *table) {
	t.row("client id", v.ID)
	if v.Secret != "" {
		t.row("client secret", v.Secret+"  (shown this once: keep it)")
	}
	t.row("name", orDash(v.Name))
	t.row("state", v.state())
	t.row("authentication", string(v.Method))
	for _, id := range v.KeyIDs {
		t.row("key", orDash(id))
	}
	if v.JWKSURI != "" {
		t.row("keys at", v.JWKSURI)
	}
	for _, g := range v.GrantTypes {
		t.row("grant type", string(g))
	}
	for _, uri := range v.RedirectURIs {
		t.row("redirect uri", uri)
	}
	if v.ResourceServer != "" {
		t.row("resource server", v.ResourceServer)
	} else {
		t.row("scope", orDash(v.Scope))
		t.row("resources", orDash(strings.Join(v.Resources, " ")))
		t.row("access token ttl", v.AccessTokenTTL.String())
	}
	t.row("made by", string(v.Origin))
	t.row("created", v.CreatedAt.String())
	t.row("first used", v.UsedAt.String())
	t.row("redirect uris or keys changed", v.ChangedAt.String())
	if v.ManagesItself {
		t.row("manages itself", "yes: it may change and delete its registration")
	} else {
		t.row("manages itself", "no")
	}
}

// clientTerms are the flags that say what a client may do.
type clientTerms struct {
	Grant          []string       `sep:"none" placeholder:"TYPE" help:"authorization_code, refresh_token or client_credentials. Repeatable."`
	RedirectURI    []string       `name:"redirect-uri" sep:"none" placeholder:"URI" help:"Where the authorization response may go. Repeatable."`
	Scope          []string       `sep:"none" placeholder:"NAME" help:"Scope it is limited to. Repeatable; whatever the resource offers if none is given."`
	Resource       []string       `sep:"none" placeholder:"URL" help:"Identifier of a resource it is bound to; the first is its default. Repeatable."`
	AccessTokenTTL *time.Duration `name:"access-token-ttl" placeholder:"DURATION" help:"Life of its access tokens; 0 is the resource's."`
	JWKS           []byte         `name:"jwks" type:"filecontent" placeholder:"FILE" help:"Its public keys, a JSON Web Key Set, for private_key_jwt; - reads them from standard input."`
	JWKSURI        string         `name:"jwks-uri" placeholder:"URL" help:"Where it publishes its keys, in place of --jwks."`
}

// hasKeys tells whether keys are given.
func (f clientTerms) hasKeys() bool { return len(f.JWKS) > 0 || f.JWKSURI != "" }

// applyKeys gives m the keys that are given, if any; without them it must have
// some, if it is to sign.
func (f clientTerms) applyKeys(m *oauth.Metadata, server config.Config) error {
	signs := m.Method == oauth.MethodPrivateKeyJWT
	switch {
	case len(f.JWKS) > 0 && f.JWKSURI != "":
		return usageError("--jwks and --jwks-uri say the same in two ways; give one of them")
	case f.hasKeys() && !signs:
		return usageError(fmt.Sprintf("--jwks and --jwks-uri are for --auth-method private_key_jwt, and this client has %s", m.Method))
	case f.hasKeys():
		m.JWKS, m.JWKSURI = f.JWKS, f.JWKSURI
	case signs && len(m.JWKS) == 0 && m.JWKSURI == "":
		return usageError("--auth-method private_key_jwt needs the client's public keys: --jwks FILE with a JSON Web Key Set, or --jwks-uri URL of one")
	}
	if u, err := url.Parse(f.JWKSURI); err == nil && oauth.IsLoopback(u.Hostname()) && !server.Registration.AllowLoopback {
		return usageError("--jwks-uri is on this machine, from where keys are fetched with registration.cimd_allow_loopback alone; use --jwks")
	}
	return assertion.CheckKeys(m)
}

// apply changes c to the terms that are given; those that are not stay.
func (f clientTerms) apply(tx *store.Tx, c *oauth.Client, server config.Config) error {
	if len(f.Grant) > 0 {
		c.GrantTypes = nil
	}
	for _, g := range f.Grant {
		switch g := oauth.GrantType(g); g {
		case oauth.AuthorizationCode, oauth.RefreshToken, oauth.ClientCredentials:
			c.GrantTypes = append(c.GrantTypes, g)
		default:
			return usageError(fmt.Sprintf("--grant %q is unknown; use authorization_code, refresh_token or client_credentials", g))
		}
	}
	if len(f.RedirectURI) > 0 {
		c.RedirectURIs = f.RedirectURI
	}
	switch code := slices.Contains(c.GrantTypes, oauth.AuthorizationCode); {
	case len(c.GrantTypes) == 0 && len(c.RedirectURIs) == 0:
		return usageError("say what the client is for: --grant authorization_code with --redirect-uri for people, --grant client_credentials for a machine, or --resource-server for introspection")
	case code && len(c.RedirectURIs) == 0:
		return usageError("--grant authorization_code needs --redirect-uri: where the client receives its codes, such as http://127.0.0.1/callback")
	}
	if err := f.applyKeys(&c.Metadata, server); err != nil {
		return err
	}
	if err := client.Check(&c.Metadata, server.Issuer); err != nil {
		return err
	}
	if len(f.Resource) > 0 {
		c.Resources = nil
	}
	for _, name := range f.Resource {
		r, err := findResource(tx, name)
		if err != nil {
			return err
		}
		c.Resources = append(c.Resources, r.Identifier)
	}
	if len(f.Scope) > 0 {
		allowed, err := scope.Parse(strings.Join(f.Scope, " "))
		if err != nil {
			return usageError(fmt.Sprintf("--scope: %v", err))
		}
		c.Allowed = allowed
	}
	if f.AccessTokenTTL != nil {
		if ttl := *f.AccessTokenTTL; ttl != 0 && ttl < time.Second || ttl > oauth.MaxAccessTTL {
			return usageError("--access-token-ttl must be from 1s to " + span(oauth.MaxAccessTTL).String() + ", or 0 for the resource's")
		}
		c.AccessTTL = *f.AccessTokenTTL
	}
	return checkAllowed(tx, c)
}

// checkAllowed refuses scopes that none of the client's resources knows: such a
// client would be given nothing.
func checkAllowed(tx *store.Tx, c *oauth.Client) error {
	var known scope.Set
	for _, identifier := range c.Resources {
		r, err := tx.Resource(identifier)
		if err != nil {
			return err
		}
		known = known.Union(r.ScopeNames())
	}
	for _, name := range c.Allowed {
		if len(c.Resources) > 0 && !known.Covers(name) && !scope.Of(name).CoversAny(known...) && name != oauth.OfflineAccess {
			return advise("the scope %s is known to none of the client's resources; they know: %s", name, known)
		}
	}
	return nil
}

type clientCreate struct {
	Name string `required:"" placeholder:"NAME" help:"Name shown to people."`
	clientTerms
	ClientID       string `name:"client-id" placeholder:"URL" help:"Register it under this URL, whose metadata document does not count then; an id is made if none is given."`
	Public         bool   `help:"It can keep no secret: an installed application, or one in the browser."`
	AuthMethod     string `placeholder:"METHOD" help:"client_secret_basic, client_secret_post, private_key_jwt or none (as --public). A client with a secret may use either of the first two."`
	ResourceServer string `placeholder:"URL" help:"Make credentials with which this resource introspects tokens, and nothing else."`
	output
}

// Help is shown below the usage.
func (c *clientCreate) Help() string {
	return `An application for people:

	cardea client create --name App --grant authorization_code --grant refresh_token \
	    --redirect-uri http://127.0.0.1/callback --public

A machine:

	cardea client create --name Bot --grant client_credentials \
	    --scope mcp:tools:weather --resource https://mcp.example.com/mcp

A machine that keeps no secret here, but signs with a key of its own (RFC 7523):

	cardea client create --name Signed --grant client_credentials \
	    --auth-method private_key_jwt --jwks keys.json

The credentials with which an MCP server introspects tokens:

	cardea client create --name Weather-RS --resource-server https://mcp.example.com/mcp`
}

func (c *clientCreate) Run(ctx context.Context, sh *shell) error {
	if strings.TrimSpace(c.Name) == "" {
		return usageError("--name is empty; people see it when the client asks them, so call it what they would")
	}
	method, err := c.method()
	if err != nil {
		return err
	}
	i, err := sh.open(ctx)
	if err != nil {
		return err
	}
	made := &oauth.Client{ID: oauth.NewID("mcp_"), Origin: oauth.ByOperator}
	if c.ClientID != "" {
		if !client.IsDocumentURL(c.ClientID) {
			return usageError("--client-id must be the https URL that the client sends as its client_id; leave it out to have an id made")
		}
		made.ID = c.ClientID
	}
	made.Name, made.Method = c.Name, method
	secret := ""
	if method == oauth.MethodBasic || method == oauth.MethodPost {
		secret = oauth.NewSecret(oauth.SecretPrefix)
	}
	err = i.db.Update(ctx, func(tx *store.Tx) error {
		if err := c.fill(tx, made, i.config); err != nil {
			return err
		}
		made.CreatedAt, made.ApprovedAt = tx.Now(), tx.Now()
		if secret != "" {
			made.Secrets = []oauth.Secret{{Hash: oauth.Hash(secret), CreatedAt: tx.Now()}}
		}
		err := tx.CreateClient(made, "")
		if errors.Is(err, store.ErrConflict) {
			return advise("there is a client %s already; cardea client show tells of it, cardea client delete makes room", made.ID)
		}
		return concludeWith(tx, audit.Client("create", made.ID), err)
	})
	if err = errors.Join(err, i.close()); err != nil {
		return err
	}
	view := viewClient(made)
	view.Secret = secret
	return c.print(sh, view, view.draw)
}

// method returns how the client is to authenticate.
func (c *clientCreate) method() (oauth.Method, error) {
	switch method := oauth.Method(c.AuthMethod); {
	case c.Public && c.AuthMethod != "" && method != oauth.MethodNone:
		return "", usageError("--public means --auth-method none; give one of them")
	case c.Public && c.ResourceServer != "", method == oauth.MethodNone && c.ResourceServer != "":
		return "", usageError("a resource server must authenticate to introspect tokens; leave out --public")
	case c.Public:
		return oauth.MethodNone, nil
	case c.AuthMethod == "" && c.hasKeys():
		return oauth.MethodPrivateKeyJWT, nil
	case c.AuthMethod == "":
		return oauth.MethodBasic, nil
	case !slices.Contains(client.Methods, method):
		return "", usageError(fmt.Sprintf("--auth-method %q is unknown; use one of %s", c.AuthMethod, oauth.Listed(client.Methods)))
	default:
		return method, nil
	}
}

// fill says what the new client may do.
func (c *clientCreate) fill(tx *store.Tx, made *oauth.Client, server config.Config) error {
	if c.ResourceServer == "" {
		return c.apply(tx, made, server)
	}
	if len(c.Grant)+len(c.RedirectURI)+len(c.Scope)+len(c.Resource) > 0 {
		return usageError("--resource-server makes credentials for introspection alone; make a second client for --grant, --redirect-uri, --scope or --resource")
	}
	r, err := findResource(tx, c.ResourceServer)
	if err != nil {
		return err
	}
	made.ResourceServer = r.Identifier
	return c.applyKeys(&made.Metadata, server)
}

type clientList struct{ output }

func (c *clientList) Run(ctx context.Context, sh *shell) error {
	views := []clientView{}
	err := sh.view(ctx, func(tx *store.Tx) error {
		clients, err := everyPage(tx.Clients)
		for _, c := range clients {
			views = append(views, viewClient(c))
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.print(sh, views, func(t *table) {
		t.row("CLIENT ID", "NAME", "STATE", "AUTHENTICATION", "MADE BY", "CREATED", "FIRST USED")
		for _, v := range views {
			t.row(v.ID, orDash(v.Name), v.state(), string(v.Method), string(v.Origin), v.CreatedAt.String(), v.UsedAt.String())
		}
	})
}

type clientShow struct {
	ID string `arg:"" name:"client_id" help:"The client."`
	output
}

func (c *clientShow) Run(ctx context.Context, sh *shell) error {
	var found *oauth.Client
	err := sh.view(ctx, func(tx *store.Tx) (err error) {
		found, err = findClient(tx, c.ID)
		return err
	})
	if err != nil {
		return err
	}
	return c.print(sh, viewClient(found), viewClient(found).draw)
}

type clientUpdate struct {
	ID   string  `arg:"" name:"client_id" help:"The client."`
	Name *string `placeholder:"NAME" help:"Name shown to people."`
	clientTerms
	output
}

// Help is shown below the usage.
func (c *clientUpdate) Help() string {
	return "What is not given stays as it is; what is given replaces all there was: every --redirect-uri, every --scope."
}

func (c *clientUpdate) Run(ctx context.Context, sh *shell) error {
	i, err := sh.open(ctx)
	if err != nil {
		return err
	}
	var changed *oauth.Client
	err = i.db.Update(ctx, func(tx *store.Tx) (err error) {
		if changed, err = findClient(tx, c.ID); err != nil {
			return err
		}
		if changed.Origin == oauth.ByDocument && (c.Name != nil || c.hasKeys() || len(c.Grant)+len(c.RedirectURI) > 0) {
			return usageError("name, grants, redirect URIs and keys of this client come from the document at " + changed.ID + "; --scope, --resource and --access-token-ttl can be changed here")
		}
		if c.Name != nil {
			changed.Name = *c.Name
		}
		switch {
		case changed.ResourceServer == "":
			err = c.apply(tx, changed, i.config)
		case len(c.Grant)+len(c.RedirectURI)+len(c.Scope)+len(c.Resource) > 0:
			err = usageError("these are a resource server's credentials for introspection; only their --name and their keys can change")
		default:
			err = c.applyKeys(&changed.Metadata, i.config)
		}
		if err != nil {
			return err
		}
		return concludeWith(tx, audit.Client("update", changed.ID), tx.UpdateClient(changed))
	})
	if err = errors.Join(err, i.close()); err != nil {
		return err
	}
	return c.print(sh, viewClient(changed), viewClient(changed).draw)
}

type clientRotate struct {
	ID      string        `arg:"" name:"client_id" help:"The client."`
	Overlap time.Duration `default:"24h" placeholder:"DURATION" help:"How long the old secret lives on; 0 ends it at once."`
	output
}

func (c *clientRotate) Run(ctx context.Context, sh *shell) error {
	if c.Overlap < 0 {
		return usageError("--overlap must not be negative")
	}
	secret := oauth.NewSecret(oauth.SecretPrefix)
	var found *oauth.Client
	err := sh.update(ctx, func(tx *store.Tx) (err error) {
		switch found, err = findClient(tx, c.ID); {
		case err != nil:
			return err
		case found.Method == oauth.MethodPrivateKeyJWT:
			return advise("the client %s authenticates with private_key_jwt: it has no secret, and new keys come with cardea client update --jwks", c.ID)
		case found.Public():
			return advise("the client %s is public: it has no secret to rotate", c.ID)
		}
		err = tx.ReplaceSecret(c.ID, oauth.Hash(secret), tx.Now().Add(c.Overlap))
		return concludeWith(tx, audit.Client("rotate_secret", c.ID), err)
	})
	if err != nil {
		return err
	}
	view := viewClient(found)
	view.Secret = secret
	return c.print(sh, view, func(t *table) {
		t.row("client id", c.ID)
		t.row("client secret", secret+"  (shown this once: keep it)")
		t.row("old secret", "ends in "+config.FormatDuration(c.Overlap))
	})
}

// namedClient is what a command takes that has nothing but its verb to say.
type namedClient struct {
	ID string `arg:"" name:"client_id" help:"The client."`
	output
}

// change does to the client what the verb says, and prints it.
func (c *namedClient) change(ctx context.Context, sh *shell, verb string, do func(*store.Tx, *oauth.Client) error) error {
	var changed *oauth.Client
	err := sh.update(ctx, func(tx *store.Tx) error {
		found, err := findClient(tx, c.ID)
		if err != nil {
			return err
		}
		if err := concludeWith(tx, audit.Client(verb, c.ID), do(tx, found)); err != nil {
			return err
		}
		changed, err = findClient(tx, c.ID)
		return err
	})
	if err != nil {
		return err
	}
	return c.print(sh, viewClient(changed), viewClient(changed).draw)
}

type clientApprove struct{ namedClient }

func (c *clientApprove) Run(ctx context.Context, sh *shell) error {
	return c.change(ctx, sh, "approve", func(tx *store.Tx, found *oauth.Client) error {
		if found.Approved() {
			return nil
		}
		found.ApprovedAt = tx.Now()
		return tx.UpdateClient(found)
	})
}

type clientDisable struct{ namedClient }

func (c *clientDisable) Run(ctx context.Context, sh *shell) error {
	return c.change(ctx, sh, "disable", func(tx *store.Tx, found *oauth.Client) error { return tx.DisableClient(found.ID) })
}

type clientEnable struct{ namedClient }

func (c *clientEnable) Run(ctx context.Context, sh *shell) error {
	return c.change(ctx, sh, "enable", func(tx *store.Tx, found *oauth.Client) error { return tx.EnableClient(found.ID) })
}

type clientDelete struct {
	ID string `arg:"" name:"client_id" help:"The client."`
	output
}

func (c *clientDelete) Run(ctx context.Context, sh *shell) error {
	var done deletion
	err := sh.update(ctx, func(tx *store.Tx) error {
		found, err := findClient(tx, c.ID)
		if err != nil {
			return err
		}
		done = deletion{What: "client", ID: found.ID, Name: found.Name}
		if done.Grants, err = liveGrants(tx, store.GrantFilter{ClientID: found.ID}); err != nil {
			return err
		}
		return concludeWith(tx, audit.Client("delete", found.ID), tx.DeleteClient(found.ID))
	})
	if err != nil {
		return err
	}
	return done.print(sh, c.output)
}

func findClient(tx *store.Tx, id string) (*oauth.Client, error) {
	c, err := tx.Client(id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, advise("there is no client %s; cardea client list shows them", id)
	}
	return c, err
}
