package account

import (
	"errors"
	"net/url"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// sessionRoutes are the page of the browsers in which the person is signed in, and its form.
func (e *Endpoint) sessionRoutes() []web.Route {
	return []web.Route{
		route("/account/sessions", e.show(e.sessions), nil),
		route("/account/sessions/{id}/revoke", nil, e.change("end session", e.endSession)),
	}
}

// browser is a session as its user sees it.
type browser struct {
	ID         string
	This       bool // it is the one that shows the page
	Agent      string
	Address    string
	SignedIn   moment
	LastActive moment
}

func (e *Endpoint) sessions(v *visit) (web.Answer, error) {
	var list []browser
	var next string
	err := v.view(func(tx *store.Tx) error {
		found, cursor, err := tx.Sessions(store.SessionFilter{UserID: v.Person.ID}, v.page())
		if err != nil {
			return err
		}
		next = cursor
		if !v.query.Has("after") {
			filter := store.SessionFilter{UserID: v.Person.ID, ID: v.Session.ID}
			this, _, err := tx.Sessions(filter, store.Page{Limit: 1})
			if err != nil {
				return err
			}
			list = v.viewSessions(list, this)
		}
		for _, s := range found {
			if s.ID != v.Session.ID {
				list = v.viewSessions(list, []*store.SessionListing{s})
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return v.answer(screen{template: "sessions.html", title: "Where you are signed in", here: "/account/sessions",
		body: list, next: next})
}

func (v *visit) viewSessions(list []browser, sessions []*store.SessionListing) []browser {
	for _, s := range sessions {
		list = append(list, browser{ID: s.ID, This: s.ID == v.Session.ID, Agent: s.UserAgent, Address: s.Address,
			SignedIn: v.moment(s.SignedInAt), LastActive: v.moment(s.SeenAt)})
	}
	return list
}

// endSession ends a session of the person. If it is that of this browser, the person is signed out here.
func (e *Endpoint) endSession(v *visit, _ url.Values) (web.Answer, error) {
	err := v.update(func(tx *store.Tx) error {
		if err := tx.RevokeOwnSession(v.Person.ID, v.id()); err != nil {
			return err
		}
		return tx.Conclude(audit.OwnSession(v.id(), v.Person.ID), nil)
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, errNotFound
	case err != nil:
		return nil, err
	case v.id() == v.Session.ID:
		return web.WithCookie(web.SeeOther("/login"), e.Pages.NoSession()), nil
	}
	return done("/account/sessions", "session-ended")
}
