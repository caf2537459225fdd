package main

import (
	"context"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/adminapi"
)

type sessionCommands struct {
	List   sessionList   `cmd:"" help:"List the browsers in which people are signed in."`
	Revoke sessionRevoke `cmd:"" help:"Sign a person out of one browser. The person's agents stay connected."`
}

type sessionList struct {
	User string `placeholder:"E-MAIL|ID" help:"Only sessions of this person."`
	output
}

func (c *sessionList) Run(ctx context.Context, sh *shell) error {
	empty := emptyList(c.User != "", "session", "nobody is signed in; a session begins when a person signs in")
	return list(ctx, sh, sh.operate, c.output, empty, drawSessions, adminapi.ListSessions,
		func(l adminapi.Listing) adminapi.SessionListing {
			return adminapi.SessionListing{Listing: l, User: c.User}
		})
}

func drawSessions(views []admin.Session, t *table) {
	t.Head("ID", "USER", "SIGNED IN", "LAST USED", "EXPIRES", "FROM", "BROWSER")
	t.Fold(16, "USER", "BROWSER")
	for _, v := range views {
		t.Row(v.ID, v.User, v.CreatedAt.String(), v.LastUsedAt.String(), v.ExpiresAt.String(), dash(v.Address),
			dash(v.UserAgent))
	}
}

type sessionRevoke struct {
	ID string `arg:"" name:"session_id" help:"The session."`
	output
}

func (c *sessionRevoke) Run(ctx context.Context, sh *shell) error {
	return ask(ctx, sh, c.output, drawEndedSession, adminapi.RevokeSession, adminapi.ByID{ID: c.ID})
}

func drawEndedSession(s admin.EndedSession, t *table) {
	t.Row("revoked " + s.ID + "; the browser has to sign in again")
}
