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

// ReadMaster returns the master key in the file that an operator names. A file that
// every user of the machine may read is an error. One that its group may read goes
// to warn, because secrets that Kubernetes or systemd hand over are so.
func ReadMaster(path string, warn func(sentence string)) (Master, error) {
	return readMaster(path, func(mode fs.FileMode) error {
		switch {
		case mode&0o007 != 0:
			return exposed(path, "every user of this machine")
		case mode&0o070 != 0:
			warn(exposed(path, "its group").Error())
		}
		return nil
	})
}

// OwnMaster returns the master key in the file at path, which only its owner may be
// able to read. If there is no such file, it is made, unless db holds keys that were
// sealed with another.
func OwnMaster(ctx context.Context, path string, db *store.DB) (Master, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if err := makeMaster(ctx, path, db); err != nil {
			return Master{}, err
		}
	}
	return readMaster(path, func(mode fs.FileMode) error {
		if mode&0o077 != 0 {
			return exposed(path, "others than its owner")
		}
		return nil
	})
}

// exposed is the error for a master key that somebody else may read.
func exposed(path, by string) error {
	return fmt.Errorf("the master key %s can be read by %s; run: chmod 600 %s, and rotate the keys if somebody may have read it", path, by, path)
}

// readMaster reads the file whose mode judge lets pass.
func readMaster(path string, judge func(fs.FileMode) error) (Master, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return Master{}, fmt.Errorf("the master key cannot be read: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err != nil {
		return Master{}, fmt.Errorf("the master key cannot be read: %w", err)
	}
	if info.Mode().IsRegular() { // a pipe is between two processes
		if err := judge(info.Mode()); err != nil {
			return Master{}, err
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, 1<<10))
	if err != nil {
		return Master{}, fmt.Errorf("the master key cannot be read: %w", err)
	}
	master, err := ParseMaster(string(text))
	if err != nil {
		return Master{}, fmt.Errorf("%s: %w", path, err)
	}
	return master, nil
}

// makeMaster writes a new master key, unless db is sealed with another.
func makeMaster(ctx context.Context, path string, db *store.DB) error {
	err := db.View(ctx, func(tx *store.Tx) error {
		sealed, err := tx.Keys()
		if err == nil && len(sealed) > 0 {
			return fmt.Errorf("the master key %s is missing, and the keys in the database are sealed with it; put it back from your backup", path)
		}
		return err
	})
	if err != nil {
		return err
	}
	_, text := NewMaster()
	return writeOnce(path, text+"\n")
}

// writeOnce makes the file with its content at one stroke, readable only by its owner.
// If another process made it first, that one stays.
func writeOnce(path, text string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("the data folder cannot be made: %w", err)
	}
	draft, err := os.CreateTemp(dir, ".master-*") // mode 0600
	if err != nil {
		return fmt.Errorf("the master key cannot be written: %w", err)
	}
	defer os.Remove(draft.Name()) //nolint:errcheck // a second name at most
	_, err = draft.WriteString(text)
	if err = errors.Join(err, draft.Sync(), draft.Close()); err != nil {
		return fmt.Errorf("the master key cannot be written: %w", err)
	}
	if err := os.Link(draft.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("the master key cannot be written: %w", err)
	}
	return nil
}
