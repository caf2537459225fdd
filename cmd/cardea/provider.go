package main

import (
	"context"
	"strings"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/adminapi"
)

type providerCommands struct {
	List providerList `cmd:"" help:"List the identity providers of the configuration."`
	Show providerShow `cmd:"" help:"Show an identity provider, with the redirect URI to register there."`
	Test providerTest `cmd:"" help:"Try what a sign-in with an identity provider needs, and explain what is wrong."`
}

type providerList struct{ output }

func (c *providerList) Run(ctx context.Context, sh *shell) error {
	const none = "people sign in with no identity provider; login.providers in the configuration names them"
	return list(ctx, sh, sh.operate, c.output, none, drawProviders, adminapi.ListProviders, searched{}.listing)
}

func drawProviders(views []admin.Provider, t *table) {
	t.Head("ID", "NAME", "PRESET", "ISSUER", "REDIRECT URI")
	t.Fold(16, "ISSUER", "REDIRECT URI")
	for _, v := range views {
		t.Row(v.ID, v.Name, v.Preset, v.Issuer, v.RedirectURI)
	}
}

// oneProvider is the argument of a command about one provider.
type oneProvider struct {
	ID string `arg:"" help:"The provider, by its id in the configuration."`
	output
}

type providerShow struct{ oneProvider }

func (c *providerShow) Run(ctx context.Context, sh *shell) error {
	return ask(ctx, sh, c.output, drawProvider, adminapi.ShowProvider, adminapi.ByID{ID: c.ID})
}

func drawProvider(v admin.Provider, t *table) {
	t.Row("id", v.ID)
	t.Row("name", v.Name)
	t.Row("preset", v.Preset)
	t.Row("issuer", v.Issuer)
	t.Row("client id", v.ClientID)
	t.Row("redirect URI", v.RedirectURI)
	t.Row("domains", dash(strings.Join(v.Domains, " ")))
	first := "needs an account here"
	if v.Create {
		first = "makes an account"
	}
	t.Row("first sign-in", first)
	t.Row("joins accounts", v.Link)
	if v.GroupsClaim != "" {
		t.Row("groups from", v.GroupsClaim)
	}
	if v.CheckAtRefresh {
		t.Row("at refresh",
			"asks whether the person is still known; goes on for "+v.OfflineGrace.String()+" without an answer")
	}
}

type providerTest struct{ oneProvider }

// Help returns what the help shows below the usage.
func (c *providerTest) Help() string {
	return "It exits with 1 if nobody can sign in with the provider. Whether the provider knows the redirect URI, " +
		"only a sign-in shows."
}

func (c *providerTest) Run(ctx context.Context, sh *shell) error {
	return sh.reach(ctx, sh.operate, func(t adminapi.Target) error {
		test, err := adminapi.TestProvider.Call(ctx, t, adminapi.ByID{ID: c.ID})
		if err != nil {
			return err
		}
		if err := c.print(sh, test, func(t *table) { drawTest(test, t) }); err != nil {
			return err
		}
		if test.Verdict == admin.Broken {
			return errVerdict
		}
		return nil
	})
}

func drawTest(test admin.ProviderTest, t *table) {
	t.Head("STATUS", "CHECK", "FOUND", "WHAT TO DO")
	t.Fold(16, "FOUND", "WHAT TO DO")
	for _, f := range test.Checks {
		t.Row(string(f.Status), f.Check, f.Found, dash(f.Fix))
	}
}
