package admin_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
	"github.com/cardea-auth/cardea/scope"
)

// kind returns the kind of an admin.Error, -1 for any other.
func kind(err error) admin.Kind {
	if undone := (*admin.Error)(nil); errors.As(err, &undone) {
		return undone.Kind
	}
	return -1
}

// partings are the ways in which an owner stops being one.
func partings(t *testing.T, o *admin.Operations) map[string]func(by admin.Caller, id string) error {
	return map[string]func(by admin.Caller, id string) error{
		"demote": func(by admin.Caller, id string) error {
			_, err := o.UpdateUser(t.Context(), by, id, admin.UserTerms{Role: ptr(identity.Role("none"))})
			return err
		},
		"disable": func(by admin.Caller, id string) error { _, err := o.DisableUser(t.Context(), by, id); return err },
		"delete":  func(by admin.Caller, id string) error { _, err := o.DeleteUser(t.Context(), by, id); return err },
	}
}

func TestLastOwner(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, _ *storetest.Clock) {
		o := operate(t, db)
		last := account(t, db, identity.Owner)
		out := account(t, db, identity.Owner)
		update(t, db, func(tx *store.Tx) error { return tx.DisableUser(out.ID) })
		for name, part := range partings(t, o) {
			t.Run("AD-12 "+name, func(t *testing.T) {
				for _, by := range []admin.Caller{root, admin.Person(last, nil)} {
					err := part(by, last.ID)
					if kind(err) != admin.Conflict ||
						err.Error() != last.Email+" is the last owner of this installation; make another owner first" {
						t.Errorf("by %s: %v", by.Actor.Type, err)
					}
				}
				another := account(t, db, identity.Owner)
				if err := part(admin.Person(last, nil), another.ID); err != nil {
					t.Errorf("one of two: %v", err)
				}
			})
		}
		// A disabled owner does not count.
		if _, err := o.DeleteUser(t.Context(), root, out.ID); err != nil {
			t.Error(err)
		}
	})
}

// Two owners who demote each other at the same moment do not leave an installation without one.
func TestLastOwnerAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, _ *storetest.Clock) {
		o := operate(t, db)
		for name, part := range partings(t, o) {
			t.Run("AD-12 "+name, func(t *testing.T) {
				for range 10 {
					ada, bob := account(t, db, identity.Owner), account(t, db, identity.Owner)
					errs := make([]error, 2)
					var both sync.WaitGroup
					both.Go(func() { errs[0] = part(admin.Person(ada, nil), bob.ID) })
					both.Go(func() { errs[1] = part(admin.Person(bob, nil), ada.ID) })
					both.Wait()
					done := 0
					for _, err := range errs {
						switch {
						case err == nil:
							done++
						case kind(err) != admin.Forbidden && kind(err) != admin.Conflict:
							t.Error(err)
						}
					}
					if done != 1 {
						t.Errorf("%d of two succeeded: %v", done, errs)
					}
					update(t, db, func(tx *store.Tx) error { // the one who is left
						for _, u := range []*identity.User{ada, bob} {
							if err := tx.DeleteUser(u.ID); err != nil && !errors.Is(err, store.ErrNotFound) {
								return err
							}
						}
						return nil
					})
				}
			})
		}
	})
}

// Roles are an owner's to give, and so are the accounts of those who have one.
func TestRoles(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, _ *storetest.Clock) {
		o := operate(t, db)
		owner := account(t, db, identity.Owner)
		all := scope.Set{"cardea:*"}
		for _, tt := range []struct {
			who string
			by  admin.Caller
			may bool
		}{
			{"a command", root, true},
			{"an owner", admin.Person(owner, nil), true},
			{"an owner's program", admin.Person(owner, all), true},
			{"an operator", admin.Person(account(t, db, identity.Operator), nil), false},
			{"an auditor", admin.Person(account(t, db, identity.Auditor), nil), false},
			{"a program without a person", admin.Program("mcp_1", "Robot", all), false},
		} {
			t.Run(tt.who, func(t *testing.T) {
				judge := func(what string, err error) {
					t.Helper()
					if tt.may && err != nil || !tt.may && kind(err) != admin.Forbidden {
						t.Errorf("%s: %v", what, err)
					}
					if e := lastEvent(t, o); e.Actor != tt.by.Actor || tt.may == (e.Outcome == audit.Refused) {
						t.Errorf("%s: the last event is %+v", what, e)
					}
				}
				for _, role := range identity.Roles {
					_, err := o.CreateUser(t.Context(), tt.by,
						admin.NewUser{Email: string(role) + oauth.NewID("") + "@example.com",
							Password: "correct horse", Role: role})
					judge("makes an "+string(role), err)
					_, err = o.UpdateUser(t.Context(), tt.by, account(t, db, "").ID, admin.UserTerms{Role: &role})
					judge("gives "+string(role), err)
					has := account(t, db, role)
					_, err = o.UpdateUser(t.Context(), tt.by, has.ID, admin.UserTerms{Name: ptr("Eve")})
					judge("renames an "+string(role), err)
					_, err = o.ResetPassword(t.Context(), tt.by, has.ID, "battery staple", admin.KeepGrants)
					judge("resets the password of an "+string(role), err)
					_, err = o.DisableUser(t.Context(), tt.by, has.ID)
					judge("disables an "+string(role), err)
					_, err = o.EnableUser(t.Context(), tt.by, has.ID)
					judge("enables an "+string(role), err)
					_, err = o.DeleteUser(t.Context(), tt.by, has.ID)
					judge("deletes an "+string(role), err)
				}
			})
		}
		// Without roles, the scope is enough.
		robot := admin.Program("mcp_1", "Robot", scope.Set{"cardea:users:write"})
		made, err := o.CreateUser(t.Context(), robot,
			admin.NewUser{Email: "bob@example.com", Password: "correct horse", Role: "none"})
		if err != nil {
			t.Fatal(err)
		}
		v, err := o.UpdateUser(t.Context(), robot, made.ID,
			admin.UserTerms{Name: ptr("Bob"), Role: ptr(identity.Role(""))})
		if err != nil || v.Name != "Bob" || v.Role != "" {
			t.Errorf("%+v, %v", v, err)
		}
		_, err = o.UpdateUser(t.Context(), root, made.ID, admin.UserTerms{Role: ptr(identity.Role("king"))})
		if kind(err) != admin.Invalid ||
			err.Error() != `role "king" is unknown; use one of owner, operator, auditor, none` {
			t.Error(err)
		}
	})
}

// Demoting, disabling or deleting a person ends their rights at once.
func TestDemoted(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, _ *storetest.Clock) {
		o := operate(t, db)
		account(t, db, identity.Owner)
		for name, part := range partings(t, o) {
			eve := account(t, db, identity.Owner)
			by := admin.Person(eve, nil)
			if _, _, err := o.Users(t.Context(), by, store.Page{}); err != nil {
				t.Fatal(err)
			}
			if err := part(root, eve.ID); err != nil {
				t.Fatal(err)
			}
			if _, _, err := o.Users(t.Context(), by, store.Page{}); kind(err) != admin.Forbidden {
				t.Errorf("%s, and then reads: %v", name, err)
			}
			if _, err := o.CreateGroup(t.Context(), by, "staff", admin.GroupTerms{}); kind(err) != admin.Forbidden {
				t.Errorf("%s, and then writes: %v", name, err)
			}
			if _, err := o.RetireKey(t.Context(), by, "none"); kind(err) != admin.Forbidden {
				t.Errorf("%s, and then retires a key: %v", name, err)
			}
		}
	})
}

func TestGroups(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, _ *storetest.Clock) {
		o := operate(t, db)
		ctx := t.Context()
		staff, err := o.CreateGroup(ctx, root, "staff", described("Everybody"))
		if err != nil || staff.Name != "staff" || staff.Description != "Everybody" {
			t.Fatalf("%+v, %v", staff, err)
		}
		if _, err := o.CreateGroup(ctx, root, "staff", admin.GroupTerms{}); kind(err) != admin.Conflict {
			t.Errorf("a name that is taken: %v", err)
		}
		for _, name := range []string{"", "a b", "a/b", "-a", "é", string(make([]byte, 65)), "a\n"} {
			if _, err := o.CreateGroup(ctx, root, name, admin.GroupTerms{}); kind(err) != admin.Invalid {
				t.Errorf("%q: %v", name, err)
			}
		}
		if g, err := o.UpdateGroup(ctx, root, "staff", admin.GroupTerms{Description: ptr("All of us")}); err != nil ||
			g.Description != "All of us" {
			t.Errorf("%+v, %v", g, err)
		}
		_, err = o.UpdateGroup(ctx, root, "staff", admin.GroupTerms{Description: ptr("a\nb")})
		if kind(err) != admin.Invalid {
			t.Error(err)
		}
		ada, err := o.CreateUser(ctx, root,
			admin.NewUser{Email: "ada@example.com", Password: "correct horse", Groups: []string{"staff"}})
		if err != nil || !slices.Equal(ada.Groups, []string{"staff"}) {
			t.Fatalf("%+v, %v", ada, err)
		}
		_, err = o.CreateUser(ctx, root, admin.NewUser{Email: "bob@example.com", Password: "correct horse",
			Groups: []string{"none"}})
		if kind(err) != admin.NotFound {
			t.Errorf("a group that is not there: %v", err)
		}
		if _, err := o.User(ctx, root, "bob@example.com"); kind(err) != admin.NotFound {
			t.Errorf("and yet there is an account: %v", err)
		}
		robot := admin.Program("mcp_1", "Robot", scope.Set{"cardea:users:write"})
		_, err = o.CreateUser(ctx, robot, admin.NewUser{Email: "bob@example.com", Password: "correct horse",
			Groups: []string{"staff"}})
		if kind(err) != admin.Forbidden {
			t.Errorf("a program that writes users alone puts one into a group: %v", err)
		}
		var others []*identity.User
		for range 3 {
			u := account(t, db, "")
			others = append(others, u)
			for range 2 { // the second time changes nothing
				m, err := o.AddMember(ctx, root, "staff", u.ID)
				if err != nil || !m.Member || m.User != u.Email || m.Group != "staff" {
					t.Fatalf("%+v, %v", m, err)
				}
			}
		}
		if events, _, err := o.Events(ctx, root, store.EventFilter{UserID: others[0].ID}, store.Page{}); err != nil ||
			len(events) != 1 || events[0].Action != "group.add" || events[0].Detail["group"] != "staff" {
			t.Errorf("%+v, %v", events, err)
		}
		var seen []string
		for page := (store.Page{Limit: 2}); ; {
			g, next, err := o.Group(ctx, root, "staff", page)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range g.Members {
				seen = append(seen, m.ID)
			}
			if page.After = next; next == "" {
				break
			}
		}
		if len(seen) != 4 || !slices.Contains(seen, ada.ID) || !slices.Contains(seen, others[2].ID) {
			t.Errorf("the members are %v", seen)
		}
		// Who is deleted is in no group.
		if _, err := o.DeleteUser(ctx, root, others[0].ID); err != nil {
			t.Fatal(err)
		}
		if m, err := o.RemoveMember(ctx, root, "staff", others[1].Email); err != nil || m.Member {
			t.Errorf("%+v, %v", m, err)
		}
		if e := lastEvent(t, o); e.Action != "group.remove" || e.UserID != others[1].ID {
			t.Errorf("the last event is %+v", e)
		}
		if g, _, err := o.Group(ctx, root, "staff", store.Page{}); err != nil || len(g.Members) != 2 {
			t.Errorf("%+v, %v", g, err)
		}
		for _, err := range []error{
			call(o.AddMember(ctx, root, "none", ada.ID)), call(o.AddMember(ctx, root, "staff", "none@example.com")),
			call(o.RemoveMember(ctx, root, "none", ada.ID)), call(o.DeleteGroup(ctx, root, "none")),
		} {
			if kind(err) != admin.NotFound {
				t.Error(err)
			}
		}
		done, err := o.DeleteGroup(ctx, root, "staff")
		if err != nil || done.ID != staff.ID || done.Name != "staff" || done.What != "group" {
			t.Errorf("%+v, %v", done, err)
		}
		// A group that is given the name later is another.
		if _, err := o.CreateGroup(ctx, root, "staff", admin.GroupTerms{}); err != nil {
			t.Fatal(err)
		}
		if v, err := o.User(ctx, root, ada.ID); err != nil || len(v.Groups) != 0 {
			t.Errorf("%+v, %v", v, err)
		}
		if groups, _, err := o.Groups(ctx, root, store.Page{}); err != nil || len(groups) != 1 ||
			groups[0].ID == staff.ID {
			t.Errorf("%+v, %v", groups, err)
		}
	})
}

// call drops what an operation returns besides its error.
func call[T any](_ T, err error) error { return err }

// Nobody gives a client more than they hold themselves.
func TestWithinRights(t *testing.T) {
	db, _ := storetest.Open(t, storetest.SQLite)
	o := operate(t, db)
	api := o.Issuer + "/admin/api"
	if err := o.EnsureBuiltIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	machine := func(resource, allowed string) admin.NewClient {
		n := admin.NewClient{ClientTerms: admin.ClientTerms{Name: ptr("Ops"),
			GrantTypes: []oauth.GrantType{oauth.ClientCredentials}}}
		if n.Scope = &allowed; allowed == "" {
			n.Scope = nil
		}
		if n.Resources = []string{resource}; resource == "" {
			n.Resources, n.AnyResource = nil, true
		}
		return n
	}
	operator := admin.Person(account(t, db, identity.Operator), nil)
	owner := admin.Person(account(t, db, identity.Owner), nil)
	program := func(scopes ...string) admin.Caller { return admin.Program("mcp_1", "Robot", scopes) }
	for i, tt := range []struct {
		by                admin.Caller
		resource, allowed string
		may               bool
	}{
		{root, api, "", true},
		{owner, api, "", true},
		{owner, "", "", true},
		{operator, api, "", false},
		{operator, "", "", true}, // which has no part in what is built in
		{operator, api, "cardea:*", false},
		{operator, api, "cardea:users:read cardea:clients:write", true},
		{operator, api, "cardea:users:write", false},
		{operator, api, "cardea:settings:read", false},
		{operator, servertest.MCP, "", true},
		{operator, "", "mcp:*", true},
		{program("cardea:clients:write"), api, "cardea:clients:read", false}, // AD-13: it would outlive the token
		{program("cardea:clients:write"), api, "cardea:clients:write", false},
		{program("cardea:clients:write"), api, "cardea:grants:read", false},
		{program("cardea:clients:write", "cardea:grants:read"), api, "cardea:grants:write", false},
		{program("cardea:*"), api, "cardea:*", false},
		{program("cardea:*"), servertest.MCP, "", true},
		{admin.Person(account(t, db, identity.Owner), scope.Set{"cardea:*"}), api, "cardea:clients:read", false},
		{admin.Person(account(t, db, identity.Operator), scope.Set{"cardea:clients:write"}), api,
			"cardea:grants:write", false},
	} {
		t.Run(fmt.Sprint(i, " ", tt.by.Actor.Type, " ", tt.resource, " ", tt.allowed), func(t *testing.T) {
			judge := func(what string, err error) {
				t.Helper()
				if tt.may && err != nil || !tt.may && kind(err) != admin.Forbidden {
					t.Errorf("%s: %v", what, err)
				}
			}
			n := machine(tt.resource, tt.allowed)
			_, err := o.CreateClient(t.Context(), tt.by, n)
			judge("create", err)
			strong, err := o.CreateClient(t.Context(), root, n)
			if err != nil {
				t.Fatal(err)
			}
			_, err = o.RotateClientSecret(t.Context(), tt.by, strong.ID, 0)
			judge("rotate", err)
			_, err = o.UpdateClient(t.Context(), tt.by, strong.ID, admin.ClientTerms{Name: ptr("Mine")})
			judge("update", err)
			_, err = o.EnableClient(t.Context(), tt.by, strong.ID)
			judge("enable", err)
			weak, err := o.CreateClient(t.Context(), root, machine(servertest.MCP, ""))
			if err != nil {
				t.Fatal(err)
			}
			terms := n.ClientTerms
			_, err = o.UpdateClient(t.Context(), tt.by, weak.ID, terms)
			judge("strengthen", err)
		})
	}
	// One that acts for people is bounded by their roles.
	n := machine(api, "")
	n.GrantTypes, n.RedirectURIs = []oauth.GrantType{oauth.AuthorizationCode}, []string{"http://127.0.0.1/callback"}
	if _, err := o.CreateClient(t.Context(), operator, n); err != nil {
		t.Error(err)
	}
}

// described are the terms of a group with a description.
func described(text string) admin.GroupTerms { return admin.GroupTerms{Description: &text} }
