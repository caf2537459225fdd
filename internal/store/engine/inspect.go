package engine

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/cardea-auth/cardea/internal/audit"
)

// ErrNoFile is returned by Inspect if there is no SQLite file, and Open can create it.
var ErrNoFile = errors.New("store: the database file does not exist yet")

// inspectWithin is the longest time that Inspect waits for a database.
const inspectWithin = 5 * time.Second

// Inspect opens a database that exists, as store.Inspect describes.
func Inspect(ctx context.Context, dsn string, config Config) (*Engine, error) {
	path, isSQLite := sqlitePath(dsn)
	if isSQLite {
		look, err := inspectSQLite(ctx, config, path)
		if err != nil {
			return nil, err
		}
		return &Engine{look}, nil
	}
	e, err := Open(ctx, dsn, config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, inspectWithin)
	defer cancel()
	if err := e.View(ctx, writable); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return &Engine{reader{e.driver}}, nil
}

// writable returns an error if PostgreSQL accepts no writes.
func writable(tx *Tx) error {
	readOnly := ""
	err := tx.Query("SELECT current_setting('transaction_read_only')", nil,
		func(scan func(...any) error) error { return scan(&readOnly) })
	if err == nil && readOnly == "on" {
		err = errors.New("database: PostgreSQL accepts no writes, because it is a standby or read-only; name the " +
			"primary in the URL")
	}
	return err
}

// reader is a driver that does not write.
type reader struct{ driver }

func (reader) update(context.Context, func(*Tx) error) error { return errReadOnly }

func (reader) append(context.Context, []audit.Event) error { return errReadOnly }

// inspection is the driver of a SQLite file that is only read, by one connection.
type inspection struct {
	config Config
	path   string
	handle *sql.DB
}

// inspectSQLite opens the file at path and takes its write lock once, because that fails where a write would.
func inspectSQLite(ctx context.Context, config Config, path string) (reader, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0) // #nosec G304 -- the operator's path
	if errors.Is(err, fs.ErrNotExist) {
		if err = creatable(filepath.Dir(path)); err == nil {
			return reader{}, ErrNoFile
		}
	}
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		return reader{}, Fault("inspect", &fileError{path, err})
	}
	logged := hasLog(path) // it is not to be gone afterwards
	handle, err := openFile(path, "mode", "rw", "_pragma", "busy_timeout(3000)")
	if err != nil {
		return reader{}, Fault("inspect", &fileError{path, err})
	}
	handle.SetMaxOpenConns(1)
	if logged {
		c, err := handle.Conn(ctx)
		if err == nil {
			err = errors.Join(keepLog(c), c.Close())
		}
		if err != nil {
			return reader{}, errors.Join(Fault("inspect", &fileError{path, err}), handle.Close())
		}
	}
	s := &inspection{config: config, path: path, handle: handle}
	for _, statement := range []string{"BEGIN IMMEDIATE", "ROLLBACK"} {
		if _, err := handle.ExecContext(ctx, statement); err != nil {
			return reader{}, errors.Join(Fault("inspect", &fileError{path, err}), handle.Close())
		}
	}
	return reader{s}, nil
}

// creatable returns an error unless files can be created in dir, or dir itself can be. It leaves nothing behind.
func creatable(dir string) error {
	for {
		info, err := os.Stat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir):
			dir = filepath.Dir(dir)
			continue
		case err != nil:
			return err
		case !info.IsDir():
			return &fs.PathError{Op: "mkdir", Path: dir, Err: errors.New("it is not a folder")}
		}
		file, err := os.CreateTemp(dir, ".cardea-*")
		if err != nil {
			return err
		}
		return errors.Join(file.Close(), os.Remove(file.Name()))
	}
}

func (s *inspection) update(context.Context, func(*Tx) error) error { return errReadOnly }

func (s *inspection) append(context.Context, []audit.Event) error { return errReadOnly }

func (s *inspection) view(ctx context.Context, fn func(*Tx) error) error {
	err := call(fn, &Tx{Now: s.config.Now(), trace: s.config.Trace, on: s.handle, io: ctx, readOnly: true})
	if err != nil && Cause(err) != "" {
		return &fileError{s.path, err}
	}
	return err
}

func (s *inspection) migrations() migrations {
	return migrations{dialect: goose.DialectSQLite3, exists: sqliteExists}
}

func (s *inspection) stats() Stats { return Stats{} }

func (s *inspection) unlogged() bool { return false }

func (s *inspection) keepLog() {} // it did when it opened the file

func (s *inspection) checkpoint(context.Context) error { return nil }

func (s *inspection) patience() time.Duration { return 0 }

func (s *inspection) room() (free uint64, known bool) { return room(s.path) }

func (s *inspection) skew(context.Context) (time.Duration, error) { return 0, nil }

func (s *inspection) close() error { return s.handle.Close() }
