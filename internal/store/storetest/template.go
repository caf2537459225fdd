package storetest

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// templateName is the migrated database that those of the tests are copied from.
// It is made once for a cluster; the advisory lock keeps test binaries that run at
// the same time from making it twice.
const (
	templateName = "cardea_template"
	templateLock = 0x636172646561
)

var making sync.Mutex // this binary asks once at a time

// makeTemplate makes the template database unless it is there and up to date.
func makeTemplate(t testing.TB, admin *sql.DB, dsn string) {
	t.Helper()
	making.Lock()
	defer making.Unlock()
	ctx := t.Context()
	conn, err := admin.Conn(ctx)
	if err != nil {
		t.Fatalf("PostgreSQL does not answer: %v", err)
	}
	defer func() { _ = conn.Close() }() // and with it the lock
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", templateLock); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = conn.ExecContext(context.Background(), "SELECT pg_advisory_unlock($1)", templateLock) }()

	want := migrationsHash(t)
	var have sql.NullString
	err = conn.QueryRowContext(ctx, "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1", templateName).Scan(&have)
	switch {
	case err == nil && have.String == want:
		return
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		t.Fatal(err)
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
	exec("DROP DATABASE IF EXISTS " + templateName + " WITH (FORCE)")
	exec("ALTER DATABASE " + scratch + " RENAME TO " + templateName)
	exec("COMMENT ON DATABASE " + templateName + " IS '" + want + "'")
}

// migrationsHash tells a template that was made of other migrations.
func migrationsHash(t testing.TB) string {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	files, err := filepath.Glob(filepath.Join(filepath.Dir(here), "..", "migrations", "*.sql"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the migrations are not beside %s (-trimpath hides them): %v", here, err)
	}
	hash := sha256.New()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		hash.Write(text)
	}
	return hex.EncodeToString(hash.Sum(nil))
}
