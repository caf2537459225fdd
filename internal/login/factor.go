package login

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// FactorPath is the page on which a signed-in person sets a second factor up, and takes it away.
const FactorPath = "/account/second-factor"

// factorRoutes returns the routes of the second factor: the step of a sign-in, and the page of a signed-in person.
func (e *Endpoint) factorRoutes() []web.Route {
	return []web.Route{
		{
			Path:    "/login/second",
			Methods: web.Methods{"GET": e.Pages.HTML(e.Second), "POST": e.Pages.HTML(e.PostSecond)}, Caller: web.People,
		},
		{
			Path:    FactorPath,
			Methods: web.Methods{"GET": e.Pages.Reading(e.Factor), "POST": e.Pages.HTML(e.SetUpFactor)}, Caller: web.Members,
		},
		{Path: FactorPath + "/codes", Methods: web.Methods{"POST": e.Pages.HTML(e.RenewCodes)}, Caller: web.Members},
		{Path: FactorPath + "/remove", Methods: web.Methods{"POST": e.Pages.HTML(e.RemoveFactor)}, Caller: web.Members},
	}
}

// HasSecondFactor reports whether an account has an authenticator app.
func (e *Endpoint) HasSecondFactor(ctx context.Context, userID string) (bool, error) {
	err := e.DB.View(ctx, func(tx *store.Tx) error {
		_, err := tx.TOTP(userID)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// owner returns the person who is signed in and may change how they sign in: they signed in a short time ago, and with
// the second factor if they have one. Otherwise it returns the answer that leads there.
func (e *Endpoint) owner(r *http.Request) (v interaction.Visitor, app *identity.TOTP, elsewhere web.Answer, err error) {
	if v, err = e.Desk.Visitor(r); err != nil {
		return v, nil, nil, err
	}
	to := destination{back: FactorPath}
	if !v.SignedIn() || !e.Desk.Recent(v) {
		return v, nil, web.SeeOther("/login?" + to.values(url.Values{}).Encode()), nil
	}
	err = e.DB.View(r.Context(), func(tx *store.Tx) (err error) {
		app, err = tx.TOTP(v.Person.ID)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return v, nil, nil, nil
	case err != nil:
		return v, nil, nil, err
	case !v.Session.TwoFactors():
		elsewhere, err = e.ask(e.halfOf(r, v.Person, v.Session.AMR, false), to)
		return v, nil, elsewhere, err
	}
	return v, app, nil, nil
}

// Factor answers GET /account/second-factor: what the person needs to set up an authenticator app, or what can be done with
// the one they have.
func (e *Endpoint) Factor(r *http.Request) (web.Answer, error) {
	v, app, elsewhere, err := e.owner(r)
	if err != nil || elsewhere != nil {
		return elsewhere, err
	}
	return e.showFactor(r, v, app, "", "")
}

// showFactor returns the page. sealed is the secret that the person was offered before, or "".
func (e *Endpoint) showFactor(r *http.Request, v interaction.Visitor, app *identity.TOTP, sealed, failure string) (web.Answer, error) {
	page := Factor{Email: v.Person.Email, Error: failure, CSRF: e.Pages.Token(v.Browser, e.factorPurpose(v)...)}
	if app == nil {
		if err := e.offerTOTP(&page.SetUp, v.Person, sealed); err != nil {
			return nil, err
		}
		return web.WithCookie(page, v.Browser.Cookie()), nil
	}
	page.Since = app.CreatedAt
	err := e.DB.View(r.Context(), func(tx *store.Tx) (err error) {
		page.Left, err = tx.RecoveryCodes(v.Person.ID)
		return err
	})
	return web.WithCookie(page, v.Browser.Cookie()), err
}

func (e *Endpoint) factorPurpose(v interaction.Visitor) []string {
	return []string{"change the second factor", v.Session.Hash}
}

// changeFactor answers a form of the page with what change does in the transaction that confirms the session of the
// person. If it refuses, the page is shown again with a sentence.
func (e *Endpoint) changeFactor(r *http.Request, change func(url.Values, interaction.Visitor, *identity.TOTP) (web.Answer, error)) (web.Answer, error) {
	form, err := web.Form(r)
	if err != nil {
		return nil, e.Refuse(r, audit.SecondFactor("set_up", ""), err)
	}
	v, app, elsewhere, err := e.owner(r)
	if err != nil || elsewhere != nil {
		return elsewhere, err
	}
	var answer web.Answer
	if e.Pages.Check(v.Browser, form.Get("csrf"), e.factorPurpose(v)...) {
		answer, err = change(form, v, app)
	} else {
		err = errForm
	}
	refusal, refused := oauth.AsRefusal(err)
	switch {
	case err == nil:
		return answer, nil
	case errors.Is(err, store.ErrNotFound), errors.Is(err, interaction.ErrSignedOut):
		return web.SeeOther(FactorPath), nil // signed out, or changed in another tab
	case !refused:
		return nil, err
	}
	if err := e.Refuse(r, audit.SecondFactor("set_up", v.Person.ID), err); !errors.Is(err, refusal) {
		return nil, err
	}
	sentence := whyCode(err)
	if errors.Is(err, errForm) {
		sentence = oldForm
	}
	shown, err := e.showFactor(r, v, app, form.Get("set_up"), sentence)
	if err != nil {
		return nil, err
	}
	return web.WithRefusal(shown, refusal), nil
}

// SetUpFactor answers POST /account/second-factor with the recovery codes of the authenticator app that it stores. The
// session counts as one with two factors from then on.
func (e *Endpoint) SetUpFactor(r *http.Request) (web.Answer, error) {
	return e.changeFactor(r, func(form url.Values, v interaction.Visitor, app *identity.TOTP) (web.Answer, error) {
		if app != nil {
			return nil, errHasTOTP
		}
		var codes []string
		answer, err := e.try(r, e.factorKey(r, v.Person), func() (web.Answer, error) {
			spend, how, err := e.checkFactor(v.Person, nil, form, &codes)
			if err != nil {
				return nil, err
			}
			confirm := func(tx *store.Tx) error {
				if err := e.Desk.Sessions.Confirm(tx, v); err != nil {
					return err
				}
				return spend(tx)
			}
			return e.begin(r, destination{back: FactorPath}, Proof{Person: v.Person, AMR: withFactor(v.Session.AMR, how), Confirm: confirm})
		})
		if err != nil {
			return nil, err
		}
		return web.WithCookiesOf(codesPage(codes, FactorPath), answer), nil
	})
}

// RenewCodes answers POST /account/second-factor/codes with new recovery codes, which replace those that there are.
func (e *Endpoint) RenewCodes(r *http.Request) (web.Answer, error) {
	return e.changeFactor(r, func(_ url.Values, v interaction.Visitor, app *identity.TOTP) (web.Answer, error) {
		if app == nil {
			return web.SeeOther(FactorPath), nil
		}
		codes, hashes := newRecoveryCodes()
		err := e.DB.Update(r.Context(), func(tx *store.Tx) error {
			if err := e.Desk.Sessions.Confirm(tx, v); err != nil {
				return err
			}
			if _, err := tx.TOTP(v.Person.ID); err != nil { // it was removed meanwhile
				return err
			}
			if err := tx.SetRecoveryCodes(v.Person.ID, hashes); err != nil {
				return err
			}
			return tx.Conclude(audit.SecondFactor("new_codes", v.Person.ID), nil)
		})
		return codesPage(codes, FactorPath), err
	})
}

// RemoveFactor answers POST /account/second-factor/remove: it deletes the authenticator app and the recovery codes.
func (e *Endpoint) RemoveFactor(r *http.Request) (web.Answer, error) {
	return e.changeFactor(r, func(_ url.Values, v interaction.Visitor, _ *identity.TOTP) (web.Answer, error) {
		err := e.DB.Update(r.Context(), func(tx *store.Tx) error {
			if err := e.Desk.Sessions.Confirm(tx, v); err != nil {
				return err
			}
			if err := tx.DeleteSecondFactor(v.Person.ID); err != nil {
				return err
			}
			return tx.Conclude(audit.SecondFactor("remove", v.Person.ID), nil)
		})
		return web.SeeOther(FactorPath), err
	})
}

// codesPage returns the page that shows recovery codes once, and leads on to the given address.
func codesPage(codes []string, next string) RecoveryCodes {
	path, query, _ := strings.Cut(next, "?")
	fields, _ := url.ParseQuery(query) // which this server made
	return RecoveryCodes{Codes: codes, Next: path, Fields: fields}
}
