package account

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/login"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// notices maps the actions that are reported to a person by mail to the text of the mail. They are the actions that an
// intruder would take in the account.
var notices = map[string]struct{ subject, line string }{
	audit.SignedIn: {"A new device signed in",
		"Somebody signed in to your account with a browser that you had not used before, or that has " +
			"forgotten you."},
	"user.change_password": {"Your password was changed",
		"The password of your account was changed, and you were signed out in your other browsers."},
	"user.reset_password": {"Your password was reset",
		"The password of your account was reset, and you were signed out everywhere."},
	"second_factor.set_up": {"An authenticator app was added",
		"An authenticator app was added to your account. From now on, signing in takes a code of it."},
	"second_factor.remove": {"Your authenticator app was removed",
		"The authenticator app was removed from your account. Signing in no longer takes a code of it."},
	"second_factor.new_codes": {"You have new recovery codes",
		"New recovery codes were made for your account. The earlier ones no longer work."},
	"user.reset_second_factor": {"Your second step was removed",
		"An administrator removed the second step of your sign-in, and you were signed out everywhere."},
	"user.remove_passkey": {"A passkey was removed",
		"An administrator removed a passkey from your account, and you were signed out everywhere. Nobody can " +
			"sign in with it any more."},
	"passkey.add": {"A passkey was added",
		"A passkey was added to your account. Anybody who has the device that keeps it, and can unlock it, can sign " +
			"in as you."},
	"passkey.remove": {"A passkey was removed",
		"A passkey was removed from your account. Nobody can sign in with it any more."},
	"identity.connect": {"Another way to sign in was added",
		"An account at an identity provider was connected with yours. Anybody who can use that account can sign " +
			"in as you."},
	"identity.disconnect": {"A way to sign in was removed",
		"An account at an identity provider can no longer be used to sign in as you."},
}

// longTime is the form of a time in a mail.
const longTime = "2 January 2006, 15:04 UTC"

// consented is the action of which a person gets a receipt.
const consented = "authorize.code"

// Worth reports whether a person is told of an event by mail: a new device, another way to sign in, an agent that was
// allowed something. It is for store.DB.Announce.
func Worth(event audit.Event) bool {
	if event.Outcome != audit.Allowed || event.UserID == "" {
		return false
	}
	switch event.Action {
	case audit.SignedIn:
		return event.Detail["device"] == "new"
	case consented:
		return event.Detail["consent"] != "remembered"
	}
	_, told := notices[event.Action]
	return told
}

// Tell tells a person of an event by mail, which is written and sent later. It is for store.DB.Announce. A letter that
// could not be sent is tried again by TellDue.
func (e *Endpoint) Tell(n store.Notice) {
	e.Login.Mail.Later(n.Event.Action, func(ctx context.Context) (*login.Letter, error) {
		err := e.DB.Update(ctx, func(tx *store.Tx) error { return tx.KeepNotice(n.ID) })
		if errors.Is(err, store.ErrNotFound) { // another process was faster
			return nil, nil //nolint:nilnil // there is no letter
		}
		switch {
		case err != nil:
			return nil, err
		case n.Event.Action == consented:
			return e.receipt(ctx, n.Event)
		}
		return e.notice(ctx, n.Event)
	}, func(ctx context.Context) error {
		return e.DB.Update(ctx, func(tx *store.Tx) error { return tx.DeleteNotice(n.ID) })
	})
}

// TellDue sends the mails about what commands did, and those that could not be sent before, for example because a
// process ended.
func (e *Endpoint) TellDue(ctx context.Context) error {
	var some bool
	var due []store.Notice
	err := e.DB.View(ctx, func(tx *store.Tx) (err error) {
		some, err = tx.HasDueNotices()
		return err
	})
	if err != nil || !some {
		return err
	}
	err = e.DB.Update(ctx, func(tx *store.Tx) (err error) {
		due, err = tx.TakeNotices(mostDue)
		return err
	})
	for _, n := range due {
		e.Tell(n)
	}
	return err
}

// mostDue is how many notices TellDue takes at a time.
const mostDue = 100

// reader returns the person whom an event is about, or nil if there is nobody to write to.
func (e *Endpoint) reader(ctx context.Context, event audit.Event) (person *identity.User, err error) {
	err = e.DB.View(ctx, func(tx *store.Tx) (err error) {
		person, err = tx.User(event.UserID)
		return err
	})
	if errors.Is(err, store.ErrNotFound) || err == nil && person.Email == "" {
		return nil, nil //nolint:nilnil // as said above
	}
	return person, err
}

// where says when an event happened, and from where.
func where(event audit.Event) string {
	text := "When: " + event.At.UTC().Format(longTime)
	if event.Address != "" {
		text += ". From: " + browserName(event.UserAgent) + ", network address " + event.Address
	}
	return text + "."
}

// notice returns the mail about an event.
func (e *Endpoint) notice(ctx context.Context, event audit.Event) (*login.Letter, error) {
	person, err := e.reader(ctx, event)
	if err != nil || person == nil {
		return nil, err
	}
	n := notices[event.Action]
	when := where(event)
	if event.Actor.Type != audit.ByUser || event.Actor.ID != person.ID { // whose network is not the person's business
		when = "When: " + event.At.UTC().Format(longTime) + ", by an administrator."
	}
	return &login.Letter{
		To: person.Email, Kind: event.Action, Subject: n.subject + " (" + e.Login.Name + ")",
		Lines: []string{n.line, when},
		Link:  e.Login.Issuer + "/account/security", Button: "See how you sign in",
		Notes: []string{"If it was you, there is nothing to do.", "If it was not, set another password at once, at " +
			e.Login.Issuer + "/reset, and end what you do not know at " + e.Login.Issuer + "/account/sessions."},
	}, nil
}

// undoable is what the link in a receipt carries.
type undoable struct {
	Grant string `json:"grant"`
	User  string `json:"user"`
}

// undoPurpose is the purpose for which it is sealed.
const undoPurpose = "undo a consent"

// undoPath is the page that the link leads to.
const undoPath = "/account/undo"

// receipt returns the mail about what a person has allowed an agent.
func (e *Endpoint) receipt(ctx context.Context, event audit.Event) (*login.Letter, error) {
	person, err := e.reader(ctx, event)
	if err != nil || person == nil {
		return nil, err
	}
	a, err := e.allowed(ctx, event.UserID, event.GrantID)
	if err != nil || a == nil {
		return nil, err
	}
	sealed, err := e.Login.Desk.Sealer.SealJSON(undoPurpose, undoable{event.GrantID, person.ID})
	if err != nil {
		return nil, err
	}
	return &login.Letter{
		To: person.Email, Kind: event.Action, Subject: "You connected " + a.name() + " (" + e.Login.Name + ")",
		Lines: []string{"You allowed " + a.name() + a.at() + " to use " + a.server() + " in your name:",
			cmp.Or(strings.Join(a.Scopes, "; "), "Only to connect, with no particular permission") + ".",
			"It ends on " + a.Until.UTC().Format(longTime) + " at the latest.", where(event)},
		Link: e.Login.Issuer + undoPath + "?grant=" + sealed, Button: "Undo this",
		Notes: []string{"You see all that you connected, and can disconnect it at any time, at " + e.Login.Issuer +
			"/account."},
	}, nil
}

// name returns what people call the agent.
func (a *agent) name() string {
	if name := web.DisplayName(a.Client.Name); name != "" {
		return name
	}
	return "an unnamed application"
}

// at says where the agent is, because its name is its own choice.
func (a *agent) at() string {
	switch d := a.Client.Destination; {
	case d.OnDevice():
		return " (on your device)"
	case d.Host != "":
		return " (at " + d.Host + ")"
	}
	return ""
}

// server returns what people call the MCP server.
func (a *agent) server() string {
	if name := web.DisplayName(a.Resource.Name); name != "" {
		return name + " (" + a.Resource.Identifier + ")"
	}
	return a.Resource.Identifier
}

// allowed returns what a person has allowed by a grant, or nil if they have given none with that id.
func (e *Endpoint) allowed(ctx context.Context, userID, grantID string) (*agent, error) {
	resources, err := e.DB.Resources(ctx)
	if err != nil {
		return nil, err
	}
	var found []*store.GrantListing
	err = e.DB.View(ctx, func(tx *store.Tx) (err error) {
		found, _, err = tx.Grants(store.GrantFilter{ID: grantID, UserID: userID}, store.Page{Limit: 1})
		return err
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	a := viewAgent(found[0], resources)
	return &a, nil
}

// viewAgent returns the agent of a grant, without its times.
func viewAgent(g *store.GrantListing, resources []*oauth.Resource) agent {
	a := agent{
		ID: g.ID,
		Client: interaction.ClientCard{Name: g.ClientName, ID: g.ClientID,
			Destination: interaction.DestinationOf(g.RedirectURI)},
		Resource: interaction.ResourceCard{Identifier: g.Resource},
		From:     g.RotatedFrom, Until: g.EndsAt,
	}
	resource := &oauth.Resource{}
	for _, r := range resources {
		if r.ID == g.ResourceID {
			resource, a.Resource.Name = r, r.Name
		}
	}
	for _, name := range g.Scope {
		if name != oauth.OfflineAccess {
			a.Scopes = append(a.Scopes, resource.Describe(name))
		}
	}
	return a
}
