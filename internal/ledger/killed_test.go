package ledger_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/ledger"
	"github.com/cardea-auth/cardea/internal/store"
)

// This test binary runs as a node that is killed if CARDEA_LEDGER_NODE names its database.
func TestMain(m *testing.M) {
	dsn := os.Getenv("CARDEA_LEDGER_NODE")
	if dsn == "" {
		os.Exit(m.Run())
	}
	if err := node(context.Background(), dsn); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// node records and seals until it is killed. It prints a line for each event that is recorded.
func node(ctx context.Context, dsn string) error {
	db, err := store.Open(ctx, dsn, store.Options{})
	if err != nil {
		return err
	}
	key, err := ledger.NewKey(bytes.Repeat([]byte("k"), 32), []byte("codes of k"))
	if err != nil {
		return err
	}
	sealer := &ledger.Sealer{DB: db, Key: key, Log: slog.New(slog.DiscardHandler)}
	failed := make(chan error)
	for range 3 {
		go func() {
			for {
				if err := db.Append(ctx, audit.Event{Action: "test.killed"}.Allow()); err != nil {
					failed <- err
				}
				fmt.Println("recorded")
			}
		}()
	}
	go func() {
		for {
			if err := sealer.SealAll(ctx); err != nil {
				failed <- err
			}
		}
	}()
	return <-failed
}

// One of two nodes is killed while both seal: nothing that it recorded is lost or sealed twice, and the other goes on.
func TestKilled(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		const kills, before = 4, 60
		db, err := store.Open(t.Context(), w.dsn, store.Options{}) // its clock is that of the other node
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		w.db, w.sealer = db, w.newSealer(db)
		recorded := int64(0)
		for range kills {
			child := exec.CommandContext(t.Context(), os.Args[0])
			child.Env = append(os.Environ(), "CARDEA_LEDGER_NODE="+w.dsn)
			child.Stderr = t.Output()
			out, err := child.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			for n := 0; lines.Scan(); n++ {
				recorded++
				if n == before {
					if err := child.Process.Kill(); err != nil {
						t.Fatal(err)
					}
				}
				if n < before && n%20 == 0 {
					w.record(1)
					recorded++
					w.seal()
				}
			}
			_ = child.Wait() // its error is that it was killed
			w.seal()
		}
		w.record(1)
		w.seal()
		r := w.verify("")
		// PostgreSQL ends what the killed node sent it meanwhile.
		for deadline := time.Now().Add(time.Minute); r.Waiting != 0 && time.Now().Before(deadline); {
			w.seal()
			r = w.verify("")
		}
		if !r.OK || r.Waiting != 0 || r.Events < recorded+1 || r.Events > recorded+1+kills*3 {
			t.Errorf("of %d events: %s", recorded+1, tell(r))
		}
	})
}
