package store_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

var errFault = errors.New("a fault")

// set writes a setting, the smallest thing there is to write.
func set(name string, err error) func(*store.Tx) error {
	return func(tx *store.Tx) error {
		if _, fault := tx.SetSettingOnce(name, "x"); fault != nil {
			return fault
		}
		return err
	}
}

// isSet tells whether set was committed.
func isSet(t testing.TB, db *store.DB, name string) bool {
	t.Helper()
	err := db.View(context.Background(), func(tx *store.Tx) error {
		_, err := tx.Setting(name)
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

func TestUpdate(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		t.Run("commits on nil", func(t *testing.T) {
			update(t, db, set("nil", nil))
			if !isSet(t, db, "nil") {
				t.Error("not committed")
			}
		})
		t.Run("commits on a refusal and returns it as it is", func(t *testing.T) {
			refusal := oauth.Refuse(oauth.InvalidGrant, "no")
			if err := db.Update(t.Context(), set("refusal", refusal)); err != refusal {
				t.Errorf("err = %v", err)
			}
			if !isSet(t, db, "refusal") {
				t.Error("not committed")
			}
		})
		t.Run("rolls back on a fault", func(t *testing.T) {
			if err := db.Update(t.Context(), set("fault", errFault)); !errors.Is(err, errFault) {
				t.Errorf("err = %v", err)
			}
			if isSet(t, db, "fault") {
				t.Error("committed")
			}
		})
		t.Run("FL-40 a panic rolls back and the process lives", func(t *testing.T) {
			err := db.Update(t.Context(), func(tx *store.Tx) error {
				if err := set("panic", nil)(tx); err != nil {
					return err
				}
				panic("poison")
			})
			if err == nil || !strings.Contains(err.Error(), "poison") {
				t.Errorf("err = %v", err)
			}
			if isSet(t, db, "panic") {
				t.Error("committed")
			}
			if err := db.View(t.Context(), func(*store.Tx) error { panic("poison") }); err == nil {
				t.Error("a panic in a View is not returned as an error")
			}
		})
		t.Run("a goroutine that ends rolls back and others go on", func(t *testing.T) {
			var wg sync.WaitGroup
			wg.Go(func() {
				_ = db.Update(t.Context(), func(tx *store.Tx) error {
					if err := set("exit", nil)(tx); err != nil {
						return err
					}
					runtime.Goexit()
					return nil
				})
			})
			wg.Wait()
			update(t, db, set("after exit", nil))
			if isSet(t, db, "exit") {
				t.Error("committed")
			}
		})
		t.Run("time stands still", func(t *testing.T) {
			update(t, db, func(tx *store.Tx) error {
				before := tx.Now()
				clock.Advance(time.Hour)
				if !tx.Now().Equal(before) || tx.Now().Location() != time.UTC {
					t.Errorf("Now = %v, then %v", before, tx.Now())
				}
				return nil
			})
		})
		t.Run("a conflict does not end the transaction", func(t *testing.T) {
			update(t, db, func(tx *store.Tx) error {
				u := &identity.User{ID: "usr_1", Email: "twice@example.com", CreatedAt: tx.Now()}
				if err := tx.CreateUser(u); err != nil {
					return err
				}
				if err := tx.CreateUser(u); !errors.Is(err, store.ErrConflict) {
					t.Errorf("err = %v, want ErrConflict", err)
				}
				return set("after conflict", nil)(tx)
			})
			if !isSet(t, db, "after conflict") {
				t.Error("not committed")
			}
		})
		t.Run("a context that has ended", func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			for range 50 { // a queue with room and a context that has ended are a matter of chance
				ran := false
				err := db.Update(ctx, func(*store.Tx) error { ran = true; return nil })
				if ran != (err == nil) || err != nil && !errors.Is(err, context.Canceled) {
					t.Fatalf("ran = %v, err = %v", ran, err)
				}
			}
		})
		t.Run("a deadline is a fault that may pass", func(t *testing.T) {
			ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
			defer cancel()
			err := db.View(ctx, func(tx *store.Tx) error { _, _, err := tx.Users(store.Page{}); return err })
			if err != nil && !errors.Is(err, oauth.ErrUnavailable) {
				t.Errorf("err = %v", err)
			}
		})
	})
}

func TestViewOnlyReads(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, _ *storetest.Clock) {
		for name, write := range map[string]func(tx *store.Tx) error{
			"insert": func(tx *store.Tx) error {
				return errOf(tx.RevokeToken(&oauth.Claims{ID: "jti", Expiry: tx.Now().Unix()}))
			},
			"returning": func(tx *store.Tx) error { return errOf(tx.RotateGrant("grt_x", 1, tx.Now())) },
			"event":     func(tx *store.Tx) error { return tx.Record(audit.SignOut("usr_1")) },
			"outcome":   func(tx *store.Tx) error { return tx.Conclude(audit.SignOut("usr_1"), nil) },
		} {
			if err := db.View(t.Context(), write); err == nil || errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: err = %v", name, err)
			}
		}
	})
}

// What waits behind one function is committed together; each stands or falls
// alone.
func TestBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, _ := storetest.Open(t, storetest.SQLite)
		release := make(chan struct{})
		errs := make([]error, 60)
		var wg sync.WaitGroup
		wg.Go(func() { _ = db.Update(t.Context(), func(*store.Tx) error { <-release; return nil }) })
		synctest.Wait()

		refusal := oauth.Refuse(oauth.InvalidGrant, "no")
		for i := range errs {
			name := fmt.Sprint("s", i)
			wg.Go(func() {
				switch i % 6 {
				case 0:
					errs[i] = db.Update(t.Context(), set(name, nil))
				case 1:
					errs[i] = db.Update(t.Context(), set(name, refusal))
				case 2:
					errs[i] = db.Update(t.Context(), set(name, errFault))
				case 3:
					errs[i] = db.Update(t.Context(),
						func(tx *store.Tx) error { _ = set(name, nil)(tx); panic("poison") })
				case 4:
					errs[i] = db.Append(t.Context(), audit.SignOut("usr_append"))
				case 5: // an event of a transaction that fails is no event
					errs[i] = db.Update(t.Context(), func(tx *store.Tx) error {
						return errors.Join(tx.Record(audit.SignOut("usr_fault")), errFault)
					})
				}
			})
		}
		left, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if err := db.Update(left, set("left", nil)); !errors.Is(err, context.Canceled) {
				t.Errorf("the caller that left: %v", err)
			}
		})
		wg.Go(func() {
			if err := db.Append(left, audit.SignOut("usr_left")); !errors.Is(err, context.Canceled) {
				t.Errorf("the caller that left: %v", err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(release)
		wg.Wait()

		for i, err := range errs {
			kept := isSet(t, db, fmt.Sprint("s", i))
			switch i % 6 {
			case 0:
				if err != nil || !kept {
					t.Errorf("%d: err = %v, kept = %v", i, err, kept)
				}
			case 1:
				if err != refusal || !kept {
					t.Errorf("%d: err = %v, kept = %v", i, err, kept)
				}
			case 2, 5:
				if !errors.Is(err, errFault) || kept {
					t.Errorf("%d: err = %v, kept = %v", i, err, kept)
				}
			case 3:
				if err == nil || kept {
					t.Errorf("%d: err = %v, kept = %v", i, err, kept)
				}
			case 4:
				if err != nil {
					t.Errorf("%d: err = %v", i, err)
				}
			}
		}
		if isSet(t, db, "left") {
			t.Error("a function ran whose caller had left")
		}
		count := map[string]int{}
		for _, e := range events(t, db, store.EventFilter{}) {
			count[e.UserID]++
		}
		if count["usr_append"] != 10 || count["usr_fault"] != 0 || count["usr_left"] != 1 || len(count) != 2 {
			t.Errorf("events by user: %v; an appended one is written even when its caller leaves", count)
		}
	})
}

func TestClose(t *testing.T) {
	t.Run("answers what waits first", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			dsn := storetest.New(t, storetest.SQLite)
			db := storetest.Connect(t, dsn, storetest.NewClock())
			release := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() { _ = db.Update(t.Context(), func(*store.Tx) error { <-release; return nil }) })
			synctest.Wait()
			for i := range 200 { // more than the queue holds
				wg.Go(func() {
					if err := db.Update(t.Context(), set(fmt.Sprint(i), nil)); err != nil {
						t.Error(err)
					}
				})
			}
			synctest.Wait()
			wg.Go(func() {
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			})
			close(release)
			wg.Wait()
			again := storetest.Connect(t, dsn, storetest.NewClock())
			for i := range 200 {
				if !isSet(t, again, fmt.Sprint(i)) {
					t.Fatalf("%d was acknowledged and is not stored", i)
				}
			}
		})
	})
	for _, engine := range storetest.Engines() {
		t.Run(string(engine), func(t *testing.T) {
			dsn := storetest.New(t, engine)
			db := storetest.Connect(t, dsn, storetest.NewClock())
			var wg sync.WaitGroup
			acknowledged := make([]bool, 200)
			for i := range acknowledged {
				wg.Go(func() {
					err := db.Update(t.Context(), set(fmt.Sprint(i), nil))
					if err != nil && !errors.Is(err, oauth.ErrUnavailable) {
						t.Error(err)
					}
					acknowledged[i] = err == nil
				})
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
			wg.Wait()
			if err := db.Close(); err != nil {
				t.Error("twice:", err)
			}
			for name, call := range map[string]func() error{
				"Update": func() error { return db.Update(t.Context(), set("late", nil)) },
				"View":   func() error { return db.View(t.Context(), func(*store.Tx) error { return nil }) },
				"Append": func() error { return db.Append(t.Context(), audit.SignOut("usr_1")) },
				"Ping":   func() error { return db.Ping(t.Context()) },
			} {
				if err := call(); !errors.Is(err, oauth.ErrUnavailable) {
					t.Errorf("%s after Close: %v", name, err)
				}
			}
			again := storetest.Connect(t, dsn, storetest.NewClock())
			for i, ok := range acknowledged {
				if ok != isSet(t, again, fmt.Sprint(i)) {
					t.Errorf("%d: acknowledged %v, but stored %v", i, ok, !ok)
				}
			}
		})
	}
}

// FL-33: many writers and readers and a second process never get an error about a lock.
func TestManyWriters(t *testing.T) {
	for _, engine := range storetest.Engines() {
		t.Run("FL-33 "+string(engine), func(t *testing.T) {
			dsn := storetest.New(t, engine)
			clock := storetest.NewClock()
			nodes := []*store.DB{storetest.Connect(t, dsn, clock), storetest.Connect(t, dsn, clock)}
			var wg sync.WaitGroup
			for worker := range 100 {
				wg.Go(func() {
					db := nodes[worker%2]
					for i := range 10 {
						name := fmt.Sprint(worker, "/", i)
						err := db.Update(t.Context(), set(name, nil))
						if err == nil {
							err = db.Append(t.Context(), audit.SignOut(name))
						}
						if err == nil {
							err = db.View(t.Context(),
								func(tx *store.Tx) error { _, err := tx.Setting(name); return err })
						}
						if err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			if n := len(events(t, nodes[0], store.EventFilter{})); n != 1000 {
				t.Errorf("%d events, want 1000", n)
			}
		})
	}
}

// events returns all events that filter shows, oldest first.
func events(t testing.TB, db *store.DB, filter store.EventFilter) (all []audit.Event) {
	t.Helper()
	for page := (store.Page{Limit: 1000}); ; {
		var found []audit.Event
		view(t, db, func(tx *store.Tx) (err error) {
			found, page.After, err = tx.Events(filter, page)
			return err
		})
		if all = slices.Concat(all, found); page.After == "" {
			return all
		}
	}
}

// errOf returns the error of a method whose result does not matter.
func errOf[T any](_ T, err error) error { return err }
