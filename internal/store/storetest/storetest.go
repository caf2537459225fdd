// Package storetest opens databases for tests: real ones, a separate one for each test.
//
//	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) { … })
//
// SQLite is a file in the test's directory. PostgreSQL is the cluster that CARDEA_TEST_POSTGRES names, as a superuser;
// each test gets a database that is dropped at its end. Both are copied from a migrated one. `make test` starts a
// cluster. PgBouncer is a separate pooler in front of such a database.
package storetest

import (
	"context"
	"database/sql"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// Engine is a kind of database.
type Engine string

// The engines.
const (
	SQLite    Engine = "SQLite"
	Postgres  Engine = "PostgreSQL"
	PgBouncer Engine = "PgBouncer" // in front of PostgreSQL, with transaction pooling
)

// Engines returns all engines.
func Engines() []Engine { return []Engine{SQLite, Postgres, PgBouncer} }

// Start is the time at which every Clock starts.
var Start = time.Date(2030, time.January, 2, 3, 4, 5, 0, time.UTC)

// Clock is a clock that stands still until it is set. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that stands at Start.
func NewClock() *Clock { return &Clock{now: Start} }

// Now returns the time on the clock.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Set sets the clock.
func (c *Clock) Set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

// Advance sets the clock forward by d, or back.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Each runs test as a subtest on SQLite and on PostgreSQL, on a migrated, empty database.
func Each(t *testing.T, test func(t *testing.T, db *store.DB, clock *Clock)) {
	t.Helper()
	each(t, []Engine{SQLite, Postgres}, test)
}

// All is like Each, and runs test with PgBouncer too, for tests that depend on how statements reach the database.
func All(t *testing.T, test func(t *testing.T, db *store.DB, clock *Clock)) {
	t.Helper()
	each(t, Engines(), test)
}

func each(t *testing.T, engines []Engine, test func(t *testing.T, db *store.DB, clock *Clock)) {
	t.Helper()
	for _, engine := range engines {
		t.Run(string(engine), func(t *testing.T) {
			db, clock := Open(t, engine)
			test(t, db, clock)
		})
	}
}

// Open opens a new, migrated, empty database with its own clock, until the test ends.
func Open(t testing.TB, engine Engine) (*store.DB, *Clock) {
	t.Helper()
	clock := NewClock()
	return Connect(t, New(t, engine), clock), clock
}

// New creates a migrated, empty database for the test and returns its DSN.
func New(t testing.TB, engine Engine) string {
	t.Helper()
	switch engine {
	case Postgres:
		return newPostgres(t, template)
	case PgBouncer:
		return newPgBouncer(t, newPostgres(t, template))
	default:
		dsn := Bare(t, engine)
		if err := os.WriteFile(strings.TrimPrefix(dsn, "sqlite:"), migrated(t), 0o600); err != nil {
			t.Fatal(err)
		}
		return dsn
	}
}

// Bare creates a database for the test that was never migrated, and returns its DSN.
func Bare(t testing.TB, engine Engine) string {
	t.Helper()
	switch engine {
	case Postgres:
		return newPostgres(t, empty)
	case PgBouncer:
		return newPgBouncer(t, newPostgres(t, empty))
	default:
		return "sqlite:" + filepath.Join(t.TempDir(), "cardea.db")
	}
}

// Connect opens the database at dsn again, as a second node would, until the test ends. It logs to the test's log.
func Connect(t testing.TB, dsn string, clock *Clock) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), dsn, store.Options{Clock: clock.Now,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	opened.Store(db, dsn)
	t.Cleanup(func() {
		keepSecrets(t, db)
		opened.Delete(db)
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

var opened sync.Map // *store.DB to the DSN it was opened with

func migrate(t testing.TB, dsn string) {
	t.Helper()
	db, err := store.Open(t.Context(), dsn, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// empty is an empty template for newPostgres.
func empty(testing.TB, *sql.DB, string) string { return "template0" }

func newPostgres(t testing.TB, template func(t testing.TB, admin *sql.DB, dsn string) string) string {
	t.Helper()
	dsn := os.Getenv("CARDEA_TEST_POSTGRES")
	if dsn == "" {
		t.Fatal("CARDEA_TEST_POSTGRES is not set: run make test, which starts PostgreSQL")
	}
	admin, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal("CARDEA_TEST_POSTGRES is not a PostgreSQL URL")
	}
	defer func() { _ = admin.Close() }()

	name := strings.ToLower(oauth.NewID("cardea_test_"))
	if _, err := admin.ExecContext(t.Context(),
		"CREATE DATABASE "+name+" TEMPLATE "+template(t, admin, dsn)+" STRATEGY FILE_COPY"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		admin, err := sql.Open("pgx", dsn)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = admin.Close() }()
		if _, err := admin.ExecContext(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	return named(t, dsn, name)
}

// named returns dsn with another database name. Connecting may take long, and so may answers, because a test is not to
// fail on a machine that does much else.
func named(t testing.TB, dsn, name string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal("CARDEA_TEST_POSTGRES is not a PostgreSQL URL")
	}
	u.Path = "/" + name
	query := u.Query()
	query.Set("connect_timeout", "60")
	u.RawQuery = query.Encode()
	return u.String()
}

// Impatient returns the DSN of New without the time that tests allow for a connection and for an answer, for a test of
// a database that is silent.
func Impatient(t testing.TB, dsn string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Del("connect_timeout")
	u.RawQuery = query.Encode()
	return u.String()
}
