package limit

import (
	"hash/maphash"
	"time"
)

// shared is how many values stand in for those that found no room in a table.
const shared = 256

// table holds a value by key: at most capacity of them, and no key for ever. What was
// not used for one whole life is dropped, and nothing else is: whoever floods the
// table with keys cannot push another's value out of it. A newcomer that finds it
// full shares a value with others until there is room again.
//
// Keys are kept as keyed hashes, so that a long one costs no more than a short one.
type table[V any] struct {
	capacity int
	life     time.Duration
	fresh    func() V

	seed         maphash.Seed
	past, recent map[uint64]V // last used in the life before turnedAt, and since
	turnedAt     time.Time
	crowd        [shared]V
	crowded      [shared]bool
}

func newTable[V any](capacity int, life time.Duration, fresh func() V) *table[V] {
	return &table[V]{capacity: capacity, life: life, fresh: fresh, seed: maphash.MakeSeed(), recent: map[uint64]V{}}
}

// at returns the value of key.
func (t *table[V]) at(key string, now time.Time) V {
	// A clock that was set back must not keep what is old for longer.
	if idle := now.Sub(t.turnedAt); idle >= t.life || idle < 0 {
		t.past, t.recent, t.turnedAt = t.recent, map[uint64]V{}, now
		if idle >= 2*t.life {
			t.past = nil
		}
	}
	hash := maphash.String(t.seed, key)
	if v, ok := t.recent[hash]; ok {
		return v
	}
	v, ok := t.past[hash]
	switch {
	case ok:
		delete(t.past, hash)
	case len(t.past)+len(t.recent) >= t.capacity:
		slot := hash % shared
		if !t.crowded[slot] {
			t.crowd[slot], t.crowded[slot] = t.fresh(), true
		}
		return t.crowd[slot]
	default:
		v = t.fresh()
	}
	t.recent[hash] = v
	return v
}

// drop forgets the value of key.
func (t *table[V]) drop(key string) {
	hash := maphash.String(t.seed, key)
	delete(t.past, hash)
	delete(t.recent, hash)
}
