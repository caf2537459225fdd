package account

import (
	"errors"
	"html/template"
	"net/url"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/login"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// secondFactorSection leads to the page on which the person sets a second factor up and takes it away.
type secondFactorSection struct{ *Endpoint }

// factorPath is the path of that page, and factorForm the name of its forms.
const (
	factorPath = "/account/second-factor"
	factorForm = "second factor"
)

func (s secondFactorSection) routes() []web.Route {
	return []web.Route{
		route(factorPath, s.Endpoint.show(s.page), s.change(factorForm, s.owned(s.setUp))),
		route(factorPath+"/codes", nil, s.change(factorForm, s.owned(s.renew))),
		route(factorPath+"/remove", nil, s.change(factorForm, s.owned(s.remove))),
	}
}

func (s secondFactorSection) show(v *visit) (template.HTML, error) {
	has, err := s.Login.HasSecondFactor(v.Context(), v.Person.ID)
	if err != nil {
		return "", err
	}
	return v.part("security-second-factor.html", secondFactor{Has: has, Page: factorPath})
}

// secondFactor is what the template of the section shows.
type secondFactor struct {
	Has  bool
	Page string // where it is set up and removed
}

// factor is what the page of the second factor shows. Its forms are posted to factorPath, with the input code, and
// below it.
type factor struct {
	SetUp login.SetUp // the zero SetUp: there is an authenticator app
	Since time.Time   // since when
	Left  int         // recovery codes that were not used
	CSRF  string
}

// owned adapts a function of the page to people who signed in a short time ago, and with the second factor if they have
// one. The function gets the authenticator app of the person, or nil.
func (s secondFactorSection) owned(
	do func(*visit, url.Values, *identity.TOTP) (web.Answer, error),
) func(*visit, url.Values) (web.Answer, error) {
	return func(v *visit, form url.Values) (web.Answer, error) {
		app, elsewhere, err := v.owner(factorPath)
		if err != nil || elsewhere != nil {
			return elsewhere, err
		}
		answer, err := do(v, form, app)
		if errors.Is(err, store.ErrNotFound) { // signed out, or changed in another tab
			return web.SeeOther(factorPath), nil
		}
		return answer, err
	}
}

// page answers GET /account/second-factor: what the person needs to set up an authenticator app, or what can be done
// with the one they have.
func (s secondFactorSection) page(v *visit) (web.Answer, error) {
	return s.owned(func(v *visit, _ url.Values, app *identity.TOTP) (web.Answer, error) {
		return s.shown(v, app, "", "", 0)
	})(v, nil)
}

// shown returns the page. sealed is the secret that the person was offered before, or "". problem is a sentence on why
// a form was refused, and status the status of the refusal.
func (s secondFactorSection) shown(
	v *visit, app *identity.TOTP, sealed, problem string, status int,
) (web.Answer, error) {
	body := factor{CSRF: v.CSRF(factorForm)}
	if app == nil {
		if err := s.Login.OfferTOTP(&body.SetUp, v.Person, sealed); err != nil {
			return nil, err
		}
	} else {
		body.Since = app.CreatedAt
		err := v.view(func(tx *store.Tx) (err error) {
			body.Left, err = tx.RecoveryCodes(v.Person.ID)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return v.answer(screen{template: "second-factor.html", title: "Second step", here: "/account/security", body: body,
		problem: problem, status: status})
}

// setUp stores the authenticator app that the form sets up, and shows its recovery codes.
func (s secondFactorSection) setUp(v *visit, form url.Values, app *identity.TOTP) (web.Answer, error) {
	err := error(login.ErrHasTOTP)
	var answer web.Answer
	if app == nil {
		answer, err = s.Login.SetUpFactor(v.Request, v.Visitor, form, factorPath)
	}
	if err == nil {
		return answer, nil
	}
	refusal, fault := s.Pages.Refused(v.Request, audit.SecondFactor("set_up", v.Person.ID), err)
	if fault != nil {
		return nil, fault
	}
	return s.shown(v, app, form.Get("set_up"), login.ExplainCode(err), refusal.Status())
}

// renew shows new recovery codes.
func (s secondFactorSection) renew(v *visit, _ url.Values, app *identity.TOTP) (web.Answer, error) {
	if app == nil {
		return web.SeeOther(factorPath), nil
	}
	return s.Login.RenewCodes(v.Context(), v.Visitor, factorPath)
}

// remove deletes the authenticator app and the recovery codes.
func (s secondFactorSection) remove(v *visit, _ url.Values, _ *identity.TOTP) (web.Answer, error) {
	return web.SeeOther(factorPath), s.Login.RemoveFactor(v.Context(), v.Visitor)
}
