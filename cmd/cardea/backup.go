package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/store"
)

type backupCommand struct {
	File string `arg:"" name:"file" help:"The file to write. It must not exist."`
	output
}

// Help is shown below the usage.
func (c *backupCommand) Help() string {
	return "It works beside a running server. The file has everything but the master key, which seals the signing " +
		"keys in it: keep that elsewhere. PostgreSQL is backed up with pg_dump."
}

// backup is what cardea backup has written.
type backup struct {
	File      string       `json:"file"`
	State     admin.Moment `json:"state"` // the file has the database as it was then
	Schema    int64        `json:"schema"`
	Bytes     int64        `json:"bytes"`
	Rows      int64        `json:"rows"`
	SHA256    string       `json:"sha256"`     // of the file
	MasterKey string       `json:"master_key"` // "fits", or "not_here"
}

func (c *backupCommand) Run(ctx context.Context, sh *shell) error {
	if c.File == "" {
		return usageError("the name of the file to write is empty; name a new file")
	}
	loaded, err := sh.load(nil)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(loaded.Database, "sqlite:") {
		return advise("a PostgreSQL database is backed up with its own tools: pg_dump --format=custom --file=%s, with "+
			"the URL of the database; keep the master key elsewhere", plain(c.File))
	}
	b := backup{File: c.File, MasterKey: "not_here"}
	var absent error
	contents, err := store.Backup(ctx, loaded.Database, c.File, func(db *store.DB) error {
		master, err := sh.masterKeyOr(ctx, loaded.Config, db, keys.FindMaster)
		if err != nil {
			absent = err
			return nil
		}
		b.MasterKey = "fits"
		return fits(ctx, db, master)
	})
	if err != nil {
		return toFile(err, c.File)
	}
	b.State, b.Schema, b.Bytes = admin.Moment{Time: contents.MadeAt}, contents.Schema, contents.Bytes
	b.SHA256 = contents.SHA256
	for _, n := range contents.Rows {
		b.Rows += n
	}
	if absent != nil {
		sh.warn("the backup is whole, but whether its keys can be opened was not tried: " + absent.Error())
	}
	return c.print(sh, b, func(t *table) {
		t.Row("written", b.File)
		t.Row("size", fmt.Sprintf("%s in %s", count(int(b.Rows), "row"), count(int(b.Bytes), "byte")))
		t.Row("state of", b.State.String())
		t.Row("sha-256", b.SHA256)
		if b.MasterKey == "fits" {
			t.Row("master key", "opens its signing keys; it is not in the file, so keep it elsewhere")
		} else {
			t.Row("master key", "was not tried; it is not in the file, so keep it elsewhere")
		}
	})
}

// fits returns an error unless the master key opens the keys in db.
func fits(ctx context.Context, db *store.DB, master keys.Master) error {
	ring := keys.New(db, master)
	if err := ring.Examine(ctx); err != nil {
		return err
	}
	_, err := ring.Algs(ctx)
	return err
}

// toFile says what to do about an error of the file that a command was to write.
func toFile(err error, file string) error {
	path := (*fs.PathError)(nil)
	switch {
	case errors.Is(err, store.ErrNoFile):
		return advise("there is no database to back up; cardea config print says where it would be")
	case errors.Is(err, fs.ErrExist):
		return advise("%s exists, and a backup never overwrites a file; choose another name", plain(file))
	case errors.As(err, &path) && errors.Is(err, syscall.ENOSPC):
		return advise("%s cannot be written: the disk is full; make room, or choose a file on another", plain(file))
	case errors.As(err, &path):
		return advise("%s cannot be written: %v; choose a file in a folder that exists and that this account may "+
			"write to", plain(file), path.Err)
	}
	return err
}

type restoreCommand struct {
	File       string `arg:"" optional:"" name:"file" help:"A file that cardea backup wrote."`
	SHA256     string `name:"sha256" placeholder:"HEX" help:"Restore only the file that cardea backup said to have this SHA-256, so that nobody can have changed it."`
	InPlace    bool   `help:"The database was already restored with other tools, such as pg_restore: only end what must not count again."`
	EndGrants  bool   `help:"End what people have allowed, so that nothing counts again that ended since. Agents ask them once more. With a file, this is the default."`
	KeepGrants bool   `help:"Keep it, although what was revoked since then counts again, and refresh tokens that were used since."`
	output
}

// Help is shown below the usage.
func (c *restoreCommand) Help() string {
	return "Stop the server first. There must be no database yet where the configuration says, and the master key of " +
		"the backup must be there. Sessions, codes, links and invitations end in any case. PostgreSQL is restored " +
		"with pg_restore; then run cardea restore --in-place."
}

func (c *restoreCommand) Run(ctx context.Context, sh *shell) error {
	loaded, err := sh.load(nil)
	if err != nil {
		return err
	}
	switch {
	case c.EndGrants && c.KeepGrants:
		return usageError("--end-grants and --keep-grants exclude each other; give only one of them")
	case c.SHA256 != "" && c.InPlace:
		return usageError("--sha256 is of a file, and --in-place restores none; leave one of them out")
	case (c.File == "") == !c.InPlace:
		return usageError("name the backup to restore, or give --in-place if the database was already restored with " +
			"other tools")
	case c.InPlace:
		return c.inPlace(ctx, sh, loaded.Config)
	}
	if info, err := os.Stat(c.File); err == nil && !info.Mode().IsRegular() { // to open a pipe would wait
		what := "it is not an ordinary file"
		if info.IsDir() {
			what = "it is a folder"
		}
		return advise("%s cannot be restored: %s; name a file that cardea backup wrote", plain(c.File), what)
	}
	if !strings.HasPrefix(loaded.Database, "sqlite:") {
		if _, err := store.ReadBackup(ctx, c.File); err == nil {
			return advise("%s is a backup of a SQLite database, and the configured database is PostgreSQL; restore it "+
				"with SQLite. To move to PostgreSQL, cardea export and cardea apply take MCP servers, groups and "+
				"clients along, and neither people nor grants", plain(c.File))
		}
		return advise("a PostgreSQL database is restored with its own tools: pg_restore --dbname=URL %s, into an "+
			"empty database; then run: cardea restore --in-place", plain(c.File))
	}
	if f, err := os.Open(c.File); err != nil { // SQLite does not say why it cannot
		return fromFile(err, c.File)
	} else if err := f.Close(); err != nil {
		return err
	}
	if isDump(c.File) {
		return advise("%s is a dump of a PostgreSQL database, and the configured database is SQLite; name the one to "+
			"restore into with --database, and use pg_restore", plain(c.File))
	}
	if _, err := store.ReadBackup(ctx, c.File); err != nil { // before what is there already is looked at
		return fromFile(err, c.File)
	}
	var done admin.Restored
	_, err = store.Restore(ctx, loaded.Database, c.File, func(db *store.DB, contents store.Contents) (err error) {
		if c.SHA256 != "" && !strings.EqualFold(c.SHA256, contents.SHA256) {
			return advise("%s has the SHA-256 %s, and not that of --sha256, so it was changed, or is another backup; "+
				"restore the one that you mean", plain(c.File), contents.SHA256)
		}
		master, err := sh.masterKeyOr(ctx, loaded.Config, db, keys.FindMaster)
		switch {
		case errors.Is(err, fs.ErrNotExist) && loaded.MasterKeyFile == "": // nothing is sealed: no server has run
		case err != nil:
			return advise("the backup needs the master key that it was made with, which is never in it; put it into "+
				"the data folder, or name it with master_key_file: %v", err)
		default:
			if err := fits(ctx, db, master); err != nil {
				return err
			}
		}
		done, err = (&admin.Operations{DB: db}).Restored(ctx, caller(), contents.MadeAt, !c.KeepGrants)
		return err
	})
	if err != nil {
		return fromFile(err, c.File)
	}
	return c.tell(sh, done)
}

// isDump reports whether a file is what pg_dump --format=custom writes.
func isDump(file string) bool {
	f, err := os.Open(file) // #nosec G304 -- the operator names it
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // it was only read
	begin := make([]byte, 5)
	_, err = io.ReadFull(f, begin)
	return err == nil && string(begin) == "PGDMP"
}

// inPlace ends what must not count again in a database that other tools have restored. Its state is that of its newest
// event.
func (c *restoreCommand) inPlace(ctx context.Context, sh *shell, conf config.Config) error {
	there, err := store.Inspect(ctx, conf.Database, store.Options{})
	if errors.Is(err, store.ErrNoFile) {
		return errEmpty
	}
	if err != nil {
		return err
	}
	pending, err := there.Pending(ctx)
	if err = errors.Join(err, there.Close()); err != nil {
		return err
	}
	if store.Begins(pending) {
		return errEmpty
	}
	return sh.operateKeys(ctx, func(o *admin.Operations, by admin.Caller) error {
		var state time.Time
		err := o.DB.View(ctx, func(tx *store.Tx) error {
			newest, _, err := tx.Events(store.EventFilter{}, store.Page{Newest: true, Limit: 1})
			if err == nil && len(newest) > 0 {
				state = newest[0].At
			}
			return err
		})
		if err != nil {
			return err
		}
		if !c.EndGrants && !c.KeepGrants { // it may be the database of a live server
			return undecided(state)
		}
		done, err := o.Restored(ctx, by, state, c.EndGrants)
		if err != nil {
			return err
		}
		return c.tell(sh, done)
	})
}

var errEmpty = advise("there is no restored database; restore it first, or name the one that was restored with " +
	"--database")

// undecided says what going back in time means, and asks for a decision.
func undecided(state time.Time) error {
	return usageError(fmt.Sprintf("the database has the state of %s, %s ago. What was revoked, disabled or "+
		"changed since then counts again as it was: access that people or operators ended, and refresh tokens that "+
		"were used. Decide: --end-grants ends everybody's grants, so that agents ask people once more; --keep-grants "+
		"keeps them", admin.Moment{Time: state}, age(time.Since(state))))
}

// age returns a length of time in its largest unit.
func age(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return count(int(d.Hours()/24), "day")
	case d >= 2*time.Hour:
		return count(int(d.Hours()), "hour")
	case d >= 2*time.Minute:
		return count(int(d.Minutes()), "minute")
	}
	return count(max(0, int(d.Seconds())), "second")
}

// fromFile says what to do about an error of the file that a command was to read.
func fromFile(err error, file string) error {
	path := (*fs.PathError)(nil)
	not := (*store.NotBackupError)(nil)
	switch {
	case errors.As(err, &not):
		return advise("%s cannot be restored: it %s; take another backup", plain(not.Path), plain(not.Why))
	case errors.As(err, &path) && errors.Is(err, fs.ErrExist):
		return advise("%s exists, and restore never overwrites an installation; move it away first, with the files "+
			"beside it", plain(path.Path))
	case errors.As(err, &path) && errors.Is(err, syscall.ENOSPC):
		return advise("the disk of %s is full; make room", plain(filepath.Dir(path.Path)))
	case errors.As(err, &path):
		return advise("%s: %v; check the path and its permissions", plain(path.Path), path.Err)
	}
	return err
}

// tell prints what was ended, and what an operator should do now.
func (c *restoreCommand) tell(sh *shell, done admin.Restored) error {
	since := done.State.String()
	fmt.Fprintf(sh.errs, "cardea: note: what happened after %s, in the last %s, is not in this database: accounts, "+
		"clients and passwords are as they were, and the audit log ends "+
		"there\n", since, age(time.Since(done.State.Time)))
	fmt.Fprintln(sh.errs, "cardea: note: signing keys that were retired since then sign again (cardea key list), and "+
		"access tokens that were issued since then live until they expire (cardea key rotate --now, and then "+
		"cardea key retire KID for each key that cardea key list shows as verifying, end them)")
	switch {
	case done.EndedGrants && !c.EndGrants && done.Grants > 0:
		fmt.Fprintln(sh.errs, "cardea: note: what people have allowed was ended, because some of it may have ended "+
			"since then, and agents ask them once more; to keep it, restore into an empty installation with "+
			"--keep-grants")
	case !done.EndedGrants:
		fmt.Fprintln(sh.errs, "cardea: note: grants that were revoked since then count again; cardea grant list shows "+
			"what is in force")
	}
	return c.print(sh, done, func(t *table) {
		t.Row("state of", since)
		for _, ended := range []struct {
			n    int
			what string
		}{{done.Grants, "grants"}, {done.Codes, "codes"}, {done.Links, "links"}, {done.Invitations, "invitations"},
			{done.Sessions, "sessions"}} {
			t.Row(ended.what+" ended", strconv.Itoa(ended.n))
		}
	})
}
