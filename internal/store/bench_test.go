package store_test

import (
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// callers runs work b.N times by n goroutines.
func callers(b *testing.B, n int, work func(worker int) error) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for worker := range n {
		wg.Go(func() {
			for next.Add(1) <= int64(b.N) {
				if err := work(worker); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
}

var engines = []storetest.Engine{storetest.SQLite, storetest.Postgres}

func BenchmarkAppend(b *testing.B) {
	for _, engine := range engines {
		for _, n := range []int{1, 64} {
			b.Run(string(engine)+"/"+strconv.Itoa(n), func(b *testing.B) {
				db, _ := storetest.Open(b, engine)
				ctx := audit.WithRequest(b.Context(),
					audit.Request{ID: oauth.NewID(""), Address: "192.0.2.1", UserAgent: "claude-code/2.0"})
				event := audit.TokenRequest("mcp_client", "client_credentials")
				event.Resource, event.Scope, event.Outcome =
					"https://mcp.example.com/mcp", "mcp:tools:weather", audit.Allowed
				callers(b, n, func(int) error { return db.Append(ctx, event) })
			})
		}
	}
}

func BenchmarkRotateGrant(b *testing.B) {
	for _, engine := range engines {
		for _, n := range []int{1, 64} {
			b.Run(string(engine)+"/"+strconv.Itoa(n), func(b *testing.B) {
				db, clock := storetest.Open(b, engine)
				user, client, resource := people(b, db)
				grants := make([]*oauth.Grant, n)
				for i := range grants {
					grants[i] = redeemed(b, db, user, client, resource)
				}
				callers(b, n, func(worker int) error {
					g := grants[worker]
					return db.Update(b.Context(), func(tx *store.Tx) error {
						if _, err := tx.Grant(g.ID); err != nil {
							return err
						}
						_, err := tx.RotateGrant(g.ID, g.Generation, clock.Now().Add(time.Hour))
						g.Generation++
						return tx.Conclude(audit.TokenRequest(client.ID, "refresh_token"), err)
					})
				})
			})
		}
	}
}

func BenchmarkGrantParties(b *testing.B) {
	for _, engine := range engines {
		b.Run(string(engine)+"/64", func(b *testing.B) {
			db, _ := storetest.Open(b, engine)
			user, client, resource := people(b, db)
			g := redeemed(b, db, user, client, resource)
			callers(b, 64, func(int) error {
				return db.View(b.Context(), func(tx *store.Tx) error {
					_, _, err := tx.GrantParties(g.ID)
					return err
				})
			})
		})
	}
}

func BenchmarkClient(b *testing.B) {
	db, _ := storetest.Open(b, storetest.SQLite)
	_, client, _ := people(b, db)
	callers(b, 64, func(int) error {
		_, err := db.Client(b.Context(), client.ID)
		return err
	})
}

// BenchmarkFsync is what the disk can do: the floor under the others.
func BenchmarkFsync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "f"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, 4096)
	for b.Loop() {
		if _, err := f.Write(page); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}
