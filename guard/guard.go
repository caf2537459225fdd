package guard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/scope"
)

// Config describes the MCP server that is protected and the issuer of its tokens. Issuer and Resource are required.
type Config struct {
	// Issuer is the authorization server's identifier, byte for byte as its metadata and the iss of its tokens have
	// it (RFC 8414 §2): an https URL, or http on a loopback host.
	Issuer string

	// Resource is the identifier under which the MCP server is registered at the issuer: the aud of its tokens and the
	// resource of its metadata (RFC 8707 §2, RFC 9728 §1.2). It is the URL that people enter in their clients: https,
	// or http on a loopback host, without query and fragment.
	Resource string

	// Scopes are all scopes that the server knows. They must cover every scope that is named elsewhere when the server
	// starts, so that a misspelled one is an error then. Nil means that they are not known, and nothing is compared.
	Scopes scope.Set

	// DefaultScopes are the few scopes that a client should ask for first; it comes back for others when a call needs
	// them. They are the scope of the challenge to a request without a token (RFC 6750 §3), and scopes_supported in the
	// metadata, because clients that find scopes there ask for all of them. Empty means Scopes without wildcards.
	DefaultScopes scope.Set

	// AdvertisedScopes take the place of DefaultScopes in the metadata (RFC 9728 §2). Nil means DefaultScopes; an empty
	// set that is not nil leaves scopes_supported out.
	AdvertisedScopes scope.Set

	// Name and Documentation tell people about the server in its metadata. Empty leaves them out.
	Name          string
	Documentation string

	// Introspection turns strict validation on: the guard asks the issuer at every request whether the token is still
	// active (RFC 7662), with these credentials. A revoked token is refused within a second, which is how long an
	// answer is remembered, and no request gets through while the issuer cannot be reached. Nil means that the guard
	// follows the issuer's status lists, as Status says.
	Introspection *Credentials

	// Status says how the guard learns of revoked tokens without introspection.
	Status Status

	// Events says how tool calls come into the audit log of the issuer.
	Events Events

	// Remember is how many verified tokens are kept in memory. Zero means 10,000.
	Remember int

	// HTTPClient sends the requests to the issuer. Nil means a client of the guard's own. Redirects to another origin
	// are never followed.
	HTTPClient *http.Client

	// Logger gets records of an issuer that cannot be reached, of tool calls, and at debug level of every refusal. No
	// record holds a token. Nil means slog.Default().
	Logger *slog.Logger

	// Now returns the time. Nil means time.Now.
	Now func() time.Time
}

// Credentials are those of a resource server at the issuer's introspection endpoint (RFC 7662 §2.1).
type Credentials struct {
	ClientID     string
	ClientSecret string
}

func (c *Credentials) complete() bool { return c.ClientID != "" && c.ClientSecret != "" }

// Guard protects one MCP server. Make it with [New]; its methods may be called concurrently.
type Guard struct {
	issuer      *issuer
	resource    string
	metadataURL string // of the resource, RFC 9728 §3.1
	metadata    []byte
	scopes      scope.Set
	challenge   scope.Set
	credentials *Credentials
	statuses    *statuses
	remembered  *recent[[32]byte, memory]
	active      introspections
	spool       *spool // nil: tool calls are not sent to the issuer
	log         *slog.Logger
	now         func() time.Time
}

// New returns a guard for the server that config describes, or an error that says what is wrong with config. It sends
// no request: the issuer's metadata and keys are fetched when the first token comes, so the order in which servers
// start does not matter.
func New(config Config) (*Guard, error) {
	resource, err := identifier(config.Resource)
	if err != nil {
		return nil, fmt.Errorf("guard: Resource: %w", err)
	}
	iss, err := identifier(config.Issuer)
	if err != nil {
		return nil, fmt.Errorf("guard: Issuer: %w", err)
	}
	if err := config.check(); err != nil {
		return nil, err
	}
	config.settle()
	g := &Guard{
		resource:    config.Resource,
		metadataURL: insert(resource, protectedResource),
		scopes:      config.Scopes,
		challenge:   config.DefaultScopes,
		credentials: config.Introspection,
		remembered:  newRecent[[32]byte, memory](config.Remember),
		log:         config.Logger,
		now:         config.Now,
	}
	g.issuer = newIssuer(config.Issuer, iss, config.HTTPClient, g.now, g.log)
	g.statuses = newStatuses(g.issuer, iss, config.Status, g.now)
	g.active.answers = newRecent[[32]byte, activeAnswer](config.Remember)
	g.metadata = describe(config)
	if config.Events.Spool != "" {
		if g.spool, err = openSpool(config.Events, config.Resource, g.issuer, g.log); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// check returns an error that names the field of c that is wrong. It does not look at Issuer and Resource.
func (c *Config) check() error {
	for _, field := range []struct {
		name string
		set  scope.Set
	}{{"Scopes", c.Scopes}, {"DefaultScopes", c.DefaultScopes}, {"AdvertisedScopes", c.AdvertisedScopes}} {
		for _, name := range field.set {
			switch {
			case !scope.Valid(name):
				return fmt.Errorf("guard: %s: %q is not a scope name (RFC 6749 §3.3)", field.name, name)
			case name == offlineAccess:
				return fmt.Errorf("guard: %s: %s is asked of the issuer, not of this server; leave it out",
					field.name, name)
			}
		}
		if err := checkScopes(c.Scopes, field.set...); err != nil {
			return fmt.Errorf("guard: %s: %w", field.name, err)
		}
	}
	if c.Introspection != nil && !c.Introspection.complete() {
		return errors.New("guard: Introspection needs ClientID and ClientSecret")
	}
	if as := cmp.Or(c.Events.Credentials, c.Introspection); c.Events.Spool != "" && (as == nil || !as.complete()) {
		return errors.New("guard: Events needs Credentials with ClientID and ClientSecret, or Introspection")
	}
	return nil
}

// settle fills in the defaults of c.
func (c *Config) settle() {
	if len(c.DefaultScopes) == 0 {
		for _, name := range c.Scopes {
			if !strings.HasSuffix(name, "*") {
				c.DefaultScopes = append(c.DefaultScopes, name)
			}
		}
	}
	if c.AdvertisedScopes == nil {
		c.AdvertisedScopes = c.DefaultScopes
	}
	c.Events.Credentials = cmp.Or(c.Events.Credentials, c.Introspection)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	if c.Now == nil {
		c.Now = time.Now
	}
}

// identifier parses the URL that names an issuer or a resource. The error says what is wrong with it.
func identifier(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return nil, errors.New("is missing")
	case err != nil:
		return nil, err
	case u.Host == "" || u.Opaque != "":
		return nil, fmt.Errorf("%q is not an absolute URL", s)
	case !secure(u):
		return nil, fmt.Errorf("%q must be https, or http on a loopback host", s)
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return nil, fmt.Errorf("%q must have no user, query or fragment", s)
	case strings.ContainsAny(s, "|\"\\ "):
		return nil, fmt.Errorf("%q has a character that no URL has", s)
	}
	return u, nil
}

// secure reports whether u is https, or http on a loopback host.
func secure(u *url.URL) bool {
	return u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname())
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && addr.IsLoopback()
}

// insert returns u with a well-known path between host and path (RFC 8414 §3.1, RFC 9728 §3.1).
func insert(u *url.URL, wellKnown string) string {
	return u.Scheme + "://" + u.Host + wellKnown + strings.TrimSuffix(u.EscapedPath(), "/")
}

// Protect lets a request through to next only with a valid access token for this server (RFC 6750, RFC 9068 §4), which
// next finds with [FromContext]. Other requests are answered with 401 and a challenge that leads a client to the
// issuer, 400 if the Authorization header is malformed, and 503 while no token can be verified. Tokens are taken from
// the Authorization header only; the query and the body are not read. Browsers may call from any origin, and Protect
// answers their preflights.
func (g *Guard) Protect(next http.Handler) http.Handler {
	return CORS(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := bearer(r.Header)
		if err != nil {
			g.WriteError(w, r, err)
			return
		}
		token, err := g.Verify(r.Context(), raw)
		if err != nil {
			g.WriteError(w, r, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(NewContext(r.Context(), NewCaller(r, token))))
	}))
}

// RequireScope lets a request through only if the token covers all the scopes, by name or by wildcard
// ([scope.Set.Covers]). Others get 403 insufficient_scope with all scopes that the client should ask for. It goes
// inside [Guard.Protect]; outside it no request gets through. RequireScope panics if Config.Scopes is there and does
// not cover a name.
func (g *Guard) RequireScope(names ...string) func(http.Handler) http.Handler {
	if err := checkScopes(g.scopes, names...); err != nil {
		panic("guard: RequireScope: " + err.Error())
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := g.CheckScope(r.Context(), names...); err != nil {
				g.WriteError(w, r, err)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// CheckScope is [Guard.RequireScope] for a handler that learns from the request which scopes it needs. It returns nil
// or an [*Error] for [Guard.WriteError].
//
// An insufficient_scope error names the scopes of the token and those required, because a client that asks for exactly
// what it is told must not lose what it had (RFC 6750 §3.1).
func (g *Guard) CheckScope(ctx context.Context, names ...string) error {
	token := FromContext(ctx)
	switch {
	case token == nil || token.Audience != g.resource:
		return errNoToken
	case !token.Scopes.CoversAll(names...):
		return &Error{
			Status:      http.StatusForbidden,
			Code:        "insufficient_scope",
			Description: "This needs the scope " + token.Scopes.Missing(names...).String() + ".",
			Scope:       token.Scopes.Minus(scope.Set{offlineAccess}).Union(names),
		}
	}
	return nil
}
