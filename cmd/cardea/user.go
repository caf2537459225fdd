package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/store"
)

type userCommands struct {
	Create        userCreate        `cmd:"" help:"Make an account; the password comes from standard input."`
	List          userList          `cmd:"" help:"List the accounts."`
	Show          userShow          `cmd:"" help:"Show an account."`
	Update        userUpdate        `cmd:"" help:"Change the name or the role of an account."`
	Disable       userDisable       `cmd:"" help:"Shut an account: it is signed out, and its agents' tokens are refused while it is shut."`
	Enable        userEnable        `cmd:"" help:"Open a disabled account again."`
	Delete        userDelete        `cmd:"" help:"Delete an account, and end every grant of it."`
	ResetPassword userResetPassword `cmd:"" help:"Set a new password, sign the person out everywhere, and end their grants."`
}

func userState(v admin.User) string {
	if v.DisabledAt.IsZero() {
		return "enabled"
	}
	return "disabled"
}

func drawUser(v admin.User, t *table) {
	t.row("id", v.ID)
	t.row("e-mail", v.Email)
	t.row("name", orDash(v.Name))
	t.row("role", orDash(string(v.Role)))
	t.row("groups", orDash(strings.Join(v.Groups, " ")))
	t.row("state", userState(v))
	t.row("created", v.CreatedAt.String())
}

// password is the only way a command takes one: on the command line every user of
// the machine could read it.
type password struct {
	PasswordStdin bool `help:"Read the password from standard input: one line."`
}

// maxLine bounds what is read from standard input, in bytes.
const maxLine = 64 << 10

// read returns the password.
func (p password) read(sh *shell) (string, error) {
	if !p.PasswordStdin {
		return "", usageError("give the password on standard input with --password-stdin; it is not taken from the command line, where others could read it")
	}
	return sh.readLine("Password")
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
		return "", usageError("standard input holds more than one line; one is expected")
	}
	return line, nil
}

type userCreate struct {
	Email string        `required:"" placeholder:"ADDRESS" help:"E-mail address to sign in with."`
	Name  string        `placeholder:"NAME" help:"The person's name."`
	Role  identity.Role `placeholder:"ROLE" help:"What the person may do to this installation: owner, operator or auditor; nothing if it is not given."`
	Group []string      `sep:"none" placeholder:"NAME" help:"Group to put the person into; repeatable."`
	password
	output
}

func (c *userCreate) Run(ctx context.Context, sh *shell) error {
	password, err := c.read(sh)
	if err != nil {
		return err
	}
	return one(ctx, sh, c.output, drawUser, func(o *admin.Operations, by admin.Caller) (admin.User, error) {
		return o.CreateUser(ctx, by, admin.NewUser{Email: c.Email, Name: c.Name, Password: password, Role: c.Role, Groups: c.Group})
	})
}

type userList struct{ output }

func (c *userList) Run(ctx context.Context, sh *shell) error {
	return every(ctx, sh, c.output, drawUsers, func(o *admin.Operations, by admin.Caller, p store.Page) ([]admin.User, string, error) {
		return o.Users(ctx, by, p)
	})
}

func drawUsers(views []admin.User, t *table) {
	t.row("ID", "E-MAIL", "NAME", "ROLE", "STATE", "CREATED")
	for _, v := range views {
		t.row(v.ID, v.Email, orDash(v.Name), orDash(string(v.Role)), userState(v), v.CreatedAt.String())
	}
}

// namedUser is what a command takes that has nothing but its verb to say.
type namedUser struct {
	User string `arg:"" help:"E-mail address or id."`
	output
}

// run does the verb, and prints the account.
func (c *namedUser) run(ctx context.Context, sh *shell, verb func(*admin.Operations, context.Context, admin.Caller, string) (admin.User, error)) error {
	return one(ctx, sh, c.output, drawUser, func(o *admin.Operations, by admin.Caller) (admin.User, error) {
		return verb(o, ctx, by, c.User)
	})
}

type userShow struct{ namedUser }

func (c *userShow) Run(ctx context.Context, sh *shell) error {
	return c.run(ctx, sh, (*admin.Operations).User)
}

type userUpdate struct {
	namedUser
	Name *string        `placeholder:"NAME" help:"The person's name."`
	Role *identity.Role `placeholder:"ROLE" help:"What the person may do to this installation: owner, operator, auditor, or none."`
}

func (c *userUpdate) Run(ctx context.Context, sh *shell) error {
	if c.Name == nil && c.Role == nil {
		return usageError("nothing to change; say what, with --name or --role")
	}
	return c.run(ctx, sh, func(o *admin.Operations, ctx context.Context, by admin.Caller, name string) (admin.User, error) {
		return o.UpdateUser(ctx, by, name, admin.UserTerms{Name: c.Name, Role: c.Role})
	})
}

type userDisable struct{ namedUser }

func (c *userDisable) Run(ctx context.Context, sh *shell) error {
	return c.run(ctx, sh, (*admin.Operations).DisableUser)
}

type userEnable struct{ namedUser }

func (c *userEnable) Run(ctx context.Context, sh *shell) error {
	return c.run(ctx, sh, (*admin.Operations).EnableUser)
}

type userResetPassword struct {
	namedUser
	password
	KeepGrants bool `help:"Leave the person's agents connected: their grants and tokens stay."`
}

func (c *userResetPassword) Run(ctx context.Context, sh *shell) error {
	password, err := c.read(sh)
	if err != nil {
		return err
	}
	return one(ctx, sh, c.output, c.draw, func(o *admin.Operations, by admin.Caller) (admin.PasswordReset, error) {
		return o.ResetPassword(ctx, by, c.User, password, c.KeepGrants)
	})
}

func (c *userResetPassword) draw(v admin.PasswordReset, t *table) {
	drawUser(v.User, t)
	if c.KeepGrants {
		t.row("grants", "kept")
	} else {
		t.row("grants", count(v.Grants, "grant")+" ended")
	}
}

type userDelete struct{ namedUser }

func (c *userDelete) Run(ctx context.Context, sh *shell) error {
	return one(ctx, sh, c.output, drawDeletion, func(o *admin.Operations, by admin.Caller) (admin.Deletion, error) {
		return o.DeleteUser(ctx, by, c.User)
	})
}
