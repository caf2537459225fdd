package store

import (
	"context"
	"io/fs"
	"slices"
	"strings"
	"testing/fstest"
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

// MigrateInto is MigrateTo with one more statement at the end of that migration.
func (db *DB) MigrateInto(ctx context.Context, newest, statement string) ([]string, error) {
	source := db.migrations()
	entries, err := fs.ReadDir(source, ".")
	if err != nil {
		return nil, err
	}
	files := fstest.MapFS{}
	for _, e := range entries {
		name, _, _ := strings.Cut(e.Name(), ".")
		if name > newest {
			continue
		}
		text, err := fs.ReadFile(source, e.Name())
		if err != nil {
			return nil, err
		}
		if name == newest {
			text = append(text, "\n"+statement+";\n"...)
		}
		files[e.Name()] = &fstest.MapFile{Data: text}
	}
	return db.migrate(ctx, files)
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
