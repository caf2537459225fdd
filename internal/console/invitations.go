package console

import (
	"net/url"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/web"
)

const invitationsPath = "/admin/people/invitations"

// invitationRoutes are the pages of the invitations.
func (e *Endpoint) invitationRoutes() []web.Route {
	return []web.Route{
		e.form("/admin/people/invite", admin.Users, "user.invite", e.fresh(e.newInvitation), e.freshly(e.invite)),
		e.route(invitationsPath, e.show(e.invitations), nil),
		e.form(invitationsPath+"/{id}/resend", admin.Users, "invitation.resend", e.fresh(e.confirmResend),
			e.freshly(e.resend)),
		e.form(invitationsPath+"/{id}/withdraw", admin.Users, "invitation.withdraw", e.fresh(e.confirmWithdraw),
			e.freshly(e.withdraw)),
	}
}

// invitationList is the body of the list of invitations.
type invitationList struct {
	Invitations []admin.Invitation
	Next        string
}

func (l invitationList) next() string { return l.Next }

func (e *Endpoint) invitations(v *visit) (outcome, error) {
	var list invitationList
	var err error
	list.Invitations, list.Next, err = e.Operations.Invitations(v.Context(), v.caller, v.page())
	return screen{template: "invitations.html", title: "Invitations", body: list}, err
}

func (e *Endpoint) newInvitation(v *visit) (outcome, error) {
	return e.personScreen(v, &personForm{Invite: true}, "Invite a person", nil)
}

func (e *Endpoint) invite(v *visit, form url.Values) (outcome, error) {
	f := &personForm{Invite: true}
	f.read(form)
	made, err := e.Operations.Invite(v.Context(), v.caller,
		admin.NewInvitation{Email: f.Email, Role: identity.Role(f.Role), Groups: f.Groups})
	if err != nil {
		return e.personScreen(v, f, "Invite a person", err)
	}
	return linkScreen(made), nil
}

// linkScreen shows the link of an invitation. It answers the form itself, because no page shows the link again.
func linkScreen(i admin.Invitation) screen {
	return screen{template: "invitation-link.html", title: "The invitation of " + i.Email, body: i}
}

func (e *Endpoint) confirmResend(v *visit) (outcome, error) {
	i, err := e.Operations.Invitation(v.Context(), v.caller, v.id())
	return screen{template: "confirm.html", title: "Invite " + i.Email + " again", body: confirmation{
		Question: "Make a new link for " + i.Email + "?",
		Ends:     []string{"The link that the person has ends.", "The new one is good for seven days."},
		Button:   "Make a new link", Back: invitationsPath,
	}}, err
}

func (e *Endpoint) resend(v *visit, _ url.Values) (outcome, error) {
	i, err := e.Operations.ResendInvitation(v.Context(), v.caller, v.id())
	return linkScreen(i), err
}

func (e *Endpoint) confirmWithdraw(v *visit) (outcome, error) {
	i, err := e.Operations.Invitation(v.Context(), v.caller, v.id())
	return screen{template: "confirm.html", title: "Withdraw the invitation of " + i.Email, body: confirmation{
		Question: "Withdraw the invitation of " + i.Email + "?",
		Ends:     []string{"The link ends. No account is made with it.", "You can invite the person again."},
		Button:   "Withdraw it", Back: invitationsPath,
	}}, err
}

func (e *Endpoint) withdraw(v *visit, _ url.Values) (outcome, error) {
	_, err := e.Operations.WithdrawInvitation(v.Context(), v.caller, v.id())
	return redirect{invitationsPath, "invitation.withdrawn"}, err
}
