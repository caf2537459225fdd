package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/server"
	"github.com/cardea-auth/cardea/internal/store"
)

type serveCommand struct {
	Listen    *string `placeholder:"ADDRESS" help:"Address to serve on; :8080 for all."`
	NoMigrate bool    `help:"Do not bring the database schema up to date; refuse to start if it is behind."`
}

func (c *serveCommand) Run(ctx context.Context, sh *shell) (err error) {
	flags := map[string]string{}
	if c.Listen != nil {
		flags["listen"] = *c.Listen
	}
	loaded, err := sh.load(flags)
	if err != nil {
		return err
	}
	log := sh.newLogger(loaded.Log)
	db, err := store.Open(ctx, loaded.Database, store.Options{Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	if c.NoMigrate {
		pending, err := db.Pending(ctx)
		switch {
		case err != nil:
			return err
		case len(pending) > 0:
			return advise("the database schema is behind by %s; run cardea migrate, or leave out --no-migrate", count(len(pending), "migration"))
		}
	} else if applied, err := db.Migrate(ctx); err != nil {
		return err
	} else if len(applied) > 0 {
		log.InfoContext(ctx, "the database schema is up to date", "applied", applied)
	}
	master, err := sh.masterKey(ctx, loaded.Config, db)
	if err != nil {
		return err
	}
	srv, err := server.New(ctx, loaded.Config, db, master, log)
	if err != nil {
		return err
	}
	step, err := server.Lacks(ctx, db)
	if err != nil {
		return err
	}
	listener, err := srv.Listen(ctx)
	if err != nil {
		return err
	}
	sh.announce(ctx, loaded.Config, listener.Addr().String(), step, log)
	// What is alive is a few megabytes. The garbage collector comes whenever as much
	// again was used, and looking through it so often takes a tenth of the processor.
	// Memory that nobody writes to is never taken from the machine; it only lets twice
	// its size gather between two collections.
	ballast := make([]byte, 16<<20)
	defer runtime.KeepAlive(ballast)
	return srv.Serve(ctx, listener)
}

// announce says where the server answers and what to do next: in plain lines for a person, as one record in JSON.
func (sh *shell) announce(ctx context.Context, c config.Config, listen, step string, log *slog.Logger) {
	if !sh.logsText(c.Log) {
		fields := []any{"issuer", c.Issuer, "listen", listen}
		if step != "" {
			fields = append(fields, "next", step)
		}
		log.InfoContext(ctx, "serving", fields...)
		return
	}
	fmt.Fprintf(sh.errs, "Cardea answers at %s (it listens on %s)\n", plain(c.Issuer), plain(listen))
	if step != "" {
		fmt.Fprintln(sh.errs, "Next,", step)
	}
}
