package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/cardea-auth/cardea/internal/ledger"
)

// WebhookKeys are the keys of an entry of audit.webhooks.
var WebhookKeys = []string{"name", "url", "secret", "secret_file", "actions", "format"}

// parseWebhooks parses the list as one YAML or JSON text, as an environment variable has it.
func parseWebhooks(text string) ([]ledger.Webhook, error) {
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(text), &document); err != nil || document.Kind == 0 {
		return nil, errors.New(`expected a list like [{"name":"siem","url":"https://…","secret_file":"…"}]`)
	}
	return readWebhooks("audit.webhooks", document.Content[0])
}

// readWebhooks reads the list at a node of the file at path.
func readWebhooks(path string, node *yaml.Node) ([]ledger.Webhook, error) {
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return nil, nil
	}
	if node.Kind != yaml.SequenceNode {
		return nil, errors.New("expected a list whose items begin with - name: …")
	}
	var all []ledger.Webhook
	for _, item := range node.Content {
		w, err := readWebhook(item)
		if err == nil {
			_, err = w.Receiver()
		}
		if err == nil && (w.Name == "syslog" || slices.ContainsFunc(all, func(other ledger.Webhook) bool {
			return other.Name == w.Name
		})) {
			err = fmt.Errorf("name: %s is taken; choose another name", w.Name)
		}
		if err != nil {
			return nil, &placed{fmt.Errorf("%s:%d: audit.webhooks: %w", path, item.Line, err)}
		}
		all = append(all, w)
	}
	return all, nil
}

func readWebhook(item *yaml.Node) (w ledger.Webhook, err error) {
	if item.Kind != yaml.MappingNode {
		return w, errors.New("expected keys with values, such as name: siem")
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(item.Content); i += 2 {
		key := item.Content[i].Value
		text, err := scalar(item.Content[i+1])
		switch {
		case !slices.Contains(WebhookKeys, key):
			return w, fmt.Errorf("unknown key %q; the nearest known one is %q", key, nearest(key, WebhookKeys))
		case seen[key]:
			return w, fmt.Errorf("%s is set twice; remove one", key)
		case err != nil:
			return w, fmt.Errorf("%s: %w", key, err)
		}
		seen[key] = true
		switch key {
		case "name":
			w.Name = text
		case "url":
			w.URL = text
		case "secret":
			w.Secret = text
		case "secret_file":
			if w.Secret, err = readSecret(text); err != nil {
				return w, fmt.Errorf("secret_file: %w", err)
			}
		case "actions":
			w.Actions = strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
		case "format":
			w.Format = text
		}
	}
	if seen["secret"] && seen["secret_file"] {
		return w, errors.New("secret and secret_file are both set; keep one")
	}
	return w, nil
}

// checkAudit checks what belongs to the audit log.
func checkAudit(c *Config) error {
	if c.Audit.Syslog == "" {
		return nil
	}
	if _, err := ledger.Syslog(c.Audit.Syslog); err != nil {
		return fmt.Errorf("audit.syslog: %w", err)
	}
	return nil
}
