package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/porttest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// causes is what Inspect and Open, Migrate report of a database that cannot be used.
func causes(t *testing.T, dsn string) (inspected, migrated string) {
	t.Helper()
	db, err := store.Inspect(t.Context(), dsn, store.Options{})
	if err == nil {
		_, err = db.Pending(t.Context())
		err = errors.Join(err, db.Close())
	}
	inspected = reported(t, err)
	db, err = store.Open(t.Context(), dsn, store.Options{})
	if err == nil {
		_, err = db.Migrate(t.Context())
		err = errors.Join(err, db.Close())
	}
	return inspected, reported(t, err)
}

// reported returns the cause of err, or its text.
func reported(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	for _, text := range []string{err.Error(), store.Cause(err)} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("the password is in %q", text)
		}
	}
	if cause := store.Cause(err); cause != "" {
		return cause
	}
	return err.Error()
}

// The cause of a failure is the same sentence wherever it is met first, names what to do, and has no password in it.
func TestCausePostgres(t *testing.T) {
	cluster := newCluster(t)
	closed := porttest.Address(t)
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	old := storetest.New(t, storetest.Postgres)
	standby := storetest.New(t, storetest.Postgres)
	for dsn, statements := range map[string][]string{
		old: {
			"CREATE SCHEMA old",
			"CREATE FUNCTION old.version() RETURNS text LANGUAGE sql AS $$SELECT 'PostgreSQL 13.4 on " +
				"x86_64-pc-linux-gnu'$$",
			"DO $$BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET search_path = old, pg_catalog'; END$$",
		},
		standby: {
			"DO $$BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' " +
				"SET default_transaction_read_only = on'; END$$",
		},
	} {
		run(t, dsn, statements...)
	}
	at := "PostgreSQL at " + cluster
	// on returns the DSN of a database of the cluster.
	on := func(userinfo, rest string) string { return "postgres://" + userinfo + "@" + cluster + "/" + rest }
	const plain = "postgres?sslmode=disable"
	for name, c := range map[string]struct{ dsn, want string }{
		"wrong password": {on("cardea:hunter2", plain),
			at + ` does not accept the password of the user "cardea"; correct user and password in the URL`},
		"password missing": {on("cardea", plain),
			at + ` asks for the password of the user "cardea", and the URL has none; add it to the URL`},
		"unknown role": {on("nobody:hunter2", plain),
			at + ` has no user "nobody" that may log in; correct the user in the URL, or create it with: createuser`},
		"database missing": {on("cardea:right", "none?sslmode=disable"),
			at + ` has no database "none"; correct the name in the URL, or create it with: createdb none`},
		"TLS demanded there": {on("encrypted:hunter2", plain),
			at + ` does not let the user "encrypted" in from this machine without TLS; set sslmode=verify-full`},
		"TLS demanded here": {on("cardea:hunter2", "postgres?sslmode=require"),
			at + " does not offer TLS, and sslmode demands it; turn TLS on there (ssl = on), or set sslmode=disable"},
		"too many connections": {on("crowded:right", plain),
			at + " has too many connections; raise its max_connections, or end what does not need one"},
		"right missing": {on("guest:right", plain), "make the user the owner of the database"},
		"refused": {"postgres://cardea:hunter2@" + closed + "/cardea",
			"database: nothing answers at " + closed + "; start PostgreSQL there, or correct host and port in the URL"},
		"no socket": {"postgres://cardea:hunter2@/cardea?host=/nowhere",
			"database: nothing answers at /nowhere (port 5432); start PostgreSQL there"},
		"silent": {"postgres://cardea:hunter2@" + silent.Addr().String() + "/cardea?sslmode=disable&connect_timeout=1",
			" does not answer in time; correct host and port in the URL, or check for a firewall in between"},
		"unknown host": {"postgres://cardea:hunter2@db.invalid/cardea", `"db.invalid"`},
		"root certificate missing": {on("cardea:hunter2", "postgres?sslmode=verify-full&sslrootcert=/nowhere/root.crt"),
			"/nowhere/root.crt"},
		"no such sslmode": {on("cardea:hunter2", "postgres?sslmode=bogus"),
			"database: PostgreSQL does not understand the URL; write it like postgres://USER:PASSWORD@HOST"},
		"too old": {old, "database: PostgreSQL there is version 13, and Cardea needs 14 or newer; upgrade it"},
	} {
		t.Run(name, func(t *testing.T) {
			inspected, migrated := causes(t, c.dsn)
			if !strings.Contains(migrated, c.want) || !strings.HasPrefix(migrated, "database: ") {
				t.Errorf("migrate reports %q; want %q", migrated, c.want)
			}
			if name != "right missing" && inspected != migrated {
				t.Errorf("inspect reports %q, and migrate %q", inspected, migrated)
			}
		})
	}
	t.Run("FL-14 standby", func(t *testing.T) {
		inspected, _ := causes(t, standby)
		if !strings.Contains(inspected, "accepts no writes, because it is a standby or read-only; name the primary") {
			t.Errorf("inspect reports %q", inspected)
		}
	})
}

func TestCauseSQLite(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	path := func(t *testing.T) string {
		return strings.TrimPrefix(storetest.New(t, storetest.SQLite), "sqlite:")
	}
	junk := file("junk.db", []byte(strings.Repeat("this is not a database ", 500)))
	content, err := os.ReadFile(path(t))
	if err != nil {
		t.Fatal(err)
	}
	damaged := file("damaged.db", append(bytes.Clone(content[:100]), bytes.Repeat([]byte{0xff}, len(content)-100)...))
	locked := path(t)
	handle, err := sql.Open("sqlite", locked+"?_pragma=locking_mode(EXCLUSIVE)")
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	handle.SetMaxOpenConns(1)
	if _, err := handle.ExecContext(t.Context(), "BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ path, want string }{
		"not a database": {junk,
			"database: " + junk + " is not a SQLite database; name another file, or move this one away"},
		"damaged":       {damaged, "database: " + damaged + " is damaged; restore it from a backup"},
		"locked":        {locked, "database: " + locked + " is locked by another program; end that program, or wait"},
		"a folder":      {dir, "is a directory; name one that you may write to, with --data-dir or --database"},
		"below a file":  {junk + "/x/cardea.db", "name one that you may write to, with --data-dir or --database"},
		"not creatable": {"/proc/cardea/cardea.db", "name one that you may write to, with --data-dir or --database"},
	} {
		t.Run(name, func(t *testing.T) {
			db, err := store.Inspect(t.Context(), "sqlite:"+c.path, store.Options{})
			if err == nil {
				_, err = db.Pending(t.Context())
				err = errors.Join(err, db.Close())
			}
			if got := reported(t, err); !strings.Contains(got, c.want) || !strings.HasPrefix(got, "database: ") {
				t.Errorf("inspect reports %q; want %q", got, c.want)
			}
			if name == "locked" {
				return // Open waits longer for a lock
			}
			_, migrated := causes(t, "sqlite:"+c.path)
			if !strings.Contains(migrated, c.want) {
				t.Errorf("migrate reports %q; want %q", migrated, c.want)
			}
		})
	}
}

// Inspect creates and changes nothing, and the database that it returns cannot be written.
func TestInspect(t *testing.T) {
	t.Run("no file yet", func(t *testing.T) {
		dir := t.TempDir()
		_, err := store.Inspect(t.Context(), "sqlite:"+filepath.Join(dir, "a", "b", "cardea.db"), store.Options{})
		if !errors.Is(err, store.ErrNoFile) {
			t.Errorf("Inspect returns %v; want ErrNoFile", err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("the folder has %v, %v; want nothing", entries, err)
		}
	})
	for _, engine := range storetest.Engines() {
		t.Run(string(engine), func(t *testing.T) {
			for name, dsn := range map[string]string{
				"empty": storetest.Bare(t, engine), "migrated": storetest.New(t, engine),
			} {
				if path, isFile := strings.CutPrefix(dsn, "sqlite:"); isFile && name == "empty" {
					if err := os.WriteFile(path, nil, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				db, err := store.Inspect(t.Context(), dsn, store.Options{})
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				pending, err := db.Pending(t.Context())
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				want := migrations(t)
				if name == "migrated" {
					want = nil
				}
				if diff := cmp.Diff(want, pending); diff != "" {
					t.Errorf("%s: pending (-want +got):\n%s", name, diff)
				}
				if err := db.Update(t.Context(), set("x", nil)); err == nil {
					t.Errorf("%s: Update succeeded on an inspected database", name)
				}
				if err := db.Close(); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

// run runs statements on PostgreSQL.
func run(t *testing.T, dsn string, statements ...string) {
	t.Helper()
	handle, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	for _, statement := range statements {
		if _, err := handle.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// newCluster starts a PostgreSQL for the test that asks for passwords, and returns its address. It has the superuser
// cardea and the users guest, which may create nothing, crowded, which may not connect even once, and encrypted, which
// has to use TLS, which it does not offer. It has no user nobody. All have the password "right".
func newCluster(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("CARDEA_POSTGRES_BIN")
	if bin == "" {
		t.Fatal("CARDEA_POSTGRES_BIN is not set: run make test")
	}
	dir, err := os.MkdirTemp("", "cardea-cluster-") // other users cannot read t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	attributes := &syscall.SysProcAttr{}
	if os.Geteuid() == 0 { // PostgreSQL refuses to run as root
		account, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, err1 := strconv.ParseUint(account.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(account.Gid, 10, 32)
		if err := errors.Join(err1, err2, os.Chown(dir, int(uid), int(gid))); err != nil {
			t.Fatal(err)
		}
		attributes.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	program := func(ctx context.Context, name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(ctx, filepath.Join(bin, name), args...)
		cmd.Dir, cmd.SysProcAttr, cmd.Env = dir, attributes, append(os.Environ(), "LC_ALL=C")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	address := porttest.Address(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	program(t.Context(), "initdb", "-D", data, "-U", "cardea", "--no-sync", "--no-instructions", "-A", "trust")
	program(t.Context(), "pg_ctl", "-D", data, "-s", "-w", "-t", "120", "-l", filepath.Join(dir, "log"), "-o",
		fmt.Sprintf("-p %s -c listen_addresses=127.0.0.1 -c unix_socket_directories=%s -c fsync=off", port, dir),
		"start")
	t.Cleanup(func() { program(context.Background(), "pg_ctl", "-D", data, "-m", "immediate", "-s", "stop") })
	run(t, "postgres://cardea@"+address+"/postgres?sslmode=disable",
		"ALTER ROLE cardea PASSWORD 'right'", "CREATE ROLE guest LOGIN PASSWORD 'right'",
		"CREATE ROLE crowded LOGIN CONNECTION LIMIT 0 PASSWORD 'right'", "CREATE ROLE encrypted LOGIN PASSWORD 'right'",
		"REVOKE CREATE ON SCHEMA public FROM PUBLIC")
	hba := `hostssl all encrypted            127.0.0.1/32 scram-sha-256
host    all cardea,guest,crowded 127.0.0.1/32 scram-sha-256
host    all nobody               127.0.0.1/32 trust
`
	if err := os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte(hba), 0o644); err != nil {
		t.Fatal(err)
	}
	program(t.Context(), "pg_ctl", "-D", data, "-s", "reload")
	return address
}
