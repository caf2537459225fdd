package config

import (
	"errors"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/cardea-auth/cardea/internal/ledger"
)

// WebhookKeys are the keys of an entry of audit.webhooks.
var WebhookKeys = []string{"name", "url", "secret", "secret_file", "actions", "format"}

// webhooks says how audit.webhooks is read.
var webhooks = &entries[ledger.Webhook]{
	key: "audit.webhooks", keys: WebhookKeys, sample: "name: siem",
	example: `[{"name":"siem","url":"https://…","secret_file":"…"}]`,
	set:     setWebhook, check: checkWebhook,
}

// setWebhook sets one key of a webhook.
func setWebhook(w *ledger.Webhook, key string, node *yaml.Node) error {
	text, err := scalar(node)
	if err != nil {
		return err
	}
	switch key {
	case "name":
		w.Name = text
	case "url":
		w.URL = text
	case "secret":
		w.Secret = text
	case "secret_file":
		w.Secret, err = ReadSecret(text)
	case "actions":
		w.Actions = words(text)
	case "format":
		w.Format = text
	}
	return err
}

// checkWebhook checks a webhook, which follows those before.
func checkWebhook(w *ledger.Webhook, before []ledger.Webhook, given func(string) bool) error {
	if given("secret") && given("secret_file") {
		return errors.New("secret and secret_file are both set; keep one")
	}
	if _, err := w.Receiver(); err != nil {
		return err
	}
	same := func(other ledger.Webhook) bool { return other.Name == w.Name }
	if w.Name == "syslog" || slices.ContainsFunc(before, same) {
		return fmt.Errorf("name: %s is taken; choose another name", w.Name)
	}
	return nil
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
