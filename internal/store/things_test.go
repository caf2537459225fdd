package store_test

import (
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/scope"
)

// people makes a user, a client and a resource.
func people(t testing.TB, db *store.DB) (*identity.User, *oauth.Client, *oauth.Resource) {
	t.Helper()
	now := db.Now()
	user := &identity.User{ID: oauth.NewID("usr_"), Name: "Ada", PasswordHash: "$argon2id$", CreatedAt: now}
	user.Email = user.ID + "@example.com"
	client := &oauth.Client{ID: oauth.NewID("mcp_"), Origin: oauth.ByRegistration, CreatedAt: now}
	client.Name, client.RedirectURIs = "Agent", []string{"http://127.0.0.1/callback"}
	resource := &oauth.Resource{ID: oauth.NewID("res_"), Name: "Weather", CreatedAt: now, UpdatedAt: now}
	resource.Identifier = "https://" + resource.ID + ".example.com/mcp"
	update(t, db, func(tx *store.Tx) error {
		if err := tx.CreateUser(user); err != nil {
			return err
		}
		if err := tx.CreateClient(client, ""); err != nil {
			return err
		}
		return tx.CreateResource(resource)
	})
	return user, client, resource
}

// consented returns a grant whose code is not redeemed yet, and the code.
func consented(t testing.TB, db *store.DB, user *identity.User, client *oauth.Client,
	resource *oauth.Resource) (*oauth.Grant, *oauth.Code) {
	t.Helper()
	now := db.Now()
	g := &oauth.Grant{
		ID: oauth.NewID("grt_"), ClientID: client.ID, UserID: user.ID, ResourceID: resource.ID,
		RedirectURI: "http://127.0.0.1/callback", Scope: scope.Of("mcp:tools:weather", "offline_access"),
		Refreshable: true, Secret: oauth.NewSecret(""), SignedInAt: now.Add(-time.Minute), AMR: []string{"pwd"},
		CreatedAt: now, ExpiresAt: now.Add(time.Minute), EndsAt: now.Add(90 * 24 * time.Hour),
	}
	c := &oauth.Code{Hash: oauth.Hash(oauth.NewSecret(oauth.CodePrefix)), GrantID: g.ID, RedirectURI: g.RedirectURI,
		Challenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", ExpiresAt: g.ExpiresAt}
	update(t, db, func(tx *store.Tx) error {
		if err := tx.CreateGrant(g); err != nil {
			return err
		}
		return tx.CreateCode(c)
	})
	return g, c
}

// redeemed returns a grant at generation 1, live for thirty days.
func redeemed(t testing.TB, db *store.DB, user *identity.User, client *oauth.Client,
	resource *oauth.Resource) *oauth.Grant {
	t.Helper()
	g, c := consented(t, db, user, client, resource)
	update(t, db, func(tx *store.Tx) error {
		if spent, err := tx.SpendCode(c.Hash); err != nil || !spent {
			t.Errorf("SpendCode = %v, %v", spent, err)
		}
		if err := tx.RedeemGrant(g.ID, 1, tx.Now().Add(30*24*time.Hour), oauth.MethodNone); err != nil {
			return err
		}
		var err error
		g, err = tx.Grant(g.ID)
		return err
	})
	return g
}

func update(t testing.TB, db *store.DB, fn func(*store.Tx) error) {
	t.Helper()
	if err := db.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func view(t testing.TB, db *store.DB, fn func(*store.Tx) error) {
	t.Helper()
	if err := db.View(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}
