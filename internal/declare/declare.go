// Package declare keeps what an installation protects in a file: MCP servers, the clients that operators made, and
// groups. Export writes the file, Read checks one, and Apply makes the installation what it says, with the operations
// of package admin, so that the same rights are needed and the same events are recorded as for each change alone.
//
// The members of the file are called as in the JSON of package admin. Secrets are never in it.
package declare

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// File is what a file declares. A list that is nil is not in the file, and Apply leaves that kind of record alone.
type File struct {
	Version   int        `yaml:"version"` // of the format: 1
	Groups    []Group    `yaml:"groups"`
	Resources []Resource `yaml:"resources"`
	Clients   []Client   `yaml:"clients"`
}

// NeedsKeys reports whether a signing key may have to be created for f.
func (f *File) NeedsKeys() bool {
	return slices.ContainsFunc(f.Resources, func(r Resource) bool { return r.SigningAlg != "" })
}

// Entries returns how many groups, members of them, resources, scopes and clients f declares.
func (f *File) Entries() int {
	n := len(f.Groups) + len(f.Resources) + len(f.Clients)
	for _, g := range f.Groups {
		if g.Members != nil {
			n += len(*g.Members)
		}
	}
	for _, r := range f.Resources {
		n += len(r.Scopes)
	}
	return n
}

// version is the newest version of the format, and the only one so far.
const version = 1

// Group is a group. Members are e-mail addresses; nil leaves alone who is in it.
type Group struct {
	Name        string `yaml:"name" id:""`
	Description string `yaml:"description,omitempty"`
	// SecondFactor is whether its members need a second factor to sign in.
	SecondFactor bool      `yaml:"second_factor,omitempty"`
	Members      *[]string `yaml:"members,omitempty"`

	at place
}

// Resource is an MCP server.
type Resource struct {
	Identifier     string   `yaml:"identifier" id:""`
	Name           string   `yaml:"name,omitempty"` // "": the host
	SigningAlg     string   `yaml:"signing_alg,omitempty"`
	AccessTokenTTL Span     `yaml:"access_token_ttl,omitempty"`
	RefreshIdleTTL Span     `yaml:"refresh_idle_ttl,omitempty"`
	RefreshMaxTTL  Span     `yaml:"refresh_max_ttl,omitempty"`
	SecondFactor   bool     `yaml:"second_factor,omitempty"`
	Groups         []string `yaml:"groups,omitempty"` // names
	TokenGroups    bool     `yaml:"token_groups,omitempty"`
	TokenShape     string   `yaml:"token_shape,omitempty"` // "": standard
	Scopes         []Scope  `yaml:"scopes,omitempty"`

	at place
}

// Scope is a scope of a resource.
type Scope struct {
	Name        string   `yaml:"name" id:""`
	Description string   `yaml:"description,omitempty"`
	Default     bool     `yaml:"default,omitempty"`
	Risk        string   `yaml:"risk,omitempty"`
	Groups      []string `yaml:"groups,omitempty"` // names

	at place
}

// Client is a client that an operator made. Disabled is nil if the file does not say, so that applying it does not let
// in again what was disabled in a hurry.
type Client struct {
	ID              string   `yaml:"client_id" id:""`
	Name            string   `yaml:"client_name"`
	Method          string   `yaml:"token_endpoint_auth_method,omitempty"` // "": as admin.NewClient says
	JWKS            Keys     `yaml:"jwks,omitempty"`
	JWKSURI         string   `yaml:"jwks_uri,omitempty"`
	GrantTypes      []string `yaml:"grant_types,omitempty"`
	RedirectURIs    []string `yaml:"redirect_uris,omitempty"`
	Scope           string   `yaml:"scope,omitempty"`
	Resources       []string `yaml:"resources,omitempty"` // identifiers
	AnyResource     bool     `yaml:"any_resource,omitempty"`
	ResourceServers []string `yaml:"resource_servers,omitempty"` // identifiers
	AccessTokenTTL  Span     `yaml:"access_token_ttl,omitempty"`
	Disabled        *bool    `yaml:"disabled,omitempty"`

	at place
}

// Span is a length of time, in the file as 90s, 10m or 720h; 0 is the default.
type Span time.Duration

// MarshalYAML implements yaml.Marshaler.
func (s Span) MarshalYAML() (any, error) { return admin.Span(s).String(), nil }

// Keys is a JSON Web Key Set, in the file as YAML.
type Keys json.RawMessage

// place is where something stands in a file.
type place struct {
	line int
	keys map[string]int // the lines of its members
}

// of returns the line of a member, or else the line where the whole begins.
func (p place) of(key string) int {
	if line, ok := p.keys[key]; ok {
		return line
	}
	return p.line
}

// Fault is something that is wrong in a file.
type Fault struct {
	Line int
	Text string
}

func (f Fault) String() string { return fmt.Sprintf("line %d: %s", f.Line, f.Text) }

// Faults are all that is wrong in a file, by line. Nothing was changed.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

func ofGroup(g admin.Group, members []string) Group {
	return Group{Name: g.Name, Description: g.Description, SecondFactor: g.SecondFactor, Members: &members}
}

func (g Group) terms() admin.GroupTerms {
	return admin.GroupTerms{Description: &g.Description, SecondFactor: &g.SecondFactor}
}

func ofResource(r admin.Resource) Resource {
	d := Resource{
		Identifier: r.Identifier, Name: r.Name, SigningAlg: r.SigningAlg, SecondFactor: r.SecondFactor,
		AccessTokenTTL: Span(r.AccessTokenTTL), RefreshIdleTTL: Span(r.RefreshIdleTTL),
		RefreshMaxTTL: Span(r.RefreshMaxTTL), TokenGroups: r.TokenGroups,
	}
	if r.TokenShape != oauth.ShapeStandard {
		d.TokenShape = string(r.TokenShape)
	}
	if len(r.Groups) > 0 {
		d.Groups = r.Groups
	}
	for _, s := range r.Scopes {
		d.Scopes = append(d.Scopes,
			Scope{Name: s.Name, Description: s.Description, Default: s.Default, Risk: string(s.Risk), Groups: s.Groups})
	}
	return d
}

func (r Resource) terms() admin.ResourceTerms {
	terms := admin.ResourceTerms{
		Name: &r.Name, SigningAlg: &r.SigningAlg, SecondFactor: &r.SecondFactor, Scopes: []oauth.ResourceScope{},
		AccessTokenTTL: (*admin.Span)(&r.AccessTokenTTL), RefreshIdleTTL: (*admin.Span)(&r.RefreshIdleTTL),
		RefreshMaxTTL: (*admin.Span)(&r.RefreshMaxTTL),
		Groups:        append([]string{}, r.Groups...), TokenGroups: &r.TokenGroups,
		TokenShape: (*oauth.TokenShape)(&r.TokenShape),
	}
	for _, s := range r.Scopes {
		terms.Scopes = append(terms.Scopes,
			oauth.ResourceScope{Name: s.Name, Description: s.Description, Default: s.Default, Risk: oauth.Risk(s.Risk),
				Groups: append([]string{}, s.Groups...)})
	}
	return terms
}

func ofClient(c admin.Client) Client {
	d := Client{
		ID: c.ID, Name: c.Name, Method: string(c.Method), JWKS: Keys(c.JWKS), JWKSURI: c.JWKSURI,
		RedirectURIs: c.RedirectURIs, Scope: c.Scope, Resources: c.Resources,
		ResourceServers: c.ResourceServers, AccessTokenTTL: Span(c.AccessTokenTTL),
	}
	for _, g := range c.GrantTypes {
		d.GrantTypes = append(d.GrantTypes, string(g))
		if rule, _ := g.Rule(); rule.OwnName && len(c.Resources) == 0 {
			d.AnyResource = true
		}
	}
	if !c.DisabledAt.IsZero() {
		disabled := true
		d.Disabled = &disabled
	}
	return d
}

func (c Client) terms() admin.ClientTerms {
	terms := admin.ClientTerms{Name: &c.Name, JWKS: json.RawMessage(c.JWKS), AnyResource: c.AnyResource,
		ResourceServers: c.ResourceServers}
	if c.JWKSURI != "" {
		terms.JWKSURI = &c.JWKSURI
	}
	if len(c.ResourceServers) == 0 { // otherwise what is not given must not be named
		terms.GrantTypes, terms.RedirectURIs, terms.Scope = []oauth.GrantType{}, []string{}, &c.Scope
		if !c.AnyResource {
			terms.Resources = []string{}
		}
	}
	if len(c.ResourceServers) == 0 || c.AccessTokenTTL != 0 {
		terms.AccessTokenTTL = (*admin.Span)(&c.AccessTokenTTL)
	}
	if c.Scope != "" {
		terms.Scope = &c.Scope
	}
	for _, g := range c.GrantTypes {
		terms.GrantTypes = append(terms.GrantTypes, oauth.GrantType(g))
	}
	terms.RedirectURIs = append(terms.RedirectURIs, c.RedirectURIs...)
	terms.Resources = append(terms.Resources, c.Resources...)
	return terms
}

// maxRecords is how many records and members of groups are read, because an installation with more is not one that
// people keep in a file.
const maxRecords = 20000

// every returns what list lists, page by page.
func every[T any](i *installation, list func(store.Page) ([]T, string, error)) (all []T, err error) {
	for page := (store.Page{Limit: 1000}); ; {
		part, next, err := list(page)
		if err != nil {
			return nil, err
		}
		if i.read += len(part); i.read > maxRecords {
			return nil, admin.Refused(admin.Conflict, "", "", "", fmt.Sprintf("there are more than %d groups, "+
				"members, MCP servers and clients, more than a file can declare; use the commands for each of them, "+
				"or the Admin API", maxRecords))
		}
		all = append(all, part...)
		if page.After = next; next == "" {
			return all, nil
		}
	}
}

// installation is what is there, as the caller of an operation sees it.
type installation struct {
	*admin.Operations
	ctx  context.Context
	by   admin.Caller
	read int // how many records
}

func (i *installation) groups() ([]admin.Group, error) {
	return every(i, func(p store.Page) ([]admin.Group, string, error) { return i.Groups(i.ctx, i.by, p) })
}

// group returns a group with the addresses of all its members.
func (i *installation) group(name string) (g Group, err error) {
	members, err := every(i, func(p store.Page) ([]admin.Member, string, error) {
		found, next, err := i.Group(i.ctx, i.by, name, p)
		g = ofGroup(found.Group, []string{})
		return found.Members, next, err
	})
	for _, m := range members {
		*g.Members = append(*g.Members, cmp.Or(m.Email, m.ID)) // an account may have no address
	}
	if err == nil {
		slices.Sort(*g.Members)
	}
	return g, err
}

// resources returns the MCP servers that are not a part of Cardea itself.
func (i *installation) resources() ([]admin.Resource, error) {
	return every(i, func(p store.Page) ([]admin.Resource, string, error) { return i.Resources(i.ctx, i.by, p) })
}

// clients returns the clients that a file can declare: those that operators made, and that could be made again. left
// says which of the operators' clients could not be, and why. API credentials are not among either, because what
// applies the file must not be changed by it, nor is the client that signs people in.
func (i *installation) clients() (all []admin.Client, left []string, err error) {
	made, err := every(i, func(p store.Page) ([]admin.Client, string, error) {
		return i.Clients(i.ctx, i.by, admin.ClientQuery{Origin: oauth.ByOperator}, p)
	})
	for _, c := range made {
		if i.IsCredentials(c) || c.Login {
			continue
		}
		lost := (*admin.Error)(nil)
		switch err := i.CheckClient(i.ctx, i.by, c.ID); {
		case err == nil:
			all = append(all, c)
		case errors.As(err, &lost) && lost.Kind != admin.Forbidden:
			left = append(left,
				fmt.Sprintf("the client %s (%s) is left out, because %s; change it, or delete it", c.ID, c.Name, lost))
		default:
			return nil, nil, err
		}
	}
	return all, left, err
}
