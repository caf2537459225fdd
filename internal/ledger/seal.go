package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/store"
)

const (
	sealEvery   = 500 * time.Millisecond // so that an event is sealed within a second
	sealBatch   = 500                    // records of one checkpoint
	retainEvery = time.Hour
	retainBatch = 500 // events deleted in one transaction
)

// Sealer seals the events of a database. Several may seal one database, also in several processes. Its fields must be
// set before it is used.
type Sealer struct {
	DB   *store.DB
	Key  Key
	Log  *slog.Logger
	File string // gets each checkpoint; "" for none
	// Retain is how long the contents of events are kept after they were sealed; 0 means for ever.
	Retain time.Duration

	known   bool // what follows is of the newest checkpoint that this process has seen
	last    Checkpoint
	note    string
	tree    frontier
	row     int64    // of the event that was sealed last
	back    Restored // the next checkpoint says it
	filed   string   // note that is in File
	logged  time.Time
	deleted int64 // records whose contents the next checkpoint allows to delete

	whole atomic.Int64 // when no event was waiting, in microseconds; 0 before the first time
}

// ErrTampered says that the stored log is not a continuation of the one that this process, or its checkpoint file, has
// seen. Nothing is sealed then, because a signature would make it look genuine.
var ErrTampered = errors.New("the audit log was changed; nothing is sealed until that is looked into: run cardea " +
	"audit verify")

func tampered(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrTampered, fmt.Sprintf(format, args...))
}

// Run seals until ctx is done, and then what is left.
func (s *Sealer) Run(ctx context.Context) {
	ticker := time.NewTicker(sealEvery)
	defer ticker.Stop()
	var retained, complained time.Time
	for {
		err := s.SealAll(ctx)
		if err == nil && s.Retain > 0 && s.DB.Now().Sub(retained) >= retainEvery {
			retained = s.DB.Now()
			err = s.Delete(ctx)
		}
		if err != nil && ctx.Err() == nil && s.DB.Now().Sub(complained) >= time.Minute {
			complained = s.DB.Now()
			s.Log.ErrorContext(ctx, "sealing the audit log failed; it is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			if err := s.SealAll(end); err != nil {
				s.Log.WarnContext(end, "the last events could not be sealed; the next start does it", "error", err)
			}
			if s.note != "" {
				s.tell(end)
			}
			return
		case <-ticker.C:
		}
	}
}

// Lag returns how long ago all events were sealed. Before s has sealed all of them once, it counts from the first call
// of Lag. It may be called while s seals.
func (s *Sealer) Lag() time.Duration {
	now := s.DB.Now()
	s.whole.CompareAndSwap(0, now.UnixMicro())
	return max(0, now.Sub(time.UnixMicro(s.whole.Load())))
}

// SealAll seals until no event waits.
func (s *Sealer) SealAll(ctx context.Context) error {
	for {
		began := s.DB.Now()
		n, err := s.Seal(ctx)
		if err == nil && n < sealBatch {
			s.whole.Store(began.UnixMicro())
		}
		if errors.Is(err, store.ErrConflict) { // another node was first
			continue
		}
		if err != nil || n < sealBatch {
			return err
		}
	}
}

// Seal seals waiting events, at most 500 of them, and returns their number. It returns store.ErrConflict if another
// process sealed at the same time, and an error that wraps ErrTampered.
func (s *Sealer) Seal(ctx context.Context) (int, error) {
	if err := s.follow(ctx); err != nil {
		return 0, err
	}
	var waiting []store.Record
	newest := int64(0)
	err := s.DB.View(ctx, func(tx *store.Tx) (err error) {
		if waiting, err = tx.Unsealed(s.row, sealBatch); err == nil && len(waiting) == 0 {
			newest, err = tx.NewestRow()
		}
		return err
	})
	switch {
	case err != nil:
		return 0, err
	case len(waiting) == 0 && newest < s.row: // SQLite would give the next event a number that was given before
		return 0, tampered("its newest events were deleted")
	case len(waiting) == 0:
		return 0, s.file()
	}
	next := Checkpoint{Previous: s.last.Size, Size: s.last.Size, At: s.DB.Now(), Older: s.last.Older,
		Deleted: max(s.last.Deleted, s.deleted), Restored: s.last.Restored}
	if s.back != (Restored{}) {
		next.Restored = s.back
	}
	tree := append(frontier(nil), s.tree...)
	seals := make([]store.Seal, len(waiting))
	var subtrees []store.Subtree
	code := s.Key.coder()
	for i, event := range waiting {
		hash := tlog.RecordHash(event.Text)
		seals[i] = store.Seal{Number: next.Size, At: event.At, ID: event.ID, Hash: hash[:], Code: code(next.Size, hash)}
		tree = tree.append(next.Size, hash, func(level int, number int64, hash tlog.Hash) {
			if level%stride == 0 {
				subtrees = append(subtrees, store.Subtree{Level: int64(level / stride), Number: number, Hash: hash[:]})
			}
		})
		next.Size++
	}
	next.Root = tree.root()
	note, err := s.Key.sign(next)
	if err != nil {
		return 0, err
	}
	if err := s.DB.Update(ctx, func(tx *store.Tx) error {
		return tx.Seal(store.Checkpoint{Size: next.Size, Previous: next.Previous, At: next.At, Note: note}, seals,
			subtrees)
	}); err != nil {
		return 0, err
	}
	s.last, s.note, s.tree, s.row, s.back = next, note, tree, waiting[len(waiting)-1].Row, Restored{}
	if s.logged.IsZero() || next.At.Sub(s.logged) >= time.Minute {
		s.tell(ctx)
	}
	return len(seals), s.file()
}

// tell writes the newest checkpoint to the log of the server.
func (s *Sealer) tell(ctx context.Context) {
	s.logged = s.last.At
	s.Log.InfoContext(ctx, "the audit log is sealed", "events", s.last.Size, "checkpoint", s.note)
}

// follow makes the newest stored checkpoint the one that is continued. It returns an error that wraps ErrTampered
// unless that is a continuation of what s knows, and the stored hashes are those that were signed.
func (s *Sealer) follow(ctx context.Context) error {
	newest, older, restored, row := store.Checkpoint{}, time.Time{}, time.Time{}, int64(0)
	err := s.DB.View(ctx, func(tx *store.Tx) (err error) {
		newest, err = tx.LastCheckpoint()
		if errors.Is(err, store.ErrNotFound) {
			err = nil
		}
		if err != nil || s.known && newest.Note == s.note {
			return err
		}
		if older, err = tx.EventsOlder(); err != nil {
			return err
		}
		if restored, err = tx.EventsRestored(); err != nil {
			return err
		}
		if row, err = tx.LastRow(); errors.Is(err, store.ErrNotFound) {
			err = tampered("the event number %d was deleted", newest.Size-1)
		}
		return err
	})
	if err != nil || s.known && newest.Note == s.note {
		return err
	}
	next := Checkpoint{Older: older}
	if newest.Note != "" {
		if next, err = s.Key.Open(newest.Note); err != nil {
			return tampered("checkpoint %d: %v", newest.Size, err)
		}
	}
	known := s.last
	if !s.known {
		if known, err = s.readFile(); err != nil {
			return err
		}
	}
	back := Restored{}
	if !restored.IsZero() && !restored.Equal(next.Restored.At) {
		back = Restored{Events: next.Size, At: restored}
	}
	if next.Size != newest.Size {
		return tampered("checkpoint %d is that of size %d", newest.Size, next.Size)
	}
	tree, err := readFrontier(ctx, s.DB, next.Size)
	if gap := (missing{}); errors.As(err, &gap) {
		return tampered("%v", err)
	}
	if err != nil {
		return err
	}
	if next.Size > 0 && tree.root() != next.Root {
		return tampered("its hashes are not those that were signed")
	}
	switch err := s.continues(ctx, next, known); {
	case errors.Is(err, ErrTampered) && back != (Restored{}):
		if err := s.setAside(ctx, known, back); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	s.known, s.last, s.note, s.tree, s.row, s.back = true, next, newest.Note, tree, row, back
	return nil
}

// continues returns an error that wraps ErrTampered unless the stored log, whose newest checkpoint is next, has all
// that it had when known was signed.
func (s *Sealer) continues(ctx context.Context, next, known Checkpoint) error {
	if next.Size < known.Size {
		return tampered("it has %d events, and had %d", next.Size, known.Size)
	}
	if known.Size == 0 {
		return nil
	}
	root, err := tlog.TreeHash(known.Size, reader(ctx, s.DB))
	if err == nil && root != known.Root {
		err = tampered("its first %d events are not those that were signed before", known.Size)
	}
	return err
}

// setAside keeps the checkpoint of what a restore has undone beside the file, because it is the only proof that there
// was more.
func (s *Sealer) setAside(ctx context.Context, lost Checkpoint, back Restored) error {
	s.Log.WarnContext(ctx, "the audit log went back to an earlier state, because the database was restored",
		"events", back.Events, "before", lost.Size, "restored", back.At)
	if s.File == "" {
		return nil
	}
	err := os.Rename(s.File, s.File+"."+back.At.UTC().Format("20060102T150405Z"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unfit(err)
	}
	s.filed = ""
	return nil
}

// readFile returns the checkpoint in the file, or the zero Checkpoint if there is none yet.
func (s *Sealer) readFile() (Checkpoint, error) {
	if s.File == "" {
		return Checkpoint{}, nil
	}
	if err := checkFile(s.File); err != nil {
		return Checkpoint{}, err
	}
	text, err := os.ReadFile(s.File)
	if errors.Is(err, fs.ErrNotExist) {
		return Checkpoint{}, nil
	}
	if err != nil {
		return Checkpoint{}, unfit(err)
	}
	c, err := s.Key.Open(string(text))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("audit.checkpoint_file: %s: %w; if the database is a new one, move the file "+
			"away", s.File, err)
	}
	s.filed = string(text)
	return c, nil
}

// checkFile returns an error unless there is an ordinary file at path, or the folder for one.
func checkFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		_, err = os.Stat(filepath.Dir(path))
	case err == nil && !info.Mode().IsRegular():
		err = fmt.Errorf("%s is not an ordinary file", path)
	}
	if err != nil {
		return unfit(err)
	}
	return nil
}

// unfit returns the error for a checkpoint file that cannot be read or written.
func unfit(err error) error {
	return fmt.Errorf("audit.checkpoint_file: %w; name a file in a folder that exists and that this account may "+
		"write to", err)
}

// file writes the newest checkpoint to the file, in one step.
func (s *Sealer) file() error {
	if s.File == "" || s.note == s.filed {
		return nil
	}
	draft, err := os.CreateTemp(filepath.Dir(s.File), ".checkpoint-*")
	if err != nil {
		return unfit(err)
	}
	_, err = draft.WriteString(s.note)
	err = errors.Join(err, draft.Sync(), draft.Close())
	if err == nil {
		err = os.Rename(draft.Name(), s.File)
	}
	if err != nil {
		_ = os.Remove(draft.Name())
		return unfit(err)
	}
	s.filed = s.note
	return nil
}

// Delete deletes the contents of events that were sealed longer ago than Retain. It first seals a checkpoint that
// allows it, with an event that says so.
func (s *Sealer) Delete(ctx context.Context) error {
	before := s.DB.Now().Add(-s.Retain)
	var c store.Checkpoint
	err := s.DB.View(ctx, func(tx *store.Tx) (err error) {
		c, err = tx.LastCheckpointBefore(before)
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if c.Size > max(s.last.Deleted, s.deleted) {
		// The column may say another time than the note.
		if signed, err := s.Key.Open(c.Note); err != nil || signed.Size != c.Size || !signed.At.Before(before) {
			return tampered("checkpoint %d is not the one that was signed", c.Size)
		}
		s.deleted = c.Size
		if err := s.DB.Append(ctx, audit.Retention(c.Size, before).Allow()); err != nil {
			return err
		}
		if err := s.SealAll(ctx); err != nil {
			return err
		}
	}
	if s.last.Size == 0 { // the newest event stays, because the log begins after it
		return nil
	}
	for _, batch := range []func(*store.Tx) (int, error){
		func(tx *store.Tx) (int, error) { return tx.EmptySeals(s.last.Deleted, retainBatch) },
		func(tx *store.Tx) (int, error) { return tx.DeleteOlder(before, retainBatch) },
	} {
		for n := 1; n > 0; {
			if err := s.DB.Update(ctx, func(tx *store.Tx) (err error) {
				n, err = batch(tx)
				return err
			}); err != nil {
				return err
			}
		}
	}
	return nil
}
