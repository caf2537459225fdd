package store_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"os"
	"syscall"
	"testing"

	"modernc.org/sqlite"

	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// upgrade applies a migration, and kills its process before the commit.
func upgrade(ctx context.Context, db *store.DB) error {
	die := func(*sqlite.FunctionContext, []driver.Value) (driver.Value, error) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	if err := sqlite.RegisterScalarFunction("die", 0, die); err != nil {
		return err
	}
	_, err := db.MigrateInto(ctx, os.Getenv("CARDEA_STORE_MIGRATION"), "SELECT die()")
	return errors.Join(errors.New("it was not killed"), err)
}

// FL-20: an upgrade that ends in the middle of a migration has done nothing of it, and goes on from there when it is
// started again. With SQLite the process is killed. With PostgreSQL its connection ends, which is all that the server
// sees of a killed process.
func TestInterruptedUpgrade_FL20(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	names := store.MigrationNames()
	for engine, c := range map[storetest.Engine]struct {
		interrupt func(t *testing.T, db *store.DB, dsn, migration string)
		schema    string
	}{
		storetest.SQLite: {func(t *testing.T, _ *store.DB, dsn, migration string) {
			cmd := child(t, self, "upgrade", dsn, "CARDEA_STORE_MIGRATION="+migration)
			if err := cmd.Run(); !killed(err) {
				t.Fatalf("%s: the process ended by itself: %v", migration, err)
			}
		}, "SELECT GROUP_CONCAT(sql, ';') FROM (SELECT sql FROM sqlite_master ORDER BY name)"},
		storetest.Postgres: {func(t *testing.T, db *store.DB, _, migration string) {
			_, err := db.MigrateInto(t.Context(), migration, "SELECT pg_terminate_backend(pg_backend_pid())")
			if err == nil {
				t.Fatalf("%s: its connection did not end", migration)
			}
		}, `SELECT STRING_AGG(line, ';' ORDER BY line) FROM (
			SELECT table_name || '.' || column_name || ' ' || data_type AS line FROM information_schema.columns
				WHERE table_schema = current_schema()
			UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema()) AS lines`},
	} {
		t.Run(string(engine), func(t *testing.T) {
			dsn := storetest.Bare(t, engine)
			db := storetest.Connect(t, dsn, storetest.NewClock())
			for i, migration := range names {
				c.interrupt(t, db, dsn, migration) // which applies the one before it
				pending, err := db.Pending(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				same(t, names[i:], pending)
			}
			if _, err := db.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			schema := func(dsn string) (text string) {
				if err := rawly(t, dsn).QueryRowContext(t.Context(), c.schema).Scan(&text); err != nil {
					t.Fatal(err)
				}
				return text
			}
			if got, want := schema(dsn), schema(storetest.New(t, engine)); got != want {
				t.Errorf("the schema is\n%s\nand is otherwise\n%s", got, want)
			}
		})
	}
}
