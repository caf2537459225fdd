package admin

import (
	"context"
	"maps"
	"slices"

	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/upstream"
)

// Provider is an identity provider as operators see it: an entry of login.providers, without its secret.
type Provider struct {
	ID     string `json:"id"`
	Name   string `json:"name"` // on the sign-in page
	Preset string `json:"preset"`
	Issuer string `json:"issuer"`
	// ClientID is what this server is called there, and HasSecret whether it has a secret for that.
	ClientID  string `json:"client_id"`
	HasSecret bool   `json:"has_secret"`
	// RedirectURI is what has to be registered at the provider.
	RedirectURI    string            `json:"redirect_uri"`
	Domains        []string          `json:"domains"`
	Create         bool              `json:"create"`
	Link           string            `json:"link"`
	GroupsClaim    string            `json:"groups_claim"`
	GroupMap       map[string]string `json:"group_map"`
	CheckAtRefresh bool              `json:"check_at_refresh"`
	OfflineGrace   Span              `json:"offline_grace"`
}

func (o *Operations) viewProvider(c upstream.Config) Provider {
	view := Provider{
		ID: c.ID, Name: c.Label(), Preset: c.Preset, Issuer: c.Issuer, ClientID: c.ClientID,
		HasSecret: c.ClientSecret != "", RedirectURI: upstream.New(c, o.Issuer, o.DB.Now).RedirectURI,
		Domains: append([]string{}, c.Domains...), Create: c.Create, Link: c.Link, GroupsClaim: c.GroupsClaim,
		GroupMap: map[string]string{}, CheckAtRefresh: c.CheckAtRefresh, OfflineGrace: Span(c.OfflineGrace),
	}
	maps.Copy(view.GroupMap, c.GroupMap)
	return view
}

// Providers returns the identity providers in the configuration of the server that answers, in the order in which the
// sign-in page has them.
func (o *Operations) Providers(ctx context.Context, by Caller) (views []Provider, err error) {
	err = o.look(ctx, by, Providers, func(*store.Tx) error {
		views = make([]Provider, len(o.SignIn))
		for i, c := range o.SignIn {
			views[i] = o.viewProvider(c)
		}
		return nil
	})
	return views, err
}

// Provider returns the identity provider with the given id.
func (o *Operations) Provider(ctx context.Context, by Caller, id string) (view Provider, err error) {
	err = o.look(ctx, by, Providers, func(*store.Tx) error {
		c, err := o.provider(id)
		if err == nil {
			view = o.viewProvider(c)
		}
		return err
	})
	return view, err
}

func (o *Operations) provider(id string) (upstream.Config, error) {
	at := slices.IndexFunc(o.SignIn, func(c upstream.Config) bool { return c.ID == id })
	if at < 0 {
		return upstream.Config{}, notFound(Providers, id, "there is no identity provider %s in the configuration")
	}
	return o.SignIn[at], nil
}

// Verdict says how a test ended.
type Verdict string

// The verdicts.
const (
	Fine     Verdict = "ok"       // nothing speaks against a sign-in
	Warnings Verdict = "warnings" // people can sign in, but not everything that is configured works
	Broken   Verdict = "broken"   // nobody can sign in
)

// ProviderTest is what a test of an identity provider found out.
type ProviderTest struct {
	ID      string             `json:"id"`
	Verdict Verdict            `json:"verdict"`
	Checks  []upstream.Finding `json:"checks"`
}

// TestProvider tries what a sign-in with the identity provider needs, as far as that is possible without a person. It
// changes nothing, here and there, and takes up to a minute.
func (o *Operations) TestProvider(ctx context.Context, by Caller, id string) (ProviderTest, error) {
	if err := o.permit(ctx, by, Providers, Read, "provider.test"); err != nil {
		return ProviderTest{}, err
	}
	c, err := o.provider(id)
	if err != nil {
		return ProviderTest{}, err
	}
	test := ProviderTest{ID: id, Verdict: Broken, Checks: upstream.New(c, o.Issuer, o.DB.Now).Test(ctx)}
	has := func(s upstream.Status) bool {
		return slices.ContainsFunc(test.Checks, func(f upstream.Finding) bool { return f.Status == s })
	}
	switch {
	case has(upstream.Fail), !has(upstream.OK): // the latter if the test was not done at all
	case has(upstream.Warn):
		test.Verdict = Warnings
	default:
		test.Verdict = Fine
	}
	return test, nil
}
