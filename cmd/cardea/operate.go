package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/user"
	"slices"
	"strings"
	"unicode"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/adminapi"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server"
)

// operate runs fn on the configured installation, with a caller that may do everything.
func (sh *shell) operate(ctx context.Context, fn func(*admin.Operations, admin.Caller) error) error {
	i, err := sh.open(ctx)
	if err != nil {
		return err
	}
	return errors.Join(fn(i.operations(), caller()), i.close())
}

// operateKeys is operate with the signing keys. It needs the master key.
func (sh *shell) operateKeys(ctx context.Context, fn func(*admin.Operations, admin.Caller) error) error {
	i, err := sh.open(ctx)
	if err != nil {
		return err
	}
	operations := i.operations()
	operations.Ring, operations.RefreshKey, err = i.ring(ctx, sh)
	if err == nil {
		operations.Directory, err = server.NewDirectory(i.config, i.db)
	}
	if err == nil {
		err = fn(operations, caller())
	}
	return errors.Join(err, i.close())
}

// operateResources is operate with the signing keys, if the master key is at hand, because an algorithm that is new
// here needs a key. Without the master key a running server creates that key, and a note says so.
func (sh *shell) operateResources(ctx context.Context, fn func(*admin.Operations, admin.Caller) error) error {
	i, err := sh.open(ctx)
	if err != nil {
		return err
	}
	operations := i.operations()
	ring, _, err := i.ring(ctx, sh)
	if err == nil {
		operations.Ring = ring
	} else {
		fmt.Fprintln(sh.errs,
			"cardea: note: without the master key here, a running server creates a key for a new algorithm within a "+
				"minute:", plain(err.Error()))
	}
	return errors.Join(fn(operations, caller()), i.close())
}

func (i *installation) operations() *admin.Operations {
	return &admin.Operations{
		DB: i.db, Issuer: i.config.Issuer, SigningAlg: i.config.Tokens.SigningAlg,
		AllowLoopback: i.config.Registration.AllowLoopback, SignIn: i.config.Login.Providers,
		MailInvitation: server.MailInvitation(i.config, i.log),
		NoPasswords:    !slices.Contains(i.config.Login.Methods, "password"),
	}
}

// caller returns the caller of this command: the account of the operating system that runs it.
func caller() admin.Caller {
	name := fmt.Sprint("uid ", os.Getuid())
	if account, err := user.Current(); err == nil {
		name = account.Username
	}
	host, err := os.Hostname()
	if err != nil {
		return admin.Command(name, name)
	}
	return admin.Command(name, name+"@"+host)
}

// opener opens the configured installation and runs a function on it.
type opener func(context.Context, func(*admin.Operations, admin.Caller) error) error

// reach runs fn where the operations of this command are done: at the server that --server names, or on the
// installation that open opens.
func (sh *shell) reach(ctx context.Context, open opener, fn func(adminapi.Target) error) error {
	if sh.server() == "" {
		return open(ctx,
			func(o *admin.Operations, by admin.Caller) error { return fn(adminapi.Target{Operations: o, By: by}) })
	}
	remote, err := sh.remote()
	if err != nil {
		return err
	}
	return fn(adminapi.Target{Remote: remote})
}

// server returns the server that --server or the environment names, "" for the configured installation.
func (sh *shell) server() string {
	return strings.TrimRight(strings.TrimSpace(cmp.Or(sh.Server, sh.variable("CARDEA_SERVER"))), "/")
}

// remote returns the server that --server names, with the credentials of the environment.
func (sh *shell) remote() (*adminapi.Remote, error) {
	for name, given := range map[string]bool{
		"--config": sh.ConfigFile != "", "--data-dir": sh.DataDir != nil, "--database": sh.Database != nil,
		"--issuer": sh.Issuer != nil,
	} {
		if given {
			return nil, usageError(name + " is of this machine, and --server of another; give only one of them")
		}
	}
	u, err := url.Parse(sh.server())
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, usageError("--server is not the public URL of a server; write it like https://auth.example.com")
	}
	if !oauth.IsSecure(u) {
		return nil, usageError("--server must be https, because secrets are sent over it; " +
			"http is for this machine only")
	}
	r := &adminapi.Remote{Issuer: sh.server(), ClientID: sh.variable("CARDEA_CLIENT_ID")}
	if r.Token, err = sh.secret("CARDEA_TOKEN"); err != nil {
		return nil, err
	}
	if r.ClientSecret, err = sh.secret("CARDEA_CLIENT_SECRET"); err != nil {
		return nil, err
	}
	if r.Token == "" && (r.ClientID == "" || r.ClientSecret == "") {
		return nil, advise("--server needs API credentials: set CARDEA_CLIENT_ID and CARDEA_CLIENT_SECRET, or "+
			"CARDEA_TOKEN; make them there with: %s", r.Credentials())
	}
	return r, nil
}

// secret returns an environment variable, or what is in the file that the variable of the same name with _FILE names.
func (sh *shell) secret(name string) (string, error) {
	file := sh.variable(name + "_FILE")
	if value := sh.variable(name); value != "" || file == "" {
		return value, nil
	}
	text, err := config.ReadSecret(file)
	if err != nil {
		return "", fmt.Errorf("%s_FILE: %w", name, err)
	}
	if text = strings.TrimSpace(text); text == "" || strings.ContainsFunc(text, unicode.IsControl) {
		return "", fmt.Errorf("%s_FILE: the file %s is not a secret in one line; check the path", name, plain(file))
	}
	return text, nil
}

// ask does an operation that returns one record, and prints it.
func ask[In, Out any](ctx context.Context, sh *shell, o output, draw func(Out, *table),
	op *adminapi.Operation[In, Out], in In) error {
	return askWith(ctx, sh, sh.operate, o, draw, op, in)
}

// askWith is ask on the installation that open opens.
func askWith[In, Out any](ctx context.Context, sh *shell, open opener, o output, draw func(Out, *table),
	op *adminapi.Operation[In, Out], in In) error {
	return sh.reach(ctx, open, func(t adminapi.Target) error {
		view, err := op.Call(ctx, t, in)
		if err != nil {
			return err
		}
		return o.print(sh, view, func(t *table) { draw(view, t) })
	})
}

// list does an operation that lists records, and prints them page by page. with returns its input for a page,
// and empty is the note for an empty list.
func list[In, T any](ctx context.Context, sh *shell, open opener, o output, empty string, draw func([]T, *table),
	op *adminapi.Operation[In, adminapi.Page[T]], with func(adminapi.Listing) In) error {
	return sh.reach(ctx, open, func(t adminapi.Target) error {
		p := newPrinter(o, sh, empty, draw)
		for page := (adminapi.Listing{Limit: 1000}); ; {
			part, err := op.Call(ctx, t, with(page))
			if err == nil {
				err = p.add(part.Items)
			}
			if err != nil {
				return err
			}
			if page.Cursor = part.Next; part.Next == "" {
				return p.end()
			}
		}
	})
}

// plainListing is the input of a list without filters.
func plainListing(l adminapi.Listing) adminapi.Listing { return l }

// searched has the flag of a list that is searched.
type searched struct {
	Begins string `placeholder:"TEXT" help:"Only those that have a name, an address or an id that begins with this, in upper or lower case."`
}

// listing returns the input of a page of what is searched for.
func (s searched) listing(l adminapi.Listing) adminapi.Search {
	return adminapi.Search{Listing: l, Q: s.Begins}
}

func drawDeletion(d admin.Deletion, t *table) {
	ended := count(d.Grants, "grant") + " ended"
	if d.What == "group" {
		ended = "it had " + count(d.Members, "member")
	}
	t.Row(fmt.Sprintf("deleted the %s %s (%s); %s", d.What, d.ID, d.Name, ended))
}

// flags has the flags of the inputs whose JSON names are different.
var flags = map[string]string{
	"client_name":                "name",
	"grant_types":                "grant",
	"redirect_uris":              "redirect-uri",
	"resources":                  "resource",
	"resource_servers":           "resource-server",
	"scopes":                     "scope",
	"scope_risks":                "scope-risk",
	"default_scopes":             "default-scope",
	"groups":                     "group",
	"scope_groups":               "scope-group",
	"token_groups":               "token-groups",
	"token_endpoint_auth_method": "auth-method",
	"max_uses":                   "uses",
	"sites":                      "site",
	"q":                          "begins",
	"tool_risks":                 "tool-risk",
	"tool_scopes":                "tool-scope",
}

// flagOf returns the flag for the input with the given JSON name, or what an MCP server was seen to have.
func flagOf(input string) string {
	if input == "tools" || input == "seen" {
		return "the tools of the MCP server"
	}
	return "--" + cmp.Or(flags[input], strings.ReplaceAll(input, "_", "-"))
}

// next has the command that helps after an operation was not done; %s stands for the record.
var next = map[admin.Kind]map[admin.Noun]string{
	admin.NotFound: {
		admin.Resources:           "cardea resource list shows them",
		admin.Clients:             "cardea client list shows them",
		admin.Users:               "cardea user list shows them",
		admin.Passkeys:            "cardea user show shows those of an account",
		admin.Groups:              "cardea group list shows them",
		admin.Grants:              "cardea grant list shows them",
		admin.Sessions:            "cardea session list shows them",
		admin.Events:              "cardea audit list shows them",
		admin.Providers:           "cardea provider list shows them",
		admin.Keys:                "cardea key list shows them",
		admin.Invitations:         "cardea invitation list shows them",
		admin.InitialAccessTokens: "cardea initial-access-token list shows them",
	},
	admin.Conflict: {
		admin.Resources: "change it with: cardea resource update %s",
		admin.Clients:   "see it with: cardea client show %s; to use the id for another client, delete this one first",
		admin.Users:     "set another password with: cardea user reset-password %s --password-stdin",
	},
}

// whatNext returns the text of e with inputs by their flags, and with the command that helps.
func whatNext(e *admin.Error) string {
	text := e.Text(flagOf)
	if step := next[e.Kind][e.Noun]; step != "" {
		text += "; " + strings.ReplaceAll(step, "%s", e.ID)
	}
	return text
}
