package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/gateway"
	"github.com/cardea-auth/cardea/internal/observe"
	"github.com/cardea-auth/cardea/internal/server"
	"github.com/cardea-auth/cardea/internal/store"
)

type serveCommand struct {
	Listen    *string `placeholder:"ADDRESS" help:"Address to listen on; :8080 listens on all interfaces."`
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
	if unread := sh.unread(); unread != "" {
		sh.warn(unread)
	}
	log, end := loaded.Log.Unblocked(sh.errs)
	defer end()
	telemetry, err := observe.Start(ctx, thisBuild().Version, log)
	if err != nil {
		return err
	}
	defer telemetry.Close()
	log = telemetry.Logger(log)
	var db *store.DB
	err = server.Await(ctx, loaded.Config, log, func(ctx context.Context) (err error) {
		db, err = c.open(ctx, loaded.Config, log)
		return err
	})
	if err != nil || db == nil { // it was told to stop before there was a database
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	if strings.HasPrefix(loaded.Database, "sqlite:") {
		if err := use(ctx, db, log); err != nil {
			return err
		}
	}
	srv, err := sh.newServer(ctx, loaded.Config, db, log)
	if err != nil {
		return err
	}
	metrics, watcher := (*observe.Metrics)(nil), server.Watcher{}
	if loaded.MetricsListen != "" {
		metrics = observe.NewMetrics(thisBuild().Version, store.System(loaded.Database))
		watcher = metrics.Server(srv.State)
	}
	srv.Watch(telemetry.Watch(watcher, srv.Trusts))
	step, err := server.Lacks(ctx, db)
	if err != nil {
		return err
	}
	listener, err := srv.Listen(ctx)
	if err != nil {
		return err
	}
	if metrics != nil {
		measured, err := metrics.Listen(ctx, "metrics_listen", "CARDEA_METRICS_LISTEN", loaded.MetricsListen, log)
		if err != nil {
			return errors.Join(err, listener.Close())
		}
		go metrics.Serve(ctx, measured, log)
	}
	setup, err := sh.setup(ctx, loaded.Config, db)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	var front func(context.Context) error
	if file := loaded.Gateway.Config; file != "" {
		if front, err = openWithin(ctx, file, log, telemetry, metrics); err != nil {
			return errors.Join(err, listener.Close())
		}
	}
	sh.announce(ctx, loaded.Config, listener.Addr().String(), setup, step, log)
	stop := onHangup(srv.Reload)
	defer stop()
	defer holdBallast()()
	if front == nil {
		return srv.Serve(ctx, listener)
	}
	return both(ctx, func(ctx context.Context) error { return srv.Serve(ctx, listener) }, front)
}

// use marks a SQLite database as used by this server, and warns if it may be a copy of one that was.
func use(ctx context.Context, db *store.DB, log *slog.Logger) error {
	copied, err := db.Use(ctx)
	if copied {
		log.WarnContext(ctx, "the database was in use when it was last written, and its log is gone; if it is a copy, "+
			"what was written last is missing: run cardea restore --in-place, which says what that means")
	}
	return err
}

// openWithin is openGateway for the gateway that file configures and that runs within the server.
func openWithin(ctx context.Context, file string, log *slog.Logger, telemetry *observe.Telemetry,
	metrics *observe.Metrics) (func(context.Context) error, error) {
	config, err := gateway.Load(file)
	if err != nil {
		return nil, err
	}
	if config.MetricsListen != "" {
		log.WarnContext(ctx, "metrics_listen in the gateway's file is not used, because the gateway runs in the "+
			"server, whose metrics_listen serves the metrics of both", "file", file)
	}
	return openGateway(ctx, file, config, log, telemetry, metrics)
}

// holdBallast makes the garbage collector run less often until release is called. The live heap is a few megabytes, and
// the collector runs whenever as much again is allocated, which would take a tenth of the processor. The ballast takes
// no memory from the machine, because nothing writes to it.
func holdBallast() (release func()) {
	ballast := make([]byte, 16<<20)
	return func() { runtime.KeepAlive(ballast) }
}

// onHangup calls reload on each SIGHUP, until stop is called.
func onHangup(reload func()) (stop func()) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	ended := make(chan struct{})
	go func() {
		for {
			select {
			case <-hangup:
				reload()
			case <-ended:
				return
			}
		}
	}()
	return func() {
		signal.Stop(hangup)
		close(ended)
	}
}

// open opens the database and brings its schema up to date.
func (c *serveCommand) open(ctx context.Context, conf config.Config, log *slog.Logger) (_ *store.DB, err error) {
	// A client is told to come back within two seconds, before it gives up by itself.
	db, err := store.Open(ctx, conf.Database, store.Options{Logger: log, Begin: 1800 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	if err := c.update(ctx, db, log); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// update brings the schema of db up to date, or returns an error if it is behind and is not to be changed.
func (c *serveCommand) update(ctx context.Context, db *store.DB, log *slog.Logger) error {
	if c.NoMigrate {
		pending, err := db.Pending(ctx)
		if err == nil && len(pending) > 0 {
			err = advise("the database schema is behind by %s; run cardea migrate, or leave out --no-migrate",
				count(len(pending), "migration"))
		}
		return err
	}
	applied, err := db.Migrate(ctx)
	if err == nil && len(applied) > 0 {
		log.InfoContext(ctx, "the database schema is up to date", "applied", applied)
	}
	return err
}

// both runs the server and the gateway until ctx ends. If one of them fails, the other ends too. The gateway ends
// first, because its last calls are judged by the server.
func both(ctx context.Context, serve, front func(context.Context) error) error {
	serving, endServer := context.WithCancel(context.WithoutCancel(ctx))
	defer endServer()
	fronting, endGateway := context.WithCancel(ctx)
	defer endGateway()
	served, fronted := make(chan error, 1), make(chan error, 1)
	go func() {
		served <- serve(serving)
		endGateway()
	}()
	go func() { fronted <- front(fronting) }()
	err := <-fronted
	endServer()
	return errors.Join(err, <-served)
}

// setup returns how the first owner is made, "" if the installation is set up, or is operated by commands alone. The
// one-time link is for a person at a terminal only, because logs are kept and shipped.
func (sh *shell) setup(ctx context.Context, c config.Config, db *store.DB) (string, error) {
	if !c.Admin.Enabled {
		return "", nil
	}
	var s store.Setup
	err := db.View(ctx, func(tx *store.Tx) (err error) {
		s, err = tx.Setup()
		return err
	})
	switch {
	case err != nil || s.Done():
		return "", err
	case !c.Log.ForPerson(sh.errs):
		return "this instance is not set up; cardea setup-link prints a one-time link to make its first owner", nil
	}
	operations := &admin.Operations{DB: db, Issuer: c.Issuer}
	link, err := operations.SetupLink(ctx, caller())
	return "To set it up, open this link within an hour (it works once): " + link.Link, err
}

// announce says where the server answers and what to do next: in plain lines for a person, as one record in JSON.
func (sh *shell) announce(ctx context.Context, c config.Config, listen, setup, step string, log *slog.Logger) {
	if !c.Log.Text(sh.errs) {
		fields := []any{"issuer", c.Issuer, "listen", listen}
		if step != "" {
			fields = append(fields, "next", step)
		}
		if setup != "" {
			fields = append(fields, "setup", setup)
		}
		log.InfoContext(ctx, "serving", fields...)
		return
	}
	fmt.Fprintf(sh.errs, "Cardea answers at %s (it listens on %s)\n", plain(c.Issuer), plain(listen))
	if setup != "" {
		fmt.Fprintln(sh.errs, setup)
	}
	if step != "" {
		fmt.Fprintln(sh.errs, "Next,", step)
	}
}
