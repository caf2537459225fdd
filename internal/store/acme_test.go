package store_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

func TestACMEFiles(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		update := func(change func(*store.Tx) error) {
			t.Helper()
			if err := db.Update(t.Context(), change); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"a", "a/b", "a/b/c", "ab", "a%", "ä/b"} {
			update(func(tx *store.Tx) error {
				return tx.PutACMEFile(&store.ACMEFile{Name: name, Content: "first"})
			})
		}
		clock.Advance(time.Hour)
		update(func(tx *store.Tx) error {
			return tx.PutACMEFile(&store.ACMEFile{Name: "ab", Content: "second", Size: 6})
		})
		update(func(tx *store.Tx) error {
			got, err := tx.ACMEFile("ab")
			want := &store.ACMEFile{Name: "ab", Content: "second", Size: 6, ModifiedAt: clock.Now()}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got), %v:\n%s", err, diff)
			}
			return err
		})
		update(func(tx *store.Tx) error { return tx.DeleteACMEFiles("a") })
		update(func(tx *store.Tx) error { return tx.DeleteACMEFiles("ä") })
		update(func(tx *store.Tx) error {
			left, err := tx.ACMEFiles()
			var names []string
			for _, f := range left {
				names = append(names, f.Name)
			}
			if len(names) != 2 {
				t.Errorf("%q are left", names)
			}
			if _, err := tx.ACMEFile("a/b"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("a/b: %v", err)
			}
			return err
		})
	})
}

func TestACMELock(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		take := func(holder string) (taken bool) {
			t.Helper()
			err := db.Update(t.Context(), func(tx *store.Tx) (err error) {
				taken, err = tx.TakeACMELock("x", holder, time.Minute)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return taken
		}
		free := func(holder string) {
			t.Helper()
			err := db.Update(t.Context(), func(tx *store.Tx) error { return tx.FreeACMELock("x", holder) })
			if err != nil {
				t.Fatal(err)
			}
		}
		var taken atomic.Int64
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				if take(string(rune('a' + i))) {
					taken.Add(1)
				}
			})
		}
		all.Wait()
		if n := taken.Load(); n != 1 {
			t.Fatalf("%d of 16 have the lock", n)
		}
		clock.Advance(time.Minute) // the holder died
		took := take("me")
		renewed := take("me")
		if !took || !renewed || take("you") {
			t.Error("after the lease, one other has it, and renews it")
		}
		free("you")
		if take("you") {
			t.Error("a stranger freed it")
		}
		free("me")
		if !take("you") {
			t.Error("it is not free")
		}
	})
}
