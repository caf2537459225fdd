package servertest

import (
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/upstream"
	"github.com/cardea-auth/cardea/internal/upstream/upstreamtest"
)

// Corp returns an OpenID provider of package upstreamtest, with which people make accounts too.
func Corp(issuer string) upstream.Config {
	return upstream.Config{ID: "corp", Preset: "oidc", Name: "Corp", Issuer: issuer, ClientID: upstreamtest.ClientID,
		ClientSecret: upstreamtest.ClientSecret, Create: true, OfflineGrace: upstream.DefaultOfflineGrace}
}

// Provider is an edit that lets people sign in with a provider.
func Provider(c upstream.Config, edits ...func(*upstream.Config)) func(*config.Config) {
	for _, edit := range edits {
		edit(&c)
	}
	return func(all *config.Config) {
		if err := c.Settle(); err != nil {
			panic(err)
		}
		all.Login.Providers = append(all.Login.Providers, c)
	}
}
