package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

const versionTable = "schema_versions"

// migrations is how an engine changes its schema.
type migrations struct {
	dialect goose.Dialect
	options []goose.ProviderOption
	open    func() (*sql.DB, error) // a handle of its own, closed afterwards
	exists  string                  // a SELECT with a row if versionTable is there
}

// Migrate brings the schema up to date and returns the names of the migrations it
// applied, none if there was nothing to do. Each is a transaction: all or
// nothing. Processes that migrate at once wait for each other. A schema newer
// than this program is an error.
func (db *DB) Migrate(ctx context.Context) (applied []string, err error) {
	if pending, err := db.Pending(ctx); err != nil || len(pending) == 0 {
		return nil, err
	}
	m := db.engine.migrations()
	handle, err := m.open()
	if err != nil {
		return nil, fault("migrate", err)
	}
	defer func() { err = errors.Join(err, handle.Close()) }()
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return nil, fmt.Errorf("store: migrate: %w", err)
	}
	options := append([]goose.ProviderOption{
		goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()),
	}, m.options...)
	provider, err := goose.NewProvider(m.dialect, handle, files, options...)
	if err != nil {
		return nil, fmt.Errorf("store: migrate: %w", err)
	}
	results, err := provider.Up(ctx)
	if err != nil {
		// Another process may have been quicker: then there is nothing left to do.
		if pending, again := db.Pending(ctx); again == nil && len(pending) == 0 {
			return nil, nil
		}
		return nil, fault("migrate", err)
	}
	for _, r := range results {
		applied = append(applied, nameOf(r.Source.Path))
	}
	return applied, nil
}

// Pending returns the names of the migrations that Migrate would apply. It
// changes nothing. A schema newer than this program is an error.
func (db *DB) Pending(ctx context.Context) ([]string, error) {
	files, err := migrationFiles.ReadDir("migrations")
	if err != nil {
		return nil, fmt.Errorf("store: migrations: %w", err)
	}
	var current, newest int64
	err = db.View(ctx, func(tx *Tx) error {
		var there int
		switch err := tx.row(db.engine.migrations().exists, nil, &there); {
		case errors.Is(err, ErrNotFound):
			return nil
		case err != nil:
			return err
		}
		return tx.row("SELECT COALESCE(MAX(version_id), 0) FROM "+versionTable, nil, &current)
	})
	if err != nil {
		return nil, err
	}
	var pending []string
	for _, file := range files {
		number, _, _ := strings.Cut(file.Name(), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("store: migration %s: %w", file.Name(), err)
		}
		newest = max(newest, version)
		if version > current {
			pending = append(pending, nameOf(file.Name()))
		}
	}
	if current > newest {
		return nil, fmt.Errorf("store: the schema of the database has version %d, and this cardea knows %d: use a newer cardea", current, newest)
	}
	return pending, nil
}

func nameOf(file string) string { return strings.TrimSuffix(path.Base(file), ".sql") }
