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
	"github.com/cardea-auth/cardea/internal/adminapi"
	"github.com/cardea-auth/cardea/internal/identity"
)

type userCommands struct {
	Create        userCreate        `cmd:"" help:"Create an account. The password is read from standard input."`
	Invite        userInvite        `cmd:"" help:"Invite a person to make an account. The link is shown once."`
	List          userList          `cmd:"" help:"List the accounts."`
	Show          userShow          `cmd:"" help:"Show an account."`
	Update        userUpdate        `cmd:"" help:"Change the name or the role of an account."`
	Disable       userDisable       `cmd:"" help:"Disable an account: the person is signed out, and the tokens of the person's agents are refused."`
	Enable        userEnable        `cmd:"" help:"Enable a disabled account."`
	Delete        userDelete        `cmd:"" help:"Delete an account and end all its grants."`
	ResetSecond   userResetSecond   `cmd:"" name:"reset-second-factor" help:"Delete the second factor of a person who has lost it, passkeys included, and sign the person out everywhere."`
	RemovePasskey userRemovePasskey `cmd:"" help:"Delete a passkey of a person who has lost the device that keeps it, and sign the person out everywhere."`
	ResetPassword userResetPassword `cmd:"" help:"Make a link with which the person sets a new password, or set it. It signs the person out everywhere, and ends the person's grants."`
}

func userState(v admin.User) string {
	if v.DisabledAt.IsZero() {
		return "enabled"
	}
	return "disabled"
}

func drawUser(v admin.User, t *table) {
	t.Row("id", v.ID)
	t.Row("e-mail", v.Email)
	t.Row("name", dash(v.Name))
	t.Row("role", dash(string(v.Role)))
	t.Row("groups", dash(strings.Join(v.Groups, " ")))
	t.Row("state", userState(v))
	t.Row("created", v.CreatedAt.String())
}

// password is the flag with which a command reads a password from standard input. It is not taken from the command
// line, because every user of the machine could read it there.
type password struct {
	PasswordStdin bool `help:"Read the password from standard input, as one line."`
}

// maxLine is the most that is read from standard input, in bytes.
const maxLine = 64 << 10

// read reads the password from standard input.
func (p password) read(sh *shell) (string, error) {
	if !p.PasswordStdin {
		return "", usageError("give the password on standard input with --password-stdin; it is not taken from the " +
			"command line, where others could read it")
	}
	return sh.readLine("Password")
}

// readLine returns the line that standard input holds, without its end. It refuses more than one line. On a terminal it
// prompts for what, and does not show what is typed.
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
		return "", usageError("standard input holds more than one line; give one line")
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
	n := admin.NewUser{Email: c.Email, Name: c.Name, Password: password, Role: c.Role, Groups: c.Group}
	return ask(ctx, sh, c.output, drawUser, adminapi.CreateUser, adminapi.Creation[admin.NewUser]{Body: n})
}

type userList struct {
	searched
	output
}

func (c *userList) Run(ctx context.Context, sh *shell) error {
	none := "nobody can sign in yet; make an account with: cardea user create --email ADDRESS --password-stdin"
	return list(ctx, sh, sh.operate, c.output, emptyList(c.Begins != "", "account", none), drawUsers,
		adminapi.ListUsers, c.listing)
}

func drawUsers(views []admin.User, t *table) {
	t.Head("ID", "E-MAIL", "NAME", "ROLE", "STATE", "CREATED")
	t.Fold(16, "E-MAIL", "NAME")
	for _, v := range views {
		t.Row(v.ID, v.Email, dash(v.Name), dash(string(v.Role)), userState(v), v.CreatedAt.String())
	}
}

// namedUser has the inputs of a command that takes only an account.
type namedUser struct {
	User string `arg:"" help:"E-mail address or id."`
	output
}

// run does an operation on the account and prints it.
func (c *namedUser) run(ctx context.Context, sh *shell, op *adminapi.Operation[adminapi.ByID, admin.User]) error {
	return ask(ctx, sh, c.output, drawUser, op, adminapi.ByID{ID: c.User})
}

type userShow struct{ namedUser }

func (c *userShow) Run(ctx context.Context, sh *shell) error {
	return ask(ctx, sh, c.output, drawUserDetail, adminapi.ShowUser, adminapi.ByID{ID: c.User})
}

// drawUserDetail draws an account with what its person has to sign in.
func drawUserDetail(v admin.UserDetail, t *table) {
	drawUser(v.User, t)
	for _, k := range v.Passkeys {
		used := "not used yet"
		if !k.LastUsedAt.IsZero() {
			used = "last used " + k.LastUsedAt.String()
		}
		t.Row("passkey", k.ID+" "+k.Name+", "+used)
	}
	if v.AuthenticatorApp {
		t.Row("authenticator app", "yes")
	}
}

type userRemovePasskey struct {
	User    string `arg:"" help:"E-mail address or id."`
	Passkey string `arg:"" help:"Id of the passkey, which cardea user show prints."`
	output
}

func (c *userRemovePasskey) Run(ctx context.Context, sh *shell) error {
	return ask(ctx, sh, c.output, drawUserDetail, adminapi.RemovePasskey,
		adminapi.ByPasskey{ByID: adminapi.ByID{ID: c.User}, Passkey: c.Passkey})
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
	terms := admin.UserTerms{Name: c.Name, Role: c.Role}
	return ask(ctx, sh, c.output, drawUser, adminapi.UpdateUser,
		adminapi.Change[admin.UserTerms]{ID: c.User, Body: terms})
}

type userDisable struct{ namedUser }

func (c *userDisable) Run(ctx context.Context, sh *shell) error {
	return c.run(ctx, sh, adminapi.DisableUser)
}

type userEnable struct{ namedUser }

func (c *userEnable) Run(ctx context.Context, sh *shell) error {
	return c.run(ctx, sh, adminapi.EnableUser)
}

type userResetSecond struct{ namedUser }

func (c *userResetSecond) Run(ctx context.Context, sh *shell) error {
	return c.run(ctx, sh, adminapi.ResetSecondFactor)
}

type userResetPassword struct {
	namedUser
	password
	KeepGrants bool `help:"Keep the person's grants, so that the agents stay connected."`
}

func (c *userResetPassword) Run(ctx context.Context, sh *shell) error {
	in := &adminapi.NewPassword{KeepGrants: c.KeepGrants}
	if c.PasswordStdin {
		var err error
		if in.Password, err = c.read(sh); err != nil {
			return err
		}
		if in.Password == "" {
			return usageError("standard input is empty; give the password there, " +
				"or leave --password-stdin out for a link")
		}
	}
	return ask(ctx, sh, c.output, c.draw, adminapi.ResetPassword,
		adminapi.Change[*adminapi.NewPassword]{ID: c.User, Body: in})
}

func (c *userResetPassword) draw(v admin.PasswordReset, t *table) {
	drawUser(v.User, t)
	if v.Link != "" {
		t.Row("link", v.Link)
		t.Row("expires", v.ExpiresAt.String())
		return
	}
	if c.KeepGrants {
		t.Row("grants", "kept")
	} else {
		t.Row("grants", count(v.Grants, "grant")+" ended")
	}
}

type userDelete struct{ namedUser }

func (c *userDelete) Run(ctx context.Context, sh *shell) error {
	return ask(ctx, sh, c.output, drawDeletion, adminapi.DeleteUser, adminapi.ByID{ID: c.User})
}
