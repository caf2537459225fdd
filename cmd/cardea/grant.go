package main

import (
	"context"
	"errors"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

type grantCommands struct {
	List   grantList   `cmd:"" help:"List the grants."`
	Revoke grantRevoke `cmd:"" help:"End a grant: its tokens are refused from now on."`
}

// grantView is a grant as commands print it.
type grantView struct {
	ID            string `json:"id"`
	ClientID      string `json:"client_id"`
	User          string `json:"user"`     // e-mail address
	Resource      string `json:"resource"` // identifier
	Scope         string `json:"scope"`
	CreatedAt     moment `json:"created_at"`
	LastUsedAt    moment `json:"last_used_at"`
	ExpiresAt     moment `json:"expires_at"` // unless it is used before
	RevokedAt     moment `json:"revoked_at"`
	RevokedReason string `json:"revoked_reason"`
}

func viewGrant(g *store.GrantListing) grantView {
	return grantView{
		ID: g.ID, ClientID: g.ClientID, User: g.UserEmail, Resource: g.Resource, Scope: g.Scope.String(),
		CreatedAt: moment{g.CreatedAt}, LastUsedAt: moment{g.LastUsedAt}, ExpiresAt: moment{g.ExpiresAt},
		RevokedAt: moment{g.RevokedAt}, RevokedReason: g.RevokedReason,
	}
}

type grantList struct {
	User     string `placeholder:"E-MAIL|ID" help:"Only this person's."`
	Client   string `placeholder:"ID" help:"Only this client's."`
	Resource string `placeholder:"URL|ID" help:"Only those at this resource."`
	Live     bool   `help:"Only those that still allow something."`
	output
}

func (c *grantList) Run(ctx context.Context, sh *shell) error {
	views := []grantView{}
	err := sh.view(ctx, func(tx *store.Tx) error {
		filter, err := c.filter(tx)
		if err != nil {
			return err
		}
		grants, err := allGrants(tx, filter)
		for _, g := range grants {
			views = append(views, viewGrant(g))
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.print(sh, views, func(t *table) {
		t.row("ID", "CLIENT ID", "USER", "RESOURCE", "CREATED", "LAST USED", "REVOKED", "SCOPE")
		for _, v := range views {
			t.row(v.ID, v.ClientID, v.User, v.Resource, v.CreatedAt.String(), v.LastUsedAt.String(), v.RevokedAt.String(), orDash(v.Scope))
		}
	})
}

func (c *grantList) filter(tx *store.Tx) (store.GrantFilter, error) {
	filter := store.GrantFilter{Live: c.Live}
	if c.User != "" {
		u, err := findUser(tx, c.User)
		if err != nil {
			return filter, err
		}
		filter.UserID = u.ID
	}
	if c.Client != "" {
		found, err := findClient(tx, c.Client)
		if err != nil {
			return filter, err
		}
		filter.ClientID = found.ID
	}
	if c.Resource != "" {
		r, err := findResource(tx, c.Resource)
		if err != nil {
			return filter, err
		}
		filter.ResourceID = r.ID
	}
	return filter, nil
}

type grantRevoke struct {
	ID string `arg:"" name:"grant_id" help:"The grant."`
	output
}

func (c *grantRevoke) Run(ctx context.Context, sh *shell) error {
	revoked := false
	var g *oauth.Grant
	err := sh.update(ctx, func(tx *store.Tx) (err error) {
		g, err = tx.Grant(c.ID)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return advise("there is no grant %s; cardea grant list shows them", c.ID)
		case err != nil:
			return err
		}
		if revoked, err = tx.RevokeGrant(c.ID, "operator"); err != nil || !revoked {
			return err
		}
		if g, err = tx.Grant(c.ID); err != nil {
			return err
		}
		return tx.Conclude(audit.Grant(g.ID, g.ClientID, g.UserID, "operator"), nil)
	})
	if err != nil {
		return err
	}
	answer := struct {
		ID            string `json:"id"`
		Revoked       bool   `json:"revoked"` // by this command, not before
		RevokedAt     moment `json:"revoked_at"`
		RevokedReason string `json:"revoked_reason"`
	}{g.ID, revoked, moment{g.RevokedAt}, g.RevokedReason}
	return c.print(sh, answer, func(t *table) {
		if revoked {
			t.row("revoked " + g.ID + "; its tokens are refused from now on")
		} else {
			t.row(g.ID + " was revoked before, at " + answer.RevokedAt.String() + " (" + g.RevokedReason + ")")
		}
	})
}

func allGrants(tx *store.Tx, filter store.GrantFilter) ([]*store.GrantListing, error) {
	return everyPage(func(p store.Page) ([]*store.GrantListing, string, error) { return tx.Grants(filter, p) })
}

// liveGrants counts the grants that end with what filter names.
func liveGrants(tx *store.Tx, filter store.GrantFilter) (int, error) {
	filter.Live = true
	grants, err := allGrants(tx, filter)
	return len(grants), err
}
