package ledger_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/ledger"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// world is a database with what seals it, and a handle for somebody who goes around Cardea.
type world struct {
	t      *testing.T
	engine storetest.Engine
	dsn    string
	clock  *storetest.Clock
	db     *store.DB
	raw    *sql.DB
	key    ledger.Key
	sealer *ledger.Sealer
}

func newKey(t *testing.T, seed string) ledger.Key {
	t.Helper()
	key, err := ledger.NewKey(bytes.Repeat([]byte(seed), 32), []byte("codes of "+seed))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newWorld(t *testing.T, engine storetest.Engine) *world {
	t.Helper()
	w := &world{t: t, engine: engine, dsn: storetest.New(t, engine), clock: storetest.NewClock(), key: newKey(t, "k")}
	w.db = storetest.Connect(t, w.dsn, w.clock)
	driver, source := "pgx", w.dsn
	if path, ok := strings.CutPrefix(w.dsn, "sqlite:"); ok {
		driver, source = "sqlite", path
	}
	raw, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	w.raw = raw
	w.sealer = w.newSealer(w.db)
	return w
}

func (w *world) newSealer(db *store.DB) *ledger.Sealer {
	return &ledger.Sealer{DB: db, Key: w.key, Log: slog.New(slog.NewTextHandler(w.t.Output(), nil))}
}

// both runs test on both databases.
func both(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	for _, engine := range []storetest.Engine{storetest.SQLite, storetest.Postgres} {
		t.Run(string(engine), func(t *testing.T) { test(t, newWorld(t, engine)) })
	}
}

// record records n events and advances the clock by ten minutes.
func (w *world) record(n int) {
	w.t.Helper()
	for i := range n {
		e := audit.Event{Action: "test.event", ClientID: fmt.Sprint("mcp_", i)}.With("n", fmt.Sprint(i)).Allow()
		if err := w.db.Append(w.t.Context(), e); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) seal() {
	w.t.Helper()
	if err := w.sealer.SealAll(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// exec runs statements as somebody who has the database.
func (w *world) exec(statements ...string) {
	w.t.Helper()
	for _, statement := range statements {
		if _, err := w.raw.ExecContext(w.t.Context(), statement); err != nil {
			w.t.Fatalf("%s: %v", statement, err)
		}
	}
}

func (w *world) verify(outside string) ledger.Report {
	w.t.Helper()
	return w.verifyWith(w.key, outside)
}

func (w *world) verifyWith(key ledger.Key, outside string) ledger.Report {
	w.t.Helper()
	report, err := ledger.Verify(w.t.Context(), w.db, key, ledger.Verification{Outside: outside})
	if err != nil {
		w.t.Fatal(err)
	}
	return report
}

// intact fails the test unless the log has n events and is as it was sealed.
func (w *world) intact(n int64, outside string) ledger.Report {
	w.t.Helper()
	r := w.verify(outside)
	if !r.OK || r.Events != n || r.Waiting != 0 || r.FirstBad != nil {
		w.t.Fatalf("verify: %s", tell(r))
	}
	return r
}

func tell(r ledger.Report) string {
	text, err := json.Marshal(r)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// event returns the id of the event of a record, as SQL.
func (w *world) event(number int64) string {
	w.t.Helper()
	return "'" + w.sealed(number).ID + "'"
}

func (w *world) sealed(number int64) store.SealedRecord {
	w.t.Helper()
	var r []store.SealedRecord
	if err := w.db.View(w.t.Context(), func(tx *store.Tx) (err error) {
		r, err = tx.Sealed(number, 1)
		return err
	}); err != nil || len(r) != 1 {
		w.t.Fatalf("record %d: %v", number, err)
	}
	return r[0]
}

// A row has what the database has of the records of a checkpoint.
type row struct {
	events []string // "at id"
	hashes [][]byte
	codes  [][]byte
}

// change changes the row whose first record has a number.
func (w *world) change(number int64, do func(r *row)) {
	w.t.Helper()
	place := map[storetest.Engine]string{storetest.SQLite: "?", storetest.Postgres: "$"}[w.engine]
	at := func(n int) string {
		if place == "?" {
			return place
		}
		return place + fmt.Sprint(n)
	}
	var events string
	var hashes, codes []byte
	if err := w.raw.QueryRowContext(w.t.Context(), "SELECT events, hashes, codes FROM seals WHERE number = "+at(1),
		number).Scan(&events, &hashes, &codes); err != nil {
		w.t.Fatal(err)
	}
	r := row{events: strings.Split(strings.TrimSuffix(events, "\n"), "\n")}
	for chunk := range slices.Chunk(hashes, 32) {
		r.hashes = append(r.hashes, chunk)
	}
	for chunk := range slices.Chunk(codes, 16) {
		r.codes = append(r.codes, chunk)
	}
	do(&r)
	if _, err := w.raw.ExecContext(w.t.Context(), "UPDATE seals SET records = "+at(1)+", events = "+at(2)+", hashes = "+
		at(3)+", codes = "+at(4)+" WHERE number = "+at(5), len(r.hashes), strings.Join(r.events, "\n")+"\n",
		bytes.Join(r.hashes, nil), bytes.Join(r.codes, nil), number); err != nil {
		w.t.Fatal(err)
	}
}

// drop removes a record of the row.
func (r *row) drop(i int) {
	r.events = slices.Delete(r.events, i, i+1)
	r.hashes, r.codes = slices.Delete(r.hashes, i, i+1), slices.Delete(r.codes, i, i+1)
}

// cutOff removes the last twenty records with all that belongs to them.
var cutOff = []string{"DELETE FROM events WHERE at >= (SELECT begins FROM seals WHERE number = 40)",
	"DELETE FROM seals WHERE number >= 40", "DELETE FROM checkpoints WHERE size > 40"}

// forge inserts an event like number 25, and at its time, with another id.
func (w *world) forge() string {
	w.t.Helper()
	return `INSERT INTO events (at, id, action, outcome, reason, description, client_id, user_id, grant_id, resource,
		scope, detail, request_id, address, user_agent) SELECT at, 'evt_forged', action, outcome, reason, description,
		'mcp_forged', user_id, grant_id, resource, scope, detail, request_id, address, user_agent FROM events
		WHERE id = ` + w.event(25)
}

// AD-18, CS-10: what somebody who has the database does to the log, and the first record that verify names. The log has
// the events 0 to 59, sealed twenty at a time.
func TestCS10Manipulations(t *testing.T) {
	manipulations := []struct {
		name    string
		do      func(w *world)
		outside bool // somebody kept a checkpoint
		want    int64
		reason  string
	}{
		{"changed", func(w *world) {
			w.exec("UPDATE events SET client_id = 'mcp_x' WHERE id = " + w.event(25))
		}, false, 25, "the event was changed"},
		{"detail changed", func(w *world) {
			w.exec("UPDATE events SET detail = '' WHERE id = " + w.event(25))
		}, false, 25, "the event was changed"},
		{"changed with its hash", func(w *world) {
			w.exec("UPDATE events SET client_id = 'mcp_x' WHERE id = " + w.event(25))
			w.rehash(25)
		}, false, 25, "its seal was changed"},
		{"swapped with another", func(w *world) {
			w.exec("UPDATE events SET client_id = CASE client_id WHEN 'mcp_5' THEN 'mcp_6' ELSE 'mcp_5' END, " +
				"detail = '' WHERE id IN (" + w.event(25) + ", " + w.event(26) + ")")
		}, false, 25, "the event was changed"},
		{"the code of its seal changed", func(w *world) {
			w.change(20, func(r *row) { r.codes[5] = r.codes[6] })
		}, false, 25, "its seal was changed"},
		{"dated anew", func(w *world) {
			w.exec("UPDATE events SET at = at - 5 WHERE id = " + w.event(25))
		}, false, 25, "the event was deleted"},
		{"dated anew with its seal", func(w *world) {
			w.exec("UPDATE events SET at = at - 5 WHERE id = " + w.event(25))
			w.change(20, func(r *row) {
				r.events[5] = fmt.Sprint(w.sealed(25).At.UnixMicro()-5, " ", w.sealed(25).ID)
			})
		}, false, 25, "the event was changed"},
		{"deleted", func(w *world) {
			w.exec("DELETE FROM events WHERE id = " + w.event(25))
		}, false, 25, "the event was deleted"},
		{"deleted with its seal", func(w *world) {
			w.exec("DELETE FROM events WHERE id = " + w.event(25))
			w.change(20, func(r *row) { r.drop(5) })
		}, false, 25, "its seal was changed"},
		{"deleted with all seals of its checkpoint", func(w *world) {
			w.exec("DELETE FROM seals WHERE number = 20")
		}, false, 20, "its seal is missing"},
		{"deleted with the seals from it on", func(w *world) {
			w.exec("DELETE FROM events WHERE id = " + w.event(25))
			w.change(20, func(r *row) { r.events, r.hashes, r.codes = r.events[:5], r.hashes[:5], r.codes[:5] })
		}, false, 25, "its seal is missing"},
		{"only its hash shortened", func(w *world) {
			w.change(20, func(r *row) { r.hashes[19] = r.hashes[19][:31] })
		}, false, 39, "its seal was changed"},
		{"deleted, and the others renumbered", func(w *world) {
			w.exec("DELETE FROM events WHERE id = "+w.event(25), "UPDATE seals SET number = 39 WHERE number = 40")
			w.change(20, func(r *row) { r.drop(5) })
		}, false, 25, "its seal was changed"},
		{"deleted as if by retention", func(w *world) {
			w.exec("DELETE FROM events WHERE id = " + w.event(25))
			w.change(20, func(r *row) { r.events[5] = "" })
		}, false, 25, "not by retention"},
		{"moved", func(w *world) {
			w.change(20, func(r *row) {
				r.events[5], r.events[6] = r.events[6], r.events[5]
				r.hashes[5], r.hashes[6] = r.hashes[6], r.hashes[5]
				r.codes[5], r.codes[6] = r.codes[6], r.codes[5]
			})
		}, false, 25, "its seal was changed"},
		{"inserted", func(w *world) {
			w.exec(w.forge(), "UPDATE events SET rowid = -1 WHERE id = 'evt_forged'")
		}, false, 25, "was inserted"},
		{"inserted, to be sealed", func(w *world) { w.exec(w.forge()) }, false, 25, "was inserted"},
		{"inserted, and sealed", func(w *world) {
			w.exec(w.forge())
			w.seal()
		}, false, 60, "was not there"},
		{"the end cut off", func(w *world) { w.exec(cutOff...) }, true, 40, "was cut off"},
		{"the end cut off, and new events sealed", func(w *world) {
			w.exec(cutOff...)
			w.sealer = w.newSealer(w.db)
			w.record(30)
			w.seal()
		}, true, 0, "not those of the given checkpoint"},
		{"the end cut off but its checkpoint", func(w *world) { w.exec(cutOff[:2]...) }, false, 40, "seal is missing"},
		{"the end cut off but its events", func(w *world) { w.exec(cutOff[1:]...) }, true, 40, "was cut off"},
		{"a checkpoint removed", func(w *world) {
			w.exec("DELETE FROM checkpoints WHERE size = 40")
		}, false, 20, "a checkpoint is missing"},
		{"a checkpoint of another key", func(w *world) {
			other := newWorld(w.t, w.engine)
			other.key = newKey(w.t, "o")
			other.sealer = other.newSealer(other.db)
			other.record(60)
			other.seal()
			note := other.intact(60, "").Checkpoint
			w.exec("UPDATE checkpoints SET note = '" + note + "' WHERE size = 60")
		}, false, 40, "not signed with the key"},
		{"a checkpoint that says another size", func(w *world) {
			w.exec("UPDATE checkpoints SET size = 41 WHERE size = 40")
		}, false, 20, "is another one"},
		{"changed, and the newest checkpoint spoilt", func(w *world) {
			w.exec("UPDATE events SET client_id = 'mcp_x' WHERE id = "+w.event(25),
				"UPDATE checkpoints SET note = '' WHERE size = 60")
		}, false, 25, "the event was changed"},
		{"all sealed anew with another key", func(w *world) {
			w.exec("UPDATE events SET client_id = 'mcp_x' WHERE id = "+w.event(25), "DELETE FROM seals",
				"DELETE FROM checkpoints", "DELETE FROM seal_trees")
			w.key = newKey(w.t, "o")
			w.sealer = w.newSealer(w.db)
			for range 2 {
				w.record(1)
				w.seal()
			}
			w.key = newKey(w.t, "k")
		}, false, 0, "not signed with the key"},
		{"the seals removed", func(w *world) {
			w.exec("DELETE FROM seals", "DELETE FROM checkpoints", "DELETE FROM seal_trees")
		}, false, 0, "no checkpoint"},
		{"the checkpoints removed", func(w *world) { w.exec("DELETE FROM checkpoints") }, false, 0, "no checkpoint"},
		{"all sealed anew without one", func(w *world) {
			w.exec("DELETE FROM events WHERE id = "+w.event(25), "DELETE FROM seals", "DELETE FROM checkpoints",
				"DELETE FROM seal_trees")
			w.sealer = w.newSealer(w.db)
			w.record(1)
			w.seal()
		}, true, 0, "not those of the given checkpoint"},
	}
	both(t, func(t *testing.T, w *world) {
		outside, again := w.begin(), w.keep()
		for _, m := range manipulations {
			t.Run(m.name, func(t *testing.T) {
				w.t, w.sealer = t, w.newSealer(w.db)
				again()
				kept := outside
				if !m.outside {
					kept = ""
				}
				m.do(w)
				for _, kept := range []string{kept, outside} { // to have one does no harm
					r := w.verify(kept)
					if r.OK || r.FirstBad == nil || *r.FirstBad != m.want || !strings.Contains(r.Reason, m.reason) {
						t.Errorf("first bad is not %d (%s): %s", m.want, m.reason, tell(r))
					}
				}
			})
		}
		w.t = t
	})
}

// keep returns a function that makes the log again what it is now.
func (w *world) keep() (again func()) {
	w.t.Helper()
	var statements []string
	for _, table := range []string{"events", "seals", "seal_trees", "checkpoints"} {
		rows, err := w.raw.QueryContext(w.t.Context(), "SELECT * FROM "+table+" LIMIT 0")
		if err != nil {
			w.t.Fatal(err)
		}
		defer rows.Close()
		columns, err := rows.Columns()
		if err = errors.Join(err, rows.Err()); err != nil {
			w.t.Fatal(err)
		}
		if table == "events" && !slices.Contains(columns, "rowid") {
			columns = append(columns, "rowid")
		}
		var kept []string
		for i, column := range columns {
			kept = append(kept, fmt.Sprintf("%s AS kept_%d", column, i))
		}
		w.exec("CREATE TABLE kept_" + table + " AS SELECT " + strings.Join(kept, ", ") + " FROM " + table)
		for i := range kept {
			kept[i] = fmt.Sprint("kept_", i)
		}
		statements = append(statements, "DELETE FROM "+table, "INSERT INTO "+table+" ("+strings.Join(columns, ", ")+
			") SELECT "+strings.Join(kept, ", ")+" FROM kept_"+table)
	}
	return func() { w.exec(statements...) }
}

// begin fills the log with sixty events, sealed twenty at a time, and returns its newest checkpoint.
func (w *world) begin() string {
	w.t.Helper()
	for range 3 {
		w.record(20)
		w.seal()
		w.clock.Advance(10 * time.Minute)
	}
	outside := w.intact(60, "").Checkpoint
	w.intact(60, outside)
	return outside
}

// rehash gives a record the hash that its event has now.
func (w *world) rehash(number int64) {
	w.t.Helper()
	hash := tlog.RecordHash(w.sealed(number).Text)
	w.change(number-number%20, func(r *row) { r.hashes[number%20] = hash[:] })
}

// Verify tells how far it is.
func TestProgress(t *testing.T) {
	w := newWorld(t, storetest.SQLite)
	for range 3 {
		w.record(20)
		w.seal()
	}
	var told []int64
	r, err := ledger.Verify(t.Context(), w.db, w.key, ledger.Verification{Progress: func(done, of int64) {
		told = append(told, done, of)
	}})
	if err != nil || !r.OK || !slices.Equal(told, []int64{0, 60, 20, 60, 40, 60}) {
		t.Errorf("told %v: %v", told, err)
	}
}

// With the public key alone, a record that was changed with its hash is found to the checkpoint.
func TestPublicKey(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		for range 2 {
			w.record(20)
			w.seal()
		}
		public, err := ledger.ParseKey(w.key.String())
		if err != nil {
			t.Fatal(err)
		}
		if r := w.verifyWith(public, ""); !r.OK {
			t.Fatal(tell(r))
		}
		w.exec("UPDATE events SET client_id = 'mcp_x' WHERE id = " + w.event(25))
		w.rehash(25)
		if r := w.verifyWith(public, ""); r.OK || *r.FirstBad != 20 || !strings.Contains(r.Reason, "from 20 to 39") {
			t.Error(tell(r))
		}
	})
}

func TestNothingSealed(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.intact(0, "")
		w.seal()
		w.intact(0, "")
		w.record(1)
		if r := w.verify(""); r.OK || *r.FirstBad != 0 || !strings.Contains(r.Reason, "no checkpoint") {
			t.Error(tell(r))
		}
		w.seal()
		w.intact(1, "")
		w.record(2)
		if r := w.verify(""); !r.OK || r.Waiting != 2 || r.Events != 1 {
			t.Error(tell(r))
		}
	})
}

// Logs of many sizes: the stored subtrees are those from which roots are computed after a restart.
func TestSizes(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		n := int64(0)
		for _, more := range []int{1, 1, 1, 125, 127, 1, 1, 254, 1, 600} {
			w.record(more)
			w.sealer = w.newSealer(w.db) // as after a restart
			w.seal()
			n += int64(more)
			w.intact(n, "")
		}
	})
}

// On PostgreSQL the events after one whose transaction has not ended wait for it, however many there are, so that it is
// sealed in its place if it commits, and the others are if it does not.
func TestLateCommit(t *testing.T) {
	for _, commit := range []bool{true, false} {
		t.Run(fmt.Sprint(commit), func(t *testing.T) {
			w := newWorld(t, storetest.Postgres)
			w.record(26)
			w.seal()
			forge := w.forge()
			late, err := w.raw.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = late.Rollback() }()
			w.record(1)
			if _, err := late.ExecContext(t.Context(), forge); err != nil {
				t.Fatal(err)
			}
			w.record(3)
			w.seal()
			if r := w.verify(""); !r.OK || r.Events != 27 || r.Waiting != 3 {
				t.Error(tell(r))
			}
			want := int64(33)
			if commit {
				err = late.Commit()
			} else {
				want, err = 32, late.Rollback()
			}
			if err != nil {
				t.Fatal(err)
			}
			w.record(2)
			w.seal()
			w.intact(want, "")
			w.record(1)
			w.seal()
			w.intact(want+1, "")
		})
	}
}

// Numbers of PostgreSQL that were lost, as in a crash, do not delay what comes after them.
func TestLostNumbers(t *testing.T) {
	w := newWorld(t, storetest.Postgres)
	n := int64(0)
	for _, more := range []int{3, 1, 600} {
		w.exec("SELECT setval('event_rows', nextval('event_rows') + 31)")
		w.record(more)
		w.seal()
		n += int64(more)
		w.intact(n, "")
	}
}

// VACUUM keeps the order of the events.
func TestVacuum(t *testing.T) {
	w := newWorld(t, storetest.SQLite)
	w.sealer.Retain = time.Hour
	w.record(30)
	w.seal()
	w.clock.Advance(2 * time.Hour)
	w.record(3)
	w.seal()
	if err := w.sealer.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.exec("VACUUM")
	w.record(2)
	w.seal()
	w.sealer = w.newSealer(w.db)
	w.record(2)
	w.seal()
	w.intact(38, "")
}

// SQLite gives the number of a deleted row again, and the sealer would pass over that event.
func TestNewestDeleted(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.record(3)
		w.seal()
		w.exec("DELETE FROM events WHERE at = (SELECT MAX(at) FROM events)")
		if _, err := w.sealer.Seal(t.Context()); !errors.Is(err, ledger.ErrTampered) {
			t.Errorf("the running sealer: %v", err)
		}
		if _, err := w.newSealer(w.db).Seal(t.Context()); !errors.Is(err, ledger.ErrTampered) {
			t.Errorf("after a restart: %v", err)
		}
	})
}

// restore makes the log what it was with 40 events, as a restore of a backup does, and notes that if it is told to.
func (w *world) restore(note bool) {
	w.t.Helper()
	w.exec(cutOff...)
	w.clock.Advance(time.Minute)
	if note {
		if err := w.db.Update(w.t.Context(), func(tx *store.Tx) error {
			_, err := tx.Rewind(false)
			return err
		}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// After a restore the log goes on, and its checkpoints and verify say what happened.
func TestRestored(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		file := filepath.Join(t.TempDir(), "checkpoint")
		w.sealer.File = file
		for range 3 {
			w.record(20)
			w.seal()
		}
		before := w.intact(60, "").Checkpoint
		w.restore(true)
		if r := w.verify(before); r.OK || *r.FirstBad != 40 || !strings.Contains(r.Reason, "undone by the restore of 2030-") {
			t.Error(tell(r))
		}
		w.sealer = w.newSealer(w.db)
		w.sealer.File = file
		w.record(5)
		w.seal()
		r := w.intact(45, "")
		if len(r.Restored) != 1 || r.Restored[0].Events != 40 || !strings.Contains(r.Checkpoint, "\nrestored 40 2030-") {
			t.Error(tell(r))
		}
		aside, err := filepath.Glob(file + ".2030*Z")
		if err != nil || len(aside) != 1 {
			t.Fatalf("set aside are %v: %v", aside, err)
		}
		if kept, err := os.ReadFile(aside[0]); err != nil || string(kept) != before {
			t.Errorf("what was set aside is %q: %v", kept, err)
		}
		// The next ones say it too, and continue.
		w.sealer = w.newSealer(w.db)
		w.sealer.File = file
		w.record(30)
		w.seal()
		if r := w.intact(75, r.Checkpoint); len(r.Restored) != 1 {
			t.Error(tell(r))
		}
		if r := w.verify(before); r.OK || *r.FirstBad != 0 || !strings.Contains(r.Reason, "undone by the restore") {
			t.Error(tell(r))
		}
		w.exec("UPDATE settings SET value = '1' WHERE name = 'events_restored'")
		if r := w.intact(75, ""); len(r.Restored) != 1 {
			t.Error(tell(r))
		}
	})
}

// FL-17: several nodes seal while others record: every event is sealed once.
func TestSeveralSealers(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		const nodes, events = 3, 150
		ctx, stop := context.WithCancel(t.Context())
		var recording, sealing sync.WaitGroup
		for range nodes {
			node := storetest.Connect(t, w.dsn, w.clock)
			recording.Go(func() {
				for i := range events {
					if err := node.Append(ctx, audit.Event{Action: "test.event"}.With("n", fmt.Sprint(i)).Allow()); err != nil {
						t.Error(err)
					}
				}
			})
			sealer := w.newSealer(node)
			sealing.Go(func() {
				for ctx.Err() == nil {
					if err := sealer.SealAll(ctx); err != nil && ctx.Err() == nil {
						t.Error(err)
						return
					}
				}
			})
		}
		recording.Wait()
		stop()
		sealing.Wait()
		w.seal()
		w.intact(nodes*events, "")
	})
}

// older makes the events that are there older than the log, as the migration does that begins it.
func (w *world) older() {
	w.t.Helper()
	w.exec("UPDATE settings SET value = (SELECT CAST(MAX(at) AS TEXT) FROM events) WHERE name = 'events_older'")
	if w.engine == storetest.Postgres {
		w.exec("UPDATE events SET rowid = NULL")
		return
	}
	w.exec("UPDATE settings SET value = (SELECT CAST(MAX(rowid) AS TEXT) FROM events) WHERE name = 'events_begin'")
}

// Events that a database had before it was migrated are older than the log, and verify counts them.
func TestOlder(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.record(5)
		w.older()
		w.clock.Advance(time.Hour)
		w.record(3)
		w.seal()
		if r := w.intact(3, ""); r.Older != 5 || !strings.Contains(r.Checkpoint, "\nolder 2030-01-02T03:04:05.0000") {
			t.Error(tell(r))
		}
		w.record(1)
		w.exec("UPDATE settings SET value = '9000000000000000' WHERE name = 'events_older'",
			"UPDATE events SET rowid = -1 WHERE at = (SELECT MAX(at) FROM events)")
		if r := w.verify(""); r.OK {
			t.Errorf("an event was made older than the log: %s", tell(r))
		}
	})
}

func TestRetention(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.sealer.Retain = 24 * time.Hour
		w.record(700)
		w.seal()
		outside := w.intact(700, "").Checkpoint
		w.clock.Advance(25 * time.Hour)
		w.record(20)
		w.seal()
		if err := w.sealer.Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r := w.intact(721, outside); r.Deleted != 700 { // one says what was deleted
			t.Error(tell(r))
		}
		left := 0
		if err := w.raw.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM events").Scan(&left); err != nil || left != 21 {
			t.Errorf("%d events are left: %v", left, err)
		}
		w.sealer = w.newSealer(w.db)
		w.record(1)
		w.seal()
		w.intact(722, outside)
		w.exec("DELETE FROM events WHERE id = " + w.event(705))
		w.change(700, func(r *row) { r.events[5] = "" })
		if r := w.verify(outside); r.OK || *r.FirstBad != 705 {
			t.Error(tell(r))
		}
	})
}

// CS-20: what retention deletes is not in the database any more, and the hash that stays does not confirm a guess.
func TestCS20RetentionErases(t *testing.T) {
	w := newWorld(t, storetest.Postgres) // SQLite reuses pages later
	w.sealer.Retain = time.Hour
	w.record(3)
	w.seal()
	w.clock.Advance(2 * time.Hour)
	if err := w.sealer.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(storetest.AtRest(t, w.db)), "mcp_1") {
		t.Error("an event that was deleted is still there")
	}
}

// Older events go too.
func TestRetentionOfOlder(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.record(5)
		w.older()
		w.sealer.Retain = time.Hour
		w.clock.Advance(30 * time.Minute)
		w.record(1)
		w.seal()
		w.clock.Advance(31 * time.Minute)
		w.seal()
		if err := w.sealer.Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r := w.intact(1, ""); r.Older != 0 || r.Deleted != 0 {
			t.Error(tell(r))
		}
	})
}

// A time in the database that the signed note does not have deletes nothing.
func TestRetentionIsNotFooled(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.sealer.Retain = time.Hour
		w.record(3)
		w.seal()
		w.exec("UPDATE checkpoints SET at = 0")
		if err := w.sealer.Delete(t.Context()); !errors.Is(err, ledger.ErrTampered) {
			t.Errorf("error %v", err)
		}
		if r := w.intact(3, ""); r.Deleted != 0 {
			t.Error(tell(r))
		}
	})
}

// A sealer does not continue a log that is not the one it knows.
func TestSealsNothingTampered(t *testing.T) {
	for name, tamper := range map[string]func(w *world){
		"cut off":      func(w *world) { w.exec(cutOff...) },
		"hash changed": func(w *world) { w.change(20, func(r *row) { r.hashes[5] = r.hashes[4] }) },
		"seal removed": func(w *world) { w.change(40, func(r *row) { r.drop(19) }) },
		"note replaced": func(w *world) {
			w.exec("UPDATE checkpoints SET note = (SELECT note FROM checkpoints WHERE size = 20) WHERE size = 60")
		},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, w *world) {
				w.sealer.File = filepath.Join(t.TempDir(), "checkpoint")
				for range 3 {
					w.record(20)
					w.seal()
				}
				text, err := os.ReadFile(w.sealer.File)
				if err != nil {
					t.Fatal(err)
				}
				w.intact(60, string(text))
				tamper(w)
				w.record(1)
				if name == "cut off" || name == "note replaced" { // it holds the hashes in memory
					if _, err := w.sealer.Seal(t.Context()); !errors.Is(err, ledger.ErrTampered) {
						t.Errorf("the running sealer: %v", err)
					}
				}
				restarted := w.newSealer(w.db)
				restarted.File = w.sealer.File
				if _, err := restarted.Seal(t.Context()); !errors.Is(err, ledger.ErrTampered) {
					t.Errorf("after a restart: %v", err)
				}
			})
		})
	}
}

func TestProof(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.record(300)
		w.seal()
		for _, number := range []int64{0, 25, 255, 256, 299} {
			var r []store.SealedRecord
			if err := w.db.View(t.Context(), func(tx *store.Tx) (err error) {
				r, err = tx.Sealed(number, 1)
				return err
			}); err != nil {
				t.Fatal(err)
			}
			proof, err := ledger.Prove(t.Context(), w.db, w.key, r[0].At, r[0].ID)
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(proof)
			if err != nil {
				t.Fatal(err)
			}
			public, err := ledger.ParseKey(w.key.String())
			if err != nil {
				t.Fatal(err)
			}
			read := ledger.Proof{}
			if err := json.Unmarshal(text, &read); err != nil {
				t.Fatal(err)
			}
			if err := read.Check(public); err != nil {
				t.Errorf("%s: %v", text, err)
			}
			for name, change := range map[string]func(*ledger.Proof){
				"record": func(p *ledger.Proof) { p.Record = strings.Replace(p.Record, "mcp_", "mcp-", 1) },
				"number": func(p *ledger.Proof) { p.Number++ },
				"hashes": func(p *ledger.Proof) { p.Hashes = p.Hashes[1:] },
				"size":   func(p *ledger.Proof) { p.Checkpoint = strings.Replace(p.Checkpoint, "\n300\n", "\n301\n", 1) },
			} {
				changed := read
				if change(&changed); changed.Check(public) == nil {
					t.Errorf("a proof with another %s holds", name)
				}
			}
			if err := read.Check(newKey(t, "o")); err == nil {
				t.Error("the proof holds with another key")
			}
		}
		w.record(1)
		var newest []audit.Event
		if err := w.db.View(t.Context(), func(tx *store.Tx) (err error) {
			newest, _, err = tx.Events(store.EventFilter{}, store.Page{Newest: true, Limit: 1})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := ledger.Prove(t.Context(), w.db, w.key, newest[0].At, newest[0].ID); !errors.Is(err,
			ledger.ErrNotSealed) {
			t.Errorf("an event that waits: %v", err)
		}
	})
}

// The form of a record is for ever: another one would make every log that exists look changed.
func TestRecordForm(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.exec(`INSERT INTO events (at, id, action, outcome, reason, description, client_id, user_id, grant_id, resource,
			scope, detail, request_id, address, user_agent, actor_type, actor_id, actor_name, changes) VALUES (1, 'evt_1',
			'a', 'refused', 'b', 'c "<d>" é', 'e', 'f', 'g', 'h', 'i', '{"k":"v"}', 'j', 'k', 'l', 'user', 'm', 'n',
			'{"after":{"x":1}}')`)
		var waiting []store.Record
		if err := w.db.View(t.Context(), func(tx *store.Tx) (err error) {
			waiting, err = tx.Unsealed(0, 1)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		const want = `{"at":1,"id":"evt_1","action":"a","outcome":"refused","reason":"b",` +
			`"description":"c \"\u003cd\u003e\" é","client_id":"e","user_id":"f","grant_id":"g","resource":"h",` +
			`"scope":"i","detail":"{\"k\":\"v\"}","request_id":"j","address":"k","user_agent":"l",` +
			`"actor_type":"user","actor_id":"m","actor_name":"n","changes":"{\"after\":{\"x\":1}}"}`
		if got := string(waiting[0].Text); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

// The sealer has what this process recorded in memory; that is what is stored, whatever was recorded.
func TestRecordedIsStored(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.seal() // from now on it is kept in memory
		for _, text := range []string{"", "a\x00b", "\xff\xfe", "\u2028<&>\ufffd", strings.Repeat("é", 600)} {
			e := audit.Event{Action: "test.event", ClientID: text, Scope: text, UserID: text, Description: text,
				Actor: audit.Actor{Type: audit.ByUser, ID: "usr_1", Name: text}}
			e = e.With("detail", text).Changed(map[string]string{"name": text + "1"}, map[string]string{"name": text})
			ctx := audit.WithRequest(t.Context(), audit.Request{ID: text, Address: text, UserAgent: text})
			if err := w.db.Append(ctx, e.Refuse("invalid_request", text)); err != nil {
				t.Fatal(err)
			}
		}
		w.seal()
		w.intact(5, "")
	})
}

// An event that is changed before it is sealed is found too, if the process that recorded it seals it.
func TestChangedBeforeSealing(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.seal()
		w.record(30)
		w.exec("UPDATE events SET client_id = 'mcp_x' WHERE id = (SELECT id FROM events ORDER BY at LIMIT 1 OFFSET 7)")
		w.seal()
		if r := w.verify(""); r.OK || *r.FirstBad != 7 || !strings.Contains(r.Reason, "was changed") {
			t.Error(tell(r))
		}
	})
}
