package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/login"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

type userCommands struct {
	Create        userCreate        `cmd:"" help:"Make an account; the password comes from standard input."`
	List          userList          `cmd:"" help:"List the accounts."`
	Show          userShow          `cmd:"" help:"Show an account."`
	Disable       userDisable       `cmd:"" help:"Shut an account: it is signed out, and its agents' tokens are refused while it is shut."`
	Enable        userEnable        `cmd:"" help:"Open a disabled account again."`
	Delete        userDelete        `cmd:"" help:"Delete an account, and end every grant of it."`
	ResetPassword userResetPassword `cmd:"" help:"Set a new password and sign the person out everywhere."`
}

// userView is a person as commands print them.
type userView struct {
	ID         string `json:"id"`
	Email      string `json:"email"`
	Name       string `json:"name"`
	CreatedAt  moment `json:"created_at"`
	DisabledAt moment `json:"disabled_at"`
}

func viewUser(u *identity.User) userView {
	return userView{ID: u.ID, Email: u.Email, Name: u.Name, CreatedAt: moment{u.CreatedAt}, DisabledAt: moment{u.DisabledAt}}
}

func (v userView) state() string {
	if v.DisabledAt.IsZero() {
		return "enabled"
	}
	return "disabled"
}

func (v userView) draw(t *table) {
	t.row("id", v.ID)
	t.row("e-mail", v.Email)
	t.row("name", orDash(v.Name))
	t.row("state", v.state())
	t.row("created", v.CreatedAt.String())
}

// password is the only way a command takes one: on the command line every user of
// the machine could read it.
type password struct {
	PasswordStdin bool `help:"Read the password from standard input: one line."`
}

// maxLine bounds what is read from standard input, in bytes.
const maxLine = 64 << 10

// hash reads the password and returns its hash.
func (p password) hash(ctx context.Context, sh *shell) (string, error) {
	if !p.PasswordStdin {
		return "", usageError("give the password on standard input with --password-stdin; it is not taken from the command line, where others could read it")
	}
	text, err := sh.readLine("Password")
	if err != nil {
		return "", err
	}
	return login.HashPassword(ctx, text)
}

// readLine returns the one line that standard input holds, without its end. On a
// terminal it asks for what it waits for, and does not show what is typed.
func (sh *shell) readLine(what string) (string, error) {
	var text []byte
	var err error
	if f, ok := sh.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) { // #nosec G115 -- a file descriptor is small
		fmt.Fprintf(sh.errs, "%s (not shown as you type): ", what)
		text, err = term.ReadPassword(int(f.Fd())) // #nosec G115 -- as above
		fmt.Fprintln(sh.errs)
	} else {
		text, err = io.ReadAll(io.LimitReader(sh.in, maxLine))
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	line := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if strings.ContainsAny(line, "\r\n") {
		return "", advise("standard input holds more than one line; one is expected")
	}
	return line, nil
}

type userCreate struct {
	Email string `required:"" placeholder:"ADDRESS" help:"E-mail address to sign in with."`
	Name  string `placeholder:"NAME" help:"The person's name."`
	password
	output
}

func (c *userCreate) Run(ctx context.Context, sh *shell) error {
	if a, err := mail.ParseAddress(c.Email); err != nil || a.Address != c.Email || len(c.Email) > 320 {
		return usageError("--email is no e-mail address; write it like ada@example.com")
	}
	hash, err := c.hash(ctx, sh)
	if err != nil {
		return err
	}
	u := &identity.User{ID: oauth.NewID("usr_"), Email: c.Email, Name: c.Name, PasswordHash: hash}
	err = sh.update(ctx, func(tx *store.Tx) error {
		u.CreatedAt = tx.Now()
		err := tx.CreateUser(u)
		if errors.Is(err, store.ErrConflict) {
			return advise("there is an account %s already; set another password with: cardea user reset-password %s --password-stdin", c.Email, c.Email)
		}
		return concludeWith(tx, audit.User("create", u.ID), err)
	})
	if err != nil {
		return err
	}
	return c.print(sh, viewUser(u), viewUser(u).draw)
}

type userList struct{ output }

func (c *userList) Run(ctx context.Context, sh *shell) error {
	views := []userView{}
	err := sh.view(ctx, func(tx *store.Tx) error {
		users, err := everyPage(tx.Users)
		for _, u := range users {
			views = append(views, viewUser(u))
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.print(sh, views, func(t *table) {
		t.row("ID", "E-MAIL", "NAME", "STATE", "CREATED")
		for _, v := range views {
			t.row(v.ID, v.Email, orDash(v.Name), v.state(), v.CreatedAt.String())
		}
	})
}

// namedUser is what a command takes that has nothing but its verb to say.
type namedUser struct {
	User string `arg:"" help:"E-mail address or id."`
	output
}

type userShow struct{ namedUser }

func (c *userShow) Run(ctx context.Context, sh *shell) error {
	var u *identity.User
	err := sh.view(ctx, func(tx *store.Tx) (err error) {
		u, err = findUser(tx, c.User)
		return err
	})
	if err != nil {
		return err
	}
	return c.print(sh, viewUser(u), viewUser(u).draw)
}

// change does to the account what the verb says, and prints it.
func (c *namedUser) change(ctx context.Context, sh *shell, verb string, do func(*store.Tx, *identity.User) error) error {
	var changed *identity.User
	err := sh.update(ctx, func(tx *store.Tx) error {
		found, err := findUser(tx, c.User)
		if err != nil {
			return err
		}
		if err := concludeWith(tx, audit.User(verb, found.ID), do(tx, found)); err != nil {
			return err
		}
		changed, err = tx.User(found.ID)
		return err
	})
	if err != nil {
		return err
	}
	return c.print(sh, viewUser(changed), viewUser(changed).draw)
}

type userDisable struct{ namedUser }

func (c *userDisable) Run(ctx context.Context, sh *shell) error {
	return c.change(ctx, sh, "disable", func(tx *store.Tx, u *identity.User) error { return tx.DisableUser(u.ID) })
}

type userEnable struct{ namedUser }

func (c *userEnable) Run(ctx context.Context, sh *shell) error {
	return c.change(ctx, sh, "enable", func(tx *store.Tx, u *identity.User) error { return tx.EnableUser(u.ID) })
}

type userResetPassword struct {
	namedUser
	password
}

func (c *userResetPassword) Run(ctx context.Context, sh *shell) error {
	hash, err := c.hash(ctx, sh)
	if err != nil {
		return err
	}
	return c.change(ctx, sh, "reset_password", func(tx *store.Tx, u *identity.User) error {
		return errors.Join(tx.SetPassword(u.ID, hash), tx.EndSessions(u.ID))
	})
}

type userDelete struct{ namedUser }

func (c *userDelete) Run(ctx context.Context, sh *shell) error {
	var done deletion
	err := sh.update(ctx, func(tx *store.Tx) error {
		u, err := findUser(tx, c.User)
		if err != nil {
			return err
		}
		done = deletion{What: "user", ID: u.ID, Name: u.Email}
		if done.Grants, err = liveGrants(tx, store.GrantFilter{UserID: u.ID}); err != nil {
			return err
		}
		return concludeWith(tx, audit.User("delete", u.ID), tx.DeleteUser(u.ID))
	})
	if err != nil {
		return err
	}
	return done.print(sh, c.output)
}

// findUser returns the person whom an operator names by e-mail address or id.
func findUser(tx *store.Tx, name string) (*identity.User, error) {
	u, err := tx.User(name)
	if errors.Is(err, store.ErrNotFound) {
		u, err = tx.UserByEmail(name)
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil, advise("there is no account %s; cardea user list shows them", name)
	}
	return u, err
}
