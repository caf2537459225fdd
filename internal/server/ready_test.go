package server_test

import (
	"database/sql"
	"net/http"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// A server that reads and cannot write is not ready.
func TestReadyMeansWritable(t *testing.T) {
	dsn, clock := storetest.New(t, storetest.SQLite), storetest.NewClock()
	ready := func(db *store.DB) (status int, body string) {
		t.Helper()
		s := servertest.New(t, db, clock)
		s.MayFault = true
		reply := s.Agent(t, s.Client()).Get("/readyz")
		return reply.Status, string(reply.Body)
	}
	if status, body := ready(storetest.Connect(t, dsn, clock)); status != http.StatusOK {
		t.Fatalf("a database that takes writes: %d %s", status, body)
	}
	handle, err := sql.Open("sqlite", strings.TrimPrefix(dsn, "sqlite:"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = handle.Close() }()
	for _, when := range []string{"INSERT", "UPDATE"} {
		if _, err := handle.ExecContext(t.Context(), "CREATE TRIGGER full_"+when+" BEFORE "+when+
			" ON settings WHEN NEW.name = 'probe' BEGIN SELECT RAISE(ABORT, 'no'); END"); err != nil {
			t.Fatal(err)
		}
	}
	if status, body := ready(storetest.Connect(t, dsn, clock)); status != http.StatusServiceUnavailable ||
		!strings.Contains(body, "takes no writes") {
		t.Errorf("one that takes none: %d %s", status, body)
	}
}
