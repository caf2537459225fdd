package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/adminapi"
	"github.com/cardea-auth/cardea/internal/oauth"
)

type resourceCommands struct {
	Create resourceCreate `cmd:"" help:"Register an MCP server."`
	List   resourceList   `cmd:"" help:"List the registered MCP servers."`
	Show   resourceShow   `cmd:"" help:"Show one of them."`
	Update resourceUpdate `cmd:"" help:"Change one of them."`
	Delete resourceDelete `cmd:"" help:"Delete one of them and end all grants for it."`
	Add    resourceAdd    `cmd:"" help:"Register an MCP server with the tools that it lists, and freeze them."`
	Tools  resourceTools  `cmd:"" help:"List the tools of one of them, as they were reviewed and as they are."`
	Review resourceReview `cmd:"" help:"Look whether the tools of one of them are still what was reviewed, and accept what is new."`
}

func drawResource(v admin.Resource, t *table) {
	t.Row("id", v.ID)
	t.Row("identifier", v.Identifier)
	t.Row("name", v.Name)
	t.Row("signing alg", dash(v.SigningAlg))
	if v.SecondFactor {
		t.Row("second factor", "needed")
	}
	t.Row("access token ttl", v.AccessTokenTTL.String())
	t.Row("refresh idle ttl", v.RefreshIdleTTL.String())
	t.Row("refresh max ttl", v.RefreshMaxTTL.String())
	if len(v.Groups) > 0 {
		t.Row("groups", strings.Join(v.Groups, ", "))
	}
	if v.TokenGroups {
		t.Row("token groups", "yes")
	}
	if v.TokenShape != oauth.ShapeStandard {
		t.Row("token shape", string(v.TokenShape))
	}
	t.Row("created", v.CreatedAt.String())
	for _, s := range v.Scopes {
		words := s.Name
		if s.Description != "" {
			words += "  " + s.Description
		}
		if s.Default {
			words += "  (default)"
		}
		if s.Risk != "" {
			words += "  (" + string(s.Risk) + ")"
		}
		if len(s.Groups) > 0 {
			words += "  (only " + strings.Join(s.Groups, ", ") + ")"
		}
		t.Row("scope", words)
	}
}

// resourceTerms has the flags for the scopes and the tokens of a resource.
type resourceTerms struct {
	Scope          []string       `sep:"none" placeholder:"NAME[=DESCRIPTION]" help:"Scope the server understands; the description is shown to people. Repeatable."`
	DefaultScope   []string       `sep:"none" placeholder:"NAME" help:"Scope granted to a client that asks for none. Repeatable."`
	ScopeRisk      []string       `sep:"none" placeholder:"NAME=RISK" help:"What a client can do with a scope, for the consent page: read, change or act (in the person's name). Repeatable."`
	AccessTokenTTL *time.Duration `name:"access-token-ttl" placeholder:"DURATION" help:"How long its access tokens are valid; 0 means the server's default."`
	RefreshIdleTTL *time.Duration `name:"refresh-idle-ttl" placeholder:"DURATION" help:"How long an unused refresh token is valid; 0 means the server's default."`
	RefreshMaxTTL  *time.Duration `name:"refresh-max-ttl" placeholder:"DURATION" help:"How long a grant lasts at most; 0 means the server's default."`
	Group          []string       `sep:"none" placeholder:"NAME" help:"Group whose members may use it; an empty name lets everybody. Repeatable."`
	ScopeGroup     []string       `sep:"none" placeholder:"NAME=GROUP" help:"Group whose members may have a scope; an empty group lets everybody. Repeatable."`
	TokenGroups    *bool          `negatable:"" help:"Tell the groups of the person in its access tokens."`
	TokenShape     *string        `placeholder:"SHAPE" help:"standard, or lists: aud is a list, and scopes has the scopes as a list, for servers written for an issuer that did so."`
	SecondFactor   *bool          `help:"People need two factors to allow something there; --second-factor=false: no longer."`
	SigningAlg     *string        `placeholder:"ALG" help:"ES256, RS256, PS256 or EdDSA."`
}

// terms returns the terms that the flags give.
func (f resourceTerms) terms() admin.ResourceTerms {
	t := admin.ResourceTerms{
		DefaultScopes:  f.DefaultScope,
		AccessTokenTTL: (*admin.Span)(f.AccessTokenTTL),
		RefreshIdleTTL: (*admin.Span)(f.RefreshIdleTTL),
		RefreshMaxTTL:  (*admin.Span)(f.RefreshMaxTTL),
		SecondFactor:   f.SecondFactor,
		SigningAlg:     f.SigningAlg,
		TokenGroups:    f.TokenGroups,
		TokenShape:     (*oauth.TokenShape)(f.TokenShape),
	}
	if f.Group != nil {
		t.Groups = named(f.Group)
	}
	for _, text := range f.ScopeGroup {
		name, group, _ := strings.Cut(text, "=")
		if t.ScopeGroups == nil {
			t.ScopeGroups = map[string][]string{}
		}
		t.ScopeGroups[name] = append(t.ScopeGroups[name], named([]string{group})...)
	}
	for _, text := range f.Scope {
		name, description, _ := strings.Cut(text, "=")
		t.Scopes = append(t.Scopes, oauth.ResourceScope{Name: name, Description: description})
	}
	for _, text := range f.ScopeRisk {
		name, risk, _ := strings.Cut(text, "=")
		if t.ScopeRisks == nil {
			t.ScopeRisks = map[string]oauth.Risk{}
		}
		t.ScopeRisks[name] = oauth.Risk(risk)
	}
	return t
}

// named returns the names that are not empty, which stands for none.
func named(names []string) []string {
	return slices.DeleteFunc(append([]string{}, names...), func(name string) bool { return name == "" })
}

// open returns how the installation is opened: with the signing keys only for a resource with an algorithm of its own.
func (f resourceTerms) open(sh *shell) opener {
	if f.SigningAlg != nil && *f.SigningAlg != "" {
		return sh.operateResources
	}
	return sh.operate
}

type resourceCreate struct {
	Identifier string  `required:"" placeholder:"URL" help:"URL of the MCP server, as its clients know it. It is the aud of its tokens."`
	Name       *string `placeholder:"NAME" help:"Name shown to people; the host of the identifier if none is given."`
	resourceTerms
	output
}

func (c *resourceCreate) Run(ctx context.Context, sh *shell) error {
	n := admin.NewResource{Identifier: c.Identifier, ResourceTerms: c.terms()}
	n.Name = c.Name
	return askWith(ctx, sh, c.open(sh), c.output, drawResource, adminapi.CreateResource,
		adminapi.Creation[admin.NewResource]{Body: n})
}

type resourceList struct {
	searched
	output
}

func (c *resourceList) Run(ctx context.Context, sh *shell) error {
	none := "no MCP server is registered yet; add one with: " +
		"cardea resource create --identifier https://mcp.example.com/mcp --scope NAME=DESCRIPTION"
	return list(ctx, sh, sh.operate, c.output, emptyList(c.Begins != "", "MCP server", none), drawResources,
		adminapi.ListResources, c.listing)
}

func drawResources(views []admin.Resource, t *table) {
	t.Head("ID", "IDENTIFIER", "NAME", "SCOPES")
	t.Fold(16, "IDENTIFIER", "NAME", "SCOPES")
	for _, v := range views {
		t.Row(v.ID, v.Identifier, v.Name, (&oauth.Resource{Scopes: v.Scopes}).ScopeNames().String())
	}
}

type resourceShow struct {
	Resource string `arg:"" help:"Id or identifier."`
	output
}

func (c *resourceShow) Run(ctx context.Context, sh *shell) error {
	return ask(ctx, sh, c.output, drawResource, adminapi.ShowResource, adminapi.ByID{ID: c.Resource})
}

type resourceUpdate struct {
	Resource string  `arg:"" help:"Id or identifier."`
	Name     *string `placeholder:"NAME" help:"Name shown to people."`
	resourceTerms
	output
}

// Help returns what the help shows below the usage.
func (c *resourceUpdate) Help() string {
	return "What is not given stays as it is. --scope replaces the whole list of scopes, and --default-scope the " +
		"list of defaults."
}

func (c *resourceUpdate) Run(ctx context.Context, sh *shell) error {
	terms := c.terms()
	terms.Name = c.Name
	return askWith(ctx, sh, c.open(sh), c.output, drawResource, adminapi.UpdateResource,
		adminapi.Change[admin.ResourceTerms]{ID: c.Resource, Body: terms})
}

type resourceDelete struct {
	Resource string `arg:"" help:"Id or identifier."`
	output
}

func (c *resourceDelete) Run(ctx context.Context, sh *shell) error {
	return ask(ctx, sh, c.output, drawDeletion, adminapi.DeleteResource, adminapi.ByID{ID: c.Resource})
}
