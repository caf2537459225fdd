package storetest

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// templateLock is the advisory lock that keeps test binaries that run at the same time from making a template twice.
const templateLock = 0x636172646561

var making sync.Mutex // one caller at a time in this binary

var lite []byte // a migrated SQLite file; nil: not made yet

// migrated returns the content of the SQLite file that is copied for each test.
func migrated(t testing.TB) []byte {
	t.Helper()
	making.Lock()
	defer making.Unlock()
	if lite == nil {
		path := filepath.Join(t.TempDir(), "template.db")
		migrate(t, "sqlite:"+path)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lite = content
	}
	return lite
}

// template returns the name of the migrated database from which those of the tests are copied, and creates it if it
// does not exist. Its name contains a hash of the migrations, so that several working copies can share a cluster.
func template(t testing.TB, admin *sql.DB, dsn string) (name string) {
	t.Helper()
	name = "cardea_template_" + migrationsHash(t)
	making.Lock()
	defer making.Unlock()
	ctx := t.Context()
	conn, err := admin.Conn(ctx)
	if err != nil {
		t.Fatalf("PostgreSQL does not answer: %v", err)
	}
	defer func() { _ = conn.Close() }() // which releases the lock
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", templateLock); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = conn.ExecContext(context.Background(), "SELECT pg_advisory_unlock($1)", templateLock) }()

	var there bool
	err = conn.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)", name).Scan(&there)
	switch {
	case err != nil:
		t.Fatal(err)
	case there:
		return name
	}
	scratch := strings.ToLower(oauth.NewID("cardea_scratch_"))
	exec := func(statement string) {
		t.Helper()
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			t.Fatal(err)
		}
	}
	exec("CREATE DATABASE " + scratch)
	migrate(t, named(t, dsn, scratch))
	exec("ALTER DATABASE " + scratch + " RENAME TO " + name)
	return name
}

// migrationsHash returns a hash of the migrations in this binary, which need not be those on disk any more.
func migrationsHash(t testing.TB) string {
	t.Helper()
	files, err := fs.Glob(store.Migrations(), "*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("the migrations are not found: %v", err)
	}
	hash := sha256.New()
	for _, file := range files {
		text, err := fs.ReadFile(store.Migrations(), file)
		if err != nil {
			t.Fatal(err)
		}
		hash.Write(text)
	}
	return hex.EncodeToString(hash.Sum(nil)[:8])
}
