package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"reflect"
	"regexp"
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
	ID           string            `json:"client_id"`
	Secret       string            `json:"client_secret,omitempty"` // only if it was just made
	Name         string            `json:"client_name"`
	Method       oauth.Method      `json:"token_endpoint_auth_method"`
	KeyIDs       []string          `json:"key_ids,omitempty"`  // of its keys, for private_key_jwt; "": one without kid
	JWKS         json.RawMessage   `json:"jwks,omitempty"`     // these keys
	JWKSURI      string            `json:"jwks_uri,omitempty"` // or the URL of its keys
	GrantTypes   []oauth.GrantType `json:"grant_types"`
	RedirectURIs []string          `json:"redirect_uris"`
	Scope        string            `json:"scope"`     // the scopes it is limited to; "" is every scope of the resource
	Resources    []string          `json:"resources"` // that it is bound to; empty means any
	// Login says that it signs people in, on the page of login.external.
	Login           bool         `json:"login,omitempty"`
	ResourceServers []string     `json:"resource_servers"` // those with these credentials; empty for an ordinary client
	AccessTokenTTL  Span         `json:"access_token_ttl"` // 0 is the resource's default
	Origin          oauth.Origin `json:"origin"`
	CreatedAt       Moment       `json:"created_at"`
	ApprovedAt      Moment       `json:"approved_at"`
	DisabledAt      Moment       `json:"disabled_at"`
	UsedAt          Moment       `json:"used_at"`        // when it first completed a flow
	ManagesItself   bool         `json:"manages_itself"` // it may change and delete its registration (RFC 7592)
	ChangedAt       Moment       `json:"changed_at"`     // when its redirect URIs or keys last changed
	ExpiresAt       Moment       `json:"expires_at"`     // when it ends; null is never
	LastUsedAt      Moment       `json:"last_used_at"`   // when it last got a token, as far as its newest events tell
	State           ClientState  `json:"state,omitempty"`
	ApprovedFor     []string     `json:"approved_for,omitzero"` // groups for whose members it is approved
	version         int64
	client          *oauth.Client // as it is stored
}

// ClientState is whether a client is let in.
type ClientState string

// The states, of which a client has the first that applies.
const (
	StateDisabled   ClientState = "disabled"   // an operator shut it out
	StateExpired    ClientState = "expired"    // it has ended
	StateBlocked    ClientState = "blocked"    // it, or one like it, was blocked
	StateApproved   ClientState = "approved"   // an operator made or approved it
	StateWaiting    ClientState = "waiting"    // somebody asks an operator to approve it
	StateUnverified ClientState = "unverified" // nobody has vouched for it
)

// describe sets what the views say that is not stored with the clients.
func describe(tx *store.Tx, views ...*Client) error {
	ids := make([]string, len(views))
	for i, v := range views {
		ids[i] = v.ID
	}
	used, err := tx.ClientsLastUsed(ids...)
	if err != nil {
		return err
	}
	groups, err := tx.ApprovedGroups(ids...)
	if err != nil {
		return err
	}
	waits, err := tx.InInbox(ids...)
	if err != nil {
		return err
	}
	signsIn, err := tx.LoginClient()
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	blocks, err := tx.BlocksNow()
	for _, v := range views {
		v.Login = v.ID == signsIn
		v.LastUsedAt, v.ApprovedFor = Moment{used[v.ID]}, append([]string{}, groups[v.ID]...)
		switch {
		case !v.DisabledAt.IsZero():
			v.State = StateDisabled
		case !v.ExpiresAt.IsZero() && !v.ExpiresAt.After(tx.Now()):
			v.State = StateExpired
		case client.BlockOf(blocks, v.client) != nil:
			v.State = StateBlocked
		case !v.ApprovedAt.IsZero():
			v.State = StateApproved
		case waits[v.ID]:
			v.State = StateWaiting
		default:
			v.State = StateUnverified
		}
	}
	return err
}

func viewClient(c *oauth.Client) Client {
	return Client{
		ID: c.ID, Name: c.Name, Method: c.Method, KeyIDs: client.KeyIDs(&c.Metadata), JWKS: c.JWKS, JWKSURI: c.JWKSURI,
		GrantTypes: append([]oauth.GrantType{}, c.GrantTypes...), RedirectURIs: append([]string{}, c.RedirectURIs...),
		Scope: c.Allowed.String(), Resources: append([]string{}, c.Resources...),
		ResourceServers: append([]string{}, c.ResourceServers...),
		AccessTokenTTL:  Span(c.AccessTTL), Origin: c.Origin,
		CreatedAt: Moment{c.CreatedAt}, ApprovedAt: Moment{c.ApprovedAt}, DisabledAt: Moment{c.DisabledAt},
		UsedAt: Moment{c.UsedAt}, ManagesItself: c.RegistrationToken != "", ChangedAt: Moment{c.ChangedAt},
		ExpiresAt: Moment{c.ExpiresAt}, version: c.Version, client: c,
	}
}

// ClientTerms say what a client is and what it may do. A field that is nil changes nothing.
type ClientTerms struct {
	Name         *string           `json:"client_name"`
	GrantTypes   []oauth.GrantType `json:"grant_types"`
	RedirectURIs []string          `json:"redirect_uris"`
	JWKS         json.RawMessage   `json:"jwks"` // its public keys, with private_key_jwt
	JWKSURI      *string           `json:"jwks_uri"`
	Scope        *string           `json:"scope"`
	Resources    []string          `json:"resources"` // ids or identifiers; the first is the client's default
	// AnyResource lets a machine's client ask for tokens for every resource; without it, such a client must be bound to
	// at least one.
	AnyResource bool `json:"any_resource"`
	// ResourceServers are the resources, by ids or identifiers, that introspect tokens with these credentials. If a
	// client has any, it may do nothing else.
	ResourceServers []string `json:"resource_servers"`
	AccessTokenTTL  *Span    `json:"access_token_ttl"`
	ExpiresIn       *Span    `json:"expires_in"` // when the client ends, from now on; 0 is never
}

// NewClient describes a client to create.
type NewClient struct {
	ClientTerms
	// ID is the URL that the client sends as its client_id, or "mcp_" and a name, for an id that is the same wherever
	// the client is created. If it is "", an id is generated.
	ID string `json:"client_id"`
	// Method is how the client authenticates. "" is private_key_jwt if keys are given, and client_secret_basic
	// otherwise.
	Method oauth.Method `json:"token_endpoint_auth_method"`
	// Login makes credentials with which an application signs people in, on the page of login.external. If it is set,
	// the client may do nothing else, and there is only one.
	Login bool `json:"login"`
}

// chosenID is an id that an operator may choose. It begins as generated ones do, because a client's id stands in tokens
// where a person's id stands (RFC 9068 §2.2), and must not be mistaken for one.
var chosenID = regexp.MustCompile(`^mcp_[A-Za-z0-9._-]{1,100}$`)

// CreateClient creates an approved client. The view contains the client's secret, if it has one; no later view does.
func (o *Operations) CreateClient(ctx context.Context, by Caller, n NewClient) (view Client, err error) {
	if n.Name == nil || strings.TrimSpace(*n.Name) == "" {
		return view, invalid("client_name", "{client_name} is empty; give the name by which people know the "+
			"application, because the consent page shows it")
	}
	made := &oauth.Client{ID: oauth.NewID("mcp_"), Origin: oauth.ByOperator}
	if n.ID != "" {
		if !client.IsDocumentURL(n.ID) && !chosenID.MatchString(n.ID) {
			return view, invalid("client_id", "{client_id} must be the https URL that the client sends as its "+
				"client_id, or mcp_ and up to 100 letters, digits, dots, dashes and underscores; leave it out to "+
				"have an id generated")
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
	err = o.change(ctx, by, Clients, "client.create", &view, func(tx *store.Tx) (event audit.Event, err error) {
		switch {
		case n.Login:
			if err = maySignIn(tx, by); err == nil {
				err = n.signIn(tx, made)
			}
		case len(n.ResourceServers) > 0:
			err = n.applyServer(tx, made, o)
		default:
			err = n.apply(tx, made, o)
		}
		if err == nil {
			err = o.withinRights(tx, by, made)
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
			err = conflict(Clients, "client_id", made.ID, "the client %s already exists")
		}
		if err == nil && n.Login {
			err = tx.SetLoginClient(made.ID)
		}
		if err != nil {
			return event, err
		}
		view = viewClient(made)
		event = audit.Client("create", made.ID).Changed(nil, view)
		return event, describe(tx, &view)
	})
	if err == nil {
		view.Secret = secret
	}
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
		return "", invalid("token_endpoint_auth_method", "{token_endpoint_auth_method} %q is unknown; use one of %s",
			n.Method, oauth.Listed(client.Methods))
	case n.Method == oauth.MethodNone && len(n.ResourceServers) > 0:
		return "", invalid("token_endpoint_auth_method",
			"a resource server must authenticate to introspect tokens; it cannot be public")
	}
	return n.Method, nil
}

// signIn makes c the credentials of the application that signs people in.
func (n *NewClient) signIn(tx *store.Tx, c *oauth.Client) error {
	if len(n.GrantTypes)+len(n.RedirectURIs)+len(n.Resources) > 0 || n.Scope != nil || n.AnyResource ||
		len(n.ResourceServers) > 0 || !c.Method.IsSecret() {
		return invalid("login", "{login} makes credentials with a secret that sign people in and do nothing else; "+
			"make a second client for {grant_types}, {redirect_uris}, {scope}, {resources} or {resource_servers}")
	}
	c.Name = *n.Name
	id, err := tx.LoginClient()
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	return invalid("login", "the client %s signs people in already, and there can be only one; delete it first: "+
		"cardea client delete %s", id, id)
}

// applyServer changes c, which resource servers introspect with, to the terms that are given. It refuses those that
// such a client cannot have.
func (t *ClientTerms) applyServer(tx *store.Tx, c *oauth.Client, o *Operations) error {
	switch {
	case len(t.GrantTypes)+len(t.RedirectURIs)+len(t.Resources) > 0 || t.Scope != nil || t.AnyResource:
		return invalid("resource_servers", "{resource_servers} makes credentials for introspection only; make a "+
			"second client for {grant_types}, {redirect_uris}, {scope} or {resources}")
	case t.ResourceServers != nil:
		find := func(name string) (*oauth.Resource, error) {
			r, err := findResource(tx.Resource, name)
			if err == nil && r.BuiltIn {
				err = invalid("resource_servers", "%s is a part of this server, and needs no credentials to "+
					"introspect tokens", r.Identifier)
			}
			return r, err
		}
		var err error
		if c.ResourceServers, err = bound(c.ResourceServers, t.ResourceServers, find); err != nil {
			return err
		}
	}
	if len(c.ResourceServers) == 0 {
		return invalid("resource_servers", "{resource_servers} is empty, but these credentials are for introspection "+
			"only; name at least one MCP server, or delete the client")
	}
	return t.applyCredentials(tx, c, o)
}

// applyCredentials changes c, which gets no tokens, to the terms that are given and that such a client can have.
func (t *ClientTerms) applyCredentials(tx *store.Tx, c *oauth.Client, o *Operations) error {
	if t.AccessTokenTTL != nil && *t.AccessTokenTTL != 0 {
		return invalid("access_token_ttl",
			"{access_token_ttl} is of access tokens, and these credentials get none; leave it out, or set it for the "+
				"resource")
	}
	if t.Name != nil {
		c.Name = *t.Name
	}
	if err := t.applyExpiry(tx, c); err != nil {
		return err
	}
	return t.applyKeys(&c.Metadata, o)
}

// applyExpiry sets when c ends, if t says it.
func (t *ClientTerms) applyExpiry(tx *store.Tx, c *oauth.Client) error {
	if t.ExpiresIn == nil {
		return nil
	}
	in := time.Duration(*t.ExpiresIn)
	if in != 0 && in < time.Second || in > maxExpiry {
		return invalid("expires_in",
			"{expires_in} must be from 1s to ten years, or 0 for a client that does not expire")
	}
	c.ExpiresAt = time.Time{}
	if in != 0 {
		c.ExpiresAt = tx.Now().Add(in)
	}
	return nil
}

// hasKeys reports whether keys are given.
func (t *ClientTerms) hasKeys() bool { return len(t.JWKS) > 0 || t.JWKSURI != nil }

// applyKeys sets the keys of m to those of t, if t has any. It refuses if m authenticates with private_key_jwt and has
// no keys then.
func (t *ClientTerms) applyKeys(m *oauth.Metadata, o *Operations) error {
	signs := m.Method == oauth.MethodPrivateKeyJWT
	switch {
	case len(t.JWKS) > 0 && t.JWKSURI != nil:
		return invalid("jwks", "{jwks} and {jwks_uri} exclude each other; give one of them")
	case t.hasKeys() && !signs:
		return invalid("jwks", "{jwks} and {jwks_uri} need {token_endpoint_auth_method} private_key_jwt, but this "+
			"client has %s; leave the keys out, or make a client with private_key_jwt", m.Method)
	case len(t.JWKS) > 0:
		if !sameJSON(t.JWKS, m.JWKS) {
			m.JWKS = t.JWKS
		}
		m.JWKSURI = ""
	case t.JWKSURI != nil:
		m.JWKS, m.JWKSURI = nil, *t.JWKSURI
	case signs && len(m.JWKS) == 0 && m.JWKSURI == "":
		return invalid("jwks", "{token_endpoint_auth_method} private_key_jwt needs the client's public keys: {jwks} "+
			"with a JSON Web Key Set, or {jwks_uri} with the URL of one")
	}
	if t.JWKSURI != nil {
		if u, err := url.Parse(*t.JWKSURI); err == nil && oauth.IsLoopback(u.Hostname()) && !o.AllowLoopback {
			return invalid("jwks_uri", "{jwks_uri} is on a loopback host, and keys are fetched from there only if "+
				"registration.cimd_allow_loopback is true; give the keys themselves with {jwks}")
		}
	}
	err := client.CheckKeys(m)
	if refusal, ok := oauth.AsRefusal(err); ok {
		if fault, found := strings.CutPrefix(refusal.Description, "jwks: "); found {
			return invalid("jwks", "{jwks}: %s", fault)
		}
	}
	return refused("jwks", err)
}

// sameJSON reports whether a and b mean the same, however they are written.
func sameJSON(a, b json.RawMessage) bool {
	var left, right any
	return json.Unmarshal(a, &left) == nil && json.Unmarshal(b, &right) == nil && reflect.DeepEqual(left, right)
}

// apply changes c to the terms that are given. The others stay as they are.
func (t *ClientTerms) apply(tx *store.Tx, c *oauth.Client, o *Operations) error {
	if t.Name != nil {
		c.Name = *t.Name
	}
	machine := isMachine(c)
	if t.GrantTypes != nil {
		c.GrantTypes = nil
		for _, g := range t.GrantTypes {
			if _, served := g.Rule(); !served {
				return invalid("grant_types", "{grant_types} %q is unknown; use one of %s", g,
					oauth.Listed(oauth.GrantTypes()))
			}
			c.GrantTypes = append(c.GrantTypes, g)
		}
	}
	if t.RedirectURIs != nil {
		c.RedirectURIs = t.RedirectURIs
	}
	switch {
	case len(c.GrantTypes) == 0 && len(c.RedirectURIs) == 0:
		return invalid("grant_types", "say what the client is for: {grant_types} authorization_code with "+
			"{redirect_uris} for people, {grant_types} client_credentials for a machine, or {resource_servers} for "+
			"introspection")
	case c.May(oauth.AuthorizationCode) && len(c.RedirectURIs) == 0:
		return invalid("redirect_uris", "{grant_types} authorization_code needs {redirect_uris}: where the client "+
			"receives its codes, such as http://127.0.0.1/callback")
	}
	if err := t.applyKeys(&c.Metadata, o); err != nil {
		return err
	}
	if err := client.Check(&c.Metadata, o.Issuer); err != nil {
		return refused("grant_types", err)
	}
	if err := t.applyResources(tx, c, o); err != nil {
		return err
	}
	if isMachine(c) && len(c.Resources) == 0 && !t.AnyResource && (!machine || t.Resources != nil) {
		return invalid("resources", "a machine's client needs {resources}: the MCP servers that it may ask for "+
			"tokens for; {any_resource} lets it ask for all")
	}
	if t.Scope != nil {
		allowed, err := scope.Parse(*t.Scope)
		if err != nil {
			return invalid("scope", "{scope}: %v", err)
		}
		c.Allowed = allowed
	}
	if err := t.applyExpiry(tx, c); err != nil {
		return err
	}
	if t.AccessTokenTTL != nil {
		if ttl := time.Duration(*t.AccessTokenTTL); ttl != 0 && ttl < time.Second || ttl > oauth.MaxAccessTTL {
			return invalid("access_token_ttl", "{access_token_ttl} must be from 1s to %s, or 0 for the resource's",
				oauth.Brief(oauth.MaxAccessTTL))
		}
		c.AccessTTL = time.Duration(*t.AccessTokenTTL)
	}
	return checkAllowed(tx, c)
}

// maxExpiry is the furthest end that a client may be given.
const maxExpiry = 10 * 366 * 24 * time.Hour

// isMachine reports whether c may ask for tokens in its own name.
func isMachine(c *oauth.Client) bool {
	return oauth.AnyGrant(c.GrantTypes, func(rule oauth.GrantRule) bool { return rule.OwnName })
}

// applyResources binds c to the resources that t names, if it names any.
func (t *ClientTerms) applyResources(tx *store.Tx, c *oauth.Client, o *Operations) error {
	switch {
	case t.AnyResource && len(t.Resources) > 0:
		return invalid("any_resource", "{any_resource} and {resources} exclude each other; give one of them")
	case t.AnyResource, t.Resources != nil:
		var err error
		c.Resources, err = bound(c.Resources, t.Resources,
			func(name string) (*oauth.Resource, error) { return o.findTarget(tx, name) })
		return err
	}
	return nil
}

// checkAllowed refuses a scope that none of the client's resources has, because the client could never be granted it.
func checkAllowed(tx *store.Tx, c *oauth.Client) error {
	var known scope.Set
	for _, identifier := range c.Resources {
		switch r, err := tx.Resource(identifier); {
		case errors.Is(err, store.ErrNotFound): // it was deleted, and the client is still bound to it
		case err != nil:
			return err
		default:
			known = known.Union(r.ScopeNames())
		}
	}
	for _, name := range c.Allowed {
		if len(c.Resources) > 0 && !known.Covers(name) && !scope.Of(name).CoversAny(known...) &&
			name != oauth.OfflineAccess {
			return invalid("scope", "{scope} %s is not a scope of the client's resources; use some of: %s", name, known)
		}
	}
	return nil
}

// ClientQuery selects clients. "" matches any.
type ClientQuery struct {
	Origin   oauth.Origin
	Resource string // id or identifier
}

// Clients returns a page of the clients that match query and the cursor of the next page, "" if there is none. With
// both query.Resource and page.Begins, a page may have fewer clients than page.Limit although a next one follows.
func (o *Operations) Clients(ctx context.Context, by Caller, query ClientQuery,
	page store.Page) (views []Client, next string, err error) {
	err = o.look(ctx, by, Clients, func(tx *store.Tx) error {
		filter := store.ClientFilter{Origin: query.Origin}
		if query.Resource != "" {
			r, err := findResource(tx.Resource, query.Resource)
			if err != nil {
				return err
			}
			filter.Resource = r.Identifier
		}
		if err := checkBegins(page); err != nil {
			return err
		}
		clients, cursor, err := tx.Clients(filter, page)
		if views, next, err = viewed(viewClient, clients, cursor, err); err != nil {
			return err
		}
		all := make([]*Client, len(views))
		for i := range views {
			all[i] = &views[i]
		}
		return describe(tx, all...)
	})
	return views, next, err
}

// Client returns the client with the given id.
func (o *Operations) Client(ctx context.Context, by Caller, id string) (view Client, err error) {
	err = o.look(ctx, by, Clients, func(tx *store.Tx) error {
		c, err := findClient(tx.Client, id)
		if err != nil {
			return err
		}
		view = viewClient(c)
		return describe(tx, &view)
	})
	return view, err
}

// CheckClient returns nil if a client with the terms of this one could be created. Otherwise it returns an Error that
// says which resource or scope was deleted that the client is bound or limited to.
func (o *Operations) CheckClient(ctx context.Context, by Caller, id string) error {
	return o.look(ctx, by, Clients, func(tx *store.Tx) error {
		c, err := findClient(tx.Client, id)
		if err != nil {
			return err
		}
		names := slices.Clone(c.Resources)
		for _, name := range append(names, c.ResourceServers...) {
			if _, err := findResource(tx.Resource, name); err != nil {
				return err
			}
		}
		return checkAllowed(tx, c)
	})
}

// errSame means that an operation found its record as it was to become.
var errSame = errors.New("admin: there is nothing to change")

// changeClient locks the client with the given id, runs fn on it, records the verb as an event, unless fn returns
// errSame, and returns the changed client.
func (o *Operations) changeClient(ctx context.Context, by Caller, verb, id string,
	fn func(*store.Tx, *oauth.Client) error) (view Client, err error) {
	err = o.change(ctx, by, Clients, "client."+verb, &view, func(tx *store.Tx) (event audit.Event, err error) {
		c, err := findClient(tx.LockClient, id)
		if err != nil {
			return event, err
		}
		before := viewClient(c) // fn changes c
		if err := o.matches(before); err != nil {
			return event, err
		}
		if err := fn(tx, c); errors.Is(err, errSame) {
			view = before
			return event, describe(tx, &view)
		} else if err != nil {
			return event, err
		}
		c, err = tx.Client(id)
		if err != nil {
			return event, err
		}
		view = viewClient(c)
		event = audit.Client(verb, id).Changed(before, view)
		return event, describe(tx, &view)
	})
	return view, err
}

// UpdateClient changes a client to the terms that are given. A client with a metadata document and the credentials of a
// resource server accept only some of them. If the client has these terms already, nothing is written or recorded.
func (o *Operations) UpdateClient(ctx context.Context, by Caller, id string, terms ClientTerms) (Client, error) {
	return o.changeClient(ctx, by, "update", id, func(tx *store.Tx, c *oauth.Client) error {
		before := viewClient(c)
		signsIn, err := tx.LoginClient()
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		before.Login = signsIn == c.ID
		switch {
		case c.Origin == oauth.ByDocument &&
			(terms.Name != nil || terms.hasKeys() || terms.GrantTypes != nil || terms.RedirectURIs != nil):
			err = invalid("", "{client_name}, {grant_types}, {redirect_uris} and keys of this client come from its "+
				"document at %s; change them there; only {scope}, {resources} and {access_token_ttl} can be "+
				"changed here", c.ID)
		case before.Login && (len(terms.GrantTypes)+len(terms.RedirectURIs)+len(terms.Resources) > 0 ||
			terms.Scope != nil || terms.AnyResource || len(terms.ResourceServers) > 0):
			err = invalid("", "this client signs people in and does nothing else; only its {client_name} and its end "+
				"can be changed; make another client for {grant_types}, {redirect_uris}, {scope} or {resources}")
		case before.Login:
			err = terms.applyCredentials(tx, c, o)
		case len(c.ResourceServers) > 0:
			err = terms.applyServer(tx, c, o)
		case len(terms.ResourceServers) > 0:
			err = invalid("resource_servers", "this client asks for tokens, and cannot become credentials for "+
				"introspection; make a second client with {resource_servers}")
		default:
			err = terms.apply(tx, c, o)
		}
		if err == nil {
			err = o.withinRights(tx, by, c)
		}
		if err != nil {
			return err
		}
		after := viewClient(c)
		if after.Login = before.Login; reflect.DeepEqual(before, after) {
			return errSame
		}
		return tx.UpdateClient(c)
	})
}

// DisableClient refuses the client and its tokens until EnableClient is called.
func (o *Operations) DisableClient(ctx context.Context, by Caller, id string) (Client, error) {
	return o.changeClient(ctx, by, "disable", id,
		func(tx *store.Tx, c *oauth.Client) error { return tx.DisableClient(c.ID) })
}

// EnableClient lets a disabled client in again.
func (o *Operations) EnableClient(ctx context.Context, by Caller, id string) (Client, error) {
	return o.changeClient(ctx, by, "enable", id, func(tx *store.Tx, c *oauth.Client) error {
		if err := o.withinRights(tx, by, c); err != nil {
			return err
		}
		return tx.EnableClient(c.ID)
	})
}

// SecretOverlap is how long the old secret of a client stays valid beside the new one if nobody says how long.
const SecretOverlap = 24 * time.Hour

// RotateClientSecret gives a client a new secret, which only this view contains. The old secret stays valid for
// overlap.
func (o *Operations) RotateClientSecret(ctx context.Context, by Caller, id string,
	overlap time.Duration) (Client, error) {
	if overlap < 0 {
		return Client{}, invalid("overlap", "{overlap} must not be negative; 0 ends the old secret at once")
	}
	secret := oauth.NewSecret(oauth.SecretPrefix)
	view, err := o.changeClient(ctx, by, "rotate_secret", id, func(tx *store.Tx, c *oauth.Client) error {
		switch {
		case c.Method == oauth.MethodPrivateKeyJWT:
			return conflict("", "client_id", id, "the client %s authenticates with private_key_jwt and has no secret; "+
				"to change its keys, update it with {jwks} or {jwks_uri}")
		case c.Public():
			return conflict("", "client_id", id,
				"the client %s is public and has no secret; to have one, make a new client that is not public")
		}
		if err := o.withinRights(tx, by, c); err != nil {
			return err
		}
		return tx.ReplaceSecret(id, oauth.Hash(secret), tx.Now().Add(overlap))
	})
	if err == nil {
		view.Secret = secret
	}
	return view, err
}

// DeleteClient deletes a client and ends all its grants.
func (o *Operations) DeleteClient(ctx context.Context, by Caller, id string) (done Deletion, err error) {
	err = o.change(ctx, by, Clients, "client.delete", &done, func(tx *store.Tx) (event audit.Event, err error) {
		c, err := findClient(tx.LockClient, id)
		if err != nil {
			return event, err
		}
		if err := o.matches(viewClient(c)); err != nil {
			return event, err
		}
		done = Deletion{What: "client", ID: c.ID, Name: c.Name}
		if done.Grants, err = tx.LiveGrants(store.GrantFilter{ClientID: c.ID}); err != nil {
			return event, err
		}
		event = audit.Client("delete", c.ID).Changed(viewClient(c), nil)
		return endedGrants(event, done.Grants), tx.DeleteClient(c.ID)
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
