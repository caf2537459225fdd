package server

import (
	"context"
	"log/slog"
	"net/url"
	"time"

	"github.com/cardea-auth/cardea/internal/account"
	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/mail"
	"github.com/cardea-auth/cardea/internal/store"
)

// mailWait is how long a command waits for the mail server.
const mailWait = 30 * time.Second

// MailInvitation returns what sends an invited person the link (admin.Operations.MailInvitation), for a command: it
// returns once the mail server has the letter or could not be reached, which the log says. It returns nil if there is
// no mail.
func MailInvitation(c config.Config, log *slog.Logger) func(admin.Invitation, string) error {
	if !c.Mail.On() {
		return nil
	}
	return func(i admin.Invitation, inviter string) error {
		o := mailOptions(c)
		o.Log = log
		m, err := mail.New(o)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), mailWait)
		defer cancel()
		defer m.Close(ctx)
		return m.Send(invitationLetter(siteOf(c.Issuer), i, inviter))
	}
}

// LeaveNotices lets the servers at the same database send the mails about what this process does, if mail is
// configured.
func LeaveNotices(c config.Config, db *store.DB) {
	if c.Mail.On() {
		db.Announce(account.Worth, nil)
	}
}

// mailOptions returns what all letters of the server have in common: the name and the colour of the brand.
func mailOptions(c config.Config) mail.Options {
	o := mail.Options{Config: c.Mail, Site: siteOf(c.Issuer), Color: c.Brand.Color}
	if c.Brand.Name != "" {
		o.Site = c.Brand.Name + " (" + o.Site + ")"
	}
	return o
}

// siteOf returns the host at which people know the server.
func siteOf(issuer string) string {
	u, err := url.Parse(issuer)
	if err != nil {
		return issuer
	}
	return u.Host
}

// invitationLetter returns the letter that takes the link of an invitation to its address.
func invitationLetter(site string, i admin.Invitation, inviter string) mail.Letter {
	line := "You are invited to make an account at " + site + "."
	if inviter != "" {
		line = inviter + " invites you to make an account at " + site + "."
	}
	return mail.Letter{
		To: i.Email, Kind: "invitation", Subject: "You are invited to " + site,
		Lines: []string{line}, Link: i.Link, Button: "Make my account",
		Notes: []string{"The link works once, for seven days, for the person who opens it first. Do not pass this " +
			"mail on.", "If you do not want an account there, do nothing."},
	}
}
