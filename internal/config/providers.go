package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/cardea-auth/cardea/internal/upstream"
)

// placed is an error that names its place in the file.
type placed struct{ error }

// ProviderKeys are the keys of an entry of login.providers.
var ProviderKeys = []string{"id", "preset", "name", "issuer", "client_id", "client_secret",
	"client_secret_file", "domains", "create", "link", "groups_claim", "group_map", "check_at_refresh", "offline_grace"}

// loginPages are ids that no provider may have, because other pages below /login have these names or may get them. The
// pages of LoginMethods have the names of the methods.
var loginPages = []string{"callback", "code", "external", "factor", "link", "recovery", "second", "second-factor",
	"totp"}

// parseProviders parses the list as one YAML or JSON text, as an environment variable has it.
func parseProviders(text string) ([]upstream.Config, error) {
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(text), &document); err != nil || document.Kind == 0 {
		return nil, errors.New(`expected a list like [{"id":"google","preset":"google","client_id":"…"}]`)
	}
	return readProviders("login.providers", document.Content[0])
}

// readProviders reads the list at a node of the file at path.
func readProviders(path string, node *yaml.Node) ([]upstream.Config, error) {
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return nil, nil
	}
	if node.Kind != yaml.SequenceNode {
		return nil, errors.New("expected a list whose items begin with - id: …")
	}
	var all []upstream.Config
	for _, item := range node.Content {
		c, err := readProvider(path, item)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(other upstream.Config) bool { return other.ID == c.ID }) {
			return nil, fault(path, item, "id: two providers are called %s; give one of them another id", c.ID)
		}
		all = append(all, c)
	}
	return all, nil
}

// fault returns an error for a provider at a node of the file.
func fault(path string, node *yaml.Node, format string, a ...any) error {
	return &placed{fmt.Errorf("%s:%d: login.providers: "+format, append([]any{path, node.Line}, a...)...)}
}

// readProvider reads one provider.
func readProvider(path string, item *yaml.Node) (upstream.Config, error) {
	c := upstream.Config{OfflineGrace: upstream.DefaultOfflineGrace}
	if item.Kind != yaml.MappingNode {
		return c, fault(path, item, "expected keys with values, such as id: google")
	}
	values := map[string]*yaml.Node{}
	for i := 0; i+1 < len(item.Content); i += 2 {
		key := item.Content[i]
		switch {
		case !slices.Contains(ProviderKeys, key.Value):
			return c, fault(path, key, "unknown key %q; the nearest known one is %q", key.Value,
				nearest(key.Value, ProviderKeys))
		case values[key.Value] != nil:
			return c, fault(path, key, "%s is set twice; remove one", key.Value)
		}
		values[key.Value] = item.Content[i+1]
	}
	for _, key := range ProviderKeys { // in their order, so that the same file has the same error
		if node := values[key]; node != nil {
			if err := setProvider(&c, key, node); err != nil {
				return c, fault(path, node, "%s: %w", key, err)
			}
		}
	}
	if values["client_secret"] != nil && values["client_secret_file"] != nil {
		return c, fault(path, item, "client_secret and client_secret_file are both set; keep one")
	}
	if values["create"] == nil {
		c.Create = len(c.Domains) > 0
	}
	if slices.Contains(LoginMethods, c.ID) || slices.Contains(loginPages, c.ID) {
		return c, fault(path, item, "id: %s is the name of another page of /login; choose another", c.ID)
	}
	if err := c.Settle(); err != nil {
		return c, fault(path, item, "%w", err)
	}
	return c, nil
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
		c.ClientSecret, err = readSecret(text)
	case "domains":
		c.Domains = strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
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

// readSecret returns the secret in a file, without the end of its line.
func readSecret(path string) (string, error) {
	file, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return "", fmt.Errorf("the file cannot be read: %w; check the path and its permissions", err)
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, 64<<10))
	if err != nil {
		return "", fmt.Errorf("the file cannot be read: %w; check the path and its permissions", err)
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("the file %s is empty", path)
	}
	return secret, nil
}
