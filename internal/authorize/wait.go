package authorize

import (
	"errors"
	"net/http"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// The bounds of the inbox. A client gets there only by the request of a signed-in person.
const (
	maxWaitingOf = 20   // clients that wait because one person asked
	maxWaiting   = 1000 // clients that wait
)

// lookAgain is how often the page looks whether an operator has decided, and askAgain how often it records in the inbox
// that the person still waits.
const (
	lookAgain = 5 * time.Second
	askAgain  = 5 * time.Minute
)

var (
	errDismissed = oauth.Refuse(oauth.AccessDenied,
		"an administrator of this server has looked at this application and decided not to approve it")
	errYouWaitForMany = oauth.Refuse(oauth.AccessDenied,
		"you already wait for %d applications to be approved: ask an administrator of this server to look at them",
		maxWaitingOf)
	errManyWait = oauth.RefuseBusy(time.Hour,
		"too many applications wait to be approved: ask an administrator of this server to look at them")
	// errSpent rolls the transaction back; it is not a refusal.
	errSpent = errors.New("authorize: the approval for one time was spent by another request")
)

// wait answers for a client that an operator has to approve first. It enters the client in the inbox, and returns a
// page that loads itself again until an operator has decided.
func (e *Endpoint) wait(r *http.Request, a *interaction.Authorization) (web.Answer, error) {
	event := audit.Waiting(a.Client.ID, a.Person.ID, a.Resource.Identifier, a.Scope.String())
	err := e.enter(r, a, event)
	if err != nil {
		return e.refuse(r, a.Visitor, event, a.Reply, err)
	}
	if !a.Waited { // from now on the address is that of a request that lives longer
		longer, err := e.Desk.Prolong(a)
		if err != nil {
			return nil, err
		}
		return web.WithCookie(page("/consent", longer), a.Browser.Cookie()), nil
	}
	answer := Wait{
		Client:   a.Card(),
		Email:    a.Person.Label(),
		Resource: a.ResourceCard(),
		Request:  a.Sealed,
		CSRF:     e.Pages.TokenFor(a.BoundTo, a.Purpose()...),
	}
	return web.WithCookie(answer, a.Browser.Cookie()), nil
}

// enter enters the client in the inbox, unless it says already that the person waits. It refuses if an operator has
// dismissed the client since the request came, or if too many wait.
func (e *Endpoint) enter(r *http.Request, a *interaction.Authorization, event audit.Event) error {
	due := false
	err := e.DB.View(r.Context(), func(tx *store.Tx) (err error) {
		due, err = e.askDue(tx, a)
		return err
	})
	if err != nil || !due {
		return err
	}
	return e.DB.Update(r.Context(), func(tx *store.Tx) error {
		due, err := e.askDue(tx, a)
		if err != nil || !due {
			return err
		}
		if err := client.Save(tx, a.Client); err != nil {
			return err
		}
		first, err := tx.Wait(&store.Waiting{ClientID: a.Client.ID, UserID: a.Person.ID, ResourceID: a.Resource.ID,
			Scope: a.Scope, RedirectURI: a.Reply.RedirectURI})
		if err != nil || !first {
			return err
		}
		return tx.Conclude(event, nil)
	})
}

// askDue reports whether the inbox has to be told that the person waits.
func (e *Endpoint) askDue(tx *store.Tx, a *interaction.Authorization) (bool, error) {
	w, asked, err := tx.Waiting(a.Client.ID, a.Person.ID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		w = new(store.Waiting)
	case err != nil:
		return false, err
	case !w.DismissedAt.IsZero() && !a.BegunAt.After(w.DismissedAt):
		return false, errDismissed
	case asked:
		return tx.Now().Sub(w.LastAt) >= askAgain, nil
	}
	n, err := tx.WaitingOf(a.Person.ID)
	if err != nil {
		return false, err
	}
	if n >= maxWaitingOf {
		return false, errYouWaitForMany
	}
	if w.ClientID != "" && w.Open() {
		return true, nil
	}
	if n, err = tx.WaitingCount(); err == nil && n >= maxWaiting {
		err = errManyWait
	}
	return err == nil, err
}

// Stop answers POST /consent/stop: the person does not want to wait for an operator any longer. The client is told that
// the request was denied.
func (e *Endpoint) Stop(r *http.Request) (web.Answer, error) {
	form, err := web.Form(r)
	if err != nil {
		return nil, e.Strangers.Refuse(r, audit.Consent("", "", "", ""), err)
	}
	return e.resume(r, form.Get("request"), func(a *interaction.Authorization) (web.Answer, error) {
		switch {
		case !a.Ready(e.DB.Now()):
			return page("/login", a), nil
		case !e.Pages.Check(a.Browser, form.Get("csrf"), a.Purpose()...):
			return nil, e.Strangers.Refuse(r, audit.Consent(a.Client.ID, a.Person.ID, a.Resource.Identifier, ""),
				errForeignForm)
		}
		return e.deny(r, a)
	})
}
