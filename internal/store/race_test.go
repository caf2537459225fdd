package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

const (
	racers = 64
	rounds = 25
)

// race lets racers run at once, spread over two nodes whose connections are open,
// and returns how many won.
func race(t *testing.T, nodes []*store.DB, run func(*store.Tx) (won bool, err error)) (winners int64) {
	t.Helper()
	var won atomic.Int64
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	ready.Add(racers)
	for i := range racers {
		done.Go(func() {
			ready.Done()
			<-start
			err := nodes[i%len(nodes)].Update(t.Context(), func(tx *store.Tx) error {
				first, err := run(tx)
				if first {
					won.Add(1)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
	return won.Load()
}

// nodesOf opens two nodes on one database and all the connections they may have.
func nodesOf(t *testing.T, engine storetest.Engine) []*store.DB {
	t.Helper()
	dsn := storetest.New(t, engine)
	clock := storetest.NewClock()
	nodes := []*store.DB{storetest.Connect(t, dsn, clock), storetest.Connect(t, dsn, clock)}
	for _, db := range nodes {
		var wg sync.WaitGroup
		for range racers {
			wg.Go(func() {
				if err := db.Update(context.Background(), func(tx *store.Tx) error {
					_, _ = tx.Setting("warm")
					return nil
				}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	return nodes
}

func TestRaces(t *testing.T) {
	for _, engine := range storetest.Engines() {
		t.Run("TK-05 TK-06 a code is spent once "+string(engine), func(t *testing.T) {
			nodes := nodesOf(t, engine)
			user, client, resource := people(t, nodes[0])
			for range rounds {
				_, code := consented(t, nodes[0], user, client, resource)
				if n := race(t, nodes, func(tx *store.Tx) (bool, error) { return tx.SpendCode(code.Hash) }); n != 1 {
					t.Fatalf("spent %d times", n)
				}
			}
		})
		t.Run("CA-09 an assertion is used once "+string(engine), func(t *testing.T) {
			nodes := nodesOf(t, engine)
			for round := range rounds {
				n := race(t, nodes, func(tx *store.Tx) (bool, error) {
					err := tx.SpendAssertion(fmt.Sprint("hash_", round), tx.Now().Add(time.Hour))
					if errors.Is(err, store.ErrConflict) {
						return false, nil
					}
					return err == nil, err
				})
				if n != 1 {
					t.Fatalf("used %d times", n)
				}
			}
		})
		t.Run("TK-25 a generation is rotated once "+string(engine), func(t *testing.T) {
			nodes := nodesOf(t, engine)
			user, client, resource := people(t, nodes[0])
			g := redeemed(t, nodes[0], user, client, resource)
			for round := range int64(rounds) {
				n := race(t, nodes, func(tx *store.Tx) (bool, error) {
					_, err := tx.RotateGrant(g.ID, round+1, tx.Now().Add(time.Hour))
					if errors.Is(err, store.ErrNotFound) {
						return false, nil
					}
					return err == nil, err
				})
				if n != 1 {
					t.Fatalf("generation %d was rotated %d times", round+1, n)
				}
			}
			view(t, nodes[1], func(tx *store.Tx) error {
				got, err := tx.Grant(g.ID)
				if got.Generation != rounds+1 {
					t.Errorf("generation %d, want %d", got.Generation, rounds+1)
				}
				return err
			})
		})
		t.Run("a grant is redeemed once "+string(engine), func(t *testing.T) {
			nodes := nodesOf(t, engine)
			user, client, resource := people(t, nodes[0])
			for range rounds {
				g, _ := consented(t, nodes[0], user, client, resource)
				n := race(t, nodes, func(tx *store.Tx) (bool, error) {
					err := tx.RedeemGrant(g.ID, 1, g.EndsAt, oauth.MethodNone)
					if errors.Is(err, store.ErrNotFound) {
						return false, nil
					}
					return err == nil, err
				})
				if n != 1 {
					t.Fatalf("redeemed %d times", n)
				}
			}
		})
		t.Run("an interaction is decided once "+string(engine), func(t *testing.T) {
			nodes := nodesOf(t, engine)
			for range rounds {
				id := oauth.NewID("req_")
				n := race(t, nodes, func(tx *store.Tx) (bool, error) {
					mine := store.Decision{GrantID: oauth.NewID("grt_")}
					counts, first, err := tx.Decide(id, mine, tx.Now())
					if first != (counts == mine) {
						t.Errorf("first is %v, but what counts is %v", first, counts == mine)
					}
					return first, err
				})
				if n != 1 {
					t.Fatalf("decided %d times", n)
				}
			}
		})
		t.Run("LG-28 a setting is set once "+string(engine), func(t *testing.T) {
			nodes := nodesOf(t, engine)
			for range rounds {
				name := oauth.NewID("")
				n := race(t, nodes, func(tx *store.Tx) (bool, error) {
					mine := oauth.NewID("")
					got, err := tx.SetSettingOnce(name, mine)
					return got == mine, err
				})
				if n != 1 {
					t.Fatalf("set %d times", n)
				}
			}
		})
		t.Run("a grant is revoked or rotated, never both after "+string(engine), func(t *testing.T) {
			nodes := nodesOf(t, engine)
			user, client, resource := people(t, nodes[0])
			for range rounds {
				g := redeemed(t, nodes[0], user, client, resource)
				var turn atomic.Int64
				race(t, nodes, func(tx *store.Tx) (bool, error) {
					if turn.Add(1) == racers/2 {
						return tx.RevokeGrant(g.ID, "operator")
					}
					_, err := tx.RotateGrant(g.ID, 1, g.EndsAt)
					if errors.Is(err, store.ErrNotFound) {
						err = nil
					}
					return false, err
				})
				err := nodes[0].Update(t.Context(), func(tx *store.Tx) error {
					now, err := tx.Grant(g.ID)
					if err != nil {
						return err
					}
					if now.RevokedReason != "operator" {
						t.Error("the revocation was lost")
					}
					_, err = tx.RotateGrant(g.ID, now.Generation, g.EndsAt)
					return err
				})
				if !errors.Is(err, store.ErrNotFound) {
					t.Fatalf("rotated after it was revoked: %v", err)
				}
			}
		})
	}
}
