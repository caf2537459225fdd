package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cardea-auth/cardea/internal/logtest"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

func TestMemory(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, _ *storetest.Clock) {
		user, client, resource := people(t, db)
		t.Run("a client is read once", func(t *testing.T) {
			first, err := db.Client(t.Context(), client.ID)
			if err != nil {
				t.Fatal(err)
			}
			same(t, client, first)
			if again, err := db.Client(t.Context(), client.ID); err != nil || again != first {
				t.Errorf("again: %p, %v; want %p", again, err, first)
			}
		})
		t.Run("own changes are seen at once", func(t *testing.T) {
			changes := map[string]func(*store.Tx) error{
				"update":  func(tx *store.Tx) error { c := *client; c.Name = "New"; return tx.UpdateClient(&c) },
				"disable": func(tx *store.Tx) error { return tx.DisableClient(client.ID) },
				"enable":  func(tx *store.Tx) error { return tx.EnableClient(client.ID) },
				"secret":  func(tx *store.Tx) error { return tx.ReplaceSecret(client.ID, "h", tx.Now()) },
				"used":    func(tx *store.Tx) error { return tx.ClientUsed(client.ID) },
			}
			for _, name := range []string{"update", "disable", "enable", "secret", "used"} {
				before, err := db.Client(t.Context(), client.ID)
				if err != nil {
					t.Fatal(err)
				}
				update(t, db, changes[name])
				after, err := db.Client(t.Context(), client.ID)
				if err != nil || fmt.Sprint(after) == fmt.Sprint(before) {
					t.Errorf("%s: %+v, %v", name, after, err)
				}
			}
		})
		t.Run("a change that is rolled back is not seen", func(t *testing.T) {
			before, err := db.Client(t.Context(), client.ID)
			if err != nil {
				t.Fatal(err)
			}
			_ = db.Update(t.Context(),
				func(tx *store.Tx) error { return errors.Join(tx.DisableClient(client.ID), errFault) })
			if after, err := db.Client(t.Context(), client.ID); err != nil || after != before {
				t.Errorf("%v, %v", after, err)
			}
		})
		t.Run("FL-38 an unknown client is not cached", func(t *testing.T) {
			for range 2 {
				if _, err := db.Client(t.Context(), "mcp_new"); !errors.Is(err, store.ErrNotFound) {
					t.Fatal(err)
				}
			}
			update(t, db, func(tx *store.Tx) error {
				return tx.CreateClient(&oauth.Client{ID: "mcp_new", CreatedAt: tx.Now()}, "")
			})
			if _, err := db.Client(t.Context(), "mcp_new"); err != nil {
				t.Error(err)
			}
		})
		t.Run("resources", func(t *testing.T) {
			list := func() []*oauth.Resource {
				t.Helper()
				resources, err := db.Resources(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return resources
			}
			if got := list(); len(got) != 1 || list()[0] != got[0] {
				t.Errorf("%v", got)
			}
			more := *resource
			more.ID, more.Identifier, more.CreatedAt =
				"res_more", "https://more.example.com", more.CreatedAt.Add(time.Second)
			update(t, db, func(tx *store.Tx) error { return tx.CreateResource(&more) })
			if got := list(); len(got) != 2 {
				t.Errorf("created: %v", got)
			}
			more.Name = "Changed"
			update(t, db, func(tx *store.Tx) error { return tx.UpdateResource(&more) })
			if got := list(); got[1].Name != "Changed" {
				t.Errorf("changed: %v", got[1])
			}
			update(t, db, func(tx *store.Tx) error { return tx.DeleteResource("res_more") })
			if got := list(); len(got) != 1 {
				t.Errorf("deleted: %v", got)
			}
		})
		t.Run("concurrent callers share one load", func(t *testing.T) {
			var made atomic.Int64
			cached := store.NewCached(db, store.Keys, func(tx *store.Tx) (int, error) {
				made.Add(1)
				keys, err := tx.Keys()
				return len(keys), err
			})
			for want := range 3 {
				var wg sync.WaitGroup
				for range 32 {
					wg.Go(func() {
						if got, err := cached.Load(t.Context()); err != nil || got != want {
							t.Errorf("%d, %v; want %d", got, err, want)
						}
					})
				}
				wg.Wait()
				if n := made.Load(); n != int64(want)+1 {
					t.Errorf("made %d times, want %d", n, want+1)
				}
				update(t, db, func(tx *store.Tx) error {
					return tx.CreateKey(store.Key{KID: fmt.Sprint(want), CreatedAt: tx.Now(), ActiveAt: tx.Now()})
				})
			}
		})
		t.Run("a value that cannot be made is tried again", func(t *testing.T) {
			fail := true
			cached := store.NewCached(db, store.Keys, func(*store.Tx) (int, error) {
				if fail {
					return 0, errFault
				}
				return 1, nil
			})
			if _, err := cached.Load(t.Context()); !errors.Is(err, errFault) {
				t.Errorf("err = %v", err)
			}
			fail = false
			if got, err := cached.Load(t.Context()); err != nil || got != 1 {
				t.Errorf("%d, %v", got, err)
			}
		})
		_ = user
	})
}

// The clients in memory are bounded: what was not used for long goes.
func TestMemoryIsBounded(t *testing.T) {
	db, _ := storetest.Open(t, storetest.SQLite)
	const n = 10_000
	for lot := range 11 {
		update(t, db, func(tx *store.Tx) error {
			for i := range n / 10 {
				err := tx.CreateClient(&oauth.Client{ID: fmt.Sprint("mcp_", lot*n/10+i), CreatedAt: tx.Now()}, "")
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	load := func(i int) *oauth.Client {
		c, err := db.Client(t.Context(), fmt.Sprint("mcp_", i))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first, second := load(0), load(1)
	for i := 2; i < n; i++ {
		load(i)
	}
	if load(0) != first {
		t.Error("a client was forgotten before there were too many")
	}
	load(n)
	if load(0) != first {
		t.Error("the one used last was forgotten")
	}
	if load(1) == second {
		t.Error("the one used longest ago was kept")
	}
}

// What another process changes is seen within a second, also when nobody asked for
// an hour.
func TestOtherProcesses(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			here, there, client, change := twoProcesses(t, storetest.SQLite)
			for _, idle := range []time.Duration{0, time.Second, time.Hour} {
				if c, err := here.Client(t.Context(), client.ID); err != nil || c.Disabled() {
					t.Fatal(c, err)
				}
				time.Sleep(idle) // of the bubble: it costs nothing
				change(there.DisableClient)
				if idle == 0 {
					time.Sleep(time.Second)
				}
				if c, err := here.Client(t.Context(), client.ID); err != nil || !c.Disabled() {
					t.Errorf("after %v: disabled %v, %v", idle, c.Disabled(), err)
				}
				change(there.EnableClient)
				time.Sleep(time.Second)
			}
		})
	})
	t.Run("one that waits for the others", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			dsn, clock := storetest.New(t, storetest.SQLite), storetest.NewClock()
			here, there := storetest.Connect(t, dsn, clock), storetest.Connect(t, dsn, clock)
			_, client, _ := people(t, here)
			for _, disabled := range []bool{true, false, true} {
				if _, err := here.Client(t.Context(), client.ID); err != nil {
					t.Fatal(err)
				}
				update(t, there, func(tx *store.Tx) error {
					if disabled {
						return tx.DisableClient(client.ID)
					}
					return tx.EnableClient(client.ID)
				})
				there.AwaitOthers()
				if c, err := here.Client(t.Context(), client.ID); err != nil || c.Disabled() != disabled {
					t.Errorf("disabled %v, not %v: %v", c.Disabled(), disabled, err)
				}
			}
			began := time.Now()
			if there.AwaitOthers(); time.Since(began) != 0 {
				t.Error("it waits for what was heard long ago")
			}
		})
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		here, there, client, change := twoProcesses(t, storetest.Postgres)
		if _, err := here.Client(t.Context(), client.ID); err != nil {
			t.Fatal(err)
		}
		change(there.DisableClient)
		eventually(t, func() bool {
			c, err := here.Client(t.Context(), client.ID)
			if err != nil {
				t.Fatal(err)
			}
			return c.Disabled()
		})
	})
}

// other is a second process on the same database.
type other struct{ DisableClient, EnableClient func(*store.Tx) error }

func twoProcesses(t *testing.T, engine storetest.Engine) (here *store.DB, there other, client *oauth.Client,
	change func(func(*store.Tx) error)) {
	t.Helper()
	dsn, clock := storetest.New(t, engine), storetest.NewClock()
	here = storetest.Connect(t, dsn, clock)
	second := storetest.Connect(t, dsn, clock)
	_, client, _ = people(t, here)
	there = other{
		func(tx *store.Tx) error { return tx.DisableClient(client.ID) },
		func(tx *store.Tx) error { return tx.EnableClient(client.ID) },
	}
	return here, there, client, func(fn func(*store.Tx) error) { update(t, second, fn) }
}

// eventually asks until it is so.
func eventually(t *testing.T, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not come to be so")
		}
	}
}

// FL-09: while the database is down, what is in memory is used, what must be
// written is refused for now, and all is well when it is back.
func TestOutage(t *testing.T) {
	dsn := storetest.New(t, storetest.Postgres)
	proxy := storetest.NewProxy(t, storetest.Impatient(t, dsn))
	var log logtest.Log
	db, err := store.Open(t.Context(), proxy.DSN, store.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, client, resource := people(t, storetest.Connect(t, dsn, storetest.NewClock()))
	eventually(t, func() bool {
		_, unread := db.Client(t.Context(), client.ID)
		_, none := db.Resources(t.Context())
		return unread == nil && none == nil
	})
	read := func() {
		t.Helper()
		if c, err := db.Client(t.Context(), client.ID); err != nil || c.Disabled() {
			t.Fatalf("%v, %v", c, err)
		}
		if resources, err := db.Resources(t.Context()); err != nil || len(resources) != 1 {
			t.Fatalf("%v, %v", resources, err)
		}
	}
	// It waits for the state, and not for a line of the log, because on a busy machine the database may be silent once
	// more than the test knows.
	become := func(answers bool) {
		t.Helper()
		eventually(t, func() bool { read(); return db.Answers() == answers })
	}
	// change changes the client and the resource, when the database answers.
	change := func(name string) {
		t.Helper()
		client.Name, resource.Name = name, name
		eventually(t, func() bool {
			return db.Update(t.Context(), func(tx *store.Tx) error {
				return errors.Join(tx.UpdateClient(client), tx.UpdateResource(resource))
			}) == nil
		})
	}
	read()
	for round := range 2 {
		read()
		change(fmt.Sprint("Changed ", round)) // what is in memory is used even when it is known to be out of date
		proxy.Cut()
		become(false)
		for range 3 {
			read()
			if err := db.Update(t.Context(), set("down", nil)); !errors.Is(err, oauth.ErrUnavailable) {
				t.Errorf("Update while it is down: %v", err)
			}
		}
		if _, err := db.Client(t.Context(), "mcp_other"); !errors.Is(err, oauth.ErrUnavailable) {
			t.Errorf("a client not in memory, while it is down: %v", err)
		}
		proxy.Mend()
		eventually(t, func() bool { return db.Update(t.Context(), set(fmt.Sprint("up", round), nil)) == nil })
		become(true)
	}
	t.Run("FL-10 a database that hangs", func(t *testing.T) {
		proxy.Stop()
		become(false)
		read()
		proxy.Resume()
		become(true)
	})
	t.Run("what this process changed before the silence is waited for", func(t *testing.T) {
		silent := func() {
			t.Helper()
			eventually(t, func() bool { _, answers := db.Version(t.Context(), store.Clients); return !answers })
		}
		for what, name := range map[string]func() (string, error){
			"resource": func() (string, error) {
				resources, err := db.Resources(t.Context())
				if err != nil {
					return "", err
				}
				return resources[0].Name, nil
			},
			"client": func() (string, error) {
				c, err := db.Client(t.Context(), client.ID)
				if err != nil {
					return "", err
				}
				return c.Name, nil
			},
		} {
			for round := 0; ; round++ {
				change(fmt.Sprintf("Changed %s %d", what, round))
				proxy.Stop()
				silent()
				began := time.Now()
				time.AfterFunc(10*time.Millisecond, proxy.Resume)
				got, err := name()
				took := time.Since(began)
				become(true)
				if err == nil && got == client.Name {
					break
				}
				// It waits for 800 milliseconds, which pass only if the machine stands still.
				if took < 500*time.Millisecond {
					t.Fatalf("the %s is %q, %v", what, got, err)
				}
			}
		}
	})
	count := func(text string) int { return strings.Count(log.String(), text) }
	eventually(t, func() bool { read(); return count("does not answer") == count("answers again") })
	if count("does not answer") < 5 || strings.Contains(log.String(), "postgres:") {
		t.Errorf("the log:\n%s", log.String())
	}
	eventually(t, func() bool {
		return db.Update(t.Context(), func(tx *store.Tx) error { return tx.DisableClient(client.ID) }) == nil
	})
	eventually(t, func() bool { c, err := db.Client(t.Context(), client.ID); return err == nil && c.Disabled() })
}

// A database that answers slowly is not taken for one that is away, as long as it answers something.
func TestSlowDatabase(t *testing.T) {
	for !slowlyAnswered(t) {
		t.Log("The machine stood still, so nothing was answered; trying it again.")
	}
}

// slowlyAnswered returns false if the database answered nothing for a while, so that it showed nothing.
func slowlyAnswered(t *testing.T) bool {
	t.Helper()
	dsn := storetest.New(t, storetest.Postgres)
	var log logtest.Log
	db, err := store.Open(t.Context(), storetest.Impatient(t, dsn),
		store.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var longest time.Duration // without an answer
	var failed error
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var writes sync.WaitGroup
	writes.Go(func() {
		for heard := time.Now(); ctx.Err() == nil; {
			err := db.Update(ctx, set("busy", nil))
			now := time.Now()
			longest, heard = max(longest, now.Sub(heard)), now
			if ctx.Err() == nil {
				failed = errors.Join(failed, err)
			}
		}
	})
	asked, unlock := askLocked(t, db, dsn)
	answers := <-asked
	unlock()
	stop()
	writes.Wait()
	if longest > 500*time.Millisecond { // one that is silent for 800 counts as away
		return false
	}
	if failed != nil || !answers || strings.Count(log.String(), "does not answer") != 0 {
		t.Errorf("it is said not to answer, while it writes: %v\n%s", failed, log.String())
	}
	return true
}

// A database whose URL gives a connection longer than a second is waited for as long. Another process whose URL does
// not shows that a second has passed.
func TestPatientURL(t *testing.T) {
	dsn, clock := storetest.New(t, storetest.Postgres), storetest.NewClock()
	hasty := storetest.Connect(t, storetest.Impatient(t, dsn), clock)
	asked, unlock := askLocked(t, storetest.Connect(t, dsn, clock), dsn)
	if _, answers := hasty.Version(t.Context(), store.Clients); answers {
		t.Error("without a time in the URL, it counts as one that answers")
	}
	unlock()
	if !<-asked {
		t.Error("it was not waited for")
	}
}

// askLocked asks db for a version and returns once the database makes it wait, which ends when unlock is called. It
// sends on asked whether the database answers.
func askLocked(t *testing.T, db *store.DB, dsn string) (asked <-chan bool, unlock func()) {
	t.Helper()
	handle, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = handle.Close() })
	lock, err := handle.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.ExecContext(t.Context(), "LOCK TABLE versions"); err != nil {
		t.Fatal(err)
	}
	answer := make(chan bool, 1)
	go func() {
		_, answers := db.Version(t.Context(), store.Clients)
		answer <- answers
	}()
	eventually(t, func() (waits bool) {
		err := handle.QueryRowContext(t.Context(), "SELECT EXISTS (SELECT 1 FROM pg_stat_activity "+
			"WHERE datname = current_database() AND wait_event_type = 'Lock')").Scan(&waits)
		if err != nil {
			t.Fatal(err)
		}
		return waits
	})
	return answer, func() {
		t.Helper()
		if err := lock.Rollback(); err != nil {
			t.Fatal(err)
		}
	}
}
