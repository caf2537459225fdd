package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/cardea-auth/cardea/internal/upstream"
)

// ProviderKeys are the keys of an entry of login.providers.
var ProviderKeys = []string{"id", "preset", "name", "issuer", "client_id", "client_secret",
	"client_secret_file", "domains", "create", "link", "groups_claim", "group_map", "check_at_refresh", "offline_grace"}

// loginPages are ids that no provider may have, because other pages below /login have these names or may get them. The
// pages of LoginMethods have the names of the methods.
var loginPages = []string{"callback", "code", "external", "factor", "link", "recovery", "second", "second-factor",
	"totp"}

// providers says how login.providers is read.
var providers = &entries[upstream.Config]{
	key: "login.providers", keys: ProviderKeys, sample: "id: google",
	example: `[{"id":"google","preset":"google","client_id":"…"}]`,
	base:    upstream.Config{OfflineGrace: upstream.DefaultOfflineGrace},
	set:     setProvider, check: checkProvider,
}

// checkProvider completes a provider, which follows those before.
func checkProvider(c *upstream.Config, before []upstream.Config, given func(string) bool) error {
	if given("client_secret") && given("client_secret_file") {
		return errors.New("client_secret and client_secret_file are both set; keep one")
	}
	if !given("create") {
		c.Create = len(c.Domains) > 0
	}
	if slices.Contains(LoginMethods, c.ID) || slices.Contains(loginPages, c.ID) {
		return fmt.Errorf("id: %s is the name of another page of /login; choose another", c.ID)
	}
	if err := c.Settle(); err != nil {
		return err
	}
	if slices.ContainsFunc(before, func(other upstream.Config) bool { return other.ID == c.ID }) {
		return fmt.Errorf("id: two providers are called %s; give one of them another id", c.ID)
	}
	return nil
}

// setProvider sets one key of a provider.
func setProvider(c *upstream.Config, key string, node *yaml.Node) (err error) {
	if key == "group_map" {
		if node.Kind != yaml.MappingNode || node.Decode(&c.GroupMap) != nil {
			return errors.New("expected names of groups there with names of groups here, such as Engineering: staff")
		}
		return nil
	}
	text, err := scalar(node)
	if err != nil {
		return err
	}
	switch key {
	case "id":
		c.ID = text
	case "preset":
		c.Preset = text
	case "name":
		c.Name = text
	case "issuer":
		c.Issuer = text
	case "client_id":
		c.ClientID = text
	case "client_secret":
		c.ClientSecret = text
	case "client_secret_file":
		c.ClientSecret, err = ReadSecret(text)
	case "domains":
		c.Domains = words(text)
	case "create":
		if c.Create, err = strconv.ParseBool(text); err != nil {
			err = errors.New("expected true or false")
		}
	case "link":
		c.Link = text
	case "groups_claim":
		c.GroupsClaim = text
	case "check_at_refresh":
		if c.CheckAtRefresh, err = strconv.ParseBool(text); err != nil {
			err = errors.New("expected true or false")
		}
	case "offline_grace":
		c.OfflineGrace, err = ParseDuration(text)
	}
	return err
}

// has reports whether an item of the list at node has a key.
func has(node *yaml.Node, key string) bool {
	for _, item := range node.Content {
		for i := 0; i+1 < len(item.Content); i += 2 {
			if item.Content[i].Value == key {
				return true
			}
		}
	}
	return false
}
