package token_test

import (
	"net/http"
	"path/filepath"
	"testing"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// After a restore that kept the grants, a stolen older refresh token counts again. The first newer one that is
// presented ends the grant, whoever came first, and raises one alarm.
func TestNewerThanRestored(t *testing.T) {
	for name, thiefFirst := range map[string]bool{"the thief comes first": true, "the client comes first": false} {
		t.Run(name, func(t *testing.T) {
			clock, dsn := storetest.NewClock(), storetest.New(t, storetest.SQLite)
			s := servertest.New(t, storetest.Connect(t, dsn, clock), clock)
			s.Resource(servertest.MCP, "*weather")
			client := s.Client(servertest.Confidential)
			agent := s.Agent(t, client)
			stolen := agent.Refresh(agent.Connect(s.Browser(t), s.User("ada@example.com")).Refresh).Tokens()
			file := filepath.Join(t.TempDir(), "backup.db")
			if _, err := store.Backup(t.Context(), dsn, file, func(*store.DB) error { return nil }); err != nil {
				t.Fatal(err)
			}
			newest := stolen
			for range 3 {
				newest = agent.Refresh(newest.Refresh).Tokens()
			}

			restored := "sqlite:" + filepath.Join(t.TempDir(), "cardea.db")
			if _, err := store.Restore(t.Context(), restored, file, func(db *store.DB, _ store.Contents) error {
				return db.Update(t.Context(), func(tx *store.Tx) error {
					_, err := tx.Rewind(false)
					return err
				})
			}); err != nil {
				t.Fatal(err)
			}
			again := servertest.New(t, storetest.Connect(t, restored, clock), clock,
				func(c *config.Config) { c.Issuer = s.URL })
			agent = again.Agent(t, client)
			thief := stolen
			if thiefFirst {
				thief = agent.Refresh(stolen.Refresh).Tokens()
			}
			if agent.Active(newest.Refresh) {
				t.Error("a token that is newer than the grant is active")
			}
			agent.Refresh(newest.Refresh).Refused(http.StatusBadRequest, "invalid_grant")
			ended(t, agent, stolen, thief, newest)
			if got := len(again.Events("token.reuse")); got != 1 {
				t.Errorf("%d alarms, want 1", got)
			}
		})
	}
}
