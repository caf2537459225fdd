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
	"github.com/cardea-auth/cardea/internal/adminapi"
	"github.com/cardea-auth/cardea/internal/config"
)

type tokenCommands struct {
	Inspect tokenInspect `cmd:"" help:"Decode and verify a token, and explain why it is or is not accepted."`
}

type tokenInspect struct {
	Token string `arg:"" optional:"" help:"The token. If it is not given, it is read from standard input, where other users of the machine cannot see it."`
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
		token = strings.TrimSpace(rest) // it is the value of an Authorization header
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

// inspect inspects token, with the database if there is one.
func inspect(ctx context.Context, sh *shell, token string) (found *admin.Inspection, err error) {
	in := adminapi.Creation[adminapi.TokenText]{Body: adminapi.TokenText{Token: token}}
	call := func(t adminapi.Target) error {
		found, err = adminapi.InspectToken.Call(ctx, t, in)
		return err
	}
	if sh.server() != "" {
		err = sh.reach(ctx, sh.operateKeys, call)
		return found, err
	}
	c, err := sh.load(nil)
	if err != nil {
		return nil, err
	}
	if missing := missingDatabase(c.Config); missing != "" {
		return admin.DecodeToken(c.Issuer, token, "there is none at "+missing+", so signature and grant are not "+
			"checked; name it with --data-dir or --database"), nil
	}
	err = sh.reach(ctx, sh.operateKeys, call)
	return found, err
}

func drawInspection(n *admin.Inspection, t *table) {
	t.Row("kind", strings.ReplaceAll(n.Kind, "_", " "))
	for _, part := range []struct {
		name   string
		values map[string]any
	}{{"header", n.Header}, {"claim", n.Claims}} {
		for _, name := range slices.Sorted(maps.Keys(part.values)) {
			t.Row(part.name, name, textOf(name, part.values[name]))
		}
	}
	for _, c := range n.Checks {
		t.Row(string(c.Result), c.Name, c.Detail)
	}
	if n.Accepted {
		t.Row("accepted")
	} else {
		t.Row("not accepted", n.Reason)
		if step := helps[n.Failed().Name]; step != "" {
			t.Row("what helps", step)
		}
	}
}

// textOf returns a member of a token for people to read. A time is shown as a date too.
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
		return "?" // cannot happen: it was decoded from JSON
	}
	return string(text)
}

// helps has the command that helps after a check of a token has failed, by the name of the check.
var helps = map[string]string{
	"kid":    "cardea key list shows the keys",
	"aud":    "cardea resource list shows the resources",
	"client": "cardea client show describes the client; cardea client enable lets a disabled one in again",
	"user":   "cardea user show describes the account; cardea user enable opens a disabled one again",
	"grant":  "cardea grant list shows the grants; the person has to be asked again",
}

// missingDatabase returns the path of the SQLite file if it does not exist, and "" if it does. Inspecting a token must
// not create a database.
func missingDatabase(c config.Config) string {
	path, sqlite := strings.CutPrefix(c.Database, "sqlite:")
	if _, err := os.Stat(path); sqlite && errors.Is(err, fs.ErrNotExist) {
		return path
	}
	return ""
}
