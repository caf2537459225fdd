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
	"github.com/cardea-auth/cardea/scope"
)

// The reasons why a decision is refused: another one came first.
var (
	errAllowedBefore = oauth.Refuse(oauth.InvalidRequest,
		"this request was allowed before, and its code has been redeemed")
	errOtherAnswer = oauth.Refuse(oauth.InvalidRequest, "this request was answered before, with another decision")
	errOver        = oauth.Refuse(oauth.InvalidRequest,
		"this request was allowed before, and that access has ended since")
	errOtherPerson = oauth.Refuse(oauth.InvalidRequest, "this request was answered before, by somebody else")
)

// grant records what the person allowed and for how long, or allowed before, and sends the code (OAuth 2.1 §4.1.2). If
// the same decision is sent again, it sends the same code until that is redeemed.
func (e *Endpoint) grant(r *http.Request, a *interaction.Authorization, allowed scope.Set, l lease) (web.Answer,
	error) {
	var code string
	var before store.Decision
	err := e.DB.Update(r.Context(), func(tx *store.Tx) (err error) {
		event := audit.Consent(a.Client.ID, a.Person.ID, a.Resource.Identifier, allowed.String())
		standing, err := e.Desk.Confirm(tx, a, allowed)
		if err != nil {
			return e.Strangers.Conclude(tx, r, event, err)
		}
		allowed := standing.Scope
		g := e.newGrant(tx, a, allowed, l)
		first := false
		before, first, err = tx.Decide(a.ID, store.Decision{UserID: a.Person.ID, GrantID: g.ID},
			e.Desk.AnswerableUntil(a.Request))
		switch {
		case err != nil:
			return err
		case !first:
			if code, err = e.codeAgain(tx, a, before, allowed, l); errors.Is(err, errAllowedBefore) {
				return nil // not a refusal: the client has what it asked for
			}
			return e.Strangers.Conclude(tx, r, event, err)
		}
		if standing.Once {
			spent, err := tx.SpendApproval(a.Client.ID, a.Person.ID, a.ID, e.Desk.AnswerableUntil(a.Request))
			if err != nil {
				return err
			}
			if !spent {
				return errSpent
			}
		}
		if err := client.Save(tx, a.Client); err != nil {
			return err
		}
		if err := tx.CreateGrant(g); err != nil {
			return err
		}
		code, err = e.newCode(tx, a, g, 0)
		if err != nil {
			return err
		}
		event = audit.Code(a.Client.ID, g.UserID, g.ID, a.Resource.Identifier, allowed.String(), l.remembered).
			With("for", lasts(g))
		if _, profile := client.MatchRedirectURI(a.Client, a.Reply.RedirectURI); profile != "" {
			event = event.With("profile", profile)
			if err := tx.ProfileUsed(profile); err != nil {
				return err
			}
		}
		return tx.Conclude(event, nil)
	})
	if err == nil && code == "" {
		err = errAllowedBefore
	}
	if err != nil {
		return e.undecided(r, a, before, err)
	}
	return web.SeeOther(a.Reply.Code(code)), nil
}

// newGrant returns the grant of the allowed scopes. It expires with its first code unless that is redeemed.
func (e *Endpoint) newGrant(tx *store.Tx, a *interaction.Authorization, allowed scope.Set, l lease) *oauth.Grant {
	g := &oauth.Grant{
		ID:          oauth.NewTimedID("grt_", tx.Now()),
		ClientID:    a.Client.ID,
		UserID:      a.Person.ID,
		ResourceID:  a.Resource.ID,
		RedirectURI: a.Reply.RedirectURI,
		Scope:       allowed,
		Refreshable: a.Client.May(oauth.RefreshToken) && !declined(a, allowed),
		Secret:      oauth.NewSecret(""),
		SignedInAt:  a.Session.SignedInAt,
		AMR:         a.Session.AMR,
		CreatedAt:   tx.Now(),
		ExpiresAt:   tx.Now().Add(e.CodeTTL),
		EndsAt:      tx.Now().Add(e.longest(a)),
	}
	l.apply(g, a, tx.Now())
	return g
}

// longest returns how long a grant for a lasts at most.
func (e *Endpoint) longest(a *interaction.Authorization) time.Duration {
	if a.Resource.RefreshMaxTTL > 0 {
		return a.Resource.RefreshMaxTTL
	}
	return e.GrantMax
}

// newCode stores the n-th code of g and returns it.
func (e *Endpoint) newCode(tx *store.Tx, a *interaction.Authorization, g *oauth.Grant, n int64) (string, error) {
	code := oauth.CodeOf(e.CodeKey, a.ID, n)
	return code, tx.CreateCode(&oauth.Code{
		Hash:        oauth.Hash(code),
		GrantID:     g.ID,
		RedirectURI: a.Reply.RedirectURI,
		Challenge:   a.Challenge,
		ExpiresAt:   tx.Now().Add(e.CodeTTL),
	})
}

// codeAgain returns the code for a decision that was made before, if it was the same: the code that was sent, or
// another if that expired before it was redeemed. It never returns a redeemed code, because a client that redeems one
// again loses its tokens.
func (e *Endpoint) codeAgain(tx *store.Tx, a *interaction.Authorization, before store.Decision,
	allowed scope.Set, l lease) (string, error) {
	switch {
	case before.UserID != a.Person.ID:
		return "", errOtherPerson
	case before.GrantID == "":
		return "", errOtherAnswer
	}
	g, err := tx.Grant(before.GrantID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return "", errOver
	case err != nil:
		return "", err
	case g.Scope.String() != allowed.String(), !l.remembered && g.Duration != l.duration:
		return "", errOtherAnswer
	case !g.RevokedAt.IsZero(), g.SignedOut(tx.Now()):
		return "", errOver
	case !g.LastUsedAt.IsZero():
		return "", errAllowedBefore
	case g.Live(tx.Now()): // and so is its code
		return oauth.CodeOf(e.CodeKey, a.ID, before.Codes), nil
	}
	now, err := tx.AnotherCode(a.ID, before, tx.Now().Add(e.CodeTTL))
	if errors.Is(err, store.ErrNotFound) { // redeemed or revoked since it was read
		return "", errOver
	}
	if err != nil {
		return "", err
	}
	code, err := e.newCode(tx, a, g, now.Codes)
	if errors.Is(err, store.ErrConflict) { // another request made it at the same time
		err = nil
	}
	return code, err
}

// declined reports whether the person unticked offline_access.
func declined(a *interaction.Authorization, allowed scope.Set) bool {
	return a.Scope.Has(oauth.OfflineAccess) && !allowed.Has(oauth.OfflineAccess)
}

// deny records that the person denied the request, and tells the client (OAuth 2.1 §4.1.2.1).
func (e *Endpoint) deny(r *http.Request, a *interaction.Authorization) (web.Answer, error) {
	denial := oauth.Refuse(oauth.AccessDenied, "the person denied the request")
	var before store.Decision
	err := e.DB.Update(r.Context(), func(tx *store.Tx) (err error) {
		event := audit.Consent(a.Client.ID, a.Person.ID, a.Resource.Identifier, "")
		if _, err := e.Desk.Confirm(tx, a, nil); err != nil && !errors.Is(err, client.ErrWaiting) {
			return e.Strangers.Conclude(tx, r, event, err)
		}
		first := false
		before, first, err = tx.Decide(a.ID, store.Decision{UserID: a.Person.ID}, e.Desk.AnswerableUntil(a.Request))
		switch {
		case err != nil:
			return err
		case first:
			return tx.Conclude(audit.Denial(a.Client.ID, a.Person.ID, a.Resource.Identifier), denial)
		case before.UserID != a.Person.ID:
			return e.Strangers.Conclude(tx, r, event, errOtherPerson)
		case before.GrantID != "":
			return e.Strangers.Conclude(tx, r, event, errOtherAnswer)
		}
		return denial // recorded before
	})
	if !errors.Is(err, denial) {
		return e.undecided(r, a, before, err)
	}
	refusal, _ := oauth.AsRefusal(denial)
	return web.SeeOther(a.Reply.Refusal(refusal)), nil
}

// undecided answers a decision that could not be recorded: because the session has ended, because another decision was
// made before, or because the request is refused.
func (e *Endpoint) undecided(r *http.Request, a *interaction.Authorization, before store.Decision,
	err error) (web.Answer, error) {
	answered := Answered{Client: a.Card(), Resource: a.ResourceCard(), Allowed: before.GrantID != ""}
	answerable := (*interaction.Answerable)(nil)
	switch {
	case errors.Is(err, interaction.ErrNotEntitled): // since the page was shown
		return e.outside(r, a, false)
	case errors.As(err, &answerable): // and recorded
		return e.tell(r, a.Visitor, answerable.Reply, answerable.Err)
	case errors.Is(err, interaction.ErrSignedOut):
		return page("/login", a), nil
	case errors.Is(err, client.ErrWaiting), errors.Is(err, errSpent): // the page says that the person has to wait
		return page("/consent", a), nil
	case errors.Is(err, errAllowedBefore):
		return answered, nil
	case errors.Is(err, errOver):
		answered.Over = true
	case errors.Is(err, errOtherPerson):
		answered.Other = true
	case errors.Is(err, errOtherAnswer):
	default:
		return nil, err
	}
	refusal, _ := oauth.AsRefusal(err)
	return web.WithRefusal(answered, refusal), nil
}
