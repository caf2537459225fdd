package admin

import (
	"context"

	"github.com/cardea-auth/cardea/internal/store"
)

// Setting is a key of the configuration with its value, as a running server has it.
type Setting struct {
	Key   string `json:"key"`
	Value string `json:"value"` // secrets masked; "" for none
	From  string `json:"from"`  // "default", "file", "environment" or "flag"
}

// Settings returns the effective configuration of the server that answers, in the order of the documentation. Secrets
// are masked. Only owners, auditors and commands may read it, because it names what is behind the server.
func (o *Operations) Settings(ctx context.Context, by Caller) (settings []Setting, err error) {
	err = o.look(ctx, by, Settings, func(*store.Tx) error {
		settings = append([]Setting{}, o.Configuration...)
		return nil
	})
	return settings, err
}
