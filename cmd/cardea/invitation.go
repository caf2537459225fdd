package main

import (
	"context"
	"strings"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/adminapi"
	"github.com/cardea-auth/cardea/internal/identity"
)

type inviteCommands struct {
	List     inviteList     `cmd:"" help:"List the invitations that nobody has used."`
	Show     inviteShow     `cmd:"" help:"Show an invitation, but for its link."`
	Resend   inviteResend   `cmd:"" help:"Make a new link, which is shown once; the link before it ends."`
	Withdraw inviteWithdraw `cmd:"" help:"End an invitation."`
}

type userInvite struct {
	Email string        `required:"" placeholder:"ADDRESS" help:"E-mail address of the person."`
	Role  identity.Role `placeholder:"ROLE" help:"What the person may do to this installation: owner, operator or auditor; nothing if it is not given."`
	Group []string      `sep:"none" placeholder:"NAME" help:"Group to put the person into; repeatable."`
	output
}

// Help is shown below the usage.
func (c *userInvite) Help() string {
	return "The person who opens the link within seven days chooses a name and a password, once. Give it to that " +
		"person only; if mail.smtp is set, it is sent to the address. An earlier invitation of the same address " +
		"becomes this one."
}

func (c *userInvite) Run(ctx context.Context, sh *shell) error {
	in := admin.NewInvitation{Email: c.Email, Role: c.Role, Groups: c.Group}
	return ask(ctx, sh, c.output, drawInvitation, adminapi.InviteUser, adminapi.Creation[admin.NewInvitation]{Body: in})
}

func drawInvitation(v admin.Invitation, t *table) {
	t.Row("id", v.ID)
	if v.Link != "" {
		t.Row("link", v.Link)
		if v.Mailed {
			t.Row("sent", "to "+v.Email)
		}
	}
	t.Row("e-mail", v.Email)
	t.Row("role", dash(string(v.Role)))
	t.Row("groups", dash(strings.Join(v.Groups, " ")))
	t.Row("state", v.State)
	t.Row("invited by", dash(v.InvitedBy))
	t.Row("expires", v.ExpiresAt.String())
}

type inviteList struct{ output }

func (c *inviteList) Run(ctx context.Context, sh *shell) error {
	none := "nobody is invited; invite a person with: cardea user invite --email ADDRESS"
	return list(ctx, sh, sh.operate, c.output, none, drawInvitations, adminapi.ListInvitations, plainListing)
}

func drawInvitations(views []admin.Invitation, t *table) {
	t.Head("ID", "E-MAIL", "ROLE", "STATE", "INVITED BY", "EXPIRES")
	t.Fold(16, "E-MAIL", "INVITED BY")
	for _, v := range views {
		t.Row(v.ID, v.Email, dash(string(v.Role)), v.State, dash(v.InvitedBy), v.ExpiresAt.String())
	}
}

// namedInvitation has the inputs of a command that takes only an invitation.
type namedInvitation struct {
	Invitation string `arg:"" help:"E-mail address or id."`
	output
}

type inviteShow struct{ namedInvitation }

func (c *inviteShow) Run(ctx context.Context, sh *shell) error {
	return ask(ctx, sh, c.output, drawInvitation, adminapi.ShowInvitation, adminapi.ByID{ID: c.Invitation})
}

type inviteResend struct{ namedInvitation }

func (c *inviteResend) Run(ctx context.Context, sh *shell) error {
	return ask(ctx, sh, c.output, drawInvitation, adminapi.ResendInvitation, adminapi.ByID{ID: c.Invitation})
}

type inviteWithdraw struct{ namedInvitation }

func (c *inviteWithdraw) Run(ctx context.Context, sh *shell) error {
	return ask(ctx, sh, c.output, drawDeletion, adminapi.WithdrawInvitation, adminapi.ByID{ID: c.Invitation})
}
