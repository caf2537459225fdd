package server_test

import (
	"database/sql"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// FL-06: a server that reads and cannot write is not ready.
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

// FL-16: a server whose clock was set a moment ago is not ready, because what it issues may live too long or not at
// all.
func TestReadyMeansSteady(t *testing.T) {
	for name, by := range map[string]time.Duration{"back": -time.Hour, "forward": 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			s := servertest.Start(t)
			s.MayFault = true
			agent := s.Agent(t, s.Client())
			if reply := agent.Get("/readyz"); reply.Status != http.StatusOK {
				t.Fatalf("before: %d %s", reply.Status, reply.Body)
			}
			s.Clock.Advance(by)
			for range 2 { // not only once
				if reply := agent.Get("/readyz"); reply.Status != http.StatusServiceUnavailable ||
					!strings.Contains(string(reply.Body), "the clock was set a moment ago") {
					t.Errorf("%d %s", reply.Status, reply.Body)
				}
			}
			if strings.Count(s.Log(), "the clock of this machine was set") != 1 {
				t.Errorf("the log:\n%s", s.Log())
			}
		})
	}
}

// FL-16: a server whose clock is a day ahead of that of the database, or behind, is not ready, because other nodes
// would not agree with it on what has expired.
func TestReadyMeansTheSameTime_FL16(t *testing.T) {
	for name, by := range map[string]string{"ahead": "-1 day", "behind": "1 day"} {
		t.Run(name, func(t *testing.T) {
			dsn, clock := storetest.New(t, storetest.Postgres), storetest.NewClock()
			handle, err := sql.Open("pgx", dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = handle.Close() }()
			tells := func(by string) {
				t.Helper()
				_, err := handle.ExecContext(t.Context(), "CREATE OR REPLACE FUNCTION public.clock_timestamp() "+
					"RETURNS timestamptz LANGUAGE sql AS 'SELECT pg_catalog.clock_timestamp() + interval ''"+by+"'''")
				if err != nil {
					t.Fatal(err)
				}
			}
			tells(by)
			if _, err := handle.ExecContext(t.Context(), "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET "+
				"search_path = public, pg_catalog', current_database()); END $$"); err != nil {
				t.Fatal(err)
			}
			s := servertest.New(t, storetest.Connect(t, dsn, clock), clock)
			s.MayFault = true
			agent := s.Agent(t, s.Client())
			if reply := agent.Get("/readyz"); reply.Status != http.StatusServiceUnavailable ||
				!strings.Contains(string(reply.Body), "the clock differs from that of the database") {
				t.Errorf("%d %s", reply.Status, reply.Body)
			}
			if !strings.Contains(s.Log(), "synchronize both clocks") {
				t.Errorf("the log:\n%s", s.Log())
			}
			tells("1 second")
			if reply := agent.Get("/readyz"); reply.Status != http.StatusOK {
				t.Errorf("with the same time: %d %s", reply.Status, reply.Body)
			}
		})
	}
}
