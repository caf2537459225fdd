package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/cardea-auth/cardea/internal/store"
)

type migrateCommand struct {
	DryRun bool `help:"Only show the statements that would be executed."`
	output
}

// A migration is a step of the schema with what it executes.
type migration struct {
	Name       string   `json:"name"`
	Statements []string `json:"statements"`
}

func (c *migrateCommand) Run(ctx context.Context, sh *shell) error {
	loaded, err := sh.load(nil)
	if err != nil {
		return err
	}
	if c.DryRun {
		return c.show(ctx, sh, loaded.Database)
	}
	db, err := store.Open(ctx, loaded.Database, store.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	applied, err := db.Migrate(ctx)
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	answer := struct {
		Applied []string `json:"applied"`
		Pending []string `json:"pending"`
	}{append([]string{}, applied...), []string{}}
	return c.print(sh, answer, func(t *table) {
		if len(applied) == 0 {
			t.Row("the schema is up to date")
		}
		for _, name := range applied {
			t.Row("applied", name)
		}
	})
}

// show tells what Run would do to the database at dsn. It changes nothing, and does not create the database.
func (c *migrateCommand) show(ctx context.Context, sh *shell, dsn string) error {
	pending, err := unapplied(ctx, dsn)
	if err != nil {
		return err
	}
	answer := struct {
		Applied    []string    `json:"applied"`
		Pending    []string    `json:"pending"`
		Migrations []migration `json:"migrations"`
	}{[]string{}, []string{}, []migration{}}
	for _, name := range pending {
		statements, err := store.Statements(dsn, name)
		if err != nil {
			return err
		}
		answer.Pending = append(answer.Pending, name)
		answer.Migrations = append(answer.Migrations, migration{name, statements})
	}
	err = c.print(sh, answer, func(t *table) {
		if len(pending) == 0 {
			t.Row("the schema is up to date")
		}
		for _, name := range pending {
			t.Row("pending", name)
		}
	})
	if err != nil || c.Output == "json" {
		return err
	}
	for _, m := range answer.Migrations {
		if _, err := fmt.Fprintf(sh.out, "\n-- %s\n%s;\n", m.Name, strings.Join(m.Statements, ";\n")); err != nil {
			return err
		}
	}
	return nil
}

// unapplied returns the migrations that the database at dsn does not have yet, all of them if it does not exist.
func unapplied(ctx context.Context, dsn string) ([]string, error) {
	db, err := store.Inspect(ctx, dsn, store.Options{Logger: slog.New(slog.DiscardHandler)})
	if errors.Is(err, store.ErrNoFile) {
		return store.MigrationNames(), nil
	}
	if err != nil {
		return nil, err
	}
	pending, err := db.Pending(ctx)
	return pending, errors.Join(err, db.Close())
}
