package store

import (
	"context"
	"io/fs"
	"slices"
	"strings"
)

// Trace has the databases that are opened afterwards tell fn every statement before
// it runs.
func Trace(fn func(query string, args []any)) { onStatement = fn }

// MigrateTo is Migrate up to the migration of that name, as a program would do it of which it is the newest.
func (db *DB) MigrateTo(ctx context.Context, newest string) ([]string, error) {
	return db.MigrateOnly(ctx, func(name string) bool { return name <= newest })
}

// MigrateOnly is Migrate by a program that has the migrations for which has returns true.
func (db *DB) MigrateOnly(ctx context.Context, has func(name string) bool) ([]string, error) {
	return db.migrate(ctx, someFiles{db.migrations().(fs.ReadDirFS), has})
}

// someFiles has some of the files of a folder.
type someFiles struct {
	fs.ReadDirFS
	has func(name string) bool
}

func (f someFiles) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := f.ReadDirFS.ReadDir(name)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		name, _, _ := strings.Cut(e.Name(), ".")
		return !f.has(name)
	}), err
}
