package store_test

import (
	"testing"

	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// An account from before e-mail addresses were looked up by the ASCII form of their domain can sign in, and so an
// operator must be able to shut it.
func TestLockUserOfOldKey(t *testing.T) {
	for _, engine := range []storetest.Engine{storetest.SQLite, storetest.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			dsn, clock := storetest.New(t, engine), storetest.NewClock()
			db := storetest.Connect(t, dsn, clock)
			if _, err := raw(t, dsn).Exec(`INSERT INTO users (id, email, email_key, name, password_hash, created_at)
				VALUES ('usr_old', 'ada@bücher.example', 'ada@bücher.example', 'Ada', '', 1)`); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"usr_old", "ada@bücher.example", "ada@xn--bcher-kva.example"} {
				err := db.Update(t.Context(), func(tx *store.Tx) error {
					_, err := tx.LockUser(name)
					return err
				})
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}
