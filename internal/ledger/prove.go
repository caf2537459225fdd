package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/cardea-auth/cardea/internal/store"
)

// Proof proves that an event is in the log. It can be checked with the public key of the log alone.
type Proof struct {
	Number     int64            `json:"number"` // of the event in the log
	Record     string           `json:"record"` // the event as it was sealed, a JSON object; every byte counts
	Hashes     tlog.RecordProof `json:"hashes"` // from the record to the root (RFC 6962)
	Checkpoint string           `json:"checkpoint"`
	Key        string           `json:"key"` // trust it only if you know it from elsewhere
}

// ErrNotSealed says that an event waits to be sealed, or is older than the log.
var ErrNotSealed = errors.New("the event is not sealed: it is less than a second old, or older than the log")

// Prove returns the proof that the event with that time and id is in the log. It returns ErrNotSealed if it is not, and
// an error if the proof would not hold, which Verify explains.
func Prove(ctx context.Context, db *store.DB, key Key, at time.Time, id string) (Proof, error) {
	var r store.SealedRecord
	var last store.Checkpoint
	err := db.View(ctx, func(tx *store.Tx) (err error) {
		if r, err = tx.SealOf(at, id); err != nil {
			return err
		}
		last, err = tx.LastCheckpoint()
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return Proof{}, ErrNotSealed
	}
	if err != nil {
		return Proof{}, err
	}
	hashes, err := tlog.ProveRecord(last.Size, r.Number, reader(ctx, db))
	if err != nil {
		return Proof{}, fmt.Errorf("the event cannot be proved; run cardea audit verify: %w", err)
	}
	p := Proof{Number: r.Number, Record: string(r.Text), Hashes: hashes, Checkpoint: last.Note, Key: key.String()}
	if err := p.Check(key); err != nil {
		return Proof{}, fmt.Errorf("the event cannot be proved; run cardea audit verify: %w", err)
	}
	return p, nil
}

// Check returns an error unless p proves that its record is in the log that key signs.
func (p Proof) Check(key Key) error {
	c, err := key.Open(p.Checkpoint)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if !json.Valid([]byte(p.Record)) {
		return errors.New("record: it is not JSON")
	}
	if err := tlog.CheckRecord(p.Hashes, c.Size, c.Root, p.Number, tlog.RecordHash([]byte(p.Record))); err != nil {
		return errors.New("the record is not in the log at this number")
	}
	return nil
}
