package oauth

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/scope"
)

// Resource is an MCP server that Cardea protects (RFC 8707). Zero durations and an empty SigningAlg mean the server's
// defaults.
type Resource struct {
	ID         string // "res_…"
	Identifier string // canonical URI, which is the aud of its tokens byte for byte
	Name       string
	Scopes     []ResourceScope
	// Groups are the names of the groups whose members may use it; none: everybody may. A group that is named here or
	// in a scope is not deleted.
	Groups []string
	// TokenGroups is whether access tokens list the groups of their person (RFC 9068 §2.2.3.1).
	TokenGroups bool
	// TokenShape is the form of its access tokens.
	TokenShape TokenShape

	SigningAlg     string // ES256, RS256, PS256 or EdDSA
	AccessTTL      time.Duration
	RefreshIdleTTL time.Duration
	RefreshMaxTTL  time.Duration

	// SecondFactor is whether a person needs a second factor to give consent for it.
	SecondFactor bool

	// BuiltIn is whether the resource is a part of this server, such as its Admin API. A request gets it only by naming
	// it.
	BuiltIn bool

	CreatedAt time.Time
	UpdatedAt time.Time
	Version   int64 // rises with each change
}

// ResourceScope is a scope of a resource.
type ResourceScope struct {
	Name        string `json:"name"`
	Description string `json:"description"`    // for the consent page; if "", the name is shown
	Default     bool   `json:"default"`        // granted if a client requests no scope
	Risk        Risk   `json:"risk,omitempty"` // what a client can do with it; "" if not stated
	// Groups are the names of the groups whose members may have it; none: everybody may who may use the resource.
	Groups []string `json:"groups,omitzero"`
}

// Risk is what a client can do with a scope, for the consent page.
type Risk string

// The risks, lowest first.
const (
	RiskRead   Risk = "read"   // it can read data
	RiskChange Risk = "change" // it can change data
	RiskAct    Risk = "act"    // it can act towards others in the person's name
)

// Risks are all risks, lowest first.
var Risks = []Risk{RiskRead, RiskChange, RiskAct}

// ScopeNames returns the names of all the resource's scopes, in their order.
func (r *Resource) ScopeNames() scope.Set {
	var names scope.Set
	for _, s := range r.Scopes {
		names = append(names, s.Name)
	}
	return names
}

// DefaultScopes returns the scopes that are granted to a client that requests none: those marked as default, or, if
// none is marked, all but the wildcards. A resource that is built in has none.
func (r *Resource) DefaultScopes() scope.Set {
	if r.BuiltIn {
		return nil
	}
	var marked, plain scope.Set
	for _, s := range r.Scopes {
		if s.Default {
			marked = append(marked, s.Name)
		}
		if !strings.HasSuffix(s.Name, ":*") {
			plain = append(plain, s.Name)
		}
	}
	if len(marked) > 0 {
		return marked
	}
	return plain
}

// Describe returns the description of a scope for the consent page: its own, that of the wildcard that covers it, or
// its name.
func (r *Resource) Describe(name string) string {
	if name == OfflineAccess {
		return "Stay connected when you are away, until you disconnect it"
	}
	return cmp.Or(r.stated(name, func(s ResourceScope) string { return s.Description }), name)
}

// Risk returns the risk of a scope: its own, or that of the wildcard that covers it; "" if neither states one.
func (r *Resource) Risk(name string) Risk {
	return Risk(r.stated(name, func(s ResourceScope) string { return string(s.Risk) }))
}

// stated returns the value of member for a scope: its own, or that of the last wildcard that covers it. It returns ""
// if neither has one.
func (r *Resource) stated(name string, member func(ResourceScope) string) string {
	found := ""
	for _, s := range r.Scopes {
		switch value := member(s); {
		case value == "":
		case s.Name == name:
			return value
		case scope.Of(s.Name).Covers(name):
			found = value
		}
	}
	return found
}

// OfflineAccess asks for a refresh token (OpenID Connect Core §11). It is not a scope of any resource.
const OfflineAccess = "offline_access"

// tolerated are scopes that many clients request from every server. Requesting one is never an error, and none of them
// is a scope of a resource.
var tolerated = scope.Of("openid", "profile", "email", OfflineAccess)

// OnlyTolerated reports whether scopes has no other scopes than offline_access, openid, profile and email.
func OnlyTolerated(scopes scope.Set) bool { return len(scopes.Minus(tolerated)) == 0 }

// Permits reports whether client may be granted the scope at r: r has the scope, and no operator has limited the client
// to other scopes. It returns false for offline_access, which is not a scope of r.
func (r *Resource) Permits(client *Client, name string) bool {
	return r.ScopeNames().Covers(name) && (len(client.Allowed) == 0 || client.Allowed.Covers(name))
}

// Permitted returns those of the scopes granted to client at r that Permits still allows. A wildcard that is no longer
// permitted is replaced by the permitted scopes that it covers. ok is false if none is left of at least one:
// offline_access alone is not a grant, unless r has no scopes at all.
func (r *Resource) Permitted(client *Client, granted scope.Set) (left scope.Set, ok bool) {
	for _, name := range granted {
		switch {
		case name == OfflineAccess || r.Permits(client, name):
			left = append(left, name)
		case strings.HasSuffix(name, ":*"):
			for _, below := range slices.Concat(r.ScopeNames(), client.Allowed) {
				if scope.Of(name).Covers(below) && r.Permits(client, below) {
					left = append(left, below)
				}
			}
		}
	}
	left = scope.Of(left...)
	return left, !OnlyTolerated(left) || len(granted) == 0 || OnlyTolerated(granted) && len(r.Scopes) == 0
}

// ParseScope parses the scope parameter of a request (RFC 6749 §3.3). It refuses with invalid_scope what is not a list
// of scope names, and what is longer than one may be, and says which of them it is.
func ParseScope(text string) (scope.Set, error) {
	names, err := scope.Parse(text)
	if err != nil {
		detail := strings.TrimPrefix(err.Error(), scope.ErrSyntax.Error()+": ")
		return nil, Refuse(InvalidScope, "scope must be scope names separated by spaces (RFC 6749 section 3.3): %s",
			detail)
	}
	return names, nil
}

// Grantable returns the scopes that client may be granted at r if it requests requested: those that r has and client is
// allowed, in the requested order; it drops the others (RFC 6749 §3.3). A client that requests none, or only tolerated
// ones such as openid, gets the defaults of r. The error is invalid_scope if no scope is left. offline_access is kept
// only if offline is true.
func (r *Resource) Grantable(client *Client, requested scope.Set, offline bool) (scope.Set, error) {
	known := r.ScopeNames()
	var granted scope.Set
	asked := requested.Minus(tolerated)
	switch {
	case len(asked) > 0:
		for _, name := range asked {
			if r.Permits(client, name) {
				granted = append(granted, name)
			}
		}
		if len(granted) == 0 {
			return nil, Refuse(InvalidScope, "none of the requested scopes can be granted: request some of %s", known)
		}
	default:
		for _, name := range r.DefaultScopes() {
			if r.Permits(client, name) {
				granted = append(granted, name)
			}
		}
		if len(granted) == 0 && !r.BuiltIn { // none of the client's allowed scopes is a default
			for _, name := range client.Allowed {
				if known.Covers(name) {
					granted = append(granted, name)
				}
			}
		}
		if len(granted) == 0 && len(known) > 0 {
			return nil, Refuse(InvalidScope, "scope is missing and this resource has no default for this client: "+
				"request some of %s", known)
		}
	}
	if offline && requested.Has(OfflineAccess) {
		granted = append(granted, OfflineAccess)
	}
	return granted, nil
}

// CheckIdentifier returns the canonical form in which a resource identifier is registered: scheme and host in lower
// case, without a default port, and without a slash after a bare origin. It refuses with invalid_target an identifier
// that is not an absolute https URI (or http on a loopback host) without fragment and user information (RFC 8707 §2).
func CheckIdentifier(identifier string) (string, error) {
	if len(identifier) > 1024 {
		return "", Refuse(InvalidTarget, "a resource identifier must not be longer than 1024 bytes")
	}
	canonical, u, why := normalise(identifier)
	switch {
	case why != "":
		return "", Refuse(InvalidTarget, "resource %.200q %s", identifier, why)
	case !IsSecure(u):
		return "", Refuse(InvalidTarget, "resource %.200q must use https: http is accepted only for loopback hosts",
			identifier)
	}
	return canonical, nil
}

func normalise(identifier string) (canonical string, u *url.URL, why string) {
	u, err := url.Parse(identifier)
	switch {
	case err != nil:
		return "", nil, "is not a URI"
	case u.Scheme == "" || u.Host == "" || u.Opaque != "":
		return "", nil, "is not an absolute URI, such as https://mcp.example.com/mcp"
	case strings.Contains(identifier, "#"):
		return "", nil, "must not have a fragment (RFC 8707 section 2)"
	case u.User != nil:
		return "", nil, "must not contain user information"
	case u.Scheme != "https" && u.Scheme != "http":
		return "", nil, "must use https"
	case !plainHost(identifier, u):
		return "", nil, "has a host with escapes: write an internationalised domain name in its ASCII form (RFC 5890)"
	case !validPort(u):
		return "", nil, "has a port outside 1 to 65535"
	case hasDotSegment(u):
		return "", nil, "must not have dot segments in its path"
	}
	for i := range len(identifier) {
		if c := identifier[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' {
			return "", nil, "has a character that a URI cannot have (RFC 3986 section 2)"
		}
	}
	u.Host = lowerASCII(u.Host)
	if p := u.Port(); p != "" && p == defaultPort(u.Scheme) {
		u.Host = strings.TrimSuffix(u.Host, ":"+p)
	}
	if u.Path == "/" && u.RawQuery == "" {
		u.Path = ""
	}
	u.ForceQuery = false
	return u.String(), u, ""
}

// FindResource returns the resource in registered that identifiers name, which are the values of the parameter resource
// (RFC 8707 §2). It looks for a value as it is, then without its query, then as a URI below a registered one, of which
// it takes the longest. Scheme and host may be in upper case; a default port and one trailing slash are ignored; and an
// origin names the only resource on it. Values that name the same resource count as one. The error is invalid_target if
// they name several, or if one names none. Without any value FindResource returns nil and no error, because the caller
// knows the default.
func FindResource(registered []*Resource, identifiers []string) (*Resource, error) {
	var found *Resource
	for _, identifier := range identifiers {
		r, err := findOne(registered, identifier)
		switch {
		case err != nil:
			return nil, err
		case found != nil && r != found:
			return nil, Refuse(InvalidTarget, "resource names more than one resource: request one at a time")
		}
		found = r
	}
	return found, nil
}

func findOne(registered []*Resource, identifier string) (*Resource, error) {
	canonical, u, why := normalise(identifier)
	if why != "" {
		return nil, Refuse(InvalidTarget, "resource %.200q %s", identifier, why)
	}
	path, _, _ := strings.Cut(canonical, "?")
	for _, form := range []string{canonical, path} {
		for _, r := range registered {
			if strings.TrimSuffix(r.Identifier, "/") == strings.TrimSuffix(form, "/") {
				return r, nil
			}
		}
	}
	var onOrigin []*Resource
	var longest *Resource
	for _, r := range registered {
		if !r.BuiltIn && origin(r.Identifier) == u.Scheme+"://"+u.Host {
			onOrigin = append(onOrigin, r)
		}
		if strings.HasPrefix(path, strings.TrimSuffix(r.Identifier, "/")+"/") &&
			(longest == nil || len(r.Identifier) > len(longest.Identifier)) {
			longest = r
		}
	}
	switch {
	case u.Path == "" || u.Path == "/":
		if len(onOrigin) == 1 {
			return onOrigin[0], nil
		}
	case longest != nil:
		return longest, nil
	}
	return nil, Refuse(InvalidTarget, "resource %.200q is not registered here", identifier)
}

func origin(identifier string) string {
	u, err := url.Parse(identifier)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// MaxAccessTTL is the longest lifetime of an access token. A signing key stays published that long after its last
// signature.
const MaxAccessTTL = 24 * time.Hour

// TargetOf returns the resource that a client's request is for: the one that identifiers name, else the first that the
// client is bound to, else the only one that is registered beside those that are built in. The error is invalid_target
// if none of these applies, or if the client is bound to other resources. A request is never for all resources.
func TargetOf(client *Client, registered []*Resource, identifiers []string) (*Resource, error) {
	named, err := FindResource(registered, identifiers)
	others := slices.DeleteFunc(slices.Clone(registered), func(r *Resource) bool { return r.BuiltIn })
	switch {
	case err != nil:
		return nil, err
	case named == nil && len(client.Resources) > 0:
		named, err = FindResource(registered, client.Resources[:1])
	case named == nil && len(others) == 1:
		named = others[0]
	case named == nil:
		return nil, Refuse(InvalidTarget, "resource is missing and has no default: send the URL of the MCP server")
	}
	if err == nil && !client.BoundTo(named.Identifier) {
		return nil, Refuse(InvalidTarget, "this client is not allowed to ask for tokens for %s", named.Identifier)
	}
	return named, err
}
