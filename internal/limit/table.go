package limit

import (
	"hash/maphash"
	"time"
)

// shared is the number of values that keys share when the table is full.
const shared = 256

// table maps keys to values and holds at most capacity of them. A value is dropped only after it was not used for a
// whole life, so a flood of new keys cannot evict the value of another key. While the table is full, a new key shares
// one of a fixed number of values with other keys.
//
// Keys are stored as keyed hashes, so a long key costs no more than a short one.
type table[V any] struct {
	capacity int
	life     time.Duration
	fresh    func() V

	seed         maphash.Seed
	past, recent map[uint64]V // last used in the life before turnedAt, and since then
	turnedAt     time.Time
	crowd        [shared]V
	crowded      [shared]bool
}

func newTable[V any](capacity int, life time.Duration, fresh func() V) *table[V] {
	return &table[V]{capacity: capacity, life: life, fresh: fresh, seed: maphash.MakeSeed(), recent: map[uint64]V{}}
}

// at returns the value of key, a fresh one if the key is new.
func (t *table[V]) at(key string, now time.Time) V {
	// If the clock was set back, old values must not live longer for it.
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

// own returns the value that belongs to key alone, if there is one. A key that found the table full shares one.
func (t *table[V]) own(key string) (V, bool) {
	hash := maphash.String(t.seed, key)
	if v, ok := t.recent[hash]; ok {
		return v, true
	}
	v, ok := t.past[hash]
	return v, ok
}
