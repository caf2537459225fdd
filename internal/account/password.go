package account

import (
	"html/template"
	"net/url"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/login"
	"github.com/cardea-auth/cardea/internal/web"
)

// passwordSection is where the person changes their password.
type passwordSection struct{ *Endpoint }

func (s passwordSection) routes() []web.Route {
	return []web.Route{route("/account/security/password", nil, s.change("password", s.post))}
}

// passwordForm is what the template of the section shows.
type passwordForm struct{ CSRF, Email string }

func (s passwordSection) show(v *visit) (template.HTML, error) {
	if !s.Login.HasPassword(v.Visitor) {
		return "", nil
	}
	return v.part("security-password.html", passwordForm{v.CSRF("password"), v.Person.Email})
}

// post changes the password, which ends the person's sessions in other browsers.
func (s passwordSection) post(v *visit, form url.Values) (web.Answer, error) {
	err := s.Login.ChangePassword(v.Request, v.Visitor, form.Get("current"), form.Get("password"))
	if err == nil {
		return done("/account/security", "password")
	}
	refusal, fault := s.Pages.Refused(v.Request, audit.PasswordChange(v.Person.ID, 0), err)
	if fault != nil {
		return nil, fault
	}
	return v.securityPage(login.Explain(err), refusal.Status())
}
