package admin_test

import (
	"testing"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store/storetest"
	"github.com/cardea-auth/cardea/scope"
)

// A program with the credentials that sign people in can sign in as an owner, so only an owner gets them, and
// no access token does.
func TestSignInCredentials(t *testing.T) {
	db, _ := storetest.Open(t, storetest.SQLite)
	o := operate(t, db)
	ctx := t.Context()
	owner := account(t, db, identity.Owner)
	all := scope.Of("cardea:*")
	callers := map[string]admin.Caller{
		"an operator": admin.Person(account(t, db, identity.Operator), nil),
		"a program":   admin.Program("mcp_ops", "Ops", all), "an owner's agent": admin.Person(owner, all),
	}
	named := func(name string) admin.NewClient {
		return admin.NewClient{Login: true, ClientTerms: admin.ClientTerms{Name: &name}}
	}
	for who, by := range callers {
		if c, err := o.CreateClient(ctx, by, named("App")); kind(err) != admin.Forbidden || c.Secret != "" {
			t.Errorf("%s made them: %v", who, err)
		}
	}
	c, err := o.CreateClient(ctx, admin.Person(owner, nil), named("App"))
	if err != nil || !c.Login {
		t.Fatal(c, err)
	}
	if _, err := o.DisableClient(ctx, root, c.ID); err != nil {
		t.Fatal(err)
	}
	for who, by := range callers {
		if got, err := o.RotateClientSecret(ctx, by, c.ID, 0); kind(err) != admin.Forbidden || got.Secret != "" {
			t.Errorf("%s has their secret: %v", who, err)
		}
		if _, err := o.EnableClient(ctx, by, c.ID); kind(err) != admin.Forbidden {
			t.Errorf("%s enabled them: %v", who, err)
		}
		if _, err := o.UpdateClient(ctx, by, c.ID, admin.ClientTerms{Name: ptr("Mine")}); kind(err) != admin.Forbidden {
			t.Errorf("%s changed them: %v", who, err)
		}
		outranked, err := o.Outranked(ctx, by)
		if err != nil || who == "an operator" && !outranked(c) {
			t.Errorf("%s is offered them: %v", who, err)
		}
	}
	// They can be renamed, and do nothing else.
	c, err = o.UpdateClient(ctx, admin.Person(owner, nil), c.ID, admin.ClientTerms{Name: ptr("Our application")})
	if err != nil || c.Name != "Our application" || !c.Login {
		t.Errorf("renamed: %+v %v", c, err)
	}
	tag, _ := admin.ETag(c)
	if _, err := o.For(admin.Request{Match: []string{tag}}).UpdateClient(ctx, root, c.ID,
		admin.ClientTerms{Name: ptr("App")}); err != nil {
		t.Errorf("with the tag that was shown: %v", err)
	}
	for _, terms := range []admin.ClientTerms{
		{GrantTypes: []oauth.GrantType{oauth.ClientCredentials}, Resources: []string{servertest.MCP}},
		{RedirectURIs: []string{"https://app.example.com/callback"}}, {Scope: ptr("mcp:tools:weather")},
		{AnyResource: true}, {AccessTokenTTL: ptr(admin.Span(60e9))},
	} {
		if _, err := o.UpdateClient(ctx, root, c.ID, terms); kind(err) != admin.Invalid {
			t.Errorf("%+v: %v", terms, err)
		}
	}
}
