package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/scope"
)

type resourceCommands struct {
	Create resourceCreate `cmd:"" help:"Register an MCP server."`
	List   resourceList   `cmd:"" help:"List the registered MCP servers."`
	Show   resourceShow   `cmd:"" help:"Show one of them."`
	Update resourceUpdate `cmd:"" help:"Change one of them."`
	Delete resourceDelete `cmd:"" help:"Delete one of them, and end every grant at it."`
}

// resourceView is a resource as commands print it.
type resourceView struct {
	ID             string                `json:"id"`
	Identifier     string                `json:"identifier"`
	Name           string                `json:"name"`
	Scopes         []oauth.ResourceScope `json:"scopes"`
	SigningAlg     string                `json:"signing_alg"`      // "" is the server's default
	AccessTokenTTL span                  `json:"access_token_ttl"` // seconds; 0 is the server's default
	RefreshIdleTTL span                  `json:"refresh_idle_ttl"` // seconds; 0 is the server's default
	RefreshMaxTTL  span                  `json:"refresh_max_ttl"`  // seconds; 0 is the server's default
	CreatedAt      moment                `json:"created_at"`
	UpdatedAt      moment                `json:"updated_at"`
}

func viewResource(r *oauth.Resource) resourceView {
	return resourceView{
		ID: r.ID, Identifier: r.Identifier, Name: r.Name, Scopes: append([]oauth.ResourceScope{}, r.Scopes...),
		SigningAlg: r.SigningAlg, AccessTokenTTL: span(r.AccessTTL), RefreshIdleTTL: span(r.RefreshIdleTTL), RefreshMaxTTL: span(r.RefreshMaxTTL),
		CreatedAt: moment{r.CreatedAt}, UpdatedAt: moment{r.UpdatedAt},
	}
}

func (v resourceView) draw(t *table) {
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
		t.row("scope", words)
	}
}

// resourceTerms are the flags that say what a resource's tokens are like.
type resourceTerms struct {
	Scope          []string       `sep:"none" placeholder:"NAME[=DESCRIPTION]" help:"Scope the server understands; the description is shown to people. Repeatable."`
	DefaultScope   []string       `sep:"none" placeholder:"NAME" help:"Scope granted to who asks for none. Repeatable."`
	AccessTokenTTL *time.Duration `name:"access-token-ttl" placeholder:"DURATION" help:"Life of its access tokens; 0 is the server's default."`
	RefreshIdleTTL *time.Duration `name:"refresh-idle-ttl" placeholder:"DURATION" help:"Life of an unused refresh token; 0 is the server's default."`
	RefreshMaxTTL  *time.Duration `name:"refresh-max-ttl" placeholder:"DURATION" help:"Life of a grant, however it is used; 0 is the server's default."`
	SigningAlg     *string        `placeholder:"ALG" help:"ES256, RS256, PS256 or EdDSA."`
}

// apply changes r to the terms that are given; those that are not stay.
func (t resourceTerms) apply(r *oauth.Resource) error {
	if len(t.Scope) > 0 {
		r.Scopes = nil
		for _, text := range t.Scope {
			name, description, _ := strings.Cut(text, "=")
			switch {
			case !scope.Valid(name):
				return usageError(fmt.Sprintf("--scope %q is no scope name: it has no spaces, quotation marks or backslashes (RFC 6749 section 3.3)", name))
			case r.ScopeNames().Has(name):
				return usageError(fmt.Sprintf("--scope %s stands there twice", name))
			}
			r.Scopes = append(r.Scopes, oauth.ResourceScope{Name: name, Description: description})
		}
	}
	if len(t.DefaultScope) > 0 {
		for i := range r.Scopes {
			r.Scopes[i].Default = slices.Contains(t.DefaultScope, r.Scopes[i].Name)
		}
		for _, name := range t.DefaultScope {
			switch {
			case len(r.Scopes) == 0:
				return usageError(fmt.Sprintf("--default-scope %s: this resource has no scopes; name them with --scope", name))
			case !r.ScopeNames().Has(name):
				return usageError(fmt.Sprintf("--default-scope %s is none of the scopes of this resource: %s", name, r.ScopeNames()))
			}
		}
	}
	for _, ttl := range []struct {
		flag string
		from *time.Duration
		to   *time.Duration
		most time.Duration
	}{
		{"--access-token-ttl", t.AccessTokenTTL, &r.AccessTTL, oauth.MaxAccessTTL},
		{"--refresh-idle-ttl", t.RefreshIdleTTL, &r.RefreshIdleTTL, 0},
		{"--refresh-max-ttl", t.RefreshMaxTTL, &r.RefreshMaxTTL, 0},
	} {
		switch {
		case ttl.from == nil:
			continue
		case *ttl.from != 0 && *ttl.from < time.Second:
			return usageError(ttl.flag + " must be at least 1s, or 0 for the server's default")
		case ttl.most > 0 && *ttl.from > ttl.most:
			return usageError(ttl.flag + " must be at most " + span(ttl.most).String())
		}
		*ttl.to = *ttl.from
	}
	if t.SigningAlg != nil {
		if *t.SigningAlg != "" && !oauth.IsSigningAlg(*t.SigningAlg) {
			return usageError(fmt.Sprintf("--signing-alg %q is unknown; use one of %s", *t.SigningAlg, strings.Join(oauth.SigningAlgs, ", ")))
		}
		r.SigningAlg = *t.SigningAlg
	}
	return nil
}

type resourceCreate struct {
	Identifier string `required:"" placeholder:"URL" help:"URL of the MCP server, as its clients know it: the aud of its tokens."`
	Name       string `placeholder:"NAME" help:"Name shown to people; the host of the identifier if none is given."`
	resourceTerms
	output
}

func (c *resourceCreate) Run(ctx context.Context, sh *shell) error {
	identifier, err := oauth.CheckIdentifier(c.Identifier)
	if err != nil {
		return err
	}
	r := &oauth.Resource{ID: oauth.NewID("res_"), Identifier: identifier, Name: c.Name}
	if r.Name == "" {
		r.Name = hostOf(identifier)
	}
	if err := c.apply(r); err != nil {
		return err
	}
	err = sh.update(ctx, func(tx *store.Tx) error {
		r.CreatedAt, r.UpdatedAt = tx.Now(), tx.Now()
		err := tx.CreateResource(r)
		if errors.Is(err, store.ErrConflict) {
			return advise("a resource %s is there already; change it with: cardea resource update %s", identifier, identifier)
		}
		return concludeWith(tx, audit.Resource("create", identifier), err)
	})
	if err != nil {
		return err
	}
	return c.print(sh, viewResource(r), viewResource(r).draw)
}

type resourceList struct{ output }

func (c *resourceList) Run(ctx context.Context, sh *shell) error {
	views := []resourceView{}
	err := sh.view(ctx, func(tx *store.Tx) error {
		resources, err := tx.Resources()
		for _, r := range resources {
			views = append(views, viewResource(r))
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.print(sh, views, func(t *table) {
		t.row("ID", "IDENTIFIER", "NAME", "SCOPES")
		for _, v := range views {
			t.row(v.ID, v.Identifier, v.Name, (&oauth.Resource{Scopes: v.Scopes}).ScopeNames().String())
		}
	})
}

type resourceShow struct {
	Resource string `arg:"" help:"Id or identifier."`
	output
}

func (c *resourceShow) Run(ctx context.Context, sh *shell) error {
	var r *oauth.Resource
	err := sh.view(ctx, func(tx *store.Tx) (err error) {
		r, err = findResource(tx, c.Resource)
		return err
	})
	if err != nil {
		return err
	}
	return c.print(sh, viewResource(r), viewResource(r).draw)
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
	var r *oauth.Resource
	err := sh.update(ctx, func(tx *store.Tx) (err error) {
		if r, err = findResource(tx, c.Resource); err != nil {
			return err
		}
		if c.Name != nil {
			r.Name = *c.Name
		}
		if err := c.apply(r); err != nil {
			return err
		}
		r.UpdatedAt = tx.Now()
		return concludeWith(tx, audit.Resource("update", r.Identifier), tx.UpdateResource(r))
	})
	if err != nil {
		return err
	}
	return c.print(sh, viewResource(r), viewResource(r).draw)
}

type resourceDelete struct {
	Resource string `arg:"" help:"Id or identifier."`
	output
}

func (c *resourceDelete) Run(ctx context.Context, sh *shell) error {
	var done deletion
	err := sh.update(ctx, func(tx *store.Tx) error {
		r, err := findResource(tx, c.Resource)
		if err != nil {
			return err
		}
		done = deletion{What: "resource", ID: r.ID, Name: r.Identifier}
		if done.Grants, err = liveGrants(tx, store.GrantFilter{ResourceID: r.ID}); err != nil {
			return err
		}
		return concludeWith(tx, audit.Resource("delete", r.Identifier), tx.DeleteResource(r.ID))
	})
	if err != nil {
		return err
	}
	return done.print(sh, c.output)
}

// findResource returns the resource that an operator names by id or identifier.
func findResource(tx *store.Tx, name string) (*oauth.Resource, error) {
	if canonical, err := oauth.CheckIdentifier(name); err == nil {
		name = canonical
	}
	r, err := tx.Resource(name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, advise("there is no resource %s; cardea resource list shows them", name)
	}
	return r, err
}
