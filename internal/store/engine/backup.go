package engine

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	modernc "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// ErrNotSQLite is returned for a database that is not a SQLite file: it has tools of its own for backups.
var ErrNotSQLite = errors.New("store: the database is not a SQLite file, so its own tools make and restore backups")

// NotBackupError says why a file cannot be restored.
type NotBackupError struct {
	Path string
	Why  string // after "it"
}

func (e *NotBackupError) Error() string { return e.Path + ": it " + e.Why }

// Contents describes a backup.
type Contents struct {
	MadeAt time.Time
	Schema int64            // version of its newest migration
	Rows   map[string]int64 // number of rows by table
	Bytes  int64            // size of the file
	SHA256 string           // of the file, in hexadecimal; ReadBackup leaves it out
}

// contentsTable is the table that only a backup has. It has one row, which describes the backup.
const contentsTable = "cardea_backup"

// stepPages is how many pages are copied before Backup looks whether it is to stop.
const stepPages = 1024

// Backup writes a backup of the SQLite database that dsn names to a new file at path, with access for its owner only,
// and returns what is in it. It does not delay those who write meanwhile; the backup has the state of the database at
// one moment, and nothing that was deleted before.
//
// Backup reads the file again before it gets its name: it is whole, and has as many rows of each table as the database
// had at that moment. Then check is called with the DSN of the file; Backup returns its error. After an error there is
// no file at path. Backup returns an error that wraps fs.ErrExist if there was one before, ErrNoFile if there is no
// database or nothing in it, and ErrNotSQLite for another database.
func Backup(ctx context.Context, dsn, path string, now time.Time, check func(dsn string) error) (
	c Contents, err error) {
	source, isSQLite := sqlitePath(dsn)
	if !isSQLite {
		return c, ErrNotSQLite
	}
	if _, err := os.Stat(source); errors.Is(err, fs.ErrNotExist) {
		return c, ErrNoFile
	}
	path, err = filepath.Abs(path) // SQLite would take a relative one that begins with file: for a URI
	if err != nil {
		return c, err
	}
	reserved, err := reserve(path)
	if err != nil {
		return c, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, reserved.free())
		}
	}()
	first, err := scratch(path)
	if err != nil {
		return c, err
	}
	defer first.remove()
	second, err := scratch(path)
	if err != nil {
		return c, err
	}
	defer second.remove()

	rows, err := copyPages(ctx, source, string(first))
	if full := (*modernc.Error)(nil); errors.As(err, &full) && full.Code()&0xff == sqlite3.SQLITE_FULL {
		return c, Fault("back up", &fileError{path, err}) // only the copy grows
	}
	if err != nil {
		return c, Fault("back up", &fileError{source, err})
	}
	if len(rows) == 0 {
		return c, ErrNoFile
	}
	// Free pages still hold what was deleted. VACUUM INTO leaves them out.
	if err := compact(ctx, string(first), string(second), Contents{MadeAt: now, Rows: rows}); err != nil {
		return c, Fault("back up", &fileError{path, err})
	}
	if c, err = ReadBackup(ctx, string(second)); err != nil {
		return c, fmt.Errorf("store: the backup is not good: %w", err)
	}
	if !maps.Equal(c.Rows, rows) {
		return c, errors.New("store: the backup does not have the rows that the database had")
	}
	if check != nil {
		if err := check("sqlite:" + string(second)); err != nil {
			return c, err
		}
	}
	if c.SHA256, err = digest(string(second)); err != nil {
		return c, err
	}
	return c, second.become(path)
}

// copyPages copies the pages of the database at from to the empty file at to, and returns the number of rows of its
// tables. Both are read in one transaction, which sees one state and makes nobody wait.
func copyPages(ctx context.Context, from, to string) (rows map[string]int64, err error) {
	logged := hasLog(from) // it is not to be gone afterwards
	handle, err := openFile(from, "mode", "rw", "_pragma", "busy_timeout(10000)")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, handle.Close()) }()
	c, err := handle.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if logged {
		if err := keepLog(c); err != nil {
			return nil, err
		}
	}
	if _, err := c.ExecContext(ctx, "BEGIN"); err != nil {
		return nil, err
	}
	defer func() { _, _ = c.ExecContext(context.WithoutCancel(ctx), "ROLLBACK") }() // nothing was written
	if rows, err = count(ctx, c); err != nil {
		return nil, err
	}
	return rows, c.Raw(func(raw any) error {
		source, ok := raw.(interface {
			NewBackup(to string) (*modernc.Backup, error)
		})
		if !ok {
			return fmt.Errorf("store: %T makes no backups", raw)
		}
		backup, err := source.NewBackup(fileURI(to))
		if err != nil {
			return err
		}
		for more := true; more && err == nil; {
			if err = ctx.Err(); err == nil {
				more, err = backup.Step(stepPages)
			}
		}
		return errors.Join(err, backup.Finish())
	})
}

// count returns the number of rows of each table but that of the backup itself.
func count(ctx context.Context, c *sql.Conn) (map[string]int64, error) {
	tables, err := texts(ctx, c, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' "+
		"ESCAPE '\\' AND name <> '"+contentsTable+"'")
	if err != nil {
		return nil, err
	}
	rows := make(map[string]int64, len(tables))
	for _, table := range tables {
		n := int64(0)
		// The name is one of the schema, in quotes.
		if err := c.QueryRowContext(ctx, `SELECT COUNT(*) FROM "`+table+`"`).Scan(&n); err != nil { // #nosec G202
			return nil, err
		}
		rows[table] = n
	}
	return rows, nil
}

// texts returns the only column of a query.
func texts(ctx context.Context, c *sql.Conn, query string) (all []string, err error) {
	found, err := c.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, found.Close()) }()
	for found.Next() {
		var text string
		if err := found.Scan(&text); err != nil {
			return nil, err
		}
		all = append(all, text)
	}
	return all, found.Err()
}

// compact writes the database at from, of which nobody else knows, to the empty file at to, and what describes it.
func compact(ctx context.Context, from, to string, contents Contents) error {
	err := alone(ctx, from, func(c *sql.Conn) error {
		if _, err := c.ExecContext(ctx, "PRAGMA journal_mode = DELETE"); err != nil {
			return err
		}
		_, err := c.ExecContext(ctx, "VACUUM INTO ?", to)
		return err
	})
	if err != nil {
		return err
	}
	return alone(ctx, to, func(c *sql.Conn) error {
		if err := c.QueryRowContext(ctx, "SELECT COALESCE(MAX(version_id), 0) FROM "+versionTable).
			Scan(&contents.Schema); err != nil {
			return err
		}
		rows, err := json.Marshal(contents.Rows)
		if err != nil {
			return err
		}
		for _, s := range []struct {
			statement string
			args      []any
		}{
			{"PRAGMA synchronous = FULL", nil},
			{"CREATE TABLE " + contentsTable + " (made_at BIGINT NOT NULL, schema BIGINT NOT NULL, " +
				"row_counts TEXT NOT NULL)", nil},
			{"INSERT INTO " + contentsTable + " (made_at, schema, row_counts) VALUES (?, ?, ?)",
				[]any{contents.MadeAt.UnixMicro(), contents.Schema, string(rows)}},
		} {
			if _, err := c.ExecContext(ctx, s.statement, s.args...); err != nil {
				return err
			}
		}
		return nil
	})
}

// alone runs fn with a connection to the file at path.
func alone(ctx context.Context, path string, fn func(*sql.Conn) error, parameters ...string) (err error) {
	handle, err := openFile(path, append([]string{"mode", "rw"}, parameters...)...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, handle.Close()) }()
	c, err := handle.Conn(ctx)
	if err != nil {
		return err
	}
	return errors.Join(fn(c), c.Close())
}

// ReadBackup returns what is in the backup at path. It returns a *NotBackupError if the file is not a backup, or not a
// whole one: SQLite finds a fault in it, or rows are missing.
func ReadBackup(ctx context.Context, path string) (c Contents, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return c, &fileError{path, err}
	}
	c.Bytes = info.Size()
	bad := func(format string, a ...any) error { return &NotBackupError{path, fmt.Sprintf(format, a...)} }
	err = alone(ctx, path, func(conn *sql.Conn) error {
		tables, err := texts(ctx, conn, "SELECT name FROM sqlite_master WHERE name = '"+contentsTable+"'")
		if err != nil {
			return bad("is not a whole SQLite database (%v)", err)
		}
		if len(tables) == 0 {
			return bad("was not written by cardea backup; the copied file of a running database lacks what was " +
				"written last")
		}
		var madeAt int64
		var text string
		if err := conn.QueryRowContext(ctx, "SELECT made_at, schema, row_counts FROM "+contentsTable).
			Scan(&madeAt, &c.Schema, &text); err != nil {
			return bad("does not describe itself (%v)", err)
		}
		c.MadeAt = time.UnixMicro(madeAt).UTC()
		var told map[string]int64
		if err := json.Unmarshal([]byte(text), &told); err != nil {
			return bad("does not describe itself (%v)", err)
		}
		faults, err := texts(ctx, conn, "PRAGMA integrity_check(1)")
		switch {
		case err != nil:
			return bad("is damaged (%v)", err)
		case !slices.Equal(faults, []string{"ok"}):
			return bad("is damaged (%v)", faults)
		}
		orphans, err := texts(ctx, conn, `SELECT "table" FROM pragma_foreign_key_check LIMIT 1`)
		switch {
		case err != nil:
			return bad("is damaged (%v)", err)
		case len(orphans) > 0:
			return bad("is damaged: rows of %s refer to rows that are missing", orphans[0])
		}
		if c.Rows, err = count(ctx, conn); err != nil {
			return bad("is damaged (%v)", err)
		}
		for table, n := range told {
			if c.Rows[table] != n {
				return bad("is damaged: %s has %d rows, and had %d when it was written", table, c.Rows[table], n)
			}
		}
		if len(c.Rows) != len(told) {
			return bad("was changed after it was written: it has other tables")
		}
		return nil
	}, "_pragma", "query_only(1)")
	return c, err
}

// Restore makes the SQLite database that dsn names from the backup at path. Before it gets its name, finish is called
// with the DSN of a copy, which it may change; Restore returns its error. After an error there is no database.
// Restore returns an error that wraps fs.ErrExist, and changes nothing, if there is a database, or what is left of
// one; a *NotBackupError if the file is not a whole backup; and ErrNotSQLite if dsn is another database.
func Restore(ctx context.Context, dsn, path string, finish func(dsn string, c Contents) error) (c Contents, err error) {
	target, isSQLite := sqlitePath(dsn)
	if !isSQLite {
		return c, ErrNotSQLite
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return c, Fault("create the folder of the database", &fileError{target, err})
	}
	for _, suffix := range append([]string{""}, sidecars...) {
		if _, err := os.Lstat(target + suffix); !errors.Is(err, fs.ErrNotExist) {
			return c, &fs.PathError{Op: "restore", Path: target + suffix, Err: cmp.Or(err, fs.ErrExist)}
		}
	}
	reserved, err := reserve(target)
	if err != nil {
		return c, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, reserved.free())
		}
	}()
	work, err := scratch(target)
	if err != nil {
		return c, err
	}
	defer work.remove()
	if err := copyFile(path, string(work)); err != nil {
		return c, err
	}
	if c, err = ReadBackup(ctx, string(work)); err != nil { // what is judged is what is used
		if not := (*NotBackupError)(nil); errors.As(err, &not) {
			not.Path = path
		}
		return c, err
	}
	if c.SHA256, err = digest(string(work)); err != nil {
		return c, err
	}
	if err := alone(ctx, string(work), func(conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, "DROP TABLE "+contentsTable)
		return err
	}); err != nil {
		return c, Fault("restore", &fileError{target, err})
	}
	if err := finish("sqlite:"+string(work), c); err != nil {
		return c, err
	}
	if _, err := os.Lstat(string(work) + "-wal"); err == nil {
		return c, errors.New("store: another program has opened the database that is being restored; try again")
	}
	return c, work.become(target)
}

// digest returns the SHA-256 of a file in hexadecimal.
func digest(path string) (_ string, err error) {
	f, err := os.Open(path) // #nosec G304 -- made by scratch
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	hash := sha256.New()
	_, err = io.Copy(hash, f)
	return hex.EncodeToString(hash.Sum(nil)), err
}

// sidecars are what the files of a SQLite database are called after its name.
var sidecars = []string{"-wal", "-shm", "-journal"}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from) // #nosec G304 -- the operator names it
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_TRUNC, 0o600) // #nosec G304 -- made by scratch
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

// place is the path of an empty file that keeps others from using the name.
type place string

// reserve creates an empty file at path. Its error wraps fs.ErrExist if there is one.
func reserve(path string) (place, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // #nosec G304 -- the operator names it
	if err != nil {
		return "", err
	}
	return place(path), f.Close()
}

// free removes the file unless it was used.
func (p place) free() error {
	if info, err := os.Stat(string(p)); err != nil || info.Size() > 0 {
		return nil
	}
	return os.Remove(string(p))
}

// temporary is the path of a file that is being made.
type temporary string

// scratch creates an empty file beside path, with access for its owner only.
func scratch(path string) (temporary, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".partial-*")
	if err != nil {
		return "", err
	}
	return temporary(f.Name()), f.Close()
}

// remove removes what is left of the file.
func (t temporary) remove() {
	_ = os.Remove(string(t)) // it usually has another name by now
	for _, suffix := range sidecars {
		_ = os.Remove(string(t) + suffix)
	}
}

// become gives the file its name, once it is on disk.
func (t temporary) become(path string) error {
	f, err := os.OpenFile(string(t), os.O_RDWR, 0) // #nosec G304 -- made by scratch
	if err == nil {
		err = errors.Join(f.Chmod(0o600), f.Sync(), f.Close())
	}
	if err == nil {
		err = os.Rename(string(t), path)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path)) // #nosec G304 -- so that the name is on disk too
	if err != nil {
		return err
	}
	_ = dir.Sync() // not every file system can
	return dir.Close()
}
