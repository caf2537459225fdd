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
	return db.engine.Migrate(ctx, upTo{db.migrations().(fs.ReadDirFS), newest})
}

// upTo has the files of a folder up to one of them.
type upTo struct {
	fs.ReadDirFS
	newest string
}

func (f upTo) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := f.ReadDirFS.ReadDir(name)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		name, _, _ := strings.Cut(e.Name(), ".")
		return name > f.newest
	}), err
}
