package account

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/login"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// Invite implements /invite, where the link of an invitation leads. The token is in the fragment of the link, as for
// /setup.
type Invite struct {
	*Endpoint
	Operations *admin.Operations
	// Addresses slows down guessing by network address; nil means no limit.
	Addresses *limit.Backoff
}

// Routes returns the route of the page.
func (e *Invite) Routes() []web.Route {
	return []web.Route{{
		Path:    "/invite",
		Methods: web.Methods{"GET": e.Pages.HTML(e.Show), "POST": e.Pages.HTML(e.Post)}, Caller: web.People,
	}}
}

// inviteForm is the form with which a person makes the invited account.
type inviteForm struct {
	Here      bool              // the account can be made without a provider
	Password  bool              // then it gets one
	Providers []login.Elsewhere // with which it can be made, too
	Reopen    bool              // the person has to open the link again
	Account   string            // of the person who is signed in, which may take the invitation instead; "": nobody is
	Name      string            // filled in
	Token     string            // a good one, to send again
	Taken     bool              // there is an account with the address
	Error     string            // a sentence on why the last attempt failed; "": none
	CSRF      string            // token of the form, handed back as csrf
}

// Page returns the page, with status 200.
func (v inviteForm) Page() web.Page {
	page := templates.Page("invite.html", v).Scripted()
	if len(v.Providers) > 0 { // to which the form leads
		return page.AnswersClient()
	}
	return page
}

// accept is the purpose of the token of the form.
const accept = "accept an invitation"

// form returns the form for a browser.
func (e *Invite) form(v interaction.Visitor) inviteForm {
	page := inviteForm{Password: e.passwords(), CSRF: e.Pages.Token(v.Browser, accept)}
	for _, place := range e.Login.Elsewhere() {
		if place.Connects {
			page.Providers = append(page.Providers, place)
		}
	}
	page.Here = len(e.Login.Methods) > 0 || len(page.Providers) == 0
	if v.SignedIn() {
		page.Account = v.Person.Label()
	}
	return page
}

// passwords reports whether people sign in with passwords here.
func (e *Invite) passwords() bool { return slices.Contains(e.Login.Methods, "password") }

// Show answers GET /invite with the form. It spends nothing.
func (e *Invite) Show(r *http.Request) (web.Answer, error) {
	v, err := e.Sessions.Visitor(r)
	if err != nil {
		return nil, err
	}
	return web.WithCookie(e.form(v), v.Browser.Cookie()), nil
}

// Post answers POST /invite: it makes the account and signs the person in, who may have to set a second factor up
// first. With the input join, it gives the role and the groups of the invitation to the account of the signed-in person
// instead. After many guesses, a network address has to wait.
func (e *Invite) Post(r *http.Request) (web.Answer, error) {
	form, err := web.Form(r)
	if err != nil {
		return nil, e.Pages.Refuse(r, audit.Acceptance(""), err)
	}
	v, err := e.Sessions.Visitor(r)
	if err != nil {
		return nil, err
	}
	var answer web.Answer
	if e.Pages.Check(v.Browser, form.Get("csrf"), accept) {
		answer, err = guess(r, e.Addresses, "invitation", admin.ErrInvitationUnknown, func() (web.Answer, error) {
			return e.try(r, v, form)
		})
	} else {
		err = errInviteForm
	}
	if err == nil {
		return answer, nil
	}
	return e.refused(r, v, form, "", err)
}

// Refused answers a person who comes back from a provider with which the account was not made (login.Invitations). The
// person has to open the link again, because only the hash of its token travelled with the browser.
func (e *Invite) Refused(r *http.Request, v interaction.Visitor, provider string, err error) (web.Answer, error) {
	return e.refused(r, v, url.Values{}, provider, err)
}

// Accept is login.Invitations.Accept.
func (e *Invite) Accept(ctx context.Context, hash, email, name string) (*identity.User, func(*store.Tx) error, error) {
	accepted, err := e.Operations.AcceptInvitationOf(ctx, hash, email, name)
	if err != nil {
		return nil, nil, err
	}
	return accepted.Person, accepted.Confirm, nil
}

// refused records a refusal and returns the page that says why. provider is the name of the one that the person came
// from, or "".
func (e *Invite) refused(r *http.Request, v interaction.Visitor, form url.Values, provider string,
	err error) (web.Answer, error) {
	page := e.form(v)
	page.Name, page.Reopen = form.Get("name"), provider != ""
	var undone *admin.Error
	if errors.As(err, &undone) {
		page.Token, page.Error = form.Get("token"), web.Sentence(undone.Error())
		err = oauth.Refuse(oauth.InvalidRequest, "%s", undone.Error())
		if undone.Kind == admin.Conflict {
			err = admin.ErrInvitationTaken
		}
	}
	refusal, err := e.Pages.Refused(r, audit.Acceptance(""), err)
	if err != nil {
		return nil, err
	}
	switch why := whyInvite(refusal, provider); {
	case why != "":
		page.Error = why
	case page.Error == "":
		page.Error = web.Sentence(refusal.Description)
	}
	page.Taken = errors.Is(refusal, admin.ErrInvitationTaken)
	if page.Taken || errors.Is(refusal, admin.ErrInvitationOfOther) || errors.Is(refusal, errNoProvider) ||
		refusal.Code == oauth.TemporarilyUnavailable {
		page.Token = form.Get("token")
	}
	return web.WithCookie(web.WithRefusal(page, refusal), v.Browser.Cookie()), nil
}

var (
	errInviteForm = oauth.Refuse(oauth.AccessDenied, "the form is not from this browser, or too old")
	errNoProvider = oauth.Refuse(oauth.InvalidRequest,
		"that identity provider is not one of this server: choose another way")
)

// try uses the invitation.
func (e *Invite) try(r *http.Request, v interaction.Visitor, form url.Values) (web.Answer, error) {
	if form.Has("join") && v.SignedIn() {
		return e.join(r, v, form.Get("token"))
	}
	if answer, err := e.elsewhere(r, v, form); answer != nil || err != nil {
		return answer, err
	}
	accepted, err := e.Operations.AcceptInvitation(r.Context(), form.Get("token"), form.Get("name"),
		form.Get("password"), e.passwords())
	if err != nil {
		return nil, err
	}
	proof := login.Proof{Person: accepted.Person, AMR: []string{"pwd"}, New: true, Confirm: accepted.Confirm}
	if e.passwords() {
		return e.Login.Arrive(r, "/account", proof)
	}
	proof.AMR = []string{"email"}
	return e.Login.Arrive(r, "/account/security", proof) // what the person signs in with from now on is yet to be added
}

// elsewhere sends the person to the identity provider that they chose, or to the one at which people with the address
// of the invitation sign in. It returns nil if there is none.
func (e *Invite) elsewhere(r *http.Request, v interaction.Visitor, form url.Values) (web.Answer, error) {
	page := e.form(v)
	if len(page.Providers) == 0 {
		return nil, nil //nolint:nilnil // as said above
	}
	i, err := e.Operations.OpenInvitation(r.Context(), form.Get("token"))
	if err != nil {
		return nil, err
	}
	via := cmp.Or(e.Login.ServedBy(i.Email), form.Get("via"))
	if via == "" && page.Here {
		return nil, nil //nolint:nilnil // as said above
	}
	answer, err := e.Login.Accept(r, v, via, i, web.DisplayName(form.Get("name")))
	if errors.Is(err, store.ErrNotFound) {
		err = errNoProvider
	}
	return answer, err
}

// join gives the account of the signed-in person what the invitation gives. A new session begins, because the person
// may do more from then on.
func (e *Invite) join(r *http.Request, v interaction.Visitor, token string) (web.Answer, error) {
	accepted, err := e.Operations.JoinInvitation(r.Context(), token, v.Person)
	if err != nil {
		return nil, err
	}
	return e.Login.Arrive(r, "/account", login.Proof{Person: accepted.Person, AMR: v.Session.AMR,
		Confirm: func(tx *store.Tx) error {
			err := e.Sessions.Confirm(tx, v)
			if errors.Is(err, store.ErrNotFound) {
				return errInviteForm
			}
			if err != nil {
				return err
			}
			return accepted.Confirm(tx)
		}})
}

// whyInvite returns the sentence that tells a person why the invitation was not accepted, or "" if that was an input.
func whyInvite(refusal *oauth.Refusal, provider string) string {
	const again = " Ask the person who invited you for a new one."
	switch {
	case errors.Is(refusal, admin.ErrInvitationUnknown):
		return "This invitation was used or withdrawn, or the link was cut. If you have accepted it before, sign in."
	case errors.Is(refusal, admin.ErrInvitationExpired):
		return "This invitation has expired: it is good for seven days." + again
	case errors.Is(refusal, admin.ErrInvitationEnded):
		return "The person who invited you may no longer do so. Ask another owner of this server for a new invitation."
	case errors.Is(refusal, admin.ErrInvitationTaken):
		return "There is an account with the e-mail address of this invitation already. Sign in with it, then open " +
			"the link again."
	case errors.Is(refusal, admin.ErrInvitationOfOther):
		return "This invitation is for another e-mail address than that of your account. Make its account below " +
			"instead."
	case errors.Is(refusal, admin.ErrInvitationElsewhere):
		return "This invitation is for another e-mail address than the one that " + provider +
			" knows to be yours. Sign in there with the account that has this address, or make your account in " +
			"another way."
	case errors.Is(refusal, errInviteForm):
		return login.LostForm + "open the link again."
	case refusal.Code == oauth.TooManyRequests:
		return tooMany(refusal)
	}
	return ""
}
