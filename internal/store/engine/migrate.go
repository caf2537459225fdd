package engine

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"path"
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

// Applied returns the numbers of the migrations that the schema has; an empty one has none. It changes nothing. It
// returns an error if the database is too old.
func (e *Engine) Applied(ctx context.Context) (map[int64]bool, error) {
	applied := map[int64]bool{}
	err := e.View(ctx, func(tx *Tx) error {
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
		// The first row, 0, is of the table itself.
		return tx.Query("SELECT version_id FROM "+versionTable+" WHERE version_id > 0", nil,
			func(scan func(...any) error) error {
				number := int64(0)
				err := scan(&number)
				applied[number] = true
				return err
			})
	})
	return applied, err
}

// Migrate applies those of files that the schema does not have yet, in the order of their numbers, until one fails, and
// returns the names of those that it applied. Each file is a transaction.
func (e *Engine) Migrate(ctx context.Context, files fs.FS) (applied []string, err error) {
	m := e.migrations()
	handle, err := m.open()
	if err != nil {
		return nil, err
	}
	defer func() { err = Fault("migrate", errors.Join(err, handle.Close())) }()
	if m.lock != nil {
		release, err := m.lock(ctx, handle)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	provider, err := goose.NewProvider(m.dialect, handle, files, goose.WithTableName(versionTable),
		goose.WithAllowOutofOrder(true), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return nil, err
	}
	results, err := provider.Up(ctx)
	if partial := (*goose.PartialError)(nil); errors.As(err, &partial) {
		results = partial.Applied
	}
	for _, r := range results {
		applied = append(applied, strings.SplitN(path.Base(r.Source.Path), ".", 2)[0])
	}
	return applied, err
}

// Deadlocked reports whether PostgreSQL has rolled back a transaction because others use the tables in another order.
// It takes a second to notice that.
func Deadlocked(err error) bool {
	pg := (*pgconn.PgError)(nil)
	return errors.As(err, &pg) && pg.Code == "40P01"
}
