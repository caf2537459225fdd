package main

import (
	"context"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/oauth"
)

type resourceCommands struct {
	Create resourceCreate `cmd:"" help:"Register an MCP server."`
	List   resourceList   `cmd:"" help:"List the registered MCP servers."`
	Show   resourceShow   `cmd:"" help:"Show one of them."`
	Update resourceUpdate `cmd:"" help:"Change one of them."`
	Delete resourceDelete `cmd:"" help:"Delete one of them, and end every grant at it."`
}

func drawResource(v admin.Resource, t *table) {
	t.row("id", v.ID)
	t.row("identifier", v.Identifier)
	t.row("name", v.Name)
	t.row("signing alg", orDash(v.SigningAlg))
	t.row("access token ttl", v.AccessTokenTTL.String())
	t.row("refresh idle ttl", v.RefreshIdleTTL.String())
	t.row("refresh max ttl", v.RefreshMaxTTL.String())
	t.row("created", v.CreatedAt.String())
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
		t.row("scope", words)
	}
}

// resourceTerms are the flags that say what a resource's tokens are like.
type resourceTerms struct {
	Scope          []string       `sep:"none" placeholder:"NAME[=DESCRIPTION]" help:"Scope the server understands; the description is shown to people. Repeatable."`
	DefaultScope   []string       `sep:"none" placeholder:"NAME" help:"Scope granted to a client that asks for none. Repeatable."`
	ScopeRisk      []string       `sep:"none" placeholder:"NAME=RISK" help:"What a client can do with a scope, for the consent page: read, change or act (in the person's name). Repeatable."`
	AccessTokenTTL *time.Duration `name:"access-token-ttl" placeholder:"DURATION" help:"Life of its access tokens; 0 is the server's default."`
	RefreshIdleTTL *time.Duration `name:"refresh-idle-ttl" placeholder:"DURATION" help:"Life of an unused refresh token; 0 is the server's default."`
	RefreshMaxTTL  *time.Duration `name:"refresh-max-ttl" placeholder:"DURATION" help:"Life of a grant, however it is used; 0 is the server's default."`
	SigningAlg     *string        `placeholder:"ALG" help:"ES256, RS256, PS256 or EdDSA."`
}

// terms returns the flags as the terms they are.
func (f resourceTerms) terms() admin.ResourceTerms {
	t := admin.ResourceTerms{
		DefaultScopes:  f.DefaultScope,
		AccessTokenTTL: (*admin.Span)(f.AccessTokenTTL),
		RefreshIdleTTL: (*admin.Span)(f.RefreshIdleTTL),
		RefreshMaxTTL:  (*admin.Span)(f.RefreshMaxTTL),
		SigningAlg:     f.SigningAlg,
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

// change runs an operation on a resource and prints the resource. It opens the signing keys only for a resource with an
// algorithm of its own.
func (f resourceTerms) change(
	ctx context.Context, sh *shell, o output, do func(*admin.Operations, admin.Caller) (admin.Resource, error),
) error {
	operate := sh.operate
	if f.SigningAlg != nil && *f.SigningAlg != "" {
		operate = sh.operateResources
	}
	return operate(ctx, func(operations *admin.Operations, by admin.Caller) error {
		view, err := do(operations, by)
		if err != nil {
			return err
		}
		return o.print(sh, view, func(t *table) { drawResource(view, t) })
	})
}

type resourceCreate struct {
	Identifier string  `required:"" placeholder:"URL" help:"URL of the MCP server, as its clients know it: the aud of its tokens."`
	Name       *string `placeholder:"NAME" help:"Name shown to people; the host of the identifier if none is given."`
	resourceTerms
	output
}

func (c *resourceCreate) Run(ctx context.Context, sh *shell) error {
	n := admin.NewResource{Identifier: c.Identifier, ResourceTerms: c.terms()}
	n.Name = c.Name
	return c.change(ctx, sh, c.output, func(o *admin.Operations, by admin.Caller) (admin.Resource, error) {
		return o.CreateResource(ctx, by, n)
	})
}

type resourceList struct{ output }

func (c *resourceList) Run(ctx context.Context, sh *shell) error {
	return one(ctx, sh, c.output, drawResources, func(o *admin.Operations, by admin.Caller) ([]admin.Resource, error) {
		return o.Resources(ctx, by)
	})
}

func drawResources(views []admin.Resource, t *table) {
	t.row("ID", "IDENTIFIER", "NAME", "SCOPES")
	for _, v := range views {
		t.row(v.ID, v.Identifier, v.Name, (&oauth.Resource{Scopes: v.Scopes}).ScopeNames().String())
	}
}

type resourceShow struct {
	Resource string `arg:"" help:"Id or identifier."`
	output
}

func (c *resourceShow) Run(ctx context.Context, sh *shell) error {
	return one(ctx, sh, c.output, drawResource, func(o *admin.Operations, by admin.Caller) (admin.Resource, error) {
		return o.Resource(ctx, by, c.Resource)
	})
}

type resourceUpdate struct {
	Resource string  `arg:"" help:"Id or identifier."`
	Name     *string `placeholder:"NAME" help:"Name shown to people."`
	resourceTerms
	output
}

// Help is shown below the usage.
func (c *resourceUpdate) Help() string {
	return "What is not given stays as it is. Scopes are given all together: --scope replaces the list, and --default-scope then says which are the defaults."
}

func (c *resourceUpdate) Run(ctx context.Context, sh *shell) error {
	terms := c.terms()
	terms.Name = c.Name
	return c.change(ctx, sh, c.output, func(o *admin.Operations, by admin.Caller) (admin.Resource, error) {
		return o.UpdateResource(ctx, by, c.Resource, terms)
	})
}

type resourceDelete struct {
	Resource string `arg:"" help:"Id or identifier."`
	output
}

func (c *resourceDelete) Run(ctx context.Context, sh *shell) error {
	return one(ctx, sh, c.output, drawDeletion, func(o *admin.Operations, by admin.Caller) (admin.Deletion, error) {
		return o.DeleteResource(ctx, by, c.Resource)
	})
}
