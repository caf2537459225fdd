package store_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

func TestOpenFile(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, path := range map[string]string{
		"absolute":           filepath.Join(t.TempDir(), "cardea.db"),
		"relative":           "cardea.db",
		"in new directories": "a/b/cardea.db",
		"odd characters":     "100% d\u00e9j\u00e0 #1/what?&=:.db",
		"absolute and odd":   filepath.Join(t.TempDir(), "a b%20#?c.db"),
	} {
		t.Run(name, func(t *testing.T) {
			db, err := store.Open(t.Context(), "sqlite:"+path, store.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := db.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			update(t, db, set("x", nil))
			if info, err := os.Stat(path); err != nil || info.Size() == 0 {
				t.Errorf("the file: %v, %v", info, err)
			}
		})
	}
}

func TestCS13FilesAreForTheirOwnerAlone(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "data")
	path := filepath.Join(dir, "cardea.db")
	mode := func(path string) fs.FileMode {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	for _, name := range []string{"new", "readable by all"} {
		t.Run(name, func(t *testing.T) {
			db, err := store.Open(t.Context(), "sqlite:"+path, store.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			update(t, db, set("x", nil))
			if m := mode(dir); m != 0o700 {
				t.Errorf("the directory has mode %o", m)
			}
			for _, suffix := range []string{"", "-wal", "-shm"} {
				if m := mode(path + suffix); m != 0o600 {
					t.Errorf("cardea.db%s has mode %o", suffix, m)
				}
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	junk := filepath.Join(dir, "junk.db")
	if err := os.WriteFile(junk, []byte(strings.Repeat("this is no database ", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ dsn, want string }{
		"nothing":            {"", "sqlite:PATH or postgres://"},
		"no path":            {"sqlite:", "sqlite:PATH or postgres://"},
		"another database":   {"mysql://root:hunter2@localhost/x", "sqlite:PATH or postgres://"},
		"a directory":        {"sqlite:" + dir, "is a directory"},
		"below a file":       {"sqlite:" + junk + "/x/cardea.db", "create the folder"},
		"no database":        {"sqlite:" + junk, junk},
		"a broken URL":       {"postgres://u:hunter2@localhost:port/x", "postgres://USER"},
		"a broken parameter": {"postgres://u:hunter2@localhost/x?sslmode=maybe", "postgres://USER"},
	} {
		t.Run(name, func(t *testing.T) {
			db, err := store.Open(t.Context(), c.dsn, store.Options{})
			if err == nil {
				db.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%v; want %q, without the password", err, c.want)
			}
		})
	}
}

// FL-08, TK-62: an unreachable database is a temporary fault, neither a refusal nor a panic.
func TestUnreachable(t *testing.T) {
	db, err := store.Open(t.Context(), "postgres://u:hunter2@127.0.0.1:1/x",
		store.Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for name, call := range map[string]func() error{
		"Update": func() error { return db.Update(t.Context(), set("x", nil)) },
		"View": func() error {
			return db.View(t.Context(), func(tx *store.Tx) error { _, err := tx.Keys(); return err })
		},
		"Append":    func() error { return db.Append(t.Context(), audit.SignOut("usr_1")) },
		"Ping":      func() error { return db.Ping(t.Context()) },
		"Migrate":   func() error { _, err := db.Migrate(t.Context()); return err },
		"Client":    func() error { _, err := db.Client(t.Context(), "mcp_1"); return err },
		"Resources": func() error { _, err := db.Resources(t.Context()); return err },
		"Sweep":     func() error { _, err := db.Sweep(t.Context()); return err },
	} {
		err := call()
		if !errors.Is(err, oauth.ErrUnavailable) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
		if _, refused := oauth.AsRefusal(err); refused {
			t.Errorf("%s was refused: %v", name, err)
		}
	}
}

func TestMigrate(t *testing.T) {
	for _, engine := range storetest.Engines() {
		t.Run(string(engine), func(t *testing.T) {
			dsn := storetest.Bare(t, engine)
			clock := storetest.NewClock()
			db := storetest.Connect(t, dsn, clock)
			for range 2 { // asking changes nothing
				pending, err := db.Pending(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				same(t, migrations(t), pending)
			}
			if err := db.Update(t.Context(), set("x", nil)); err == nil {
				t.Error("a write before the migration succeeded")
			}
			var wg sync.WaitGroup
			for range 3 { // nodes that start at once
				wg.Go(func() {
					node := storetest.Connect(t, dsn, clock)
					if _, err := node.Migrate(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			update(t, db, set("x", nil))
			applied, err := db.Migrate(t.Context())
			if err != nil || len(applied) != 0 {
				t.Errorf("again: %v, %v", applied, err)
			}
			pending, err := db.Pending(t.Context())
			if err != nil || len(pending) != 0 {
				t.Errorf("pending: %v, %v", pending, err)
			}

			raw := rawly(t, dsn)
			if _, err := raw.ExecContext(context.Background(),
				"INSERT INTO schema_versions (version_id, is_applied) VALUES (9999, true)"); err != nil {
				t.Fatal(err)
			}
			if _, err := db.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), "newer cardea") {
				t.Errorf("on a newer schema: %v", err)
			}
		})
	}
	t.Run("a new file", func(t *testing.T) {
		db := storetest.Connect(t, storetest.Bare(t, storetest.SQLite), storetest.NewClock())
		applied, err := db.Migrate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		same(t, migrations(t), applied)
	})
}

// CS-01: secrets are stored hashed or sealed.
func TestSecretsAtRest(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, _ *storetest.Clock) {
		secret := oauth.NewSecret(oauth.SecretPrefix)
		user, client, resource := people(t, db)
		update(t, db, func(tx *store.Tx) error { return tx.ReplaceSecret(client.ID, oauth.Hash(secret), tx.Now()) })
		g := redeemed(t, db, user, client, resource)
		storetest.SecretsAtRest(t, db, map[string]string{
			"the client secret": secret,
			"the refresh token": oauth.RefreshTokenOf([]byte("key"), g, 1),
		})
		written := string(storetest.AtRest(t, db))
		if !strings.Contains(written, oauth.Hash(secret)) || !strings.Contains(written, g.ID) {
			t.Error("values that are stored were not found, so the search finds nothing")
		}
	})
}

// migrations returns the names of all migrations.
func migrations(t testing.TB) (names []string) {
	t.Helper()
	files, err := filepath.Glob("migrations/*.sql")
	if err != nil || len(files) < 2 {
		t.Fatalf("the migrations are not there: %v", err)
	}
	for _, file := range files {
		name, _, _ := strings.Cut(filepath.Base(file), ".") // without the database that has it
		names = append(names, name)
	}
	return slices.Compact(names)
}
