package store

import (
	"strconv"
	"sync"
)

// gap is what is known of events that PostgreSQL has numbered and does not show. SQLite needs none of it, because its
// one writer commits in the order of the numbers.
type gap struct {
	mu      sync.Mutex
	dead    int64           // an event with a number up to this one that is not there never will be
	seen    int64           // a number that was given when by was read
	writers map[string]bool // the transactions that wrote events at that time and have not ended
}

// settled returns the rows, times and ids of events after a row, at most limit, in their order, up to the first one
// that may still come.
//
// PostgreSQL numbers an event before its transaction commits, and only a transaction that writes to events does so. So
// a number that is missing once a larger one is there belongs to one of the transactions that write then, or it never
// comes because its transaction was rolled back; and which of the two is known when those have ended.
func (tx *Tx) settled(after int64, limit int) ([]Record, error) {
	waiting, err := tx.unsettled(after, limit)
	if err != nil || len(waiting) == 0 || tx.db.dialect == "sqlite" {
		return waiting, err
	}
	g := &tx.db.gap
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.whole(after, waiting)
	if n == len(waiting) {
		return waiting, nil
	}
	missing := max(after, g.dead) + 1
	if n > 0 {
		missing = max(waiting[n-1].Row, g.dead) + 1
	}
	writers, err := tx.writers()
	if err != nil {
		return nil, err
	}
	if g.seen < missing { // those that wrote before may all have been given smaller numbers
		g.seen, g.writers = waiting[len(waiting)-1].Row, writers
	}
	for w := range g.writers {
		if !writers[w] {
			delete(g.writers, w)
		}
	}
	if len(g.writers) > 0 {
		return waiting[:n], nil
	}
	g.dead = g.seen
	if waiting, err = tx.unsettled(after, limit); err != nil { // those that have ended may have committed
		return nil, err
	}
	return waiting[:g.whole(after, waiting)], nil
}

// unsettled returns what settled does, without regard to what may still come.
func (tx *Tx) unsettled(after int64, limit int) ([]Record, error) {
	return all(tx, "SELECT rowid, at, id FROM events WHERE rowid > $1 ORDER BY rowid LIMIT "+strconv.Itoa(limit),
		args{after}, func(scan func(...any) error) (r Record, err error) {
			return r, scan(&r.Row, instant{&r.At}, &r.ID)
		})
}

// whole returns how many of the first records after a row have none before them that may still come.
func (g *gap) whole(after int64, records []Record) int {
	for i, r := range records {
		if r.Row != after+1 && r.Row-1 > g.dead {
			return i
		}
		after = r.Row
	}
	return len(records)
}

// writers returns the transactions of PostgreSQL that write events.
func (tx *Tx) writers() (map[string]bool, error) {
	found := map[string]bool{}
	return found, tx.rows("SELECT virtualtransaction FROM pg_locks WHERE relation = CAST('events' AS regclass) "+
		"AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND mode = 'RowExclusiveLock'",
		nil, func(scan func(...any) error) error {
			var w string
			err := scan(&w)
			found[w] = true
			return err
		})
}
