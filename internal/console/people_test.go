package console_test

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
)

// An owner sees a person's passkeys and removes one, or all of the second step; an operator sees them only.
func TestPasskeysOfAPerson(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	for _, name := range []string{"Phone", "Laptop"} {
		s.Update(func(tx *store.Tx) error {
			return tx.CreatePasskey(&identity.Passkey{ID: "psk_" + strings.ToLower(name), UserID: ada.ID,
				CredentialID: []byte(name), PublicKey: []byte(name), Name: name, BackedUp: name == "Phone",
				CreatedAt: tx.Now()})
		})
	}
	path := "/admin/people/" + ada.ID
	page := staff(t, s, identity.Operator).Get(path)
	says(t, page, http.StatusOK, "Phone", "synced", "Laptop", "not used yet")
	if strings.Contains(page.Body, "Remove…") {
		t.Error("an operator is offered to remove a passkey")
	}
	b := staff(t, s, identity.Owner)
	page = b.Get(path + "/passkeys/psk_phone/remove")
	says(t, page, http.StatusOK, "Remove the passkey Phone of", "signed out everywhere")
	page = page.Submit(page.Form("csrf"))
	says(t, page, http.StatusOK, "The passkey is removed", "Laptop")
	if strings.Contains(page.Body, "Phone") {
		t.Errorf("it is still there: %s", page.Body)
	}
	says(t, b.Get(path+"/passkeys/psk_phone/remove"), http.StatusOK, "Laptop") // it is gone
	page = b.Get(path + "/second-factor")
	says(t, page.Submit(page.Form("csrf")), http.StatusOK, "The second step is removed")
	says(t, page.Submit(page.Form("csrf")), http.StatusConflict, "has no second factor")
}

// People choose their names themselves, and must neither rewrite the question that an owner answers nor be nameless.
func TestNamesOfPeople(t *testing.T) {
	s := servertest.StartMCP(t)
	b := staff(t, s, identity.Owner)
	for name, shown := range map[string]string{"Ada\u202e?\u2066": "Ada?", "\u200b \u2800": "ada@example.com"} {
		ada := s.User("ada@example.com")
		s.Update(func(tx *store.Tx) error {
			return tx.UpdateUser(&identity.User{ID: ada.ID, Name: name})
		})
		path := "/admin/people/" + ada.ID
		for _, path := range []string{"/admin/people", path, path + "/disable", path + "/delete", path + "/password"} {
			page := b.Get(path)
			says(t, page, http.StatusOK, shown)
			lacks(t, page, "\u202e", "\u2066", "\u200b")
		}
		s.Update(func(tx *store.Tx) error { return tx.DeleteUser(ada.ID) })
	}
}

// An owner makes a link with which a person sets a new password. It is shown once, and only then anything changes.
func TestPasswordLink(t *testing.T) {
	s := servertest.StartMCP(t)
	ada, b := s.User("ada@example.com"), staff(t, s, identity.Owner)
	hers := s.Browser(t)
	hers.Get("/login").SignIn(ada)
	page := b.Get("/admin/people/" + ada.ID + "/password")
	made := page.Submit(page.Form("csrf"), servertest.With("link", "1"))
	says(t, made, http.StatusOK, "A link for ", "give it to that person only")
	link := regexp.MustCompile(regexp.QuoteMeta(s.URL) + `/reset#([A-Za-z0-9_-]{43})`).FindStringSubmatch(made.Body)
	if link == nil {
		t.Fatalf("the page has no link: %s", made.Body)
	}
	for _, again := range []*servertest.Page{b.Get("/admin/people/" + ada.ID),
		b.Get("/admin/people/" + ada.ID + "/password"), b.Get("/admin/audit?user=" + ada.ID)} {
		if strings.Contains(again.Body, link[1]) {
			t.Errorf("%s shows the link again", again.URL)
		}
	}
	says(t, hers.Get("/account"), http.StatusOK, "Sign out")
	reset := s.Browser(t).Get("/reset")
	set := func() *servertest.Page {
		return reset.Submit(reset.Form("token"), servertest.With("token", link[1]),
			servertest.With("password", "a new password of hers"))
	}
	says(t, set(), http.StatusOK, "Your password is set")
	says(t, set(), http.StatusForbidden, "This link was used before")
	says(t, hers.Get("/account"), http.StatusOK, "Password")
	ada.Password = "a new password of hers"
	says(t, hers.Get("/login").SignIn(ada), http.StatusOK, "You are signed in")

	for _, role := range []identity.Role{identity.Operator, identity.Auditor} {
		if page := staff(t, s, role).Get("/admin/people/" + ada.ID + "/password"); page.Status != http.StatusForbidden {
			t.Errorf("%s: status %d", role, page.Status)
		}
	}
	o := &admin.Operations{DB: s.DB, Issuer: s.URL}
	if _, err := o.PasswordLink(t.Context(), admin.Caller{}, ada.ID, admin.EndGrants); err == nil {
		t.Error("nobody made a link")
	}
}

// A form offers a bounded number of groups and MCP servers. The others are typed.
func TestMoreThanAFormOffers(t *testing.T) {
	s := servertest.StartMCP(t)
	o := &admin.Operations{DB: s.DB, Issuer: s.URL}
	const last, server = "z-last", "https://zz.example.com/mcp"
	s.Update(func(tx *store.Tx) error {
		for i := range 201 {
			name := fmt.Sprint("group-", i)
			if i == 200 {
				name = last
			}
			if err := tx.CreateGroup(&identity.Group{ID: oauth.NewID("grp_"), Name: name,
				CreatedAt: tx.Now().Add(time.Duration(i) * time.Microsecond)}); err != nil {
				return err
			}
		}
		return nil
	})
	b := staff(t, s, identity.Owner)
	page := b.Get("/admin/people/new")
	says(t, page, 200, "Other groups")
	lacks(t, page, last)
	send := func(email string) *servertest.Page {
		return page.Submit(page.Form("email"), servertest.With("email", email), servertest.With("group", "group-1"),
			servertest.With("groups", " "+last+" "), servertest.With("password", "correct horse battery staple"),
			servertest.With("role", "auditor"))
	}
	says(t, send("no address"), 422, `name="groups" value="`+last+`"`, `value="group-1" checked`)
	says(t, send("bob@example.com"), 200)
	u, err := o.User(t.Context(), root, "bob@example.com")
	if err != nil || !slices.Equal(u.Groups, []string{"group-1", last}) {
		t.Errorf("%q, %v", u.Groups, err)
	}

	s.Update(func(tx *store.Tx) error {
		for i := range 201 {
			identifier := fmt.Sprintf("https://mcp-%d.example.com/mcp", i)
			if i == 200 {
				identifier = server
			}
			at := tx.Now().Add(time.Duration(i+1) * time.Microsecond)
			if err := tx.CreateResource(&oauth.Resource{ID: oauth.NewID("res_"), Identifier: identifier,
				Scopes: []oauth.ResourceScope{{Name: "x"}}, CreatedAt: at, UpdatedAt: at}); err != nil {
				return err
			}
		}
		return nil
	})
	page = b.Get("/admin/clients/new")
	says(t, page, 200, "Other MCP servers")
	lacks(t, page, server)
	says(t, page.Submit(page.Form("name"), servertest.With("name", "Robot"), servertest.With("kind", "machine"),
		servertest.With("resources", server+"\n")), 200, "The client is created")
	bound, _, err := o.Clients(t.Context(), root, admin.ClientQuery{Resource: server}, store.Page{})
	if err != nil || len(bound) != 1 {
		t.Errorf("%+v, %v", bound, err)
	}
}
