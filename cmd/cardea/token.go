package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/config"
)

type tokenCommands struct {
	Inspect tokenInspect `cmd:"" help:"Decode, verify and explain a token: why it is or is not accepted."`
}

type tokenInspect struct {
	Token string `arg:"" optional:"" help:"The token; read from standard input if it is not given, where other users of the machine cannot see it."`
	output
}

func (c *tokenInspect) Run(ctx context.Context, sh *shell) error {
	token := c.Token
	if token == "" {
		var err error
		if token, err = sh.readLine("Token"); err != nil {
			return err
		}
	}
	token = strings.TrimSpace(token)
	if scheme, rest, found := strings.Cut(token, " "); found && strings.EqualFold(scheme, "bearer") {
		token = strings.TrimSpace(rest) // a whole Authorization header's worth
	}
	if token == "" {
		return usageError("give the token as an argument or on standard input")
	}
	found, err := inspect(ctx, sh, token)
	if err != nil {
		return err
	}
	if err := c.print(sh, found, func(t *table) { drawInspection(found, t) }); err != nil {
		return err
	}
	if !found.Accepted {
		return errVerdict
	}
	return nil
}

// inspect finds out what there is to say about token, with the database's help if
// there is one.
func inspect(ctx context.Context, sh *shell, token string) (found *admin.Inspection, err error) {
	c, err := sh.load(nil)
	if err != nil {
		return nil, err
	}
	if missing := missingDatabase(c.Config); missing != "" {
		return admin.DecodeToken(c.Issuer, token, "there is none at "+missing+", so signature and grant are not checked; name it with --data-dir or --database"), nil
	}
	err = sh.operateKeys(ctx, func(o *admin.Operations, by admin.Caller) error {
		found, err = o.InspectToken(ctx, by, token)
		return err
	})
	return found, err
}

func drawInspection(n *admin.Inspection, t *table) {
	t.row("kind", strings.ReplaceAll(n.Kind, "_", " "))
	for _, part := range []struct {
		name   string
		values map[string]any
	}{{"header", n.Header}, {"claim", n.Claims}} {
		for _, name := range slices.Sorted(maps.Keys(part.values)) {
			t.row(part.name, name, textOf(name, part.values[name]))
		}
	}
	for _, c := range n.Checks {
		t.row(string(c.Result), c.Name, c.Detail)
	}
	if n.Accepted {
		t.row("accepted")
	} else {
		t.row("not accepted", n.Reason)
		if step := helps[n.Failed().Name]; step != "" {
			t.row("what helps", step)
		}
	}
}

// textOf returns a member of a token as people read it: points in time as such.
func textOf(name string, value any) string {
	switch value := value.(type) {
	case string:
		return value
	case json.Number:
		seconds, err := value.Int64()
		if err == nil && slices.Contains([]string{"exp", "iat", "nbf", "auth_time"}, name) {
			return value.String() + "  " + admin.Moment{Time: time.Unix(seconds, 0)}.String()
		}
	}
	text, err := json.Marshal(value)
	if err != nil {
		return "?" // it was JSON a moment ago
	}
	return string(text)
}

// helps says which command helps after a check of a token has failed, by the name
// of the check.
var helps = map[string]string{
	"kid":    "cardea key list shows the keys",
	"aud":    "cardea resource list shows the resources",
	"client": "cardea client show describes the client; cardea client enable lets a disabled one in again",
	"user":   "cardea user show describes the account; cardea user enable opens a disabled one again",
	"grant":  "cardea grant list shows the grants; the person has to be asked again",
}

// missingDatabase returns the SQLite file that is not there, "" if it is: looking
// at a token makes no database.
func missingDatabase(c config.Config) string {
	path, sqlite := strings.CutPrefix(c.Database, "sqlite:")
	if _, err := os.Stat(path); sqlite && errors.Is(err, fs.ErrNotExist) {
		return path
	}
	return ""
}
