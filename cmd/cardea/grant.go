package main

import (
	"context"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/adminapi"
)

type grantCommands struct {
	List   grantList   `cmd:"" help:"List the grants."`
	Revoke grantRevoke `cmd:"" help:"Revoke a grant, so that its tokens are refused from now on."`
}

type grantList struct {
	User     string `placeholder:"E-MAIL|ID" help:"Only grants of this person."`
	Client   string `placeholder:"ID" help:"Only grants of this client."`
	Resource string `placeholder:"URL|ID" help:"Only grants for this resource."`
	Live     bool   `help:"Only grants that are in force."`
	output
}

func (c *grantList) Run(ctx context.Context, sh *shell) error {
	query := admin.GrantQuery{User: c.User, Client: c.Client, Resource: c.Resource, Live: c.Live}
	empty := emptyList(query != admin.GrantQuery{}, "grant",
		"there is no grant yet; one is created when a person allows an agent what it asks for")
	return list(ctx, sh, sh.operate, c.output, empty, drawGrants, adminapi.ListGrants,
		func(l adminapi.Listing) adminapi.GrantListing {
			return adminapi.GrantListing{Listing: l, User: c.User, Client: c.Client, Resource: c.Resource, Live: c.Live}
		})
}

func drawGrants(views []admin.Grant, t *table) {
	t.Head("ID", "CLIENT ID", "CLIENT", "USER", "RESOURCE", "CREATED", "LAST USED", "EXPIRES", "REVOKED",
		"SCOPE")
	t.Fold(16, "CLIENT", "USER", "RESOURCE", "SCOPE")
	for _, v := range views {
		t.Row(v.ID, v.ClientID, dash(v.ClientName), dash(v.User), dash(v.Resource),
			v.CreatedAt.String(), v.LastUsedAt.String(), v.ExpiresAt.String(), v.RevokedAt.String(),
			dash(v.Scope))
	}
}

type grantRevoke struct {
	ID string `arg:"" name:"grant_id" help:"The grant."`
	output
}

func (c *grantRevoke) Run(ctx context.Context, sh *shell) error {
	return ask(ctx, sh, c.output, drawRevocation, adminapi.RevokeGrant, adminapi.ByID{ID: c.ID})
}

func drawRevocation(r admin.Revocation, t *table) {
	if r.Revoked {
		t.Row("revoked " + r.ID + "; its tokens are refused from now on")
	} else {
		t.Row(r.ID + " was revoked before, at " + r.RevokedAt.String() + " (" + r.RevokedReason + ")")
	}
}
