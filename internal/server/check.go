package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/login"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// CheckDatabase returns an error unless a server can use the database of c and open the keys in it. Its notes say what
// a start would create or migrate, which CheckDatabase does not do, and what the start would miss. master returns the
// master key for the database, or an error that wraps fs.ErrNotExist if the first start creates it.
func CheckDatabase(ctx context.Context, c config.Config, master func(*store.DB) (keys.Master, error)) (
	notes []string, err error) {
	db, err := store.Inspect(ctx, c.Database, store.Options{Logger: slog.New(slog.DiscardHandler)})
	if errors.Is(err, store.ErrNoFile) {
		return []string{fmt.Sprintf("the database %s does not exist yet and will be created at the first start",
			strings.TrimPrefix(c.Database, "sqlite:"))}, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	pending, err := db.Pending(ctx)
	if err != nil {
		return nil, err
	}
	if len(pending) > 0 {
		notes = append(notes, "the next start, or cardea migrate, changes the schema of the database: "+
			strings.Join(pending, ", "))
	}
	if store.Begins(pending) {
		return notes, nil // the database is empty
	}
	if len(pending) == 0 { // otherwise its tables may have another form
		err = db.View(ctx, func(tx *store.Tx) error {
			missing, err := login.MissingGroups(tx, c.Login.Providers)
			notes = append(notes, missing...)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	key, err := master(db)
	if errors.Is(err, fs.ErrNotExist) && c.MasterKeyFile == "" {
		return notes, nil // the database has no keys yet
	}
	if err == nil {
		err = keys.New(db, key).Examine(ctx)
	}
	return notes, err
}

// Lacks returns what db needs before an agent can use the server, and the command for it; "" if it has everything.
func Lacks(ctx context.Context, db *store.DB) (step string, err error) {
	err = db.View(ctx, func(tx *store.Tx) error {
		resources, err := tx.Resources()
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(resources, func(r *oauth.Resource) bool { return !r.BuiltIn }) {
			step = "register an MCP server: " +
				"cardea resource create --identifier https://mcp.example.com/mcp --scope NAME=DESCRIPTION"
			return nil
		}
		users, _, err := tx.Users(store.Page{Limit: 1})
		if err == nil && len(users) == 0 {
			step = "create an account that can sign in: cardea user create --email ADDRESS --password-stdin"
		}
		return err
	})
	return step, err
}
