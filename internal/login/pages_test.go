package login_test

import (
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/login"
	"github.com/cardea-auth/cardea/internal/web"
	"github.com/cardea-auth/cardea/internal/web/webtest"
)

// views returns all pages of the flow, with probe in all their texts.
func views(probe string) map[string]web.Answer {
	card := &interaction.ClientCard{Name: probe, ID: probe, Destination: interaction.Destination{Host: probe}}
	return map[string]web.Answer{
		"within a request": login.SignIn{Password: true, Client: card, Email: probe, Error: probe,
			Request: "sealed" + probe, CSRF: probe},
		"plain sign-in": login.SignIn{Password: true, CSRF: probe},
		"signed in":     login.SignedIn{Email: probe, Error: probe, CSRF: probe},
		"signed out":    login.SignedOut{},
	}
}

func TestPages(t *testing.T) {
	for name, page := range views("x") {
		t.Run("HT-01 CN-18 "+name, func(t *testing.T) { webtest.Headers(t, page, name == "within a request") })
	}
	for _, probe := range webtest.Probes {
		for name, page := range views(probe) {
			t.Run("AZ-56 AZ-48 DC-06 "+name, func(t *testing.T) { webtest.Inert(t, page, probe) })
		}
	}
}

func TestSignInPage(t *testing.T) {
	t.Run("within a request", func(t *testing.T) {
		page := webtest.Show(t, login.SignIn{
			Password: true,
			Client:   &interaction.ClientCard{Name: "Claude Code", ID: "mcp_1"},
			Email:    "ada@example.com", Request: "sealed", CSRF: "token",
		})
		for _, want := range []string{
			`name="request" value="sealed"`, `name="csrf" value="token"`, `for="email"`, `for="password"`,
			`name="email" type="text" inputmode="email" value="ada@example.com" autocomplete="username"`,
			`name="password" type="password" autocomplete="current-password"`,
		} {
			if !strings.Contains(page, want) {
				t.Errorf("the page has no %s", want)
			}
		}
		if strings.Count(page, "<form") != 1 || strings.Count(page, "<button") != 1 ||
			strings.Contains(page, "aria-invalid") {
			t.Errorf("the page is:\n%s", page)
		}
		if said := webtest.Text(page); !strings.Contains(said, "to connect Claude Code unverified") {
			t.Errorf("the page says:\n%s", said)
		}
	})
	t.Run("after an error", func(t *testing.T) {
		page := webtest.Show(t, login.SignIn{Password: true, Error: "E-mail or password is wrong."})
		if !strings.Contains(page, `id="error" role="alert">E-mail or password is wrong.`) ||
			strings.Count(page, `aria-describedby="error"`) != 2 || strings.Contains(page, "aria-invalid") {
			t.Errorf("the page is:\n%s", page)
		}
		page = webtest.Show(t, login.SignIn{Password: true, Error: "E-mail or password is wrong.", Wrong: true})
		if strings.Count(page, `aria-invalid="true"`) != 2 {
			t.Errorf("the page is:\n%s", page)
		}
	})
}
