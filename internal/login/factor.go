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
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

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

// Factor returns the authenticator app of the person of v, or nil if there is none. If they have one or a passkey, and
// the session of v began without, Factor returns instead where they use it first; that leads back to the page at the
// path back.
func (e *Endpoint) Factor(
	r *http.Request, v interaction.Visitor, back string,
) (app *identity.TOTP, elsewhere web.Answer, err error) {
	has := false
	err = e.DB.View(r.Context(), func(tx *store.Tx) (err error) {
		app, err = tx.TOTP(v.Person.ID)
		if has = err == nil; !errors.Is(err, store.ErrNotFound) {
			return err
		}
		app = nil
		has, err = e.hasPasskey(tx, v.Person.ID)
		return err
	})
	switch {
	case err != nil:
		return nil, nil, err
	case has && !v.Session.TwoFactors():
		elsewhere, err = e.ask(e.halfOf(r, v.Person, v.Session.AMR, false), destination{back: back})
		return nil, elsewhere, err
	}
	return app, nil, nil
}

// SetUpFactor stores the authenticator app that form sets up for the person of v: set_up is SetUp.Sealed, and code its
// first code. It returns the page with the recovery codes, which leads to the path next. The session counts as one with
// two factors from then on. ExplainCode explains its refusals. It returns store.ErrNotFound if the session of v has
// ended.
func (e *Endpoint) SetUpFactor(
	r *http.Request, v interaction.Visitor, form url.Values, next string,
) (web.Answer, error) {
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
		return e.begin(r, destination{back: next},
			Proof{Person: v.Person, AMR: withFactor(v.Session.AMR, how), Confirm: confirm})
	})
	if err != nil {
		return nil, err
	}
	return web.WithCookiesOf(codesPage(codes, next), answer), nil
}

// RenewCodes replaces the recovery codes of the person of v. It returns the page with the new ones, which leads to the
// path next. RenewCodes returns store.ErrNotFound if the session of v has ended or there is no second factor.
func (e *Endpoint) RenewCodes(ctx context.Context, v interaction.Visitor, next string) (web.Answer, error) {
	codes, hashes := newRecoveryCodes()
	err := e.DB.Update(ctx, func(tx *store.Tx) error {
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
	return codesPage(codes, next), err
}

// RemoveFactor deletes the authenticator app and the recovery codes of the person of v. It returns store.ErrNotFound if
// the session of v has ended or there is no second factor.
func (e *Endpoint) RemoveFactor(ctx context.Context, v interaction.Visitor) error {
	return e.DB.Update(ctx, func(tx *store.Tx) error {
		if err := e.Desk.Sessions.Confirm(tx, v); err != nil {
			return err
		}
		if err := tx.DeleteSecondFactor(v.Person.ID); err != nil {
			return err
		}
		return tx.Conclude(audit.SecondFactor("remove", v.Person.ID), nil)
	})
}

// codesPage returns the page that shows recovery codes once, and leads on to the given address.
func codesPage(codes []string, next string) RecoveryCodes {
	path, query, _ := strings.Cut(next, "?")
	fields, _ := url.ParseQuery(query) // which this server made
	return RecoveryCodes{Codes: codes, Next: path, Fields: fields}
}
