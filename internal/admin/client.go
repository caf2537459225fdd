package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/scope"
)

// Client is an application as operators see it.
type Client struct {
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
	AccessTokenTTL Span              `json:"access_token_ttl"` // 0 is the resource's
	Origin         oauth.Origin      `json:"origin"`
	CreatedAt      Moment            `json:"created_at"`
	ApprovedAt     Moment            `json:"approved_at"`
	DisabledAt     Moment            `json:"disabled_at"`
	UsedAt         Moment            `json:"used_at"`        // when it first completed a flow
	ManagesItself  bool              `json:"manages_itself"` // it may change and delete its registration (RFC 7592)
	ChangedAt      Moment            `json:"changed_at"`     // when its redirect URIs or keys last changed
}

func viewClient(c *oauth.Client) Client {
	return Client{
		ID: c.ID, Name: c.Name, Method: c.Method, KeyIDs: client.KeyIDs(&c.Metadata), JWKSURI: c.JWKSURI,
		GrantTypes: append([]oauth.GrantType{}, c.GrantTypes...), RedirectURIs: append([]string{}, c.RedirectURIs...),
		Scope: c.Allowed.String(), Resources: append([]string{}, c.Resources...), ResourceServer: c.ResourceServer,
		AccessTokenTTL: Span(c.AccessTTL), Origin: c.Origin,
		CreatedAt: Moment{c.CreatedAt}, ApprovedAt: Moment{c.ApprovedAt}, DisabledAt: Moment{c.DisabledAt}, UsedAt: Moment{c.UsedAt},
		ManagesItself: c.RegistrationToken != "", ChangedAt: Moment{c.ChangedAt},
	}
}

// ClientTerms say what a client is and what it may do. What is nil stays as it is.
type ClientTerms struct {
	Name         *string           `json:"client_name"`
	GrantTypes   []oauth.GrantType `json:"grant_types"`
	RedirectURIs []string          `json:"redirect_uris"`
	JWKS         json.RawMessage   `json:"jwks"` // its public keys, with private_key_jwt
	JWKSURI      *string           `json:"jwks_uri"`
	Scope        *string           `json:"scope"`
	Resources    []string          `json:"resources"` // ids or identifiers; the first is its default
	// AnyResource says that a machine may ask for tokens for every resource; without
	// it a machine must be bound to some.
	AnyResource    bool  `json:"any_resource"`
	AccessTokenTTL *Span `json:"access_token_ttl"`
}

// NewClient is a client that is to be made.
type NewClient struct {
	ClientTerms
	// ID is the URL that the client sends as its client_id; "" has an id made.
	ID string `json:"client_id"`
	// Method is how it authenticates. "" is private_key_jwt with keys, and a secret
	// without.
	Method oauth.Method `json:"token_endpoint_auth_method"`
	// ResourceServer is the resource that introspects tokens with these credentials,
	// which are then for nothing else.
	ResourceServer string `json:"resource_server"`
}

// CreateClient makes a client that is approved. If it has a secret, the view shows
// it, once.
func (o *Operations) CreateClient(ctx context.Context, by Caller, n NewClient) (view Client, err error) {
	if n.Name == nil || strings.TrimSpace(*n.Name) == "" {
		return view, invalid("client_name", "{client_name} is empty; people see it when the client asks them, so call it what they would")
	}
	made := &oauth.Client{ID: oauth.NewID("mcp_"), Origin: oauth.ByOperator}
	if n.ID != "" {
		if !client.IsDocumentURL(n.ID) {
			return view, invalid("client_id", "{client_id} must be the https URL that the client sends as its client_id; leave it out to have an id made")
		}
		made.ID = n.ID
	}
	if made.Method, err = n.method(); err != nil {
		return view, err
	}
	secret := ""
	if made.Method == oauth.MethodBasic || made.Method == oauth.MethodPost {
		secret = oauth.NewSecret(oauth.SecretPrefix)
	}
	err = o.change(ctx, by, Clients, "client.create", func(tx *store.Tx) (event audit.Event, err error) {
		if n.ResourceServer != "" {
			err = n.serve(tx, made, o)
		} else {
			err = n.apply(tx, made, o)
		}
		if err != nil {
			return event, err
		}
		made.CreatedAt, made.ApprovedAt = tx.Now(), tx.Now()
		if secret != "" {
			made.Secrets = []oauth.Secret{{Hash: oauth.Hash(secret), CreatedAt: tx.Now()}}
		}
		err = tx.CreateClient(made, "")
		if errors.Is(err, store.ErrConflict) {
			err = conflict(Clients, "client_id", made.ID, "there is a client %s already")
		}
		return audit.Client("create", made.ID), err
	})
	view = viewClient(made)
	view.Secret = secret
	return view, err
}

// method returns how the client is to authenticate.
func (n *NewClient) method() (oauth.Method, error) {
	switch {
	case n.Method == "" && n.hasKeys():
		return oauth.MethodPrivateKeyJWT, nil
	case n.Method == "":
		return oauth.MethodBasic, nil
	case !slices.Contains(client.Methods, n.Method):
		return "", invalid("token_endpoint_auth_method", "{token_endpoint_auth_method} %q is unknown; use one of %s", n.Method, oauth.Listed(client.Methods))
	case n.Method == oauth.MethodNone && n.ResourceServer != "":
		return "", invalid("token_endpoint_auth_method", "a resource server must authenticate to introspect tokens; it cannot be public")
	}
	return n.Method, nil
}

// serve makes c the credentials of a resource server.
func (n *NewClient) serve(tx *store.Tx, c *oauth.Client, o *Operations) error {
	if len(n.GrantTypes)+len(n.RedirectURIs)+len(n.Resources) > 0 || n.Scope != nil || n.AnyResource {
		return invalid("resource_server", "{resource_server} makes credentials for introspection only; make a second client for {grant_types}, {redirect_uris}, {scope} or {resources}")
	}
	r, err := findResource(tx.Resource, n.ResourceServer)
	if err != nil {
		return err
	}
	c.Name, c.ResourceServer = *n.Name, r.Identifier
	return n.applyKeys(&c.Metadata, o)
}

// hasKeys reports whether keys are given.
func (t *ClientTerms) hasKeys() bool { return len(t.JWKS) > 0 || t.JWKSURI != nil }

// applyKeys gives m the keys that are given, if any; without them it must have
// some, if it is to sign.
func (t *ClientTerms) applyKeys(m *oauth.Metadata, o *Operations) error {
	signs := m.Method == oauth.MethodPrivateKeyJWT
	switch {
	case len(t.JWKS) > 0 && t.JWKSURI != nil:
		return invalid("jwks", "{jwks} and {jwks_uri} say the same in two ways; give one of them")
	case t.hasKeys() && !signs:
		return invalid("jwks", "{jwks} and {jwks_uri} are for {token_endpoint_auth_method} private_key_jwt, and this client has %s", m.Method)
	case len(t.JWKS) > 0:
		m.JWKS, m.JWKSURI = t.JWKS, ""
	case t.JWKSURI != nil:
		m.JWKS, m.JWKSURI = nil, *t.JWKSURI
	case signs && len(m.JWKS) == 0 && m.JWKSURI == "":
		return invalid("jwks", "{token_endpoint_auth_method} private_key_jwt needs the client's public keys: {jwks} with a JSON Web Key Set, or {jwks_uri} with the URL of one")
	}
	if t.JWKSURI != nil {
		if u, err := url.Parse(*t.JWKSURI); err == nil && oauth.IsLoopback(u.Hostname()) && !o.AllowLoopback {
			return invalid("jwks_uri", "{jwks_uri} is on this machine, and keys are fetched from there only with registration.cimd_allow_loopback; use {jwks}")
		}
	}
	return refused("jwks", client.CheckKeys(m))
}

// apply changes c to the terms that are given; those that are not stay.
func (t *ClientTerms) apply(tx *store.Tx, c *oauth.Client, o *Operations) error {
	if t.Name != nil {
		c.Name = *t.Name
	}
	machine := isMachine(c)
	if t.GrantTypes != nil {
		c.GrantTypes = nil
		for _, g := range t.GrantTypes {
			if _, served := g.Rule(); !served {
				return invalid("grant_types", "{grant_types} %q is unknown; use one of %s", g, oauth.Listed(oauth.GrantTypes()))
			}
			c.GrantTypes = append(c.GrantTypes, g)
		}
	}
	if t.RedirectURIs != nil {
		c.RedirectURIs = t.RedirectURIs
	}
	switch {
	case len(c.GrantTypes) == 0 && len(c.RedirectURIs) == 0:
		return invalid("grant_types", "say what the client is for: {grant_types} authorization_code with {redirect_uris} for people, {grant_types} client_credentials for a machine, or {resource_server} for introspection")
	case c.May(oauth.AuthorizationCode) && len(c.RedirectURIs) == 0:
		return invalid("redirect_uris", "{grant_types} authorization_code needs {redirect_uris}: where the client receives its codes, such as http://127.0.0.1/callback")
	}
	if err := t.applyKeys(&c.Metadata, o); err != nil {
		return err
	}
	if err := client.Check(&c.Metadata, o.Issuer); err != nil {
		return refused("grant_types", err)
	}
	if err := t.applyResources(tx, c); err != nil {
		return err
	}
	if isMachine(c) && len(c.Resources) == 0 && !t.AnyResource && (!machine || t.Resources != nil) {
		return invalid("resources", "a machine's client needs {resources}: the MCP servers that it may ask for tokens for; {any_resource} lets it ask for all")
	}
	if t.Scope != nil {
		allowed, err := scope.Parse(*t.Scope)
		if err != nil {
			return invalid("scope", "{scope}: %v", err)
		}
		c.Allowed = allowed
	}
	if t.AccessTokenTTL != nil {
		if ttl := time.Duration(*t.AccessTokenTTL); ttl != 0 && ttl < time.Second || ttl > oauth.MaxAccessTTL {
			return invalid("access_token_ttl", "{access_token_ttl} must be from 1s to %s, or 0 for the resource's", lengthOf(oauth.MaxAccessTTL))
		}
		c.AccessTTL = time.Duration(*t.AccessTokenTTL)
	}
	return checkAllowed(tx, c)
}

// isMachine reports whether c asks for tokens in its own name.
func isMachine(c *oauth.Client) bool {
	return oauth.AnyGrant(c.GrantTypes, func(rule oauth.GrantRule) bool { return rule.OwnName })
}

// applyResources binds c to the resources that are given.
func (t *ClientTerms) applyResources(tx *store.Tx, c *oauth.Client) error {
	switch {
	case t.AnyResource && len(t.Resources) > 0:
		return invalid("any_resource", "{any_resource} and {resources} exclude each other; give one of them")
	case t.AnyResource, t.Resources != nil:
		c.Resources = nil
	}
	for _, name := range t.Resources {
		r, err := findResource(tx.Resource, name)
		if err != nil {
			return err
		}
		if !slices.Contains(c.Resources, r.Identifier) {
			c.Resources = append(c.Resources, r.Identifier)
		}
	}
	return nil
}

// checkAllowed refuses scopes that none of the client's resources knows: such a
// client would be given nothing.
func checkAllowed(tx *store.Tx, c *oauth.Client) error {
	var known scope.Set
	for _, identifier := range c.Resources {
		switch r, err := tx.Resource(identifier); {
		case errors.Is(err, store.ErrNotFound): // it was deleted, and the client stayed bound to it
		case err != nil:
			return err
		default:
			known = known.Union(r.ScopeNames())
		}
	}
	for _, name := range c.Allowed {
		if len(c.Resources) > 0 && !known.Covers(name) && !scope.Of(name).CoversAny(known...) && name != oauth.OfflineAccess {
			return invalid("scope", "the scope %s is known to none of the client's resources; they know: %s", name, known)
		}
	}
	return nil
}

// Clients returns a page of the clients and the cursor of the next, "" for none.
func (o *Operations) Clients(ctx context.Context, by Caller, page store.Page) (views []Client, next string, err error) {
	err = o.look(ctx, by, Clients, func(tx *store.Tx) error {
		clients, cursor, err := tx.Clients(page)
		views, next, err = viewed(viewClient, clients, cursor, err)
		return err
	})
	return views, next, err
}

// Client returns the client with the given id.
func (o *Operations) Client(ctx context.Context, by Caller, id string) (view Client, err error) {
	err = o.look(ctx, by, Clients, func(tx *store.Tx) error {
		c, err := findClient(tx.Client, id)
		if err == nil {
			view = viewClient(c)
		}
		return err
	})
	return view, err
}

// changeClient runs fn on the client with the given id, which no other transaction
// changes meanwhile, records the verb, and returns the client as it is then.
func (o *Operations) changeClient(ctx context.Context, by Caller, verb, id string, fn func(*store.Tx, *oauth.Client) error) (view Client, err error) {
	err = o.change(ctx, by, Clients, "client."+verb, func(tx *store.Tx) (event audit.Event, err error) {
		c, err := findClient(tx.LockClient, id)
		if err != nil {
			return event, err
		}
		if err := fn(tx, c); err != nil {
			return event, err
		}
		c, err = tx.Client(id)
		if err != nil {
			return event, err
		}
		view = viewClient(c)
		return audit.Client(verb, id), nil
	})
	return view, err
}

// UpdateClient changes a client to the terms that are given.
func (o *Operations) UpdateClient(ctx context.Context, by Caller, id string, terms ClientTerms) (Client, error) {
	return o.changeClient(ctx, by, "update", id, func(tx *store.Tx, c *oauth.Client) error {
		var err error
		switch {
		case c.Origin == oauth.ByDocument && (terms.Name != nil || terms.hasKeys() || terms.GrantTypes != nil || terms.RedirectURIs != nil):
			err = invalid("", "name, grants, redirect URIs and keys of this client come from the document at %s; {scope}, {resources} and {access_token_ttl} can be changed here", c.ID)
		case c.ResourceServer == "":
			err = terms.apply(tx, c, o)
		case len(terms.GrantTypes)+len(terms.RedirectURIs)+len(terms.Resources) > 0 || terms.Scope != nil || terms.AnyResource:
			err = invalid("", "these are a resource server's credentials for introspection; only their {client_name} and their keys can change")
		default:
			if terms.Name != nil {
				c.Name = *terms.Name
			}
			err = terms.applyKeys(&c.Metadata, o)
		}
		if err != nil {
			return err
		}
		return tx.UpdateClient(c)
	})
}

// ApproveClient vouches for a client that registered itself.
func (o *Operations) ApproveClient(ctx context.Context, by Caller, id string) (Client, error) {
	return o.changeClient(ctx, by, "approve", id, func(tx *store.Tx, c *oauth.Client) error {
		if c.Approved() {
			return nil
		}
		c.ApprovedAt = tx.Now()
		return tx.UpdateClient(c)
	})
}

// DisableClient shuts a client out until EnableClient.
func (o *Operations) DisableClient(ctx context.Context, by Caller, id string) (Client, error) {
	return o.changeClient(ctx, by, "disable", id, func(tx *store.Tx, c *oauth.Client) error { return tx.DisableClient(c.ID) })
}

// EnableClient lets a disabled client in again.
func (o *Operations) EnableClient(ctx context.Context, by Caller, id string) (Client, error) {
	return o.changeClient(ctx, by, "enable", id, func(tx *store.Tx, c *oauth.Client) error { return tx.EnableClient(c.ID) })
}

// RotateClientSecret gives a client a new secret, which the view shows once. The
// old one lives on for overlap.
func (o *Operations) RotateClientSecret(ctx context.Context, by Caller, id string, overlap time.Duration) (Client, error) {
	if overlap < 0 {
		return Client{}, invalid("overlap", "{overlap} must not be negative")
	}
	secret := oauth.NewSecret(oauth.SecretPrefix)
	view, err := o.changeClient(ctx, by, "rotate_secret", id, func(tx *store.Tx, c *oauth.Client) error {
		switch {
		case c.Method == oauth.MethodPrivateKeyJWT:
			return conflict("", "client_id", id, "the client %s authenticates with private_key_jwt: it has no secret; give it "+
				"new keys with {jwks} of an update")
		case c.Public():
			return conflict("", "client_id", id, "the client %s is public: it has no secret to rotate")
		}
		return tx.ReplaceSecret(id, oauth.Hash(secret), tx.Now().Add(overlap))
	})
	view.Secret = secret
	return view, err
}

// DeleteClient deletes a client and ends every grant it has.
func (o *Operations) DeleteClient(ctx context.Context, by Caller, id string) (done Deletion, err error) {
	err = o.change(ctx, by, Clients, "client.delete", func(tx *store.Tx) (event audit.Event, err error) {
		c, err := findClient(tx.LockClient, id)
		if err != nil {
			return event, err
		}
		done = Deletion{What: "client", ID: c.ID, Name: c.Name}
		if done.Grants, err = tx.LiveGrants(store.GrantFilter{ClientID: c.ID}); err != nil {
			return event, err
		}
		return endedGrants(audit.Client("delete", c.ID), done.Grants), tx.DeleteClient(c.ID)
	})
	return done, err
}

func findClient(find func(string) (*oauth.Client, error), id string) (*oauth.Client, error) {
	c, err := find(id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, notFound(Clients, id, "there is no client %s")
	}
	return c, err
}

// Profile is what single clients are allowed beyond the rules, with its use here.
type Profile struct {
	client.Profile
	Uses       int64  `json:"uses"`
	LastUsedAt Moment `json:"last_used_at"`
	Due        bool   `json:"due"` // the day to look whether it is still needed has come
}

// Profiles returns all client profiles.
func (o *Operations) Profiles(ctx context.Context, by Caller) ([]Profile, error) {
	views := make([]Profile, len(client.Profiles))
	err := o.look(ctx, by, Clients, func(tx *store.Tx) error {
		used, err := tx.ProfileUses()
		for i, p := range client.Profiles {
			views[i] = Profile{Profile: p, Due: !tx.Now().Before(p.LookAgain)}
			for _, use := range used {
				if use.Name == p.Name {
					views[i].Uses, views[i].LastUsedAt = use.Uses, Moment{use.LastUsedAt}
				}
			}
		}
		return err
	})
	return views, err
}

// InitialAccessToken lets its holder register clients (RFC 7591 §3), as operators
// see it.
type InitialAccessToken struct {
	ID        string `json:"id"`
	Token     string `json:"token,omitempty"` // only when it was made just now
	Name      string `json:"name"`
	State     string `json:"state"` // "live", "revoked", "expired" or "used up"
	Uses      int    `json:"uses"`
	MaxUses   int    `json:"max_uses"` // 0: any number
	CreatedAt Moment `json:"created_at"`
	ExpiresAt Moment `json:"expires_at"`
	RevokedAt Moment `json:"revoked_at"`
}

func viewInitialAccessToken(t *oauth.InitialAccessToken, now time.Time) InitialAccessToken {
	return InitialAccessToken{
		ID: t.ID, Name: t.Name, State: t.State(now), Uses: t.Uses, MaxUses: t.MaxUses,
		CreatedAt: Moment{t.CreatedAt}, ExpiresAt: Moment{t.ExpiresAt}, RevokedAt: Moment{t.RevokedAt},
	}
}

// CreateInitialAccessToken makes a token that registers up to uses clients, any
// number if uses is 0, and lives for ttl, for ever if that is 0. The view shows it,
// once.
func (o *Operations) CreateInitialAccessToken(ctx context.Context, by Caller, name string, uses int, ttl time.Duration) (view InitialAccessToken, err error) {
	switch {
	case strings.TrimSpace(name) == "":
		return view, invalid("name", "{name} is empty; say what the token is for, such as the team that gets it")
	case uses < 0:
		return view, invalid("max_uses", "{max_uses} must not be negative; 0 is any number")
	case ttl < 0:
		return view, invalid("ttl", "{ttl} must not be negative; 0 is for ever")
	}
	token := oauth.NewSecret(oauth.InitialTokenPrefix)
	made := &oauth.InitialAccessToken{ID: oauth.NewID("iat_"), Hash: oauth.Hash(token), Name: name, MaxUses: uses}
	err = o.change(ctx, by, InitialAccessTokens, "initial_access_token.create", func(tx *store.Tx) (audit.Event, error) {
		made.CreatedAt = tx.Now()
		if ttl > 0 {
			made.ExpiresAt = tx.Now().Add(ttl)
		}
		view = viewInitialAccessToken(made, tx.Now())
		view.Token = token
		return audit.InitialAccessToken("create", made.ID, made.Name), tx.CreateInitialToken(made)
	})
	return view, err
}

// InitialAccessTokens returns a page of the tokens and the cursor of the next, ""
// for none.
func (o *Operations) InitialAccessTokens(ctx context.Context, by Caller, page store.Page) (views []InitialAccessToken, next string, err error) {
	err = o.look(ctx, by, InitialAccessTokens, func(tx *store.Tx) error {
		tokens, cursor, err := tx.InitialTokens(page)
		view := func(t *oauth.InitialAccessToken) InitialAccessToken { return viewInitialAccessToken(t, tx.Now()) }
		views, next, err = viewed(view, tokens, cursor, err)
		return err
	})
	return views, next, err
}

// RevokeInitialAccessToken ends a token; the clients it registered stay. One that
// was revoked before stays as it is.
func (o *Operations) RevokeInitialAccessToken(ctx context.Context, by Caller, id string) (view InitialAccessToken, err error) {
	err = o.change(ctx, by, InitialAccessTokens, "initial_access_token.revoke", func(tx *store.Tx) (event audit.Event, err error) {
		revoked, err := tx.RevokeInitialToken(id)
		if err != nil {
			return event, err
		}
		t, err := tx.InitialToken(id)
		if errors.Is(err, store.ErrNotFound) {
			return event, notFound(InitialAccessTokens, id, "there is no initial access token %s")
		}
		if err != nil {
			return event, err
		}
		view = viewInitialAccessToken(t, tx.Now())
		if revoked {
			event = audit.InitialAccessToken("revoke", t.ID, t.Name)
		}
		return event, nil
	})
	return view, err
}
