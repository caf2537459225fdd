package admin

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/credential"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/scope"
)

// invitationTTL is how long the link of an invitation lives.
const invitationTTL = 7 * 24 * time.Hour

// Invitation lets a person make an account, as operators see it.
type Invitation struct {
	ID        string        `json:"id"`             // of the account that it makes
	Link      string        `json:"link,omitempty"` // only if it was just made
	Mailed    bool          `json:"mailed"`         // the link was just sent to Email
	Email     string        `json:"email"`
	Role      identity.Role `json:"role"`   // "": none
	Groups    []string      `json:"groups"` // names
	State     string        `json:"state"`  // "pending" or "expired"
	InvitedBy string        `json:"invited_by"`
	CreatedAt Moment        `json:"created_at"`
	ExpiresAt Moment        `json:"expires_at"`
}

func viewInvitation(i *identity.Invitation, now time.Time) Invitation {
	view := Invitation{ID: i.ID, Email: i.Email, Role: i.Role, Groups: append([]string{}, i.Groups...),
		State: "pending", InvitedBy: cmp.Or(i.Inviter.Name, i.Inviter.ID),
		CreatedAt: Moment{i.CreatedAt}, ExpiresAt: Moment{i.ExpiresAt}}
	if i.Expired(now) {
		view.State = "expired"
	}
	return view
}

// NewInvitation describes an invitation to make.
type NewInvitation struct {
	Email  string        `json:"email"`
	Role   identity.Role `json:"role,omitempty"`   // "" or "none": none
	Groups []string      `json:"groups,omitempty"` // names of groups that the account is put into
}

// Invite makes an invitation whose link lets one person make the account of an address, once, within seven days. The
// token of 256 bits is in the fragment of the link; only its hash is stored. An earlier invitation of the address
// becomes this one, and its link ends. Only this view contains the link, which is also sent to the address if there is
// mail. Invite returns a Conflict if the account exists, and refuses a role that the caller may not give.
func (o *Operations) Invite(ctx context.Context, by Caller, n NewInvitation) (view Invitation, err error) {
	if n.Email, err = checkEmail(n.Email); err != nil {
		return view, err
	}
	role, err := parseRole(n.Role)
	if err != nil {
		return view, err
	}
	token := oauth.NewSecret("")
	err = o.change(ctx, by, Users, "user.invite", &view, func(tx *store.Tx) (event audit.Event, err error) {
		made := &identity.Invitation{ID: oauth.NewID("usr_"), Email: n.Email, Role: role, Groups: n.Groups,
			CreatedAt: tx.Now()}
		earlier, err := tx.Invitation(n.Email)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return event, err
		}
		for _, i := range []*identity.Invitation{earlier, made} { // what the other one gives ends, too
			if i != nil {
				if err := by.mayInvite(tx, i); err != nil {
					return event, err
				}
			}
		}
		if _, err := tx.UserByEmail(n.Email); !errors.Is(err, store.ErrNotFound) {
			if err == nil {
				err = conflict(Users, "email", n.Email, "the account %s already exists, and needs no invitation")
			}
			return event, err
		}
		groups, err := lockNamed(tx, n.Groups)
		if err == nil {
			err = invite(tx, by, made, token, groups)
		}
		if err != nil {
			return event, err
		}
		view = viewInvitation(made, tx.Now())
		return audit.Invite(made.ID, made.Email).Changed(nil, view), nil
	})
	return o.linked(by, view, token), err
}

// linked returns view with the link for the token, which it sends to the invited person if there is mail. A letter that
// cannot be sent changes nothing else, because the operator has the link too.
func (o *Operations) linked(by Caller, view Invitation, token string) Invitation {
	if view.ID == "" {
		return view
	}
	view.Link = o.Issuer + "/invite#" + token
	if o.MailInvitation != nil {
		inviter := ""
		if by.Actor.Type == audit.ByUser {
			inviter = audit.Clean(by.Actor.Name)
		}
		view.Mailed = o.MailInvitation(view, inviter) == nil
	}
	return view
}

// invite stores an invitation by by into groups, which are locked, with a new token. Groups are locked before the
// invitation, as by DeleteGroup and spendInvitation, so that none of them waits for another in a circle.
func invite(tx *store.Tx, by Caller, i *identity.Invitation, token string, groups []*identity.Group) error {
	i.Hash, i.ExpiresAt = oauth.Hash(token), tx.Now().Add(invitationTTL)
	i.Inviter, i.Groups = by.Actor, namesOf(groups)
	if err := tx.Invite(i); err != nil {
		return err
	}
	for _, g := range groups {
		if err := tx.InviteInto(g.ID, i.ID); err != nil {
			return err
		}
	}
	return nil
}

// mayInvite returns nil if c, as tx knows it, may give what the invitation gives. Otherwise it returns a refusal.
func (c Caller) mayInvite(tx *store.Tx, i *identity.Invitation) error {
	c, err := c.now(tx)
	if err == nil {
		err = c.may(Users, Write)
	}
	if err == nil && i.Role != "" {
		err = c.mayRoles()
	}
	if err == nil && len(i.Groups) > 0 {
		err = c.may(Groups, Write)
	}
	return err
}

// Invitations returns a page of the invitations that nobody has used, and the cursor of the next page, "" if there is
// none.
func (o *Operations) Invitations(ctx context.Context, by Caller,
	page store.Page) (views []Invitation, next string, err error) {
	err = o.look(ctx, by, Invitations, func(tx *store.Tx) error {
		invitations, cursor, err := tx.Invitations(page)
		view := func(i *identity.Invitation) Invitation { return viewInvitation(i, tx.Now()) }
		views, next, err = viewed(view, invitations, cursor, err)
		return err
	})
	return views, next, err
}

// Invitation returns the invitation with the given id or of the given address, without its link.
func (o *Operations) Invitation(ctx context.Context, by Caller, name string) (view Invitation, err error) {
	err = o.look(ctx, by, Invitations, func(tx *store.Tx) error {
		i, err := findInvitation(tx, name)
		if err == nil {
			view = viewInvitation(i, tx.Now())
		}
		return err
	})
	return view, err
}

func findInvitation(tx *store.Tx, name string) (*identity.Invitation, error) {
	i, err := tx.Invitation(name)
	if errors.Is(err, store.ErrNotFound) {
		err = notFound(Invitations, name, "there is no invitation of %s")
	}
	return i, err
}

// changeInvitation runs fn on the invitation with the given id or of the given address if by may give what it gives,
// and records the event that fn returns.
func (o *Operations) changeInvitation(ctx context.Context, by Caller, verb, name string, view any,
	fn func(*store.Tx, *identity.Invitation) (audit.Event, error)) error {
	return o.change(ctx, by, Invitations, "invitation."+verb, view, func(tx *store.Tx) (event audit.Event, err error) {
		i, err := findInvitation(tx, name)
		if err == nil {
			err = by.mayInvite(tx, i)
		}
		if err == nil {
			err = o.matches(viewInvitation(i, tx.Now()))
		}
		if err != nil {
			return event, err
		}
		return fn(tx, i)
	})
}

// ResendInvitation gives an invitation a new link that lives seven days, and ends the link before it. The caller
// becomes the one who invites.
func (o *Operations) ResendInvitation(ctx context.Context, by Caller, name string) (view Invitation, err error) {
	token := oauth.NewSecret("")
	err = o.changeInvitation(ctx, by, "resend", name, &view,
		func(tx *store.Tx, i *identity.Invitation) (event audit.Event, err error) {
			before := viewInvitation(i, tx.Now())
			groups, err := tx.LockInvitedGroups(i.ID)
			if err == nil {
				err = invite(tx, by, i, token, groups)
			}
			if err != nil {
				return event, err
			}
			view = viewInvitation(i, tx.Now())
			return audit.Invitation("resend", i.ID, i.Email).Changed(before, view), nil
		})
	return o.linked(by, view, token), err
}

// WithdrawInvitation deletes an invitation: its link ends.
func (o *Operations) WithdrawInvitation(ctx context.Context, by Caller, name string) (done Deletion, err error) {
	err = o.changeInvitation(ctx, by, "withdraw", name, &done,
		func(tx *store.Tx, i *identity.Invitation) (audit.Event, error) {
			done = Deletion{What: "invitation", ID: i.ID, Name: i.Email}
			event := audit.Invitation("withdraw", i.ID, i.Email).Changed(viewInvitation(i, tx.Now()), nil)
			return event, tx.DeleteInvitation(i.ID)
		})
	return done, err
}

// The refusals of OpenInvitation and of an Acceptance.
var (
	ErrInvitationUnknown = oauth.Refuse(oauth.AccessDenied,
		"the invitation was used or withdrawn, a newer link was made, or the link was cut")
	ErrInvitationExpired   = oauth.Refuse(oauth.AccessDenied, "the invitation has expired")
	ErrInvitationEnded     = oauth.Refuse(oauth.AccessDenied, "the inviter may no longer invite people")
	ErrInvitationOfOther   = oauth.Refuse(oauth.AccessDenied, "the invitation is of another address than the account")
	ErrInvitationElsewhere = oauth.Refuse(oauth.AccessDenied,
		"the invitation is of another address than the one that the identity provider has verified")
	ErrInvitationTaken = oauth.Refuse(oauth.InvalidRequest,
		"there is an account with the address of the invitation already")
)

// OpenInvitation returns the invitation whose newest link has the token, if it can be used at this moment. It spends
// nothing.
func (o *Operations) OpenInvitation(ctx context.Context, token string) (i *identity.Invitation, err error) {
	err = o.DB.View(ctx, func(tx *store.Tx) (err error) {
		i, err = o.openInvitation(tx, oauth.Hash(token))
		return err
	})
	return i, err
}

// openInvitation returns the invitation whose newest link has a token with that hash. What it gives is judged again,
// because the inviter may have lost the right in the meantime.
func (o *Operations) openInvitation(tx *store.Tx, hash string) (*identity.Invitation, error) {
	i, err := tx.InvitationByToken(hash)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, ErrInvitationUnknown
	case err != nil:
		return nil, err
	case i.Expired(tx.Now()):
		return nil, ErrInvitationExpired
	}
	inviter, err := o.inviterOf(tx, i)
	if err == nil {
		err = inviter.mayInvite(tx, i)
	}
	if isForbidden(err) {
		err = ErrInvitationEnded
	}
	return i, err
}

// inviterOf returns who made the invitation, with the rights that it has now.
func (o *Operations) inviterOf(tx *store.Tx, i *identity.Invitation) (Caller, error) {
	inviter := Caller{Actor: i.Inviter}
	if i.Inviter.Type != audit.ByClient {
		return inviter, nil
	}
	gone := forbidden("the client is gone, or may no longer operate this server")
	c, err := tx.Client(i.Inviter.ID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return inviter, gone
	case err != nil:
		return inviter, err
	case c.CreatedAt.After(i.ExpiresAt.Add(-invitationTTL)): // another of that id made it
		return inviter, gone
	}
	for _, r := range builtIn(o.Issuer) {
		parties, err := tx.Parties(c.ID, r.Identifier, "")
		if err != nil {
			return inviter, err
		}
		standing, err := o.Directory.Own(parties, client.Permission{Client: c, Scope: scope.Of("cardea:*")})
		switch {
		case err == nil:
			inviter.Scopes = standing.Scope
			return inviter, nil
		case !oauth.IsRefusal(err):
			return inviter, err
		}
	}
	return inviter, gone
}

// spendInvitation is openInvitation, once, with the groups of the invitation, which are locked. The invitation has
// forgotten a group that was deleted in the meantime, even if there is another one of its name now.
func (o *Operations) spendInvitation(tx *store.Tx, hash string) (*identity.Invitation, []*identity.Group, error) {
	i, err := o.openInvitation(tx, hash)
	if err != nil {
		return nil, nil, err
	}
	groups, err := tx.LockInvitedGroups(i.ID)
	if err == nil {
		err = tx.SpendInvitation(i.Hash)
	}
	if errors.Is(err, store.ErrNotFound) {
		err = ErrInvitationUnknown
	}
	return i, groups, err
}

// An Acceptance is an invitation that a person uses.
type Acceptance struct {
	// Person is the account. Confirm completes it.
	Person *identity.User
	// Confirm spends the invitation in tx, and makes the account or gives it the role and the groups. If it refuses,
	// the invitation is not spent.
	Confirm func(tx *store.Tx) error
}

// AcceptInvitation returns an Acceptance that makes the account of the invitation whose newest link has the token, with
// the given name and password. If passwords is false, password may be "": then the account has none. It returns an
// error of OpenInvitation, or an *Error if the name or the password is refused. It hashes the password only if the
// token is good.
func (o *Operations) AcceptInvitation(ctx context.Context, token, name, password string,
	passwords bool) (*Acceptance, error) {
	i, err := o.OpenInvitation(ctx, token)
	if err != nil {
		return nil, err
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	u := &identity.User{ID: i.ID, Email: i.Email, Name: name}
	if passwords {
		if u.PasswordHash, err = credential.HashPassword(ctx, password); err != nil {
			return nil, refused("password", err)
		}
	}
	return o.accepting(i.Hash, u), nil
}

// AcceptInvitationOf returns an Acceptance that makes the account of the invitation with that Hash, without a password,
// for a person that an identity provider has signed in. email is the address that the provider has verified, or "". It
// returns an error of OpenInvitation, an *Error if the name is refused, or ErrInvitationElsewhere if the invitation was
// sent to another address.
func (o *Operations) AcceptInvitationOf(ctx context.Context, hash, email, name string) (done *Acceptance, err error) {
	err = o.DB.View(ctx, func(tx *store.Tx) error {
		i, err := o.openInvitation(tx, hash)
		if err != nil {
			return err
		}
		u := &identity.User{ID: i.ID, Email: i.Email, Name: name}
		if !identity.SameMailbox(email, i.Email) {
			return ErrInvitationElsewhere
		}
		_, err = tx.UserByEmail(i.Email)
		if err == nil {
			return ErrInvitationTaken
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		done = o.accepting(hash, u)
		return checkName(name)
	})
	return done, err
}

// accepting returns what makes u, the account of the invitation with that Hash.
func (o *Operations) accepting(hash string, u *identity.User) *Acceptance {
	return &Acceptance{u, func(tx *store.Tx) error {
		i, groups, err := o.spendInvitation(tx, hash)
		if err != nil {
			return err
		}
		u.ID, u.Email, u.Role, u.EmailVerifiedAt = i.ID, i.Email, i.Role, tx.Now()
		if i.Role == identity.Owner {
			if err := tx.EndSetup(); err != nil {
				return err
			}
		}
		err = insertUser(tx, u, groups)
		if undone := (*Error)(nil); errors.As(err, &undone) && undone.Kind == Conflict {
			return errTaken
		}
		if err != nil {
			return err
		}
		view, err := viewUser(tx, u)
		if err != nil {
			return err
		}
		return tx.Record(audit.Acceptance(u.ID).Changed(nil, view).Allow())
	}}
}

// errTaken is ErrInvitationTaken inside a transaction, which rolls it back, because a refusal would commit it and spend
// the invitation.
var errTaken = &Error{Kind: Conflict, Noun: Users, Field: "email", format: ErrInvitationTaken.Error()}

// JoinInvitation returns an Acceptance that gives the role and the groups of the invitation whose newest link has the
// token to the account u, which was made in another way and whose owner is signed in. It takes nothing away from the
// account. It returns an error of OpenInvitation, or ErrInvitationOfOther if the account has another address.
func (o *Operations) JoinInvitation(ctx context.Context, token string, u *identity.User) (*Acceptance, error) {
	i, err := o.OpenInvitation(ctx, token)
	if err != nil {
		return nil, err
	}
	if !sameAddress(i, u) {
		return nil, ErrInvitationOfOther
	}
	done := &Acceptance{Person: u}
	done.Confirm = func(tx *store.Tx) error {
		now, err := tx.LockUser(u.ID)
		switch {
		case errors.Is(err, store.ErrNotFound), err == nil && (now.Disabled() || !sameAddress(i, now)):
			return ErrInvitationOfOther
		case err != nil:
			return err
		}
		i, groups, err := o.spendInvitation(tx, i.Hash)
		if err != nil {
			return err
		}
		before, err := viewUser(tx, now)
		if err != nil {
			return err
		}
		if err := giveInvited(tx, i, groups, now); err != nil {
			return err
		}
		if now, err = tx.User(u.ID); err != nil {
			return err
		}
		*u = *now
		view, err := viewUser(tx, now)
		if err != nil {
			return err
		}
		return tx.Record(audit.Acceptance(u.ID).Changed(before, view).Allow())
	}
	return done, nil
}

// sameAddress reports whether u has the address of the invitation.
func sameAddress(i *identity.Invitation, u *identity.User) bool {
	return identity.SameMailbox(u.Email, i.Email)
}

// giveInvited gives u, which is locked, the role of the invitation if it may do more than that of u, and puts it into
// the groups, which are locked too.
func giveInvited(tx *store.Tx, i *identity.Invitation, groups []*identity.Group, u *identity.User) error {
	if i.Role != "" && (u.Role == "" || slices.Index(identity.Roles, i.Role) < slices.Index(identity.Roles, u.Role)) {
		u.Role = i.Role
		if err := tx.UpdateUser(u); err != nil {
			return err
		}
		if i.Role == identity.Owner {
			if err := tx.EndSetup(); err != nil {
				return err
			}
		}
	}
	for _, g := range groups {
		if _, err := tx.AddMember(g.ID, u.ID); err != nil {
			return err
		}
	}
	return tx.VerifyEmail(u.ID, u.Email)
}
