package store

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store/engine"
)

// ErrNotSQLite is returned by Backup and Restore for a database that has tools of its own for that.
var ErrNotSQLite = engine.ErrNotSQLite

// Contents describes a backup.
type Contents = engine.Contents

// NotBackupError says why a file cannot be restored.
type NotBackupError = engine.NotBackupError

// Backup writes a backup of the SQLite database that dsn names to a new file at path, with access for its owner only.
// The database may be in use; the backup has its state at one moment. It contains everything but the master key. Before
// the file gets its name it is read and compared with the database, and check is called with it, open to be read;
// Backup returns its error. After an error there is no file. Backup returns an error that wraps fs.ErrExist if
// there is one already, ErrNoFile if there is no database, and ErrNotSQLite if it is another one.
func Backup(ctx context.Context, dsn, path string, check func(*DB) error) (Contents, error) {
	return engine.Backup(ctx, dsn, path, time.Now(), func(dsn string) (err error) {
		db, err := Inspect(ctx, dsn, Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		return check(db)
	})
}

// ReadBackup returns what is in the backup at path, or a *NotBackupError if it is not a whole backup.
func ReadBackup(ctx context.Context, path string) (Contents, error) {
	return engine.ReadBackup(ctx, path)
}

// Restore makes the SQLite database that dsn names from the backup at path, and brings its schema up to date. Before it
// gets its name, finish is called with it; Restore returns its error. After an error there is no database. Restore
// returns an error that wraps fs.ErrExist, and changes nothing, if there is a database already; a *NotBackupError if
// the file is not a whole backup; and ErrNotSQLite if dsn names another database.
func Restore(ctx context.Context, dsn, path string, finish func(*DB, Contents) error) (Contents, error) {
	return engine.Restore(ctx, dsn, path, func(dsn string, c Contents) (err error) {
		db, err := Open(ctx, dsn, Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		if _, err := db.Migrate(ctx); err != nil {
			return err
		}
		return finish(db, c)
	})
}

// inUse is the setting that a SQLite database has while a server uses it.
const inUse = "in_use"

// Use marks a SQLite database as used by a server until Close, and reports whether it may be the copy of one that was:
// it is marked, and has no write-ahead log beside it, which the original has. What was written last is missing from a
// copy. Use may be called again, because Close removes the mark.
func (db *DB) Use(ctx context.Context) (copied bool, err error) {
	first := !db.using
	err = db.Update(ctx, func(tx *Tx) error {
		n, err := tx.exec("INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING",
			args{inUse, tx.now.Format(time.RFC3339)})
		copied = err == nil && n == 0 && first && db.engine.Unlogged()
		return err
	})
	if err == nil && first {
		db.using = true
		err = db.engine.Checkpoint(ctx) // so that a copy of the file has the mark
	}
	return copied, err
}

// leave removes the mark of Use.
func (db *DB) leave() {
	if !db.using {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeWithin)
	defer cancel()
	if err := db.Update(ctx, (*Tx).unmark); err != nil {
		db.log.Warn("the database could not be marked as not in use", "error", err)
	}
}

func (tx *Tx) unmark() error {
	_, err := tx.exec("DELETE FROM settings WHERE name = $1", args{inUse})
	return err
}

// Rewound is what Rewind ended.
type Rewound struct {
	Codes, Links, Invitations, Sessions, Grants int
}

// Rewind makes a database that was restored to an earlier state safe to use. What could be used once, and may have been
// used in the time that is missing, ends: authorization codes and the grants that wait for one, links and codes that
// were sent by mail, answers of an external sign-in, the setup link, invitations. Sessions end. Codes of authenticator
// apps count only from the next minute on. With grants, all other grants end too, because those that were revoked or
// refreshed in the missing time would count again. Places in status lists that may have been given in the missing time
// are not given again, because tokens that have them may live. Rewind makes every process discard what it has in
// memory, and notes the time for EventsRestored.
func (tx *Tx) Rewind(grants bool) (r Rewound, err error) {
	now := micros(tx.now)
	step := tx.now.Unix()/30 + 1 // RFC 6238 §5.2; one more, because clocks may differ
	which := " AND last_used_at IS NULL"
	if grants {
		which = ""
	}
	ignored := 0
	for _, s := range []struct {
		count *int
		query string
		args  args
	}{
		{&r.Codes, "UPDATE codes SET spent_at = $1 WHERE spent_at IS NULL", args{now}},
		{&r.Links, "UPDATE one_time SET spent_at = $1 WHERE spent_at IS NULL", args{now}},
		{&ignored, "DELETE FROM external_logins", nil},
		{&ignored, "UPDATE setup SET hash = NULL, expires_at = NULL WHERE done_at IS NULL", nil},
		{&r.Invitations, "UPDATE invitations SET expires_at = $1 WHERE expires_at > $1", args{now}},
		{&r.Sessions, "DELETE FROM sessions WHERE expires_at > $1", args{now}},
		{&ignored, "UPDATE totp SET last_step = $1 WHERE last_step < $1", args{step}},
		{&r.Grants, "UPDATE grants SET revoked_at = $1, revoked_reason = $2 WHERE revoked_at IS NULL " +
			"AND expires_at > $1" + which, args{now, "restore"}},
	} {
		n, err := tx.exec(s.query, s.args)
		if err != nil {
			return r, err
		}
		*s.count += int(n)
	}
	for _, kind := range []string{oauth.GrantStatus, oauth.MachineStatus} {
		if _, err := tx.nextStatus(kind, oauth.StatusListSize); err != nil {
			return r, err
		}
	}
	if err := errors.Join(tx.unmark(), tx.noteRestored()); err != nil {
		return r, err
	}
	tx.ended(Everything, "")
	for _, kind := range []Kind{Clients, Keys, Resources} {
		tx.Touch(kind)
	}
	return r, nil
}
