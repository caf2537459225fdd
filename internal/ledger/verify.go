package ledger

import (
	"bytes"
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/cardea-auth/cardea/internal/store"
)

// tolerance is how much earlier than the checkpoint before it an event may be dated, because clocks of nodes differ and
// a transaction commits after its events are dated.
const tolerance = 5 * time.Minute

const verifyBatch = 1000 // rows read at once

// Report is the verdict of Verify.
type Report struct {
	OK         bool   `json:"ok"`
	Events     int64  `json:"events"`               // in the log, those included that retention has deleted
	Deleted    int64  `json:"deleted"`              // of those
	Waiting    int64  `json:"waiting"`              // to be sealed
	Older      int64  `json:"older"`                // than the log, so that nothing is proved of them
	Checkpoint string `json:"checkpoint,omitempty"` // the newest one, a signed note
	Key        string `json:"key"`                  // the public key that signs the log

	// Restored are the times when the log went back to an earlier state, as its checkpoints say.
	Restored []Restored `json:"restored,omitempty"`

	FirstBad *int64 `json:"first_bad,omitempty"` // number of the first record that is wrong; the first one is 0
	Event    string `json:"event,omitempty"`     // its event, if that is known
	Reason   string `json:"reason,omitempty"`
}

// fault is what is wrong with the log.
type fault struct {
	number int64
	event  string
	reason string
}

func (f *fault) Error() string { return fmt.Sprintf("record %d: %s", f.number, f.reason) }

func bad(number int64, event, format string, args ...any) error {
	return &fault{number, event, fmt.Sprintf(format, args...)}
}

// Verification says what Verify compares the log with. The zero value is valid.
type Verification struct {
	// Outside is a checkpoint that was kept elsewhere, a signed note: the log must contain what it had then. "": none.
	Outside string
	// Progress, if it is set, is called now and then with how many records of how many were verified.
	Progress func(done, of int64)
}

// Verify computes the log again from the stored events and compares it with what was signed. It changes nothing, and
// may run while a server seals. It returns an error if it cannot decide, also if with.Outside is not a note of this
// log.
func Verify(ctx context.Context, db *store.DB, key Key, with Verification) (Report, error) {
	v := verification{db: db, key: key, code: key.coder(), progress: with.Progress, report: Report{Key: key.String()}}
	if with.Outside != "" {
		c, err := key.Open(with.Outside)
		if err != nil {
			return v.report, fmt.Errorf("the given checkpoint cannot be used: %w; give a whole signed note, with all "+
				"its lines, of this log", err)
		}
		v.outside = &c
	}
	err := v.log(ctx)
	if err == nil {
		err = v.events(ctx)
	}
	if f := (*fault)(nil); errors.As(err, &f) {
		v.report.FirstBad, v.report.Event, v.report.Reason = &f.number, f.event, f.reason
		return v.report, nil
	}
	if err != nil {
		return v.report, fmt.Errorf("the audit log cannot be read whole: %w; if a table is missing, somebody has "+
			"changed the database by other means: keep a copy of it, and restore a backup", err)
	}
	v.report.OK = true
	return v.report, nil
}

type verification struct {
	db       *store.DB
	key      Key
	outside  *Checkpoint
	progress func(done, of int64)
	report   Report

	code   func(number int64, hash tlog.Hash) []byte
	newest Checkpoint // up to which the log is verified
	at     int64      // number of the next record
	tree   frontier
	full   []store.Subtree // of tree, that were not compared with the stored ones yet
}

// log verifies the records of the log.
func (v *verification) log(ctx context.Context) error {
	var last store.Checkpoint
	end := int64(-1)
	var waiting []store.Record
	var unsigned Restored // the database says that it was restored
	sealed := false
	err := v.db.View(ctx, func(tx *store.Tx) (err error) {
		last, err = tx.LastCheckpoint()
		if sealed = !errors.Is(err, store.ErrNotFound); sealed && err != nil {
			return err
		}
		if v.newest.Older, err = tx.EventsOlder(); err != nil {
			return err
		}
		if unsigned.At, err = tx.EventsRestored(); err != nil || sealed {
			return err
		}
		if end, err = tx.LastSeal(); err != nil {
			return err
		}
		begin, err := tx.LastRow()
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		waiting, err = tx.Unsealed(begin, 1)
		return err
	})
	unsigned.Events = last.Size
	v.newest.Restored = unsigned // of a log without checkpoints
	switch {
	case err != nil:
		return err
	case !sealed && (end >= 0 || len(waiting) > 0):
		return bad(0, "", "there are events, and no checkpoint; if this is a new installation, start the server, "+
			"which seals them")
	case !sealed:
		return v.end()
	}
	v.report.Checkpoint, v.report.Events = last.Note, last.Size
	older := v.newest.Older
	if v.newest, err = v.key.Open(last.Note); err != nil {
		// The ones before it may be good, and then tell of which record on the log is bad.
		if v.newest, err = v.usable(ctx); err != nil {
			return err
		}
		if v.newest.Size == 0 {
			v.newest.Older = older
		}
	}
	v.report.Deleted = v.newest.Deleted
	if !unsigned.At.IsZero() && !unsigned.At.Equal(v.newest.Restored.At) {
		v.newest.Restored = unsigned
	}
	if err := v.checkpoints(ctx, last.Size); err != nil {
		return err
	}
	if v.at < last.Size {
		return bad(v.at, "", "checkpoints are missing")
	}
	return v.end()
}

// usable returns the checkpoint before the first one that cannot be used, or the zero Checkpoint if that is the first.
func (v *verification) usable(ctx context.Context) (good Checkpoint, err error) {
	for {
		var page []store.Checkpoint
		if err := v.db.View(ctx, func(tx *store.Tx) (err error) {
			page, err = tx.Checkpoints(good.Size, verifyBatch)
			return err
		}); err != nil {
			return good, err
		}
		for _, row := range page {
			c, err := v.key.Open(row.Note)
			if err != nil || c.Size != row.Size {
				return good, nil
			}
			good = c
		}
		if len(page) == 0 {
			return good, nil
		}
	}
}

// compare compares the log with the given checkpoint if it has reached its size.
func (v *verification) compare() error {
	if v.outside != nil && v.outside.Size == v.at && v.tree.root() != v.outside.Root {
		return bad(0, "", "the first %d events are not those of the given checkpoint; the log was written again%s",
			v.at, v.undone())
	}
	return nil
}

// end returns an error if the log has ended before the given checkpoint.
func (v *verification) end() error {
	if v.outside != nil && v.outside.Size > v.at {
		return bad(v.at, "", "the end was cut off: the given checkpoint of %s has %d events%s",
			v.outside.At.Format(time.RFC3339), v.outside.Size, v.undone())
	}
	return nil
}

// undone names a restore that may be why the log does not have what the given checkpoint had, or returns "".
func (v *verification) undone() string {
	r := v.newest.Restored
	for _, before := range v.report.Restored {
		if before.Events < v.outside.Size && !before.At.Before(v.outside.At) {
			r = before
			break
		}
	}
	if r.Events >= v.outside.Size || r.At.Before(v.outside.At) {
		return ""
	}
	return fmt.Sprintf(", or undone by the restore of %s, after which the log had %d events; give a checkpoint from "+
		"after it, and ask who restored", r.At.Format(time.RFC3339), r.Events)
}

// restored notes the restore that c names. It returns an error if c contradicts the checkpoint before it.
func (v *verification) restored(c, before Checkpoint) error {
	if c.Restored == before.Restored || c.Restored == (Restored{}) && before.Size == 0 {
		return nil
	}
	if c.Restored.Events != c.Previous && before.Size > 0 {
		return bad(v.at, "", "the checkpoint of %d events tells of a restore that was not there", c.Size)
	}
	v.report.Restored = append(v.report.Restored, c.Restored)
	return nil
}

// checkpoints verifies the records up to a size, checkpoint by checkpoint.
func (v *verification) checkpoints(ctx context.Context, size int64) error {
	var before Checkpoint
	for v.at < size {
		var page []store.Checkpoint
		if err := v.db.View(ctx, func(tx *store.Tx) (err error) {
			page, err = tx.Checkpoints(v.at, verifyBatch)
			return err
		}); err != nil {
			return err
		}
		if len(page) == 0 {
			return bad(v.at, "", "checkpoints are missing")
		}
		for _, row := range page {
			if row.Size > size { // sealed since
				return nil
			}
			c, err := v.key.Open(row.Note)
			switch {
			case err != nil:
				return bad(v.at, "", "the checkpoint of %d events cannot be used: %v", row.Size, err)
			case c.Size != row.Size || c.Previous != row.Previous:
				return bad(v.at, "", "the checkpoint of %d events is another one", row.Size)
			case c.Previous != before.Size && (before.Size > 0 || c.Size > v.newest.Deleted):
				return bad(v.at, "", "a checkpoint is missing before that of %d events", row.Size)
			case c.Deleted > v.newest.Deleted || !c.Older.Equal(v.newest.Older):
				return bad(v.at, "", "the checkpoint of %d events contradicts the newest one", row.Size)
			}
			if err := v.restored(c, before); err != nil {
				return err
			}
			if err := v.records(ctx, c, before); err != nil {
				return err
			}
			if v.tree.root() != c.Root {
				return bad(before.Size, "", "the events from %d to %d are not those that were sealed", before.Size,
					c.Size-1)
			}
			if err := v.subtrees(ctx); err != nil {
				return err
			}
			before = c
		}
	}
	return nil
}

// subtrees compares the stored hashes of full subtrees with the computed ones, because proofs are made of them, and the
// server continues the log from them after a restart.
func (v *verification) subtrees(ctx context.Context) error {
	for _, s := range v.full {
		var stored [][]byte
		if err := v.db.View(ctx, func(tx *store.Tx) (err error) {
			stored, err = tx.SealHashes(s.Level, s.Number, s.Number+1)
			return err
		}); err != nil {
			return err
		}
		if len(stored) != 1 || !bytes.Equal(stored[0], s.Hash) {
			events := int64(1) << (stride * s.Level)
			return bad(s.Number*events, "", "the hash that is stored of the %d events from it on was changed or "+
				"removed; the events are those that were sealed", events)
		}
	}
	v.full = v.full[:0]
	return nil
}

// records verifies the records up to those of a checkpoint. before is the checkpoint before it.
func (v *verification) records(ctx context.Context, c, before Checkpoint) error {
	for v.at < c.Size {
		var page []store.SealedRecord
		if err := v.db.View(ctx, func(tx *store.Tx) (err error) {
			page, err = tx.Sealed(v.at, int(min(verifyBatch, c.Size-v.at)))
			return err
		}); err != nil {
			return err
		}
		if len(page) == 0 {
			return bad(v.at, "", "its seal is missing")
		}
		if v.progress != nil {
			v.progress(v.at, v.newest.Size)
		}
		for _, r := range page {
			if err := v.record(ctx, r, c, before); err != nil {
				return err
			}
			if err := v.compare(); err != nil {
				return err
			}
		}
	}
	return nil
}

// record verifies one record of those that the checkpoint c added to before.
func (v *verification) record(ctx context.Context, r store.SealedRecord, c, before Checkpoint) error {
	var hash tlog.Hash
	copy(hash[:], r.Hash)
	switch {
	case r.Number != v.at:
		return bad(v.at, "", "its seal is missing")
	case len(r.Hash) != tlog.HashSize:
		return bad(v.at, r.ID, "its seal was changed")
	case v.key.codes != nil && !hmac.Equal(r.Code, v.code(r.Number, hash)):
		return bad(v.at, r.ID, "its seal was changed")
	case r.Text == nil:
		if err := v.mayLack(ctx, r); err != nil {
			return err
		}
	default:
		computed := tlog.RecordHash(r.Text)
		if !bytes.Equal(computed[:], r.Hash) {
			return bad(v.at, r.ID, "the event was changed after it was sealed")
		}
		since := v.newest.Older
		if before.Size > 0 {
			since = before.At
		}
		if c.At.Before(since) { // the clock was set back, and the sealer saw it
			since = c.At
		}
		if !since.IsZero() && r.At.Before(since.Add(-tolerance)) {
			return bad(v.at, r.ID, "the event is dated %s, and was not there at %s, when the log before it was sealed",
				r.At.Format(time.RFC3339), since.Format(time.RFC3339))
		}
	}
	v.tree = v.tree.append(v.at, hash, func(level int, number int64, hash tlog.Hash) {
		if level%stride == 0 {
			v.full = append(v.full, store.Subtree{Level: int64(level / stride), Number: number, Hash: hash[:]})
		}
	})
	v.at++
	return nil
}

// mayLack returns an error unless retention has deleted the contents of a record.
func (v *verification) mayLack(ctx context.Context, r store.SealedRecord) error {
	if r.Number < v.newest.Deleted {
		return nil
	}
	// Retention may have gone on since Verify began.
	var last store.Checkpoint
	err := v.db.View(ctx, func(tx *store.Tx) (err error) {
		last, err = tx.LastCheckpoint()
		return err
	})
	if err != nil {
		return err
	}
	if c, err := v.key.Open(last.Note); err == nil && r.Number < c.Deleted {
		v.newest.Deleted, v.report.Deleted = c.Deleted, c.Deleted
		return nil
	}
	return bad(v.at, r.ID, "the event was deleted, and not by retention")
}

// events verifies that every event is in the log, waits for it or is older.
func (v *verification) events(ctx context.Context) error {
	end := int64(-1)
	var last store.Checkpoint
	if err := v.db.View(ctx, func(tx *store.Tx) (err error) {
		// In this order: what is sealed meanwhile has a checkpoint.
		if end, err = tx.LastSeal(); err != nil {
			return err
		}
		if last, err = tx.LastCheckpoint(); errors.Is(err, store.ErrNotFound) {
			err = nil
		}
		return err
	}); err != nil {
		return err
	}
	if end >= v.newest.Size && end >= last.Size {
		return bad(v.newest.Size, "", "it has a seal, and no checkpoint has it")
	}
	since := v.newest.At
	if now := v.db.Now(); now.Before(since) { // the clock was set back, and nothing is sealed since
		since = now
	}
	var after store.EventKey
	for {
		var page []store.EventKey
		if err := v.db.View(ctx, func(tx *store.Tx) (err error) {
			page, err = tx.EventKeys(after.At, after.ID, verifyBatch)
			return err
		}); err != nil {
			return err
		}
		if len(page) == 0 {
			return nil
		}
		for _, e := range page {
			switch {
			case e.State == store.SealedEvent:
			case e.State == store.LooseEvent && !e.At.After(v.newest.Older):
				v.report.Older++
			case e.State == store.WaitingEvent && !e.At.Before(since.Add(-tolerance)):
				v.report.Waiting++
			default:
				return v.stray(ctx, e)
			}
		}
		after = page[len(page)-1]
	}
}

// stray returns the error for an event that is not in the log and should be.
func (v *verification) stray(ctx context.Context, e store.EventKey) error {
	number := v.newest.Size
	if err := v.db.View(ctx, func(tx *store.Tx) (err error) {
		number, err = tx.NumberAt(e.At, number)
		return err
	}); err != nil {
		return err
	}
	return bad(number, e.ID, "an event dated %s was inserted there; it is not in the log", e.At.Format(time.RFC3339))
}
