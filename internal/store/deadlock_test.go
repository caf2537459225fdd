package store_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// FL-13: two changes that lock the same two records the other way round: PostgreSQL ends one of them. It changed
// nothing, and its error says to try again.
func TestDeadlock(t *testing.T) {
	db, _ := storetest.Open(t, storetest.Postgres)
	people := []string{oauth.NewID("usr_"), oauth.NewID("usr_")}
	err := db.Update(t.Context(), func(tx *store.Tx) error {
		return errors.Join(
			tx.CreateUser(&identity.User{ID: people[0], Email: "ada@example.com", CreatedAt: tx.Now()}),
			tx.CreateUser(&identity.User{ID: people[1], Email: "bob@example.com", CreatedAt: tx.Now()}))
	})
	if err != nil {
		t.Fatal(err)
	}
	var locked sync.WaitGroup
	locked.Add(2)
	errs := make(chan error)
	for _, order := range [][]string{{people[0], people[1]}, {people[1], people[0]}} {
		go func() {
			errs <- db.Update(t.Context(), func(tx *store.Tx) error {
				first := tx.DisableUser(order[0])
				locked.Done()
				locked.Wait()
				return errors.Join(first, tx.DisableUser(order[1]))
			})
		}()
	}
	lost := errors.Join(<-errs, <-errs)
	if !errors.Is(lost, oauth.ErrUnavailable) ||
		!strings.Contains(store.Cause(lost), "nothing was changed; try again") {
		t.Errorf("got %v with the cause %q, want one that says to try again", lost, store.Cause(lost))
	}
}
