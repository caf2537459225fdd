package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/cardea-auth/cardea/internal/store"
)

type migrateCommand struct {
	DryRun bool `help:"Only show what would be done."`
	output
}

func (c *migrateCommand) Run(ctx context.Context, sh *shell) error {
	loaded, err := sh.load(nil)
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, loaded.Database, store.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	answer := struct {
		Applied []string `json:"applied"`
		Pending []string `json:"pending"`
	}{[]string{}, []string{}}
	if c.DryRun {
		var pending []string
		pending, err = db.Pending(ctx)
		answer.Pending = append(answer.Pending, pending...)
	} else {
		var applied []string
		applied, err = db.Migrate(ctx)
		answer.Applied = append(answer.Applied, applied...)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	return c.print(sh, answer, func(t *table) {
		if len(answer.Applied)+len(answer.Pending) == 0 {
			t.Row("the schema is up to date")
		}
		for _, name := range answer.Applied {
			t.Row("applied", name)
		}
		for _, name := range answer.Pending {
			t.Row("pending", name)
		}
	})
}
