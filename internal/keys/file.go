package keys

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cardea-auth/cardea/internal/store"
)

// ReadMaster returns the master key in the file that the operator configured. It fails if every user of the machine has
// access to the file. If only its group has, it calls warn, because files provided by Kubernetes or systemd are
// readable by their group.
func ReadMaster(path string, warn func(sentence string)) (Master, error) {
	master, err := readMaster(path, func(mode fs.FileMode) error {
		switch {
		case mode&0o007 != 0:
			return exposed(path, "every user of this machine")
		case mode&0o070 != 0:
			warn(exposed(path, "its group").Error())
		}
		return nil
	})
	if err != nil {
		return Master{}, fmt.Errorf("master_key_file: %w", err)
	}
	return master, nil
}

// OwnMaster returns the master key in the file at path, which belongs to db. It fails if others than the file's owner
// have access to it. If the file does not exist, OwnMaster creates it, unless db already contains keys sealed with a
// master key.
func OwnMaster(ctx context.Context, path string, db *store.DB) (Master, error) {
	master, err := FindMaster(ctx, path, db)
	if !errors.Is(err, fs.ErrNotExist) {
		return master, err
	}
	_, text := NewMaster()
	if err := writeOnce(path, text+"\n"); err != nil {
		return Master{}, err
	}
	return FindMaster(ctx, path, db)
}

// FindMaster is like OwnMaster, and creates nothing: its error wraps fs.ErrNotExist where OwnMaster creates the file.
func FindMaster(ctx context.Context, path string, db *store.DB) (Master, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if sealed := checkUnsealed(ctx, path, db); sealed != nil {
			return Master{}, sealed
		}
		return Master{}, err
	}
	return readMaster(path, func(mode fs.FileMode) error {
		if mode&0o077 != 0 {
			return exposed(path, "users other than its owner")
		}
		return nil
	})
}

// exposed returns the error for a master key that others can read.
func exposed(path, by string) error {
	return fmt.Errorf("the master key %s can be read by %s; run: chmod 600 %s, and rotate the keys if it may have "+
		"been read", path, by, path)
}

// readMaster reads a master key from the file at path. It fails if judge returns an error for the file's mode.
func readMaster(path string, judge func(fs.FileMode) error) (Master, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return Master{}, fmt.Errorf("the master key cannot be read: %w; check the path and its permissions", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err != nil {
		return Master{}, fmt.Errorf("the master key cannot be read: %w; check the path and its permissions", err)
	}
	if info.Mode().IsRegular() { // a pipe has no other readers
		if err := judge(info.Mode()); err != nil {
			return Master{}, err
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, 1<<10))
	if err != nil {
		return Master{}, fmt.Errorf("the master key cannot be read: %w; check the path and its permissions", err)
	}
	master, err := ParseMaster(string(text))
	if err != nil {
		return Master{}, fmt.Errorf("%s: %w", path, err)
	}
	return master, nil
}

// checkUnsealed returns an error if db contains keys, because those are sealed with the master key that is missing.
func checkUnsealed(ctx context.Context, path string, db *store.DB) error {
	return db.View(ctx, func(tx *store.Tx) error {
		sealed, err := tx.Keys()
		if err == nil && len(sealed) > 0 {
			return fmt.Errorf("the master key %s is missing, but the keys in the database are sealed with it; "+
				"name its file in master_key_file, or restore the file from a backup", path)
		}
		return err
	})
}

// writeOnce atomically creates the file with its content, readable only by its owner. If the file exists, because
// another process was first, it is left as it is.
func writeOnce(path, text string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("the data folder cannot be created: %w", err)
	}
	draft, err := os.CreateTemp(dir, ".master-*") // mode 0600
	if err != nil {
		return fmt.Errorf("the master key cannot be written: %w", err)
	}
	defer os.Remove(draft.Name()) //nolint:errcheck // at most a second name of the file is left
	_, err = draft.WriteString(text)
	if err = errors.Join(err, draft.Sync(), draft.Close()); err != nil {
		return fmt.Errorf("the master key cannot be written: %w", err)
	}
	if err := os.Link(draft.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("the master key cannot be written: %w", err)
	}
	return nil
}
