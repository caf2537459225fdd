package store

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cardea-auth/cardea/internal/store/engine"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// Migrations returns the files of the schema, which are part of the program.
func Migrations() fs.FS {
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		panic(err) // the name is a valid path
	}
	return files
}

// dialectOf returns what the database that dsn names is called in the names of migrations.
func dialectOf(dsn string) string {
	if strings.HasPrefix(dsn, "sqlite:") {
		return "sqlite"
	}
	return "postgres"
}

// own are the migrations of a database: those of all, and NUMBER_WHAT.DIALECT.sql.
type own struct {
	fs.FS
	dialect string
}

// ReadDir implements fs.ReadDirFS.
func (o own) ReadDir(folder string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(o.FS, folder)
	return slices.DeleteFunc(entries, func(entry fs.DirEntry) bool {
		_, kind, _ := strings.Cut(entry.Name(), ".")
		return kind != "sql" && kind != o.dialect+".sql"
	}), err
}

func (db *DB) migrations() fs.FS { return own{Migrations(), db.dialect} }

// compatibleSince is the number of the migration that makes the table schema_compatible.
const compatibleSince = 17

// Migrate brings the schema up to date and returns the names of the migrations that it applied, in the order of their
// numbers. One that a later program puts between others is applied too. Each migration is a transaction. Processes that
// migrate at the same time share the work. A migration that PostgreSQL rolls back because others use the tables in
// another order (a deadlock) is tried again. Migrate returns an error if a newer program has changed the schema so that
// this one cannot work with it.
func (db *DB) Migrate(ctx context.Context) (applied []string, err error) {
	applied, err = db.migrate(ctx, db.migrations())
	if err == nil {
		err = db.fillNames(ctx)
	}
	return applied, err
}

func (db *DB) migrate(ctx context.Context, files fs.FS) (applied []string, err error) {
	for tries := 1; ; tries++ {
		pending, ahead, err := db.compare(ctx, files)
		if err != nil {
			return applied, err
		}
		if len(pending) == 0 {
			if ahead > 0 {
				db.log.Warn("a newer cardea has changed the schema of the database; this one works with it, so that "+
					"you can upgrade one server after the other: upgrade this one too", "migrations", ahead)
			}
			return applied, nil
		}
		names, err := db.engine.Migrate(ctx, files)
		applied = append(applied, names...)
		if err == nil {
			continue
		}
		// Another process may have applied the next one first.
		left, _, again := db.compare(ctx, files)
		if (!engine.Deadlocked(err) || tries >= 30) && (again != nil || len(left) >= len(pending)) {
			return applied, err
		}
	}
}

// Pending returns the names of the migrations that Migrate would apply. It changes nothing. It returns an error if a
// newer program has changed the schema so that this one cannot work with it.
func (db *DB) Pending(ctx context.Context) ([]string, error) {
	pending, _, err := db.compare(ctx, db.migrations())
	return pending, err
}

// compare returns the names of those of files that the schema does not have, and how many migrations it has that files
// do not. It returns an error unless each of these says that a program works with it of which the newest is that of
// files.
func (db *DB) compare(ctx context.Context, files fs.FS) (pending []string, ahead int, err error) {
	applied, err := db.engine.Applied(ctx)
	if err != nil {
		return nil, 0, err
	}
	names, err := migrationNames(files)
	if err != nil {
		return nil, 0, err
	}
	newest, dated := int64(0), applied[compatibleSince]
	for _, name := range names {
		number, err := numberOf(name)
		if err != nil {
			return nil, 0, err
		}
		newest = max(newest, number)
		if !applied[number] {
			pending = append(pending, name)
		}
		delete(applied, number)
	}
	if len(applied) == 0 {
		return pending, 0, nil
	}
	needs := map[int64]int64{}
	if dated {
		err = db.View(ctx, func(tx *Tx) error {
			return tx.rows("SELECT version, down_to FROM schema_compatible", nil, func(scan func(...any) error) error {
				var version, downTo int64
				err := scan(&version, &downTo)
				needs[version] = downTo
				return err
			})
		})
		if err != nil {
			return nil, 0, err
		}
	}
	for _, number := range slices.Sorted(maps.Keys(applied)) {
		if downTo, said := needs[number]; !said || downTo > newest {
			return nil, 0, fmt.Errorf("database: its schema has migration %d of a newer cardea, with which this one "+
				"cannot work; a schema does not go back: use a newer cardea, or restore a backup from before the "+
				"upgrade", number)
		}
	}
	return pending, len(applied), nil
}

// numberOf returns the number with which the name of a migration begins.
func numberOf(name string) (int64, error) {
	digits, _, _ := strings.Cut(name, "_")
	number, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("store: migration %s: its name does not begin with a number: %w", name, err)
	}
	return number, nil
}

// MigrationNames returns the names of all migrations, in their order.
func MigrationNames() []string {
	names, err := migrationNames(Migrations())
	if err != nil {
		panic(err) // they are in the program
	}
	return names
}

// migrationNames returns the names of files, in their order.
func migrationNames(files fs.FS) (names []string, err error) {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, fmt.Errorf("store: migrations: %w", err)
	}
	for _, entry := range entries {
		name, _, _ := strings.Cut(entry.Name(), ".")
		names = append(names, name)
	}
	return slices.Compact(names), nil
}

// Statements returns the SQL statements of a migration that Pending or Migrate named, as the database that dsn names
// gets them, in their order and without comments. It returns an error if there is no such migration.
func Statements(dsn, migration string) ([]string, error) {
	text, err := fs.ReadFile(Migrations(), migration+".sql")
	if err != nil {
		text, err = fs.ReadFile(Migrations(), migration+"."+dialectOf(dsn)+".sql")
	}
	if err != nil {
		return nil, fmt.Errorf("store: migration: %w", err)
	}
	var statements []string
	var one strings.Builder
	quoted, comment, whole := false, false, false
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case bytes.HasPrefix(text[i:], []byte(beginWhole)):
			whole, comment = true, true
		case bytes.HasPrefix(text[i:], []byte(endWhole)):
			whole, comment = false, true
		case comment:
			comment = c != '\n'
		case c == '\'':
			quoted = !quoted
		case !quoted && c == '-' && i+1 < len(text) && text[i+1] == '-':
			comment = true
		}
		if comment {
			continue
		}
		if c == ';' && !quoted && (!whole || bytes.HasPrefix(bytes.TrimSpace(text[i+1:]), []byte(endWhole))) {
			statements = append(statements, tidy(one.String()))
			one.Reset()
			continue
		}
		one.WriteByte(c)
	}
	return statements, nil
}

// Between these lines is one statement, even if it has semicolons.
const beginWhole, endWhole = "-- +goose StatementBegin", "-- +goose StatementEnd"

// blanks are the spaces at the end of a line, and empty lines.
var blanks = regexp.MustCompile(`[ \t]*\n(?:[ \t]*\n)*`)

// tidy returns a statement without what is left of its comments.
func tidy(statement string) string {
	return strings.TrimSpace(blanks.ReplaceAllString(statement, "\n"))
}

// Begins reports whether migrations that Pending or Migrate returned begin with the first one, which means that the
// database is empty, or was.
func Begins(migrations []string) bool {
	return len(migrations) > 0 && strings.HasPrefix(migrations[0], "0001_")
}
