package account

import (
	"html/template"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/web"
)

// section is a part of the page of sign-in methods: one way to sign in, and what the person can do about theirs. Each
// has a file and a template of its own, and sections lists them.
type section interface {
	// show returns the section, in a template of its own, or "" if it says nothing to the person. The template has an
	// h2.
	show(v *visit) (template.HTML, error)
	// routes returns the routes of its forms, which lead back to /account/security.
	routes() []web.Route
}

// sections returns the sections, in the order in which the page shows them.
func (e *Endpoint) sections() []section {
	return []section{passwordSection{e}, passkeySection{e}, secondFactorSection{e}, connectionSection{e}}
}

// security answers GET /account/security: how the person signs in.
func (e *Endpoint) security(v *visit) (web.Answer, error) { return v.securityPage("", 0) }

// securityPage returns the page of sign-in methods. problem is a sentence on why a form of a section was refused, and
// status the status of the refusal.
func (v *visit) securityPage(problem string, status int) (web.Answer, error) {
	var parts []template.HTML
	for _, s := range v.e.sections() {
		part, err := s.show(v)
		if err != nil {
			return nil, err
		}
		if part != "" {
			parts = append(parts, part)
		}
	}
	return v.answer(screen{template: "security.html", title: "How you sign in", here: "/account/security", body: parts,
		problem: problem, status: status, leaves: len(v.e.Login.Elsewhere()) > 0})
}

// owner returns the authenticator app of the person, or nil. If they did not sign in a short time ago, and with the
// second factor if they have one, it returns instead where they do that first; it leads back to the page at the path
// back.
func (v *visit) owner(back string) (app *identity.TOTP, elsewhere web.Answer, err error) {
	if !v.e.Sessions.Recent(v.Visitor) {
		return nil, v.e.signIn(v.Request), nil
	}
	return v.e.Login.Factor(v.Request, v.Visitor, back)
}

// part returns a section as its template shows view.
func (v *visit) part(name string, view any) (template.HTML, error) {
	return templates.Part(name, v.e.Pages.Base, view)
}
