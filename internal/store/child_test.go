package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// Some tests kill a process. This test binary runs as that process if CARDEA_STORE_CHILD names a part.
func TestMain(m *testing.M) {
	parts := map[string]func(ctx context.Context, db *store.DB) error{"writer": writer, "one": one,
		"full disk": fullDisk, "upgrade": upgrade}
	part := parts[os.Getenv("CARDEA_STORE_CHILD")]
	if part == nil {
		code := m.Run()
		if mortal.dir != "" {
			_ = os.RemoveAll(mortal.dir)
		}
		os.Exit(code)
	}
	ctx := context.Background()
	db, err := store.Open(ctx, os.Getenv("CARDEA_STORE_DSN"), store.Options{})
	if err == nil {
		err = part(ctx, db)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// mortal is the test binary of the processes that are killed, and what its build said.
var mortal struct {
	once sync.Once
	dir  string
	out  []byte
	err  error
}

// failpoints returns the path of this test binary, built with the tag failpoints, and without the race detector,
// because a process that is killed reports no races.
func failpoints(t *testing.T) string {
	t.Helper()
	mortal.once.Do(func() {
		if mortal.dir, mortal.err = os.MkdirTemp("", "cardea-store"); mortal.err != nil {
			return
		}
		build := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "failpoints", "-ldflags=-w",
			"-o", filepath.Join(mortal.dir, "store.test"), ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		mortal.out, mortal.err = build.CombinedOutput()
	})
	if mortal.err != nil {
		t.Fatalf("%v\n%s", mortal.err, mortal.out)
	}
	return filepath.Join(mortal.dir, "store.test")
}

// child prepares the binary to play a part on the database at dsn.
func child(t *testing.T, binary, part, dsn string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary)
	cmd.Env = append(os.Environ(), "CARDEA_STORE_CHILD="+part, "CARDEA_STORE_DSN="+dsn)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = t.Output()
	return cmd
}

// write does what belongs together: two settings and an event.
func write(name string) func(tx *store.Tx) error {
	return func(tx *store.Tx) error {
		if err := set("a "+name, nil)(tx); err != nil {
			return err
		}
		if err := set("b "+name, nil)(tx); err != nil {
			return err
		}
		tx.Touch(store.Keys)
		return tx.Record(audit.SignIn("usr_update").With("name", name))
	}
}

// writer writes and says so, for ever.
func writer(ctx context.Context, db *store.DB) error {
	errs := make(chan error)
	for worker := range 16 {
		go func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("%d/%d/%d", os.Getpid(), worker, i)
				err := db.Update(ctx, write(name))
				if err == nil {
					_, err = fmt.Println("update", name)
				}
				if err == nil {
					err = db.Append(ctx, audit.SignIn("usr_append").With("name", name))
				}
				if err == nil {
					_, err = fmt.Println("append", name)
				}
				if err != nil {
					errs <- err
				}
			}
		}()
	}
	return <-errs
}

// one writes once and says so.
func one(ctx context.Context, db *store.DB) error {
	err := db.Update(ctx, write("one"))
	if err == nil {
		_, err = fmt.Println("update one")
	}
	return err
}

// FL-01: acknowledged writes survive kill -9, and no write is stored in part.
func TestKill(t *testing.T) {
	for _, engine := range storetest.Engines() {
		t.Run("FL-01 "+string(engine), func(t *testing.T) {
			dsn := storetest.New(t, engine)
			acknowledged := map[string]bool{}
			for _, after := range []int{1, 20, 100, 333, 1000} {
				cmd := child(t, failpoints(t), "writer", dsn)
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				lines := bufio.NewScanner(out)
				for n := 1; lines.Scan(); n++ {
					acknowledged[lines.Text()] = true
					if n == after {
						if err := cmd.Process.Kill(); err != nil {
							t.Fatal(err)
						}
					}
				}
				if err := cmd.Wait(); !killed(err) {
					t.Fatalf("the child ended by itself: %v", err)
				}
			}
			checkWhole(t, storetest.Connect(t, dsn, storetest.NewClock()), acknowledged)
		})
	}
}

// checkWhole checks that every acknowledged write is stored, and none in part.
func checkWhole(t *testing.T, db *store.DB, acknowledged map[string]bool) (whole int) {
	t.Helper()
	found := map[string]bool{}
	for _, e := range events(t, db, store.EventFilter{}) {
		what, name := strings.TrimPrefix(e.UserID, "usr_"), e.Detail["name"]
		found[what+" "+name] = true
		if what == "update" {
			whole++
			if !isSet(t, db, "a "+name) || !isSet(t, db, "b "+name) {
				t.Errorf("%s has its event, not its settings", name)
			}
		}
	}
	for what := range acknowledged {
		if !found[what] {
			t.Errorf("%q was acknowledged and is lost", what)
		}
	}
	var settings int
	for text := range strings.SplitSeq(string(storetest.AtRest(t, db)), "\n") {
		if strings.Contains(text, `("a `) || strings.Contains(text, `("b `) {
			settings++
		}
	}
	if settings != 0 && settings != 2*whole { // rows can be told on PostgreSQL alone
		t.Errorf("%d settings of %d transactions", settings, whole)
	}
	return whole
}

func killed(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// FL-04: a process that is killed at any write, before the commit or after it has
// done all or nothing.
func TestKilledAtEachPoint(t *testing.T) {
	for _, engine := range storetest.Engines() {
		for _, c := range []struct {
			point string
			whole int
		}{
			{"between-writes:1", 0}, {"between-writes:2", 0}, {"between-writes:3", 0}, {"between-writes:4", 0},
			{"before-commit", 0}, {"after-commit-before-answer", 1},
		} {
			t.Run("FL-04 "+c.point+" "+string(engine), func(t *testing.T) {
				dsn := storetest.New(t, engine)
				out, err := child(t, failpoints(t), "one", dsn, "CARDEA_FAILPOINT="+c.point).Output()
				if !killed(err) || len(out) > 0 {
					t.Fatalf("%v, having said %q; want it killed before it said anything", err, out)
				}
				db := storetest.Connect(t, dsn, storetest.NewClock())
				if n := checkWhole(t, db, nil); n != c.whole {
					t.Errorf("%d transactions, want %d", n, c.whole)
				}
				for _, name := range []string{"a one", "b one"} {
					if isSet(t, db, name) != (c.whole == 1) {
						t.Errorf("%s is set: %v", name, c.whole != 1)
					}
				}
				update(t, db, write("next"))
			})
		}
		t.Run("no point "+string(engine), func(t *testing.T) {
			dsn := storetest.New(t, engine)
			out, err := child(t, failpoints(t), "one", dsn, "CARDEA_FAILPOINT=between-writes:5").Output()
			if err != nil || string(out) != "update one\n" {
				t.Errorf("%v, having said %q: there are more writes than the test knows", err, out)
			}
		})
	}
}

// fullDisk fills the disk it is given, which is a limit on the size of files, and
// makes room again.
func fullDisk(ctx context.Context, db *store.DB) error {
	limit := func(size uint64) error {
		var now syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &now); err != nil {
			return err
		}
		now.Cur = min(size, now.Max)
		return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &now)
	}
	if err := limit(1 << 20); err != nil {
		return err
	}
	long := strings.Repeat("x", 2000)
	var mu sync.Mutex
	var stored []string
	failures := 0
	var wrong error
	fill := func(worker int) {
		for i := range 200 {
			name := fmt.Sprintf("%d/%d", worker, i)
			var err error
			if i%2 == 0 {
				err = db.Update(ctx, func(tx *store.Tx) error {
					if _, err := tx.SetSettingOnce("fill "+name, long); err != nil {
						return err
					}
					return write(name)(tx)
				})
			} else {
				name = ""
				err = db.Append(ctx, audit.SignIn("usr_full").With("name", long))
			}
			mu.Lock()
			switch {
			case err == nil && name != "":
				stored = append(stored, name)
			case err != nil && !errors.Is(err, oauth.ErrUnavailable):
				wrong = err
			case err != nil:
				failures++
			}
			mu.Unlock()
		}
	}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() { fill(worker) })
	}
	wg.Wait()
	switch {
	case wrong != nil:
		return fmt.Errorf("a full disk is not reported as temporary: %w", wrong)
	case failures == 0:
		return errors.New("the disk was never full")
	}
	if err := db.Ping(ctx); err != nil {
		return fmt.Errorf("reading on a full disk: %w", err)
	}
	if err := limit(1 << 62); err != nil {
		return err
	}
	if err := db.Update(ctx, write("recovered")); err != nil {
		return fmt.Errorf("writing when there is room again: %w", err)
	}
	for _, name := range append(stored, "recovered") {
		err := db.View(ctx, func(tx *store.Tx) error {
			_, err := tx.Setting("b " + name)
			return err
		})
		if err != nil {
			return fmt.Errorf("%s was acknowledged: %w", name, err)
		}
	}
	fmt.Println(len(stored) > 0)
	return db.Close()
}

// FL-05, TK-62: a full disk answers temporarily_unavailable, loses nothing that
// was acknowledged, and is over when there is room.
func TestFullDisk(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dsn := storetest.New(t, storetest.SQLite)
	out, err := child(t, self, "full disk", dsn).Output()
	if err != nil || string(out) != "true\n" {
		t.Fatalf("%v, having said %q", err, out)
	}
	checkWhole(t, storetest.Connect(t, dsn, storetest.NewClock()), nil)
}
