package account

import (
	"errors"
	"net/http"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// undoRoutes are the page that the link in a receipt leads to. It needs no sign-in, because all that the link can do is
// end what its mail is about. Opening it changes nothing.
func (e *Endpoint) undoRoutes() []web.Route {
	return []web.Route{{
		Path:    undoPath,
		Methods: web.Methods{"GET": e.Pages.HTML(e.askUndo), "POST": e.Pages.HTML(e.undoConsent)}, Caller: web.People,
	}}
}

// undoPage is the page with the one button.
type undoPage struct {
	Agent agent
	Over  bool   // it has ended
	Error string // a sentence on why the form did nothing; "": none
	Grant string // the sealed undoable, handed back as grant
	CSRF  string // token of the form, handed back as csrf
}

// Page returns the page, with status 200.
func (v undoPage) Page() web.Page { return templates.Page("undo.html", v) }

var errUndoLink = oauth.RefuseStatus(http.StatusNotFound, "not_found",
	"this link was cut, or what it was about is no longer stored: see what is connected on the page of your account")

// openUndo returns what a link is about, with the page for browser.
func (e *Endpoint) openUndo(r *http.Request, browser web.Browser, sealed string) (u undoable, page undoPage,
	err error) {
	if err := e.Login.Desk.Sealer.OpenJSON(undoPurpose, sealed, &u); err != nil {
		return u, page, errUndoLink
	}
	a, err := e.allowed(r.Context(), u.User, u.Grant)
	if err == nil && a == nil {
		err = errUndoLink
	}
	if err != nil {
		return u, page, err
	}
	err = e.DB.View(r.Context(), func(tx *store.Tx) error {
		g, err := tx.Grant(u.Grant)
		if err == nil {
			page.Over = !g.RevokedAt.IsZero() || !tx.Now().Before(g.ExpiresAt)
		}
		return err
	})
	page.Agent, page.Grant = *a, sealed
	page.CSRF = e.Pages.Token(browser, undoPurpose, u.Grant)
	return u, page, err
}

// askUndo answers GET /account/undo.
func (e *Endpoint) askUndo(r *http.Request) (web.Answer, error) {
	query, err := web.Query(r)
	if err != nil {
		return nil, err
	}
	browser := e.Pages.Browser(r)
	_, page, err := e.openUndo(r, browser, query.Get("grant"))
	if err != nil {
		return nil, e.refuse(r, err)
	}
	return web.WithCookie(page, browser.Cookie()), nil
}

// refuse records a refusal of a link; a fault it returns as it is.
func (e *Endpoint) refuse(r *http.Request, err error) error {
	if !oauth.IsRefusal(err) {
		return err
	}
	return e.Pages.Refuse(r, audit.Disconnection("", "", ""), err)
}

// undoConsent answers POST /account/undo: it ends the grant. If that has ended before, nothing happens.
func (e *Endpoint) undoConsent(r *http.Request) (web.Answer, error) {
	form, err := web.Form(r)
	if err != nil {
		return nil, err
	}
	browser := e.Pages.Browser(r)
	u, page, err := e.openUndo(r, browser, form.Get("grant"))
	if err != nil {
		return nil, e.refuse(r, err)
	}
	if !e.Pages.Check(browser, form.Get("csrf"), undoPurpose, u.Grant) {
		refusal, _ := oauth.AsRefusal(errForm)
		err := e.Pages.Refuse(r, audit.ForeignForm(r.URL.Path, r.Header.Get("Origin")), errForm)
		if !errors.Is(err, refusal) {
			return nil, err
		}
		page.Error = "This page was open for too long, or your browser did not send its cookie. Press the button again."
		return web.WithCookie(web.WithRefusal(page, refusal), browser.Cookie()), nil
	}
	err = e.DB.Update(r.Context(), func(tx *store.Tx) error {
		g, err := tx.Disconnect(u.User, u.Grant)
		switch {
		case errors.Is(err, store.ErrConflict): // it has ended, which is what was asked for
			return nil
		case errors.Is(err, store.ErrNotFound): // the agent has not begun to use it
			if ended, err := tx.RevokeGrant(u.Grant, store.ByPerson); err != nil || !ended {
				return err
			}
			if g, err = tx.Grant(u.Grant); err != nil {
				return err
			}
		case err != nil:
			return err
		}
		return tx.Conclude(audit.Disconnection(g.ID, g.ClientID, g.UserID), nil)
	})
	page.Over = true
	return page, err
}
