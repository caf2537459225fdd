// Package demo is Cardea to try: an authorization server, an MCP server behind it,
// a person who may sign in, and an agent that plays a whole session with them.
package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/agent"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/server"
	"github.com/cardea-auth/cardea/internal/store"
)

// Options say how the demo runs.
type Options struct {
	// Listen and ToolsListen are the addresses of the authorization server and the MCP
	// server; "" is the usual one, or with Script a free one.
	Listen, ToolsListen string
	// Script plays a session and ends.
	Script bool
	// DataDir is where the data stay; "" throws them away at the end.
	DataDir string
	// Version is the program's own.
	Version string
	// Program is what it was called as.
	Program string
	Out     io.Writer
	// Configure returns the configuration with the given keys set.
	Configure func(map[string]string) (config.Config, error)
	// MasterKey returns the master key of that configuration and database.
	MasterKey func(context.Context, config.Config, *store.DB) (keys.Master, error)
	// Logger returns the log as it is configured.
	Logger func(config.Log) *slog.Logger
}

// Run serves until ctx is done; with Script, until the session is over.
func Run(ctx context.Context, o Options) (err error) {
	d := &demo{Options: o, email: "demo@example.com"}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.start(ctx); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return d.serve(ctx) })
	running.Go(func() error {
		if !o.Script {
			d.introduce()
			return nil
		}
		defer stop()
		return d.play(ctx)
	})
	return running.Wait()
}

// demo is two servers that listen, and what they know of each other.
type demo struct {
	Options
	issuer, mcpServer string // their URLs
	email, password   string // of the person
	introspects       agent.Credentials

	db      *store.DB
	server  *server.Server
	tools   http.Handler
	at      struct{ server, tools net.Listener }
	closing []func() error // what close does, the last first
}

func (d *demo) start(ctx context.Context) (err error) {
	if d.at.server, d.issuer, err = d.listen(ctx, d.Listen, "127.0.0.1:8080"); err != nil {
		return fmt.Errorf("%w; choose another address with --listen", err)
	}
	if d.at.tools, d.mcpServer, err = d.listen(ctx, d.ToolsListen, "127.0.0.1:8081"); err != nil {
		return fmt.Errorf("%w; choose another address with --mcp-listen", err)
	}
	d.mcpServer += "/mcp"
	settings, err := d.configure()
	if err != nil {
		return err
	}
	d.issuer = settings.Issuer // unless --issuer says otherwise, what it was
	if d.Script {
		settings.Log.Level = max(settings.Log.Level, slog.LevelWarn) // the session says enough
	}
	log := d.Logger(settings.Log)
	if d.db, err = store.Open(ctx, settings.Database, store.Options{Logger: log}); err != nil {
		return err
	}
	d.closing = append(d.closing, d.db.Close)
	if _, err := d.db.Migrate(ctx); err != nil {
		return err
	}
	master, err := d.MasterKey(ctx, settings, d.db)
	if err != nil {
		return err
	}
	if err := d.provision(ctx); err != nil {
		return err
	}
	if d.server, err = server.New(ctx, settings, d.db, master, log); err != nil {
		return err
	}
	d.tools, err = newTools(d.issuer, d.mcpServer, d.Version, d.introspects, log)
	return err
}

// listen opens the address, or the usual one, or any free one, and returns the
// URL under which a browser on this computer reaches it.
func (d *demo) listen(ctx context.Context, address, usual string) (net.Listener, string, error) {
	switch {
	case address != "":
	case d.Script:
		address = "127.0.0.1:0"
	default:
		address = usual
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, "", err
	}
	d.closing = append(d.closing, func() error {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) { // serving closes it too
			return err
		}
		return nil
	})
	_, port, err := net.SplitHostPort(l.Addr().String())
	return l, "http://localhost:" + port, err
}

// configure reads the configuration, but for what would lead the demo to data or
// to a name that are not its own.
func (d *demo) configure() (config.Config, error) {
	folder := d.DataDir
	if folder == "" {
		var err error
		if folder, err = os.MkdirTemp("", "cardea-demo-"); err != nil {
			return config.Config{}, fmt.Errorf("there is no place for the demo's data: %w", err)
		}
		d.closing = append(d.closing, func() error { return os.RemoveAll(folder) })
	}
	return d.Configure(map[string]string{
		"issuer":   d.issuer,
		"listen":   d.at.server.Addr().String(),
		"data_dir": folder,
		"database": "sqlite:" + filepath.Join(folder, "cardea.db"),
		"tls.cert": "",
		"tls.key":  "",

		"registration.cimd_allow_loopback": "true", // agents under development are on this machine too
	})
}

// provision makes the resource, the person and the MCP server's credentials, or
// finds those that an earlier demo on the same data made. Passwords and secrets
// are new every time.
func (d *demo) provision(ctx context.Context) error {
	o, by := &admin.Operations{DB: d.db, Issuer: d.issuer}, admin.Command("demo", "cardea demo")
	d.password = strings.ToLower(rand.Text()[:4] + "-" + rand.Text()[:4] + "-" + rand.Text()[:4])
	resources, err := o.Resources(ctx, by)
	if err != nil {
		return err
	}
	switch _, err := o.ResetPassword(ctx, by, d.email, d.password, true); {
	case err == nil:
	case !isNotFound(err):
		return err
	case len(resources) > 0: // the demo's person, whose password is printed, gets into no data but a demo's
		return errors.New("the data folder holds other data than a demo's; choose another with --data-dir")
	default:
		if _, err := o.CreateUser(ctx, by, admin.NewUser{Email: d.email, Name: "Demo", Password: d.password}); err != nil {
			return err
		}
	}
	if _, err := o.Resource(ctx, by, d.mcpServer); isNotFound(err) {
		name := serverName
		_, err = o.CreateResource(ctx, by, admin.NewResource{Identifier: d.mcpServer, ResourceTerms: admin.ResourceTerms{Name: &name, Scopes: scopes}})
		if err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	return d.provisionCredentials(ctx, o, by)
}

// provisionCredentials makes those with which the MCP server asks whether a token
// is still good (RFC 7662), in the place of those of an earlier demo.
func (d *demo) provisionCredentials(ctx context.Context, o *admin.Operations, by admin.Caller) error {
	for page := (store.Page{Limit: 1000}); ; {
		clients, next, err := o.Clients(ctx, by, page)
		if err != nil {
			return err
		}
		for _, c := range clients {
			if c.ResourceServer != d.mcpServer {
				continue
			}
			c, err := o.RotateClientSecret(ctx, by, c.ID, 0)
			d.introspects = agent.Credentials{ID: c.ID, Secret: c.Secret}
			return err
		}
		if page.After = next; next == "" {
			break
		}
	}
	name := "Demo MCP server"
	c, err := o.CreateClient(ctx, by, admin.NewClient{ClientTerms: admin.ClientTerms{Name: &name}, ResourceServer: d.mcpServer})
	d.introspects = agent.Credentials{ID: c.ID, Secret: c.Secret}
	return err
}

func isNotFound(err error) bool {
	var undone *admin.Error
	return errors.As(err, &undone) && undone.Kind == admin.NotFound
}

// serve serves both until ctx is done.
func (d *demo) serve(ctx context.Context) error {
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return d.server.Serve(ctx, d.at.server) })
	tools := &http.Server{Handler: d.tools, ReadHeaderTimeout: 10 * time.Second}
	running.Go(func() error {
		if err := tools.Serve(d.at.tools); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("demo: MCP server: %w", err)
		}
		return nil
	})
	running.Go(func() error {
		<-ctx.Done()
		return tools.Close() // agents keep streams open that would end by themselves never
	})
	return running.Wait()
}

func (d *demo) close() error {
	var errs []error
	for i := len(d.closing) - 1; i >= 0; i-- {
		errs = append(errs, d.closing[i]())
	}
	return errors.Join(errs...)
}

// introduce says how to use the demo.
func (d *demo) introduce() {
	data := "thrown away at the end (--data-dir DIR keeps them)"
	if d.DataDir != "" {
		data = "kept in " + d.DataDir
	}
	fmt.Fprintf(d.Out, `Cardea demo

  Authorization server  %[1]s
  MCP server            %[2]s
  Sign in as            %[3]s with password %[4]s
  Data                  %[5]s

Connect an agent. It opens your browser, where you sign in and say what it may do:

  Claude Code   claude mcp add --transport http cardea-demo %[2]s
                then type /mcp in a session and choose cardea-demo
  VS Code       code --add-mcp '{"name":"cardea-demo","type":"http","url":"%[2]s"}'
  Cursor        in .cursor/mcp.json: {"mcpServers":{"cardea-demo":{"url":"%[2]s"}}}
  Inspector     npx @modelcontextprotocol/inspector
                with transport Streamable HTTP and URL %[2]s
  By hand       curl -i %[2]s

Ask it for the weather in Rome, or what is in your calendar. Then have it send an e-mail:
that takes a scope it does not have yet, and it comes back to ask you.

The same session without you:  %[6]s demo --script
Ctrl-C ends the demo.
`, d.issuer, d.mcpServer, d.email, d.password, data, d.Program)
}

// play plays an agent's session against the running servers.
func (d *demo) play(ctx context.Context) error {
	says := agent.NewTranscript(d.Out)
	who, err := agent.NewPerson(d.email, d.password, d.issuer, says)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "An agent is given the address of an MCP server, %s, and nothing else.\nSecrets are cut short (…).\n", d.mcpServer)
	if err := agent.New(d.mcpServer, who, d.introspects, says).Play(ctx); err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "\nAll %d steps went as they should.\n", agent.Steps)
	return nil
}
