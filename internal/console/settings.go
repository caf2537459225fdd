package console

import (
	"net/url"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/web"
)

// settingRoutes are the pages of the configuration, and of the identity providers in it.
func (e *Endpoint) settingRoutes() []web.Route {
	return []web.Route{
		e.route("/admin/settings", e.show(e.settings), nil),
		e.route("/admin/settings/providers/{id}", e.show(e.provider), e.posted(e.testProvider)),
	}
}

// settingList is the body of the page of the settings.
type settingList struct {
	Settings  []admin.Setting
	Changed   int // of them are not at their default
	Providers []admin.Provider
}

func (e *Endpoint) settings(v *visit) (outcome, error) {
	settings, err := e.Operations.Settings(v.Context(), v.caller)
	if err != nil {
		return nil, err
	}
	list := settingList{Settings: settings}
	for _, s := range settings {
		if s.From != "default" {
			list.Changed++
		}
	}
	list.Providers, err = e.Operations.Providers(v.Context(), v.caller)
	return screen{template: "settings.html", title: "Settings", body: list}, err
}

// providerPage is the body of the page of an identity provider.
type providerPage struct {
	admin.Provider
	Test *admin.ProviderTest // nil: not asked for
}

// Broken reports whether the test found that nobody can sign in.
func (p providerPage) Broken() bool { return p.Test.Verdict == admin.Broken }

// Fine reports whether the test found nothing.
func (p providerPage) Fine() bool { return p.Test.Verdict == admin.Fine }

// checks are what the checks of a provider are called.
var checks = map[string]string{
	"reachable": "It answers", "issuer": "It is who we mean", "endpoints": "It has what a sign-in uses",
	"keys": "Its keys can be read", "clock": "The clocks agree", "client": "It accepts this server",
	"redirect_uri": "It sends people back here", "configuration": "The rest of the configuration",
}

// Called returns what a check is called.
func (p providerPage) Called(check string) string { return checks[check] }

func (e *Endpoint) provider(v *visit) (outcome, error) {
	p, err := e.Operations.Provider(v.Context(), v.caller, v.id())
	return screen{template: "provider.html", title: p.Name, body: providerPage{Provider: p}}, err
}

// testProvider shows the page with what a test finds out.
func (e *Endpoint) testProvider(v *visit, _ url.Values) (outcome, error) {
	p, err := e.Operations.Provider(v.Context(), v.caller, v.id())
	if err != nil {
		return nil, err
	}
	test, err := e.Operations.TestProvider(v.Context(), v.caller, v.id())
	return screen{template: "provider.html", title: p.Name, body: providerPage{p, &test}}, err
}
