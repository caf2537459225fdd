package ledger_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/ledger"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// The stored hashes of whole subtrees are verified too: proofs are made of them, and a server that starts continues
// the log from them.
func TestSubtrees(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.record(300)
		w.seal()
		w.intact(300, "")
		for name, tamper := range map[string]string{
			"changed": "UPDATE seal_trees SET hash = (SELECT hashes FROM seals WHERE number = 0)",
			"removed": "DELETE FROM seal_trees",
		} {
			w.exec("CREATE TABLE kept_"+name+" AS SELECT * FROM seal_trees", tamper)
			if r := w.verify(""); r.OK || *r.FirstBad != 0 || !strings.Contains(r.Reason, "the 256 events") {
				t.Errorf("%s: %s", name, tell(r))
			}
			w.exec("DELETE FROM seal_trees", "INSERT INTO seal_trees SELECT * FROM kept_"+name)
		}
		w.intact(300, "")
	})
}

// A clock that was set back makes nothing look inserted, neither before nor after the sealer has seen it.
func TestClockSetBack(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		outside := w.begin()
		w.clock.Advance(-3 * time.Hour)
		w.db = storetest.Connect(t, w.dsn, w.clock) // one that was up would date events after those before
		w.sealer = w.newSealer(w.db)
		w.record(5)
		if r := w.verify(outside); !r.OK || r.Waiting != 5 {
			t.Errorf("before: %s", tell(r))
		}
		w.seal()
		w.intact(65, outside)
		w.clock.Advance(4 * time.Hour)
		w.record(5)
		w.seal()
		w.intact(70, outside)
		w.exec(w.forge(), "UPDATE events SET rowid = -1 WHERE id = 'evt_forged'")
		if r := w.verify(outside); r.OK || *r.FirstBad != 25 {
			t.Errorf("inserted: %s", tell(r))
		}
	})
}

// Two nodes continue copies of one database. What one has seen, verify does not find in the other's, nor does a
// sealer with the other's checkpoint file go on.
func TestForked(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.begin()
		again := w.keep()
		file := filepath.Join(t.TempDir(), "checkpoint")
		w.sealer.File = file
		w.record(20)
		w.seal()
		one := w.intact(80, "").Checkpoint
		again()
		other := w.newSealer(w.db)
		other.File = file
		w.record(30)
		if _, err := other.Seal(t.Context()); !errors.Is(err, ledger.ErrTampered) {
			t.Errorf("with the checkpoint of the other node: %v", err)
		}
		w.sealer = w.newSealer(w.db)
		w.seal()
		w.intact(90, "")
		other = w.newSealer(w.db) // the log has more events now than the checkpoint, and others
		other.File = file
		w.record(1)
		if _, err := other.Seal(t.Context()); !errors.Is(err, ledger.ErrTampered) ||
			!strings.Contains(err.Error(), "its first 80 events are not those") {
			t.Errorf("longer than the checkpoint of the other node: %v", err)
		}
		if r := w.verify(one); r.OK || !strings.Contains(r.Reason, "the first 80 events are not those") {
			t.Error(tell(r))
		}
	})
}

// A thief of the master key can sign another log. Only a checkpoint from elsewhere shows it.
func TestStolenKey(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		outside := w.begin()
		w.exec("UPDATE events SET client_id = 'mcp_x' WHERE id = "+w.event(25), "DELETE FROM seals",
			"DELETE FROM checkpoints", "DELETE FROM seal_trees")
		w.sealer = w.newSealer(w.db)
		w.seal()
		w.intact(60, "")
		if r := w.verify(outside); r.OK || !strings.Contains(r.Reason, "the log was written again") {
			t.Error(tell(r))
		}
	})
}

// A table that was dropped is a fault and no verdict, because nothing can be compared.
func TestDropped(t *testing.T) {
	for _, table := range []string{"events", "seals", "checkpoints", "seal_trees"} {
		w := newWorld(t, storetest.SQLite)
		w.record(300)
		w.seal()
		w.exec("DROP TABLE " + table)
		if r, err := ledger.Verify(t.Context(), w.db, w.key, ledger.Verification{}); err == nil || r.OK ||
			!strings.Contains(err.Error(), "restore a backup") {
			t.Errorf("%s: %s, %v", table, tell(r), err)
		}
	}
}

// Rows that the program would never write do not stop verify from naming what is wrong.
func TestGarbage(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.begin()
		again := w.keep()
		for name, c := range map[string]struct {
			do   string
			want int64
		}{
			"many records":  {"UPDATE seals SET records = 9223372036854775807 WHERE number = 20", 20},
			"no records":    {"UPDATE seals SET records = 0 WHERE number = 20", 20},
			"no ids":        {"UPDATE seals SET events = 'x' WHERE number = 20", 20},
			"no hashes":     {"UPDATE seals SET hashes = codes WHERE number = 20", 20},
			"a huge number": {"UPDATE seals SET number = 9223372036854775807 WHERE number = 40", 40},
			"a huge size":   {"UPDATE checkpoints SET size = 9223372036854775807 WHERE size = 60", 40},
		} {
			again()
			w.exec(c.do)
			r, err := ledger.Verify(t.Context(), w.db, w.key, ledger.Verification{})
			if err != nil || r.OK || r.FirstBad == nil || *r.FirstBad != c.want {
				t.Errorf("%s: %s, %v; want %d", name, tell(r), err, c.want)
			}
			if err := w.db.View(t.Context(), func(tx *store.Tx) error {
				_, err := tx.Sealed(0, 100)
				return err
			}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
