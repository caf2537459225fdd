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
	fullAt atomic.Int64 // when there was no room, in microseconds since 1970; 0 if there was room
}

// makeRoom takes the room for one client that never completed a flow. If there are too many, it deletes the oldest, or
// returns errFull if all of them are younger than settleTime. It counts them only once per lot of registrations,
// because counting takes longer than the rest of a registration. It does so in a transaction of its own, because one
// that stores clients and also deletes some could wait on PostgreSQL for another that does the same.
func (e *Endpoint) makeRoom(ctx context.Context) error {
	if e.room.left.Add(-1) >= 0 {
		return nil
	}
	now := e.DB.Now().UnixMicro()
	if full := e.room.fullAt.Load(); full != 0 && now >= full && now-full < fullFor.Microseconds() {
		return errFull
	}
	return e.DB.Update(ctx, func(tx *store.Tx) error {
		if e.room.left.Add(-1) >= 0 { // another request has counted them meanwhile
			return nil
		}
		unused, err := tx.UnusedClients()
		if err == nil && unused >= maxUnused {
			var forgotten int
			forgotten, err = tx.ForgetUnusedClients(tx.Now().Add(-settleTime), unused-maxUnused+lot)
			unused -= forgotten
		}
		switch {
		case err != nil:
			return err
		case unused >= maxUnused:
			e.room.fullAt.Store(tx.Now().UnixMicro())
			return errFull
		}
		e.room.fullAt.Store(0)
		e.room.left.Store(int64(min(lot, maxUnused-unused)) - 1)
		return nil
	})
}
