package main

import (
	"context"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/store"
)

type grantCommands struct {
	List   grantList   `cmd:"" help:"List the grants."`
	Revoke grantRevoke `cmd:"" help:"End a grant: its tokens are refused from now on."`
}

type grantList struct {
	User     string `placeholder:"E-MAIL|ID" help:"Only this person's."`
	Client   string `placeholder:"ID" help:"Only this client's."`
	Resource string `placeholder:"URL|ID" help:"Only those at this resource."`
	Live     bool   `help:"Only those that still allow something."`
	output
}

func (c *grantList) Run(ctx context.Context, sh *shell) error {
	query := admin.GrantQuery{User: c.User, Client: c.Client, Resource: c.Resource, Live: c.Live}
	return every(ctx, sh, c.output, drawGrants, func(o *admin.Operations, by admin.Caller, p store.Page) ([]admin.Grant, string, error) {
		return o.Grants(ctx, by, query, p)
	})
}

func drawGrants(views []admin.Grant, t *table) {
	t.row("ID", "CLIENT ID", "CLIENT", "USER", "RESOURCE", "CREATED", "LAST USED", "REVOKED", "SCOPE")
	for _, v := range views {
		t.row(v.ID, v.ClientID, orDash(v.ClientName), orDash(v.User), orDash(v.Resource), v.CreatedAt.String(), v.LastUsedAt.String(), v.RevokedAt.String(), orDash(v.Scope))
	}
}

type grantRevoke struct {
	ID string `arg:"" name:"grant_id" help:"The grant."`
	output
}

func (c *grantRevoke) Run(ctx context.Context, sh *shell) error {
	return one(ctx, sh, c.output, drawRevocation, func(o *admin.Operations, by admin.Caller) (admin.Revocation, error) {
		return o.RevokeGrant(ctx, by, c.ID)
	})
}

func drawRevocation(r admin.Revocation, t *table) {
	if r.Revoked {
		t.row("revoked " + r.ID + "; its tokens are refused from now on")
	} else {
		t.row(r.ID + " was revoked before, at " + r.RevokedAt.String() + " (" + r.RevokedReason + ")")
	}
}
