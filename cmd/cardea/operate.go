package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/server"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/table"
)

// operate runs fn on the configured installation, with a caller that may do
// everything.
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
		fmt.Fprintln(sh.errs, "cardea: note: without the master key here, a running server creates a key for a new algorithm "+
			"within a minute:", table.Plain(err.Error()))
	}
	return errors.Join(fn(operations, caller()), i.close())
}

func (i *installation) operations() *admin.Operations {
	return &admin.Operations{
		DB: i.db, Issuer: i.config.Issuer, SigningAlg: i.config.Tokens.SigningAlg, AllowLoopback: i.config.Registration.AllowLoopback,
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

// one runs an operation that returns one record, and prints it.
func one[T any](ctx context.Context, sh *shell, o output, draw func(T, *table.Table), do func(*admin.Operations, admin.Caller) (T, error)) error {
	return sh.operate(ctx, func(operations *admin.Operations, by admin.Caller) error {
		view, err := do(operations, by)
		if err != nil {
			return err
		}
		return o.print(sh, view, func(t *table.Table) { draw(view, t) })
	})
}

// every runs an operation that lists records page by page, and prints all of them. empty is the
// note for an empty list.
func every[T any](ctx context.Context, sh *shell, o output, empty string, draw func([]T, *table.Table), list func(*admin.Operations, admin.Caller, store.Page) ([]T, string, error)) error {
	return sh.operate(ctx, func(operations *admin.Operations, by admin.Caller) error {
		all := []T{}
		for page := (store.Page{Limit: 1000}); ; {
			views, next, err := list(operations, by, page)
			if err != nil {
				return err
			}
			all = append(all, views...)
			if page.After = next; next == "" {
				return printList(o, sh, all, empty, draw)
			}
		}
	})
}

func drawDeletion(d admin.Deletion, t *table.Table) {
	t.Row(fmt.Sprintf("deleted the %s %s (%s); %s ended", d.What, d.ID, d.Name, count(d.Grants, "grant")))
}

// flags has the flags of the inputs whose JSON names are different.
var flags = map[string]string{
	"client_name":                "name",
	"grant_types":                "grant",
	"redirect_uris":              "redirect-uri",
	"resources":                  "resource",
	"scopes":                     "scope",
	"scope_risks":                "scope-risk",
	"default_scopes":             "default-scope",
	"token_endpoint_auth_method": "auth-method",
	"max_uses":                   "uses",
	"sites":                      "site",
}

// flagOf returns the flag for the input with the given JSON name.
func flagOf(input string) string {
	return "--" + cmp.Or(flags[input], strings.ReplaceAll(input, "_", "-"))
}

// next has the command that helps after an operation was not done; %s stands for the record.
var next = map[admin.Kind]map[admin.Noun]string{
	admin.NotFound: {
		admin.Resources:           "cardea resource list shows them",
		admin.Clients:             "cardea client list shows them",
		admin.Users:               "cardea user list shows them",
		admin.Groups:              "cardea group list shows them",
		admin.Grants:              "cardea grant list shows them",
		admin.Sessions:            "cardea session list shows them",
		admin.Events:              "cardea audit list shows them",
		admin.Keys:                "cardea key list shows them",
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
