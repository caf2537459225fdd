package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// FL-21: what is over is deleted in small transactions while others write, so that a fault undoes little and nobody
// waits for all of it. What is live stays.
func TestSweepUnderLoad_FL21(t *testing.T) {
	dsn, clock := storetest.New(t, storetest.SQLite), storetest.NewClock()
	db := storetest.Connect(t, dsn, clock)
	user, _, _ := people(t, db)
	start := clock.Now()
	const over, live = 3000, 50
	update(t, db, func(tx *store.Tx) error {
		for i := range over + live {
			end := start.Add(time.Minute + time.Duration(i)*time.Microsecond)
			if i >= over {
				end = start.Add(10 * day)
			}
			if err := tx.CreateSession(&identity.Session{Hash: fmt.Sprint("hash_", i), UserID: user.ID, ExpiresAt: end,
				EndsAt: end}); err != nil {
				return err
			}
		}
		return nil
	})
	handle := rawly(t, dsn)
	run := func(statement string) {
		t.Helper()
		if _, err := handle.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	left := func() (n int) {
		t.Helper()
		if err := handle.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM sessions").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	clock.Set(start.Add(day))

	run(fmt.Sprintf("CREATE TRIGGER stuck BEFORE DELETE ON sessions WHEN OLD.hash = 'hash_%d' BEGIN "+
		"SELECT RAISE(ABORT, 'no'); END", over-1))
	begun, stop := pairs(t, db)
	swept, err := db.Sweep(t.Context())
	stop()
	if err == nil || swept.Sessions < over-300 || left() != over+live-swept.Sessions {
		t.Errorf("one row cannot be deleted: %d of %d are, %d are left, %v", swept.Sessions, over, left(), err)
	}
	run("DROP TRIGGER stuck")
	if _, err := db.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	if n := left(); n != live {
		t.Errorf("%d are left, want the %d that are live", n, live)
	}
	wholePairs(t, db, begun.Load())
}
