package registration

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// Bounds of registrations that were never used. At most maxUnused are kept, plus up to lot for each node, because a
// node counts them only once per lot of registrations. A new one may replace one that is older than settleTime.
// store.DB.Sweep deletes them after a day.
const (
	maxUnused  = 10_000
	lot        = 100
	settleTime = 10 * time.Minute
)

// fullFor is how long registrations are refused without counting the unused clients again, because counting is
// expensive.
const fullFor = time.Second

var errFull = oauth.RefuseForNow(settleTime, "too many registered clients have never been used: try again later")

// room is the room for clients that were never used. The zero room has not been counted yet.
type room struct {
	left   atomic.Int64 // registrations until the unused clients are counted again
	taken  atomic.Int64 // by registrations that are not stored yet, or were a moment ago
	fullAt atomic.Int64 // when there was no room, in microseconds since 1970; 0 if there was room
}

// makeRoom takes the room for one client that never completed a flow. If there are too many, it deletes the oldest, or
// returns errFull if all of them are younger than settleTime. It counts them only once per lot of registrations,
// because counting takes longer than the rest of a registration. It does so in a transaction of its own, because one
// that stores clients and also deletes some could wait on PostgreSQL for another that does the same. Call stored once
// the client is stored, or will not be.
func (e *Endpoint) makeRoom(ctx context.Context) (stored func(), err error) {
	r := &e.room
	stored = func() { r.taken.Add(-1) }
	if r.taken.Add(1); r.left.Add(-1) >= 0 {
		return stored, nil
	}
	now := e.DB.Now().UnixMicro()
	if full := r.fullAt.Load(); full != 0 && now >= full && now-full < fullFor.Microseconds() {
		err = errFull
	} else {
		err = e.DB.Update(ctx, e.countRoom)
	}
	if err != nil {
		stored()
	}
	return stored, err
}

// countRoom is makeRoom in the transaction.
func (e *Endpoint) countRoom(tx *store.Tx) error {
	r := &e.room
	if r.left.Add(-1) >= 0 { // another request has counted them meanwhile
		return nil
	}
	unused, err := tx.UnusedClients()
	if err != nil {
		return err
	}
	unused += int(r.taken.Load()) - 1 // without this one
	if unused >= maxUnused {
		forgotten, err := tx.ForgetUnusedClients(tx.Now().Add(-settleTime), unused-maxUnused+lot)
		if err != nil {
			return err
		}
		unused -= forgotten
	}
	if unused >= maxUnused {
		r.fullAt.Store(tx.Now().UnixMicro())
		return errFull
	}
	r.fullAt.Store(0)
	r.left.Store(int64(min(lot, maxUnused-unused)) - 1)
	return nil
}
