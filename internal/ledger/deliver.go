package ledger

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/store"
)

const (
	claimFor   = time.Minute // longer than sending takes
	sendWithin = 20 * time.Second
	firstRetry = time.Second // it doubles with each failure
	lastRetry  = 5 * time.Minute
)

// Receiver gets the sealed events, in their order, each at least once.
type Receiver struct {
	Name    string   // by which the database knows how far it is
	Actions []string // beginnings of those that it gets; none: all
	Send    func(ctx context.Context, m Message) error
}

// Message has the events that a checkpoint added to the log.
type Message struct {
	ID         string // the same if it is sent again
	At         time.Time
	Events     []Numbered
	Checkpoint string // a signed note
}

// Numbered is an event with its number in the log.
type Numbered struct {
	Number int64 `json:"number"`
	audit.Event
}

// Courier sends sealed events to receivers. Several may run on one database: of these one sends at a time.
type Courier struct {
	DB        *store.DB
	Log       *slog.Logger
	Receivers []Receiver
}

// Run sends until ctx is done.
func (c *Courier) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, r := range c.Receivers {
		all.Go(func() {
			ticker := time.NewTicker(sealEvery)
			defer ticker.Stop()
			var complained time.Time
			for {
				err := c.Deliver(ctx, r)
				if err != nil && ctx.Err() == nil && c.DB.Now().Sub(complained) > time.Minute {
					complained = c.DB.Now()
					c.Log.WarnContext(ctx, "audit events could not be sent; it is tried again", "receiver", r.Name,
						"error", err)
				}
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
			}
		})
	}
	all.Wait()
}

// Deliver sends r all that is sealed and due. It returns the error of r, which is asked again after a pause. A new
// receiver gets what is sealed from then on.
func (c *Courier) Deliver(ctx context.Context, r Receiver) error {
	for {
		more, err := c.deliver(ctx, r)
		if err != nil || !more {
			return err
		}
	}
}

// deliver sends the next message, and reports whether there may be more.
func (c *Courier) deliver(ctx context.Context, r Receiver) (more bool, err error) {
	var due, known bool
	var size int64
	if err := c.DB.View(ctx, func(tx *store.Tx) error {
		last, err := tx.LastCheckpoint()
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		size = last.Size
		d, err := tx.Delivery(r.Name)
		if known = !errors.Is(err, store.ErrNotFound); known && err != nil {
			return err
		}
		due = known && d.Sent < size && !d.NextAt.After(tx.Now())
		return nil
	}); err != nil {
		return false, err
	}
	if !known {
		return false, c.DB.Update(ctx, func(tx *store.Tx) error { return tx.BeginDeliveries(r.Name, size) })
	}
	if !due {
		return false, nil
	}
	var claim store.Delivery
	err = c.DB.Update(ctx, func(tx *store.Tx) (err error) {
		claim, err = tx.ClaimDelivery(r.Name, tx.Now().Add(claimFor))
		return err
	})
	if errors.Is(err, store.ErrConflict) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if claim.Sent >= size { // another node has sent them since; there may be new ones
		return true, c.DB.Update(ctx, func(tx *store.Tx) error {
			return tx.EndDelivery(r.Name, claim.Sent, store.Delivery{Sent: claim.Sent, NextAt: tx.Now()})
		})
	}
	m, next, err := c.message(ctx, r, claim.Sent)
	if err != nil {
		return false, err
	}
	done := store.Delivery{Sent: next, NextAt: c.DB.Now()}
	var failed error
	if len(m.Events) > 0 {
		limited, cancel := context.WithTimeout(ctx, sendWithin)
		failed = r.Send(limited, m)
		cancel()
	}
	if failed != nil {
		pause := min(firstRetry<<min(claim.Failures, 20), lastRetry)
		done = store.Delivery{Sent: claim.Sent, Failures: claim.Failures + 1, NextAt: c.DB.Now().Add(pause)}
	}
	err = c.DB.Update(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		return tx.EndDelivery(r.Name, claim.Sent, done)
	})
	return failed == nil, errors.Join(failed, err)
}

// message returns what r gets of the records from first on up to the next checkpoint, and the number after these.
func (c *Courier) message(ctx context.Context, r Receiver, first int64) (m Message, next int64, err error) {
	err = c.DB.View(ctx, func(tx *store.Tx) error {
		points, err := tx.Checkpoints(first, 1)
		if err != nil || len(points) == 0 {
			return err
		}
		next = min(points[0].Size, first+sealBatch)
		// After a restore the same numbers are those of other events, and have another checkpoint.
		hash := sha256.Sum256([]byte(points[0].Note))
		m = Message{At: points[0].At, Checkpoint: points[0].Note,
			ID: fmt.Sprintf("msg_%x_%d_%d", hash[:8], first, next)}
		records, err := tx.Sealed(first, int(next-first))
		if err != nil {
			return err
		}
		for _, record := range records {
			if record.Text == nil { // retention has deleted it
				continue
			}
			e, err := record.Event()
			if err != nil {
				return err
			}
			if len(r.Actions) == 0 || slices.ContainsFunc(r.Actions, func(begin string) bool {
				return strings.HasPrefix(e.Action, begin)
			}) {
				m.Events = append(m.Events, Numbered{record.Number, e})
			}
		}
		return nil
	})
	if err == nil && next == 0 {
		err = errors.New("ledger: the checkpoint of the events to send is missing; run cardea audit verify")
	}
	return m, next, err
}
