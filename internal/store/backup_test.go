package store_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// entries returns the names of the files in a folder.
func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range all {
		names = append(names, entry.Name())
	}
	return names
}

// unchecked is the last argument of Backup in tests that look at the file themselves.
func unchecked(*store.DB) error { return nil }

// pairs starts eight writers, which write pairs of settings, each in one transaction, until stop is called. It returns
// once some are acknowledged; begun is the number of pairs begun.
func pairs(t *testing.T, db *store.DB) (begun *atomic.Int64, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	begun = new(atomic.Int64)
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for ctx.Err() == nil {
				n := begun.Add(1)
				err := db.Update(context.WithoutCancel(ctx), func(tx *store.Tx) error {
					for _, name := range []string{"one ", "two "} {
						if _, err := tx.SetSettingOnce(name+strconv.FormatInt(n, 10), "v"); err != nil {
							return err
						}
					}
					return tx.Record(audit.Client("create", "mcp_1").Allow())
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	eventually(t, func() bool { return begun.Load() > 100 })
	return begun, func() {
		cancel()
		writers.Wait()
	}
}

// wholePairs checks that no transaction of pairs is there by half, and that settings of these names are there.
func wholePairs(t *testing.T, db *store.DB, begun int64, names ...string) {
	t.Helper()
	view(t, db, func(tx *store.Tx) error {
		for _, name := range names {
			if _, err := tx.Setting(name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for n := range begun {
			_, one := tx.Setting("one " + strconv.FormatInt(n+1, 10))
			_, two := tx.Setting("two " + strconv.FormatInt(n+1, 10))
			if (one == nil) != (two == nil) {
				t.Errorf("half of a transaction: %v, %v", one, two)
			}
		}
		return nil
	})
}

// FL-33: PostgreSQL is dumped by its own tool while others write, and restored.
func TestDumpUnderLoad(t *testing.T) {
	tool := func(name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(os.Getenv("CARDEA_POSTGRES_BIN"), name), args...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	dsn, clock := storetest.New(t, storetest.Postgres), storetest.NewClock()
	db := storetest.Connect(t, dsn, clock)
	people(t, db)
	begun, stop := pairs(t, db)
	update(t, db, func(tx *store.Tx) error { _, err := tx.SetSettingOnce("before", "v"); return err })
	file := filepath.Join(t.TempDir(), "one.dump")
	before := begun.Load()
	tool("pg_dump", "--format=custom", "--file="+file, dsn)
	stop()
	if begun.Load() == before {
		t.Error("nothing was written while the dump was taken")
	}
	target := storetest.Bare(t, storetest.Postgres)
	tool("pg_restore", "--no-owner", "--dbname="+target, file)
	restored := storetest.Connect(t, target, clock)
	update(t, restored, func(tx *store.Tx) error { _, err := tx.SetSettingOnce("after", "v"); return err })
	wholePairs(t, restored, begun.Load(), "before", "after")
	if pending, err := restored.Pending(t.Context()); err != nil || len(pending) > 0 {
		t.Errorf("%q, %v", pending, err)
	}
}

// FL-33: a backup is taken while others write. It has everything that was acknowledged before, is one state, and is
// restored to a database that goes on from there.
func TestBackupUnderLoad(t *testing.T) {
	dsn := storetest.New(t, storetest.SQLite)
	clock := storetest.NewClock()
	db := storetest.Connect(t, dsn, clock)
	people(t, db)
	begun, stop := pairs(t, db)
	dir := t.TempDir()
	file := filepath.Join(dir, "a backup?#%.db")
	update(t, db, func(tx *store.Tx) error { _, err := tx.SetSettingOnce("before", "v"); return err })
	opened := false
	contents, err := store.Backup(t.Context(), dsn, file, func(db *store.DB) error {
		opened = true
		return db.View(t.Context(), func(tx *store.Tx) error { _, err := tx.Setting("before"); return err })
	})
	stop()
	if err != nil || !opened {
		t.Fatalf("%v, opened: %v", err, opened)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if names := entries(t, dir); len(names) != 1 {
		t.Errorf("left behind: %q", names)
	}
	if contents.Rows["users"] != 1 || contents.Rows["events"] < 50 || contents.Schema == 0 || contents.Bytes == 0 {
		t.Errorf("%+v", contents)
	}
	if _, err := store.Backup(t.Context(), dsn, file, unchecked); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second one: %v", err)
	}

	target := "sqlite:" + filepath.Join(t.TempDir(), "new", "cardea.db")
	if _, err := store.Restore(t.Context(), target, file, func(db *store.DB, _ store.Contents) error {
		return db.Update(t.Context(), func(tx *store.Tx) error {
			_, err := tx.SetSettingOnce("after", "v")
			return err
		})
	}); err != nil {
		t.Fatal(err)
	}
	restored := storetest.Connect(t, target, clock)
	wholePairs(t, restored, begun.Load(), "before", "after")
	checkWhole(t, restored, nil)
	if pending, err := restored.Pending(t.Context()); err != nil || len(pending) > 0 {
		t.Errorf("%q, %v", pending, err)
	}
	for _, again := range []string{"", "-wal", "-journal"} {
		if again != "" {
			target = "sqlite:" + filepath.Join(t.TempDir(), "cardea.db")
			if err := os.WriteFile(strings.TrimPrefix(target, "sqlite:")+again, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := store.Restore(t.Context(), target, file, nil); !errors.Is(err, fs.ErrExist) {
			t.Errorf("over cardea.db%s: %v", again, err)
		}
	}
}

// What was deleted is not in a backup, and neither is a file if the backup fails.
func TestBackupLeavesNothing(t *testing.T) {
	dsn := storetest.New(t, storetest.SQLite)
	db := storetest.Connect(t, dsn, storetest.NewClock())
	user, _, _ := people(t, db)
	update(t, db, func(tx *store.Tx) error { return tx.DeleteUser(user.ID) })
	dir := t.TempDir()
	file := filepath.Join(dir, "backup.db")
	no := errors.New("no")
	if _, err := store.Backup(t.Context(), dsn, file, func(*store.DB) error { return no }); !errors.Is(err, no) {
		t.Errorf("%v", err)
	}
	if names := entries(t, dir); len(names) > 0 {
		t.Errorf("left behind: %q", names)
	}
	if _, err := store.Backup(t.Context(), dsn, file, unchecked); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(file)
	if err != nil || bytes.Contains(content, []byte(user.Email)) {
		t.Errorf("the deleted person is in the backup, %v", err)
	}
	for _, dsn := range []string{"sqlite:" + filepath.Join(dir, "none.db"), storetest.Bare(t, storetest.SQLite)} {
		if _, err := store.Backup(t.Context(), dsn, file+"2", unchecked); !errors.Is(err, store.ErrNoFile) {
			t.Errorf("without a database: %v", err)
		}
	}
	if _, err := store.Backup(t.Context(), "postgres://127.0.0.1/x", file+"2", unchecked); !errors.Is(err,
		store.ErrNotSQLite) {
		t.Errorf("PostgreSQL: %v", err)
	}
}

// A link that somebody laid where a file is to be written is not followed, wherever it leads.
func TestBackupFollowsNoLink(t *testing.T) {
	dsn := storetest.New(t, storetest.SQLite)
	good := filepath.Join(t.TempDir(), "good.db")
	if _, err := store.Backup(t.Context(), dsn, good, unchecked); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	elsewhere, link := filepath.Join(dir, "elsewhere"), filepath.Join(dir, "link")
	if err := os.Symlink(elsewhere, link); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Backup(t.Context(), dsn, link, unchecked); !errors.Is(err, fs.ErrExist) {
		t.Errorf("backup: %v", err)
	}
	if _, err := store.Restore(t.Context(), "sqlite:"+link, good, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("restore: %v", err)
	}
	if names := entries(t, dir); len(names) != 1 {
		t.Errorf("written: %q", names)
	}
}

// A file that is not a whole backup is not restored: neither the copied file of a running database, nor a backup that
// was cut or changed.
func TestNotABackup(t *testing.T) {
	dsn := storetest.New(t, storetest.SQLite)
	db := storetest.Connect(t, dsn, storetest.NewClock())
	user, client, resource := people(t, db)
	redeemed(t, db, user, client, resource)
	dir := t.TempDir()
	good := filepath.Join(dir, "good.db")
	if _, err := store.Backup(t.Context(), dsn, good, unchecked); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	running, err := os.ReadFile(strings.TrimPrefix(dsn, "sqlite:"))
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(whole, []byte(client.ID), []byte(strings.ToUpper(client.ID)), 1)
	for name, content := range map[string][]byte{
		"the file of a running database": running, "the first half": whole[:len(whole)/2/4096*4096],
		"without the last page": whole[:len(whole)-4096], "no database": []byte("hello"), "nothing": nil,
		"an id changed in a table but not in its index": changed,
	} {
		t.Run(name, func(t *testing.T) {
			file, target := filepath.Join(dir, oauth.NewID("f")), filepath.Join(t.TempDir(), "cardea.db")
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
			not := (*store.NotBackupError)(nil)
			if _, err := store.ReadBackup(t.Context(), file); !errors.As(err, &not) {
				t.Errorf("read: %v", err)
			}
			_, err := store.Restore(t.Context(), "sqlite:"+target, file,
				func(*store.DB, store.Contents) error { return nil })
			if !errors.As(err, &not) || not.Path != file {
				t.Errorf("restore: %v", err)
			}
			if names := entries(t, filepath.Dir(target)); len(names) > 0 {
				t.Errorf("left behind: %q", names)
			}
		})
	}
}

// A backup that a newer program made is not restored by one that cannot work with its schema, and leaves nothing.
func TestRestoreOfNewerSchema(t *testing.T) {
	dsn := storetest.New(t, storetest.SQLite)
	if _, err := rawly(t, dsn).ExecContext(t.Context(),
		"INSERT INTO schema_versions (version_id, is_applied) VALUES (9999, true)"); err != nil {
		t.Fatal(err)
	}
	file, target := filepath.Join(t.TempDir(), "newer.db"), filepath.Join(t.TempDir(), "cardea.db")
	contents, err := store.Backup(t.Context(), dsn, file, unchecked)
	if err != nil && !strings.Contains(err.Error(), "newer cardea") {
		t.Fatal(err)
	}
	if err == nil {
		_, err = store.Restore(t.Context(), "sqlite:"+target, file,
			func(*store.DB, store.Contents) error { return nil })
	}
	if err == nil || !strings.Contains(err.Error(), "newer cardea") || contents.Schema != 9999 && contents.Schema != 0 {
		t.Errorf("restored schema %d: %v", contents.Schema, err)
	}
	if names := entries(t, filepath.Dir(target)); len(names) > 0 {
		t.Errorf("left behind: %q", names)
	}
}

// CS-12: what could be used once cannot be used after the database went back in time, and grants count only if the
// operator wants them to.
func TestRewind(t *testing.T) {
	for _, all := range []bool{false, true} {
		t.Run(map[bool]string{false: "grants kept", true: "grants ended"}[all], func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, db *store.DB, _ *storetest.Clock) {
				user, client, resource := people(t, db)
				waiting, code := consented(t, db, user, client, resource)
				live := redeemed(t, db, user, client, resource)
				var r store.Rewound
				var grants, machines [2]int64
				end := func(tx *store.Tx, i int) (err error) {
					grants[i], machines[i], err = tx.StatusEnd()
					return err
				}
				update(t, db, func(tx *store.Tx) (err error) {
					if _, err := tx.OfferSetup("hash", tx.Now().Add(1e12)); err != nil {
						return err
					}
					if err := end(tx, 0); err != nil {
						return err
					}
					if r, err = tx.Rewind(all); err != nil {
						return err
					}
					return end(tx, 1)
				})
				if grants[1]-grants[0] < oauth.StatusListSize || machines[1]-machines[0] < oauth.StatusListSize {
					t.Errorf("the next places in status lists were %d and %d, and are %d and %d", grants[0],
						machines[0],
						grants[1], machines[1])
				}
				want := store.Rewound{Codes: 1, Grants: 1}
				if all {
					want.Grants = 2
				}
				if r != want {
					t.Errorf("ended %+v, want %+v", r, want)
				}
				update(t, db, func(tx *store.Tx) error {
					if spent, err := tx.SpendCode(code.Hash); spent || err != nil {
						t.Errorf("the code works: %v", err)
					}
					if done, err := tx.CompleteSetup("hash"); done || err != nil {
						t.Errorf("the setup link works: %v", err)
					}
					for id, ended := range map[string]bool{waiting.ID: true, live.ID: all} {
						g, err := tx.Grant(id)
						if err != nil {
							return err
						}
						if g.RevokedAt.IsZero() == ended {
							t.Errorf("%s: revoked at %s", id, g.RevokedAt)
						}
					}
					return nil
				})
			})
		})
	}
}

// A copied file of a database that a server uses is told from one that was closed, or whose server was killed.
func TestUse(t *testing.T) {
	dsn := storetest.New(t, storetest.SQLite)
	path := strings.TrimPrefix(dsn, "sqlite:")
	open := func(path string) (db *store.DB, copied bool) {
		t.Helper()
		db, err := store.Open(t.Context(), "sqlite:"+path, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if copied, err = db.Use(t.Context()); err != nil {
			t.Fatal(err)
		}
		return db, copied
	}
	copyOf := func(suffixes ...string) string {
		t.Helper()
		to := filepath.Join(t.TempDir(), "cardea.db")
		for _, suffix := range suffixes {
			content, err := os.ReadFile(path + suffix)
			if err == nil {
				err = os.WriteFile(to+suffix, content, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return to
	}
	db, copied := open(path)
	if copied {
		t.Error("a new database is a copy")
	}
	if _, err := db.Use(t.Context()); err != nil {
		t.Error(err)
	}
	alone, killed, used := copyOf(""), copyOf("", "-wal"), copyOf("", "-wal") // as a killed process leaves it
	linked := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(copyOf("", "-wal"), linked); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	// Commands may come first after a crash.
	for _, with := range []func(context.Context, string, store.Options) (*store.DB, error){store.Open, store.Inspect} {
		db, err := with(t.Context(), "sqlite:"+used, store.Options{})
		if err == nil {
			err = errors.Join(db.Ping(t.Context()), db.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.Backup(t.Context(), "sqlite:"+used, used+".backup",
		func(*store.DB) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]struct {
		path string
		want bool
	}{
		"after commands that came after that": {used, false}, "behind a link": {linked, false},
		"after it was closed": {path, false}, "a copy without the log": {alone, true},
		"after its process was killed": {killed, false}, "a copy after it was closed": {copyOf(""), false},
	} {
		db, copied := open(file.path)
		if copied != file.want {
			t.Errorf("%s: %v", name, copied)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
