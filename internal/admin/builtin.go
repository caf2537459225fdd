package admin

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/scope"
)

// APIPath and MCPPath are the paths below the issuer of the two resources that are built in: the Admin API, and the MCP
// server that has the same operations as tools. The resource identifiers are the issuer with these paths.
const (
	APIPath = "/admin/api"
	MCPPath = "/admin/mcp"
)

// builtInScopes are the scopes of both: what a token with one of them lets a program do, within the role of the person
// that allowed it, if it was a person.
var builtInScopes = []oauth.ResourceScope{
	{Name: "cardea:resources:read", Description: "See the MCP servers that are protected here", Risk: oauth.RiskRead},
	{Name: "cardea:resources:write", Description: "Add, change and delete MCP servers", Risk: oauth.RiskChange},
	{Name: "cardea:clients:read", Description: "See the clients that are known here", Risk: oauth.RiskRead},
	{Name: "cardea:clients:write", Description: "Add, approve, change, disable and delete clients",
		Risk: oauth.RiskChange},
	{Name: "cardea:users:read", Description: "See the people who have an account here", Risk: oauth.RiskRead},
	{Name: "cardea:users:write", Description: "Add, change, disable and delete people's accounts, and give roles if " +
		"you are an owner", Risk: oauth.RiskAct},
	{Name: "cardea:groups:read", Description: "See the groups and who is in them", Risk: oauth.RiskRead},
	{Name: "cardea:groups:write", Description: "Add, change and delete groups and who is in them",
		Risk: oauth.RiskChange},
	{Name: "cardea:grants:read", Description: "See what people have allowed which clients", Risk: oauth.RiskRead},
	{Name: "cardea:grants:write", Description: "End what people have allowed", Risk: oauth.RiskChange},
	{Name: "cardea:sessions:read", Description: "See where people are signed in", Risk: oauth.RiskRead},
	{Name: "cardea:sessions:write", Description: "Sign people out", Risk: oauth.RiskChange},
	{Name: "cardea:keys:read", Description: "See the signing keys and explain tokens", Risk: oauth.RiskRead},
	{Name: "cardea:keys:write", Description: "Replace the signing keys", Risk: oauth.RiskAct},
	{Name: "cardea:providers:read", Risk: oauth.RiskRead,
		Description: "See and test with which identity providers people sign in"},
	{Name: "cardea:events:read", Description: "Read the audit log", Risk: oauth.RiskRead},
	{Name: "cardea:settings:read", Description: "See how this server is configured", Risk: oauth.RiskRead},
	{Name: "cardea:*", Description: "Operate this server in every way", Risk: oauth.RiskAct},
}

// builtIn returns the resources that are built into the server with that issuer.
func builtIn(issuer string) []*oauth.Resource {
	return []*oauth.Resource{
		{ID: "res_admin_api", Identifier: issuer + APIPath, Name: "Cardea administration", Scopes: builtInScopes,
			BuiltIn: true},
		{ID: "res_admin_mcp", Identifier: issuer + MCPPath, Name: "Cardea administration for agents",
			Scopes: builtInScopes, BuiltIn: true},
	}
}

// EnsureBuiltIn creates the resources that are built into the server, and updates those that differ. It returns an
// error if an operator has registered another resource under one of their identifiers.
func (o *Operations) EnsureBuiltIn(ctx context.Context) error {
	stored, err := o.DB.Resources(ctx)
	if err != nil {
		return err
	}
	missing := func(r *oauth.Resource) bool {
		for _, s := range stored {
			if s.ID == r.ID && s.Identifier == r.Identifier && s.Name == r.Name &&
				reflect.DeepEqual(s.Scopes, r.Scopes) {
				return false
			}
		}
		return true
	}
	for _, r := range builtIn(o.Issuer) {
		if !missing(r) {
			continue
		}
		if err := o.DB.Update(ctx, func(tx *store.Tx) error { return ensure(tx, r) }); err != nil {
			return err
		}
	}
	return nil
}

// ensure stores r, which is built in.
func ensure(tx *store.Tx, r *oauth.Resource) error {
	taken, err := tx.Resource(r.Identifier)
	switch {
	case err == nil && !taken.BuiltIn:
		return fmt.Errorf("the resource %s is at the address of a part of this server: delete it with: cardea "+
			"resource delete %s", r.Identifier, taken.ID)
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return err
	}
	created, err := tx.PutBuiltIn(r)
	if err != nil {
		return err
	}
	verb := "update"
	if created {
		verb = "create"
	}
	return tx.Conclude(audit.Resource(verb, r.Identifier).With("built_in", "true"), nil)
}

// findTarget is findResource for a resource that a client is bound to. A resource that is built in is made if no server
// has run on this database yet.
func (o *Operations) findTarget(tx *store.Tx, name string) (*oauth.Resource, error) {
	r, err := findResource(tx.Resource, name)
	if e := (*Error)(nil); !errors.As(err, &e) || e.Kind != NotFound {
		return r, err
	}
	for _, r := range builtIn(o.Issuer) {
		if strings.TrimSuffix(name, "/") == r.Identifier {
			return r, ensure(tx, r)
		}
	}
	return nil, err
}

// alterable returns r, or a refusal if it is built in.
func alterable(r *oauth.Resource, err error) (*oauth.Resource, error) {
	if err == nil && r.BuiltIn {
		return nil, invalid("", "%s is a part of this server; it cannot be changed or deleted", r.Identifier)
	}
	return r, err
}

// BuiltInScopes returns the scopes of the resources that are built in.
func BuiltInScopes() []oauth.ResourceScope { return slices.Clone(builtInScopes) }

// Scopes returns the names of BuiltInScopes.
func Scopes() scope.Set { return (&oauth.Resource{Scopes: builtInScopes}).ScopeNames() }
