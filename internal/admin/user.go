package admin

import (
	"context"
	"errors"
	"slices"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/credential"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// User is a person who signs in, as operators see it.
type User struct {
	ID         string        `json:"id"`
	Email      string        `json:"email"`
	Name       string        `json:"name"`
	Role       identity.Role `json:"role"`   // "": none
	Groups     []string      `json:"groups"` // names
	CreatedAt  Moment        `json:"created_at"`
	DisabledAt Moment        `json:"disabled_at"`
	version    int64
}

// viewUsers returns the views of accounts, with the groups that tx has of them.
func viewUsers(tx *store.Tx, users ...*identity.User) ([]User, error) {
	ids := make([]string, len(users))
	for i, u := range users {
		ids[i] = u.ID
	}
	groups, err := tx.UserGroups(ids...)
	if err != nil {
		return nil, err
	}
	views := make([]User, len(users))
	for i, u := range users {
		views[i] = User{
			ID: u.ID, Email: u.Email, Name: u.Name, Role: u.Role, Groups: append([]string{}, groups[u.ID]...),
			CreatedAt: Moment{u.CreatedAt}, DisabledAt: Moment{u.DisabledAt}, version: u.Version,
		}
	}
	return views, nil
}

func viewUser(tx *store.Tx, u *identity.User) (User, error) {
	views, err := viewUsers(tx, u)
	if err != nil {
		return User{}, err
	}
	return views[0], nil
}

// NewUser describes an account to create.
type NewUser struct {
	Email    string        `json:"email"`
	Name     string        `json:"name"`
	Password string        `json:"password"`
	Role     identity.Role `json:"role"`   // "" or "none": none
	Groups   []string      `json:"groups"` // names of groups that it is put into
}

// checkEmail returns the address that was given, as it is stored.
func checkEmail(given string) (string, error) {
	email, ok := identity.Email(given)
	if !ok {
		return "", invalid("email", "{email} is not an e-mail address; write it like ada@example.com")
	}
	return email, nil
}

// account returns the account that n describes, with its password hashed.
func (n NewUser) account(ctx context.Context) (*identity.User, error) {
	email, err := checkEmail(n.Email)
	if err != nil {
		return nil, err
	}
	if err := checkName(n.Name); err != nil {
		return nil, err
	}
	role, err := parseRole(n.Role)
	if err != nil {
		return nil, err
	}
	hash, err := credential.HashPassword(ctx, n.Password)
	if err != nil {
		return nil, refused("password", err)
	}
	return &identity.User{ID: oauth.NewID("usr_"), Email: email, Name: n.Name, Role: role, PasswordHash: hash}, nil
}

func checkName(name string) error {
	if !identity.IsName(name) {
		return invalid("name", "{name} must be one line of at most %d bytes", identity.MaxName)
	}
	return nil
}

// noRole is how a command or a request says that a person is to have no role.
const noRole identity.Role = "none"

func parseRole(role identity.Role) (identity.Role, error) {
	if role == noRole {
		role = ""
	}
	if !role.Valid() {
		return "", invalid("role", "{role} %q is unknown; use one of %s", string(role),
			oauth.Listed(append(slices.Clone(identity.Roles), noRole)))
	}
	return role, nil
}

// insertUser stores a new account and puts it into groups, which are locked.
func insertUser(tx *store.Tx, u *identity.User, groups []*identity.Group) error {
	u.CreatedAt = tx.Now()
	err := tx.CreateUser(u)
	if errors.Is(err, store.ErrConflict) {
		err = conflict(Users, "email", u.Email, "the account %s already exists")
	}
	if err != nil {
		return err
	}
	for _, g := range groups {
		if _, err := tx.AddMember(g.ID, u.ID); err != nil {
			return err
		}
	}
	return nil
}

// CreateUser creates an account. An owner completes the setup of the installation.
func (o *Operations) CreateUser(ctx context.Context, by Caller, n NewUser) (view User, err error) {
	u, err := n.account(ctx)
	if err != nil {
		return view, err
	}
	err = o.change(ctx, by, Users, "user.create", &view, func(tx *store.Tx) (event audit.Event, err error) {
		event = audit.User("create", u.ID)
		by, err := by.now(tx)
		if err != nil {
			return event, err
		}
		if u.Role != "" {
			if err := by.mayRoles(); err != nil {
				return event, err
			}
		}
		if len(n.Groups) > 0 {
			if err := by.may(Groups, Write); err != nil {
				return event, err
			}
		}
		if u.Role == identity.Owner {
			if err := tx.EndSetup(); err != nil {
				return event, err
			}
		}
		groups, err := lockNamed(tx, n.Groups)
		if err != nil {
			return event, err
		}
		if err := insertUser(tx, u, groups); err != nil {
			return event, err
		}
		view, err = viewUser(tx, u)
		return event.Changed(nil, view), err
	})
	return view, err
}

// Users returns a page of the accounts and the cursor of the next page, "" if there is none.
func (o *Operations) Users(ctx context.Context, by Caller, page store.Page) (views []User, next string, err error) {
	err = o.look(ctx, by, Users, func(tx *store.Tx) error {
		if err := checkBegins(page); err != nil {
			return err
		}
		users, cursor, err := tx.Users(page)
		if err != nil {
			return err
		}
		next = cursor
		views, err = viewUsers(tx, users...)
		return err
	})
	return views, next, err
}

// User returns the account with the given id or e-mail address.
func (o *Operations) User(ctx context.Context, by Caller, name string) (view UserDetail, err error) {
	err = o.look(ctx, by, Users, func(tx *store.Tx) error {
		u, err := findUser(tx, name)
		if err != nil {
			return err
		}
		if view.User, err = viewUser(tx, u); err != nil {
			return err
		}
		return view.fill(tx)
	})
	return view, err
}

// lockUser returns the account with the given id or e-mail address, which no other transaction changes until tx ends,
// if by may change it.
func lockUser(tx *store.Tx, by Caller, name string) (*identity.User, error) {
	u, err := tx.LockUser(name)
	if errors.Is(err, store.ErrNotFound) {
		err = noUser(name)
	}
	if err != nil || u.Role == "" {
		return u, err
	}
	if by, err = by.now(tx); err != nil {
		return nil, err
	}
	return u, by.mayRoles()
}

// spareOwner returns a Conflict if u is the last owner whose account is enabled, and nil otherwise. Until tx ends, no
// other transaction takes an owner away, and by is still one of those who may.
func spareOwner(tx *store.Tx, by Caller, u *identity.User) error {
	if u.Role != identity.Owner {
		return nil
	}
	several, err := tx.LockOwners()
	if err != nil {
		return err
	}
	if by, err = by.now(tx); err != nil { // another owner may have been faster
		return err
	}
	if err := by.mayRoles(); err != nil {
		return err
	}
	if !several && !u.Disabled() {
		return conflict("", "", u.Email, "%s is the last owner of this installation; make another owner first")
	}
	return nil
}

// changeUser locks the account with the given id or e-mail address, runs fn on it, records the event that fn returns,
// and returns the changed account.
func (o *Operations) changeUser(ctx context.Context, by Caller, verb, name string,
	fn func(*store.Tx, *identity.User) (audit.Event, error)) (view User, err error) {
	err = o.alterUser(ctx, by, verb, name, &view, &view, fn)
	return view, err
}

// alterUser is changeUser for an operation that returns more than the account: it sets view, which may be a part of
// answer, which is what the operation returns.
func (o *Operations) alterUser(ctx context.Context, by Caller, verb, name string, view *User, answer any,
	fn func(*store.Tx, *identity.User) (audit.Event, error)) error {
	return o.change(ctx, by, Users, "user."+verb, answer, func(tx *store.Tx) (event audit.Event, err error) {
		u, err := lockUser(tx, by, name)
		if err != nil {
			return event, err
		}
		before, err := viewUser(tx, u) // fn may change u
		if err != nil {
			return event, err
		}
		if err := o.matches(before); err != nil {
			return event, err
		}
		if event, err = fn(tx, u); err != nil {
			return event, err
		}
		if u, err = tx.User(u.ID); err != nil {
			return event, err
		}
		*view, err = viewUser(tx, u)
		return event.Changed(before, *view), err
	})
}

// UserTerms say what is to change in an account. What is nil stays as it is.
type UserTerms struct {
	Name *string        `json:"name"`
	Role *identity.Role `json:"role"` // "" or "none": none
}

// UpdateUser changes an account to the terms that are given. An owner completes the setup of the installation. The last
// owner stays one.
func (o *Operations) UpdateUser(ctx context.Context, by Caller, name string, terms UserTerms) (User, error) {
	return o.changeUser(ctx, by, "update", name, func(tx *store.Tx, u *identity.User) (event audit.Event, err error) {
		event = audit.User("update", u.ID)
		if terms.Name != nil {
			if err := checkName(*terms.Name); err != nil {
				return event, err
			}
			u.Name = *terms.Name
		}
		if terms.Role != nil {
			role, err := parseRole(*terms.Role)
			if err != nil {
				return event, err
			}
			if err := giveRole(tx, by, u, role); err != nil {
				return event, err
			}
		}
		return event, tx.UpdateUser(u)
	})
}

// giveRole changes the role of u, unless it is the one that u has.
func giveRole(tx *store.Tx, by Caller, u *identity.User, role identity.Role) error {
	if role == u.Role {
		return nil
	}
	by, err := by.now(tx)
	if err != nil {
		return err
	}
	if err := by.mayRoles(); err != nil {
		return err
	}
	if err := spareOwner(tx, by, u); err != nil {
		return err
	}
	u.Role = role
	if role != identity.Owner {
		return nil
	}
	return tx.EndSetup()
}

// DisableUser disables an account until EnableUser is called. The person is signed out everywhere, and the tokens of
// the person's agents are refused. The last owner cannot be disabled.
func (o *Operations) DisableUser(ctx context.Context, by Caller, name string) (User, error) {
	return o.changeUser(ctx, by, "disable", name, func(tx *store.Tx, u *identity.User) (audit.Event, error) {
		if err := spareOwner(tx, by, u); err != nil {
			return audit.Event{}, err
		}
		return audit.User("disable", u.ID), tx.DisableUser(u.ID)
	})
}

// ResetSecondFactor deletes the authenticator app, the recovery codes and the passkeys of an account and ends its
// sessions, because the person has lost the device. It returns a Conflict if the account has none of them.
func (o *Operations) ResetSecondFactor(ctx context.Context, by Caller, name string) (User, error) {
	return o.changeUser(ctx, by, "reset_second_factor", name,
		func(tx *store.Tx, u *identity.User) (audit.Event, error) {
			passkeys, err := tx.DeletePasskeys(u.ID)
			if err != nil {
				return audit.Event{}, err
			}
			err = tx.DeleteSecondFactor(u.ID)
			switch {
			case errors.Is(err, store.ErrNotFound) && passkeys == 0:
				return audit.Event{}, conflict("", "", u.Email,
					"the account %s has no second factor; nothing was changed")
			case err != nil && !errors.Is(err, store.ErrNotFound):
				return audit.Event{}, err
			}
			return audit.User("reset_second_factor", u.ID), tx.EndSessions(u.ID)
		})
}

// EnableUser enables a disabled account again.
func (o *Operations) EnableUser(ctx context.Context, by Caller, name string) (User, error) {
	return o.changeUser(ctx, by, "enable", name, func(tx *store.Tx, u *identity.User) (audit.Event, error) {
		return audit.User("enable", u.ID), tx.EnableUser(u.ID)
	})
}

// DeleteUser deletes an account with its memberships of groups, and ends all its grants. The last owner cannot be
// deleted.
func (o *Operations) DeleteUser(ctx context.Context, by Caller, name string) (done Deletion, err error) {
	err = o.change(ctx, by, Users, "user.delete", &done, func(tx *store.Tx) (event audit.Event, err error) {
		u, err := lockUser(tx, by, name)
		if err != nil {
			return event, err
		}
		if err := spareOwner(tx, by, u); err != nil {
			return event, err
		}
		done = Deletion{What: "user", ID: u.ID, Name: u.Email}
		if done.Grants, err = tx.LiveGrants(store.GrantFilter{UserID: u.ID}); err != nil {
			return event, err
		}
		before, err := viewUser(tx, u)
		if err == nil {
			err = o.matches(before)
		}
		if err != nil {
			return event, err
		}
		event = audit.User("delete", u.ID).Changed(before, nil)
		return endedGrants(event, done.Grants), tx.DeleteUser(u.ID)
	})
	return done, err
}

// findUser returns the person with the given id or e-mail address.
func findUser(tx *store.Tx, name string) (*identity.User, error) {
	u, err := tx.User(name)
	if errors.Is(err, store.ErrNotFound) {
		u, err = tx.UserByEmail(name)
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil, noUser(name)
	}
	return u, err
}

func noUser(name string) error { return notFound(Users, name, "there is no account %s") }
