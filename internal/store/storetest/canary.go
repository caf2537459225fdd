package storetest

import (
	"context"
	"encoding/json"
	"regexp"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/store"
)

// secret matches what must not be in an event: codes, tokens and secrets by their prefixes, signed tokens, hashes of
// passwords, keys, and the password of the people in tests.
var secret = regexp.MustCompile(`cardea_(?:ac|rt|cs|rat|iat)_[\w-]{16}|eyJ[\w-]{8,}\.eyJ[\w-]{8}|\$argon2id|` +
	`PRIVATE KEY|whsec_[\w+/=]{16}|correct horse`)

// keepSecrets (CS-01) fails the test if one of the newest events that db has recorded holds a secret, so that each kind
// of event that any test records is checked. It does not check a database that the test has broken.
func keepSecrets(t testing.TB, db *store.DB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = db.View(ctx, func(tx *store.Tx) error {
		events, _, err := tx.Events(store.EventFilter{}, store.Page{Newest: true, Limit: 500})
		for _, e := range events {
			text, err := json.Marshal(e)
			if err != nil {
				return err
			}
			if found := secret.Find(text); found != nil {
				t.Errorf("the event %s has a secret, %.14s…: %s", e.Action, found, text)
			}
		}
		return err
	})
}
