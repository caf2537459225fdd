package admin_test

import (
	"database/sql"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// On PostgreSQL, a group of an invitation can be deleted at the moment in which the invitation is used. Then it is used
// without that group, also if there is another one of the same name by then.
func TestInvitationIntoADeletedGroup(t *testing.T) {
	const bob = "bob@example.com"
	for name, use := range map[string]func(o *admin.Operations, token string) ([]string, error){
		"accepted": func(o *admin.Operations, token string) ([]string, error) {
			a, err := o.AcceptInvitation(t.Context(), token, "Bob", "a password of their own", true)
			if err == nil {
				err = o.DB.Update(t.Context(), a.Confirm)
			}
			return groupsOf(t, o, bob), err
		},
		"joined": func(o *admin.Operations, token string) ([]string, error) {
			u := &identity.User{ID: oauth.NewID("usr_"), Email: bob, CreatedAt: o.DB.Now()}
			update(t, o.DB, func(tx *store.Tx) error { return tx.CreateUser(u) })
			a, err := o.JoinInvitation(t.Context(), token, u)
			if err == nil {
				err = o.DB.Update(t.Context(), a.Confirm)
			}
			return groupsOf(t, o, bob), err
		},
		"sent again": func(o *admin.Operations, _ string) ([]string, error) {
			i, err := o.ResendInvitation(t.Context(), root, bob)
			return i.Groups, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dsn := storetest.New(t, storetest.Postgres)
			o := operate(t, storetest.Connect(t, dsn, storetest.NewClock()))
			handle, err := sql.Open("pgx", dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = handle.Close() }()
			for _, group := range []string{"staff", "crew"} {
				if _, err := o.CreateGroup(t.Context(), root, group, admin.GroupTerms{}); err != nil {
					t.Fatal(err)
				}
			}
			i, err := o.Invite(t.Context(), root,
				admin.NewInvitation{Email: bob, Groups: []string{"staff", "crew"}})
			if err != nil {
				t.Fatal(err)
			}
			type outcome struct {
				groups []string
				err    error
			}
			done := make(chan outcome, 1)
			update(t, o.DB, func(tx *store.Tx) error {
				g, err := tx.LockGroup("staff")
				if err == nil {
					err = tx.DeleteGroup(g.ID)
				}
				if err == nil {
					g.ID = oauth.NewID("grp_")
					err = tx.CreateGroup(g)
				}
				go func() {
					groups, err := use(o, tokenOf(i))
					done <- outcome{groups, err}
				}()
				for waiting := false; !waiting && err == nil; runtime.Gosched() {
					err = handle.QueryRowContext(t.Context(), "SELECT EXISTS (SELECT 1 FROM pg_stat_activity "+
						"WHERE datname = current_database() AND wait_event_type = 'Lock')").Scan(&waiting)
				}
				return err
			})
			if got := <-done; got.err != nil || !slices.Equal(got.groups, []string{"crew"}) {
				t.Errorf("the groups are %v, %v", got.groups, got.err)
			}
		})
	}
}

// tokenOf returns the token in the link of an invitation.
func tokenOf(i admin.Invitation) string {
	_, token, _ := strings.Cut(i.Link, "#")
	return token
}

// groupsOf returns the groups of the account of an address.
func groupsOf(t *testing.T, o *admin.Operations, email string) []string {
	t.Helper()
	u, err := o.User(t.Context(), root, email)
	if err != nil {
		t.Error(err)
	}
	return u.Groups
}
