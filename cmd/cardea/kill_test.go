package main

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// TestKill kills a server under load and starts it again on the same data (FL-01):
// every token it handed out before still counts, and no code counts twice.
func TestKill(t *testing.T) {
	for range 3 {
		w := newProcess(t)
		w.start(t)
		chains, unspent := w.codes(t, 6), w.codes(t, 40)
		refreshed, redeemed := load(t, w, chains, unspent)
		w.start(t)

		for i, token := range refreshed {
			if _, status := w.refresh(t, token); status != http.StatusOK {
				t.Errorf("chain %d: the newest refresh token that was received is refused with %d", i, status)
			}
		}
		for i, code := range unspent {
			if redeemed[i] != "" {
				if _, status := w.refresh(t, redeemed[i]); status != http.StatusOK {
					t.Errorf("code %d: the refresh token that was received for it is refused with %d", i, status)
				}
			}
			if again := redemptions(t, w, code, 2); redeemed[i] != "" && again > 0 || again > 1 {
				t.Errorf("code %d was redeemed twice", i)
			}
		}
		w.kill(t)
	}
}

// load refreshes a chain of tokens for each of chains, redeems unspent one after
// another meanwhile, and kills the server in the middle. It returns the newest refresh
// token that was received of each chain, and for each of unspent, "" if no answer came.
func load(t *testing.T, w *process, chains, unspent []string) (refreshed, redeemed []string) {
	t.Helper()
	refreshed, redeemed = make([]string, len(chains)), make([]string, len(unspent))
	var all sync.WaitGroup
	var answers atomic.Int64
	for i, code := range chains {
		token, status := w.redeem(t, code)
		if status != http.StatusOK {
			t.Fatalf("a code is refused with %d", status)
		}
		refreshed[i] = token
		all.Go(func() {
			for status == http.StatusOK { // until the server is dead
				refreshed[i] = token
				token, status = w.refresh(t, token)
				answers.Add(1)
			}
		})
	}
	all.Go(func() {
		defer w.kill(t)
		for i, code := range unspent {
			token, status := w.redeem(t, code)
			if status != http.StatusOK {
				return
			}
			redeemed[i] = token
			if answers.Add(1) > 25 && i >= len(unspent)/2 {
				return
			}
		}
	})
	all.Wait()
	return refreshed, redeemed
}

// redemptions tries to redeem a code n times and returns how often it did.
func redemptions(t *testing.T, w *process, code string, n int) (done int) {
	t.Helper()
	for range n {
		if _, status := w.redeem(t, code); status == http.StatusOK {
			done++
		}
	}
	return done
}
