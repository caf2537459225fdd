package main

import (
	"context"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/store"
)

type sessionCommands struct {
	List   sessionList   `cmd:"" help:"List who is signed in, and where."`
	Revoke sessionRevoke `cmd:"" help:"Sign a person out of one browser; their agents stay connected."`
}

type sessionList struct {
	User string `placeholder:"E-MAIL|ID" help:"Only this person's."`
	output
}

func (c *sessionList) Run(ctx context.Context, sh *shell) error {
	return every(ctx, sh, c.output, drawSessions, func(o *admin.Operations, by admin.Caller, p store.Page) ([]admin.Session, string, error) {
		return o.Sessions(ctx, by, c.User, p)
	})
}

func drawSessions(views []admin.Session, t *table) {
	t.row("ID", "USER", "SIGNED IN", "LAST USED", "EXPIRES", "FROM", "BROWSER")
	for _, v := range views {
		t.row(v.ID, v.User, v.CreatedAt.String(), v.LastUsedAt.String(), v.ExpiresAt.String(), orDash(v.Address), orDash(v.UserAgent))
	}
}

type sessionRevoke struct {
	ID string `arg:"" name:"session_id" help:"The session."`
	output
}

func (c *sessionRevoke) Run(ctx context.Context, sh *shell) error {
	return one(ctx, sh, c.output, drawEndedSession, func(o *admin.Operations, by admin.Caller) (admin.EndedSession, error) {
		return o.RevokeSession(ctx, by, c.ID)
	})
}

func drawEndedSession(s admin.EndedSession, t *table) {
	t.row("revoked " + s.ID + "; the browser has to sign in again")
}
