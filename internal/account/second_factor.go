package account

import (
	"html/template"

	"github.com/cardea-auth/cardea/internal/login"
	"github.com/cardea-auth/cardea/internal/web"
)

// secondFactorSection leads to the page of the second factor, which is part of signing in.
type secondFactorSection struct{ *Endpoint }

func (s secondFactorSection) routes() []web.Route { return nil }

func (s secondFactorSection) show(v *visit) (template.HTML, error) {
	has, err := s.Login.HasSecondFactor(v.Context(), v.Person.ID)
	if err != nil {
		return "", err
	}
	return v.part("security-second-factor.html", secondFactor{Has: has, Page: login.FactorPath})
}

// secondFactor is what the template of the section shows.
type secondFactor struct {
	Has  bool
	Page string // where it is set up and removed
}
