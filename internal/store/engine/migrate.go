package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"
)

const versionTable = "schema_versions"

// migrations is how a driver changes its schema.
type migrations struct {
	dialect goose.Dialect
	open    func() (*sql.DB, error) // a handle of its own, closed afterwards
	exists  string                  // a SELECT with a row if versionTable is there
	// supported returns an error if the database is too old. It is nil if none is.
	supported func(*Tx) error
	// lock keeps other processes from migrating until release is called. It is nil if the database does that by itself.
	lock func(ctx context.Context, handle *sql.DB) (release func(), err error)
}

// Migrate applies those of files that the schema does not have yet, in the order of their numbers, and returns their
// names. Each file is a transaction. Processes that migrate at the same time share the work. A file that PostgreSQL
// rolls back because others use the tables in another order (a deadlock) is tried again. Migrate returns an error if
// the schema is newer than files or the database is too old.
func (e *Engine) Migrate(ctx context.Context, files fs.FS) (applied []string, err error) {
	for tries := 1; ; tries++ {
		pending, err := e.Pending(ctx, files)
		if err != nil || len(pending) == 0 {
			return applied, err
		}
		names, err := e.up(ctx, files)
		applied = append(applied, names...)
		if err == nil {
			return applied, nil
		}
		pg := (*pgconn.PgError)(nil)
		deadlock := errors.As(err, &pg) && pg.Code == "40P01" && tries < 30 // PostgreSQL takes a second to notice one
		// Another process may have applied the next one first.
		if left, again := e.Pending(ctx, files); !deadlock && (again != nil || len(left) >= len(pending)) {
			return applied, Fault("migrate", err)
		}
	}
}

// up applies files until one fails, and returns the names of those that it applied.
func (e *Engine) up(ctx context.Context, files fs.FS) (applied []string, err error) {
	m := e.migrations()
	handle, err := m.open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, handle.Close()) }()
	if m.lock != nil {
		release, err := m.lock(ctx, handle)
		if err != nil {
			return nil, Fault("migrate", err)
		}
		defer release()
	}
	provider, err := goose.NewProvider(m.dialect, handle, files,
		goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return nil, err
	}
	results, err := provider.Up(ctx)
	if partial := (*goose.PartialError)(nil); errors.As(err, &partial) {
		results = partial.Applied
	}
	for _, r := range results {
		applied = append(applied, nameOf(r.Source.Path))
	}
	return applied, err
}

// Pending returns the names of the files that Migrate would apply. It changes nothing. It returns an error if the
// schema is newer than files.
func (e *Engine) Pending(ctx context.Context, files fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, fmt.Errorf("store: migrations: %w", err)
	}
	var current, newest int64
	err = e.View(ctx, func(tx *Tx) error {
		there := false
		m := e.migrations()
		if m.supported != nil {
			if err := m.supported(tx); err != nil {
				return err
			}
		}
		err := tx.Query(m.exists, nil, func(func(...any) error) error {
			there = true
			return nil
		})
		if err != nil || !there {
			return err
		}
		return tx.Query("SELECT COALESCE(MAX(version_id), 0) FROM "+versionTable, nil,
			func(scan func(...any) error) error { return scan(&current) })
	})
	if err != nil {
		return nil, err
	}
	var pending []string
	for _, entry := range entries {
		number, _, _ := strings.Cut(entry.Name(), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("store: migration %s: %w", entry.Name(), err)
		}
		newest = max(newest, version)
		if version > current {
			pending = append(pending, nameOf(entry.Name()))
		}
	}
	if current > newest {
		return nil, fmt.Errorf("database: its schema has version %d, and this cardea knows only up to %d; a schema does "+
			"not go back: use a newer cardea, or restore a backup from before the upgrade", current, newest)
	}
	return pending, nil
}

func nameOf(file string) string { return strings.SplitN(path.Base(file), ".", 2)[0] }
