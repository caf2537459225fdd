package store_test

import (
	"errors"
	"testing"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

func TestParties(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, _ *storetest.Clock) {
		user, client, resource := people(t, db)
		g := redeemed(t, db, user, client, resource)
		want := &store.Parties{Client: client, Resource: resource, User: user}
		view(t, db, func(tx *store.Tx) error {
			for _, name := range []string{resource.ID, resource.Identifier} {
				got, err := tx.Parties(client.ID, name, user.ID)
				if err != nil {
					return err
				}
				same(t, want, got)
			}
			grant, got, err := tx.GrantParties(g.ID)
			if err != nil {
				return err
			}
			same(t, g, grant)
			same(t, want, got)
			if got, err = tx.Parties("none", "none", ""); err != nil {
				return err
			}
			same(t, new(store.Parties), got)
			if _, _, err := tx.GrantParties("none"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("no grant: %v", err)
			}
			return nil
		})
		update(t, db, func(tx *store.Tx) error {
			return errors.Join(tx.DeleteClient(client.ID), tx.DeleteResource(resource.ID), tx.DeleteUser(user.ID))
		})
		view(t, db, func(tx *store.Tx) error {
			_, got, err := tx.GrantParties(g.ID)
			same(t, new(store.Parties), got)
			return err
		})
	})
}

func TestIncarnation(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, _ *storetest.Clock) {
		user, client, resource := people(t, db)
		first := client.Incarnation
		g := redeemed(t, db, user, client, resource)
		if first == "" || g.ClientIncarnation != first || !g.IsOf(client) {
			t.Fatalf("the client is %q, its grant is of %q", first, g.ClientIncarnation)
		}
		update(t, db, func(tx *store.Tx) error {
			if err := tx.DeleteClient(client.ID); err != nil {
				return err
			}
			client.Incarnation = ""
			return tx.CreateClient(client, "")
		})
		if client.Incarnation == first || g.IsOf(client) {
			t.Error("the grant is of the client that was made anew")
		}
		nobodys := &oauth.Grant{ID: oauth.NewID("grt_"), ClientID: "nobody", CreatedAt: db.Now(), EndsAt: db.Now()}
		update(t, db, func(tx *store.Tx) error { return tx.CreateGrant(nobodys) })
		if nobodys.IsOf(&oauth.Client{ID: "nobody"}) {
			t.Error("the grant of a client that is not there is of one from before there were incarnations")
		}
	})
}
