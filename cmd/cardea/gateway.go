package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	conf "github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/gateway"
	"github.com/cardea-auth/cardea/internal/observe"
	"github.com/cardea-auth/cardea/internal/server"
)

type gatewayCommand struct {
	File   string  `short:"f" placeholder:"FILE" help:"The gateway's configuration (YAML); --config is the same here."`
	Listen *string `placeholder:"ADDRESS" help:"Address to listen on, in place of the one in the file."`
	Check  bool    `help:"Check the file and say what it protects; start nothing."`
}

func (c *gatewayCommand) Run(ctx context.Context, sh *shell) error {
	file := cmp.Or(c.File, sh.ConfigFile)
	if file == "" {
		return usageError("the gateway needs a configuration; name the file with --config")
	}
	config, err := gateway.Load(file)
	if err != nil {
		return err
	}
	if c.Listen != nil {
		config.Listen = *c.Listen
	}
	if c.Check {
		for _, s := range config.Servers {
			by := count(len(s.Rules), "rule")
			if s.ReviewedFile() != "" {
				by += " and " + count(s.ReviewedTools(), "reviewed tool")
			}
			fmt.Fprintf(sh.out, "%s: %s goes to %s, by %s\n", plain(s.Name), s.Resource, plain(s.Target()), by)
		}
		return nil
	}
	log, end := conf.Unblocked(sh.errs, func(in io.Writer) *slog.Logger {
		return slog.New(slog.NewJSONHandler(in, nil))
	})
	defer end()
	telemetry, err := observe.Start(ctx, thisBuild().Version, log)
	if err != nil {
		return err
	}
	defer telemetry.Close()
	log = telemetry.Logger(log)
	var metrics *observe.Metrics
	if config.MetricsListen != "" {
		metrics = observe.NewMetrics(thisBuild().Version, "none")
		measured, err := metrics.Listen(ctx, "metrics_listen of the gateway", "metrics_listen in "+file,
			config.MetricsListen, log)
		if err != nil {
			return err
		}
		go metrics.Serve(ctx, measured, log)
	}
	serve, err := openGateway(ctx, file, config, log, telemetry, metrics)
	if err != nil {
		return err
	}
	defer holdBallast()()
	return serve(ctx)
}

// openGateway makes the gateway of a file and listens, as newGateway does.
func openGateway(ctx context.Context, file string, config *gateway.Config, log *slog.Logger,
	telemetry *observe.Telemetry, metrics *observe.Metrics) (serve func(context.Context) error, err error) {
	listener, err := server.Listen(ctx, "listen of the gateway", "listen in "+file, config.Listen)
	if err != nil {
		return nil, err
	}
	if serve, err = newGateway(file, config, listener, log, telemetry, metrics); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return serve, nil
}

// newGateway makes the gateway of a file, whose config was read from it. serve answers on listener until its context
// ends. metrics may be nil. Calls go on with the traces of their clients, which the gateway has always passed on.
func newGateway(file string, config *gateway.Config, listener net.Listener, log *slog.Logger,
	telemetry *observe.Telemetry, metrics *observe.Metrics) (serve func(context.Context) error, err error) {
	g, err := gateway.New(config, gateway.Options{Logger: log, List: listTools,
		Wrap: func(next http.Handler) http.Handler {
			return telemetry.Wrap(next, func(*http.Request) bool { return true })
		}})
	if err != nil {
		return nil, err
	}
	if metrics != nil {
		metrics.Register(g)
	}
	return func(ctx context.Context) error {
		follow, stop := context.WithCancel(ctx)
		defer stop()
		go followFile(follow, file, config, g, log)
		log.InfoContext(ctx, "serving", "public", config.Public, "listen", listener.Addr().String(),
			"servers", len(config.Servers))
		return g.Serve(ctx, listener)
	}, nil
}

// listTools lists the tools of a server behind the gateway.
func listTools(ctx context.Context, s *gateway.Server) ([][]byte, error) {
	seen, err := lookBehind(ctx, s, http.Header{})
	if err != nil {
		return nil, err
	}
	items := make([][]byte, len(seen.Tools))
	for i, tool := range seen.Tools {
		items[i] = tool
	}
	return items, nil
}

// followFile makes g, whose configuration is config, load its file again on SIGHUP and when one of its files changes,
// until ctx ends.
func followFile(ctx context.Context, file string, config *gateway.Config, g *gateway.Gateway, log *slog.Logger) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	look := time.NewTicker(2 * time.Second)
	defer look.Stop()
	for seen := stamp(filesOf(file, config)...); ; {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			if stamp(filesOf(file, config)...) == seen {
				continue
			}
		case <-hangup:
		}
		seen = stamp(filesOf(file, config)...)
		next, err := gateway.Load(file)
		if err == nil {
			err = g.Reload(next)
		}
		if err != nil {
			log.ErrorContext(ctx, "the configuration cannot be used; the gateway goes on with the one before",
				"error", err)
			continue
		}
		if !slices.Equal(next.Files(), config.Files()) {
			seen = "" // one that is new may have changed since it was read
		}
		config = next
		log.InfoContext(ctx, "the configuration was loaded again", "servers", len(next.Servers))
	}
}

// filesOf returns the files of a configuration.
func filesOf(file string, config *gateway.Config) []string { return append(config.Files(), file) }

// stamp returns what changes when one of the files is written.
func stamp(files ...string) (all string) {
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			all += fmt.Sprintln(file, info.ModTime(), info.Size())
		}
	}
	return all
}
