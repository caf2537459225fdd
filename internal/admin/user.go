package admin

import (
	"context"
	"errors"
	"net/mail"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/login"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// User is a person who signs in, as operators see them.
type User struct {
	ID         string `json:"id"`
	Email      string `json:"email"`
	Name       string `json:"name"`
	CreatedAt  Moment `json:"created_at"`
	DisabledAt Moment `json:"disabled_at"`
}

func viewUser(u *identity.User) User {
	return User{ID: u.ID, Email: u.Email, Name: u.Name, CreatedAt: Moment{u.CreatedAt}, DisabledAt: Moment{u.DisabledAt}}
}

// NewUser describes an account to create.
type NewUser struct {
	Email    string `json:"email"`
	Name     string `json:"name"`
	Password string `json:"password"`
}

// CreateUser creates an account.
func (o *Operations) CreateUser(ctx context.Context, by Caller, n NewUser) (view User, err error) {
	if a, err := mail.ParseAddress(n.Email); err != nil || a.Address != n.Email || len(n.Email) > 320 {
		return view, invalid("email", "{email} is not an e-mail address; write it like ada@example.com")
	}
	hash, err := login.HashPassword(ctx, n.Password)
	if err != nil {
		return view, refused("password", err)
	}
	u := &identity.User{ID: oauth.NewID("usr_"), Email: n.Email, Name: n.Name, PasswordHash: hash}
	err = o.change(ctx, by, Users, "user.create", func(tx *store.Tx) (audit.Event, error) {
		u.CreatedAt = tx.Now()
		err := tx.CreateUser(u)
		if errors.Is(err, store.ErrConflict) {
			err = conflict(Users, "email", n.Email, "the account %s already exists")
		}
		return audit.User("create", u.ID).Changed(nil, viewUser(u)), err
	})
	return viewUser(u), err
}

// Users returns a page of the accounts and the cursor of the next page, "" if there
// is none.
func (o *Operations) Users(ctx context.Context, by Caller, page store.Page) (views []User, next string, err error) {
	err = o.look(ctx, by, Users, func(tx *store.Tx) error {
		users, cursor, err := tx.Users(page)
		views, next, err = viewed(viewUser, users, cursor, err)
		return err
	})
	return views, next, err
}

// User returns the account with the given id or e-mail address.
func (o *Operations) User(ctx context.Context, by Caller, name string) (view User, err error) {
	err = o.look(ctx, by, Users, func(tx *store.Tx) error {
		u, err := findUser(tx, name)
		if err == nil {
			view = viewUser(u)
		}
		return err
	})
	return view, err
}

// changeUser locks the account with the given id or e-mail address, runs fn on it, records
// the event that fn returns, and returns the changed account.
func (o *Operations) changeUser(ctx context.Context, by Caller, verb, name string, fn func(*store.Tx, *identity.User) (audit.Event, error)) (view User, err error) {
	err = o.change(ctx, by, Users, "user."+verb, func(tx *store.Tx) (event audit.Event, err error) {
		u, err := tx.LockUser(name)
		if errors.Is(err, store.ErrNotFound) {
			err = noUser(name)
		}
		if err != nil {
			return event, err
		}
		before := viewUser(u) // fn may change u
		if event, err = fn(tx, u); err != nil {
			return event, err
		}
		u, err = tx.User(u.ID)
		if err == nil {
			view = viewUser(u)
			event = event.Changed(before, view)
		}
		return event, err
	})
	return view, err
}

// DisableUser disables an account until EnableUser is called. The person is signed out
// everywhere, and the tokens of the person's agents are refused.
func (o *Operations) DisableUser(ctx context.Context, by Caller, name string) (User, error) {
	return o.changeUser(ctx, by, "disable", name, func(tx *store.Tx, u *identity.User) (audit.Event, error) {
		return audit.User("disable", u.ID), tx.DisableUser(u.ID)
	})
}

// EnableUser enables a disabled account again.
func (o *Operations) EnableUser(ctx context.Context, by Caller, name string) (User, error) {
	return o.changeUser(ctx, by, "enable", name, func(tx *store.Tx, u *identity.User) (audit.Event, error) {
		return audit.User("enable", u.ID), tx.EnableUser(u.ID)
	})
}

// PasswordReset is an account with a new password, and how many grants ended with the old one.
type PasswordReset struct {
	User
	Grants int `json:"grants_ended"` // those that were in force
}

// ResetPassword sets a new password and ends the person's sessions. Unless keepGrants is
// true, it also ends the person's grants with all their tokens, because somebody else who
// knew the old password may have signed in and connected agents.
func (o *Operations) ResetPassword(ctx context.Context, by Caller, name, password string, keepGrants bool) (done PasswordReset, err error) {
	hash, err := login.HashPassword(ctx, password)
	if err != nil {
		return done, refused("password", err)
	}
	done.User, err = o.changeUser(ctx, by, "reset_password", name, func(tx *store.Tx, u *identity.User) (event audit.Event, err error) {
		event = audit.User("reset_password", u.ID)
		if err := errors.Join(tx.SetPassword(u.ID, hash), tx.EndSessions(u.ID)); err != nil {
			return event, err
		}
		if keepGrants {
			return event.With("grants", "kept"), nil
		}
		if done.Grants, err = tx.LiveGrants(store.GrantFilter{UserID: u.ID}); err != nil {
			return event, err
		}
		return endedGrants(event, done.Grants), tx.RevokeUserGrants(u.ID, "password_reset")
	})
	return done, err
}

// DeleteUser deletes an account and ends all its grants.
func (o *Operations) DeleteUser(ctx context.Context, by Caller, name string) (done Deletion, err error) {
	err = o.change(ctx, by, Users, "user.delete", func(tx *store.Tx) (event audit.Event, err error) {
		u, err := tx.LockUser(name)
		if errors.Is(err, store.ErrNotFound) {
			err = noUser(name)
		}
		if err != nil {
			return event, err
		}
		done = Deletion{What: "user", ID: u.ID, Name: u.Email}
		if done.Grants, err = tx.LiveGrants(store.GrantFilter{UserID: u.ID}); err != nil {
			return event, err
		}
		event = audit.User("delete", u.ID).Changed(viewUser(u), nil)
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
